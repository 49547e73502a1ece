package core

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// validateOperation checks an operation of an ACCEPT other than a launch, whose
// resources are upgraded and allocated (Mesos: src/master/validation.cpp,
// operation::validate).
func validateOperation(op *mesos.Offer_Operation, fw *framework, ag *agent) error {
	return validateOperationOf(op, requester{fw, fw.info.Principal}, ag)
}

// requester is who wants an operation done: a framework, or with none an operator.
type requester struct {
	fw *framework
	// principal must be that of what is reserved and created; nil means any.
	principal *string
}

func validateOperationOf(op *mesos.Offer_Operation, by requester, ag *agent) error {
	switch op.GetType() {
	case mesos.Offer_Operation_RESERVE:
		return validateReserve(op.Reserve, by, ag)
	case mesos.Offer_Operation_UNRESERVE:
		return validateUnreserve(op.Unreserve)
	case mesos.Offer_Operation_CREATE:
		return validateCreate(op.Create, by, ag)
	case mesos.Offer_Operation_DESTROY:
		return validateDestroy(op.Destroy, ag)
	case mesos.Offer_Operation_GROW_VOLUME:
		return validateGrow(op.GrowVolume, ag)
	case mesos.Offer_Operation_SHRINK_VOLUME:
		return validateShrink(op.ShrinkVolume, ag)
	case mesos.Offer_Operation_CREATE_DISK:
		return validateCreateDisk(op.CreateDisk)
	case mesos.Offer_Operation_DESTROY_DISK:
		return validateDestroyDisk(op.DestroyDisk)
	default:
		return invalidf("Unknown offer operation")
	}
}

func validateReserve(op *mesos.Offer_Operation_Reserve, by requester, ag *agent) error {
	if err := validateResources(op.Resources); err != nil {
		return within("Invalid resources: ", err)
	}
	if err := validateResources(op.Source); err != nil {
		return within("Invalid source: ", err)
	}
	if len(op.Source) > 0 {
		if err := validateReservationUpdate(op); err != nil {
			return err
		}
	}
	if err := validateSingleProvider(op.Resources); err != nil {
		return within("Invalid resources: ", err)
	}
	for _, r := range op.Resources {
		if !dynamicallyReserved(r) {
			return invalidf("Resource %s is not dynamically reserved", resources.Text(r))
		}
		if err := validateReservationCapability("Resource", "reserved", r, ag); err != nil {
			return err
		}
		if err := validateReservationPrincipal(r, by); err != nil {
			return err
		}
		if err := validateReservationRole(r, by); err != nil {
			return err
		}
	}
	if by.fw == nil {
		return nil
	}
	return within("Invalid reservation resources: ", validateSingleAllocation(op.Resources))
}

// validateReservationUpdate checks a RESERVE with a source: what is reserved one
// way is to be reserved another way.
func validateReservationUpdate(op *mesos.Offer_Operation_Reserve) error {
	uniform := func(rs []*mesos.Resource) error {
		if len(rs) == 0 {
			return invalidf("Resource cannot be empty")
		}
		for _, r := range rs[1:] {
			if !sameReservations(rs[0].Reservations, r.Reservations) {
				return invalidf("Mixed reservations are not supported%s", mustResources(rs))
			}
		}
		return nil
	}
	if err := uniform(op.Source); err != nil {
		return within("Invalid source: ", err)
	}
	if err := uniform(op.Resources); err != nil {
		return within("Invalid resources: ", err)
	}
	source, target := mustResources(op.Source).ToUnreserved(), mustResources(op.Resources).ToUnreserved()
	if !source.Equal(target) {
		return invalidf("Source and target resources should refer to identical resource quantities: %s vs. %s",
			source, target)
	}
	// Beyond Mesos: a static reservation is the agent's own, by its flags. An agent
	// that is made to forget it cannot start again.
	if !sameReservations(staticReservations(op.Source[0]), staticReservations(op.Resources[0])) {
		return invalidf("Static reservations cannot be changed")
	}
	return nil
}

