package allocator

import (
	"maps"
	"math"
	"slices"
	"strings"

	"clusterd/allocator/resources"
)

// quotas are the quotas of roles. They form a tree: the parent of a quota is that
// of the nearest ancestor of its role that has one, or root, which stands for the
// cluster. While there are none, nothing is counted.
//
// A role has consumed what is held in it or below it of the chargeable (unreserved,
// not revocable) scalars, and all reservations for it or below it, held or not.
// It needs what its guarantee lacks, or what its children need if that is more,
// as far as its limit allows it.
type quotas struct {
	by map[string]*quota
	// under counts, for a role, the quotas below it.
	under map[string]int
	root  quota
	// idle are the chargeable scalars that no one holds, of agents that are offered.
	idle vec
	// stale says that the quotas have changed and all has to be counted anew.
	stale bool
	// serial counts the changes of what is consumed.
	serial uint64
	// eased: agents that are heldBack may be so no longer. relaxed are quotas
	// whose roles may now get what they could not before.
	eased   bool
	relaxed []*quota
	// turned are quotas that have become full, or are so no longer.
	turned []*quota
	before vec // scratch
}

// quota is the quota of one role. All amounts are in thousandths.
type quota struct {
	role       string
	node       *node // of the role in the tree of roles, if it is there
	q          Quota
	parent     *quota
	guarantees vec
	limits     vec // unlimited where there is none
	consumed   vec
	need       vec // max of guarantees - consumed and below, at most what the limit leaves
	below      vec // the sum of its children's needs
	needy      bool
	// full: its limits leave too little for any offer that needs some of them.
	full    bool
	relaxed bool // it is in quotas.relaxed
}

const unlimited = math.MaxInt64

func (q *quota) limit(i int) int64 {
	if i < len(q.limits) {
		return q.limits[i]
	}
	return unlimited
}

// left is what the limit leaves, at index i.
func (q *quota) left(i int) int64 {
	if l := q.limit(i); l != unlimited {
		return l - q.consumed.at(i)
	}
	return unlimited
}

// active reports whether there are quotas at all.
func (qs *quotas) active() bool { return len(qs.by) > 0 }

// nearest returns the quota of the role or of its nearest ancestor that has one,
// else root.
func (qs *quotas) nearest(role string) *quota {
	for qs.active() {
		if q := qs.by[role]; q != nil {
			return q
		}
		i := strings.LastIndexByte(role, '/')
		if i < 0 {
			break
		}
		role = role[:i]
	}
	return &qs.root
}

func chargeable(it resources.Item) bool { return !it.Reserved() && !it.Revocable() }

// held counts r as held (or by sign no longer held) on the agent in a role bound
// by q.
func (qs *quotas) held(h *hierarchical, a *agent, q *quota, r resources.Resources, sign int64) {
	if !qs.active() || qs.stale {
		return
	}
	v := h.appendVec(h.charge[:0], r, chargeable)
	h.charge = v
	qs.before = append(qs.before[:0], qs.root.below...)
	if a.counted {
		qs.idle.add(v, -sign)
	}
	h.consume(q, v, sign)
	if sign > 0 {
		return
	}
	qs.relax(q)
	if !a.counted {
		return
	}
	// Others have more room if more came back than is needed again.
	for i, x := range v {
		if x > qs.root.below.at(i)-qs.before.at(i) {
			qs.eased = true
		}
	}
}

// countIdle counts what is idle on an agent, or does not, as it is offered now.
// What is free on an agent that is not offered serves no guarantee.
func (h *hierarchical) countIdle(a *agent) {
	counted := h.offered(a)
	if counted == a.counted {
		return
	}
	a.counted = counted
	qs := &h.quotas
	if !qs.active() || qs.stale {
		return
	}
	sign := int64(-1)
	if counted {
		sign, qs.eased = 1, true
	}
	qs.serial++
	qs.idle.add(h.idleOn(a), sign)
}

// idleOn is what is idle on the agent. It is negative where more is held than
// there is.
func (h *hierarchical) idleOn(a *agent) vec {
	v := h.vecOf(a.info.Total, chargeable)
	for _, hd := range a.held {
		v.add(h.vecOf(hd.res, chargeable), -1)
	}
	for _, r := range a.orphans {
		v.add(h.vecOf(r, chargeable), -1)
	}
	return v
}

