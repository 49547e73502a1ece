package security

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Devices is linux/devices: it puts the operator's allowed devices into the /dev of
// containers that have a root of their own; others see the machine's /dev anyway. What
// they may do with a device, cgroups/devices decides
// (src/slave/containerizer/mesos/isolators/linux/devices.cpp).
type Devices struct {
	isolation.BaseIsolator
	devices []isolation.Device
}

// NewDevices looks the allowed devices up. Every one must name a path below /dev.
func NewDevices(o Options) (*Devices, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it needs root")
	}
	d := &Devices{}
	for _, allowed := range o.Devices.GetAllowedDevices() {
		device, err := lookDevice(allowed)
		if err != nil {
			return nil, err
		}
		d.devices = append(d.devices, device)
	}
	slices.SortFunc(d.devices, func(a, b isolation.Device) int { return strings.Compare(a.Path, b.Path) })
	return d, nil
}

// lookDevice makes the node of an allowed device: the same for every user of the
// container, as the device cgroup sees it.
func lookDevice(allowed *mesos.DeviceAccess) (isolation.Device, error) {
	path := allowed.GetDevice().GetPath()
	if path == "" {
		return isolation.Device{}, errors.New("an allowed device has no path")
	}
	if filepath.Clean(path) != path || !strings.HasPrefix(path, "/dev/") {
		return isolation.Device{}, fmt.Errorf("allowed device %q does not lie below /dev", path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return isolation.Device{}, fmt.Errorf("allowed device %s: %w", path, err)
	}
	mode := st.Mode & unix.S_IFMT
	if mode != unix.S_IFBLK && mode != unix.S_IFCHR {
		return isolation.Device{}, fmt.Errorf("allowed device %s is not a block or character device", path)
	}
	mode |= 0o600
	if allowed.GetAccess().GetRead() {
		mode |= 0o044
	}
	if allowed.GetAccess().GetWrite() {
		mode |= 0o022
	}
	return isolation.Device{Path: path, Mode: mode, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}, nil
}

// Name is "linux/devices".
func (*Devices) Name() string { return "linux/devices" }

// Prepare adds the devices.
func (d *Devices) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if config.RootFS == "" || config.Class == isolation.ClassDebug || len(d.devices) == 0 {
		return nil, nil
	}
	return &isolation.Preparation{Devices: d.devices}, nil
}
