package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// whiteoutPrefix starts the name of a file in a layer that says that another one
	// below is gone (OCI image specification, "Layer Filesystem Changeset").
	whiteoutPrefix = ".wh."
	// opaqueWhiteout says that all that is below of its directory is gone.
	opaqueWhiteout = ".wh..wh..opq"
	// opaqueAttribute marks such a directory for overlayfs.
	opaqueAttribute = "trusted.overlay.opaque"
	// xattrRecord starts the names of the PAX records that hold extended attributes.
	xattrRecord = "SCHILY.xattr."
	// copySize is how much of a file is moved at once, and how long a run of zeros
	// has to be to become a hole.
	copySize = 128 << 10
	// spaceInterval is how many bytes are written between two looks at the free space.
	spaceInterval = 16 << 20
)

// budget bounds what the layers of one image unpack to together.
type budget struct {
	bytes, entries atomic.Int64
	// reserve is what has to stay free of the disk.
	reserve int64
}

func newBudget(l Limits) *budget {
	b := &budget{reserve: l.ReserveBytes}
	b.bytes.Store(l.ImageBytes)
	b.entries.Store(l.ImageEntries)
	return b
}

// unpacker writes one layer into a directory, in the form in which overlayfs reads
// it. Whatever the layer says, nothing outside of the directory is touched: every
// path is looked up by openat2(2) with the directory for its root.
type unpacker struct {
	root   int
	budget *budget
	buf    []byte

	// parent is the directory of the last entry, which mostly is that of the next;
	// its descriptor is -1 when there is none.
	parent   string
	parentFD int
	// implied are directories that have no entry of their own, whiteouts what is to be
	// hidden.
	implied   map[string]bool
	whiteouts []string
	// replaced are directories of which the one below is gone, if there was one.
	replaced map[string]bool
	// hides says that a directory was made opaque.
	hides bool
	// times are set when everything else is done: writing into a directory changes
	// its own.
	times []dirTime
	// unchecked counts bytes since the free space was looked at.
	unchecked int64
}

type dirTime struct {
	name string
	time time.Time
}

// dependence is what of a layer depends on those below.
type dependence struct {
	// implied are directories that the layer uses but does not describe, whiteouts
	// what it hides; opaque says that it hides what is in some directories.
	implied, whiteouts []string
	opaque             bool
}

func (d *dependence) any() bool { return d.opaque || len(d.implied)+len(d.whiteouts) > 0 }

// unpack writes the layer that r reads (an uncompressed tar stream) into dir.
func unpack(r io.Reader, dir string, b *budget) (*dependence, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	u := &unpacker{root: root, budget: b, buf: make([]byte, copySize), parentFD: -1, implied: make(map[string]bool), replaced: make(map[string]bool)}
	defer func() {
		u.forget()
		_ = unix.Close(root)
	}()
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read layer: %w", err)
		}
		if b.entries.Add(-1) < 0 {
			return nil, fmt.Errorf("%w: too many files", ErrTooLarge)
		}
		if err := u.entry(h, archive); err != nil {
			return nil, fmt.Errorf("layer entry %q: %w", h.Name, err)
		}
	}
	for _, t := range slices.Backward(u.times) {
		if err := u.setTime(t); err != nil {
			return nil, fmt.Errorf("layer entry %q: %w", t.name, err)
		}
	}
	d := &dependence{whiteouts: u.whiteouts, opaque: u.hides}
	for name := range u.implied {
		if !u.replaced[name] {
			d.implied = append(d.implied, name)
		}
	}
	slices.Sort(d.implied) // directories before what is in them
	return d, nil
}

// entryName makes a relative, clean path of the name of an entry.
func entryName(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: NUL byte in a name", ErrUnsafe)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: the name leads upwards", ErrUnsafe)
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := entryName(h.Name)
	if err != nil || name == "" { // the root directory is ours
		return err
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	fd, err := u.open(dir)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(fd, base)
	}
	masked, err := u.clear(fd, base, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	if err := u.make(fd, base, h, content); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeDir {
		return nil
	}
	delete(u.implied, name)
	u.times = append(u.times, dirTime{name, h.ModTime})
	if masked {
		return u.opaque(fd, base)
	}
	return nil
}

