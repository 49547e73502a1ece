package render

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"clusterd/internal/authz"
	"clusterd/server/core"
)

// TestSearchTasks finds tasks by what people write of them, and those only that may be seen.
func TestSearchTasks(t *testing.T) {
	v, _ := markedView()
	for _, row := range []struct {
		name  string
		query TaskSearch
		who   *authz.Viewer
		want  []string // ids; of two frameworks some are alike
		more  bool
	}{
		{name: "an id", query: TaskSearch{Ref: "seen-task-TASK_RUNNING", Limit: -1}, want: []string{"seen-task-TASK_RUNNING"}},
		{
			name: "the beginning of ids: the living first", query: TaskSearch{Ref: "seen-task", Limit: -1},
			want: []string{"seen-task-TASK_RUNNING", "seen-task-TASK_UNREACHABLE", "seen-task-TASK_FINISHED"},
		},
		{
			name: "a name before beginnings", query: TaskSearch{Ref: "seen", Names: true, Framework: "seen", Limit: 1, Living: true}, more: true,
			want: []string{"seen-task-TASK_RUNNING"},
		},
		{name: "those that live", query: TaskSearch{Ref: "seen-task", Limit: -1, Living: true}, want: []string{"seen-task-TASK_RUNNING", "seen-task-TASK_UNREACHABLE"}},
		{name: "some", query: TaskSearch{Ref: "seen-task", Limit: 1}, want: []string{"seen-task-TASK_RUNNING"}, more: true},
		{name: "as many as there are", query: TaskSearch{Ref: "seen-task", Limit: 2, Living: true}, want: []string{"seen-task-TASK_RUNNING", "seen-task-TASK_UNREACHABLE"}},
		{
			name: "a name", query: TaskSearch{Ref: "seen-name", Limit: -1, Living: true},
			want: []string{"seen-task-TASK_RUNNING", "seen-task-TASK_UNREACHABLE"},
		},
		{name: "the beginning of names", query: TaskSearch{Ref: "seen-nam", Limit: -1}},
		{
			name: "the beginning of names, if it is to count", query: TaskSearch{Ref: "seen-nam", Names: true, Limit: -1, Living: true},
			want: []string{"seen-task-TASK_RUNNING", "seen-task-TASK_UNREACHABLE"},
		},
		{name: "of a framework by its name", query: TaskSearch{Ref: "seen-task-TASK_R", Framework: "seen", Limit: -1}, want: []string{"seen-task-TASK_RUNNING"}},
		{name: "of a framework by its id", query: TaskSearch{Ref: "seen-task-TASK_R", Framework: "seen-", Limit: -1}, want: []string{"seen-task-TASK_RUNNING"}},
		{name: "of another framework", query: TaskSearch{Ref: "seen-task", Framework: fwMark, Limit: -1}},
		{name: "of several frameworks", query: TaskSearch{Ref: fwMark + "-task-TASK_RUNNING", Limit: -1}, want: []string{fwMark + "-task-TASK_RUNNING", fwMark + "-task-TASK_RUNNING"}},
		{name: "unknown", query: TaskSearch{Ref: "nobody", Limit: -1}},
		{name: "hidden", query: TaskSearch{Ref: taskMark, Names: true, Limit: -1}, who: viewerOf(t, hides("view_tasks", "users", "u-"+taskMark), "bob")},
		{name: "of a hidden framework", query: TaskSearch{Ref: fwMark, Names: true, Limit: -1}, who: viewerOf(t, hides("view_frameworks", "users", "u-"+fwMark), "bob")},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := SearchTasks(v, row.query, row.who).Bytes()
			var got struct {
				Tasks []struct {
					Task struct {
						ID struct {
							Value string `json:"value"`
						} `json:"task_id"`
						State string `json:"state"`
					} `json:"task"`
					Framework, Hostname string
					Ended, Unreachable  bool
				}
				More bool
			}
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			var ids []string
			for _, f := range got.Tasks {
				ids = append(ids, f.Task.ID.Value)
				if f.Framework == "" || f.Hostname != "h" || f.Ended != (f.Task.State == "TASK_FINISHED") || f.Unreachable != (f.Task.State == "TASK_UNREACHABLE") {
					t.Errorf("got %+v", f)
				}
			}
			if !slices.Equal(ids, row.want) || got.More != row.more {
				t.Errorf("got %v, more %v, want %v, %v", ids, got.More, row.want, row.more)
			}
			if row.who != nil && strings.Contains(string(b), "HIDDEN") {
				t.Errorf("shows what is hidden: %s", b)
			}
		})
	}
}

// TestTaskSearchFit: an id is meant before a name, and that before what only begins so.
func TestTaskSearchFit(t *testing.T) {
	for _, row := range []struct {
		id, name string
		names    bool
		want     int
	}{
		{"web", "other", false, fitsByID},
		{"web", "web", false, fitsByID},
		{"x.1", "web", false, fitsByName},
		{"web.1", "web", false, fitsByName},
		{"web.1", "other", false, fitsByBeginning},
		{"x.1", "web-2", true, fitsByBeginning},
		{"x.1", "web-2", false, fitsNot},
		{"we", "we", true, fitsNot},
	} {
		q := TaskSearch{Ref: "web", Names: row.names}
		if got := q.fit(&core.Task{ID: row.id, Name: row.name}); got != row.want {
			t.Errorf("%s named %s, names %t: got %d, want %d", row.id, row.name, row.names, got, row.want)
		}
	}
}
