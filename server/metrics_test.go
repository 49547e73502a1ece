package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/metrics"
	"clusterd/server/core"
)

// expand makes names of a pattern in which {a,b} stands for a or b.
func expand(pattern string) []string {
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return []string{pattern}
	}
	end := open + strings.IndexByte(pattern[open:], '}')
	var out []string
	for alt := range strings.SplitSeq(pattern[open+1:end], ",") {
		out = append(out, expand(pattern[:open]+alt+pattern[end+1:])...)
	}
	return out
}

const percentiles = "{,/count,/max,/min,/p50,/p90,/p95,/p99,/p999,/p9999}"

// masterNames are all names of a Mesos master's metrics that a busy cluster shows;
// %f stands for a framework's prefix.
var masterNames = []string{
	"master/{cpus,gpus,mem,disk}_{,revocable_}{total,used,percent}",
	"master/{elected,uptime_secs,http_cache_hits}",
	"system/{cpus_total,load_1min,load_5min,load_15min,mem_total_bytes,mem_free_bytes}",
	"master/slaves_{active,inactive,connected,disconnected,unreachable}",
	"master/{slave_registrations,slave_reregistrations,recovery_slave_removals}",
	"master/slave_removals{,/reason_unhealthy,/reason_unregistered,/reason_registered}",
	"master/{slave_shutdowns,slave_unreachable}_{scheduled,completed,canceled}",
	"master/frameworks_{active,inactive,connected,disconnected}",
	"master/{outstanding_offers,operator_event_stream_subscribers}",
	"master/tasks_{staging,starting,running,killing,unreachable,finished,failed,killed,lost,error,dropped,gone,gone_by_operator}",
	"master/task_error/source_master/reason_task_invalid",
	"master/operations/{,reserve/,unreserve/,create/,destroy/,grow_volume/,shrink_volume/,create_disk/,destroy_disk/}{total,pending,recovering,unreachable,finished,failed,error,dropped,gone_by_operator}",
	"master/dropped_messages",
	"master/messages_{register_framework,reregister_framework,unregister_framework,deactivate_framework,kill_task,status_update_acknowledgement,operation_status_update_acknowledgement,resource_request,launch_tasks,decline_offers,revive_offers,suppress_offers,reconcile_tasks,reconcile_operations,framework_to_executor,executor_to_framework,register_slave,reregister_slave,unregister_slave,status_update,operation_status_update,exited_executor,update_slave,authenticate}",
	"master/{valid,invalid}_{framework_to_executor_messages,executor_to_framework_messages,status_updates,status_update_acknowledgements,operation_status_updates,operation_status_update_acknowledgements}",
	"master/event_queue_{messages,dispatches,http_requests}",
	"%f/{subscribed,calls,events,operations}",
	"%f/calls/{subscribe,teardown,accept,decline,accept_inverse_offers,decline_inverse_offers,revive,suppress,kill,shutdown,acknowledge,acknowledge_operation_status,reconcile,reconcile_operations,message,request,update_framework}",
	"%f/events/{subscribed,offers,inverse_offers,rescind,rescind_inverse_offer,update,update_operation_status,message,failure,error,heartbeat}",
	"%f/offers/{sent,accepted,declined,rescinded}",
	"%f/operations/{launch,launch_group,reserve,unreserve,create,destroy,grow_volume,shrink_volume,create_disk,destroy_disk}",
	"%f/tasks/active/{task_staging,task_starting,task_running,task_killing,task_unreachable,task_unknown}",
	"%f/tasks/terminal/{task_finished,task_failed,task_killed,task_lost,task_error,task_dropped,task_gone,task_gone_by_operator}",
	"%f/roles/golden/suppressed",
	"frameworks/someone/{messages_received,messages_processed}",
	"registrar/{state_fetch_ms,queued_operations,registry_size_bytes,log/recovered,log/ensemble_size}",
	"registrar/state_store_ms" + percentiles,
	"allocator/mesos/{allocation_run_ms,allocation_run_latency_ms}" + percentiles,
	"allocator/mesos/{allocation_runs,event_queue_dispatches}",
	"allocator/event_queue_dispatches",
	"allocator/mesos/resources/{cpus,mem,disk}/{total,offered_or_allocated}",
	"allocator/mesos/quota/roles/golden/resources/cpus/{guarantee,limit,consumed,offered_or_allocated}",
	"allocator/mesos/offer_filters/roles/golden/active",
	"allocator/mesos/roles/golden/shares/dominant",
}

