// Package metrics holds the values that a master or an agent publishes, under
// the names that Mesos gives them, and renders them in two ways: as the flat
// JSON of `/metrics/snapshot`, and for Prometheus, with proper names, labels and
// units (names.go says how one becomes the other), and with the histograms that
// Mesos does not have.
//
// The main type is [Registry]. Counters and gauges are single atomics, cheap
// enough for any path; everything may be used from several goroutines. Imported
// by server, agent, internal/httpapi and internal/logs; nothing here is global.
package metrics

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Kind says how Prometheus should treat a value.
type Kind int

// The kinds of values.
const (
	KindGauge Kind = iota
	KindCounter
)

// Sample is one value under its Mesos name, such as "master/tasks_running".
type Sample struct {
	Name  string
	Value float64
	Kind  Kind
}

// Counter is a value that only grows. Its zero value is ready to use.
type Counter struct{ n atomic.Int64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int64) { c.n.Add(n) }

// Value returns the count.
func (c *Counter) Value() int64 { return c.n.Load() }

// Gauge is a value that is set. Its zero value is ready to use.
type Gauge struct{ bits atomic.Uint64 }

// Set replaces the value.
func (g *Gauge) Set(v float64) { g.bits.Store(math.Float64bits(v)) }

// Value returns the value.
func (g *Gauge) Value() float64 { return math.Float64frombits(g.bits.Load()) }

// Add changes the value by d.
func (g *Gauge) Add(d float64) {
	for {
		old := g.bits.Load()
		if g.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+d)) {
			return
		}
	}
}

// Registry is a set of named values.
type Registry struct {
	now func() time.Time

	mu       sync.RWMutex // mu guards the fields below.
	counters map[string]*Counter
	gauges   map[string]*Gauge
	timers   map[string]*Timer
	pulls    map[string]*pull

	prom promRegistry
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	r := &Registry{
		now:      time.Now,
		counters: make(map[string]*Counter),
		gauges:   make(map[string]*Gauge),
		timers:   make(map[string]*Timer),
		pulls:    make(map[string]*pull),
	}
	r.prom.init(r)
	return r
}

// Counter returns the counter of that name, which it creates at the first call.
func (r *Registry) Counter(name string) *Counter {
	r.mu.RLock()
	c, ok := r.counters[name]
	r.mu.RUnlock()
	if ok {
		return c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return getOrCreate(r.counters, name)
}

// Gauge returns the gauge of that name, which it creates at the first call.
func (r *Registry) Gauge(name string) *Gauge {
	r.mu.Lock()
	defer r.mu.Unlock()
	return getOrCreate(r.gauges, name)
}

func getOrCreate[T any](m map[string]*T, name string) *T {
	v, ok := m[name]
	if !ok {
		v = new(T)
		m[name] = v
	}
	return v
}

// GaugeFunc registers a gauge whose value is asked for whenever somebody
// looks. f must not block for long. Registering a name again replaces it.
func (r *Registry) GaugeFunc(name string, f func() float64) {
	r.Collect(name, func(emit func(Sample)) { emit(Sample{Name: name, Value: f()}) })
}

// Collect registers a function that emits any number of values, whose names may
// change from call to call, whenever somebody looks: per-framework or per-role
// metrics, say. id names the function itself, for [Registry.Remove] and to
// replace it.
func (r *Registry) Collect(id string, f func(emit func(Sample))) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulls[id] = &pull{collect: f, now: r.now}
}

// Timer returns the timer of that name, which it creates at the first call;
// its values appear under name + "_ms", with percentiles over the window, and for
// Prometheus as a histogram.
func (r *Registry) Timer(name string, window time.Duration) *Timer {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.timers[name]
	if !ok {
		metric := timerMetric(name)
		t = &Timer{now: r.now, window: window, histogram: r.Histogram(metric, helpOf(metric))}
		r.timers[name] = t
	}
	return t
}

// Remove forgets a counter, gauge, timer or collect function.
func (r *Registry) Remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.counters, name)
	delete(r.gauges, name)
	delete(r.timers, name)
	delete(r.pulls, name)
}

// Immediately is the timeout of [Registry.Snapshot] that asks for what is at hand.
const Immediately time.Duration = -1

// Snapshot returns every value, sorted by name. With a timeout above zero,
// functions that have not answered by then are left out, as Mesos leaves out
// slow gauges; without, the call waits for all of them. NaN and infinities,
// which JSON cannot hold, are left out always.
//
// However many ask at once, each function is called by one of them at a time, and
// never for an answer that is older than the question: many pollers cost as much as
// two. (Mesos delays all of them beyond two a second.)
func (r *Registry) Snapshot(timeout time.Duration) []Sample {
	r.mu.RLock()
	timers := make([]Sample, 0, 10*len(r.timers))
	for name, t := range r.timers {
		timers = t.append(timers, name+"_ms")
	}
	r.mu.RUnlock()
	samples := append(r.values(timeout), timers...)
	slices.SortStableFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(samples, func(a, b Sample) bool { return a.Name == b.Name })
}

// values returns all but the timers: counters and gauges come before what functions
// say of the same name.
func (r *Registry) values(timeout time.Duration) []Sample {
	r.mu.RLock()
	samples := make([]Sample, 0, len(r.counters)+len(r.gauges)+len(r.pulls))
	for name, c := range r.counters {
		samples = append(samples, Sample{name, float64(c.Value()), KindCounter})
	}
	for name, g := range r.gauges {
		samples = append(samples, Sample{name, g.Value(), KindGauge})
	}
	r.mu.RUnlock()
	samples = append(samples, r.collect(timeout)...)
	return slices.DeleteFunc(samples, func(s Sample) bool { return math.IsNaN(s.Value) || math.IsInf(s.Value, 0) })
}

// AppendJSON appends the samples as one flat JSON object of numbers.
func AppendJSON(dst []byte, samples []Sample) []byte {
	dst = append(dst, '{')
	for i, s := range samples {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendKey(dst, s.Name)
		dst = append(dst, ':')
		dst = appendDouble(dst, s.Value)
	}
	return append(dst, '}')
}

// appendKey quotes a name; names hold framework and role names, hence anything.
func appendKey(dst []byte, s string) []byte {
	dst = append(dst, '"')
	if plain(s) {
		return append(append(dst, s...), '"')
	}
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, string(c)...)
		}
	}
	return append(dst, '"')
}

// plain says that a string needs no escapes.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// appendDouble writes a double as Mesos does: always with a point or an exponent.
func appendDouble(dst []byte, v float64) []byte {
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, v, format, -1, 64)
	for _, c := range dst[start:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, '.', '0')
}
