package cgroups_test

import (
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"clusterd/isolation/cgroups"
)

const unified = "/sys/fs/cgroup"

// needV2 skips where cgroup2 is not all there is.
func needV2(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 || !cgroups.Exists(unified+"/cgroup.controllers") {
		t.Skip("needs root and cgroup v2 at " + unified)
	}
}

// unit makes a cgroup as systemd does for a unit with Delegate=yes, and puts the test
// into it, or into a subgroup of it.
func unit(t *testing.T, subgroup string) string {
	t.Helper()
	needV2(t)
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(unified, "clusterd-test-"+strings.ToLower(rand.Text()[:10])+".service")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		home := filepath.Join(unified, strings.TrimSpace(strings.TrimPrefix(string(before), "0::")))
		if err := cgroups.Write(home+"/cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
			t.Error(err)
		}
		removeAll(dir)
		if cgroups.Exists(dir) {
			t.Errorf("%s is still there", dir)
		}
	})
	for _, c := range []string{"+memory", "+pids"} {
		if err := cgroups.Write(unified+"/cgroup.subtree_control", c); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if subgroup != "" {
		if err := os.Mkdir(filepath.Join(dir, subgroup), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := cgroups.Write(filepath.Join(dir, subgroup, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
		t.Fatal(err)
	}
	return dir
}

// removeAll removes cgroups from below.
func removeAll(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeAll(filepath.Join(dir, e.Name()))
		}
	}
	_ = os.Remove(dir)
}

// An agent in a unit with Delegate=yes and DelegateSubgroup=main keeps to its own part of
// the tree.
func TestDelegated(t *testing.T) {
	dir := unit(t, "main")
	// Somebody else is in the unit itself: what an older agent has left.
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	if err := cgroups.Write(dir+"/cgroup.procs", strconv.Itoa(other.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also when it starts again
		tree, err := cgroups.Open(unified, "mesos")
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Use(cgroups.Core, "memory", "pids"); err != nil {
			t.Fatal(err)
		}
		if root, err := tree.Root("memory"); err != nil || root != dir+"/mesos" {
			t.Fatalf("root: got %s, %v", root, err)
		}
		for pid, leaf := range map[int]string{os.Getpid(): "main", other.Process.Pid: "mesos/agent/leaf"} {
			procs, err := os.ReadFile(filepath.Join(dir, leaf, "cgroup.procs"))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(strings.Fields(string(procs)), strconv.Itoa(pid)) {
				t.Errorf("%s: got %q, want %d in it", leaf, procs, pid)
			}
		}
		id := newID("c1")
		if err := tree.Extend(id, "memory"); err != nil {
			t.Fatal(err)
		}
		if err := tree.Create(id); err != nil {
			t.Fatal(err)
		}
		if got, want := tree.ProcessDir(id), dir+"/mesos/c1/leaf"; got != want {
			t.Errorf("process directory: got %s, want %s", got, want)
		}
		if memory, _, _ := tree.Dir(id, "memory"); !cgroups.Exists(memory + "/memory.max") {
			t.Error("the container has no memory controller")
		}
		start(t, tree, id, "echo; sleep 1000")
		if err := tree.Destroy(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// In a unit without a subgroup containers are beside it: systemd could not start a
// process in a cgroup that was divided. So a restart works.
func TestDelegatedWithoutSubgroup(t *testing.T) {
	dir := unit(t, "")
	tree := newTree(t, cgroups.Core, "memory")
	if root, err := tree.Root("memory"); err != nil || filepath.Dir(root) != unified {
		t.Errorf("root: got %s, %v", root, err)
	}
	id := newID("c1")
	if err := tree.Create(id); err != nil {
		t.Fatal(err)
	}
	start(t, tree, id, "echo; sleep 1000")
	next := exec.Command("sleep", "1000")
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = next.Process.Kill()
		_ = next.Wait()
	}()
	if err := cgroups.Write(dir+"/cgroup.procs", strconv.Itoa(next.Process.Pid)); err != nil {
		t.Errorf("another start of the unit: got %v", err)
	}
}

// An agent below a threaded cgroup cannot have containers, and says so.
func TestThreadedAbove(t *testing.T) {
	dir := unit(t, "")
	// A threaded cgroup makes the unit a threaded domain, and new children invalid.
	if err := os.Mkdir(dir+"/main", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cgroups.Write(dir+"/main/cgroup.type", "threaded"); err != nil {
		t.Fatal(err)
	}
	if err := cgroups.Write(dir+"/main/cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		t.Fatal(err)
	}
	tree, err := cgroups.Open(unified, "mesos")
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Use(cgroups.Core); err == nil || !strings.Contains(err.Error(), "threaded") {
		t.Errorf("got %v", err)
	}
}

// A container that makes threaded cgroups of its own is killed like others.
func TestThreadedContainer(t *testing.T) {
	needV2(t)
	tree := newTree(t, cgroups.Core)
	id := newID("c1")
	if err := tree.Create(id); err != nil {
		t.Fatal(err)
	}
	start(t, tree, id, "echo; sleep 1000")
	leaf := tree.ProcessDir(id)
	if err := os.Mkdir(leaf+"/threads", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cgroups.Write(leaf+"/threads/cgroup.type", "threaded"); err != nil {
		t.Fatal(err)
	}
	inside := start(t, tree, id, "echo; sleep 1000")
	if err := cgroups.Write(leaf+"/threads/cgroup.threads", strconv.Itoa(inside.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	pids, err := tree.Processes(id)
	if err != nil || !slices.Contains(pids, inside.Process.Pid) {
		t.Errorf("processes: got %v, %v", pids, err)
	}
	if processes, threads, err := cgroups.Count(filepath.Dir(leaf)); err != nil || processes < 2 || threads < processes {
		t.Errorf("count: got %d, %d, %v", processes, threads, err)
	}
	if err := tree.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := tree.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// Controllers need the whole path, and a nested container's too.
func TestControllersOfNested(t *testing.T) {
	needV2(t)
	tree := newTree(t, cgroups.Core, "memory")
	deep := newID("a", "b", "c")
	if err := tree.Create(newID("a")); err != nil {
		t.Fatal(err)
	}
	if err := tree.Create(newID("a", "b")); err != nil {
		t.Fatal(err)
	}
	start(t, tree, newID("a"), "echo; sleep 1000")
	start(t, tree, newID("a", "b"), "echo; sleep 1000")
	if err := tree.Extend(deep, "memory"); err != nil {
		t.Fatal(err)
	}
	dir, owner, ok := tree.Dir(deep, "memory")
	if !ok || owner.GetValue() != "c" || !cgroups.Exists(dir+"/memory.max") {
		t.Errorf("dir: got %s of %v", dir, owner)
	}
	start(t, tree, deep, "echo; sleep 1000")
	if err := tree.Destroy(t.Context(), newID("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: got %v", dir, err)
	}
}
