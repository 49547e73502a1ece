package isolation_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/setup"
)

// crashSteps are where an agent can die, in the order of a container's life. It leaves a
// running container, and one nested in it that is at that step.
var crashSteps = []string{"prepare", "forked", "isolate", "started", "watch", "running", "destroying", "ended", "cleanup", "removed"}

const (
	crashStep = "TEST_CRASH_STEP"
	crashDir  = "TEST_CRASH_DIR"
	crashRoot = "TEST_CRASH_ROOT"
)

// crash ends this process as a failure of the machine would.
func crash(step string) {
	if os.Getenv(crashStep) == step {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// crasher dies, once it is armed, in an isolator, the last one, or in the launcher.
type crasher struct{ armed bool }

func (c *crasher) crash(step string) {
	if c.armed {
		crash(step)
	}
}

type crashIsolator struct {
	isolation.BaseIsolator
	c *crasher
}

func (crashIsolator) Name() string { return "test/crash" }

func (i crashIsolator) Prepare(context.Context, *isolation.ContainerConfig) (*isolation.Preparation, error) {
	i.c.crash("prepare")
	return nil, nil
}

func (i crashIsolator) Isolate(context.Context, *mesos.ContainerID, int) error {
	i.c.crash("isolate")
	return nil
}

func (i crashIsolator) Watch(*mesos.ContainerID) (<-chan isolation.Limitation, error) {
	i.c.crash("watch")
	return nil, nil
}

func (i crashIsolator) Cleanup(context.Context, *mesos.ContainerID) error {
	i.c.crash("cleanup")
	return nil
}

type crashLauncher struct {
	*isolation.LinuxLauncher
	c *crasher
}

func (l crashLauncher) Fork(ctx context.Context, id *mesos.ContainerID, info *isolation.ForkInfo) (int, error) {
	pid, err := l.LinuxLauncher.Fork(ctx, id, info)
	l.c.crash("forked")
	return pid, err
}

func (l crashLauncher) Start(ctx context.Context, id *mesos.ContainerID, info *isolation.LaunchInfo) error {
	err := l.LinuxLauncher.Start(ctx, id, info)
	l.c.crash("started")
	return err
}

// crashOptions are isolators that leave something behind if anything does.
func crashOptions(dir, root string) (setup.Options, error) {
	tree, err := cgroups.Open("/sys/fs/cgroup", root)
	return setup.Options{
		WorkDir: filepath.Join(dir, "work"), RuntimeDir: filepath.Join(dir, "run"), Launcher: "linux", Tree: tree,
		Isolation: "filesystem/linux,namespaces/pid,namespaces/ipc,posix/cpu",
	}, err
}

// crashAgent is an agent that dies at a step.
func crashAgent() int {
	fail := func(err error) int {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	dir, ctx := os.Getenv(crashDir), context.Background()
	small := os.Getenv("CLUSTERD_PROGRAMS")
	if small == "" {
		small = filepath.Join(dir, "none")
	}
	programs, err := isolation.LoadProgramsFrom(os.DirFS(small))
	if err != nil {
		return fail(err)
	}
	o, err := crashOptions(dir, os.Getenv(crashRoot))
	if err != nil {
		return fail(err)
	}
	isolators, err := setup.Isolators(o)
	if err != nil {
		return fail(err)
	}
	launcher, err := isolation.NewLinuxLauncher(o.RuntimeDir, o.Tree, programs, zerolog.Nop())
	if err != nil {
		return fail(err)
	}
	c := &crasher{}
	m := isolation.NewMesos(crashLauncher{launcher, c}, append(isolators, crashIsolator{c: c}), zerolog.Nop())
	if _, err := m.Recover(ctx, nil); err != nil {
		return fail(err)
	}
	config := func(parent *mesos.ContainerID, value string) *isolation.ContainerConfig {
		c := &isolation.ContainerConfig{
			ID: &mesos.ContainerID{Value: &value, Parent: parent}, FrameworkID: &mesos.FrameworkID{Value: new("f")},
			Command: &mesos.CommandInfo{Value: new("setsid sleep 1000 & sleep 1000")}, Env: map[string]string{"PATH": "/bin:/usr/bin"},
		}
		c.Sandbox = filepath.Join(o.WorkDir, isolation.Key(c.ID))
		return c
	}
	top := config(nil, "top-"+os.Getenv(crashRoot))
	nested := config(top.ID, "nested")
	for _, c := range []*isolation.ContainerConfig{top, nested} {
		if err := os.MkdirAll(c.Sandbox, 0o755); err != nil {
			return fail(err)
		}
	}
	if err := m.Launch(ctx, top); err != nil {
		return fail(err)
	}
	c.armed = true
	if err := m.Launch(ctx, nested); err != nil {
		return fail(err)
	}
	crash("running")
	if os.Getenv(crashStep) == "destroying" {
		go func() { _ = m.Destroy(ctx, top.ID) }()
		crash("destroying")
	}
	if err := m.Destroy(ctx, nested.ID); err != nil {
		return fail(err)
	}
	crash("ended")
	if err := m.Remove(ctx, nested.ID); err != nil {
		return fail(err)
	}
	crash("removed")
	return 0
}

// TestCrash: whenever an agent dies, the next one leaves nothing of what it does not know.
func TestCrash(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	steps := crashSteps
	if os.Getenv("CLUSTERD_VM") != "" { // slow, and what differs is how cgroups are killed
		steps = []string{"forked", "started", "destroying"}
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
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
			c, err := setup.New(o, isolationtest.Programs(t), zerolog.New(zerolog.NewTestWriter(t)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Recover(testContext(t), nil); err != nil {
				t.Fatal(err)
			}
			if ids := c.Containers(); len(ids) != 0 {
				t.Errorf("containers: got %v", ids)
			}
			checkNothingLeft(t, dir, root)
		})
	}
}

// checkNothingLeft looks for processes, runtime directories and mounts; cgroups are looked
// for when the test's own root is removed.
func checkNothingLeft(t *testing.T, dir, root string) {
	t.Helper()
	eventually(t, "no process is left", func() bool {
		for _, file := range []string{"environ", "cmdline"} {
			all, err := filepath.Glob("/proc/[0-9]*/" + file)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all {
				if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), "top-"+root) {
					return false
				}
			}
		}
		return true
	})
	entries, err := os.ReadDir(filepath.Join(dir, "run", "containers"))
	if err != nil || len(entries) != 0 {
		t.Errorf("runtime directory: got %v, %v", entries, err)
	}
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); strings.HasPrefix(f[1], dir+"/") && f[1] != filepath.Join(dir, "work") {
			t.Errorf("mount left: %s", line)
		}
	}
}
