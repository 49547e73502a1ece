package metrics

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSnapshotShares has many ask while a slow function is at work: they share its
// next call, and none gets what was read before it asked.
func TestSnapshotShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		var calls, truth atomic.Int64
		r.GaugeFunc("slow", func() float64 {
			calls.Add(1)
			v := truth.Load()
			time.Sleep(time.Second)
			return float64(v)
		})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond) // all during the first call
				asked := truth.Add(1)
				if got := asMap(r.Snapshot(0))["slow"]; got < float64(asked) {
					t.Errorf("asked when the value was %d, got %v", asked, got)
				}
			})
		}
		wg.Wait()
		if n := calls.Load(); n != 2 {
			t.Errorf("50 who ask at once cause %d calls, want 2", n)
		}
	})
}

// TestSnapshotImmediately leaves out what must be asked for.
func TestSnapshotImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		r.GaugeFunc("slow", func() float64 {
			time.Sleep(time.Second)
			return 1
		})
		r.Counter("fast").Inc()
		begin := time.Now()
		if got := asMap(r.Snapshot(Immediately)); len(got) != 1 || got["fast"] != 1 {
			t.Errorf("got %v", got)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %v", took)
		}
		time.Sleep(2 * time.Second)
	})
}
