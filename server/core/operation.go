package core

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// operation is an operation that an agent has been asked to do. Its record is
// replaced when it changes.
type operation struct {
	*Operation
	fw   *framework // nil once the framework has ended, or is not known
	ag   *agent
	held bool // Consumed is in use until it ends
}

// terminalOperation reports whether an operation in this state has ended.
func terminalOperation(s mesos.OperationState) bool {
	switch s {
	case mesos.OperationState_OPERATION_FINISHED, mesos.OperationState_OPERATION_FAILED,
		mesos.OperationState_OPERATION_ERROR, mesos.OperationState_OPERATION_DROPPED,
		mesos.OperationState_OPERATION_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

// operationResources lists the resources within an operation, launches apart.
func operationResources(op *mesos.Offer_Operation) [][]*mesos.Resource {
	one := func(rs ...*mesos.Resource) [][]*mesos.Resource { return [][]*mesos.Resource{rs} }
	switch op.GetType() {
	case mesos.Offer_Operation_RESERVE:
		return [][]*mesos.Resource{op.GetReserve().GetResources(), op.GetReserve().GetSource()}
	case mesos.Offer_Operation_UNRESERVE:
		return [][]*mesos.Resource{op.GetUnreserve().GetResources()}
	case mesos.Offer_Operation_CREATE:
		return [][]*mesos.Resource{op.GetCreate().GetVolumes()}
	case mesos.Offer_Operation_DESTROY:
		return [][]*mesos.Resource{op.GetDestroy().GetVolumes()}
	case mesos.Offer_Operation_GROW_VOLUME:
		return one(op.GetGrowVolume().GetVolume(), op.GetGrowVolume().GetAddition())
	case mesos.Offer_Operation_SHRINK_VOLUME:
		return one(op.GetShrinkVolume().GetVolume())
	case mesos.Offer_Operation_CREATE_DISK:
		return one(op.GetCreateDisk().GetSource())
	case mesos.Offer_Operation_DESTROY_DISK:
		return one(op.GetDestroyDisk().GetSource())
	default:
		return nil
	}
}

// allocateOperation gives an operation's resources the role of its offers.
func allocateOperation(op *mesos.Offer_Operation, role string) {
	allocateTo(role, operationResources(op)...)
	tasks, _ := launched(op)
	for _, t := range tasks {
		allocateTo(role, t.Resources, t.GetExecutor().GetResources())
	}
	allocateTo(role, op.GetLaunchGroup().GetExecutor().GetResources())
}

// providerOf names the resource provider that an operation concerns; empty for
// the agent itself.
func providerOf(op *mesos.Offer_Operation) string {
	for _, rs := range operationResources(op) {
		for _, r := range rs {
			if id := r.GetProviderId().GetValue(); id != "" {
				return id
			}
		}
	}
	return ""
}

// dropOperation tells the framework, if it gave the operation an id, that it was
// not done. Despite its name in Mesos the state is ERROR (Master::drop).
func (c *Core) dropOperation(fw *framework, op *mesos.Offer_Operation, message string) {
	c.log(Warn, "operation_dropped", "framework_id", fw.id, "type", op.GetType().String(), "error", message)
	c.countOperation(op, mesos.OperationState_OPERATION_ERROR)
	if op.Id == nil {
		return
	}
	c.sendOperation(fw, &mesos.OperationStatus{
		OperationId: op.Id,
		State:       mesos.OperationState_OPERATION_ERROR.Enum(),
		Message:     &message,
	})
}

func (c *Core) countOperation(op *mesos.Offer_Operation, state mesos.OperationState) {
	if !terminalOperation(state) {
		return
	}
	name := lower(state.String()[len("OPERATION_"):])
	c.count("master/operations/" + name)
	c.count("master/operations/" + lower(op.GetType().String()) + "/" + name)
}

func (c *Core) sendOperation(fw *framework, s *mesos.OperationStatus) {
	c.sendEvent(fw, &scheduler.Event{
		Type:                  scheduler.Event_UPDATE_OPERATION_STATUS.Enum(),
		UpdateOperationStatus: &scheduler.Event_UpdateOperationStatus{Status: s},
	})
}

// convert does a RESERVE, UNRESERVE, CREATE or DESTROY: it takes effect in the
// master at once, the agent follows.
func (a *acceptance) convert(op *mesos.Offer_Operation) {
	c := a.c
	if err := a.validate(op); err != nil {
		c.dropOperation(a.fw, op, err.Error())
		return
	}
	if op.GetType() == mesos.Offer_Operation_DESTROY {
		a.rescindVolumes(op.Destroy.Volumes)
	}
	conversions, err := resources.Conversions(op)
	if err != nil {
		c.dropOperation(a.fw, op, err.Error())
		return
	}
	remaining, err := a.remaining.Convert(conversions...)
	if err != nil {
		c.dropOperation(a.fw, op, err.Error())
		return
	}
	if !a.apply(op, conversions) {
		return
	}
	a.remaining = remaining
	if t := op.GetType(); t == mesos.Offer_Operation_CREATE || t == mesos.Offer_Operation_DESTROY {
		a.shared = remaining.Shared()
	}
}

// validate checks an operation, says on which agent if something is wrong, and whether the
// framework may do it.
func (a *acceptance) validate(op *mesos.Offer_Operation) error {
	if err := validateOperation(op, a.fw, a.ag); err != nil {
		return fmt.Errorf("%w; on agent %s", err, a.ag)
	}
	if id := op.GetId().GetValue(); op.Id != nil {
		if _, known := a.fw.operationIDs[id]; known {
			return invalidf("Operation has duplicate ID: %s; on agent %s", id, a.ag)
		}
	}
	return a.c.authorizeOperation(a.fw, op)
}

// rescindVolumes takes back the offers that hold a (shared) volume that is about
// to be destroyed.
func (a *acceptance) rescindVolumes(volumes []*mesos.Resource) {
	doomed := mustResources(volumes).Unallocate()
	for _, o := range a.ag.offers.Values() {
		if holdsAny(o.Resources.Unallocate(), doomed) {
			a.c.rescind(o)
		}
	}
}

// resize does a GROW_VOLUME or SHRINK_VOLUME. Nothing in the same ACCEPT can use
// what comes out.
func (a *acceptance) resize(op *mesos.Offer_Operation) {
	c := a.c
	err := a.validate(op)
	var conversions []resources.Conversion
	if err == nil {
		conversions, err = resources.Conversions(op)
	}
	if err != nil {
		c.dropOperation(a.fw, op, err.Error())
		return
	}
	for _, cv := range conversions {
		if !a.remaining.Contains(cv.Consumed) {
			c.dropOperation(a.fw, op, fmt.Sprintf("Invalid %s operation: %s does not contain %s",
				op.GetType(), a.remaining, cv.Consumed))
			return
		}
	}
	if !a.apply(op, conversions) {
		return
	}
	for _, cv := range conversions {
		a.remaining = a.remaining.Sub(cv.Consumed)
		a.resized = a.resized.Add(cv.Converted)
	}
}

// apply makes an operation take effect in the agent's total and in the
// allocator, and sends it to the agent.
func (a *acceptance) apply(op *mesos.Offer_Operation, conversions []resources.Conversion) bool {
	c := a.c
	total, _, err := a.ag.total.Apply(withoutAllocation(op))
	if err != nil {
		// The offers held what the operation takes, so the agent has it, unless
		// it is a shared volume of which others hold a copy.
		c.dropOperation(a.fw, op, err.Error())
		return false
	}
	a.ag.total = total
	c.touchAgent(a.ag)
	c.agentChanged(a.ag)
	for _, cv := range conversions {
		c.alloc.UpdateAllocation(a.fw.id, a.ag.id, cv.Consumed, cv.Converted)
	}
	c.startOperation(a.fw, a.ag, op, resources.Resources{})
	return true
}

// disk does a CREATE_DISK or DESTROY_DISK: the source is in use until the
// resource provider says what became of it.
func (a *acceptance) disk(op *mesos.Offer_Operation) {
	c := a.c
	if !a.ag.can(mesos.AgentInfo_Capability_RESOURCE_PROVIDER) {
		c.dropOperation(a.fw, op, fmt.Sprintf("Not supported on agent %s because it does not have "+
			"RESOURCE_PROVIDER capability", a.ag))
		return
	}
	if err := a.validate(op); err != nil {
		c.dropOperation(a.fw, op, err.Error())
		return
	}
	consumed := mustResources(operationResources(op)[0])
	if !a.remaining.Contains(consumed) {
		c.dropOperation(a.fw, op, fmt.Sprintf("Invalid %s Operation: %s does not contain %s",
			op.GetType(), a.remaining, consumed))
		return
	}
	a.remaining = a.remaining.Sub(consumed)
	c.startOperation(a.fw, a.ag, op, consumed)
}

// startOperation records an operation and sends it to its agent. Without a framework
// it is an operator's.
func (c *Core) startOperation(fw *framework, ag *agent, info *mesos.Offer_Operation, consumed resources.Resources) {
	op := &operation{
		Operation: &Operation{
			UUID:    c.newUUID(),
			AgentID: ag.id,
			Info:    info,
			Latest: &mesos.OperationStatus{
				OperationId: info.Id,
				State:       mesos.OperationState_OPERATION_PENDING.Enum(),
				AgentId:     &mesos.AgentID{Value: &ag.id},
			},
			Consumed: consumed,
		},
		held: !consumed.Empty(),
	}
	m := &clusterdv1.ApplyOperation{Operation: info, OperationUuid: []byte(op.UUID)}
	if fw != nil {
		op.FrameworkID = fw.id
		m.FrameworkId = &mesos.FrameworkID{Value: &fw.id}
	}
	c.addOperation(op, fw, ag)
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_ApplyOperation{ApplyOperation: m}})
}

