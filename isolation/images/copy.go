package images

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// copier copies one layer over what is below.
type copier struct {
	// linked are files of the layer with several names, by where the first one went.
	linked map[[2]uint64]linkedFile
}

// linkedFile is a directory, kept open, and a name in it.
type linkedFile struct {
	dir  int
	name string
}

// copyLayer copies a layer into a root, to which it does what overlayfs shows of it:
// whiteouts remove, opaque directories replace, all else goes over what is there.
// Both are walked by descriptors: no link in either leads anywhere.
func copyLayer(layer, root string) error {
	from, err := unix.Open(layer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(from) }()
	to, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(to) }()
	c := &copier{linked: make(map[[2]uint64]linkedFile)}
	defer func() {
		for _, l := range c.linked {
			_ = unix.Close(l.dir)
		}
	}()
	return c.dir(from, to)
}

func readNames(fd int) ([]fs.DirEntry, error) {
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.ReadDir(-1)
}

func (c *copier) dir(from, to int) error {
	entries, err := readNames(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.entry(from, to, filepath.Base(e.Name())); err != nil {
			if in, ok := errors.AsType[*fs.PathError](err); ok {
				return &fs.PathError{Op: in.Op, Path: e.Name() + "/" + in.Path, Err: in.Err}
			}
			return &fs.PathError{Op: "copy", Path: e.Name(), Err: err}
		}
	}
	return nil
}

func (c *copier) entry(from, to int, name string) error {
	var st, old unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	there := unix.Fstatat(to, name, &old, unix.AT_SYMLINK_NOFOLLOW) == nil
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	wasDir := there && old.Mode&unix.S_IFMT == unix.S_IFDIR
	if there && (!isDir || !wasDir) {
		if err := remove(to, name, wasDir); err != nil {
			return err
		}
	}
	switch {
	case isWhiteout(&st):
		return nil
	case isDir:
		return c.subdir(from, to, name, &st, wasDir)
	}
	key := [2]uint64{st.Dev, st.Ino}
	if first, ok := c.linked[key]; ok {
		return unix.Linkat(first.dir, first.name, to, name, 0)
	}
	if err := c.make(from, to, name, &st); err != nil {
		return err
	}
	if st.Nlink > 1 {
		dir, err := unix.FcntlInt(uintptr(to), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		c.linked[key] = linkedFile{dir, name}
	}
	return metadata(to, name, &st)
}

func remove(dir int, name string, isDir bool) error {
	if isDir {
		return os.RemoveAll("/proc/self/fd/" + strconv.Itoa(dir) + "/" + name)
	}
	return unix.Unlinkat(dir, name, 0)
}

func (c *copier) subdir(from, to int, name string, st *unix.Stat_t, there bool) error {
	in, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(in) }()
	if there && isOpaque(in) {
		if err := remove(to, name, true); err != nil {
			return err
		}
		there = false
	}
	if !there {
		if err := unix.Mkdirat(to, name, 0o700); err != nil {
			return err
		}
	}
	out, err := unix.Openat(to, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(out) }()
	if err := copyXattrs(fdPath(in), fdPath(out), true); err != nil {
		return err
	}
	if err := c.dir(in, out); err != nil {
		return err
	}
	return metadata(to, name, st)
}

// make makes a file that is no directory, with its attributes.
func (c *copier) make(from, to int, name string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return copyFile(from, to, name, st)
	case unix.S_IFLNK:
		target := make([]byte, st.Size+1)
		n, err := unix.Readlinkat(from, name, target)
		if err != nil {
			return err
		}
		return unix.Symlinkat(string(target[:n]), to, name)
	}
	return unix.Mknodat(to, name, st.Mode, int(st.Rdev))
}

// metadata sets owner, mode and times. A change of the owner takes set-user-id and
// capabilities away: those of files are set afterwards.
func metadata(dir int, name string, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // copyFile has done it
		if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
				return err
			}
		}
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// copyFile copies a regular file: by reference where the file system can, else its
// content without the holes.
func copyFile(from, to int, name string, st *unix.Stat_t) error {
	in, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(in) }()
	out, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(out) }()
	if err := unix.IoctlFileClone(out, in); err != nil {
		if err := copyData(in, out, st.Size); err != nil {
			return err
		}
	}
	if err := unix.Fchown(out, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(out, st.Mode&0o7777); err != nil {
		return err
	}
	return copyXattrs(fdPath(in), fdPath(out), false)
}

func copyData(in, out int, size int64) error {
	if err := unix.Ftruncate(out, size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(in, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(in, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(in, out, start, min(end, size)); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func copyRange(in, out int, start, end int64) error {
	for start < end {
		from, to := start, start
		n, err := unix.CopyFileRange(in, &from, out, &to, int(min(end-start, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
			return copyBytes(in, out, start, end)
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		start += int64(n)
	}
	return nil
}

func copyBytes(in, out int, start, end int64) error {
	buf := make([]byte, copySize)
	for start < end {
		n, err := unix.Pread(in, buf[:min(int64(len(buf)), end-start)], start)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		if err := writeAt(out, buf[:n], start); err != nil {
			return err
		}
		start += int64(n)
	}
	return nil
}

// copyXattrs copies the attributes that a layer may have. Of a directory that was
// there before, those that it had go: overlayfs shows the uppermost alone.
func copyXattrs(from, to string, clear bool) error {
	if clear {
		have, err := listXattrs(to)
		if err != nil {
			return err
		}
		for _, name := range have {
			if err := unix.Removexattr(to, name); err != nil && !errors.Is(err, unix.ENODATA) {
				return err
			}
		}
	}
	names, err := listXattrs(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(from, name, value)
		if err != nil {
			return err
		}
		if err := unix.Setxattr(to, name, value[:n], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}

func listXattrs(p string) ([]string, error) {
	n, err := unix.Listxattr(p, nil)
	if n == 0 || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	list := make([]byte, 64<<10)
	if n, err = unix.Listxattr(p, list); err != nil {
		return nil, err
	}
	var names []string
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		if allowedXattr(string(name)) {
			names = append(names, string(name))
		}
	}
	return names, nil
}
