package filesystem

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNoGID says that no group is left for a volume.
var ErrNoGID = errors.New("no group is left in --volume_gid_range")

// GIDRange is a range of groups, both ends included.
type GIDRange struct{ First, Last uint32 }

// VolumeGIDs gives each volume that people of several names use a group of its own,
// which everybody who uses the volume joins: persistent volumes, and those of a parent's
// sandbox (--volume_gid_range, src/slave/volume_gid_manager/volume_gid_manager.cpp).
// All directories of the volume get the group, its right to write, and the setgid bit.
//
// It is safe for concurrent use. The file <work_dir>/meta/volume_gids says which
// volume has which group, a line for each: the group, "volume" or "sandbox", the path.
type VolumeGIDs struct {
	ranges []GIDRange
	file   string

	mu sync.Mutex
	// all are the groups by the paths of the volumes; guarded by mu.
	all map[string]volumeGID
}

type volumeGID struct {
	gid     uint32
	sandbox bool
}

// NewVolumeGIDs reads what was given before.
func NewVolumeGIDs(workDir string, ranges []GIDRange) (*VolumeGIDs, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	g := &VolumeGIDs{ranges: ranges, file: filepath.Join(workDir, "meta", "volume_gids"), all: make(map[string]volumeGID)}
	if !slices.ContainsFunc(ranges, func(r GIDRange) bool { return r.First > 0 && r.First <= r.Last }) {
		return nil, fmt.Errorf("%w: it is empty", ErrNoGID)
	}
	b, err := os.ReadFile(g.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("%s: malformed line %q", g.file, line)
		}
		gid, err := strconv.ParseUint(parts[0], 10, 32)
		path, pathErr := strconv.Unquote(parts[2])
		if err := errors.Join(err, pathErr); err != nil {
			return nil, fmt.Errorf("%s: malformed line %q: %w", g.file, line, err)
		}
		g.all[path] = volumeGID{gid: uint32(gid), sandbox: parts[1] == "sandbox"}
	}
	return g, nil
}

