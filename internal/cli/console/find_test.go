package console

import (
	"strings"
	"testing"

	mesos "clusterd/api/mesos/v1"
)

// TestReferences is what references to tasks mean.
func TestReferences(t *testing.T) {
	var tasks []Task
	add := func(framework, frameworkName, id, name string, ended bool) {
		tasks = append(tasks, Task{
			Task:      &mesos.Task{TaskId: &mesos.TaskID{Value: &id}, Name: &name, FrameworkId: FrameworkID(framework)},
			Framework: frameworkName, Ended: ended,
		})
	}
	add("F-0", "one", "web.1-0", "web", true)
	add("F-1", "one", "web.2-0", "web", false)
	add("F-1", "one", "web.2-1", "web", false)
	add("F-2", "two", "web.2-1", "other", false)
	add("F-2", "two", "db", "database", false)
	add("F-2", "two", "db.old", "database", true)
	for _, c := range []struct{ ref, one, all, framework string }{
		{"db", "db", "db", "F-2"},
		{"db.", "db.old", "db.old", "F-2"},
		{"database", "db", "db", "F-2"},
		{"web.2-0", "web.2-0", "web.2-0", "F-1"},
		{"web", `2 tasks fit "web": one/web.2-0, one/web.2-1`, "", "F-1"},
		{"web.2-1", `2 tasks fit "web.2-1": one/web.2-1, two/web.2-1`, "", `2 tasks of several frameworks fit "web.2-1"`},
		{"two/web", "web.2-1", "web.2-1", "F-2"},
		{"F-1/web.2-1", "web.2-1", "web.2-1", "F-1"},
		{"web*", `3 tasks fit "web*"`, "web.2-0 web.2-1 web.2-1", `3 tasks of several frameworks fit "web*"`},
		{"web.1*", "web.1-0", "web.1-0", "F-0"},
		{"one/*", `2 tasks fit "one/*"`, "web.2-0 web.2-1", "F-1"},
		{"d*", "db", "db", "F-2"},
		{"*", `"*" would be every task there is`, `"*" would be every task there is`, `"*" would be`},
		{"", `"" is no task: it is empty`, `"" is no task: it is empty`, `"" is no task`},
		{"one/", `"one/" is no task: it is empty`, `"one/" is no task`, `"one/" is no task`},
		{"x*", `no task "x*"`, `no task "x*"`, `no task "x*"`},
	} {
		one, err := Choose(tasks, c.ref)
		if got := one.GetTaskId().GetValue(); err != nil && !strings.Contains(err.Error(), c.one) || err == nil && got != c.one {
			t.Errorf("%q: got %q, %v, want %s", c.ref, got, err, c.one)
		}
		all, err := ChooseAll(tasks, []string{c.ref})
		var ids []string
		for _, a := range all {
			ids = append(ids, a.GetTaskId().GetValue())
		}
		switch got := strings.Join(ids, " "); {
		case c.all == "":
			if want := "'" + c.ref + "*' for all of them"; Code(err) != ExitUsage || !strings.Contains(HintOf(err), want) {
				t.Errorf("all of %q: got %v with hint %q, want %q", c.ref, err, HintOf(err), want)
			}
		case err != nil && !strings.Contains(err.Error(), c.all) || err == nil && got != c.all:
			t.Errorf("all of %q: got %q, %v, want %s", c.ref, got, err, c.all)
		}
		if got, err := ChooseFramework(tasks, c.ref); err != nil && !strings.Contains(err.Error(), c.framework) || err == nil && got != c.framework {
			t.Errorf("framework of %q: got %q, %v, want %s", c.ref, got, err, c.framework)
		}
	}
	twice, err := ChooseAll(tasks, []string{"web.2-0", "one/*", "db"})
	if err != nil || len(twice) != 3 {
		t.Errorf("a task that two references mean: got %d tasks, %v, want 3", len(twice), err)
	}
}
