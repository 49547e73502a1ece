package core

import (
	"maps"
	"strings"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/units"
)

// What a command executor takes on top of its task, outside the offer
// (DEFAULT_EXECUTOR_CPUS and _MEM in src/slave/constants.hpp).
const (
	commandExecutorCPUs  = 0.1
	commandExecutorMemMB = 32
)

// killGraceMargin is what a command executor's shutdown grace period has beyond
// its task's kill policy: time to report TASK_KILLED before the container is
// destroyed.
const killGraceMargin = 2 * time.Second

// maxGrace bounds grace periods: a framework may ask for the longest time there
// is, to which nothing can be added.
const maxGrace = 10 * 365 * 24 * time.Hour

// commandExecutor makes the executor of a command task
// (Slave::getExecutorInfo). What it runs is up to the containerizer.
func commandExecutor(framework *mesos.FrameworkInfo, t *mesos.TaskInfo) *mesos.ExecutorInfo {
	cmd := t.GetCommand()
	e := &mesos.ExecutorInfo{
		ExecutorId:  &mesos.ExecutorID{Value: new(t.GetTaskId().GetValue())},
		FrameworkId: framework.GetId(),
		Name:        new("Command Executor " + commandName(t)),
		Source:      new(t.GetTaskId().GetValue()),
		Container:   t.GetContainer(),
		Labels:      t.GetLabels(),
		Discovery:   t.GetDiscovery(),
		Command: &mesos.CommandInfo{
			Shell:       new(false),
			Value:       new("clusterd-command-executor"),
			Arguments:   []string{"clusterd-command-executor"},
			Uris:        cmd.GetUris(),
			Environment: cmd.GetEnvironment(),
			User:        cmd.User,
		},
	}
	if g := t.GetKillPolicy().GetGracePeriod(); g != nil {
		e.ShutdownGracePeriod = &mesos.DurationInfo{
			Nanoseconds: new(min(g.GetNanoseconds(), int64(maxGrace)) + int64(killGraceMargin)),
		}
	}
	var role *mesos.Resource_AllocationInfo
	for _, r := range t.GetResources() {
		if role == nil {
			role = r.GetAllocationInfo()
		}
	}
	scalar := func(name string, v float64) *mesos.Resource {
		return &mesos.Resource{
			Name: new(name), Type: mesos.Value_SCALAR.Enum(),
			Scalar: &mesos.Value_Scalar{Value: new(v)}, AllocationInfo: role,
		}
	}
	e.Resources = []*mesos.Resource{scalar("cpus", commandExecutorCPUs), scalar("mem", commandExecutorMemMB)}
	return e
}

// isDefault says whether an executor is the built-in one of task groups.
func isDefault(e *mesos.ExecutorInfo) bool { return e.GetType() == mesos.ExecutorInfo_DEFAULT }

// commandName shows the task and the beginning of its command; tools display
// it, so its form is Mesos's to the letter.
func commandName(t *mesos.TaskInfo) string {
	cmd := t.GetCommand()
	name := "(Task: " + t.GetTaskId().GetValue() + ") "
	short := func(s string) string {
		if len(s) > 15 {
			return s[:12] + "..."
		}
		return s
	}
	switch {
	case cmd.GetShell() && cmd.Value == nil:
		return name + "(Command: NO COMMAND)"
	case cmd.GetShell():
		if v := cmd.GetValue(); len(v) > 15 {
			return name + "(Command: sh -c '" + v[:12] + "...')"
		}
		return name + "(Command: sh -c '" + cmd.GetValue() + "')"
	case cmd.Value == nil:
		return name + "(Command: NO EXECUTABLE)"
	default:
		return name + "(Command: [" + short(cmd.GetValue()+", "+strings.Join(cmd.GetArguments(), ", ")) + "])"
	}
}

