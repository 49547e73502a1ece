package resources

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
)

// Item is one entry of [Resources]: a value with everything that says what it
// may be merged with. It is immutable.
type Item struct {
	m      *meta
	v      *value // of ranges and sets, else nil
	role   string // allocation role, "" if none
	milli  int64  // of scalars
	copies int64  // of shared items, else 0
}

// value is the non-scalar part of an item. It is never written to.
type value struct {
	ranges []Range
	set    []string
}

// meta is what items must have in common to merge, apart from the allocation
// role. It is never written to, so that items share it.
type meta struct {
	name         string
	typ          mesos.Value_Type
	provider     string
	reservations []Reservation
	disk         *mesos.Resource_DiskInfo
	revocable    bool
	shared       bool

	// exclusive items never merge and are only subtracted whole.
	exclusive bool
	// key is the canonical form of all of the above but the disk's volume and
	// principal, which say how a disk is used, not what it is.
	key  string
	hash uint64
}

// Reservation is one entry of an item's stack of reservations.
type Reservation struct {
	Dynamic      bool
	Role         string
	HasPrincipal bool
	Principal    string
	// Labels is nil if there are none; it must not be written to.
	Labels *mesos.Labels
}

// plain holds the meta that nearly all items share.
var plain = plainMeta()

func plainMeta() map[string]*meta {
	out := make(map[string]*meta)
	for _, name := range []string{"cpus", "mem", "disk", "gpus", "ports"} {
		m := &meta{name: name, typ: mesos.Value_SCALAR}
		if name == "ports" {
			m.typ = mesos.Value_RANGES
		}
		m.key = m.makeKey()
		m.hash = hash(m.key)
		out[name] = m
	}
	return out
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64()
}

// seal computes what is derived, and returns the shared copy of m if there is
// one.
func (m *meta) seal() *meta {
	m.key = m.makeKey()
	if p := plain[m.name]; p != nil && p.key == m.key {
		return p
	}
	m.exclusive = m.disk != nil && !m.shared && exclusiveDisk(m.disk)
	m.hash = hash(m.key)
	return m
}

func (m *meta) makeKey() string {
	var b strings.Builder
	field := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	field(m.name)
	b.WriteByte('0' + byte(m.typ))
	if m.revocable {
		b.WriteByte('r')
	}
	if m.shared {
		b.WriteByte('s')
	}
	if m.provider != "" {
		b.WriteByte('p')
		field(m.provider)
	}
	for _, r := range m.reservations {
		b.WriteByte('R')
		if r.Dynamic {
			b.WriteByte('d')
		}
		field(r.Role)
		if r.HasPrincipal {
			b.WriteByte('p')
			field(r.Principal)
		}
		labelsKey(&b, field, r.Labels)
	}
	if m.disk != nil {
		diskKey(&b, field, m.disk)
	}
	return b.String()
}

