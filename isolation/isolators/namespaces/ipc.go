package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
	"clusterd/isolation/mounts"
	"clusterd/isolation/supervisor"
)

const sharedMemory = "/dev/shm"

// IPCOptions say how NewIPC makes the isolator.
type IPCOptions struct {
	// RuntimeDir is the agent's runtime directory.
	RuntimeDir string
	// ShmSize (--default_container_shm_size) in bytes is the size of the /dev/shm that a
	// container has for itself; 0: what Linux thinks.
	ShmSize uint64
	// DisallowSharing (--disallow_sharing_agent_ipc_namespace) says that no container
	// may share the machine's.
	DisallowSharing bool
}

// IPC is namespaces/ipc: System V and POSIX message queues, semaphores and shared
// memory of a container, and its /dev/shm
// (src/slave/containerizer/mesos/isolators/namespaces/ipc.cpp):
//
//	            at the top                   nested
//	PRIVATE     own namespace, own /dev/shm  own namespace, own /dev/shm
//	SHARE_PARENT  the machine's, both        the parent's, both
//	not set     own namespace; /dev/shm is   the parent's namespace; /dev/shm is
//	            own with an image, else      own with an image, else the
//	            the machine's                machine's
//
// A DEBUG container always shares its parent's. An own /dev/shm that nested
// containers may come to share is mounted where the agent can reach it, below the
// runtime directory, and unmounted in Cleanup, also by the next agent.
type IPC struct {
	known.Containers[*memory]
	o   IPCOptions
	dir string
}

// memory is the shared memory of a container.
type memory struct {
	// path is where /dev/shm can be found on the machine; empty: nowhere, it is in the
	// container's mount namespace alone.
	path string
}

var _ isolation.Isolator = (*IPC)(nil)

// NewIPC makes the isolator.
func NewIPC(o IPCOptions) (*IPC, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	return &IPC{o: o, dir: filepath.Join(o.RuntimeDir, "isolators", "namespaces", "ipc")}, nil
}

// Name is "namespaces/ipc".
func (i *IPC) Name() string { return "namespaces/ipc" }

// Recover remembers the containers, parents first, and unmounts what was made for
// others.
func (i *IPC) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	keep := make(map[string]bool)
	for _, s := range states {
		m, err := i.memoryOf(s.Config)
		if err != nil {
			m = &memory{}
		}
		keep[i.shm(s.Config.ID)] = true
		if err := i.Add(s.Config.ID, m); err != nil {
			return err
		}
	}
	points, err := mounts.Below(i.dir)
	if err != nil {
		return err
	}
	for _, point := range points {
		if !keep[point] {
			err = errors.Join(err, mounts.RemoveAll(filepath.Dir(point)))
		}
	}
	return err
}

// shm is where the /dev/shm of a PRIVATE container is mounted.
func (i *IPC) shm(id *mesos.ContainerID) string {
	return filepath.Join(isolation.RuntimePath(i.dir, id), "shm")
}

// memoryOf finds out which /dev/shm a container is to have, without making it.
func (i *IPC) memoryOf(config *isolation.ContainerConfig) (*memory, error) {
	parent := &memory{path: sharedMemory}
	if config.ID.GetParent() != nil {
		var err error
		if parent, err = i.Get(config.ID.GetParent()); err != nil {
			return nil, err
		}
	}
	mode := config.ContainerInfo.GetLinuxInfo().GetIpcMode()
	switch {
	case isDebug(config), mode == mesos.LinuxInfo_SHARE_PARENT:
		return parent, nil
	case mode == mesos.LinuxInfo_PRIVATE:
		return &memory{path: i.shm(config.ID)}, nil
	case config.RootFS == "":
		return &memory{path: sharedMemory}, nil
	}
	return &memory{}, nil
}

