package core

import (
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
	"clusterd/internal/units"
)

// killTask is Slave::killTask. (Nothing is ever "pending" here: a task is with
// its executor as soon as RunTasks is handled.)
func (c *Core) killTask(m *clusterdv1.KillTask) {
	fwID, taskID := m.GetFrameworkId().GetValue(), m.GetTaskId().GetValue()
	fw, ok := c.frameworks.get(fwID)
	if !ok || fw.terminating {
		// A framework that left a terminal update behind hears of it; of a task
		// that nobody knows the master is told what reconciliation would tell it.
		if !ok && !c.updates.has(streamKey(fwID, taskID)) {
			c.reconcileTask(&clusterdv1.ReconcileTask{FrameworkId: m.GetFrameworkId(), TaskId: m.GetTaskId()})
		}
		c.log(Warn, "ignored_kill", "framework_id", fwID, "task_id", taskID)
		return
	}
	e := fw.tasks[taskID]
	if e == nil {
		c.log(Warn, "kill_of_unknown_task", "framework_id", fwID, "task_id", taskID)
		if !c.updates.has(streamKey(fwID, taskID)) {
			c.update(fwID, c.newStatus(taskID, lost(fw.info, mesos.TaskState_TASK_DROPPED),
				mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, "Cannot find executor", ""), nil)
		}
		return
	}
	c.log(Info, "kill_task", "framework_id", fwID, "task_id", taskID, "executor_id", e.id)
	if e.queued.has(taskID) {
		c.killQueued(e, taskID)
		return
	}
	t, ok := e.launched.get(taskID)
	if !ok || e.state == execTerminating || e.state == execTerminated {
		return // it is ending already
	}
	t.kill = &executor.Event{Type: executor.Event_KILL.Enum(), Kill: &executor.Event_Kill{
		TaskId: m.GetTaskId(), KillPolicy: m.GetKillPolicy(),
	}}
	c.sendExecutor(e, t.kill)
}

// killQueued kills a task, with its group, that was not sent to its executor
// (Slave::kill).
func (c *Core) killQueued(e *executorRun, taskID string) {
	if e.state == execTerminating || e.state == execTerminated {
		return
	}
	q, _ := e.queued.get(taskID)
	ids, message := []string{taskID}, "Killed before delivery to the executor"
	if q.group != nil {
		ids = ids[:0]
		for _, t := range q.group.GetTasks() {
			ids = append(ids, t.GetTaskId().GetValue())
		}
		if e.state == execRegistering {
			message = "A task within the task group was killed before delivery to the executor"
		}
	}
	for _, id := range ids {
		c.update(e.fw.id, c.newStatus(id, mesos.TaskState_TASK_KILLED,
			mesos.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH, message, e.id), nil)
	}
	if e.everSentTask() || e.queued.len() > 0 {
		return
	}
	switch {
	case e.state == execRunning:
		c.shutdownExecutor(e)
	case e.commandTask:
		// Mesos lets it come up to be told to go; it has nothing else to live for.
		e.state = execTerminating
		c.emit(DestroyContainer{ContainerID: e.containerID})
	}
}

func (c *Core) shutdownExecutorMessage(m *clusterdv1.ShutdownExecutor) {
	fw, ok := c.frameworks.get(m.GetFrameworkId().GetValue())
	if !ok || fw.terminating {
		return
	}
	e, ok := fw.executors.get(m.GetExecutorId().GetValue())
	if !ok || e.state == execTerminating || e.state == execTerminated {
		return
	}
	c.shutdownExecutor(e)
}

// shutdownExecutor asks the executor to go and destroys its container when it
// has not after its grace period (Slave::_shutdownExecutor).
func (c *Core) shutdownExecutor(e *executorRun) {
	c.log(Info, "shutting_down_executor", "framework_id", e.fw.id, "executor_id", e.id)
	e.state = execTerminating
	e.registerTimer.stop()
	c.sendExecutor(e, event(executor.Event_SHUTDOWN))
	e.shutdownTimer = c.after(c.shutdownGrace(e), func() {
		if e.state == execTerminating {
			c.log(Info, "killing_executor", "framework_id", e.fw.id, "executor_id", e.id)
			c.emit(DestroyContainer{ContainerID: e.containerID})
		}
	})
}

