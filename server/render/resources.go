package render

import (
	"slices"
	"strconv"
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// The scalars that every resource object shows, in the order Mesos writes them.
var always = [...]string{"disk", "mem", "gpus", "cpus"}

// appendResources writes resources in the short form: one member a name, the
// four usual scalars always, other scalars as numbers, ranges and sets as text,
// revocable resources under a name of their own.
func appendResources(dst []byte, r resources.Resources) []byte {
	var sums [len(always)]int64
	others := false
	n := r.Len()
	for i := range n {
		it := r.At(i)
		k := -1
		if it.Type() == mesos.Value_SCALAR && !it.Revocable() {
			k = slices.Index(always[:], it.Name())
		}
		if k < 0 {
			others = true
			continue
		}
		// A shared volume counts once, however many copies of it are in use.
		sums[k] += it.Milli()
	}
	dst = append(dst, '{')
	for k, name := range always {
		if k > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), '"', ':')
		dst = appendMilli(dst, sums[k])
	}
	if others {
		dst = appendOtherResources(dst, r)
	}
	return append(dst, '}')
}

// other is what one further member of a resource object is made of.
type other struct {
	name  string
	typ   mesos.Value_Type
	items []resources.Item
}

func appendOtherResources(dst []byte, r resources.Resources) []byte {
	var list []other
	for i := range r.Len() {
		it := r.At(i)
		name := it.Name()
		if it.Revocable() {
			name += "_revocable"
		} else if it.Type() == mesos.Value_SCALAR && slices.Contains(always[:], name) {
			continue
		}
		at := slices.IndexFunc(list, func(o other) bool { return o.name == name && o.typ == it.Type() })
		if at < 0 {
			at = len(list)
			list = append(list, other{name: name, typ: it.Type()})
		}
		list[at].items = append(list[at].items, it)
	}
	slices.SortStableFunc(list, func(a, b other) int {
		if a.typ != b.typ {
			return int(a.typ) - int(b.typ) // scalars, ranges, sets
		}
		return strings.Compare(a.name, b.name)
	})
	for _, o := range list {
		dst = append(appendString(append(dst, ','), o.name), ':')
		dst = appendValues(dst, o)
	}
	return dst
}

func appendValues(dst []byte, o other) []byte {
	whole := resources.Of(o.items...)
	name := o.items[0].Name()
	switch o.typ {
	case mesos.Value_SCALAR:
		return appendMilli(dst, whole.Scalar(name))
	case mesos.Value_RANGES:
		dst = append(dst, '"')
		dst = appendRanges(dst, whole.Ranges(name))
		return append(dst, '"')
	default:
		return appendString(dst, "{"+strings.Join(whole.Set(name), ", ")+"}")
	}
}

func appendRanges(dst []byte, rs []resources.Range) []byte {
	dst = append(dst, '[')
	for i, r := range rs {
		if i > 0 {
			dst = append(dst, ',', ' ')
		}
		dst = strconv.AppendUint(dst, r.Begin, 10)
		dst = append(dst, '-')
		dst = strconv.AppendUint(dst, r.End, 10)
	}
	return append(dst, ']')
}

// appendQuantities writes the amounts of /roles: by name, no zeros filled in.
func appendQuantities(dst []byte, q quantities) []byte {
	o := open(dst)
	for _, e := range q {
		o.name(e.name)
		o.buf = appendMilli(o.buf, e.milli)
	}
	return o.close()
}

// quantities are amounts sorted by name, in thousandths.
type quantities []quantity

type quantity struct {
	name  string
	milli int64
}

func (q *quantities) add(name string, milli int64) {
	i, found := slices.BinarySearchFunc(*q, name, func(e quantity, name string) int {
		return strings.Compare(e.name, name)
	})
	if !found {
		*q = slices.Insert(*q, i, quantity{name: name})
	}
	(*q)[i].milli += milli
}

// addAll counts scalars by value, ranges by their width and sets by their size.
func (q *quantities) addAll(r resources.Resources) {
	for i := range r.Len() {
		it := r.At(i)
		switch it.Type() {
		case mesos.Value_SCALAR:
			q.add(it.Name(), it.Milli())
		case mesos.Value_RANGES:
			var width int64
			for _, rg := range it.AsResources().Ranges(it.Name()) {
				width += int64(rg.End - rg.Begin + 1)
			}
			q.add(it.Name(), width*1000)
		default:
			q.add(it.Name(), int64(len(it.AsResources().Set(it.Name())))*1000)
		}
	}
}
