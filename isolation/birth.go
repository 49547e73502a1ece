package isolation

import (
	"context"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"clusterd/isolation/rawfork"
	"clusterd/isolation/supervisor"
)

// Birth is all that it takes to start the process above a container.
type Birth struct {
	// Argv and Env are what the program gets, Program is the open file of it.
	Argv, Env []string
	Program   *os.File
	// Files are those that it is given, from descriptor 0 on.
	Files []*os.File
	// Supervises says that the program is the supervisor, and not one that is its own;
	// Small that it is the small one, not this whole binary.
	Supervises, Small bool
}

// Birthplace starts the process above a container somewhere else than below this process:
// in another container of an engine. It returns its id as this process sees it. That
// process has to find the machine as the agent sees it: the same process ids, and the
// sandbox and the runtime directory at the same paths.
type Birthplace func(ctx context.Context, b *Birth) (pid int, err error)

// Start starts the process as a child of this one. Argv must not be empty.
func (b *Birth) Start() (pid int, err error) {
	const lowest = 64 // out of the way of the numbers that the child is given
	own := *b
	own.Files = nil
	fds := make([]int, 0, len(b.Files))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
		if own.Program != nil {
			own.Program.Close()
		}
	}()
	for _, f := range b.Files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, lowest)
		if err != nil {
			return 0, err
		}
		fds = append(fds, fd)
	}
	program, err := unix.FcntlInt(b.Program.Fd(), unix.F_DUPFD_CLOEXEC, lowest)
	if err != nil {
		return 0, err
	}
	own.Program = os.NewFile(uintptr(program), b.Program.Name())
	return own.start(&rawfork.Script{}, fds, 0, -1)
}

// start starts the process with these descriptors, from 0 on. (syscall.ForkExec would need a
// descriptor for a pipe, and choose one that may be the program's.)
func (b *Birth) start(script *rawfork.Script, fds []int, flags uintptr, cgroup int) (pid int, err error) {
	script.Do("start a session", unix.SYS_SETSID)
	script.Do("change directory", unix.SYS_CHDIR, script.String("/"))
	for i, fd := range fds {
		if fd < len(fds) { // another will take its place
			high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, len(fds))
			if err != nil {
				return 0, err
			}
			defer unix.Close(high)
			fd = high
		}
		script.Do("hand over files", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	limitFiles(script, b.Small, len(fds))
	script.Signals()
	if b.Supervises {
		blocked := supervisor.BlockedSignals
		script.Do("block signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, rawfork.Pointer(script, &blocked), 0, supervisor.SignalSetSize)
	}
	script.ExecFile(int(b.Program.Fd()), slices.Clone(b.Argv), b.Env)
	defer runtime.KeepAlive(b)
	return script.Start(flags, cgroup)
}
