package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
	"clusterd/isolation/mounts"
)

// SandboxPath is volume/sandbox_path: directories and files of a container's own
// sandbox, or of its parent's, at other places
// (src/slave/containerizer/mesos/isolators/volume/sandbox_path.cpp). Without
// filesystem/linux they are symbolic links.
type SandboxPath struct {
	known.Containers[*sandbox]
	o Options
	// linux says that containers have mount namespaces.
	linux bool
}

// sandbox is that of a container.
type sandbox struct {
	path string
	// making is held while sources are looked for and made in it: several containers that
	// are nested in one may want the same source at once, and none may meet it half made.
	making sync.Mutex
}

var _ isolation.Isolator = (*SandboxPath)(nil)

// NewSandboxPath makes the isolator; linux says that filesystem/linux is there.
func NewSandboxPath(o Options, linux bool) *SandboxPath { return &SandboxPath{o: o, linux: linux} }

// Name is "volume/sandbox_path".
func (s *SandboxPath) Name() string { return "volume/sandbox_path" }

// Recover remembers the sandboxes.
func (s *SandboxPath) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	sandboxes := make([]string, 0, len(states))
	for _, state := range states {
		if err := s.Add(state.Config.ID, &sandbox{path: state.Config.Sandbox}); err != nil {
			return err
		}
		sandboxes = append(sandboxes, state.Config.Sandbox)
	}
	if s.o.GIDs != nil {
		return s.o.GIDs.Keep(sandboxes)
	}
	return nil
}

// Cleanup takes the groups of the sandbox's volumes away.
func (s *SandboxPath) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	own, ok := s.Forget(id)
	if !ok || s.o.GIDs == nil {
		return nil
	}
	return s.o.GIDs.Release(own.path)
}

// Prepare asks for the mounts, or makes the links.
func (s *SandboxPath) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	volumes, err := volumesOf(config)
	if err != nil {
		return nil, err
	}
	if err := s.Add(config.ID, &sandbox{path: config.Sandbox}); err != nil {
		return nil, err
	}
	p := &isolation.Preparation{}
	for i := range volumes {
		v := &volumes[i]
		if v.kind != mesos.Volume_Source_SANDBOX_PATH || v.image {
			continue
		}
		if err := s.prepare(p, config, v); err != nil {
			s.Forget(config.ID)
			return nil, fmt.Errorf("volume at %q: %w", v.GetContainerPath(), err)
		}
	}
	return p, nil
}

func (s *SandboxPath) prepare(p *isolation.Preparation, config *isolation.ContainerConfig, v *volume) error {
	if isDebug(config) {
		return fmt.Errorf("volumes of a DEBUG container: %w", isolation.ErrNotSupported)
	}
	holder, err := s.holder(config, v)
	if err != nil {
		return err
	}
	source, err := holder.openSource(config, v.path)
	if err != nil {
		return err
	}
	defer source.Close()
	st, err := source.Stat()
	if err != nil {
		return err
	}
	if !s.linux {
		return link(config, v, filepath.Join(holder.path, v.path))
	}
	m, err := s.o.target(config, v, st.IsDir())
	if err != nil {
		return err
	}
	m.Source, m.Flags = filepath.Join(holder.path, v.path), unix.MS_BIND|unix.MS_REC
	m.SourceIn, _ = trusted(config.ID, config.Sandbox)
	users, err := s.o.users(config.ID)
	if err != nil {
		return err
	}
	// Without a root file system of its own the container's sandbox lies mapped on itself.
	if users.Namespace != "" && (config.RootFS != "" || holder.path != config.Sandbox) {
		// A persistent volume that is mounted there has its ids mapped already.
		if same, err := sameMount(m.SourceIn, source); err != nil {
			return err
		} else if same {
			m.IDMap = users.Namespace
		}
	}
	if err := s.group(p, config, source, m.Source); err != nil {
		return err
	}
	s.o.add(p, config, v, m)
	return nil
}

