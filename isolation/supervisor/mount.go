package supervisor

import (
	"errors"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	// mountAttributes are the flags that belong to a mount and not to a file system.
	mountAttributes = syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC |
		syscall.MS_NOATIME | syscall.MS_NODIRATIME | syscall.MS_RELATIME | syscall.MS_STRICTATIME
	propagation = syscall.MS_SHARED | syscall.MS_PRIVATE | syscall.MS_SLAVE | syscall.MS_UNBINDABLE

	// typeFile is the Type of a Mount of ours: a file in memory.
	typeFile = "file"
)

// System calls and flags that package syscall does not know. Their numbers are the same
// on all architectures.
const (
	sysOpenTree     = 428
	sysMoveMount    = 429
	sysMountSetattr = 442

	openTreeClone     = 1
	openTreeCloexec   = syscall.O_CLOEXEC
	moveMountEmptyF   = 0x4
	moveMountEmptyT   = 0x40
	atEmptyPath       = 0x1000
	atRecursive       = 0x8000
	mountAttrIDMap    = 0x100000
	mountAttrRDONLY   = 0x1
	mountAttrNOSUID   = 0x2
	mountAttrNODEV    = 0x4
	mountAttrNOEXEC   = 0x8
	mountAttrATIME    = 0x70
	mountAttrNOATIME  = 0x10
	mountAttrSTRICT   = 0x20
	mountAttrNODIRATI = 0x80
)

// mountAttr is struct mount_attr.
type mountAttr struct {
	set, clear, propagation, userNamespace uint64
}

// fdPath names a file that is open: a path that cannot be made to lead elsewhere.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// mount makes one mount.
func (w *world) mount(m *Mount) error {
	if m.Type == typeFile {
		return w.mountFile(m)
	}
	target, err := w.target(m)
	if err != nil {
		return err
	}
	defer syscall.Close(target)
	flags := uintptr(m.Flags)
	switch {
	case flags&syscall.MS_REMOUNT != 0:
		err = syscall.Mount("", fdPath(target), "", flags, m.Data)
	case flags&syscall.MS_BIND != 0:
		err = w.bind(m, target)
	case m.Type != "":
		if m.IDMap != "" && m.Type == "overlay" {
			if err := w.mapLayers(m); err != nil {
				return err
			}
		}
		err = syscall.Mount(m.Source, fdPath(target), m.Type, flags&^propagation&^syscall.MS_REC, m.Data)
	}
	if err != nil {
		return err
	}
	if flags&propagation == 0 {
		return nil
	}
	top, err := w.target(m)
	if err != nil {
		return err
	}
	defer syscall.Close(top)
	return syscall.Mount("", fdPath(top), "", flags&(propagation|syscall.MS_REC), "")
}

// target opens where a mount goes, which is the root of the last mount there.
func (w *world) target(m *Mount) (int, error) {
	root := w.root
	if m.Host {
		root = w.host
	}
	if m.TargetIn == "" {
		return openIn(root, m.Target, false, m.Make)
	}
	return openBelow(root, m.TargetIn, m.Target, m.Make)
}

// openBelow opens a path in a directory that it does not leave.
func openBelow(root int, dir, path string, make MakeTarget) (int, error) {
	rest, ok := cutDirectory(path, dir)
	if !ok {
		return -1, syscall.EXDEV
	}
	// The directory itself is nobody's but ours: what is missing of it is made.
	above := MakeNothing
	if make != MakeNothing {
		above = MakeDirectory
	}
	in, err := openIn(root, dir, false, above)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(in)
	return openIn(in, rest, true, make)
}

// cutDirectory returns what of a path comes after a directory that it begins with.
func cutDirectory(path, dir string) (string, bool) {
	for len(dir) > 0 && dir[len(dir)-1] == '/' {
		dir = dir[:len(dir)-1]
	}
	if len(path) < len(dir) || path[:len(dir)] != dir || len(path) > len(dir) && path[len(dir)] != '/' {
		return "", false
	}
	return path[len(dir):], true
}

// bind makes a bind mount, mapped and read-only if asked for.
func (w *world) bind(m *Mount, target int) error {
	source, err := w.source(m)
	if err != nil {
		return err
	}
	defer syscall.Close(source)
	recursive := uintptr(m.Flags) & syscall.MS_REC
	switch {
	case m.IDMap != "":
		err = w.bindMapped(source, target, m.IDMap, recursive != 0)
	case flagsShared(m):
		err = w.moveClone(m, target)
	default:
		err = syscall.Mount(fdPath(source), fdPath(target), "", syscall.MS_BIND|recursive, "")
	}
	attributes := uintptr(m.Flags) & mountAttributes
	if err != nil || attributes == 0 {
		return err
	}
	top, err := w.target(m)
	if err != nil {
		return err
	}
	defer syscall.Close(top)
	return setAttributes(top, attributes, recursive != 0)
}

