package resources

import (
	"slices"

	mesos "clusterd/api/mesos/v1"
)

// Shrink returns of the scalars in r no more than target says of every name;
// names that target does not have are left out. Disks that cannot be split are
// taken whole or not at all (shrinkResources in src/common/resources_utils.cpp,
// but in the order of items, not a random one).
func (r Resources) Shrink(target Quantities) Resources {
	left := make(map[string]*int64, len(target.q))
	for _, e := range target.q {
		left[e.Name] = &e.Milli
	}
	named := r.Filter(func(it Item) bool { return it.m.typ == mesos.Value_SCALAR && left[it.m.name] != nil })
	return named.Cut(func(it Item) *int64 { return left[it.m.name] })
}

// Cut returns r with no more of its scalars than there is room for: room returns
// what is left of it, in thousandths, which Cut reduces, or nil where it is
// boundless. Disks that cannot be split are kept whole or not at all.
func (r Resources) Cut(room func(Item) *int64) Resources {
	var out []Item
	cut := false // out holds what is kept
	for i, it := range r.items {
		keep := true
		if left := room(it); left != nil {
			switch {
			case it.milli <= *left:
			case it.Divisible() && *left > 0:
				it.milli = *left
			default:
				keep = false
			}
			if keep {
				*left -= it.milli
			}
		}
		if !cut && keep && it.milli == r.items[i].milli {
			continue
		}
		if !cut {
			out, cut = append(make([]Item, 0, len(r.items)), r.items[:i]...), true
		}
		if keep {
			out = append(out, it)
		}
	}
	switch {
	case !cut:
		return r
	case len(out) == 0:
		return Resources{}
	}
	return Resources{items: slices.Clip(out)}
}
