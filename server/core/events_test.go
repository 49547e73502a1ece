package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
)

// eventText prints an event on one line.
func eventText(e *Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.Serial, eventNames[e.Type])
	switch {
	case e.Task != nil:
		fmt.Fprintf(&b, " %s of %s on %s: %s", e.Task.ID, e.Task.FrameworkID, e.Task.AgentID, e.Task.State)
		if e.Status != nil {
			fmt.Fprintf(&b, " by %s", e.Status.GetState())
		}
	case e.Agent != nil:
		a := e.Agent
		fmt.Fprintf(&b, " %s connected=%t active=%t deactivated=%t total=[%s]", e.AgentID, a.Connected, a.Active, a.Deactivated, a.Total)
		if a.DrainInfo != nil {
			fmt.Fprintf(&b, " %s", a.DrainInfo.GetState())
		}
	case e.AgentID != "":
		b.WriteString(" " + e.AgentID)
	case e.Framework != nil:
		f := e.Framework
		fmt.Fprintf(&b, " %s connected=%t active=%t recovered=%t", f.ID, f.Connected, f.Active, f.Recovered)
	}
	for _, q := range e.Quotas {
		b.WriteString(" " + jsonText(q))
	}
	for _, w := range e.Weights {
		b.WriteString(" " + jsonText(w))
	}
	if e.Schedule != nil {
		b.WriteString(" " + jsonText(e.Schedule))
	}
	for _, m := range e.Machines {
		b.WriteString(" " + jsonText(m))
	}
	return b.String()
}

var eventNames = map[EventType]string{
	TaskAdded: "TASK_ADDED", TaskUpdated: "TASK_UPDATED", AgentAdded: "AGENT_ADDED", AgentRemoved: "AGENT_REMOVED",
	FrameworkAdded: "FRAMEWORK_ADDED", FrameworkUpdated: "FRAMEWORK_UPDATED", FrameworkRemoved: "FRAMEWORK_REMOVED",
	AgentUpdated: "AGENT_UPDATED", QuotasUpdated: "QUOTAS_UPDATED", WeightsUpdated: "WEIGHTS_UPDATED",
	MaintenanceUpdated: "MAINTENANCE_UPDATED",
}

// heard prints the events since the last call.
func (h *harness) heard() string {
	var b strings.Builder
	for _, e := range h.announced {
		b.WriteString(eventText(e)[strings.Index(eventText(e), " ")+1:] + "\n")
	}
	h.announced = nil
	return b.String()
}

func (h *harness) wantHeard(want string) {
	h.t.Helper()
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), h.heard()); diff != "" {
		h.t.Fatalf("events (-want +got):\n%s", diff)
	}
}

// TestEvents is the life of a task, told as the real Mesos tells it
// (golden/streams/operator_subscribe.events.jsonl): agent, framework, task, its updates.
func TestEvents(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.subscribe("s", refining("f", "eng"))
	h.launch("t1")
	h.wantHeard(`
AGENT_ADDED M-S0 connected=true active=true deactivated=false total=[cpus:4]
FRAMEWORK_ADDED M-0000 connected=true active=true recovered=false
TASK_ADDED t1 of M-0000 on M-S0: TASK_STAGING
`)
	added := h.core.View().Events
	say := func(state, latest mesos.TaskState, more func(*mesos.TaskStatus)) {
		s := &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: new("t1")}, State: state.Enum(), AgentId: &mesos.AgentID{Value: &id},
			Timestamp: new(1.0), Uuid: make([]byte, 16),
		}
		if more != nil {
			more(s)
		}
		h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
			FrameworkId: &mesos.FrameworkID{Value: new("M-0000")}, Status: s, LatestState: latest.Enum(),
		}}})
	}
	// The state is ahead of the status, as in the golden file.
	say(mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, nil)
	say(mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_RUNNING, nil)
	h.wantHeard(`
TASK_UPDATED t1 of M-0000 on M-S0: TASK_RUNNING by TASK_STARTING
TASK_UPDATED t1 of M-0000 on M-S0: TASK_RUNNING by TASK_RUNNING
`)
	// Sent again it is no news, unless it is about health or a check.
	say(mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_RUNNING, nil)
	h.wantHeard("")
	healthy := func(s *mesos.TaskStatus) { s.Healthy = new(true) }
	say(mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_RUNNING, healthy)
	say(mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_RUNNING, healthy)
	h.wantHeard("TASK_UPDATED t1 of M-0000 on M-S0: TASK_RUNNING by TASK_RUNNING\n")
	for _, reason := range []mesos.TaskStatus_Reason{
		mesos.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED, mesos.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED,
	} {
		say(mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_RUNNING, func(s *mesos.TaskStatus) {
			s.Healthy, s.Reason = new(true), reason.Enum()
		})
		h.wantHeard("TASK_UPDATED t1 of M-0000 on M-S0: TASK_RUNNING by TASK_RUNNING\n")
	}
	// A state that comes back ahead of its status, after it was told.
	say(mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED, nil)
	h.wantHeard("TASK_UPDATED t1 of M-0000 on M-S0: TASK_FAILED by TASK_RUNNING\n")

	// The framework goes away, and then for good: its task hears of it first.
	h.feed(StreamClosed{StreamID: "s"})
	h.wantHeard("FRAMEWORK_UPDATED M-0000 connected=false active=false recovered=false\n")
	h.advance(10 * time.Minute)
	h.wantHeard(`
TASK_UPDATED t1 of M-0000 on M-S0: TASK_FAILED by TASK_KILLED
FRAMEWORK_REMOVED M-0000 connected=false active=false recovered=false
AGENT_REMOVED M-S0
`)
	if n := h.core.View().Events; n != added+10 {
		t.Errorf("the view says %d events, want %d", n, added+10)
	}
}

