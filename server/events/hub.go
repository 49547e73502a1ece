package events

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// Why streams are closed.
var (
	// ErrClosed is the cause when [Hub.Close] is given none.
	ErrClosed = errors.New("this master leads no more")
	// ErrOldest means that too many subscribed, and this one has been there longest.
	ErrOldest = errors.New("too many subscribers: the oldest is closed")
	// ErrPolicy means that the rules have changed of who may see what.
	ErrPolicy = errors.New("the rules of who may see what have changed")

	errGone = errors.New("the client has gone")
)

// Options say how a [Hub] runs. Fields carry the name of the flag that sets them; those
// that are zero have the default of the comment.
type Options struct {
	// MasterID is the id of the leading master, of this leadership.
	MasterID string
	// View returns what the core knows now, or the [httpapi.Error] to answer.
	View func(context.Context) (*core.View, error)
	// State renders the response to GET_STATE.
	State func(render.Format, *core.View, *authz.Viewer) (render.Body, error)
	// ACLs (--acls) say who may see what until [Hub.SetPolicy]; nil: all may.
	ACLs *authz.ACLs
	// MaxSubscribers (--max_operator_event_stream_subscribers) of both streams together;
	// 1,000.
	MaxSubscribers int
	// MaxHistory (--max_event_history) is how many events are remembered, for those who
	// read slowly or come back; 65,536.
	MaxHistory int
	// MaxHistoryBytes is how much memory they may keep; 64 MiB.
	MaxHistoryBytes int
	// WriteTimeout is how long a piece of a megabyte may take to leave this machine;
	// a minute.
	WriteTimeout time.Duration
	// Heartbeat is the interval of heartbeats; 15 seconds.
	Heartbeat time.Duration
	// Logger takes what there is to say.
	Logger zerolog.Logger
	// OnSubscribers, if set, is told how many subscribers there are when that changes, and
	// OnDropped of each that was cut off since it reads too slowly.
	OnSubscribers func(n int)
	OnDropped     func()

	cacheBytes int // of all classes together; for tests
	sendBuffer int // of a socket; for tests
}

const (
	// cacheBytes is how much all classes together keep of what they have encoded.
	cacheBytes = 64 << 20
	// sendBuffer is how much of a stream the kernel keeps for a reader who is slow: left
	// alone it would take megabytes for each.
	sendBuffer = 256 << 10
	// turn is about what it costs to wake a stream and have it write. Streams are woken
	// a cohort at a time, and no faster than they can take their turns: else a thousand of
	// them would stand before the core in the scheduler's queue.
	turn       = 20 * time.Microsecond
	cohortSize = 64
)

// Hub takes the events of one leadership and serves all who subscribe to them.
type Hub struct {
	opts Options
	log  zerolog.Logger
	ctx  context.Context // ends with Close
	stop context.CancelCauseFunc
	wg   sync.WaitGroup // streams, and renderings

	// ringMu guards what follows; nothing that takes long is done under it.
	ringMu sync.Mutex
	ring   ring
	// audience is how many subscribers there are, in cohorts.
	audience int
	cohorts  []*cohort
	next     int           // index of the cohort whose turn it is
	pending  bool          // timer runs
	pulsed   time.Time     // when the last pulse was
	rest     time.Duration // from it to the next
	timer    *time.Timer   // of the next

	// mu guards what follows. It is never taken under ringMu.
	mu      sync.Mutex
	acls    *authz.ACLs
	rulesAt uint64     // serial of the last event under other rules
	rules   bool       // the rules have changed since the beginning
	members *list.List // of *subscriber, the oldest first
	classes map[classKey]*class
	closed  bool

	// share is how much each class may keep of what it has encoded.
	share atomic.Int64

	snapshots snapshots
}

// cohort are streams that are woken together.
type cohort struct {
	// moment is up to where they may read now.
	moment atomic.Pointer[moment]
	size   int // guarded by Hub.ringMu
}

// moment ends with the next one.
type moment struct {
	upTo uint64
	over chan struct{}
}

