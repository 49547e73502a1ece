package resources

import "slices"

// builder sums items up in a slice of its own.
//
// Resources are few, as a rule, and then looking through them is the fastest.
// But what a client sends may be thousands of items of which no two merge, so
// that a builder with many of them keeps an index.
type builder struct {
	items []Item
	// index leads to the first item of a kind, next from there on, -1 at the end.
	index map[kind]int32
	next  []int32
	holes bool // there are empty items
}

// manyItems is from when on there is an index.
const manyItems = 64

// kind is what items must have in common to be summed or subtracted.
type kind struct {
	key   string
	role  string
	milli int64 // of items that must be equal
}

func (it *Item) kind() kind {
	k := kind{key: it.m.key, role: it.role}
	if it.m.shared || it.m.exclusive {
		k.milli = it.milli
	}
	return k
}

func (b *builder) makeIndex() {
	b.index = make(map[kind]int32, len(b.items))
	b.next = make([]int32, 0, cap(b.items))
	for i := range b.items {
		b.link(i)
	}
}

func (b *builder) link(i int) {
	k := b.items[i].kind()
	head, ok := b.index[k]
	if !ok {
		head = -1
	}
	b.next = append(b.next, head)
	b.index[k] = int32(i)
}

// find returns an item from which it can be subtracted, -1 if there is none.
func (b *builder) find(it *Item) int {
	if b.index == nil && len(b.items) > manyItems {
		b.makeIndex()
	}
	if b.index == nil {
		for i := range b.items {
			if e := &b.items[i]; e.subtractable(it) && !e.empty() {
				return i
			}
		}
		return -1
	}
	k := it.kind()
	head, ok := b.index[k]
	// Items that are used up need not be passed again.
	for ok && head >= 0 && b.items[head].empty() {
		head = b.next[head]
		b.index[k] = head
	}
	for i := head; ok && i >= 0; i = b.next[i] {
		if b.items[i].subtractable(it) && !b.items[i].empty() {
			return int(i)
		}
	}
	return -1
}

func (b *builder) add(it Item) {
	if it.empty() {
		return
	}
	if !it.m.exclusive {
		if i := b.find(&it); i >= 0 {
			b.items[i].merge(&it)
			return
		}
	}
	b.items = append(b.items, it)
	if b.index != nil {
		b.link(len(b.items) - 1)
	}
}

// sub subtracts from an item that allows it. Mesos fills the gap of an item that
// becomes empty with the last one; here the order stays.
func (b *builder) sub(it *Item) {
	if it.empty() {
		return
	}
	if i := b.find(it); i >= 0 {
		b.items[i].reduce(it)
		b.holes = b.holes || b.items[i].empty()
	}
}

func (b *builder) done() Resources {
	if b.holes {
		b.items = slices.DeleteFunc(b.items, func(it Item) bool { return it.empty() })
	}
	if len(b.items) == 0 {
		return Resources{}
	}
	return Resources{items: slices.Clip(b.items)}
}
