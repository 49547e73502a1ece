// Package gpu has gpu/nvidia: it hands NVIDIA GPUs out to containers, by the device files
// of the driver and without its library.
//
// New finds the GPUs and makes the Isolator, which is safe for concurrent use; Discover
// says which there are, for the agent's resources. isolation/setup imports it.
package gpu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/supervisor"
)

// ErrNoGPUs says that there are not as many GPUs as are asked for.
var ErrNoGPUs = errors.New("not enough GPUs")

// Options say which GPUs there are to hand out.
type Options struct {
	// Devices (--nvidia_gpu_devices) are indexes of GPUs; nil: all.
	Devices []int
	// RuntimeDir is the agent's: who has which GPU is kept below it.
	RuntimeDir string
	// Dev is where device files are; empty: /dev.
	Dev string
	// Driver is a directory of the driver's programs and libraries, with bin, lib and
	// lib64 in it, that images which ask for it see as /usr/local/nvidia; empty: none.
	Driver string
}

// DeviceCgroup lets containers use devices: the cgroups/devices isolator.
type DeviceCgroup interface {
	// Allow lets a container read and write a character device.
	Allow(ctx context.Context, id *mesos.ContainerID, major, minor uint32) error
	// Deny takes that back.
	Deny(ctx context.Context, id *mesos.ContainerID, major, minor uint32) error
}

// Isolator is gpu/nvidia (src/slave/containerizer/mesos/isolators/gpu/isolator.cpp).
// Nested containers use the GPUs of the container that they are in.
type Isolator struct {
	isolation.BaseIsolator
	options Options
	cgroup  DeviceCgroup
	// control are the devices that every container may use, so that nvidia-smi works.
	control []device

	mu sync.Mutex
	// free are the GPUs nobody has, in order; used those of containers. Guarded by mu.
	free []device
	used map[string][]device
}

var _ isolation.Isolator = (*Isolator)(nil)

// device is a device file.
type device struct {
	// name is that of the file in /dev.
	name         string
	index        int
	major, minor uint32
}

var gpuName = regexp.MustCompile(`^nvidia(\d+)$`)

// discover lists the GPUs and the control devices in dev.
func discover(dev string) (gpus, control []device, err error) {
	if dev == "" {
		dev = "/dev"
	}
	names, err := filepath.Glob(filepath.Join(dev, "nvidia*"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range names {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFCHR { // the directory nvidia-caps
			continue
		}
		d := device{name: filepath.Base(path), index: -1, major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev)}
		if m := gpuName.FindStringSubmatch(d.name); m != nil {
			if d.index, err = strconv.Atoi(m[1]); err == nil {
				gpus = append(gpus, d)
			}
			continue
		}
		control = append(control, d)
	}
	slices.SortFunc(gpus, func(a, b device) int { return a.index - b.index })
	return gpus, control, nil
}

// Discover says how many GPUs an agent with these options has.
func Discover(o Options) (int, error) {
	gpus, err := o.gpus()
	return len(gpus), err
}

// gpus are those that the options leave.
func (o *Options) gpus() ([]device, error) {
	gpus, _, err := discover(o.Dev)
	if err != nil || o.Devices == nil {
		return gpus, err
	}
	chosen := make([]device, 0, len(o.Devices))
	for _, index := range o.Devices {
		i := slices.IndexFunc(gpus, func(d device) bool { return d.index == index })
		if i < 0 {
			return nil, fmt.Errorf("%w: --nvidia_gpu_devices names %d, of which there is no device file", ErrNoGPUs, index)
		}
		if slices.Contains(chosen, gpus[i]) {
			return nil, fmt.Errorf("--nvidia_gpu_devices names %d twice", index)
		}
		chosen = append(chosen, gpus[i])
	}
	slices.SortFunc(chosen, func(a, b device) int { return a.index - b.index })
	return chosen, nil
}

// New makes the isolator. A machine without the driver's control device is an error.
func New(o Options, cgroup DeviceCgroup) (*Isolator, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it needs root")
	}
	gpus, err := o.gpus()
	if err != nil {
		return nil, err
	}
	_, control, err := discover(o.Dev)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(control, func(d device) bool { return d.name == "nvidiactl" }) {
		return nil, fmt.Errorf("%w: there is no nvidiactl: is the driver loaded?", ErrNoGPUs)
	}
	i := &Isolator{options: o, cgroup: cgroup, control: control, free: gpus, used: map[string][]device{}}
	if err := os.MkdirAll(i.dir(), 0o700); err != nil {
		return nil, err
	}
	return i, nil
}

