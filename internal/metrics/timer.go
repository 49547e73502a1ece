package metrics

import (
	"math"
	"slices"
	"sync"
	"time"
)

// timerCapacity is how many observations a timer keeps for its percentiles;
// of more inside one window, the latest count. (Mesos thins the series out at
// the same number.)
const timerCapacity = 1000

// Timer measures how long something takes. It shows the latest duration in
// milliseconds and, once there are two inside its window, their number, minimum,
// maximum and percentiles.
type Timer struct {
	now       func() time.Time
	window    time.Duration
	histogram *Histogram // the same for Prometheus

	mu      sync.Mutex // mu guards the fields below.
	ring    []observation
	next    int // position of the oldest observation once the ring is full
	last    time.Duration
	hasLast bool
}

type observation struct {
	at   time.Time
	took time.Duration
}

// Observe records one duration.
func (t *Timer) Observe(d time.Duration) {
	t.histogram.Observe(d)
	o := observation{at: t.now(), took: d}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ring) < timerCapacity {
		t.ring = append(t.ring, o)
	} else {
		t.ring[t.next] = o
		t.next = (t.next + 1) % timerCapacity
	}
	t.last, t.hasLast = d, true
}

// Start begins a measurement; the function it returns ends and records it.
func (t *Timer) Start() (stop func()) {
	begin := t.now()
	return func() { t.Observe(t.now().Sub(begin)) }
}

// state is a copy of a timer for rendering.
type state struct {
	last    time.Duration
	hasLast bool
	sorted  []float64 // milliseconds inside the window
}

func (t *Timer) state() state {
	t.mu.Lock()
	s := state{last: t.last, hasLast: t.hasLast}
	oldest := t.now().Add(-t.window)
	for _, o := range t.ring {
		if t.window <= 0 || !o.at.Before(oldest) {
			s.sorted = append(s.sorted, milliseconds(o.took))
		}
	}
	t.mu.Unlock()
	slices.Sort(s.sorted)
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantiles are those that Mesos shows (statistics.hpp).
var quantiles = []struct {
	suffix string
	q      float64
}{
	{"/p50", 0.5},
	{"/p90", 0.9},
	{"/p95", 0.95},
	{"/p99", 0.99},
	{"/p999", 0.999},
	{"/p9999", 0.9999},
}

// append adds the timer's values; a timer without a measurement has none.
func (t *Timer) append(dst []Sample, name string) []Sample {
	s := t.state()
	if !s.hasLast {
		return dst
	}
	dst = append(dst, Sample{Name: name, Value: milliseconds(s.last)})
	if len(s.sorted) < 2 || t.window <= 0 {
		return dst
	}
	dst = append(dst,
		Sample{Name: name + "/count", Value: float64(len(s.sorted))},
		Sample{Name: name + "/max", Value: s.sorted[len(s.sorted)-1]},
		Sample{Name: name + "/min", Value: s.sorted[0]})
	for _, q := range quantiles {
		dst = append(dst, Sample{Name: name + q.suffix, Value: percentile(s.sorted, q.q)})
	}
	return dst
}

// percentile interpolates linearly between neighbours.
func percentile(sorted []float64, q float64) float64 {
	position := q * float64(len(sorted)-1)
	index := int(math.Floor(position))
	if index >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[index] + (sorted[index+1]-sorted[index])*(position-float64(index))
}
