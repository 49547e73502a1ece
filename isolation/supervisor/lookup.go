package supervisor

import (
	"errors"
	"syscall"
	"unsafe"
)

// maxLinks is how many symbolic links one path may go through, as in the kernel.
const maxLinks = 40

// openIn opens (O_PATH) what a path leads to in a directory, as if that were the root:
// neither ".." nor a symbolic link leads out of it, whatever somebody changes below
// meanwhile. What is missing is made, as make says. With beneath, a path that would lead
// out is an error (EXDEV) instead of being held back at the root.
//
// It is openat2(2) with RESOLVE_IN_ROOT, but for making things, and for kernels before
// 5.6. Directories on the way are held open, so that ".." is where we came from.
func openIn(root int, path string, beneath bool, make MakeTarget) (int, error) {
	fd, err := openAtOnce(root, path, beneath)
	if err == nil || errors.Is(err, syscall.ENOENT) && make == MakeNothing {
		return fd, err
	}
	return walk(root, path, beneath, make)
}

const (
	// The number is the same on all architectures.
	sysOpenat2 = 437

	resolveNoMagicLinks = 0x02
	resolveBeneath      = 0x08
	resolveInRoot       = 0x10
)

// openAtOnce lets the kernel walk. Whatever it refuses is for walk to look at.
func openAtOnce(root int, path string, beneath bool) (int, error) {
	how := struct{ flags, mode, resolve uint64 }{oPath | syscall.O_CLOEXEC, 0, resolveNoMagicLinks | resolveInRoot}
	if beneath { // a path that begins at the root would lead out
		how.resolve = resolveNoMagicLinks | resolveBeneath
		for path != "" && path[0] == '/' {
			path = path[1:]
		}
	}
	if path == "" {
		path = "."
	}
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	fd, _, errno := syscall.Syscall6(sysOpenat2, uintptr(root), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// walk opens a path name by name.
func walk(root int, path string, beneath bool, make MakeTarget) (int, error) {
	dup, err := dupFD(root)
	if err != nil {
		return -1, err
	}
	w := walker{stack: []int{dup}, rest: splitPath(nil, path), beneath: beneath}
	for len(w.rest) > 0 && err == nil {
		err = w.step(make)
	}
	last := len(w.stack) - 1
	for _, fd := range w.stack[:last] {
		syscall.Close(fd)
	}
	if err != nil {
		syscall.Close(w.stack[last])
		return -1, err
	}
	return w.stack[last], nil
}

type walker struct {
	stack   []int
	rest    []string
	links   int
	beneath bool
}

func (w *walker) step(make MakeTarget) error {
	name := w.rest[0]
	w.rest = w.rest[1:]
	if name == ".." {
		if len(w.stack) > 1 {
			w.up(len(w.stack) - 1)
			return nil
		}
		if w.beneath {
			return syscall.EXDEV
		}
		return nil
	}
	dir := w.stack[len(w.stack)-1]
	fd, err := syscall.Openat(dir, name, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if errors.Is(err, syscall.ENOENT) && make != MakeNothing {
		if err := makeAt(dir, name, make == MakeFile && len(w.rest) == 0); err != nil {
			return err
		}
		fd, err = syscall.Openat(dir, name, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		syscall.Close(fd)
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
		w.stack = append(w.stack, fd)
		return nil
	}
	target, err := readLink(fd)
	syscall.Close(fd)
	if err != nil {
		return err
	}
	if w.links++; w.links > maxLinks {
		return syscall.ELOOP
	}
	if target == "" {
		return syscall.ENOENT
	}
	if target[0] == '/' {
		if w.beneath {
			return syscall.EXDEV
		}
		w.up(1)
	}
	w.rest = splitPath(w.rest, target)
	return nil
}

// up closes all but the first n directories.
func (w *walker) up(n int) {
	for _, fd := range w.stack[n:] {
		syscall.Close(fd)
	}
	w.stack = w.stack[:n]
}

// makeAt makes a directory or a file. That somebody else was faster does not matter.
func makeAt(dir int, name string, file bool) error {
	err := tryMakeAt(dir, name, file)
	if !errors.Is(err, syscall.EOVERFLOW) {
		return err
	}
	// In a mount whose ids are mapped the machine's root is nobody: whose the directory
	// is makes it.
	var st syscall.Stat_t
	if err := syscall.Fstat(dir, &st); err != nil {
		return err
	}
	defer func() {
		_ = syscall.Setfsuid(0)
		_ = syscall.Setfsgid(0)
	}()
	if err := syscall.Setfsgid(int(st.Gid)); err != nil {
		return err
	}
	if err := syscall.Setfsuid(int(st.Uid)); err != nil {
		return err
	}
	return tryMakeAt(dir, name, file)
}

func tryMakeAt(dir int, name string, file bool) error {
	var err error
	if file {
		var fd int
		fd, err = syscall.Openat(dir, name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o644)
		if err == nil {
			syscall.Close(fd)
		}
	} else {
		err = syscall.Mkdirat(dir, name, 0o755)
	}
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	return err
}

// splitPath puts the names of a path before others.
func splitPath(rest []string, path string) []string {
	var names []string
	for start, i := 0, 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if name := path[start:i]; name != "" && name != "." {
			names = append(names, name)
		}
		start = i + 1
	}
	return append(names, rest...)
}

// splitLast cuts the last name off a path.
func splitLast(path string) (dir, name string) {
	end := len(path)
	for end > 0 && path[end-1] == '/' {
		end--
	}
	start := end
	for start > 0 && path[start-1] != '/' {
		start--
	}
	return path[:start], path[start:end]
}

func dupFD(fd int) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// readLink reads a symbolic link that is open.
func readLink(fd int) (string, error) {
	var empty [1]byte
	b := make([]byte, 4096)
	n, _, errno := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0)
	if errno != 0 {
		return "", errno
	}
	return string(b[:n]), nil
}