func (c *Core) addOperation(op *operation, fw *framework, ag *agent) {
	op.fw, op.ag = fw, ag
	c.operations.Set(op.UUID, op)
	ag.operations.Set(op.UUID, op)
	if fw != nil && op.Info.Id != nil {
		fw.operationIDs[op.Info.Id.GetValue()] = op.UUID
	}
	if op.held {
		ag.used = ag.used.Add(op.Consumed)
		c.touchAgent(ag)
	}
	c.publish.operation(op.UUID, op.Operation)
}

// removeOperation forgets an operation; what it still holds returns.
func (c *Core) removeOperation(op *operation) {
	c.releaseOperation(op)
	c.operations.Delete(op.UUID)
	op.ag.operations.Delete(op.UUID)
	c.noteDrain(op.ag)
	if op.fw != nil && op.Info.Id != nil && op.fw.operationIDs[op.Info.Id.GetValue()] == op.UUID {
		delete(op.fw.operationIDs, op.Info.Id.GetValue())
	}
	c.publish.operation(op.UUID, nil)
}

func (c *Core) releaseOperation(op *operation) {
	if !op.held {
		return
	}
	op.held = false
	op.ag.used = op.ag.used.Sub(op.Consumed)
	c.touchAgent(op.ag)
	c.alloc.RecoverResources(c.now, op.FrameworkID, op.AgentID, op.Consumed, nil)
}

