package server

import (
	"net/http"
	"strconv"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// taskRoute serves `GET /api/clusterd/v1/task?task_id=T&framework_id=F`: all that the master
// knows of one task, without the tens of megabytes that GET_TASKS takes in a large cluster. And
// `GET /api/clusterd/v1/tasks/search?ref=R&...`: the tasks that a person may mean by R.
func (s *Server) taskRoute(rt *httpapi.Router) {
	rt.Handle("/api/clusterd/v1/task", httpapi.In(authn.MasterReadonly), exactly(s.read("task", func(v *core.View, _ *render.Master, who *authz.Viewer, r *http.Request) render.Body {
		q := r.URL.Query()
		return render.FullTasks(v, q.Get("framework_id"), q.Get("task_id"), who)
	})))
	rt.Handle("/api/clusterd/v1/tasks/search", httpapi.In(authn.MasterReadonly), exactly(s.searchTasks))
}

// fewTasks is how many make no large answer.
const fewTasks = 1000

// searchTasks answers with tasks whose id is ref or begins so, or whose name it is; with names=true
// also those whose name begins so. framework is the name of theirs, or the beginning of its id;
// living=true leaves out those that have ended, limit bounds how many are shown.
func (s *Server) searchTasks(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	query := r.URL.Query()
	q := render.TaskSearch{Ref: query.Get("ref"), Framework: query.Get("framework"), Limit: -1}
	for name, to := range map[string]*bool{"names": &q.Names, "living": &q.Living} {
		switch text := query.Get(name); text {
		case "", "false":
		case "true":
			*to = true
		default:
			return httpapi.BadRequest("'%s' is either true or false, not %q.\n", name, text)
		}
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return httpapi.BadRequest("'limit' is a number, not %q.\n", text)
		}
		q.Limit = int(n)
	}
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	query.Del("jsonp") // wraps the answer, does not change it
	return s.share(t, w, r, read{
		name: "search?" + query.Encode(), bulk: q.Limit < 0 && q.Ref == "" || q.Limit > fewTasks, json: true, media: httpapi.JSON.String(),
		render: func(v *core.View, _ *render.Master, who *authz.Viewer) (render.Body, error) {
			return render.SearchTasks(v, q, who), nil
		},
	})
}
