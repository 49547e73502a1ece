package cgroup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/cgroup"
)

// newMesos makes a containerizer of the linux launcher and isolators.
func (f *fixture) newMesos(tb testing.TB, names ...string) *isolation.Mesos {
	tb.Helper()
	log := zerolog.Nop()
	launcher, err := isolation.NewLinuxLauncher(filepath.Join(tb.TempDir(), "run"), f.tree, isolationtest.Programs(tb), log)
	if err != nil {
		tb.Fatal(err)
	}
	var isolators []isolation.Isolator
	for _, n := range names {
		isolators = append(isolators, f.isolator(tb, n))
	}
	m := isolation.NewMesos(launcher, isolators, log)
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	if _, err := m.Recover(tb.Context(), nil); err != nil {
		tb.Fatal(err)
	}
	return m
}

func shell(tb testing.TB, id *mesos.ContainerID, script string, cpus, mem float64) *isolation.ContainerConfig {
	tb.Helper()
	return &isolation.ContainerConfig{
		ID: id, Sandbox: tb.TempDir(), Command: &mesos.CommandInfo{Value: &script, Shell: new(true)},
		Env:       map[string]string{"PATH": "/bin:/usr/bin"},
		Resources: []*mesos.Resource{isolationtest.Scalar("cpus", cpus), isolationtest.Scalar("mem", mem)},
	}
}

// A task that runs out of memory has that as the reason of its end, every time, however
// soon it is gone.
func TestContainerOutOfMemory(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	m := f.newMesos(t, "cgroups/cpu", "cgroups/mem", "cgroups/pids")
	rounds := 8
	if os.Getenv("CLUSTERD_VM") != "" {
		rounds = 2 // a tenth as fast
	}
	for n := range rounds {
		id := newID("c" + strconv.Itoa(n))
		if err := m.Launch(t.Context(), shell(t, id, "exec dd if=/dev/zero of=/dev/null bs=200M count=1", 1, 32)); err != nil {
			t.Fatal(err)
		}
		end, err := m.Wait(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if end.Reason == nil || *end.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY || len(end.Limitations) != 1 ||
			!strings.Contains(end.Message, "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB") {
			t.Errorf("end: got %+v", end)
		}
		if err := m.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := f.tree.Containers(); err != nil || len(ids) != 0 {
		t.Errorf("cgroups left: got %v, %v", ids, err)
	}
}

// A fork bomb is stopped by its bound, and gone when it is destroyed. A shell that cannot
// fork ends; one stays, so that the container does.
func TestContainerForkBomb(t *testing.T) {
	f := newSet(t, cgroup.Options{PidsMax: 24})
	m := f.newMesos(t, "cgroups/cpu", "cgroups/pids")
	id := newID("bomb")
	if err := m.Launch(t.Context(), shell(t, id, "(f() { f & f & wait; }; while :; do f; done); exec sleep 1000", 0.2, 32)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a fork was refused", func() bool {
		return !strings.Contains(f.file(t, id, "pids", "pids.events")+"\n", "max 0\n")
	})
	if err := m.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if pids, err := f.tree.Processes(id); err != nil || len(pids) != 0 {
		t.Errorf("processes left: got %v, %v", pids, err)
	}
	if err := m.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkContainers launches and destroys containers with the usual isolators.
func BenchmarkContainers(b *testing.B) {
	for _, names := range [][]string{
		{},
		{"cgroups/cpu"},
		{"cgroups/mem"},
		{"cgroups/cpu", "cgroups/mem"},
		{"cgroups/cpu", "cgroups/mem", "cgroups/pids", "cgroups/devices"},
	} {
		b.Run(fmt.Sprint(len(names), strings.Join(names, "+")), func(b *testing.B) {
			f := newSet(b, cgroup.Options{})
			m := f.newMesos(b, names...)
			n := 0
			for b.Loop() {
				n++
				id := newID("c" + strconv.Itoa(n))
				if err := m.Launch(b.Context(), shell(b, id, "exec sleep 1000", 0.1, 32)); err != nil {
					b.Fatal(err)
				}
				if err := m.Destroy(b.Context(), id); err != nil {
					b.Fatal(err)
				}
				if err := m.Remove(b.Context(), id); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPrepare is what the isolators themselves cost for each container.
func BenchmarkPrepare(b *testing.B) {
	for _, name := range cgroup.Names() {
		b.Run(strings.TrimPrefix(name, "cgroups/"), func(b *testing.B) {
			f := newSet(b, cgroup.Options{})
			i := f.isolator(b, name)
			n := 0
			for b.Loop() {
				n++
				c := &isolation.ContainerConfig{ID: newID("c" + strconv.Itoa(n)), Resources: []*mesos.Resource{isolationtest.Scalar("cpus", 1), isolationtest.Scalar("mem", 64)}}
				if _, err := i.Prepare(b.Context(), c); err != nil {
					b.Fatal(err)
				}
				if err := i.Cleanup(b.Context(), c.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkUsage measures one of 500 containers.
func BenchmarkUsage(b *testing.B) {
	f := newSet(b, cgroup.Options{})
	for _, name := range []string{"cgroups/cpu", "cgroups/mem", "cgroups/blkio"} {
		b.Run(strings.TrimPrefix(name, "cgroups/"), func(b *testing.B) {
			i := f.isolator(b, name)
			const containers = 500
			for n := range containers {
				if _, err := i.Prepare(b.Context(), &isolation.ContainerConfig{ID: newID("c" + strconv.Itoa(n)), Resources: []*mesos.Resource{isolationtest.Scalar("cpus", 1)}}); err != nil {
					b.Fatal(err)
				}
			}
			n := 0
			for b.Loop() {
				n++
				if err := i.Usage(b.Context(), newID("c"+strconv.Itoa(n%containers)), &mesos.ResourceStatistics{}); err != nil {
					b.Fatal(err)
				}
			}
			for n := range containers {
				if err := i.Cleanup(b.Context(), newID("c"+strconv.Itoa(n))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
