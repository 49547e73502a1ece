package core

import (
	"fmt"
	"slices"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// acceptance is an ACCEPT call while it is carried out. Operations are done in
// order, each on what the ones before it left.
type acceptance struct {
	c       *Core
	fw      *framework
	ag      *agent
	offered resources.Resources
	// remaining is what no launch has taken yet, with the conversions of earlier
	// operations.
	remaining resources.Resources
	// shared are all shared resources of the offers, taken or not: two tasks may
	// use one copy of a volume.
	shared resources.Resources
	// resized came out of GROW_VOLUME and SHRINK_VOLUME; later operations cannot
	// use it.
	resized resources.Resources
}

// accept carries out an ACCEPT call (Mesos: Master::accept).
func (c *Core) accept(fw *framework, call *scheduler.Call_Accept) {
	for _, op := range call.Operations {
		if op.GetType() != mesos.Offer_Operation_LAUNCH {
			continue
		}
		if len(op.GetLaunch().GetTaskInfos()) > 0 {
			c.count("master/messages_launch_tasks")
		} else {
			c.count("master/messages_decline_offers")
		}
	}
	offers, err := c.validateOffers(call.OfferIds, fw)
	if len(call.OfferIds) == 0 {
		err = invalidf("No offers specified")
	}
	if err != nil {
		c.acceptInvalid(fw, call, err)
		return
	}
	role, ag := offers[0].Role, offers[0].ag
	operations := c.prepare(fw, ag, role, call.Operations)

	a := &acceptance{c: c, fw: fw, ag: ag}
	uses := slices.ContainsFunc(operations, used)
	for _, o := range offers {
		if !uses { // that is how frameworks of Mesos's first interface decline
			c.noteRefusal(o)
		}
		a.offered = a.offered.Add(o.Resources)
		c.removeOffer(o)
		c.countFramework(fw, "offers/accepted")
	}
	if uses {
		fw.refused = Refused{}
	}
	a.remaining = a.offered
	a.shared = a.offered.Shared()
	for _, op := range operations {
		a.perform(op)
	}
	// What operations made of the offers goes back without a filter: the
	// framework has not seen it in an offer yet. The rest is declined.
	left := a.remaining.Add(a.resized)
	converted := left.Sub(a.offered)
	declined := left.Sub(converted)
	if !converted.Empty() {
		c.alloc.RecoverResources(c.now, fw.id, ag.id, converted, nil)
	}
	if !declined.Empty() {
		c.alloc.RecoverResources(c.now, fw.id, ag.id, declined, c.filterOf(call.Filters))
	}
}

// acceptInvalid answers an ACCEPT of which an offer is not valid: its own valid
// ones return, and every task and operation is told.
func (c *Core) acceptInvalid(fw *framework, call *scheduler.Call_Accept, err error) {
	for _, id := range call.OfferIds {
		if o := c.offers[id.GetValue()]; o != nil && o.fw == fw {
			c.discard(o, nil)
		}
	}
	c.log(Warn, "accept_invalid_offers", "framework_id", fw.id, "error", err.Error())
	state := fw.lost(mesos.TaskState_TASK_DROPPED)
	for _, op := range call.Operations {
		tasks, launch := launched(op)
		if !launch {
			c.dropOperation(fw, op, "Operation attempted with invalid offers: "+err.Error())
			continue
		}
		for _, t := range tasks {
			c.failTask(fw, t, state, mesos.TaskStatus_REASON_INVALID_OFFERS,
				"Task launched with invalid offers: "+err.Error())
		}
	}
}

// used says whether an operation makes use of an offer.
func used(op *mesos.Offer_Operation) bool {
	tasks, launch := launched(op)
	return !launch || len(tasks) > 0
}

// launched lists the tasks of a launch, and says whether op is one.
func launched(op *mesos.Offer_Operation) ([]*mesos.TaskInfo, bool) {
	switch op.GetType() {
	case mesos.Offer_Operation_LAUNCH:
		return op.GetLaunch().GetTaskInfos(), true
	case mesos.Offer_Operation_LAUNCH_GROUP:
		return op.GetLaunchGroup().GetTaskGroup().GetTasks(), true
	default:
		return nil, false
	}
}

// prepare checks the resources in operations, brings them into the form that the
// master works with, and leaves out those that cannot be done.
func (c *Core) prepare(fw *framework, ag *agent, role string, ops []*mesos.Offer_Operation) []*mesos.Offer_Operation {
	var out []*mesos.Offer_Operation
	for _, op := range ops {
		if op.GetType() == mesos.Offer_Operation_UNKNOWN {
			c.log(Warn, "operation_unknown", "framework_id", fw.id)
			continue
		}
		err := resources.ValidateAndUpgrade(op)
		if err == nil && len(op.GetReserve().GetSource()) > 0 {
			err = invalidf("Reservation updates are not yet implemented for the scheduler API.")
		}
		tasks, launch := launched(op)
		switch {
		case err != nil && launch:
			c.failTasks(fw, op, tasks, err.Error())
		case err != nil:
			c.dropOperation(fw, op, "Operation attempted with invalid resources: "+err.Error())
		case op.Id != nil && launch:
			c.failTasks(fw, op, tasks, fmt.Sprintf("The `id` field cannot be set on %s operations", op.GetType()))
		case op.Id != nil && !ag.can(mesos.AgentInfo_Capability_RESOURCE_PROVIDER):
			c.dropOperation(fw, op, fmt.Sprintf("Operation requested feedback, but agent %s"+
				" does not have the required RESOURCE_PROVIDER capability", ag.id))
		case op.Id != nil && providerOf(op) == "" && !ag.can(mesos.AgentInfo_Capability_AGENT_OPERATION_FEEDBACK):
			c.dropOperation(fw, op, fmt.Sprintf("Operation on agent default resources requested feedback,"+
				" but agent %s does not have the required AGENT_OPERATION_FEEDBACK and"+
				" RESOURCE_PROVIDER capabilities", ag.id))
		default:
			normalize(op, fw, role)
			out = append(out, op)
		}
	}
	return out
}

// failTasks answers a launch that cannot be done with an error for each task.
func (c *Core) failTasks(fw *framework, op *mesos.Offer_Operation, tasks []*mesos.TaskInfo, message string) {
	reason := mesos.TaskStatus_REASON_TASK_INVALID
	if op.GetType() == mesos.Offer_Operation_LAUNCH_GROUP {
		reason = mesos.TaskStatus_REASON_TASK_GROUP_INVALID
	}
	for _, t := range tasks {
		c.failTask(fw, t, mesos.TaskState_TASK_ERROR, reason, message)
	}
}

// normalize fills in what frameworks may leave out.
func normalize(op *mesos.Offer_Operation, fw *framework, role string) {
	allocateOperation(op, role)
	switch op.GetType() {
	case mesos.Offer_Operation_LAUNCH:
		for _, t := range op.Launch.TaskInfos {
			if t.Executor != nil && t.Executor.FrameworkId == nil {
				t.Executor.FrameworkId = &mesos.FrameworkID{Value: &fw.id}
			}
			h := t.HealthCheck
			if h == nil || h.Type != nil {
				continue
			}
			// The type came later than the members that tell it.
			switch {
			case h.Command != nil && h.Http == nil:
				h.Type = mesos.HealthCheck_COMMAND.Enum()
			case h.Http != nil && h.Command == nil:
				h.Type = mesos.HealthCheck_HTTP.Enum()
			}
		}
	case mesos.Offer_Operation_LAUNCH_GROUP:
		for _, t := range op.LaunchGroup.GetTaskGroup().GetTasks() {
			if t.Executor == nil {
				t.Executor = op.LaunchGroup.Executor
			}
		}
	default:
	}
}

// perform does one operation.
func (a *acceptance) perform(op *mesos.Offer_Operation) {
	a.c.countFramework(a.fw, "operations")
	a.c.countFramework(a.fw, "operations/"+lower(op.GetType().String()))
	switch op.GetType() {
	case mesos.Offer_Operation_LAUNCH:
		for _, t := range op.Launch.TaskInfos {
			a.launch(t)
		}
	case mesos.Offer_Operation_LAUNCH_GROUP:
		a.launchGroup(op.LaunchGroup)
	case mesos.Offer_Operation_RESERVE, mesos.Offer_Operation_UNRESERVE,
		mesos.Offer_Operation_CREATE, mesos.Offer_Operation_DESTROY:
		a.convert(op)
	case mesos.Offer_Operation_GROW_VOLUME, mesos.Offer_Operation_SHRINK_VOLUME:
		a.resize(op)
	case mesos.Offer_Operation_CREATE_DISK, mesos.Offer_Operation_DESTROY_DISK:
		a.disk(op)
	default:
	}
}

// launch launches one task, or tells what is wrong with it.
func (a *acceptance) launch(t *mesos.TaskInfo) {
	c, fw, ag := a.c, a.fw, a.ag
	if err := c.authorizeLaunch(fw, t); err != nil {
		c.failTask(fw, t, mesos.TaskState_TASK_ERROR, mesos.TaskStatus_REASON_TASK_UNAUTHORIZED, err.Error())
		return
	}
	available := a.remaining.NonShared().Add(a.shared)
	if err := c.validateTask(t, fw, ag, available); err != nil {
		c.failTask(fw, t, mesos.TaskState_TASK_ERROR, mesos.TaskStatus_REASON_TASK_INVALID, err.Error())
		return
	}
	consumed := mustResources(t.Resources)
	task := consumed
	launchExecutor := true
	if t.Executor != nil {
		launchExecutor = ag.executor(fw.id, t.Executor.GetExecutorId().GetValue()) == nil
		if launchExecutor {
			e := c.addExecutor(fw, ag, t.Executor)
			consumed = consumed.Add(e.Resources)
		}
	}
	c.addTask(newTask(t, fw.id, ag.id, task), fw, ag, true)
	a.consume(consumed)
	c.run(ag, &clusterdv1.RunTasks{
		Framework:      fw.info,
		Executor:       t.Executor,
		Tasks:          []*mesos.TaskInfo{t},
		LaunchExecutor: &launchExecutor,
	})
	c.log(Info, "task_launched", "framework_id", fw.id, "agent_id", ag.id, "task_id", t.GetTaskId().GetValue())
}

// launchGroup launches all tasks of a group, or none.
func (a *acceptance) launchGroup(g *mesos.Offer_Operation_LaunchGroup) {
	c, fw, ag := a.c, a.fw, a.ag
	tasks := g.GetTaskGroup().GetTasks()
	err, reason := c.authorizeGroup(fw, tasks), mesos.TaskStatus_REASON_TASK_GROUP_UNAUTHORIZED
	if err == nil {
		err, reason = c.validateGroup(g, fw, ag, a.remaining), mesos.TaskStatus_REASON_TASK_GROUP_INVALID
	}
	if err != nil {
		for _, t := range tasks {
			c.failTask(fw, t, mesos.TaskState_TASK_ERROR, reason, err.Error())
		}
		return
	}
	var consumed resources.Resources
	launchExecutor := ag.executor(fw.id, g.Executor.GetExecutorId().GetValue()) == nil
	if launchExecutor {
		consumed = c.addExecutor(fw, ag, g.Executor).Resources
	}
	for _, t := range tasks {
		r := mustResources(t.Resources)
		c.addTask(newTask(t, fw.id, ag.id, r), fw, ag, true)
		consumed = consumed.Add(r)
		c.log(Info, "task_launched", "framework_id", fw.id, "agent_id", ag.id, "task_id", t.GetTaskId().GetValue())
	}
	a.consume(consumed)
	group := true
	c.run(ag, &clusterdv1.RunTasks{
		Framework:      fw.info,
		Executor:       g.Executor,
		Tasks:          tasks,
		Group:          &group,
		LaunchExecutor: &launchExecutor,
	})
}

// consume takes what a launch uses out of what remains. Copies of shared
// resources beyond those that were offered are allocated on top.
func (a *acceptance) consume(consumed resources.Resources) {
	additional := consumed.Shared().Sub(a.remaining.Shared())
	if !additional.Empty() {
		a.c.alloc.UpdateAllocation(a.fw.id, a.ag.id, resources.Resources{}, additional)
	}
	a.remaining = a.remaining.Sub(consumed)
}

// run sends tasks to an agent, in the format that it knows.
func (c *Core) run(ag *agent, m *clusterdv1.RunTasks) {
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_RunTasks{RunTasks: m}})
}

