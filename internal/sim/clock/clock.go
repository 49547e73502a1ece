// Package clock is virtual time: an ordered queue of things to happen. Nothing
// waits; time jumps to the next event. Events of one instant happen in the order
// in which they were asked for, so that a run is repeatable to the last byte.
//
// A [Clock] belongs to one goroutine. internal/sim and its subpackages import it.
package clock

import (
	"container/heap"
	"time"
)

// Clock is virtual time.
type Clock struct {
	now  time.Time
	seq  uint64
	heap events
}

// Event is something that will happen, unless it is cancelled.
type Event struct {
	at   time.Time
	seq  uint64
	f    func()
	slot int // in the heap, -1 if not there any more
}

// New returns a clock that shows start.
func New(start time.Time) *Clock { return &Clock{now: start} }

// Now returns the time.
func (c *Clock) Now() time.Time { return c.now }

// Len returns how many events are to come.
func (c *Clock) Len() int { return len(c.heap) }

// At has f called at t, or next if t is over.
func (c *Clock) At(t time.Time, f func()) *Event {
	if t.Before(c.now) {
		t = c.now
	}
	c.seq++
	e := &Event{at: t, seq: c.seq, f: f}
	heap.Push(&c.heap, e)
	return e
}

// After has f called when d is over.
func (c *Clock) After(d time.Duration, f func()) *Event { return c.At(c.now.Add(d), f) }

// Cancel keeps e from happening. It may be nil, or over.
func (c *Clock) Cancel(e *Event) {
	if e != nil && e.slot >= 0 && e.f != nil {
		heap.Remove(&c.heap, e.slot)
		e.f = nil
	}
}

// Step lets the next event happen. It returns false if there is none, or none
// until the given time, which it then is.
func (c *Clock) Step(until time.Time) bool {
	if len(c.heap) == 0 || c.heap[0].at.After(until) {
		if until.After(c.now) {
			c.now = until
		}
		return false
	}
	e := heap.Pop(&c.heap).(*Event)
	c.now = e.at
	f := e.f
	e.f = nil
	f()
	return true
}

// Run lets everything happen until the given time.
func (c *Clock) Run(until time.Time) {
	for c.Step(until) {
	}
}

type events []*Event

func (h events) Len() int { return len(h) }

func (h events) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}

func (h events) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i, j
}

func (h *events) Push(x any) {
	e := x.(*Event)
	e.slot = len(*h)
	*h = append(*h, e)
}

func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.slot = -1
	return e
}
