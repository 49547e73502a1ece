package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestTranslate(t *testing.T) {
	tests := []struct {
		mesos  string
		kind   Kind
		name   string // empty: hidden
		labels map[string]string
		scale  float64
	}{
		{mesos: "master/slaves_active", name: "clusterd_master_agents", labels: map[string]string{"state": "active"}},
		{mesos: "master/slave_registrations", kind: KindCounter, name: "clusterd_master_agent_registrations_total"},
		{mesos: "master/slave_removals", kind: KindCounter, name: "clusterd_master_agent_removals_total"},
		{mesos: "master/slave_removals/reason_unhealthy", kind: KindCounter, name: "clusterd_master_agent_removals_by_reason_total", labels: map[string]string{"reason": "unhealthy"}},
		{mesos: "master/slave_unreachable_scheduled", kind: KindCounter, name: "clusterd_master_agent_unreachable_total", labels: map[string]string{"step": "scheduled"}},
		{mesos: "master/mem_revocable_total", name: "clusterd_master_resource_capacity", labels: map[string]string{"resource": "mem", "unit": "byte", "revocable": "true"}, scale: 1 << 20},
		{mesos: "master/cpus_used", name: "clusterd_master_resource_used", labels: map[string]string{"resource": "cpus", "unit": "core", "revocable": "false"}},
		{mesos: "slave/disk_percent", name: "clusterd_agent_resource_used_ratio", labels: map[string]string{"resource": "disk", "revocable": "false"}},
		{mesos: "master/tasks_running", name: "clusterd_master_tasks", labels: map[string]string{"state": "TASK_RUNNING"}},
		{mesos: "master/tasks_gone_by_operator", kind: KindCounter, name: "clusterd_master_tasks_ended_total", labels: map[string]string{"state": "TASK_GONE_BY_OPERATOR"}},
		{mesos: "master/task_lost/source_master/reason_slave_removed", kind: KindCounter, name: "clusterd_master_tasks_by_reason_total", labels: map[string]string{"state": "TASK_LOST", "source": "SOURCE_MASTER", "reason": "REASON_SLAVE_REMOVED"}},
		{mesos: "master/invalid_status_update_acknowledgements", kind: KindCounter, name: "clusterd_master_checked_messages_total", labels: map[string]string{"type": "status_update_acknowledgement", "result": "invalid"}},
		{mesos: "master/valid_framework_to_executor_messages", kind: KindCounter, name: "clusterd_master_checked_messages_total", labels: map[string]string{"type": "framework_to_executor", "result": "valid"}},
		{mesos: "master/messages_kill_task", kind: KindCounter, name: "clusterd_master_messages_total", labels: map[string]string{"type": "kill_task"}},
		{mesos: "master/operations/pending"},
		{mesos: "master/operations/reserve/total"},
		{mesos: "master/operations/reserve/pending", name: "clusterd_master_operations", labels: map[string]string{"type": "RESERVE", "state": "OPERATION_PENDING"}},
		{mesos: "master/operations/create_disk/finished", kind: KindCounter, name: "clusterd_master_operations_ended_total", labels: map[string]string{"type": "CREATE_DISK", "state": "OPERATION_FINISHED"}},
		{mesos: "master/uptime_secs", name: "clusterd_master_uptime_seconds"},
		{mesos: "master/frameworks/a/f-1/calls", kind: KindCounter},
		{mesos: "master/frameworks/a%20b/f-1/calls/accept", kind: KindCounter, name: "clusterd_master_framework_calls_total", labels: map[string]string{"framework_name": "a b", "framework_id": "f-1", "type": "ACCEPT"}},
		{mesos: "master/frameworks//f-1/subscribed", name: "clusterd_master_framework_subscribed", labels: map[string]string{"framework_name": "", "framework_id": "f-1"}},
		{mesos: "master/frameworks/a/f-1/roles/eng/web/suppressed", name: "clusterd_master_framework_role_suppressed", labels: map[string]string{"framework_name": "a", "framework_id": "f-1", "role": "eng/web"}},
		{mesos: "master/frameworks/a/f-1/tasks/active/task_running", name: "clusterd_master_framework_tasks", labels: map[string]string{"framework_name": "a", "framework_id": "f-1", "state": "TASK_RUNNING"}},
		{mesos: "master/frameworks/a/f-1/offers/sent", kind: KindCounter, name: "clusterd_master_framework_offers_total", labels: map[string]string{"framework_name": "a", "framework_id": "f-1", "outcome": "sent"}},
		{mesos: "master/frameworks_active", name: "clusterd_master_frameworks", labels: map[string]string{"state": "active"}},
		{mesos: "frameworks/a/b/messages_received", kind: KindCounter, name: "clusterd_principal_messages_received_total", labels: map[string]string{"principal": "a/b"}},
		{mesos: "allocator/event_queue_dispatches"},
		{mesos: "allocator/mesos/allocation_runs", kind: KindCounter, name: "clusterd_allocator_runs_total"},
		{mesos: "allocator/mesos/quota/roles/a/b/resources/cpus/consumed", name: "clusterd_allocator_quota_consumed", labels: map[string]string{"role": "a/b", "resource": "cpus", "unit": "core"}},
		{mesos: "allocator/mesos/quota/roles//resources/mem/limit", name: "clusterd_allocator_quota_limit", labels: map[string]string{"role": "", "resource": "mem", "unit": "byte"}, scale: 1 << 20},
		{mesos: "allocator/mesos/offer_filters/roles/a/active", name: "clusterd_allocator_offer_filters", labels: map[string]string{"role": "a"}},
		{mesos: "allocator/mesos/roles/a/shares/dominant", name: "clusterd_allocator_role_dominant_share", labels: map[string]string{"role": "a"}},
		{mesos: "allocator/mesos/resources/cpus/total", name: "clusterd_allocator_resource_capacity", labels: map[string]string{"resource": "cpus", "unit": "core"}},
		{mesos: "registrar/log/ensemble_size", name: "clusterd_registry_members"},
		{mesos: "slave/executors_running", name: "clusterd_agent_executors", labels: map[string]string{"state": "running"}},
		{mesos: "slave/executors_preempted", kind: KindCounter, name: "clusterd_agent_executors_ended_total", labels: map[string]string{"state": "preempted"}},
		{mesos: "slave/executor_directory_max_allowed_age_secs", name: "clusterd_agent_executor_directory_max_allowed_age_seconds"},
		{mesos: "containerizer/fetcher/task_fetches_failed", kind: KindCounter, name: "clusterd_containerizer_fetcher_task_fetches_failed_total"},
		{mesos: "containerizer/mesos/disk/project_ids_total", name: "clusterd_containerizer_mesos_disk_project_ids"},
		{mesos: "system/load_1min", name: "clusterd_system_load_average", labels: map[string]string{"window": "1min"}},
	}
	for _, tt := range tests {
		m := translate(tt.mesos, tt.kind)
		got := make(map[string]string)
		for i := range m.labels {
			got[m.labels[i]] = m.values[i]
		}
		if m.hidden != (tt.name == "") || !m.hidden && (m.name != tt.name || !maps.Equal(got, tt.labels)) {
			t.Errorf("%s becomes %s%v (hidden: %v), want %s%v", tt.mesos, m.name, got, m.hidden, tt.name, tt.labels)
		}
		if want := max(tt.scale, 1); m.scale != want {
			t.Errorf("%s is scaled by %v, want %v", tt.mesos, m.scale, want)
		}
	}
}

