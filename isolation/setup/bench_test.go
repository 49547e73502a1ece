package setup_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/mounts"
	"clusterd/isolation/setup"
)

// stages adds up how long the steps of launches took.
type stages struct {
	mu   sync.Mutex
	took map[string]time.Duration
}

func (s *stages) since(step string, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[step] += time.Since(began)
}

// timedLauncher and timedIsolator measure what they stand before.
type timedLauncher struct {
	isolation.Launcher
	*stages
}

func (l timedLauncher) Fork(ctx context.Context, id *mesos.ContainerID, info *isolation.ForkInfo) (int, error) {
	defer l.since("fork", time.Now())
	return l.Launcher.Fork(ctx, id, info)
}

func (l timedLauncher) Start(ctx context.Context, id *mesos.ContainerID, info *isolation.LaunchInfo) error {
	defer l.since("start", time.Now())
	return l.Launcher.Start(ctx, id, info)
}

type timedIsolator struct {
	isolation.Isolator
	*stages
}

func (i timedIsolator) Prepare(ctx context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	defer i.since("prepare", time.Now())
	return i.Isolator.Prepare(ctx, config)
}

func (i timedIsolator) Isolate(ctx context.Context, id *mesos.ContainerID, pid int) error {
	defer i.since("isolate", time.Now())
	return i.Isolator.Isolate(ctx, id, pid)
}

// BenchmarkLaunch launches containers one after the other, from LAUNCH to exec, and says
// how long the steps take: prepare and isolate (all isolators), fork (the process above
// the container), start (its mounts, rights and the exec of the command).
func BenchmarkLaunch(b *testing.B) {
	for name, o := range map[string]setup.Options{
		"posix":  {Launcher: "posix", Isolation: "posix/cpu,posix/mem"},
		"linux":  {Launcher: "linux", Isolation: "cgroups/cpu,cgroups/mem"},
		"whole":  {Launcher: "linux", Isolation: "cgroups/cpu,cgroups/mem,cgroups/pids,filesystem/linux,namespaces/pid,namespaces/ipc,linux/capabilities,linux/nnp"},
		"userns": {Launcher: "linux", Isolation: "cgroups/cpu,cgroups/mem,filesystem/linux,namespaces/pid,namespaces/user"},
	} {
		b.Run(name, func(b *testing.B) { benchmarkLaunch(b, o) })
	}
}

func benchmarkLaunch(b *testing.B, o setup.Options) {
	if o.Launcher == "linux" && os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	base := b.TempDir()
	for d := base; d != os.TempDir(); d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755) //nolint:gosec // users of containers pass through
	}
	o.WorkDir, o.RuntimeDir = filepath.Join(base, "work"), filepath.Join(base, "run")
	for _, d := range []string{o.WorkDir, o.RuntimeDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	if o.Launcher == "linux" {
		root := "clusterd-test-" + strings.ToLower(rand.Text()[:10])
		tree, err := cgroups.Open(setup.DefaultCgroupsHierarchy, root)
		if err != nil {
			b.Skip(err)
		}
		o.Tree = tree
		b.Cleanup(func() {
			dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + root)
			for _, d := range dirs {
				_ = os.Remove(d)
			}
		})
	}
	b.Cleanup(func() { _ = mounts.UnmountBelow(o.WorkDir) })
	s := &stages{took: map[string]time.Duration{}}
	isolators, err := setup.Isolators(o)
	if err != nil {
		b.Fatal(err)
	}
	for i := range isolators {
		isolators[i] = timedIsolator{isolators[i], s}
	}
	launcher, err := setup.Launcher(o, isolationtest.Programs(b), zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	m := isolation.NewMesos(timedLauncher{launcher, s}, isolators, zerolog.Nop())
	defer m.Close()
	if _, err := m.Recover(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	sandbox := filepath.Join(o.WorkDir, "sandbox")
	if err := os.Mkdir(sandbox, 0o755); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		config := &isolation.ContainerConfig{
			ID: &mesos.ContainerID{Value: new(strings.ToLower(rand.Text()))}, Sandbox: sandbox,
			Command:   &mesos.CommandInfo{Shell: new(false), Value: new("sleep"), Arguments: []string{"sleep", "1000"}},
			Env:       map[string]string{"PATH": "/usr/bin:/bin"},
			Resources: []*mesos.Resource{isolationtest.Scalar("cpus", 0.1), isolationtest.Scalar("mem", 32)},
		}
		if err := m.Launch(b.Context(), config); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := m.Destroy(b.Context(), config.ID); err != nil {
			b.Fatal(err)
		}
		if err := m.Remove(b.Context(), config.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	for step, took := range s.took {
		b.ReportMetric(float64(took.Microseconds())/float64(b.N), "µs-"+step)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	isolationtest.RemovePrograms()
	os.Exit(code)
}
