package events

import (
	"google.golang.org/protobuf/proto"

	"clusterd/server/core"
)

// ring holds the latest events, bounded by number and by an estimate of the memory that
// they keep from being freed.
type ring struct {
	maxEvents, maxBytes int

	slots []slot // grows up to maxEvents, then goes round
	head  int    // of the oldest
	n     int
	bytes int
	last  uint64 // serial of the newest, 0: there was none yet
}

type slot struct {
	event *core.Event
	size  int
}

// first is the serial of the oldest event; last+1 when there is none.
func (r *ring) first() uint64 { return r.last + 1 - uint64(r.n) }

// push adds the newest event. It reports false if events before it are missing: then only
// this one is kept, since who reads on would have a gap.
func (r *ring) push(e *core.Event) bool {
	whole := r.last == 0 && r.n == 0 || e.Serial == r.last+1
	if !whole {
		clear(r.slots)
		r.head, r.n, r.bytes = 0, 0, 0
	}
	size := weight(e)
	for r.n > 0 && (r.n == r.maxEvents || r.bytes+size > r.maxBytes) {
		r.bytes -= r.slots[r.head].size
		r.slots[r.head] = slot{}
		r.head = (r.head + 1) % len(r.slots)
		r.n--
	}
	if r.n == len(r.slots) {
		r.grow()
	}
	r.slots[(r.head+r.n)%len(r.slots)] = slot{e, size}
	r.n++
	r.bytes += size
	r.last = e.Serial
	return whole
}

func (r *ring) grow() {
	slots := make([]slot, min(r.maxEvents, max(256, 2*len(r.slots))))
	for i := range r.n {
		slots[i] = r.slots[(r.head+i)%len(r.slots)]
	}
	r.slots, r.head = slots, 0
}

// read appends the events from first to last to dst; false if some are not there.
func (r *ring) read(dst []*core.Event, first, last uint64) ([]*core.Event, bool) {
	if first < r.first() || last > r.last {
		return dst, false
	}
	for s := first; s <= last; s++ {
		dst = append(dst, r.slots[(r.head+int(s-r.first()))%len(r.slots)].event)
	}
	return dst, true
}

// What an event is taken to keep in memory besides the messages that are measured: the
// event, and versions of a task's or agent's record that nothing else holds any more.
const (
	eventWeight = 512
	taskWeight  = 1024
)

// weight estimates how much memory an event keeps.
func weight(e *core.Event) int {
	w := eventWeight
	if e.Task != nil {
		w += taskWeight
		if x := e.Task.Extra; x != nil && e.Type == core.TaskAdded {
			w += proto.Size(x.Labels) + proto.Size(x.Discovery) + proto.Size(x.Container)
		}
	}
	if e.Status != nil {
		w += proto.Size(e.Status)
	}
	if e.Framework != nil {
		w += taskWeight + proto.Size(e.Framework.Info)
	}
	if e.Agent != nil {
		w += taskWeight + proto.Size(e.Agent.Info)
	}
	if e.Schedule != nil {
		w += proto.Size(e.Schedule)
	}
	return w + 256*(len(e.Quotas)+len(e.Weights)+len(e.Machines))
}
