// Package filesystem has the isolators that decide what files a container sees:
// filesystem/linux and filesystem/shared, and those of volumes, which are
// volume/host_path, volume/sandbox_path, volume/image and volume/secret.
//
// Linux is the main type: mount namespaces, root file systems and persistent
// volumes. Options says what all of them are told. Every mount but those of
// persistent volumes is made by the process above the container, in its own mount
// namespace, and goes with it. All isolators are safe for concurrent use.
// isolation/setup imports the package.
//
// Paths in a sandbox are the task's to change at any moment, also while a container
// nested in it is made. What is resolved there is resolved beneath the sandbox: here
// for what has to be made or looked at, and again by whoever mounts (SourceIn and
// TargetIn of isolation.Mount).
package filesystem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
	"clusterd/isolation/mounts"
	"clusterd/isolation/supervisor"
)

// ErrInvalidVolume says that a volume of a ContainerInfo cannot be mounted as it was
// asked for.
var ErrInvalidVolume = errors.New("invalid volume")

// DefaultSandboxDirectory is where a container with an image finds its sandbox.
const DefaultSandboxDirectory = "/mnt/mesos/sandbox"

// UserMap says how the ids of a container's user namespace look from outside.
type UserMap struct {
	// Namespace is a path of the namespace; empty: the container has none of its own.
	Namespace string
	// Base is what the container's id 0 is outside.
	Base uint32
}

// Options are what the isolators are told.
type Options struct {
	// WorkDir is the agent's work directory.
	WorkDir string
	// SandboxDirectory (--sandbox_directory) is where a container with a root file
	// system of its own finds its sandbox; empty: DefaultSandboxDirectory.
	SandboxDirectory string
	// MountedFiles are absolute paths of files that another isolator mounts on in every
	// container with an image.
	MountedFiles []string
	// IPC says that namespaces/ipc makes /dev/shm, Secrets that volume/secret is there.
	IPC, Secrets bool
	// Users tells of user namespaces; nil: there are none.
	Users func(id *mesos.ContainerID) (UserMap, error)
	// ForceCreation (--host_path_volume_force_creation) are directories in which
	// missing sources of HOST_PATH volumes are made.
	ForceCreation []string
	// Provisioner makes volumes of images; nil: there are none.
	Provisioner isolation.Provisioner
	// GIDs gives volumes groups of their own (--volume_gid_range); nil: their owner
	// changes with who uses them.
	GIDs *VolumeGIDs
}

func (o *Options) sandboxDirectory() string {
	if o.SandboxDirectory == "" {
		return DefaultSandboxDirectory
	}
	return o.SandboxDirectory
}

func (o *Options) users(id *mesos.ContainerID) (UserMap, error) {
	if o.Users == nil {
		return UserMap{}, nil
	}
	return o.Users(id)
}

// inside is where a container finds its sandbox.
func (o *Options) inside(config *isolation.ContainerConfig) string {
	if config.RootFS == "" {
		return config.Sandbox
	}
	return o.sandboxDirectory()
}

// trusted is the sandbox of the container at the top of the line, which lies where
// only the agent writes, and the rest of the path of id's own sandbox
// (src/slave/containerizer/mesos/paths.cpp, getSandboxPath).
func trusted(id *mesos.ContainerID, sandbox string) (root, rest string) {
	root, rest = filepath.Clean(sandbox), "."
	for ; id.GetParent() != nil; id = id.GetParent() {
		part := filepath.Join("containers", id.GetValue())
		up, ok := strings.CutSuffix(root, "/"+part)
		if !ok {
			return filepath.Clean(sandbox), "."
		}
		root, rest = up, filepath.Join(part, rest)
	}
	return root, rest
}

// owner is whom a directory belongs to.
func owner(dir string) (uid, gid int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return int(st.Uid), int(st.Gid), nil
}

// volume is one of a ContainerInfo, looked at.
type volume struct {
	*mesos.Volume
	kind mesos.Volume_Source_Type
	// image says that it is made of an image.
	image bool
	// path is that of the source, if it has one.
	path string
}

// volumesOf looks at the volumes of a container (src/common/validation.cpp,
// validateVolume).
func volumesOf(config *isolation.ContainerConfig) ([]volume, error) {
	all := make([]volume, 0, len(config.ContainerInfo.GetVolumes()))
	for _, v := range config.ContainerInfo.GetVolumes() {
		one, err := volumeOf(v)
		if err != nil {
			return nil, fmt.Errorf("%w for %q: %w", ErrInvalidVolume, v.GetContainerPath(), err)
		}
		all = append(all, one)
	}
	return all, nil
}

