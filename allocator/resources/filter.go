package resources

import (
	"slices"

	mesos "clusterd/api/mesos/v1"
)

// Filter returns the items for which keep is true. It does not allocate if that
// is all or none of them.
func (r Resources) Filter(keep func(Item) bool) Resources {
	n := 0
	for n < len(r.items) && keep(r.items[n]) {
		n++
	}
	if n == len(r.items) {
		return r
	}
	var few [fewItems]Item
	out := append(few[:0], r.items[:n]...)
	for _, it := range r.items[n+1:] {
		if keep(it) {
			out = append(out, it)
		}
	}
	if len(out) == 0 {
		return Resources{}
	}
	return Resources{items: slices.Clone(out)}
}

// Reserved returns what is reserved for exactly the role.
func (r Resources) Reserved(role string) Resources {
	return r.Filter(func(it Item) bool { return it.Reserved() && it.ReservationRole() == role })
}

// AnyReserved returns what is reserved for any role.
func (r Resources) AnyReserved() Resources { return r.Filter(Item.Reserved) }

// Unreserved returns what is not reserved.
func (r Resources) Unreserved() Resources {
	return r.Filter(func(it Item) bool { return !it.Reserved() })
}

// ReservedToSubtree returns what is reserved for the role or one below it.
func (r Resources) ReservedToSubtree(role string) Resources {
	return r.Filter(func(it Item) bool {
		return it.Reserved() && (it.ReservationRole() == role || IsStrictSubrole(it.ReservationRole(), role))
	})
}

// AllocatableTo returns what a framework in the role may be given.
func (r Resources) AllocatableTo(role string) Resources {
	return r.Filter(func(it Item) bool { return it.AllocatableTo(role) })
}

// Revocable returns what is revocable.
func (r Resources) Revocable() Resources { return r.Filter(Item.Revocable) }

// NonRevocable returns what is not revocable.
func (r Resources) NonRevocable() Resources {
	return r.Filter(func(it Item) bool { return !it.Revocable() })
}

// Shared returns what is shared.
func (r Resources) Shared() Resources { return r.Filter(Item.Shared) }

// NonShared returns what is not shared.
func (r Resources) NonShared() Resources {
	return r.Filter(func(it Item) bool { return !it.Shared() })
}

// PersistentVolumes returns the persistent volumes.
func (r Resources) PersistentVolumes() Resources { return r.Filter(Item.PersistentVolume) }

// DynamicallyReserved returns what is reserved dynamically.
func (r Resources) DynamicallyReserved() Resources { return r.Filter(Item.DynamicallyReserved) }

// Refined returns what has more than one reservation on its stack.
func (r Resources) Refined() Resources { return r.Filter(Item.Refined) }

// Scalars returns the scalars.
func (r Resources) Scalars() Resources {
	return r.Filter(func(it Item) bool { return it.m.typ == mesos.Value_SCALAR })
}

// Get returns what is called name.
func (r Resources) Get(name string) Resources {
	return r.Filter(func(it Item) bool { return it.m.name == name })
}

// OfRole returns what is allocated to the role.
func (r Resources) OfRole(role string) Resources {
	return r.Filter(func(it Item) bool { return it.role == role })
}

// FirstThose returns r with the items for which first is true before the others;
// within both the order stays.
func (r Resources) FirstThose(first func(Item) bool) Resources {
	ordered, seen := true, false
	for _, it := range r.items {
		if !first(it) {
			seen = true
		} else if seen {
			ordered = false
			break
		}
	}
	if ordered {
		return r
	}
	out := make([]Item, 0, len(r.items))
	for _, it := range r.items {
		if first(it) {
			out = append(out, it)
		}
	}
	for _, it := range r.items {
		if !first(it) {
			out = append(out, it)
		}
	}
	return Resources{items: out}
}
