package resources

import "slices"

// builder sums items up in a slice of its own.
//
// Most often the same items come in the same order, so that each is expected
// behind the one before it. If it is not there, looking through them is the
// fastest, for they are few as a rule. But what a client sends may be thousands
// of items of which no two merge, so that a builder that has looked at many keeps
// an index.
type builder struct {
	items []Item
	// next is where the next item is expected.
	next int
	// passed counts the items that were looked at in vain.
	passed int
	// index leads to the first item of a kind, chain from there on, -1 at the end.
	index map[kind]int32
	chain []int32
	holes bool // there are empty items
}

// manyItems is from when on an index may be worth while.
const manyItems = 64

// kind is what items must have in common to be summed or subtracted, but for
// what the hash does not tell.
type kind struct {
	hash  uint64
	role  string
	milli int64 // of items that must be equal
}

func (it *Item) kind() kind {
	k := kind{hash: it.m.hash, role: it.role}
	if it.m.shared || it.m.exclusive {
		k.milli = it.milli
	}
	return k
}

func (b *builder) makeIndex() {
	b.index = make(map[kind]int32, len(b.items))
	b.chain = make([]int32, 0, cap(b.items))
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
	b.chain = append(b.chain, head)
	b.index[k] = int32(i)
}

// find returns an item from which it can be subtracted, -1 if there is none.
func (b *builder) find(it *Item) int {
	var i int
	// To make an index takes as long as to pass all of the items some times.
	if b.index == nil && (len(b.items) <= manyItems || b.passed < 8*len(b.items)) {
		i = b.look(it)
	} else {
		i = b.search(it)
	}
	if i >= 0 {
		b.next = i + 1
	}
	return i
}

// look goes through the items, from where it is expected onwards.
func (b *builder) look(it *Item) int {
	i := b.next
	for range b.items {
		if i >= len(b.items) {
			i = 0
		}
		if e := &b.items[i]; e.subtractable(it) && !e.empty() {
			return i
		}
		b.passed++
		i++
	}
	return -1
}

// search asks the index.
func (b *builder) search(it *Item) int {
	if i := b.next; i < len(b.items) && b.items[i].subtractable(it) && !b.items[i].empty() {
		return i
	}
	if b.index == nil {
		b.makeIndex()
	}
	k := it.kind()
	head, ok := b.index[k]
	// Items that are used up need not be passed again.
	for ok && head >= 0 && b.items[head].empty() {
		head = b.chain[head]
		b.index[k] = head
	}
	for i := head; ok && i >= 0; i = b.chain[i] {
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
