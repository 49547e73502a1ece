package allocator

import (
	"slices"
	"time"
)

// Allocate implements [Allocator].
func (h *hierarchical) Allocate(now time.Time) Allocation {
	h.expire(now)
	out := h.allocate()
	out.InverseOffers = h.inverseOffers(now, false)
	return out
}

// AllocateAll implements [Allocator]. It differs from Allocate in that refusals
// for no time end and shared resources are offered once more. Agents on which
// nothing has changed since they were last looked at are passed over by both:
// the outcome would be the same.
func (h *hierarchical) AllocateAll(now time.Time) Allocation {
	h.expire(now)
	h.expireBrief()
	for _, a := range h.sharers {
		h.mark(a)
	}
	h.sharers = nil
	out := h.allocate()
	out.InverseOffers = h.inverseOffers(now, true)
	return out
}

// task is an agent to look at in a run, for all frameworks or a few only.
type task struct {
	agent *agent
	only  []*leaf // nil: all
	// deferred: a framework has let others go first.
	deferred bool
}

// manyChanged is how many frameworks must have changed for it to be cheaper to
// go through all of them on an agent than to put those few in order.
const manyChanged = 16

// round is one of the up to three passes over the agents of a run.
type round int

const (
	// guarantees is for the roles whose guarantee is not met (Mesos's first stage).
	guarantees round = iota + 1
	// shares is for all roles (Mesos's second stage).
	shares
	// deferred is for frameworks that let others go first, see agent.defers.
	deferred
)

func (h *hierarchical) allocate() Allocation {
	h.run++
	h.recount()
	tasks := h.todo()
	var out Allocation
	if len(tasks) == 0 {
		return out
	}
	v := visit{h: h, out: &out}
	if h.quotas.root.needy && !h.recovering {
		v.pass(tasks, guarantees)
	}
	v.pass(tasks, shares)
	var rest []task
	for _, t := range tasks {
		if t.deferred {
			rest = append(rest, t)
		}
	}
	if len(rest) > 0 {
		v.pass(rest, deferred)
	}
	for _, t := range tasks {
		h.leave(t.agent)
	}
	clear(tasks)
	h.tasks = tasks[:0]
	return out
}

// leave ends the run for an agent.
func (h *hierarchical) leave(a *agent) {
	a.offers = nil
	if (a.limited || a.heldBack) && !a.inCut {
		a.inCut = true
		h.cut = append(h.cut, a)
	}
	if !a.inRest && a.anythingLeft() {
		a.inRest = true
		h.rest = append(h.rest, a)
	}
}

// todo empties the lists of what has changed and returns what is to be done.
func (h *hierarchical) todo() []task {
	changed := h.takeChanged()
	tasks := h.cutTasks(h.tasks, changed)
	if len(changed) > 0 {
		tasks = h.restTasks(tasks, changed)
	}
	for _, a := range h.dirty {
		a.dirty = false
		if h.offered(a) {
			a.limited, a.heldBack = false, false
			tasks = append(tasks, task{agent: a})
		}
	}
	clear(h.dirty)
	h.dirty = h.dirty[:0]
	return tasks
}

// takeChanged returns the active leaves of h.changed and empties it.
func (h *hierarchical) takeChanged() []*leaf {
	var out []*leaf
	for _, l := range h.changed {
		l.changed = false
		if l.active {
			out = append(out, l)
		}
	}
	clear(h.changed)
	h.changed = h.changed[:0]
	return out
}

// restTasks appends the agents of h.rest, but for those of h.cut, to be looked at
// for those that have changed.
func (h *hierarchical) restTasks(tasks []task, changed []*leaf) []task {
	only := fewOnly(changed)
	kept := h.rest[:0]
	for _, a := range h.rest {
		a.inRest = !a.gone && a.anythingLeft()
		if !a.inRest {
			continue
		}
		kept = append(kept, a)
		if !a.dirty && !a.inCut && h.offered(a) {
			tasks = append(tasks, task{agent: a, only: only})
		}
	}
	clear(h.rest[len(kept):])
	h.rest = kept
	return tasks
}

// cutTasks appends the agents of h.cut to be looked at: for all frameworks if
// what others needed of the cluster is not needed any more, for those that have
// changed or whose quota leaves more than before, or for none.
func (h *hierarchical) cutTasks(tasks []task, changed []*leaf) []task {
	qs := &h.quotas
	eased := qs.eased
	relaxed := changed
	for _, q := range qs.relaxed {
		q.relaxed = false
		relaxed = h.leavesOf(q, slices.Clip(relaxed))
	}
	qs.eased, qs.relaxed = false, qs.relaxed[:0]
	if len(h.cut) == 0 || !eased && len(relaxed) == 0 {
		return tasks
	}
	only := fewOnly(relaxed)
	kept := h.cut[:0]
	for _, a := range h.cut {
		a.inCut = !a.gone && (a.limited || a.heldBack)
		if a.inCut {
			kept = append(kept, a)
		}
		if a.dirty || !a.inCut || !h.offered(a) {
			continue
		}
		if eased && a.heldBack {
			a.limited, a.heldBack = false, false
			tasks = append(tasks, task{agent: a})
		} else if len(relaxed) > 0 {
			tasks = append(tasks, task{agent: a, only: only})
		}
	}
	clear(h.cut[len(kept):])
	h.cut = kept
	return tasks
}

// leavesOf appends the active frameworks in the role of the quota and below it.
func (h *hierarchical) leavesOf(q *quota, out []*leaf) []*leaf {
	n := h.find(q.role)
	if n == nil {
		return out
	}
	h.walk(n, func(r *role) bool {
		for i := range r.order.fresh(h) {
			out = append(out, r.order.at(i))
		}
		return true
	})
	return out
}

// fewOnly returns the leaves without repetition, or nil, for all, if they are
// many.
func fewOnly(leaves []*leaf) []*leaf {
	if len(leaves) > manyChanged {
		return nil
	}
	only := make([]*leaf, 0, len(leaves))
	for i, l := range leaves {
		if !slices.Contains(leaves[:i], l) {
			only = append(only, l)
		}
	}
	return only
}

// offered reports whether the agent is offered at all.
func (h *hierarchical) offered(a *agent) bool {
	return !a.gone && a.info.Active && (h.whitelist == nil || h.whitelist[a.info.Hostname])
}