// busyCluster is a master on which everything has happened that has a metric.
func busyCluster(t *testing.T) (*Server, *framework) {
	t.Helper()
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	info := goldenInfo()
	info.Principal = new("someone")
	f := subscribe(t, s, info)
	offer := f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	f.launch(offer, "t1")
	for i, state := range []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING} {
		a.update(f, "t1", state, byte(i+1))
		f.acknowledge(f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus())
	}
	// A task that asks for more than is offered.
	offer = f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	f.accepted(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
		OfferIds: []*mesos.OfferID{offer.Id},
		Operations: []*mesos.Offer_Operation{{
			Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
				Name: new("big"), TaskId: &mesos.TaskID{Value: new("big")}, AgentId: offer.AgentId,
				Command:   &mesos.CommandInfo{Value: new("true")},
				Resources: resources.MustParse("cpus:400;mem:32").Allocate("golden").Proto(),
			}}},
		}},
		Filters: &mesos.Filters{RefuseSeconds: proto.Float64(0)},
	}})
	if st := f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus(); st.GetState() != mesos.TaskState_TASK_ERROR {
		t.Fatalf("got %v", st)
	}
	offer = f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	f.accepted(&scheduler.Call{Type: scheduler.Call_DECLINE.Enum(), Decline: &scheduler.Call_Decline{
		OfferIds: []*mesos.OfferID{offer.Id}, Filters: &mesos.Filters{RefuseSeconds: proto.Float64(3600)},
	}})
	mustOperate(t, s, `{"type":"UPDATE_QUOTA","update_quota":{"force":true,"quota_configs":[{"role":"golden","guarantees":{"cpus":{"value":1}},"limits":{"cpus":{"value":3}}}]}}`)
	return s, f
}

func mustOperate(t *testing.T, s *Server, call string) {
	t.Helper()
	if r := do(t, http.MethodPost, endpoint(s, "/api/v1"), http.Header{"Content-Type": {"application/json"}}, []byte(call)); r.status != http.StatusOK {
		t.Fatalf("%s: %d %s", call, r.status, r.body)
	}
}

