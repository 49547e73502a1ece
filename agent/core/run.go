package core

import (
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

// runTasks launches one task, or a group, under one executor (Slave::run to
// Slave::__run in src/slave/slave.cpp, whose order of checks it keeps).
func (c *Core) runTasks(m *clusterdv1.RunTasks) {
	fwID := m.GetFramework().GetId().GetValue()
	if len(m.GetTasks()) == 0 || !safeID(fwID) {
		c.log(Warn, "ignored_run_tasks", "framework_id", fwID, "reason", "no tasks, or an impossible framework id")
		return
	}
	for _, t := range m.GetTasks() {
		if t.GetAgentId().GetValue() != c.agentID() {
			c.log(Warn, "ignored_run_tasks", "framework_id", fwID, "task_id", t.GetTaskId().GetValue(),
				"reason", "meant for agent "+t.GetAgentId().GetValue())
			return
		}
	}
	run := &launch{c: c, m: m, info: m.GetExecutor()}
	run.command = run.info == nil && m.GetTasks()[0].GetExecutor() == nil
	if run.info == nil && !run.command {
		run.info = m.GetTasks()[0].GetExecutor()
	}
	run.allocate()
	if run.command && (len(m.GetTasks()) != 1 || m.GetTasks()[0].GetCommand() == nil) {
		c.log(Error, "ignored_run_tasks", "framework_id", fwID, "reason", "neither an executor nor one command")
		return
	}
	if run.command {
		run.info = commandExecutor(m.GetFramework(), run.tasks[0])
	}

	fw, known := c.frameworks.get(fwID)
	if known && fw.terminating {
		c.log(Warn, "ignored_run_tasks", "framework_id", fwID, "reason", "the framework is terminating")
		run.exited()
		return
	}
	if !known {
		fw = c.addFramework(m.GetFramework())
	}
	run.fw = fw
	run.start()
	c.removeIdleFramework(fw)
}

// addFramework takes in a framework that was not here, with the completed
// executors that are still remembered of it.
func (c *Core) addFramework(info *mesos.FrameworkInfo) *framework {
	fw := &framework{id: info.GetId().GetValue(), info: info, tasks: map[string]*executorRun{}}
	for i, old := range c.completed {
		if old.id == fw.id {
			fw.completed = old.completed
			c.completed = append(c.completed[:i:i], c.completed[i+1:]...)
			break
		}
	}
	c.frameworks.put(fw.id, fw)
	if fw.checkpoint() {
		c.persist(PutFramework{info})
	}
	return fw
}

// launch is one RunTasks on its way.
type launch struct {
	c       *Core
	m       *clusterdv1.RunTasks
	fw      *framework
	info    *mesos.ExecutorInfo
	tasks   []*mesos.TaskInfo
	group   *mesos.TaskGroupInfo
	command bool
}

// allocate fills in the role that resources are allocated to where a master left
// it out: possible only for frameworks of one role.
func (l *launch) allocate() {
	var role string
	fw := l.m.GetFramework()
	switch roles := fw.GetRoles(); {
	case len(roles) == 1:
		role = roles[0]
	case len(roles) == 0:
		role = fw.GetRole()
	}
	fill := func(rs []*mesos.Resource) bool {
		changed := false
		for _, r := range rs {
			changed = changed || r.AllocationInfo == nil
		}
		return changed && role != ""
	}
	set := func(rs []*mesos.Resource) {
		for _, r := range rs {
			if r.AllocationInfo == nil {
				r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: new(role)}
			}
		}
	}
	if l.info != nil {
		if fill(l.info.GetResources()) || l.info.GetFrameworkId() == nil {
			l.info = proto.CloneOf(l.info)
			set(l.info.GetResources())
			l.info.FrameworkId = fw.GetId()
		}
	}
	for _, t := range l.m.GetTasks() {
		if fill(t.GetResources()) || fill(t.GetExecutor().GetResources()) {
			t = proto.CloneOf(t)
			set(t.GetResources())
			set(t.GetExecutor().GetResources())
		}
		l.tasks = append(l.tasks, t)
	}
	if l.m.GetGroup() {
		l.group = &mesos.TaskGroupInfo{Tasks: l.tasks}
	}
}

// drop reports that the tasks were never started.
func (l *launch) drop(reason mesos.TaskStatus_Reason, message string) {
	l.end(lost(l.fw.info, mesos.TaskState_TASK_DROPPED), reason, message)
}

func (l *launch) end(state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) {
	for _, t := range l.tasks {
		l.c.log(Warn, "task_dropped", "framework_id", l.fw.id, "task_id", t.GetTaskId().GetValue(), "reason", message)
		l.c.update(l.fw.id, l.c.newStatus(t.GetTaskId().GetValue(), state, reason, message,
			l.info.GetExecutorId().GetValue()), nil)
	}
}

// exited tells a master that counts on a new executor that there will be none.
func (l *launch) exited() {
	if l.m.GetLaunchExecutor() && !l.command {
		l.c.sendExitedExecutor(l.m.GetFramework().GetId(), l.info.GetExecutorId(), -1)
	}
}

