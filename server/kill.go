package server

import (
	"encoding/json"
	"net/http"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
)

// killRoute is POST /api/clusterd/v1/tasks/kill with
// {"framework_id":{"value":"..."},"task_id":{"value":"..."},"kill_policy":{...}}, for an
// operator; the policy may be left out. It answers 202, for the task ends later, 403, 404
// if there is no such task, and 409 if it has ended, or its agent cannot be reached.
func (s *Server) killRoute(rt *httpapi.Router) {
	rt.Handle("/api/clusterd/v1/tasks/kill", httpapi.In(authn.MasterReadwrite), exactly(s.killTask))
}

func (s *Server) killTask(w http.ResponseWriter, r *http.Request) error {
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
	call := new(killCall)
	if err := call.parse(body); err != nil {
		return httpapi.BadRequest("Failed to parse the call: %v", err)
	}
	httpapi.Audit(r, "KILL_TASK", "framework_id", call.framework, "task_id", call.task)
	a, err := t.ask(r.Context(), &request{answer: make(chan answer, 1)}, core.KillTask{
		Request:     core.RequestID(s.request.Add(1)),
		Principal:   httpapi.PrincipalOf(r),
		FrameworkID: call.framework,
		TaskID:      call.task,
		KillPolicy:  call.policy,
	})
	if err != nil {
		return err
	}
	return a.write(w)
}

// killCall is what is to be killed, and how.
type killCall struct {
	framework, task string
	policy          *mesos.KillPolicy
}

func (c *killCall) parse(body []byte) error {
	type id struct {
		Value string `json:"value"`
	}
	var call struct {
		FrameworkID id              `json:"framework_id"`
		TaskID      id              `json:"task_id"`
		KillPolicy  json.RawMessage `json:"kill_policy"`
	}
	if err := httpapi.StrictJSON(body, &call); err != nil {
		return err
	}
	c.framework, c.task = call.FrameworkID.Value, call.TaskID.Value
	if len(call.KillPolicy) == 0 || string(call.KillPolicy) == "null" {
		return nil
	}
	c.policy = new(mesos.KillPolicy)
	return mesosjson.Unmarshal(call.KillPolicy, c.policy)
}
