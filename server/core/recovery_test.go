package core

import (
	"fmt"
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/quota"
)

// failedOver is a master that takes over a cluster of agents OLD-S0, OLD-S1 ... with 2 cpus
// each, where the role limited has a limit of 4 cpus, and free has no quota.
func failedOver(t *testing.T, agents int, factor float64, timeout time.Duration) *harness {
	t.Helper()
	cfg := testConfig()
	cfg.AllocatorAgentRecoveryFactor, cfg.AllocatorRecoveryTimeout = factor, timeout
	cfg.AgentReregisterTimeout = 10 * time.Minute
	rec := Recovered{Quotas: []*quota.QuotaConfig{{
		Role: new("limited"), Limits: map[string]*mesos.Value_Scalar{"cpus": {Value: new(4.0)}},
	}}}
	for i := range agents {
		rec.Agents = append(rec.Agents, RecoveredAgent{Info: registerMessage(agentName(i), fmt.Sprint("a", i), "cpus:2;mem:64").AgentInfo})
	}
	return newHarness(t, cfg, rec)
}

func agentName(i int) string { return fmt.Sprint("OLD-S", i) }

func (h *harness) back(i int) {
	h.t.Helper()
	if id := h.register(LinkID(i+1), registerMessage(agentName(i), fmt.Sprint("a", i), "cpus:2;mem:64")); id != agentName(i) {
		h.t.Fatalf("agent %d registered as %q", i, id)
	}
}

// TestAllocatorRecovery: after a failover a role with a limit gets none of what the
// limit is about until enough agents are back to know what it has; a role without a
// quota gets offers at once.
func TestAllocatorRecovery(t *testing.T) {
	const free, limited = "free", "limited/a"
	t.Run("share", func(t *testing.T) {
		h := failedOver(t, 10, 0.5, time.Hour)
		h.subscribe("l", ofRoles("l", limited))
		for i := range 4 {
			h.back(i)
		}
		h.register(100, registerMessage("", "a100", "cpus:2;mem:64")) // a new one is none of those
		h.advance(10 * time.Second)
		if got := h.offered(limited); got != 0 {
			t.Errorf("with 4 of 10 agents back %v cpus are offered to %s", got, limited)
		}
		h.subscribe("f", ofRoles("f", free))
		if got := h.offered(free); got != 10 {
			t.Errorf("with 4 of 10 agents back %v cpus are offered to %s, want those of all 5", got, free)
		}
		h.back(4)
		if got := h.offered(limited); got != 2 {
			t.Errorf("with 5 of 10 agents back %v cpus are offered to %s, want 2", got, limited)
		}
		h.back(5)
		h.back(6)
		if got := h.offered(limited); got != 4 {
			t.Errorf("with 7 of 10 agents back %v cpus are offered to %s, want its limit of 4", got, limited)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		h := failedOver(t, 10, 0.8, time.Minute)
		h.subscribe("l", ofRoles("l", limited))
		h.back(0)
		h.advance(59 * time.Second)
		if got := h.offered(limited); got != 0 {
			t.Errorf("%v cpus are offered before the time is over", got)
		}
		h.advance(2 * time.Second)
		if got := h.offered(limited); got != 2 {
			t.Errorf("%v cpus are offered after the time is over, want 2", got)
		}
	})
	// An agent that has been given up is not waited for.
	t.Run("unreachable", func(t *testing.T) {
		h := failedOver(t, 10, 0.8, 24*time.Hour)
		h.subscribe("l", ofRoles("l", limited))
		h.back(0)
		for range 9 * 60 {
			h.advance(time.Second)
			for l := range h.links {
				h.agentSays(l, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}})
			}
		}
		if got := h.offered(limited); got != 0 {
			t.Errorf("%v cpus are offered with one agent of ten back", got)
		}
		h.advance(61 * time.Second)
		if got := h.offered(limited); got != 2 {
			t.Errorf("%v cpus are offered after the others were marked unreachable, want 2", got)
		}
	})
	for _, tc := range []struct {
		name   string
		agents int
		factor float64
	}{{"no agents", 0, 0.8}, {"no share", 10, 0}, {"share of less than one", 1, 0.8}} {
		t.Run(tc.name, func(t *testing.T) {
			h := failedOver(t, tc.agents, tc.factor, time.Hour)
			h.subscribe("l", ofRoles("l", limited))
			h.register(100, registerMessage("", "a100", "cpus:2;mem:64"))
			if got := h.offered(limited); got != 2 {
				t.Errorf("%v cpus are offered, want 2 at once", got)
			}
		})
	}
}
