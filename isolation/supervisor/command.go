package supervisor

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"clusterd/isolation/rawfork"
)

// Numbers of prctl(2), capset(2) and seccomp(2).
const (
	prSetPdeathsig   = 1
	prSetKeepcaps    = 8
	prCapbsetRead    = 23
	prCapbsetDrop    = 24
	prSetNoNewPrivs  = 38
	prCapAmbient     = 47
	ambientRaise     = 2
	ambientClearAll  = 4
	capVersion3      = 0x20080522
	seccompSetFilter = 1
)

// startCommand starts the command. On an error it says what could not be done.
func (s *supervisor) startCommand(w *world) (pid int, what string, err error) {
	undo, err := w.setScore()
	if err != nil {
		return 0, "set the badness for the OOM killer", err
	}
	defer undo()
	if s.spec.ProgramFD != 0 {
		script := s.forkScript(w)
		script.ExecFile(int(s.spec.ProgramFD), s.spec.Argv, s.spec.Env)
		pid, err = script.Start(0, -1)
		return explain(pid, err)
	}
	paths := candidates(s.spec.Path, s.spec.Env)
	if !w.elsewhere() {
		path, err := LookPath(s.spec.Path, s.spec.Env)
		if err != nil {
			return 0, "execute " + s.spec.Path, err
		}
		paths = []string{path}
	}
	if len(paths) == 0 {
		return 0, "execute " + s.spec.Path, syscall.ENOENT
	}
	var denied error
	for _, path := range paths {
		pid, err = s.execute(w, path)
		failed, ok := err.(*rawfork.Error) //nolint:errorlint // errors.As costs more to start than this program does
		if !ok || failed.What != "execute "+path {
			return explain(pid, err)
		}
		// As execvp(3) goes on.
		switch failed.Errno {
		case syscall.ENOENT, syscall.ENOTDIR:
		case syscall.EACCES:
			denied = err
		default:
			return explain(0, err)
		}
	}
	if denied != nil {
		err = denied
	}
	what, err = explainError(err)
	if len(paths) > 1 {
		what = "execute " + s.spec.Path
	}
	return 0, what, err
}

// execute tries one program. A script without "#!" is handed to the shell, as execvp(3)
// does, which Mesos uses (src/slave/containerizer/mesos/launch.cpp).
func (s *supervisor) execute(w *world, path string) (pid int, err error) {
	script := s.forkScript(w)
	script.Exec(path, s.spec.Argv, s.spec.Env)
	pid, err = script.Start(0, -1)
	if failed, ok := err.(*rawfork.Error); !ok || failed.Errno != syscall.ENOEXEC { //nolint:errorlint // as above
		return pid, err
	}
	script = s.forkScript(w)
	script.Exec("/bin/sh", append([]string{"sh", path}, tail(s.spec.Argv)...), s.spec.Env)
	return script.Start(0, -1)
}

func explain(pid int, err error) (int, string, error) {
	if err == nil {
		return pid, "", nil
	}
	what, err := explainError(err)
	return 0, what, err
}

func explainError(err error) (what string, cause error) {
	if failed, ok := err.(*rawfork.Error); ok { //nolint:errorlint // as above
		return failed.What, failed.Errno
	}
	return "start the command", err
}

// elsewhere says whether the command will have another root than this process.
func (w *world) elsewhere() bool {
	for _, n := range w.enters {
		if n.flag == syscall.CLONE_NEWNS {
			return true
		}
	}
	return false
}

// forkScript is all that the command's process does between fork and exec.
func (s *supervisor) forkScript(w *world) *rawfork.Script {
	spec, script := s.spec, &rawfork.Script{}
	parent := os.Getpid()
	for _, n := range w.enters {
		script.Do("enter the namespaces of the parent", sysSetns, uintptr(n.fd), n.flag)
		if n.flag == syscall.CLONE_NEWPID {
			// Only children of who enters it are in it. (It comes last of all.)
			script.Fork("enter the pid namespace of the parent", 0, -1)
			parent = 0
		}
	}
	script.Do("start a session", syscall.SYS_SETSID)
	for i, fd := range s.streams.forCommand() {
		script.Do("hand over standard files", syscall.SYS_DUP3, fd, uintptr(i), 0)
	}
	if spec.TTY {
		script.Do("take the terminal", syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 1)
	}
	s.restoreOpenFiles(script)
	// Before it becomes its user: the sandbox of a nested container may lie in one of
	// another user, who lets nobody pass (src/slave/containerizer/mesos/launch.cpp).
	script.Do("working directory "+spec.Dir, syscall.SYS_CHDIR, script.String(spec.Dir))
	s.rights(script, w)
	script.Do("die with the supervisor", syscall.SYS_PRCTL, prSetPdeathsig, uintptr(syscall.SIGKILL))
	script.Want("die with the supervisor", uintptr(parent), syscall.SYS_GETPPID)
	script.Signals()
	commandSignals(script)
	s.lastRights(script)
	return script
}

