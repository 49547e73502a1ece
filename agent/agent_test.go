package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandTasks(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	reg := m.waitRegistered(1)
	if got := reg.GetAgentInfo().GetHostname(); got != "agent.test" || reg.GetAgentInfo().GetId() != nil {
		t.Fatalf("registered as %q with id %v, want agent.test without", got, reg.GetAgentInfo().GetId())
	}
	fw := framework("M-0000")
	m.send(runTasks(fw, commandTask("ok", "echo hello; echo $MESOS_TASK_ID > id; exit 0")))
	m.send(runTasks(fw, commandTask("bad", "exit 3")))
	m.send(runTasks(fw, commandTask("long", "sleep 1000")))
	m.waitState("ok", "FINISHED")
	failed := m.waitState("bad", "FAILED")
	if got := failed.GetMessage(); got != "Command exited with status 3" {
		t.Errorf("got message %q, want Mesos's", got)
	}
	// Of one that has ended before it was looked at there may be no pid.
	if cs := m.waitState("long", "RUNNING").GetContainerStatus(); cs.GetContainerId() == nil || cs.GetExecutorPid() == 0 ||
		cs.GetNetworkInfos()[0].GetIpAddresses()[0].GetIpAddress() != "127.0.0.1" {
		t.Errorf("got container status %v, want id, pid and address", cs)
	}
	m.send(killTask("M-0000", "long"))
	m.waitState("long", "KILLED")
	for task, want := range map[string][]string{
		"ok":   {"STARTING", "RUNNING", "FINISHED"},
		"bad":  {"STARTING", "RUNNING", "FAILED"},
		"long": {"STARTING", "RUNNING", "KILLING", "KILLED"},
	} {
		if d := cmp.Diff(want, m.states(task)); d != "" {
			t.Errorf("states of %s (-want +got):\n%s", task, d)
		}
	}
	out, err := os.ReadFile(filepath.Join(h.work, "slaves/M-S0/frameworks/M-0000/executors/ok/runs/latest/stdout"))
	if err != nil || !strings.Contains(string(out), "hello") {
		t.Errorf("stdout: got %q, %v, want hello", out, err)
	}
	eventually(t, "executors are gone", func() bool {
		v, err := a.View(t.Context())
		return err == nil && len(v.Frameworks) == 0 && len(v.Completed) == 1 && len(v.Completed[0].CompletedExecutors) == 3
	})
}

// TestRestart stops the agent under a running task and takes it up again: the
// task goes on, and its end is reported by the next run, in order.
func TestRestart(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	m.waitRegistered(1)
	fw := framework("M-0000")
	m.send(runTasks(fw, commandTask("t", "while [ ! -e stop ]; do sleep 0.02; done; exit 7")))
	m.waitState("t", "RUNNING")
	m.send(runTasks(fw, commandTask("u", "sleep 1000")))
	m.waitState("u", "RUNNING")
	h.stop(a)

	// It ends while nobody watches.
	sandbox := filepath.Join(h.work, "slaves/M-S0/frameworks/M-0000/executors/t/runs/latest")
	if err := os.WriteFile(filepath.Join(sandbox, "stop"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a = h.start()
	defer h.leave(a)
	reg := m.waitRegistered(2)
	if got := reg.GetAgentInfo().GetId().GetValue(); got != "M-S0" {
		t.Errorf("came back as %q, want M-S0", got)
	}
	if len(reg.GetTasks()) != 2 || len(reg.GetFrameworks()) != 1 {
		t.Errorf("came back with %d tasks of %d frameworks, want 2 of 1", len(reg.GetTasks()), len(reg.GetFrameworks()))
	}
	if got := m.waitState("t", "FAILED"); got.GetMessage() != "Command exited with status 7" {
		t.Errorf("got %q, want the true end", got.GetMessage())
	}
	m.send(killTask("M-0000", "u"))
	m.waitState("u", "KILLED")
	if d := cmp.Diff([]string{"STARTING", "RUNNING", "FAILED"}, m.states("t")); d != "" {
		t.Errorf("states (-want +got):\n%s", d)
	}
}
