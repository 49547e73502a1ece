package mounts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrEscapes says that a path would lead out of the directory that it belongs to.
var ErrEscapes = errors.New("path leads out of its directory")

// OpenBeneath opens what is at a path below a directory, with O_PATH: for looking
// at and mounting on. Symbolic links are followed as long as they stay below the
// directory.
func OpenBeneath(dir, rel string) (*os.File, error) {
	root, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return openBeneath(root, rel)
}

func openDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

func openBeneath(root *os.File, rel string) (*os.File, error) {
	name := filepath.Join(root.Name(), rel)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), rel, how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR): // somebody renames
			continue
		case errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("%w: %s of %s", ErrEscapes, rel, root.Name())
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
}

// Make makes what is missing of a path below a directory: directories, and at the
// end a directory or an empty file. What it makes belongs to uid and gid. What is
// there already stays as it is, but must be of the kind.
func Make(dir, rel string, directory bool, uid, gid int) error {
	root, err := openDir(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := makeBeneath(root, filepath.Clean(rel), directory, uid, gid)
	if err != nil {
		return err
	}
	return f.Close()
}

func makeBeneath(root *os.File, rel string, directory bool, uid, gid int) (*os.File, error) {
	if !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("%w: %s of %s", ErrEscapes, rel, root.Name())
	}
	f, err := openBeneath(root, rel)
	if err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(int(f.Fd()), &st); err == nil && directory != (st.Mode&unix.S_IFMT == unix.S_IFDIR) {
			err = &fs.PathError{Op: "make", Path: f.Name(), Err: unix.ENOTDIR}
			if !directory {
				err = &fs.PathError{Op: "make", Path: f.Name(), Err: unix.EISDIR}
			}
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || rel == "." {
		return nil, err
	}
	parent, err := makeBeneath(root, path.Dir(rel), true, uid, gid)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	base := path.Base(rel)
	if directory {
		err = unix.Mkdirat(int(parent.Fd()), base, 0o755)
	} else {
		var fd int
		if fd, err = unix.Openat(int(parent.Fd()), base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644); err == nil {
			unix.Close(fd)
		}
	}
	if err == nil {
		err = unix.Fchownat(int(parent.Fd()), base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	// A link that leads nowhere is there, and is nothing to mount on.
	if err != nil {
		return nil, &fs.PathError{Op: "make", Path: filepath.Join(root.Name(), rel), Err: err}
	}
	return openBeneath(root, rel)
}

// fdPath is a path that leads to an open file, whatever becomes of its name.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
