package registry

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"clusterd/registry/state"
)

// TestFullDiskOfOneOfThree fills the leader's disk, then a follower's: the others
// go on, nothing is lost, and with space again the member catches up.
func TestFullDiskOfOneOfThree(t *testing.T) {
	var mu sync.Mutex
	disks := map[string]*disk{}
	c := newCluster(t, 3, func(o *Options) {
		name := o.ServerID
		o.wrapLog = func(l raft.LogStore) raft.LogStore {
			mu.Lock()
			defer mu.Unlock()
			disks[name] = &disk{LogStore: l}
			return disks[name]
		}
	})
	l := c.leader()
	applyT(t, l, state.AdmitAgent(agentInfo("a")))
	full := string(l.r.id)
	disks[full].fail.Store(true)
	if err := l.Apply(t.Context(), state.AdmitAgent(agentInfo("open"))); !errors.Is(err, ErrLeadershipLost) {
		t.Errorf("got %v, want ErrLeadershipLost", err)
	}
	<-l.Context().Done()
	next := c.leader(l.r)
	for i := range 20 {
		applyT(t, next, state.AdmitAgent(agentInfo(fmt.Sprint("b", i))))
	}
	if got := c.get(full).State(); got.Agent("b0") != nil {
		t.Error("a member with a full disk has applied what it could not write")
	}
	disks[full].fail.Store(false)
	poll(t, func() bool { return c.get(full).State().Agent("b19") != nil })
	if next.r.State().Agent("a") == nil {
		t.Error("an agent is lost")
	}
}

// failingStable is a disk that is full when a term or a vote is to be written.
type failingStable struct{ raft.StableStore }

func (failingStable) Set(_, _ []byte) error { return errors.New("no space left on device") }

func TestUnwrittenVoteIsTold(t *testing.T) {
	log := new(syncBuffer)
	s := &checkedStable{failingStable{raft.NewInmemStore()}, zerolog.New(log)}
	if err := s.SetUint64(keyCurrentTerm, 2); err == nil {
		t.Error("nothing was written, and nobody minds")
	}
	for _, want := range []string{"CurrentTerm", "no space left", "this master stops"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, log)
		}
	}
}
