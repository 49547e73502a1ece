package core

import (
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

// find is what every executor's call begins with (Http::executor in
// src/slave/http.cpp, from the lookup of the framework on). If there is no such
// executor, or somebody else calls, it answers the call.
func (c *Core) find(req RequestID, call *executor.Call, from *Caller) *executorRun {
	if !c.recovery.reconnect {
		c.emit(Respond{req, statusServiceUnavailable, "Agent has not finished recovery"})
		return nil
	}
	fw, ok := c.frameworks.get(call.GetFrameworkId().GetValue())
	if !ok {
		c.emit(Respond{req, statusBadRequest, "Framework cannot be found"})
		return nil
	}
	e, ok := fw.executors.get(call.GetExecutorId().GetValue())
	if !ok {
		c.emit(Respond{req, statusBadRequest, "Executor cannot be found"})
		return nil
	}
	if why := from.isNot(e); why != "" {
		c.log(Warn, "executor_impersonated", "framework_id", fw.id, "executor_id", e.id, "reason", why)
		c.emit(Respond{req, statusForbidden, why})
		return nil
	}
	return e
}

// isNot says why the caller is not an executor; empty if it is, or may be
// (verifyExecutorClaims in src/slave/http.cpp).
func (from *Caller) isNot(e *executorRun) string {
	if from == nil {
		return ""
	}
	claims := func(name, value string) bool {
		v, ok := from.Claims[name]
		return ok && v == value
	}
	who := "Authenticated principal '" + from.Name + "' does not contain "
	switch {
	case !claims("fid", e.fw.id):
		return who + "an 'fid' claim with the framework ID " + e.fw.id + ", which is set in the call"
	case !claims("eid", e.id):
		return who + "an 'eid' claim with the executor ID " + e.id + ", which is set in the call"
	case !claims("cid", e.containerID.GetValue()):
		return who + "a 'cid' claim with the correct active ContainerID"
	}
	return ""
}

// call takes UPDATE and MESSAGE. Unlike Mesos, which answers 503 until it has
// waited for all executors to come back, updates are taken as soon as their
// executor has subscribed: they need no master, only the disk.
func (c *Core) call(in Call) {
	e := c.find(in.Request, in.Call, in.Caller)
	if e == nil {
		return
	}
	if e.state == execRegistering {
		c.emit(Respond{in.Request, statusForbidden, "Executor is not subscribed"})
		return
	}
	switch in.Call.GetType() {
	case executor.Call_UPDATE:
		c.update(e.fw.id, in.Call.GetUpdate().GetStatus(), e)
		c.emit(Respond{in.Request, statusAccepted, ""})
	case executor.Call_MESSAGE:
		c.executorMessage(e, in.Call.GetMessage().GetData())
		c.emit(Respond{in.Request, statusAccepted, ""})
	default:
		c.emit(Respond{in.Request, statusNotImplemented, "501 Not Implemented."})
	}
}

func (c *Core) executorMessage(e *executorRun, data []byte) {
	if c.phase != running || e.fw.terminating {
		c.count("slave/invalid_framework_messages")
		return
	}
	c.count("slave/valid_framework_messages")
	c.sendMaster(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExecutorMessage{
		ExecutorMessage: &clusterdv1.ExecutorMessage{
			FrameworkId: e.fw.info.GetId(), ExecutorId: e.info.GetExecutorId(), Data: data,
		},
	}})
}

