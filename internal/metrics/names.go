package metrics

import (
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// How a name of Mesos's becomes a metric of Prometheus:
//
//   - what varies (task states, roles, frameworks, resources, message types) is a label;
//   - slave is agent, registrar is registry; the prefix is clusterd_;
//   - counters end in _total; memory and disk are bytes, ages seconds;
//   - sums over a label that Mesos publishes beside their parts are hidden: sum() makes
//     them, and with them it would count twice;
//   - the counters of a framework are left out until they count something: there are
//     eighty for each.
//
// docs/metrics.md lists the result.

// metric is what a name of Mesos's becomes.
type metric struct {
	name           string
	labels, values []string
	desc           *prometheus.Desc
	// scale turns the value into base units.
	scale float64
	// hidden metrics are not shown; sparse ones only when they are not zero.
	hidden, sparse bool
}

// translate finds the metric of a name.
func translate(name string, kind Kind) *metric {
	m := &metric{scale: 1}
	head, rest, _ := strings.Cut(name, "/")
	switch head {
	case "master":
		m.master(rest, kind)
	case "slave":
		m.agent(rest, kind)
	case "frameworks":
		i := strings.LastIndexByte(rest, '/')
		if i < 0 {
			m.is(name)
			break
		}
		m.is("principal_"+rest[i+1:], "principal", rest[:i])
	case "allocator":
		m.allocator(rest)
	case "registrar":
		m.registry(rest)
	case "system":
		m.system(rest)
	default:
		m.is(name)
	}
	if m.hidden {
		return m
	}
	m.name = "clusterd_" + sanitize(m.name)
	if stem, ok := strings.CutSuffix(m.name, "_secs"); ok {
		m.name = stem + "_seconds"
	}
	m.name = strings.TrimSuffix(m.name, "_total")
	if kind == KindCounter {
		m.name += "_total"
	}
	for i, v := range m.values {
		m.values[i] = strings.ToValidUTF8(v, "\uFFFD")
	}
	m.desc = prometheus.NewDesc(m.name, helpOf(m.name), m.labels, nil)
	return m
}

// is sets the name and the labels, given as names and values in turn.
func (m *metric) is(name string, labels ...string) {
	m.name = name
	for i := 0; i+1 < len(labels); i += 2 {
		m.labels, m.values = append(m.labels, labels[i]), append(m.values, labels[i+1])
	}
}

func sanitize(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			b[i] = '_'
		}
	}
	return string(b)
}

// unit returns the unit that a resource is shown in, and what turns Mesos's into it.
func unit(resource string) (name string, scale float64) {
	switch resource {
	case "cpus":
		return "core", 1
	case "gpus":
		return "device", 1
	case "mem", "disk":
		return "byte", 1 << 20
	default:
		return "", 1
	}
}

// resource shows a quantity of a resource.
func (m *metric) resource(name, resource string, labels ...string) {
	u, scale := unit(resource)
	m.is(name, append([]string{"resource", resource, "unit", u}, labels...)...)
	m.scale = scale
}

// both handles what master and agent have in common; who is "master" or "agent".
func (m *metric) both(who, rest string, kind Kind) bool {
	for _, r := range []string{"cpus", "gpus", "mem", "disk"} {
		what, ok := strings.CutPrefix(rest, r+"_")
		if !ok {
			continue
		}
		revocable := "false"
		if w, ok := strings.CutPrefix(what, "revocable_"); ok {
			revocable, what = "true", w
		}
		switch what {
		case "total":
			m.resource(who+"_resource_capacity", r, "revocable", revocable)
		case "used":
			m.resource(who+"_resource_used", r, "revocable", revocable)
		case "percent":
			m.is(who+"_resource_used_ratio", "resource", r, "revocable", revocable)
		default:
			continue
		}
		return true
	}
	if state, ok := strings.CutPrefix(rest, "tasks_"); ok {
		name := who + "_tasks"
		if kind == KindCounter {
			name += "_ended"
		}
		m.is(name, "state", "TASK_"+strings.ToUpper(state))
		return true
	}
	for _, result := range []string{"valid", "invalid"} {
		if what, ok := strings.CutPrefix(rest, result+"_"); ok {
			what = strings.TrimSuffix(strings.TrimSuffix(what, "_messages"), "s")
			m.is(who+"_checked_messages", "type", what, "result", result)
			return true
		}
	}
	return false
}

func (m *metric) master(rest string, kind Kind) {
	if m.both("master", rest, kind) {
		return
	}
	first, more, deep := strings.Cut(rest, "/")
	switch {
	case deep && first == "frameworks":
		m.framework(more)
	case deep && first == "operations":
		m.operation("master_operations", more, kind)
	case deep && first == "slave_removals":
		m.is("master_agent_removals_by_reason", "reason", strings.TrimPrefix(more, "reason_"))
	case deep && strings.HasPrefix(first, "task_"):
		source, reason, _ := strings.Cut(more, "/")
		m.is("master_tasks_by_reason", "state", strings.ToUpper(first), "source", strings.ToUpper(source), "reason", strings.ToUpper(reason))
	case first == "recovery_slave_removals":
		m.is("master_recovery_agent_removals")
	default:
		for _, group := range []struct{ prefix, name, label string }{
			{"slaves_", "master_agents", "state"},
			{"frameworks_", "master_frameworks", "state"},
			{"messages_", "master_messages", "type"},
			{"event_queue_", "master_event_queue", "kind"},
			{"slave_shutdowns_", "master_agent_shutdowns", "step"},
			{"slave_unreachable_", "master_agent_unreachable", "step"},
		} {
			if value, ok := strings.CutPrefix(first, group.prefix); ok {
				m.is(group.name, group.label, value)
				return
			}
		}
		m.is("master_" + strings.ReplaceAll(rest, "slave", "agent"))
	}
}

