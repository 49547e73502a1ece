package server

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"clusterd/allocator"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/quota"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/metrics"
	"clusterd/internal/version"
	"clusterd/registry"
	"clusterd/server/core"
	"clusterd/server/render"
)

// counters of the master that readers expect to find even before anything has
// happened (Mesos: src/master/metrics.cpp). The core counts them by these keys.
var counters = []string{
	"master/dropped_messages", "master/http_cache_hits",
	"master/slave_registrations", "master/slave_reregistrations", "master/slave_removals",
	"master/slave_removals/reason_registered", "master/slave_removals/reason_unhealthy", "master/slave_removals/reason_unregistered",
	"master/slave_shutdowns_scheduled", "master/slave_shutdowns_completed", "master/slave_shutdowns_canceled",
	"master/slave_unreachable_scheduled", "master/slave_unreachable_completed", "master/slave_unreachable_canceled",
	"master/recovery_slave_removals",
	"master/tasks_finished", "master/tasks_failed", "master/tasks_killed", "master/tasks_lost", "master/tasks_error",
	"master/tasks_dropped", "master/tasks_gone", "master/tasks_gone_by_operator",
	"master/messages_register_framework", "master/messages_reregister_framework", "master/messages_unregister_framework",
	"master/messages_deactivate_framework", "master/messages_kill_task", "master/messages_status_update_acknowledgement",
	"master/messages_operation_status_update_acknowledgement", "master/messages_resource_request", "master/messages_launch_tasks",
	"master/messages_decline_offers", "master/messages_revive_offers", "master/messages_suppress_offers",
	"master/messages_reconcile_tasks", "master/messages_reconcile_operations", "master/messages_framework_to_executor",
	"master/messages_executor_to_framework", "master/messages_register_slave", "master/messages_reregister_slave",
	"master/messages_unregister_slave", "master/messages_status_update", "master/messages_operation_status_update",
	"master/messages_exited_executor", "master/messages_update_slave", "master/messages_authenticate",
	"master/valid_framework_to_executor_messages", "master/invalid_framework_to_executor_messages",
	"master/valid_executor_to_framework_messages", "master/invalid_executor_to_framework_messages",
	"master/valid_status_updates", "master/invalid_status_updates",
	"master/valid_status_update_acknowledgements", "master/invalid_status_update_acknowledgements",
	"master/valid_operation_status_updates", "master/invalid_operation_status_updates",
	"master/valid_operation_status_update_acknowledgements", "master/invalid_operation_status_update_acknowledgements",
}

// operationTypes are the operations that have metrics of their own.
var operationTypes = []string{
	"reserve", "unreserve", "create", "destroy", "grow_volume", "shrink_volume", "create_disk", "destroy_disk",
}

// operationStates are shown as gauges while the operation is under way, as
// counters once it has ended.
var (
	operationGauges   = []string{"total", "pending", "recovering", "unreachable"}
	operationCounters = []string{"finished", "failed", "error", "dropped", "gone_by_operator"}
)

// publishMetrics registers what this master publishes.
func (s *Server) publishMetrics() {
	for _, name := range counters {
		s.metrics.Counter(name)
	}
	for _, state := range operationCounters {
		s.metrics.Counter("master/operations/" + state)
		for _, op := range operationTypes {
			s.metrics.Counter("master/operations/" + op + "/" + state)
		}
	}
	s.metrics.CollectSystem()
	s.pauses.publish(s.metrics)
	s.metrics.GaugeFunc("master/uptime_secs", func() float64 { return time.Since(s.start).Seconds() })
	s.metrics.GaugeFunc("master/elected", func() float64 {
		if s.term.Load() != nil {
			return 1
		}
		return 0
	})
	s.metrics.GaugeFunc("registrar/queued_operations", func() float64 {
		if r := s.registryIfOpen(); r != nil {
			return float64(r.QueuedOperations())
		}
		return 0
	})
	s.metrics.GaugeFunc("registrar/log/recovered", func() float64 {
		if r := s.registryIfOpen(); r != nil {
			return 1
		}
		return 0
	})
	s.metrics.GaugeFunc("registrar/log/ensemble_size", func() float64 {
		if r := s.registryIfOpen(); r != nil {
			if members, err := r.Members(); err == nil {
				return float64(len(members))
			}
		}
		return 0
	})
	size := new(registrySize)
	s.metrics.GaugeFunc("registrar/registry_size_bytes", func() float64 {
		if r := s.registryIfOpen(); r != nil {
			return size.of(r.State())
		}
		return 0
	})
	s.metrics.Collect("master", s.collect)
}