// operationUpdate takes an agent's word on an operation (Mesos:
// Master::updateOperationStatus).
func (c *Core) operationUpdate(ag *agent, m *clusterdv1.UpdateOperation) {
	c.count("master/messages_operation_status_update")
	fw := c.framework(m.GetFrameworkId().GetValue())
	op, ok := c.operations.Get(string(m.GetOperationUuid()))
	if m.GetStatus() == nil || ok && op.ag != ag {
		c.count("master/invalid_operation_status_updates")
		return
	}
	if !ok {
		c.count("master/invalid_operation_status_updates")
		if fw != nil && m.Status.OperationId != nil {
			c.sendOperation(fw, m.Status)
		} else {
			c.acknowledgeOperation(ag, m.GetFrameworkId().GetValue(), string(m.OperationUuid), m.Status)
		}
		return
	}
	c.count("master/valid_operation_status_updates")
	status := proto.CloneOf(m.Status)
	status.OperationId = op.Info.Id
	latest := status
	if m.LatestStatus != nil {
		latest = m.LatestStatus
	}
	c.updateOperation(op, status, latest)
	if op.Info.Id != nil && op.fw != nil {
		c.sendOperation(op.fw, status)
		if terminalOperation(latest.GetState()) && status.Uuid == nil {
			c.removeOperation(op)
		}
		return
	}
	c.acknowledgeOperation(ag, op.FrameworkID, op.UUID, status)
	if terminalOperation(status.GetState()) {
		c.removeOperation(op)
	}
}

