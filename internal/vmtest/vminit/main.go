// Command vminit is the first process of the machine that internal/vmtest boots. It
// loads what the disk needs, makes the disk the root, mounts what a Linux system has,
// runs the test binaries of the plan one after the other, and switches off.
//
// Called as modprobe, which the kernel does, it loads kernel modules.
//
// One goroutine does it all, another carries output away. Only internal/vmtest builds it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"clusterd/internal/vmtest/plan"
)

func main() {
	if filepath.Base(os.Args[0]) == "modprobe" {
		os.Exit(modprobe(os.Args[1:])) //nolint:forbidigo // this is main
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "vminit: only for the machine of internal/vmtest")
		os.Exit(2) //nolint:forbidigo // this is main
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "vminit: %v\n", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil { // qemu runs with -no-reboot
		fmt.Fprintf(os.Stderr, "vminit: reboot: %v\n", err)
	}
	select {}
}

func run() error {
	if err := enterDisk(); err != nil {
		return err
	}
	env, err := mountAll()
	if err != nil {
		return err
	}
	port, err := openPort(plan.Port)
	if err != nil {
		return err
	}
	defer port.Close()
	body, err := os.ReadFile(plan.Path)
	if err != nil {
		return err
	}
	var p plan.Plan
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	r := &runner{out: json.NewEncoder(port), env: env}
	r.baseline = look()
	for _, one := range p.Runs {
		r.run(one)
	}
	return r.out.Encode(plan.Record{Done: true})
}

// enterDisk leaves the initial RAM disk, from which pivot_root(2) does not work, for
// the first disk.
func enterDisk() error {
	if err := mount("devtmpfs", "/dev", "devtmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, m := range []string{"virtio_pci", "virtio_blk", "virtio_console", "ext4", "xfs"} {
		if err := load(m); err != nil {
			return err
		}
	}
	if err := mount("/dev/vda", "/root", "ext4", 0, ""); err != nil {
		return err
	}
	if err := unix.Unmount("/dev", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount /dev: %w", err)
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

// mountAll mounts what is there on any Linux, and the disks of the tests, and returns
// the environment of the tests.
func mountAll() ([]string, error) {
	for _, m := range []struct {
		source, target, kind, data string
		flags                      uintptr
	}{
		{"devtmpfs", "/dev", "devtmpfs", "mode=0755", unix.MS_NOSUID},
		{"proc", "/proc", "proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "/sys", "sysfs", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "nsdelegate,memory_recursiveprot", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"devpts", "/dev/pts", "devpts", "mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "/dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"mqueue", "/dev/mqueue", "mqueue", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"hugetlbfs", "/dev/hugepages", "hugetlbfs", "pagesize=2M", 0},
		{"tmpfs", "/run", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
		{"/dev/vdb", "/mnt/xfs", "xfs", "prjquota", 0},
		{"/dev/vdc", "/mnt/xfs-noquota", "xfs", "", 0},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return nil, err
		}
		if err := mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return nil, err
		}
	}
	// As systemd has it: what is mounted is seen in other mount namespaces.
	if err := mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return nil, err
	}
	for link, to := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, link); err != nil {
			return nil, err
		}
	}
	if err := unix.Sethostname([]byte("vmtest")); err != nil {
		return nil, fmt.Errorf("set hostname: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return nil, fmt.Errorf("set lo up: %w", err)
	}
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "TERM=dumb",
		"CLUSTERD_VM=1", "CLUSTERD_PROGRAMS=/vm/programs",
		"CLUSTERD_VM_XFS=/mnt/xfs", "CLUSTERD_VM_XFS_NOQUOTA=/mnt/xfs-noquota", "CLUSTERD_VM_SWAP=/dev/vdd",
	}, nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// openPort opens the virtio serial port of a name.
func openPort(name string) (*os.File, error) {
	ports, err := filepath.Glob("/sys/class/virtio-ports/*")
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		if b, err := os.ReadFile(filepath.Join(p, "name")); err == nil && string(b) == name+"\n" {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(p)), os.O_WRONLY, 0)
		}
	}
	return nil, fmt.Errorf("port %s: %w (there are %v)", name, os.ErrNotExist, ports)
}
