// Package rawfork starts a process that makes system calls of the caller's choice
// between fork and exec: to enter namespaces, to give up rights, to be born in a
// cgroup. syscall.ForkExec can do a part of that only, and a running Go program,
// having several threads, cannot enter most namespaces by itself.
//
// Script is the main type: the list of calls, put together beforehand, because the
// child shares its memory with the caller and must neither allocate nor touch a lock.
// The same list can be made on every thread of a running program (OnAllThreads).
//
// A Script belongs to one goroutine. isolation and isolation/supervisor import this
// package; it imports nothing but syscall, as what imports it starts for every
// container.
package rawfork

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Error says which call of a Script failed.
type Error struct {
	// What is what the failed call was to do.
	What string
	// Errno is what the system said.
	Errno syscall.Errno
}

// Error joins the two.
func (e *Error) Error() string { return e.What + ": " + e.Errno.Error() }

// Unwrap returns the error number.
func (e *Error) Unwrap() error { return e.Errno }

// Script is a list of system calls.
type Script struct {
	calls []call
	// keep holds what calls point to.
	keep []any
	// shared says that the child begins with the caller's very files.
	shared bool
}

// kind says what a child does with a call.
type kind int

const (
	// kindCall makes it; the child ends when it fails.
	kindCall kind = iota
	// kindTry makes it, whatever comes of it.
	kindTry
	// kindWant ends the child when the result is not that of the last argument.
	kindWant
	// kindFork forks again: the script goes on in the new process, whose parent is the
	// caller's, too.
	kindFork
	// kindSignals puts signal handlers and the mask back to what a new program expects.
	kindSignals
)

type call struct {
	kind   kind
	what   string
	number uintptr
	args   [6]uintptr
}

// Do adds a system call that must succeed.
func (s *Script) Do(what string, number uintptr, args ...uintptr) {
	s.add(kindCall, what, number, args)
}

// Try adds a system call that may fail.
func (s *Script) Try(number uintptr, args ...uintptr) { s.add(kindTry, "", number, args) }

// Want adds a system call that must return a value.
func (s *Script) Want(what string, result, number uintptr, args ...uintptr) {
	s.add(kindWant, what, number, args)
	s.calls[len(s.calls)-1].args[5] = result
}

// Fork adds a second fork: what follows is done by a child of the caller that may be
// in the pid namespace that the calls before have entered. Flags are those of clone(2)
// for namespaces; cgroup is the descriptor of the directory of cgroup v2 that it is born
// in, or negative.
func (s *Script) Fork(what string, flags uintptr, cgroup int) {
	args := s.clone(flags|cloneParent, cgroup, 0)
	s.add(kindFork, what, args[0], args[1:])
}

// Pointer is the address of a value that the script keeps.
func Pointer[T any](s *Script, value *T) uintptr {
	s.keep = append(s.keep, value)
	return uintptr(unsafe.Pointer(value))
}

// String is the address of a C string that the script keeps. The text must not hold a
// NUL byte.
func (s *Script) String(text string) uintptr {
	b := make([]byte, len(text)+1)
	copy(b, text)
	return Pointer(s, &b[0])
}

// Strings is the address of an array of C strings.
func (s *Script) Strings(texts []string) uintptr {
	list := make([]uintptr, len(texts)+1)
	for i, text := range texts {
		list[i] = s.String(text)
	}
	return Pointer(s, &list[0])
}

// Exec adds the execution of the program at path.
func (s *Script) Exec(path string, argv, env []string) {
	s.Do("execute "+path, syscall.SYS_EXECVE, s.String(path), s.Strings(argv), s.Strings(env))
}

// ExecFile adds the execution of an open file, which needs no path to it.
func (s *Script) ExecFile(fd int, argv, env []string) {
	s.Do("execute "+argv[0], sysExecveat, uintptr(fd), s.String(""), s.Strings(argv), s.Strings(env), atEmptyPath)
}

func (s *Script) add(k kind, what string, number uintptr, args []uintptr) {
	c := call{kind: k, what: what, number: number}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
}

// KeepFiles leaves the child those files of the caller's only whose descriptors are below
// a number. Otherwise all are copied at the fork and closed at the execution, which in a
// program with thousands of them costs more than the fork itself. It must be the first
// call of a script, and needs Linux 5.9 (CanKeepFiles).
func (s *Script) KeepFiles(below int) {
	s.shared = true
	s.Do("keep files", sysCloseRange, uintptr(below), allOfThem, closeRangeUnshare)
}

// CanKeepFiles says whether this system has what KeepFiles needs.
func CanKeepFiles() bool {
	_, _, errno := syscall.RawSyscall(sysCloseRange, allOfThem, allOfThem, 0)
	return errno == 0
}

const (
	// The number is the same on all architectures.
	sysCloseRange     = 436
	closeRangeUnshare = 2
	allOfThem         = 0xffffffff

	cloneVM     = 0x00000100
	cloneFiles  = 0x00000400
	cloneVfork  = 0x00004000
	cloneParent = 0x00008000
	intoCgroup  = 0x200000000
	atEmptyPath = 0x1000
	mmapShared  = syscall.MAP_SHARED | syscall.MAP_ANON
)

