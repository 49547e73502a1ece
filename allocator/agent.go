package allocator

import (
	"slices"

	"clusterd/allocator/resources"
)

// agent is an agent and what is held on it.
type agent struct {
	id     string
	seq    uint64 // in order of arrival
	info   Agent
	gpu    bool
	remote bool
	gone   bool
	dirty  bool // it is in hierarchical.dirty
	// limited means that a role's limit, and heldBack that the guarantees of others
	// kept something from being offered.
	limited, heldBack bool
	inCut             bool // it is in hierarchical.cut
	inRest            bool // it is in hierarchical.rest
	counted           bool // what is idle on it is in quotas.idle

	shared resources.Resources // part of info.Total
	single resources.Resources // the rest of it, in the order of an offer
	// quantities are the scalars of single.
	quantities resources.Quantities
	held       []holding // by role and framework, in order of arrival
	orphans    map[string]resources.Resources
	leaving    *leaving // nil: no maintenance
	slot       int      // see slots

	// free is what is left of info.Total but for shared resources; it is stale
	// after a change until it is asked for. version counts its changes, and plain
	// says that it may all go to any role and framework.
	free    resources.Resources
	stale   bool
	plain   bool
	version uint64
	// given is what was given last, if nothing has happened since.
	given given
	// filters counts those set in the present era, which ends when all are dropped.
	filters int
	era     uint64
	unswept bool // it is in hierarchical.unswept
	// offers are the indices of its offers in the current run.
	offers []int
	// offeredShared are shared resources that have been offered since the agent
	// last changed or AllocateAll ran: they would otherwise be offered for ever.
	offeredShared resources.Resources
}

// holding is what a framework was offered or allocated in a role, without the
// allocation role.
type holding struct {
	leaf *leaf
	res  resources.Resources
}

// given is what a framework was given, and what was free before. Offers are often
// declined as a whole.
type given struct {
	leaf  *leaf
	res   resources.Resources
	free  resources.Resources
	plain bool
}

func (a *agent) setTotal(total resources.Resources) {
	a.info.Total = total
	a.shared = total.Shared()
	a.single = arrange(total.NonShared())
	a.quantities = a.single.Quantities()
	a.gpu = total.Scalar("gpus") > 0
	a.unsettle()
}

// available is what may be offered. Shared resources always may.
func (a *agent) available() resources.Resources {
	a.settleFree()
	return a.free.Add(a.shared)
}

func (a *agent) anythingLeft() bool {
	a.settleFree()
	return !a.free.Empty() || !a.shared.Empty()
}

// unsettle notes that free has changed.
func (a *agent) unsettle() {
	a.stale = true
	a.given = given{}
}

func (a *agent) settleFree() {
	if !a.stale {
		return
	}
	free := a.single
	for i := range a.held {
		free = free.Sub(a.held[i].res)
	}
	// In any order: what they hold is disjoint.
	for _, r := range a.orphans {
		free = free.Sub(r.Unallocate())
	}
	plain := a.shared.Empty()
	for i := range free.Len() {
		it := free.At(i)
		plain = plain && !it.Reserved() && !it.Revocable()
	}
	a.setFree(free, plain)
}

func (a *agent) setFree(free resources.Resources, plain bool) {
	a.free, a.plain, a.stale = free, plain, false
	a.version++
}

// giveFree notes that l is given r, and what that leaves.
func (a *agent) giveFree(l *leaf, r, left resources.Resources) {
	a.given = given{l, r, a.free, a.plain}
	a.setFree(left, a.plain)
}

// hold gives r, which carries no allocation role, to l.
func (h *hierarchical) hold(a *agent, l *leaf, r resources.Resources) {
	h.record(a, l, r)
	a.unsettle()
	h.allocated(a, l, r, 1, false)
}

// record is hold without the change of shares and of what is free.
func (h *hierarchical) record(a *agent, l *leaf, r resources.Resources) {
	at := a.find(l)
	if at < 0 {
		at = len(a.held)
		a.held = append(a.held, holding{leaf: l})
		l.agents++
	}
	a.held[at].res = a.held[at].res.Add(r)
	h.quotas.held(h, a, l.role.leaf.bound, r, 1)
	h.ask(a)
}

// unhold takes r, which carries no allocation role, back from l. It reports false,
// and does nothing, if l does not hold it.
func (h *hierarchical) unhold(a *agent, l *leaf, r resources.Resources) bool {
	at := a.find(l)
	if at < 0 || !a.held[at].res.Contains(r) {
		return false
	}
	left := resources.Resources{}
	if !r.Equal(a.held[at].res) {
		left = a.held[at].res.Sub(r)
	}
	a.held[at].res = left
	if left.Empty() {
		a.held = slices.Delete(a.held, at, at+1)
		l.agents--
	}
	if g := a.given; !a.stale && g.leaf == l && g.res.Equal(r) {
		a.given = given{}
		a.setFree(g.free, g.plain)
	} else {
		a.unsettle()
	}
	h.quotas.held(h, a, l.role.leaf.bound, r, -1)
	h.allocated(a, l, r, -1, false)
	return true
}

func (a *agent) find(l *leaf) int {
	for i := range a.held {
		if a.held[i].leaf == l {
			return i
		}
	}
	return -1
}

// copies returns how many of a shared item are held on the agent by those for
// which by is true.
func (a *agent) copies(it resources.Item, by func(*leaf) bool) int {
	n := 0
	for i := range a.held {
		if by(a.held[i].leaf) {
			n += a.held[i].res.Count(it)
		}
	}
	return n
}

// orphan sets what is held on the agent by a framework that is not known yet.
func (h *hierarchical) orphan(a *agent, framework string, r resources.Resources) {
	if old, ok := a.orphans[framework]; ok {
		for _, e := range old.Allocations() {
			h.quotas.held(h, a, h.quotas.nearest(e.Role), e.Resources, -1)
		}
		delete(a.orphans, framework)
		delete(h.orphaned[framework], a)
	}
	a.unsettle()
	if r.Empty() {
		return
	}
	if a.orphans == nil {
		a.orphans = make(map[string]resources.Resources)
	}
	a.orphans[framework] = r
	for _, e := range r.Allocations() {
		h.quotas.held(h, a, h.quotas.nearest(e.Role), e.Resources, 1)
	}
	if h.orphaned[framework] == nil {
		h.orphaned[framework] = make(map[*agent]bool)
	}
	h.orphaned[framework][a] = true
}

// mark notes that the agent has changed: it is to be looked at in the next run,
// and its shared resources may be offered anew.
func (h *hierarchical) mark(a *agent) {
	a.offeredShared = resources.Resources{}
	h.revisit(a)
}

// revisit notes that the agent is to be looked at in the next run.
func (h *hierarchical) revisit(a *agent) {
	if !a.dirty {
		a.dirty = true
		h.dirty = append(h.dirty, a)
	}
}
