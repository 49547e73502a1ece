package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// agentCall makes a call about one agent; more are further members.
func agentCall(kind, agent string, more ...string) string {
	members := append([]string{`"agent_id":{"value":"` + agent + `"}`}, more...)
	return `{"type":"` + kind + `","` + strings.ToLower(kind) + `":{` + strings.Join(members, ",") + `}}`
}

// state says how the view shows an agent.
func (h *harness) state(agent string) string {
	a, ok := h.core.View().Agents.Get(agent)
	if !ok {
		return "none"
	}
	text := fmt.Sprintf("connected=%t active=%t deactivated=%t", a.Connected, a.Active, a.Deactivated)
	if a.DrainInfo != nil {
		text += " " + a.DrainInfo.GetState().String()
	}
	return text
}

func (h *harness) wantState(agent, want string) {
	h.t.Helper()
	if got := h.state(agent); got != want {
		h.t.Fatalf("agent %s is %s, want %s", agent, got, want)
	}
}

// open is how many offers of stream s were neither rescinded nor taken.
func (h *harness) open() int {
	if fw := h.core.streams["s"]; fw != nil {
		return fw.offers.Len()
	}
	return 0
}

const (
	isActive      = "connected=true active=true deactivated=false"
	isDeactivated = "connected=true active=false deactivated=true"
)

func TestDeactivateAgent(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.advance(10 * time.Second)
	h.wantAnswer(agentCall("REACTIVATE_AGENT", id), 400, "Agent is not deactivated")

	before := h.rescinds("s")
	h.wantAnswer(agentCall("DEACTIVATE_AGENT", id), 200, "")
	h.wantState(id, isDeactivated)
	if h.rescinds("s") != before+1 || h.open() != 0 {
		t.Errorf("%d offers were rescinded, %d are open, want 1 and 0", h.rescinds("s")-before, h.open())
	}
	if cells := len(h.core.agent(id).cells); cells != 1 {
		t.Errorf("%d tasks are left, want the one", cells)
	}
	quiet := func(h *harness, when string) {
		t.Helper()
		h.advance(time.Minute)
		if n := h.open(); n != 0 {
			t.Errorf("%s: %d offers of a deactivated agent", when, n)
		}
	}
	quiet(h, "deactivated")
	// Nor by any way that an agent comes back.
	h.register(2, registerMessage(id, "a1", "cpus:4"))
	h.wantState(id, isDeactivated)
	quiet(h, "registered again")
	h.feed(LinkClosed{Link: 2, Reason: "cut"})
	h.register(3, registerMessage(id, "a1", "cpus:4"))
	quiet(h, "disconnected for a while")
	h.feed(LinkClosed{Link: 3, Reason: "cut"})
	h.advance(time.Hour)
	if _, ok := h.core.View().Unreachable.Get(id); !ok {
		t.Fatal("the agent should be unreachable")
	}
	far := h.failover(testConfig())
	far.subscribe("s", refining("g", "eng"))
	far.register(1, registerMessage(id, "a1", "cpus:4"))
	far.wantState(id, isDeactivated)
	quiet(far, "unreachable, with another master")
	h.register(4, registerMessage(id, "a1", "cpus:4"))
	quiet(h, "unreachable")
	next := h.failover(testConfig())
	next.subscribe("s", refining("g", "eng"))
	next.register(1, registerMessage(id, "a1", "cpus:4"))
	next.wantState(id, isDeactivated)
	quiet(next, "with another master")

	next.wantAnswer(agentCall("REACTIVATE_AGENT", id), 200, "")
	next.wantState(id, isActive)
	if next.open() != 1 {
		t.Errorf("%d offers after the agent was reactivated, want 1", next.open())
	}
	again := next.failover(testConfig())
	again.register(1, registerMessage(id, "a1", "cpus:4"))
	again.wantState(id, isActive)
	h.checkBooks(a)
}

// TestOperatorsAndAbsentAgents deactivates and reactivates agents that have not come
// back to this master, and unreachable ones.
func TestOperatorsAndAbsentAgents(t *testing.T) {
	first, _ := audited(t)
	id := first.register(1, registerMessage("", "a1", "cpus:4"))
	h := first.failover(testConfig())
	h.wantAnswer(agentCall("DEACTIVATE_AGENT", id), 200, "")
	h.register(1, registerMessage(id, "a1", "cpus:4"))
	h.wantState(id, isDeactivated)

	h.feed(LinkClosed{Link: 1, Reason: "cut"})
	h.advance(time.Hour)
	h.wantState(id, "none")
	h.wantAnswer(agentCall("REACTIVATE_AGENT", id), 200, "")
	h.register(2, registerMessage(id, "a1", "cpus:4"))
	h.wantState(id, isActive)

	h.wantAnswer(agentCall("DEACTIVATE_AGENT", "nosuch"), 400, "Unknown agent")
	h.wantAnswer(agentCall("REACTIVATE_AGENT", "nosuch"), 400, "Agent is not deactivated")
}

