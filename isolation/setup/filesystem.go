package setup

import (
	"errors"
	"fmt"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/filesystem"
	"clusterd/isolation/isolators/namespaces"
	"clusterd/isolation/isolators/network/cni"
	"clusterd/isolation/isolators/network/portmapping"
	"clusterd/isolation/isolators/posix"
	"clusterd/isolation/isolators/secret"
)

// ErrIsolation says that the isolators and the launcher do not go together.
var ErrIsolation = errors.New("--isolation and --launcher do not go together")

// filesystems are the isolators of which there is one: none named means the first.
var filesystems = []string{"filesystem/posix", "filesystem/linux", "filesystem/shared"}

// needFilesystem are those that only work with filesystem/linux.
var needFilesystem = []string{"namespaces/ipc", "namespaces/pid", "namespaces/user", "volume/host_path", "volume/image", "volume/secret"}

// completeFilesystem adds what isolators bring along, and refuses what they cannot be
// together with (MesosContainerizer::create).
func (o *Options) completeFilesystem(wanted map[string]bool) error {
	named := 0
	for _, name := range filesystems {
		if wanted[name] {
			named++
		}
	}
	switch {
	case named > 1:
		return fmt.Errorf("%w: only one of %v can be there", ErrIsolation, filesystems)
	case named == 0:
		wanted[filesystems[0]] = true
	}
	linux := wanted["filesystem/linux"]
	if (linux || wanted["filesystem/shared"]) && o.Launcher != "linux" {
		return fmt.Errorf("%w: filesystem/linux and filesystem/shared need --launcher=linux", ErrIsolation)
	}
	if wanted[portmapping.Name] && o.Launcher != "linux" {
		// Every launch would fail: the containers have network namespaces.
		return fmt.Errorf("%w: %s needs --launcher=linux", ErrIsolation, portmapping.Name)
	}
	if linux {
		wanted["volume/image"], wanted["volume/host_path"], wanted["volume/sandbox_path"] = true, true, true
	}
	for _, name := range needFilesystem {
		if wanted[name] && !linux {
			return fmt.Errorf("%w: %s needs filesystem/linux", ErrIsolation, name)
		}
	}
	wanted["environment_secret"] = true
	return nil
}

// files are what the isolators of file systems are told.
func (b *builder) files() filesystem.Options {
	o := b.Filesystem
	o.WorkDir = b.WorkDir
	o.IPC, o.Secrets = b.wanted["namespaces/ipc"], b.wanted["volume/secret"]
	o.Provisioner, o.GIDs = b.Provisioner, b.gids
	if b.wanted[cni.Name] {
		o.MountedFiles = cni.MachineFiles()
	}
	if b.users != nil {
		users := b.users
		o.Users = func(id *mesos.ContainerID) (filesystem.UserMap, error) {
			path, base, err := users.Namespace(id)
			return filesystem.UserMap{Namespace: path, Base: base}, err
		}
	}
	return o
}

// makeGIDs makes what gives volumes groups, if the operator has groups for that.
func (b *builder) makeGIDs() error {
	if len(b.VolumeGIDRange) == 0 {
		return nil
	}
	g, err := filesystem.NewVolumeGIDs(b.WorkDir, b.VolumeGIDRange)
	if err != nil {
		return err
	}
	if b.Gauge != nil {
		b.Gauge("volume_gid_manager/volume_gids_total", func() float64 { total, _ := g.Count(); return float64(total) })
		b.Gauge("volume_gid_manager/volume_gids_free", func() float64 { _, free := g.Count(); return float64(free) })
	}
	b.gids = g
	return nil
}

func (b *builder) makeUsers() (isolation.Isolator, error) {
	o := b.Users
	o.RuntimeDir = b.RuntimeDir
	u, err := namespaces.NewUser(o)
	if err != nil {
		return nil, err
	}
	b.users = u
	return u, nil
}

func (b *builder) makePosixFilesystem() (isolation.Isolator, error) {
	return posix.NewFilesystem(b.WorkDir), nil
}

func (b *builder) makeLinuxFilesystem() (isolation.Isolator, error) {
	return filesystem.NewLinux(b.files())
}

func (b *builder) makeSharedFilesystem() (isolation.Isolator, error) { return filesystem.NewShared() }

func (b *builder) makeIPC() (isolation.Isolator, error) {
	o := b.IPC
	o.RuntimeDir = b.RuntimeDir
	return namespaces.NewIPC(o)
}

func (b *builder) makePID() (isolation.Isolator, error) {
	return namespaces.NewPID(b.DisallowSharingPID)
}

func (b *builder) makeSandboxPath() (isolation.Isolator, error) {
	return filesystem.NewSandboxPath(b.files(), b.wanted["filesystem/linux"]), nil
}

func (b *builder) makeHostPath() (isolation.Isolator, error) {
	return filesystem.NewHostPath(b.files()), nil
}

func (b *builder) makeImage() (isolation.Isolator, error) { return filesystem.NewImage(b.files()), nil }

func (b *builder) makeSecret() (isolation.Isolator, error) {
	return filesystem.NewSecret(b.files()), nil
}

func (b *builder) makeEnvironmentSecret() (isolation.Isolator, error) {
	return secret.NewEnvironment(), nil
}