// shutdownFramework is Slave::shutdownFramework.
func (c *Core) shutdownFramework(id string) {
	fw, ok := c.frameworks.get(id)
	if !ok {
		c.dropStreams(id)
		return
	}
	if fw.terminating {
		return
	}
	c.log(Info, "shutting_down_framework", "framework_id", id)
	fw.terminating = true
	for e := range fw.executors.values() {
		switch e.state {
		case execRegistering, execRunning:
			c.shutdownExecutor(e)
		case execTerminated:
			c.removeExecutor(e)
		case execTerminating:
		}
	}
	c.removeIdleFramework(fw)
}

// registrationTimeout destroys an executor that never subscribed
// (Slave::registerExecutorTimeout).
func (c *Core) registrationTimeout(e *executorRun) {
	if e.state != execRegistering || e.fw.terminating {
		return
	}
	c.log(Warn, "executor_did_not_register", "framework_id", e.fw.id, "executor_id", e.id)
	e.state = execTerminating
	e.pending = &verdict{
		state:   mesos.TaskState_TASK_FAILED,
		reason:  mesos.TaskStatus_REASON_EXECUTOR_REGISTRATION_TIMEOUT,
		message: "Executor did not register within " + units.FormatDuration(c.cfg.ExecutorRegistrationTimeout),
	}
	c.emit(DestroyContainer{ContainerID: e.containerID})
}

func (c *Core) containerTerminated(in ContainerTerminated) {
	e := c.containers[in.ContainerID]
	if e == nil {
		c.log(Error, "unknown_container_terminated", "container_id", in.ContainerID)
		return
	}
	c.executorTerminated(e, in.Termination)
}

// executorTerminated ends every task of the executor that has not ended
// (Slave::executorTerminated).
func (c *Core) executorTerminated(e *executorRun, t Termination) {
	if e.state == execTerminated {
		return
	}
	c.count("slave/executors_terminated")
	e.state = execTerminated
	e.registerTimer.stop()
	e.shutdownTimer.stop()
	status := -1
	if t.StatusKnown {
		status = t.Status
	}
	c.log(Info, "executor_terminated", "framework_id", e.fw.id, "executor_id", e.id,
		"container_id", e.containerID.GetValue(), "status", itoa(status), "message", t.Message)

	if e.fw.terminating {
		for t := range e.launched.values() {
			id := t.t.GetTaskId().GetValue()
			e.launched.del(id)
			e.terminated.put(id, t)
		}
	} else {
		// Updates that waited for the container to shrink need not wait any more.
		c.releaseResizes(e)
		for t2 := range e.launched.values() {
			c.endTask(e, t2.t.GetTaskId().GetValue(), t)
		}
		for q := range e.queued.values() {
			c.endTask(e, q.info.GetTaskId().GetValue(), t)
		}
	}
	e.resizes = nil
	c.persistExecutor(e)
	c.emit(RemoveContainer{ContainerID: e.containerID})
	if e.stream != 0 {
		delete(c.streams, e.stream)
		c.emit(CloseStream{e.stream})
		e.stream = 0
	}
	if !e.commandTask {
		c.sendExitedExecutor(e.fw.info.GetId(), e.info.GetExecutorId(), status)
	}
	if c.phase == terminating || e.fw.terminating || !e.incompleteTasks() {
		c.removeExecutor(e)
	}
	c.removeIdleFramework(e.fw)
	c.maybeRecovered()
}

// releaseResizes lets go of what waits for the container, in order.
func (c *Core) releaseResizes(e *executorRun) {
	for len(e.resizes) > 0 {
		var first uint64
		for token := range e.resizes {
			if first == 0 || token < first {
				first = token
			}
		}
		next := e.resizes[first]
		delete(e.resizes, first)
		next(nil)
	}
}

