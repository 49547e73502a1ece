// Package agent is the agent's shell: it owns the sockets, the disk, the timers
// and the containers, and does what agent/core decides.
//
// [Agent] is made by [New], which opens everything and changes nothing but the
// checkpoint's schema, runs between [Agent.Start] and [Agent.Stop], and ends by
// itself when it must ([Agent.Done], [Agent.Err]): refused by its master, told to
// leave, or unable to write its checkpoint.
//
// One goroutine feeds the core. It takes all inputs that wait, collects the
// effects, writes everything that must survive in one transaction, and only then
// does the rest, in order: what a framework or an executor was told is on the
// disk before it is told. Containers, the link and each executor's stream have
// goroutines of their own, which answer with inputs.
//
// All exported methods are safe for concurrent use. internal/cli imports this
// package.
package agent

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"clusterd/agent/checkpoint"
	"clusterd/agent/core"
	"clusterd/agent/hostinfo"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/diskcheck"
	"clusterd/internal/files"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/internal/metrics"
	"clusterd/internal/version"
	"clusterd/isolation"
	"clusterd/isolation/setup"
)

// capabilities are what this agent can do.
var capabilities = []mesos.AgentInfo_Capability_Type{
	mesos.AgentInfo_Capability_MULTI_ROLE,
	mesos.AgentInfo_Capability_HIERARCHICAL_ROLE,
	mesos.AgentInfo_Capability_RESERVATION_REFINEMENT,
	mesos.AgentInfo_Capability_RESOURCE_PROVIDER,
	mesos.AgentInfo_Capability_RESIZE_VOLUME,
	mesos.AgentInfo_Capability_AGENT_OPERATION_FEEDBACK,
	mesos.AgentInfo_Capability_AGENT_DRAINING,
	mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS,
}

// maxInputs is how many inputs may wait for the core; senders wait beyond that.
const maxInputs = 1024

// Agent is one agent of the cluster.
type Agent struct {
	opts    Options
	log     zerolog.Logger
	metrics *metrics.Registry
	started time.Time

	info    *mesos.AgentInfo
	ip      string
	store   checkpoint.Store
	core    *core.Core
	boot    string // id of this boot
	runner  isolation.Containerizer
	ownsRun bool
	files   *files.Files
	fetch   fetchFunc
	gc      *collector

	listener net.Listener
	former   []net.Listener // at ports that executors still know
	socket   net.Listener   // for executors; nil: none
	// server serves the ports, socketServer the socket.
	server, socketServer *http.Server
	tunnels              *tunnels
	discovery

	policy atomic.Pointer[authz.ACLs] // who may do what
	// foreign are masters' rules, for who comes through them while there is no policy.
	foreign foreignRules
	health  health
	debug   httpapi.Debug
	live    httpapi.Live
	doors   doors

	measured lastMeasured
	nested   nestedContainers
	pending  pendingOperations

	inputs chan core.Input
	views  chan chan *core.View

	// ctx ends when the agent stops; all goroutines of wg heed it.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	// loopDone is closed when nothing feeds the core any more.
	loopDone chan struct{}

	// Owned by the goroutine that feeds the core.
	containers map[string]*containerState
	launches   chan struct{} // a slot for each container that is being launched
	timings    timings

	mu       sync.Mutex // guards what follows
	requests map[core.RequestID]chan reply
	streams  map[core.StreamID]*eventStream
	links    map[core.LinkID]*link.AgentConn

	lastID    atomic.Uint64
	recovered atomic.Bool

	endOnce  sync.Once
	stopOnce sync.Once
	stopErr  error
	done     chan struct{}
	err      error // set before done is closed
}

