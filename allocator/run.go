package allocator

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
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
	order uint64
}

// manyChanged is how many frameworks must have changed for it to be cheaper to
// go through all of them on an agent than to put those few in order.
const manyChanged = 16

func (h *hierarchical) allocate() Allocation {
	h.run++
	tasks := h.tasks()
	var out Allocation
	if len(tasks) == 0 {
		return out
	}
	v := visit{h: h, out: &out}
	if h.guaranteed() {
		h.shuffle(tasks, 1)
		for _, t := range tasks {
			v.begin(t.agent)
			v.first()
			v.end()
		}
	}
	h.shuffle(tasks, 2)
	for _, t := range tasks {
		v.begin(t.agent)
		t.agent.blocked = false
		v.second(t.only)
		v.end()
	}
	for _, t := range tasks {
		t.agent.offers = nil
	}
	return out
}

func (h *hierarchical) guaranteed() bool {
	return slices.ContainsFunc(h.quotas.list, func(q *quota) bool { return !q.q.Guarantees.Empty() })
}

// tasks empties the lists of what has changed and returns what is to be done.
func (h *hierarchical) tasks() []task {
	if h.quotas.eased {
		h.quotas.eased = false
		for _, a := range h.agents {
			if a.blocked {
				h.revisit(a)
			}
		}
	}
	changed := h.changed[:0]
	for _, l := range h.changed {
		l.changed = false
		if l.active {
			changed = append(changed, l)
		}
	}
	var tasks []task
	if len(changed) > 0 {
		only := slices.Clone(changed)
		if len(changed) > manyChanged || len(h.quotas.list) > 0 {
			only = nil
		}
		for _, a := range h.agents {
			if !a.dirty && h.offerable(a) {
				tasks = append(tasks, task{agent: a, only: only})
			}
		}
	}
	for _, a := range h.dirty {
		a.dirty = false
		if h.offerable(a) {
			tasks = append(tasks, task{agent: a})
		}
	}
	clear(h.changed)
	clear(h.dirty)
	h.changed, h.dirty = h.changed[:0], h.dirty[:0]
	return tasks
}

func (h *hierarchical) offerable(a *agent) bool {
	return !a.gone && a.info.Active && (h.whitelist == nil || h.whitelist[a.info.Hostname]) &&
		!a.available().Empty()
}

// shuffle puts the tasks into a random order. It is a function of seed, run and
// agent, so that the agents looked at are in the same order whoever else is.
func (h *hierarchical) shuffle(tasks []task, salt uint64) {
	for i := range tasks {
		tasks[i].order = mix(h.opts.Seed ^ mix(h.run<<2|salt) ^ mix(tasks[i].agent.seq<<20))
	}
	slices.SortFunc(tasks, func(a, b task) int {
		if c := cmp.Compare(a.order, b.order); c != 0 {
			return c
		}
		return cmp.Compare(a.agent.seq, b.agent.seq)
	})
}

// visit is the allocation of one agent. What is offered is taken from the agent
// at once, but changes the order of roles and frameworks only at its end.
type visit struct {
	h   *hierarchical
	out *Allocation
	a   *agent
	// left is what may still be offered.
	left resources.Resources
	// plain: all of left may go to any role and framework. whole is then left in
	// the order of an offer, and enough whether the common minimum allows it.
	plain  bool
	whole  resources.Resources
	enough bool
	// shares keeps the vecs of earlier visits for use again.
	shares []share
}

type share struct {
	leaf *leaf
	v    vec
}

func (v *visit) begin(a *agent) {
	v.a = a
	v.look()
}

// look finds out what is left.
func (v *visit) look() {
	v.left = v.a.available()
	if !v.a.offeredShared.Empty() {
		v.left = v.left.Filter(func(it resources.Item) bool {
			return !it.Shared() || v.a.offeredShared.Count(it) == 0
		})
	}
	v.plain = true
	for i := range v.left.Len() {
		it := v.left.At(i)
		v.plain = v.plain && !it.Reserved() && !it.Revocable() && !it.Shared()
	}
	if v.plain {
		v.whole = arrange(v.left)
		v.enough = meets(v.h.opts.MinAllocatable, v.left)
	}
}