// open opens the directory of an entry, and makes it if it is not there.
func (u *unpacker) open(dir string) (int, error) {
	if u.parentFD >= 0 && u.parent == dir {
		return u.parentFD, nil
	}
	u.forget()
	fd, err := u.lookup(dir)
	if err == unix.ENOENT || err == unix.ENOTDIR { //nolint:errorlint // openat2 returns it bare
		if fd, err = u.imply(dir); err != nil {
			return -1, err
		}
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	u.parent, u.parentFD = dir, fd
	return fd, nil
}

func (u *unpacker) lookup(dir string) (int, error) {
	return openIn(u.root, dir, unix.O_PATH|unix.O_DIRECTORY)
}

// openIn opens a path with a directory for the root.
func openIn(root int, name string, flags int) (int, error) {
	if name == "" {
		name = "."
	}
	for {
		fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// forget closes the directory that is kept open.
func (u *unpacker) forget() {
	if u.parentFD >= 0 {
		_ = unix.Close(u.parentFD)
		u.parentFD = -1
	}
}

// imply makes a directory that has no entry, and those above it.
func (u *unpacker) imply(dir string) (int, error) {
	if dir == "" {
		return -1, unix.ENOENT
	}
	up, base := path.Split(dir)
	up = strings.TrimSuffix(up, "/")
	parent, err := u.lookup(up)
	if err == unix.ENOENT || err == unix.ENOTDIR { //nolint:errorlint // openat2 returns it bare
		parent, err = u.imply(up)
	}
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(parent) }()
	var st unix.Stat_t
	masked := false
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		if !isWhiteout(&st) { // a file, or a link that leads nowhere
			return -1, fmt.Errorf("%w: %q is no directory", ErrUnsafe, dir)
		}
		if err := unix.Unlinkat(parent, base, 0); err != nil {
			return -1, err
		}
		masked = true
	}
	if err := unix.Mkdirat(parent, base, 0o755); err != nil {
		return -1, err
	}
	if err := unix.Fchmodat(parent, base, 0o755, 0); err != nil {
		return -1, err
	}
	u.implied[dir] = true
	if masked {
		u.replaced[dir] = true
		if err := u.opaque(parent, base); err != nil {
			return -1, err
		}
	}
	return u.lookup(dir)
}

func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// clear makes room for an entry: a later one of a name replaces an earlier. It says
// whether a whiteout was there.
func (u *unpacker) clear(fd int, base string, isDir bool) (masked bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return isWhiteout(&st), unix.Unlinkat(fd, base, 0)
	}
	if isDir {
		return false, nil
	}
	u.times = dropBelow(u.times, u.parent, base)
	for name := range u.implied {
		if below(name, path.Join(u.parent, base)) {
			delete(u.implied, name)
		}
	}
	return false, os.RemoveAll("/proc/self/fd/" + strconv.Itoa(fd) + "/" + base)
}

func below(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

func dropBelow(times []dirTime, parent, base string) []dirTime {
	kept := times[:0]
	for _, t := range times {
		if !below(t.name, path.Join(parent, base)) {
			kept = append(kept, t)
		}
	}
	return kept
}

// whiteout hides what is below. What this layer itself has stays: whiteouts count
// for the layers below only.
func (u *unpacker) whiteout(fd int, base string) error {
	if base == opaqueWhiteout {
		return u.opaque(fd, "")
	}
	if strings.HasPrefix(base, whiteoutPrefix+whiteoutPrefix) {
		return nil // what aufs keeps for itself
	}
	base = strings.TrimPrefix(base, whiteoutPrefix)
	if base == "" || base == "." || base == ".." {
		return fmt.Errorf("%w: whiteout of nothing", ErrUnsafe)
	}
	var st unix.Stat_t
	err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		u.whiteouts = append(u.whiteouts, path.Join(u.parent, base))
		return unix.Mknodat(fd, base, unix.S_IFCHR, 0)
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		u.replaced[path.Join(u.parent, base)] = true
		return u.opaque(fd, base)
	}
	return nil
}

// opaque marks a directory, of which nothing below is to be seen.
func (u *unpacker) opaque(fd int, base string) error {
	u.hides = true
	return setXattr(fd, base, opaqueAttribute, []byte("y"))
}

// setXattr sets an extended attribute of a file in a directory, or of the directory.
func setXattr(fd int, base, attribute string, value []byte) error {
	p := "/proc/self/fd/" + strconv.Itoa(fd)
	if base == "" {
		return unix.Setxattr(p, attribute, value, 0)
	}
	return unix.Lsetxattr(p+"/"+base, attribute, value, 0)
}

// make makes what an entry describes.
func (u *unpacker) make(fd int, base string, h *tar.Header, content io.Reader) error {
	mode := uint32(h.Mode) & 0o7777
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(fd, base, 0o700); err != nil && err != unix.EEXIST {
			return err
		}
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // old archives have TypeRegA
		return u.file(fd, base, h, content)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, fd, base); err != nil {
			return err
		}
	case tar.TypeLink:
		return u.link(fd, base, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind, device := uint32(unix.S_IFIFO), uint64(0)
		if h.Typeflag != tar.TypeFifo {
			kind, device = unix.S_IFCHR, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
			if h.Typeflag == tar.TypeBlock {
				kind = unix.S_IFBLK
			} else if device == 0 {
				return nil // overlayfs would take it for a whiteout
			}
		}
		if err := unix.Mknodat(fd, base, kind|0o600, int(device)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: type %q", ErrUnsafe, h.Typeflag)
	}
	return u.metadata(fd, base, h, mode)
}

