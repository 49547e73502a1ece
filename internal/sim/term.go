package sim

import (
	"fmt"
	"hash/fnv"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/sim/clock"
	"clusterd/registry/state"
	"clusterd/server"
	"clusterd/server/core"
)

// term is one leadership, as server/term.go has it: the core, and what the shell
// keeps for its effects.
type term struct {
	m     *master
	epoch uint64
	over  bool
	info  *mesos.MasterInfo

	core     *core.Core
	mirror   *core.Mirror // of what the core has shown and announced
	alloc    *allocatorSpy
	pending  map[core.RequestID]*pendingRequest
	streams  map[string]*masterStream
	links    map[core.LinkID]*end
	wake     *clock.Event
	wakeAt   time.Time
	proposed []*proposal // waiting for the entry that is being written
	writing  bool
}

// pendingRequest waits for the core's answer.
type pendingRequest struct {
	answer func(status int, body string)
	stream *masterStream // of a SUBSCRIBE
}

// masterStream is the master's end of a scheduler's stream.
type masterStream struct {
	id   string
	conn *end
	gone bool // the client went away before the stream was open
	// owner is whose stream it is, for the world's checks.
	owner *framework
}

type proposal struct {
	id   uint64
	cmds []*clusterdv1.Command
}

// streamMessage is what a scheduler finds on the connection of its SUBSCRIBE: the
// head of the answer, then events.
type streamMessage struct {
	status   int
	body     string
	redirect int // the master that leads, with status 307
	streamID string
	event    *scheduler.Event
}

func newTerm(m *master, s *state.State) *term {
	t := &term{
		m: m, epoch: s.Epoch(), info: m.info,
		pending: map[core.RequestID]*pendingRequest{},
		streams: map[string]*masterStream{},
		links:   map[core.LinkID]*end{},
	}
	cfg := m.w.cfg.Core
	cfg.MasterInfo = m.info
	cfg.ClusterID = s.ClusterID()
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(m.info.GetId())) // never fails
	cfg.Seed = m.w.cfg.Seed ^ seed.Sum64()
	opts := allocator.DefaultOptions()
	opts.Seed, opts.Interval = cfg.Seed, cfg.AllocationInterval
	t.alloc = &allocatorSpy{Allocator: allocator.New(opts), w: m.w}
	rec := server.Recovered(s)
	switch m.w.cfg.Break {
	case BreakForgetFrameworks:
		rec.Frameworks = nil
	case BreakForgetQuotas:
		rec.Quotas = nil
	case BreakForgetGone:
		rec.Gone = nil
	default:
	}
	t.core = core.New(cfg, rec, t.alloc, m.host.now())
	t.mirror = core.NewMirror(t.core.View())
	t.arm()
	return t
}

// arm sees to it that the core gets its Tick.
func (t *term) arm() {
	at, ok := t.core.NextWake()
	if !ok || t.over || at.Equal(t.wakeAt) && t.wake != nil {
		return
	}
	t.m.w.clock.Cancel(t.wake)
	t.wakeAt = at
	t.wake = t.m.later(t.m.host.until(at), func() {
		t.wake = nil
		t.feed(core.Tick{})
	})
}

// feed hands the core an input and performs what follows, in order, as long as this
// master leads.
func (t *term) feed(in core.Input) {
	if t.over {
		return
	}
	w := t.m.w
	w.steps++
	effects := t.core.Handle(t.m.host.now(), in)
	if w.trace.on {
		t.traceInput(in, effects)
	}
	look := false
	for _, e := range effects {
		if t.over {
			return
		}
		look = t.perform(e) || look
	}
	if t.over {
		return
	}
	if look {
		w.checkMaster(t)
	}
	t.arm()
}

// perform does one effect. It reports whether the books are worth a look after it.
func (t *term) perform(e core.Effect) (look bool) {
	w := t.m.w
	switch e.(type) {
	case core.Log, core.Count:
		return false
	case core.Announce:
	default:
		w.acts(t)
	}
	switch e := e.(type) {
	case core.Respond:
		if r := t.pending[e.Request]; r != nil {
			delete(t.pending, e.Request)
			w.trace.mix(uint64(e.Status))
			r.answer(e.Status, e.Body)
		}
	case core.OpenStream:
		t.openStream(e)
	case core.SendEvent:
		if s := t.streams[e.StreamID]; s != nil {
			w.trace.mix(uint64(e.Event.GetType()))
			if u := e.Event.GetUpdate(); u != nil {
				w.checkAnswer(t, s.owner, u.GetStatus())
			}
			s.conn.send(streamMessage{event: e.Event})
		}
		return e.Event.GetType() == scheduler.Event_OFFERS
	case core.CloseStream:
		if s := t.streams[e.StreamID]; s != nil {
			t.dropStream(s)
			s.conn.close("the master ends the stream")
		}
	case core.SendAgent:
		if c := t.links[e.Link]; c != nil {
			w.trace.mix(uint64(e.Link))
			c.send(t.introduce(e.Message))
		}
		return e.Message.GetRunTasks() != nil || e.Message.GetRegistered() != nil
	case core.CloseLink:
		if c := t.links[e.Link]; c != nil {
			delete(t.links, e.Link)
			c.close(e.Reason)
		}
	case core.Announce:
		w.heardEvent(t, e.Event)
	case core.Propose:
		t.propose(e)
	case core.Stop:
		t.stop(e.Reason)
	default:
		panic(fmt.Sprintf("effect of unknown type %T", e))
	}
	return false
}

