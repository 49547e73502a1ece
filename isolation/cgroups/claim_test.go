package cgroups_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterd/isolation/cgroups"
)

// again opens the root of a tree a second time, as another agent does.
func again(t *testing.T, tree *cgroups.Tree) (*cgroups.Tree, string) {
	t.Helper()
	dir, err := tree.Root(cgroups.Core)
	if err != nil {
		t.Fatal(err)
	}
	other, err := cgroups.Open("/sys/fs/cgroup", filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	return other, dir
}

// claim claims a root for an owner, or skips where owners cannot be written down.
func claim(t *testing.T, tree *cgroups.Tree, owner string) {
	t.Helper()
	err := tree.Claim(owner)
	if errors.Is(err, cgroups.ErrUnmarked) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func unlock(t *testing.T, tree *cgroups.Tree) {
	t.Helper()
	if err := tree.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestClaim: containers are their agent's also while that is down.
func TestClaim(t *testing.T) {
	first := newTree(t, cgroups.Core)
	claim(t, first, "/a")
	id := newID("c1")
	if err := first.Create(id); err != nil {
		t.Fatal(err)
	}
	second, _ := again(t, first)
	if err := second.Claim("/b"); !errors.Is(err, cgroups.ErrInUse) {
		t.Errorf("while the first runs: got %v, want %v", err, cgroups.ErrInUse)
	}
	unlock(t, first)
	if err := second.Claim("/b"); !errors.Is(err, cgroups.ErrInUse) || !strings.Contains(err.Error(), "/a") {
		t.Errorf("while the first is down: got %v, want %v, and whose it is", err, cgroups.ErrInUse)
	}
	back, _ := again(t, first)
	claim(t, back, "/a")
	if ids, err := back.Containers(); err != nil || len(ids) != 1 {
		t.Errorf("back again: got %v, %v, want one container", ids, err)
	}
	if err := back.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	unlock(t, back)
	claim(t, second, "/b") // nothing of the first one is left
	unlock(t, second)
}

// TestClaimIsTakenOver: what was claimed is the launcher's to close.
func TestClaimIsTakenOver(t *testing.T) {
	first := newTree(t, cgroups.Core)
	claim(t, first, "/a")
	lock, err := first.Lock()
	if err != nil {
		t.Fatal(err)
	}
	unlock(t, first) // has nothing any more
	second, _ := again(t, first)
	if err := second.Claim("/b"); !errors.Is(err, cgroups.ErrInUse) {
		t.Errorf("a second agent: got %v, want %v", err, cgroups.ErrInUse)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	claim(t, second, "/b")
	unlock(t, second)
}

// TestFleeting: a root that an agent made for itself goes with it, but not while containers
// are in it.
func TestFleeting(t *testing.T) {
	tree := newTree(t, cgroups.Core)
	claim(t, tree, "/a")
	tree.Fleeting()
	id := newID("c1")
	if err := tree.Create(id); err != nil {
		t.Fatal(err)
	}
	unlock(t, tree)
	next, dir := again(t, tree)
	if !next.There() {
		t.Fatal("the root has gone with a container in it")
	}
	claim(t, next, "/a")
	next.Fleeting()
	if err := next.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	unlock(t, next)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty root: got %v, want it gone", err)
	}
	if after, err := cgroups.Open("/sys/fs/cgroup", filepath.Base(dir)); err != nil || after.There() {
		t.Errorf("after all: %v, or the root is said to be there", err)
	}
}

// TestProbe: it says what there is, and leaves nothing behind.
func TestProbe(t *testing.T) {
	newTree(t, cgroups.Core) // skips where there are none
	if err := cgroups.Probe("/sys/fs/cgroup"); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	for _, pattern := range [...]string{"/sys/fs/cgroup/clusterd-probe-*", "/sys/fs/cgroup/*/clusterd-probe-*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}
