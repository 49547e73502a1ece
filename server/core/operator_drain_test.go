package core

import (
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
)

// cancelDrain makes the call and returns the answer; the zero value if there is none yet.
func (h *harness) cancelDrain(agent string) Respond {
	h.t.Helper()
	h.request++
	h.feed(CancelDrain{Request: h.request, AgentID: agent})
	return h.answers[h.request]
}

func (h *harness) wantCancelled(agent string, status int, body string) {
	h.t.Helper()
	if got := h.cancelDrain(agent); got.Status != status || got.Body != body {
		h.t.Fatalf("the answer to cancelling the drain of %s is %d %q, want %d %q", agent, got.Status, got.Body, status, body)
	}
}

// countTold counts the messages of a kind on a link.
func (h *harness) countTold(l LinkID, kind func(*clusterdv1.MasterMessage) bool) int {
	n := 0
	for _, m := range h.links[l] {
		if kind(m) {
			n++
		}
	}
	return n
}

func isCancelDrain(m *clusterdv1.MasterMessage) bool { return m.GetCancelDrain() != nil }

// draining has an agent with a task that drains.
func draining(t *testing.T, more ...string) (*harness, string) {
	t.Helper()
	h, _ := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.update(id, mesos.TaskState_TASK_RUNNING)
	h.advance(10 * time.Second)
	h.wantAnswer(agentCall("DRAIN_AGENT", id, more...), 200, "")
	h.wantState(id, isDeactivated+" DRAINING")
	return h, id
}

// update is the word of the agent of link 1 about task t1 of the framework of stream s.
func (h *harness) update(agent string, state mesos.TaskState) {
	h.t.Helper()
	task := "t1"
	fw := h.core.streams["s"]
	uuid := make([]byte, 16)
	copy(uuid, task+state.String())
	h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: &mesos.FrameworkID{Value: &fw.id},
		Status: &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: &task}, State: state.Enum(), AgentId: &mesos.AgentID{Value: &agent},
			Timestamp: new(1.0), Uuid: uuid,
		},
	}}})
	h.acknowledgeAll()
}

// acknowledgeAll acknowledges what stream s has heard last.
func (h *harness) acknowledgeAll() {
	h.t.Helper()
	f := &fakeFramework{w: &world{h: h}, stream: "s", info: &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: new(h.core.streams["s"].id)}}}
	events := h.streams["s"]
	if s := events[len(events)-1].GetUpdate().GetStatus(); s.GetUuid() != nil {
		f.unacked = []*mesos.TaskStatus{s}
		f.acknowledge()
	}
}

func TestCancelDrain(t *testing.T) {
	h, id := draining(t)
	before := h.open()
	h.wantCancelled(id, 200, "")
	h.wantState(id, isActive)
	if n := h.countTold(1, isCancelDrain); n != 1 {
		t.Errorf("the agent was told %d times, want once", n)
	}
	if h.open() != before+1 {
		t.Errorf("%d offers are open, want %d", h.open(), before+1)
	}
	// What is being killed ends.
	h.update(id, mesos.TaskState_TASK_KILLED)
	h.advance(time.Minute)
	h.wantState(id, isActive)
	h.wantCancelled(id, 400, "Agent is not draining")

	// Nothing of it is left for the next master either.
	next := h.failover(testConfig())
	next.register(1, registerMessage(id, "a1", "cpus:4"))
	next.wantState(id, isActive)
}

// TestCancelDrained clears what has been drained, as REACTIVATE_AGENT does.
func TestCancelDrained(t *testing.T) {
	for _, how := range []string{"cancel", "reactivate"} {
		t.Run(how, func(t *testing.T) {
			h, id := draining(t)
			h.update(id, mesos.TaskState_TASK_KILLED)
			h.wantState(id, isDeactivated+" DRAINED")
			if how == "cancel" {
				h.wantCancelled(id, 200, "")
			} else {
				h.wantAnswer(agentCall("REACTIVATE_AGENT", id), 200, "")
			}
			h.wantState(id, isActive)
			// An executor without tasks keeps the agent draining for longer than the master
			// thinks.
			if n := h.countTold(1, isCancelDrain); n != 1 {
				t.Errorf("the agent was told %d times, want once", n)
			}
		})
	}
}

func TestCancelDrainOfOthers(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.wantCancelled("nobody", 400, "Agent is not draining")
	h.wantCancelled(id, 400, "Agent is not draining")
	h.wantAnswer(agentCall("DEACTIVATE_AGENT", id), 200, "")
	h.wantCancelled(id, 400, "Agent is not draining")
	h.wantState(id, isDeactivated)
	h.wantAnswer(agentCall("MARK_AGENT_GONE", id), 200, "")
	h.wantCancelled(id, 409, "Agent has been marked gone")
}

