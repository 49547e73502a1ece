// Package mounts works on the machine's own mount table, and on paths that somebody
// else can change meanwhile: it mounts below sandboxes, unmounts what was left there,
// and deletes trees without ever stepping into a mount.
//
// Bind, RemoveAll and UnmountBelow are the main functions. All are safe for
// concurrent use. Isolators import it, and agent/ for its garbage.
package mounts

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrStillMounted says that something below a directory could not be unmounted.
var ErrStillMounted = errors.New("still mounted")

// within says whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// Below lists the mount points at and below a directory, whose path must have no
// symbolic link in it, in the order of the table: a mount comes after what it is
// mounted on.
func Below(dir string) ([]string, error) {
	table, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return !within(i.Mountpoint, dir), false })
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	points := make([]string, 0, len(table))
	for _, i := range table {
		points = append(points, i.Mountpoint)
	}
	return points, nil
}

// UnmountBelow unmounts whatever is mounted at a directory and below it, also when
// it is in use. The path of the directory must have no symbolic link in it that
// others can change. It is no error when there is nothing.
func UnmountBelow(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = filepath.Clean(dir)
	}
	// Mounts may lie on each other, and new ones come while we look.
	var points []string
	for range 8 {
		if points, err = Below(real); err != nil {
			return err
		}
		if len(points) == 0 {
			return nil
		}
		for _, point := range slices.Backward(points) {
			if e := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); e != nil && !errors.Is(e, unix.EINVAL) && !errors.Is(e, unix.ENOENT) {
				err = errors.Join(err, fmt.Errorf("unmount %s: %w", point, e))
			}
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrStillMounted, strings.Join(points, ", "))
}

// EnsureShared makes a directory a mount of a peer group of its own, unless it lies
// in one already: mounts that are made below it later then appear in containers,
// whose mount namespaces are slaves, and unmounts reach them
// (src/slave/containerizer/mesos/isolators/filesystem/linux.cpp, ensureSharedMount).
// Doing it again changes nothing.
func EnsureShared(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("shared mount: %w", err)
	}
	table, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("read the mount table: %w", err)
	}
	// The last one in the table is the one on top.
	var holder *mountinfo.Info
	for _, i := range table {
		if within(real, i.Mountpoint) && (holder == nil || len(i.Mountpoint) >= len(holder.Mountpoint)) {
			holder = i
		}
	}
	if holder == nil {
		return fmt.Errorf("shared mount: nothing in the mount table holds %s", real)
	}
	group := peerGroup(holder)
	if group != "" && !slices.ContainsFunc(table, func(i *mountinfo.Info) bool {
		// What is mounted below real would come back through a parent of its group.
		return i != holder && peerGroup(i) == group && i.Mountpoint != real && within(real, i.Mountpoint)
	}) {
		return nil
	}
	if holder.Mountpoint != real {
		if err := unix.Mount(real, real, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to itself: %w", real, err)
		}
	}
	for _, flag := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", real, "", flag, ""); err != nil {
			return fmt.Errorf("make %s a shared mount: %w", real, err)
		}
	}
	return nil
}

// peerGroup is the group of a shared mount, "" of any other.
func peerGroup(i *mountinfo.Info) string {
	for field := range strings.FieldsSeq(i.Optional) {
		if group, ok := strings.CutPrefix(field, "shared:"); ok {
			return group
		}
	}
	return ""
}

// Shared says whether the mount that holds a path is a shared one.
func Shared(path string) (bool, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, err
	}
	parents, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return !within(real, i.Mountpoint), false })
	if err != nil {
		return false, fmt.Errorf("read the mount table: %w", err)
	}
	var holder *mountinfo.Info
	for _, i := range parents {
		if holder == nil || len(i.Mountpoint) >= len(holder.Mountpoint) {
			holder = i
		}
	}
	return holder != nil && peerGroup(holder) != "", nil
}
