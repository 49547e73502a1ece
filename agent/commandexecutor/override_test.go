package commandexecutor_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/supervisor"
)

func encoded(t *testing.T, c *mesos.CommandInfo) string {
	t.Helper()
	b, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func variables(pairs ...string) *mesos.Environment {
	e := &mesos.Environment{}
	for i := 0; i < len(pairs); i += 2 {
		e.Variables = append(e.Variables, &mesos.Environment_Variable{Name: &pairs[i], Value: &pairs[i+1]})
	}
	return e
}

// TestOverrides runs a task that has no command with what an image has for it.
func TestOverrides(t *testing.T) {
	a := newAgent(t)
	p := a.startTask(task("", func(t *mesos.TaskInfo) {
		t.Command = &mesos.CommandInfo{Shell: new(false)}
	}), "FOO=from agent", "KEPT=kept",
		supervisor.TaskCommandVariable+"="+encoded(t, &mesos.CommandInfo{
			Shell: new(false), Value: new("/bin/sh"), Arguments: []string{"sh", "-c", "echo $0 $1; env", "zero", "one"},
			Environment: variables("TASK", "task"),
		}),
		supervisor.TaskEnvironmentVariable+"="+encoded(t, &mesos.CommandInfo{Environment: variables("FOO", "from image", "TASK", "from image")}))
	a.awaitState(mesos.TaskState_TASK_FINISHED)
	out := p.read("stdout")
	for _, line := range []string{"zero one", "FOO=from image", "KEPT=kept", "TASK=task"} {
		if !strings.Contains("\n"+out, "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, out)
		}
	}
	if strings.Contains(out, "CLUSTERD_TASK") {
		t.Errorf("the task sees what is meant for its executor:\n%s", out)
	}
}

func TestMalformedOverrides(t *testing.T) {
	for _, v := range []string{"!", base64.StdEncoding.EncodeToString([]byte("\xff\xff"))} {
		a := newAgent(t)
		a.address = "127.0.0.1:1"
		p := a.run(supervisor.TaskCommandVariable + "=" + v)
		if code := p.exit(); code != 1 {
			t.Errorf("%q: exit code: got %d", v, code)
		}
		if got := p.read("stderr"); !strings.Contains(got, supervisor.TaskCommandVariable) {
			t.Errorf("stderr: got %q", got)
		}
	}
}