// TestCancelDrainTooLate and the next one are the race of an agent that is marked gone as
// soon as it is drained.
func TestCancelDrainTooLate(t *testing.T) {
	h, id := draining(t, `"mark_gone":true`)
	h.hold = true
	h.update(id, mesos.TaskState_TASK_KILLED) // the last: MARK_AGENT_GONE is proposed
	h.wantCancelled(id, 409, "Agent is currently being marked gone")
	h.hold = false
	h.commit()
	if _, gone := h.core.View().Gone.Get(id); !gone {
		t.Error("the agent is not gone")
	}
}

func TestCancelDrainInTime(t *testing.T) {
	h, id := draining(t, `"mark_gone":true`)
	h.hold = true
	var requests []RequestID
	for range 2 {
		if a := h.cancelDrain(id); a.Status != 0 {
			t.Fatalf("the answer is %v before the registry has it", a)
		}
		requests = append(requests, h.request)
	}
	h.update(id, mesos.TaskState_TASK_KILLED) // the last, and yet it is not gone
	h.hold = false
	h.commit()
	h.advance(time.Minute)
	h.wantState(id, isActive)
	for _, c := range h.log {
		if c.GetKind() == clusterdv1.Command_MARK_AGENT_GONE {
			t.Error("the agent was marked gone after all")
		}
	}
	for _, request := range requests {
		if h.answers[request].Status != 200 {
			t.Errorf("request %d is answered %v, want 200", request, h.answers[request])
		}
	}
}

// TestCancelDrainOfAbsent: an agent that is away hears of it when it is back, whoever leads
// then.
func TestCancelDrainOfAbsent(t *testing.T) {
	back := func(id string) *clusterdv1.RegisterAgent {
		m := registerMessage(id, "a1", "cpus:4")
		m.DrainConfig = &mesos.DrainConfig{}
		return m
	}
	want := func(t *testing.T, h *harness, l LinkID, id string) {
		t.Helper()
		h.register(l, back(id))
		h.wantState(id, isActive)
		if n := h.countTold(l, isCancelDrain); n != 1 {
			t.Errorf("the agent was told %d times, want once", n)
		}
	}
	t.Run("disconnected", func(t *testing.T) {
		h, id := draining(t)
		h.feed(LinkClosed{Link: 1, Reason: "cut"})
		h.wantCancelled(id, 200, "")
		want(t, h, 2, id)
	})
	t.Run("unreachable", func(t *testing.T) {
		h, id := draining(t)
		h.feed(LinkClosed{Link: 1, Reason: "cut"})
		h.advance(time.Hour)
		h.wantCancelled(id, 200, "")
		want(t, h, 2, id)
	})
	t.Run("not back to a new master", func(t *testing.T) {
		h, id := draining(t)
		next := h.failover(testConfig())
		next.wantCancelled(id, 200, "")
		want(t, next, 1, id)
	})
	t.Run("the leader dies before it acts", func(t *testing.T) {
		h, id := draining(t)
		h.hold = true // the registry has it, the core never hears
		h.cancelDrain(id)
		want(t, h.failover(testConfig()), 1, id)
	})
	t.Run("the leader dies before it is written", func(t *testing.T) {
		h, id := draining(t)
		next := h.failover(testConfig())
		next.register(1, back(id))
		next.wantState(id, isDeactivated+" DRAINED") // without the task
		if n := next.countTold(1, isCancelDrain); n != 0 {
			t.Errorf("the agent was told %d times that it does not drain", n)
		}
	})
}

// TestCancelDrainIsAsked: who may reactivate agents may cancel their drains, nobody else.
func TestCancelDrainIsAsked(t *testing.T) {
	h, id := draining(t)
	acls, err := authz.Parse([]byte(`{"permissive":false,"reactivate_agents":[{"principals":{"values":["ops"]},"agents":{"type":"ANY"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	h.feed(Policy{ACLs: acls})
	for _, one := range []struct {
		principal *authz.Principal
		status    int
	}{{nil, 403}, {&authz.Principal{Value: "dev"}, 403}, {&authz.Principal{Value: "ops"}, 200}} {
		h.request++
		h.feed(CancelDrain{Request: h.request, Principal: one.principal, AgentID: id})
		if got := h.answers[h.request].Status; got != one.status {
			t.Errorf("the answer to %s is %d, want %d", one.principal, got, one.status)
		}
	}
	h.wantState(id, isActive)
}

// TestDrainConfigIsRead: the link's own decoder keeps what the agent says of its draining.
func TestDrainConfigIsRead(t *testing.T) {
	w := newWorld(t)
	w.addAgent(nil)
	a := w.agents[0]
	a.work()
	a.draining = true
	a.connect()
	a.work()
	if a.draining {
		t.Error("an agent that drains for no reason was not told")
	}
}
