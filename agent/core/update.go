package core

import (
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

const (
	// An unacknowledged update is sent again after 10 s, then 20 s, up to 10 min
	// (STATUS_UPDATE_RETRY_INTERVAL_MIN and _MAX in src/slave/constants.hpp).
	updateRetryMin = 10 * time.Second
	updateRetryMax = 10 * time.Minute
)

// updateStream is the updates of one task on their way to its framework
// (TaskStatusUpdateStream in src/slave/task_status_update_manager.cpp): only the
// oldest that is not acknowledged is sent, again and again.
type updateStream struct {
	framework, task string
	checkpoint      bool
	seq             uint64
	pending         []*mesos.TaskStatus
	received        map[string]bool // uuids, acknowledged or not
	interval        time.Duration
	timer           *timer
}

func streamKey(framework, task string) string { return framework + "\x00" + task }

// IsTerminal says whether a task in the state has ended (protobuf::isTerminalState).
func IsTerminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED,
		mesos.TaskState_TASK_ERROR, mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_DROPPED,
		mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

// newStatus makes a status of the agent's own.
func (c *Core) newStatus(taskID string, state mesos.TaskState, reason mesos.TaskStatus_Reason, message, executorID string) *mesos.TaskStatus {
	st := &mesos.TaskStatus{
		TaskId:    &mesos.TaskID{Value: new(taskID)},
		State:     state.Enum(),
		Message:   new(message),
		Source:    mesos.TaskStatus_SOURCE_AGENT.Enum(),
		Reason:    reason.Enum(),
		Timestamp: new(seconds(c.now)),
		Uuid:      c.newUUID(),
	}
	if executorID != "" {
		st.ExecutorId = &mesos.ExecutorID{Value: new(executorID)}
	}
	return st
}

// update takes a status of a task, from an executor or, with from nil, of the
// agent's own making (Slave::statusUpdate and what follows it).
func (c *Core) update(fwID string, status *mesos.TaskStatus, from *executorRun) {
	fw, ok := c.frameworks.get(fwID)
	if !ok || fw.terminating || len(status.GetUuid()) != 16 {
		c.count("slave/invalid_status_updates")
		return
	}
	taskID := status.GetTaskId().GetValue()
	if from != nil && status.GetState() == mesos.TaskState_TASK_STAGING {
		c.log(Error, "executor_sent_staging", "framework_id", fwID, "executor_id", from.id, "task_id", taskID)
		if from.state == execRunning {
			c.shutdownExecutor(from)
		}
		return
	}
	e := fw.tasks[taskID]
	if why := forged(e, status, from); why != "" {
		c.log(Error, "update_refused", "framework_id", fwID, "executor_id", from.id, "task_id", taskID,
			"state", status.GetState().String(), "why", why)
		c.count("slave/invalid_status_updates")
		return // not acknowledged: that would say that it is durable
	}
	c.count("slave/valid_status_updates")
	status = c.drainStatus(fw, status)
	s, _ := c.updates.get(streamKey(fwID, taskID))
	if s != nil && s.received[string(status.GetUuid())] {
		c.ack(from, status) // it is durable: the executor missed that
		return
	}
	if e == nil {
		c.updateUnknown(fw, status, from)
		return
	}
	st := c.complete(e, status, from)
	if t, ok := e.launched.get(taskID); ok && t.held[string(st.GetUuid())] {
		return // it waits for the container; the acknowledgement will come
	}
	if t, ok := e.terminated.get(taskID); ok && t.held[string(st.GetUuid())] {
		return
	}
	t, err := c.setState(e, taskID, st)
	if err != "" {
		c.log(Error, "update_refused", "framework_id", fwID, "task_id", taskID, "state", st.GetState().String(), "why", err)
		c.ack(from, st)
		return
	}
	if !IsTerminal(st.GetState()) || e.commandTask || e.state == execTerminated || e.state == execRegistering {
		c.take(fwID, st, e, from)
		return
	}
	// The master gives the resources away as soon as it hears: so first see to it
	// that the container uses less. (A command executor ends with its task.)
	t.held = map[string]bool{string(st.GetUuid()): true}
	c.resize(e, func(err error) {
		if err != nil {
			c.resizeFailed(e, err)
		}
		t.held = nil
		c.take(fwID, st, e, from)
	})
}

// forged says what is wrong with a status that the executor has no right to
// send. Mesos takes the first kind, and gives away the resources of a task that
// goes on; of the second kind its master refuses what its agent forwards, so that
// all later updates of the task wait behind it for ever.
func forged(owner *executorRun, status *mesos.TaskStatus, from *executorRun) string {
	switch state := status.GetState(); {
	case from == nil:
		return ""
	case owner != nil && owner != from:
		return "the task is of executor " + owner.id
	case state == mesos.TaskState_TASK_UNREACHABLE || state == mesos.TaskState_TASK_UNKNOWN:
		return "only a master knows such a state"
	}
	return ""
}

// updateUnknown takes an update of a task that no executor here has. It is
// forwarded, as Mesos does, unless the task is known to have been completed.
func (c *Core) updateUnknown(fw *framework, status *mesos.TaskStatus, from *executorRun) {
	if from != nil {
		for _, t := range from.completed {
			if t.GetTaskId().GetValue() == status.GetTaskId().GetValue() {
				c.ack(from, status)
				return
			}
		}
	}
	c.take(fw.id, c.complete(nil, status, from), nil, from)
}

// complete fills in what the agent knows better than the sender.
func (c *Core) complete(e *executorRun, status *mesos.TaskStatus, from *executorRun) *mesos.TaskStatus {
	st := proto.CloneOf(status)
	st.AgentId = c.info.GetId()
	st.Source = mesos.TaskStatus_SOURCE_AGENT.Enum()
	if from != nil {
		st.Source = mesos.TaskStatus_SOURCE_EXECUTOR.Enum()
		st.ExecutorId = from.info.GetExecutorId()
	}
	if st.Timestamp == nil {
		st.Timestamp = new(seconds(c.now))
	}
	taskID := st.GetTaskId().GetValue()
	if e == nil || e.queued.has(taskID) ||
		from == nil && (st.GetState() == mesos.TaskState_TASK_DROPPED || st.GetState() == mesos.TaskState_TASK_LOST) {
		return st // it never reached a container
	}
	if id := st.GetContainerStatus().GetContainerId(); id != nil && !proto.Equal(id, e.containerID) {
		// Of a nested container: the sender and the containerizer have said what they know.
		c.addAddress(st.ContainerStatus)
		return st
	}
	cs := st.ContainerStatus
	if cs == nil {
		cs = &mesos.ContainerStatus{}
		st.ContainerStatus = cs
	}
	cs.ContainerId = e.containerID
	if e.status != nil {
		if cs.ExecutorPid == nil {
			cs.ExecutorPid = e.status.ExecutorPid
		}
		if cs.CgroupInfo == nil {
			cs.CgroupInfo = e.status.CgroupInfo
		}
		if len(e.status.NetworkInfos) > 0 {
			cs.NetworkInfos = e.status.NetworkInfos
		}
	}
	c.addAddress(cs)
	return st
}

// addAddress gives a container that has no network of its own the agent's address.
func (c *Core) addAddress(cs *mesos.ContainerStatus) {
	if len(cs.NetworkInfos) > 0 {
		return
	}
	protocol := mesos.NetworkInfo_IPv4
	for i := range len(c.cfg.IP) {
		if c.cfg.IP[i] == ':' {
			protocol = mesos.NetworkInfo_IPv6
		}
	}
	cs.NetworkInfos = []*mesos.NetworkInfo{{IpAddresses: []*mesos.NetworkInfo_IPAddress{{
		Protocol: protocol.Enum(), IpAddress: new(c.cfg.IP),
	}}}}
}

// setState moves the task to the status's state (Executor::updateTaskState).
func (c *Core) setState(e *executorRun, taskID string, st *mesos.TaskStatus) (t *task, err string) {
	terminal := IsTerminal(st.GetState())
	if q, ok := e.queued.get(taskID); ok {
		if !terminal {
			return nil, "the task is queued"
		}
		e.queued.del(taskID)
		t = &task{t: newTask(q.info, e.fw.info.GetId(), st.GetState())}
	} else if t, ok = e.launched.get(taskID); !ok {
		return nil, "the task has ended"
	}
	t.t = with(t.t, func(n *mesos.Task) {
		n.State = st.GetState().Enum()
		n.Statuses = appendStatus(n.Statuses, st)
	})
	if terminal {
		e.launched.del(taskID)
		e.terminated.put(taskID, t)
		if key := terminalMetric(st.GetState()); key != "" {
			c.count(key)
		}
	}
	return t, ""
}

// appendStatus keeps the last status of each state only. It never writes to the
// slice that older copies of the task share.
func appendStatus(sts []*mesos.TaskStatus, st *mesos.TaskStatus) []*mesos.TaskStatus {
	keep := sts
	if n := len(sts); n > 0 && sts[n-1].GetState() == st.GetState() {
		keep = sts[:n-1]
	}
	out := make([]*mesos.TaskStatus, len(keep)+1)
	copy(out, keep)
	out[len(keep)] = st
	return out
}

func terminalMetric(s mesos.TaskState) string {
	switch s {
	case mesos.TaskState_TASK_FINISHED:
		return "slave/tasks_finished"
	case mesos.TaskState_TASK_FAILED:
		return "slave/tasks_failed"
	case mesos.TaskState_TASK_KILLED:
		return "slave/tasks_killed"
	case mesos.TaskState_TASK_LOST:
		return "slave/tasks_lost"
	case mesos.TaskState_TASK_GONE:
		return "slave/tasks_gone"
	default:
		return ""
	}
}

// take makes the update durable, queues it for the framework and acknowledges it
// to the executor. The shell writes the record before it does the rest.
func (c *Core) take(fwID string, st *mesos.TaskStatus, e, from *executorRun) {
	taskID := st.GetTaskId().GetValue()
	if st.AgentId == nil {
		st.AgentId = c.info.GetId()
	}
	key := streamKey(fwID, taskID)
	s, ok := c.updates.get(key)
	if !ok {
		// Only tasks that an executor had are worth the disk: what the agent itself
		// dropped, the master asks about again when the agent registers.
		s = &updateStream{
			framework: fwID, task: taskID, checkpoint: e != nil && e.fw.checkpoint(),
			received: map[string]bool{},
		}
		c.updates.put(key, s)
	}
	s.received[string(st.GetUuid())] = true
	s.pending = append(s.pending, st)
	if s.checkpoint {
		c.persist(AppendUpdate{fwID, taskID, s.seq, &clusterdv1.UpdateRecord{Status: st}})
		s.seq++
	}
	c.log(Info, "status_update", "framework_id", fwID, "task_id", taskID, "state", st.GetState().String())
	if len(s.pending) == 1 && c.phase == running {
		c.forward(s, updateRetryMin)
	}
	c.ack(from, st)
}

// ack tells an executor that its update is in the agent's keeping.
func (c *Core) ack(to *executorRun, st *mesos.TaskStatus) {
	if to == nil {
		return
	}
	c.sendExecutor(to, &executor.Event{
		Type: executor.Event_ACKNOWLEDGED.Enum(),
		Acknowledged: &executor.Event_Acknowledged{
			TaskId: st.GetTaskId(), Uuid: st.GetUuid(),
		},
	})
}

// forward sends the oldest pending update (Slave::forward) and sees to it that
// it is sent again.
func (c *Core) forward(s *updateStream, interval time.Duration) {
	st := s.pending[0]
	m := &clusterdv1.UpdateTask{
		FrameworkId: &mesos.FrameworkID{Value: new(s.framework)},
		ExecutorId:  st.GetExecutorId(), Status: st,
	}
	if fw, ok := c.frameworks.get(s.framework); ok {
		if e := fw.tasks[s.task]; e != nil {
			t, ok := e.launched.get(s.task)
			if !ok {
				t, ok = e.terminated.get(s.task)
			}
			if ok {
				t.t = with(t.t, func(n *mesos.Task) {
					n.StatusUpdateState = st.GetState().Enum()
					n.StatusUpdateUuid = st.GetUuid()
				})
				m.LatestState = t.t.GetState().Enum()
			}
		}
	}
	c.sendMaster(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: m}})
	s.interval = interval
	s.timer.stop()
	s.timer = c.after(interval, func() {
		if c.phase != running || len(s.pending) == 0 {
			return
		}
		c.log(Info, "status_update_resent", "framework_id", s.framework, "task_id", s.task)
		c.forward(s, min(s.interval*2, updateRetryMax))
	})
}

