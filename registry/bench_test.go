package registry

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"clusterd/registry/state"
)

// BenchmarkApply measures one call after the other: the latency of a write.
func BenchmarkApply(b *testing.B) {
	for name, dir := range map[string]string{"disk": b.TempDir(), "memory": ""} {
		b.Run(name, func(b *testing.B) {
			l := leadT(b, openT(b, single(dir)))
			i := 0
			for b.Loop() {
				i++
				applyT(b, l, state.AdmitAgent(agentInfo(fmt.Sprint("a", l.Epoch(), "-", i))))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "applies/s")
		})
	}
}

// BenchmarkAdmit20000 measures 20,000 agents that register at once, and what the
// registry then holds in memory.
func BenchmarkAdmit20000(b *testing.B) {
	const n = 20000
	for b.Loop() {
		b.StopTimer()
		entries := 0
		opts := single(b.TempDir())
		opts.OnStore = func(time.Duration, int) { entries++ } // by one goroutine
		r := openT(b, opts)
		l := leadT(b, r)
		before := heap()
		b.StartTimer()
		var wg sync.WaitGroup
		for i := range n {
			cmd := state.AdmitAgent(agentInfo(fmt.Sprint("9f1b2c3d-aaaa-bbbb-cccc-123456789abc-S", i)))
			wg.Go(func() {
				if err := l.Apply(b.Context(), cmd); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		b.ReportMetric(float64(entries), "entries")
		if err := r.Snapshot(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(int64(heap())-int64(before))/n, "bytes/agent")
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "admissions/s")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
