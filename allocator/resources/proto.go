package resources

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// FromProto checks the resources and sums them up. It takes either format of
// reservations, and both at once where they agree. Empty resources are left
// out, repeated shared ones are counted.
//
// An allocation_info without a role counts as none.
func FromProto(rs []*mesos.Resource) (Resources, error) {
	if err := ValidateAll(rs); err != nil {
		return Resources{}, err
	}
	b := builder{items: make([]Item, 0, len(rs))}
	for _, r := range rs {
		b.add(toItem(r))
	}
	return b.done(), nil
}

// MustFromProto is FromProto for resources that are known to be valid; it
// panics if they are not.
func MustFromProto(rs []*mesos.Resource) Resources {
	r, err := FromProto(rs)
	if err != nil {
		panic(fmt.Sprintf("resources: %v", err))
	}
	return r
}

// toItem converts a valid resource.
func toItem(r *mesos.Resource) Item {
	it := Item{m: toMeta(r), role: r.GetAllocationInfo().GetRole()}
	switch r.GetType() {
	case mesos.Value_SCALAR:
		it.milli = ToMilli(r.GetScalar().GetValue())
	case mesos.Value_RANGES:
		rs := make([]Range, 0, len(r.GetRanges().GetRange()))
		for _, e := range r.GetRanges().GetRange() {
			rs = append(rs, Range{e.GetBegin(), e.GetEnd()})
		}
		it.v = &value{ranges: normalize(rs)}
	default:
		set := slices.Clone(r.GetSet().GetItem())
		slices.Sort(set)
		it.v = &value{set: slices.Compact(set)}
	}
	if it.m.shared {
		it.copies = 1
	}
	return it
}

func toMeta(r *mesos.Resource) *meta {
	if len(r.Reservations) == 0 && r.Disk == nil && r.Revocable == nil && r.Shared == nil &&
		r.ProviderId == nil && r.Reservation == nil && r.GetRole() == "*" {
		if p := plain[r.GetName()]; p != nil && p.typ == r.GetType() {
			return p
		}
	}
	m := &meta{
		name:      r.GetName(),
		typ:       r.GetType(),
		provider:  r.GetProviderId().GetValue(),
		revocable: r.Revocable != nil,
		shared:    r.Shared != nil,
	}
	if r.Disk != nil {
		m.disk = proto.CloneOf(r.Disk)
	}
	switch {
	case len(r.Reservations) > 0:
		m.reservations = make([]Reservation, 0, len(r.Reservations))
		for _, e := range r.Reservations {
			m.reservations = append(m.reservations, toReservation(e))
		}
	case r.Reservation != nil:
		e := toReservation(r.Reservation)
		e.Dynamic, e.Role = true, r.GetRole()
		m.reservations = []Reservation{e}
	case r.GetRole() != "*":
		m.reservations = []Reservation{{Role: r.GetRole()}}
	}
	return m.seal()
}

func toReservation(e *mesos.Resource_ReservationInfo) Reservation {
	r := Reservation{
		Dynamic:      e.GetType() == mesos.Resource_ReservationInfo_DYNAMIC,
		Role:         e.GetRole(),
		HasPrincipal: e.Principal != nil,
		Principal:    e.GetPrincipal(),
	}
	if e.Labels != nil {
		r.Labels = proto.CloneOf(e.Labels)
	}
	return r
}

// Proto returns the reservation as a message of its own.
func (e Reservation) Proto() *mesos.Resource_ReservationInfo {
	typ := mesos.Resource_ReservationInfo_STATIC
	if e.Dynamic {
		typ = mesos.Resource_ReservationInfo_DYNAMIC
	}
	r := &mesos.Resource_ReservationInfo{Type: &typ, Role: new(e.Role)}
	if e.HasPrincipal {
		r.Principal = new(e.Principal)
	}
	if e.Labels != nil {
		r.Labels = proto.CloneOf(e.Labels)
	}
	return r
}

// Proto returns r as messages, which the caller may change, in the format with
// a stack of reservations. A shared item appears once whatever its count, as in
// Mesos.
func (r Resources) Proto() []*mesos.Resource {
	if len(r.items) == 0 {
		return nil
	}
	out := make([]*mesos.Resource, len(r.items))
	for i, it := range r.items {
		out[i] = it.Proto()
	}
	return out
}

// Proto returns the item as a message; see [Resources.Proto].
func (it Item) Proto() *mesos.Resource {
	m := it.m
	r := it.bare()
	for _, e := range m.reservations {
		r.Reservations = append(r.Reservations, e.Proto())
	}
	if m.disk != nil {
		r.Disk = proto.CloneOf(m.disk)
	}
	if m.revocable {
		r.Revocable = &mesos.Resource_RevocableInfo{}
	}
	if m.shared {
		r.Shared = &mesos.Resource_SharedInfo{}
	}
	if m.provider != "" {
		r.ProviderId = &mesos.ResourceProviderID{Value: new(m.provider)}
	}
	return r
}

// scalarProto is all that nearly every message consists of, in one piece of
// memory.
type scalarProto struct {
	resource   mesos.Resource
	scalar     mesos.Value_Scalar
	allocation mesos.Resource_AllocationInfo
	name, role string
	typ        mesos.Value_Type
	value      float64
}

// bare returns the item as a message with its name, value and allocation role.
func (it Item) bare() *mesos.Resource {
	b := &scalarProto{name: it.m.name, role: it.role, typ: it.m.typ}
	r := &b.resource
	r.Name, r.Type = &b.name, &b.typ
	switch it.m.typ {
	case mesos.Value_SCALAR:
		b.value = FromMilli(it.milli)
		b.scalar.Value = &b.value
		r.Scalar = &b.scalar
	case mesos.Value_RANGES:
		rs := make([]*mesos.Value_Range, len(it.v.ranges))
		for i, e := range it.v.ranges {
			rs[i] = &mesos.Value_Range{Begin: new(e.Begin), End: new(e.End)}
		}
		r.Ranges = &mesos.Value_Ranges{Range: rs}
	default:
		r.Set = &mesos.Value_Set{Item: slices.Clone(it.v.set)}
	}
	if it.role != "" {
		b.allocation.Role = &b.role
		r.AllocationInfo = &b.allocation
	}
	return r
}
