package fetcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// identity is the user whose rights count for the file system.
type identity struct {
	// name is as the task gives it.
	name     string
	change   bool // false: act as the agent
	uid, gid int
	groups   []uint32
}

// lookupIdentity finds the task's user. Unless the agent is root it can only
// act as itself, and the user must be its own, as with Mesos's os::su.
func lookupIdentity(name string) (identity, error) {
	if name == "" {
		return identity{}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return identity{}, fmt.Errorf("fetch as user '%s': %w", name, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return identity{}, fmt.Errorf("fetch as user '%s': %w", name, err)
	}
	if uid == os.Geteuid() {
		return identity{name: name}, nil
	}
	if os.Geteuid() != 0 {
		return identity{}, fmt.Errorf("fetch as user '%s': %w: the agent does not run as root", name, os.ErrPermission)
	}
	who := identity{name: name, change: true, uid: uid, gid: gid}
	ids, err := u.GroupIds()
	if err != nil {
		return identity{}, fmt.Errorf("fetch as user '%s': groups: %w", name, err)
	}
	for _, id := range ids {
		g, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return identity{}, fmt.Errorf("fetch as user '%s': groups: %w", name, err)
		}
		who.groups = append(who.groups, uint32(g))
	}
	return who, nil
}

// takeOver gives the sandbox directory itself to the user, who could otherwise
// write nothing into it.
func (who identity) takeOver(root *os.Root) error {
	if !who.change {
		return nil
	}
	if err := root.Chown(".", who.uid, who.gid); err != nil {
		return fmt.Errorf("give the sandbox to its user: %w", err)
	}
	return nil
}

// do runs f with the identity. The identity of a thread for the file system
// (fsuid, fsgid, groups) is its own on Linux; leaving 0 also takes the
// capabilities away that would override permissions. The thread ends with f: it
// is locked to its goroutine and never unlocked.
func (who identity) do(f func() error) error {
	if !who.change {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := who.assume(); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (who identity) assume() error {
	// syscall.Setgroups would change every thread of the process.
	var first *uint32
	if len(who.groups) > 0 {
		first = &who.groups[0]
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(who.groups)), uintptr(unsafe.Pointer(first)), 0); errno != 0 { //nolint:gosec // as the system call needs it
		return fmt.Errorf("set groups: %w", errno)
	}
	// These two report no errors; asking again with an impossible id tells.
	_, _ = unix.SetfsgidRetGid(who.gid)
	_, _ = unix.SetfsuidRetUid(who.uid)
	gid, _ := unix.SetfsgidRetGid(-1)
	uid, _ := unix.SetfsuidRetUid(-1)
	if uid != who.uid || gid != who.gid {
		return fmt.Errorf("act as user %d: %w", who.uid, syscall.EPERM)
	}
	return nil
}

// openRegular opens a regular file for reading, never a pipe or a device.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "fetch", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
