package render

import (
	"slices"
	"strings"

	"clusterd/internal/authz"
	"clusterd/server/core"
)

// TaskSearch says which tasks are looked for.
type TaskSearch struct {
	// Ref is an id, a name, or the beginning of an id; of all tasks, if it is empty.
	Ref string
	// Names takes the beginnings of names too.
	Names bool
	// Framework is the name of their framework, or the beginning of its id; empty: any.
	Framework string
	// Living leaves out those that have ended.
	Living bool
	// Limit is how many are shown at most; a negative one means all.
	Limit int
}

// How well a task fits.
const (
	fitsByID = iota
	fitsByName
	fitsByBeginning
	fitsNot
)

func (q *TaskSearch) fit(t *core.Task) int {
	switch {
	case t.ID == q.Ref:
		return fitsByID
	case t.Name == q.Ref:
		return fitsByName
	case strings.HasPrefix(t.ID, q.Ref), q.Names && strings.HasPrefix(t.Name, q.Ref):
		return fitsByBeginning
	}
	return fitsNot
}

func (q *TaskSearch) in(f *core.Framework) bool {
	return q.Framework == "" || f.Info.GetName() == q.Framework || strings.HasPrefix(f.ID, q.Framework)
}

// foundTask is a task that fits, with what else a person wants to know of it.
type foundTask struct {
	*core.Task
	framework, hostname string
	ended, unreachable  bool
}

// SearchTasks writes the tasks that fit, in the form of the v1 API, with the names of their
// frameworks and agents: for people, who do not type ids in full, and in clusters where it
// takes long to look through all tasks oneself. Those that fit best come first: by id, by name,
// by the beginning; of those the living.
func SearchTasks(v *core.View, q TaskSearch, viewer *authz.Viewer) Body {
	found, more := searchTasks(v, q, sight{viewer})
	var p plan
	p.text(`{"tasks":[`)
	list(&p, found, appendFound)
	if more {
		p.text(`],"more":true}`)
	} else {
		p.text("]}")
	}
	return p.write()
}

func searchTasks(v *core.View, q TaskSearch, who sight) (found []foundTask, more bool) {
	var lists [fitsNot][3][]foundTask // the living, the unreachable and the ended by how well they fit
	everyFramework(v, who, func(f *core.Framework) {
		if !q.in(f) {
			return
		}
		take := func(t *core.Task, unreachable, ended bool) {
			fit := q.fit(t)
			if fit == fitsNot || !who.all() && !who.task(f, t) {
				return
			}
			kind := 0
			switch {
			case unreachable:
				kind = 1
			case ended:
				kind = 2
			}
			if l := &lists[fit][kind]; q.Limit < 0 || len(*l) <= q.Limit {
				*l = append(*l, foundTask{t, f.Info.GetName(), hostnameOf(v, t.AgentID), ended, unreachable})
			}
		}
		for t := range f.Tasks.Values() {
			take(t, false, false)
		}
		for t := range f.UnreachableTasks.Values() {
			take(t, true, false)
		}
		if q.Living {
			return
		}
		for _, t := range f.CompletedTasks {
			take(t, false, true)
		}
	})
	for _, l := range lists {
		found = slices.Concat(found, l[0], l[1], l[2])
	}
	if q.Limit >= 0 && len(found) > q.Limit {
		return found[:q.Limit], true
	}
	return found, false
}

func hostnameOf(v *core.View, agent string) string {
	if a, ok := v.Agents.Get(agent); ok {
		return a.Info.GetHostname()
	}
	if info, ok := v.RecoveredAgents.Get(agent); ok {
		return info.GetHostname()
	}
	return ""
}

func appendFound(dst []byte, t foundTask) []byte {
	dst = appendString(append(dst, `{"task_id":`...), t.ID)
	dst = appendString(append(dst, `,"framework_id":`...), t.FrameworkID)
	dst = appendString(append(dst, `,"framework":`...), t.framework)
	dst = appendString(append(dst, `,"hostname":`...), t.hostname)
	if t.ended {
		dst = append(dst, `,"ended":true`...)
	}
	if t.unreachable {
		dst = append(dst, `,"unreachable":true`...)
	}
	return append(jsonTask(append(dst, `,"task":`...), t.Task), '}')
}
