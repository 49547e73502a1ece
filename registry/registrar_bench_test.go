package registry

import (
	"fmt"
	"sync"
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/registry/state"
)

// all proposes a command for each of n agents at once and waits for all.
func all(b *testing.B, l *Leadership, n int, cmd func(i int) *clusterdv1.Command) time.Duration {
	b.Helper()
	start := time.Now()
	waits := make([]func() error, n)
	for i := range n {
		wait := l.Propose(cmd(i))
		waits[i] = func() error { return wait(b.Context()) }
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

func benchAgent(i int) string { return fmt.Sprint("9f1b2c3d-aaaa-bbbb-cccc-123456789abc-S", i) }

// BenchmarkRegistrar has the shapes of Mesos's Registrar_BENCHMARK_Test
// (src/tests/registrar_tests.cpp): agents are admitted, marked unreachable, come
// back, and a registry is recovered from a snapshot. Run it with -benchtime=1x.
func BenchmarkRegistrar(b *testing.B) {
	for _, n := range []int{10_000, 20_000, 50_000} {
		b.Run(fmt.Sprint(n, " agents"), func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				r := openT(b, single(dir))
				l := leadT(b, r)
				ms := func(took time.Duration, what string) { b.ReportMetric(float64(took.Milliseconds()), what) }
				ms(all(b, l, n, func(i int) *clusterdv1.Command { return state.AdmitAgent(agentInfo(benchAgent(i))) }), "ms-admit")
				now := time.Now()
				ms(all(b, l, n, func(i int) *clusterdv1.Command { return state.MarkAgentUnreachable(benchAgent(i), now) }), "ms-unreachable")
				ms(all(b, l, n, func(i int) *clusterdv1.Command { return state.MarkAgentReachable(agentInfo(benchAgent(i))) }), "ms-reachable")
				if err := r.Snapshot(); err != nil {
					b.Fatal(err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				r = openT(b, single(dir))
				if got := leadT(b, r).State().AgentCount(); got != n {
					b.Fatalf("%d agents", got)
				}
				ms(time.Since(start), "ms-recover")
				ms(all(b, leadT(b, r), n, func(i int) *clusterdv1.Command { return state.RemoveAgent(benchAgent(i)) }), "ms-remove")
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCommit measures writes one after the other and from 256 callers at
// once, whose calls are merged.
func BenchmarkCommit(b *testing.B) {
	for _, members := range []int{1, 3} {
		for _, callers := range []int{1, 256} {
			b.Run(fmt.Sprintf("members=%d/callers=%d", members, callers), func(b *testing.B) {
				l := newCluster(b, members, func(o *Options) { o.HeartbeatTimeout = 0 }).leader()
				next := make(chan int)
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for i := range next {
							if err := l.Apply(b.Context(), state.AdmitAgent(agentInfo(benchAgent(i)))); err != nil {
								b.Error(err)
							}
						}
					})
				}
				i := 0
				for b.Loop() {
					i++
					next <- i
				}
				close(next)
				wg.Wait()
				b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}