// consume adds v, by sign, to what q and those above it have consumed.
func (h *hierarchical) consume(q *quota, v vec, sign int64) {
	h.quotas.serial++
	for ; q != &h.quotas.root; q = q.parent {
		q.consumed.add(v, sign)
		h.settle(q, len(v))
	}
}

// settle brings q's need up to date for the first n names.
func (h *hierarchical) settle(q *quota, n int) {
	qs := &h.quotas
	parent := &q.parent.below
	for i := range n {
		// What a limit forbids need not be kept for it.
		need := max(0, min(max(q.guarantees.at(i)-q.consumed.at(i), q.below.at(i)), q.left(i)))
		d := need - q.need.at(i)
		if d == 0 {
			continue
		}
		q.need.addAt(i, d)
		parent.addAt(i, d)
		if q.parent == &qs.root && (*parent)[i] == 0 {
			qs.eased = true // Nothing of this name need be held back any more.
		}
	}
	q.needy = q.need.positive()
	if full := len(q.limits) > 0 && h.tooLittle(q.left); full != q.full {
		q.full = full
		qs.turned = append(qs.turned, q)
	}
	if q.parent == &qs.root {
		qs.root.needy = qs.root.below.positive()
	}
}

// relax notes that roles bound by the topmost quota above q may get more.
func (qs *quotas) relax(q *quota) {
	if q == &qs.root {
		return
	}
	for q.parent != &qs.root {
		q = q.parent
	}
	if !q.relaxed {
		q.relaxed = true
		qs.relaxed = append(qs.relaxed, q)
	}
}

// totalChanged counts the total of an agent in (or by sign out).
func (qs *quotas) totalChanged(h *hierarchical, a *agent, total resources.Resources, sign int64) {
	if !qs.active() || qs.stale {
		return
	}
	qs.eased = true
	if a.counted {
		qs.idle.add(h.vecOf(total, chargeable), sign)
	}
	for _, e := range total.Reservations() {
		q := qs.nearest(e.Role)
		qs.relax(q)
		h.consume(q, h.vecOf(e.Resources, nil), sign)
	}
}

// UpdateQuota implements [Allocator].
func (h *hierarchical) UpdateQuota(role string, q *Quota) {
	qs := &h.quotas
	if qs.by[role] != nil {
		delete(qs.by, role)
		qs.countUnder(role, -1)
	}
	if q != nil && (!q.Guarantees.Empty() || !q.Limits.Empty()) {
		qs.by[role] = h.newQuota(role, *q)
		qs.countUnder(role, 1)
	}
	qs.stale = true
}

func (qs *quotas) countUnder(role string, by int) {
	for _, a := range resources.Ancestors(role) {
		qs.under[a] += by
		if qs.under[a] == 0 {
			delete(qs.under, a)
		}
	}
}

func (h *hierarchical) newQuota(role string, q Quota) *quota {
	e := &quota{role: role, q: q}
	for i := range q.Guarantees.Len() {
		g := q.Guarantees.At(i)
		e.guarantees.addAt(h.index(g.Name), g.Milli)
	}
	for i := range q.Limits.Len() {
		l := q.Limits.At(i)
		at := h.index(l.Name)
		for len(e.limits) <= at {
			e.limits = append(e.limits, unlimited)
		}
		e.limits[at] = l.Milli
	}
	return e
}

// recount builds the tree and counts everything anew, if quotas have changed.
func (h *hierarchical) recount() {
	qs := &h.quotas
	if !qs.stale {
		return
	}
	qs.stale, qs.relaxed, qs.turned = false, nil, nil
	for _, a := range h.cut {
		h.revisit(a)
	}
	qs.serial++
	qs.root, qs.idle = quota{}, nil
	roles := slices.Sorted(maps.Keys(qs.by))
	for _, role := range roles {
		q := qs.by[role]
		q.parent = &qs.root
		if i := strings.LastIndexByte(role, '/'); i >= 0 {
			q.parent = qs.nearest(role[:i])
		}
		q.consumed, q.need, q.below = nil, nil, nil
		q.needy, q.full, q.relaxed, q.node = false, false, false, nil
	}
	h.attachQuotas(h.root)
	if !qs.active() {
		return
	}
	// Sums of whole numbers: the order of agents cannot be seen.
	for _, a := range h.agents {
		h.countAgent(a)
	}
	// Descendants come after their ancestors in the order of names.
	for _, role := range slices.Backward(roles) {
		h.settle(qs.by[role], len(h.names))
	}
}

