package sim

import (
	"testing"
	"time"
)

// TestWallTime: the made-up times behave as those of time.Now.
func TestWallTime(t *testing.T) {
	wall := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)
	now := wallTime(wall, time.Hour)
	if got := now.UnixNano(); got != wall.UnixNano() {
		t.Fatalf("it shows %s, want %s", now.UTC(), wall)
	}
	// The host's clock is set back by an hour; a minute has passed.
	later := wallTime(wall.Add(-time.Hour), time.Hour+time.Minute)
	if d := later.Sub(now); d != time.Minute {
		t.Errorf("%s have passed, want a minute", d)
	}
	if !later.After(now) || later.UnixNano() >= now.UnixNano() {
		t.Errorf("later %s, now %s: the order is not that of the monotonic clock", later, now)
	}
	if d := now.Add(time.Second).Sub(later); d != time.Second-time.Minute {
		t.Errorf("a timer of a second is due in %s, want %s", d, time.Second-time.Minute)
	}
	// What was written down has the wall clock only.
	if d := time.Unix(0, now.UnixNano()).Sub(later); d != time.Hour {
		t.Errorf("the kept time is %s ahead, want an hour", d)
	}
}
