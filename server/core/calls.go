package core

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
)

// call takes a scheduler call other than SUBSCRIBE: steps 11 to 17 of the order
// in which Mesos checks (src/master/http.cpp, Master::Http::scheduler).
func (c *Core) call(in Call) {
	answer := func(status int, body string) {
		c.emit(Respond{Request: in.Request, Status: status, Body: body})
	}
	fw := c.framework(in.Call.GetFrameworkId().GetValue())
	if fw == nil || fw.ending { // one that is being removed is gone, as in Mesos
		answer(400, "Framework cannot be found")
		return
	}
	c.countFramework(fw, "calls")
	c.countFramework(fw, "calls/"+lower(in.Call.GetType().String()))
	switch {
	case in.Principal != nil && in.Principal.Value != fw.info.GetPrincipal():
		answer(400, fmt.Sprintf("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`",
			in.Principal.Value, fw.info.GetPrincipal()))
		return
	case !fw.connected():
		answer(403, "Framework is not subscribed")
		return
	case in.StreamID == "":
		answer(400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header")
		return
	case in.StreamID != fw.stream:
		answer(400, fmt.Sprintf("The stream ID '%s' included in this request "+
			"didn't match the stream ID currently associated with framework ID %s", in.StreamID, fw.id))
		return
	}
	if err := ValidateCall(in.Call); err != nil {
		answer(400, "Failed to validate scheduler::Call: "+err.Error())
		return
	}
	status, body := c.perform(fw, in.Call)
	answer(status, body)
}

// perform carries a call out and returns its answer.
func (c *Core) perform(fw *framework, call *scheduler.Call) (status int, body string) {
	switch call.GetType() {
	case scheduler.Call_TEARDOWN:
		c.count("master/messages_unregister_framework")
		c.removeFramework(fw, "teardown", nil)
	case scheduler.Call_ACCEPT:
		c.accept(fw, call.Accept)
	case scheduler.Call_DECLINE:
		c.decline(fw, call.Decline)
	case scheduler.Call_ACCEPT_INVERSE_OFFERS:
		c.answerInverse(fw, call.AcceptInverseOffers.InverseOfferIds, call.AcceptInverseOffers.Filters, true)
	case scheduler.Call_DECLINE_INVERSE_OFFERS:
		c.answerInverse(fw, call.DeclineInverseOffers.InverseOfferIds, call.DeclineInverseOffers.Filters, false)
	case scheduler.Call_REVIVE:
		c.revive(fw, call.GetRevive().GetRoles())
	case scheduler.Call_SUPPRESS:
		c.suppress(fw, call.GetSuppress().GetRoles())
	case scheduler.Call_KILL:
		c.kill(fw, call.Kill)
	case scheduler.Call_SHUTDOWN:
		c.shutdownExecutor(fw, call.Shutdown)
	case scheduler.Call_ACKNOWLEDGE:
		c.acknowledge(fw, call.Acknowledge)
	case scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS:
		c.acknowledgeOperationStatus(fw, call.AcknowledgeOperationStatus)
	case scheduler.Call_RECONCILE:
		c.reconcile(fw, call.Reconcile.Tasks)
	case scheduler.Call_RECONCILE_OPERATIONS:
		c.reconcileOperations(fw, call.ReconcileOperations.Operations)
	case scheduler.Call_MESSAGE:
		c.message(fw, call.Message)
	case scheduler.Call_REQUEST:
		c.request(fw, call.Request.Requests)
	case scheduler.Call_UPDATE_FRAMEWORK:
		return c.updateCall(fw, call.UpdateFramework)
	default:
		return 501, ""
	}
	return 202, ""
}

// updateCall replaces what a framework says of itself; everything, or nothing
// (Mesos: Master::updateFramework).
func (c *Core) updateCall(fw *framework, call *scheduler.Call_UpdateFramework) (status int, body string) {
	info := call.FrameworkInfo
	if err := c.validateFramework(info); err != nil {
		return 400, "Supplied FrameworkInfo is not valid: " + err.Error()
	}
	if err := validateUpdate(fw.info, info); err != nil {
		return 400, "FrameworkInfo update is not valid: " + err.Error()
	}
	want, err := c.readWishes(frameworkRoles(info), call.SuppressedRoles, call.OfferConstraints)
	if err != nil {
		return 400, "'UpdateFramework' call is not valid: " + err.Error()
	}
	if err := c.authorizeFramework(principalOf(fw.info), info); err != nil {
		return 403, err.Error()
	}
	changed := !proto.Equal(fw.info, info)
	c.updateFramework(fw, info, want)
	c.saveFramework(fw, changed)
	if changed {
		c.tellAgents(fw)
	}
	return 200, ""
}

// validateOwnRoles checks the roles of a REVIVE or SUPPRESS. One that is wrong
// makes the whole call void, silently.
func (c *Core) validateOwnRoles(fw *framework, what string, roles []string) bool {
	for _, role := range roles {
		err := resources.ValidateRole(role)
		if err == nil && !fw.hasRole(role) {
			err = fmt.Errorf("role '%s' is not one of the framework's", role)
		}
		if err != nil {
			c.drop(what, err.Error(), "framework_id", fw.id)
			return false
		}
	}
	return true
}

func (c *Core) revive(fw *framework, roles []string) {
	c.count("master/messages_revive_offers")
	if !c.validateOwnRoles(fw, "revive", roles) {
		return
	}
	if len(roles) == 0 {
		fw.suppressed = nil
	} else {
		fw.suppressed = without(fw.suppressed, roles)
	}
	fw.refused = Refused{} // it has something new to run
	c.alloc.ReviveOffers(fw.id, roleSet(roles))
	c.touchFramework(fw)
}

func (c *Core) suppress(fw *framework, roles []string) {
	c.count("master/messages_suppress_offers")
	if !c.validateOwnRoles(fw, "suppress", roles) {
		return
	}
	if len(roles) == 0 {
		fw.suppressed = fw.roles
	} else {
		fw.suppressed = roleSet(append(without(fw.suppressed, roles), roles...))
	}
	c.alloc.SuppressOffers(fw.id, roleSet(roles))
	c.touchFramework(fw)
}

// without returns the sorted roles that are not in drop.
func without(roles, drop []string) []string {
	var out []string
	for _, role := range roles {
		found := false
		for _, d := range drop {
			found = found || d == role
		}
		if !found {
			out = append(out, role)
		}
	}
	return out
}

// kill asks an agent to kill a task, now and whenever the agent registers again
// without having done so (Mesos: Master::kill).
func (c *Core) kill(fw *framework, call *scheduler.Call_Kill) {
	c.count("master/messages_kill_task")
	id := call.GetTaskId().GetValue()
	cl := fw.cells[id]
	if cl == nil {
		c.log(Info, "kill_of_unknown_task", "framework_id", fw.id, "task_id", id)
		c.reconcile(fw, []*scheduler.Call_Reconcile_Task{{TaskId: call.TaskId, AgentId: call.AgentId}})
		return
	}
	if call.AgentId != nil && call.AgentId.GetValue() != cl.ag.id {
		c.drop("kill", "the task is on another agent", "framework_id", fw.id, "task_id", id)
		return
	}
	c.killCell(cl, call)
}

// killCell asks for the end of a task that is known.
func (c *Core) killCell(cl *cell, call *scheduler.Call_Kill) {
	rec := cl.rec.clone()
	rec.killed, rec.killPolicy = true, call.KillPolicy
	c.setTask(cl, rec)
	c.sendKill(cl)
}

func (c *Core) sendKill(cl *cell) {
	c.tell(cl.ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_KillTask{KillTask: &clusterdv1.KillTask{
		FrameworkId: &mesos.FrameworkID{Value: &cl.fw.id},
		TaskId:      &mesos.TaskID{Value: &cl.rec.ID},
		KillPolicy:  cl.rec.killPolicy,
	}}})
}

