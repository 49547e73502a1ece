package resources

import (
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	mesos "clusterd/api/mesos/v1"
)

// ToPostRefinement changes a valid resource to the format with a stack of
// reservations, in which role and reservation are unset
// (convertResourceFormat in src/common/resources_utils.cpp).
func ToPostRefinement(r *mesos.Resource) {
	defer func() { r.Role, r.Reservation = nil, nil }()
	if len(r.Reservations) > 0 || r.GetRole() == "*" {
		return
	}
	e := &mesos.Resource_ReservationInfo{Type: mesos.Resource_ReservationInfo_STATIC.Enum()}
	if r.Reservation != nil {
		e = r.Reservation
		e.Type = mesos.Resource_ReservationInfo_DYNAMIC.Enum()
	}
	e.Role = new(r.GetRole())
	r.Reservations = []*mesos.Resource_ReservationInfo{e}
}

// ToPreRefinement changes a resource of the format with a stack to the older one
// with role and reservation, which frameworks without RESERVATION_REFINEMENT
// expect. It fails, changing nothing, if there is more than one reservation.
func ToPreRefinement(r *mesos.Resource) error {
	if len(r.Reservations) > 1 {
		return invalidf("Cannot downgrade resources containing refined reservations")
	}
	ToEndpoint(r)
	r.Reservations = nil
	return nil
}

// ToEndpoint changes a resource of the format with a stack to the one that
// operators are shown: both formats at once where both can say it.
func ToEndpoint(r *mesos.Resource) {
	switch len(r.Reservations) {
	case 0:
		r.Role = new("*")
	case 1:
		e := r.Reservations[0]
		if e.GetType() == mesos.Resource_ReservationInfo_DYNAMIC {
			r.Reservation = &mesos.Resource_ReservationInfo{Principal: e.Principal}
			if e.Labels != nil {
				r.Reservation.Labels = proto.CloneOf(e.Labels)
			}
		}
		r.Role = new(e.GetRole())
	}
}

// UpgradeMessage applies [ToPostRefinement] to every resource within m.
func UpgradeMessage(m proto.Message) {
	_ = walk(m.ProtoReflect(), func(r *mesos.Resource) error {
		ToPostRefinement(r)
		return nil
	})
}

// DowngradeMessage applies [ToPreRefinement] to every resource within m. If it
// fails, some of m has been changed.
func DowngradeMessage(m proto.Message) error {
	return walk(m.ProtoReflect(), ToPreRefinement)
}

// EndpointMessage applies [ToEndpoint] to every resource within m.
func EndpointMessage(m proto.Message) {
	_ = walk(m.ProtoReflect(), func(r *mesos.Resource) error {
		ToEndpoint(r)
		return nil
	})
}

// walk calls f for every resource within m.
func walk(m protoreflect.Message, f func(*mesos.Resource) error) error {
	if r, ok := m.Interface().(*mesos.Resource); ok {
		return f(r)
	}
	var err error
	for _, fd := range resourceFields(m.Descriptor()) {
		if !m.Has(fd) {
			continue
		}
		switch v := m.Get(fd); {
		case fd.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
				err = walk(e.Message(), f)
				return err == nil
			})
		case fd.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = walk(v.List().Get(i).Message(), f)
			}
		default:
			err = walk(v.Message(), f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fieldsCache holds, by protoreflect.FullName, the fields of a message that lead
// to a resource. It is a cache of what the descriptors say.
var fieldsCache sync.Map

func resourceFields(d protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	if v, ok := fieldsCache.Load(d.FullName()); ok {
		return v.([]protoreflect.FieldDescriptor)
	}
	var out []protoreflect.FieldDescriptor
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); leadsToResource(fd, map[protoreflect.FullName]bool{}) {
			out = append(out, fd)
		}
	}
	fieldsCache.Store(d.FullName(), out)
	return out
}