// save writes the file. It comes before the groups change, and syncs nothing: after a
// crash of the machine a volume that has a group of the range keeps it.
func (g *VolumeGIDs) save() error {
	paths := make([]string, 0, len(g.all))
	for path := range g.all {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	var text strings.Builder
	for _, path := range paths {
		kind := "volume"
		if g.all[path].sandbox {
			kind = "sandbox"
		}
		fmt.Fprintf(&text, "%d %s %q\n", g.all[path].gid, kind, path)
	}
	if err := os.MkdirAll(filepath.Dir(g.file), 0o755); err != nil {
		return err
	}
	temp := g.file + ".tmp"
	if err := os.WriteFile(temp, []byte(text.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, g.file)
}

func (g *VolumeGIDs) has(gid uint32) bool {
	return slices.ContainsFunc(g.ranges, func(r GIDRange) bool { return r.First <= gid && gid <= r.Last })
}

// Allocate returns the group of the volume that is open as dir and found at path, and
// gives it one if it has none. Sandbox says that it is one of a parent's sandbox, whose
// group ends with the parent (Release).
func (g *VolumeGIDs) Allocate(dir *os.File, path string, sandbox bool) (uint32, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, ok := g.all[path]; ok {
		return v.gid, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	// A persistent volume that is mounted in the parent's sandbox has one.
	if g.has(st.Gid) {
		return st.Gid, nil
	}
	gid, err := g.free()
	if err != nil {
		return 0, fmt.Errorf("volume %s: %w", path, err)
	}
	g.all[path] = volumeGID{gid: gid, sandbox: sandbox}
	err = g.save()
	if err == nil {
		err = setGroup(dir, gid, true)
	}
	if err != nil {
		delete(g.all, path)
		return 0, errors.Join(fmt.Errorf("give volume %s the group %d: %w", path, gid, err), g.save())
	}
	return gid, nil
}

// free finds a group that no volume has. Those of volumes that are gone are free.
func (g *VolumeGIDs) free() (uint32, error) {
	for range 2 {
		used := make(map[uint32]bool)
		for _, v := range g.all {
			used[v.gid] = true
		}
		for _, r := range g.ranges {
			for gid := uint64(r.First); gid <= uint64(r.Last); gid++ {
				if gid > 0 && !used[uint32(gid)] {
					return uint32(gid), nil
				}
			}
		}
		for path := range g.all {
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				delete(g.all, path)
			}
		}
	}
	return 0, ErrNoGID
}

// Count says how many groups there are for volumes, and how many of them no volume has.
func (g *VolumeGIDs) Count() (total, free int) {
	ranges := slices.SortedFunc(slices.Values(g.ranges), func(a, b GIDRange) int { return cmp.Compare(a.First, b.First) })
	next := int64(1) // the lowest that is not counted: ranges may overlap
	for _, r := range ranges {
		if first, last := max(int64(r.First), next), int64(r.Last); first <= last {
			total += int(last - first + 1)
			next = last + 1
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	used := make(map[uint32]bool)
	for _, v := range g.all {
		used[v.gid] = g.has(v.gid) // the flag may have changed since
	}
	free = total
	for _, counted := range used {
		if counted {
			free--
		}
	}
	return total, free
}

// Release takes the groups of volumes in a sandbox away, whose container has ended:
// their files go back to the group of their owner. The path of the sandbox must be
// nobody else's to change.
func (g *VolumeGIDs) Release(sandbox string) error {
	return g.release(func(path string) bool { return strings.HasPrefix(path, sandbox+"/") })
}

// Keep takes the groups of volumes in all sandboxes away but these.
func (g *VolumeGIDs) Keep(sandboxes []string) error {
	return g.release(func(path string) bool {
		return !slices.ContainsFunc(sandboxes, func(s string) bool { return strings.HasPrefix(path, s+"/") })
	})
}

func (g *VolumeGIDs) release(gone func(path string) bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	changed := false
	for path, v := range g.all {
		if !v.sandbox || !gone(path) {
			continue
		}
		delete(g.all, path)
		changed = true
		if err := giveBack(path, v.gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("take the group %d from volume %s: %w", v.gid, path, err))
		}
	}
	if changed {
		errs = append(errs, g.save())
	}
	return errors.Join(errs...)
}

// giveBack gives a volume to the group of its owner. The path lies in a sandbox, whose
// owner may have put something else there: then that is left alone.
func giveBack(path string, gid uint32) error {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Gid != gid {
		return err
	}
	owner, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10))
	group := uint64(st.Uid)
	if err == nil {
		if group, err = strconv.ParseUint(owner.Gid, 10, 32); err != nil {
			return err
		}
	}
	return setGroup(dir, uint32(group), false)
}

// setGroup changes the group of what is open and of all below it, in this mount only
// and through no symbolic link; and of directories whether the group can write, and
// whether what is new in them belongs to the group.
func setGroup(top *os.File, gid uint32, writable bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &st); err != nil {
		return err
	}
	path := "/proc/self/fd/" + strconv.Itoa(int(top.Fd()))
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.Chown(path, -1, int(gid))
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return setGroupBelow(fd, gid, writable)
}

// setGroupBelow does that to an open directory, and closes it.
func setGroupBelow(fd int, gid uint32, writable bool) error {
	dir := os.NewFile(uintptr(fd), "")
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := unix.Fchown(fd, -1, int(gid)); err != nil {
		return err
	}
	mode := st.Mode&0o7777&^(unix.S_ISGID|unix.S_IWGRP) | unix.S_ISGID | unix.S_IWGRP
	if !writable {
		mode &^= unix.S_ISGID | unix.S_IWGRP
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	for {
		names, err := dir.Readdirnames(256)
		if len(names) == 0 {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for _, name := range names {
			below, err := unix.Openat2(fd, name, how)
			switch {
			case err == nil:
				err = setGroupBelow(below, gid, writable)
			case errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
				err = unix.Fchownat(fd, name, -1, int(gid), unix.AT_SYMLINK_NOFOLLOW)
			case errors.Is(err, unix.EXDEV): // a mount: somebody else's
				err = nil
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
}
