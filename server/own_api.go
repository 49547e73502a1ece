package server

import (
	"net/http"

	"clusterd/api/mesos/v1/master"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/events"
	"clusterd/server/render"
)

// ownRoutes are what Mesos has not: events with tokens to go on from, and drains that are
// taken back. Those about the registry are with registryRoutes.
func (s *Server) ownRoutes(rt *httpapi.Router) {
	rt.Handle(events.Path, httpapi.In(authn.MasterReadonly), func(w http.ResponseWriter, r *http.Request) error {
		t, err := s.leading(r)
		if err != nil {
			return err
		}
		httpapi.Stream(r)
		return t.events.ServeClusterd(w, r)
	})
	rt.Handle("/api/clusterd/v1/agents/cancel_drain", httpapi.In(authn.MasterReadwrite), exactly(s.cancelDrain))
}

// newEvents serves the events of a term.
func (t *term) newEvents() *events.Hub {
	return events.New(events.Options{
		MasterID: t.info.GetId(),
		View:     t.view,
		State: func(f render.Format, v *core.View, who *authz.Viewer) (render.Body, error) {
			body, _, err := render.Operator(f, v, t.describe(), master.Call_GET_STATE, who)
			return body, err
		},
		ACLs:           t.s.policy.Load(),
		MaxSubscribers: t.s.opts.MaxSubscribers,
		MaxHistory:     t.s.opts.MaxEventHistory,
		Logger:         t.log,
		OnDropped:      t.s.metrics.Counter("master/operator_event_stream_subscribers_dropped").Inc,
	})
}

// cancelDrain is POST /api/clusterd/v1/agents/cancel_drain with {"agent_id":{"value":"..."}}.
// It answers 200, 400 if the agent is unknown or does not drain, 403, and 409 if it is about
// to be marked gone.
func (s *Server) cancelDrain(w http.ResponseWriter, r *http.Request) error {
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	if err := requireBody(r, httpapi.JSON.String()); err != nil {
		return err
	}
	body, err := httpapi.ReadBody(w, r, 64<<10)
	if err != nil {
		return err
	}
	var call struct {
		AgentID struct {
			Value string `json:"value"`
		} `json:"agent_id"`
	}
	if err := httpapi.StrictJSON(body, &call); err != nil {
		return httpapi.BadRequest("Failed to parse the call: %v", err)
	}
	httpapi.Audit(r, "CANCEL_DRAIN", "agent_id", call.AgentID.Value)
	a, err := t.ask(r.Context(), &request{answer: make(chan answer, 1)}, core.CancelDrain{
		Request:   core.RequestID(s.request.Add(1)),
		Principal: httpapi.PrincipalOf(r),
		AgentID:   call.AgentID.Value,
	})
	if err != nil {
		return err
	}
	return a.write(w)
}
