package server

import (
	"testing"
	"time"
)

func TestPeak(t *testing.T) {
	var p peak
	begin := time.Unix(6000, 0) // of a minute
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	p.note(at(1), 5*time.Millisecond)
	p.note(at(2), 9*time.Millisecond)
	p.note(at(3), 2*time.Millisecond)
	for _, tt := range []struct {
		name   string
		second int
		want   time.Duration
	}{
		{"same minute", 59, 9 * time.Millisecond},
		{"next minute", 61, 9 * time.Millisecond},
		{"end of the next minute", 119, 9 * time.Millisecond},
		{"minute after", 120, 0},
	} {
		if got := p.longest(at(tt.second)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	p.note(at(130), 3*time.Millisecond)
	p.note(at(181), time.Millisecond)
	if got := p.longest(at(182)); got != 3*time.Millisecond {
		t.Errorf("of two minutes: got %s, want 3ms", got)
	}
	if got := p.longest(at(400)); got != 0 {
		t.Errorf("after long silence: got %s, want 0", got)
	}
}

// TestPausesShow finds the core's pauses among what Prometheus reads of a master that
// leads.
func TestPausesShow(t *testing.T) {
	s := startMaster(t)
	subscribe(t, s, goldenInfo())
	shown := map[string]float64{}
	eventually(t, "pauses", func() bool {
		families, err := s.metrics.Gatherer().Gather()
		if err != nil {
			t.Fatal(err)
		}
		clear(shown)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				shown[f.GetName()] += float64(m.GetHistogram().GetSampleCount()) + m.GetGauge().GetValue()
			}
		}
		for _, name := range []string{
			"clusterd_master_core_wait_seconds", "clusterd_master_core_handle_seconds", "clusterd_master_core_longest_handle_seconds",
			"clusterd_master_core_view_seconds", "clusterd_master_core_longest_view_seconds",
		} {
			if shown[name] <= 0 {
				return false
			}
		}
		return true
	})
	if _, ok := shown["clusterd_master_core_longest_wait_seconds"]; !ok {
		t.Error("no clusterd_master_core_longest_wait_seconds")
	}
}
