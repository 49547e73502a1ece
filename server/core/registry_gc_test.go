package core

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRegistryForgets has rows of what the registry holds, and how much of it is pruned
// (Mesos: Master::doRegistryGc, whose rules these are).
func TestRegistryForgets(t *testing.T) {
	ago := func(d time.Duration) time.Time { return epoch.Add(-d) }
	const day = 24 * time.Hour
	departed := []Departed{{ID: "d1", Time: ago(3 * day)}, {ID: "d2", Time: ago(2 * day)}, {ID: "d3", Time: ago(day)}}
	for _, row := range []struct {
		name  string
		age   time.Duration
		count int
		want  []string // what is left
	}{
		{"neither too old nor too many", 14 * day, 3, []string{"d1", "d2", "d3"}},
		{"too many: the oldest go", 14 * day, 2, []string{"d2", "d3"}},
		{"too old", 2*day + time.Hour, 10, []string{"d2", "d3"}},
		{"too many and too old", 2*day + time.Hour, 1, []string{"d3"}},
		{"none may stay", 14 * day, 0, nil},
		{"nothing may be of any age", 0, 10, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.RegistryGCInterval, cfg.RegistryMaxAgentAge, cfg.RegistryMaxAgentCount = time.Minute, row.age, row.count
			frameworks := []Departed{{ID: "f1", Time: ago(3 * day)}, {ID: "f2", Time: ago(2 * day)}, {ID: "f3", Time: ago(day)}}
			gone := []Departed{{ID: "g1", Time: ago(3 * day)}, {ID: "g2", Time: ago(2 * day)}, {ID: "g3", Time: ago(day)}}
			h := newHarness(t, cfg, Recovered{Unreachable: departed, Gone: gone, RemovedFrameworks: frameworks})
			h.advance(59 * time.Second)
			if len(h.unreachable()) != 3 {
				t.Fatalf("pruned before the interval")
			}
			h.advance(2 * time.Second)
			if d := cmp.Diff(row.want, h.unreachable()); d != "" {
				t.Errorf("unreachable (-want +got):\n%s", d)
			}
			var left [3][]string
			for d := range h.registry.Unreachable() {
				left[0] = append(left[0], d.AgentId.GetValue())
			}
			for d := range h.registry.Gone() {
				left[1] = append(left[1], "d"+d.AgentId.GetValue()[1:])
			}
			for d := range h.registry.RemovedFrameworks() {
				left[2] = append(left[2], "d"+d.FrameworkId.GetValue()[1:])
			}
			for i, what := range []string{"unreachable", "gone", "removed frameworks"} {
				if d := cmp.Diff(row.want, left[i]); d != "" {
					t.Errorf("%s in the registry (-want +got):\n%s", what, d)
				}
			}
		})
	}
}

// TestPrunedAgentsTakeTheirTasks: nothing is left of the tasks of an agent that is
// forgotten, as in Mesos.
func TestPrunedAgentsTakeTheirTasks(t *testing.T) {
	cfg := testConfig()
	cfg.RegistryGCInterval, cfg.RegistryMaxAgentAge = 10*time.Minute, time.Minute
	h, _, _ := mortal(t, cfg, true)
	h.advance(2 * time.Minute)
	count := func() (n int) {
		for f := range h.core.View().Frameworks.Values() {
			n += f.UnreachableTasks.Len()
		}
		return n
	}
	if got := count(); got != 2 {
		t.Fatalf("%d tasks are unreachable, want 2", got)
	}
	h.advance(9 * time.Minute)
	if got := count(); got != 0 {
		t.Errorf("%d tasks of a forgotten agent are left", got)
	}
	want := []string{"t TASK_UNKNOWN SOURCE_MASTER REASON_RECONCILIATION"}
	if d := cmp.Diff(want, h.reconcile([2]string{"t", "A-S0"})); d != "" {
		t.Errorf("reconciliation (-want +got):\n%s", d)
	}
}
