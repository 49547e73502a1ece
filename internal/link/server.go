package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrServerStopped says that a link came after [Server.Stop].
var ErrServerStopped = errors.New("link server is stopped")

// Server is the master's side: an [http.Handler] for [Path] that turns requests
// into links. Authentication and the redirect to the leader come before it.
type Server struct {
	opts   Options
	accept func(*MasterConn, *http.Request)

	mu sync.Mutex
	// mu guards what follows.
	conns   map[*MasterConn]struct{}
	stopped bool
	poller  *poller // once a link was dispatched
	wg      sync.WaitGroup
}

// NewServer makes a server that calls accept for each link, in a goroutine of
// the link's own; the link is closed when accept returns, unless it has called
// [Conn.Dispatch]. accept gets the
// request without its body, for what authentication left in its context; the
// context itself ends with the handler, before accept does.
func NewServer(opts Options, accept func(*MasterConn, *http.Request)) *Server {
	return &Server{opts: opts.withDefaults(), accept: accept, conns: make(map[*MasterConn]struct{})}
}

// ServeHTTP answers a request for a link.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version, status, err := negotiate(r)
	if err != nil {
		if status == http.StatusUpgradeRequired {
			w.Header().Set("Upgrade", Protocol)
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set(VersionHeader, strconv.Itoa(Version))
		}
		http.Error(w, err.Error(), status)
		return
	}
	if s.isStopped() {
		http.Error(w, ErrServerStopped.Error(), http.StatusServiceUnavailable)
		return
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot be upgraded: "+err.Error(), http.StatusHTTPVersionNotSupported)
		return
	}
	early, err := buffered(rw.Reader)
	if err == nil {
		err = nc.SetDeadline(time.Now().Add(s.opts.DeadAfter))
	}
	if err == nil {
		_, err = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %d\r\n\r\n",
			Protocol, VersionHeader, Version)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = nc.Close() // the client is gone; there is nobody to tell
		return
	}
	c := newConn[agentMessage, masterMessage](nc, early, version, s.opts)
	c.server = s
	s.start(c, r)
}

func (s *Server) start(c *MasterConn, r *http.Request) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		c.CloseNow()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	// A goroutine of its own: the handler's stack has grown by the HTTP server's
	// frames, and would stay so as long as the link lives.
	go func() {
		s.accept(c, r)
		if !c.dispatched {
			c.Close("the master is done with this link")
			s.await(c)
		}
	}()
}

func (s *Server) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// Len returns how many links are open.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Stop closes all links with the reason, refuses new ones and waits until all
// have ended. When ctx ends first, the rest is cut off. It may be called again.
func (s *Server) Stop(ctx context.Context, reason string) error {
	s.mu.Lock()
	s.stopped = true
	conns := make([]*MasterConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
		c.Close(reason)
	}
	s.mu.Unlock()
	var errs []error
	for _, c := range conns {
		if err := c.wait(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	s.wg.Wait()
	s.mu.Lock()
	p := s.poller
	s.poller = nil
	s.mu.Unlock()
	if p != nil {
		p.close()
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d links were cut off: %w", len(errs), errs[0])
	}
	return nil
}

// negotiate checks a request for a link and settles its version.
func negotiate(r *http.Request) (version, status int, err error) {
	if r.Method != http.MethodPost {
		return 0, http.StatusMethodNotAllowed, fmt.Errorf("expecting POST, received %s", r.Method)
	}
	if !hasToken(r.Header.Values("Connection"), "upgrade") || !hasToken(r.Header.Values("Upgrade"), Protocol) {
		return 0, http.StatusUpgradeRequired, fmt.Errorf("this address takes links of agents only: expecting 'Upgrade: %s'", Protocol)
	}
	if r.ContentLength != 0 {
		return 0, http.StatusBadRequest, errors.New("a request for a link has no body")
	}
	h := r.Header.Get(VersionHeader)
	version, err = strconv.Atoi(h)
	if err != nil || version < 1 {
		return 0, http.StatusBadRequest, fmt.Errorf("header %s is no version: %q", VersionHeader, h)
	}
	if version < MinVersion {
		return 0, http.StatusUpgradeRequired, fmt.Errorf(
			"the agent speaks link version %d, this master versions %d to %d: upgrade the agent", version, MinVersion, Version,
		)
	}
	return min(version, Version), 0, nil
}

// hasToken says whether a comma-separated header names a token.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			t, _, _ = strings.Cut(t, "/")
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// buffered copies what a reader has read ahead.
func buffered(r *bufio.Reader) ([]byte, error) {
	b, err := r.Peek(r.Buffered())
	return append([]byte(nil), b...), err
}