// mustResources reads resources that have been validated.
func mustResources(rs []*mesos.Resource) resources.Resources {
	r, err := resources.FromProto(rs)
	if err != nil {
		panic(fmt.Sprintf("resources were validated before: %v", err))
	}
	return r
}

// addExecutor makes an executor known; its resources count as used.
func (c *Core) addExecutor(fw *framework, ag *agent, info *mesos.ExecutorInfo) *Executor {
	e := &Executor{FrameworkID: fw.id, AgentID: ag.id, Info: info, Resources: mustResources(info.Resources)}
	id := info.GetExecutorId().GetValue()
	fw.executors.Set(executorKey(ag.id, id), e)
	ag.executors.Set(executorKey(fw.id, id), e)
	ag.used = ag.used.Add(e.Resources)
	c.touchFramework(fw)
	c.touchAgent(ag)
	return e
}

// removeExecutor forgets an executor and takes its resources back.
func (c *Core) removeExecutor(e *Executor) {
	id := e.Info.GetExecutorId().GetValue()
	if fw := c.framework(e.FrameworkID); fw != nil {
		fw.executors.Delete(executorKey(e.AgentID, id))
		c.touchFramework(fw)
	}
	if ag := c.agent(e.AgentID); ag != nil {
		ag.executors.Delete(executorKey(e.FrameworkID, id))
		ag.used = ag.used.Sub(e.Resources)
		c.touchAgent(ag)
	}
	c.alloc.RecoverResources(c.now, e.FrameworkID, e.AgentID, e.Resources, nil)
}
