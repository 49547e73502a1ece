package mounts

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoIDMap says that the kernel, or the file system, cannot show other ids than it
// has.
var ErrNoIDMap = errors.New("file system cannot map ids")

// BindOptions say how Bind mounts.
type BindOptions struct {
	// ReadOnly mounts can be read only.
	ReadOnly bool
	// IDMap is the path of a user namespace whose ids the mount shows; empty: none.
	IDMap string
}

// Bind mounts a directory on name, which must be a directory in dir and no symbolic
// link: others may write in dir. It never is there half done.
func Bind(source, dir, name string, o BindOptions) error {
	parent, err := openDir(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	target, err := unix.Openat(int(parent.Fd()), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir + "/" + name, Err: err}
	}
	defer unix.Close(target)
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "bind", Path: source, Err: err}
	}
	defer unix.Close(tree)
	attr := &unix.MountAttr{}
	if o.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if o.IDMap != "" {
		users, err := os.Open(o.IDMap)
		if err != nil {
			return fmt.Errorf("user namespace: %w", err)
		}
		defer users.Close()
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(users.Fd())
	}
	if attr.Attr_set != 0 {
		err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr)
		if err != nil && o.IDMap != "" {
			return fmt.Errorf("%w: %s: %w", ErrNoIDMap, source, err)
		} else if err != nil {
			return &os.PathError{Op: "mount_setattr", Path: source, Err: err}
		}
	}
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "mount on", Path: dir + "/" + name, Err: err}
	}
	return nil
}

// Unmount takes a mount off name in dir, which must not be in use. It says no when
// nothing is mounted there.
func Unmount(dir, name string) (mounted bool, err error) {
	parent, err := openDir(dir)
	if err != nil {
		return false, err
	}
	defer parent.Close()
	mounted, err = MountedOn(dir, name)
	if err != nil || !mounted {
		return false, err
	}
	if err := unix.Unmount(fdPath(parent)+"/"+name, unix.UMOUNT_NOFOLLOW); err != nil {
		return true, &os.PathError{Op: "unmount", Path: dir + "/" + name, Err: err}
	}
	return true, nil
}

// MountedOn says whether something is mounted on name in dir. A name that is not
// there, or a symbolic link, is no mount.
func MountedOn(dir, name string) (bool, error) {
	parent, err := openDir(dir)
	if err != nil {
		return false, err
	}
	defer parent.Close()
	var st unix.Statx_t
	err = unix.Statx(int(parent.Fd()), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: dir + "/" + name, Err: err}
	}
	return st.Attributes_mask&st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
