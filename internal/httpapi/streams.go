package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// StreamsPath is where a page has all its streams on one connection.
const StreamsPath = "/api/clusterd/v1/streams"

// A page follows several streams: the events, what it watches live. Browsers open no more than
// six connections to a host for answers over HTTP/1, all windows together, and a stream keeps
// one for itself: the seventh would wait for ever, and every request with it. Websockets do not
// count among the six. So this one carries streams of server-sent events side by side, each as
// GET would answer it.
//
//	text, from the page:  {"open":N,"path":"/api/..."}   a stream; N is a number of the page's own
//	                      {"close":N}                    it is not wanted any more
//	text, to the page:    {"id":N,"status":200}          it begins
//	                      {"id":N,"end":true}            it is over; with "error" if it broke off
//	                      {"id":N,"status":S,"body":"why","retry_after":1}
//	                                                     it is refused, which is all that comes
//	binary, to the page:  N in 4 bytes, big endian, then some bytes of the stream
//
// What is asked for has the headers of the request for the websocket, and so the name of who
// made that; it is authenticated and authorised by itself. A page whose session changes opens
// another websocket.

const (
	// maxStreams is how many streams one client may have at a time.
	maxStreams = 16
	// maxStreamsMessage bounds what a client says at once: a path with what it watches live.
	maxStreamsMessage = 512 << 10
	// maxRefusal is how much of a refusal is passed on.
	maxRefusal = 64 << 10
	// streamFrame is how much of a stream goes into one message, so that others have their turn.
	streamFrame = 32 << 10
	// maxStreamsClients bounds the clients.
	maxStreamsClients = 4096
	// farewell is how long a client may take to say goodbye, too.
	farewell = time.Second
)

// streamsIdle is how long a client may have no stream. (Changed by tests.)
var streamsIdle = time.Minute

// Streams carries the streams that a page follows. The zero value is ready for use.
type Streams struct{ guests guests }

// Register adds [StreamsPath] to a router.
func (s *Streams) Register(rt *Router) {
	s.guests.open(maxStreamsClients)
	rt.Handle(StreamsPath, Open("each stream asks by itself"), func(w http.ResponseWriter, r *http.Request) error {
		return s.serve(rt, w, r)
	})
}

// Close ends all streams, and waits for them.
func (s *Streams) Close() { s.guests.close() }

func (s *Streams) serve(rt *Router, w http.ResponseWriter, r *http.Request) error {
	if err := RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		e := Errorf(http.StatusUpgradeRequired, "Expecting 'Upgrade: websocket'")
		e.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
		return e
	}
	// What is asked for within reads for whoever sent this, and browsers let pages of any site
	// open a websocket, and read what comes by it.
	if err := ownSocket(r); err != nil {
		return err
	}
	if err := s.guests.enter(); err != nil {
		return err
	}
	defer s.guests.leave()
	Stream(r)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // see ownSocket
	if err != nil {
		if rt.OnError != nil {
			rt.OnError(r, err)
		}
		return nil // it has been answered
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxStreamsMessage)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c := &streamsClient{
		rt: rt, r: r, ws: ws, ctx: ctx, cancel: cancel,
		out: make(chan streamMessage), places: make(chan struct{}, 2*maxStreams), open: make(map[uint32]*followed),
	}
	c.run(s.guests.done)
	return nil
}

// ownSocket refuses a websocket that a page of another origin opens. Programs say nothing of
// an origin.
func ownSocket(r *http.Request) error {
	if !FromHere(r) {
		return otherSite(r)
	}
	return nil
}

// streamsClient is one client and its streams.
type streamsClient struct {
	rt     *Router
	r      *http.Request
	ws     *websocket.Conn
	ctx    context.Context // of all streams
	cancel context.CancelFunc
	out    chan streamMessage
	places chan struct{} // as many as there are streams, those that are ending too
	wg     sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	open map[uint32]*followed
	idle *time.Timer // runs while there is no stream
}

// followed is one stream of a client.
type followed struct {
	id      uint32
	ctx     context.Context
	cancel  context.CancelFunc
	dropped atomic.Bool // by the client: nothing more is said of it
}

// streamMessage is on its way to the client.
type streamMessage struct {
	of   *followed
	kind websocket.MessageType
	data []byte
	last bool // nothing comes after it
}

// streamControl is a text message, either way.
type streamControl struct {
	Open  uint32 `json:"open,omitempty"`
	Path  string `json:"path,omitempty"`
	Close uint32 `json:"close,omitempty"`

	ID         uint32 `json:"id,omitempty"`
	Status     int    `json:"status,omitempty"`
	Body       string `json:"body,omitempty"`
	RetryAfter string `json:"retry_after,omitempty"`
	End        bool   `json:"end,omitempty"`
	Error      string `json:"error,omitempty"`
}