func (c *Core) shutdownExecutor(fw *framework, call *scheduler.Call_Shutdown) {
	ag := c.agent(call.GetAgentId().GetValue())
	if ag == nil {
		c.drop("shutdown", "unknown agent", "framework_id", fw.id, "agent_id", call.GetAgentId().GetValue())
		return
	}
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_ShutdownExecutor{
		ShutdownExecutor: &clusterdv1.ShutdownExecutor{
			FrameworkId: &mesos.FrameworkID{Value: &fw.id},
			ExecutorId:  call.ExecutorId,
		},
	}})
}

// message passes a message on to an executor. It is unreliable.
func (c *Core) message(fw *framework, call *scheduler.Call_Message) {
	c.count("master/messages_framework_to_executor")
	ag := c.agent(call.GetAgentId().GetValue())
	if ag == nil || !ag.connected {
		c.count("master/invalid_framework_to_executor_messages")
		return
	}
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_FrameworkMessage{
		FrameworkMessage: &clusterdv1.ExecutorMessage{
			FrameworkId: &mesos.FrameworkID{Value: &fw.id},
			ExecutorId:  call.ExecutorId,
			Data:        call.Data,
		},
	}})
	c.count("master/valid_framework_to_executor_messages")
}

func messageEvent(agentID string, m *clusterdv1.ExecutorMessage) *scheduler.Event {
	data := m.Data
	if data == nil {
		data = []byte{} // required in the event
	}
	return &scheduler.Event{
		Type: scheduler.Event_MESSAGE.Enum(),
		Message: &scheduler.Event_Message{
			AgentId:    &mesos.AgentID{Value: &agentID},
			ExecutorId: m.ExecutorId,
			Data:       data,
		},
	}
}

