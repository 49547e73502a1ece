package gpu_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/gpu"
)

// machine makes the device files of a driver with three GPUs.
func machine(t *testing.T) gpu.Options {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dev := t.TempDir()
	for name, minor := range map[string]uint32{"nvidia0": 0, "nvidia1": 1, "nvidia10": 10, "nvidiactl": 255} {
		if err := unix.Mknod(filepath.Join(dev, name), unix.S_IFCHR|0o666, int(unix.Mkdev(195, minor))); err != nil {
			t.Skipf("make device files: %v", err)
		}
	}
	if err := os.Mkdir(filepath.Join(dev, "nvidia-caps"), 0o755); err != nil {
		t.Fatal(err)
	}
	return gpu.Options{Dev: dev, RuntimeDir: t.TempDir()}
}

// devices notes what is allowed.
type devices map[string]bool

func (d devices) Allow(_ context.Context, id *mesos.ContainerID, major, minor uint32) error {
	d[fmt.Sprintf("%s %d:%d", isolation.Key(id), major, minor)] = true
	return nil
}

func (d devices) Deny(_ context.Context, id *mesos.ContainerID, major, minor uint32) error {
	delete(d, fmt.Sprintf("%s %d:%d", isolation.Key(id), major, minor))
	return nil
}

func (d devices) want(t *testing.T, want ...string) {
	t.Helper()
	got := make([]string, 0, len(d))
	for k := range d {
		got = append(got, k)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

func container(id string, gpus float64) *isolation.ContainerConfig {
	return &isolation.ContainerConfig{ID: &mesos.ContainerID{Value: &id}, Resources: []*mesos.Resource{isolationtest.Scalar("gpus", gpus)}}
}

func open(t *testing.T, o gpu.Options, d devices) *gpu.Isolator {
	t.Helper()
	i, err := gpu.New(o, d)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestConformance(t *testing.T) {
	isolationtest.Isolator(t, "gpu/nvidia", func(t *testing.T, _ string) isolation.Isolator { return open(t, machine(t), devices{}) })
}

// TestLife gives GPUs out, over a restart of the agent, and takes them back.
func TestLife(t *testing.T) {
	o, d := machine(t), devices{}
	i := open(t, o, d)
	ctx := t.Context()
	a := container("a", 2)
	if _, err := i.Prepare(ctx, a); err != nil {
		t.Fatal(err)
	}
	if err := i.Isolate(ctx, a.ID, 1); err != nil {
		t.Fatal(err)
	}
	d.want(t, "a 195:0", "a 195:1", "a 195:255")
	if _, err := i.Prepare(ctx, container("b", 2)); !errors.Is(err, gpu.ErrNoGPUs) {
		t.Errorf("two more: got %v, want %v", err, gpu.ErrNoGPUs)
	}
	if _, err := i.Prepare(ctx, container("b", 0.5)); err == nil {
		t.Error("half a GPU: got no error")
	}

	i = open(t, o, d) // the agent starts again
	if err := i.Recover(ctx, []isolation.ContainerState{{Config: a, PID: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	b := container("b", 1)
	b.RootFS = "/root/of/b"
	b.Image = &isolation.ImageConfig{Env: []string{"PATH=/bin"}, Labels: map[string]string{"com.nvidia.volumes.needed": "nvidia_driver"}}
	p, err := i.Prepare(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	node := func(name string, minor uint32) isolation.Device {
		return isolation.Device{Path: "/dev/" + name, Mode: unix.S_IFCHR | 0o666, Major: 195, Minor: minor}
	}
	if diff := cmp.Diff([]isolation.Device{node("nvidiactl", 255), node("nvidia10", 10)}, p.Devices); diff != "" {
		t.Errorf("devices of b (-want +got):\n%s", diff)
	}
	if err := i.Update(ctx, a.ID, []*mesos.Resource{isolationtest.Scalar("gpus", 1)}, nil); err != nil {
		t.Fatal(err)
	}
	d.want(t, "a 195:0", "a 195:255")
	if diff := cmp.Diff(map[string][]int{"a": {0}, "b": {10}}, i.Holders()); diff != "" {
		t.Errorf("holders (-want +got):\n%s", diff)
	}
	nested := container("n", 1)
	nested.ID.Parent, nested.RootFS = b.ID, "/root/of/n"
	if p, err := i.Prepare(ctx, nested); err != nil || len(p.Devices) != 2 || p.Devices[1].Path != "/dev/nvidia10" {
		t.Errorf("a container in b: got %+v, %v", p, err)
	}
	for _, id := range []*mesos.ContainerID{nested.ID, a.ID, b.ID} {
		if err := i.Cleanup(ctx, id); err != nil {
			t.Error(err)
		}
	}
	if len(i.Holders()) != 0 {
		t.Errorf("holders at the end: got %v", i.Holders())
	}
	if left, err := os.ReadDir(filepath.Join(o.RuntimeDir, "isolators", "gpu", "nvidia")); err != nil || len(left) != 0 {
		t.Errorf("files at the end: got %v, %v", left, err)
	}
}

// TestDriver shows the driver's files to images that ask for them.
func TestDriver(t *testing.T) {
	o := machine(t)
	o.Driver = "/opt/nvidia"
	i := open(t, o, devices{})
	c := container("a", 1)
	c.RootFS, c.Image = "/root/of/a", &isolation.ImageConfig{
		Env: []string{"PATH=/bin:/usr/local/nvidia/bin"}, Labels: map[string]string{"com.nvidia.volumes.needed": "nvidia_driver"},
	}
	p, err := i.Prepare(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"PATH":            "/bin:/usr/local/nvidia/bin",
		"LD_LIBRARY_PATH": "/usr/local/cuda/compat:/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
	}
	if diff := cmp.Diff(want, p.Env); diff != "" || len(p.Mounts) != 1 || p.Mounts[0].Source != o.Driver {
		t.Errorf("preparation: got mounts %v, environment (-want +got):\n%s", p.Mounts, diff)
	}
}

func TestDiscover(t *testing.T) {
	o := machine(t)
	if n, err := gpu.Discover(o); n != 3 || err != nil {
		t.Errorf("discover: got %d, %v", n, err)
	}
	o.Devices = []int{10, 0}
	if n, err := gpu.Discover(o); n != 2 || err != nil {
		t.Errorf("two of them: got %d, %v", n, err)
	}
	for _, bad := range [][]int{{2}, {0, 0}} {
		o.Devices = bad
		if n, err := gpu.Discover(o); err == nil {
			t.Errorf("devices %v: got %d", bad, n)
		}
	}
	if _, err := gpu.New(gpu.Options{Dev: t.TempDir(), RuntimeDir: t.TempDir()}, devices{}); !errors.Is(err, gpu.ErrNoGPUs) {
		t.Errorf("a machine without the driver: got %v, want %v", err, gpu.ErrNoGPUs)
	}
}
