package agent

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"clusterd/internal/httpapi"
)

// agentNames are all names of a Mesos agent's metrics, but those of features that are
// not in use, which Mesos does not show either.
var agentNames = []string{
	"slave/cpus_total", "slave/cpus_used", "slave/cpus_percent", "slave/cpus_revocable_total", "slave/cpus_revocable_used", "slave/cpus_revocable_percent",
	"slave/gpus_total", "slave/gpus_used", "slave/gpus_percent", "slave/gpus_revocable_total", "slave/gpus_revocable_used", "slave/gpus_revocable_percent",
	"slave/mem_total", "slave/mem_used", "slave/mem_percent", "slave/mem_revocable_total", "slave/mem_revocable_used", "slave/mem_revocable_percent",
	"slave/disk_total", "slave/disk_used", "slave/disk_percent", "slave/disk_revocable_total", "slave/disk_revocable_used", "slave/disk_revocable_percent",
	"slave/registered", "slave/uptime_secs", "slave/recovery_errors", "slave/recovery_time_secs", "slave/frameworks_active",
	"slave/executor_directory_max_allowed_age_secs",
	"slave/executors_registering", "slave/executors_running", "slave/executors_terminating", "slave/executors_terminated", "slave/executors_preempted",
	"slave/tasks_staging", "slave/tasks_starting", "slave/tasks_running", "slave/tasks_killing",
	"slave/tasks_finished", "slave/tasks_failed", "slave/tasks_killed", "slave/tasks_lost", "slave/tasks_gone",
	"slave/valid_status_updates", "slave/invalid_status_updates", "slave/valid_framework_messages", "slave/invalid_framework_messages",
	"slave/container_launch_errors", "containerizer/mesos/container_destroy_errors",
	"containerizer/mesos/provisioner/remove_container_errors", "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
	"containerizer/fetcher/task_fetches_succeeded", "containerizer/fetcher/task_fetches_failed",
	"containerizer/fetcher/cache_size_total_bytes", "containerizer/fetcher/cache_size_used_bytes",
	"gc/path_removals_pending", "gc/path_removals_succeeded", "gc/path_removals_failed",
	"resource_provider_manager/subscribed", "resource_provider_manager/events/subscribe", "resource_provider_manager/events/disconnect",
	"system/cpus_total", "system/load_1min", "system/load_5min", "system/load_15min", "system/mem_total_bytes", "system/mem_free_bytes",
}

func snapshotOf(t *testing.T, a *Agent) map[string]float64 {
	t.Helper()
	status, body := fetchText(t, a, "/metrics/snapshot")
	var m map[string]float64
	if err := json.Unmarshal([]byte(body), &m); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	return m
}

func fetchText(t *testing.T, a *Agent, path string) (int, string) {
	t.Helper()
	status, _, body := request(t, a, http.MethodGet, path, "", "")
	return status, body
}

// TestMetricNames runs a task and walks all names.
func TestMetricNames(t *testing.T) {
	m := newScriptedMaster(t)
	a := newMachine(t, m).start()
	m.waitRegistered(1)
	m.send(runTasks(framework("f"), commandTask("ok", "true")))
	m.waitState("ok", "FINISHED")
	m.send(runTasks(framework("f"), commandTask("stays", "sleep 1000")))
	m.waitState("stays", "RUNNING")

	snapshot := snapshotOf(t, a)
	for _, name := range agentNames {
		if _, ok := snapshot[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	for name, want := range map[string]float64{
		"slave/registered": 1, "slave/cpus_total": 4, "slave/mem_total": 1024, "slave/tasks_running": 1, "slave/tasks_finished": 1,
		"slave/frameworks_active": 1, "slave/container_launch_errors": 0, "slave/valid_status_updates": 5,
	} {
		if got := snapshot[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}

	families, err := a.metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "clusterd_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	counts := make(map[string]uint64)
	for _, f := range families {
		for _, one := range f.GetMetric() {
			counts[f.GetName()] += one.GetHistogram().GetSampleCount()
		}
	}
	for name, want := range map[string]uint64{"clusterd_agent_task_launch_seconds": 2, "clusterd_agent_container_launch_seconds": 2} {
		if counts[name] != want {
			t.Errorf("%s counts %d, want %d", name, counts[name], want)
		}
	}
	for _, name := range []string{"clusterd_agent_checkpoint_commit_seconds", "clusterd_http_request_duration_seconds"} {
		if counts[name] == 0 {
			t.Errorf("%s has counted nothing", name)
		}
	}
	m.send(killTask("f", "stays"))
	m.waitState("stays", "KILLED")
}

// TestHealth: an agent whose master is gone is degraded, one whose loop or disk fails
// is not healthy.
func TestHealth(t *testing.T) {
	m := newScriptedMaster(t)
	a := newMachine(t, m).start()
	m.waitRegistered(1)
	if status, body := fetchText(t, a, "/health"); status != http.StatusOK || body != "" {
		t.Fatalf("%d %q", status, body)
	}
	find := func(name string) httpapi.Check {
		for _, c := range a.checkHealth() {
			if c.Name == name {
				return c
			}
		}
		t.Fatalf("there is no check %s", name)
		return httpapi.Check{}
	}
	eventually(t, "it is seen to be registered", func() bool { return find("master").Status == httpapi.Healthy })
	m.set(func(m *scriptedMaster) { m.elsewhere = "none" })
	m.cut("leads no more")
	eventually(t, "it is seen to be alone", func() bool { return find("master").Status == httpapi.Degraded })
	if status, body := fetchText(t, a, "/health"); status != http.StatusOK {
		t.Errorf("alone: %d %s", status, body)
	}
	eventually(t, "its loop is seen to be silent", func() bool {
		a.health.mu.Lock()
		a.health.answered = time.Now().Add(-time.Minute)
		a.health.mu.Unlock()
		return find("core").Status == httpapi.Unhealthy // unless it has answered just now
	})
	eventually(t, "its loop is seen to answer", func() bool { return find("core").Status == httpapi.Healthy })
	a.recovered.Store(false)
	status, body := fetchText(t, a, "/health")
	a.recovered.Store(true)
	if status != http.StatusServiceUnavailable || body != "recovery: It has not finished.\n" {
		t.Errorf("recovering: %d %q", status, body)
	}
}