// environment is what the agent tells an executor (executorEnvironment in
// src/slave/slave.cpp). The command's own environment overrides it.
func (c *Core) environment(e *executorRun) map[string]string {
	env := map[string]string{}
	if c.cfg.LibprocessIP != "" {
		env["LIBPROCESS_IP"] = c.cfg.LibprocessIP
	}
	maps.Copy(env, c.cfg.ExecutorEnvironment)
	if _, ok := env["PATH"]; !ok {
		env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	endpoint := c.cfg.IP + ":" + itoa(int(c.info.GetPort()))
	if strings.Contains(c.cfg.IP, ":") {
		endpoint = "[" + c.cfg.IP + "]:" + itoa(int(c.info.GetPort()))
	}
	env["LIBPROCESS_PORT"] = "0"
	env["MESOS_FRAMEWORK_ID"] = e.fw.id
	env["MESOS_EXECUTOR_ID"] = e.id
	env["MESOS_DIRECTORY"] = e.directory
	env["MESOS_SANDBOX"] = e.directory
	env["MESOS_SLAVE_ID"] = c.agentID()
	env["MESOS_SLAVE_PID"] = "slave(1)@" + endpoint
	env["MESOS_AGENT_ENDPOINT"] = endpoint
	env["MESOS_CHECKPOINT"] = "0"
	// Ours always speaks the HTTP API.
	env["MESOS_HTTP_COMMAND_EXECUTOR"] = "1"
	env["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"] = units.FormatDuration(c.shutdownGrace(e))
	if c.cfg.DomainSocket != "" {
		env["MESOS_DOMAIN_SOCKET"] = c.cfg.DomainSocket
	}
	if e.fw.checkpoint() {
		env["MESOS_CHECKPOINT"] = "1"
		env["MESOS_RECOVERY_TIMEOUT"] = units.FormatDuration(c.cfg.RecoveryTimeout)
		env["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = units.FormatDuration(c.cfg.ExecutorReregistrationTimeout)
	}
	return env
}

// shutdownGrace is how long an executor has after SHUTDOWN.
func (c *Core) shutdownGrace(e *executorRun) time.Duration {
	if g := e.info.GetShutdownGracePeriod(); g != nil {
		return time.Duration(max(0, min(g.GetNanoseconds(), int64(maxGrace+killGraceMargin))))
	}
	return c.cfg.ExecutorShutdownGracePeriod
}

// newTask is the record of a task from its description (protobuf::createTask in
// src/common/protobuf_utils.cpp).
func newTask(t *mesos.TaskInfo, framework *mesos.FrameworkID, state mesos.TaskState) *mesos.Task {
	out := &mesos.Task{
		Name:        t.Name,
		TaskId:      t.GetTaskId(),
		FrameworkId: framework,
		AgentId:     t.GetAgentId(),
		State:       state.Enum(),
		Resources:   t.GetResources(),
		Labels:      t.GetLabels(),
		Discovery:   t.GetDiscovery(),
		Container:   t.GetContainer(),
		HealthCheck: t.GetHealthCheck(),
		KillPolicy:  t.GetKillPolicy(),
		Limits:      t.GetLimits(),
	}
	if e := t.GetExecutor(); e != nil {
		out.ExecutorId = e.GetExecutorId()
	}
	if cmd := t.GetCommand(); cmd != nil && cmd.User != nil {
		out.User = cmd.User
	} else if cmd := t.GetExecutor().GetCommand(); cmd != nil {
		out.User = cmd.User
	}
	return out
}

// with returns a copy of the task that shares all messages below it.
func with(t *mesos.Task, change func(*mesos.Task)) *mesos.Task {
	out := &mesos.Task{
		Name: t.Name, TaskId: t.TaskId, FrameworkId: t.FrameworkId, ExecutorId: t.ExecutorId,
		AgentId: t.AgentId, State: t.State, Resources: t.Resources, Statuses: t.Statuses,
		StatusUpdateState: t.StatusUpdateState, StatusUpdateUuid: t.StatusUpdateUuid,
		Labels: t.Labels, Discovery: t.Discovery, Container: t.Container, HealthCheck: t.HealthCheck,
		KillPolicy: t.KillPolicy, User: t.User, Limits: t.Limits,
	}
	change(out)
	return out
}

// limits sums what the tasks of an executor may burst to
// (Slave::computeExecutorLimits).
func (c *Core) limits(e *executorRun) map[string]*mesos.Value_Scalar {
	var out map[string]*mesos.Value_Scalar
	for _, name := range []string{"cpus", "mem"} {
		var limit, request float64
		set := false
		add := func(rs []*mesos.Resource, limits map[string]*mesos.Value_Scalar) {
			if l, ok := limits[name]; ok {
				limit += l.GetValue()
				set = true
				return
			}
			request += resources.FromMilli(toResources(rs).Scalar(name))
		}
		for q := range e.queued.values() {
			add(q.info.GetResources(), q.info.GetLimits())
		}
		for t := range e.launched.values() {
			add(t.t.GetResources(), t.t.GetLimits())
		}
		// Without CFS a limit of cpus would throttle the tasks that have none.
		if !set || name == "cpus" && request > 0 && !c.cfg.EnableCFS {
			continue
		}
		if out == nil {
			out = map[string]*mesos.Value_Scalar{}
		}
		own := resources.FromMilli(toResources(e.info.GetResources()).Scalar(name))
		out[name] = &mesos.Value_Scalar{Value: new(limit + request + own)}
	}
	return out
}

// Owner is whose an executor is, with all that it runs and writes: the user of its
// command, else that of its framework. (Whether it runs as that user is another
// question: --switch_user.)
func Owner(fw *mesos.FrameworkInfo, info *mesos.ExecutorInfo) string {
	if cmd := info.GetCommand(); cmd != nil && cmd.User != nil {
		return cmd.GetUser()
	}
	return fw.GetUser()
}

// userOf is who runs the executor.
func (c *Core) userOf(fw *framework, info *mesos.ExecutorInfo) string {
	if !c.cfg.SwitchUser {
		return ""
	}
	return Owner(fw.info, info)
}
