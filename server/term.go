package server

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"clusterd/allocator"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/link"
	"clusterd/internal/metrics"
	"clusterd/registry"
	"clusterd/server/core"
	"clusterd/server/events"
)

const (
	// maxInputs is how many inputs may wait for the core. Who finds them waiting
	// waits too: an agent's link then holds the agent back, a request its client.
	maxInputs = 4096
	// maxBatch is how many inputs are handled before timers are looked at.
	maxBatch = 256
)

// term is one leadership: the core and the goroutine that owns it.
type term struct {
	s       *Server
	lead    *registry.Leadership
	info    *mesos.MasterInfo
	elected time.Time
	log     zerolog.Logger
	inputs  chan envelope
	// done is closed when the term is over: nobody takes inputs any more.
	done chan struct{}
	// cause is why; it may be read once done is closed.
	cause error
	// ctx ends with the leadership, and with the term.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines that wait for proposals
	views  views
	events *events.Hub
	// history is for pages that have just been opened.
	history *history
	tunnels *tunnels
	// filters are questions of the metrics, see countFilters.
	filters chan chan map[string]int

	// What follows belongs to the goroutine of run.
	core     *core.Core
	alloc    *timedAllocator
	pending  map[core.RequestID]*request
	streams  map[string]*stream
	links    map[core.LinkID]*link.MasterConn
	counters map[string]*metrics.Counter
	timings  timings
	ended    error // set: run returns
	// addresses of all masters, this one first, as agents are told.
	addresses []string
	// perFramework counts counters of frameworks; from forgetAt on, those of
	// forgotten ones are removed.
	perFramework, forgetAt int
	last                   *outEvent // of the last SendEvent, for one event sent to many
}

// envelope is an input on its way to the core, with what the shell keeps for its
// effects.
type envelope struct {
	in core.Input
	at time.Time // when it came
	// request waits for the answer to a Subscribe, Call or Operate.
	request *request
	// conn is the link of its first AgentMessage.
	conn *link.MasterConn
}

// request is an HTTP request that waits for the core.
type request struct {
	answer chan answer // size 1; gets exactly one, unless the term ends first
	stream *stream     // of a SUBSCRIBE
}

// answer is what the core says to a request: a stream, a status, or an explanation.
type answer struct {
	open      bool
	status    int
	body      string
	explained *core.Explanation
}

func newTerm(s *Server, l *registry.Leadership) *term {
	now, info := time.Now(), l.MasterInfo()
	t := &term{
		s: s, lead: l, info: info, elected: now,
		log:      s.log.With().Str("component", "master").Logger(),
		inputs:   make(chan envelope, maxInputs),
		done:     make(chan struct{}),
		pending:  make(map[core.RequestID]*request),
		streams:  make(map[string]*stream),
		links:    make(map[core.LinkID]*link.MasterConn),
		counters: make(map[string]*metrics.Counter),
		timings:  newTimings(s.metrics),
		filters:  make(chan chan map[string]int),
		forgetAt: frameworkSlack,
	}
	t.ctx, t.cancel = context.WithCancel(l.Context())
	t.addresses = t.masterAddresses()
	t.views.init()
	t.tunnels = newTunnels(t.done, s.metrics)
	cfg := s.opts.Core
	cfg.MasterInfo = info
	cfg.ClusterID = l.State().ClusterID()
	cfg.Policy = s.policy.Load()
	cfg.TLS = s.opts.TLS != nil // agents speak it where masters do
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(info.GetId())) // never fails
	cfg.Seed ^= seed.Sum64()
	opts := s.opts.Allocator
	opts.Seed = cfg.Seed
	opts.Interval = cfg.AllocationInterval
	opts.Domain = info.GetDomain()
	t.alloc = newTimedAllocator(allocator.New(opts), s.metrics)
	t.alloc.fed = now
	recovered := Recovered(l.State())
	s.firstWeights(l, &recovered)
	t.core = core.New(cfg, recovered, t.alloc, now)
	t.beginWhitelist()
	t.events = t.newEvents()
	t.history = newHistory(t)
	return t
}

