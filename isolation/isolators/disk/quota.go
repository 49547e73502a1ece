package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoProjectQuota says that a directory is not on a file system of XFS with project
// quotas.
var ErrNoProjectQuota = errors.New("no project quotas of XFS")

// Of linux/fs.h, linux/quota.h and linux/dqblk_xfs.h.
const (
	ioctlGetAttributes = 0x801c581f // FS_IOC_FSGETXATTR
	ioctlSetAttributes = 0x401c5820 // FS_IOC_FSSETXATTR
	flagProjectInherit = 0x200      // FS_XFLAG_PROJINHERIT

	projectQuota     = 2          // PRJQUOTA
	commandGetQuota  = 'X'<<8 | 3 // Q_XGETQUOTA
	commandSetLimits = 'X'<<8 | 4 // Q_XSETQLIM
	commandGetState  = 'X'<<8 | 8 // Q_XGETQSTATV

	quotaVersion     = 1      // FS_DQUOT_VERSION
	quotaOfProject   = 2      // FS_PROJ_QUOTA
	fieldSoftBlocks  = 1 << 2 // FS_DQ_BSOFT
	fieldHardBlocks  = 1 << 3 // FS_DQ_BHARD
	stateAccounting  = 1 << 4 // FS_QUOTA_PDQ_ACCT
	stateEnforcement = 1 << 5 // FS_QUOTA_PDQ_ENFD

	basicBlock = 512
)

// attributes is struct fsxattr.
type attributes struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// quotaRecord is struct fs_disk_quota.
type quotaRecord struct {
	version, flags int8
	fields         uint16
	id             uint32

	blocksHard, blocksSoft, inodesHard, inodesSoft, blocks, inodes uint64

	_ [48]byte
}

// quotaState is struct fs_quota_statv, of which only the beginning is of use.
type quotaState struct {
	version int8
	_       uint8
	flags   uint16
	_       [252]byte
}

// quota is what a project may hold and does, in bytes; 0 means no limit.
type quota struct {
	soft, hard, used uint64
}

// openFile opens a directory or a plain file for its attributes.
func openFile(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

func getAttributes(fd int) (attributes, error) {
	var a attributes
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlGetAttributes, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return a, os.NewSyscallError("get attributes of XFS", errno)
	}
	return a, nil
}

// setProjectOf gives an open file to a project, and what is made in it later.
func setProjectOf(fd int, project uint32) error {
	a, err := getAttributes(fd)
	if err != nil {
		return err
	}
	if a.project == project && a.flags&flagProjectInherit != 0 {
		return nil
	}
	a.project = project
	a.flags |= flagProjectInherit
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlSetAttributes, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return os.NewSyscallError("set attributes of XFS", errno)
	}
	return nil
}

// projectOf is the project of a file; 0 is none.
func projectOf(path string) (uint32, error) {
	fd, err := openFile(unix.AT_FDCWD, path)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	a, err := getAttributes(fd)
	if err != nil {
		return 0, fmt.Errorf("project of %s: %w", path, err)
	}
	return a.project, nil
}

// setProject gives a tree to a project: directories and plain files. Of links and
// devices the kernel does not let one choose it.
func setProject(ctx context.Context, path string, project uint32) error {
	return walk(ctx, path, visitor{
		directory: func(fd int, _ *unix.Statx_t) error { return setProjectOf(fd, project) },
		file: func(dir int, name string, st *unix.Statx_t) error {
			if st.Mode&unix.S_IFMT != unix.S_IFREG {
				return nil
			}
			fd, err := openFile(dir, name)
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
				return nil // removed or replaced meanwhile
			}
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return setProjectOf(fd, project)
		},
	})
}

// quotactl calls quotactl_fd(2), or quotactl(2) with the path's device on kernels
// before 5.14.
func quotactl(path string, command, kind int, id uint32, record unsafe.Pointer) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	cmd := uintptr(uint32(command<<8 | kind))
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), cmd, uintptr(id), uintptr(record), 0, 0)
	if errno == unix.ENOSYS { // also where XFS was built without quotas: then the next call says so
		device, err := deviceOf(fd)
		if err != nil {
			return fmt.Errorf("device of %s: %w", path, err)
		}
		name, err := unix.BytePtrFromString(device)
		if err != nil {
			return err
		}
		_, _, errno = unix.Syscall6(unix.SYS_QUOTACTL, cmd, uintptr(unsafe.Pointer(name)), uintptr(id), uintptr(record), 0, 0)
	}
	if errno != 0 {
		return os.NewSyscallError("quotactl", errno)
	}
	return nil
}

// deviceOf is the device of the file system of an open file.
func deviceOf(fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	want := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		place, source := strings.Fields(before), strings.Fields(after)
		if ok && len(place) > 2 && len(source) > 1 && place[2] == want {
			return source[1], nil
		}
	}
	return "", fmt.Errorf("mount of device %s: %w", want, os.ErrNotExist)
}

// checkProjectQuota says whether a directory can be given to projects with limits.
func checkProjectQuota(path string, enforce bool) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	if fs.Type != unix.XFS_SUPER_MAGIC {
		return fmt.Errorf("%w: %s is on another file system (type %#x)", ErrNoProjectQuota, path, fs.Type)
	}
	state := quotaState{version: 1}
	if err := quotactl(path, commandGetState, 0, 0, unsafe.Pointer(&state)); err != nil {
		return fmt.Errorf("%w: %s is to be mounted with the option prjquota, by a kernel that has it: %w", ErrNoProjectQuota, path, err)
	}
	if state.flags&stateAccounting == 0 {
		return fmt.Errorf("%w: %s is to be mounted with the option prjquota", ErrNoProjectQuota, path)
	}
	if enforce && state.flags&stateEnforcement == 0 {
		return fmt.Errorf("%w: %s is mounted with pqnoenforce, that is without limits", ErrNoProjectQuota, path)
	}
	return nil
}

// setQuota sets the limits of a project on the file system of a path, in bytes.
func setQuota(path string, project uint32, soft, hard uint64) error {
	blocks := func(bytes uint64) uint64 { return (bytes + basicBlock - 1) / basicBlock }
	record := quotaRecord{
		version: quotaVersion, flags: quotaOfProject, fields: fieldSoftBlocks | fieldHardBlocks, id: project,
		blocksSoft: blocks(soft), blocksHard: blocks(hard),
	}
	if err := quotactl(path, commandSetLimits, projectQuota, project, unsafe.Pointer(&record)); err != nil {
		return fmt.Errorf("set quota of project %s: %w", strconv.FormatUint(uint64(project), 10), err)
	}
	return nil
}

// getQuota reads what a project may hold and does; nothing when it never held anything.
func getQuota(path string, project uint32) (quota, error) {
	record := quotaRecord{version: quotaVersion, flags: quotaOfProject, id: project}
	err := quotactl(path, commandGetQuota, projectQuota, project, unsafe.Pointer(&record))
	if errors.Is(err, unix.ENOENT) {
		return quota{}, nil
	}
	if err != nil {
		return quota{}, fmt.Errorf("get quota of project %s: %w", strconv.FormatUint(uint64(project), 10), err)
	}
	return quota{soft: record.blocksSoft * basicBlock, hard: record.blocksHard * basicBlock, used: record.blocks * basicBlock}, nil
}
