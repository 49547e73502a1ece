package httpapi

import (
	"encoding/json"
	"net/http"

	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/metrics"
)

// describe adds what makes `/flags` and `/metrics/snapshot` readable for people: help,
// defaults, and the names that Prometheus knows the same values by. Mesos has neither.
func (c Common) describe(rt *Router) {
	rt.Handle("/api/clusterd/v1/flags", In(c.Readonly), func(w http.ResponseWriter, r *http.Request) error {
		if err := RequireMethod(r, http.MethodGet); err != nil {
			return err
		}
		if !rt.ACLs().Approver(PrincipalOf(r), authz.ViewFlags).Allows("") {
			return StatusError(http.StatusForbidden)
		}
		return writeJSON(w, r, struct {
			Flags []flags.Described `json:"flags"`
		}{notNil(c.Described)})
	})
	rt.Handle("/api/clusterd/v1/metrics", In(c.Readonly), func(w http.ResponseWriter, r *http.Request) error {
		if err := RequireMethod(r, http.MethodGet); err != nil {
			return err
		}
		// The names tell which frameworks and roles there are, as those of the snapshot do.
		if !rt.ACLs().Approver(PrincipalOf(r), authz.GetEndpoints).Allows("/metrics/snapshot") {
			return StatusError(http.StatusForbidden)
		}
		return writeJSON(w, r, struct {
			Metrics []metrics.Description `json:"metrics"`
		}{notNil(c.Metrics.Describe(0))})
	})
}

// notNil makes an empty list of none.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func writeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return WriteJSON(w, r, body)
}
