package render

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"clusterd/internal/authz"
	"clusterd/server/core"
)

// TaskQuery selects tasks for /tasks; empty ids select all.
type TaskQuery struct {
	FrameworkID, TaskID string
	Limit, Offset       int // a negative one means no end
	Ascending           bool
}

// DefaultTaskLimit is how many tasks /tasks shows when nobody says.
const DefaultTaskLimit = 100

// Tasks writes /tasks: running, unreachable and completed tasks of running and
// completed frameworks, by the time of their first status. Those without one come
// first when ascending, last when descending.
func Tasks(v *core.View, q TaskQuery, viewer *authz.Viewer) Body {
	var p plan
	p.text(`{"tasks":[`)
	list(&p, pickTasks(v, q, sight{viewer}), appendTask)
	p.text("]}")
	return p.write()
}

// pickTasks is the page of tasks that a query asks for. It looks at all tasks, but
// sorts those only that may be on the page or before it.
func pickTasks(v *core.View, q TaskQuery, who sight) []*core.Task {
	if q.Offset < 0 {
		return nil // Mesos counts in size_t, where -1 is endless
	}
	jobs := taskJobs(v, q, who)
	// keep is how many may be on the page or before it; all of them if there is no end.
	keep := -1
	if q.Limit >= 0 && q.Limit <= maxKept-min(q.Offset, maxKept) {
		keep = q.Offset + q.Limit
	}
	if keep == 0 {
		return nil
	}
	parts := make([]picker, len(jobs))
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(jobs) {
				return
			}
			parts[i] = picker{keep: keep, ascending: q.Ascending}
			jobs[i](&parts[i], uint64(i)<<32)
			runtime.Gosched()
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(jobs)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	var all picker
	for _, part := range parts {
		all.picked = append(all.picked, part.picked...)
	}
	slices.SortFunc(all.picked, compareCandidates)
	to := len(all.picked)
	if q.Limit >= 0 && q.Limit < to-min(q.Offset, to) {
		to = q.Offset + q.Limit
	}
	var page []*core.Task
	for _, c := range all.picked[min(q.Offset, to):to] {
		page = append(page, c.task)
	}
	return page
}

// maxKept bounds what is worth keeping apart; beyond it all tasks are sorted.
const maxKept = 50_000

// completedPerJob is how many completed tasks are looked through at a time.
const completedPerJob = 16 << 10

// taskJobs are the parts of the work: each adds its tasks, in the order of their
// framework and id, which is the order of tasks whose time is the same.
func taskJobs(v *core.View, q TaskQuery, who sight) []func(*picker, uint64) {
	var jobs []func(*picker, uint64)
	each := func(f *core.Framework) {
		if q.FrameworkID != "" && q.FrameworkID != f.ID || !who.framework(f) {
			return
		}
		everything := who.all() || who.who.Tasks.Everything()
		wanted := func(t *core.Task) bool {
			return (q.TaskID == "" || q.TaskID == t.ID) && (everything || who.task(f, t))
		}
		for _, m := range []core.Map[*core.Task]{f.Tasks, f.UnreachableTasks} {
			if q.TaskID != "" {
				if t, ok := m.Get(q.TaskID); ok && wanted(t) {
					jobs = append(jobs, func(p *picker, seq uint64) { p.add(t, seq) })
				}
				continue
			}
			if m.Len() == 0 {
				continue
			}
			jobs = append(jobs, func(p *picker, seq uint64) {
				for t := range m.Values() {
					if wanted(t) {
						p.add(t, seq)
					}
					seq++
				}
			})
		}
		for run := range slices.Chunk(f.CompletedTasks, completedPerJob) {
			jobs = append(jobs, func(p *picker, seq uint64) {
				for i, t := range run {
					if wanted(t) {
						p.add(t, seq+uint64(i)) //nolint:gosec // an index
					}
				}
			})
		}
	}
	for f := range v.Frameworks.Values() {
		each(f)
	}
	for _, f := range v.CompletedFrameworks {
		each(f)
	}
	return jobs
}

// candidate is a task with what it is ordered by.
type candidate struct {
	key  float64 // of its first status; negated when newest come first
	seq  uint64
	task *core.Task
}

func compareCandidates(a, b candidate) int {
	switch {
	case a.key < b.key:
		return -1
	case a.key > b.key:
		return 1
	default:
		return cmp.Compare(a.seq, b.seq)
	}
}

// picker keeps the first so many of the candidates that it is given.
type picker struct {
	keep      int // negative: all
	ascending bool
	picked    []candidate
	// full says that keep candidates are there, and no later one has a key above top.
	full bool
	top  float64
}

func (p *picker) add(t *core.Task, seq uint64) {
	key := -1.0
	if len(t.Statuses) > 0 {
		key = t.Statuses[0].Timestamp
	}
	if key != key { //nolint:gocritic // not a number: would have no place in any order
		key = -1
	}
	if !p.ascending {
		key = -key
	}
	if p.full && key >= p.top {
		return
	}
	p.picked = append(p.picked, candidate{key, seq, t})
	if p.keep >= 0 && len(p.picked) >= p.keep+max(p.keep, 4096) {
		p.shrink()
	}
}

// shrink drops those that cannot be among the first.
func (p *picker) shrink() {
	list := p.picked
	lo, hi := 0, len(list)-1
	for lo < hi { // until list[keep-1] is in its place, smaller ones before it
		pivot := median(list[lo], list[(lo+hi)/2], list[hi])
		i, j := lo, hi
		for i <= j {
			for compareCandidates(list[i], pivot) < 0 {
				i++
			}
			for compareCandidates(pivot, list[j]) < 0 {
				j--
			}
			if i <= j {
				list[i], list[j] = list[j], list[i]
				i++
				j--
			}
		}
		switch at := p.keep - 1; {
		case at <= j:
			hi = j
		case at >= i:
			lo = i
		default:
			lo = hi
		}
	}
	p.picked = list[:p.keep]
	// Candidates come with growing seq: one with the same key would come later.
	p.full, p.top = true, list[p.keep-1].key
}

func median(a, b, c candidate) candidate {
	if compareCandidates(b, a) < 0 {
		a, b = b, a
	}
	if compareCandidates(c, b) < 0 {
		b = c
		if compareCandidates(b, a) < 0 {
			b = a
		}
	}
	return b
}