// updateOperation moves an operation to its newest state, and converts what it
// held when it ends.
func (c *Core) updateOperation(op *operation, status, latest *mesos.OperationStatus) {
	rec := *op.Operation
	ended := !terminalOperation(rec.Latest.GetState()) && terminalOperation(latest.GetState())
	if !terminalOperation(rec.Latest.GetState()) {
		rec.Latest = latest
	}
	if n := len(rec.Statuses); n == 0 || !proto.Equal(rec.Statuses[n-1], status) {
		rec.Statuses = append(rec.Statuses[:n:n], status)
	}
	op.Operation = &rec
	c.publish.operation(op.UUID, &rec)
	if !ended {
		return
	}
	c.countOperation(rec.Info, latest.GetState())
	if !op.held {
		return // it took effect when it was accepted
	}
	if latest.GetState() == mesos.OperationState_OPERATION_FINISHED {
		c.convertHeld(op, latest)
	}
	c.releaseOperation(op)
}

// convertHeld turns what a CREATE_DISK or DESTROY_DISK held into what came out.
func (c *Core) convertHeld(op *operation, latest *mesos.OperationStatus) {
	converted, err := resources.FromProto(latest.ConvertedResources)
	if err != nil || !op.ag.total.Contains(op.Consumed.Unallocate()) {
		c.drop("update_operation", "impossible conversion", "agent_id", op.AgentID)
		return
	}
	role := ""
	if op.Consumed.Len() > 0 {
		role = op.Consumed.At(0).Role()
	}
	converted = converted.Unallocate()
	op.ag.total = op.ag.total.Sub(op.Consumed.Unallocate()).Add(converted)
	held := converted.Allocate(role)
	op.ag.used = op.ag.used.Sub(op.Consumed).Add(held)
	c.touchAgent(op.ag)
	c.agentChanged(op.ag)
	c.alloc.UpdateAllocation(op.FrameworkID, op.AgentID, op.Consumed, held)
	rec := *op.Operation
	rec.Consumed = held
	op.Operation = &rec
}

// acknowledgeOperation acknowledges a status that no framework will.
func (c *Core) acknowledgeOperation(ag *agent, frameworkID, uuid string, s *mesos.OperationStatus) {
	if s.GetUuid() == nil {
		return
	}
	m := &clusterdv1.AcknowledgeOperation{OperationUuid: []byte(uuid), StatusUuid: s.Uuid.GetValue()}
	if frameworkID != "" {
		m.FrameworkId = &mesos.FrameworkID{Value: &frameworkID}
	}
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_AcknowledgeOperation{AcknowledgeOperation: m}})
}

// acknowledgeOperationStatus takes a framework's acknowledgement (Mesos:
// Master::acknowledgeOperationStatus).
func (c *Core) acknowledgeOperationStatus(fw *framework, call *scheduler.Call_AcknowledgeOperationStatus) {
	c.count("master/messages_operation_status_update_acknowledgement")
	invalid := func(reason string) {
		c.count("master/invalid_operation_status_update_acknowledgements")
		c.log(Warn, "operation_acknowledgement_invalid", "framework_id", fw.id,
			"operation_id", call.GetOperationId().GetValue(), "reason", reason)
	}
	ag := c.agent(call.GetAgentId().GetValue())
	switch {
	case ag == nil:
		invalid("agent is not registered")
		return
	case !ag.connected:
		invalid("agent is disconnected")
		return
	}
	op, ok := c.operations.Get(fw.operationIDs[call.GetOperationId().GetValue()])
	if !ok || op.ag != ag {
		invalid("operation is unknown")
		return
	}
	for _, s := range op.Statuses {
		if string(s.GetUuid().GetValue()) != string(call.Uuid) {
			continue
		}
		if terminalOperation(s.GetState()) {
			c.removeOperation(op)
		}
		c.acknowledgeOperation(ag, fw.id, op.UUID, s)
		c.count("master/valid_operation_status_update_acknowledgements")
		return
	}
	invalid("status is unknown")
}
