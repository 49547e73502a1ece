package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log" //nolint:depguard // http.Server takes no other logger
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/recordio"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/version"
)

// usageConcurrency bounds the containers that one request measures at a time.
const usageConcurrency = 8

// httpLog takes what net/http has to say into the log.
type httpLog struct{ log zerolog.Logger }

func (l httpLog) Write(p []byte) (int, error) {
	l.log.Warn().Msg(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// newServers makes the servers of the agent's ports and of its socket.
func (a *Agent) newServers() (ports, socket *http.Server) {
	rt := httpapi.NewRouter("slave(1)", "agent")
	rt.Guards = httpapi.Guards{Realms: a.opts.Realms, Policy: a.policy.Load}
	rt.OnError = func(r *http.Request, err error) {
		a.log.Debug().Err(err).Str("method", r.Method).Str("path", r.URL.Path).Msg("request refused")
	}
	if a.opts.Verbosity == nil {
		a.opts.Verbosity = httpapi.NewVerbosity(0)
	}
	httpapi.Common{Flags: a.opts.Flags, Described: a.opts.Described, Version: version.Info(), Metrics: a.metrics, Verbosity: a.opts.Verbosity, Health: a.checkHealth, Readonly: authn.AgentReadonly, Readwrite: authn.AgentReadwrite}.Register(rt)
	rt.OnAudit = a.opts.OnAudit
	a.files.Register(rt, authn.AgentReadonly)
	rt.Handle("/api/v1/executor", httpapi.In(authn.AgentExecutor), a.executorAPI)
	rt.Handle("/api/v1", httpapi.In(authn.AgentReadwrite), a.operatorAPI)
	rt.Handle("/state", httpapi.In(authn.AgentReadonly), a.state)
	rt.Handle("/containers", httpapi.Access{Realm: authn.AgentReadonly, Endpoint: true}, a.containersEndpoint)
	rt.Handle("/monitor/statistics", httpapi.Access{Realm: authn.AgentReadonly, Endpoint: true}, a.statistics)
	rt.Handle("/api/clusterd/v1/containers", httpapi.In(authn.AgentReadonly), a.allContainers)
	rt.Handle("/containerizer/debug", httpapi.Access{Realm: authn.AgentReadonly, Endpoint: true}, a.containerizerDebug)
	rt.Handle("/api/v1/resource_provider", httpapi.In(authn.AgentResourceProvider), func(http.ResponseWriter, *http.Request) error {
		return httpapi.Errorf(http.StatusNotImplemented, "Resource providers are not supported by this agent yet")
	})
	a.debug.Realm = authn.AgentReadwrite
	a.debug.Register(rt)
	a.live.Register(rt)
	a.doorRoutes(rt)
	rt.Measure(a.metrics)
	for _, path := range rt.Disable(a.opts.Disabled...) {
		a.log.Warn().Str("path", path).Msg("--firewall_rules names an endpoint that there is not")
	}
	// Each has a bound of its own: clients that crowd the port do not keep executors out.
	serve := func(rt http.Handler) *http.Server {
		return &http.Server{
			Handler:           rt,
			ReadHeaderTimeout: a.opts.ReadHeaderTimeout,
			ConnState:         httpapi.NewConns(a.opts.MaxConnections, a.log).Watch,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          log.New(httpLog{a.log}, "", 0),
		}
	}
	onSocket := a.socketRoutes(rt.Guards)
	onSocket.OnError = rt.OnError
	ports, socket = serve(rt), serve(onSocket)
	a.newTunnels(rt, serve(rt))
	socket.ConnContext = withPeer
	return ports, socket
}

func (a *Agent) endpoint() string { return net.JoinHostPort(a.ip, strconv.Itoa(int(a.info.GetPort()))) }

// read takes a view for a request, or says that the agent is not ready.
func (a *Agent) read(r *http.Request) (*core.View, error) {
	if !a.recovered.Load() {
		return nil, httpapi.Unavailable("Agent has not finished recovery")
	}
	return a.View(r.Context())
}

func (a *Agent) state(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	v, err := a.read(r)
	if err != nil {
		return err
	}
	x := a.access(r)
	return httpapi.WriteJSON(w, r, a.renderState(v, x.acls.Viewer(x.who)))
}

// keeper says which executors' containers are wanted; nil: all.
type keeper func(*core.FrameworkView, *core.ExecutorView) bool

// seenContainers are those that somebody may see.
func seenContainers(by *authz.Viewer) keeper {
	if by == nil {
		return nil
	}
	return func(fw *core.FrameworkView, e *core.ExecutorView) bool {
		return by.Containers.Allows(core.Owner(fw.Info, e.Info))
	}
}

// measured is an executor with what its container uses.
type measured struct {
	fw     *core.FrameworkView
	e      *core.ExecutorView
	usage  *mesos.ResourceStatistics
	status *mesos.ContainerStatus
}

// measure asks the containerizer for the executors that keep wants.
func (a *Agent) measure(ctx context.Context, v *core.View, keep keeper) []measured {
	var out []measured
	for _, fw := range v.Frameworks {
		for _, e := range fw.Executors {
			if e.State != "TERMINATED" && (keep == nil || keep(fw, e)) {
				out = append(out, measured{fw: fw, e: e})
			}
		}
	}
	some(len(out), func(i int) {
		m := &out[i]
		// A container that just ended, or is only being launched, has neither.
		m.usage, _ = a.runner.Usage(ctx, m.e.ContainerID)
		m.status, _ = a.runner.Status(ctx, m.e.ContainerID)
	})
	return out
}

// some calls f for 0 to n-1, some at a time.
func some(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, usageConcurrency) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// containersEndpoint is /containers.
func (a *Agent) containersEndpoint(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	v, err := a.read(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	container, fw, executor := q.Has("container_id"), q.Has("framework_id"), q.Has("executor_id")
	if container && (fw || executor) || executor && !fw {
		return httpapi.BadRequest("Supported query parameters are container_id only, framework_id only, or executor_id and framework_id only")
	}
	x := a.access(r)
	seen := seenContainers(x.acls.Viewer(x.who))
	keep := func(fw *core.FrameworkView, e *core.ExecutorView) bool {
		return (seen == nil || seen(fw, e)) && (!q.Has("container_id") || q.Get("container_id") == e.ContainerID.GetValue()) &&
			(!q.Has("framework_id") || q.Get("framework_id") == fw.Info.GetId().GetValue()) &&
			(!q.Has("executor_id") || q.Get("executor_id") == e.Info.GetExecutorId().GetValue())
	}
	o := &object{}
	o.begin('[')
	for _, m := range a.measure(r.Context(), v, keep) {
		o.next()
		o.begin('{')
		o.str("container_id", m.e.ContainerID.GetValue())
		m.identity(o)
		if m.usage != nil {
			o.name("statistics")
			o.message(m.usage)
		}
		if m.status != nil {
			o.name("status")
			o.message(m.status)
		}
		o.end('}')
	}
	o.end(']')
	return httpapi.WriteJSON(w, r, o.b)
}

func (m *measured) identity(o *object) {
	o.str("executor_id", m.e.Info.GetExecutorId().GetValue())
	o.str("executor_name", m.e.Info.GetName())
	o.str("framework_id", m.fw.Info.GetId().GetValue())
	o.str("source", m.e.Info.GetSource())
}

// statistics is /monitor/statistics. (Mesos shows the containers there that it hides
// everywhere else.)
func (a *Agent) statistics(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	all, err := a.measureAll(r)
	if err != nil {
		return err
	}
	x := a.access(r)
	seen := seenContainers(x.acls.Viewer(x.who))
	o := &object{}
	o.begin('[')
	for _, m := range all {
		if m.usage == nil || seen != nil && !seen(m.fw, m.e) {
			continue
		}
		o.next()
		o.begin('{')
		m.identity(o)
		o.name("statistics")
		o.message(m.usage)
		o.end('}')
	}
	o.end(']')
	return httpapi.WriteJSON(w, r, o.b)
}

// statisticsInterval is how often the containers are measured for /monitor/statistics.
// Mesos lets those wait who ask more often (statisticsLimiter in src/slave/http.hpp); we
// tell them what was measured last.
const statisticsInterval = 500 * time.Millisecond

// lastMeasured is what the containers were last found to use.
type lastMeasured struct {
	mu  sync.Mutex // mu guards what follows, and is held while it is measured.
	at  time.Time
	all []measured
}

func (a *Agent) measureAll(r *http.Request) ([]measured, error) {
	a.measured.mu.Lock()
	defer a.measured.mu.Unlock()
	if !a.measured.at.IsZero() && time.Since(a.measured.at) < statisticsInterval {
		return a.measured.all, nil
	}
	v, err := a.read(r)
	if err != nil {
		return nil, err
	}
	// For others too, so that the end of this request must not end it.
	all := a.measure(a.ctx, v, nil)
	a.measured.at, a.measured.all = time.Now(), all
	return all, nil
}

// operatorAPI serves the calls of /api/v1 (Http::api in src/slave/http.cpp).
func (a *Agent) operatorAPI(w http.ResponseWriter, r *http.Request) error {
	return a.serveAPI(w, r, nil)
}

// serveAPI serves calls, but for those that refused, if set, returns an error for.
func (a *Agent) serveAPI(w http.ResponseWriter, r *http.Request, refused func(*agentv1.Call) error) (err error) {
	if !a.recovered.Load() {
		return httpapi.Unavailable("Agent has not finished recovery")
	}
	call := &agentv1.Call{}
	media, err := httpapi.DecodeAgentCall(w, r, call)
	if err != nil {
		return err
	}
	var body *callStream
	if media.Content == httpapi.RecordIO {
		defer func() {
			if err != nil {
				// The client goes on typing; it is told now, not when it has ended. The
				// connection is of no use after it.
				w.Header().Set("Connection", "close")
				_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
			}
		}()
		body = &callStream{records: recordio.NewReader(r.Body, httpapi.MaxBody), media: media.MessageContent}
		if err := firstCall(w, body, call); err != nil {
			return err
		}
	}
	if err := validateCall(call); err != nil {
		return err
	}
	if refused != nil {
		if err := refused(call); err != nil {
			return err
		}
	}
	return a.serveCall(w, r, call, body, media)
}

// firstCall reads the first of a stream of calls.
func firstCall(w http.ResponseWriter, body *callStream, call *agentv1.Call) error {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(firstCallTimeout))
	rec, err := body.records.Next()
	if errors.Is(err, io.EOF) {
		return httpapi.BadRequest("Received EOF while reading request body")
	}
	if err != nil {
		return httpapi.BadRequest("Failed to read the request body: %v", err)
	}
	return httpapi.UnmarshalAgentCall(rec, body.media, call)
}

// firstCallTimeout is how long the first record of a stream of calls may take to arrive.
const firstCallTimeout = 30 * time.Second