func (c *Core) pauseUpdates() {
	for s := range c.updates.values() {
		s.timer.stop()
	}
	c.pauseOperations()
}

// resumeUpdates sends the oldest pending update of every task.
func (c *Core) resumeUpdates() {
	if c.phase != running {
		return
	}
	for s := range c.updates.values() {
		if len(s.pending) > 0 {
			c.forward(s, updateRetryMin)
		}
	}
	c.resumeOperations()
}

// acknowledge takes a scheduler's acknowledgement
// (Slave::statusUpdateAcknowledgement).
func (c *Core) acknowledge(m *clusterdv1.AcknowledgeTask) {
	fwID, taskID := m.GetFrameworkId().GetValue(), m.GetTaskId().GetValue()
	s, ok := c.updates.get(streamKey(fwID, taskID))
	if !ok || len(s.pending) == 0 || string(s.pending[0].GetUuid()) != string(m.GetUuid()) {
		c.log(Warn, "unexpected_acknowledgement", "framework_id", fwID, "task_id", taskID)
		return
	}
	st := s.pending[0]
	s.pending = s.pending[1:]
	s.timer.stop()
	if IsTerminal(st.GetState()) {
		c.acknowledgedTerminal(s)
		return
	}
	if s.checkpoint {
		c.persist(AppendUpdate{fwID, taskID, s.seq, &clusterdv1.UpdateRecord{Acknowledged: st.GetUuid()}})
		s.seq++
	}
	if len(s.pending) > 0 {
		c.forward(s, updateRetryMin)
	}
}