// TestDeactivateWhileBecomingUnreachable does as it is told once it is clear what the
// agent is.
func TestDeactivateWhileBecomingUnreachable(t *testing.T) {
	for _, kind := range []string{"unreachable", "removed"} {
		h, a := audited(t)
		id := h.register(1, registerMessage("", "a1", "cpus:4"))
		h.hold = true
		want := 200
		if kind == "removed" {
			want = 400
			h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Unregister{Unregister: &clusterdv1.UnregisterAgent{}}})
		} else {
			h.feed(LinkClosed{Link: 1, Reason: "cut"})
			h.advance(11 * time.Minute)
		}
		h.operate(agentCall("DEACTIVATE_AGENT", id))
		if _, answered := h.answers[h.request]; answered || len(h.waiting) != 1 {
			t.Fatalf("%s: answered %t with %d proposals, before the outcome is known", kind, answered, len(h.waiting))
		}
		h.hold = false
		h.commit()
		if got := h.answers[h.request]; got.Status != want {
			t.Errorf("%s: the answer is %+v, want %d", kind, got, want)
		}
		if kind == "unreachable" {
			h.register(2, registerMessage(id, "a1", "cpus:4"))
			h.wantState(id, isDeactivated)
		}
		h.checkBooks(a)
	}
}

// taskEnds lets the agent on link 1 report the end of task t1, and the framework on s
// acknowledge it.
func (h *harness) taskEnds(agent string, acknowledge bool) {
	task := "t1"
	uuid := []byte("0123456789abcdef")
	h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: &mesos.FrameworkID{Value: new("M-0000")},
		Status: &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: &task}, AgentId: &mesos.AgentID{Value: &agent},
			State: mesos.TaskState_TASK_KILLED.Enum(), Uuid: uuid,
		},
	}}})
	if acknowledge {
		h.call("s", &scheduler.Call{
			Type: scheduler.Call_ACKNOWLEDGE.Enum(), FrameworkId: &mesos.FrameworkID{Value: new("M-0000")},
			Acknowledge: &scheduler.Call_Acknowledge{TaskId: &mesos.TaskID{Value: &task}, AgentId: &mesos.AgentID{Value: &agent}, Uuid: uuid},
		})
	}
}

// drains lists what agents were told about draining.
func (h *harness) drains(l LinkID) []string {
	var out []string
	for _, m := range h.links[l] {
		if d := m.GetDrain(); d != nil {
			out = append(out, jsonText(d.Config))
		}
	}
	return out
}

func TestDrainAgent(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4;disk:100"))
	h.launch("t1")
	h.wantAnswer(agentCall("DRAIN_AGENT", id, `"max_grace_period":{"seconds":600}`), 200, "")
	h.wantState(id, isDeactivated+" DRAINING")
	if got, want := h.drains(1), []string{`{"max_grace_period":{"nanoseconds":600000000000},"mark_gone":false}`}; !cmp.Equal(got, want) {
		t.Errorf("the agent was told %v, want %v", got, want)
	}
	if ag, _ := h.core.View().Agents.Get(id); !ag.DrainStart.Equal(h.now) {
		t.Errorf("draining began at %v, want %v", ag.DrainStart, h.now)
	}
	h.wantAnswer(agentCall("REACTIVATE_AGENT", id), 400, "Agent is still in the DRAINING state")

	// A master that fails over goes on, and tells the agent again.
	next := h.failover(testConfig())
	next.register(5, registerMessage(id, "a1", "cpus:4;disk:100"))
	if len(next.drains(5)) != 1 {
		t.Errorf("the next master told the agent %v", next.drains(5))
	}
	// It has no tasks there.
	next.wantState(id, isDeactivated+" DRAINED")

	// The framework must have heard of the end of its task.
	h.taskEnds(id, false)
	h.wantState(id, isDeactivated+" DRAINING")
	h.taskEnds(id, true)
	h.wantState(id, isDeactivated+" DRAINED")
	h.advance(time.Minute)
	if n := h.open(); n != 0 {
		t.Errorf("%d offers of a drained agent", n)
	}
	// An operation keeps it from being drained.
	h.wantAnswer(agentCall("DRAIN_AGENT", id), 200, "")
	h.wantState(id, isDeactivated+" DRAINED")
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("disk", "1", "eng")), 202, "")
	h.wantAnswer(agentCall("DRAIN_AGENT", id), 200, "")
	h.wantState(id, isDeactivated+" DRAINING")
	h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateOperation{UpdateOperation: &clusterdv1.UpdateOperation{
		OperationUuid: h.applied()[0].OperationUuid,
		Status:        &mesos.OperationStatus{State: mesos.OperationState_OPERATION_FINISHED.Enum()},
	}}})
	h.wantState(id, isDeactivated+" DRAINED")

	h.wantAnswer(agentCall("REACTIVATE_AGENT", id), 200, "")
	h.wantState(id, isActive)
	if ag, _ := h.core.View().Agents.Get(id); ag.DrainInfo != nil || !ag.DrainStart.IsZero() || h.open() == 0 {
		t.Errorf("after REACTIVATE_AGENT: %v since %v, %d offers", ag.DrainInfo, ag.DrainStart, h.open())
	}
	h.checkBooks(a)
}