func volumeOf(v *mesos.Volume) (volume, error) {
	count := 0
	for _, set := range []bool{v.HostPath != nil, v.Image != nil, v.Source != nil} {
		if set {
			count++
		}
	}
	if count != 1 {
		return volume{}, errors.New("one of host_path, image and source must be set")
	}
	if v.GetContainerPath() == "" {
		return volume{}, errors.New("container_path is empty")
	}
	one := volume{Volume: v, kind: v.GetSource().GetType()}
	source := v.GetSource()
	ok := true
	switch {
	case v.Image != nil:
		one.image = true
	case v.HostPath != nil: // relative ones lie in the sandbox
		one.path, one.kind = v.GetHostPath(), mesos.Volume_Source_HOST_PATH
		if !filepath.IsAbs(one.path) {
			one.kind = mesos.Volume_Source_SANDBOX_PATH
		}
	case one.kind == mesos.Volume_Source_HOST_PATH:
		one.path, ok = source.GetHostPath().GetPath(), source.HostPath != nil
	case one.kind == mesos.Volume_Source_SANDBOX_PATH:
		one.path, ok = source.GetSandboxPath().GetPath(), source.SandboxPath != nil
	case one.kind == mesos.Volume_Source_SECRET:
		ok = source.Secret != nil
	case one.kind == mesos.Volume_Source_DOCKER_VOLUME, one.kind == mesos.Volume_Source_CSI_VOLUME:
	default:
		return volume{}, errors.New("type of the source is unknown")
	}
	if !ok {
		return volume{}, fmt.Errorf("what belongs to a source of type %v is not set", one.kind)
	}
	return one, nil
}

// target says where a volume goes: all of the mount that has to do with its target.
// Of what must be there, what lies in the sandbox is made now: what is made in the
// root file system is made by who mounts.
func (o *Options) target(config *isolation.ContainerConfig, v *volume, directory bool) (isolation.Mount, error) {
	m := isolation.Mount{}
	kind := supervisor.MakeDirectory
	if !directory {
		kind = supervisor.MakeFile
	}
	path := v.GetContainerPath()
	if filepath.IsAbs(path) {
		m.Target = filepath.Clean(path)
		switch {
		case m.Target == "/":
			return m, fmt.Errorf("%w: container_path is the root directory", ErrInvalidVolume)
		case config.RootFS != "":
			m.Make = kind
		default:
			// Nobody may make directories outside of the work directory by this.
			if _, err := os.Stat(m.Target); err != nil {
				return m, fmt.Errorf("%w: container_path is absolute, and must exist when the container sees the machine's files: %w", ErrInvalidVolume, err)
			}
		}
		return m, nil
	}
	if !filepath.IsLocal(path) {
		return m, fmt.Errorf("%w: container_path %q: %w", ErrInvalidVolume, path, mounts.ErrEscapes)
	}
	root, rest := trusted(config.ID, config.Sandbox)
	uid, gid, err := owner(root)
	if err != nil {
		return m, err
	}
	if err := mounts.Make(root, filepath.Join(rest, path), directory, uid, gid); err != nil {
		return m, fmt.Errorf("mount point of a volume: %w", err)
	}
	m.TargetIn = o.inside(config)
	m.Target = filepath.Join(m.TargetIn, path)
	return m, nil
}

// add puts a volume into a preparation.
func (o *Options) add(p *isolation.Preparation, config *isolation.ContainerConfig, v *volume, m isolation.Mount) {
	if v.GetMode() == mesos.Volume_RO {
		m.Flags |= unix.MS_RDONLY
	}
	p.Mounts = append(p.Mounts, m)
	// Whoever chooses what lies at /etc must not get further by it than before: no
	// program may be run as somebody else.
	if config.RootFS == "" && filepath.IsAbs(v.GetContainerPath()) && config.User != "" && config.User != "root" {
		p.NoNewPrivileges = true
	}
}

// isDebug says whether a container looks into its parent, and can have no volumes.
func isDebug(config *isolation.ContainerConfig) bool {
	return config.ID.GetParent() != nil && config.Class == isolation.ClassDebug
}

// prepared is embedded by the isolators of volumes.
type prepared = known.Containers[struct{}]
