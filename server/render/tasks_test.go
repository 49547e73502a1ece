package render

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// plainPage is what /tasks must show, in as few words as possible.
func plainPage(v *core.View, q TaskQuery) []string {
	var all []*core.Task
	each := func(f *core.Framework) {
		if q.FrameworkID != "" && q.FrameworkID != f.ID {
			return
		}
		all = slices.AppendSeq(all, f.Tasks.Values())
		all = slices.AppendSeq(all, f.UnreachableTasks.Values())
		all = append(all, f.CompletedTasks...)
	}
	for f := range v.Frameworks.Values() {
		each(f)
	}
	for _, f := range v.CompletedFrameworks {
		each(f)
	}
	if q.TaskID != "" {
		all = slices.DeleteFunc(all, func(t *core.Task) bool { return t.ID != q.TaskID })
	}
	before := func(a, b *core.Task) bool { // as in Mesos, TaskComparator
		switch {
		case len(a.Statuses) == 0 || len(b.Statuses) == 0:
			if q.Ascending {
				return len(a.Statuses) == 0 && len(b.Statuses) > 0
			}
			return len(b.Statuses) == 0 && len(a.Statuses) > 0
		case q.Ascending:
			return a.Statuses[0].Timestamp < b.Statuses[0].Timestamp
		default:
			return a.Statuses[0].Timestamp > b.Statuses[0].Timestamp
		}
	}
	slices.SortStableFunc(all, func(a, b *core.Task) int {
		switch {
		case before(a, b):
			return -1
		case before(b, a):
			return 1
		default:
			return 0
		}
	})
	from := min(q.Offset, len(all))
	if q.Offset < 0 {
		from = len(all)
	}
	to := len(all)
	if q.Limit >= 0 {
		to = min(to, from+min(q.Limit, len(all)))
	}
	ids := []string{}
	for _, t := range all[from:to] {
		ids = append(ids, t.FrameworkID+"/"+t.ID)
	}
	return ids
}

func page(t *testing.T, v *core.View, q TaskQuery, starts *Starts) []string {
	t.Helper()
	var got struct {
		Tasks []struct {
			ID        string `json:"id"`
			Framework string `json:"framework_id"`
		}
	}
	body := Tasks(v, q, nil, starts)
	if err := json.Unmarshal(body.Bytes(), &got); err != nil {
		t.Fatalf("%v in %.300s", err, body.Bytes())
	}
	ids := []string{}
	for _, task := range got.Tasks {
		ids = append(ids, task.Framework+"/"+task.ID)
	}
	return ids
}

// moving is a cluster whose tasks come, change and go; its views are immutable.
type moving struct {
	rng        *rand.Rand
	serial     uint64
	live, away []map[string]*core.Task // by framework
	done       [][]*core.Task
	frameworks []*core.Framework
	n          int
}

func (m *moving) task(f int) *core.Task {
	m.n++
	t := &core.Task{ID: fmt.Sprintf("t%d", m.rng.IntN(1e9)), FrameworkID: fmt.Sprintf("f%d", f)}
	if m.rng.IntN(10) > 0 {
		at := float64(m.rng.IntN(500)) // many at the same time
		if m.rng.IntN(3) == 0 {
			at = float64(m.n) // in the order of their coming, which is the worst
		}
		t.Statuses = []core.Status{{Timestamp: at, State: mesos.TaskState_TASK_RUNNING}}
	}
	return t
}

func (m *moving) step() *core.View {
	for f := range m.live {
		if m.frameworks[f] != nil && m.rng.IntN(3) == 0 {
			continue // this one does not change
		}
		for range m.rng.IntN(2000) {
			t := m.task(f)
			m.live[f][t.ID] = t
		}
		ids := sortedKeys(m.live[f])
		for range m.rng.IntN(800) {
			id := ids[m.rng.IntN(len(ids))]
			t, ok := m.live[f][id]
			if !ok {
				continue
			}
			c := *t
			c.Statuses = append(slices.Clone(t.Statuses), core.Status{Timestamp: float64(m.rng.IntN(500))})
			switch m.rng.IntN(4) {
			case 0:
				m.live[f][id] = &c
			case 1:
				delete(m.live[f], id)
				m.away[f][id] = &c
			default:
				delete(m.live[f], id)
				m.done[f] = append(slices.Clone(m.done[f]), &c)
			}
		}
		if over := len(m.done[f]) - 1000; over > 0 {
			m.done[f] = m.done[f][over:]
		}
		m.frameworks[f] = &core.Framework{
			ID: fmt.Sprintf("f%d", f), Info: &mesos.FrameworkInfo{}, CompletedTasks: slices.Clip(m.done[f]),
			Tasks: core.MapOf(m.live[f]), UnreachableTasks: core.MapOf(m.away[f]),
		}
	}
	byID := map[string]*core.Framework{}
	for _, f := range m.frameworks[1:] {
		byID[f.ID] = f
	}
	m.serial++
	return &core.View{Serial: m.serial, Frameworks: core.MapOf(byID), CompletedFrameworks: m.frameworks[:1]}
}

func TestPagesOfTasks(t *testing.T) {
	m := &moving{rng: rand.New(rand.NewPCG(7, 8)), frameworks: make([]*core.Framework, 4), done: make([][]*core.Task, 4)}
	for range 4 {
		m.live, m.away = append(m.live, map[string]*core.Task{}), append(m.away, map[string]*core.Task{})
	}
	var starts Starts
	for range 5 {
		v := m.step()
		total := len(plainPage(v, TaskQuery{Limit: -1}))
		one := m.frameworks[1].CompletedTasks[0].ID
		for _, q := range []TaskQuery{
			{Limit: 100},
			{Limit: 100, Ascending: true},
			{Limit: 1},
			{Limit: 0},
			{Limit: -1, Offset: 70, Ascending: true},
			{Limit: 100, Offset: 1500},
			{Limit: 500, Offset: 17, Ascending: true},
			{Limit: 10, Offset: total - 3},
			{Limit: 10, Offset: total},
			{Limit: 10, Offset: total + 5},
			{Limit: math.MaxInt32, Offset: math.MaxInt32},
			{Limit: 10, Offset: -1},
			{Limit: 100, FrameworkID: "f2"},
			{Limit: 100, FrameworkID: "f0"},
			{Limit: 100, FrameworkID: "none"},
			{Limit: 100, TaskID: one},
			{Limit: 100, TaskID: one, FrameworkID: "f3"},
			{Limit: 100, TaskID: "none"},
		} {
			for name, s := range map[string]*Starts{"remembered": &starts, "new": nil} {
				if diff := cmp.Diff(plainPage(v, q), page(t, v, q, s)); diff != "" {
					t.Fatalf("%+v of %d, %s (-want +got):\n%s", q, total, name, diff)
				}
			}
		}
	}
}
