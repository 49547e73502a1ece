package setup

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/cgroups"
)

// host is a machine of which agents share the usual root of cgroups.
type host struct {
	t    *testing.T
	root string
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes cgroups")
	}
	if err := cgroups.Probe(DefaultCgroupsHierarchy); err != nil {
		t.Skip(err)
	}
	h := &host{t: t, root: "clusterd-test-" + strings.ToLower(rand.Text()[:10])}
	t.Cleanup(h.clear)
	return h
}

func (h *host) roots() []string {
	var all []string
	for _, dir := range [...]string{DefaultCgroupsHierarchy, DefaultCgroupsHierarchy + "/*"} {
		found, err := filepath.Glob(filepath.Join(dir, h.root+"*"))
		if err != nil {
			h.t.Error(err)
		}
		all = append(all, found...)
	}
	return all
}

func (h *host) clear() {
	for _, dir := range h.roots() {
		for _, below := range [...]string{"c1/leaf", "c1", ""} {
			if err := os.Remove(filepath.Join(dir, below)); err != nil && !errors.Is(err, os.ErrNotExist) {
				h.t.Error(err)
			}
		}
	}
}

// agent claims cgroups as an agent with that work directory does.
func (h *host) agent(workDir, root string) (*cgroups.Tree, error) {
	o := Options{Launcher: "linux", WorkDir: workDir, CgroupsRoot: root, usualRoot: h.root}
	if err := o.openTree(zerolog.New(zerolog.NewTestWriter(h.t))); err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { _ = o.Tree.Unlock() })
	return o.Tree, nil
}

func (h *host) start(workDir string) (tree *cgroups.Tree, name string) {
	h.t.Helper()
	tree, err := h.agent(workDir, "")
	if err != nil {
		h.t.Fatal(err)
	}
	dir, err := tree.Root(cgroups.Core)
	if err != nil {
		h.t.Fatal(err)
	}
	return tree, filepath.Base(dir)
}

// TestAgentsOfOneHost: agents that say nothing of cgroups keep out of each other's, whatever
// the order in which they stop and come back.
func TestAgentsOfOneHost(t *testing.T) {
	h := newHost(t)
	first, usual := h.start("/a")
	if usual != h.root {
		t.Skipf("the kernel does not remember owners of cgroups: the first agent has %s", usual)
	}
	id := &mesos.ContainerID{Value: new("c1")}
	if err := first.Create(id); err != nil {
		t.Fatal(err)
	}
	second, own := h.start("/b")
	if own == usual || !strings.HasPrefix(own, usual+"-") {
		t.Errorf("the second agent: got %s, want a root of its own", own)
	}
	if third, other := h.start("/c"); other == own || other == usual {
		t.Errorf("the third agent: got %s, want a root of its own", other)
	} else if err := third.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.Unlock(), second.Unlock()); err != nil {
		t.Fatal(err)
	}
	// The first one is down, its container is not.
	second, name := h.start("/b")
	if ids, err := second.Containers(); name != own || err != nil || len(ids) != 0 {
		t.Errorf("the second agent comes back before the first: got %s with %v, %v, want %s without containers", name, ids, err, own)
	}
	first, name = h.start("/a")
	if ids, err := first.Containers(); name != usual || err != nil || len(ids) != 1 {
		t.Errorf("the first agent comes back: got %s with %v, %v, want %s with its container", name, ids, err, usual)
	}
	if err := first.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// TestKeepsItsRoot: an agent with containers in a root of its own comes back to it, also when
// the usual one is free by then.
func TestKeepsItsRoot(t *testing.T) {
	h := newHost(t)
	first, _ := h.start("/a")
	second, own := h.start("/b")
	id := &mesos.ContainerID{Value: new("c1")}
	if err := second.Create(id); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.Unlock(), second.Unlock()); err != nil {
		t.Fatal(err)
	}
	again, name := h.start("/b")
	if ids, err := again.Containers(); name != own || err != nil || len(ids) != 1 {
		t.Errorf("got %s with %v, %v, want %s with its container", name, ids, err, own)
	}
	if err := again.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range h.roots() {
		if filepath.Base(dir) == own {
			t.Errorf("%s stays without containers and without an agent", dir)
		}
	}
}

// TestRootIsGiven: who names a root gets that one or an error that says what to do.
func TestRootIsGiven(t *testing.T) {
	h := newHost(t)
	if _, err := h.agent("/a", h.root); err != nil {
		t.Fatal(err)
	}
	if _, err := h.agent("/b", h.root); !errors.Is(err, cgroups.ErrInUse) || !strings.Contains(err.Error(), "--cgroups_root") {
		t.Errorf("got %v, want %v and what to do", err, cgroups.ErrInUse)
	}
}

// TestDefaultLauncher: it is chosen by who runs the agent, what the machine has, and what
// --isolation needs.
func TestDefaultLauncher(t *testing.T) {
	if name, why := DefaultLauncher(Options{CgroupsHierarchy: "/nowhere"}); os.Geteuid() != 0 && name != "posix" {
		t.Errorf("not root: got %s (%s), want posix", name, why)
	}
	h := newHost(t)
	if name, why := DefaultLauncher(Options{Isolation: DefaultIsolation}); name != "linux" {
		t.Errorf("root with cgroups: got %s (%s), want linux", name, why)
	}
	if roots := h.roots(); len(roots) > 0 {
		t.Errorf("left behind: %v", roots)
	}
	for isolators, want := range map[string]bool{"posix/cpu": false, "posix/cpu, filesystem/linux": true, "namespaces/pid": true, "cgroups/mem": false} {
		if got := needsLinux(isolators); got != want {
			t.Errorf("%s needs the linux launcher: got %v, want %v", isolators, got, want)
		}
	}
}