// New prepares an agent. On an error nothing is left open.
func New(opts Options) (*Agent, error) {
	if err := opts.validate(); err != nil {
		if opts.Listener != nil {
			_ = opts.Listener.Close()
		}
		return nil, err
	}
	a := &Agent{
		opts: opts, log: opts.Log, metrics: opts.Metrics, started: time.Now(),
		listener: opts.Listener,
		inputs:   make(chan core.Input, maxInputs), views: make(chan chan *core.View),
		loopDone: make(chan struct{}), done: make(chan struct{}),
		containers: map[string]*containerState{}, launches: make(chan struct{}, opts.MaxLaunches),
		requests: map[core.RequestID]chan reply{}, streams: map[core.StreamID]*eventStream{},
		links: map[core.LinkID]*link.AgentConn{}, discovery: discovery{joined: make(chan string, 1)},
		nested: nestedContainers{users: map[string]string{}, inputs: map[string]bool{}},
	}
	if a.metrics == nil {
		a.metrics = metrics.NewRegistry()
	}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.closeAll())
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.registerMetrics()
	a.timings = newTimings(a.metrics)
	a.health.disk = diskcheck.NewDisk(a.opts.WorkDir)
	a.policy.Store(opts.ACLs)
	a.server, a.socketServer = a.newServers()
	return a, nil
}

func (a *Agent) open() error {
	for _, dir := range []string{a.opts.WorkDir, a.opts.RuntimeDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create directory: %w", err)
		}
	}
	if err := a.describe(); err != nil {
		return err
	}
	bootID, rebooted, err := a.bootID()
	if err != nil {
		return err
	}
	store, err := checkpoint.Open(filepath.Join(a.opts.WorkDir, "meta", "clusterd.db"))
	if err != nil {
		return err
	}
	a.store = store
	if a.opts.wrapStore != nil {
		a.store = a.opts.wrapStore(store)
	}
	kept, skipped, err := store.Load(a.opts.Strict)
	if err != nil {
		return err
	}
	if skipped > 0 {
		a.log.Error().Int("records", skipped).Msg("unreadable records of the checkpoint were left out (--no-strict)")
		a.metrics.Counter("slave/recovery_errors").Add(int64(skipped))
	}
	cfg := a.config(rebooted)
	if _, err := crand.Read(cfg.Seed[:]); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if a.core, err = core.New(cfg, kept, time.Now()); err != nil {
		if errors.Is(err, core.ErrIncompatible) {
			return fmt.Errorf("%w; start with the old configuration, with a more permissive --reconfiguration_policy, "+
				"or remove %s to begin as a new agent (running executors will be destroyed)",
				err, filepath.Join(a.opts.WorkDir, "meta", "clusterd.db"))
		}
		return err
	}
	a.learned = kept.Cluster.GetMasters()
	if a.core.View().Info.GetId() != nil { // else it may join any
		a.cluster = kept.Cluster.GetClusterId()
	}
	if err := a.openContainerizer(rebooted); err != nil {
		return err
	}
	a.files = files.New()
	if a.fetch, err = a.newFetcher(); err != nil {
		return err
	}
	a.gc = newCollector(a)
	a.boot = bootID
	return nil
}

// bootID tells whether the machine booted since the last run.
func (a *Agent) bootID() (id string, rebooted bool, err error) {
	if id, err = hostinfo.BootID(); err != nil {
		return "", false, err
	}
	old, err := os.ReadFile(filepath.Join(a.opts.WorkDir, "meta", "boot_id"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", false, fmt.Errorf("read the last boot id: %w", err)
	}
	return id, err == nil && strings.TrimSpace(string(old)) != id, nil
}

// writeFile replaces a file as a whole. One that is as it should be is left alone: an agent
// has to start on a full disk too, because it is who collects garbage.
func writeFile(path, content string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp, path)
}