// TestEventsOfOperators are those that Mesos does not have.
func TestEventsOfOperators(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.heard()
	h.wantAnswer(`{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"eng","weight":2}]}}`, 200, "")
	h.wantAnswer(quotaJSON(true, "eng cpus=1 -"), 200, "")
	h.wantAnswer(quotaJSON(true, "eng - -"), 200, "")
	h.wantHeard(`
WEIGHTS_UPDATED {"weight":2.0,"role":"eng"}
QUOTAS_UPDATED {"role":"eng","guarantees":{"cpus":{"value":1.0}}}
QUOTAS_UPDATED {"role":"eng"}
`)
	h.wantAnswer(agentCall("DEACTIVATE_AGENT", id), 200, "")
	h.wantAnswer(agentCall("DRAIN_AGENT", id), 200, "")
	h.wantAnswer(agentCall("REACTIVATE_AGENT", id), 200, "")
	h.wantHeard(`
AGENT_UPDATED M-S0 connected=true active=false deactivated=true total=[cpus:4]
AGENT_UPDATED M-S0 connected=true active=false deactivated=true total=[cpus:4] DRAINING
AGENT_UPDATED M-S0 connected=true active=false deactivated=true total=[cpus:4] DRAINED
AGENT_UPDATED M-S0 connected=true active=true deactivated=false total=[cpus:4]
`)
	h.wantAnswer(scheduleCall(windowJSON(1, "a1 10.0.0.1")), 200, "")
	h.wantAnswer(machinesCall("START_MAINTENANCE", "a1 10.0.0.1"), 200, "")
	h.wantAnswer(machinesCall("STOP_MAINTENANCE", "a1 10.0.0.1"), 200, "")
	const window = `{"windows":[{"machine_ids":[{"hostname":"a1","ip":"10.0.0.1"}],"unavailability":{"start":{"nanoseconds":1},"duration":{"nanoseconds":60}}}]}`
	machine := func(mode string) string {
		return ` {"id":{"hostname":"a1","ip":"10.0.0.1"},"mode":"` + mode + `","unavailability":{"start":{"nanoseconds":1},"duration":{"nanoseconds":60}}}`
	}
	h.wantHeard(`
MAINTENANCE_UPDATED ` + window + machine("DRAINING") + `
MAINTENANCE_UPDATED ` + window + machine("DOWN") + `
AGENT_REMOVED M-S0
MAINTENANCE_UPDATED {}
`)
}

// TestEventsWaitForTheRegistry: what is not committed has not happened.
func TestEventsWaitForTheRegistry(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.heard()
	h.hold = true
	h.operate(`{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"eng","weight":2}]}}`)
	h.operate(quotaJSON(true, "eng cpus=1 -"))
	h.operate(agentCall("DRAIN_AGENT", id))
	h.operate(scheduleCall(windowJSON(1, "a9 10.0.0.9")))
	h.subscribe("s", refining("f", "eng"))
	h.register(2, registerMessage("", "a2", "cpus:4"))
	h.wantHeard("")
	h.hold = false
	h.commit()
	if n := strings.Count(h.heard(), "\n"); n != 7 {
		t.Errorf("%d events, want 7", n)
	}
}

