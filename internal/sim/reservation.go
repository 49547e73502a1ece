package sim

import (
	"fmt"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// reservation is one that the framework asked for.
type reservation struct {
	label, agent, op string
	done, released   bool
	resource         *mesos.Resource
	// volume is the operation that makes a volume of it, if any.
	volume     string
	volumeDone bool
}

// operation takes the end of an operation and acknowledges it.
func (f *framework) operation(s *mesos.OperationStatus) {
	for _, r := range f.reserved {
		if s.GetState() != mesos.OperationState_OPERATION_FINISHED {
			continue
		}
		switch s.GetOperationId().GetValue() {
		case r.op:
			r.done = true
		case r.volume:
			r.volumeDone = true
		}
	}
	if s.Uuid != nil {
		f.call(&scheduler.Call{
			Type: scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS.Enum(),
			AcknowledgeOperationStatus: &scheduler.Call_AcknowledgeOperationStatus{
				AgentId: s.AgentId, OperationId: s.OperationId, Uuid: s.Uuid.GetValue(),
			},
		})
	}
}

// reserve sometimes reserves a bit of disk under a label of its own, or gives up
// what it has reserved.
func (f *framework) reserve(o *mesos.Offer, left resources.Resources) *mesos.Offer_Operation {
	if f.info.Roles == nil || f.quiet || f.w.rng.IntN(8) > 0 {
		return nil
	}
	for _, r := range f.reserved {
		if r.volume != "" {
			continue
		}
		if r.done && !r.released && r.agent == o.GetAgentId().GetValue() && f.w.rng.IntN(3) == 0 &&
			left.Contains(resources.MustFromProto([]*mesos.Resource{r.resource})) {
			return f.volume(r)
		}
		if r.done && !r.released && r.agent == o.GetAgentId().GetValue() && f.w.rng.IntN(2) == 0 &&
			left.Contains(resources.MustFromProto([]*mesos.Resource{r.resource})) {
			r.released = true
			return &mesos.Offer_Operation{
				Type:      mesos.Offer_Operation_UNRESERVE.Enum(),
				Unreserve: &mesos.Offer_Operation_Unreserve{Resources: []*mesos.Resource{clone(r.resource)}},
			}
		}
	}
	if len(f.reserved) > 12 {
		return nil
	}
	f.nextOp++
	op := fmt.Sprintf("f%d-op%d", f.index, f.nextOp)
	res := scalar("disk", 16, o)
	if !left.Contains(resources.MustFromProto([]*mesos.Resource{res})) {
		return nil
	}
	res.Reservations = []*mesos.Resource_ReservationInfo{{
		Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new(o.GetAllocationInfo().GetRole()),
		Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: new("reservation"), Value: &op}}},
	}}
	f.reserved = append(f.reserved, &reservation{label: op, agent: o.GetAgentId().GetValue(), op: op, resource: res})
	return &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_RESERVE.Enum(), Id: &mesos.OperationID{Value: &op},
		Reserve: &mesos.Offer_Operation_Reserve{Resources: []*mesos.Resource{clone(res)}},
	}
}

// volume makes a persistent volume of a reservation.
func (f *framework) volume(r *reservation) *mesos.Offer_Operation {
	f.nextOp++
	r.volume = fmt.Sprintf("f%d-op%d", f.index, f.nextOp)
	v := clone(r.resource)
	v.Disk = &mesos.Resource_DiskInfo{
		Persistence: &mesos.Resource_DiskInfo_Persistence{Id: &r.volume},
		Volume:      &mesos.Volume{ContainerPath: new("data"), Mode: mesos.Volume_RW.Enum()},
	}
	return &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_CREATE.Enum(), Id: &mesos.OperationID{Value: &r.volume},
		Create: &mesos.Offer_Operation_Create{Volumes: []*mesos.Resource{v}},
	}
}