func (a *Agent) config(rebooted bool) core.Config {
	o := a.opts
	return core.Config{
		Info: a.info, IP: a.ip, BuildVersion: version.Mesos, Capabilities: capabilities, LinkVersion: link.Version,
		WorkDir: o.WorkDir, Rebooted: rebooted,
		RegistrationBackoffFactor:     o.RegistrationBackoffFactor,
		ExecutorRegistrationTimeout:   o.ExecutorRegistrationTimeout,
		ExecutorReregistrationTimeout: o.ExecutorReregistrationTimeout,
		ExecutorShutdownGracePeriod:   o.ExecutorShutdownGracePeriod,
		RecoveryTimeout:               o.RecoveryTimeout,
		ReconfigurationPolicy:         o.ReconfigurationPolicy,
		Recover:                       o.Recover,
		SwitchUser:                    o.SwitchUser,
		EnableCFS:                     o.EnableCFS,
		ExecutorEnvironment:           o.ExecutorEnvironment,
		DefaultContainerInfo:          o.DefaultContainerInfo,
		LibprocessIP:                  os.Getenv("LIBPROCESS_IP"),
		DomainSocket:                  o.domainSocket(),
		MaxCompletedFrameworks:        50,
		MaxCompletedExecutors:         o.MaxCompletedExecutors,
		MaxCompletedTasks:             200,
	}
}

func (a *Agent) openContainerizer(rebooted bool) error {
	if a.opts.Containerizer != nil {
		a.runner = a.logged(a.opts.Containerizer)
		return nil
	}
	if l := a.opts.ContainerLogger; l != nil {
		for _, w := range l.Warnings() {
			a.log.Warn().Msg("container logger: " + w)
		}
	}
	programs, err := isolation.LoadPrograms()
	if err != nil {
		return err
	}
	a.log.Info().Str("programs", programs.Describe()).Msg("programs of containers")
	o := a.opts.Containers
	o.WorkDir, o.RuntimeDir, o.Resources = a.opts.WorkDir, a.opts.RuntimeDir, a.info.GetResources()
	a.measureContainers(&o)
	runner, err := setup.New(o, programs, a.log)
	if err != nil {
		return err
	}
	if rebooted {
		// What is there speaks of processes that are no more. (Not before the
		// containerizer has made sure that it is ours.)
		dir := filepath.Join(a.opts.RuntimeDir, "containers")
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
			return errors.Join(fmt.Errorf("clear runtime_dir after a reboot: %w", err), runner.Close())
		}
	}
	a.runner, a.ownsRun = a.logged(runner), true
	return nil
}

// Start takes up the containers of the last run and begins to work. If it
// fails the agent is over; Stop is still to be called.
func (a *Agent) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	if err := a.openGossip(ctx); err != nil {
		return err
	}
	known := a.core.Containers()
	configs := make([]isolation.ContainerConfig, len(known))
	for i := range known {
		configs[i] = *containerConfig(&known[i])
	}
	orphans, err := a.runner.Recover(ctx, configs)
	if err != nil {
		return fmt.Errorf("recover containers: %w", err)
	}
	for _, id := range orphans {
		a.log.Warn().Str("container_id", isolation.Key(id)).Msg("destroyed a container that nobody knows")
	}
	statuses := map[string]*mesos.ContainerStatus{}
	for _, k := range known {
		if st, err := a.runner.Status(ctx, k.ContainerID); err == nil {
			statuses[k.ContainerID.GetValue()] = st
		}
	}
	a.gc.scan(known)
	a.collectFormer(a.core.View())
	a.listenAsBefore(ctx)
	if err := a.listenSocket(ctx); err != nil {
		return err
	}
	goOn := a.perform(a.core.Handle(time.Now(), core.Recovered{Statuses: statuses}))
	if err := a.Err(); err != nil {
		return err
	}
	// Not before it is kept what the boot has changed: else the next run would take
	// the old records for those of this boot.
	if err := writeFile(filepath.Join(a.opts.WorkDir, "meta", "boot_id"), a.boot); err != nil {
		return err
	}
	a.wg.Go(func() {
		defer close(a.loopDone)
		if goOn {
			a.loop()
		}
	})
	a.recovered.Store(true)
	a.metrics.Gauge("slave/recovery_time_secs").Set(time.Since(a.started).Seconds())
	a.wg.Go(a.gc.run)
	a.wg.Go(a.watchHealth)
	if a.finder != nil {
		a.wg.Go(a.watchLeader)
	}
	if a.gossip != nil {
		a.wg.Go(a.tellCluster)
	}
	serve := func(s *http.Server, l net.Listener) {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.end(fmt.Errorf("serve HTTP: %w", err))
		}
	}
	for _, l := range append([]net.Listener{a.listener}, a.former...) {
		a.wg.Go(func() { serve(a.server, a.opts.TLS.Listen(l)) })
	}
	if a.socket != nil {
		a.wg.Go(func() { serve(a.socketServer, a.socket) })
	}
	a.wg.Go(func() { serve(a.tunnels.server, a.tunnels) })
	a.log.Info().Str("address", a.Addr()).Str("hostname", a.info.GetHostname()).Msg("agent started")
	return nil
}

