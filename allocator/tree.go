package allocator

import (
	"strings"

	"clusterd/allocator/resources"
)

// node is a node of the tree of roles. A role with frameworks is a leaf called
// "." below the node of its name, so that it competes with its own subroles as
// they do with each other; Mesos makes that leaf only where there are subroles,
// with the same outcome.
type node struct {
	rank
	parent   *node
	path     string
	children map[string]*node
	order    ordered[*node] // those with active > 0
	weight   float64
	alloc    vec
	active   int   // active frameworks in the subtree
	own      int   // those of them with a minimum of their own
	role     *role // of a leaf, else nil
	// quota is the node's own, nil if it has none, and bound that or the nearest
	// above it; under says that there are quotas below it.
	quota, bound *quota
	under        bool
}

func (n *node) key() *rank { return &n.rank }

func (n *node) rescale(h *hierarchical) { n.share = h.share(n.alloc) / n.weight }

// role is a role with frameworks.
type role struct {
	path    string
	leaf    *node
	hash    uint64  // of path, for draw
	members []*leaf // by framework id
	order   ordered[*leaf]
}

// leaf is a framework in one of its roles. It lives as long as the framework is
// subscribed to the role or holds something in it.
type leaf struct {
	rank
	fw         *framework
	role       *role
	hash       uint64 // of name, for draw
	alloc      vec
	subscribed bool
	suppressed bool
	active     bool // it is in role.order
	own        bool // it is counted in node.own
	agents     int  // agents on which it holds something
	changed    bool // it is in hierarchical.changed
	filters    map[*agent][]*filter
	// filterCount is how many they are, those included that are void and were not
	// cleared away yet.
	filterCount int
	verdicts    *verdicts // nil: no constraints
}

func (l *leaf) key() *rank { return &l.rank }

func (l *leaf) rescale(h *hierarchical) { l.share = h.share(l.alloc) }

// share returns the dominant share, the largest part of any resource of the
// cluster that alloc makes up, times unit.
func (h *hierarchical) share(alloc vec) float64 {
	var most float64
	for i, a := range alloc {
		if a == 0 || i >= len(h.scale) || h.scale[i] <= 0 {
			continue
		}
		most = max(most, float64(a)/float64(h.scale[i]))
	}
	return most
}

// measure finds the scale of shares after the total has changed. Shares only
// serve to be compared, so that it is the proportions of the total that matter:
// when an agent joins that is like all others, no share has to be computed anew.
func (h *hierarchical) measure() {
	var unit int64
	for i, x := range h.total {
		if x > 0 && !h.excluded[i] {
			for y := unit; y != 0; {
				x, y = y, x%y
			}
			unit = x
		}
	}
	h.unit = max(1, unit)
	same := true
	for i, x := range h.total {
		if x <= 0 || h.excluded[i] {
			x = 0
		}
		x /= h.unit
		if h.scale.at(i) != x {
			same = false
			h.scale.addAt(i, x-h.scale.at(i))
		}
	}
	if !same {
		h.epoch++
	}
}

// allocated adds r, which l was given on the agent or (by sign) has lost, to the
// shares of l and of all nodes above it. However many copies of a shared
// resource are held below a node, they count once.
//
// With again it is no new allocation that would count where shares are equal.
func (h *hierarchical) allocated(a *agent, l *leaf, r resources.Resources, sign int64, again bool) {
	w := h.appendVec(h.scratch[:0], r, nil)
	h.scratch = w
	shared := r.Shared()
	if !shared.Empty() {
		w = h.counted(a, r, shared, sign, func(o *leaf) bool { return o == l })
	}
	var count int64
	if sign > 0 && !again {
		count = 1
	}
	change := func() {
		l.alloc.add(w, sign)
		l.count += count
		l.rescale(h)
	}
	if l.active {
		l.role.order.change(h, l, change)
	} else {
		change()
	}
	for n := l.role.leaf; n != nil; n = n.parent {
		if !shared.Empty() {
			w = h.counted(a, r, shared, sign, func(o *leaf) bool { return o.below(n) })
		}
		h.allocatedTo(n, w, sign, count)
	}
}

// counted returns the scalars of r that count for a member of the tree: of its
// shared resources those of which the leaves below it hold the first copies or
// have lost the last ones.
func (h *hierarchical) counted(a *agent, r, shared resources.Resources, sign int64, below func(*leaf) bool) vec {
	v := h.vecOf(r.NonShared(), nil)
	for i := range shared.Len() {
		it := shared.At(i)
		others := a.copies(it, below)
		if sign > 0 {
			others -= it.Copies()
		}
		if others == 0 {
			v.add(h.vecOf(it.AsResources(), nil), 1)
		}
	}
	return v
}

// below reports whether l is a framework in a role at or below n.
func (l *leaf) below(n *node) bool {
	for m := l.role.leaf; m != nil; m = m.parent {
		if m == n {
			return true
		}
	}
	return false
}

func (h *hierarchical) allocatedTo(n *node, w vec, sign, count int64) {
	change := func() {
		n.alloc.add(w, sign)
		n.count += count
		n.rescale(h)
	}
	if n.active > 0 && n != h.root {
		n.parent.order.change(h, n, change)
	} else {
		change()
	}
}