func TestDrainAndMarkGone(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.wantAnswer(agentCall("DRAIN_AGENT", id, `"mark_gone":true`), 200, "")
	h.wantState(id, isDeactivated+" DRAINING")
	h.taskEnds(id, true)
	h.wantState(id, "none")
	if _, gone := h.core.View().Gone.Get(id); !gone {
		t.Error("the agent is not gone")
	}
	if got := h.register(2, registerMessage(id, "a1", "cpus:4")); got != "" {
		t.Error("an agent that is gone came back")
	}
	if h.core.wills[id] != (will{}) {
		t.Errorf("a gone agent is remembered as %+v", h.core.wills[id])
	}
	h.checkBooks(a)
}

func TestDrainRefused(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	old := registerMessage("", "a2", "cpus:4")
	for i, c := range old.Capabilities {
		if c.GetType() == mesos.AgentInfo_Capability_AGENT_DRAINING {
			old.Capabilities = append(old.Capabilities[:i:i], old.Capabilities[i+1:]...)
			break
		}
	}
	oldID := h.register(2, old)
	h.wantAnswer(agentCall("DRAIN_AGENT", "nosuch"), 400, "Unknown agent")
	h.wantAnswer(agentCall("DRAIN_AGENT", oldID), 400, "Agent "+oldID+" is not capable of draining")
	h.wantAnswer(agentCall("DRAIN_AGENT", id, `"max_grace_period":{"seconds":-1}`), 400, "'max_grace_period' is out of range")
	h.wantAnswer(scheduleCall(windowJSON(1, "A1 10.0.0.1")), 200, "")
	h.wantAnswer(agentCall("DRAIN_AGENT", id), 400,
		"Agent "+id+" is part of a maintenance schedule under Machine A1 (10.0.0.1)")
	h.hold = true
	h.operate(agentCall("MARK_AGENT_GONE", id))
	h.wantAnswer(agentCall("DRAIN_AGENT", id), 409, "Agent is currently being marked gone")
	h.wantAnswer(agentCall("MARK_AGENT_GONE", id), 503, "Agent '"+id+"' is already being transitioned to gone")
}

func TestMarkAgentGone(t *testing.T) {
	h, a := audited(t)
	aware := refining("f", "eng")
	aware.Capabilities = append(aware.Capabilities, &mesos.FrameworkInfo_Capability{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()})
	h.subscribe("s", aware)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.wantAnswer(agentCall("MARK_AGENT_GONE", "nosuch"), 404, "Agent 'nosuch' not found")
	h.wantAnswer(agentCall("MARK_AGENT_GONE", id), 200, "")
	h.wantAnswer(agentCall("MARK_AGENT_GONE", id), 200, "")
	want := []string{"t1 TASK_GONE_BY_OPERATOR REASON_AGENT_REMOVED_BY_OPERATOR Agent has been marked gone"}
	if got := h.updates(); !cmp.Equal(got, want) {
		t.Errorf("updates %v, want %v", got, want)
	}
	if last := h.links[1][len(h.links[1])-1].GetRefused(); !last.GetShutdown() || !h.cut[1] {
		t.Errorf("the agent was told %v, and cut off: %t", last, h.cut[1])
	}
	next := h.failover(testConfig())
	if got := next.register(1, registerMessage(id, "a1", "cpus:4")); got != "" {
		t.Error("an agent that is gone came back to the next master")
	}
	next.wantAnswer(agentCall("MARK_AGENT_GONE", id), 200, "")

	// One that has not come back.
	second := h.register(2, registerMessage("", "a2", "cpus:4"))
	next = h.failover(testConfig())
	next.wantAnswer(agentCall("MARK_AGENT_GONE", second), 200, "")
	if v := next.core.View(); v.RecoveredAgents.Len() != 0 || v.Gone.Len() != 2 {
		t.Errorf("%d agents are expected, %d are gone", v.RecoveredAgents.Len(), v.Gone.Len())
	}
	h.checkBooks(a)
}

