package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ocgroups "github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // sets DevicesSetV2
	ocdevices "github.com/opencontainers/cgroups/devices/config"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// rule lets a container do something with devices. A number of -1 stands for all.
type rule struct {
	kind         byte // 'c' or 'b'
	major, minor int64
	access       string // of "rwm"
}

// defaultDevices are what every container may use: nodes may be made of all devices, and
// these used (src/slave/containerizer/mesos/isolators/cgroups/subsystems/devices.cpp).
var defaultDevices = []rule{
	{'c', -1, -1, "m"},
	{'b', -1, -1, "m"},
	{'c', 5, 1, "rwm"},    // /dev/console
	{'c', 4, 0, "rwm"},    // /dev/tty0
	{'c', 4, 1, "rwm"},    // /dev/tty1
	{'c', 136, -1, "rwm"}, // /dev/pts/*
	{'c', 5, 2, "rwm"},    // /dev/ptmx
	{'c', 10, 200, "rwm"}, // /dev/net/tun
	{'c', 1, 3, "rwm"},    // /dev/null
	{'c', 1, 5, "rwm"},    // /dev/zero
	{'c', 1, 7, "rwm"},    // /dev/full
	{'c', 5, 0, "rwm"},    // /dev/tty
	{'c', 1, 9, "rwm"},    // /dev/urandom
	{'c', 1, 8, "rwm"},    // /dev/random
}

// String is the rule as v1 writes it.
func (r rule) String() string {
	return string(r.kind) + " " + starred(r.major) + ":" + starred(r.minor) + " " + r.access
}

func starred(n int64) string {
	if n < 0 {
		return "*"
	}
	return strconv.FormatInt(n, 10)
}

// parseRule reads what String wrote.
func parseRule(text string) (rule, error) {
	f := strings.Fields(text)
	if len(f) != 3 || f[0] != "c" && f[0] != "b" {
		return rule{}, fmt.Errorf("device rule %q: %w", text, strconv.ErrSyntax)
	}
	r := rule{kind: f[0][0], access: f[2]}
	major, minor, _ := strings.Cut(f[1], ":")
	for _, n := range []struct {
		text string
		into *int64
	}{{major, &r.major}, {minor, &r.minor}} {
		*n.into = -1
		if n.text != "*" {
			v, err := strconv.ParseUint(n.text, 10, 32)
			if err != nil {
				return rule{}, fmt.Errorf("device rule %q: %w", text, err)
			}
			*n.into = int64(v)
		}
	}
	return r, nil
}

// devicesAttr is the extended attribute of a container's cgroup that holds what it was
// allowed besides the rest: it is there as long as the cgroup, whatever becomes of the
// agent.
const devicesAttr = "trusted.clusterd.devices"

// devices is cgroups/devices.
type devices struct {
	nothing
	version int
	// allowed is what every container may do.
	allowed []rule
}

func newDevices(s *Set) (controller, error) {
	d := &devices{version: s.tree.Version("devices"), allowed: slices.Clone(defaultDevices)}
	for _, a := range s.options.AllowedDevices.GetAllowedDevices() {
		r, err := ruleOf(a)
		if err != nil {
			return nil, fmt.Errorf("--allowed_devices: %w", err)
		}
		d.allowed = append(d.allowed, r)
	}
	return d, nil
}

// ErrBadDevice says that something is not a device, or that nothing may be done with it.
var ErrBadDevice = errors.New("bad device")

