package server

import (
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/metrics"
	"clusterd/server/core"
)

// maxLaunching tasks are timed at once; beyond that others are not.
const maxLaunching = 1 << 18

// timings are what a term measures, for Prometheus. They belong to the goroutine that
// feeds the core.
type timings struct {
	offers, launches *metrics.Histogram
	// arrived is when the input that is being handled came in; it may have waited.
	arrived time.Time
	// launching has the tasks that were accepted and do not run yet.
	launching map[launchKey]time.Time
}

type launchKey struct{ framework, task string }

func newTimings(m *metrics.Registry) timings {
	return timings{
		offers: m.Histogram("clusterd_master_offer_latency_seconds",
			"From the arrival of what frees resources, or makes them wanted, until the offer is in the framework's stream."),
		launches: m.Histogram("clusterd_master_task_launch_seconds",
			"From the arrival of ACCEPT until the agent says TASK_RUNNING."),
		launching: make(map[launchKey]time.Time),
	}
}

// sent is told of each event that is sent to a framework.
func (t *timings) sent(e *scheduler.Event) {
	if e.GetType() == scheduler.Event_OFFERS {
		t.offers.Observe(time.Since(t.arrived))
	}
}

// announced is told of everything that happens.
func (t *timings) announced(e *core.Event) {
	if e.Task == nil {
		return
	}
	key := launchKey{e.Task.FrameworkID, e.Task.ID}
	switch {
	case e.Type == core.TaskAdded && e.Task.State == mesos.TaskState_TASK_STAGING:
		if len(t.launching) < maxLaunching {
			t.launching[key] = t.arrived
		}
	case e.Type == core.TaskUpdated:
		began, ok := t.launching[key]
		if !ok {
			return
		}
		switch e.Task.State {
		case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING:
			return
		case mesos.TaskState_TASK_RUNNING:
			t.launches.Observe(time.Since(began))
		default: // it has ended without
		}
		delete(t.launching, key)
	}
}
