package core

import (
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// operation is one whose status is still to be acknowledged by its framework.
type operation struct {
	op       *mesos.Operation
	interval time.Duration
	timer    *timer
}

// applyOperation changes what the agent has (Slave::applyOperation). The new
// resources are durable before the master hears of it; volumes are made, and
// removed, right after.
func (c *Core) applyOperation(m *clusterdv1.ApplyOperation) {
	uuid := string(m.GetOperationUuid())
	if uuid == "" || c.operations.has(uuid) {
		return // the master will hear of it by the resends
	}
	info := stripAllocation(m.GetOperation())
	op := &mesos.Operation{
		FrameworkId: m.GetFrameworkId(), AgentId: c.info.GetId(), Info: info,
		Uuid: &mesos.UUID{Value: m.GetOperationUuid()},
	}
	status := &mesos.OperationStatus{
		OperationId: m.GetOperation().GetId(),
		State:       mesos.OperationState_OPERATION_FINISHED.Enum(),
		Uuid:        &mesos.UUID{Value: c.newUUID()},
		AgentId:     c.info.GetId(),
	}
	total, _, err := c.total.Apply(info)
	if err != nil {
		// Master and agent disagree about what there is. Mesos's agent aborts.
		c.log(Error, "operation_failed", "operation", info.GetType().String(), "error", err.Error())
		status.State = mesos.OperationState_OPERATION_FAILED.Enum()
		status.Message = new(err.Error())
	} else {
		c.setTotal(total)
		c.log(Info, "operation_applied", "operation", info.GetType().String())
	}
	op.LatestStatus = status
	op.Statuses = []*mesos.OperationStatus{status}
	o := &operation{op: op}
	// Without an id nobody acknowledges: the master is told once, and learns the
	// rest from the checkpointed resources when the agent registers again.
	if m.GetOperation().GetId() == nil || m.GetFrameworkId() == nil {
		c.sendOperation(o)
		return
	}
	c.operations.put(uuid, o)
	c.persist(PutOperation{&clusterdv1.OperationRecord{Operation: op}})
	c.forwardOperation(o, updateRetryMin)
}

// stripAllocation drops the role of the offer that the resources came from: the
// agent's own resources are not allocated (protobuf::stripAllocationInfo).
func stripAllocation(op *mesos.Offer_Operation) *mesos.Offer_Operation {
	op = proto.CloneOf(op)
	strip := func(rs ...*mesos.Resource) {
		for _, r := range rs {
			if r != nil {
				r.AllocationInfo = nil
			}
		}
	}
	strip(op.GetReserve().GetResources()...)
	strip(op.GetReserve().GetSource()...)
	strip(op.GetUnreserve().GetResources()...)
	strip(op.GetCreate().GetVolumes()...)
	strip(op.GetDestroy().GetVolumes()...)
	strip(op.GetGrowVolume().GetVolume(), op.GetGrowVolume().GetAddition())
	strip(op.GetShrinkVolume().GetVolume())
	return op
}

func (c *Core) setTotal(total resources.Resources) {
	before := c.checkpointed
	c.total = total
	c.checkpointed = total.Filter(resources.Item.NeedsCheckpoint)
	if c.checkpointed.Equal(before) {
		return
	}
	c.persist(PutResources{&clusterdv1.ResourcesRecord{Resources: c.checkpointed.Proto()}})
	c.syncVolumes(before, c.checkpointed)
}

// syncVolumes makes and removes the directories of persistent volumes
// (Slave::syncCheckpointedResources).
func (c *Core) syncVolumes(before, after resources.Resources) {
	type volume struct {
		path  string
		mount bool
	}
	paths := func(rs resources.Resources) (out []volume, has map[string]bool) {
		has = map[string]bool{}
		for _, r := range rs.PersistentVolumes().Proto() {
			p, mount := volumePath(c.cfg.WorkDir, r)
			if !has[p] {
				out = append(out, volume{p, mount})
			}
			has[p] = true
		}
		return out, has
	}
	old, hadOld := paths(before)
	now, hasNow := paths(after)
	for _, v := range now {
		if !hadOld[v.path] {
			c.emit(MakeVolume{Path: v.path})
		}
	}
	for _, v := range old {
		if !hasNow[v.path] {
			c.emit(RemoveVolume{Path: v.path, KeepRoot: v.mount})
		}
	}
}

func (c *Core) sendOperation(o *operation) {
	c.sendMaster(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateOperation{
		UpdateOperation: &clusterdv1.UpdateOperation{
			FrameworkId: o.op.GetFrameworkId(), OperationUuid: o.op.GetUuid().GetValue(),
			Status: o.op.GetLatestStatus(), LatestStatus: o.op.GetLatestStatus(),
		},
	}})
}

func (c *Core) forwardOperation(o *operation, interval time.Duration) {
	c.sendOperation(o)
	o.interval = interval
	o.timer.stop()
	o.timer = c.after(interval, func() {
		if c.phase == running {
			c.forwardOperation(o, min(o.interval*2, updateRetryMax))
		}
	})
}

func (c *Core) pauseOperations() {
	for o := range c.operations.values() {
		o.timer.stop()
	}
}

func (c *Core) resumeOperations() {
	for o := range c.operations.values() {
		c.forwardOperation(o, updateRetryMin)
	}
}

func (c *Core) acknowledgeOperation(m *clusterdv1.AcknowledgeOperation) {
	uuid := string(m.GetOperationUuid())
	o, ok := c.operations.get(uuid)
	if !ok {
		return // it had no id, so that nothing is kept of it
	}
	if string(o.op.GetLatestStatus().GetUuid().GetValue()) != string(m.GetStatusUuid()) {
		c.log(Warn, "unexpected_operation_acknowledgement")
		return
	}
	o.timer.stop()
	c.operations.del(uuid)
	c.persist(DeleteOperation{uuid})
}
