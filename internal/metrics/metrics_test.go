package metrics

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func asMap(samples []Sample) map[string]float64 {
	m := make(map[string]float64, len(samples))
	for _, s := range samples {
		m[s.Name] = s.Value
	}
	return m
}

func TestSnapshot(t *testing.T) {
	r := NewRegistry()
	r.Counter("master/b").Add(2)
	r.Counter("master/b").Inc()
	r.Gauge("master/a").Set(1.5)
	r.Gauge("master/a").Add(-0.5)
	r.GaugeFunc("master/c", func() float64 { return 7 })
	r.GaugeFunc("master/c", func() float64 { return 8 }) // replaces
	r.Collect("frameworks", func(emit func(Sample)) {
		emit(Sample{Name: "master/frameworks/x/1/subscribed", Value: 1})
		emit(Sample{Name: "master/frameworks/y/2/subscribed", Value: 0})
	})
	r.GaugeFunc("master/nan", math.NaN)
	r.GaugeFunc("master/inf", func() float64 { return math.Inf(1) })
	r.Counter("master/gone").Inc()
	r.Remove("master/gone")
	got := r.Snapshot(0)
	want := []Sample{
		{"master/a", 1, KindGauge},
		{"master/b", 3, KindCounter},
		{"master/c", 8, KindGauge},
		{"master/frameworks/x/1/subscribed", 1, KindGauge},
		{"master/frameworks/y/2/subscribed", 0, KindGauge},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("snapshot (-want +got):\n%s", d)
	}
}

func TestSnapshotTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		release := make(chan struct{})
		var calls atomic.Int32
		r.GaugeFunc("slow", func() float64 {
			calls.Add(1)
			<-release
			return 1
		})
		r.GaugeFunc("late", func() float64 {
			time.Sleep(time.Second)
			return 2
		})
		r.Counter("fast").Inc()
		begin := time.Now()
		for range 3 {
			got := asMap(r.Snapshot(5 * time.Second))
			if d := cmp.Diff(map[string]float64{"fast": 1, "late": 2}, got); d != "" {
				t.Errorf("snapshot (-want +got):\n%s", d)
			}
		}
		// The one that hangs delays the first request only, and is not called again.
		if took := time.Since(begin); took != 7*time.Second {
			t.Errorf("three snapshots took %v, want 5s + 1s + 1s", took)
		}
		if calls.Load() != 1 {
			t.Errorf("the hanging function was called %d times", calls.Load())
		}
		close(release)
		synctest.Wait()
		if got := asMap(r.Snapshot(5 * time.Second)); got["slow"] != 1 {
			t.Errorf("after it recovered: %v", got)
		}
	})
}

func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		timer := r.Timer("registrar/state_store", time.Hour)
		if got := r.Snapshot(0); len(got) != 0 {
			t.Errorf("an unused timer shows %v", got)
		}
		stop := timer.Start()
		time.Sleep(10 * time.Millisecond)
		stop()
		if d := cmp.Diff(map[string]float64{"registrar/state_store_ms": 10}, asMap(r.Snapshot(0))); d != "" {
			t.Errorf("after one (-want +got):\n%s", d)
		}
		for i := 1; i <= 4; i++ {
			timer.Observe(time.Duration(i) * 10 * time.Millisecond)
		}
		got := asMap(r.Snapshot(0))
		want := map[string]float64{
			"": 40, "/count": 5, "/min": 10, "/max": 40, "/p50": 20, "/p90": 36, "/p95": 38, "/p99": 39.6, "/p999": 39.96, "/p9999": 39.996,
		}
		for suffix, w := range want {
			if g := got["registrar/state_store_ms"+suffix]; math.Abs(g-w) > 1e-9 {
				t.Errorf("%q is %v, want %v", suffix, g, w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("snapshot is %v", got)
		}
		// Behind the window the latest value stays, the statistics go.
		time.Sleep(2 * time.Hour)
		if d := cmp.Diff(map[string]float64{"registrar/state_store_ms": 40}, asMap(r.Snapshot(0))); d != "" {
			t.Errorf("behind the window (-want +got):\n%s", d)
		}
		// No more is kept than the ring holds; the latest stay.
		for range 3 * timerCapacity {
			timer.Observe(time.Second)
		}
		got = asMap(r.Snapshot(0))
		if got["registrar/state_store_ms/count"] != timerCapacity || got["registrar/state_store_ms/min"] != 1000 {
			t.Errorf("full: %v", got)
		}
	})
}

func TestTimerWithoutWindow(t *testing.T) {
	r := NewRegistry()
	r.Timer("fetch", 0).Observe(time.Second)
	r.Timer("fetch", 0).Observe(2 * time.Second)
	if d := cmp.Diff(map[string]float64{"fetch_ms": 2000}, asMap(r.Snapshot(0))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestConcurrent(t *testing.T) {
	r := NewRegistry()
	r.CollectSystem()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				r.Counter("c").Inc()
				r.Gauge("g").Add(0.5)
				r.Timer("t", time.Hour).Observe(time.Millisecond)
			}
			r.Snapshot(0)
		})
	}
	wg.Wait()
	got := asMap(r.Snapshot(0))
	if got["c"] != 4000 || got["g"] != 2000 || got["t_ms/count"] != timerCapacity {
		t.Errorf("c %v, g %v, t %v", got["c"], got["g"], got["t_ms/count"])
	}
}

func TestAppendJSON(t *testing.T) {
	got := string(AppendJSON(nil, []Sample{{"a", 1, 0}, {"b", 0.001, 0}, {"c", 25276510208, 0}, {"d", 1e-7, 0}, {"e", 1e22, 0}, {"f", -0.5, 0}}))
	if want := `{"a":1.0,"b":0.001,"c":25276510208.0,"d":1e-07,"e":1e+22,"f":-0.5}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	odd := "master/frameworks/a\"b\\c\n\x01\xffä/1/x"
	var m map[string]float64
	if err := json.Unmarshal(AppendJSON(nil, []Sample{{odd, 2, 0}}), &m); err != nil {
		t.Fatal(err)
	}
	if m[strings.ToValidUTF8(odd, "\uFFFD")] != 2 {
		t.Errorf("read back %v", m)
	}
	if got := string(AppendJSON(nil, nil)); got != "{}" {
		t.Errorf("empty snapshot is %s", got)
	}
}

func TestReadSystem(t *testing.T) {
	root := t.TempDir() + "/"
	for name, content := range map[string]string{
		"proc/loadavg":                   "0.50 1.25 2.00 1/234 5678\n",
		"proc/meminfo":                   "MemTotal:       24684092 kB\nMemFree:        12602336 kB\nMemAvailable:   1 kB\n",
		"sys/devices/system/cpu/online":  "0-2,5,7-8\n",
		"sys/devices/system/cpu/present": "0-15\n",
	} {
		if err := os.MkdirAll(filepath.Dir(root+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readSystem(root)
	want := System{Load1: 0.5, Load5: 1.25, Load15: 2, CPUs: 6, MemTotalBytes: 24684092 << 10, MemFreeBytes: 12602336 << 10}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if err := os.WriteFile(root+"proc/meminfo", []byte("MemTotal: lots\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := readSystem(root); err == nil {
		t.Errorf("bad meminfo gives %+v", s)
	}
	// And the machine the test runs on.
	if s, err := ReadSystem(); err != nil || s.CPUs < 1 || s.MemTotalBytes < s.MemFreeBytes {
		t.Errorf("this machine: %+v, %v", s, err)
	}
}

func BenchmarkCounter(b *testing.B) {
	c := NewRegistry().Counter("c")
	for b.Loop() {
		c.Inc()
	}
}