// end makes the shares what they have become.
func (v *visit) end() {
	for _, s := range v.shares {
		v.h.allocated(s.leaf, s.v, 1)
	}
	v.shares = v.shares[:0]
}

// isQuotaItem reports whether an item is subject to quotas: unreserved,
// non-revocable scalars. All others may always be offered.
func isQuotaItem(it resources.Item) bool {
	return it.Type() == mesos.Value_SCALAR && !it.Reserved() && !it.Revocable()
}

// arrange puts r in the order in which Mesos composes offers.
func arrange(r resources.Resources) resources.Resources {
	return r.FirstThose(func(it resources.Item) bool { return !isQuotaItem(it) })
}

func meets(minimums []resources.Quantities, r resources.Resources) bool {
	if r.Empty() {
		return false
	}
	if len(minimums) == 0 {
		return true
	}
	return slices.ContainsFunc(minimums, r.ContainsQuantities)
}

// allocatable reports whether r is enough to be offered to l.
func (v *visit) allocatable(l *leaf, r resources.Resources) bool {
	if own, ok := l.fw.info.MinAllocatable[l.role.path]; ok {
		return meets(own, r)
	}
	return meets(v.h.opts.MinAllocatable, r)
}

// capable reports whether the framework may be offered anything of the agent.
func (v *visit) capable(l *leaf) bool {
	f, a := &l.fw.info, v.a
	switch {
	case v.h.opts.FilterGPUResources && a.gpu && !f.GPU:
		return false
	case a.remote && !f.RegionAware:
		return false
	case f.MultiRole && !a.info.MultiRole:
		return false
	case !a.info.HierarchicalRole && strings.Contains(l.role.path, "/"):
		return false
	}
	return f.Constraints.match(l.role.path, a.info.Hostname, a.info.Domain, a.info.Attributes)
}

// strip leaves out what the framework does not understand.
func strip(f *Framework, r resources.Resources) resources.Resources {
	return r.Filter(func(it resources.Item) bool {
		return (f.Shared || !it.Shared()) && (f.Revocable || !it.Revocable()) &&
			(f.ReservationRefinement || !it.Refined())
	})
}

// second offers what is left to all roles in order, in Mesos's second stage:
// everything, but for what quotas hold back.
func (v *visit) second(only []*leaf) {
	if only == nil {
		v.h.eachRole(v.a, func(r *role) bool {
			v.h.eachLeaf(v.a, r, v.offerAll)
			return !v.left.Empty()
		})
		return
	}
	if v.h.opts.RoleSorter == SorterRandom || v.h.opts.FrameworkSorter == SorterRandom {
		v.h.eachRole(v.a, func(r *role) bool {
			v.h.eachLeaf(v.a, r, func(l *leaf) bool {
				return !slices.Contains(only, l) || v.offerAll(l)
			})
			return !v.left.Empty()
		})
		return
	}
	if len(only) > 1 {
		slices.SortFunc(only, func(a, b *leaf) int {
			switch {
			case a == b:
				return 0
			case v.h.before(a, b):
				return -1
			}
			return 1
		})
	}
	for _, l := range only {
		if !v.offerAll(l) && v.left.Empty() {
			return
		}
	}
}

// offerAll offers l what is left, and reports whether another framework of its
// role may still get something.
func (v *visit) offerAll(l *leaf) bool {
	if v.plain && len(v.h.quotas.list) == 0 {
		return v.offerWhole(l)
	}
	available := v.left.AllocatableTo(l.role.path)
	if available.Empty() {
		return false
	}
	if !v.capable(l) {
		return true
	}
	available = strip(&l.fw.info, available)
	always := available.Filter(func(it resources.Item) bool { return !isQuotaItem(it) })
	scalars := available.Filter(isQuotaItem)
	cut := v.h.withinLimits(v.h.quotas.of(l.role.path), scalars, resources.Resources{})
	cut = v.h.withinHeadroom(cut)
	v.a.blocked = v.a.blocked || !cut.Equal(scalars)
	v.offer(l, always.Add(cut))
	return true
}

