package allocator

import (
	"math"
	"slices"
	"sort"
	"strings"

	"clusterd/allocator/resources"
)

// vec is amounts of scalar resources in thousandths, by the index that
// hierarchical.index gives a name. A missing tail is zero.
type vec []int64

func (v *vec) add(w vec, sign int64) {
	for len(*v) < len(w) {
		*v = append(*v, 0)
	}
	for i, x := range w {
		(*v)[i] += sign * x
	}
}

// addAt adds x at index i.
func (v *vec) addAt(i int, x int64) {
	for len(*v) <= i {
		*v = append(*v, 0)
	}
	(*v)[i] += x
}

// positive reports whether an amount is greater than zero.
func (v vec) positive() bool {
	for _, x := range v {
		if x > 0 {
			return true
		}
	}
	return false
}

func (v vec) at(i int) int64 {
	if i < len(v) {
		return v[i]
	}
	return 0
}

// rank is what siblings are ordered by: the share first, then how often they
// were allocated something, then the name (DRFSorter::Node::compareDRF).
type rank struct {
	share float64
	count int64
	name  string
	// closed ones are behind all others in their list, each part being in order:
	// they are roles whose quota leaves nothing of an agent without reservations,
	// and may be many.
	closed bool
}

// place compares places in a list.
func (a *rank) place(b *rank) int {
	if a.closed != b.closed {
		if b.closed {
			return -1
		}
		return 1
	}
	return a.compare(b)
}

// compare compares who comes first.
func (a *rank) compare(b *rank) int {
	switch {
	case a.share < b.share:
		return -1
	case a.share > b.share:
		return 1
	case a.count < b.count:
		return -1
	case a.count > b.count:
		return 1
	}
	return strings.Compare(a.name, b.name)
}

// member is what an ordered list consists of: a node of the tree of roles or a
// framework in a role.
type member interface {
	comparable
	key() *rank
	// rescale computes the share anew after the total has changed.
	rescale(h *hierarchical)
}

// ordered is a list of active siblings, kept sorted by rank. Shares are relative
// to the cluster's total; when that changes, the list is put right at its next
// use.
type ordered[T member] struct {
	// list holds indices of slots, for these are moved about a lot, and pointers
	// are dear to move while the garbage collector runs.
	list  []uint32
	slots []T
	spare []uint32 // unused slots
	// epoch is the hierarchical.epoch for which the shares were computed.
	epoch uint64
}

func (o *ordered[T]) at(i int) T { return o.slots[o.list[i]] }

// fresh puts the list right and returns its length.
func (o *ordered[T]) fresh(h *hierarchical) int {
	if o.epoch != h.epoch {
		for _, s := range o.list {
			o.slots[s].rescale(h)
		}
		slices.SortFunc(o.list, func(a, b uint32) int { return o.slots[a].key().place(o.slots[b].key()) })
		o.epoch = h.epoch
	}
	return len(o.list)
}

// members returns the list, sorted by name.
func (o *ordered[T]) members() []T {
	out := make([]T, len(o.list))
	for i := range o.list {
		out[i] = o.at(i)
	}
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(a.key().name, b.key().name) })
	return out
}

// search returns where k is, or would be, among list[from:to].
func (o *ordered[T]) search(k *rank, from, to int) int {
	for from < to {
		mid := int(uint(from+to) / 2)
		if o.at(mid).key().place(k) < 0 {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return from
}

// find returns where m is.
func (o *ordered[T]) find(m T) int {
	i := o.search(m.key(), 0, len(o.list))
	if i >= len(o.list) || o.at(i) != m {
		panic("allocator: order of a sorter is broken at " + m.key().name)
	}
	return i
}

// closed returns where the closed ones begin.
func (o *ordered[T]) closed() int {
	n := len(o.list)
	if n == 0 || !o.at(n-1).key().closed {
		return n
	}
	return sort.Search(n, func(i int) bool { return o.at(i).key().closed })
}

func (o *ordered[T]) insert(h *hierarchical, m T) {
	n := o.fresh(h)
	m.rescale(h)
	var slot uint32
	if k := len(o.spare); k > 0 {
		slot, o.spare = o.spare[k-1], o.spare[:k-1]
		o.slots[slot] = m
	} else {
		slot = uint32(len(o.slots))
		o.slots = append(o.slots, m)
	}
	o.list = slices.Insert(o.list, o.search(m.key(), 0, n), slot)
}

func (o *ordered[T]) remove(h *hierarchical, m T) {
	o.fresh(h)
	i := o.find(m)
	slot := o.list[i]
	var none T
	o.slots[slot] = none
	o.spare = append(o.spare, slot)
	o.list = slices.Delete(o.list, i, i+1)
}

// change applies f, which alters m's rank, and moves m to its new place.
func (o *ordered[T]) change(h *hierarchical, m T, f func()) {
	if o.epoch != h.epoch {
		f() // All are rescaled at the next use.
		return
	}
	i := o.find(m)
	slot := o.list[i]
	f()
	k := m.key()
	switch {
	case i > 0 && k.place(o.at(i-1).key()) < 0:
		to := o.search(k, 0, i)
		copy(o.list[to+1:i+1], o.list[to:i])
		o.list[to] = slot
	case i+1 < len(o.list) && k.place(o.at(i+1).key()) > 0:
		to := o.search(k, i+1, len(o.list))
		copy(o.list[i:], o.list[i+1:to])
		o.list[to-1] = slot
	}
}

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
	verdicts   *verdicts // nil: no constraints
}

func (l *leaf) key() *rank { return &l.rank }

func (l *leaf) rescale(h *hierarchical) { l.share = h.share(l.alloc) }

// share returns the dominant share: the largest part of any resource of the
// cluster that alloc makes up.
func (h *hierarchical) share(alloc vec) float64 {
	var most float64
	for i, a := range alloc {
		if a == 0 || h.excluded[i] || h.total.at(i) <= 0 {
			continue
		}
		most = max(most, float64(a)/float64(h.total[i]))
	}
	return most
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

// eachDrawn calls f for roles in the order that they draw, until it returns false.
func (h *hierarchical) eachDrawn(a *agent, roles []weighted, f func(*role) bool) {
	lots := h.lots[:0]
	for i, c := range roles {
		lots = append(lots, lot{h.draw(a, c.role.hash) / c.weight, i})
	}
	h.lots = lots
	drawLots(lots, func(i int) bool { return f(roles[i].role) })
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
