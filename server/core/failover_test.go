package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// counted sums what was added to a counter since the last take.
func (h *harness) counted(key string) (n int64) {
	for _, e := range h.trace {
		if c, ok := e.(Count); ok && c.Key == key {
			n += c.N
		}
	}
	return n
}

func (h *harness) unreachable() (ids []string) {
	for id := range h.core.View().Unreachable.All() {
		ids = append(ids, id)
	}
	return ids
}

func (h *harness) stopped() (reasons []string) {
	for _, e := range h.trace {
		if s, ok := e.(Stop); ok {
			reasons = append(reasons, s.Reason)
		}
	}
	return reasons
}

// alive lets time pass while agents answer for themselves.
func (h *harness) alive(d time.Duration, links ...LinkID) {
	h.t.Helper()
	for until := h.now.Add(d); h.now.Before(until); {
		h.advance(min(10*time.Second, until.Sub(h.now)))
		for _, l := range links {
			h.agentSays(l, pongMessage())
		}
	}
}

// TestRecoveryRemovalLimit: a master that misses more than its share of the agents ends
// rather than give them up (Mesos: Master::recoveredSlavesTimeout).
func TestRecoveryRemovalLimit(t *testing.T) {
	agents := []RecoveredAgent{
		recoveredAgent("A-S0", "a0"), recoveredAgent("A-S1", "a1"), recoveredAgent("A-S2", "a2"), recoveredAgent("A-S3", "a3"),
	}
	for _, row := range []struct {
		name  string
		limit *float64
		back  int
		stops bool
	}{
		{"no limit", nil, 0, false},
		{"all may be missing", new(1.0), 0, false},
		{"half may, all are", new(0.5), 0, true},
		{"half may, more are", new(0.5), 1, true},
		{"half may, half are", new(0.5), 2, false},
		{"none may, one is", new(0.0), 3, true},
		{"none may, none is", new(0.0), 4, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.RecoveryAgentRemovalLimit = row.limit
			h := newHarness(t, cfg, Recovered{Agents: agents})
			var links []LinkID
			for n := range row.back {
				h.register(LinkID(n+1), registerMessage(fmt.Sprintf("A-S%d", n), fmt.Sprintf("a%d", n), "cpus:4"))
				links = append(links, LinkID(n+1))
			}
			h.alive(cfg.AgentReregisterTimeout-time.Second, links...)
			if got := h.stopped(); len(got) > 0 {
				t.Fatalf("stopped too early: %s", got)
			}
			h.alive(2*time.Second, links...)
			reasons := h.stopped()
			if got := len(reasons) == 1; got != row.stops {
				t.Fatalf("stopped: %t, want %t: %s", got, row.stops, reasons)
			}
			if !row.stops {
				if got, want := len(h.unreachable()), 4-row.back; got != want {
					t.Errorf("%d agents are unreachable, want %d", got, want)
				}
				return
			}
			for _, want := range []string{"A-S3", "10m0s", fmt.Sprintf("%d (", 4-row.back), "--recovery_agent_removal_limit"} {
				if !strings.Contains(reasons[0], want) {
					t.Errorf("reason lacks %q: %s", want, reasons[0])
				}
			}
			for _, c := range h.log {
				if c.GetKind() == clusterdv1.Command_MARK_AGENT_UNREACHABLE {
					t.Errorf("an agent was given up all the same")
				}
			}
		})
	}
}

