package sim

import (
	"time"

	"clusterd/internal/sim/clock"
)

const (
	// deadAfter is how long an end of a connection bears silence
	// (internal/link.DefaultDeadAfter; HTTP streams notice dead peers likewise).
	deadAfter = 30 * time.Second
	// requestTimeout is how long a client waits for an answer.
	requestTimeout = 10 * time.Second
	// maxHeld is how much may wait in a connection that does not move before the
	// sender cuts it off: the bounded queues of links and streams, in small.
	maxHeld = 40
)

// host is a machine: it has a clock and a place in the network.
type host struct {
	w    *World
	id   int
	name string
	on   bool // has power
	// skew is what its wall clock is ahead of the true time.
	skew time.Duration
	// slow is added to each write to its disk.
	slow time.Duration
}

// now is what time.Now returns there.
func (h *host) now() time.Time {
	t := h.w.clock.Now()
	return wallTime(t.Add(h.skew), t.Sub(start))
}

// until is how long to wait for a time that a core on the host has named.
func (h *host) until(t time.Time) time.Duration { return t.Sub(h.now()) }

// write returns how long a write to the disk takes.
func (h *host) write() time.Duration {
	return h.w.between(200*time.Microsecond, 3*time.Millisecond) + h.slow
}

// network moves messages between hosts.
type network struct {
	w     *World
	clock *clock.Clock
	// cut, extra and loss are by sender and receiver: nothing passes; it takes this
	// much longer; so many in a thousand datagrams are lost.
	cut   [][]bool
	since [][]uint64 // counts cuts, to tell one from the next
	extra [][]time.Duration
	loss  int
	conns []*conn
}

func (n *network) init(w *World, hosts int) {
	n.w, n.clock = w, w.clock
	for range hosts {
		n.cut = append(n.cut, make([]bool, hosts))
		n.since = append(n.since, make([]uint64, hosts))
		n.extra = append(n.extra, make([]time.Duration, hosts))
	}
}

func (n *network) latency(from, to *host) time.Duration {
	return n.w.between(100*time.Microsecond, 2*time.Millisecond) + n.extra[from.id][to.id]
}

// reaches says whether anything passes.
func (n *network) reaches(from, to *host) bool { return from.on && to.on && !n.cut[from.id][to.id] }

// datagram delivers f once, twice or never, in any order.
func (n *network) datagram(from, to *host, f func()) {
	times := 1
	switch roll := n.w.rng.IntN(1000); {
	case roll < n.loss:
		times = 0
	case roll < n.loss+20:
		times = 2
	}
	for range times {
		if n.reaches(from, to) {
			d := n.latency(from, to) + n.w.between(0, 5*time.Millisecond)
			n.clock.After(d, f)
		}
	}
}

// message delivers f unless the way is cut; messages may overtake one another. It is
// what a request over a connection of its own does.
func (n *network) message(from, to *host, f func()) {
	if n.reaches(from, to) {
		n.clock.After(n.latency(from, to), func() {
			if n.reaches(from, to) {
				f()
			}
		})
	}
}

// request sends a request and brings one answer, or an error: refused, or no answer
// in time. serve may answer later; it returns false if nobody listens.
func (n *network) request(from, to *host, serve func(answer func(any)) bool, done func(any, bool)) {
	over := false
	finish := func(v any, ok bool) {
		if !over {
			over = true
			done(v, ok)
		}
	}
	n.clock.After(requestTimeout, func() { finish(nil, false) })
	n.message(from, to, func() {
		listens := serve(func(v any) { n.message(to, from, func() { finish(v, true) }) })
		if !listens {
			n.message(to, from, func() { finish(nil, false) })
		}
	})
}

// conn is a connection: ordered and reliable until it breaks.
type conn struct {
	n    *network
	ends [2]*end
	gone int // ends that are closed
}

// end is one side of a connection.
type end struct {
	c    *conn
	host *host
	peer *end
	// deliver takes what the peer sent, closed hears once that the connection is over.
	deliver func(any)
	closed  func(reason string)
	over    bool
	at      time.Time // when the latest message to this end arrives
	held    []func()  // from this end, waiting for the way to be free
}

