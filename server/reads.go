package server

import (
	"net/http"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/internal/version"
	"clusterd/server/core"
	"clusterd/server/render"
)

// routes are the endpoints of a master.
func (s *Server) routes() *httpapi.Router {
	rt := httpapi.NewRouter("master")
	rt.Guards = httpapi.Guards{Realms: s.opts.Realms, Policy: s.policy.Load, Sessions: true}
	rt.OnError = func(r *http.Request, err error) {
		s.log.Debug().Err(err).Str("method", r.Method).Str("path", r.URL.Path).Str("remote", r.RemoteAddr).Msg("request refused")
	}
	httpapi.Common{
		Flags:     s.opts.Flags,
		Described: s.opts.Described,
		Version:   version.Info(),
		Metrics:   s.metrics,
		Health:    s.checkHealth,
		Verbosity: s.opts.Verbosity,
		Readonly:  authn.MasterReadonly,
		Readwrite: authn.MasterReadwrite,
	}.Register(rt)

	rt.Handle("/api/v1/scheduler", httpapi.In(authn.MasterScheduler), s.schedulerAPI)
	rt.Handle("/api/v1", httpapi.In(authn.MasterReadwrite), s.operatorAPI)
	rt.Handle(link.Path, httpapi.In(authn.MasterAgent), s.openLink)
	rt.Handle(link.TunnelPath, httpapi.In(authn.MasterAgent), exactly(s.openTunnel))
	s.proxyRoutes(rt)
	rt.Handle("/redirect", httpapi.Open("says only who leads"), exactly(s.redirect))

	rt.Handle("/state", httpapi.In(authn.MasterReadonly), s.read("state", func(v *core.View, m *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
		return render.State(v, m, who)
	}))
	rt.Handle("/state-summary", httpapi.In(authn.MasterReadonly), s.read("state-summary", func(v *core.View, m *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
		return render.Summary(v, m, who)
	}))
	rt.Handle("/slaves", httpapi.In(authn.MasterReadonly), s.read("slaves", func(v *core.View, _ *render.Master, who *authz.Viewer, r *http.Request) render.Body {
		return render.Agents(v, r.URL.Query().Get("slave_id"), who)
	}))
	rt.Handle("/frameworks", httpapi.In(authn.MasterReadonly), s.read("frameworks", func(v *core.View, _ *render.Master, who *authz.Viewer, r *http.Request) render.Body {
		return render.Frameworks(v, r.URL.Query().Get("framework_id"), who)
	}))
	rt.Handle("/tasks", httpapi.In(authn.MasterReadonly), s.read("tasks", func(v *core.View, _ *render.Master, who *authz.Viewer, r *http.Request) render.Body {
		return render.Tasks(v, taskQuery(r), who, &s.reads.starts)
	}))
	rt.Handle("/roles", httpapi.In(authn.MasterReadonly), s.read("roles", func(v *core.View, m *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
		return render.Roles(v, m.RoleWhitelist, who)
	}))
	s.maintenanceRoutes(rt)
	s.shareRoutes(rt)
	s.formRoutes(rt)
	s.ownRoutes(rt)
	s.taskRoute(rt)
	s.sessionRoutes(rt)
	s.constraintsRoute(rt)
	s.files.Register(rt, authn.MasterReadonly)
	s.registryRoutes(rt)
	s.webUIRoutes(rt)
	s.debug.Realm = authn.MasterReadwrite
	s.debug.Register(rt)
	rt.Measure(s.metrics)
	for _, path := range rt.Disable(s.opts.Disabled...) {
		s.log.Warn().Str("path", path).Msg("--firewall_rules names an endpoint that there is not")
	}
	rt.OnAudit = s.opts.OnAudit
	return rt
}

// redirect sends a browser to the leader's front page. What hangs below it must
// not be sent on, or it would come back here for ever.
func (s *Server) redirect(_ http.ResponseWriter, r *http.Request) error {
	return s.toLeader(r, "")
}

// exactly refuses what hangs below a path.
func exactly(h httpapi.Handler) httpapi.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if httpapi.Rest(r) != "" {
			return httpapi.StatusError(http.StatusNotFound)
		}
		return h(w, r)
	}
}

// renderer writes the answer to a read.
type renderer func(v *core.View, m *render.Master, who *authz.Viewer, r *http.Request) render.Body

// bulky are the reads whose answers are as large as the cluster, unless they select one.
var bulky = map[string]string{"state": "", "state-summary": "", "slaves": "slave_id", "frameworks": "framework_id"}

// read answers from the core's view.
func (s *Server) read(name string, f renderer) httpapi.Handler {
	one, bulk := bulky[name]
	return func(w http.ResponseWriter, r *http.Request) error {
		t, err := s.leading(r)
		if err != nil {
			return err
		}
		query := r.URL.Query()
		query.Del("jsonp") // wraps the answer, does not change it
		return s.share(t, w, r, read{
			name:  name + "?" + query.Encode(),
			bulk:  bulk && (one == "" || query.Get(one) == ""),
			json:  true,
			media: httpapi.JSON.String(),
			render: func(v *core.View, m *render.Master, who *authz.Viewer) (render.Body, error) {
				return f(v, m, who, r), nil
			},
		})
	}
}

// describe is what the leading master shows of itself.
func (t *term) describe() *render.Master {
	o := &t.s.opts
	return &render.Master{
		Version: version.Info(),
		Info:    t.info,
		Leader:  t.info,
		Start:   t.s.start,
		Elected: t.elected,
		Cluster: o.Cluster,
		LogDir:  o.LogDir,

		ExternalLogFile: o.ExternalLogFile,
		Flags:           o.Flags,
		RoleWhitelist:   o.Core.Roles,
	}
}

// taskQuery reads the query of /tasks; what does not parse counts as absent, as
// in Mesos.
func taskQuery(r *http.Request) render.TaskQuery {
	query := r.URL.Query()
	number := func(name string, def int) int {
		if n, err := httpapi.Numify(query.Get(name)); err == nil && n == int64(int32(n)) {
			return int(n)
		}
		return def
	}
	return render.TaskQuery{
		FrameworkID: query.Get("framework_id"),
		TaskID:      query.Get("task_id"),
		Limit:       number("limit", render.DefaultTaskLimit),
		Offset:      number("offset", 0),
		Ascending:   query.Get("order") == "asc",
	}
}