// TestMetricNames walks all names that a Mesos master has.
func TestMetricNames(t *testing.T) {
	s, f := busyCluster(t)
	snapshot := getJSON(t, s, "/metrics/snapshot")
	r := do(t, http.MethodPost, endpoint(s, "/api/v1"), http.Header{"Content-Type": {"application/json"}, "Accept": {"application/x-protobuf"}},
		[]byte(`{"type":"GET_METRICS","get_metrics":{}}`))
	var resp master.Response
	if err := proto.Unmarshal([]byte(r.body), &resp); err != nil {
		t.Fatal(err)
	}
	called := make(map[string]bool)
	for _, m := range resp.GetGetMetrics().GetMetrics() {
		called[m.GetName()] = true
	}
	var missing []string
	n := 0
	for _, pattern := range masterNames {
		for _, name := range expand(strings.ReplaceAll(pattern, "%f", "master/frameworks/golden/"+f.id.GetValue())) {
			n++
			if _, ok := snapshot[name]; !ok || !called[name] {
				missing = append(missing, fmt.Sprintf("%s (GET_METRICS has it: %t)", name, called[name]))
			}
		}
	}
	if len(missing) > 0 || n < 300 {
		t.Errorf("%d of %d names are missing:\n%s", len(missing), n, strings.Join(missing, "\n"))
	}
	// And the values are those of this cluster.
	prefix := "master/frameworks/golden/" + f.id.GetValue()
	for name, want := range map[string]float64{
		"master/elected": 1, "master/slaves_active": 1, "master/frameworks_active": 1, "master/tasks_running": 1, "master/tasks_error": 1,
		"master/cpus_total": 4, "master/cpus_used": 0.1, "master/cpus_percent": 0.025, "master/mem_used": 32, "master/outstanding_offers": 0,
		"master/messages_launch_tasks": 2, "master/messages_decline_offers": 1, "master/valid_status_updates": 2,
		"master/task_error/source_master/reason_task_invalid": 1,
		"allocator/mesos/offer_filters/roles/golden/active":   1,
		"allocator/mesos/resources/cpus/total":                4, "allocator/mesos/resources/cpus/offered_or_allocated": 0.1,
		"allocator/mesos/quota/roles/golden/resources/cpus/guarantee": 1, "allocator/mesos/quota/roles/golden/resources/cpus/limit": 3,
		"allocator/mesos/quota/roles/golden/resources/cpus/consumed":             0.1,
		"allocator/mesos/quota/roles/golden/resources/cpus/offered_or_allocated": 0.1,
		"frameworks/someone/messages_received":                                   6, "frameworks/someone/messages_processed": 6,
		prefix + "/calls/accept": 2, prefix + "/offers/declined": 1, prefix + "/tasks/active/task_running": 1, prefix + "/tasks/terminal/task_error": 1,
		prefix + "/subscribed": 1, prefix + "/roles/golden/suppressed": 0, prefix + "/operations/launch": 2,
		"registrar/log/recovered": 1, "registrar/log/ensemble_size": 1,
	} {
		if got := snapshot[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// TestPrometheus checks the metrics of a busy cluster: nothing that Prometheus would
// not have so, no name without help, and the histograms have counted.
func TestPrometheus(t *testing.T) {
	s, f := busyCluster(t)
	getJSON(t, s, "/state")
	families, err := s.Metrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	index := make(map[string]int)
	for i, f := range families {
		name := f.GetName()
		index[name] = i
		if strings.HasPrefix(name, "clusterd_") && strings.HasPrefix(f.GetHelp(), "See the metric of the same name") {
			t.Errorf("%s is not explained", name)
		}
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
	for name, least := range map[string]uint64{
		"clusterd_master_offer_latency_seconds": 3, "clusterd_master_task_launch_seconds": 1,
		"clusterd_allocator_run_seconds": 3, "clusterd_registry_commit_seconds": 3, "clusterd_http_request_duration_seconds": 1,
	} {
		i, ok := index[name]
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		h := families[i].GetMetric()
		if len(h) == 0 || h[0].GetHistogram().GetSampleCount() < least {
			t.Errorf("%s: %v, want at least %d", name, h, least)
			continue
		}
		if len(h[0].GetHistogram().GetBucket()) < 10 || h[0].GetHistogram().Schema == nil {
			t.Errorf("%s is not both native and classic", name)
		}
	}
	// The stream that is open is no request of hours; nor did any take longer than the test.
	for _, m := range families[index["clusterd_http_request_duration_seconds"]].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "route" && l.GetValue() == "/api/v1/scheduler" && m.GetHistogram().GetSampleSum() > patience.Seconds() {
				t.Errorf("a stream was counted: %v", m)
			}
		}
	}
	text := get(t, s, "/metrics")
	if text.status != http.StatusOK || !strings.HasPrefix(text.header.Get("Content-Type"), "text/plain") {
		t.Errorf("/metrics: %d %v", text.status, text.header)
	}
	mustContain(t, text.body,
		`clusterd_master_tasks{state="TASK_RUNNING"} 1`,
		`clusterd_master_framework_tasks{framework_id="`+f.id.GetValue()+`",framework_name="golden",state="TASK_RUNNING"} 1`,
		`clusterd_allocator_offer_filters{role="golden"} 1`,
		`clusterd_principal_messages_received_total{principal="someone"} 6`,
		`clusterd_master_resource_capacity{resource="mem",revocable="false",unit="byte"} 2.147483648e+09`,
	)
	if r := get(t, s, "/metrics/nosuch"); r.status != http.StatusNotFound {
		t.Errorf("/metrics/nosuch: %d", r.status)
	}
}

// TestMetricsTimeout: what cannot be had at once is left out, not shown as zero.
func TestMetricsTimeout(t *testing.T) {
	s := startMaster(t)
	s.metrics.GaugeFunc("test/hangs", func() float64 {
		<-s.ctx.Done()
		return 1
	})
	for _, query := range []string{"timeout=10ms", "timeout=0secs", "timeout=1ns"} {
		snapshot := getJSON(t, s, "/metrics/snapshot?"+query)
		if _, has := snapshot["test/hangs"]; has || snapshot["master/slave_registrations"] != 0.0 {
			t.Errorf("%s: %v", query, snapshot["test/hangs"])
		}
	}
	for query, want := range map[string]string{
		"timeout=":       "Invalid timeout '': Invalid duration ''.\n",
		"timeout=5":      "Invalid timeout '5': Invalid duration '5'.\n",
		"timeout=-5secs": "Invalid timeout '-5secs': Failed to convert '' to number.\n",
		"timeout=5s":     "Invalid timeout '5s': Unknown duration unit 's'; supported units are 'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'.\n",
	} {
		if r := get(t, s, "/metrics/snapshot?"+query); r.status != http.StatusBadRequest || r.body != want {
			t.Errorf("%s: %d %q, want %q", query, r.status, r.body, want)
		}
	}
}

// TestSnapshotOfBusyCore: gauges of a core that does not answer are left out.
func TestSnapshotOfBusyCore(t *testing.T) {
	s := startMaster(t)
	startAgent(t, s, agentInfo())
	if got := getJSON(t, s, "/metrics/snapshot")["master/slaves_active"]; got != 1.0 {
		t.Fatalf("agents: %v", got)
	}
	release := block(t, s)
	snapshot := getJSON(t, s, "/metrics/snapshot?timeout=100ms")
	release()
	if got, has := snapshot["master/slaves_active"]; has {
		t.Errorf("a core that does not answer has %v agents", got)
	}
	if snapshot["master/slave_registrations"] != 1.0 {
		t.Errorf("counters need no core: %v", snapshot["master/slave_registrations"])
	}
}

// block stops the core's goroutine until release is called.
func block(t *testing.T, s *Server) (release func()) {
	t.Helper()
	// The goroutine of the term waits on this channel when it answers.
	answer := make(chan map[string]int)
	select {
	case s.term.Load().filters <- answer:
	case <-time.After(patience):
		t.Fatal("the core takes no question")
	}
	return func() { <-answer }
}

// TestHealth blocks the core of a master: /health says so without asking it.
func TestHealth(t *testing.T) {
	s := startMaster(t)
	if r := get(t, s, "/health"); r.status != http.StatusOK || r.body != "" {
		t.Fatalf("well: %d %q", r.status, r.body)
	}
	var verbose struct {
		Status string
		Checks []struct{ Name, Status, Reason string }
	}
	eventually(t, "the leader is known to lead", func() bool {
		if err := json.Unmarshal([]byte(get(t, s, "/health?verbose").body), &verbose); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(verbose.Checks, func(c struct{ Name, Status, Reason string }) bool {
			return c.Name == "leader" && c.Status == "healthy" && strings.HasPrefix(c.Reason, "leads cluster ")
		})
	})
	if verbose.Status != "healthy" {
		t.Errorf("got %+v", verbose)
	}
	release := block(t, s)
	// As if it had gone on for long.
	s.health.mu.Lock()
	s.health.answered = time.Now().Add(-time.Minute)
	s.health.mu.Unlock()
	r := get(t, s, "/health")
	call := do(t, http.MethodPost, endpoint(s, "/api/v1"), http.Header{"Content-Type": {"application/json"}}, []byte(`{"type":"GET_HEALTH"}`))
	release()
	if r.status != http.StatusServiceUnavailable || !strings.HasPrefix(r.body, "core: It has not answered for 1m0s") {
		t.Errorf("blocked: %d %q", r.status, r.body)
	}
	mustContain(t, call.body, `"healthy":false`)
	eventually(t, "it is well again", func() bool { return get(t, s, "/health").status == http.StatusOK })
}

// TestHealthOfFollowers: to follow is as healthy as to lead; to know no leader for long
// is not; to wait for others to found a cluster is not there yet.
func TestHealthOfFollowers(t *testing.T) {
	h := &health{}
	now := time.Now()
	for _, tt := range []struct {
		name       string
		pristine   bool
		leaderless time.Duration
		want       string
	}{
		{"follows", false, 0, "healthy"},
		{"between two leaders", false, 10 * time.Second, "degraded"},
		{"alone for long", false, time.Minute, "unhealthy"},
		{"waits to be founded", true, time.Hour, "degraded"},
	} {
		h.pristine, h.leaderless = tt.pristine, time.Time{}
		if tt.leaderless > 0 {
			h.leaderless = now.Add(-tt.leaderless)
		}
		if c := h.leaderLocked(now); c.Status.String() != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, c, tt.want)
		}
	}
}

