package core

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
)

// operateResources carries out RESERVE_RESOURCES, UNRESERVE_RESOURCES,
// CREATE_VOLUMES, DESTROY_VOLUMES, GROW_VOLUME and SHRINK_VOLUME (src/master/http.cpp,
// from Master::Http::_reserve to Master::Http::_operation).
func (c *Core) operateResources(in Operate) {
	agentID, op := operatorOperation(in.Call)
	if err := validateResourcesCall(in.Call, agentID); err != nil {
		c.refuseCall(in, within("Failed to validate master::Call: ", err))
		return
	}
	ag := c.agent(agentID.GetValue())
	if ag == nil {
		c.answer(in.Request, 400, "No agent found with specified ID")
		return
	}
	if err := resources.ValidateAndUpgrade(op); err != nil {
		c.refuseCall(in, err)
		return
	}
	by := requester{}
	if in.Principal != nil {
		by.principal = &in.Principal.Value
	}
	if err := validateOperationOf(op, by, ag); err != nil {
		c.refuseCall(in, within(operatorPrefix(op, ag), err))
		return
	}
	if c.refusedOf(in.Principal, operationNeeds(op)) != nil {
		c.forbid(in)
		return
	}
	conversions, err := resources.Conversions(op)
	if err != nil {
		c.refuseCall(in, within(fmt.Sprintf("Invalid %s operation: ", op.GetType()), err))
		return
	}
	if providerOf(op) != "" {
		c.answer(in.Request, 400, "Operations on resources of resource providers are not supported")
		return
	}
	if !ag.connected {
		// Mesos says 202, and the message is lost.
		c.answer(in.Request, 409, fmt.Sprintf("Agent %s is disconnected", ag))
		return
	}
	if err := c.applyForOperator(ag, op, conversions); err != nil {
		c.answer(in.Request, 409, err.Error())
		return
	}
	c.log(Info, "operator_operation", "agent_id", ag.id, "type", op.GetType().String())
	c.answer(in.Request, 202, "")
}

// operatorOperation puts a call into the form of a framework's operation.
func operatorOperation(call *master.Call) (*mesos.AgentID, *mesos.Offer_Operation) {
	switch call.GetType() {
	case master.Call_RESERVE_RESOURCES:
		m := call.GetReserveResources()
		return m.GetAgentId(), &mesos.Offer_Operation{
			Type:    mesos.Offer_Operation_RESERVE.Enum(),
			Reserve: &mesos.Offer_Operation_Reserve{Source: m.GetSource(), Resources: m.GetResources()},
		}
	case master.Call_UNRESERVE_RESOURCES:
		m := call.GetUnreserveResources()
		return m.GetAgentId(), &mesos.Offer_Operation{
			Type:      mesos.Offer_Operation_UNRESERVE.Enum(),
			Unreserve: &mesos.Offer_Operation_Unreserve{Resources: m.GetResources()},
		}
	case master.Call_CREATE_VOLUMES:
		m := call.GetCreateVolumes()
		return m.GetAgentId(), &mesos.Offer_Operation{
			Type:   mesos.Offer_Operation_CREATE.Enum(),
			Create: &mesos.Offer_Operation_Create{Volumes: m.GetVolumes()},
		}
	case master.Call_DESTROY_VOLUMES:
		m := call.GetDestroyVolumes()
		return m.GetAgentId(), &mesos.Offer_Operation{
			Type:    mesos.Offer_Operation_DESTROY.Enum(),
			Destroy: &mesos.Offer_Operation_Destroy{Volumes: m.GetVolumes()},
		}
	case master.Call_GROW_VOLUME:
		m := call.GetGrowVolume()
		return m.GetAgentId(), &mesos.Offer_Operation{
			Type:       mesos.Offer_Operation_GROW_VOLUME.Enum(),
			GrowVolume: &mesos.Offer_Operation_GrowVolume{Volume: m.GetVolume(), Addition: m.GetAddition()},
		}
	default:
		m := call.GetShrinkVolume()
		return m.GetAgentId(), &mesos.Offer_Operation{
			Type:         mesos.Offer_Operation_SHRINK_VOLUME.Enum(),
			ShrinkVolume: &mesos.Offer_Operation_ShrinkVolume{Volume: m.GetVolume(), Subtract: m.GetSubtract()},
		}
	}
}

// validateResourcesCall makes the checks that come before all others
// (src/master/validation.cpp, master::call::validate).
func validateResourcesCall(call *master.Call, agentID *mesos.AgentID) error {
	switch call.GetType() {
	case master.Call_RESERVE_RESOURCES:
		return resources.ValidateAll(call.GetReserveResources().GetResources())
	case master.Call_UNRESERVE_RESOURCES:
		return resources.ValidateAll(call.GetUnreserveResources().GetResources())
	case master.Call_GROW_VOLUME, master.Call_SHRINK_VOLUME:
		if agentID == nil {
			return invalidf("Expecting 'agent_id' to be present; only agent default resources are supported right now")
		}
	default:
	}
	return nil
}

