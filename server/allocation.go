package server

import (
	"time"

	"clusterd/allocator"
	"clusterd/internal/metrics"
)

// timedAllocator measures the runs of an allocator, which has no clock.
type timedAllocator struct {
	allocator.Allocator
	runs          *metrics.Counter
	took, latency *metrics.Timer
	// fed is when the input came that the next run follows from.
	fed time.Time
}

func newTimedAllocator(a allocator.Allocator, m *metrics.Registry) *timedAllocator {
	return &timedAllocator{
		Allocator: a,
		runs:      m.Counter("allocator/mesos/allocation_runs"),
		took:      m.Timer("allocator/mesos/allocation_run", time.Hour),
		latency:   m.Timer("allocator/mesos/allocation_run_latency", time.Hour),
	}
}

// Allocate runs after every input; only runs that give something are counted,
// for most have nothing to decide.
func (a *timedAllocator) Allocate(now time.Time) allocator.Allocation {
	start := time.Now()
	result := a.Allocator.Allocate(now)
	if len(result.Offers) > 0 || len(result.InverseOffers) > 0 {
		a.ran(start)
	}
	return result
}

// AllocateAll is always counted.
func (a *timedAllocator) AllocateAll(now time.Time) allocator.Allocation {
	start := time.Now()
	result := a.Allocator.AllocateAll(now)
	a.ran(start)
	return result
}

func (a *timedAllocator) ran(start time.Time) {
	a.runs.Inc()
	a.took.Observe(time.Since(start))
	a.latency.Observe(start.Sub(a.fed))
}
