package metrics

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Description says what a value of [Registry.Snapshot] means.
type Description struct {
	// Name is Mesos's, as in the snapshot.
	Name string `json:"name"`
	// Kind is "gauge", "counter" or "timer".
	Kind string `json:"kind"`
	// PromQL gives the same value, or for a timer's percentile the nearest there is; empty
	// if Prometheus is not shown it.
	PromQL string `json:"promql,omitempty"`
	Help   string `json:"help,omitempty"`
	// Unit of the value in the snapshot: "ms", "s", "MB", "bytes", "ratio", "cores" or empty.
	Unit string `json:"unit,omitempty"`
}

// Describe describes what [Registry.Snapshot] of the same timeout returns.
func (r *Registry) Describe(timeout time.Duration) []Description {
	timers := make(map[string]string)
	r.mu.RLock()
	for name := range r.timers {
		timers[name+"_ms"] = timerMetric(name)
	}
	r.mu.RUnlock()
	var all []Description
	for _, s := range r.Snapshot(timeout) {
		d := Description{Name: s.Name, Kind: "gauge", Unit: unitOf(s.Name)}
		name, part := s.Name, ""
		if i := strings.LastIndex(name, "_ms/"); i >= 0 {
			name, part = name[:i+len("_ms")], name[i+len("_ms/"):]
		}
		if metric, ok := timers[name]; ok {
			d.Kind, d.Help, d.PromQL = "timer", helpOf(metric), timerQuery(metric, part)
			if part == "count" {
				d.Unit = ""
			}
			all = append(all, d)
			continue
		}
		if s.Kind == KindCounter {
			d.Kind = "counter"
		}
		if m := translate(s.Name, s.Kind); !m.hidden {
			d.PromQL, d.Help = m.query(), helpOf(m.name)
		}
		all = append(all, d)
	}
	return all
}

// query selects the metric and nothing else of its name.
func (m *metric) query() string {
	if len(m.labels) == 0 {
		return m.name
	}
	matchers := make([]string, len(m.labels))
	for i, l := range m.labels {
		matchers[i] = fmt.Sprintf("%s=%q", l, m.values[i])
	}
	slices.Sort(matchers) // as Prometheus shows them
	return m.name + "{" + strings.Join(matchers, ",") + "}"
}

// timerQuery asks a histogram what a part of a timer says.
func timerQuery(metric, part string) string {
	switch part {
	case "count":
		return fmt.Sprintf("increase(%s_count[1h])", metric)
	case "", "min":
		return fmt.Sprintf("rate(%s_sum[5m]) / rate(%s_count[5m])", metric, metric)
	case "max":
		return fmt.Sprintf("histogram_quantile(1, rate(%s_bucket[1h]))", metric)
	}
	for _, q := range quantiles {
		if q.suffix == "/"+part {
			return fmt.Sprintf("histogram_quantile(%g, rate(%s_bucket[1h]))", q.q, metric)
		}
	}
	return metric
}

// unitOf reads the unit from the name of a value of Mesos's.
func unitOf(name string) string {
	base := name[strings.LastIndexByte(name, '/')+1:]
	switch {
	case strings.Contains(name, "_ms/") && base != "count", strings.HasSuffix(name, "_ms"):
		return "ms"
	case strings.HasSuffix(name, "_secs"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case strings.HasSuffix(name, "_percent"), strings.HasSuffix(name, "/shares/dominant"):
		return "ratio"
	case strings.HasPrefix(base, "mem_"), strings.HasPrefix(base, "disk_"),
		strings.Contains(name, "/resources/mem/"), strings.Contains(name, "/resources/disk/"):
		return "MB"
	case strings.HasPrefix(base, "cpus_"), strings.Contains(name, "/resources/cpus/"):
		return "cores"
	default:
		return ""
	}
}