// acknowledgedTerminal completes a task: its framework knows how it ended.
func (c *Core) acknowledgedTerminal(s *updateStream) {
	c.updates.del(streamKey(s.framework, s.task))
	fw, ok := c.frameworks.get(s.framework)
	if !ok {
		return
	}
	e := fw.tasks[s.task]
	if e == nil {
		return
	}
	if t, ok := e.terminated.get(s.task); ok {
		if !e.sentTask && !e.commandTask && e.everSentTask() {
			// The task's own record, which says so too, goes now.
			e.sentTask = true
			c.persistExecutor(e)
		}
		e.terminated.del(s.task)
		e.completed = pushRing(e.completed, t.t, c.cfg.MaxCompletedTasks)
		delete(fw.tasks, s.task)
		if fw.checkpoint() {
			c.persist(DeleteTask{fw.id, s.task})
		}
	}
	if e.state == execTerminated && !e.incompleteTasks() {
		c.removeExecutor(e)
	}
	c.removeIdleFramework(fw)
}

// dropStreams forgets the updates of a framework that is gone.
func (c *Core) dropStreams(framework string) {
	for s := range c.updates.values() {
		if s.framework == framework {
			s.timer.stop()
			c.updates.del(streamKey(s.framework, s.task))
		}
	}
}