func sameReservations(a, b []*mesos.Resource_ReservationInfo) bool {
	return slices.EqualFunc(a, b, func(x, y *mesos.Resource_ReservationInfo) bool { return proto.Equal(x, y) })
}

// staticReservations is the bottom of a stack, if it is static.
func staticReservations(r *mesos.Resource) []*mesos.Resource_ReservationInfo {
	if len(r.Reservations) > 0 && r.Reservations[0].GetType() == mesos.Resource_ReservationInfo_STATIC {
		return r.Reservations[:1]
	}
	return nil
}

// validateReservationRole checks that a framework reserves for a role of its own,
// and an operator nothing that is allocated.
func validateReservationRole(r *mesos.Resource, by requester) error {
	if by.fw == nil {
		if r.AllocationInfo != nil {
			return invalidf("A reserve operation was attempted with an allocated resource, but the operator " +
				"API only allows reservations to be made to unallocated resources")
		}
		return nil
	}
	role, allocated := reservationRole(r), r.GetAllocationInfo().GetRole()
	if allocated != role {
		return invalidf("A reserve operation was attempted for a resource with role '%s', but "+
			"the resource was allocated to role '%s'", role, allocated)
	}
	if !by.fw.hasRole(allocated) {
		return invalidf("A reserve operation was attempted for a resource allocated to role '%s', "+
			"but the framework only has roles '%s'", allocated, setText(by.fw.roles))
	}
	return nil
}

func validateReservationPrincipal(r *mesos.Resource, by requester) error {
	if by.principal == nil {
		return nil
	}
	principal, last := *by.principal, r.Reservations[len(r.Reservations)-1]
	if last.Principal == nil {
		return invalidf("A reserve operation was attempted by principal '%s', but there is a "+
			"reserved resource in the request with no principal set", principal)
	}
	if last.GetPrincipal() != principal {
		return invalidf("A reserve operation was attempted by authenticated principal '%s', which does not match a "+
			"reserved resource in the request with principal '%s'", principal, last.GetPrincipal())
	}
	return nil
}

// validateReservationCapability checks that the agent can keep such a reservation.
func validateReservationCapability(what, done string, r *mesos.Resource, ag *agent) error {
	role := reservationRole(r)
	if strings.Contains(role, "/") && !ag.can(mesos.AgentInfo_Capability_HIERARCHICAL_ROLE) {
		return fmt.Errorf("%s %s with reservation for hierarchical role '%s' cannot be %s on an agent "+
			"without HIERARCHICAL_ROLE capability", what, resources.Text(r), role, done)
	}
	if len(r.Reservations) > 1 && !ag.can(mesos.AgentInfo_Capability_RESERVATION_REFINEMENT) {
		return fmt.Errorf("%s %s with reservation refinement cannot be %s on an agent "+
			"without RESERVATION_REFINEMENT capability", what, resources.Text(r), done)
	}
	return nil
}

func validateUnreserve(op *mesos.Offer_Operation_Unreserve) error {
	if err := validateResources(op.Resources); err != nil {
		return within("Invalid resources: ", err)
	}
	if err := validateSingleProvider(op.Resources); err != nil {
		return within("Invalid resources: ", err)
	}
	for _, r := range op.Resources {
		if !dynamicallyReserved(r) {
			return invalidf("Resource %s is not dynamically reserved", resources.Text(r))
		}
		if r.GetDisk().GetPersistence() != nil {
			return invalidf("A dynamically reserved persistent volume %s cannot be unreserved directly. "+
				"Please destroy the persistent volume first then unreserve the resource", resources.Text(r))
		}
	}
	return nil
}