// offerWhole is offerAll where all of the rest may go to anyone.
func (v *visit) offerWhole(l *leaf) bool {
	if v.left.Empty() {
		return false
	}
	if own, ok := l.fw.info.MinAllocatable[l.role.path]; ok {
		if !meets(own, v.left) {
			return true
		}
	} else if !v.enough {
		return true
	}
	if len(l.filters) > 0 && l.filtered(v.a, v.whole) || !v.capable(l) {
		return true
	}
	whole := v.whole
	v.a.nothingLeft()
	v.left, v.whole = resources.Resources{}, resources.Resources{}
	v.record(l, whole)
	return false
}

// offer gives r to l if it is enough and not refused.
func (v *visit) offer(l *leaf, r resources.Resources) {
	if v.allocatable(l, r) && !l.filtered(v.a, r) {
		v.give(l, r)
	}
}

func (v *visit) give(l *leaf, r resources.Resources) {
	if shared := r.Shared(); !shared.Empty() {
		if v.a.offeredShared.Empty() {
			v.h.sharers = append(v.h.sharers, v.a)
		}
		v.a.offeredShared = v.a.offeredShared.Add(shared)
	}
	v.a.stale = true
	v.record(l, r)
	v.look()
}

// record notes that l was given r.
func (v *visit) record(l *leaf, r resources.Resources) {
	if n := len(v.shares); n < cap(v.shares) {
		v.shares = v.shares[:n+1]
	} else {
		v.shares = append(v.shares, share{})
	}
	s := &v.shares[len(v.shares)-1]
	s.leaf, s.v = l, v.h.record(s.v[:0], v.a, l, r)
	r = r.Allocate(l.role.path)
	// What a framework got in the first stage comes in the same offer.
	for _, i := range v.a.offers {
		if o := &v.out.Offers[i]; o.FrameworkID == l.fw.id && o.Role == l.role.path {
			o.Resources = o.Resources.Add(r)
			return
		}
	}
	if v.h.guaranteed() {
		v.a.offers = append(v.a.offers, len(v.out.Offers))
	}
	v.out.Offers = append(v.out.Offers, Offer{
		FrameworkID: l.fw.id, Role: l.role.path, AgentID: v.a.id, Resources: r,
	})
}

// first offers what is left to roles that lack some of their guarantee, in
// Mesos's first stage: as much of that as there is, and the rest of the agent as
// far as limits and the guarantees of others allow it.
func (v *visit) first() {
	v.h.eachRole(v.a, func(r *role) bool {
		q := v.h.quotas.of(r.path)
		if q == nil || q.q.Guarantees.Empty() {
			return !v.left.Empty()
		}
		v.h.eachLeaf(v.a, r, func(l *leaf) bool { return v.guarantee(l, q) })
		return !v.left.Empty()
	})
}

func (v *visit) guarantee(l *leaf, q *quota) bool {
	lacking := v.h.quantities(q.lacking)
	available := v.left.AllocatableTo(l.role.path)
	if lacking.Empty() || available.Empty() {
		return false
	}
	if !v.capable(l) {
		return true
	}
	available = strip(&l.fw.info, available)
	scalars := available.Filter(isQuotaItem)
	guaranteed := scalars.Shrink(lacking)
	if guaranteed.Empty() {
		return true
	}
	always := available.Filter(func(it resources.Item) bool {
		return it.Reserved() && it.ReservationRole() == l.role.path || it.Type() != mesos.Value_SCALAR || it.Revocable()
	})
	more := v.h.withinLimits(q, scalars.Sub(guaranteed), guaranteed)
	more = v.h.withinHeadroom(more)
	v.offer(l, guaranteed.Add(always).Add(more))
	return true
}
