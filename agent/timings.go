package agent

import (
	"time"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/metrics"
)

// maxLaunching tasks are timed at once; beyond that others are not.
const maxLaunching = 1 << 16

// timings are what an agent measures, for Prometheus. All but containers belongs to the
// goroutine that feeds the core.
type timings struct {
	containers, tasks, commits *metrics.Histogram
	// launching has the tasks that the master has sent and that do not run yet.
	launching map[launchKey]time.Time
}

type launchKey struct{ framework, task string }

func newTimings(m *metrics.Registry) timings {
	return timings{
		containers: m.Histogram("clusterd_agent_container_launch_seconds",
			"How long it took to launch a container: its sandbox, what is fetched, the waiting for others."),
		tasks: m.Histogram("clusterd_agent_task_launch_seconds",
			"From the master's message with a task until TASK_RUNNING is sent."),
		commits: m.Histogram("clusterd_agent_checkpoint_commit_seconds",
			"How long a transaction of the checkpoint took."),
		launching: make(map[launchKey]time.Time),
	}
}

// fed is told of each input of the core.
func (t *timings) fed(in core.Input, now time.Time) {
	m, ok := in.(core.MasterMessage)
	if !ok {
		return
	}
	run := m.Message.GetRunTasks()
	for _, task := range run.GetTasks() {
		if len(t.launching) < maxLaunching {
			t.launching[launchKey{run.GetFramework().GetId().GetValue(), task.GetTaskId().GetValue()}] = now
		}
	}
}

// sent is told of each message to the master.
func (t *timings) sent(e core.SendMaster) {
	u := e.Message.GetUpdateTask()
	if u == nil || len(t.launching) == 0 {
		return
	}
	key := launchKey{u.GetFrameworkId().GetValue(), u.GetStatus().GetTaskId().GetValue()}
	began, ok := t.launching[key]
	if !ok {
		return
	}
	switch u.GetStatus().GetState() {
	case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING:
		return
	case mesos.TaskState_TASK_RUNNING:
		t.tasks.Observe(time.Since(began))
	default: // it has ended without
	}
	delete(t.launching, key)
}