// submit hands an input to the core; it waits while too many are waiting.
func (t *term) submit(ctx context.Context, e envelope) error {
	e.at = time.Now()
	select {
	case <-t.done:
		return errStopping
	default:
	}
	select {
	case t.inputs <- e:
		return nil
	case <-t.done:
		return errStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run feeds the core until the leadership or the server ends.
func (t *term) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	armed := time.Time{}
	leader := t.lead.Context()
	changed := t.s.group.Load().changed()
	t.tellMasters()
	t.wg.Go(t.remember)
	for t.ended == nil {
		if wake, ok := t.core.NextWake(); ok && !wake.Equal(armed) {
			armed = wake
			timer.Reset(time.Until(wake))
		}
		select {
		case <-leader.Done():
			t.ended = fmt.Errorf("leadership is over: %w", context.Cause(leader))
		case <-t.s.ctx.Done():
			t.ended = context.Cause(t.s.ctx)
		case e := <-t.inputs:
			t.handle(e)
			t.drain()
		case <-timer.C:
			armed = time.Time{}
			t.timings.arrived = time.Now()
			t.feed(core.Tick{})
		case <-changed:
			changed = t.s.group.Load().changed() // before looking, to miss nothing
			t.tellMasters()
		case <-t.views.wanted:
			began := time.Now()
			t.views.publish(t.core.View())
			t.s.pauses.viewed(began)
		case answer := <-t.filters:
			t.countFilters(answer)
		}
	}
	t.finish()
}

// drain handles what else is waiting, up to a batch.
func (t *term) drain() {
	for range maxBatch {
		select {
		case e := <-t.inputs:
			t.handle(e)
		default:
			return
		}
	}
}

// handle notes what the shell keeps for an input and feeds the core with it.
// What comes from a stream or link that the core has closed is no input any more.
func (t *term) handle(e envelope) {
	switch in := e.in.(type) {
	case core.Subscribe:
		t.pending[in.Request] = e.request
	case core.Call:
		t.pending[in.Request] = e.request
	case core.Operate:
		t.pending[in.Request] = e.request
	case core.CancelDrain:
		t.pending[in.Request] = e.request
	case core.KillTask:
		t.pending[in.Request] = e.request
	case core.Explain:
		t.pending[in.Request] = e.request
	case core.StreamClosed:
		if t.streams[in.StreamID] == nil {
			return
		}
		delete(t.streams, in.StreamID)
	case core.AgentMessage:
		if e.conn != nil {
			t.links[in.Link] = e.conn
		} else if t.links[in.Link] == nil {
			return
		}
	case core.LinkClosed:
		if t.links[in.Link] == nil {
			return
		}
		t.tunnels.dropped(in.Link)
		delete(t.links, in.Link)
	default:
	}
	t.timings.arrived = e.at
	t.feed(e.in)
}

// feed hands the core an input and performs what follows, unless this master
// leads no more.
func (t *term) feed(in core.Input) {
	leader := t.lead.Context()
	if t.ended != nil || leader.Err() != nil {
		return
	}
	now := time.Now()
	t.alloc.fed = now
	effects := t.core.Handle(now, in)
	t.views.changed()
	for _, e := range effects {
		// Not even an effect that was decided in time: another may lead already.
		if leader.Err() != nil {
			return
		}
		t.perform(e)
	}
	t.s.pauses.note(t.timings.arrived, now, time.Now())
}

// finish ends everything that belongs to the term.
func (t *term) finish() {
	t.cause = t.ended
	close(t.done)
	for _, s := range t.streams {
		s.abort(errStopping)
	}
	for _, c := range t.links {
		c.Close("this master leads no more")
	}
	t.events.Close(errStopping)
	t.tunnels.close()
	t.abandon()
	t.cancel()
	t.wg.Wait()
	t.events.Wait()
}

// abandon closes the links whose first message waits: they are not among t.links yet,
// and their agents would wait for an answer for as long as both sides live.
func (t *term) abandon() {
	for {
		select {
		case e := <-t.inputs:
			if e.conn != nil {
				e.conn.Close("this master leads no more")
			}
		default:
			return
		}
	}
}

// over says whether the term has ended: what comes now is not handled.
func (t *term) over() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

func (t *term) perform(e core.Effect) {
	switch e := e.(type) {
	case core.Respond:
		t.respond(e.Request, answer{status: e.Status, body: e.Body})
	case core.Explained:
		t.respond(e.Request, answer{explained: e.Explanation})
	case core.OpenStream:
		if r := t.pending[e.Request]; r != nil && r.stream != nil {
			t.streams[e.StreamID] = r.stream
			t.respond(e.Request, answer{open: true})
		}
	case core.SendEvent:
		t.sendEvent(e)
	case core.CloseStream:
		if s := t.streams[e.StreamID]; s != nil {
			delete(t.streams, e.StreamID)
			s.end()
		}
	case core.SendAgent:
		if c := t.links[e.Link]; c != nil {
			if r := e.Message.GetRegistered(); r != nil {
				t.tunnels.registered(r.GetAgentId().GetValue(), e.Link, c)
			}
			t.sendAgent(e.Link, c, t.introduce(e.Message))
		}
	case core.CloseLink:
		if c := t.links[e.Link]; c != nil {
			t.tunnels.dropped(e.Link)
			delete(t.links, e.Link)
			c.Close(e.Reason)
		}
	case core.Propose:
		t.propose(e)
	case core.Announce:
		t.events.Announce(e.Event)
		t.history.note(e.Event)
		t.timings.announced(e.Event)
	case core.Stop:
		t.stop(e.Reason)
	case core.Log:
		t.logEffect(e)
	case core.Count:
		t.count(e)
	default:
		panic(fmt.Sprintf("effect of unknown type %T", e))
	}
}

func (t *term) respond(id core.RequestID, a answer) {
	if r := t.pending[id]; r != nil {
		delete(t.pending, id)
		r.answer <- a
	}
}

// sendEvent queues an event; one that goes to many streams in a row is encoded
// once.
func (t *term) sendEvent(e core.SendEvent) {
	s := t.streams[e.StreamID]
	if s == nil {
		return
	}
	t.timings.sent(e.Event)
	if t.last == nil || t.last.event != e.Event {
		t.last = newOutEvent(e.Event)
	}
	if !s.send(t.last) && !s.cut {
		s.cut = true // once: the core goes on sending until it hears of it
		t.log.Warn().Str("stream_id", e.StreamID).Msg("scheduler does not read its events: it is cut off")
	}
}

// propose hands commands to the registry, in the order of the core's effects, and
// waits for the outcome in a goroutine of its own.
func (t *term) propose(e core.Propose) {
	wait := t.lead.Propose(e.Commands...)
	t.wg.Go(func() {
		err := wait(t.ctx)
		// After the end of the term there is nobody to tell.
		_ = t.submit(context.Background(), envelope{in: core.Committed{Proposal: e.Proposal, Err: err}})
	})
}

// stop ends the term because the core says that it must not go on. If it is not
// just that another leads by now, the whole master ends: its state is in doubt.
func (t *term) stop(reason string) {
	t.ended = errors.New(reason)
	if t.lead.Context().Err() == nil {
		t.s.fail(t.ended)
	}
}

func (t *term) logEffect(e core.Log) {
	var ev *zerolog.Event
	switch e.Level {
	case core.Debug:
		ev = t.log.Debug()
	case core.Info:
		ev = t.log.Info()
	case core.Warn:
		ev = t.log.Warn()
	default:
		ev = t.log.Error()
	}
	for i := 0; i+1 < len(e.Fields); i += 2 {
		ev = ev.Str(e.Fields[i], e.Fields[i+1])
	}
	ev.Msg(e.Event)
}

func (t *term) count(e core.Count) {
	c := t.counters[e.Key]
	if c == nil {
		if strings.HasPrefix(e.Key, "master/frameworks/") {
			t.forgetFrameworks()
		}
		c = t.s.metrics.Counter(e.Key)
		t.counters[e.Key] = c
	}
	c.Add(e.N)
}

// frameworkSlack is how many counters of frameworks there may be before those of
// forgotten frameworks are looked for: about a hundred frameworks' worth.
const frameworkSlack = 4096

// forgetFrameworks removes the counters of frameworks that are not even among the
// completed ones any more: else metrics would grow as long as the master lives.
func (t *term) forgetFrameworks() {
	if t.perFramework++; t.perFramework < t.forgetAt {
		return
	}
	view := t.core.View()
	known := make(map[string]bool)
	for f := range view.Frameworks.Values() {
		known[frameworkPrefix(f)] = true
	}
	for _, f := range view.CompletedFrameworks {
		known[frameworkPrefix(f)] = true
	}
	t.perFramework = 0
	for key := range t.counters {
		parts := strings.SplitN(key, "/", 5) // master/frameworks/<name>/<id>/...
		if len(parts) < 5 || parts[1] != "frameworks" {
			continue
		}
		if known[strings.Join(parts[:4], "/")+"/"] {
			t.perFramework++
			continue
		}
		delete(t.counters, key)
		t.s.metrics.Remove(key)
	}
	t.forgetAt = t.perFramework*2 + frameworkSlack
}

// views hands out the core's view to readers. However many ask at once, the core
// makes one; and none while nothing has changed since the last.
type views struct {
	wanted chan struct{} // size 1: somebody waits
	serial atomic.Uint64 // counts the inputs that the core has handled

	mu sync.Mutex
	// mu guards what follows.
	view    *core.View
	at      uint64        // serial of view
	waiting chan struct{} // closed when view has been renewed; nil: nobody waits
}

func (v *views) init() { v.wanted = make(chan struct{}, 1) }

// changed notes that the core may know something new.
func (v *views) changed() { v.serial.Add(1) }

// publish answers all who wait. Called by the core's goroutine only, so that
// the serial does not change meanwhile.
func (v *views) publish(view *core.View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.view, v.at = view, v.serial.Load()
	if v.waiting != nil {
		close(v.waiting)
		v.waiting = nil
	}
}

// view returns the state as of now, or a little later.
func (t *term) view(ctx context.Context) (*core.View, error) {
	v := &t.views
	v.mu.Lock()
	if v.view != nil && v.at == v.serial.Load() {
		defer v.mu.Unlock()
		return v.view, nil
	}
	if v.waiting == nil {
		v.waiting = make(chan struct{})
	}
	waiting := v.waiting
	v.mu.Unlock()
	select {
	case v.wanted <- struct{}{}:
	default:
	}
	select {
	case <-waiting:
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.view, nil
	case <-t.done:
		return nil, errStopping
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