// Name is "gpu/nvidia".
func (*Isolator) Name() string { return "gpu/nvidia" }

func (i *Isolator) dir() string {
	return filepath.Join(i.options.RuntimeDir, "isolators", "gpu", "nvidia")
}

func (i *Isolator) file(id *mesos.ContainerID) string {
	return filepath.Join(i.dir(), isolation.Key(id))
}

// Recover takes the GPUs of containers that live from what was written down.
func (i *Isolator) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range states {
		if s.Config.ID.GetParent() != nil {
			continue
		}
		names, err := os.ReadFile(i.file(s.Config.ID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		key := isolation.Key(s.Config.ID)
		i.used[key] = nil
		for name := range strings.FieldsSeq(string(names)) {
			at := slices.IndexFunc(i.free, func(d device) bool { return d.name == name })
			if at < 0 {
				return fmt.Errorf("%w: container %s has %s, which is not there or another's", ErrNoGPUs, key, name)
			}
			i.used[key] = append(i.used[key], i.free[at])
			i.free = slices.Delete(i.free, at, at+1)
		}
	}
	return nil
}

// Prepare chooses the container's GPUs, and shows them to a container with an image: of
// the device files only its own and the control ones, and the driver's files when the
// image asks for them.
func (i *Isolator) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if config.Class == isolation.ClassDebug {
		return nil, nil
	}
	root := config.ID
	for root.GetParent() != nil {
		root = root.GetParent()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	key := isolation.Key(root)
	if config.ID.GetParent() == nil {
		if _, ok := i.used[key]; ok {
			return nil, fmt.Errorf("container %s: %w", key, isolation.ErrContainerExists)
		}
		count, err := wanted(config.Resources)
		if err != nil {
			return nil, err
		}
		if err := i.change(root, count); err != nil {
			return nil, err
		}
	}
	if config.RootFS == "" {
		return nil, nil
	}
	p := &isolation.Preparation{}
	for _, d := range slices.Concat(i.control, i.used[key]) {
		p.Devices = append(p.Devices, isolation.Device{Path: "/dev/" + d.name, Mode: unix.S_IFCHR | 0o666, Major: d.major, Minor: d.minor})
	}
	i.addDriver(p, config)
	return p, nil
}

// driverLabel is on images that want the driver's files.
const driverLabel = "com.nvidia.volumes.needed"

// driverDir is where they see them.
const driverDir = "/usr/local/nvidia"

func (i *Isolator) addDriver(p *isolation.Preparation, config *isolation.ContainerConfig) {
	if i.options.Driver == "" || config.Image == nil || config.Image.Labels[driverLabel] == "" {
		return
	}
	p.Mounts = append(p.Mounts, isolation.Mount{
		Source: i.options.Driver, Target: driverDir, Make: supervisor.MakeDirectory, Flags: unix.MS_BIND | unix.MS_REC | unix.MS_RDONLY,
	})
	env := map[string]string{
		"PATH":            appendPath(imageEnv(config.Image, "PATH"), driverDir+"/bin"),
		"LD_LIBRARY_PATH": appendPath(imageEnv(config.Image, "LD_LIBRARY_PATH"), "/usr/local/cuda/compat", driverDir+"/lib", driverDir+"/lib64"),
	}
	if config.Builtin == isolation.BuiltinNone {
		p.Env = env
	} else {
		p.TaskEnv = env
	}
}

// wanted is how many GPUs a container is to have; there are no parts of one.
func wanted(resources []*mesos.Resource) (int, error) {
	gpus, _ := isolation.ScalarSum(resources, "gpus")
	if gpus != float64(int(gpus)) || gpus < 0 {
		return 0, fmt.Errorf("%v GPUs are asked for, which is no whole number", gpus)
	}
	return int(gpus), nil
}

// change gives a container as many GPUs as it is to have, and writes down which.
func (i *Isolator) change(id *mesos.ContainerID, count int) error {
	key := isolation.Key(id)
	have, free := slices.Clone(i.used[key]), slices.Clone(i.free)
	if count > len(have)+len(free) {
		return fmt.Errorf("%w: %d asked for, %d free", ErrNoGPUs, count-len(have), len(free))
	}
	for len(have) < count {
		have, free = append(have, free[0]), free[1:]
	}
	free = append(free, have[count:]...)
	have = have[:count]
	slices.SortFunc(free, func(a, b device) int { return a.index - b.index })
	var text strings.Builder
	for _, d := range have {
		text.WriteString(d.name + "\n")
	}
	if err := writeFile(i.file(id), text.String()); err != nil {
		return err
	}
	i.used[key], i.free = have, free
	return nil
}

// Isolate lets the container use its devices.
func (i *Isolator) Isolate(ctx context.Context, id *mesos.ContainerID, _ int) error {
	if id.GetParent() != nil {
		return nil
	}
	own, err := i.of(id)
	if err != nil {
		return err
	}
	return i.allow(ctx, id, slices.Concat(i.control, own))
}

func (i *Isolator) allow(ctx context.Context, id *mesos.ContainerID, devices []device) error {
	for _, d := range devices {
		if err := i.cgroup.Allow(ctx, id, d.major, d.minor); err != nil {
			return fmt.Errorf("allow %s: %w", d.name, err)
		}
	}
	return nil
}

// Update gives more GPUs, or takes some away.
func (i *Isolator) Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	if id.GetParent() != nil {
		return nil
	}
	before, err := i.of(id)
	if err != nil {
		return err
	}
	count, err := wanted(resources)
	if err != nil || count == len(before) {
		return err
	}
	i.mu.Lock()
	err = i.change(id, count)
	after := slices.Clone(i.used[isolation.Key(id)])
	i.mu.Unlock()
	if err != nil {
		return err
	}
	for _, d := range before {
		if slices.Contains(after, d) {
			continue
		}
		if err := i.cgroup.Deny(ctx, id, d.major, d.minor); err != nil {
			return fmt.Errorf("deny %s: %w", d.name, err)
		}
	}
	return i.allow(ctx, id, after)
}

