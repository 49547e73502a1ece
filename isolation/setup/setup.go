// Package setup puts the containerizer together that an agent's flags describe: a
// launcher, isolators in their order, a provisioner of images.
//
// Options is the main type and New the main function; a table (makers) names every
// isolator there is. Only agent/ and internal/cli import it.
package setup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/docker"
	"clusterd/isolation/images"
	"clusterd/isolation/isolators/cgroup"
	"clusterd/isolation/isolators/disk"
	"clusterd/isolation/isolators/filesystem"
	"clusterd/isolation/isolators/gpu"
	"clusterd/isolation/isolators/namespaces"
	"clusterd/isolation/isolators/runtime"
	"clusterd/isolation/isolators/security"
)

// Options are what the flags say about containers.
type Options struct {
	// WorkDir is the agent's work directory, RuntimeDir that of what ends with the boot.
	WorkDir, RuntimeDir string
	// Resources are the agent's.
	Resources []*mesos.Resource
	// Containerizers (--containerizers) are asked in this order; none means mesos.
	Containerizers []string
	// Docker is for the containerizer of that name.
	Docker docker.Options
	// Launcher (--launcher) and Isolation (--isolation) are names.
	Launcher, Isolation string
	// CgroupsHierarchy (--cgroups_hierarchy) is where cgroups are mounted, CgroupsRoot
	// (--cgroups_root) the directory for containers; empty means the defaults: of the root
	// DefaultCgroupsRoot, or where that is another agent's one that is named after WorkDir.
	CgroupsHierarchy, CgroupsRoot string
	// Tree are the cgroups of containers, for the linux launcher and the isolators of
	// cgroups alike. New opens it, if it is nil, when something needs it.
	Tree *cgroups.Tree
	// Cgroups are for the isolators of cgroups, CgroupsDestroyTimeout
	// (--cgroups_destroy_timeout) for whoever kills through them; 0 means the default.
	Cgroups               cgroup.Options
	CgroupsDestroyTimeout time.Duration
	// GPU is for gpu/nvidia.
	GPU gpu.Options
	// DiskDU is for disk/du, DiskXFS for disk/xfs: what the flags say about them.
	DiskDU  disk.DUOptions
	DiskXFS disk.XFSOptions
	// Security is for the isolators that take rights away.
	Security security.Options
	// Network is for the isolators of network/.
	Network NetworkOptions
	// Filesystem is for filesystem/linux and volumes, IPC for namespaces/ipc, Users for
	// namespaces/user: what the flags say about them, and nothing else.
	Filesystem filesystem.Options
	IPC        namespaces.IPCOptions
	Users      namespaces.UserOptions
	// ImageProviders (--image_providers) are the kinds of images there are: none, or
	// docker. Images are for their provisioner, Runtime is for docker/runtime.
	ImageProviders []string
	Images         images.Options
	Runtime        runtime.Options
	// Provisioner makes root file systems of images; nil: there are none, or New makes
	// it of Images.
	Provisioner isolation.Provisioner
	// Count, if set, is told the name of what has happened once more, in Mesos's words; Gauge
	// is given what says how much there is of something. Neither is a flag.
	Count func(name string)
	Gauge func(name string, value func() float64)
	// VolumeGIDRange is --volume_gid_range.
	VolumeGIDRange []filesystem.GIDRange
	// DisallowSharingPID is --disallow_sharing_agent_pid_namespace.
	DisallowSharingPID bool

	log zerolog.Logger
	// usualRoot stands for DefaultCgroupsRoot in tests.
	usualRoot string
}

// DefaultIsolation is what --isolation is when it is not given.
const DefaultIsolation = "posix/cpu,posix/mem"

// What flags about cgroups are when they are not given.
const (
	DefaultCgroupsHierarchy = "/sys/fs/cgroup"
	DefaultCgroupsRoot      = "mesos"
)

// New makes the containerizer: the one that o.Containerizers names, or one composed of
// them in that order.
func New(o Options, programs *isolation.Programs, log zerolog.Logger) (isolation.Containerizer, error) {
	names := o.Containerizers
	if len(names) == 0 {
		names = []string{"mesos"}
	}
	var all []isolation.Containerizer
	for i, name := range names {
		one, err := containerizer(name, o, programs, log)
		if err == nil && slices.Contains(names[:i], name) {
			err = errors.New("it is named twice")
		}
		if one != nil {
			all = append(all, one)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("containerizer %s: %w", name, err), isolation.NewComposing(all...).Close())
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return isolation.NewComposing(all...), nil
}

func containerizer(name string, o Options, programs *isolation.Programs, log zerolog.Logger) (isolation.Containerizer, error) {
	switch name {
	case "mesos":
		return newMesos(o, programs, log)
	case "docker":
		d := o.Docker
		d.RuntimeDir, d.EnableCFS = o.RuntimeDir, o.Cgroups.EnableCFS
		c, err := docker.New(d, programs, log)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return nil, errors.New("there are mesos and docker")
}

func newMesos(o Options, programs *isolation.Programs, log zerolog.Logger) (isolation.Containerizer, error) {
	o.log = log
	if err := o.openTree(log); err != nil {
		return nil, err
	}
	closeImages, err := o.openImages(log)
	if err != nil {
		return nil, errors.Join(err, o.unlock())
	}
	isolators, err := Isolators(o)
	if err != nil {
		closeImages()
		return nil, errors.Join(err, o.unlock())
	}
	launcher, err := Launcher(o, programs, log)
	if err != nil {
		closeImages()
		return nil, errors.Join(err, o.unlock())
	}
	m := isolation.NewMesos(launcher, isolators, log)
	m.SetCount(o.Count)
	if o.Gauge != nil && slices.ContainsFunc(isolators, func(i isolation.Isolator) bool { return i.Name() == "filesystem/linux" }) {
		o.Gauge("containerizer/mesos/filesystem/containers_new_rootfs", func() float64 { return float64(m.RootFilesystems()) })
	}
	if o.Provisioner != nil {
		m.SetProvisioner(o.Provisioner)
	}
	return m, nil
}

// Launcher makes the launcher that o.Launcher names; empty means the default one.
func Launcher(o Options, programs *isolation.Programs, log zerolog.Logger) (isolation.Launcher, error) {
	switch o.Launcher {
	case "", "posix":
		l, err := isolation.NewPosixLauncher(o.RuntimeDir, programs, log)
		if err != nil {
			return nil, err
		}
		return o.withLock(l)
	case "linux":
		if os.Geteuid() != 0 {
			return nil, fmt.Errorf("launcher linux: %w: it needs root; use --launcher=posix", isolation.ErrNotSupported)
		}
		return isolation.NewLinuxLauncher(o.RuntimeDir, o.Tree, programs, log)
	}
	return nil, fmt.Errorf("unknown launcher %q (there are posix and linux)", o.Launcher)
}
