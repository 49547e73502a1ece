// Package netns keeps network namespaces of containers and works inside of them.
//
// A namespace is kept by a bind mount on a file: it outlives the container's
// processes, and the agent, until it is released. There is no state besides, so
// everything is safe for concurrent use. The isolators of network/ import it.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
)

// Hold keeps the network namespace of a process at path, a file that it makes.
func Hold(pid int, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make the file of a network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if Held(path) {
		return fmt.Errorf("keep a network namespace at %s: %w", path, fs.ErrExist)
	}
	source := "/proc/" + strconv.Itoa(pid) + "/ns/net"
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("keep the network namespace of process %d at %s: %w", pid, path, err)
	}
	return nil
}

// Held says whether path keeps a namespace.
func Held(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Release lets go of the namespace that path keeps, and removes the file. It is no
// error when there is none. Mount namespaces that were copied meanwhile hold the
// mount as well: removing the file takes it away from them too.
func Release(path string) error {
	for Held(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("release the network namespace at %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release the network namespace at %s: %w", path, err)
	}
	return nil
}

// Do runs f in the network namespace at path (a kept one, or /proc/PID/ns/net), on a
// thread that no other code uses meanwhile. What is below /proc/thread-self/net is
// the namespace's; /proc/net is not. f starts no goroutine.
//
// The thread goes back to where it came from. It is thrown away only if it cannot:
// the end of a thread is a death that processes started on it may have asked to be
// told of (PR_SET_PDEATHSIG).
func Do(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// /proc/self and /proc/net show the main thread's namespace to others.
			// While it is taken here another thread does the work.
			defer runtime.UnlockOSThread()
			done <- Do(path, f)
			return
		}
		back, err := enter(path, f)
		if back {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enter runs f and says whether the thread is back where it was.
func enter(path string, f func() error) (back bool, err error) {
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("open the agent's network namespace: %w", err)
	}
	defer func() { _ = unix.Close(own) }()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	err = unix.Setns(fd, unix.CLONE_NEWNET)
	_ = unix.Close(fd)
	if err != nil {
		return true, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer func() { back = unix.Setns(own, unix.CLONE_NEWNET) == nil }()
	return false, f()
}

// AddLinkStatistics adds what a container's link has carried.
func AddLinkStatistics(stats *mesos.ResourceStatistics, l *netlink.LinkStatistics) {
	if l == nil {
		return
	}
	for _, c := range [...]struct {
		to **uint64
		n  uint64
	}{
		{&stats.NetRxPackets, l.RxPackets},
		{&stats.NetRxBytes, l.RxBytes},
		{&stats.NetRxErrors, l.RxErrors},
		{&stats.NetRxDropped, l.RxDropped},
		{&stats.NetTxPackets, l.TxPackets},
		{&stats.NetTxBytes, l.TxBytes},
		{&stats.NetTxErrors, l.TxErrors},
		{&stats.NetTxDropped, l.TxDropped},
	} {
		if *c.to == nil {
			*c.to = new(uint64)
		}
		**c.to += c.n
	}
}

// SetLoopbackUp brings up lo in the current network namespace.
func SetLoopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	return nil
}

// lowestPort says from which port on everybody may listen.
const lowestPort = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// OpenPorts lets all processes of the current network namespace listen on all of its
// ports. Nobody else has a use for them; and root of a user namespace, to whom the
// network namespace does not belong, has no other way to port 80.
func OpenPorts() error {
	err := os.WriteFile(lowestPort, []byte("0"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return nil // an old kernel, or a machine that is a container itself
	}
	return err
}
