package server

import (
	"errors"
	"net/http"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/version"
	"clusterd/server/core"
	"clusterd/server/events"
	"clusterd/server/render"
)

// summaryRoutes are what pages begin with, and what they look at beside the events.
//
// GET /api/clusterd/v1/summary is the whole cluster: agents, frameworks and tasks, with a
// token that events?resume=TOKEN goes on from; ?completed=false leaves out tasks that have
// ended. Events keep all of it true but what is allocated and offered (the former follows
// from the tasks but for the executors' own part). For these there are GET totals, which is
// small, and GET offers.
func (s *Server) summaryRoutes(rt *httpapi.Router) {
	rt.Handle("/api/clusterd/v1/summary", httpapi.In(authn.MasterReadonly), exactly(s.summary))
	rt.Handle("/api/clusterd/v1/totals", httpapi.In(authn.MasterReadonly), exactly(
		s.read("totals", func(v *core.View, m *render.Master, who *authz.Viewer, _ *http.Request) render.Body {
			return render.Totals(v, m, who)
		}),
	))
	rt.Handle("/api/clusterd/v1/offers", httpapi.In(authn.MasterReadonly), exactly(
		s.read("offers", func(v *core.View, _ *render.Master, who *authz.Viewer, r *http.Request) render.Body {
			q := r.URL.Query()
			return render.Offers(v, render.OfferQuery{FrameworkID: q.Get("framework_id"), AgentID: q.Get("agent_id"), Role: q.Get("role")}, who)
		}),
	))
}

// errRulesChanged is for a summary that is of one who sees something else by now.
var errRulesChanged = errors.New("the rules of who may see what have changed meanwhile")

func (s *Server) summary(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	completed := r.URL.Query().Get("completed")
	switch completed {
	case "", "true", "false":
	default:
		return httpapi.BadRequest("'completed' is either true or false, not %q.\n", completed)
	}
	bare := completed == "false"
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	name := "summary"
	if bare {
		name += " bare"
	}
	principal := httpapi.PrincipalOf(r)
	for range 3 {
		err = s.share(t, w, r, read{
			name: name, bulk: true, json: true, media: httpapi.JSON.String(),
			render: func(v *core.View, m *render.Master, who *authz.Viewer) (render.Body, error) {
				// The stream refuses tokens from before a change of the rules. A view that was taken
				// after one must not be shown by the rules before it: its token would be good.
				if s.policy.Load().Viewer(principal).Key() != who.Key() {
					return nil, errRulesChanged
				}
				return render.Cluster(v, m, render.ClusterOptions{
					Token: events.Token(m.Info.GetId(), v.Events), Build: version.Clusterd, Bare: bare,
				}, who), nil
			},
		})
		if !errors.Is(err, errRulesChanged) {
			return err
		}
	}
	return unavailable(err)
}