// TestEventsOfTheAbsent: agents that are away, and what is known of their tasks.
func TestEventsOfTheAbsent(t *testing.T) {
	cfg := testConfig()
	cfg.MaxUnreachableTasks = 1
	h := newHarness(t, cfg, Recovered{})
	info := refining("f", "eng")
	info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()})
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.subscribe("s", info)
	h.launch("t1")
	h.advance(10 * time.Second)
	h.launch("t2")
	h.heard()
	h.feed(LinkClosed{Link: 1, Reason: "cut"})
	h.wantHeard("AGENT_UPDATED M-S0 connected=false active=false deactivated=false total=[cpus:4]\n")
	h.advance(10 * time.Minute)
	h.wantHeard(`
TASK_UPDATED t1 of M-0000 on M-S0: TASK_UNREACHABLE by TASK_UNREACHABLE
TASK_UPDATED t2 of M-0000 on M-S0: TASK_UNREACHABLE by TASK_UNREACHABLE
TASK_UPDATED t1 of M-0000 on M-S0: TASK_UNKNOWN by TASK_UNKNOWN
AGENT_REMOVED M-S0
`)
	h.wantAnswer(agentCall("MARK_AGENT_GONE", "M-S0"), 200, "")
	h.wantHeard("TASK_UPDATED t2 of M-0000 on M-S0: TASK_GONE_BY_OPERATOR by TASK_GONE_BY_OPERATOR\n")

	// Of agents that a new leader waits for, the first view tells.
	h.register(2, registerMessage("", "a2", "cpus:4"))
	h.register(3, registerMessage("", "a3", "cpus:4"))
	h.register(4, registerMessage("", "a4", "cpus:4"))
	next := h.failover(testConfig())
	next.register(1, registerMessage("M-S1", "a2", "cpus:4"))
	next.wantAnswer(agentCall("MARK_AGENT_GONE", "M-S2"), 200, "")
	next.wantHeard(`
AGENT_ADDED M-S1 connected=true active=true deactivated=false total=[cpus:4]
AGENT_REMOVED M-S2
`)
	next.feed(AgentMessage{Link: 1, Message: &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Unregister{Unregister: &clusterdv1.UnregisterAgent{}}}})
	next.heard()
	next.advance(20 * time.Minute)
	next.wantHeard(`
FRAMEWORK_REMOVED M-0000 connected=false active=false recovered=true
AGENT_REMOVED M-S3
`)
}

// TestManyEvents: an agent with 10,000 tasks is lost in one input, each of which is told once.
func TestManyEvents(t *testing.T) {
	c := loaded(t, 1, 10_000)
	m := NewMirror(c.View())
	hear := func(effects []Effect) (updates int) {
		t.Helper()
		for _, e := range effects {
			a, ok := e.(Announce)
			if !ok {
				continue
			}
			if err := m.Hear(a.Event); err != nil {
				t.Fatal(err)
			}
			if a.Event.Type == TaskUpdated {
				updates++
			}
		}
		return updates
	}
	hear(c.Handle(c.now, Operate{Request: 1, Call: mustCall(t, agentCall("MARK_AGENT_GONE", "OLD-S0"))}))
	if n := hear(c.Handle(c.now, Committed{Proposal: c.nextProposal})); n != 10_000 {
		t.Errorf("%d tasks were told to be lost, want 10000", n)
	}
	if err := m.Differs(c.View()); err != nil {
		t.Error(err)
	}
}

func mustCall(tb testing.TB, text string) *master.Call {
	tb.Helper()
	call := new(master.Call)
	if err := mesosjson.Unmarshal([]byte(text), call); err != nil {
		tb.Fatal(err)
	}
	return call
}

// BenchmarkUpdateEvent is a status update that is told: its task's state is another one.
func BenchmarkUpdateEvent(b *testing.B) {
	c := loaded(b, 1000, 10)
	states := []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING}
	i := 0
	for b.Loop() {
		i++
		if i%100 == 0 {
			b.StopTimer() // each state is kept in the task
			c = loaded(b, 1000, 10)
			b.StartTimer()
		}
		task := fmt.Sprintf("task-7-%d-5f1f2d7e-0c4d-4c47-9a4e", i%10)
		c.Handle(epoch.Add(time.Second), AgentMessage{Link: 8, Message: &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{
			UpdateTask: &clusterdv1.UpdateTask{
				FrameworkId: &mesos.FrameworkID{Value: new("OLD-0000")},
				Status: &mesos.TaskStatus{
					TaskId: &mesos.TaskID{Value: &task}, State: states[i/10%2].Enum(), Timestamp: new(1.0), Uuid: make([]byte, 16),
				},
			},
		}}})
	}
}

// BenchmarkManyEvents is the loss of an agent with 10,000 tasks.
func BenchmarkManyEvents(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := loaded(b, 1, 10_000)
		c.Handle(c.now, Operate{Request: 1, Call: mustCall(b, agentCall("MARK_AGENT_GONE", "OLD-S0"))})
		b.StartTimer()
		c.Handle(c.now, Committed{Proposal: c.nextProposal})
	}
}