func (l *launch) start() {
	c, execID := l.c, l.info.GetExecutorId().GetValue()
	if c.draining.config != nil {
		l.drop(mesos.TaskStatus_REASON_AGENT_DRAINING, "Task was received while agent was already draining")
		l.exited()
		return
	}
	if !safeID(execID) {
		l.drop(mesos.TaskStatus_REASON_TASK_INVALID, "Executor id "+execID+" is invalid")
		return
	}
	for _, t := range l.tasks {
		switch id := t.GetTaskId().GetValue(); {
		case !safeID(id):
			l.drop(mesos.TaskStatus_REASON_TASK_INVALID, "Task id "+id+" is invalid")
			l.exited()
			return
		case l.fw.tasks[id] != nil:
			// The master never does this. An update would speak of the task that lives.
			c.log(Error, "ignored_run_tasks", "framework_id", l.fw.id, "task_id", id, "reason", "the task exists already")
			return
		}
	}
	for _, t := range l.tasks {
		if !c.knows(t.GetResources()) {
			l.drop(mesos.TaskStatus_REASON_RESOURCES_UNKNOWN,
				"The checkpointed resources being used by the task or task group are unknown to the agent")
			l.exited()
			return
		}
	}
	if !c.knows(l.info.GetResources()) {
		l.drop(mesos.TaskStatus_REASON_RESOURCES_UNKNOWN,
			"The checkpointed resources being used by the executor are unknown to the agent")
		l.exited()
		return
	}
	if l.info.GetCommand() == nil && !isDefault(l.info) {
		l.drop(mesos.TaskStatus_REASON_TASK_INVALID, "Executor "+execID+" has no command")
		l.exited()
		return
	}
	e, exists := l.fw.executors.get(execID)
	switch {
	case l.command && exists:
		l.drop(mesos.TaskStatus_REASON_TASK_INVALID, "Cannot reuse an already existing executor for a command task")
		return
	case l.command:
	case l.m.GetLaunchExecutor() && exists:
		l.drop(mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, "Master wants to launch executor, but one already exists")
		switch e.state {
		case execTerminated:
			l.exited()
		case execRegistering, execRunning:
			c.shutdownExecutor(e)
		case execTerminating:
		}
		return
	case !l.m.GetLaunchExecutor() && !exists:
		l.drop(mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, "No executor is expected to launch and there is none running")
		return
	}
	if exists && (e.state == execTerminating || e.state == execTerminated) {
		what := map[executorState]string{execTerminating: "terminating", execTerminated: "terminated"}[e.state]
		l.drop(mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, "Executor "+what)
		return
	}
	if !exists {
		e = l.addExecutor()
	}
	for _, t := range l.tasks {
		e.enqueue(t, l.group)
		if e.fw.checkpoint() {
			c.persist(PutTask{&clusterdv1.TaskRecord{
				Task:       newTask(t, e.fw.info.GetId(), mesos.TaskState_TASK_STAGING),
				ExecutorId: e.info.GetExecutorId(),
			}})
		}
		c.log(Info, "task_queued", "framework_id", l.fw.id, "task_id", t.GetTaskId().GetValue(), "executor_id", execID)
	}
	if !exists {
		c.launchContainer(e)
	} else if e.state == execRunning {
		c.resizeAndDeliver(e)
	}
}

// knows says whether the reserved resources and volumes are those that
// operations have made here.
func (c *Core) knows(rs []*mesos.Resource) bool {
	return c.checkpointed.Contains(toResources(rs).Unallocate().Filter(resources.Item.NeedsCheckpoint))
}

func (l *launch) addExecutor() *executorRun {
	c := l.c
	e := &executorRun{
		fw: l.fw, id: l.info.GetExecutorId().GetValue(), info: l.info,
		containerID: &mesos.ContainerID{Value: new(uuidString(c.newUUID()))},
		commandTask: l.command, launching: true,
	}
	e.directory = sandboxDir(c.cfg.WorkDir, c.agentID(), l.fw.id, e.id, e.containerID.GetValue())
	e.user = c.userOf(l.fw, l.info)
	e.port = c.info.GetPort()
	c.enlist(e)
	c.persistExecutor(e)
	return e
}

// enlist makes the executor findable.
func (c *Core) enlist(e *executorRun) {
	e.fw.executors.put(e.id, e)
	c.containers[e.containerID.GetValue()] = e
}

func (c *Core) virtualPaths(e *executorRun) []string {
	return []string{
		e.directory,
		latestDir(c.cfg.WorkDir, c.agentID(), e.fw.id, e.id),
		virtualLatest(e.fw.id, e.id),
	}
}

func (c *Core) persistExecutor(e *executorRun) {
	if !e.fw.checkpoint() {
		return
	}
	r := &clusterdv1.ExecutorRecord{
		FrameworkId: e.fw.info.GetId(), ExecutorInfo: e.info, ContainerId: e.containerID,
		Directory: new(e.directory), CommandTask: new(e.commandTask),
		Terminated: new(e.state == execTerminated), SentTask: new(e.sentTask),
	}
	if e.user != "" {
		r.User = new(e.user)
	}
	if e.port != 0 {
		r.AgentPort = &e.port
	}
	c.persist(PutExecutor{r})
}

