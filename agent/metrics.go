package agent

import (
	"context"
	"slices"
	"time"

	"clusterd/agent/core"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/metrics"
	"clusterd/isolation/setup"
)

// counted are the counters of the agent that exist from the start, so that each
// key of Mesos's is there when nothing has happened yet (section "slave" of
// src/slave/metrics.cpp).
var counted = []string{
	"slave/recovery_errors", "slave/executors_terminated", "slave/executors_preempted",
	"slave/tasks_finished", "slave/tasks_failed", "slave/tasks_killed", "slave/tasks_lost", "slave/tasks_gone",
	"slave/valid_status_updates", "slave/invalid_status_updates",
	"slave/valid_framework_messages", "slave/invalid_framework_messages",
	"slave/container_launch_errors",
	"containerizer/mesos/container_destroy_errors",
	"containerizer/mesos/provisioner/bind/remove_rootfs_errors",
	"containerizer/mesos/provisioner/remove_container_errors",
	"containerizer/fetcher/task_fetches_succeeded", "containerizer/fetcher/task_fetches_failed",
	"gc/path_removals_succeeded", "gc/path_removals_failed",
	"resource_provider_manager/events/disconnect", "resource_provider_manager/events/subscribe",
}

// zero are gauges of what this agent does not have.
var zero = []string{
	"resource_provider_manager/subscribed",
}

// pullWindow is how far back the percentiles of pulls look, as in Mesos.
const pullWindow = time.Hour

// measureContainers makes the metrics of containers that exist only where a feature is in
// use, as in Mesos. (A timer shows nothing before the first pull.)
func (a *Agent) measureContainers(o *setup.Options) {
	o.Count = func(name string) { a.metrics.Counter(name).Inc() }
	o.Gauge = a.metrics.GaugeFunc
	pulled := func(name string) func(time.Duration, error) {
		timer := a.metrics.Timer(name, pullWindow)
		return func(took time.Duration, _ error) { timer.Observe(took) }
	}
	if len(o.ImageProviders) > 0 {
		o.Images.Pulled = pulled("containerizer/mesos/provisioner/docker_store/image_pull")
	}
	if slices.Contains(o.Containerizers, "docker") {
		o.Docker.Pulled = pulled("containerizer/docker/image_pull")
	}
}

// metricsTimeout is how long a look at the metrics waits for the core.
const metricsTimeout = time.Second

func (a *Agent) registerMetrics() {
	for _, n := range counted {
		a.metrics.Counter(n)
	}
	for _, n := range zero {
		a.metrics.Gauge(n)
	}
	if a.opts.FetcherCacheSize <= 0 {
		a.metrics.Gauge("containerizer/fetcher/cache_size_total_bytes")
		a.metrics.Gauge("containerizer/fetcher/cache_size_used_bytes")
	}
	a.metrics.CollectSystem()
	a.metrics.GaugeFunc("slave/uptime_secs", func() float64 { return time.Since(a.started).Seconds() })
	a.metrics.Gauge("slave/recovery_time_secs")
	a.metrics.GaugeFunc("gc/path_removals_pending", func() float64 { return float64(a.gc.len()) })
	a.metrics.GaugeFunc("slave/executor_directory_max_allowed_age_secs", func() float64 { return a.gc.maxAge().Seconds() })
	a.metrics.Collect("agent", func(emit func(metrics.Sample)) {
		ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
		defer cancel()
		v, err := a.View(ctx)
		if err != nil {
			return
		}
		collect(v, func(name string, value float64) { emit(metrics.Sample{Name: name, Value: value}) })
	})
}

// collect emits the gauges that a view holds.
func collect(v *core.View, emit func(string, float64)) {
	tasks := map[mesos.TaskState]int{}
	executors := map[string]int{}
	for _, fw := range v.Frameworks {
		for _, e := range fw.Executors {
			executors[e.State]++
			tasks[mesos.TaskState_TASK_STAGING] += len(e.Queued)
			for _, t := range e.Launched {
				tasks[t.GetState()]++
			}
		}
	}
	registered := 0.0
	if v.Phase == "RUNNING" {
		registered = 1
	}
	emit("slave/registered", registered)
	emit("slave/frameworks_active", float64(len(v.Frameworks)))
	for name, state := range map[string]string{
		"registering": "REGISTERING", "running": "RUNNING", "terminating": "TERMINATING",
	} {
		emit("slave/executors_"+name, float64(executors[state]))
	}
	for name, state := range map[string]mesos.TaskState{
		"staging": mesos.TaskState_TASK_STAGING, "starting": mesos.TaskState_TASK_STARTING,
		"running": mesos.TaskState_TASK_RUNNING, "killing": mesos.TaskState_TASK_KILLING,
	} {
		emit("slave/tasks_"+name, float64(tasks[state]))
	}
	used := allocated(v)
	for _, n := range []string{"cpus", "gpus", "mem", "disk"} {
		for _, kind := range []struct {
			suffix      string
			total, used resources.Resources
		}{
			{"", v.Total.NonRevocable(), used.NonRevocable()},
			{"_revocable", v.Total.Revocable(), used.Revocable()},
		} {
			total, now := resources.FromMilli(kind.total.Scalar(n)), resources.FromMilli(kind.used.Scalar(n))
			percent := 0.0
			if total > 0 {
				percent = now / total
			}
			emit("slave/"+n+kind.suffix+"_total", total)
			emit("slave/"+n+kind.suffix+"_used", now)
			emit("slave/"+n+kind.suffix+"_percent", percent)
		}
	}
}