func (t *term) openStream(e core.OpenStream) {
	r := t.pending[e.Request]
	if r == nil || r.stream == nil {
		return
	}
	delete(t.pending, e.Request)
	s := r.stream
	t.streams[s.id] = s
	if s.owner != nil {
		s.owner.streams++
	}
	s.conn.send(streamMessage{status: 200, streamID: s.id})
	if s.gone {
		// The request's own goroutine notices as soon as it writes.
		t.m.later(0, func() { t.streamClosed(s.id) })
	}
}

func (t *term) streamClosed(id string) {
	if !t.over && t.streams[id] != nil {
		t.dropStream(t.streams[id])
		t.feed(core.StreamClosed{StreamID: id})
	}
}

// introduce adds to an agent's admission since when this master leads, as
// server/masters.go does.
func (t *term) introduce(m *clusterdv1.MasterMessage) *clusterdv1.MasterMessage {
	if m.GetRegistered() == nil {
		return m
	}
	m = clone(m)
	m.GetRegistered().Epoch = &t.epoch
	return m
}

// dropStream forgets a stream.
func (t *term) dropStream(s *masterStream) {
	delete(t.streams, s.id)
	if s.owner != nil {
		s.owner.streams--
		s.owner.lostAt = t.m.w.clock.Now()
	}
}

// propose hands commands to the registry: what comes while an entry is being
// written gathers for the next.
func (t *term) propose(e core.Propose) {
	p := &proposal{id: e.Proposal}
	for i, c := range e.Commands {
		if err := state.Check(c); err != nil {
			t.m.w.fail(RegistryTakes, "m%d proposes a malformed command %s: %v", t.m.id, c.GetKind(), err)
		}
		if c.GetWithPrevious() != (i > 0) {
			c = &clusterdv1.Command{Kind: c.Kind, Payload: c.Payload, Ignorable: c.Ignorable}
			if i > 0 {
				c.WithPrevious = new(true)
			}
		}
		t.m.w.trace.mix(uint64(c.GetKind()))
		p.cmds = append(p.cmds, c)
	}
	t.proposed = append(t.proposed, p)
	if !t.writing {
		t.writing = true
		t.m.later(20*time.Microsecond, t.write)
	}
}

func (t *term) write() {
	batch := t.proposed
	t.proposed = nil
	if len(batch) == 0 || t.over {
		t.writing = false
		return
	}
	var cmds []*clusterdv1.Command
	for _, p := range batch {
		cmds = append(cmds, p.cmds...)
	}
	timeout := t.m.later(storeTimeout, func() {
		if !t.over {
			// A master that cannot say whether its write took effect ends.
			t.m.w.say("m%d: the registry's store timed out", t.m.id)
			t.m.crash("store timeout")
		}
	})
	t.m.raft.propose(cmds, func(err error, results []error) {
		t.m.w.clock.Cancel(timeout)
		for _, p := range batch {
			outcome := err
			if err == nil && len(results) > 0 {
				outcome, results = results[0], results[len(p.cmds):]
			}
			t.m.later(10*time.Microsecond, func() { t.feed(core.Committed{Proposal: p.id, Err: outcome}) })
		}
		t.m.later(10*time.Microsecond, t.write)
	})
}

// stop is the core's own wish to end. The master ends with it unless it has merely
// been deposed.
func (t *term) stop(reason string) {
	t.m.w.say("m%d: the core stops: %s", t.m.id, reason)
	if !t.over {
		t.m.w.noteStop(t, reason)
		t.m.crash("the core stopped: " + reason)
	}
}

// finish ends everything that belongs to the term.
func (t *term) finish() {
	if t.over {
		return
	}
	if t.m.w.cfg.Break == BreakDeposedActs && t.m.up {
		t.m.later(3*time.Second, t.end)
		return
	}
	t.end()
}

func (t *term) end() {
	if t.over {
		return
	}
	t.over = true
	t.m.w.clock.Cancel(t.wake)
	for _, id := range sortedKeys(t.streams) {
		s := t.streams[id]
		t.dropStream(s)
		s.conn.vanish(true)
	}
	for _, id := range sortedIDs(t.links) {
		t.links[id].close("this master leads no more")
	}
	for _, id := range sortedIDs(t.pending) {
		r := t.pending[id]
		r.answer(503, "Master is not able to answer")
	}
	t.pending = nil
}

// clone copies a message for its receiver, as the wire does.
func clone[M proto.Message](m M) M { return proto.CloneOf(m) }
