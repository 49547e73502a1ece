package agent

import (
	"bytes"
	"log" //nolint:depguard // http.Server takes no other logger
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/authn"
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

func (a *Agent) newServer() *http.Server {
	rt := httpapi.NewRouter("slave(1)", "agent")
	rt.Guards = httpapi.Guards{Realms: a.opts.Realms, Policy: a.policy.Load}
	rt.OnError = func(r *http.Request, err error) {
		a.log.Debug().Err(err).Str("method", r.Method).Str("path", r.URL.Path).Msg("request refused")
	}
	if a.opts.Verbosity == nil {
		a.opts.Verbosity = httpapi.NewVerbosity(0)
	}
	httpapi.Common{Flags: a.opts.Flags, Version: version.Info(), Metrics: a.metrics, Verbosity: a.opts.Verbosity, Readonly: authn.AgentReadonly, Readwrite: authn.AgentReadwrite}.Register(rt)
	a.files.Register(rt, authn.AgentReadonly)
	rt.Handle("/api/v1/executor", httpapi.In(authn.AgentExecutor), a.executorAPI)
	rt.Handle("/api/v1", httpapi.In(authn.AgentReadwrite), a.operatorAPI)
	rt.Handle("/state", httpapi.In(authn.AgentReadonly), a.state)
	rt.Handle("/containers", httpapi.Access{Realm: authn.AgentReadonly, Endpoint: true}, a.containersEndpoint)
	rt.Handle("/monitor/statistics", httpapi.Access{Realm: authn.AgentReadonly, Endpoint: true}, a.statistics)
	rt.Handle("/containerizer/debug", httpapi.Access{Realm: authn.AgentReadonly, Endpoint: true}, func(w http.ResponseWriter, r *http.Request) error {
		return httpapi.WriteJSON(w, r, []byte(`{"pending":[]}`))
	})
	return &http.Server{
		Handler:           rt,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(httpLog{a.log}, "", 0),
	}
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
	return httpapi.WriteJSON(w, r, a.renderState(v))
}

// measured is an executor with what its container uses.
type measured struct {
	fw     *core.FrameworkView
	e      *core.ExecutorView
	usage  *mesos.ResourceStatistics
	status *mesos.ContainerStatus
}

// measure asks the containerizer for the executors that keep wants.
func (a *Agent) measure(r *http.Request, v *core.View, keep func(*core.FrameworkView, *core.ExecutorView) bool) []measured {
	var out []measured
	for _, fw := range v.Frameworks {
		for _, e := range fw.Executors {
			if e.State != "TERMINATED" && (keep == nil || keep(fw, e)) {
				out = append(out, measured{fw: fw, e: e})
			}
		}
	}
	slots, done := make(chan struct{}, usageConcurrency), make(chan struct{})
	for i := range out {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; done <- struct{}{} }()
			m := &out[i]
			// A container that just ended, or is only being launched, has neither.
			m.usage, _ = a.runner.Usage(r.Context(), m.e.ContainerID)
			m.status, _ = a.runner.Status(r.Context(), m.e.ContainerID)
		}()
	}
	for range out {
		<-done
	}
	return out
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
	keep := func(fw *core.FrameworkView, e *core.ExecutorView) bool {
		return (!q.Has("container_id") || q.Get("container_id") == e.ContainerID.GetValue()) &&
			(!q.Has("framework_id") || q.Get("framework_id") == fw.Info.GetId().GetValue()) &&
			(!q.Has("executor_id") || q.Get("executor_id") == e.Info.GetExecutorId().GetValue())
	}
	o := &object{}
	o.begin('[')
	for _, m := range a.measure(r, v, keep) {
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

// statistics is /monitor/statistics.
func (a *Agent) statistics(w http.ResponseWriter, r *http.Request) error {
	v, err := a.read(r)
	if err != nil {
		return err
	}
	o := &object{}
	o.begin('[')
	for _, m := range a.measure(r, v, nil) {
		if m.usage == nil {
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

// operatorAPI serves the calls of /api/v1 (Http::api in src/slave/http.cpp).
func (a *Agent) operatorAPI(w http.ResponseWriter, r *http.Request) error {
	call := &agentv1.Call{}
	media, err := httpapi.DecodeAgentCall(w, r, call)
	if err != nil {
		return err
	}
	if media.Content == httpapi.RecordIO {
		return httpapi.Errorf(http.StatusNotImplemented, "Streaming calls are not supported by this agent yet")
	}
	if err := validateCall(call); err != nil {
		return err
	}
	return a.serveCall(w, r, call, media)
}
