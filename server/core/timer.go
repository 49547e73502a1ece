package core

import (
	"container/heap"
	"time"
)

// timerKind says what happens when a timer fires.
type timerKind int

const (
	heartbeatTimer   timerKind = iota // of the stream id
	failoverTimer                     // of the framework id, generation gen
	offerTimer                        // of the offer or inverse offer id
	pingTimer                         // of the agent id, generation gen
	reregisterTimer                   // of the agent id, generation gen
	limiterTimer                      // of the limiter gen: it permits the next now
	graceTimer                        // of the agent id, generation gen
	recoveryTimer                     // recovered agents had their time
	recoveredTimer                    // of the recovered agent id, generation gen
	gcTimer                           // of the registry
	patienceTimer                     // the allocator has waited for agents long enough
	maintenanceTimer                  // of the schedule, generation gen
)

// timer is a deadline. There is no way to cancel one: whoever set it looks, when
// it fires, whether it still applies.
type timer struct {
	at   time.Time
	seq  uint64 // orders timers of one time
	kind timerKind
	id   string
	gen  uint64
}

// timers is a heap of deadlines.
type timers struct {
	heap timerHeap
	seq  uint64
}

func (t *timers) add(at time.Time, tm timer) {
	t.seq++
	tm.at, tm.seq = at, t.seq
	heap.Push(&t.heap, tm)
}

func (t *timers) next() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}
	return t.heap[0].at, true
}

// pop takes the next timer that is due.
func (t *timers) pop(now time.Time) (timer, bool) {
	if len(t.heap) == 0 || t.heap[0].at.After(now) {
		return timer{}, false
	}
	return heap.Pop(&t.heap).(timer), true
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return last
}

// runTimers does what is due.
func (c *Core) runTimers() {
	for !c.stopped {
		t, ok := c.timers.pop(c.now)
		if !ok {
			return
		}
		switch t.kind {
		case heartbeatTimer:
			c.heartbeat(t.id)
		case failoverTimer:
			c.failoverTimeout(t.id, t.gen)
		case offerTimer:
			if o := c.offers[t.id]; o != nil {
				c.rescind(o)
			} else if o := c.inverse[t.id]; o != nil {
				c.removeInverse(o, true)
			}
		case pingTimer:
			c.ping(t.id, t.gen)
		case reregisterTimer:
			c.reregisterTimeout(t.id, t.gen)
		case limiterTimer:
			c.permit(limiterKind(t.gen))
		case graceTimer:
			c.graceTimeout(t.id, t.gen)
		case recoveryTimer:
			c.recoveryTimeout()
		case recoveredTimer:
			c.recoveredTimeout(t.id, t.gen)
		case gcTimer:
			c.collectRegistry()
		case patienceTimer:
			c.finishRecovery("timeout")
		case maintenanceTimer:
			c.followSchedule(t.gen)
		}
	}
}