func scrape(t *testing.T, r *Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape answers %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestPrometheus(t *testing.T) {
	r := NewRegistry()
	r.Counter("master/dropped_messages").Add(4)
	r.Gauge("master/elected").Set(1)
	r.Gauge("master/mem_total").Set(2)
	r.Collect("frameworks", func(emit func(Sample)) {
		emit(Sample{Name: "master/frameworks/x\xff/1/calls/kill", Value: 3, Kind: KindCounter})
		emit(Sample{Name: "master/frameworks/y/2/calls/kill", Value: 5, Kind: KindCounter})
		emit(Sample{Name: "master/frameworks/y/2/calls/accept", Kind: KindCounter})
	})
	timer := r.Timer("registrar/state_store", time.Hour)
	timer.Observe(time.Second)
	timer.Observe(3 * time.Second)
	requests := r.HistogramVec("clusterd_test_seconds", "A test.", "route")
	requests.Observe(time.Millisecond, "/state")
	r.HistogramVec("clusterd_test_seconds", "A test.", "route").Observe(time.Minute, "/state")
	for range 2 { // the second time from what the first has remembered
		text := scrape(t, r)
		for _, want := range []string{
			"# TYPE clusterd_master_dropped_messages_total counter\nclusterd_master_dropped_messages_total 4\n",
			"# TYPE clusterd_master_elected gauge\nclusterd_master_elected 1\n",
			`clusterd_master_resource_capacity{resource="mem",revocable="false",unit="byte"} 2.097152e+06` + "\n",
			"clusterd_master_framework_calls_total{framework_id=\"1\",framework_name=\"x\uFFFD\",type=\"KILL\"} 3\n",
			"clusterd_master_framework_calls_total{framework_id=\"2\",framework_name=\"y\",type=\"KILL\"} 5\n",
			"# TYPE clusterd_registry_commit_seconds histogram\n",
			"clusterd_registry_commit_seconds_bucket{le=\"1\"} 1\n",
			"clusterd_registry_commit_seconds_sum 4\nclusterd_registry_commit_seconds_count 2\n",
			"clusterd_test_seconds_bucket{route=\"/state\",le=\"0.001\"} 1\n",
			"clusterd_test_seconds_count{route=\"/state\"} 2\n",
			"\nclusterd_build_info{",
			"\ngo_goroutines ",
			"\ngo_sched_latencies_seconds_count ",
			"\nprocess_start_time_seconds ",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("scrape lacks %q", want)
			}
		}
		for _, unwanted := range []string{"state_store", "ACCEPT"} {
			if strings.Contains(text, unwanted) {
				t.Errorf("scrape has %q", unwanted)
			}
		}
	}
}

