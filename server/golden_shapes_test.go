package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// differencesMeant are the members that may be on one side only: what a path ends in, or
// has within if it ends in a slash.
var differencesMeant = []string{
	"/git_sha", "/git_branch", "/log_dir", // of that build and that run
	"/get_version/version_info/git_sha", "/get_version/version_info/git_branch",
	// A default of the v0 message that has no place in the v1 schema.
	"/agent_info/checkpoint",
	// Unlike the scripted agent's, containers of a group have a parent.
	"/container_id/parent", "/container_id/parent/value",
	"/flags/",
}

// compareShapes replays recorded reads, and compares the members of the answers and their
// types, down to whether a number has a fraction.
func compareShapes(t *testing.T, s *Server, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			c := goldenCase(t, dir+name+".json", nil)
			got := c.replay(t, s)
			if got.status != c.Response.Status {
				t.Fatalf("status %d, want %d", got.status, c.Response.Status)
			}
			for _, h := range c.Response.Headers {
				if want, ok := strings.CutPrefix(h, "Content-Type: "); ok && got.header.Get("Content-Type") != want {
					t.Errorf("media type %q, want %q", got.header.Get("Content-Type"), want)
				}
			}
			if c.Response.JSON == nil {
				if strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
					t.Errorf("got JSON, want %.80q", c.Response.Body)
				}
				return
			}
			diffShapes(t, c.Response.JSON, got.body)
		})
	}
}

func diffShapes(t *testing.T, want json.RawMessage, got string) {
	t.Helper()
	w, g := shapes(decodeNumbers(t, want)), shapes(decodeNumbers(t, []byte(got)))
	for _, m := range []map[string]string{w, g} {
		for path := range m {
			if slices.ContainsFunc(differencesMeant, func(s string) bool {
				return strings.HasSuffix(path, s) || strings.HasSuffix(s, "/") && strings.Contains(path, s)
			}) {
				delete(m, path)
			}
		}
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("(-Mesos +clusterd):\n%s", diff)
	}
}

// TestGoldenShapesAfterwards compares the reads once all tasks have ended.
func TestGoldenShapesAfterwards(t *testing.T) {
	goldenCase(t, "after/master/state.json", nil)
	s, a, f := goldenParts(t)
	end := func(task string, n byte, states ...mesos.TaskState) {
		for i, state := range states {
			a.update(f, task, state, n+byte(i))
			f.acknowledge(f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus())
		}
	}
	end("t_kill", 60, mesos.TaskState_TASK_KILLING, mesos.TaskState_TASK_KILLED)
	for i, task := range []string{"t1", "g1", "g2"} {
		end(task, byte(70+i), mesos.TaskState_TASK_FINISHED)
	}
	executors := getJSON(t, s, "/frameworks")["frameworks"].([]any)[0].(map[string]any)["executors"].([]any)
	if len(executors) != 1 {
		t.Fatalf("%d executors", len(executors))
	}
	a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExitedExecutor{ExitedExecutor: &clusterdv1.ExitedExecutor{
		FrameworkId: f.id, ExecutorId: &mesos.ExecutorID{Value: new(executors[0].(map[string]any)["executor_id"].(string))},
	}}})
	eventually(t, "all is offered again", func() bool {
		fw := getJSON(t, s, "/frameworks")["frameworks"].([]any)[0].(map[string]any)
		return len(fw["executors"].([]any)) == 0 && fw["offered_resources"].(map[string]any)["cpus"] == 4.0
	})
	compareShapes(t, s, "after/master/", "state", "master_state", "slaves", "state-summary", "roles", "tasks", "tasks_limit1",
		"frameworks", "version", "system_stats", "quota", "weights", "maintenance_schedule", "maintenance_status", "health",
		"redirect", "logging_toggle", "state_jsonp")
	compareShapes(t, s, "after/master_api_v1/", "GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_TASKS", "GET_ROLES", "GET_MASTER",
		"GET_HEALTH", "GET_VERSION", "GET_OPERATIONS", "GET_WEIGHTS", "GET_QUOTA", "GET_LOGGING_LEVEL", "GET_METRICS",
		"GET_MAINTENANCE_SCHEDULE", "GET_MAINTENANCE_STATUS")
}

// The members of a state come in the order that Mesos writes them: people compare them.
func TestGoldenOrder(t *testing.T) {
	goldenCase(t, "running/master/state.json", nil)
	s := goldenCluster(t)
	for _, name := range []string{"state", "slaves", "state-summary", "roles", "frameworks", "tasks"} {
		t.Run(name, func(t *testing.T) {
			c := goldenCase(t, "running/master/"+name+".json", nil)
			got := do(t, http.MethodGet, endpoint(s, c.Request.Path), nil, nil)
			want, have := memberOrder(t, c.Response.JSON), memberOrder(t, []byte(got.body))
			for path, order := range want {
				if len(order) == 0 || len(have[path]) == 0 || strings.HasSuffix(path, "/flags") || strings.HasSuffix(path, "/parent") {
					continue // flags have no order in Mesos; see differencesMeant
				}
				// What is on both sides is in the same order.
				keep := func(of, in []string) []string {
					return slices.DeleteFunc(slices.Clone(of), func(k string) bool { return !slices.Contains(in, k) })
				}
				if diff := cmp.Diff(keep(order, have[path]), keep(have[path], order)); diff != "" {
					t.Errorf("%s (-Mesos +clusterd):\n%s", path, diff)
				}
			}
		})
	}
}

// memberOrder is the order of members of the first object at each path.
func memberOrder(t *testing.T, b []byte) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	d := json.NewDecoder(strings.NewReader(string(b)))
	var walk func(path string)
	walk = func(path string) {
		tok, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch tok {
		case json.Delim('{'):
			var keys []string
			for d.More() {
				k, err := d.Token()
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, k.(string))
				walk(path + "/" + k.(string))
			}
			_, _ = d.Token()
			if _, ok := out[path]; !ok {
				out[path] = keys
			}
		case json.Delim('['):
			for d.More() {
				walk(path + "[]")
			}
			_, _ = d.Token()
		}
	}
	walk("")
	return out
}