func validateCreate(op *mesos.Offer_Operation_Create, by requester, ag *agent) error {
	if err := validateResources(op.Volumes); err != nil {
		return within("Invalid resources: ", err)
	}
	if err := validateSingleProvider(op.Volumes); err != nil {
		return within("Invalid resources: ", err)
	}
	if err := validatePersistentVolumes(op.Volumes); err != nil {
		return within("Not a persistent volume: ", err)
	}
	volumes, err := resources.FromProto(op.Volumes)
	if err != nil {
		return within("Invalid resources: ", err)
	}
	if err := validateUniquePersistence(ag.total.PersistentVolumes().Add(volumes.Unallocate())); err != nil {
		return err
	}
	for _, v := range op.Volumes {
		if v.Shared != nil && by.fw != nil && !by.fw.can(mesos.FrameworkInfo_Capability_SHARED_RESOURCES) {
			return invalidf("Create volume operation for '%s' has been attempted by framework '%s' "+
				"with no SHARED_RESOURCES capability", resources.Text(v), by.fw.id)
		}
		if err := validateReservationCapability("Volume", "created", v, ag); err != nil {
			return err
		}
		if err := validateVolumePrincipal(v, by); err != nil {
			return err
		}
	}
	if by.fw == nil {
		return nil
	}
	return within("Invalid volume resources: ", validateSingleAllocation(op.Volumes))
}

func validateVolumePrincipal(v *mesos.Resource, by requester) error {
	if by.principal == nil {
		return nil
	}
	principal, p := *by.principal, v.Disk.Persistence
	if p.Principal == nil {
		return invalidf("Create volume operation attempted by principal '%s', but there is a volume in the "+
			"operation with no principal set in 'disk.persistence'", principal)
	}
	if p.GetPrincipal() != principal {
		return invalidf("Create volume operation attempted by authenticated principal '%s', which does not match "+
			"a volume in the operation with principal '%s' set in 'disk.persistence'", principal, p.GetPrincipal())
	}
	return nil
}

func validateDestroy(op *mesos.Offer_Operation_Destroy, ag *agent) error {
	if err := validateResources(op.Volumes); err != nil {
		return within("Invalid resources: ", err)
	}
	if err := validateSingleProvider(op.Volumes); err != nil {
		return within("Invalid resources: ", err)
	}
	if err := validatePersistentVolumes(op.Volumes); err != nil {
		return within("Not a persistent volume: ", err)
	}
	volumes, err := resources.FromProto(op.Volumes)
	if err != nil {
		return within("Invalid resources: ", err)
	}
	volumes = volumes.Unallocate()
	used := ag.used.Unallocate()
	for i := range volumes.Len() {
		it := volumes.At(i)
		if it.ProviderID() == "" && !ag.total.Contains(it.AsResources()) {
			return invalidf("Persistent volumes not found")
		}
	}
	for i := range volumes.Len() {
		if used.Contains(volumes.At(i).AsResources()) {
			return invalidf("Persistent volumes in use")
		}
	}
	return nil
}

func validateGrow(op *mesos.Offer_Operation_GrowVolume, ag *agent) error {
	volume, addition := op.GetVolume(), op.GetAddition()
	if err := resources.Validate(volume); err != nil {
		return within("Invalid resource in the 'GrowVolume.volume' field: ", err)
	}
	if err := resources.Validate(addition); err != nil {
		return within("Invalid resource in the 'GrowVolume.addition' field: ", err)
	}
	if resources.ToMilli(addition.GetScalar().GetValue()) <= 0 {
		return invalidf("The size of 'GrowVolume.addition' field must be greater than zero")
	}
	if volume.ProviderId != nil {
		return invalidf("Growing a volume from a resource provider is not supported")
	}
	if err := validatePersistentVolumes([]*mesos.Resource{volume}); err != nil {
		return within("Invalid persistent volume in the 'GrowVolume.volume' field: ", err)
	}
	if volume.Shared != nil {
		return invalidf("Growing a shared persistent volume is not supported")
	}
	bare := proto.CloneOf(volume)
	if bare.Disk.Source != nil {
		bare.Disk.Persistence, bare.Disk.Volume = nil, nil
	} else {
		bare.Disk = nil
	}
	if sum, err := resources.FromProto([]*mesos.Resource{bare, addition}); err != nil || sum.Len() != 1 {
		return invalidf("Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields")
	}
	if !ag.can(mesos.AgentInfo_Capability_RESIZE_VOLUME) {
		return invalidf("Volume %s cannot be grown on an agent without RESIZE_VOLUME capability", resources.Text(volume))
	}
	return nil
}

