package cgroup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
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
	m := newMesos(t, f, func(o *setup.Options) { o.Provisioner = image{t.TempDir()} })
	file := "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	if f.tree.Version("memory") == 2 {
		file = "/sys/fs/cgroup/memory.max"
	}
	c := shell(t, newID("c1"), "cat "+file+"; if echo 1 2>/dev/null >"+file+"; then echo written; else echo denied; fi", 1, 48)
	c.ContainerInfo = &mesos.ContainerInfo{
		Type:  mesos.ContainerInfo_MESOS.Enum(),
		Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new("test")}}},
	}
	prints(t, m, c, "50331648 denied")
}
