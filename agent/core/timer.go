package core

import (
	"container/heap"
	"time"
)

// timer runs fn at its time, unless it is stopped before.
type timer struct {
	at  time.Time
	seq uint64 // keeps timers of one moment in the order they were made
	fn  func()
}

// stop is safe on nil and on a timer that ran.
func (t *timer) stop() {
	if t != nil {
		t.fn = nil
	}
}

// left is how long it still has; 0 if it ran or was stopped.
func (t *timer) left(now time.Time) time.Duration {
	if t == nil || t.fn == nil {
		return 0
	}
	return max(t.at.Sub(now), 0)
}

type timers []*timer

func (h timers) Len() int { return len(h) }
func (h timers) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h timers) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timers) Push(x any)   { *h = append(*h, x.(*timer)) }
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}

// after runs fn when d has passed. The shell's Tick makes it so.
func (c *Core) after(d time.Duration, fn func()) *timer {
	c.timerSeq++
	t := &timer{at: c.now.Add(max(d, 0)), seq: c.timerSeq, fn: fn}
	heap.Push(&c.timers, t)
	return t
}

// fire runs all timers that are due.
func (c *Core) fire() {
	for len(c.timers) > 0 && !c.timers[0].at.After(c.now) {
		t := heap.Pop(&c.timers).(*timer)
		if fn := t.fn; fn != nil {
			t.fn = nil
			fn()
		}
	}
}

// NextWake returns when the core wants a Tick, if at all.
func (c *Core) NextWake() (time.Time, bool) {
	for len(c.timers) > 0 && c.timers[0].fn == nil {
		heap.Pop(&c.timers)
	}
	if len(c.timers) == 0 {
		return time.Time{}, false
	}
	return c.timers[0].at, true
}
