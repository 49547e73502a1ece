package allocator

import (
	"fmt"
	"testing"
	"time"

	"clusterd/allocator/resources"
)

// The shapes are those of Mesos's hierarchical_allocator_tests.cpp: agents with
// 24 cpus, 4 GB and fragmented ports, every tenth part of it in use.

const (
	benchAgents     = 10_000
	benchFrameworks = 1_000
)

func benchAgent() Agent {
	a := testAgent("cpus:24;mem:4096;disk:4096;ports:[31000-31009,31020-31029,31040-31049,31060-31069]")
	a.Hostname = "agent"
	return a
}

// benchCluster fills an allocator; roles is 1 or the number of frameworks.
func benchCluster(frameworks, roles int) *hierarchical {
	opts := DefaultOptions()
	h := newHierarchical(opts)
	for i := range frameworks {
		h.AddFramework(fmt.Sprintf("framework-%06d", i), testFramework(fmt.Sprintf("role-%d", i%roles)), nil)
	}
	info := benchAgent()
	used := resources.MustParse("cpus:1;mem:128;ports:[31040-31041]")
	for i := range benchAgents {
		n := i % frameworks
		h.AddAgent(fmt.Sprintf("agent-%06d", i), info, map[string]resources.Resources{
			fmt.Sprintf("framework-%06d", n): used.Allocate(fmt.Sprintf("role-%d", n%roles)),
		})
	}
	return h
}

func returnAll(h *hierarchical, now time.Time, offers []Offer, f *Filter) {
	for _, o := range offers {
		h.RecoverResources(now, o.FrameworkID, o.AgentID, o.Resources, f)
	}
}

func eachShape(b *testing.B, f func(b *testing.B, roles int)) {
	for _, roles := range []int{1, benchFrameworks} {
		b.Run(fmt.Sprintf("agents=%d/frameworks=%d/roles=%d", benchAgents, benchFrameworks, roles),
			func(b *testing.B) { f(b, roles) })
	}
}

// BenchmarkFullCycle offers every agent of the cluster.
func BenchmarkFullCycle(b *testing.B) {
	eachShape(b, func(b *testing.B, roles int) {
		h := benchCluster(benchFrameworks, roles)
		now := epoch
		b.ReportAllocs()
		for b.Loop() {
			out := h.AllocateAll(now)
			if len(out.Offers) != benchAgents {
				b.Fatalf("got %d offers, want %d", len(out.Offers), benchAgents)
			}
			b.StopTimer()
			returnAll(h, now, out.Offers, nil)
			b.StartTimer()
		}
	})
}

// BenchmarkOneAgent frees one agent of a full cluster and offers it.
func BenchmarkOneAgent(b *testing.B) {
	eachShape(b, func(b *testing.B, roles int) {
		h := benchCluster(benchFrameworks, roles)
		held := h.AllocateAll(epoch).Offers
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			o := held[i]
			h.RecoverResources(epoch, o.FrameworkID, o.AgentID, o.Resources, nil)
			out := h.Allocate(epoch)
			if len(out.Offers) != 1 {
				b.Fatalf("got %d offers, want 1", len(out.Offers))
			}
			held[i] = out.Offers[0]
			i = (i + 1) % len(held)
		}
	})
}

// BenchmarkAgentJoins adds an agent, with which all shares change.
func BenchmarkAgentJoins(b *testing.B) {
	eachShape(b, func(b *testing.B, roles int) {
		h := benchCluster(benchFrameworks, roles)
		h.AllocateAll(epoch)
		info := benchAgent()
		i := 0
		for b.Loop() {
			i++
			h.AddAgent(fmt.Sprint("new-", i), info, nil)
			if out := h.Allocate(epoch); len(out.Offers) != 1 {
				b.Fatalf("got %d offers, want 1", len(out.Offers))
			}
		}
	})
}

// BenchmarkDecline is a full cycle in which every framework refuses everything
// for ever, after ten such cycles.
func BenchmarkDecline(b *testing.B) {
	eachShape(b, func(b *testing.B, roles int) {
		refuse := &Filter{RefuseFor: 24 * time.Hour}
		h := benchCluster(benchFrameworks, roles)
		for range 10 {
			returnAll(h, epoch, h.AllocateAll(epoch).Offers, refuse)
		}
		for b.Loop() {
			out := h.AllocateAll(epoch)
			b.StopTimer()
			returnAll(h, epoch, out.Offers, refuse)
			b.StartTimer()
		}
	})
}

// BenchmarkIdle is a cycle when all that is free has been refused by all.
func BenchmarkIdle(b *testing.B) {
	const frameworks = 50
	h := benchCluster(frameworks, frameworks)
	for {
		out := h.AllocateAll(epoch)
		if len(out.Offers) == 0 {
			break
		}
		returnAll(h, epoch, out.Offers, &Filter{RefuseFor: 24 * time.Hour})
	}
	for b.Loop() {
		if out := h.AllocateAll(epoch); len(out.Offers) != 0 {
			b.Fatalf("got %d offers, want none", len(out.Offers))
		}
	}
}

// BenchmarkSuppressed is a full cycle when all but one in a hundred frameworks
// have suppressed their offers.
func BenchmarkSuppressed(b *testing.B) {
	eachShape(b, func(b *testing.B, roles int) {
		h := benchCluster(benchFrameworks, roles)
		for i := range benchFrameworks {
			if i%100 != 0 {
				h.SuppressOffers(fmt.Sprintf("framework-%06d", i), nil)
			}
		}
		for b.Loop() {
			out := h.AllocateAll(epoch)
			b.StopTimer()
			returnAll(h, epoch, out.Offers, nil)
			b.StartTimer()
		}
	})
}

// BenchmarkRevive revives one framework in a cluster whose free resources
// everyone has refused.
func BenchmarkRevive(b *testing.B) {
	const frameworks = 50
	h := benchCluster(frameworks, frameworks)
	refuse := &Filter{RefuseFor: 24 * time.Hour}
	for {
		out := h.AllocateAll(epoch)
		if len(out.Offers) == 0 {
			break
		}
		returnAll(h, epoch, out.Offers, refuse)
	}
	for b.Loop() {
		h.ReviveOffers("framework-000007", nil)
		out := h.Allocate(epoch)
		if len(out.Offers) != benchAgents {
			b.Fatalf("got %d offers, want %d", len(out.Offers), benchAgents)
		}
		b.StopTimer()
		returnAll(h, epoch, out.Offers, refuse)
		if out := h.Allocate(epoch); len(out.Offers) != 0 {
			b.Fatalf("got %d offers, want none", len(out.Offers))
		}
		b.StartTimer()
	}
}