// metadata sets owner, mode, attributes and times of what is no regular file. The
// order matters: a change of the owner takes set-user-id and capabilities away.
func (u *unpacker) metadata(fd int, base string, h *tar.Header, mode uint32) error {
	uid, gid, err := owner(h)
	if err != nil {
		return err
	}
	if err := unix.Fchownat(fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		// Not a link, and nobody else is at work here.
		if err := unix.Fchmodat(fd, base, mode, 0); err != nil {
			return err
		}
	}
	if err := setXattrs(h, func(name string, value []byte) error { return setXattr(fd, base, name, value) }); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	return unix.UtimesNanoAt(fd, base, timespecs(h.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

func owner(h *tar.Header) (uid, gid int, err error) {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= 1<<32-1 || int64(h.Gid) >= 1<<32-1 {
		return 0, 0, fmt.Errorf("%w: owner %d:%d", ErrUnsafe, h.Uid, h.Gid)
	}
	return h.Uid, h.Gid, nil
}

func timespecs(t time.Time) []unix.Timespec {
	ts := unix.Timespec{}
	if !t.IsZero() {
		ts = unix.NsecToTimespec(0)
		ts.Sec, ts.Nsec = t.Unix(), int64(t.Nanosecond())
	}
	return []unix.Timespec{ts, ts}
}

// setXattrs sets the attributes of an entry that a layer may have. Those of
// overlayfs are ours: with them a layer could claim files of others.
func setXattrs(h *tar.Header, set func(name string, value []byte) error) error {
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if !ok || !allowedXattr(name) {
			continue
		}
		err := set(name, []byte(value))
		// What the file system has no place for (or what does not go with such a
		// file) is left out, as other engines do.
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

func allowedXattr(name string) bool {
	switch {
	case name == "security.capability", strings.HasPrefix(name, "system.posix_acl_"):
		return true
	case strings.HasPrefix(name, "user.overlay."):
		return false
	}
	return strings.HasPrefix(name, "user.")
}

// file writes a regular file.
func (u *unpacker) file(dir int, base string, h *tar.Header, content io.Reader) error {
	uid, gid, err := owner(h)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := u.write(fd, content, h.Size); err != nil {
		return err
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o7777); err != nil {
		return err
	}
	if len(h.PAXRecords) > 0 {
		if err := setXattrs(h, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) }); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, base, timespecs(h.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

var zeros [copySize]byte

// write copies the content of a file; long runs of zeros become holes.
func (u *unpacker) write(fd int, content io.Reader, size int64) error {
	if size > u.budget.bytes.Load() {
		return fmt.Errorf("%w: too many bytes", ErrTooLarge) // not after hours of zeros
	}
	var at, written int64
	for at < size {
		n := int(min(size-at, copySize))
		if err := u.spend(int64(n)); err != nil {
			return err
		}
		if _, err := io.ReadFull(content, u.buf[:n]); err != nil {
			return fmt.Errorf("read content: %w", noEOF(err))
		}
		if n < 4096 || u.buf[0] != 0 || !bytes.Equal(u.buf[:n], zeros[:n]) {
			if err := writeAt(fd, u.buf[:n], at); err != nil {
				return err
			}
			written = at + int64(n)
		}
		at += int64(n)
	}
	if written < size {
		return unix.Ftruncate(fd, size)
	}
	return nil
}

func writeAt(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// noEOF makes of an end where none should be an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// spend takes bytes off the budget, and looks at the disk now and then.
func (u *unpacker) spend(n int64) error {
	if u.budget.bytes.Add(-n) < 0 {
		return fmt.Errorf("%w: too many bytes", ErrTooLarge)
	}
	if u.unchecked += n; u.unchecked < spaceInterval {
		return nil
	}
	u.unchecked = 0
	var fs unix.Statfs_t
	if err := unix.Fstatfs(u.root, &fs); err == nil && int64(fs.Bavail)*fs.Bsize < u.budget.reserve {
		return fmt.Errorf("%w: the disk of the store is full", ErrTooLarge)
	}
	return nil
}

// link makes a hard link to a file of the same layer.
func (u *unpacker) link(fd int, base, target string) error {
	name, err := entryName(target)
	if err != nil {
		return err
	}
	dir, file := path.Split(name)
	from, err := u.lookup(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	defer func() { _ = unix.Close(from) }()
	var st unix.Stat_t
	if err := unix.Fstatat(from, file, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	if isWhiteout(&st) {
		return fmt.Errorf("link to %q: %w", target, unix.ENOENT)
	}
	return unix.Linkat(from, file, fd, base, 0)
}

// setTime sets the time of a directory. It may have become something else since.
func (u *unpacker) setTime(t dirTime) error {
	fd, err := openIn(u.root, t.name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), timespecs(t.time), 0)
}
