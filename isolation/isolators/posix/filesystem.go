package posix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Filesystem is filesystem/posix: containers see the machine's files, and
// persistent volumes as symbolic links in the sandbox
// (src/slave/containerizer/mesos/isolators/filesystem/posix.cpp).
type Filesystem struct {
	isolation.BaseIsolator
	workDir string

	mu sync.Mutex
	// containers is guarded by mu.
	containers map[string]*files
}

type files struct {
	sandbox string
	// volumes are the volumes by the names they are linked under.
	volumes map[string]*mesos.Resource
}

var _ isolation.Isolator = (*Filesystem)(nil)

// NewFilesystem makes the isolator for an agent with this work directory.
func NewFilesystem(workDir string) *Filesystem {
	return &Filesystem{workDir: workDir, containers: make(map[string]*files)}
}

// Name is "filesystem/posix".
func (f *Filesystem) Name() string { return "filesystem/posix" }

// Recover remembers sandboxes only: links that are there already are accepted
// by the next Update.
func (f *Filesystem) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range states {
		f.containers[isolation.Key(s.Config.ID)] = &files{sandbox: s.Config.Sandbox, volumes: volumesOf(s.Config.Resources)}
	}
	return nil
}

// Prepare links the persistent volumes.
func (f *Filesystem) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	// Those of the sandbox are links that volume/sandbox_path makes: better no container
	// than one without its data.
	for _, v := range config.ContainerInfo.GetVolumes() {
		linked := v.GetSource().GetType() == mesos.Volume_Source_SANDBOX_PATH || v.HostPath != nil && !filepath.IsAbs(v.GetHostPath())
		if !linked || v.Image != nil {
			return nil, fmt.Errorf("volume at %q: %w without filesystem/linux", v.GetContainerPath(), isolation.ErrNotSupported)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.containers[isolation.Key(config.ID)]; ok {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(config.ID), isolation.ErrContainerExists)
	}
	own := &files{sandbox: config.Sandbox}
	if err := f.link(own, config.Resources); err != nil {
		return nil, err
	}
	f.containers[isolation.Key(config.ID)] = own
	return nil, nil
}

// Isolate does nothing.
func (f *Filesystem) Isolate(_ context.Context, id *mesos.ContainerID, _ int) error {
	return f.known(id)
}

// Watch never reports anything.
func (f *Filesystem) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	return nil, f.known(id)
}

// Update makes the links those of the new resources.
func (f *Filesystem) Update(_ context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	files, ok := f.containers[isolation.Key(id)]
	if !ok {
		return fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return f.link(files, resources)
}

// Usage adds nothing.
func (f *Filesystem) Usage(_ context.Context, id *mesos.ContainerID, _ *mesos.ResourceStatistics) error {
	return f.known(id)
}

// Status adds nothing.
func (f *Filesystem) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	return f.known(id)
}

// Cleanup leaves the links: they go with the sandbox.
func (f *Filesystem) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.containers, isolation.Key(id))
	return nil
}

func (f *Filesystem) known(id *mesos.ContainerID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.containers[isolation.Key(id)]; !ok {
		return fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return nil
}

// volumesOf finds the persistent volumes among resources. A container path
// that is absolute or nested cannot be a link in the sandbox; Mesos passes over
// those as well.
func volumesOf(resources []*mesos.Resource) map[string]*mesos.Resource {
	volumes := make(map[string]*mesos.Resource)
	for _, r := range resources {
		if r.GetDisk().GetPersistence() == nil || r.GetDisk().GetVolume() == nil {
			continue
		}
		if path := r.GetDisk().GetVolume().GetContainerPath(); isolation.IsFileName(path) {
			volumes[path] = r
		}
	}
	return volumes
}

// link makes the links of a sandbox those of resources.
func (f *Filesystem) link(files *files, resources []*mesos.Resource) error {
	wanted := volumesOf(resources)
	for name, volume := range files.volumes {
		if w, ok := wanted[name]; ok && proto.Equal(w, volume) {
			continue
		}
		if err := os.Remove(filepath.Join(files.sandbox, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove link of persistent volume: %w", err)
		}
	}
	for name, volume := range wanted {
		path, err := isolation.PersistentVolumePath(f.workDir, volume)
		if err != nil {
			return err
		}
		if err := f.linkOne(files.sandbox, name, path, volume); err != nil {
			return fmt.Errorf("link persistent volume: %w", err)
		}
	}
	files.volumes = wanted
	return nil
}

func (f *Filesystem) linkOne(sandbox, name, path string, volume *mesos.Resource) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w", path, syscall.ENOTDIR)
	}
	if err := f.own(sandbox, path, volume); err != nil {
		return err
	}
	link := filepath.Join(sandbox, name)
	err = os.Symlink(path, link)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if target, readErr := os.Readlink(link); readErr == nil && target == path {
		return nil
	}
	return err
}

// own gives a volume to the user that owns the sandbox, unless it is shared
// and used by another container.
func (f *Filesystem) own(sandbox, path string, volume *mesos.Resource) error {
	var st syscall.Stat_t
	if err := syscall.Stat(sandbox, &st); err != nil {
		return fmt.Errorf("sandbox %s: %w", sandbox, err)
	}
	if st.Uid == 0 {
		return nil
	}
	if volume.GetShared() != nil {
		for _, other := range f.containers {
			if other.sandbox == sandbox {
				continue
			}
			for _, v := range other.volumes {
				if v.GetDisk().GetPersistence().GetId() == volume.GetDisk().GetPersistence().GetId() && proto.Equal(v, volume) {
					return nil
				}
			}
		}
	}
	return os.Chown(path, int(st.Uid), int(st.Gid))
}
