package core

import "iter"

// ordered is a map that remembers the order in which its keys came, so that
// walking it gives the same result every time. Deleting while walking is
// allowed; the zero value is empty.
type ordered[V any] struct {
	index map[string]int
	items []item[V]
}

type item[V any] struct {
	key  string
	val  V
	live bool
}

func (o *ordered[V]) get(key string) (V, bool) {
	if i, ok := o.index[key]; ok {
		return o.items[i].val, true
	}
	var zero V
	return zero, false
}

func (o *ordered[V]) has(key string) bool {
	_, ok := o.index[key]
	return ok
}

func (o *ordered[V]) len() int { return len(o.index) }

func (o *ordered[V]) put(key string, v V) {
	if i, ok := o.index[key]; ok {
		o.items[i].val = v
		return
	}
	if o.index == nil {
		o.index = make(map[string]int)
	}
	// Compact here and not in del, which may run while somebody walks.
	if len(o.items) > 32 && len(o.items) > 2*len(o.index) {
		kept := make([]item[V], 0, len(o.index)+1)
		for _, it := range o.items {
			if it.live {
				o.index[it.key] = len(kept)
				kept = append(kept, it)
			}
		}
		o.items = kept
	}
	o.index[key] = len(o.items)
	o.items = append(o.items, item[V]{key, v, true})
}

func (o *ordered[V]) del(key string) {
	i, ok := o.index[key]
	if !ok {
		return
	}
	delete(o.index, key)
	o.items[i] = item[V]{}
	if len(o.index) == 0 {
		o.items = nil
	}
}

// values walks what is there when it begins and not deleted meanwhile.
func (o *ordered[V]) values() iter.Seq[V] {
	return func(yield func(V) bool) {
		items := o.items
		for i := range items {
			if items[i].live && !yield(items[i].val) {
				return
			}
		}
	}
}