// golden returns the names that a real Mesos shows, by who shows them.
func golden(t *testing.T, who string) map[string]float64 {
	t.Helper()
	data, err := os.ReadFile("../../../shared/golden/after/" + who + "/metrics_snapshot.json")
	if err != nil {
		t.Skipf("no recorded answers: %v", err)
	}
	var recorded struct {
		Response struct{ JSON map[string]float64 }
	}
	if err := json.Unmarshal(data, &recorded); err != nil {
		t.Fatal(err)
	}
	return recorded.Response.JSON
}

// TestPrometheusOfMesos feeds every name that a real Mesos shows through the
// exporter: none may clash with another, and all must be as Prometheus wants them.
func TestPrometheusOfMesos(t *testing.T) {
	r := NewRegistry()
	names := 0
	for _, who := range []string{"master", "agent"} {
		values := golden(t, who)
		r.Collect(who, func(emit func(Sample)) {
			for _, name := range slices.Sorted(maps.Keys(values)) {
				if strings.Contains(name, "_ms") {
					continue // a timer
				}
				emit(Sample{Name: name, Value: values[name] + 1}) // sparse ones would be left out
			}
		})
		names += len(values)
	}
	if names < 250 {
		t.Fatalf("only %d recorded metrics", names)
	}
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatalf("names clash: %v", err)
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
}

// TestHelp finds help texts of metrics that do not exist, and of such as are
// translated from Mesos's but not explained.
func TestHelp(t *testing.T) {
	for name, text := range help {
		if !strings.HasSuffix(text, ".") || !strings.HasPrefix(name, "clusterd_") {
			t.Errorf("help of %s: %q", name, text)
		}
	}
	for _, who := range []string{"master", "agent"} {
		for name := range golden(t, who) {
			m := translate(name, KindGauge)
			if m.hidden || strings.HasPrefix(name, "containerizer/") || strings.HasPrefix(name, "resource_provider") || strings.Contains(name, "_ms") {
				continue
			}
			_, gauge := help[m.name]
			if _, counter := help[m.name+"_total"]; gauge || counter {
				continue
			}
			if _, ended := help[m.name+"_ended_total"]; !ended {
				t.Errorf("%s (%s) has no help", m.name, name)
			}
		}
	}
}

// large is a registry of a master with that many frameworks.
func large(frameworks int) *Registry {
	r := NewRegistry()
	kinds := []string{"subscribed", "calls", "events", "operations"}
	for i := range 80 {
		kinds = append(kinds, fmt.Sprintf("calls/type_%d", i))
	}
	r.Collect("frameworks", func(emit func(Sample)) {
		for i := range frameworks {
			prefix := fmt.Sprintf("master/frameworks/name-%d/id-%d/", i, i)
			for j, k := range kinds {
				emit(Sample{Name: prefix + k, Value: float64(j % 4), Kind: KindCounter})
			}
		}
	})
	return r
}

func BenchmarkSnapshot(b *testing.B) {
	r := large(1000)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], r.Snapshot(0))
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkScrape(b *testing.B) {
	r := large(1000)
	h := r.Handler()
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil))
		b.SetBytes(int64(w.Body.Len()))
	}
}
