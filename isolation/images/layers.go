package images

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"clusterd/isolation"
)

// errHidden says that a path is not to be seen from above.
var errHidden = errors.New("hidden by a layer above")

// lookIn finds a path as it is in a stack of layers, the uppermost last, and opens it
// (O_PATH). It follows no symbolic links.
func lookIn(layers []string, name string) (int, error) {
	for _, dir := range slices.Backward(layers) {
		fd, deeper, err := lookInOne(dir, name)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return -1, err
		}
		if !deeper {
			return -1, errHidden
		}
	}
	return -1, unix.ENOENT
}

// lookInOne finds a path in one layer. When it is not there, deeper says whether it
// may be in the layers below.
func lookInOne(layer, name string) (fd int, deeper bool, err error) {
	fd, err = unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false, err
	}
	deeper = !isOpaque(fd)
	for part := range strings.SplitSeq(name, "/") {
		next, err := unix.Openat(fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOTDIR {
			deeper, err = false, unix.ENOENT
		}
		_ = unix.Close(fd)
		if err != nil {
			return -1, deeper, err
		}
		fd = next
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || isWhiteout(&st) {
			_ = unix.Close(fd)
			return -1, false, unix.ENOENT
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR && isOpaque(fd) {
			deeper = false
		}
	}
	return fd, deeper, nil
}

func isOpaque(fd int) bool {
	var v [1]byte
	n, err := unix.Getxattr("/proc/self/fd/"+strconv.Itoa(fd), opaqueAttribute, v[:])
	return err == nil && n == 1 && v[0] == 'y'
}

// adjust makes a layer fit on those below. Directories that it uses without describing
// them get the owner and mode that they have there: overlayfs shows those of the
// uppermost. Whiteouts that hide nothing go: in a directory that is in one layer alone
// overlayfs would list them.
func (d *dependence) adjust(dir string, lower []string) error {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(root) }()
	for _, name := range d.implied {
		if !seesBelow(dir, name) {
			continue
		}
		if err := completeOne(root, lower, name); err != nil {
			return fmt.Errorf("directory %q: %w", name, err)
		}
	}
	for _, name := range d.whiteouts {
		if err := checkWhiteout(root, dir, lower, name); err != nil {
			return fmt.Errorf("whiteout %q: %w", name, err)
		}
	}
	return nil
}

// seesBelow says whether what is below of a path can be seen through a layer: no
// directory above it is opaque there.
func seesBelow(layer, name string) bool {
	fd, deeper, err := lookInOne(layer, path.Dir(name))
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return deeper
}

// checkWhiteout removes a whiteout that hides nothing.
func checkWhiteout(root int, layer string, lower []string, name string) error {
	up, base := path.Split(name)
	if seesBelow(layer, name) {
		below, err := lookIn(lower, name)
		if err == nil {
			_ = unix.Close(below)
			return nil
		}
	}
	dir, err := openIn(root, strings.TrimSuffix(up, "/"), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(dir) }()
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !isWhiteout(&st) {
		return nil
	}
	return unix.Unlinkat(dir, base, 0)
}

func completeOne(root int, lower []string, name string) error {
	from, err := lookIn(lower, name)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(from) }()
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	to, err := openIn(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(to) }()
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(to), []unix.Timespec{st.Mtim, st.Mtim}, 0)
}

// maxUsers bounds /etc/passwd and /etc/group of images.
const maxUsers = 4 << 20

// readLayered reads a small regular file of a stack of layers.
func readLayered(layers []string, name string) ([]byte, error) {
	at, err := lookIn(layers, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(at) }()
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, min(st.Size, maxUsers))
	for n := 0; n < len(b); {
		m, err := unix.Read(fd, b[n:])
		if err != nil && err != unix.EINTR {
			return nil, err
		}
		if err == nil && m == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		n += max(m, 0)
	}
	return b, nil
}

// credentialsOf finds out what the USER of an image is by numbers: "user", "uid",
// and both with ":group" or ":gid". Nil when it has none, or one that is not in its
// files.
func credentialsOf(layers []string, user string) *isolation.Credentials {
	if user == "" {
		return nil
	}
	name, group, hasGroup := strings.Cut(user, ":")
	var c isolation.Credentials
	uid, err := strconv.ParseUint(name, 10, 32)
	numeric := err == nil
	found := false
	eachLine(layers, "etc/passwd", func(f []string) {
		if found || len(f) < 4 || (f[0] != name && (!numeric || f[2] != name)) {
			return
		}
		u, err1 := strconv.ParseUint(f[2], 10, 32)
		g, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 == nil && err2 == nil {
			found, name = true, f[0]
			c.UID, c.GID = uint32(u), uint32(g)
		}
	})
	if !found && !numeric {
		return nil
	}
	if !found {
		c.UID = uint32(uid)
	}
	groupFound := false
	eachLine(layers, "etc/group", func(f []string) {
		if len(f) < 3 {
			return
		}
		g, err := strconv.ParseUint(f[2], 10, 32)
		switch {
		case err != nil:
		case hasGroup:
			if !groupFound && (f[0] == group || f[2] == group) {
				groupFound, c.GID = true, uint32(g)
			}
		case found && len(f) > 3 && slices.Contains(strings.Split(f[3], ","), name):
			c.Groups = append(c.Groups, uint32(g))
		}
	})
	if hasGroup && !groupFound {
		g, err := strconv.ParseUint(group, 10, 32)
		if err != nil {
			return nil
		}
		c.GID = uint32(g)
	}
	return &c
}

// eachLine calls f with the fields of every line of a file.
func eachLine(layers []string, name string, f func(fields []string)) {
	b, err := readLayered(layers, name)
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		f(strings.Split(line, ":"))
	}
}
