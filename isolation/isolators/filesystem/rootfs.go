package filesystem

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/supervisor"
)

// maskedPaths say more of the machine, or do more to it, than is a container's
// business: those of Mesos, and of the OCI's default since.
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
}

// readonlyPaths are knobs of the machine's kernel. They become so after all mounts.
var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup"}

// devices are those that every program may count on; anybody may use them.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3},
	{"zero", 1, 5},
	{"full", 1, 7},
	{"random", 1, 8},
	{"urandom", 1, 9},
	{"tty", 5, 0},
}

var links = []struct{ name, to string }{
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
}

// ttyGroup is the group of terminals: grantpt(3) of the GNU C library counts on it.
const ttyGroup = 5

// makeBase makes the layer that is below all others of every root: what is mounted on, which
// would otherwise be made in each, and deleted with it. It lies beside the roots, and is never
// changed: containers of an agent with other flags may use it.
func makeBase(workDir string, directories, files []string) (string, error) {
	sum := sha256.Sum256([]byte(strings.Join(slices.Concat(directories, []string{""}, files), "\x00")))
	dir := filepath.Join(workDir, "provisioner", "base-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	made := filepath.Join(filepath.Dir(dir), "base.new")
	if err := os.RemoveAll(made); err != nil {
		return "", err
	}
	for _, d := range directories {
		if err := makeOpen(made, d); err != nil {
			return "", err
		}
	}
	for _, f := range files {
		if err := makeOpen(made, filepath.Dir(f)); err != nil {
			return "", err
		}
		path := filepath.Join(made, filepath.Clean("/"+f))
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chmod(path, 0o644)); err != nil { //nolint:gosec // as the supervisor makes them
			return "", err
		}
	}
	return dir, os.Rename(made, dir)
}

// makeOpen makes a directory in root that everybody may pass through, whatever the umask.
func makeOpen(root, path string) error {
	path = filepath.Join(root, filepath.Clean("/"+path))
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for ; ; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil || path == root { //nolint:gosec // as the supervisor makes them
			return err
		}
	}
}

// root asks for the file systems that a root directory of its own needs.
func (l *Linux) root(p *isolation.Preparation, config *isolation.ContainerConfig, users UserMap) {
	const quiet = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	add := func(kind, target, data string, flags uint64) {
		p.Mounts = append(p.Mounts, isolation.Mount{Source: kind, Type: kind, Target: target, Data: data, Flags: flags, Make: supervisor.MakeDirectory})
	}
	add("proc", "/proc", "", quiet)
	add("sysfs", "/sys", "", quiet|unix.MS_RDONLY)
	// The isolators of cgroups show the container's own at /sys/fs/cgroup. Without them it
	// is a directory of sysfs in which nothing can be made.
	add("tmpfs", "/dev", fmt.Sprintf("mode=755,size=64k,uid=%d,gid=%d", users.Base, users.Base), unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_STRICTATIME)
	add("devpts", "/dev/pts", fmt.Sprintf("newinstance,ptmxmode=0666,mode=0620,gid=%d", users.Base+ttyGroup), unix.MS_NOSUID|unix.MS_NOEXEC)
	if !l.o.IPC {
		add("tmpfs", "/dev/shm", "mode=1777", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_STRICTATIME)
	}
	for _, d := range devices {
		p.Devices = append(p.Devices, isolation.Device{Path: "/dev/" + d.name, Mode: unix.S_IFCHR | 0o666, Major: d.major, Minor: d.minor, UID: users.Base, GID: users.Base})
	}
	for _, d := range links {
		p.Devices = append(p.Devices, isolation.Device{Path: "/dev/" + d.name, Mode: unix.S_IFLNK, Link: d.to, UID: users.Base, GID: users.Base})
	}
	p.RootBase = l.base
	p.ReadonlyPaths = readonlyPaths
	if !l.privileged(config.ID, config.ContainerInfo) {
		p.MaskedPaths = maskedPaths
	}
}

// privileged says whether a container asked for the machine's process ids, and all
// above it did: then nothing is masked for it.
func (l *Linux) privileged(id *mesos.ContainerID, info *mesos.ContainerInfo) bool {
	if !info.GetLinuxInfo().GetSharePidNamespace() {
		return false
	}
	if id.GetParent() == nil {
		return true
	}
	parent, err := l.Get(id.GetParent())
	return err == nil && l.privileged(parent.id, parent.info)
}
