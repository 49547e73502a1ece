package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
)

// mortal is a cluster of one agent (id A-S0, link 1) that runs t for a framework that
// does not checkpoint, and k for one that does; both are called OLD-000x and on stream s
// and k.
func mortal(t *testing.T, cfg Config, aware bool) (*harness, *mesos.FrameworkInfo, *mesos.FrameworkInfo) {
	t.Helper()
	fw, keeps := awareInfo("OLD-0000", aware), awareInfo("OLD-0001", aware)
	fw.Checkpoint = new(false)
	h := newHarness(t, cfg, Recovered{
		Agents:     []RecoveredAgent{recoveredAgent("A-S0", "a0")},
		Frameworks: []RecoveredFramework{{Info: fw}, {Info: keeps}},
	})
	h.subscribe("s", fw)
	h.subscribe("k", keeps)
	mortalReports(h, 1, fw, keeps, true)
	return h, fw, keeps
}

// mortalReports lets the agent register with what it runs.
func mortalReports(h *harness, l LinkID, fw, keeps *mesos.FrameworkInfo, alive bool) []string {
	m := returningAgent("A-S0", "a0", keeps, taskReport(keeps, "A-S0", "k", mesos.TaskState_TASK_RUNNING))
	if alive {
		m.Frameworks = append(m.Frameworks, fw)
		m.Tasks = append(m.Tasks, taskReport(fw, "A-S0", "t", mesos.TaskState_TASK_RUNNING))
	}
	h.register(l, m)
	return h.told(l)
}

func (h *harness) used() string {
	h.t.Helper()
	for a := range h.core.View().Agents.Values() {
		return a.Used.String()
	}
	return "no agent"
}

