package allocator

import (
	"slices"
	"sort"
	"strings"
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