func (s *Server) onStore(took time.Duration, _ int) {
	s.metrics.Timer("registrar/state_store", 24*time.Hour).Observe(took)
}

// registryIfOpen is nil before Start.
func (s *Server) registryIfOpen() *registry.Registry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registry
}

// viewPatience is how long a look at the metrics waits for the core's view. Without
// it the gauges are left out: zeros would be a lie.
const viewPatience = 5 * time.Second

// collect emits the gauges that are read from the core's view: all from one.
func (s *Server) collect(emit func(metrics.Sample)) {
	gauge := func(name string, v float64) {
		emit(metrics.Sample{Name: name, Value: v, Kind: metrics.KindGauge})
	}
	t := s.term.Load()
	queued, subscribers := 0, 0
	if t != nil {
		queued, subscribers = len(t.inputs), t.events.Subscribers()
	}
	gauge("master/operator_event_stream_subscribers", float64(subscribers))
	gauge("master/event_queue_messages", float64(queued))
	gauge("master/event_queue_dispatches", 0)
	gauge("master/event_queue_http_requests", 0)
	gauge("allocator/event_queue_dispatches", 0)
	gauge("allocator/mesos/event_queue_dispatches", 0)

	v, filters, err := t.readings()
	if err != nil {
		return
	}
	s.collectFrom(v, filters, emit)
}

func (s *Server) collectFrom(v *core.View, filters map[string]int, emit func(metrics.Sample)) {
	gauge := func(name string, v float64) {
		emit(metrics.Sample{Name: name, Value: v, Kind: metrics.KindGauge})
	}
	for role, n := range filters {
		gauge("allocator/mesos/offer_filters/roles/"+role+"/active", float64(n))
	}
	countGauges(&v.Counts, gauge)
	totals := resourceGauges(v, gauge)
	roleGauges(v, s.opts.Core.Roles, totals, gauge)
	s.operationGaugesOf(v, gauge)
	if s.opts.Core.PublishFrameworkMetrics {
		for f := range v.Frameworks.Values() {
			prefix := frameworkPrefix(f)
			frameworkGauges(f, prefix, gauge)
			// Where the core has counted, its counter comes before this zero.
			for _, name := range frameworkCounters {
				emit(metrics.Sample{Name: prefix + name, Kind: metrics.KindCounter})
			}
		}
	}
}

