package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// system says where the kernel tells about cgroups; tests have their own.
type system struct {
	mountinfo  string // mounts of the agent's namespace
	subsystems string // what the kernel knows of cgroup v1
	self       string // the agent's own cgroups
	mount      func(source, target, fstype string, flags uintptr, data string) error
	xattr      func(path, name string) (string, bool)
	writable   func(path string) bool
}

var machine = system{
	mountinfo: "/proc/self/mountinfo", subsystems: "/proc/cgroups", self: "/proc/self/cgroup",
	mount: unix.Mount, xattr: getXattr, writable: func(path string) bool { return unix.Access(path, unix.W_OK) == nil },
}

func getXattr(path, name string) (string, bool) {
	b := make([]byte, 16)
	n, err := unix.Getxattr(path, name, b)
	if err != nil {
		return "", false
	}
	return string(b[:n]), true
}

// mount is one mounted hierarchy.
type mount struct {
	// point is where it is mounted, root what of the hierarchy is.
	point, root string
	// unified says that it is cgroup v2.
	unified bool
	// options are the options of the hierarchy: the names of its subsystems, on v1.
	options []string
}

// readMounts finds the mounted hierarchies, the last mount of a place only.
func readMounts(path string) ([]mount, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var mounts []mount
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 /root /point rw,noatime shared:1 - fstype source options
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 || kind[0] != "cgroup" && kind[0] != "cgroup2" {
			continue
		}
		m := mount{point: unescape(fields[4]), root: unescape(fields[3]), unified: kind[0] == "cgroup2"}
		if !m.unified {
			m.options = strings.Split(kind[2], ",")
		}
		mounts = slices.DeleteFunc(mounts, func(o mount) bool { return o.point == m.point })
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// pick returns the mount that fits, of several the one below the hierarchy.
func pick(mounts []mount, hierarchy string, fits func(mount) bool) (mount, bool) {
	var found mount
	ok := false
	for _, m := range mounts {
		if !fits(m) {
			continue
		}
		switch {
		case m.point == hierarchy:
			return m, true
		case !ok, !below(found.point, hierarchy) && below(m.point, hierarchy):
			found, ok = m, true
		}
	}
	return found, ok
}

func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// kernelSubsystems lists the subsystems of cgroup v1 that the kernel has and that are
// in no hierarchy yet.
func (s system) kernelSubsystems() (free []string, err error) {
	b, err := os.ReadFile(s.subsystems)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		// name hierarchy number enabled
		f := strings.Fields(line)
		if len(f) == 4 && !strings.HasPrefix(f[0], "#") && f[1] == "0" && f[3] == "1" {
			free = append(free, f[0])
		}
	}
	return free, nil
}

// mountSubsystem mounts a subsystem of cgroup v1 below the hierarchy, as Mesos does
// (src/linux/cgroups.cpp) where nobody has done it.
func (s system) mountSubsystem(hierarchy, subsystem string) (mount, error) {
	point := filepath.Join(hierarchy, subsystem)
	made := os.Mkdir(point, 0o755) == nil
	if err := s.mount(subsystem, point, "cgroup", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, subsystem); err != nil {
		if made {
			_ = os.Remove(point)
		}
		return mount{}, fmt.Errorf("mount cgroup subsystem %s: %w", subsystem, err)
	}
	return mount{point: point, root: "/", options: []string{subsystem}}, nil
}
