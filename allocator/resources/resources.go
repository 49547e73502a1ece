// Package resources is the algebra of resources: what an agent has, an offer
// gives and a task uses, added, subtracted, compared and converted as Apache
// Mesos does it (src/v1/resources.cpp, src/common/values.cpp).
//
// The main type is [Resources], an immutable value: every operation returns a
// new one, and the zero value is empty. Values may share memory and be used from
// several goroutines at once. Protobuf exists only at the edge, in [FromProto]
// and [Resources.Proto], which speak the format with a stack of reservations
// ("post reservation refinement"); see [ToPreRefinement] for the older one.
//
// Scalars are fixed point with three decimals, ranges are sorted disjoint
// intervals, sets are sorted. Items that may not merge stay apart: MOUNT and
// BLOCK disks, RAW disks with an id, persistent volumes, and whatever differs in
// its reservations, disk, provider or allocation role.
//
// It is imported by the allocator, by server/core and by agent/core.
package resources

import (
	"slices"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// fewItems is how many items most resources do not have more than.
const fewItems = 16

// Resources is an immutable collection of items of which no two can be merged.
// The order of items is that in which they were first added.
type Resources struct {
	// items is never written to once it is in a Resources; its capacity is never
	// grown into.
	items []Item
}

// Conversion says that Consumed turns into Converted.
type Conversion struct {
	Consumed  Resources
	Converted Resources
	// gone must not be contained in the result: the last copy of a shared
	// volume that is destroyed.
	gone Resources
}

// Len returns the number of items.
func (r Resources) Len() int { return len(r.items) }

// Empty reports whether there is nothing in r.
func (r Resources) Empty() bool { return len(r.items) == 0 }

// At returns the i-th item.
func (r Resources) At(i int) Item { return r.items[i] }

// Of returns the items as resources, merging what can be merged.
func Of(items ...Item) Resources {
	var b builder
	for _, it := range items {
		b.add(it)
	}
	return b.done()
}

// Add returns the sum of r and that.
func (r Resources) Add(that Resources) Resources {
	if len(that.items) == 0 {
		return r
	}
	if len(r.items) == 0 {
		return that
	}
	if len(that.items) > fewItems {
		b := builder{items: append(make([]Item, 0, len(r.items)+len(that.items)), r.items...)}
		for _, it := range that.items {
			b.add(it)
		}
		return b.done()
	}
	// Where each goes, to make room for no more than is needed. No two of that
	// merge, so that what is appended changes nothing for the others.
	var at [fewItems]int
	b := builder{items: r.items}
	more := 0
	for i := range that.items {
		at[i] = -1
		if !that.items[i].m.exclusive {
			at[i] = b.find(&that.items[i])
		}
		if at[i] < 0 {
			more++
		}
	}
	items := append(make([]Item, 0, len(r.items)+more), r.items...)
	for i := range that.items {
		if at[i] >= 0 {
			items[at[i]].merge(&that.items[i])
		} else {
			items = append(items, that.items[i])
		}
	}
	return Resources{items: items}
}

// Sub returns r without that. As in Mesos, what is not in r is silently left
// alone, and a scalar that would become negative disappears; use [Resources.SubChecked]
// where that would be an error.
func (r Resources) Sub(that Resources) Resources {
	if len(that.items) == 0 || len(r.items) == 0 {
		return r
	}
	b := builder{items: append(make([]Item, 0, len(r.items)), r.items...)}
	for i := range that.items {
		b.sub(&that.items[i])
	}
	return b.done()
}

// SubChecked returns r without that, and whether r contained that. If it did
// not, r is returned as it is.
func (r Resources) SubChecked(that Resources) (Resources, bool) {
	if !r.Contains(that) {
		return r, false
	}
	return r.Sub(that), true
}

// Contains reports whether every item of that is in r. Unlike Mesos's, items
// that cannot merge are counted: one MOUNT disk does not contain two of the
// same.
func (r Resources) Contains(that Resources) bool {
	if len(that.items) > 0 && len(r.items) == 0 {
		return false
	}
	if len(r.items) > manyItems && len(that.items) > manyItems/4 {
		return r.containsMany(that)
	}
	var used []int // indices in r of exclusive items that are matched already
	next := 0      // where it is expected: in the same order
	for i := range that.items {
		it := &that.items[i]
		if next = r.containing(it, next, used); next < 0 {
			return false
		}
		if it.exclusive() {
			used = append(used, next)
		}
		next++
	}
	return true
}

// containing returns which item contains it, but for those that are used, -1 if
// there is none. It begins with the one at from.
func (r Resources) containing(it *Item, from int, used []int) int {
	for range r.items {
		if from == len(r.items) {
			from = 0
		}
		if r.items[from].contains(it) && (!it.exclusive() || !slices.Contains(used, from)) {
			return from
		}
		from++
	}
	return -1
}

// containsMany is Contains by a builder.
func (r Resources) containsMany(that Resources) bool {
	b := builder{items: r.items}
	cloned := false
	for i := range that.items {
		it := &that.items[i]
		j := b.find(it)
		if j < 0 || !b.items[j].contains(it) {
			return false
		}
		if !it.exclusive() {
			continue
		}
		if !cloned {
			b.items, cloned = slices.Clone(r.items), true
		}
		b.items[j].reduce(it)
	}
	return true
}

// Equal reports whether r and that hold the same, in whatever order.
func (r Resources) Equal(that Resources) bool {
	return len(r.items) == len(that.items) && r.Contains(that) && that.Contains(r)
}

// ContainsQuantities reports whether r has at least the quantities: the sum of
// scalars of a name, the size of its sets, the width of its ranges.
func (r Resources) ContainsQuantities(q Quantities) bool {
	for _, want := range q.q {
		left := want.Milli
		for i := range r.items {
			if left <= 0 {
				break
			}
			if it := &r.items[i]; it.m.name == want.Name {
				left -= min(it.quantity(), left)
			}
		}
		if left > 0 {
			return false
		}
	}
	return true
}

// Count returns how many copies of the item r has: the count of a shared item,
// otherwise 1 or 0.
func (r Resources) Count(it Item) int {
	for i := range r.items {
		if r.items[i].equalValue(&it) {
			return max(1, int(r.items[i].copies))
		}
	}
	return 0
}

// Quantities returns the sums of the scalars by name.
func (r Resources) Quantities() Quantities {
	var q Quantities
	for i := range r.items {
		if it := &r.items[i]; it.m.typ == mesos.Value_SCALAR {
			q.add(it.m.name, it.milli)
		}
	}
	return q
}

// Scalar returns the sum of the scalars called name, in thousandths.
func (r Resources) Scalar(name string) int64 {
	var sum int64
	for i := range r.items {
		if it := &r.items[i]; it.m.typ == mesos.Value_SCALAR && it.m.name == name {
			sum += it.milli
		}
	}
	return sum
}

// CPUs returns the sum of "cpus".
func (r Resources) CPUs() float64 { return FromMilli(r.Scalar("cpus")) }

// Mem returns the sum of "mem", in megabytes.
func (r Resources) Mem() float64 { return FromMilli(r.Scalar("mem")) }

// Disk returns the sum of "disk", in megabytes.
func (r Resources) Disk() float64 { return FromMilli(r.Scalar("disk")) }

// GPUs returns the sum of "gpus".
func (r Resources) GPUs() float64 { return FromMilli(r.Scalar("gpus")) }

// Ports returns the intervals of "ports".
func (r Resources) Ports() []Range { return r.Ranges("ports") }

// Ranges returns the union of the ranges called name, sorted and disjoint.
func (r Resources) Ranges(name string) []Range {
	var sum []Range
	for i := range r.items {
		if it := &r.items[i]; it.m.typ == mesos.Value_RANGES && it.m.name == name {
			sum = addRanges(sum, it.v.ranges)
		}
	}
	return slices.Clone(sum)
}

// Set returns the union of the sets called name, sorted.
func (r Resources) Set(name string) []string {
	var sum []string
	for i := range r.items {
		if it := &r.items[i]; it.m.typ == mesos.Value_SET && it.m.name == name {
			sum = addSets(sum, it.v.set)
		}
	}
	return slices.Clone(sum)
}

// Names returns the names in r, sorted, each once.
func (r Resources) Names() []string {
	names := make([]string, 0, len(r.items))
	for i := range r.items {
		names = append(names, r.items[i].m.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// RoleResources are the resources of one role.
type RoleResources struct {
	Role      string
	Resources Resources
}

// Allocations returns r split by allocation role, sorted by role. Resources
// that are not allocated come under the role "".
func (r Resources) Allocations() []RoleResources {
	return r.split(func(it Item) (string, bool) { return it.role, true })
}

// EachAllocation calls f for each allocation role in r, sorted by role, with what
// is allocated to it, without the role.
func (r Resources) EachAllocation(f func(role string, part Resources)) {
	for i := range r.items {
		if r.items[i].role != r.items[0].role {
			for _, e := range r.Allocations() {
				f(e.Role, e.Resources.Unallocate())
			}
			return
		}
	}
	if len(r.items) > 0 {
		f(r.items[0].role, r.Unallocate())
	}
}

// Reservations returns what is reserved in r split by the role it is reserved
// for, sorted by role.
func (r Resources) Reservations() []RoleResources {
	return r.split(func(it Item) (string, bool) { return it.ReservationRole(), it.Reserved() })
}

func (r Resources) split(by func(Item) (string, bool)) []RoleResources {
	var out []RoleResources
	for _, it := range r.items {
		role, ok := by(it)
		if !ok {
			continue
		}
		i, found := slices.BinarySearchFunc(out, role, func(e RoleResources, role string) int {
			return strings.Compare(e.Role, role)
		})
		if !found {
			out = slices.Insert(out, i, RoleResources{Role: role})
		}
		// Items of r cannot merge, so they need no builder here.
		out[i].Resources.items = append(out[i].Resources.items, it)
	}
	for i := range out {
		out[i].Resources.items = slices.Clip(out[i].Resources.items)
	}
	return out
}

// Allocate returns r with the role as every item's allocation role.
func (r Resources) Allocate(role string) Resources {
	var b builder
	b.items = make([]Item, 0, len(r.items))
	mixed := false
	for _, it := range r.items {
		mixed = mixed || it.role != r.items[0].role
		it.role = role
		if mixed {
			b.add(it)
		} else {
			b.items = append(b.items, it)
		}
	}
	return b.done()
}

// Unallocate returns r without allocation roles.
func (r Resources) Unallocate() Resources {
	if !slices.ContainsFunc(r.items, func(it Item) bool { return it.role != "" }) {
		return r
	}
	return r.Allocate("")
}
