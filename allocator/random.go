package allocator

import "math"

// The random sorter draws without replacement, with chances in proportion to
// weights, by giving each an exponentially distributed key. The keys are a
// function of seed, run, agent and name, not of what was drawn before, so that
// the outcome does not depend on which agents are looked at.

// weighted is a role and its part of the whole, the product of its and its
// ancestors' weights relative to their active siblings (RandomSorter::SortInfo).
type weighted struct {
	role   *role
	weight float64
}

// roleChances returns the active roles by name, in the order of the tree.
func (h *hierarchical) roleChances() []weighted {
	if h.chancesAt != h.shuffled+1 {
		h.chances = h.relative(h.chances[:0], h.root, 1)
		h.chancesAt = h.shuffled + 1
	}
	return h.chances
}

func (h *hierarchical) relative(out []weighted, n *node, part float64) []weighted {
	if n.role != nil {
		return append(out, weighted{n.role, part})
	}
	// By name, for sums of doubles depend on the order.
	children := n.order.members()
	var sum float64
	for _, c := range children {
		sum += c.weight
	}
	for _, c := range children {
		out = h.relative(out, c, part*c.weight/sum)
	}
	return out
}

// lot is what the one with an index has drawn.
type lot struct {
	key   float64
	index int
}

func (l lot) before(o lot) bool {
	return l.key < o.key || l.key == o.key && l.index < o.index
}

// drawLots calls f for the indices in the order of their lots, until it returns
// false. Mostly that is soon, so that a heap is cheaper than to sort them all.
func drawLots(lots []lot, f func(index int) bool) {
	for i := len(lots)/2 - 1; i >= 0; i-- {
		siftLot(lots, i)
	}
	for len(lots) > 0 {
		if !f(lots[0].index) {
			return
		}
		last := len(lots) - 1
		lots[0] = lots[last]
		lots = lots[:last]
		siftLot(lots, 0)
	}
}

func siftLot(q []lot, i int) {
	for {
		c := 2*i + 1
		if c >= len(q) {
			return
		}
		if c+1 < len(q) && q[c+1].before(q[c]) {
			c++
		}
		if !q[c].before(q[i]) {
			return
		}
		q[i], q[c] = q[c], q[i]
		i = c
	}
}

// draw returns an exponentially distributed number for the one whose name has
// the hash.
func (h *hierarchical) draw(a *agent, hash uint64) float64 {
	x := mix(mix(h.opts.Seed^mix(h.run^mix(a.seq))) ^ hash)
	return -math.Log((float64(x>>11) + 0.5) / (1 << 53))
}

func hashName(name string) uint64 {
	x := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		x = (x ^ uint64(name[i])) * 0x100000001b3
	}
	return x
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// eachDrawn calls f for roles in the order that they draw, until it returns false.
func (h *hierarchical) eachDrawn(a *agent, roles []weighted, f func(*role) bool) {
	lots := h.lots[:0]
	for i, c := range roles {
		lots = append(lots, lot{h.draw(a, c.role.hash) / c.weight, i})
	}
	h.lots = lots
	drawLots(lots, func(i int) bool { return f(roles[i].role) })
}