// TestGrace: the tasks of a framework that does not checkpoint outlive a broken link
// (MESOS-7911), and are given up after a while in words that the framework knows.
func TestGrace(t *testing.T) {
	const both, one = "cpus(allocated: eng):2", "cpus(allocated: eng):1"
	for _, aware := range []bool{true, false} {
		t.Run(fmt.Sprintf("aware=%t", aware), func(t *testing.T) {
			lost, again := "t TASK_LOST SOURCE_MASTER REASON_AGENT_DISCONNECTED", "t TASK_LOST SOURCE_MASTER REASON_RECONCILIATION"
			if aware {
				lost = "t TASK_UNREACHABLE SOURCE_MASTER REASON_AGENT_DISCONNECTED since 0"
				again = "t TASK_UNREACHABLE SOURCE_MASTER REASON_RECONCILIATION since 0"
			}
			t.Run("the link is back in time", func(t *testing.T) {
				h, fw, keeps := mortal(t, testConfig(), aware)
				n := len(h.streams["s"])
				h.feed(LinkClosed{Link: 1, Reason: "cut"})
				h.advance(70 * time.Second)
				if got := h.used(); got != both {
					t.Errorf("used while it is away: %s, want %s", got, both)
				}
				if d := cmp.Diff([]string{"registered"}, mortalReports(h, 2, fw, keeps, true)); d != "" {
					t.Errorf("the agent is told (-want +got):\n%s", d)
				}
				h.alive(5*time.Minute, 2)
				if got := h.statuses(n); len(got) != 0 {
					t.Errorf("the framework hears %q", got)
				}
				if got := h.used(); got != both {
					t.Errorf("used at the end: %s, want %s", got, both)
				}
			})
			t.Run("the agent has restarted", func(t *testing.T) {
				h, fw, keeps := mortal(t, testConfig(), aware)
				n := len(h.streams["s"])
				h.feed(LinkClosed{Link: 1, Reason: "cut"})
				h.advance(time.Minute)
				if d := cmp.Diff([]string{"registered; asks for t"}, mortalReports(h, 2, fw, keeps, false)); d != "" {
					t.Errorf("the agent is told (-want +got):\n%s", d)
				}
				if got := h.used(); got != one {
					t.Errorf("used: %s, want %s", got, one)
				}
				// The agent says how it ended, and nobody else does.
				h.alive(5*time.Minute, 2)
				if got := h.statuses(n); len(got) != 0 {
					t.Errorf("the framework hears %q", got)
				}
			})
			t.Run("the grace is over", func(t *testing.T) {
				cfg := testConfig()
				cfg.NonCheckpointingGrace = new(20 * time.Second)
				h, fw, keeps := mortal(t, cfg, aware)
				n := len(h.streams["s"])
				h.feed(LinkClosed{Link: 1, Reason: "cut"})
				h.advance(19 * time.Second)
				if got := h.statuses(n); len(got) != 0 {
					t.Errorf("the framework hears %q in the grace", got)
				}
				h.advance(time.Second)
				if d := cmp.Diff([]string{lost}, h.statuses(n)); d != "" {
					t.Errorf("the framework hears (-want +got):\n%s", d)
				}
				if got := h.used(); got != one {
					t.Errorf("used: %s, want %s", got, one)
				}
				if d := cmp.Diff([]string{again}, h.reconcile([2]string{"t", "A-S0"})); d != "" {
					t.Errorf("reconciliation (-want +got):\n%s", d)
				}
				n = len(h.streams["s"])
				if d := cmp.Diff([]string{"registered"}, mortalReports(h, 2, fw, keeps, true)); d != "" {
					t.Errorf("the agent is told (-want +got):\n%s", d)
				}
				if d := cmp.Diff([]string{"t TASK_RUNNING SOURCE_MASTER REASON_AGENT_REREGISTERED"}, h.statuses(n)); d != "" {
					t.Errorf("when it is back the framework hears (-want +got):\n%s", d)
				}
				if got := h.used(); got != both {
					t.Errorf("used when it is back: %s, want %s", got, both)
				}
				if d := cmp.Diff([]string{"t TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION"}, h.reconcile([2]string{"t", "A-S0"})); d != "" {
					t.Errorf("reconciliation when it is back (-want +got):\n%s", d)
				}
			})
			t.Run("the grace is over and the agent has restarted", func(t *testing.T) {
				cfg := testConfig()
				cfg.NonCheckpointingGrace = new(20 * time.Second)
				h, fw, keeps := mortal(t, cfg, aware)
				h.feed(LinkClosed{Link: 1, Reason: "cut"})
				h.advance(30 * time.Second)
				want := []string{"registered"} // LOST was the last word
				if aware {
					want = []string{"registered; asks for t"}
				}
				if d := cmp.Diff(want, mortalReports(h, 2, fw, keeps, false)); d != "" {
					t.Errorf("the agent is told (-want +got):\n%s", d)
				}
			})
			t.Run("the link breaks twice", func(t *testing.T) {
				h, fw, keeps := mortal(t, testConfig(), aware)
				n := len(h.streams["s"])
				h.feed(LinkClosed{Link: 1, Reason: "cut"})
				h.advance(50 * time.Second)
				mortalReports(h, 2, fw, keeps, true)
				h.feed(LinkClosed{Link: 2, Reason: "cut"})
				h.advance(60 * time.Second)
				if got := h.statuses(n); len(got) != 0 {
					t.Errorf("the framework hears %q in the second grace", got)
				}
			})
			t.Run("none", func(t *testing.T) {
				cfg := testConfig()
				cfg.NonCheckpointingGrace = new(time.Duration(0))
				h, _, _ := mortal(t, cfg, aware)
				n, k := len(h.streams["s"]), len(h.streams["k"])
				h.feed(LinkClosed{Link: 1, Reason: "cut"})
				if d := cmp.Diff([]string{lost}, h.statuses(n)); d != "" {
					t.Errorf("the framework hears (-want +got):\n%s", d)
				}
				for _, e := range h.streams["k"][k:] {
					if e.GetUpdate() != nil {
						t.Errorf("the framework that checkpoints hears %v", e)
					}
				}
			})
			t.Run("the agent is given up", func(t *testing.T) {
				cfg := testConfig()
				cfg.NonCheckpointingGrace = new(20 * time.Second)
				h, _, _ := mortal(t, cfg, aware)
				h.feed(LinkClosed{Link: 1, Reason: "cut"})
				h.advance(2 * time.Minute)
				if d := cmp.Diff([]string{"A-S0"}, h.unreachable()); d != "" {
					t.Fatalf("unreachable (-want +got):\n%s", d)
				}
				view := h.core.View()
				for f := range view.Frameworks.Values() {
					if f.Tasks.Len() > 0 {
						t.Errorf("framework %s still has %d tasks", f.ID, f.Tasks.Len())
					}
				}
			})
		})
	}
}