// BenchmarkMetrics renders the metrics of a cluster of 10,000 agents and 1,000
// frameworks with ten tasks each, as a poller of each kind sees it.
func BenchmarkMetrics(b *testing.B) {
	s := startMaster(b)
	v, m := largeView(), metrics.NewRegistry()
	filters := make(map[string]int)
	for f := range v.Frameworks.Values() {
		filters[f.Roles[0]] = 7
		for i, name := range frameworkCounters {
			if i%4 == 0 { // a quarter has counted
				m.Counter(frameworkPrefix(f) + name).Add(5)
			}
		}
	}
	m.Collect("master", func(emit func(metrics.Sample)) { s.collectFrom(v, filters, emit) })
	b.Run("snapshot", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.SetBytes(int64(len(metrics.AppendJSON(nil, m.Snapshot(0)))))
		}
	})
	h := m.Handler()
	b.Run("prometheus", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil))
			b.SetBytes(int64(w.Body.Len()))
		}
	})
}

func largeView() *core.View {
	total, one := resources.MustParse("cpus:64;mem:262144;disk:1000000"), resources.MustParse("cpus:0.5;mem:128")
	agents, frameworks := make(map[string]*core.Agent), make(map[string]*core.Framework)
	for i := range 10_000 {
		id := fmt.Sprintf("S%d", i)
		agents[id] = &core.Agent{ID: id, Connected: true, Active: true, Total: total, Used: one.Allocate("role-1")}
	}
	for i := range 1000 {
		id, role := fmt.Sprintf("87b62806-7648-48b9-adfb-e17ef857b670-%04d", i), fmt.Sprintf("role-%d", i)
		tasks := make(map[string]*core.Task)
		for n := range 10 {
			tid := fmt.Sprintf("t%d", n)
			tasks[tid] = &core.Task{ID: tid, FrameworkID: id, State: mesos.TaskState_TASK_RUNNING, Resources: one.Allocate(role)}
		}
		frameworks[id] = &core.Framework{
			ID: id, Info: &mesos.FrameworkInfo{Name: new("framework"), Roles: []string{role}}, Roles: []string{role},
			Active: true, Connected: true, Tasks: core.MapOf(tasks),
		}
	}
	return &core.View{Serial: 1, Agents: core.MapOf(agents), Frameworks: core.MapOf(frameworks)}
}
