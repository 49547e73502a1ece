package core

import (
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// View is what the core knew at one moment. It and all that hangs on it is
// immutable.
type View struct {
	Version uint64
	Taken   time.Time
	// Phase is RECOVERING, DISCONNECTED, RUNNING or TERMINATING.
	Phase  string
	Info   *mesos.AgentInfo
	Master *mesos.MasterInfo // nil when not registered
	// Total is what the agent has, after the operations that changed it.
	Total resources.Resources
	// DrainConfig is set while the agent drains, since DrainStart or a little before.
	DrainConfig *mesos.DrainConfig
	DrainStart  time.Time
	Frameworks  []*FrameworkView
	Completed   []*FrameworkView
	Operations  []*mesos.Operation
}

// FrameworkView is a framework of a View.
type FrameworkView struct {
	Info               *mesos.FrameworkInfo
	Terminating        bool
	Executors          []*ExecutorView
	CompletedExecutors []*ExecutorView
}

// ExecutorView is an executor of a View.
type ExecutorView struct {
	Info        *mesos.ExecutorInfo
	ContainerID *mesos.ContainerID
	Directory   string
	CommandTask bool
	// User runs the executor; empty: the agent's own.
	User string
	// State is REGISTERING, RUNNING, TERMINATING or TERMINATED.
	State string
	// Allocated is what the executor and its live tasks use.
	Allocated  resources.Resources
	Queued     []*mesos.TaskInfo
	Launched   []*mesos.Task
	Terminated []*mesos.Task
	Completed  []*mesos.Task
}

// View takes a view. Its cost is a few pointers for each executor and task.
func (c *Core) View() *View {
	v := &View{
		Version: c.version, Taken: c.now, Phase: c.phase.String(), Info: c.info, Total: c.total,
		DrainConfig: c.draining.config, DrainStart: c.draining.since,
	}
	if c.phase == running {
		v.Master = c.master
	}
	for fw := range c.frameworks.values() {
		v.Frameworks = append(v.Frameworks, fw.view())
	}
	for _, fw := range c.completed {
		v.Completed = append(v.Completed, fw.view())
	}
	for o := range c.operations.values() {
		v.Operations = append(v.Operations, o.op)
	}
	return v
}

func (f *framework) view() *FrameworkView {
	v := &FrameworkView{Info: f.info, Terminating: f.terminating}
	for e := range f.executors.values() {
		v.Executors = append(v.Executors, e.view())
	}
	for _, e := range f.completed {
		v.CompletedExecutors = append(v.CompletedExecutors, e.view())
	}
	return v
}

func (e *executorRun) view() *ExecutorView {
	v := &ExecutorView{
		Info: e.info, ContainerID: e.containerID, Directory: e.directory, CommandTask: e.commandTask, User: e.user,
		State: e.state.String(), Allocated: e.allocated(), Completed: e.completed,
	}
	for q := range e.queued.values() {
		v.Queued = append(v.Queued, q.info)
	}
	for t := range e.launched.values() {
		v.Launched = append(v.Launched, t.t)
	}
	for t := range e.terminated.values() {
		v.Terminated = append(v.Terminated, t.t)
	}
	return v
}

// StagingTask is a task that its executor was not yet sent.
func StagingTask(t *mesos.TaskInfo, framework *mesos.FrameworkID) *mesos.Task {
	return newTask(t, framework, mesos.TaskState_TASK_STAGING)
}