// operation handles "<type>/<state>"; without a type it is the sum of all types.
func (m *metric) operation(name, rest string, kind Kind) {
	typ, state, deep := strings.Cut(rest, "/")
	if !deep || state == "total" {
		m.hidden = true
		return
	}
	if kind == KindCounter {
		name += "_ended"
	}
	m.is(name, "type", strings.ToUpper(typ), "state", "OPERATION_"+strings.ToUpper(state))
}

// framework handles "<name>/<id>/<what>".
func (m *metric) framework(rest string) {
	name, rest, _ := strings.Cut(rest, "/")
	id, rest, _ := strings.Cut(rest, "/")
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	is := func(metric string, labels ...string) {
		m.is("master_framework_"+metric, append([]string{"framework_id", id, "framework_name", name}, labels...)...)
	}
	first, more, deep := strings.Cut(rest, "/")
	switch {
	case !deep && (first == "calls" || first == "events" || first == "operations"):
		m.hidden = true // the sum of its types
	case !deep:
		is(first)
	case first == "roles":
		is("role_suppressed", "role", strings.TrimSuffix(more, "/suppressed"))
	case first == "tasks":
		of, state, _ := strings.Cut(more, "/")
		what := "tasks"
		if of == "terminal" {
			what, m.sparse = "tasks_ended", true
		}
		is(what, "state", strings.ToUpper(state))
	case first == "offers":
		m.sparse = true
		is("offers", "outcome", more)
	default: // calls, events, operations
		m.sparse = true
		is(first, "type", strings.ToUpper(more))
	}
}

func (m *metric) agent(rest string, kind Kind) {
	if m.both("agent", rest, kind) {
		return
	}
	if state, ok := strings.CutPrefix(rest, "executors_"); ok {
		name := "agent_executors"
		if kind == KindCounter {
			name += "_ended"
		}
		m.is(name, "state", state)
		return
	}
	if rest == "frameworks_active" {
		rest = "frameworks"
	}
	m.is("agent_" + rest)
}

func (m *metric) allocator(rest string) {
	rest, ok := strings.CutPrefix(rest, "mesos/")
	if !ok {
		m.hidden = true // the deprecated name of the same
		return
	}
	const quota, filters, roles, resources = "quota/roles/", "offer_filters/roles/", "roles/", "resources/"
	switch {
	case strings.HasPrefix(rest, quota):
		role, what, _ := cutLast(rest[len(quota):], "/resources/")
		resource, what, _ := strings.Cut(what, "/")
		m.resource("allocator_quota_"+what, resource, "role", role)
	case strings.HasPrefix(rest, filters):
		m.is("allocator_offer_filters", "role", strings.TrimSuffix(rest[len(filters):], "/active"))
	case strings.HasPrefix(rest, roles):
		m.is("allocator_role_dominant_share", "role", strings.TrimSuffix(rest[len(roles):], "/shares/dominant"))
	case strings.HasPrefix(rest, resources):
		resource, what, _ := strings.Cut(rest[len(resources):], "/")
		if what == "total" {
			what = "capacity"
		}
		m.resource("allocator_resource_"+what, resource)
	case rest == "allocation_runs":
		m.is("allocator_runs")
	default:
		m.is("allocator_" + rest)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func (m *metric) registry(rest string) {
	switch rest {
	case "registry_size_bytes":
		m.is("registry_size_bytes")
	case "log/recovered":
		m.is("registry_recovered")
	case "log/ensemble_size":
		m.is("registry_members")
	default:
		m.is("registry_" + rest)
	}
}

func (m *metric) system(rest string) {
	switch rest {
	case "cpus_total":
		m.is("system_cpus")
	case "mem_total_bytes":
		m.is("system_memory_bytes")
	case "mem_free_bytes":
		m.is("system_memory_free_bytes")
	default:
		if window, ok := strings.CutPrefix(rest, "load_"); ok {
			m.is("system_load_average", "window", window)
			return
		}
		m.is("system_" + rest)
	}
}

// timerMetric is the histogram of a timer.
func timerMetric(timer string) string {
	switch timer {
	case "allocator/mesos/allocation_run":
		return "clusterd_allocator_run_seconds"
	case "allocator/mesos/allocation_run_latency":
		return "clusterd_allocator_run_latency_seconds"
	case "registrar/state_store":
		return "clusterd_registry_commit_seconds"
	case "registrar/state_fetch":
		return "clusterd_registry_fetch_seconds"
	default:
		return "clusterd_" + sanitize(timer) + "_seconds"
	}
}