// TestLimitersAreApart: agents that have not come back since the failover and agents
// that fall silent do not wait for each other (MESOS-7721).
func TestLimitersAreApart(t *testing.T) {
	cfg := testConfig()
	cfg.AgentRemovalRateLimit = &RateLimit{N: 1, Per: 10 * time.Minute}
	h := newHarness(t, cfg, Recovered{Agents: []RecoveredAgent{
		recoveredAgent("A-S0", "a0"), recoveredAgent("A-S1", "a1"), recoveredAgent("A-S2", "a2"), recoveredAgent("A-S9", "a9"),
	}})
	h.register(1, registerMessage("A-S9", "a9", "cpus:4"))
	h.alive(cfg.AgentReregisterTimeout, 1)
	if d := cmp.Diff([]string{"A-S0"}, h.unreachable()); d != "" {
		t.Fatalf("after the first permit (-want +got):\n%s", d)
	}
	h.advance(2 * time.Minute) // no more pongs: 75 s later it is lost
	if d := cmp.Diff([]string{"A-S0", "A-S9"}, h.unreachable()); d != "" {
		t.Errorf("a silent agent waits for the missing ones (-want +got):\n%s", d)
	}
	h.advance(8*time.Minute + time.Second)
	if d := cmp.Diff([]string{"A-S0", "A-S1", "A-S9"}, h.unreachable()); d != "" {
		t.Errorf("the missing ones wait for the silent one (-want +got):\n%s", d)
	}
	if got := h.counted("master/slave_unreachable_scheduled"); got != 4 {
		t.Errorf("%d were scheduled, want 4", got)
	}
	if got := h.counted("master/slave_unreachable_completed"); got != 3 {
		t.Errorf("%d were completed, want 3", got)
	}
	for key, want := range map[string]int64{
		"master/slave_removals": 3, "master/slave_removals/reason_unhealthy": 3, "master/recovery_slave_removals": 2,
		"master/slave_unreachable_canceled": 0,
	} {
		if got := h.counted(key); got != want {
			t.Errorf("%s is %d, want %d", key, got, want)
		}
	}
	// The last of them comes back in time.
	h.register(2, registerMessage("A-S2", "a2", "cpus:4"))
	h.alive(20*time.Minute, 2)
	if d := cmp.Diff([]string{"A-S0", "A-S1", "A-S9"}, h.unreachable()); d != "" {
		t.Errorf("one that came back (-want +got):\n%s", d)
	}
	if got := h.counted("master/slave_unreachable_canceled"); got != 1 {
		t.Errorf("%d were canceled, want 1", got)
	}
}

// TestLimiterSkipsThoseThatReturn: who no longer needs its turn does not use it up
// (MESOS-8386).
func TestLimiterSkipsThoseThatReturn(t *testing.T) {
	cfg := testConfig()
	cfg.AgentRemovalRateLimit = &RateLimit{N: 2, Per: 20 * time.Minute}
	h := newHarness(t, cfg, Recovered{})
	for n := range 3 {
		h.register(LinkID(n+1), registerMessage("", fmt.Sprintf("a%d", n), "cpus:4"))
		h.advance(time.Second)
	}
	h.advance(3 * time.Minute)
	if d := cmp.Diff([]string{"M-S0"}, h.unreachable()); d != "" {
		t.Fatalf("after the first permit (-want +got):\n%s", d)
	}
	h.agentSays(2, pongMessage())
	if got := h.counted("master/slave_unreachable_canceled"); got != 1 {
		t.Errorf("%d were canceled, want 1", got)
	}
	h.alive(8*time.Minute, 2)
	if d := cmp.Diff([]string{"M-S0"}, h.unreachable()); d != "" {
		t.Errorf("before the second permit (-want +got):\n%s", d)
	}
	h.alive(2*time.Minute, 2)
	if d := cmp.Diff([]string{"M-S0", "M-S2"}, h.unreachable()); d != "" {
		t.Errorf("after the second permit (-want +got):\n%s", d)
	}
}

// TestClusterID: an agent learns the cluster of its id, and a master of another cluster
// has nothing to say about it; least of all that it should end.
func TestClusterID(t *testing.T) {
	cfg := testConfig()
	cfg.ClusterID = "ours"
	h := newHarness(t, cfg, Recovered{
		Gone:     []Departed{{ID: "A-S1", Time: epoch}},
		Agents:   []RecoveredAgent{recoveredAgent("A-S0", "a0")},
		Schedule: nil,
	})
	register := func(l LinkID, id, host, cluster string) (registered *clusterdv1.Registered, refused *clusterdv1.Refused) {
		m := registerMessage(id, host, "cpus:4")
		if cluster != "" {
			m.ClusterId = &cluster
		}
		h.register(l, m)
		for _, a := range h.links[l] {
			if a.GetRegistered() != nil {
				registered = a.GetRegistered()
			}
			if a.GetRefused() != nil {
				refused = a.GetRefused()
			}
		}
		return registered, refused
	}
	for l, id := range map[LinkID]string{1: "A-S0", 2: "A-S1", 3: "B-S7"} {
		_, refused := register(l, id, "a0", "theirs")
		if refused == nil || refused.GetShutdown() {
			t.Fatalf("agent %s of another cluster: refused is %v, want one without shutdown", id, refused)
		}
		for _, want := range []string{id, "theirs", "ours"} {
			if !strings.Contains(refused.GetMessage(), want) {
				t.Errorf("the refusal lacks %q: %s", want, refused.GetMessage())
			}
		}
	}
	if len(h.log) != 0 {
		t.Errorf("the registry heard of it: %v", h.log)
	}
	for l, row := range []struct{ id, host, cluster string }{
		{"", "a5", "theirs"}, // it has lost its id: it is nobody's any more
		{"", "a6", ""},
		{"A-S0", "a0", "ours"},
		{"B-S3", "a7", ""}, // of a build that did not keep it
	} {
		registered, _ := register(LinkID(10+l), row.id, row.host, row.cluster)
		if registered.GetClusterId() != "ours" {
			t.Errorf("agent %+v: registered is %v, want cluster ours", row, registered)
		}
	}
}

