package cgroups_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/cgroups"
)

// patience is how long anything may take before a test gives up on it.
const patience = 30 * time.Second

// newTree opens a root of the test's own, which is gone after it.
func newTree(t testing.TB, subsystems ...string) *cgroups.Tree {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	root := "clusterd-test-" + strings.ToLower(rand.Text()[:10])
	tree, err := cgroups.Open("/sys/fs/cgroup", root)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		ids, err := tree.Containers()
		if err != nil {
			t.Error(err)
		}
		for _, id := range ids {
			if err := tree.Destroy(context.WithoutCancel(t.Context()), id); err != nil {
				t.Error(err)
			}
		}
		for _, s := range subsystems {
			dir, err := tree.Root(s)
			if err == nil {
				err = os.Remove(dir)
			}
			if err != nil && !os.IsNotExist(err) && !errors.Is(err, cgroups.ErrUnavailable) {
				t.Error(err)
			}
		}
	})
	if err := tree.Use(subsystems...); err != nil {
		if errors.Is(err, cgroups.ErrUnavailable) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return tree
}

func newID(values ...string) *mesos.ContainerID {
	var id *mesos.ContainerID
	for _, v := range values {
		id = &mesos.ContainerID{Value: &v, Parent: id}
	}
	return id
}

// start starts a shell, puts it into the container before it does anything, and waits
// until it has printed a line. It is reaped at once when it ends.
func start(t testing.TB, tree *cgroups.Tree, id *mesos.ContainerID, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read x; "+script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	out := bufio.NewReader(stdout)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	if err := tree.Assign(id, cmd.Process.Pid); err != nil {
		close(ended)
		t.Fatal(err)
	}
	fmt.Fprintln(stdin, "go")
	if line, err := out.ReadString('\n'); err != nil {
		t.Errorf("script: got %q, %v", line, err)
	}
	go func() {
		defer close(ended)
		_, _ = cmd.Process.Wait()
	}()
	return cmd
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("still not so: %s", what)
}