func (w *world) source(m *Mount) (int, error) {
	if m.SourceIn != "" {
		return openBelow(w.host, m.SourceIn, m.Source, MakeNothing)
	}
	return syscall.Open(m.Source, oPath|syscall.O_CLOEXEC, 0)
}

// bindMapped makes a bind mount that shows other owners.
func (w *world) bindMapped(source, target int, namespace string, recursive bool) error {
	// Once /proc is the container's own its path may lead nowhere.
	users := w.users
	if users < 0 || namespace != w.spec.UserNamespace {
		var err error
		if users, err = syscall.Open(namespace, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return err
		}
		defer syscall.Close(users)
	}
	tree, err := cloneTree(source, recursive)
	if err != nil {
		return err
	}
	defer syscall.Close(tree)
	err = mountSetattr(tree, &mountAttr{set: mountAttrIDMap, userNamespace: uint64(users)}, 0)
	if err != nil && err != syscall.EPERM { //nolint:errorlint // a bare number; EPERM: it lies in what is mapped already
		return err
	}
	return moveTree(tree, target)
}

// cloneTree makes a bind mount of what is open, and of what is mounted below it, that is
// nowhere yet.
func cloneTree(source int, recursive bool) (tree int, err error) {
	var empty [1]byte
	flags := uintptr(openTreeClone | openTreeCloexec | atEmptyPath)
	if recursive {
		flags |= atRecursive
	}
	fd, _, errno := syscall.Syscall(sysOpenTree, uintptr(source), uintptr(unsafe.Pointer(&empty[0])), flags)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// moveTree puts such a mount where it goes.
func moveTree(tree, target int) error {
	var empty [1]byte
	_, _, errno := syscall.Syscall6(sysMoveMount, uintptr(tree), uintptr(unsafe.Pointer(&empty[0])), uintptr(target), uintptr(unsafe.Pointer(&empty[0])), moveMountEmptyF|moveMountEmptyT, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// clone is a bind mount that was made before the container's mounts were cut off from
// the machine's.
type clone struct {
	mount *Mount
	tree  int
}

func flagsShared(m *Mount) bool {
	return m.Flags&(syscall.MS_BIND|syscall.MS_SHARED) == syscall.MS_BIND|syscall.MS_SHARED
}

// cloneShared makes the bind mounts that stay shared with the machine: what is mounted
// below them in the container appears outside.
func (w *world) cloneShared() (what string, err error) {
	for i := range w.spec.Mounts {
		m := &w.spec.Mounts[i]
		if !flagsShared(m) {
			continue
		}
		source, err := syscall.Open(m.Source, oPath|syscall.O_CLOEXEC, 0)
		if err != nil {
			return "open " + m.Source, err
		}
		tree, err := cloneTree(source, m.Flags&syscall.MS_REC != 0)
		syscall.Close(source)
		if err != nil {
			return "bind " + m.Source, err
		}
		w.clones = append(w.clones, clone{m, tree})
	}
	return "", nil
}

func (w *world) moveClone(m *Mount, target int) error {
	for _, c := range w.clones {
		if c.mount == m {
			defer syscall.Close(c.tree)
			return moveTree(c.tree, target)
		}
	}
	return syscall.EINVAL
}

func mountSetattr(fd int, attr *mountAttr, flags uintptr) error {
	var empty [1]byte
	_, _, errno := syscall.Syscall6(sysMountSetattr, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])), flags|atEmptyPath, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// setAttributes adds MS_RDONLY and the like to the mount whose root is open, and takes
// none away: what is nosuid already stays so.
func setAttributes(fd int, flags uintptr, recursive bool) error {
	attr := mountAttr{}
	for _, a := range [...]struct {
		flag      uintptr
		attribute uint64
	}{
		{syscall.MS_RDONLY, mountAttrRDONLY},
		{syscall.MS_NOSUID, mountAttrNOSUID},
		{syscall.MS_NODEV, mountAttrNODEV},
		{syscall.MS_NOEXEC, mountAttrNOEXEC},
		{syscall.MS_NODIRATIME, mountAttrNODIRATI},
		{syscall.MS_NOATIME, mountAttrNOATIME},
		{syscall.MS_STRICTATIME, mountAttrSTRICT},
	} {
		if flags&a.flag != 0 {
			attr.set |= a.attribute
		}
	}
	if flags&(syscall.MS_NOATIME|syscall.MS_STRICTATIME|syscall.MS_RELATIME) != 0 {
		attr.clear = mountAttrATIME
	}
	var how uintptr
	if recursive {
		how = atRecursive
	}
	err := mountSetattr(fd, &attr, how)
	if !errors.Is(err, syscall.ENOSYS) {
		return err
	}
	// Linux before 5.12: the mount itself only, and it must be told all its flags.
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &st); err != nil {
		return err
	}
	flags |= uintptr(st.Flags) & mountAttributes
	return syscall.Mount("", fdPath(fd), "", syscall.MS_BIND|syscall.MS_REMOUNT|flags, "")
}

// mountFile shows a file that is in memory alone. It is made in a small file system of
// its own, which for that moment lies on the runtime directory, as this mount namespace
// sees it.
func (w *world) mountFile(m *Mount) error {
	target, err := w.target(m)
	if err != nil {
		return err
	}
	defer syscall.Close(target)
	dir := w.spec.RuntimeDir
	// Not tmpfs: that may be swapped out.
	if err := syscall.Mount("clusterd", dir, "ramfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "mode=0700"); err != nil {
		return err
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH) //nolint:errcheck // nothing inside can reach it
	file := dir + "/file"
	fd, err := syscall.Open(file, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	err = writeAll(fd, m.Content)
	if err == nil {
		err = syscall.Fchown(fd, int(m.UID), int(m.GID))
	}
	syscall.Close(fd)
	if err != nil {
		return err
	}
	if err := syscall.Mount(file, fdPath(target), "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	attributes := uintptr(m.Flags)&mountAttributes | syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
	top, err := w.target(m)
	if err != nil {
		return err
	}
	defer syscall.Close(top)
	return setAttributes(top, attributes, false)
}

func writeAll(fd int, text string) error {
	for b := []byte(text); len(b) > 0; {
		n, err := syscall.Write(fd, b)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// mapLayers maps the ids of an overlay's layers: each is covered by a mapped mount of
// itself, which the overlay then finds at its path. The upper one is not: the overlay
// works in it as the machine's root, who is nobody in such a mount. So what is changed
// is stored with the ids that it has outside, and the directory itself gets the owner
// of the layer below it, as that looks from outside.
func (w *world) mapLayers(m *Mount) error {
	var upper, lower string
	done := make(map[string]bool)
	for i := range w.spec.Mounts {
		// A layer that is an overlay itself has had its own layers mapped.
		if o := &w.spec.Mounts[i]; o.Type == "overlay" && o.Host {
			done[o.Target] = true
		}
	}
	for option := range eachPart(m.Data, ',') {
		name, value := option, ""
		for i := range len(option) {
			if option[i] == '=' {
				name, value = option[:i], option[i+1:]
				break
			}
		}
		var dirs []string
		switch name {
		case "upperdir":
			upper = value
		case "lowerdir":
			for dir := range eachPart(value, ':') {
				if dir != "" {
					dirs = append(dirs, dir)
				}
			}
		case "lowerdir+":
			dirs = []string{value}
		}
		for _, dir := range dirs {
			if done[dir] {
				continue
			}
			done[dir] = true
			fd, err := syscall.Open(dir, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = w.bindMapped(fd, fd, m.IDMap, false)
			syscall.Close(fd)
			if err != nil {
				return err
			}
		}
		if len(dirs) > 0 && lower == "" {
			lower = dirs[0]
		}
	}
	if upper == "" || lower == "" {
		return nil
	}
	var st syscall.Stat_t
	if err := syscall.Stat(lower, &st); err != nil {
		return err
	}
	return syscall.Chown(upper, int(st.Uid), int(st.Gid))
}

// eachPart yields the parts of a mount option, whose separators may be escaped by a
// backslash.
func eachPart(s string, separator byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		part := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			switch {
			case s[i] == '\\' && i+1 < len(s) && separator == ':':
				i++
				part = append(part, s[i])
			case s[i] == '\\' && i+1 < len(s):
				part = append(part, s[i], s[i+1])
				i++
			case s[i] == separator:
				if !yield(string(part)) {
					return
				}
				part = part[:0]
			default:
				part = append(part, s[i])
			}
		}
		yield(string(part))
	}
}