// TestMarkUnreachableAgentGone tells frameworks that the tasks will not come back.
func TestMarkUnreachableAgentGone(t *testing.T) {
	for _, tt := range []struct {
		aware bool
		want  string
	}{
		{true, "t1 TASK_GONE_BY_OPERATOR REASON_AGENT_REMOVED_BY_OPERATOR Agent has been marked gone"},
		{false, "t1 TASK_LOST REASON_AGENT_REMOVED Agent has been marked gone"},
	} {
		h, a := audited(t)
		info := refining("f", "eng")
		if tt.aware {
			info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()})
		}
		h.subscribe("s", info)
		id := h.register(1, registerMessage("", "a1", "cpus:4"))
		h.launch("t1")
		h.feed(LinkClosed{Link: 1, Reason: "cut"})
		h.advance(time.Hour)
		before := len(h.updates())
		h.wantAnswer(agentCall("MARK_AGENT_GONE", id), 200, "")
		if got := h.updates()[before:]; !cmp.Equal(got, []string{tt.want}) {
			t.Errorf("updates %v, want %s", got, tt.want)
		}
		fw := h.core.framework("M-0000").freeze()
		if fw.UnreachableTasks.Len() != 0 || len(fw.CompletedTasks) != 1 {
			t.Errorf("%d unreachable tasks and %d completed ones, want 0 and 1", fw.UnreachableTasks.Len(), len(fw.CompletedTasks))
		}
		if v := h.core.View(); v.Unreachable.Len() != 0 || v.Gone.Len() != 1 {
			t.Errorf("%d agents are unreachable, %d gone", v.Unreachable.Len(), v.Gone.Len())
		}
		h.checkBooks(a)
	}
}

// TestGCSparesAgentsThatOperatorsDecideAbout: the registry refuses what is said of an
// agent that it has just forgotten, and a refusal stops the master.
func TestGCSparesAgentsThatOperatorsDecideAbout(t *testing.T) {
	old := epoch.Add(-15 * 24 * time.Hour)
	h := newHarness(t, testConfig(), Recovered{Unreachable: []Departed{{ID: "a", Time: old}, {ID: "b", Time: old}}})
	h.hold = true
	h.operate(agentCall("DEACTIVATE_AGENT", "a"))
	decided := h.request
	h.advance(16 * time.Minute) // b is being forgotten
	h.wantAnswer(agentCall("MARK_AGENT_GONE", "b"), 404, "Agent 'b' not found")
	h.hold = false
	h.commit()
	if got := h.answers[decided]; got.Status != 200 {
		t.Errorf("the answer is %+v", got)
	}
	v := h.core.View()
	if _, ok := v.Unreachable.Get("a"); !ok || v.Unreachable.Len() != 1 {
		t.Errorf("%d agents are unreachable, a is: %t", v.Unreachable.Len(), ok)
	}
}

func TestOperatorTeardown(t *testing.T) {
	h, a := audited(t)
	id := h.subscribe("s", refining("f", "eng"))
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	teardown := func(id string) string {
		return `{"type":"TEARDOWN","teardown":{"framework_id":{"value":"` + id + `"}}}`
	}
	h.wantAnswer(teardown("nosuch"), 400, "No framework found with specified ID")
	h.wantAnswer(teardown(id), 200, "")
	h.wantAnswer(teardown(id), 400, "No framework found with specified ID")
	last := h.links[1][len(h.links[1])-1].GetShutdownFramework()
	if !h.closed["s"] || last.GetFrameworkId().GetValue() != id || h.core.View().Frameworks.Len() != 0 {
		t.Errorf("the stream is closed: %t; the agent was told %v; %d frameworks", h.closed["s"], last, h.core.View().Frameworks.Len())
	}
	h.checkBooks(a)
}
