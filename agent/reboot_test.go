package agent

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"clusterd/agent/checkpoint"
)

// TestRebootIsNotForgotten starts an agent with another configuration after a
// reboot, and breaks its disk before it has forgotten what it was: the next start
// must still know that the machine booted, instead of refusing the configuration.
func TestRebootIsNotForgotten(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	eventually(t, "the agent has its id", func() bool {
		v, err := a.View(t.Context())
		return err == nil && v.Phase == "RUNNING"
	})
	h.stop(a)
	boot := filepath.Join(h.work, "meta", "boot_id")
	if err := os.WriteFile(boot, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	smaller := func(o *Options) { o.Resources = "cpus:1;mem:10" }

	o := h.options()
	smaller(&o)
	full := errors.New("no space left on device")
	var failing atomic.Pointer[error]
	failing.Store(&full)
	o.wrapStore = func(s checkpoint.Store) checkpoint.Store { return fillable{s, &failing} }
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); !errors.Is(err, full) {
		t.Errorf("got %v, want the disk's error", err)
	}
	h.stop(a)
	if kept, err := os.ReadFile(boot); err != nil || string(kept) != "before" {
		t.Errorf("the boot is %q, %v: the next start takes it for an old one", kept, err)
	}

	a = h.start(smaller)
	defer h.leave(a)
	if reg := m.waitRegistered(2); reg.GetAgentInfo().GetId() != nil {
		t.Errorf("came back as %v, want a new agent", reg.GetAgentInfo().GetId())
	}
	if kept, err := os.ReadFile(boot); err != nil || string(kept) == "before" {
		t.Errorf("the boot is %q, %v", kept, err)
	}
}