// activate puts l into or takes it out of the sorters.
func (h *hierarchical) activate(l *leaf) {
	active := l.fw.info.Active && l.subscribed && !l.suppressed
	if _, own := l.fw.info.MinAllocatable[l.role.path]; l.own != (own && active) {
		l.own = !l.own
		for n := l.role.leaf; n != nil; n = n.parent {
			if l.own {
				n.own++
			} else {
				n.own--
			}
			h.close(n)
		}
	}
	if active == l.active {
		return
	}
	l.active = active
	h.shuffled++
	by := -1
	if active {
		by = 1
		l.role.order.insert(h, l)
	} else {
		l.role.order.remove(h, l)
	}
	for n := l.role.leaf; n != h.root; n = n.parent {
		was := n.active
		if was == 1 && by < 0 {
			n.parent.order.remove(h, n)
		}
		n.active += by
		if was == 0 {
			n.parent.order.insert(h, n)
		}
	}
}

// roleOf returns the role, which it makes if need be.
func (h *hierarchical) roleOf(path string) *role {
	if r := h.roles[path]; r != nil {
		return r
	}
	n := h.root
	for name := range strings.SplitSeq(path, "/") {
		n = h.child(n, name)
	}
	r := &role{path: path, leaf: h.child(n, "."), hash: hashName(path)}
	r.leaf.role = r
	h.roles[path] = r
	return r
}

func (h *hierarchical) child(n *node, name string) *node {
	if c := n.children[name]; c != nil {
		return c
	}
	path := name
	if n != h.root {
		path = n.path + "/" + name
	}
	c := &node{
		rank: rank{name: name}, parent: n, path: path,
		children: make(map[string]*node), weight: h.weight(path),
	}
	n.children[name] = c
	h.attachQuota(c)
	return c
}

func (h *hierarchical) weight(path string) float64 {
	if w, ok := h.weights[path]; ok {
		return w
	}
	return 1
}

// forget drops a role that has no members left, and what it leaves empty.
func (h *hierarchical) forget(r *role) {
	if len(r.members) > 0 {
		return
	}
	delete(h.roles, r.path)
	for n := r.leaf; n != h.root && len(n.children) == 0; n = n.parent {
		delete(n.parent.children, n.name)
		if n.quota != nil {
			n.quota.node = nil
		}
	}
}

// find returns the node of a role, nil if there is none.
func (h *hierarchical) find(path string) *node {
	n := h.root
	for name := range strings.SplitSeq(path, "/") {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

func (h *hierarchical) setWeight(path string, w float64) {
	h.weights[path] = w
	h.shuffled++
	n := h.find(path)
	if n == nil {
		return
	}
	if n.active > 0 {
		n.parent.order.change(h, n, func() {
			n.weight = w
			n.rescale(h)
		})
		return
	}
	n.weight = w
}

// before reports whether a comes before b in the order of the sorters, both
// being active.
func (h *hierarchical) before(a, b *leaf) bool {
	if a.role == b.role {
		a.role.order.fresh(h)
		return a.compare(&b.rank) < 0
	}
	x, y := a.role.leaf, b.role.leaf
	for dx, dy := depth(x), depth(y); dx != dy; {
		if dx > dy {
			x, dx = x.parent, dx-1
		} else {
			y, dy = y.parent, dy-1
		}
	}
	for x.parent != y.parent {
		x, y = x.parent, y.parent
	}
	x.parent.order.fresh(h)
	return x.compare(&y.rank) < 0
}

func depth(n *node) int {
	d := 0
	for ; n.parent != nil; n = n.parent {
		d++
	}
	return d
}

// eachRole calls f for the active roles in the order in which they are served on
// the agent, until f returns false.
func (h *hierarchical) eachRole(a *agent, f func(*role) bool) {
	if h.opts.RoleSorter == SorterRandom {
		h.eachDrawn(a, h.roleChances(), f)
		return
	}
	h.walk(h.root, f)
}

func (h *hierarchical) walk(n *node, f func(*role) bool) bool {
	if n.role != nil {
		return f(n.role)
	}
	// Both parts of the list are in order.
	end := n.order.fresh(h)
	closed := n.order.closed()
	for i, j := 0, closed; i < closed || j < end; {
		var c *node
		if j == end || i < closed && n.order.at(i).compare(&n.order.at(j).rank) < 0 {
			c, i = n.order.at(i), i+1
		} else {
			c, j = n.order.at(j), j+1
		}
		if !h.walk(c, f) {
			return false
		}
	}
	return true
}

// eachLeaf does the same for the active frameworks of a role.
func (h *hierarchical) eachLeaf(a *agent, r *role, f func(*leaf) bool) {
	n := r.order.fresh(h)
	if h.opts.FrameworkSorter != SorterRandom {
		for i := range n {
			if !f(r.order.at(i)) {
				return
			}
		}
		return
	}
	members := r.order.members()
	lots := make([]lot, n)
	for i, l := range members {
		lots[i] = lot{h.draw(a, l.hash), i}
	}
	drawLots(lots, func(i int) bool { return f(members[i]) })
}
