package cgroup_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
)

// newMesos makes a containerizer with the linux launcher, mount namespaces and limits of
// processors and memory in the cgroups of a set.
func newMesos(t *testing.T, f *fixture, change func(*setup.Options)) isolation.Containerizer {
	t.Helper()
	o := setup.Options{
		WorkDir: t.TempDir(), RuntimeDir: filepath.Join(t.TempDir(), "run"), Launcher: "linux",
		Isolation: "filesystem/linux,cgroups/cpu,cgroups/mem", Tree: f.tree,
	}
	t.Cleanup(func() { _ = unix.Unmount(o.WorkDir, unix.MNT_DETACH) }) // filesystem/linux mounts it
	change(&o)
	m, err := setup.New(o, isolationtest.Programs(t), zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := m.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return m
}

// prints runs a container and compares the words that it prints.
func prints(t *testing.T, m isolation.Containerizer, c *isolation.ContainerConfig, want string) {
	t.Helper()
	if err := m.Launch(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	end, err := m.Wait(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(filepath.Join(c.Sandbox, "stdout"))
	if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
		problems, _ := os.ReadFile(filepath.Join(c.Sandbox, "stderr"))
		t.Errorf("output: got %q, want %q, %v, %+v, %s", got, want, err, end, problems)
	}
	if err := m.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
}