// readings are what metrics want of a term; a master that does not lead has nothing.
func (t *term) readings() (*core.View, map[string]int, error) {
	if t == nil {
		return &core.View{}, nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), viewPatience)
	defer cancel()
	v, err := t.view(ctx)
	if err != nil {
		return nil, nil, err
	}
	answer := make(chan map[string]int, 1)
	select {
	case t.filters <- answer:
		return v, <-answer, nil
	case <-t.done:
		return nil, nil, errStopping
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// countFilters answers readings; it runs in the goroutine that owns the allocator.
func (t *term) countFilters(answer chan map[string]int) {
	var counts map[string]int
	if c, ok := t.alloc.Allocator.(allocator.FilterCounter); ok {
		counts = c.OfferFilters()
	}
	answer <- counts
}

func countGauges(c *core.Counts, gauge func(string, float64)) {
	gauge("master/slaves_active", float64(c.AgentsActive))
	gauge("master/slaves_inactive", float64(c.AgentsInactive))
	gauge("master/slaves_connected", float64(c.AgentsConnected))
	gauge("master/slaves_disconnected", float64(c.AgentsDisconnected))
	gauge("master/slaves_unreachable", float64(c.AgentsUnreachable))
	gauge("master/frameworks_active", float64(c.FrameworksActive))
	gauge("master/frameworks_inactive", float64(c.FrameworksInactive))
	gauge("master/frameworks_connected", float64(c.FrameworksConnected))
	gauge("master/frameworks_disconnected", float64(c.FrameworksDisconnected))
	gauge("master/outstanding_offers", float64(c.OutstandingOffers))
	for _, s := range []mesos.TaskState{
		mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING,
		mesos.TaskState_TASK_KILLING, mesos.TaskState_TASK_UNREACHABLE,
	} {
		gauge("master/tasks_"+strings.ToLower(strings.TrimPrefix(s.String(), "TASK_")), float64(c.Tasks[s]))
	}
}

// resourceGauges sums what agents have, and what is used of it.
func resourceGauges(v *core.View, gauge func(string, float64)) (totals map[string]float64) {
	names := []string{"cpus", "gpus", "mem", "disk"}
	type sums struct{ total, used, offered int64 }
	plain, revocable := make([]sums, len(names)), make([]sums, len(names))
	for a := range v.Agents.Values() {
		total, used := a.Total.Revocable(), a.Used.Revocable()
		for i, name := range names {
			revocable[i].total += total.Scalar(name)
			plain[i].total += a.Total.Scalar(name) - total.Scalar(name)
			revocable[i].used += used.Scalar(name)
			plain[i].used += a.Used.Scalar(name) - used.Scalar(name)
			plain[i].offered += a.Offered.Scalar(name)
		}
	}
	show := func(prefix string, s sums) {
		gauge(prefix+"_total", float64(s.total)/1000)
		gauge(prefix+"_used", float64(s.used)/1000)
		percent := 0.0
		if s.total > 0 {
			percent = float64(s.used) / float64(s.total)
		}
		gauge(prefix+"_percent", percent)
	}
	totals = make(map[string]float64)
	for i, name := range names {
		totals[name] = float64(plain[i].total+revocable[i].total) / 1000
		show("master/"+name, plain[i])
		show("master/"+name+"_revocable", revocable[i])
		if name != "gpus" {
			prefix := "allocator/mesos/resources/" + name
			gauge(prefix+"/total", totals[name])
			gauge(prefix+"/offered_or_allocated", float64(plain[i].used+revocable[i].used+plain[i].offered)/1000)
		}
	}
	return totals
}

// roleGauges emits what the allocator of Mesos says of roles: what they consume
// of their quota, and their dominant share. Top-level roles have one; the share
// is divided by the weight, as it is compared.
func roleGauges(v *core.View, whitelist []string, totals map[string]float64, gauge func(string, float64)) {
	for _, u := range render.Use(v, whitelist) {
		prefix := "allocator/mesos/quota/roles/" + u.Role + "/resources/"
		for name, n := range u.Consumed {
			gauge(prefix+name+"/consumed", n)
		}
		if q, ok := v.Quotas.Get(u.Role); ok {
			quotaGauges(q, prefix, u.Held, gauge)
		}
		if u.Role == "" || strings.Contains(u.Role, "/") {
			continue
		}
		share := 0.0
		for name, total := range totals {
			if total > 0 {
				share = max(share, u.Held[name]/total)
			}
		}
		gauge("allocator/mesos/roles/"+u.Role+"/shares/dominant", share/u.Weight)
	}
}

// quotaGauges emits the quota of a role, and what the role holds of what it names.
func quotaGauges(q *quota.QuotaConfig, prefix string, held map[string]float64, gauge func(string, float64)) {
	named := make(map[string]bool)
	for name, n := range q.GetGuarantees() {
		gauge(prefix+name+"/guarantee", n.GetValue())
		named[name] = true
	}
	for name, n := range q.GetLimits() {
		gauge(prefix+name+"/limit", n.GetValue())
		named[name] = true
	}
	for name := range named {
		gauge(prefix+name+"/offered_or_allocated", held[name])
	}
}

// registrySize is the size of a snapshot of the registry, measured once for each
// state of it.
type registrySize struct {
	mu sync.Mutex
	// mu guards what follows.
	state *registry.State
	size  int
}

func (r *registrySize) of(state *registry.State) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != state {
		var n counting
		if err := state.WriteSnapshot(&n, version.Clusterd); err != nil {
			return 0
		}
		r.state, r.size = state, int(n)
	}
	return float64(r.size)
}

