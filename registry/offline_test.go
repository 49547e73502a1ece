package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterd/registry/state"
)

func inspectT(t *testing.T, dir string) *Inspection {
	t.Helper()
	in, err := InspectDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	return in
}

func TestInspectDir(t *testing.T) {
	t.Parallel() // it waits more than it works
	dir := t.TempDir()
	opts := single(dir)
	opts.ServerID = "m1"
	r := openT(t, opts)
	l := leadT(t, r)
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	if err := r.Snapshot(); err != nil {
		t.Fatal(err)
	}
	applyT(t, l, state.AdmitAgent(agentInfo("a2")), state.AdmitFramework(frameworkInfo("f1")))
	if _, err := InspectDir(dir); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("while a master runs: got %v", err)
	}
	want, self := r.State(), r.Self()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	in := inspectT(t, dir)
	if in.ServerID != "m1" || in.CurrentTerm != 2 || in.VotedFor == "" || in.LastIndex < 5 || len(in.Snapshots) != 1 {
		t.Errorf("got %+v", in)
	}
	if len(in.Members) != 1 || in.Members[0].ID != self.ID || !in.Members[0].Voter {
		t.Errorf("got members %v", in.Members)
	}
	if in.State.ClusterID() != want.ClusterID() || in.State.AgentCount() != 2 || in.State.Framework("f1") == nil {
		t.Errorf("got %d agents of cluster %s", in.State.AgentCount(), in.State.ClusterID())
	}
	var types []string
	for e, err := range in.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		what := e.Type
		for _, c := range e.Entry.GetCommands() {
			what += " " + c.GetKind().String()
		}
		types = append(types, what)
	}
	got := strings.Join(types, ", ")
	if !strings.HasPrefix(got, "configuration, noop, barrier, command ELECT_MASTER, command ADMIT_AGENT") ||
		!strings.HasSuffix(got, "command ADMIT_AGENT ADMIT_FRAMEWORK") {
		t.Errorf("got entries %s", got)
	}
	if _, err := InspectDir(t.TempDir()); !errors.Is(err, ErrNoRegistry) {
		t.Errorf("an empty directory: got %v", err)
	}
}

func TestRestoreDir(t *testing.T) {
	t.Parallel() // it waits more than it works
	r := openT(t, single(t.TempDir()))
	l := leadT(t, r)
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	saved := saveT(t, r)
	dir := filepath.Join(t.TempDir(), "raft")
	if err := RestoreDir(dir, "m7", bytes.NewReader(saved[:len(saved)-3])); err == nil {
		t.Error("a cut snapshot was restored")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it left something")
	}
	if err := RestoreDir(dir, "m7", bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if err := RestoreDir(dir, "m7", bytes.NewReader(saved)); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("the second time: got %v", err)
	}
	if in, err := InspectDir(dir); err != nil || in.ServerID != "m7" || in.State.Agent("a1") == nil {
		t.Errorf("got %+v, %v", in, err)
	} else if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	// Whatever it is told to expect, it is the cluster that it was.
	opts := single(dir)
	opts.BootstrapExpect = 3
	again := openT(t, opts)
	if again.Pristine() {
		t.Error("it would found a cluster")
	}
	next := leadT(t, again)
	if s := next.State(); s.ClusterID() != l.State().ClusterID() || s.Agent("a1") == nil || s.Epoch() != l.Epoch()+1 {
		t.Errorf("got cluster %s, epoch %d", s.ClusterID(), s.Epoch())
	}
	applyT(t, next, state.AdmitAgent(agentInfo("a2")))
	poll(t, func() bool {
		m, err := again.Members()
		return err == nil && m[0].Addr == again.Self().Addr
	})
}

func TestRecoverDir(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := newCluster(t, 3, nil)
	l := c.admit("a0")
	for i := 1; i < 20; i++ {
		l = c.admit(fmt.Sprint("a", i))
	}
	survivor := string(l.r.id)
	if err := RecoverDir(c.dirs[survivor]); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("while a master runs: got %v", err)
	}
	c.closeAll()
	if err := RecoverDir(t.TempDir()); !errors.Is(err, ErrNoRegistry) {
		t.Errorf("an empty directory: got %v", err)
	}
	if err := RecoverDir(c.dirs[survivor], Member{ID: "another", Addr: "127.0.0.1:1", Voter: true}); err == nil {
		t.Error("it was recovered for others")
	}
	if err := RecoverDir(c.dirs[survivor]); err != nil {
		t.Fatal(err)
	}
	in := inspectT(t, c.dirs[survivor])
	if len(in.Members) != 1 || in.Members[0].ID != survivor || in.State.AgentCount() != 20 {
		t.Errorf("got members %v, %d agents", in.Members, in.State.AgentCount())
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	next := leadT(t, c.start(survivor, ""))
	if s := next.State(); s.AgentCount() != 20 || s.ClusterID() != l.State().ClusterID() || s.Epoch() <= l.Epoch() {
		t.Errorf("got %d agents, epoch %d", s.AgentCount(), s.Epoch())
	}
	// A new master joins what was recovered.
	c.names = append(c.names, "fresh")
	c.dirs["fresh"] = t.TempDir()
	fresh := c.start("fresh", "")
	if err := next.r.AddMember(t.Context(), fresh.Self()); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool { return fresh.State().AgentCount() == 20 })
}