func TestLife(t *testing.T) {
	tree := newTree(t, cgroups.Core, "memory", "pids", "cpuset", "cpu", "cpuacct")
	ctx := t.Context()
	id := newID("c1")
	for _, s := range []string{"memory", "pids", "cpuset", "cpu", "cpuacct"} {
		if err := tree.Extend(id, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Create(id); err != nil {
		t.Fatal(err)
	}
	nested := newID("c1", "n1")
	if err := tree.Create(nested); err != nil {
		t.Fatal(err)
	}
	own := newID("c1", "n2")
	if err := tree.Extend(own, "memory"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Create(own); err != nil {
		t.Fatal(err)
	}
	a := start(t, tree, id, "echo; sleep 1000").Process.Pid
	b := start(t, tree, nested, "echo; sleep 1000").Process.Pid
	c := start(t, tree, own, "echo; sleep 1000").Process.Pid
	for pid, want := range map[int]struct{ memory, core string }{
		a: {"c1", "c1"}, b: {"c1", "c1/mesos/n1"}, c: {"c1/mesos/n2", "c1/mesos/n2"},
	} {
		for subsystem, rel := range map[string]string{"memory": want.memory, cgroups.Core: want.core} {
			dir, err := tree.Root(subsystem)
			if err != nil {
				t.Fatal(err)
			}
			dir = filepath.Join(dir, rel)
			if tree.Version(subsystem) == 2 {
				if subsystem == "memory" && pid == b {
					dir = filepath.Join(dir, "mesos/n1")
				}
				dir = filepath.Join(dir, "leaf")
			}
			procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(procs), strconv.Itoa(pid)+"\n") {
				t.Errorf("%s: process %d: got %q", dir, pid, procs)
			}
		}
	}
	// Another Tree, as after a restart of the agent, sees the same.
	root, err := tree.Root(cgroups.Core)
	if err != nil {
		t.Fatal(err)
	}
	again, err := cgroups.Open("/sys/fs/cgroup", filepath.Base(root))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Use(cgroups.Core, "memory"); err != nil {
		t.Fatal(err)
	}
	ids, err := again.Containers()
	if err != nil || len(ids) != 3 {
		t.Errorf("containers: got %v, %v", ids, err)
	}
	if err := again.Extend(id, "memory"); !errors.Is(err, cgroups.ErrExists) {
		t.Errorf("extend what is there: got %v", err)
	}
	if !again.Adopt(id, "memory") || again.Adopt(newID("nonesuch"), "memory") {
		t.Error("adopt: got the wrong answers")
	}
	if pids, err := again.Processes(id); err != nil || len(pids) < 3 {
		t.Errorf("processes: got %v, %v", pids, err)
	}
	if err := again.Kill(ctx, id); err != nil {
		t.Fatal(err)
	}
	if pids, err := again.Processes(id); err != nil || len(pids) != 0 {
		t.Errorf("processes after kill: got %v, %v", pids, err)
	}
	if err := tree.Destroy(ctx, id); err != nil {
		t.Fatal(err)
	}
	if ids, err := tree.Containers(); err != nil || len(ids) != 0 {
		t.Errorf("containers after destroy: got %v, %v", ids, err)
	}
	if err := tree.Destroy(ctx, id); err != nil {
		t.Errorf("destroy again: got %v", err)
	}
}

func TestKill(t *testing.T) {
	for _, c := range []struct {
		name, script string
		before       func(t *testing.T, tree *cgroups.Tree, id *mesos.ContainerID, pid int)
	}{
		{"Plain", "sleep 1000 & sleep 1000 & echo; wait", nil},
		{"IgnoresTERM", "trap '' TERM HUP INT; sleep 1000 & echo; wait; sleep 1000", nil},
		{"OwnSession", "setsid sleep 1000 & echo; sleep 1000", nil},
		{"Stopped", "echo; sleep 1000", func(t *testing.T, _ *cgroups.Tree, _ *mesos.ContainerID, pid int) {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}},
		{"Frozen", "echo; sleep 1000", func(t *testing.T, tree *cgroups.Tree, id *mesos.ContainerID, _ int) {
			dir, _, _ := tree.Dir(id, cgroups.Core)
			file, value := "freezer.state", "FROZEN"
			if tree.Version(cgroups.Core) == 2 {
				file, value = "cgroup.freeze", "1"
			}
			if err := cgroups.Write(filepath.Join(dir, file), value); err != nil {
				t.Fatal(err)
			}
		}},
		{"OwnCgroups", "echo; sleep 1000", func(t *testing.T, tree *cgroups.Tree, id *mesos.ContainerID, pid int) {
			// As a container that runs as root can do: one cgroup in another, frozen.
			dir, _, _ := tree.Dir(id, cgroups.Core)
			v2 := tree.Version(cgroups.Core) == 2
			if v2 {
				dir = filepath.Join(dir, "leaf")
			}
			dir = filepath.Join(dir, "a", "b")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := cgroups.Write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
				t.Fatal(err)
			}
			if v2 {
				return
			}
			if err := cgroups.Write(filepath.Join(dir, "freezer.state"), "FROZEN"); err != nil {
				t.Fatal(err)
			}
		}},
		{"Forks", "echo; g() { while :; do sleep 0 & wait; done; }; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do g & done; wait", func(t *testing.T, tree *cgroups.Tree, id *mesos.ContainerID, _ int) {
			eventually(t, "there are some", func() bool {
				pids, err := tree.Processes(id)
				return err == nil && len(pids) > 20
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			subsystems := []string{cgroups.Core}
			if c.name == "Forks" {
				subsystems = append(subsystems, "pids")
			}
			tree := newTree(t, subsystems...)
			id := newID("c1")
			if err := tree.Create(id); err != nil {
				t.Fatal(err)
			}
			if c.name == "Forks" { // not to hurt the machine
				if err := tree.Extend(id, "pids"); err != nil {
					t.Fatal(err)
				}
				dir, _, _ := tree.Dir(id, "pids")
				if err := cgroups.Write(filepath.Join(dir, "pids.max"), "100"); err != nil {
					t.Fatal(err)
				}
			}
			cmd := start(t, tree, id, c.script)
			if c.before != nil {
				c.before(t, tree, id, cmd.Process.Pid)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := tree.Kill(ctx, id); err != nil {
				t.Fatal(err)
			}
			if pids, err := tree.Processes(id); err != nil || len(pids) != 0 {
				t.Errorf("processes: got %v, %v", pids, err)
			}
			if err := tree.Destroy(ctx, id); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A process that is killed, and not reaped, holds nothing up.
func TestZombie(t *testing.T) {
	tree := newTree(t, cgroups.Core)
	id := newID("c1")
	if err := tree.Create(id); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	if err := tree.Assign(id, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := tree.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestNeverKillsItself(t *testing.T) {
	tree := newTree(t, cgroups.Core)
	id := newID("c1")
	if err := tree.Create(id); err != nil {
		t.Fatal(err)
	}
	if err := tree.Assign(id, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if err := tree.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestDestroyTimeout(t *testing.T) {
	tree := newTree(t, cgroups.Core)
	id := newID("c1")
	if err := tree.Create(id); err != nil {
		t.Fatal(err)
	}
	start(t, tree, id, "echo; sleep 1000")
	tree.SetDestroyTimeout(0)
	if err := tree.Kill(t.Context(), id); !errors.Is(err, cgroups.ErrNotEmpty) {
		t.Errorf("kill without time: got %v", err)
	}
	tree.SetDestroyTimeout(patience)
}

func TestBadIDs(t *testing.T) {
	tree := newTree(t, cgroups.Core)
	for _, id := range []*mesos.ContainerID{
		nil, newID(""), newID("agent"), newID("slave"), newID(".."), newID("a/b"), newID("ok", ".."), newID("a\nb"),
	} {
		if err := tree.Create(id); !errors.Is(err, cgroups.ErrInvalidID) {
			t.Errorf("create %v: got %v", id, err)
		}
	}
	if err := tree.Extend(newID("a"), "memory"); !errors.Is(err, cgroups.ErrUnavailable) {
		t.Errorf("extend with what was not asked for: got %v", err)
	}
	if err := tree.Use("nonesuch"); !errors.Is(err, cgroups.ErrUnavailable) {
		t.Errorf("use of an unknown subsystem: got %v", err)
	}
}

// BenchmarkContainer is one container's cgroups from birth to end, with the four
// directories of v1 that the usual isolators make.
func BenchmarkContainer(b *testing.B) {
	tree := newTree(b, cgroups.Core, "memory", "cpu", "cpuacct")
	n := 0
	for b.Loop() {
		n++
		id := newID("c" + strconv.Itoa(n))
		for _, s := range []string{"cpu", "cpuacct", "memory", cgroups.Core} {
			if err := tree.Extend(id, s); err != nil {
				b.Fatal(err)
			}
		}
		if err := tree.Destroy(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAssign moves one process between containers.
func BenchmarkAssign(b *testing.B) {
	tree := newTree(b, cgroups.Core, "memory", "cpu", "cpuacct")
	ids := []*mesos.ContainerID{newID("a"), newID("b")}
	for _, id := range ids {
		for _, s := range []string{"cpu", "cpuacct", "memory", cgroups.Core} {
			if err := tree.Extend(id, s); err != nil {
				b.Fatal(err)
			}
		}
	}
	pid := start(b, tree, ids[0], "echo; sleep 1000").Process.Pid
	n := 0
	for b.Loop() {
		n++
		if err := tree.Assign(ids[n%2], pid); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLock: an agent that has the same root would kill the containers of the first.
func TestLock(t *testing.T) {
	tree := newTree(t, cgroups.Core)
	lock, err := tree.Lock()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := tree.Root(cgroups.Core)
	if err != nil {
		t.Fatal(err)
	}
	other, err := cgroups.Open("/sys/fs/cgroup", filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Use(cgroups.Core); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lock(); !errors.Is(err, cgroups.ErrInUse) {
		t.Errorf("a second agent: got %v, want %v", err, cgroups.ErrInUse)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := other.Lock()
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	again.Close()
}