// connect makes a connection whose two ends know of it; the caller has modelled the
// handshake.
func (n *network) connect(a, b *host) (*end, *end) {
	c := &conn{n: n}
	ea := &end{c: c, host: a}
	eb := &end{c: c, host: b, peer: ea}
	ea.peer = eb
	c.ends = [2]*end{ea, eb}
	n.conns = append(n.conns, c)
	return ea, eb
}

// send queues a message to the other end. When the queue is full the connection is
// over at this end, which hears of it soon.
func (e *end) send(m any) {
	if e.over {
		return
	}
	p := e.peer
	e.transmit(func() {
		if !p.over && p.deliver != nil {
			p.deliver(m)
		}
	})
}

func (e *end) transmit(f func()) {
	n := e.c.n
	if len(e.held) == 0 && n.reaches(e.host, e.peer.host) {
		e.post(f)
		return
	}
	e.held = append(e.held, f)
	if len(e.held) <= maxHeld {
		return
	}
	n.w.faults["queue full"]++
	e.vanish(true)
	if e.closed != nil {
		n.clock.After(0, func() { e.closed("the peer is too slow: the queue is full") })
	}
}

func (e *end) post(f func()) {
	n, p := e.c.n, e.peer
	at := n.clock.Now().Add(n.latency(e.host, p.host))
	if at.Before(p.at) {
		at = p.at
	}
	p.at = at
	n.clock.At(at, f)
}

// close ends the connection after what has been sent; the peer hears of it. This end
// is over at once, without a call of closed.
func (e *end) close(reason string) {
	if e.over {
		return
	}
	p := e.peer
	e.transmit(func() { p.shut(reason, false) })
	e.end()
}

// vanish ends this side; with told the peer hears of it, as when a process dies,
// else it has to notice the silence, as when a machine does.
func (e *end) vanish(told bool) {
	if e.over {
		return
	}
	p := e.peer
	e.held = nil
	if told {
		e.transmit(func() { p.shut("connection reset", false) })
	} else {
		e.c.n.clock.After(deadAfter, func() { p.shut("the peer is silent", false) })
	}
	e.end()
}

// shut ends this side and says so to whom it serves.
func (e *end) shut(reason string, tell bool) {
	if e.over {
		return
	}
	if tell {
		p := e.peer
		e.held = nil
		e.transmit(func() { p.shut(reason, false) })
	}
	e.end()
	if e.closed != nil {
		e.closed(reason)
	}
}

func (e *end) end() {
	e.over = true
	if e.c.gone++; e.c.gone == 2 {
		e.c.n.forget(e.c)
	}
}

func (n *network) forget(c *conn) {
	for i, x := range n.conns {
		if x == c {
			n.conns = append(n.conns[:i], n.conns[i+1:]...)
			return
		}
	}
}

// sever stops what goes one way. Ends that hear nothing give up in time.
func (n *network) sever(from, to *host) {
	if n.cut[from.id][to.id] {
		return
	}
	n.cut[from.id][to.id] = true
	n.since[from.id][to.id]++
	generation := n.since[from.id][to.id]
	n.clock.After(deadAfter, func() {
		if !n.cut[from.id][to.id] || n.since[from.id][to.id] != generation {
			return
		}
		for _, e := range n.between(from, to) {
			e.peer.shut("the peer is silent", true)
		}
	})
}

// mend lets what goes one way pass again, and what was held follow.
func (n *network) mend(from, to *host) {
	if !n.cut[from.id][to.id] {
		return
	}
	n.cut[from.id][to.id] = false
	if from.on && to.on {
		for _, e := range n.between(from, to) {
			e.flush()
		}
	}
}

func (e *end) flush() {
	held := e.held
	e.held = nil
	for _, f := range held {
		e.post(f)
	}
}

// between lists the sending ends of the connections of two hosts.
func (n *network) between(from, to *host) []*end {
	var out []*end
	for _, c := range n.conns {
		for _, e := range c.ends {
			if e.host == from && e.peer.host == to {
				out = append(out, e)
			}
		}
	}
	return out
}

// snap breaks a connection: each end hears of it in its own time, and what was on
// its way may be lost.
func (n *network) snap(c *conn) {
	for _, e := range c.ends {
		e.held = nil
		n.clock.After(n.w.between(0, 20*time.Millisecond), func() { e.shut("connection reset", false) })
	}
}