func ruleOf(a *mesos.DeviceAccess) (rule, error) {
	path := a.GetDevice().GetPath()
	if path == "" {
		return rule{}, fmt.Errorf("%w: no path", ErrBadDevice)
	}
	var r rule
	for _, access := range []struct {
		yes  bool
		name string
	}{{a.GetAccess().GetRead(), "r"}, {a.GetAccess().GetWrite(), "w"}, {a.GetAccess().GetMknod(), "m"}} {
		if access.yes {
			r.access += access.name
		}
	}
	if r.access == "" {
		return rule{}, fmt.Errorf("%w: %s: nothing may be done with it", ErrBadDevice, path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return rule{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		r.kind = 'c'
	case unix.S_IFBLK:
		r.kind = 'b'
	default:
		return rule{}, fmt.Errorf("%w: %s is none", ErrBadDevice, path)
	}
	r.major, r.minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	return r, nil
}

func (d *devices) prepare(c *container, _ *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if d.version == 2 {
		return nil, d.load(c, nil)
	}
	// A denial of single devices would leave the rule for all in place.
	if err := cgroups.Write(filepath.Join(c.dirs[0], "devices.deny"), "a *:* rwm"); err != nil {
		return nil, err
	}
	lines := make([]string, 0, len(d.allowed))
	for _, r := range d.allowed {
		lines = append(lines, r.String())
	}
	return nil, cgroups.WriteEach(filepath.Join(c.dirs[0], "devices.allow"), lines...)
}

// load puts the program in place that decides on v2: the rules for all and further ones.
// Programs of nested containers' cgroups are asked besides it, so that nothing can be
// allowed there which is not here.
func (d *devices) load(c *container, further []rule) error {
	r := &ocgroups.Resources{Devices: []*ocdevices.Rule{{Type: ocdevices.WildcardDevice, Major: ocdevices.Wildcard, Minor: ocdevices.Wildcard, Permissions: "rwm"}}}
	for _, list := range [...][]rule{d.allowed, further} {
		for _, a := range list {
			r.Devices = append(r.Devices, &ocdevices.Rule{
				Type: ocdevices.Type(a.kind), Major: a.major, Minor: a.minor, Permissions: ocdevices.Permissions(a.access), Allow: true,
			})
		}
	}
	if err := ocgroups.DevicesSetV2(c.dirs[0], r); err != nil {
		return fmt.Errorf("load the device filter: %w", err)
	}
	return nil
}

// change allows or denies one more device.
func (d *devices) change(c *container, r rule, allow bool) error {
	if d.version == 1 {
		file := "devices.deny"
		if allow {
			file = "devices.allow"
		}
		return cgroups.Write(filepath.Join(c.dirs[0], file), r.String())
	}
	further, err := readRules(c.dirs[0])
	if err != nil {
		return err
	}
	further = slices.DeleteFunc(further, func(o rule) bool { return o == r })
	if allow {
		further = append(further, r)
	}
	lines := make([]string, 0, len(further))
	for _, f := range further {
		lines = append(lines, f.String())
	}
	if err := unix.Setxattr(c.dirs[0], devicesAttr, []byte(strings.Join(lines, "\n")), 0); err != nil {
		return fmt.Errorf("note the devices of a container: %w", err)
	}
	return d.load(c, further)
}

func readRules(dir string) ([]rule, error) {
	b := make([]byte, 64<<10)
	n, err := unix.Getxattr(dir, devicesAttr, b)
	if errors.Is(err, unix.ENODATA) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the devices of a container: %w", err)
	}
	var rules []rule
	for line := range strings.Lines(string(b[:n])) {
		r, err := parseRule(line)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// Devices lets other isolators decide which devices a container may use besides the usual
// ones.
type Devices struct{ isolator *isolator }

// Allow lets a container read and write a character device, and make nodes of it.
func (d *Devices) Allow(_ context.Context, id *mesos.ContainerID, major, minor uint32) error {
	return d.change(id, major, minor, true)
}

// Deny takes back what Allow gave.
func (d *Devices) Deny(_ context.Context, id *mesos.ContainerID, major, minor uint32) error {
	return d.change(id, major, minor, false)
}

func (d *Devices) change(id *mesos.ContainerID, major, minor uint32, allow bool) error {
	c, err := d.isolator.get(id)
	if err != nil {
		return err
	}
	if c = d.isolator.owner(c); c == nil || !c.has() {
		return fmt.Errorf("container %s has no device cgroup: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return d.isolator.ctl.(*devices).change(c, rule{'c', int64(major), int64(minor), "rwm"}, allow)
}