// operatorPrefix begins the answer to an operation that is not valid.
func operatorPrefix(op *mesos.Offer_Operation, ag *agent) string {
	switch op.GetType() {
	case mesos.Offer_Operation_UNRESERVE, mesos.Offer_Operation_DESTROY:
		return fmt.Sprintf("Invalid %s operation: ", op.GetType())
	default:
		return fmt.Sprintf("Invalid %s operation on agent %s: ", op.GetType(), ag)
	}
}

// applyForOperator does an operation on resources that are not in use. Offers are
// rescinded as far as they hold what it needs. An error says what is missing.
//
// Mesos takes back every offer that has to do with the operation before it looks
// whether anything is free, since its allocator may just be giving that away, keeps
// it from its framework for five seconds, and does so even when the operation then
// fails. Nothing comes in between here, so that what is left is offered at once.
func (c *Core) applyForOperator(ag *agent, op *mesos.Offer_Operation, conversions []resources.Conversion) error {
	total, _, err := ag.total.Apply(withoutAllocation(op))
	if err != nil {
		return err
	}
	doomed, err := ag.offersFor(op, conversions)
	if err != nil {
		return err
	}
	for _, o := range doomed {
		c.rescind(o)
	}
	consumed, converted := netConversion(conversions)
	if !c.alloc.UpdateAvailable(ag.id, consumed, converted) {
		// Only of an agent that says it uses more than it has.
		return fmt.Errorf("%s is not available", consumed)
	}
	ag.total = total
	c.touchAgent(ag)
	c.agentChanged(ag)
	c.startOperation(nil, ag, op, resources.Resources{})
	return nil
}

// netConversion is what all conversions together take and leave: one may take what
// another one made.
func netConversion(conversions []resources.Conversion) (consumed, converted resources.Resources) {
	for _, cv := range conversions {
		fresh := cv.Consumed.Sub(converted)
		converted = converted.Sub(cv.Consumed).Add(cv.Converted)
		consumed = consumed.Add(fresh)
	}
	return consumed, converted
}

// withoutAllocation returns an operation as the agent's total knows its resources.
func withoutAllocation(op *mesos.Offer_Operation) *mesos.Offer_Operation {
	bare := proto.CloneOf(op)
	for _, rs := range operationResources(bare) {
		for _, r := range rs {
			r.AllocationInfo = nil
		}
	}
	return bare
}

// offersFor chooses the offers that must be taken back before the conversions can be
// done: none if enough is free. Older ones go first, and none goes in vain.
func (ag *agent) offersFor(op *mesos.Offer_Operation, conversions []resources.Conversion) ([]*offer, error) {
	given := ag.used.Unallocate().Add(ag.offered.Unallocate())
	// A shared volume can be had by any number at once.
	free := ag.total.NonShared().Sub(given.NonShared()).Add(ag.total.Shared())
	var needed resources.Resources
	for _, cv := range conversions {
		needed = needed.Add(cv.Consumed)
	}
	var chosen []*offer
	take := func(o *offer) {
		free = free.Add(o.Resources.NonShared().Unallocate())
		chosen = append(chosen, o)
	}
	// Of what is to be destroyed nobody may hold a copy.
	doomed := mustResources(op.GetDestroy().GetVolumes()).Unallocate()
	for _, o := range ag.offers.Values() {
		if holdsAny(o.Resources.Unallocate(), doomed) {
			take(o)
		}
	}
	must := len(chosen)
	missing := needed.Sub(free)
	_, err := free.Convert(conversions...)
	for _, o := range ag.offers.Values() {
		if err == nil {
			break
		}
		left := missing.Sub(o.Resources.Unallocate())
		if left.Equal(missing) || slices.Contains(chosen, o) {
			continue
		}
		missing = left
		take(o)
		_, err = free.Convert(conversions...)
	}
	if err != nil {
		return nil, err
	}
	// Some may not be needed after all, now that the last one is in.
	for i := len(chosen) - 2; i >= must; i-- {
		less := free.Sub(chosen[i].Resources.NonShared().Unallocate())
		if _, err := less.Convert(conversions...); err == nil {
			free = less
			chosen = slices.Delete(chosen, i, i+1)
		}
	}
	return chosen, nil
}

func holdsAny(held, volumes resources.Resources) bool {
	for i := range volumes.Len() {
		if held.Contains(volumes.At(i).AsResources()) {
			return true
		}
	}
	return false
}
