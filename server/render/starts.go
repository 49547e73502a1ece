package render

import (
	"math"
	"sync"

	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// Starts remembers when tasks had their first status. That is what /tasks orders them by,
// and looking it up in hundreds of thousands of records takes longer than all the rest:
// from one view to the next few of them change. The zero value is ready for use, and safe
// for concurrent use.
type Starts struct {
	mu sync.Mutex
	// mu guards what follows; what it refers to is immutable.
	master *mesos.MasterInfo // whose view it was: serials begin anew with each
	serial uint64
	view   []*frameworkStarts
	byID   map[string]*frameworkStarts
}

// frameworkStarts are the tasks of a framework, in three lists: running, unreachable,
// completed.
type frameworkStarts struct {
	framework *core.Framework
	lists     [3]startList
}

// startList are tasks and the times of their first statuses.
type startList struct {
	tasks []*core.Task
	times []float64
}

// firstTimestamp is the time of the first status; one before all others if there is none,
// or no time in it.
func firstTimestamp(t *core.Task) float64 {
	if len(t.Statuses) == 0 || math.IsNaN(t.Statuses[0].Timestamp) {
		return math.Inf(-1)
	}
	return t.Statuses[0].Timestamp
}

// of are the starts of the tasks of a view: running frameworks by id, then completed ones.
func (s *Starts) of(v *core.View) []*frameworkStarts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view != nil && s.serial == v.Serial && s.master == v.Master {
		return s.view
	}
	byID := make(map[string]*frameworkStarts, v.Frameworks.Len()+len(v.CompletedFrameworks))
	all := make([]*frameworkStarts, 0, len(byID))
	take := func(f *core.Framework) {
		fs := s.byID[f.ID]
		if fs == nil || fs.framework != f {
			fs = fs.renew(f)
		}
		byID[f.ID] = fs
		all = append(all, fs)
	}
	for f := range v.Frameworks.Values() {
		take(f)
	}
	for _, f := range v.CompletedFrameworks {
		take(f)
	}
	s.master, s.serial, s.view, s.byID = v.Master, v.Serial, all, byID
	return all
}

// renew makes the starts of a framework from those of an older record of it, if any.
func (fs *frameworkStarts) renew(f *core.Framework) *frameworkStarts {
	if fs == nil {
		fs = new(frameworkStarts)
	}
	return &frameworkStarts{f, [3]startList{
		fs.lists[0].sorted(f.Tasks), fs.lists[1].sorted(f.UnreachableTasks), fs.lists[2].ring(f.CompletedTasks),
	}}
}

// sorted are the starts of tasks that are sorted by id. Records that have not changed
// are not looked at.
func (old startList) sorted(m core.Map[*core.Task]) startList {
	l := startList{make([]*core.Task, 0, m.Len()), make([]float64, 0, m.Len())}
	i := 0
	for t := range m.Values() {
		if i == len(old.tasks) || old.tasks[i] != t {
			for i < len(old.tasks) && old.tasks[i].ID < t.ID {
				i++
			}
		}
		at := 0.0
		switch {
		case i < len(old.tasks) && old.tasks[i] == t:
			at = old.times[i]
			i++
		default:
			at = firstTimestamp(t)
			if i < len(old.tasks) && old.tasks[i].ID == t.ID {
				i++
			}
		}
		l.tasks, l.times = append(l.tasks, t), append(l.times, at)
	}
	return l
}

// ring are the starts of tasks of which the oldest go and others come at the end.
func (old startList) ring(tasks []*core.Task) startList {
	l := startList{tasks, make([]float64, len(tasks))}
	i := 0
	for len(tasks) > 0 && i < len(old.tasks) && old.tasks[i] != tasks[0] {
		i++
	}
	for n, t := range tasks {
		if i < len(old.tasks) && old.tasks[i] == t {
			l.times[n] = old.times[i]
			i++
			continue
		}
		l.times[n] = firstTimestamp(t)
	}
	return l
}
