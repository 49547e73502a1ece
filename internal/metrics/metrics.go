// Package metrics holds the values that a master or an agent publishes, under
// the names that Mesos gives them, and renders them in two ways: as the flat
// JSON of `/metrics/snapshot` and as Prometheus text.
//
// The main type is [Registry]. Counters and gauges are single atomics, cheap
// enough for any path; everything may be used from several goroutines. Imported
// by server, agent and internal/httpapi; nothing here is global.
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

// pull is a function that is asked for values when somebody looks.
type pull struct {
	collect func(emit func(Sample))
	running atomic.Bool
}

// Registry is a set of named values.
type Registry struct {
	now func() time.Time

	mu       sync.RWMutex // mu guards the fields below.
	counters map[string]*Counter
	gauges   map[string]*Gauge
	timers   map[string]*Timer
	pulls    map[string]*pull
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{
		now:      time.Now,
		counters: make(map[string]*Counter),
		gauges:   make(map[string]*Gauge),
		timers:   make(map[string]*Timer),
		pulls:    make(map[string]*pull),
	}
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
	r.pulls[id] = &pull{collect: f}
}

// Timer returns the timer of that name, which it creates at the first call;
// its values appear under name + "_ms", with percentiles over the window.
func (r *Registry) Timer(name string, window time.Duration) *Timer {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.timers[name]
	if !ok {
		t = &Timer{now: r.now, window: window}
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

// Snapshot returns every value, sorted by name. With a timeout above zero,
// functions that have not answered by then are left out, as Mesos leaves out
// slow gauges; without, the call waits for all of them. NaN and infinities,
// which JSON cannot hold, are left out always.
func (r *Registry) Snapshot(timeout time.Duration) []Sample {
	r.mu.RLock()
	samples := make([]Sample, 0, len(r.counters)+len(r.gauges)+len(r.pulls)+10*len(r.timers))
	for name, c := range r.counters {
		samples = append(samples, Sample{name, float64(c.Value()), KindCounter})
	}
	for name, g := range r.gauges {
		samples = append(samples, Sample{name, g.Value(), KindGauge})
	}
	for name, t := range r.timers {
		samples = t.append(samples, name+"_ms")
	}
	r.mu.RUnlock()
	samples = append(samples, r.collect(timeout)...)
	samples = slices.DeleteFunc(samples, func(s Sample) bool { return math.IsNaN(s.Value) || math.IsInf(s.Value, 0) })
	slices.SortStableFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(samples, func(a, b Sample) bool { return a.Name == b.Name })
}

// collect asks the functions.
func (r *Registry) collect(timeout time.Duration) []Sample {
	r.mu.RLock()
	pulls := make([]*pull, 0, len(r.pulls))
	for _, p := range r.pulls {
		pulls = append(pulls, p)
	}
	r.mu.RUnlock()
	var out []Sample
	if timeout <= 0 {
		for _, p := range pulls {
			p.collect(func(s Sample) { out = append(out, s) })
		}
		return out
	}
	answers := make(chan []Sample, len(pulls)) // room for all: late ones must not block
	waiting := 0
	for _, p := range pulls {
		// A function that still hangs since an earlier request is not called
		// again, so at most one goroutine per function can be left behind.
		if !p.running.CompareAndSwap(false, true) {
			continue
		}
		waiting++
		go func() {
			defer p.running.Store(false)
			var got []Sample
			p.collect(func(s Sample) { got = append(got, s) })
			answers <- got
		}()
	}
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for ; waiting > 0; waiting-- {
		select {
		case got := <-answers:
			out = append(out, got...)
		case <-deadline.C:
			return out
		}
	}
	return out
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
