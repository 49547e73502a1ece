package setup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/isolators/cgroup"
	"clusterd/isolation/isolators/disk"
	"clusterd/isolation/isolators/filesystem"
	"clusterd/isolation/isolators/gpu"
	"clusterd/isolation/isolators/namespaces"
	"clusterd/isolation/isolators/network/cni"
	"clusterd/isolation/isolators/network/portmapping"
	"clusterd/isolation/isolators/network/ports"
	"clusterd/isolation/isolators/posix"
	"clusterd/isolation/isolators/runtime"
	"clusterd/isolation/isolators/security"
)

// ErrUnknownIsolator says that --isolation names something that is not there.
var ErrUnknownIsolator = errors.New("unknown isolator")

// ErrIsolatorsConflict says that --isolation names isolators that cannot be together.
var ErrIsolatorsConflict = errors.New("isolators that exclude each other")

// maker makes an isolator of what the flags say.
type maker struct {
	name string
	make func(b *builder) (isolation.Isolator, error)
}

// makers are all isolators, in the order in which they prepare, whatever the order
// of their names in --isolation (src/slave/containerizer/mesos/containerizer.cpp).
var makers = []maker{
	{"namespaces/user", (*builder).makeUsers}, // what it makes the others mount with
	{"filesystem/posix", (*builder).makePosixFilesystem},
	{"filesystem/linux", (*builder).makeLinuxFilesystem},
	{"filesystem/shared", (*builder).makeSharedFilesystem},
	{"posix/cpu", func(b *builder) (isolation.Isolator, error) { return b.posixCPU, nil }},
	{"posix/mem", func(b *builder) (isolation.Isolator, error) { return b.posixMem, nil }},
	{"posix/rlimits", func(*builder) (isolation.Isolator, error) { return security.Rlimits{}, nil }},
	{"cgroups/blkio", cgroupMaker("cgroups/blkio")},
	{"cgroups/cpu", cgroupMaker("cgroups/cpu")},
	{"cgroups/cpuset", cgroupMaker("cgroups/cpuset")},
	{"cgroups/devices", cgroupMaker("cgroups/devices")},
	{"cgroups/hugetlb", cgroupMaker("cgroups/hugetlb")},
	{"cgroups/mem", cgroupMaker("cgroups/mem")},
	{"cgroups/net_cls", cgroupMaker("cgroups/net_cls")},
	{"cgroups/net_prio", cgroupMaker("cgroups/net_prio")},
	{"cgroups/perf_event", cgroupMaker("cgroups/perf_event")},
	{"cgroups/pids", cgroupMaker("cgroups/pids")},
	{"docker/runtime", func(b *builder) (isolation.Isolator, error) { return runtime.New(b.Runtime), nil }},
	{"linux/devices", func(b *builder) (isolation.Isolator, error) { return security.NewDevices(b.Security) }},
	{"linux/capabilities", (*builder).makeCapabilities},
	{"linux/nnp", func(*builder) (isolation.Isolator, error) { return security.NoNewPrivileges{}, nil }},
	{"namespaces/ipc", (*builder).makeIPC},
	{"namespaces/pid", (*builder).makePID},
	{"volume/sandbox_path", (*builder).makeSandboxPath},
	{"volume/host_path", (*builder).makeHostPath},
	{"volume/image", (*builder).makeImage},
	{"volume/secret", (*builder).makeSecret},
	{"disk/du", func(b *builder) (isolation.Isolator, error) { return disk.NewDU(b.diskDU()), nil }},
	{"disk/xfs", (*builder).makeXFS},
	{"gpu/nvidia", (*builder).makeGPU},
	{"linux/seccomp", func(b *builder) (isolation.Isolator, error) { return security.NewSeccomp(b.Security, b.capabilities) }},
	{cni.Name, func(b *builder) (isolation.Isolator, error) { return cni.New(b.cni()) }},
	{portmapping.Name, func(b *builder) (isolation.Isolator, error) { return portmapping.New(b.portMapping()) }},
	{ports.Name, func(b *builder) (isolation.Isolator, error) { return ports.New(b.ports()), nil }},
	{"environment_secret", (*builder).makeEnvironmentSecret},
}

// groups are names in --isolation that stand for several.
var groups = map[string][]string{
	"process": {"posix/cpu", "posix/mem"}, // names from before there were several
	"posix":   {"posix/cpu", "posix/mem"},
	"cgroups": {"cgroups/cpu", "cgroups/mem"},

	"posix/disk": {"disk/du"},
}

// builder holds what isolators share while they are made.
type builder struct {
	Options

	wanted map[string]bool
	// users is nil when --isolation does not name namespaces/user.
	users *namespaces.User
	// gids is nil without --volume_gid_range.
	gids *filesystem.VolumeGIDs

	posixCPU, posixMem isolation.Isolator
	// cgroups makes the isolators of cgroups; nil until the first is made.
	cgroups *cgroup.Set
	// capabilities is nil when --isolation does not name linux/capabilities.
	capabilities *security.Capabilities
}

// allCgroups stands for all isolators of cgroups that the machine has.
const allCgroups = "cgroups/all"

