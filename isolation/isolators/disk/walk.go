package disk

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// visitor is told of what a walk finds.
type visitor struct {
	// directory is told of each directory, which is open. It may be nil.
	directory func(fd int, st *unix.Statx_t) error
	// file is told of everything else, by its name in an open directory.
	file func(dir int, name string, st *unix.Statx_t) error
}

// walk visits all that lies below a directory, itself included. The tree may change
// meanwhile, and belong to somebody hostile: no symbolic link is followed, nothing that
// is mounted in it is looked at, and paths may be longer than the kernel takes.
func walk(ctx context.Context, root string, v visitor) error {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root, Err: err}
	}
	w := &walker{visitor: v, buf: make([]byte, 32<<10)}
	defer w.close()
	if err := w.enter(ctx, fd, place{}); err != nil {
		return fmt.Errorf("walk %s: %w", root, err)
	}
	for len(w.pending) > 0 {
		next := w.pending[len(w.pending)-1]
		w.pending = w.pending[:len(w.pending)-1]
		if err := w.open(ctx, next); err != nil {
			return fmt.Errorf("walk %s: %w", root, err)
		}
	}
	return nil
}

// longPath is where a path is cut: what lies below is opened from the directory there,
// which stays open as long. It leaves room for one more name below PATH_MAX.
const longPath = 2048

// walker walks depth first, so that few directories are open at once.
type walker struct {
	visitor
	pending []place
	buf     []byte
	names   []string
	device  [2]uint32
	st      unix.Statx_t
}

// place is a directory that is to be visited.
type place struct {
	base *base
	path string
}

// base is an open directory that paths start from, and how many places need it.
type base struct {
	fd, users int
}

func (b *base) release() {
	if b.users--; b.users == 0 {
		unix.Close(b.fd)
	}
}

func (w *walker) close() {
	for _, p := range w.pending {
		p.base.release()
	}
	w.pending = nil
}

// open enters a directory that was found earlier, if it still is one.
func (w *walker) open(ctx context.Context, p place) error {
	defer p.base.release()
	fd, err := unix.Openat2(p.base.fd, p.path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	switch {
	case err == nil:
		return w.enter(ctx, fd, p)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return nil // it was removed, replaced, or something was mounted on it
	default:
		return &os.PathError{Op: "open", Path: p.path, Err: err}
	}
}

// enter visits what is in a directory, and closes it unless places below need it.
func (w *walker) enter(ctx context.Context, fd int, p place) error {
	below := p
	if p.base == nil || len(p.path) > longPath {
		below = place{base: &base{fd: fd}}
	}
	if below.base.fd == fd {
		below.base.users++
		defer below.base.release()
	} else {
		defer unix.Close(fd)
	}
	st, err := w.stat(fd, "")
	if err != nil {
		return err
	}
	if p.base == nil {
		w.device = [2]uint32{st.Dev_major, st.Dev_minor}
	}
	if w.directory != nil {
		if err := w.directory(fd, st); err != nil {
			return err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.ReadDirent(fd, w.buf)
		if errors.Is(err, unix.ENOENT) || err == nil && n <= 0 { // ENOENT: it was removed
			return nil
		}
		if err != nil {
			return err
		}
		_, _, w.names = unix.ParseDirent(w.buf[:n], -1, w.names[:0])
		for _, name := range w.names {
			if err := w.entry(fd, name, below); err != nil {
				return err
			}
		}
	}
}

func (w *walker) entry(dir int, name string, below place) error {
	st, err := w.stat(dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if w.foreign(st) {
		return nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return w.file(dir, name, st)
	}
	path := name
	if below.path != "" {
		path = below.path + "/" + name
	}
	below.base.users++
	w.pending = append(w.pending, place{base: below.base, path: path})
	return nil
}

// foreign says whether something is mounted there. Since Linux 5.8 the kernel says so;
// before, another device must do, which a bind mount may not have, and which on overlayfs
// a plain file may have.
func (w *walker) foreign(st *unix.Statx_t) bool {
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR && w.device != [2]uint32{st.Dev_major, st.Dev_minor}
}

// stat is good until the next one.
func (w *walker) stat(dir int, name string) (*unix.Statx_t, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(dir, name, flags, unix.STATX_TYPE|unix.STATX_NLINK|unix.STATX_INO|unix.STATX_BLOCKS, &w.st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return &w.st, nil
}

// file is what a hard link is known by.
type file struct {
	major, minor uint32
	inode        uint64
}

// measure adds up the blocks of a tree as du does: of directories too, and of what has
// several names once.
func measure(ctx context.Context, root string) (uint64, error) {
	const blockSize = 512
	var blocks uint64
	linked := make(map[file]struct{})
	err := walk(ctx, root, visitor{
		directory: func(_ int, st *unix.Statx_t) error {
			blocks += st.Blocks
			return nil
		},
		file: func(_ int, _ string, st *unix.Statx_t) error {
			if st.Nlink > 1 {
				f := file{st.Dev_major, st.Dev_minor, st.Ino}
				if _, ok := linked[f]; ok {
					return nil
				}
				linked[f] = struct{}{}
			}
			blocks += st.Blocks
			return nil
		},
	})
	return blocks * blockSize, err
}

// measureMount measures a disk that is a file system of its own by asking it, and
// walks one that is not.
func measureMount(ctx context.Context, root string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, root, unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: root, Err: err}
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return measure(ctx, root)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: root, Err: err}
	}
	return (fs.Blocks - fs.Bfree) * uint64(fs.Bsize), nil
}
