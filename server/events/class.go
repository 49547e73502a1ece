package events

import (
	"errors"
	"sync"
	"sync/atomic"

	"clusterd/server/core"
)

// errFellBehind means that events which a stream has not sent yet are forgotten.
var errFellBehind = errors.New("the reader is too slow: events that it did not get are forgotten")

const (
	// blockEvents is how many events are encoded together at most.
	blockEvents = 256
	// maxWrite is about how much is handed to a stream at a time.
	maxWrite = 1 << 20
)

// classKey says for whom bytes are the same.
type classKey struct {
	format format
	types  types
	sight  string
}

// types is a set of types of events.
type types uint32

// allTypes is no filter.
const allTypes = ^types(0)

func (t types) has(e core.EventType) bool { return t&(1<<uint(e)) != 0 }

// class makes the bytes of events once for all streams that show the same in the same
// form, and keeps the latest of them. Classes with a source take the messages from there
// and only frame them: the source has encoded them for all kinds of readers.
type class struct {
	key    classKey
	sight  sight
	source *class // nil: this is one, without framing
	refs   int    // guarded by Hub.mu

	master string
	read   func(dst []*core.Event, first, last uint64) ([]*core.Event, bool)
	keep   *atomic.Int64 // bytes

	// mu guards what follows. The source's is taken after it.
	mu      sync.Mutex
	blocks  map[uint64]*block
	bytes   int
	tick    uint64
	scratch []*core.Event
}

// block holds the bytes of up to blockEvents events. Its data only grows: readers keep
// slices of it without a lock.
type block struct {
	index uint64
	first uint64 // serial of the first event
	data  []byte
	ends  []int // where in data each event ends
	used  uint64
}

func (b *block) last() uint64 { return b.first + uint64(len(b.ends)) - 1 }

// start is where in data the event begins.
func (b *block) start(serial uint64) int {
	if serial == b.first {
		return 0
	}
	return b.ends[serial-b.first-1]
}

// next appends to bufs the bytes of the events after one, up to another or until it is
// enough for one write, and returns them with the serial of the last event.
func (c *class) next(after, upTo uint64, bufs [][]byte) ([][]byte, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for size := 0; after < upTo && size < maxWrite; {
		b, err := c.blockOf(after+1, upTo)
		if err != nil {
			return bufs, after, err
		}
		last := min(b.last(), upTo)
		from, to := b.start(after+1), b.ends[last-b.first]
		if to > from {
			bufs = append(bufs, b.data[from:to:to])
			size += to - from
		}
		after = last
	}
	return bufs, after, nil
}

// blockOf returns the block with an event, encoded up to another one if that is in it.
func (c *class) blockOf(serial, upTo uint64) (*block, error) {
	index := (serial - 1) / blockEvents
	upTo = min(upTo, (index+1)*blockEvents)
	b := c.blocks[index]
	if b == nil {
		b = &block{index: index, first: index*blockEvents + 1}
		if events, ok := c.read(c.scratch[:0], b.first, upTo); ok {
			c.extend(b, events)
		} else if events, ok = c.read(c.scratch[:0], serial, upTo); ok {
			b.first = serial // the ring begins within the block
			c.extend(b, events)
		} else {
			return nil, errFellBehind
		}
		c.blocks[index] = b
	}
	if serial < b.first {
		return nil, errFellBehind
	}
	if b.last() < upTo {
		events, ok := c.read(c.scratch[:0], b.last()+1, upTo)
		if !ok {
			return nil, errFellBehind
		}
		c.extend(b, events)
	}
	c.tick++
	b.used = c.tick
	for int64(c.bytes) > c.keep.Load() && len(c.blocks) > 1 {
		c.forget(b)
	}
	return b, nil
}

// extend encodes the events that follow those of the block.
func (c *class) extend(b *block, events []*core.Event) {
	before := len(b.data)
	if c.source == nil {
		for _, e := range events {
			b.data = append(b.data, c.key.format.payload(c.master, e, c.sight)...)
			b.ends = append(b.ends, len(b.data))
		}
	} else {
		c.source.each(events, func(e *core.Event, payload []byte) {
			b.data = c.append(b.data, e, payload)
			b.ends = append(b.ends, len(b.data))
		})
	}
	c.bytes += len(b.data) - before
	clear(events)
	c.scratch = events[:0]
}

// append appends the record of an event that the source has encoded, if it is shown.
func (c *class) append(dst []byte, e *core.Event, payload []byte) []byte {
	if len(payload) == 0 || !c.key.types.has(e.Type) || !c.sight.sees(e) {
		return dst
	}
	if !c.sight.whole() && splits(e.Type) {
		if payload = c.key.format.payload(c.master, e, c.sight); len(payload) == 0 {
			return dst
		}
	}
	return c.key.format.wrap(dst, payload, record{name: ownType(e.Type).String(), id: token{c.master, e.Serial}})
}

// each hands out the message of each event, empty if there is none. The events follow
// each other within one block.
func (c *class) each(events []*core.Event, f func(*core.Event, []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, last := events[0].Serial, events[len(events)-1].Serial
	b, err := c.blockOf(first, last)
	for _, e := range events {
		if err != nil { // just forgotten by the ring, but not by us
			f(e, c.key.format.payload(c.master, e, c.sight))
			continue
		}
		f(e, b.data[b.start(e.Serial):b.ends[e.Serial-b.first]])
	}
}

// forget drops the block that was not used for the longest time, other than keep.
func (c *class) forget(keep *block) {
	var oldest *block
	for _, b := range c.blocks {
		if b != keep && (oldest == nil || b.used < oldest.used) {
			oldest = b
		}
	}
	c.bytes -= len(oldest.data)
	delete(c.blocks, oldest.index)
}
