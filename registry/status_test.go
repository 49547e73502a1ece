package registry

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestStatusIsOfOneMoment asks all members how they stand while the leadership goes from one
// to the next.
func TestStatusIsOfOneMoment(t *testing.T) {
	c := newCluster(t, 3, nil)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, r := range c.running() {
		wg.Go(func() {
			for !stop.Load() {
				s, err := r.Status()
				if err != nil {
					t.Error(err)
					return
				}
				self := s.Leader == s.Self.ID
				if (s.State == "Leader") != self && s.Leader != "" || s.AppliedIndex > s.CommitIndex || s.CommitIndex > s.LastIndex {
					t.Errorf("%s: leader is %q in term %d, applied %d, committed %d, last %d",
						s.State, s.Leader, s.Term, s.AppliedIndex, s.CommitIndex, s.LastIndex)
					return
				}
				for _, m := range s.Members {
					if m.Leads != (m.ID == s.Leader) {
						t.Errorf("%q leads, and of %s it is said: %t", s.Leader, m.ID, m.Leads)
						return
					}
				}
				if s.LeaderInfo != nil && s.Held.MasterServerID() != s.Leader {
					t.Errorf("%q leads, and %q says that it does", s.Leader, s.Held.MasterServerID())
					return
				}
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	for range 15 {
		l := c.leader()
		// One that is refused, because the others have not caught up yet, is no less of a change.
		_ = l.r.TransferLeadership(t.Context(), "")
	}
}