// restoreOpenFiles gives the command the limit of open files that the agent was started
// with: Go raises its own.
func (s *supervisor) restoreOpenFiles(script *rawfork.Script) {
	if s.spec.OpenFiles == 0 {
		return
	}
	var own syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own) != nil {
		return
	}
	limit := &[2]uint64{min(s.spec.OpenFiles, own.Max), own.Max}
	script.Try(sysPrlimit, 0, syscall.RLIMIT_NOFILE, rawfork.Pointer(script, limit), 0)
}

// rights takes away, and gives, what the Spec says, but for lastRights.
func (s *supervisor) rights(script *rawfork.Script, w *world) {
	spec := s.spec
	for _, l := range spec.Rlimits {
		limit := &[2]uint64{l.Soft, l.Hard}
		script.Do("set limit "+strconv.Itoa(int(l.Resource)), sysPrlimit, 0, uintptr(l.Resource), rawfork.Pointer(script, limit), 0)
	}
	if w.users >= 0 {
		script.Do("enter the user namespace", sysSetns, uintptr(w.users), syscall.CLONE_NEWUSER)
	}
	if spec.SetCapabilities {
		dropBounding(script, spec.Capabilities.Bounding)
	}
	if !spec.NoNewPrivileges {
		// That needs a right that may go below.
		s.filter(script)
	}
	if spec.SetCapabilities {
		script.Do("keep capabilities", syscall.SYS_PRCTL, prSetKeepcaps, 1)
	}
	if spec.SwitchUser || w.users >= 0 {
		var groups uintptr
		if len(spec.Groups) > 0 {
			groups = rawfork.Pointer(script, &spec.Groups[0])
		}
		script.Do("set groups", syscall.SYS_SETGROUPS, uintptr(len(spec.Groups)), groups)
		script.Do("set group", syscall.SYS_SETGID, uintptr(spec.GID))
		script.Do("set user", syscall.SYS_SETUID, uintptr(spec.UID))
	}
	if spec.SetCapabilities {
		setCapabilities(script, &spec.Capabilities)
	}
}

// dropBounding takes capabilities away from all that will ever be executed.
func dropBounding(script *rawfork.Script, keep uint64) {
	for c := range uintptr(64) {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prCapbsetRead, c, 0); errno != 0 {
			return // the kernel knows no more
		}
		if keep&(1<<c) == 0 {
			script.Do("drop capability "+strconv.Itoa(int(c)), syscall.SYS_PRCTL, prCapbsetDrop, c)
		}
	}
}

func setCapabilities(script *rawfork.Script, c *Capabilities) {
	header := &[2]uint32{capVersion3, 0}
	data := &[6]uint32{
		uint32(c.Effective), uint32(c.Permitted), uint32(c.Inheritable),
		uint32(c.Effective >> 32), uint32(c.Permitted >> 32), uint32(c.Inheritable >> 32),
	}
	script.Do("set capabilities", syscall.SYS_CAPSET, rawfork.Pointer(script, header), rawfork.Pointer(script, data))
	script.Try(syscall.SYS_PRCTL, prCapAmbient, ambientClearAll, 0, 0, 0)
	for n := range uintptr(64) {
		if c.Ambient&(1<<n) != 0 {
			script.Do("raise capability "+strconv.Itoa(int(n)), syscall.SYS_PRCTL, prCapAmbient, ambientRaise, n, 0, 0)
		}
	}
}

// lastRights takes away what everything before may have needed.
func (s *supervisor) lastRights(script *rawfork.Script) {
	if s.spec.NoNewPrivileges {
		script.Do("give up new privileges", syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0)
		s.filter(script)
	}
}

// filter adds the seccomp program.
func (s *supervisor) filter(script *rawfork.Script) {
	const size = 8 // of struct sock_filter
	if len(s.spec.Seccomp) < size {
		return
	}
	program := &struct {
		length uint16
		filter unsafe.Pointer
	}{uint16(len(s.spec.Seccomp) / size), unsafe.Pointer(&s.spec.Seccomp[0])}
	script.Do("filter system calls", sysSeccomp, seccompSetFilter, 0, rawfork.Pointer(script, program))
}

// candidates are the files that a program's name may stand for.
func candidates(name string, env []string) []string {
	var found []string
	for path := range eachCandidate(name, env) {
		found = append(found, path)
	}
	return found
}

// eachCandidate yields the files that execvp(3) tries.
func eachCandidate(name string, env []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if name == "" {
			return
		}
		for i := range len(name) {
			if name[i] == '/' {
				yield(name)
				return
			}
		}
		path := "/bin:/usr/bin"
		for _, e := range env {
			if len(e) >= 5 && e[:5] == "PATH=" {
				path = e[5:]
			}
		}
		for start, i := 0, 0; i <= len(path); i++ {
			if i < len(path) && path[i] != ':' {
				continue
			}
			dir := path[start:i]
			start = i + 1
			if dir == "" {
				dir = "."
			}
			if !yield(dir + "/" + name) {
				return
			}
		}
	}
}
