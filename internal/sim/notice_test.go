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
		by    []Invariant // any of them
	}{
		{"agent acts before its checkpoint is written", BreakAckFirst, []Invariant{EndToldOnce, ReportsHeard, LastStateHeard, ReservationsKept, CoreGoesOn, NoneForgotten, StartedOnce}},
		{"log acknowledged before it is written", BreakLogSync, []Invariant{LogAgrees, FrameworkKept, SettingsKept, EndedStays, RegistryTakes}},
		{"deposed master acts", BreakDeposedActs, []Invariant{OneLeader}},
		{"member votes before the lease is over", BreakVotesEarly, []Invariant{OneLeader}},
		{"new leader forgets frameworks", BreakForgetFrameworks, []Invariant{RegistryTakes, FrameworkKept, EndedStays, NothingLeaks, LastStateHeard}},
		{"new leader forgets quotas", BreakForgetQuotas, []Invariant{SettingsKept}},
		{"new leader forgets who is gone", BreakForgetGone, []Invariant{SettingsKept, RegistryTakes, GoneStays, OneStanding}},
		{"agent forgets a task", BreakForgetTasks, []Invariant{NothingLeaks, NoneForgotten, LastStateHeard, OnceAllocated, ReportsHeard, NoPanic}},
		{"executor starts a task twice", BreakStartTwice, []Invariant{StartedOnce}},
		{"allocator loses resources", BreakLeak, []Invariant{NothingLeaks, OnceAllocated, NoPanic}},
		{"allocator forgets what is in use", BreakDoubleOffer, []Invariant{OnceAllocated, NoPanic}},
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
			for seed := uint64(1); seed <= noticeSeeds; seed++ {
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