// run serves the client until it goes, or done is closed.
func (c *streamsClient) run(done <-chan struct{}) {
	c.idle = time.NewTimer(streamsIdle)
	defer c.idle.Stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer c.cancel()
		c.write()
	})
	wg.Go(func() {
		select {
		case <-done:
			c.goodbye(websocket.StatusGoingAway, "The server is shutting down")
		case <-c.idle.C:
			c.goodbye(websocket.StatusNormalClosure, "Nothing is followed")
		case <-c.ctx.Done():
		}
	})
	if err := c.listen(); err != nil {
		c.goodbye(websocket.StatusPolicyViolation, err.Error())
	}
	c.cancel()
	wg.Wait()
	c.wg.Wait()
}

// goodbye ends the connection and says why, to who listens.
func (c *streamsClient) goodbye(code websocket.StatusCode, why string) {
	defer c.cancel()
	hurry := time.AfterFunc(farewell, c.cancel)
	defer hurry.Stop()
	_ = c.ws.Close(code, why[:min(len(why), 120)]) // it may have gone
}

// write sends what the streams have to say.
func (c *streamsClient) write() {
	for {
		select {
		case m := <-c.out:
			if m.of.dropped.Load() {
				continue
			}
			if m.last { // who hears it may take the number again at once
				c.forget(m.of)
			}
			ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
			err := c.ws.Write(ctx, m.kind, m.data)
			cancel()
			if err != nil {
				return // the client has gone, or does not read
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// listen does what the client says until it goes. What it must not say is an error.
func (c *streamsClient) listen() error {
	for {
		kind, data, err := c.ws.Read(c.ctx)
		if err != nil {
			return nil //nolint:nilerr // the client has gone: that is how this ends
		}
		var m streamControl
		if kind != websocket.MessageText || json.Unmarshal(data, &m) != nil || (m.Open == 0) == (m.Close == 0) {
			return errors.New("expecting {\"open\":N,\"path\":P} or {\"close\":N}")
		}
		if m.Close != 0 {
			c.drop(m.Close)
			continue
		}
		if err := c.begin(m.Open, m.Path); err != nil {
			return err
		}
	}
}

// drop ends a stream that is not wanted any more. It may have ended meanwhile.
func (c *streamsClient) drop(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.open[id]; f != nil {
		f.dropped.Store(true)
		f.cancel()
		c.forgetLocked(f)
	}
}

// forget takes a stream that has ended from those that are open.
func (c *streamsClient) forget(f *followed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[f.id] == f {
		c.forgetLocked(f)
	}
}

func (c *streamsClient) forgetLocked(f *followed) {
	delete(c.open, f.id)
	if len(c.open) == 0 {
		c.idle.Reset(streamsIdle)
	}
}

// begin opens a stream.
func (c *streamsClient) begin(id uint32, path string) error {
	// Those that are ending are waited for: who opens and closes very fast has no more of them.
	select {
	case c.places <- struct{}{}:
	case <-c.ctx.Done():
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= maxStreams || c.open[id] != nil {
		return fmt.Errorf("at most %d streams at once, each with a number of its own", maxStreams)
	}
	f := &followed{id: id}
	f.ctx, f.cancel = context.WithCancel(c.ctx)
	c.open[id] = f
	c.idle.Stop()
	c.wg.Go(func() {
		defer func() { <-c.places }()
		defer f.cancel()
		last := c.follow(f, path)
		c.tell(f, &last, true)
	})
	return nil
}

// tell sends a control message; last if nothing comes after it.
func (c *streamsClient) tell(f *followed, m *streamControl, last bool) {
	m.ID = f.id
	data, err := json.Marshal(m)
	if err != nil {
		return // never: it is numbers and strings
	}
	select {
	case c.out <- streamMessage{f, websocket.MessageText, data, last}:
	case <-f.ctx.Done():
	}
}

// follow serves a stream until it ends, and returns what is to be said then.
func (c *streamsClient) follow(f *followed, path string) streamControl {
	w := &streamWriter{client: c, followed: f, header: http.Header{}}
	w.deadline.expired = make(chan struct{})
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithCancel(f.ctx)
	defer cancel()
	w.cancel = cancel
	r, err := Inner(c.r.WithContext(w.ctx), path)
	if err != nil {
		WriteError(w, err)
		return w.end()
	}
	r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
	for name := range r.Header {
		if strings.HasPrefix(name, "Sec-Websocket-") {
			delete(r.Header, name)
		}
	}
	for _, name := range []string{"Accept-Encoding", "Last-Event-Id", "Content-Type", "Content-Length", "Connection", "Upgrade"} {
		r.Header.Del(name)
	}
	r.Header.Set("Accept", "text/event-stream")
	// It is one stream of many on a connection, as with HTTP/2: there is none to be taken over.
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	c.serveInner(w, r)
	return w.end()
}

// serveInner has a handler answer. What net/http does with a panic is done here.
func (c *streamsClient) serveInner(w *streamWriter, r *http.Request) {
	defer w.deadline.set(time.Time{})
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		w.aborted = true
		if err, ok := p.(error); (!ok || !errors.Is(err, http.ErrAbortHandler)) && c.rt.OnError != nil {
			c.rt.OnError(r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	c.rt.ServeHTTP(w, r)
}
