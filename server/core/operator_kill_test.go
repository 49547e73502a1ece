package core

import (
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
)

func (h *harness) killTask(in KillTask) Respond {
	h.t.Helper()
	h.request++
	in.Request = h.request
	h.feed(in)
	return h.answers[h.request]
}

func isKill(m *clusterdv1.MasterMessage) bool { return m.GetKillTask() != nil }

// killable has an agent with a running task t1 of one framework.
func killable(t *testing.T) (h *harness, agent, framework string) {
	t.Helper()
	h, _ = audited(t)
	h.subscribe("s", refining("f", "eng"))
	agent = h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.update(agent, mesos.TaskState_TASK_RUNNING)
	return h, agent, h.core.streams["s"].id
}

func TestOperatorKillsTask(t *testing.T) {
	h, agent, framework := killable(t)
	policy := &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(3 * time.Second))}}
	if got := h.killTask(KillTask{FrameworkID: framework, TaskID: "t1", KillPolicy: policy}); got.Status != 202 {
		t.Fatalf("got %+v", got)
	}
	var told *clusterdv1.KillTask
	for _, m := range h.links[1] {
		if k := m.GetKillTask(); k != nil {
			told = k
		}
	}
	if told.GetTaskId().GetValue() != "t1" || told.GetFrameworkId().GetValue() != framework ||
		told.GetKillPolicy().GetGracePeriod().GetNanoseconds() != int64(3*time.Second) {
		t.Errorf("the agent was told %v", told)
	}
	h.update(agent, mesos.TaskState_TASK_KILLED)
	if got := h.killTask(KillTask{FrameworkID: framework, TaskID: "t1"}); got.Status != 404 && got.Status != 409 {
		t.Errorf("a task that has ended: got %+v", got)
	}
}

// TestOperatorKillsTaskOfAbsentAgent: the agent is asked when it is back.
func TestOperatorKillsTaskOfAbsentAgent(t *testing.T) {
	h, agent, framework := killable(t)
	task := h.core.framework(framework).cells["t1"].rec.Proto()
	h.feed(LinkClosed{Link: 1, Reason: "test"})
	if got := h.killTask(KillTask{FrameworkID: framework, TaskID: "t1"}); got.Status != 202 {
		t.Fatalf("got %+v", got)
	}
	back := registerMessage(agent, "a1", "cpus:4")
	back.Tasks = []*mesos.Task{task}
	back.Frameworks = []*mesos.FrameworkInfo{h.core.framework(framework).info}
	h.register(2, back)
	if n := h.countTold(2, isKill); n != 1 {
		t.Errorf("the agent was told %d times when it was back, want once", n)
	}
}

func TestOperatorKillsNothing(t *testing.T) {
	h, _, framework := killable(t)
	for name, row := range map[string]struct {
		in     KillTask
		status int
	}{
		"unknown framework": {KillTask{FrameworkID: "nobody", TaskID: "t1"}, 404},
		"unknown task":      {KillTask{FrameworkID: framework, TaskID: "t2"}, 404},
		"bad grace": {KillTask{FrameworkID: framework, TaskID: "t1", KillPolicy: &mesos.KillPolicy{
			GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(-1))},
		}}, 400},
	} {
		if got := h.killTask(row.in); got.Status != row.status || got.Body == "" {
			t.Errorf("%s: got %+v, want %d", name, got, row.status)
		}
	}
	if n := h.countTold(1, isKill); n != 0 {
		t.Errorf("the agent was told %d times to kill", n)
	}
}

// TestOperatorKillIsAsked: who may tear the framework down may kill its tasks, nobody else.
func TestOperatorKillIsAsked(t *testing.T) {
	h, _, framework := killable(t)
	mine := h.core.framework(framework).info.GetPrincipal()
	acls, err := authz.Parse([]byte(`{"permissive":false,"teardown_frameworks":[
		{"principals":{"values":["ops"]},"framework_principals":{"type":"ANY"}},
		{"principals":{"values":["dev"]},"framework_principals":{"values":["another"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	h.feed(Policy{ACLs: acls})
	for _, row := range []struct {
		principal *authz.Principal
		status    int
	}{{nil, 403}, {&authz.Principal{Value: "dev"}, 403}, {&authz.Principal{Value: mine + "x"}, 403}, {&authz.Principal{Value: "ops"}, 202}} {
		before := h.countTold(1, isKill)
		if got := h.killTask(KillTask{Principal: row.principal, FrameworkID: framework, TaskID: "t1"}); got.Status != row.status {
			t.Errorf("the answer to %s is %+v, want %d", row.principal, got, row.status)
		}
		if told := h.countTold(1, isKill) - before; told > 0 != (row.status == 202) {
			t.Errorf("%s: the agent was told %d times", row.principal, told)
		}
	}
}