// endTask reports how a task ended with its executor
// (Slave::sendExecutorTerminatedStatusUpdate).
func (c *Core) endTask(e *executorRun, taskID string, t Termination) {
	state, reason := mesos.TaskState_TASK_FAILED, mesos.TaskStatus_REASON_EXECUTOR_TERMINATED
	var messages []string
	switch task, launched := e.launched.get(taskID); {
	case e.pending != nil:
		state, reason = e.pending.state, e.pending.reason
		messages = append(messages, e.pending.message)
	case e.recovered && launched && !t.StatusKnown && t.Reason == nil && task.t.GetState() == mesos.TaskState_TASK_STAGING:
		// The agent was killed while it launched the container, or all was killed
		// at once: nobody can say that the task ran, so nobody says that it failed.
		state = lost(e.fw.info, mesos.TaskState_TASK_GONE)
	}
	if t.Reason != nil {
		reason = *t.Reason
	}
	switch {
	case t.Failure != "":
		messages = append(messages, "Abnormal executor termination: "+t.Failure)
	case t.Message != "":
		messages = append(messages, t.Message)
	}
	message := "Executor terminated"
	for i, m := range messages {
		if i == 0 {
			message = m
		} else {
			message += "; " + m
		}
	}
	st := c.newStatus(taskID, state, reason, message, e.id)
	if len(t.Limited) > 0 {
		st.Limitation = &mesos.TaskResourceLimitation{Resources: t.Limited}
	}
	c.update(e.fw.id, st, nil)
}

// removeExecutor forgets an executor that has ended and has nothing more to say
// (Slave::removeExecutor). It lives on in the ring of completed ones.
func (c *Core) removeExecutor(e *executorRun) {
	for t := range e.terminated.values() {
		c.forgetTask(e, t.t.GetTaskId().GetValue())
	}
	for t := range e.launched.values() {
		c.forgetTask(e, t.t.GetTaskId().GetValue())
	}
	for q := range e.queued.values() {
		c.forgetTask(e, q.info.GetTaskId().GetValue())
	}
	e.shutdownTimer.stop()
	e.registerTimer.stop()
	e.fw.executors.del(e.id)
	delete(c.containers, e.containerID.GetValue())
	if e.stream != 0 {
		delete(c.streams, e.stream)
		e.stream = 0
	}
	if e.fw.checkpoint() {
		c.persist(DeleteExecutor{e.fw.id, e.id})
	}
	c.emit(CollectSandbox{Directory: e.directory, Virtual: c.virtualPaths(e)})
	e.fw.completed = pushRing(e.fw.completed, e, c.cfg.MaxCompletedExecutors)
}

// forgetTask drops a task's traces outside of the executor's own lists.
func (c *Core) forgetTask(e *executorRun, taskID string) {
	delete(e.fw.tasks, taskID)
	if s, ok := c.updates.get(streamKey(e.fw.id, taskID)); ok {
		s.timer.stop()
		c.updates.del(streamKey(e.fw.id, taskID))
	}
	if e.fw.checkpoint() {
		c.persist(DeleteTask{e.fw.id, taskID})
	}
}

// removeIdleFramework forgets a framework without executors
// (Slave::removeFramework). Updates of tasks that never reached an executor stay
// and are resent until they are acknowledged, unless the framework is gone; Mesos
// drops them.
func (c *Core) removeIdleFramework(fw *framework) {
	if fw.executors.len() > 0 || !c.frameworks.has(fw.id) {
		return
	}
	if fw.terminating {
		c.dropStreams(fw.id)
	}
	c.frameworks.del(fw.id)
	if fw.checkpoint() {
		c.persist(DeleteFramework{fw.id})
	}
	c.completed = pushRing(c.completed, fw, c.cfg.MaxCompletedFrameworks)
	c.maybeExit()
}

// pushRing appends to a ring of at most limit; views share its arrays, so it is
// never written to in place.
func pushRing[T any](ring []T, v T, limit int) []T {
	if limit <= 0 {
		return nil
	}
	if len(ring) >= limit {
		ring = append([]T(nil), ring[len(ring)-limit+1:]...)
	}
	return append(ring, v)
}
