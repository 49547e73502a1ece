package cgroup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/cgroup"
	"clusterd/isolation/setup"
)

// image is a provisioner of one root: the programs of this machine and nothing else.
type image struct{ dir string }

func (i image) Recover(context.Context, []*mesos.ContainerID) error { return nil }

func (i image) Provision(context.Context, *mesos.ContainerID, *mesos.Image) (*isolation.Provisioned, error) {
	p := &isolation.Provisioned{RootFS: i.dir, Mounts: []isolation.Mount{{Source: i.dir, Target: i.dir, Host: true, Flags: unix.MS_BIND}}}
	for _, d := range []string{"bin", "usr", "lib", "lib64"} {
		to := filepath.Join(i.dir, d)
		info, err := os.Lstat("/" + d)
		switch {
		case err != nil:
			continue
		case info.IsDir():
			if err := os.MkdirAll(to, 0o755); err != nil {
				return nil, err
			}
			p.Mounts = append(p.Mounts, isolation.Mount{Source: "/" + d, Target: to, Host: true, Flags: unix.MS_BIND | unix.MS_RDONLY})
		default:
			target, err := os.Readlink("/" + d)
			if err == nil {
				err = os.Symlink(target, to)
			}
			if err != nil && !errors.Is(err, os.ErrExist) {
				return nil, err
			}
		}
	}
	return p, nil
}

func (i image) Destroy(context.Context, *mesos.ContainerID) error { return nil }

func (i image) Prune(context.Context, []*mesos.Image) error { return nil }

// A container with an image finds its limits where programs look for them, and cannot
// write there.
func TestImageSeesItsCgroups(t *testing.T) {
	f := newSet(t, cgroup.Options{})
	work := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(work, unix.MNT_DETACH) }) // filesystem/linux mounts it
	m, err := setup.New(setup.Options{
		WorkDir: work, RuntimeDir: filepath.Join(t.TempDir(), "run"), Launcher: "linux",
		Isolation: "filesystem/linux,cgroups/cpu,cgroups/mem", Tree: f.tree, Provisioner: image{t.TempDir()},
	}, isolationtest.Programs(t), zerolog.New(zerolog.NewTestWriter(t)))
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
	file := "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	if f.tree.Version("memory") == 2 {
		file = "/sys/fs/cgroup/memory.max"
	}
	c := shell(t, newID("c1"), "cat "+file+"; if echo 1 2>/dev/null >"+file+"; then echo written; else echo denied; fi", 1, 48)
	c.ContainerInfo = &mesos.ContainerInfo{
		Type:  mesos.ContainerInfo_MESOS.Enum(),
		Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new("test")}}},
	}
	if err := m.Launch(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	end, err := m.Wait(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(filepath.Join(c.Sandbox, "stdout"))
	if err != nil || strings.Join(strings.Fields(string(out)), " ") != "50331648 denied" {
		problems, _ := os.ReadFile(filepath.Join(c.Sandbox, "stderr"))
		t.Errorf("output: got %q, %v, %+v, %s", out, err, end, problems)
	}
	if err := m.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
}
