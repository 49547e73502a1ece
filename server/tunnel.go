package server

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/internal/metrics"
	"clusterd/server/core"
)

// A tunnel is a connection that an agent opens because the master asks for it by a message on
// the link; the master sends HTTP requests on it. So agents need no address that anybody can
// reach, and what is sent is as safe as the link: it is opened by the same code, to the same
// master.

const (
	// dialBack is how long an agent may take to open a connection.
	dialBack = 5 * time.Second
	// maxAgentRequests and maxProxied bound the requests under way to an agent, and to all.
	maxAgentRequests = 256
	maxProxied       = 8192
	// keptPerAgent and keptTunnels bound the connections that are kept for later requests, and
	// keptFor how long.
	keptPerAgent = 4
	keptTunnels  = 1024
	keptFor      = time.Minute
	// busyLink is what may wait on an agent's link for it to be asked for a connection: to
	// ask must not be what fills the link.
	busyLink = link.DefaultMaxQueueBytes / 4
)

var (
	// errNotLinked says that an agent has no link to this master.
	errNotLinked = errors.New("the agent is not connected to the leading master")
	// errNoDialBack says that an agent did not open a connection in time.
	errNoDialBack = errors.New("the agent did not open a connection to the leading master in time: it cannot reach it, is too busy, or is of a version that cannot")
	// errBusyLink says that an agent does not read what it is sent.
	errBusyLink = errors.New("the agent does not read what it is sent")
	// errManyRequests says that a bound is reached.
	errManyRequests = errors.New("too many requests are under way to agents")
)

// tunnels are the connections to the agents of a term. Its methods are called from any
// goroutine, and never wait but for dial.
type tunnels struct {
	transport *http.Transport
	done      <-chan struct{} // of the term
	// durations of opening connections, by whether that failed.
	durations *metrics.HistogramVec

	proxied atomic.Int64

	mu sync.Mutex
	// mu guards what follows.
	agents  map[string]*linkedAgent    // by agent id
	links   map[core.LinkID]string     // their agents
	waiting map[string]chan<- net.Conn // by token; size 1: gets one, unless that failed, and is closed
	closed  bool
}

// linkedAgent is an agent that has registered on a link that is up.
type linkedAgent struct {
	link     core.LinkID
	conn     *link.MasterConn
	requests int
	open     map[*agentConn]struct{} // nil: none
}

// agentConn is a connection that an agent has opened.
type agentConn struct {
	net.Conn
	close func()
}

// Close ends the connection.
func (c *agentConn) Close() error {
	c.close()
	return c.Conn.Close()
}

// CloseWrite says that nothing more will be written.
func (c *agentConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

func newTunnels(done <-chan struct{}, m *metrics.Registry) *tunnels {
	t := &tunnels{
		done: done,
		durations: m.HistogramVec("clusterd_tunnel_open_seconds",
			"How long agents took to open a connection that the master asked for.", "result"),
		agents: map[string]*linkedAgent{}, links: map[core.LinkID]string{}, waiting: map[string]chan<- net.Conn{},
	}
	t.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, err := tunnelAgent(addr)
			if err != nil {
				return nil, err
			}
			began := time.Now()
			conn, err := t.dial(ctx, id)
			result := "ok"
			if err != nil {
				result = "failed"
			}
			t.durations.Observe(time.Since(began), result)
			return conn, err
		},
		DisableCompression:  true,
		MaxIdleConns:        keptTunnels,
		MaxIdleConnsPerHost: keptPerAgent,
		IdleConnTimeout:     keptFor,
	}
	return t
}

// registered notes that an agent has registered on a link.
func (t *tunnels) registered(agent string, id core.LinkID, conn *link.MasterConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if old := t.agents[agent]; old != nil {
		if old.link == id {
			return
		}
		t.dropLocked(old.link)
	}
	if before, ok := t.links[id]; ok && before != agent {
		t.dropLocked(id)
	}
	t.agents[agent], t.links[id] = &linkedAgent{link: id, conn: conn}, agent
}

// dropped notes that a link has ended: what came by its agent's connections ends too.
func (t *tunnels) dropped(id core.LinkID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(id)
}

