package sim

import (
	"flag"
	"slices"
	"sync"
	"testing"
)

// onlyBreak narrows TestSimNotices down.
var onlyBreak = flag.Int("break", -1, "make this mistake only")

// TestSimNotices makes one model wrong at a time and wants it to be noticed.
func TestSimNotices(t *testing.T) {
	tests := []struct {
		name  string
		wrong Break
		from  uint64      // a seed that is known to show it soon
		by    []Invariant // any of them
	}{
		{"agent acts before its checkpoint is written", BreakAckFirst, 9, []Invariant{EndToldOnce, InOrder, ReportsHeard, LastStateHeard, ReservationsKept, CoreGoesOn, NoneForgotten, StartedOnce}},
		{"log acknowledged before it is written", BreakLogSync, 2, []Invariant{LogAgrees, FrameworkKept, SettingsKept, EndedStays, RegistryTakes}},
		{"deposed master acts", BreakDeposedActs, 2, []Invariant{OneLeader}},
		{"member votes before the lease is over", BreakVotesEarly, 16, []Invariant{OneLeader}},
		{"new leader forgets frameworks", BreakForgetFrameworks, 1, []Invariant{RegistryTakes, FrameworkKept, EndedStays, NothingLeaks, LastStateHeard}},
		{"new leader forgets quotas", BreakForgetQuotas, 1, []Invariant{SettingsKept}},
		{"new leader forgets who is gone", BreakForgetGone, 1, []Invariant{SettingsKept, RegistryTakes, GoneStays, OneStanding}},
		{"agent forgets a task", BreakForgetTasks, 1, []Invariant{NothingLeaks, NoneForgotten, LastStateHeard, OnceAllocated, ReportsHeard, NoPanic}},
		{"executor starts a task twice", BreakStartTwice, 1, []Invariant{StartedOnce}},
		{"allocator loses resources", BreakLeak, 5, []Invariant{NothingLeaks, OnceAllocated, NoPanic}},
		{"who watches misses events", BreakForgetEvents, 1, []Invariant{EventsTell}},
		{"allocator forgets what is in use", BreakDoubleOffer, 1, []Invariant{OnceAllocated, NoPanic}},
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for _, tt := range tests {
		if *onlyBreak >= 0 && tt.wrong != Break(*onlyBreak) {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for seed := tt.from; seed < tt.from+noticeSeeds; seed++ {
				cfg := NewConfig(seed)
				cfg.Break = tt.wrong
				v := Run(cfg).Violation
				if v == nil {
					continue
				}
				if !slices.Contains(tt.by, v.Invariant) {
					t.Errorf("%s: noticed by %q: %v", tt.name, v.Invariant, v)
					return
				}
				t.Logf("%s: seed %d: %s: %.200s", tt.name, seed, v.Invariant, v.Text)
				return
			}
			t.Errorf("%s: not noticed with %d seeds", tt.name, noticeSeeds)
		})
	}
	wg.Wait()
}

// noticeSeeds is how many seeds a mistake may hide in.
const noticeSeeds = 60
