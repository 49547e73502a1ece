package console

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
)

// TestNothingIsNobody: an empty argument, as of a variable of a script that is not set, means
// nothing, even where there is but one that could be meant.
func TestNothingIsNobody(t *testing.T) {
	id := "one"
	tasks := []Task{{Task: &mesos.Task{TaskId: &mesos.TaskID{Value: &id}, Name: &id}, Framework: "fw"}}
	for _, ref := range []string{"", "fw/"} {
		if _, err := Choose(tasks, ref); !errors.Is(err, ErrUsage) {
			t.Errorf("task %q: %v", ref, err)
		}
	}
	agents := []*master.Response_GetAgents_Agent{{AgentInfo: &mesos.AgentInfo{Id: &mesos.AgentID{Value: &id}, Hostname: &id}}}
	if _, err := ChooseAgent(agents, ""); !errors.Is(err, ErrUsage) {
		t.Errorf("agent: %v", err)
	}
	frameworks := []*master.Response_GetFrameworks_Framework{{
		FrameworkInfo: &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: &id}, Name: &id},
	}}
	if _, err := chooseFramework(frameworks, ""); !errors.Is(err, ErrUsage) {
		t.Errorf("framework: %v", err)
	}
}

// TestReportPlain: what a task has named itself does not steer the terminal where an error
// tells of it.
func TestReportPlain(t *testing.T) {
	var out bytes.Buffer
	err := Hint(fmt.Errorf("no task %s\nsecond\tline", "\x1b[2Jx\r\u009b1m"), "did you mean %s?", "\x1b]0;t\x07")
	Report(err, &out)
	if text := out.String(); strings.ContainsAny(text, "\x1b\r\x07\u009b") || !strings.Contains(text, "?[2Jx??1m\nsecond\tline") {
		t.Errorf("%q", text)
	}
}