// Watch never reports anything.
func (i *Isolator) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	_, err := i.of(id)
	return nil, err
}

// Usage adds nothing: it would take the driver's library.
func (i *Isolator) Usage(_ context.Context, id *mesos.ContainerID, _ *mesos.ResourceStatistics) error {
	_, err := i.of(id)
	return err
}

// Status adds nothing.
func (i *Isolator) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	_, err := i.of(id)
	return err
}

// Cleanup takes the GPUs back.
func (i *Isolator) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	if id.GetParent() != nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	key := isolation.Key(id)
	i.free = append(i.free, i.used[key]...)
	slices.SortFunc(i.free, func(a, b device) int { return a.index - b.index })
	delete(i.used, key)
	if err := os.Remove(i.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// of are the GPUs of a container that is known; a nested one has none of its own.
func (i *Isolator) of(id *mesos.ContainerID) ([]device, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	devices, ok := i.used[isolation.Key(id)]
	if !ok && id.GetParent() == nil {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return slices.Clone(devices), nil
}

// Holders says which container has which GPUs, by their indexes.
func (i *Isolator) Holders() map[string][]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := make(map[string][]int, len(i.used))
	for key := range i.used {
		for _, d := range i.used[key] {
			out[key] = append(out[key], d.index)
		}
	}
	return out
}
