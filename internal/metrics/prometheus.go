package metrics

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// labelled are the Mesos names that hold something variable: a framework, a
// role, a reason. For Prometheus the variable parts become labels; the rest of
// the name, joined by underscores, is the metric.
var labelled = []struct {
	prefix  string // cheap test before the expression
	pattern *regexp.Regexp
	name    string // the metric; $rest is appended
	labels  []string
}{
	{"master/frameworks/", regexp.MustCompile(`^master/frameworks/([^/]*)/([^/]+)/roles/(.+)/suppressed()$`), "master_framework_role_suppressed", []string{"framework_name", "framework_id", "role"}},
	{"master/frameworks/", regexp.MustCompile(`^master/frameworks/([^/]*)/([^/]+)/(.+)$`), "master_framework", []string{"framework_name", "framework_id"}},
	{"frameworks/", regexp.MustCompile(`^frameworks/(.+)/(messages_received|messages_processed)$`), "framework", []string{"principal"}},
	{"master/task_", regexp.MustCompile(`^master/(task_[a-z_]+)/(source_[a-z_]+)/(reason_[a-z_]+)()$`), "master_tasks_by_reason", []string{"state", "source", "reason"}},
	{"allocator/mesos/quota/roles/", regexp.MustCompile(`^allocator/mesos/quota/roles/(.*)/resources/([^/]+)/([^/]+)$`), "allocator_quota", []string{"role", "resource"}},
	{"allocator/mesos/offer_filters/roles/", regexp.MustCompile(`^allocator/mesos/offer_filters/roles/(.*)/(active)$`), "allocator_offer_filters", []string{"role"}},
	{"allocator/mesos/roles/", regexp.MustCompile(`^allocator/mesos/roles/(.*)/(shares/dominant)$`), "allocator_role", []string{"role"}},
}

// Handler serves the registry, and Go's own runtime and process metrics, as
// Prometheus text.
func (r *Registry) Handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(exporter{r}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// exporter is an unchecked collector: which metrics there are is known only
// when they are collected.
type exporter struct{ r *Registry }

// Describe sends nothing, which makes the collector an unchecked one.
func (exporter) Describe(chan<- *prometheus.Desc) {}

// Collect sends every value of the registry.
func (e exporter) Collect(ch chan<- prometheus.Metric) {
	e.r.mu.RLock()
	timers := maps.Clone(e.r.timers)
	e.r.mu.RUnlock()
	skip := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(timers)) {
		s := timers[name].state()
		for _, sample := range timers[name].append(nil, name+"_ms") {
			skip[sample.Name] = true
		}
		if !s.hasLast {
			continue
		}
		values := make(map[float64]float64, len(quantiles))
		for _, q := range quantiles {
			if len(s.sorted) > 0 {
				values[q.q] = percentile(s.sorted, q.q) / 1000
			}
		}
		desc := prometheus.NewDesc(metricName(name+"_seconds"), "Mesos: "+name+"_ms", nil, nil)
		if m, err := prometheus.NewConstSummary(desc, s.total, s.sum.Seconds(), values); err == nil {
			ch <- m
		}
	}
	for _, s := range e.r.Snapshot(0) {
		if skip[s.Name] {
			continue
		}
		name, labels, values := prometheusName(s.Name)
		kind := prometheus.GaugeValue
		if s.Kind == KindCounter {
			kind = prometheus.CounterValue
			if !strings.HasSuffix(name, "_total") {
				name += "_total"
			}
		}
		// One help text per metric, or the exposition would be inconsistent.
		desc := prometheus.NewDesc(name, "Value of Mesos's /metrics/snapshot.", labels, nil)
		if m, err := prometheus.NewConstMetric(desc, kind, s.Value, values...); err == nil {
			ch <- m
		}
	}
}

// prometheusName maps a Mesos name to a metric and its labels.
func prometheusName(mesos string) (name string, labels, values []string) {
	for _, l := range labelled {
		if !strings.HasPrefix(mesos, l.prefix) {
			continue
		}
		match := l.pattern.FindStringSubmatch(mesos)
		if match == nil {
			continue
		}
		n := len(l.labels)
		values = make([]string, n)
		for i := range values {
			values[i] = strings.ToValidUTF8(match[i+1], "\uFFFD")
		}
		name = l.name
		if rest := match[len(match)-1]; rest != "" {
			name += "_" + rest
		}
		return metricName(name), l.labels, values
	}
	return metricName(mesos), nil, nil
}

// metricName makes a valid metric name of a Mesos name.
func metricName(s string) string {
	b := []byte("clusterd_" + s)
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	return string(b)
}
