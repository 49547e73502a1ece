package mounts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveAll deletes a directory and all in it, and nothing that is mounted there: it steps
// into no mount, and unmounts what it comes upon. A persistent volume that an agent which
// crashed left in a sandbox keeps its data (MESOS-8830). The path must have no symbolic
// link in it that others can change.
func RemoveAll(dir string) error {
	parent, err := openDir(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	// The mount table is long where there are many containers, and mostly has nothing to
	// say about this one: it is read only when something is mounted here.
	err = removeAt(int(parent.Fd()), filepath.Base(dir), dir)
	old := errors.Is(err, unix.ENOSYS) // no openat2 before Linux 5.6
	if !old && !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := UnmountBelow(dir); err != nil {
		return err
	}
	if old {
		return os.RemoveAll(dir)
	}
	return removeAt(int(parent.Fd()), filepath.Base(dir), dir)
}

// RemoveBeneath deletes what is at a path below a directory, and all in it, when others
// can change the path: no symbolic link leads out of the directory. What is mounted
// there stays, and is an error.
func RemoveBeneath(dir, rel string) error {
	if !filepath.IsLocal(rel) || filepath.Clean(rel) == "." {
		return fmt.Errorf("%w: %s of %s", ErrEscapes, rel, dir)
	}
	parent, err := OpenBeneath(dir, filepath.Dir(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	return removeAt(int(parent.Fd()), filepath.Base(rel), filepath.Join(dir, rel))
}

// removeAt deletes name in a directory; path is what it is called in errors.
func removeAt(dir int, name, path string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	if err := empty(dir, name, path); err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// empty deletes what is in a directory. Deep trees cost an open file for each level;
// one deeper than the limit of open files is not deleted, and says so.
func empty(dir int, name, path string) error {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	fd, err := unix.Openat2(dir, name, how)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	for {
		// Deleting may move what was not read yet: start again until nothing is left.
		names, err := f.Readdirnames(1024)
		if len(names) == 0 {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return &fs.PathError{Op: "remove", Path: path, Err: err}
		}
		for _, n := range names {
			if err := removeAt(fd, n, path+"/"+n); err != nil {
				return err
			}
		}
		if _, err := f.Seek(0, 0); err != nil {
			return err
		}
	}
}
