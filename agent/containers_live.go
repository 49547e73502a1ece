package agent

import (
	"net/http"
	"slices"

	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/httpapi"
)

// allContainers is `GET /api/clusterd/v1/containers[?container_id=C]`: what GET_CONTAINERS
// answers with nested and standalone containers, as a read that can be watched (httpapi's
// live). With container_id only those below that outermost container.
func (a *Agent) allContainers(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	if httpapi.Rest(r) != "" {
		return httpapi.StatusError(http.StatusNotFound)
	}
	v, err := a.read(r)
	if err != nil {
		return err
	}
	yes := true
	all := a.getContainers(r.Context(), v, a.access(r), &agentv1.Call_GetContainers{ShowNested: &yes, ShowStandalone: &yes})
	shown := all.GetContainers()
	if only := r.URL.Query().Get("container_id"); only != "" {
		shown = slices.DeleteFunc(shown, func(c *agentv1.Response_GetContainers_Container) bool {
			return rootOf(c.GetContainerId()).GetValue() != only
		})
	}
	o := &object{}
	o.begin('{')
	messages(o, "containers", shown)
	o.end('}')
	return httpapi.WriteJSON(w, r, o.b)
}