// TestUnreachableAgentReturns: what lives is found again, what does not is accounted
// for, and what belongs to a framework that ended meanwhile is ended.
func TestUnreachableAgentReturns(t *testing.T) {
	aware := awareInfo("OLD-0000", true)
	h := newHarness(t, testConfig(), Recovered{
		Agents: []RecoveredAgent{recoveredAgent("A-S0", "a0")}, Frameworks: []RecoveredFramework{{Info: aware}},
	})
	h.subscribe("s", aware)
	other := multiRole("g", 0)
	other.Id = &mesos.FrameworkID{Value: new(h.subscribe("s2", other))}
	report := func() *clusterdv1.RegisterAgent {
		m := returningAgent("A-S0", "a0", aware, taskReport(aware, "A-S0", "lives", mesos.TaskState_TASK_RUNNING),
			taskReport(aware, "A-S0", "dies", mesos.TaskState_TASK_RUNNING), taskReport(other, "A-S0", "orphan", mesos.TaskState_TASK_RUNNING))
		m.Frameworks = append(m.Frameworks, proto.CloneOf(other))
		return m
	}
	h.register(1, report())
	h.advance(2 * time.Minute)
	if d := cmp.Diff([]string{"A-S0"}, h.unreachable()); d != "" {
		t.Fatalf("unreachable (-want +got):\n%s", d)
	}
	h.call("s2", &scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum(), FrameworkId: other.Id})

	n := len(h.streams["s"])
	m := report()
	m.Tasks = []*mesos.Task{m.Tasks[0], m.Tasks[2]}
	h.register(2, m)
	want := []string{"lives TASK_RUNNING SOURCE_MASTER REASON_AGENT_REREGISTERED"}
	if d := cmp.Diff(want, h.statuses(n)); d != "" {
		t.Errorf("updates (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"registered; asks for dies", "shutdown of " + other.Id.GetValue()}, h.told(2)); d != "" {
		t.Errorf("the agent is told (-want +got):\n%s", d)
	}
	view := h.core.View()
	if len(h.unreachable()) > 0 {
		t.Errorf("unreachable are still %v", h.unreachable())
	}
	for f := range view.Frameworks.Values() {
		if f.UnreachableTasks.Len() > 0 {
			t.Errorf("framework %s still has unreachable tasks", f.ID)
		}
	}
}

// told describes what an agent hears on a link, pings apart.
func (h *harness) told(l LinkID) (lines []string) {
	for _, m := range h.links[l] {
		switch {
		case m.GetRegistered() != nil:
			line := "registered"
			for _, r := range m.GetRegistered().ReconcileTasks {
				line += "; asks for " + r.GetTaskId().GetValue()
			}
			lines = append(lines, line)
		case m.GetShutdownFramework() != nil:
			lines = append(lines, "shutdown of "+m.GetShutdownFramework().GetFrameworkId().GetValue())
		case m.GetRefused() != nil:
			lines = append(lines, fmt.Sprintf("refused, shutdown=%t", m.GetRefused().GetShutdown()))
		case m.GetPing() != nil:
		default:
			lines = append(lines, agentText(m))
		}
	}
	return lines
}

