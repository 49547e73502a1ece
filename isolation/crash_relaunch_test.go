package isolation_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
)

// TestCrashedLaunchIsRepeated: an agent dies while it launches a container nested in one that
// stays. Its executor asks the next agent again: as long as the command has not been
// started it is launched, and else it is there already.
func TestCrashedLaunchIsRepeated(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	for _, c := range []struct {
		step string
		runs bool
	}{{"prepare", false}, {"forked", false}, {"isolate", false}, {"started", true}} {
		t.Run(c.step, func(t *testing.T) { crashedLaunch(t, c.step, c.runs) })
	}
}

func crashedLaunch(t *testing.T, step string, runs bool) {
	dir, root := t.TempDir(), treeRoot(t)
	for _, d := range []string{"work", "run", "none"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "work"), unix.MNT_DETACH) })
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), crashStep+"="+step, crashDir+"="+dir, crashRoot+"="+root)
	out, err := cmd.CombinedOutput()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the agent did not die: %v: %s", err, out)
	}
	o, err := crashOptions(dir, root)
	if err != nil {
		t.Fatal(err)
	}
	m, err := setup.New(o, isolationtest.Programs(t), zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	top := isolation.ContainerConfig{ID: &mesos.ContainerID{Value: new("top-" + root)}, FrameworkID: &mesos.FrameworkID{Value: new("f")}}
	top.Sandbox = filepath.Join(o.WorkDir, isolation.Key(top.ID))
	if _, err := m.Recover(testContext(t), []isolation.ContainerConfig{top}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkNothingLeft(t, dir, root) })
	defer func() {
		if err := errors.Join(m.Destroy(testContext(t), top.ID), m.Remove(testContext(t), top.ID)); err != nil {
			t.Error(err)
		}
	}()
	nested := &isolation.ContainerConfig{
		ID: &mesos.ContainerID{Value: new("nested"), Parent: top.ID}, FrameworkID: top.FrameworkID,
		Command: &mesos.CommandInfo{Value: new("exit 3")}, Env: map[string]string{"PATH": "/bin:/usr/bin"},
	}
	nested.Sandbox = filepath.Join(o.WorkDir, isolation.Key(nested.ID))
	err = m.Launch(testContext(t), nested)
	if runs {
		if !errors.Is(err, isolation.ErrContainerExists) {
			t.Errorf("launch again: got %v, want %v", err, isolation.ErrContainerExists)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Wait(testContext(t), nested.ID); err != nil || !got.StatusKnown || got.Status != 3<<8 {
		t.Errorf("wait: got %+v, %v", got, err)
	}
}
