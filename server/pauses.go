package server

import (
	"sync"
	"time"

	"clusterd/internal/metrics"
)

// pauses say how long the core makes others wait: readers and allocations must not show
// in them. The methods of the zero value do nothing.
type pauses struct {
	waits, handles, views *metrics.Histogram

	wait, handle, view peak
}

// publish registers what is shown of the pauses. There is no term yet.
func (p *pauses) publish(m *metrics.Registry) {
	p.waits = m.Histogram("clusterd_master_core_wait_seconds",
		"From the arrival of an input until the core begins with it.")
	p.handles = m.Histogram("clusterd_master_core_handle_seconds",
		"How long the core takes for one input, all that it causes included.")
	p.views = m.Histogram("clusterd_master_core_view_seconds",
		"How long the core takes to show its readers what has changed: nothing else that they do holds it up.")
	m.InfoFunc("clusterd_master_core_longest_view_seconds",
		"The longest that the core has taken for that, in this minute and the one before.", p.view.seconds)
	m.InfoFunc("clusterd_master_core_longest_wait_seconds",
		"The longest that an input has waited for the core, in this minute and the one before.", p.wait.seconds)
	m.InfoFunc("clusterd_master_core_longest_handle_seconds",
		"The longest that the core has taken for one input, in this minute and the one before.", p.handle.seconds)
}

// note is told of an input that was handled: when it came, and when the core began with
// it and was done.
func (p *pauses) note(came, began, done time.Time) {
	if p.waits == nil {
		return
	}
	wait, took := max(began.Sub(came), 0), done.Sub(began)
	p.waits.Observe(wait)
	p.handles.Observe(took)
	p.wait.note(done, wait)
	p.handle.note(done, took)
}

// viewed is told of a view that was made for readers since then.
func (p *pauses) viewed(began time.Time) {
	if p.views == nil {
		return
	}
	now := time.Now()
	p.views.Observe(now.Sub(began))
	p.view.note(now, now.Sub(began))
}

// peak is the longest of durations that are not long ago.
type peak struct {
	mu sync.Mutex
	// mu guards what follows: the minute that runs, counted from any time, and the
	// longest of it and of the minute before.
	minute    int64
	now, last time.Duration
}

// note counts a duration that has ended at a time.
func (p *peak) note(at time.Time, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turnLocked(at)
	p.now = max(p.now, d)
}

// turnLocked forgets what is too long ago.
func (p *peak) turnLocked(at time.Time) {
	minute := at.Unix() / 60
	switch minute - p.minute {
	case 0:
		return
	case 1:
		p.last = p.now
	default:
		p.last = 0
	}
	p.now, p.minute = 0, minute
}

func (p *peak) longest(at time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turnLocked(at)
	return max(p.now, p.last)
}

func (p *peak) seconds() float64 { return p.longest(time.Now()).Seconds() }
