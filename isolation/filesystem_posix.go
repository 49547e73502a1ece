package isolation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// ErrInvalidVolume says that a resource is no persistent volume that could be
// found on disk.
var ErrInvalidVolume = errors.New("invalid persistent volume")

// PersistentVolumePath is the directory of a persistent volume: below the work
// directory, below the root of a PATH disk, or the root of a MOUNT disk itself
// (src/slave/paths.cpp). A slash in the role becomes a space, which no role
// may contain.
func PersistentVolumePath(workDir string, volume *mesos.Resource) (string, error) {
	id := volume.GetDisk().GetPersistence().GetId()
	reservations := volume.GetReservations()
	role := volume.GetRole()
	if len(reservations) > 0 {
		role = reservations[len(reservations)-1].GetRole()
	}
	if !fileName(id) || role == "" || role == "*" || !fileName(strings.ReplaceAll(role, "/", " ")) {
		return "", fmt.Errorf("%w: id %q of role %q", ErrInvalidVolume, id, role)
	}
	root := workDir
	if source := volume.GetDisk().GetSource(); source != nil {
		switch source.GetType() {
		case mesos.Resource_DiskInfo_Source_PATH:
			root = source.GetPath().GetRoot()
		case mesos.Resource_DiskInfo_Source_MOUNT:
			root = source.GetMount().GetRoot()
		default:
			return "", fmt.Errorf("%w: disk source %v", ErrInvalidVolume, source.GetType())
		}
		if root == "" {
			return "", fmt.Errorf("%w: disk source without a root", ErrInvalidVolume)
		}
		if !filepath.IsAbs(root) {
			root = filepath.Join(workDir, root)
		}
		if source.GetType() == mesos.Resource_DiskInfo_Source_MOUNT {
			return root, nil
		}
	}
	return filepath.Join(root, "volumes", "roles", strings.ReplaceAll(role, "/", " "), id), nil
}

func fileName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}

// posixFilesystem is filesystem/posix: containers see the machine's files, and
// persistent volumes as symbolic links in the sandbox
// (src/slave/containerizer/mesos/isolators/filesystem/posix.cpp).
type posixFilesystem struct {
	workDir string

	mu sync.Mutex
	// containers is guarded by mu.
	containers map[string]*posixFiles
}

type posixFiles struct {
	sandbox string
	// volumes are the volumes by the names they are linked under.
	volumes map[string]*mesos.Resource
}

var _ Isolator = (*posixFilesystem)(nil)

func newPosixFilesystem(workDir string) *posixFilesystem {
	return &posixFilesystem{workDir: workDir, containers: make(map[string]*posixFiles)}
}

func (f *posixFilesystem) Name() string { return "filesystem/posix" }

// Recover remembers sandboxes only: links that are there already are accepted
// by the next Update.
func (f *posixFilesystem) Recover(_ context.Context, states []ContainerState, _ []*mesos.ContainerID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range states {
		f.containers[Key(s.Config.ID)] = &posixFiles{sandbox: s.Config.Sandbox, volumes: volumesOf(s.Config.Resources)}
	}
	return nil
}

func (f *posixFilesystem) Prepare(_ context.Context, config *ContainerConfig) (*Preparation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.containers[Key(config.ID)]; ok {
		return nil, fmt.Errorf("container %s: %w", Key(config.ID), ErrContainerExists)
	}
	files := &posixFiles{sandbox: config.Sandbox}
	if err := f.link(files, config.Resources); err != nil {
		return nil, err
	}
	f.containers[Key(config.ID)] = files
	return nil, nil
}

func (f *posixFilesystem) Isolate(_ context.Context, id *mesos.ContainerID, _ int) error {
	return f.known(id)
}

func (f *posixFilesystem) Watch(id *mesos.ContainerID) (<-chan Limitation, error) {
	return nil, f.known(id)
}

func (f *posixFilesystem) Update(_ context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	files, ok := f.containers[Key(id)]
	if !ok {
		return fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
	}
	return f.link(files, resources)
}

func (f *posixFilesystem) Usage(_ context.Context, id *mesos.ContainerID, _ *mesos.ResourceStatistics) error {
	return f.known(id)
}

func (f *posixFilesystem) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	return f.known(id)
}

// Cleanup leaves the links: they go with the sandbox.
func (f *posixFilesystem) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.containers, Key(id))
	return nil
}

func (f *posixFilesystem) known(id *mesos.ContainerID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.containers[Key(id)]; !ok {
		return fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
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
		if path := r.GetDisk().GetVolume().GetContainerPath(); fileName(path) {
			volumes[path] = r
		}
	}
	return volumes
}

// link makes the links of a sandbox those of resources.
func (f *posixFilesystem) link(files *posixFiles, resources []*mesos.Resource) error {
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
		path, err := PersistentVolumePath(f.workDir, volume)
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

func (f *posixFilesystem) linkOne(sandbox, name, path string, volume *mesos.Resource) error {
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
func (f *posixFilesystem) own(sandbox, path string, volume *mesos.Resource) error {
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
