package server

import (
	"context"
	"net/http"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// explainStep is how many agents the core looks at in one input: about a millisecond.
const explainStep = 250

// explainRoute is GET /api/clusterd/v1/explain?framework_id=F: why a framework is offered
// what it is and not more, role by role, and on how many agents for which reason;
// &agent_id=A looks at one agent.
func (s *Server) explainRoute(rt *httpapi.Router) {
	rt.Handle("/api/clusterd/v1/explain", httpapi.In(authn.MasterReadonly), exactly(s.explain))
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	id, agent := r.URL.Query().Get("framework_id"), r.URL.Query().Get("agent_id")
	if id == "" {
		return httpapi.BadRequest("'framework_id' is missing.\n")
	}
	return s.share(t, w, r, read{
		name: "explain " + id + " " + agent, json: true, media: httpapi.JSON.String(),
		render: func(v *core.View, _ *render.Master, who *authz.Viewer) (render.Body, error) {
			f, ok := v.Frameworks.Get(id)
			if !ok || !who.SeesFramework(f.Info.GetUser()) {
				return nil, httpapi.NotFound("There is no framework '%s'.\n", id)
			}
			e, err := t.explain(id, agent)
			if err != nil {
				return nil, err
			}
			return render.Explanation(v, f, e, who), nil
		},
	})
}

// explain asks the core step by step, so that nothing else waits for long: it may handle
// other inputs in between. What changes meanwhile does not matter here.
func (t *term) explain(framework, agent string) (*core.Explanation, error) {
	var whole *core.Explanation
	for after := ""; ; {
		in := core.Explain{
			Request: core.RequestID(t.s.request.Add(1)), FrameworkID: framework, After: after, Limit: explainStep,
		}
		if agent != "" {
			in.AgentIDs = []string{agent}
		}
		a, err := t.ask(context.WithoutCancel(t.ctx), &request{answer: make(chan answer, 1)}, in)
		if err != nil {
			return nil, err
		}
		e := a.explained
		if e == nil {
			return nil, httpapi.NotFound("There is no framework '%s' any more.\n", framework)
		}
		if whole != nil {
			e.Agents = append(whole.Agents, e.Agents...)
			e.Larger += whole.Larger
		}
		whole, after = e, e.Next
		if after == "" {
			return whole, nil
		}
	}
}