func (h *hierarchical) countAgent(a *agent) {
	qs := &h.quotas
	count := func(role string, v vec) {
		for q := qs.nearest(role); q != &qs.root; q = q.parent {
			q.consumed.add(v, 1)
		}
	}
	if a.counted {
		qs.idle.add(h.idleOn(a), 1)
	}
	for _, e := range a.info.Total.Reservations() {
		count(e.Role, h.vecOf(e.Resources, nil))
	}
	held := func(role string, r resources.Resources) { count(role, h.vecOf(r, chargeable)) }
	for _, hd := range a.held {
		held(hd.leaf.role.path, hd.res)
	}
	for _, r := range a.orphans {
		for _, e := range r.Allocations() {
			held(e.Role, e.Resources)
		}
	}
}

// attachQuotas tells the nodes of the tree of roles which quotas bind them.
func (h *hierarchical) attachQuotas(n *node) {
	h.attachQuota(n)
	for _, c := range n.children {
		h.attachQuotas(c)
	}
}

func (h *hierarchical) attachQuota(n *node) {
	if n == h.root {
		n.bound = &h.quotas.root
		return
	}
	n.quota, n.bound, n.under = nil, n.parent.bound, false
	if n.name != "." {
		n.under = h.quotas.under[n.path] > 0
		if q := h.quotas.by[n.path]; q != nil {
			n.quota, n.bound, q.node = q, q, n
		}
	}
	h.close(n)
}

// close puts the node where it belongs among its siblings: behind the open ones
// if its quota is full and no framework below it has a minimum of its own.
func (h *hierarchical) close(n *node) {
	closed := n.quota != nil && n.quota.full && n.own == 0
	if closed == n.closed {
		return
	}
	if n.active == 0 {
		n.closed = closed
		return
	}
	n.parent.order.change(h, n, func() { n.closed = closed })
}

// closeTurned does so for all that have turned. It must not happen while a list
// is being walked.
func (h *hierarchical) closeTurned() {
	for _, q := range h.quotas.turned {
		if q.node != nil {
			h.close(q.node)
		}
	}
	h.quotas.turned = h.quotas.turned[:0]
}

// room is how much a role may be given of each scalar, by index.
type room struct {
	// limit is what limits leave, and the needs of others within them; cluster
	// what the needs of others leave of the cluster. The smaller one counts.
	limit, cluster vec
	// entitled is what guarantees still promise to the role.
	entitled vec
	hungry   bool // for something
}

// roomOf computes the room of a role that is bound by q. See DESIGN.md.
func (h *hierarchical) roomOf(q *quota, rm *room) {
	qs := &h.quotas
	n := len(h.names)
	rm.limit = slices.Grow(rm.limit[:0], n)[:n]
	rm.cluster = slices.Grow(rm.cluster[:0], n)[:n]
	rm.entitled = slices.Grow(rm.entitled[:0], n)[:n]
	rm.hungry = false
	if h.recovering && q != &qs.root {
		clear(rm.limit)
		clear(rm.cluster)
		clear(rm.entitled)
		return
	}
	for i := range n {
		var entitled int64
		atMost, inner, cluster := int64(unlimited), int64(unlimited), int64(unlimited)
		// others is what others need within the quota that the loop has come to.
		others := q.below.at(i)
		for e := q; e != &qs.root; e = e.parent {
			if left := e.left(i); left != unlimited {
				atMost = min(atMost, left)
				inner = min(inner, left-others)
			}
			entitled = max(entitled, e.guarantees.at(i)-e.consumed.at(i)-others)
			others += e.parent.below.at(i) - e.need.at(i)
		}
		if others > 0 {
			cluster = qs.idle.at(i) - others
		}
		rm.limit[i] = max(0, min(atMost, max(entitled, inner)))
		rm.cluster[i] = max(entitled, cluster, 0)
		rm.entitled[i] = entitled
		rm.hungry = rm.hungry || entitled > 0
	}
}

// tooLittle reports whether an offer without reserved, revocable and shared
// resources, and with at most left of the i-th scalar, would be too little by the
// common minimum.
func (h *hierarchical) tooLittle(left func(i int) int64) bool {
	if len(h.minimums) == 0 {
		return false
	}
	for _, m := range h.minimums {
		enough := true
		for i, x := range m {
			enough = enough && (x == 0 || left(i) >= x)
		}
		if enough {
			return false
		}
	}
	return true
}
