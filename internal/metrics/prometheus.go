package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"clusterd/internal/version"
)

const (
	// scrapeTimeout is how long a scrape waits for slow values; Prometheus itself
	// waits ten seconds unless it is told otherwise.
	scrapeTimeout = 8 * time.Second
	// maxScrapes may be answered at a time.
	maxScrapes = 8
)

// buckets of the classic histograms, in seconds: from the run of an idle allocator to
// the launch of a task with a large image.
var buckets = []float64{
	.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60,
}

// Histogram counts durations, in native and in classic buckets.
type Histogram struct{ h prometheus.Observer }

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) { h.h.Observe(d.Seconds()) }

// HistogramVec is a family of histograms that differ in their labels.
type HistogramVec struct{ v *prometheus.HistogramVec }

// Observe counts one duration under the values of the labels.
func (v *HistogramVec) Observe(d time.Duration, values ...string) {
	v.v.WithLabelValues(values...).Observe(d.Seconds())
}

// promRegistry is what only Prometheus sees.
type promRegistry struct {
	registry *prometheus.Registry

	mu         sync.Mutex // mu guards the field below.
	histograms map[string]*HistogramVec
}

func (p *promRegistry) init(r *Registry) {
	p.registry = prometheus.NewRegistry()
	p.histograms = make(map[string]*HistogramVec)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "clusterd_build_info",
		Help: "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{
			"version": version.Clusterd, "mesos_version": version.Mesos, "goversion": runtime.Version(),
		},
	})
	build.Set(1)
	p.registry.MustRegister(
		build, &exporter{r: r},
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsScheduler, collectors.MetricsGC)),
	)
}

// Histogram returns the histogram of that name, such as "clusterd_offer_latency_seconds",
// which it creates at the first call. Only Prometheus shows it.
func (r *Registry) Histogram(name, help string) *Histogram {
	return &Histogram{r.HistogramVec(name, help).v.WithLabelValues()}
}

// HistogramVec is [Registry.Histogram] for a family with labels.
func (r *Registry) HistogramVec(name, help string, labels ...string) *HistogramVec {
	r.prom.mu.Lock()
	defer r.prom.mu.Unlock()
	if v, ok := r.prom.histograms[name]; ok {
		return v
	}
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
	r.prom.registry.MustRegister(v)
	r.prom.histograms[name] = &HistogramVec{v}
	return r.prom.histograms[name]
}

// CounterFunc shows a counter that lives elsewhere; a second one of the same name is
// ignored. Only Prometheus sees it.
func (r *Registry) CounterFunc(name, help string, f func() float64) {
	_ = r.prom.registry.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
}

// InfoFunc shows a gauge that lives elsewhere, as CounterFunc does a counter.
func (r *Registry) InfoFunc(name, help string, f func() float64) {
	_ = r.prom.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// Gatherer gathers what [Registry.Handler] serves.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.prom.registry }

// Handler serves the registry, and Go's own runtime and process metrics, to
// Prometheus: as text, or as protobuf, which alone carries native histograms.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.prom.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
	})
}

// exporter shows the values that have names of Mesos's. It is an unchecked collector:
// which metrics there are is known only when they are collected.
type exporter struct {
	r *Registry

	mu sync.Mutex // mu guards the field below.
	// known holds what the names of the last scrape became, so that the next need not
	// take them apart again.
	known map[string]*metric
}

// Describe sends nothing, which makes the collector an unchecked one.
func (*exporter) Describe(chan<- *prometheus.Desc) {}

// Collect sends every value of the registry but timers, which are histograms here.
func (e *exporter) Collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	old := e.known
	e.mu.Unlock()
	known := make(map[string]*metric, len(old))
	for _, s := range e.r.values(scrapeTimeout) {
		if _, twice := known[s.Name]; twice {
			continue // the first counts, see Snapshot
		}
		m, ok := old[s.Name]
		if !ok {
			m = translate(s.Name, s.Kind)
		}
		known[s.Name] = m
		if m.hidden || (m.sparse && s.Value == 0) {
			continue
		}
		kind := prometheus.GaugeValue
		if s.Kind == KindCounter {
			kind = prometheus.CounterValue
		}
		if c, err := prometheus.NewConstMetric(m.desc, kind, s.Value*m.scale, m.values...); err == nil {
			ch <- c
		}
	}
	e.mu.Lock()
	e.known = known
	e.mu.Unlock()
}