// subscribe connects an executor, for the first time or again (Slave::subscribe).
func (c *Core) subscribe(in Subscribe) {
	e := c.find(in.Request, in.Call, in.Caller)
	if e == nil {
		return
	}
	c.emit(OpenStream{Request: in.Request, Stream: in.Stream})
	if c.phase == terminating || e.fw.terminating || e.state == execTerminating || e.state == execTerminated {
		c.log(Warn, "executor_subscribed_too_late", "framework_id", e.fw.id, "executor_id", e.id, "state", e.state.String())
		c.emit(SendExecutor{in.Stream, event(executor.Event_SHUTDOWN)})
		c.emit(CloseStream{in.Stream})
		return
	}
	if e.stream != 0 {
		delete(c.streams, e.stream)
		c.emit(CloseStream{e.stream})
	}
	e.stream = in.Stream
	c.streams[in.Stream] = e
	// As Slave::subscribe does: some isolators know what a container may use only when
	// they are told by this run of the agent.
	e.stale = e.stale || e.recovered
	e.state, e.recovered = execRunning, false
	e.registerTimer.stop()
	c.log(Info, "executor_subscribed", "framework_id", e.fw.id, "executor_id", e.id, "container_id", e.containerID.GetValue())
	defer c.maybeRecovered()

	sub := in.Call.GetSubscribe()
	for _, u := range sub.GetUnacknowledgedUpdates() {
		c.update(e.fw.id, u.GetStatus(), e)
	}
	unacked := map[string]bool{}
	for _, t := range sub.GetUnacknowledgedTasks() {
		unacked[t.GetTaskId().GetValue()] = true
	}
	for t := range e.launched.values() {
		id := t.t.GetTaskId().GetValue()
		if t.t.GetState() == mesos.TaskState_TASK_STAGING && !unacked[id] {
			c.update(e.fw.id, c.newStatus(id, lost(e.fw.info, mesos.TaskState_TASK_DROPPED),
				mesos.TaskStatus_REASON_AGENT_RESTARTED, "Task launched during agent restart", e.id), nil)
		}
	}
	if e.state != execRunning {
		return // an update of it made the agent shut it down
	}
	if !e.everSentTask() && e.queued.len() == 0 {
		c.log(Warn, "executor_has_nothing_to_do", "framework_id", e.fw.id, "executor_id", e.id)
		c.shutdownExecutor(e)
		return
	}
	c.sendExecutor(e, &executor.Event{
		Type: executor.Event_SUBSCRIBED.Enum(),
		Subscribed: &executor.Event_Subscribed{
			ExecutorInfo: e.info, FrameworkInfo: e.fw.info, AgentInfo: c.info, ContainerId: e.containerID,
		},
	})
	// Mesos forgets a kill that comes while an executor is away. We do not.
	for t := range e.launched.values() {
		if t.kill != nil {
			c.sendExecutor(e, t.kill)
		}
	}
	c.resizeAndDeliver(e)
}

func (c *Core) streamClosed(in StreamClosed) {
	e := c.streams[in.Stream]
	if e == nil {
		return
	}
	delete(c.streams, in.Stream)
	e.stream = 0
	c.log(Info, "executor_disconnected", "framework_id", e.fw.id, "executor_id", e.id)
}

func event(t executor.Event_Type) *executor.Event { return &executor.Event{Type: t.Enum()} }

func messageEvent(data []byte) *executor.Event {
	if data == nil {
		data = []byte{}
	}
	return &executor.Event{Type: executor.Event_MESSAGE.Enum(), Message: &executor.Event_Message{Data: data}}
}

// containerLaunched is Slave::executorLaunched.
func (c *Core) containerLaunched(in ContainerLaunched) {
	e := c.containers[in.ContainerID]
	if e == nil {
		c.log(Error, "launched_unknown_container", "container_id", in.ContainerID)
		return
	}
	e.launching = false
	if in.Err != nil {
		c.count("slave/container_launch_errors")
		c.log(Error, "container_launch_failed", "framework_id", e.fw.id, "executor_id", e.id,
			"container_id", in.ContainerID, "error", in.Err.Error())
		if e.pending == nil {
			e.pending = &verdict{
				state:   mesos.TaskState_TASK_FAILED,
				reason:  mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED,
				message: "Failed to launch container: " + in.Err.Error(),
			}
		}
		c.executorTerminated(e, Termination{})
		return
	}
	e.status = in.Status
	if e.state == execTerminating && e.stream == 0 {
		// It was told to go before it could be told anything.
		c.emit(DestroyContainer{ContainerID: e.containerID})
	}
}

// sendExitedExecutor tells the master (Slave::sendExitedExecutorMessage).
func (c *Core) sendExitedExecutor(fw *mesos.FrameworkID, id *mesos.ExecutorID, status int) {
	c.sendMaster(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExitedExecutor{
		ExitedExecutor: &clusterdv1.ExitedExecutor{
			FrameworkId: fw, ExecutorId: id, Status: new(int32(status)),
		},
	}})
}

// The statuses of HTTP that calls of executors are answered with.
const (
	statusAccepted           = 202
	statusBadRequest         = 400
	statusForbidden          = 403
	statusNotImplemented     = 501
	statusServiceUnavailable = 503
)
