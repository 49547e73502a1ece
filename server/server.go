package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/files"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/internal/metrics"
	"clusterd/internal/version"
	"clusterd/registry"
	"clusterd/server/core"
)

// ErrStopped says that Stop was called.
var ErrStopped = errors.New("the master was stopped")

// Server is a master.
type Server struct {
	opts     Options
	log      zerolog.Logger
	metrics  *metrics.Registry
	listener net.Listener
	info     *mesos.MasterInfo
	start    time.Time

	registry *registry.Registry // set once, by Start
	// group is this master among the others, nil before Start and without gossip.
	group   atomic.Pointer[group]
	http    *http.Server
	links   *link.Server
	router  *httpapi.Router
	files   *files.Files
	rates   *rateLimiter
	reads   sharing
	proxy   proxy
	health  health
	pauses  pauses
	debug   httpapi.Debug
	request atomic.Uint64 // the last core.RequestID
	linkID  atomic.Uint64 // the last core.LinkID

	// policy is who may do what.
	policy atomic.Pointer[authz.ACLs]
	// whitelist is the list of --whitelist as it was last read, nil without.
	whitelist atomic.Pointer[[]string]

	// term is the present leadership, nil while there is none.
	term atomic.Pointer[term]

	ctx    context.Context // ends when the server is to stop; its cause says why
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	steps   []step // of Stop, the last one first
	stopped bool
	stopErr error
}

// step is something that Stop undoes.
type step struct {
	name string
	undo func(context.Context) error
}

// New makes a master and binds its port. Nothing else happens before Start.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.Verbosity == nil {
		opts.Verbosity = httpapi.NewVerbosity(0)
	}
	if opts.Metrics == nil {
		opts.Metrics = metrics.NewRegistry()
	}
	if opts.whitelistInterval <= 0 {
		opts.whitelistInterval = whitelistInterval
	}
	s := &Server{opts: opts, log: opts.Logger, metrics: opts.Metrics, start: time.Now()}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	var err error
	lc := net.ListenConfig{Control: noticeDeadPeers}
	s.listener, err = lc.Listen(s.ctx, "tcp", net.JoinHostPort(opts.IP, strconv.Itoa(opts.Port)))
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	s.info, err = masterInfo(s.ctx, &opts, uuid.NewString(), s.listener.Addr().(*net.TCPAddr))
	if err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	s.steps = []step{{"HTTP port", func(context.Context) error { return ignoreClosed(s.listener.Close()) }}}
	opts.Links.Decode = core.DecodeAgentMessage
	s.links = link.NewServer(opts.Links, s.serveLink)
	s.policy.Store(opts.ACLs)
	s.rates = newRateLimiter(opts.RateLimits, opts.Metrics)
	s.files = files.New()
	s.router = s.routes()
	s.publishMetrics()
	s.beginHealth()
	return s, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Addr is the address that the HTTP front listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// MasterInfo is who this master is; the id changes should it lead a second time.
func (s *Server) MasterInfo() *mesos.MasterInfo {
	if t := s.term.Load(); t != nil {
		return t.info
	}
	return s.info
}

// Metrics is where this master publishes its values.
func (s *Server) Metrics() *metrics.Registry { return s.metrics }

// SetPolicy replaces the rules of who may do what; nil permits everything.
func (s *Server) SetPolicy(acls *authz.ACLs) {
	s.policy.Store(acls)
	if t := s.term.Load(); t != nil {
		// A term that ends meanwhile does not need them; the next begins with them.
		_ = t.submit(s.ctx, envelope{in: core.Policy{ACLs: acls}})
		t.events.SetPolicy(acls)
	}
}

// Start opens the registry and serves. It returns once requests are answered,
// which is before this master leads; ctx bounds the start only.
func (s *Server) Start(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.Stop(ctx))
	}
	return nil
}

