package images

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// removeAll deletes a tree, also one in which a container has made files immutable.
func removeAll(p string) error {
	err := os.RemoveAll(p)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if fd, openErr := unix.Open(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); openErr == nil {
		loosen(fd)
		_ = unix.Close(fd)
	}
	return os.RemoveAll(p)
}

// loosen takes the flags off a directory and all below it that keep even root from
// deleting. It follows no links.
func loosen(dir int) {
	clearFlags(dir)
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(dir))
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return
	}
	for _, e := range entries {
		flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		fd, err := unix.Openat(dir, filepath.Base(e.Name()), flags, 0)
		if err != nil {
			continue
		}
		if e.IsDir() {
			loosen(fd)
		} else {
			clearFlags(fd)
		}
		_ = unix.Close(fd)
	}
}

func clearFlags(fd int) {
	const keeps = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // the same bits as FS_*_FL
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&keeps != 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^keeps)
	}
}
