package render

import (
	"encoding/json"
	"strings"
	"testing"

	"clusterd/internal/authz"
)

// fullTasks renders, and returns what is shown as text and the ids of the tasks.
func fullTasks(t *testing.T, framework, task string, who *authz.Viewer) (text string, ids []string) {
	t.Helper()
	v, _ := markedView()
	b := FullTasks(v, framework, task, who).Bytes()
	var got struct {
		Tasks []struct {
			ID struct {
				Value string `json:"value"`
			} `json:"task_id"`
			Statuses []json.RawMessage `json:"statuses"`
		} `json:"tasks"`
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	for _, task := range got.Tasks {
		ids = append(ids, task.ID.Value)
		if len(task.Statuses) == 0 {
			t.Errorf("%s has no statuses", task.ID.Value)
		}
	}
	return string(b), ids
}

// TestFullTasks: running, unreachable and completed tasks are found by id, of one framework
// or of any, and by those only who may see them.
func TestFullTasks(t *testing.T) {
	for _, test := range []struct {
		name, framework, task string
		who                   *authz.Viewer
		want                  int
	}{
		{name: "running", task: "seen-task-TASK_RUNNING", want: 1},
		{name: "unreachable", task: "seen-task-TASK_UNREACHABLE", want: 1},
		{name: "completed", task: "seen-task-TASK_FINISHED", want: 1},
		{name: "of its framework", framework: "seen-0", task: "seen-task-TASK_RUNNING", want: 1},
		{name: "of another framework", framework: fwMark + "-1", task: "seen-task-TASK_RUNNING"},
		{name: "unknown", task: "nobody"},
		{name: "none", framework: "seen-0"},
		{name: "of any framework", task: fwMark + "-task-TASK_RUNNING", want: 2},
		{name: "hidden", task: taskMark + "-task-TASK_RUNNING", who: viewerOf(t, hides("view_tasks", "users", "u-"+taskMark), "bob")},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, ids := fullTasks(t, test.framework, test.task, test.who)
			if len(ids) != test.want {
				t.Errorf("got %v, want %d", ids, test.want)
			}
			for _, id := range ids {
				if id != test.task {
					t.Errorf("got %s, want %s", id, test.task)
				}
			}
			if test.who != nil && strings.Contains(text, taskMark) {
				t.Errorf("shows what is hidden: %s", text)
			}
		})
	}
}