func (t *tunnels) dropLocked(id core.LinkID) {
	agent, ok := t.links[id]
	if !ok {
		return
	}
	for c := range t.agents[agent].open {
		_ = c.Conn.Close() // not through agentConn, which wants mu
	}
	delete(t.links, id)
	delete(t.agents, agent)
}

// close ends everything. The term's end wakes who waits.
func (t *tunnels) close() {
	t.mu.Lock()
	t.closed = true
	for id := range t.links {
		t.dropLocked(id)
	}
	t.mu.Unlock()
	t.transport.CloseIdleConnections()
}

// begin counts a request to an agent; end is to be called when it is over.
func (t *tunnels) begin(agent string) (end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.agents[agent]
	switch {
	case a == nil:
		return nil, errNotLinked
	case a.requests >= maxAgentRequests || t.proxied.Load() >= maxProxied:
		return nil, errManyRequests
	}
	a.requests++
	t.proxied.Add(1)
	return func() {
		t.proxied.Add(-1)
		t.mu.Lock()
		a.requests--
		t.mu.Unlock()
	}, nil
}

// dial has an agent open a connection.
func (t *tunnels) dial(ctx context.Context, agent string) (net.Conn, error) {
	token := rand.Text()
	got := make(chan net.Conn, 1)
	t.mu.Lock()
	a := t.agents[agent]
	if a == nil {
		t.mu.Unlock()
		return nil, errNotLinked
	}
	t.waiting[token] = got
	t.mu.Unlock()
	err := errBusyLink
	if a.conn.Queued() < busyLink {
		err = a.conn.Send(&clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_OpenTunnel{
			OpenTunnel: &clusterdv1.OpenTunnel{Token: &token},
		}})
		if err != nil {
			err = errNotLinked
		}
	}
	var nc net.Conn
	if err == nil {
		nc, err = t.await(ctx, a.conn, got)
	}
	if err != nil {
		t.mu.Lock()
		_, untaken := t.waiting[token]
		delete(t.waiting, token)
		t.mu.Unlock()
		if untaken {
			return nil, err
		}
		// It comes this very moment.
		if nc = <-got; nc == nil {
			return nil, err
		}
	}
	return t.opened(agent, a, nc)
}

func (t *tunnels) await(ctx context.Context, conn *link.MasterConn, got <-chan net.Conn) (net.Conn, error) {
	timer := time.NewTimer(dialBack)
	defer timer.Stop()
	select {
	case nc := <-got:
		if nc == nil {
			return nil, errNoDialBack
		}
		return nc, nil
	case <-timer.C:
		return nil, errNoDialBack
	case <-conn.Done():
		return nil, errNotLinked
	case <-t.done:
		return nil, errNotLinked
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// opened notes a connection, unless the agent's link has ended meanwhile.
func (t *tunnels) opened(agent string, a *linkedAgent, nc net.Conn) (net.Conn, error) {
	c := &agentConn{Conn: nc}
	c.close = func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(a.open, c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.agents[agent] != a {
		return nil, errors.Join(errNotLinked, nc.Close())
	}
	if a.open == nil {
		a.open = map[*agentConn]struct{}{}
	}
	a.open[c] = struct{}{}
	return c, nil
}

// take hands out who waits for a token, once.
func (t *tunnels) take(token string) chan<- net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	got := t.waiting[token]
	delete(t.waiting, token)
	return got
}

// openTunnel takes a connection that an agent was asked for.
func (s *Server) openTunnel(w http.ResponseWriter, r *http.Request) error {
	httpapi.Stream(r)
	token, status, err := link.TunnelToken(r)
	if err != nil {
		return httpapi.Errorf(status, "%v", err)
	}
	t := s.term.Load()
	if t == nil {
		return httpapi.Unavailable("This master does not lead")
	}
	got := t.tunnels.take(token)
	if got == nil {
		return httpapi.NotFound("Nobody waits for this connection, or no more")
	}
	defer close(got)
	nc, err := link.AcceptTunnel(w, dialBack)
	if err != nil {
		s.log.Debug().Err(err).Str("remote", r.RemoteAddr).Msg("a connection of an agent failed")
		return nil // it is answered, as far as that is possible
	}
	got <- nc
	return nil
}
