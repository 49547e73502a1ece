package server

import (
	"net/http"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// taskRoute serves `GET /api/clusterd/v1/task?task_id=T&framework_id=F`: all that the master
// knows of one task, without the tens of megabytes that GET_TASKS takes in a large cluster.
func (s *Server) taskRoute(rt *httpapi.Router) {
	rt.Handle("/api/clusterd/v1/task", httpapi.In(authn.MasterReadonly), exactly(s.read("task", func(v *core.View, _ *render.Master, who *authz.Viewer, r *http.Request) render.Body {
		q := r.URL.Query()
		return render.FullTasks(v, q.Get("framework_id"), q.Get("task_id"), who)
	})))
}