func validateShrink(op *mesos.Offer_Operation_ShrinkVolume, ag *agent) error {
	volume := op.GetVolume()
	if err := resources.Validate(volume); err != nil {
		return within("Invalid resource in the 'ShrinkVolume.volume' field: ", err)
	}
	subtract := op.GetSubtract().GetValue()
	if err := validateScalarInput(subtract); err != nil || resources.ToMilli(subtract) <= 0 {
		return invalidf("Value of 'ShrinkVolume.subtract' must be greater than zero")
	}
	if resources.ToMilli(volume.GetScalar().GetValue()) <= resources.ToMilli(subtract) {
		return invalidf("Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'")
	}
	if volume.ProviderId != nil {
		return invalidf("Shrinking a volume from a resource provider is not supported")
	}
	if volume.GetDisk().GetSource().GetType() == mesos.Resource_DiskInfo_Source_MOUNT {
		return invalidf("Shrinking a volume on a MOUNT disk is not supported")
	}
	if err := validatePersistentVolumes([]*mesos.Resource{volume}); err != nil {
		return within("Invalid persistent volume in the 'ShrinkVolume.volume' field: ", err)
	}
	if volume.Shared != nil {
		return invalidf("Shrinking a shared persistent volume is not supported")
	}
	if !ag.can(mesos.AgentInfo_Capability_RESIZE_VOLUME) {
		return invalidf("Volume %s cannot be shrunk on an agent without RESIZE_VOLUME capability", resources.Text(volume))
	}
	return nil
}

func validateCreateDisk(op *mesos.Offer_Operation_CreateDisk) error {
	source := op.GetSource()
	if err := validateResources([]*mesos.Resource{source}); err != nil {
		return within("Invalid resource: ", err)
	}
	if source.ProviderId == nil {
		return invalidf("'source' is not managed by a resource provider")
	}
	if source.GetDisk().GetSource().GetType() != mesos.Resource_DiskInfo_Source_RAW {
		return invalidf("'source' is not a RAW disk resource")
	}
	if t := op.GetTargetType(); t != mesos.Resource_DiskInfo_Source_MOUNT && t != mesos.Resource_DiskInfo_Source_BLOCK {
		return invalidf("'target_type' is neither MOUNT or BLOCK")
	}
	profile := source.Disk.Source.Profile != nil
	if profile && op.TargetProfile != nil {
		return invalidf("'target_profile' must not be set when 'source' has a profile")
	}
	if !profile && op.TargetProfile == nil {
		return invalidf("'target_profile' must be set when 'source' has no profile")
	}
	return nil
}

func validateDestroyDisk(op *mesos.Offer_Operation_DestroyDisk) error {
	source := op.GetSource()
	if err := validateResources([]*mesos.Resource{source}); err != nil {
		return within("Invalid resource: ", err)
	}
	if source.ProviderId == nil {
		return invalidf("'source' is not managed by a resource provider")
	}
	switch source.GetDisk().GetSource().GetType() {
	case mesos.Resource_DiskInfo_Source_MOUNT, mesos.Resource_DiskInfo_Source_BLOCK, mesos.Resource_DiskInfo_Source_RAW:
	default:
		return invalidf("'source' is neither a MOUNT, BLOCK or RAW disk resource")
	}
	if source.Disk.Source.Id == nil {
		return invalidf("'source' is not backed by a CSI volume")
	}
	if source.Disk.Persistence != nil {
		return invalidf("A disk resource containing a persistent volume %s cannot be destroyed directly. "+
			"Please destroy the persistent volume first then destroy the disk resource", resources.Text(source))
	}
	return nil
}