func (e *executorRun) enqueue(t *mesos.TaskInfo, group *mesos.TaskGroupInfo) {
	id := t.GetTaskId().GetValue()
	e.queued.put(id, &queuedTask{info: t, group: group})
	e.fw.tasks[id] = e
}

func (c *Core) launchContainer(e *executorRun) {
	given := e.allocated()
	e.given = given
	info := e.info
	container := info.GetContainer()
	if container == nil {
		container = c.cfg.DefaultContainerInfo
	}
	c.log(Info, "launching_container", "framework_id", e.fw.id, "executor_id", e.id,
		"container_id", e.containerID.GetValue())
	var task *mesos.TaskInfo
	for q := range e.queued.values() {
		if e.commandTask {
			task = q.info
		}
	}
	c.emit(LaunchContainer{
		Task: task, ContainerID: e.containerID, FrameworkID: e.fw.info.GetId(), ExecutorID: info.GetExecutorId(),
		CommandExecutor: e.commandTask, DefaultExecutor: isDefault(info), Command: info.GetCommand(), Container: container,
		Directory: e.directory, Virtual: c.virtualPaths(e), Owner: Owner(e.fw.info, e.info), User: e.user, Environment: c.environment(e),
		Resources: given.Proto(), Limits: c.limits(e),
	})
	e.registerTimer = c.after(c.cfg.ExecutorRegistrationTimeout, func() { c.registrationTimeout(e) })
}

// resizeAndDeliver sends what is queued once the container may use as much as
// it will need.
func (c *Core) resizeAndDeliver(e *executorRun) {
	var ids []string
	for q := range e.queued.values() {
		ids = append(ids, q.info.GetTaskId().GetValue())
	}
	if len(ids) == 0 && !e.stale {
		return
	}
	c.resize(e, func(err error) {
		if err != nil {
			c.resizeFailed(e, err)
			return
		}
		c.deliver(e, ids)
	})
}

// resize brings the container's resources up to date, then does next.
func (c *Core) resize(e *executorRun, next func(error)) {
	want := e.allocated()
	if want.Equal(e.given) && !e.stale {
		next(nil)
		return
	}
	e.given, e.stale = want, false
	c.token++
	if e.resizes == nil {
		e.resizes = map[uint64]func(error){}
	}
	e.resizes[c.token] = next
	c.emit(UpdateContainer{ContainerID: e.containerID, Token: c.token, Resources: want.Proto(), Limits: c.limits(e)})
}

func (c *Core) containerUpdated(in ContainerUpdated) {
	e := c.containers[in.ContainerID]
	if e == nil {
		return
	}
	if next := e.resizes[in.Token]; next != nil {
		delete(e.resizes, in.Token)
		next(in.Err)
	}
}

// resizeFailed destroys a container that could not be told what it may use.
func (c *Core) resizeFailed(e *executorRun, err error) {
	c.log(Error, "container_update_failed", "framework_id", e.fw.id, "executor_id", e.id,
		"container_id", e.containerID.GetValue(), "error", err.Error())
	if e.pending == nil {
		e.pending = &verdict{
			state:   lost(e.fw.info, mesos.TaskState_TASK_GONE),
			reason:  mesos.TaskStatus_REASON_CONTAINER_UPDATE_FAILED,
			message: "Failed to update resources for container: " + err.Error(),
		}
	}
	if e.state != execTerminated {
		c.emit(DestroyContainer{ContainerID: e.containerID})
	}
}

// deliver sends the queued tasks of ids that still are (Slave::___run).
func (c *Core) deliver(e *executorRun, ids []string) {
	if e.fw.terminating || e.state != execRunning {
		return
	}
	for _, id := range ids {
		q, ok := e.queued.get(id)
		if !ok {
			continue // killed, or sent with its group
		}
		if q.group == nil {
			c.launchTask(e, q.info)
			c.sendExecutor(e, &executor.Event{
				Type: executor.Event_LAUNCH.Enum(), Launch: &executor.Event_Launch{Task: q.info},
			})
			continue
		}
		for _, t := range q.group.GetTasks() {
			c.launchTask(e, t)
		}
		c.sendExecutor(e, &executor.Event{
			Type: executor.Event_LAUNCH_GROUP.Enum(), LaunchGroup: &executor.Event_LaunchGroup{TaskGroup: q.group},
		})
	}
}

func (c *Core) launchTask(e *executorRun, t *mesos.TaskInfo) {
	id := t.GetTaskId().GetValue()
	e.queued.del(id)
	e.launched.put(id, &task{t: newTask(t, e.fw.info.GetId(), mesos.TaskState_TASK_STAGING)})
	c.log(Debug, "task_sent_to_executor", "framework_id", e.fw.id, "task_id", id, "executor_id", e.id)
}