func (s *Server) open(ctx context.Context) error {
	if err := s.openWhitelist(); err != nil {
		return err
	}
	opened := time.Now()
	reg, err := registry.Open(ctx, registry.Options{
		Dir:              s.opts.raftDir(),
		ServerID:         s.opts.NodeID,
		MasterInfo:       s.info,
		BuildVersion:     version.Clusterd,
		BindAddr:         s.opts.RaftBind,
		AdvertiseAddr:    s.raftAdvertise(),
		BootstrapExpect:  s.opts.BootstrapExpect,
		HeartbeatTimeout: s.opts.RaftHeartbeatTimeout,
		Peers:            func() []registry.Peer { return s.group.Load().peers() },
		TLS:              s.opts.TLS.Peer(),
		ClientTLS:        s.clientTLS(),
		StoreTimeout:     s.opts.RegistryStoreTimeout,
		FetchTimeout:     s.opts.RegistryFetchTimeout,
		Logger:           s.log,
		OnStore:          s.onStore,
	})
	if err != nil {
		return err
	}
	s.metrics.Timer("registrar/state_fetch", 24*time.Hour).Observe(time.Since(opened))
	s.mu.Lock()
	s.registry = reg
	s.mu.Unlock()
	s.push("registry", func(context.Context) error { return reg.Close() })
	if s.opts.GossipBind != "" {
		if err := s.openGroup(ctx); err != nil {
			return err
		}
	}

	s.serve()
	s.push("HTTP front", s.stopHTTP)
	s.push("proxy", s.proxy.stop)
	s.push("links", func(ctx context.Context) error { return s.links.Stop(ctx, "the master stops") })

	s.wg.Go(s.watchHealth)
	s.wg.Go(s.lead)
	s.wg.Go(s.watchPassedOn)
	s.push("leadership", func(ctx context.Context) error {
		done := make(chan struct{})
		go func() { defer close(done); s.wg.Wait() }()
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// The others need not wait until they miss this master.
		if err := reg.Resign(ctx); err != nil {
			s.log.Info().Err(err).Msg("the other masters will elect a leader by themselves")
		}
		return nil
	})
	s.log.Info().Stringer("addr", s.Addr()).Str("master_id", s.info.GetId()).Str("pid", s.info.GetPid()).
		Str("version", version.String()).Msg("master serves")
	return nil
}

// clientTLS is how this master calls others, nil in clear.
func (s *Server) clientTLS() func() *tls.Config {
	if s.opts.TLS == nil {
		return nil
	}
	return s.opts.TLS.Client
}

func (s *Server) push(name string, undo func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, step{name, undo})
}

// serve starts the HTTP front.
func (s *Server) serve() {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           s.router,
		Protocols:         protocols,
		ReadHeaderTimeout: s.opts.ReadHeaderTimeout,
		ConnState:         httpapi.NewConns(s.opts.MaxConnections, s.log).Watch,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          newErrorLog(s.log),
	}
	s.wg.Go(func() {
		if err := s.http.Serve(s.opts.TLS.Listen(s.listener)); !errors.Is(err, http.ErrServerClosed) && s.ctx.Err() == nil {
			s.fail(fmt.Errorf("serve HTTP: %w", err))
		}
	})
}

// stopHTTP lets requests under way end, as long as ctx allows.
func (s *Server) stopHTTP(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	return err
}

// lead waits for leadership, leads, and begins again.
func (s *Server) lead() {
	for {
		l, err := s.registry.AwaitLeadership(s.ctx)
		if err != nil {
			if s.ctx.Err() == nil {
				s.fail(fmt.Errorf("registry: %w", err))
			}
			return
		}
		t := newTerm(s, l)
		s.log.Info().Str("master_id", t.info.GetId()).Uint64("epoch", l.Epoch()).Msg("elected as the leading master")
		s.term.Store(t)
		// They may have changed since the term was made, and may do so right now: then what
		// SetPolicy has just said must not be undone.
		for acls := s.policy.Load(); ; acls = s.policy.Load() {
			t.feed(core.Policy{ACLs: acls})
			t.events.SetPolicy(acls)
			if acls == s.policy.Load() {
				break
			}
		}
		s.group.Load().leads(l.Epoch())
		t.run()
		s.term.Store(nil)
		s.group.Load().leads(0)
		if s.ctx.Err() != nil {
			return
		}
		s.log.Warn().AnErr("cause", t.cause).Msg("leads no more")
	}
}

// fail ends the server for a reason that Err then tells.
func (s *Server) fail(err error) {
	s.log.Error().Err(err).Msg("master cannot go on")
	s.cancel(err)
}

// Done is closed when the server stops, or must be stopped because it failed.
func (s *Server) Done() <-chan struct{} { return s.ctx.Done() }

// Err says why Done is closed: ErrStopped, or what failed.
func (s *Server) Err() error { return context.Cause(s.ctx) }

// Stop ends the server: leadership first, then streams and links, the HTTP
// front, the registry. Each step is bounded by ctx. It may be called again.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped {
		defer s.mu.Unlock()
		return s.stopErr
	}
	s.stopped = true
	steps := s.steps
	s.mu.Unlock()

	s.cancel(ErrStopped)
	// The port goes first, and the last step waits for the goroutine that serves it.
	errs := []error{ignoreClosed(s.listener.Close())}
	for _, step := range slices.Backward(steps) {
		if err := step.undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
	}
	err := errors.Join(errs...)
	s.mu.Lock()
	s.stopErr = err
	s.mu.Unlock()
	s.log.Info().AnErr("error", err).Msg("master stopped")
	return err
}