// Addr returns the address that the HTTP API is served at.
func (a *Agent) Addr() string { return a.listener.Addr().String() }

// Done is closed when the agent has ended, by itself or by Stop.
func (a *Agent) Done() <-chan struct{} { return a.done }

// Err returns why the agent ended by itself; nil if it was asked to, or has not.
func (a *Agent) Err() error {
	select {
	case <-a.done:
		return a.err
	default:
		return nil
	}
}

// Leave ends all executors and then the agent, which does not come back: its
// next run is a new agent (SIGUSR1). Done is closed when it is over.
func (a *Agent) Leave(message string) { a.post(core.Shutdown{Message: message}) }

// SetPolicy replaces the rules of who may do what; nil permits everything.
func (a *Agent) SetPolicy(acls *authz.ACLs) { a.policy.Store(acls) }

// View returns what the agent knows now.
func (a *Agent) View(ctx context.Context) (*core.View, error) {
	ch := make(chan *core.View, 1)
	select {
	case a.views <- ch:
		return <-ch, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.done:
		return nil, errStopped
	}
}

var errStopped = errors.New("the agent has stopped")

// end is how the agent ends by itself.
func (a *Agent) end(err error) {
	a.endOnce.Do(func() {
		a.err = err
		close(a.done)
		a.cancel()
	})
}

// Stop ends the agent's part: executors and containers go on running and are
// taken up by the next run. It waits for what the agent started, within ctx.
func (a *Agent) Stop(ctx context.Context) error {
	a.stopOnce.Do(func() { a.stopErr = a.stop(ctx) })
	return a.stopErr
}

func (a *Agent) stop(ctx context.Context) error {
	a.end(nil)
	a.debug.Close()
	a.live.Close()
	a.mu.Lock()
	links := a.links
	a.links = map[core.LinkID]*link.AgentConn{}
	a.mu.Unlock()
	for _, l := range links {
		l.CloseNow()
	}
	var errs []error
	for _, s := range []*http.Server{a.server, a.socketServer, a.tunnels.server} {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop HTTP: %w", err), s.Close())
		}
	}
	waited := make(chan struct{})
	go func() {
		a.wg.Wait()
		close(waited)
	}()
	select {
	case <-waited:
	case <-ctx.Done():
		errs = append(errs, a.closeGossip())
		// The store must stay open for whoever still writes to it.
		return errors.Join(append(errs, fmt.Errorf("stop agent: %w", ctx.Err()))...)
	}
	errs = append(errs, a.closeAll())
	return errors.Join(errs...)
}

// closeAll closes what New opened.
func (a *Agent) closeAll() error {
	errs := []error{a.closeGossip()}
	if a.ownsRun {
		errs = append(errs, a.runner.Close())
		a.ownsRun = false
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
		a.store = nil
	}
	for _, l := range append([]net.Listener{a.listener, a.socket}, a.former...) {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *Agent) nextID() uint64 { return a.lastID.Add(1) }

func strp(s string) *string { return new(s) }