// TestTornDownWhileAway: a framework ends while its agent is away; the agent is told when
// it is back, whichever master it finds.
func TestTornDownWhileAway(t *testing.T) {
	for _, failover := range []bool{false, true} {
		t.Run(fmt.Sprintf("failover=%t", failover), func(t *testing.T) {
			h := newHarness(t, testConfig(), Recovered{})
			fw := multiRole("f", 1e6)
			fw.Id = &mesos.FrameworkID{Value: new(h.subscribe("s", fw))}
			agent := h.register(1, registerMessage("", "a0", "cpus:4"))
			h.launch("t")
			h.feed(LinkClosed{Link: 1, Reason: "cut"})
			h.call("s", &scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum(), FrameworkId: fw.Id})
			if failover {
				h = h.failover(testConfig())
			}
			h.register(2, returningAgent(agent, "a0", fw, taskReport(fw, agent, "t", mesos.TaskState_TASK_RUNNING)))
			if d := cmp.Diff([]string{"registered", "shutdown of " + fw.Id.GetValue()}, h.told(2)); d != "" {
				t.Errorf("the agent is told (-want +got):\n%s", d)
			}
			view := h.core.View()
			if n := view.Frameworks.Len(); n != 0 {
				t.Errorf("%d frameworks, want none", n)
			}
			for a := range view.Agents.Values() {
				if !a.Used.Empty() {
					t.Errorf("agent %s uses %s of a framework that has ended", a.ID, a.Used)
				}
			}
		})
	}
}

// TestDeadlineOverTwoFailovers: a framework that went away before the first failover is
// removed at the deadline that it then had, and one that comes back loses it for good.
func TestDeadlineOverTwoFailovers(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back=%t", back), func(t *testing.T) {
			h := newHarness(t, testConfig(), Recovered{})
			fw := multiRole("f", 3600)
			fw.Id = &mesos.FrameworkID{Value: new(h.subscribe("s", fw))}
			h.feed(StreamClosed{StreamID: "s"})
			h.advance(20 * time.Minute)
			cfg := testConfig()
			h = h.failover(cfg)
			h.advance(20 * time.Minute)
			if back {
				h.subscribe("s", fw)
			}
			h = h.failover(cfg)
			h.advance(20*time.Minute - time.Second)
			if n := h.core.View().Frameworks.Len(); n != 1 {
				t.Fatalf("%d frameworks before the deadline, want 1", n)
			}
			h.advance(2 * time.Second)
			want := 0
			if back { // it was connected when the second master went: it has its whole timeout again
				want = 1
			}
			if n := h.core.View().Frameworks.Len(); n != want {
				t.Fatalf("%d frameworks after the deadline, want %d", n, want)
			}
			h.advance(time.Hour)
			if n := h.core.View().Frameworks.Len(); n != 0 {
				t.Fatalf("%d frameworks at the end, want none", n)
			}
		})
	}
}

