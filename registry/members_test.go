package registry

import (
	"errors"
	"testing"

	"clusterd/registry/state"
)

// A leader that removes itself leads no more, goes on as a stranger, and may come
// back without a restart.
func TestLeaderRemovesItself(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	self := l.r.Self()
	if err := l.r.RemoveMember(t.Context(), self.ID); err != nil {
		t.Fatal(err)
	}
	<-l.Context().Done()
	next := c.leader(l.r)
	if got := len(mustMembers(t, next.r)); got != 2 || l.r.Err() != nil {
		t.Errorf("%d members; the removed one is done: %v", got, l.r.Err())
	}
	applyT(t, next, state.AdmitAgent(agentInfo("a2")))
	if l.r.State().Agent("a2") != nil {
		t.Error("the removed one still follows")
	}
	if err := l.r.AddMember(t.Context(), self); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a stranger adds itself: got %v", err)
	}
	if err := next.r.AddMember(t.Context(), self); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool { return l.r.State().Agent("a2") != nil })
	if err := next.r.RemoveMember(t.Context(), "nobody"); !errors.Is(err, ErrNoMember) {
		t.Errorf("remove nobody: got %v", err)
	}
}

func mustMembers(t *testing.T, r *Registry) []Member {
	t.Helper()
	m, err := r.Members()
	if err != nil {
		t.Fatal(err)
	}
	return m
}
