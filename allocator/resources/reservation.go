package resources

import (
	"slices"

	mesos "clusterd/api/mesos/v1"
)

// PushReservation returns r with one more reservation on top of every item's
// stack. It must refine what is there.
func (r Resources) PushReservation(e *mesos.Resource_ReservationInfo) (Resources, error) {
	top := toReservation(e)
	var b builder
	for _, it := range r.items {
		it.m = it.m.with(func(m *meta) {
			m.reservations = append(slices.Clone(m.reservations), top)
		})
		if err := Validate(it.Proto()); err != nil {
			return Resources{}, err
		}
		b.add(it)
	}
	return b.done(), nil
}

// PopReservation returns r without the latest reservation of every item. All
// must be reserved.
func (r Resources) PopReservation() (Resources, error) {
	var b builder
	for _, it := range r.items {
		if !it.Reserved() {
			return Resources{}, invalidf("Resource '%s' is not reserved", it)
		}
		it.m = it.m.with(func(m *meta) {
			m.reservations = slices.Clip(m.reservations[:len(m.reservations)-1])
		})
		b.add(it)
	}
	return b.done(), nil
}

// ToUnreserved returns r without any reservations.
func (r Resources) ToUnreserved() Resources {
	var b builder
	for _, it := range r.items {
		b.add(it.unreserved())
	}
	return b.done()
}

func (it Item) unreserved() Item {
	if it.Reserved() {
		it.m = it.m.with(func(m *meta) { m.reservations = nil })
	}
	return it
}

// withReservations returns the item with the stack of another.
func (it Item) withReservations(of *Item) Item {
	if len(it.m.reservations) > 0 || len(of.m.reservations) > 0 {
		it.m = it.m.with(func(m *meta) { m.reservations = of.m.reservations })
	}
	return it
}

// Find returns resources of r that are as many as target, whatever they are
// reserved for: those of the target's own role first, then unreserved ones, then
// any. It reports false if there are not enough (Resources::find).
func (r Resources) Find(target Resources) (Resources, bool) {
	var sum builder
	for _, it := range target.items {
		found, ok := r.find(it)
		if !ok {
			return Resources{}, false
		}
		for _, e := range found.items {
			sum.add(e)
		}
	}
	return sum.done(), true
}

func (r Resources) find(target Item) (Resources, bool) {
	passes := []func(Item) bool{
		func(it Item) bool { return target.Reserved() && it.ReservationRole() == target.ReservationRole() },
		func(it Item) bool { return !it.Reserved() },
		func(Item) bool { return true },
	}
	if !target.Reserved() {
		passes = passes[1:]
	}
	// As in Mesos, a pass takes at most one whole item before the next pass
	// looks on: its loop ends with the first item that it took.
	var found builder
	total := r
	remaining := target.unreserved().AsResources()
	for _, pass := range passes {
		for _, it := range total.Filter(pass).items {
			bare := it.unreserved().AsResources()
			if bare.Contains(remaining) {
				for _, rest := range remaining.items {
					found.add(rest.withReservations(&it))
				}
				return found.done(), true
			}
			if remaining.Contains(bare) {
				found.add(it)
				total = total.Sub(it.AsResources())
				remaining = remaining.Sub(bare)
				break
			}
		}
	}
	return Resources{}, false
}

// ReservationAncestor returns what the stacks of the first items of a and b have
// in common, put on the unreserved a: where a reservation update passes through.
// Both must be the same but for their reservations and not empty.
func ReservationAncestor(a, b Resources) (Resources, error) {
	if a.Empty() || b.Empty() || !a.ToUnreserved().Equal(b.ToUnreserved()) {
		return Resources{}, invalidf("Resources '%s' and '%s' differ in more than their reservations", a, b)
	}
	x, y := a.items[0].m.reservations, b.items[0].m.reservations
	out := a.ToUnreserved()
	for i := 0; i < min(len(x), len(y)) && x[i].equal(y[i]); i++ {
		var err error
		if out, err = out.PushReservation(x[i].Proto()); err != nil {
			return Resources{}, err
		}
	}
	return out, nil
}

func (e Reservation) equal(o Reservation) bool {
	return e.Dynamic == o.Dynamic && e.Role == o.Role && e.HasPrincipal == o.HasPrincipal &&
		e.Principal == o.Principal && (e.Labels == nil) == (o.Labels == nil) && sameLabels(e.Labels, o.Labels)
}