// TestTakeoverOfHalfDoneWrites: the old leader's writes are committed, but nobody acted
// on them, nor knows of them. The next one must come to terms with all of them, and may
// want the same again; the harness fails if the registry refuses anything.
func TestTakeoverOfHalfDoneWrites(t *testing.T) {
	start := func(t *testing.T) (*harness, *mesos.FrameworkInfo, string) {
		h := newHarness(t, testConfig(), Recovered{})
		fw := multiRole("f", 1e6)
		fw.Id = &mesos.FrameworkID{Value: new(h.subscribe("s", fw))}
		agent := h.register(1, registerMessage("", "a0", "cpus:4"))
		h.launch("t")
		h.hold = true
		return h, fw, agent
	}
	report := func(h *harness, l LinkID, agent string, fw *mesos.FrameworkInfo) []string {
		h.register(l, returningAgent(agent, "a0", fw, taskReport(fw, agent, "t", mesos.TaskState_TASK_RUNNING)))
		return h.told(l)
	}
	t.Run("agent marked unreachable", func(t *testing.T) {
		h, fw, agent := start(t)
		h.advance(2 * time.Minute)
		h = h.failover(testConfig())
		h.subscribe("s", fw)
		if d := cmp.Diff([]string{agent}, h.unreachable()); d != "" {
			t.Fatalf("unreachable (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"registered"}, report(h, 2, agent, fw)); d != "" {
			t.Errorf("the agent is told (-want +got):\n%s", d)
		}
		if got := h.statuses(0); len(got) != 1 || !strings.HasPrefix(got[0], "t TASK_RUNNING") {
			t.Errorf("the framework hears %q", got)
		}
	})
	t.Run("agent marked gone", func(t *testing.T) {
		h, fw, agent := start(t)
		h.operate(`{"type":"MARK_AGENT_GONE","mark_agent_gone":{"agent_id":{"value":"` + agent + `"}}}`)
		h = h.failover(testConfig())
		if d := cmp.Diff([]string{"refused, shutdown=true"}, report(h, 2, agent, fw)); d != "" {
			t.Errorf("the agent is told (-want +got):\n%s", d)
		}
		if a := h.operate(`{"type":"MARK_AGENT_GONE","mark_agent_gone":{"agent_id":{"value":"` + agent + `"}}}`); a.Status != 200 {
			t.Errorf("marked gone again: %+v", a)
		}
	})
	t.Run("framework torn down", func(t *testing.T) {
		h, fw, agent := start(t)
		h.feed(Call{Request: 77, StreamID: "s", Call: &scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum(), FrameworkId: fw.Id}})
		h = h.failover(testConfig())
		if d := cmp.Diff([]string{"registered", "shutdown of " + fw.Id.GetValue()}, report(h, 2, agent, fw)); d != "" {
			t.Errorf("the agent is told (-want +got):\n%s", d)
		}
	})
	t.Run("framework and agent admitted that never heard of it", func(t *testing.T) {
		h, _, _ := start(t)
		h.request++
		h.feed(Subscribe{Request: h.request, StreamID: "s2", Call: &scheduler.Call{
			Type: scheduler.Call_SUBSCRIBE.Enum(), Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: multiRole("g", 60)},
		}})
		h.agentSays(5, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: registerMessage("", "a5", "cpus:1")}})
		h = h.failover(testConfig())
		if f, a := h.core.View().Frameworks.Len(), h.core.View().RecoveredAgents.Len(); f != 2 || a != 2 {
			t.Fatalf("%d frameworks and %d agents, want 2 and 2", f, a)
		}
		// They try again, as the new ones that they are.
		h.subscribe("s2", multiRole("g", 60))
		again := h.register(2, registerMessage("", "a5", "cpus:1"))
		h.alive(11*time.Minute, 2)
		view := h.core.View()
		if view.Frameworks.Len() != 2 || view.Agents.Len() != 1 || len(h.unreachable()) != 2 {
			t.Errorf("%d frameworks, %d agents, unreachable %v; want 2, %s and two", view.Frameworks.Len(), view.Agents.Len(), h.unreachable(), again)
		}
	})
	t.Run("agent marked reachable", func(t *testing.T) {
		h, fw, agent := start(t)
		h.hold = false
		h.advance(2 * time.Minute)
		h.hold = true
		if got := report(h, 3, agent, fw); len(got) != 0 {
			t.Fatalf("the agent was told %v before the registry knew", got)
		}
		h = h.failover(testConfig())
		if got := h.core.View().RecoveredAgents.Len(); got != 1 {
			t.Fatalf("%d agents are expected, want 1", got)
		}
		if d := cmp.Diff([]string{"registered"}, report(h, 4, agent, fw)); d != "" {
			t.Errorf("the agent is told (-want +got):\n%s", d)
		}
	})
}

// TestTwoClaimOneID: an id is whose it was first, also when both come while the registry
// is being told of the first.
func TestTwoClaimOneID(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{Agents: []RecoveredAgent{recoveredAgent("A-S0", "a0")}})
	changed := registerMessage("A-S0", "a0", "cpus:8")
	copied := registerMessage("A-S0", "a7", "cpus:8")
	h.hold = true
	h.register(1, changed)
	h.register(2, copied)
	h.hold = false
	h.commit()
	if d := cmp.Diff([]string{"registered"}, h.told(1)); d != "" {
		t.Errorf("the first is told (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"refused, shutdown=false"}, h.told(2)); d != "" {
		t.Errorf("the second is told (-want +got):\n%s", d)
	}
	if !h.cut[2] || h.cut[1] {
		t.Errorf("links cut: %v, want the second", h.cut)
	}
}