// New returns a Hub that knows of no event.
func New(opts Options) *Hub {
	opts.MaxSubscribers = cmp.Or(opts.MaxSubscribers, 1000)
	opts.MaxHistory = cmp.Or(opts.MaxHistory, 1<<16)
	opts.MaxHistoryBytes = cmp.Or(opts.MaxHistoryBytes, 64<<20)
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, time.Minute)
	opts.Heartbeat = cmp.Or(opts.Heartbeat, 15*time.Second)
	opts.cacheBytes = cmp.Or(opts.cacheBytes, cacheBytes)
	opts.sendBuffer = cmp.Or(opts.sendBuffer, sendBuffer)
	h := &Hub{
		opts: opts,
		log:  opts.Logger.With().Str("component", "events").Logger(),
		acls: opts.ACLs,
		ring: ring{maxEvents: opts.MaxHistory, maxBytes: opts.MaxHistoryBytes},

		members: list.New(),
		classes: make(map[classKey]*class),
	}
	h.ctx, h.stop = context.WithCancelCause(context.Background())
	h.snapshots.init(h)
	return h
}

// Announce takes the next event. It never waits for a subscriber.
func (h *Hub) Announce(e *core.Event) {
	h.ringMu.Lock()
	defer h.ringMu.Unlock()
	if !h.ring.push(e) {
		h.log.Error().Uint64("serial", e.Serial).Msg("events are missing: who listens has to begin anew")
	}
	if h.audience == 0 || h.pending {
		return
	}
	h.pending = true
	wait := max(0, h.rest-time.Since(h.pulsed))
	if h.timer == nil {
		h.timer = time.AfterFunc(wait, h.pulse)
	} else {
		h.timer.Reset(wait)
	}
}

// pulse lets the next cohort read what has been announced. Who listens alone hears at
// once; the more there are, the more events are gathered for each while others are woken.
func (h *Hub) pulse() {
	h.ringMu.Lock()
	h.pulsed, h.rest = time.Now(), 0
	var old *moment
	if c := h.behindLocked(); c != nil {
		h.rest = time.Duration(c.size) * turn
		old = h.advanceLocked(c)
		h.next++
	}
	if h.pending = h.behindLocked() != nil; h.pending {
		h.timer.Reset(h.rest)
	}
	h.ringMu.Unlock()
	if old != nil {
		close(old.over)
	}
}

// behindLocked finds the next cohort that there is something to tell, and leaves next there.
func (h *Hub) behindLocked() *cohort {
	for range h.cohorts {
		c := h.cohorts[h.next%len(h.cohorts)]
		if c.size > 0 && c.moment.Load().upTo != h.ring.last {
			return c
		}
		h.next++
	}
	return nil
}

// advanceLocked lets a cohort read all that there is. The moment that is over is to be
// closed, if there was one.
func (h *Hub) advanceLocked(c *cohort) (old *moment) {
	return c.moment.Swap(&moment{upTo: h.ring.last, over: make(chan struct{})})
}

// join finds a cohort for a newcomer.
func (h *Hub) join() *cohort {
	h.ringMu.Lock()
	defer h.ringMu.Unlock()
	var best *cohort
	for _, c := range h.cohorts {
		if c.size < cohortSize && (best == nil || c.size > best.size) {
			best = c
		}
	}
	if best == nil {
		best = &cohort{}
		h.cohorts = append(h.cohorts, best)
	}
	if best.size == 0 {
		h.advanceLocked(best) // nobody did while nobody listened, and nobody waits
	}
	best.size++
	h.audience++
	return best
}

func (h *Hub) quit(c *cohort) {
	h.ringMu.Lock()
	defer h.ringMu.Unlock()
	c.size--
	h.audience--
}

// read returns events of the ring.
func (h *Hub) read(dst []*core.Event, first, last uint64) ([]*core.Event, bool) {
	h.ringMu.Lock()
	defer h.ringMu.Unlock()
	return h.ring.read(dst, first, last)
}

// last is the serial of the newest event.
func (h *Hub) last() uint64 {
	h.ringMu.Lock()
	defer h.ringMu.Unlock()
	return h.ring.last
}

// remembers says whether all events after one are still there.
func (h *Hub) remembers(serial uint64) bool {
	h.ringMu.Lock()
	defer h.ringMu.Unlock()
	return serial <= h.ring.last && serial+1 >= h.ring.first()
}