func cgroupMaker(name string) func(*builder) (isolation.Isolator, error) {
	return func(b *builder) (isolation.Isolator, error) {
		if err := b.makeCgroups(); err != nil {
			return nil, err
		}
		return b.cgroups.Isolator(name)
	}
}

// makeCgroups makes the set of all isolators of cgroups, which also puts the agent itself
// into cgroups of its own.
func (b *builder) makeCgroups() error {
	if b.cgroups != nil {
		return nil
	}
	if b.Tree == nil {
		return cgroups.ErrUnavailable
	}
	set, err := cgroup.New(b.Tree, b.Cgroups, b.log)
	b.cgroups = set
	return err
}

// diskDU and diskXFS fill in what is not of the flags about disks.
func (b *builder) diskDU() disk.DUOptions {
	o := b.DiskDU
	o.WorkDir, o.Log = b.WorkDir, b.log
	return o
}

func (b *builder) diskXFS() disk.XFSOptions {
	o := b.DiskXFS
	o.WorkDir, o.Log = b.WorkDir, b.log
	return o
}

func (b *builder) makeXFS() (isolation.Isolator, error) {
	x, err := disk.NewXFS(b.diskXFS())
	if err != nil {
		return nil, err
	}
	if b.Gauge != nil {
		b.Gauge("containerizer/mesos/disk/project_ids_total", func() float64 { total, _ := x.Projects(); return float64(total) })
		b.Gauge("containerizer/mesos/disk/project_ids_free", func() float64 { _, free := x.Projects(); return float64(free) })
	}
	return x, nil
}

// makeGPU makes gpu/nvidia, which lets containers use devices that others may not.
func (b *builder) makeGPU() (isolation.Isolator, error) {
	if b.cgroups != nil {
		if devices, ok := b.cgroups.Devices(); ok && b.wanted["filesystem/linux"] {
			o := b.GPU
			o.RuntimeDir = b.RuntimeDir
			return gpu.New(o, devices)
		}
	}
	return nil, fmt.Errorf("%w: it needs cgroups/devices and filesystem/linux", isolation.ErrNotSupported)
}

// GPUs says how many GPUs an agent has to offer: none without gpu/nvidia.
func GPUs(o Options) (int, error) {
	for name := range strings.SplitSeq(o.Isolation, ",") {
		if strings.TrimSpace(name) == "gpu/nvidia" {
			return gpu.Discover(o.GPU)
		}
	}
	return 0, nil
}

func (b *builder) makeCapabilities() (isolation.Isolator, error) {
	o := b.Security
	if b.wanted["filesystem/linux"] {
		o.Cgroups = b.hierarchy()
	}
	c, err := security.NewCapabilities(o)
	if err != nil {
		return nil, err
	}
	b.capabilities = c
	return c, nil
}

// Isolators makes the isolators that o.Isolation names, and those that always are
// there.
func Isolators(o Options) ([]isolation.Isolator, error) {
	wanted, err := o.wanted()
	if err != nil {
		return nil, err
	}
	b := &builder{Options: o, wanted: wanted}
	if err := b.makeGIDs(); err != nil {
		return nil, fmt.Errorf("--volume_gid_range: %w", err)
	}
	b.posixCPU, b.posixMem = posix.NewUsage()
	if len(o.Cgroups.AgentSubsystems) > 0 {
		if err := b.makeCgroups(); err != nil {
			return nil, fmt.Errorf("--agent_subsystems: %w", err)
		}
	}
	var isolators []isolation.Isolator
	for _, m := range makers {
		if !wanted[m.name] {
			continue
		}
		i, err := m.make(b)
		if err != nil {
			return nil, fmt.Errorf("isolator %s: %w", m.name, err)
		}
		isolators = append(isolators, i)
	}
	return isolators, nil
}

// wanted reads --isolation.
func (o *Options) wanted() (map[string]bool, error) {
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(o.Isolation, ",") {
		name = strings.TrimSpace(name)
		names, ok := groups[name]
		switch {
		case name == allCgroups && o.Tree != nil:
			names = cgroup.Available(o.Tree)
		case !ok:
			names = []string{name}
		}
		for _, n := range names {
			if n == "" {
				continue
			}
			if !slices.ContainsFunc(makers, func(m maker) bool { return m.name == n }) {
				return nil, fmt.Errorf("%w: %q (there are %s)", ErrUnknownIsolator, n, strings.Join(Names(), ", "))
			}
			wanted[n] = true
		}
	}
	switch {
	case wanted[cni.Name] && wanted[portmapping.Name]:
		return nil, fmt.Errorf("%w: both %s and %s", ErrIsolatorsConflict, cni.Name, portmapping.Name)
	case !wanted[portmapping.Name]:
		wanted[cni.Name] = true // without networks it is for what containers with images have in /etc
	}
	return wanted, o.completeFilesystem(wanted)
}

// Names lists the isolators that --isolation may name.
func Names() []string {
	names := make([]string, 0, len(makers))
	for _, m := range makers {
		names = append(names, m.name)
	}
	return names
}