// TestAgentThatMoved: an agent that is not linked may come back from elsewhere, and is
// found there.
func TestAgentThatMoved(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	id := h.register(1, registerMessage("", "a0", "cpus:8"))
	h.feed(LinkClosed{Link: 1, Reason: "cut"})
	moved := registerMessage(id, "a7", "cpus:8")
	moved.AgentInfo.Port = new(int32(7051))
	moved.Ip = new("10.0.0.7")
	h.register(2, moved)
	if d := cmp.Diff([]string{"registered"}, h.told(2)); d != "" {
		t.Fatalf("it is told (-want +got):\n%s", d)
	}
	if got, want := h.core.agent(id).String(), id+" at slave(1)@10.0.0.7:7051 (a7)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A new agent where it was is another, and takes nothing from it.
	if other := h.register(3, registerMessage("", "a0", "cpus:8")); other == id || h.core.View().Agents.Len() != 2 {
		t.Errorf("the next agent there is %s, of %d", other, h.core.View().Agents.Len())
	}
}

// TestParkedTwice: an agent that tries again while it is being marked unreachable has its
// older link closed, and is let in once that is over.
func TestParkedTwice(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	id := h.register(1, registerMessage("", "a0", "cpus:4"))
	h.hold = true
	h.advance(2 * time.Minute)
	h.register(2, registerMessage(id, "a0", "cpus:4"))
	h.register(3, registerMessage(id, "a0", "cpus:4"))
	h.hold = false
	h.commit()
	if !h.cut[1] || !h.cut[2] || h.cut[3] {
		t.Errorf("links cut: %v, want 1 and 2", h.cut)
	}
	if d := cmp.Diff([]string{"registered"}, h.told(3)); d != "" {
		t.Errorf("the agent is told (-want +got):\n%s", d)
	}
}

// TestReturnsWithOtherInfo: the registry knows what an agent has become before the agent
// is let in, and what it has now is offered.
func TestReturnsWithOtherInfo(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{Agents: []RecoveredAgent{recoveredAgent("A-S0", "a0")}})
	h.subscribe("s", multiRole("f", 0))
	m := registerMessage("A-S0", "a0", "cpus:4;mem:64")
	m.AgentInfo.Attributes = []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r2")}}}
	h.hold = true
	h.register(1, m)
	if len(h.told(1)) > 0 || len(h.offers()) > 0 {
		t.Fatalf("let in before the registry knew")
	}
	h.hold = false
	h.commit()
	if got := h.log[len(h.log)-1].GetKind(); got != clusterdv1.Command_UPDATE_AGENT {
		t.Errorf("the registry heard %s, want UPDATE_AGENT", got)
	}
	offers := h.offers()
	if len(offers) != 1 || len(offers[0].Resources) != 2 || offers[0].Attributes[0].GetText().GetValue() != "r2" {
		t.Errorf("offers are %v", offers)
	}
	for a := range h.registry.Agents() {
		if !proto.Equal(a.AgentInfo, m.AgentInfo) {
			t.Errorf("the registry has %v", a.AgentInfo)
		}
	}
	// And one whose info is as it was needs no write.
	h.feed(LinkClosed{Link: 1})
	before := len(h.log)
	h.register(2, m)
	if got := len(h.log) - before; got != 0 {
		t.Errorf("%d writes for an agent that has not changed", got)
	}
}

// TestReadmittedInVain: the link breaks while the registry is told of an agent's return,
// and the time for returning ends meanwhile; the agent is not expected for ever.
func TestReadmittedInVain(t *testing.T) {
	cfg := testConfig()
	h := newHarness(t, cfg, Recovered{Agents: []RecoveredAgent{recoveredAgent("A-S0", "a0")}})
	h.advance(cfg.AgentReregisterTimeout - time.Second)
	h.hold = true
	h.register(1, registerMessage("A-S0", "a0", "cpus:8"))
	h.advance(time.Minute)
	h.feed(LinkClosed{Link: 1})
	h.hold = false
	h.commit()
	if got := h.core.View().RecoveredAgents.Len(); got != 1 {
		t.Fatalf("%d agents are expected, want 1", got)
	}
	h.advance(cfg.AgentReregisterTimeout - time.Second)
	if got := h.unreachable(); len(got) != 0 {
		t.Errorf("given up too early: %v", got)
	}
	h.advance(2 * time.Second)
	if d := cmp.Diff([]string{"A-S0"}, h.unreachable()); d != "" {
		t.Errorf("unreachable (-want +got):\n%s", d)
	}
}
