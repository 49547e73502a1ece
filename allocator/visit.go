package allocator

import (
	"slices"
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// visit is the allocation of agents in a run. What is offered is taken from the
// agent at once, but changes the order of roles and frameworks only at the end
// of its visit, as in Mesos.
type visit struct {
	h     *hierarchical
	out   *Allocation
	round round
	t     *task
	a     *agent
	// left is what may still be offered.
	left resources.Resources
	// plain: all of left may go to any role and framework. whole is then left in
	// the order of an offer, enough whether the common minimum allows it, and
	// scalars are its scalars.
	plain   bool
	whole   resources.Resources
	enough  bool
	scalars vec
	// room is that of the role that was last asked for, at quotas.serial.
	room    room
	roomFor *role
	roomAt  uint64
	// roomless: what others need leaves those that need nothing too little of the
	// cluster, at quotas.serial.
	roomless   bool
	roomlessAt uint64
	gains      []gain
	// open are the roles that may still get something in this round, for the
	// random sorter.
	open []weighted
	// fetched keeps the compiler from leaving fetch out.
	fetched int
}

// gain is what a leaf got in a visit.
type gain struct {
	leaf *leaf
	r    resources.Resources
}

// pass visits the agents once.
func (v *visit) pass(tasks []task, r round) {
	v.round = r
	if v.h.opts.RoleSorter == SorterRandom {
		v.open = append(v.open[:0], v.h.roleChances()...)
	}
	turns := v.h.order(tasks, uint64(r))
	for i, turn := range turns {
		if r == guarantees && !v.h.quotas.root.needy {
			return
		}
		if i%ahead == 0 {
			v.fetch(tasks, turns[i:min(i+ahead, len(turns))])
		}
		v.t, v.roomFor = &tasks[turn.task], nil
		v.a = v.t.agent
		v.look()
		if v.left.Empty() {
			continue
		}
		v.h.closeTurned()
		switch {
		case v.t.only != nil:
			v.someLeaves(v.t.only)
		case v.h.opts.RoleSorter == SorterRandom:
			v.h.eachDrawn(v.a, v.drawing(), v.serve)
		default:
			v.walk(v.h.root)
		}
		v.end()
	}
}

// ahead is how many agents are fetched at once.
const ahead = 16

// fetch reads a little of each agent that comes up next. Agents are visited in
// random order, so that in a large cluster none is in the processor's caches;
// read one after the other with nothing in between, they come from memory at
// the same time.
func (v *visit) fetch(tasks []task, turns []turn) {
	n := 0
	for _, t := range turns {
		a := tasks[t.task].agent
		n += len(a.id) + len(a.held) + a.slot
	}
	for _, t := range turns {
		a := tasks[t.task].agent
		if a.free.Len() > 0 {
			n += int(a.free.At(0).Milli())
		}
		if len(a.held) > 0 {
			n += a.held[0].res.Len()
		}
	}
	v.fetched += n
}

// walk serves the roles below n in their order, leaving out what skip names, and
// reports whether there is still something left.
func (v *visit) walk(n *node) bool {
	if n.role != nil {
		return v.serve(n.role)
	}
	if !v.plain {
		return v.h.walk(n, func(r *role) bool { return v.skipRole(r) || v.serve(r) })
	}
	for i := range n.order.fresh(v.h) {
		c := n.order.at(i)
		if c.closed {
			v.a.limited = true
			break
		}
		if !v.skip(c) && !v.walk(c) {
			return false
		}
	}
	return true
}

// drawing returns the roles among which the random sorter draws. Roles that
// cannot be given anything any more in this round are dropped for good.
func (v *visit) drawing() []weighted {
	if !v.h.quotas.active() || v.round != guarantees && !v.plain {
		return v.h.roleChances()
	}
	v.open = slices.DeleteFunc(v.open, func(w weighted) bool {
		if v.round == guarantees {
			return v.skipRole(w.role)
		}
		for n := w.role.leaf; n != nil; n = n.parent {
			if n.closed {
				return true
			}
		}
		return false
	})
	v.a.limited = v.a.limited || len(v.open) < len(v.h.roleChances())
	return v.open
}

// look finds out what is left.
func (v *visit) look() {
	v.left = v.a.available()
	if !v.a.offeredShared.Empty() {
		v.left = v.left.Filter(func(it resources.Item) bool {
			return !it.Shared() || v.a.offeredShared.Count(it) == 0
		})
	}
	v.plain = v.a.plain
	if v.plain {
		v.whole = arrange(v.left)
		v.enough = meets(v.h.opts.MinAllocatable, v.left)
	}
	if v.h.quotas.active() {
		v.scalars = v.h.appendVec(v.scalars[:0], v.left, chargeable)
	}
}

// end makes the shares what they have become.
func (v *visit) end() {
	for i := range v.gains {
		v.h.allocated(v.a, v.gains[i].leaf, v.gains[i].r, 1, false)
	}
	clear(v.gains)
	v.gains = v.gains[:0]
}

// skip reports, without a close look, whether no framework below n can be given
// anything of the agent in this round because of quotas.
func (v *visit) skip(n *node) bool {
	qs := &v.h.quotas
	if !qs.active() || n.parent != v.h.root {
		return false
	}
	needy := n.under
	if n.quota != nil {
		needy = n.quota.needy
	}
	if needy {
		return false
	}
	if v.round == guarantees {
		return true
	}
	if v.plain && n.own == 0 && v.noRoom() {
		v.a.heldBack = true
		return true
	}
	return false
}

// skipRole is skip for the top-level role above r.
func (v *visit) skipRole(r *role) bool {
	n := r.leaf
	for n.parent != v.h.root {
		n = n.parent
	}
	return v.skip(n)
}

// noRoom finds out whether v is roomless.
func (v *visit) noRoom() bool {
	qs := &v.h.quotas
	if v.roomlessAt != qs.serial {
		v.roomlessAt = qs.serial
		v.roomless = v.h.tooLittle(func(i int) int64 {
			if others := qs.root.below.at(i); others > 0 {
				return qs.idle.at(i) - others
			}
			return unlimited
		})
	}
	return v.roomless
}

// serve offers what is left to the frameworks of a role, and reports whether
// there is still something left.
func (v *visit) serve(r *role) bool {
	if v.worthwhile(r) {
		v.h.eachLeaf(v.a, r, v.offer)
	}
	return !v.left.Empty()
}

// someLeaves offers what is left to a few frameworks, in their order.
func (v *visit) someLeaves(only []*leaf) {
	if v.h.opts.RoleSorter == SorterRandom || v.h.opts.FrameworkSorter == SorterRandom {
		v.h.eachRole(v.a, func(r *role) bool {
			v.h.eachLeaf(v.a, r, func(l *leaf) bool {
				return !slices.Contains(only, l) || v.worthwhile(r) && v.offer(l)
			})
			return !v.left.Empty()
		})
		return
	}
	slices.SortFunc(only, func(a, b *leaf) int {
		switch {
		case a == b:
			return 0
		case v.h.before(a, b):
			return -1
		}
		return 1
	})
	for _, l := range only {
		if v.worthwhile(l.role) && !v.offer(l) && v.left.Empty() {
			return
		}
	}
}

// worthwhile reports whether quotas allow any offer to the role. If not, it notes
// which of them do not.
func (v *visit) worthwhile(r *role) bool {
	if !v.h.quotas.active() {
		return true
	}
	v.measure(r)
	if v.round == guarantees && !v.room.hungry {
		return false
	}
	if !v.plain || r.leaf.own > 0 {
		return true
	}
	left := func(i int) int64 { return min(v.room.limit[i], v.room.cluster[i], v.scalars.at(i)) }
	if !v.h.tooLittle(left) {
		return true
	}
	v.noteCut(v.scalars)
	return false
}

// measure puts the room of the role into v.room.
func (v *visit) measure(r *role) {
	if v.roomFor == r && v.roomAt == v.h.quotas.serial {
		return
	}
	v.h.roomOf(r.leaf.bound, &v.room)
	v.roomFor, v.roomAt = r, v.h.quotas.serial
}

// noteCut notes what keeps the amounts from being offered.
func (v *visit) noteCut(amounts vec) {
	for i, x := range amounts {
		v.a.limited = v.a.limited || x > v.room.limit[i]
		v.a.heldBack = v.a.heldBack || x > v.room.cluster[i]
	}
}

// offer offers l what it may have of what is left, and reports whether another
// framework of its role may still get something.
func (v *visit) offer(l *leaf) bool {
	if v.left.Empty() {
		return false
	}
	if v.round == deferred && len(l.fw.needs) == 0 {
		return true
	}
	r := v.whole
	if !v.plain {
		r = v.left.AllocatableTo(l.role.path)
		if r.Empty() {
			return false
		}
		r = arrange(strip(&l.fw.info, r))
	}
	all := v.plain // r is all that is left
	if v.h.quotas.active() {
		within, uncut := v.withinQuotas(l.role, r)
		all = all && uncut
		r = within
	}
	if !v.enoughFor(l, r, all) || len(l.filters) > 0 && l.filtered(v.a, r, all) || !v.capable(l) {
		return true
	}
	if v.round != deferred && l.fw.defers(v.a, r) {
		v.t.deferred = true
		return true
	}
	v.give(l, r, all)
	return !v.left.Empty()
}

// enoughFor reports whether r is enough to be offered to l.
func (v *visit) enoughFor(l *leaf, r resources.Resources, all bool) bool {
	if l.own {
		return meets(l.fw.info.MinAllocatable[l.role.path], r)
	}
	if all {
		return v.enough
	}
	return meets(v.h.opts.MinAllocatable, r)
}

// withinQuotas cuts r down to what quotas allow the role. In the round of
// guarantees nothing remains unless the role gets some of what it is entitled to.
// It reports whether all remained.
func (v *visit) withinQuotas(role *role, r resources.Resources) (within resources.Resources, uncut bool) {
	v.measure(role)
	amounts := v.scalars
	if !v.plain {
		amounts = v.h.vecOf(r, chargeable)
	}
	over := false
	for i, x := range amounts {
		over = over || x > min(v.room.limit[i], v.room.cluster[i])
	}
	if over {
		v.noteCut(amounts)
		left := make(vec, len(v.room.limit))
		for i := range left {
			left[i] = min(v.room.limit[i], v.room.cluster[i])
		}
		r = r.Cut(func(it resources.Item) *int64 {
			if !isQuotaItem(it) {
				return nil
			}
			return &left[v.h.names[it.Name()]]
		})
	}
	if v.round == guarantees && !v.helps(r) {
		return resources.Resources{}, false
	}
	return r, !over
}

// helps reports whether r has something of what the role is entitled to. A disk
// that cannot be split has to fit.
func (v *visit) helps(r resources.Resources) bool {
	for i := range r.Len() {
		if it := r.At(i); isQuotaItem(it) {
			entitled := v.room.entitled[v.h.names[it.Name()]]
			if it.Divisible() && entitled > 0 || it.Milli() <= entitled {
				return true
			}
		}
	}
	return false
}

// give gives r to l.
func (v *visit) give(l *leaf, r resources.Resources, all bool) {
	if shared := r.Shared(); !v.plain && !shared.Empty() {
		if v.a.offeredShared.Empty() {
			v.h.sharers = append(v.h.sharers, v.a)
		}
		v.a.offeredShared = v.a.offeredShared.Add(shared)
	}
	v.record(l, r)
	if all {
		v.a.giveFree(l, r, resources.Resources{})
		v.left, v.whole = resources.Resources{}, resources.Resources{}
		return
	}
	v.a.giveFree(l, r, v.a.free.Sub(r.NonShared()))
	v.look()
}

// record notes that l was given r.
func (v *visit) record(l *leaf, r resources.Resources) {
	v.gains = append(v.gains, gain{l, r})
	v.h.record(v.a, l, r)
	r = r.Allocate(l.role.path)
	// What a framework got in an earlier round comes in the same offer.
	for _, i := range v.a.offers {
		if o := &v.out.Offers[i]; o.FrameworkID == l.fw.id && o.Role == l.role.path {
			o.Resources = o.Resources.Add(r)
			return
		}
	}
	if v.h.quotas.active() || len(l.fw.needs) > 0 {
		v.a.offers = append(v.a.offers, len(v.out.Offers))
	}
	v.out.Offers = append(v.out.Offers, Offer{
		FrameworkID: l.fw.id, Role: l.role.path, AgentID: v.a.id, Resources: r,
	})
}

// isQuotaItem reports whether an item is subject to quotas: unreserved,
// non-revocable scalars. All others may always be offered.
func isQuotaItem(it resources.Item) bool {
	return it.Type() == mesos.Value_SCALAR && chargeable(it)
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
	return l.verdicts == nil || v.h.wants(l, a)
}

// strip leaves out what the framework does not understand.
func strip(f *Framework, r resources.Resources) resources.Resources {
	return r.Filter(func(it resources.Item) bool {
		return (f.Shared || !it.Shared()) && (f.Revocable || !it.Revocable()) &&
			(f.ReservationRefinement || !it.Refined())
	})
}