// teardownCall ends a framework for an operator (Mesos: Master::Http::_teardown).
func (c *Core) teardownCall(in Operate) {
	fw := c.framework(in.Call.GetTeardown().GetFrameworkId().GetValue())
	if fw == nil {
		c.answer(in.Request, 400, "No framework found with specified ID")
		return
	}
	if c.refusedOf(in.Principal, []need{{action: authz.TeardownFrameworks, object: fw.info.Principal}}) != nil {
		c.forbid(in)
		return
	}
	c.removeFramework(fw, "teardown by an operator", func() { c.answer(in.Request, 200, "") })
}

// removeFramework ends a framework for good: its tasks and executors are shut
// down, and its id cannot come back (Mesos: Master::removeFramework). Then runs when
// this is sure; it may be nil.
//
// The registry knows first. Should the removal be lost with this leader, the next one
// still has the framework: its tasks must not be dying then, and what they use must not
// have been given away. Until then the framework is one that nobody speaks for.
func (c *Core) removeFramework(fw *framework, why string, then func()) {
	if then != nil {
		fw.whenEnded = append(fw.whenEnded, then)
	}
	if fw.ending {
		return
	}
	fw.ending = true
	c.log(Info, "framework_removed", "framework_id", fw.id, "framework", fw.info.GetName(), "reason", why)
	if fw.active || fw.connected() {
		c.hangUp(fw)
		c.deactivate(fw)
	}
	c.removed[fw.id] = c.now
	c.proposeRemoval(fw)
}

// hangUp ends a framework's stream, if it has one.
func (c *Core) hangUp(fw *framework) {
	if fw.connected() {
		c.emit(CloseStream{StreamID: fw.stream})
		delete(c.streams, fw.stream)
		fw.stream = ""
	}
}

// endFramework takes a framework and all that it has out of the books.
func (c *Core) endFramework(fw *framework) {
	c.hangUp(fw)
	fw.active = false
	c.discardOffers(fw, false)
	for _, rec := range fw.tasks.Values() {
		cl := fw.cells[rec.ID]
		c.applyStatus(cl, c.removedStatus(rec), mesos.TaskState_TASK_KILLED)
		c.forgetTask(cl, false)
	}
	for _, rec := range fw.unreachable.Values() {
		c.dropUnreachable(fw, rec.ID)
		ended := rec.clone()
		ended.State = mesos.TaskState_TASK_KILLED
		ended.Statuses = rec.withStatus(compactStatus(c.removedStatus(rec)))
		c.addCompleted(fw, ended)
	}
	for _, e := range fw.executors.Values() {
		c.removeExecutor(e)
	}
	for _, id := range sortedKeys(fw.operationIDs) {
		if op, ok := c.operations.Get(fw.operationIDs[id]); ok {
			op.fw = nil // its agent's updates are acknowledged by the master now
		}
	}
	c.alloc.RemoveFramework(fw.id)
	c.frameworks.Delete(fw.id)
	c.publish.complete(c, fw)
	if fw.news.announced {
		c.announce(&Event{Type: FrameworkRemoved, FrameworkInfo: fw.info, Framework: fw.face()})
	}
}

// proposeRemoval has the registry know, and then everybody else.
func (c *Core) proposeRemoval(fw *framework) {
	c.propose(fw.id, func() {
		if c.framework(fw.id) == fw {
			c.endFramework(fw)
		}
		c.agents.Scan(func(_ string, ag *agent) bool {
			c.shutdownFramework(ag, fw.id)
			return true
		})
		for _, then := range fw.whenEnded {
			then()
		}
	}, command(clusterdv1.Command_REMOVE_FRAMEWORK, &clusterdv1.RemoveFramework{
		FrameworkId: &mesos.FrameworkID{Value: &fw.id},
		RemovedTime: timeInfo(c.now),
	}))
}

func (c *Core) removedStatus(rec *Task) *mesos.TaskStatus {
	return c.status(update{
		task:     rec.ID,
		agent:    rec.AgentID,
		executor: rec.ExecutorID,
		state:    mesos.TaskState_TASK_KILLED,
		message:  "Framework " + rec.FrameworkID + " removed",
		reason:   mesos.TaskStatus_REASON_FRAMEWORK_REMOVED,
	})
}
