package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"clusterd/registry/state"
)

func saveT(t *testing.T, r *Registry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Save(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRestore restores a snapshot on a live cluster under a load of writes.
func TestRestore(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	id := l.State().ClusterID()
	applyT(t, l, state.AdmitAgent(agentInfo("kept")))
	applyT(t, l, state.AdmitAgent(agentInfo("removed later")))
	saved := saveT(t, l.r)
	applyT(t, l, state.RemoveAgent("removed later"))
	applyT(t, l, state.AdmitAgent(agentInfo("admitted later")))

	// What the ended leadership sees is never what was restored.
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; l.Context().Err() == nil; i++ {
				err := l.Apply(context.Background(), state.AdmitAgent(agentInfo(fmt.Sprint("w", w, "-", i))))
				if err != nil && l.Context().Err() == nil && !errors.Is(err, ErrNotLeader) {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	var seen atomic.Bool
	wg.Go(func() {
		for l.Context().Err() == nil {
			if s := l.r.State(); s.Agent("removed later") != nil && l.Context().Err() == nil {
				seen.Store(true)
			}
		}
	})
	if err := l.r.Restore(t.Context(), bytes.NewReader(saved), false); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if seen.Load() {
		t.Error("the restored state was there while the old leadership went on")
	}
	if !errors.Is(context.Cause(l.Context()), ErrRestored) {
		t.Errorf("the leadership ended by %v", context.Cause(l.Context()))
	}
	next := leadT(t, l.r)
	s := next.State()
	if next.Epoch() <= l.Epoch() || s.ClusterID() != id || s.MasterServerID() != string(l.r.id) {
		t.Errorf("epoch %d after %d, cluster %s, master %s", next.Epoch(), l.Epoch(), s.ClusterID(), s.MasterServerID())
	}
	if s.AgentCount() != 2 || s.Agent("removed later") == nil || s.Agent("admitted later") != nil {
		t.Errorf("%d agents", s.AgentCount())
	}
	applyT(t, next, state.AdmitAgent(agentInfo("after")))
	for _, r := range c.running() {
		poll(t, func() bool { return r.State().Agent("after") != nil && r.State().AgentCount() == 3 })
	}
	// It outlives a restart of all.
	addrs := map[string]string{}
	for _, name := range c.names {
		addrs[name] = c.get(name).Self().Addr
		c.crash(name)
	}
	for _, name := range c.names {
		c.start(name, addrs[name])
	}
	if s := c.leader().State(); s.AgentCount() != 3 || s.Agent("after") == nil {
		t.Errorf("after a restart: %d agents", s.AgentCount())
	}
}

func TestRestoreIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := openT(t, single(dir))
	l := leadT(t, r)
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	saved := saveT(t, r)
	other := openT(t, single(t.TempDir()))
	applyT(t, leadT(t, other), state.AdmitAgent(agentInfo("b1")))
	foreign := saveT(t, other)
	for name, row := range map[string]struct {
		b    []byte
		want string
	}{
		"cut":           {saved[:len(saved)-1], "unexpected EOF"},
		"empty":         {nil, "ends before its trailer"},
		"garbage":       {[]byte("hello"), "corrupt"},
		"longer":        {append(bytes.Clone(saved), 'x'), "goes on after its trailer"},
		"other cluster": {foreign, ErrOtherCluster.Error()},
	} {
		err := r.Restore(t.Context(), bytes.NewReader(row.b), false)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
	if l.Context().Err() != nil || r.State().Agent("a1") == nil {
		t.Error("a restore that was refused had an effect")
	}
	if err := r.Restore(t.Context(), bytes.NewReader(foreign), true); err != nil {
		t.Fatal(err)
	}
	next := leadT(t, r)
	if s := next.State(); s.ClusterID() != leadT(t, other).State().ClusterID() || s.Agent("b1") == nil || s.Agent("a1") != nil {
		t.Errorf("got cluster %s", s.ClusterID())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if s := leadT(t, openT(t, single(dir))).State(); s.Agent("b1") == nil || s.AgentCount() != 1 {
		t.Errorf("after a restart: %d agents", s.AgentCount())
	}
	if err := r.Restore(t.Context(), bytes.NewReader(saved), false); !errors.Is(err, ErrNotLeader) {
		t.Errorf("on a closed registry: got %v", err)
	}
}

// With another cluster's id the members still know each other.
func TestForeignRestoreOnThree(t *testing.T) {
	other := openT(t, single(t.TempDir()))
	applyT(t, leadT(t, other), state.AdmitAgent(agentInfo("b1")))
	foreign := saveT(t, other)
	c := newCluster(t, 3, nil)
	l := c.leader()
	asleep := c.names[0]
	if string(l.r.id) == asleep {
		asleep = c.names[1]
	}
	addr := c.get(asleep).Self().Addr
	c.crash(asleep)
	if err := l.r.Restore(t.Context(), bytes.NewReader(foreign), true); err != nil {
		t.Fatal(err)
	}
	c.start(asleep, addr)
	for _, r := range c.running() {
		poll(t, func() bool {
			return r.State().Agent("b1") != nil && r.State().ClusterID() == other.State().ClusterID()
		})
	}
	c.crash(string(c.leader().r.id)) // whoever is next
	c.admit("b2")
}
