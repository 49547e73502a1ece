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
// first when ascending, last when descending. The starts, which may be nil, are those
// of earlier views of the same master.
func Tasks(v *core.View, q TaskQuery, viewer *authz.Viewer, starts *Starts) Body {
	var p plan
	p.text(`{"tasks":[`)
	list(&p, pickTasks(v, q, sight{viewer}, starts), appendTask)
	p.text("]}")
	return p.write()
}

// pickTasks is the page of tasks that a query asks for. It looks at the times of all
// tasks, but sorts those only that may be on the page or before it.
func pickTasks(v *core.View, q TaskQuery, who sight, starts *Starts) []*core.Task {
	if q.Offset < 0 {
		return nil // Mesos counts in size_t, where -1 is endless
	}
	// keep is how many may be on the page or before it; all of them if there is no end.
	keep := -1
	if q.Limit >= 0 && q.Limit <= maxKept-min(q.Offset, maxKept) {
		keep = q.Offset + q.Limit
	}
	if keep == 0 {
		return nil
	}
	if starts == nil {
		starts = new(Starts)
	}
	all := picker{keep: keep, ascending: q.Ascending}
	if q.TaskID != "" {
		all.pickOne(v, q, who)
	} else {
		all.pickFrom(starts.of(v), q, who)
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

// pickOne picks the tasks of one id.
func (p *picker) pickOne(v *core.View, q TaskQuery, who sight) {
	seq := uint64(0)
	take := func(f *core.Framework, t *core.Task) {
		if who.all() || who.task(f, t) {
			p.add(t, firstTimestamp(t), seq)
			seq++
		}
	}
	everyFramework(v, who, func(f *core.Framework) {
		if q.FrameworkID != "" && q.FrameworkID != f.ID {
			return
		}
		for _, m := range []core.Map[*core.Task]{f.Tasks, f.UnreachableTasks} {
			if t, ok := m.Get(q.TaskID); ok {
				take(f, t)
			}
		}
		for _, t := range f.CompletedTasks {
			if t.ID == q.TaskID {
				take(f, t)
			}
		}
	})
}

// pickFrom picks from the lists of all frameworks, with several goroutines if there is
// much to look at. Among tasks that began at the same time the order is that of their
// frameworks and ids.
func (p *picker) pickFrom(all []*frameworkStarts, q TaskQuery, who sight) {
	var jobs []func(*picker)
	seq := uint64(0)
	for _, fs := range all {
		f := fs.framework
		if q.FrameworkID != "" && q.FrameworkID != f.ID || !who.framework(f) {
			continue
		}
		everything := who.all() || who.who.Tasks.Everything()
		for _, l := range fs.lists {
			for from := 0; from < len(l.tasks); from += tasksPerJob {
				part := startList{l.tasks[from:min(from+tasksPerJob, len(l.tasks))], l.times[from:min(from+tasksPerJob, len(l.tasks))]}
				first := seq
				seq += uint64(len(part.tasks))
				jobs = append(jobs, func(p *picker) {
					for i, at := range part.times {
						if !p.late(at) && (everything || who.task(f, part.tasks[i])) {
							p.add(part.tasks[i], at, first+uint64(i)) //nolint:gosec // an index
						}
					}
				})
			}
		}
	}
	var next atomic.Int64
	var mu sync.Mutex
	work := func() {
		mine := picker{keep: p.keep, ascending: p.ascending}
		for {
			i := int(next.Add(1)) - 1
			if i >= len(jobs) {
				break
			}
			jobs[i](&mine)
			runtime.Gosched()
		}
		mu.Lock()
		defer mu.Unlock()
		p.picked = append(p.picked, mine.picked...)
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(jobs)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// tasksPerJob is how many tasks are looked through at a time.
const tasksPerJob = 16 << 10

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

// key is what a time is ordered by.
func (p *picker) key(at float64) float64 {
	if p.ascending {
		return at
	}
	return -at
}

// late says that no task of that time can be among the first. Tasks come with growing
// seq: one of the same time as the last that is kept would come after it.
func (p *picker) late(at float64) bool { return p.full && p.key(at) >= p.top }

func (p *picker) add(t *core.Task, at float64, seq uint64) {
	p.picked = append(p.picked, candidate{p.key(at), seq, t})
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
