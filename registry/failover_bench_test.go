package registry

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkFailover kills the leader of three and measures until the next one is
// ready to write, with the timings that masters run with: run it with
// -benchtime=20x. The others learn of it by silence alone.
func BenchmarkFailover(b *testing.B) {
	c := newCluster(b, 3, func(o *Options) { o.HeartbeatTimeout = 0 })
	var took []time.Duration
	l := c.leader()
	for b.Loop() {
		name, addr := string(l.r.id), l.r.Self().Addr
		c.net.isolate(name, c.names, true) // no connection breaks, as when a host dies
		start := time.Now()
		next := c.leader(l.r)
		took = append(took, time.Since(start))
		b.StopTimer()
		c.crash(name)
		c.net.isolate(name, c.names, false)
		back := c.start(name, addr)
		started := time.Now()
		poll(b, func() bool {
			return back.State().Epoch() == next.Epoch() && time.Since(started) > 2*back.opts.HeartbeatTimeout
		})
		l = next
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "ms-p99")
	b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "ms-max")
}