func leadsToResource(fd protoreflect.FieldDescriptor, seen map[protoreflect.FullName]bool) bool {
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	d := fd.Message()
	if d == nil || seen[d.FullName()] {
		return false
	}
	if d.FullName() == (*mesos.Resource)(nil).ProtoReflect().Descriptor().FullName() {
		return true
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		if leadsToResource(d.Fields().Get(i), seen) {
			return true
		}
	}
	return false
}

// ValidateAndUpgrade checks the resources in an operation that came from a
// client, and brings them to the format with a stack. It changes nothing if it
// fails (validateAndUpgradeResources in src/common/resources_utils.cpp).
func ValidateAndUpgrade(op *mesos.Offer_Operation) error {
	if err := validateOperation(op); err != nil {
		return err
	}
	UpgradeMessage(op)
	return nil
}

func validateOperation(op *mesos.Offer_Operation) error {
	absent := func(name, field string) error {
		return invalidf("%s offer operation must have the Offer.Operation.%s field set.", name, field)
	}
	all := func(lists ...[]*mesos.Resource) error {
		for _, l := range lists {
			if err := ValidateAll(l); err != nil {
				return err
			}
		}
		return nil
	}
	switch op.GetType() {
	case mesos.Offer_Operation_RESERVE:
		if op.Reserve == nil {
			return absent("A RESERVE", "reserve")
		}
		return all(op.Reserve.Resources, op.Reserve.Source)
	case mesos.Offer_Operation_UNRESERVE:
		if op.Unreserve == nil {
			return absent("An UNRESERVE", "unreserve")
		}
		return all(op.Unreserve.Resources)
	case mesos.Offer_Operation_CREATE:
		if op.Create == nil {
			return absent("A CREATE", "create")
		}
		return all(op.Create.Volumes)
	case mesos.Offer_Operation_DESTROY:
		if op.Destroy == nil {
			return absent("A DESTROY", "destroy")
		}
		return all(op.Destroy.Volumes)
	case mesos.Offer_Operation_GROW_VOLUME:
		if op.GrowVolume == nil {
			return absent("A GROW_VOLUME", "grow_volume")
		}
		if err := Validate(op.GrowVolume.GetVolume()); err != nil {
			return err
		}
		return Validate(op.GrowVolume.GetAddition())
	case mesos.Offer_Operation_SHRINK_VOLUME:
		if op.ShrinkVolume == nil {
			return absent("A SHRINK_VOLUME", "shrink_volume")
		}
		return Validate(op.ShrinkVolume.GetVolume())
	case mesos.Offer_Operation_LAUNCH:
		if op.Launch == nil {
			return absent("A LAUNCH", "launch")
		}
		return validateTasks(op.Launch.TaskInfos)
	case mesos.Offer_Operation_LAUNCH_GROUP:
		if op.LaunchGroup == nil {
			return absent("A LAUNCH_GROUP", "launch_group")
		}
		if err := all(op.LaunchGroup.GetExecutor().GetResources()); err != nil {
			return err
		}
		return validateTasks(op.LaunchGroup.GetTaskGroup().GetTasks())
	case mesos.Offer_Operation_CREATE_DISK:
		if op.CreateDisk == nil {
			return absent("A CREATE_DISK", "create_disk")
		}
		return Validate(op.CreateDisk.GetSource())
	case mesos.Offer_Operation_DESTROY_DISK:
		if op.DestroyDisk == nil {
			return absent("A DESTROY_DISK", "destroy_disk")
		}
		return Validate(op.DestroyDisk.GetSource())
	default:
		return invalidf("Unknown offer operation")
	}
}

func validateTasks(tasks []*mesos.TaskInfo) error {
	for _, t := range tasks {
		if err := ValidateAll(t.GetResources()); err != nil {
			return err
		}
		if err := ValidateAll(t.GetExecutor().GetResources()); err != nil {
			return err
		}
	}
	return nil
}