// counting counts what is written to it.
type counting int

// Write counts.
func (c *counting) Write(p []byte) (int, error) {
	*c += counting(len(p))
	return len(p), nil
}

// operationGaugesOf counts operations that are under way; "total" counts those
// that have ended as well.
func (s *Server) operationGaugesOf(v *core.View, gauge func(string, float64)) {
	counts := make(map[string]int)
	for o := range v.Operations.Values() {
		op := strings.ToLower(o.Info.GetType().String())
		state := strings.ToLower(strings.TrimPrefix(o.Latest.GetState().String(), "OPERATION_"))
		for _, prefix := range []string{"", op + "/"} {
			counts[prefix+"total"]++
			counts[prefix+state]++
		}
	}
	prefixes := []string{""}
	for _, op := range operationTypes {
		prefixes = append(prefixes, op+"/")
	}
	for _, prefix := range prefixes {
		for _, state := range operationCounters {
			counts[prefix+"total"] += int(s.metrics.Counter("master/operations/" + prefix + state).Value())
		}
		for _, state := range operationGauges {
			gauge("master/operations/"+prefix+state, float64(counts[prefix+state]))
		}
	}
}

// frameworkPrefix begins the names of a framework's own metrics.
func frameworkPrefix(f *core.Framework) string {
	return "master/frameworks/" + url.QueryEscape(f.Info.GetName()) + "/" + f.ID + "/"
}

// activeStates have a gauge per framework.
var activeStates = []mesos.TaskState{
	mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING,
	mesos.TaskState_TASK_KILLING, mesos.TaskState_TASK_UNREACHABLE, mesos.TaskState_TASK_UNKNOWN,
}

// frameworkGauges emits what the view shows of a framework.
func frameworkGauges(f *core.Framework, prefix string, gauge func(string, float64)) {
	flag := func(name string, on bool) {
		v := 0.0
		if on {
			v = 1
		}
		gauge(prefix+name, v)
	}
	flag("subscribed", f.Connected)
	for _, role := range f.Roles {
		suppressed := false
		for _, s := range f.Suppressed {
			suppressed = suppressed || s == role
		}
		flag("roles/"+role+"/suppressed", suppressed)
	}
	counts := make(map[mesos.TaskState]int)
	for t := range f.Tasks.Values() {
		counts[t.State]++
	}
	for t := range f.UnreachableTasks.Values() {
		counts[t.State]++
	}
	for _, st := range activeStates {
		gauge(prefix+"tasks/active/"+strings.ToLower(st.String()), float64(counts[st]))
	}
}

// frameworkCounters are the names of a framework's counters behind its prefix;
// the core counts them.
var frameworkCounters = func() []string {
	names := []string{
		"calls", "events", "operations",
		"offers/sent", "offers/accepted", "offers/declined", "offers/rescinded",
		"operations/launch", "operations/launch_group",
	}
	for _, op := range operationTypes {
		names = append(names, "operations/"+op)
	}
	for n, name := range scheduler.Call_Type_name {
		if n != 0 {
			names = append(names, "calls/"+strings.ToLower(name))
		}
	}
	for n, name := range scheduler.Event_Type_name {
		if n != 0 {
			names = append(names, "events/"+strings.ToLower(name))
		}
	}
	for n, name := range mesos.TaskState_name {
		if core.Terminal(mesos.TaskState(n)) {
			names = append(names, "tasks/terminal/"+strings.ToLower(name))
		}
	}
	return names
}()
