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
// there already stays as it is, but must be of the kind, also if somebody else makes it
// in this moment.
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
	f, err := openKind(root, rel, directory)
	if !errors.Is(err, fs.ErrNotExist) || rel == "." {
		return f, err
	}
	parent, err := makeBeneath(root, path.Dir(rel), true, uid, gid)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	err = makeAt(int(parent.Fd()), path.Base(rel), directory, uid, gid)
	switch {
	case err == nil:
		return openKind(root, rel, directory)
	case errors.Is(err, fs.ErrExist):
		// Somebody was faster, and what is there now does as well as what had been there
		// before. A link that leads nowhere is there too, and is nothing to mount on.
		if f, openErr := openKind(root, rel, directory); !errors.Is(openErr, fs.ErrNotExist) {
			return f, openErr
		}
	}
	return nil, &fs.PathError{Op: "make", Path: filepath.Join(root.Name(), rel), Err: err}
}

// makeAt makes one directory or file, and gives away what it has made and nothing else:
// in a sandbox names may change hands at any moment.
func makeAt(parent int, name string, directory bool, uid, gid int) error {
	flags := unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY
	if directory {
		if err := unix.Mkdirat(parent, name, 0o755); err != nil {
			return err
		}
		flags = unix.O_DIRECTORY | unix.O_RDONLY
	}
	fd, err := unix.Openat(parent, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchown(fd, uid, gid)
}

// openKind opens what is there, which must be a directory or must not be one.
func openKind(root *os.File, rel string, directory bool) (*os.File, error) {
	f, err := openBeneath(root, rel)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	switch is := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case err != nil || is == directory:
	case directory:
		err = unix.ENOTDIR
	default:
		err = unix.EISDIR
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "make", Path: f.Name(), Err: err}
	}
	return f, nil
}

// fdPath is a path that leads to an open file, whatever becomes of its name.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
