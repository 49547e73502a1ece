package server

import (
	"encoding/json"
	"net/http"

	"clusterd/allocator"
	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
)

// constraintsRoute shows which agents the offer constraints of frameworks exclude
// (src/master/allocator/mesos/hierarchical.cpp, offerConstraintsDebug). It is worked out from
// the view, with the allocator's own matching.
func (s *Server) constraintsRoute(rt *httpapi.Router) {
	rt.Handle("/hierarchical-allocator(1)/offer_constraints_debug", httpapi.In(authn.MasterReadonly), func(w http.ResponseWriter, r *http.Request) error {
		t, err := s.leading(r)
		if err != nil {
			return err
		}
		v, err := t.view(r.Context())
		if err != nil {
			return unavailable(err)
		}
		type framework struct {
			Suppressed []string            `json:"suppressed_roles"`
			Excluded   map[string][]string `json:"excluded_by_attribute_constraints"`
		}
		viewer := s.policy.Load().Viewer(httpapi.PrincipalOf(r))
		shown := make(map[string]framework)
		for f := range v.Frameworks.Values() {
			if viewer != nil && !viewer.Frameworks.Allows(f.Info.GetUser()) {
				continue
			}
			shown[f.ID] = framework{Suppressed: append([]string{}, f.Suppressed...), Excluded: s.excluded(v, f)}
		}
		body, err := json.Marshal(map[string]any{"frameworks": shown})
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(w, r, body)
	})
}

// excluded are the agents, by role, that a framework's constraints exclude.
func (s *Server) excluded(v *core.View, f *core.Framework) map[string][]string {
	out := make(map[string][]string, len(f.Roles))
	for _, role := range f.Roles {
		out[role] = []string{}
	}
	constraints, err := allocator.CompileConstraints(f.Constraints, s.opts.Core.ConstraintRegexps)
	if err != nil || constraints == nil {
		return out // what does not compile is never taken
	}
	for a := range v.Agents.Values() {
		for _, role := range f.Roles {
			if !constraints.Match(role, a.Info.GetHostname(), a.Info.GetDomain(), a.Info.GetAttributes()) {
				out[role] = append(out[role], a.ID)
			}
		}
	}
	return out
}