// check refuses what cannot be.
func (i *IPC) check(config *isolation.ContainerConfig) error {
	info := config.ContainerInfo.GetLinuxInfo()
	mode := info.GetIpcMode()
	switch {
	case info != nil && info.IpcMode != nil && mode == mesos.LinuxInfo_UNKNOWN:
		return errors.New("the IPC mode is unknown")
	case info.GetShmSize() > 0 && mode != mesos.LinuxInfo_PRIVATE:
		return fmt.Errorf("a size of /dev/shm: %w unless the IPC mode is PRIVATE", isolation.ErrNotSupported)
	case isDebug(config) && mode == mesos.LinuxInfo_PRIVATE:
		return fmt.Errorf("IPC mode PRIVATE of a DEBUG container: %w", isolation.ErrNotSupported)
	case config.ID.GetParent() == nil && mode == mesos.LinuxInfo_SHARE_PARENT && i.o.DisallowSharing:
		return fmt.Errorf("IPC namespace: %w", ErrSharing)
	}
	return nil
}

// Prepare asks for a namespace and for /dev/shm.
func (i *IPC) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if err := i.check(config); err != nil {
		return nil, err
	}
	m, err := i.memoryOf(config)
	if err != nil {
		return nil, err
	}
	mode := config.ContainerInfo.GetLinuxInfo().GetIpcMode()
	nested := config.ID.GetParent() != nil
	if mode == mesos.LinuxInfo_SHARE_PARENT && nested && !isDebug(config) && m.path == "" {
		return nil, fmt.Errorf("the parent's /dev/shm is in its own mount namespace alone: sharing it is %w, unless the IPC mode of the parent is PRIVATE", isolation.ErrNotSupported)
	}
	if err := i.Add(config.ID, m); err != nil {
		return nil, err
	}
	p := &isolation.Preparation{}
	switch {
	case nested && mode != mesos.LinuxInfo_PRIVATE:
		p.EnterFlags = unix.CLONE_NEWIPC
	case mode != mesos.LinuxInfo_SHARE_PARENT:
		p.CloneFlags = unix.CLONE_NEWIPC
	}
	if isDebug(config) { // it is in the parent's mount namespace
		return p, nil
	}
	if mode == mesos.LinuxInfo_PRIVATE {
		if err := i.make(config, m.path); err != nil {
			return nil, errors.Join(err, i.Cleanup(context.Background(), config.ID))
		}
	}
	mount := isolation.Mount{Target: sharedMemory, Make: supervisor.MakeDirectory}
	switch {
	case m.path == "":
		mount.Source, mount.Type, mount.Data = "tmpfs", "tmpfs", sharedMemoryOf(i.o.ShmSize)
		mount.Flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME
	case m.path == sharedMemory && config.RootFS == "":
		return p, nil
	default:
		mount.Source, mount.Flags = m.path, unix.MS_BIND
	}
	p.Mounts = []isolation.Mount{mount}
	return p, nil
}

// make mounts the /dev/shm of a container.
func (i *IPC) make(config *isolation.ContainerConfig, path string) error {
	size := i.o.ShmSize
	if mb := config.ContainerInfo.GetLinuxInfo().GetShmSize(); mb > 0 {
		size = uint64(mb) << 20
	}
	// Nobody of the machine gets at it by its path.
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_STRICTATIME, sharedMemoryOf(size)); err != nil {
		return &os.PathError{Op: "mount", Path: path, Err: err}
	}
	return nil
}

// sharedMemoryOf are the options of a /dev/shm of that size in bytes; 0: what Linux thinks.
func sharedMemoryOf(size uint64) string {
	if size == 0 {
		return "mode=1777"
	}
	return fmt.Sprintf("mode=1777,size=%d", size)
}

// Cleanup unmounts the container's /dev/shm.
func (i *IPC) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	m, err := i.Get(id)
	if err == nil && m.path == i.shm(id) {
		if err := mounts.UnmountBelow(m.path); err != nil {
			return err
		}
		if err := mounts.RemoveAll(isolation.RuntimePath(i.dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	i.Forget(id)
	return nil
}