// cloneArguments is struct clone_args of clone3(2). What has no name stays zero: pidfd,
// threads, stack.
type cloneArguments struct {
	flags, _, _, _, exitSignal, _, _, _, _, _, cgroup uint64
}

// clone says how to call clone(2), or clone3(2) where that is needed: its number and
// arguments.
func (s *Script) clone(flags uintptr, cgroup int, signal uintptr) [4]uintptr {
	flags |= cloneVfork | sharedMemory
	if cgroup < 0 {
		return [4]uintptr{syscall.SYS_CLONE, flags | signal, 0, 0}
	}
	a := &cloneArguments{flags: uint64(flags) | intoCgroup, exitSignal: uint64(signal), cgroup: uint64(cgroup)}
	return [4]uintptr{sysClone3, Pointer(s, a), unsafe.Sizeof(*a), 0}
}

// result is what a child tells its parent, through memory.
type result struct {
	// failed is the number of the call that failed, from 1 on.
	failed int64
	errno  int64
	// second is the process id of the process that kindFork made.
	second int64
}

// Start forks, makes the calls in the child, and returns its process id once it has
// executed a program. After a call to Fork in the script that is the id of the second
// child; the first has ended and was waited for. Flags and cgroup are those of Fork, for
// the first. An error is an *Error, and nothing is left then.
func (s *Script) Start(flags uintptr, cgroup int) (pid int, err error) {
	r, free, err := newResult()
	if err != nil {
		return 0, err
	}
	defer free()
	if s.shared {
		flags |= cloneFiles
	}
	args := s.clone(flags, cgroup, uintptr(syscall.SIGCHLD))
	syscall.ForkLock.Lock()
	first, errno := fork(s.calls, &args, r)
	runtime_AfterFork()
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(s)
	if errno != 0 {
		return 0, &Error{What: "fork", Errno: errno}
	}
	pid = int(first)
	if r.second != 0 || r.failed != 0 {
		wait(int(first))
	}
	if r.second != 0 {
		pid = int(r.second)
	}
	if r.failed == 0 {
		return pid, nil
	}
	if r.second != 0 {
		wait(pid)
	}
	return 0, &Error{What: s.calls[r.failed-1].what, Errno: syscall.Errno(r.errno)}
}

func wait(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// OnAllThreads makes the calls on every thread of this process, one call after the
// other. A Script for that must not fork or execute. In a program that has C code only
// users, limits and the working directory can be set (ENOTSUP).
func (s *Script) OnAllThreads() error {
	defer runtime.KeepAlive(s)
	for i := range s.calls {
		c := &s.calls[i]
		if errno := c.onAllThreads(); errno != 0 && c.kind == kindCall {
			return &Error{What: c.what, Errno: errno}
		}
	}
	return nil
}

// onAllThreads makes one call. What is the same for all threads is asked for once; and
// the user is set as C libraries want it, where there is one.
func (c *call) onAllThreads() syscall.Errno {
	var err error
	switch c.number {
	case syscall.SYS_CHDIR, syscall.SYS_PRLIMIT64:
		_, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], 0, 0)
		return errno
	case syscall.SYS_SETGROUPS:
		groups := make([]int, c.args[0])
		for i := range groups {
			groups[i] = int(*(*uint32)(unsafe.Add(*(*unsafe.Pointer)(unsafe.Pointer(&c.args[1])), 4*i)))
		}
		err = syscall.Setgroups(groups)
	case syscall.SYS_SETGID:
		err = syscall.Setgid(int(c.args[0]))
	case syscall.SYS_SETUID:
		err = syscall.Setuid(int(c.args[0]))
	default:
		_, _, errno := syscall.AllThreadsSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		return errno
	}
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // these return nothing else
		return errno
	}
	return 0
}

// fork makes the child, and is the child, which never returns. It takes the lock that
// runtime_BeforeFork stands for, and leaves it to the caller to give it back.
//
// From the clone on the child uses this very stack frame, and memory, while the parent
// waits: nothing may be allocated, no stack may grow, and the parent returns at once
// when it goes on, reading nothing of the frame but results.
//
//go:noinline
//go:norace
//go:nocheckptr
func fork(calls []call, args *[4]uintptr, r *result) (pid uintptr, errno syscall.Errno) {
	var (
		i     int
		c     *call
		value uintptr
		err   syscall.Errno
	)
	runtime_BeforeFork()
	pid, errno = rawVfork(args[0], args[1], args[2], args[3])
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	for i = range calls {
		c = &calls[i]
		switch c.kind {
		case kindFork:
			value, err = rawVfork(c.number, c.args[0], c.args[1], c.args[2])
			if err != 0 {
				break
			}
			if value != 0 {
				r.second = int64(value)
				for {
					_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
				}
			}
		case kindSignals:
			runtime_AfterForkInChild()
		case kindWant:
			value, _, err = syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], 0)
			if err == 0 && value != c.args[5] {
				err = syscall.ESRCH
			}
		case kindTry:
			_, _, _ = syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		default:
			_, _, err = syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		}
		if err != 0 {
			r.failed, r.errno = int64(i+1), int64(err)
			break
		}
	}
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 253, 0, 0)
	}
}

// Signals adds the reset of signal handlers and of the mask, which the fork had
// blocked. It belongs right before what may take long or depends on signals, and before
// Exec.
func (s *Script) Signals() { s.add(kindSignals, "", 0, nil) }