func labelsKey(b *strings.Builder, field func(string), l *mesos.Labels) {
	if l == nil {
		return
	}
	// Labels compare as a multiset.
	keys := make([]string, 0, len(l.GetLabels()))
	for _, e := range l.GetLabels() {
		k := strconv.Itoa(len(e.GetKey())) + ":" + e.GetKey()
		if e.Value != nil {
			k += "=" + e.GetValue()
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b.WriteByte('l')
	for _, k := range keys {
		field(k)
	}
	b.WriteByte('.')
}

func diskKey(b *strings.Builder, field func(string), d *mesos.Resource_DiskInfo) {
	b.WriteByte('D')
	if p := d.GetPersistence(); p != nil {
		b.WriteByte('P')
		field(p.GetId())
	}
	s := d.GetSource()
	if s == nil {
		return
	}
	b.WriteByte('S')
	b.WriteByte('0' + byte(s.GetType()))
	optional := func(tag byte, v *string) {
		if v != nil {
			b.WriteByte(tag)
			field(*v)
		}
	}
	if s.Path != nil {
		b.WriteByte('a')
		optional('r', s.Path.Root)
	}
	if s.Mount != nil {
		b.WriteByte('m')
		optional('r', s.Mount.Root)
	}
	optional('v', s.Vendor)
	optional('i', s.Id)
	optional('f', s.Profile)
	labelsKey(b, field, s.Metadata)
}

func exclusiveDisk(d *mesos.Resource_DiskInfo) bool {
	if d.Persistence != nil {
		return true
	}
	switch s := d.GetSource(); s.GetType() {
	case mesos.Resource_DiskInfo_Source_MOUNT, mesos.Resource_DiskInfo_Source_BLOCK:
		return true
	case mesos.Resource_DiskInfo_Source_RAW:
		return s.Id != nil
	default:
		return false
	}
}

func (m *meta) equal(o *meta) bool {
	return m == o || m.hash == o.hash && m.key == o.key
}

// with returns a copy of m, changed by f.
func (m *meta) with(f func(*meta)) *meta {
	c := *m
	f(&c)
	return c.seal()
}

// Name returns the item's name, such as "cpus".
func (it Item) Name() string { return it.m.name }

// Type returns whether the item is a scalar, ranges or a set.
func (it Item) Type() mesos.Value_Type { return it.m.typ }

// Role returns the role that the item is allocated to, "" if it is not.
func (it Item) Role() string { return it.role }

// Milli returns a scalar's value in thousandths.
func (it Item) Milli() int64 { return it.milli }

// Copies returns the number of copies of a shared item, otherwise 1.
func (it Item) Copies() int { return max(1, int(it.copies)) }

// ProviderID returns the id of the item's resource provider, "" if it has none.
func (it Item) ProviderID() string { return it.m.provider }

// Reservations returns a copy of the item's stack of reservations, the latest
// last.
func (it Item) Reservations() []Reservation { return slices.Clone(it.m.reservations) }

// ReservationRole returns the role that the item is reserved for, "*" if it is
// not reserved.
func (it Item) ReservationRole() string {
	if n := len(it.m.reservations); n > 0 {
		return it.m.reservations[n-1].Role
	}
	return "*"
}

// Reserved reports whether the item is reserved for a role.
func (it Item) Reserved() bool { return len(it.m.reservations) > 0 }

// DynamicallyReserved reports whether the latest reservation is a dynamic one.
func (it Item) DynamicallyReserved() bool {
	n := len(it.m.reservations)
	return n > 0 && it.m.reservations[n-1].Dynamic
}

// Refined reports whether there is more than one reservation on the stack.
func (it Item) Refined() bool { return len(it.m.reservations) > 1 }

// Revocable reports whether the item may be taken away at any time.
func (it Item) Revocable() bool { return it.m.revocable }

// Shared reports whether the item may be given to several tasks at once.
func (it Item) Shared() bool { return it.m.shared }

// PersistentVolume reports whether the item is a persistent volume.
func (it Item) PersistentVolume() bool { return it.m.disk.GetPersistence() != nil }

// PersistenceID returns the id of a persistent volume, "" for others.
func (it Item) PersistenceID() string { return it.m.disk.GetPersistence().GetId() }

// DiskSource returns the type of the disk's source, UNKNOWN if it has none.
func (it Item) DiskSource() mesos.Resource_DiskInfo_Source_Type {
	return it.m.disk.GetSource().GetType()
}

// AllocatableTo reports whether a framework in the role may be given the item:
// it is unreserved, or reserved for the role or one of its ancestors.
func (it Item) AllocatableTo(role string) bool {
	if !it.Reserved() {
		return true
	}
	r := it.ReservationRole()
	return r == role || IsStrictSubrole(role, r)
}

// NeedsCheckpoint reports whether an agent has to keep the item on disk: it is
// dynamically reserved or a persistent volume, and no provider keeps it.
func (it Item) NeedsCheckpoint() bool {
	return it.m.provider == "" && (it.DynamicallyReserved() || it.PersistentVolume())
}

// AsResources returns the item alone.
func (it Item) AsResources() Resources { return Resources{items: []Item{it}} }

// Divisible reports whether a part of the item may be used on its own; MOUNT
// disks, persistent volumes and shared items are used whole.
func (it Item) Divisible() bool { return !it.m.exclusive && !it.m.shared }

func (it *Item) exclusive() bool { return it.m.exclusive }

func (it *Item) empty() bool {
	if it.m.shared && it.copies <= 0 {
		return true
	}
	switch it.m.typ {
	case mesos.Value_SCALAR:
		return it.milli <= 0
	case mesos.Value_RANGES:
		return len(it.v.ranges) == 0
	default:
		return len(it.v.set) == 0
	}
}

// quantity is the item's size in thousandths.
func (it *Item) quantity() int64 {
	switch it.m.typ {
	case mesos.Value_SCALAR:
		return it.milli
	case mesos.Value_RANGES:
		return rangesWidthMilli(it.v.ranges)
	default:
		return int64(len(it.v.set)) * 1000
	}
}

func (it *Item) like(o *Item) bool { return it.role == o.role && it.m.equal(o.m) }

// equalValue compares all but the number of copies.
func (it *Item) equalValue(o *Item) bool {
	if !it.like(o) {
		return false
	}
	switch it.m.typ {
	case mesos.Value_SCALAR:
		return it.milli == o.milli
	case mesos.Value_RANGES:
		return it.v == o.v || slices.Equal(it.v.ranges, o.v.ranges)
	default:
		return it.v == o.v || slices.Equal(it.v.set, o.v.set)
	}
}

// subtractable reports whether o can be subtracted. Items that are not exclusive
// can be added under the same condition.
func (it *Item) subtractable(o *Item) bool {
	if it.m.shared || it.m.exclusive {
		return it.equalValue(o)
	}
	return it.like(o)
}

func (it *Item) contains(o *Item) bool {
	if !it.subtractable(o) {
		return false
	}
	if it.m.shared {
		return it.copies >= o.copies
	}
	switch it.m.typ {
	case mesos.Value_SCALAR:
		return it.milli >= o.milli
	case mesos.Value_RANGES:
		return it.v == o.v || rangesContain(it.v.ranges, o.v.ranges)
	default:
		return it.v == o.v || setContains(it.v.set, o.v.set)
	}
}

// merge adds o, which must be subtractable and not exclusive.
func (it *Item) merge(o *Item) {
	if it.m.shared {
		it.copies += o.copies
		return
	}
	switch it.m.typ {
	case mesos.Value_SCALAR:
		it.milli += o.milli
	case mesos.Value_RANGES:
		it.v = &value{ranges: addRanges(it.v.ranges, o.v.ranges)}
	default:
		it.v = &value{set: addSets(it.v.set, o.v.set)}
	}
}

// reduce subtracts o, which must be subtractable.
func (it *Item) reduce(o *Item) {
	if it.m.shared {
		it.copies -= o.copies
		return
	}
	switch it.m.typ {
	case mesos.Value_SCALAR:
		it.milli = max(0, it.milli-o.milli)
	case mesos.Value_RANGES:
		it.v = &value{ranges: subRanges(it.v.ranges, o.v.ranges)}
	default:
		it.v = &value{set: subSets(it.v.set, o.v.set)}
	}
}