// holder is the sandbox that a volume's source lies in.
func (s *SandboxPath) holder(config *isolation.ContainerConfig, v *volume) (*sandbox, error) {
	absolute := filepath.IsAbs(v.GetContainerPath())
	if !filepath.IsLocal(v.path) {
		return nil, fmt.Errorf("%w: path %q: %w", ErrInvalidVolume, v.path, mounts.ErrEscapes)
	}
	if !s.linux && (absolute || config.RootFS != "") {
		return nil, fmt.Errorf("volume of type SANDBOX_PATH that is no link in the sandbox: %w without the linux launcher and filesystem/linux", isolation.ErrNotSupported)
	}
	kind := v.GetSource().GetSandboxPath().GetType()
	if v.HostPath != nil {
		kind = mesos.Volume_Source_SandboxPath_SELF
	}
	switch kind {
	case mesos.Volume_Source_SandboxPath_SELF:
		if !absolute {
			return nil, fmt.Errorf("%w: container_path of type SELF is relative: a symbolic link in the sandbox does that", ErrInvalidVolume)
		}
		return s.Get(config.ID)
	case mesos.Volume_Source_SandboxPath_PARENT:
		if config.ID.GetParent() == nil {
			return nil, fmt.Errorf("%w: type PARENT of a container that has no parent", ErrInvalidVolume)
		}
		return s.Get(config.ID.GetParent())
	case mesos.Volume_Source_SandboxPath_UNKNOWN:
	}
	return nil, fmt.Errorf("%w: type of SANDBOX_PATH is unknown", ErrInvalidVolume)
}

// openSource opens what shall be mounted, and makes a directory of it if it is not
// there, which belongs to whom the sandbox does.
func (s *sandbox) openSource(config *isolation.ContainerConfig, path string) (*os.File, error) {
	s.making.Lock()
	defer s.making.Unlock()
	root, _ := trusted(config.ID, config.Sandbox)
	rest, err := filepath.Rel(root, s.path)
	if err != nil || !filepath.IsLocal(rest) {
		return nil, fmt.Errorf("%w: sandbox %s of %s", mounts.ErrEscapes, s.path, root)
	}
	path = filepath.Join(rest, path)
	f, err := mounts.OpenBeneath(root, path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	uid, gid, err := owner(root)
	if err != nil {
		return nil, err
	}
	if err := mounts.Make(root, path, true, uid, gid); err != nil {
		return nil, err
	}
	return mounts.OpenBeneath(root, path)
}

// link makes a volume without a mount. It cannot be read-only then.
func link(config *isolation.ContainerConfig, v *volume, source string) error {
	path := v.GetContainerPath()
	if !filepath.IsLocal(path) || filepath.Clean(path) == "." {
		return fmt.Errorf("%w: container_path %q: %w", ErrInvalidVolume, path, mounts.ErrEscapes)
	}
	root, rest := trusted(config.ID, config.Sandbox)
	uid, gid, err := owner(root)
	if err != nil {
		return err
	}
	dir := filepath.Join(rest, filepath.Dir(path))
	if err := mounts.Make(root, dir, true, uid, gid); err != nil {
		return err
	}
	parent, err := mounts.OpenBeneath(root, dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := unix.Symlinkat(source, int(parent.Fd()), filepath.Base(path)); err != nil {
		return &os.LinkError{Op: "symlink", Old: source, New: filepath.Join(config.Sandbox, path), Err: err}
	}
	return nil
}

// sameMount says whether a file lies in the mount that a directory lies in.
func sameMount(dir string, f *os.File) (bool, error) {
	var a, b unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &a); err != nil {
		return false, &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &b); err != nil {
		return false, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	return a.Mnt_id == b.Mnt_id, nil
}

// group gives a volume of the parent's a group, when somebody else than its owner is
// going to use it (--volume_gid_range).
func (s *SandboxPath) group(p *isolation.Preparation, config *isolation.ContainerConfig, source *os.File, path string) error {
	if s.o.GIDs == nil || config.ID.GetParent() == nil || config.User == "" || config.User == "root" {
		return nil
	}
	uid, _, err := owner(config.Sandbox)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &st); err != nil || int(st.Uid) == uid {
		return err
	}
	gid, err := s.o.GIDs.Allocate(source, path, true)
	if err != nil {
		return err
	}
	p.Groups = append(p.Groups, gid)
	return nil
}