// Subscribers is how many there are.
func (h *Hub) Subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members.Len()
}

// SetPolicy replaces the rules of who may see what; nil: all may. Who does not see the same
// as before is closed: it may subscribe again, and gets what it may see now.
func (h *Hub) SetPolicy(acls *authz.ACLs) {
	last := h.last()
	h.mu.Lock()
	defer h.mu.Unlock()
	if acls == h.acls {
		return
	}
	h.acls, h.rules, h.rulesAt = acls, true, last
	for e := h.members.Front(); e != nil; e = e.Next() {
		s := e.Value.(*subscriber)
		if sightOf(acls, s.principal).key() != s.class.sight.key() {
			s.cancel(ErrPolicy)
		}
	}
}

// Close ends all streams, for a reason that may be nil. It does not wait.
func (h *Hub) Close(cause error) {
	h.mu.Lock()
	h.closed = true
	h.stop(cmp.Or(cause, ErrClosed))
	for e := h.members.Front(); e != nil; e = e.Next() {
		e.Value.(*subscriber).cancel(context.Cause(h.ctx))
	}
	h.mu.Unlock()
	h.ringMu.Lock()
	defer h.ringMu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
	h.pending = true // for ever: nobody is to be woken
}

// Wait returns once all streams have ended after Close, which takes a second at most.
func (h *Hub) Wait() { h.wg.Wait() }

// subscriber is one stream.
type subscriber struct {
	principal *authz.Principal
	class     *class
	cohort    *cohort
	cancel    context.CancelCauseFunc
	elem      *list.Element
}

// enrol makes a subscriber, whose context ends when it is to be closed.
func (h *Hub) enrol(r *http.Request, f format, t types) (*subscriber, context.Context, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		cancel(nil)
		return nil, nil, unavailable(context.Cause(h.ctx))
	}
	s := &subscriber{principal: httpapi.PrincipalOf(r), cancel: cancel}
	seen := sightOf(h.acls, s.principal)
	s.class = h.classLocked(classKey{f, t, seen.key()}, seen)
	s.elem = h.members.PushBack(s)
	s.cohort = h.join()
	if h.members.Len() > h.opts.MaxSubscribers {
		oldest := h.members.Front()
		h.members.Remove(oldest)
		oldest.Value.(*subscriber).cancel(ErrOldest)
	}
	h.wg.Add(1) // under mu and not closed: before Wait
	h.countLocked()
	return s, ctx, nil
}

// leave undoes enrol.
func (h *Hub) leave(s *subscriber) {
	defer h.wg.Done()
	s.cancel(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members.Remove(s.elem) // nothing happens if it was the oldest
	h.releaseLocked(s.class)
	h.quit(s.cohort)
	h.countLocked()
}

// countLocked tells how many subscribers there are.
func (h *Hub) countLocked() {
	if h.opts.OnSubscribers != nil {
		h.opts.OnSubscribers(h.members.Len())
	}
}

func (h *Hub) classLocked(key classKey, seen sight) *class {
	c := h.classes[key]
	if c == nil {
		c = &class{
			key: key, sight: seen, master: h.opts.MasterID, read: h.read, keep: &h.share,
			blocks: make(map[uint64]*block),
		}
		h.classes[key] = c
		h.share.Store(int64(h.opts.cacheBytes / len(h.classes)))
		if source := sourceOf(key); source != key {
			c.source = h.classLocked(source, whole)
		}
	}
	c.refs++
	return c
}

func (h *Hub) releaseLocked(c *class) {
	if c.refs--; c.refs > 0 {
		return
	}
	delete(h.classes, c.key)
	h.share.Store(int64(h.opts.cacheBytes / max(1, len(h.classes))))
	if c.source != nil {
		h.releaseLocked(c.source)
	}
}

// sourceOf is the class that encodes the messages of another.
func sourceOf(key classKey) classKey {
	m := key.format.media
	if m == asSSE {
		m = asJSON
	}
	return classKey{format{face: key.format.face, media: m}, 0, "source"}
}

// unavailable is the answer to who comes when it is over.
func unavailable(cause error) error {
	return httpapi.Errorf(http.StatusServiceUnavailable, "%s", fmt.Sprint(cause))
}
