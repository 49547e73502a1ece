package resources

import (
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// Conversions returns what an offer operation turns into what
// (getResourceConversions in src/common/resources_utils.cpp). Launches and
// CREATE_DISK and DESTROY_DISK convert nothing here and are refused.
func Conversions(op *mesos.Offer_Operation) ([]Conversion, error) {
	switch op.GetType() {
	case mesos.Offer_Operation_RESERVE:
		return reserve(op.GetReserve())
	case mesos.Offer_Operation_UNRESERVE:
		return each(op.GetUnreserve().GetResources(), func(it Item) (Conversion, error) {
			reserved := it.AsResources()
			popped, err := reserved.PopReservation()
			return Conversion{Consumed: reserved, Converted: popped}, err
		})
	case mesos.Offer_Operation_CREATE:
		return each(op.GetCreate().GetVolumes(), func(it Item) (Conversion, error) {
			return Conversion{Consumed: it.stripped().AsResources(), Converted: it.AsResources()}, nil
		})
	case mesos.Offer_Operation_DESTROY:
		return each(op.GetDestroy().GetVolumes(), func(it Item) (Conversion, error) {
			volume := it.AsResources()
			return Conversion{Consumed: volume, Converted: it.stripped().AsResources(), gone: volume}, nil
		})
	case mesos.Offer_Operation_GROW_VOLUME:
		return grow(op.GetGrowVolume())
	case mesos.Offer_Operation_SHRINK_VOLUME:
		return shrink(op.GetShrinkVolume())
	case mesos.Offer_Operation_UNKNOWN:
		return nil, invalidf("Unknown operation")
	default:
		return nil, invalidf("Operation not supported")
	}
}

func each(rs []*mesos.Resource, f func(Item) (Conversion, error)) ([]Conversion, error) {
	var out []Conversion
	for _, r := range rs {
		if err := Validate(r); err != nil {
			return nil, err
		}
		c, err := f(toItem(r))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func reserve(op *mesos.Offer_Operation_Reserve) ([]Conversion, error) {
	reserved, err := FromProto(op.GetResources())
	if err != nil {
		return nil, err
	}
	var consumed Resources
	if len(op.GetSource()) > 0 {
		consumed, err = FromProto(op.GetSource())
	} else {
		consumed, err = reserved.PopReservation()
	}
	if err != nil {
		return nil, err
	}
	return []Conversion{{Consumed: consumed, Converted: reserved}}, nil
}

func grow(op *mesos.Offer_Operation_GrowVolume) ([]Conversion, error) {
	volume, err := resizable(op.GetVolume())
	if err != nil {
		return nil, err
	}
	if err := Validate(op.GetAddition()); err != nil {
		return nil, err
	}
	addition := toItem(op.GetAddition())
	if addition.m.typ != mesos.Value_SCALAR {
		return nil, invalidf("Invalid scalar resource")
	}
	grown := volume
	grown.milli += addition.milli
	return []Conversion{{Consumed: Of(volume, addition), Converted: Of(grown)}}, nil
}

func shrink(op *mesos.Offer_Operation_ShrinkVolume) ([]Conversion, error) {
	volume, err := resizable(op.GetVolume())
	if err != nil {
		return nil, err
	}
	if err := checkScalar(op.GetSubtract().GetValue()); err != nil {
		return nil, err
	}
	freed := volume.stripped()
	freed.milli = ToMilli(op.GetSubtract().GetValue())
	shrunk := volume
	shrunk.milli -= freed.milli
	if shrunk.milli < 0 {
		return nil, invalidf("Cannot shrink '%s' by more than it has", volume)
	}
	return []Conversion{{Consumed: Of(volume), Converted: Of(shrunk, freed)}}, nil
}

func resizable(r *mesos.Resource) (Item, error) {
	if err := Validate(r); err != nil {
		return Item{}, err
	}
	it := toItem(r)
	if it.m.provider != "" {
		return Item{}, invalidf("Operation not supported for resource provider")
	}
	if it.m.typ != mesos.Value_SCALAR {
		return Item{}, invalidf("Invalid scalar resource")
	}
	return it, nil
}

// stripped returns the disk that a persistent volume is made of.
func (it Item) stripped() Item {
	it.m = it.m.with(func(m *meta) {
		m.shared = false
		if m.disk.GetSource() == nil {
			m.disk = nil
			return
		}
		m.disk = proto.CloneOf(m.disk)
		m.disk.Persistence, m.disk.Volume = nil, nil
	})
	it.copies = 0
	return it
}

// Convert applies the conversions one after the other. It fails, and names what
// is missing, if r does not contain what one of them consumes.
func (r Resources) Convert(cs ...Conversion) (Resources, error) {
	for _, c := range cs {
		left, ok := r.SubChecked(c.Consumed)
		if !ok {
			return Resources{}, invalidf("%s does not contain %s", r, c.Consumed)
		}
		r = left.Add(c.Converted)
		if !c.gone.Empty() && r.Contains(c.gone) {
			return Resources{}, invalidf("Persistent volume %s cannot be removed due to additional shared copies", c.gone)
		}
	}
	return r, nil
}

// Apply returns r after the operation, and the conversions that it consists of.
// The amounts of resources do not change by it.
func (r Resources) Apply(op *mesos.Offer_Operation) (Resources, []Conversion, error) {
	cs, err := Conversions(op)
	if err != nil {
		return Resources{}, nil, invalidf("Cannot get conversions: %s", err)
	}
	out, err := r.Convert(cs...)
	if err != nil {
		return Resources{}, nil, err
	}
	// RESERVE with a source is the one operation that could say otherwise.
	for _, c := range cs {
		if !c.Consumed.ToUnreserved().sameAmounts(c.Converted.ToUnreserved()) {
			return Resources{}, nil, invalidf("%s cannot be converted to %s: the amounts differ", c.Consumed, c.Converted)
		}
	}
	return out, cs, nil
}

// sameAmounts compares scalars by sum and the rest by value, of each name.
func (r Resources) sameAmounts(that Resources) bool {
	if !r.Quantities().Equal(that.Quantities()) {
		return false
	}
	bare := func(rs Resources) Resources {
		return rs.Filter(func(it Item) bool { return it.m.typ != mesos.Value_SCALAR }).Unallocate()
	}
	return bare(r).Equal(bare(that))
}

// ApplyCheckpointed returns an agent's resources as its flags give them, with the
// dynamic reservations and persistent volumes that it has checkpointed put in
// (applyCheckpointedResources in src/common/resources_utils.cpp).
func (r Resources) ApplyCheckpointed(checkpointed Resources) (Resources, error) {
	for _, it := range checkpointed.items {
		if !it.NeedsCheckpoint() {
			return Resources{}, invalidf("Unexpected checkpointed resources %s", it)
		}
		from := it
		if it.DynamicallyReserved() {
			// Flags give static reservations only.
			from.m = from.m.with(func(m *meta) {
				if m.reservations[0].Dynamic {
					m.reservations = nil
				} else {
					m.reservations = m.reservations[:1:1]
				}
			})
		}
		if it.PersistentVolume() {
			from = from.stripped()
		}
		left, ok := r.SubChecked(from.AsResources())
		if !ok {
			return Resources{}, invalidf("Incompatible agent resources: %s does not contain %s", r, from)
		}
		r = left.Add(it.AsResources())
	}
	return r, nil
}
