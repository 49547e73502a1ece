package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/proctree"
	"clusterd/isolation/rawfork"
	"clusterd/isolation/supervisor"
)

// Fork implements Launcher.
func (l *launcher) Fork(ctx context.Context, id *mesos.ContainerID, info *ForkInfo) (int, error) {
	c := &launched{
		id: id, dir: RuntimePath(l.dir, id), builtin: info.Builtin, forked: make(chan struct{}), ended: make(chan struct{}),
		namespaces: info.CloneFlags, enters: info.EnterFlags,
	}
	if err := l.checkNamespaces(c); err != nil {
		return 0, err
	}
	if info.Supervised || info.EnterFlags != 0 {
		c.builtin, c.program = BuiltinNone, info.Builtin
	}
	if c.order = syscall.SIGTERM; c.builtin == BuiltinNone {
		c.order = supervisor.Terminate
	}
	start, err := l.supervisorOf(c)
	if err != nil {
		return 0, err
	}
	if start.birthplace = info.Birthplace; start.birthplace != nil && (l.tree != nil || c.namespaces|c.enters != 0 || info.Cgroup != "") {
		return 0, fmt.Errorf("namespaces or cgroups of a container that is born elsewhere: %w", ErrNotSupported)
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0, ErrClosed
	}
	if _, ok := l.containers[Key(id)]; ok {
		l.mu.Unlock()
		return 0, ErrContainerExists
	}
	if id.GetParent() != nil {
		if _, ok := l.containers[Key(id.GetParent())]; !ok {
			l.mu.Unlock()
			return 0, fmt.Errorf("parent %s: %w", Key(id.GetParent()), ErrUnknownContainer)
		}
	}
	l.addLocked(c)
	l.mu.Unlock()
	defer close(c.forked)
	if err := l.fork(ctx, c, start, info.Cgroup); err != nil {
		l.mu.Lock()
		l.forgetLocked(c)
		l.mu.Unlock()
		close(c.ended)
		return 0, err
	}
	l.wg.Go(func() { l.watch(c) })
	return c.supervisor, nil
}

func (l *launcher) checkNamespaces(c *launched) error {
	switch {
	case c.namespaces|c.enters == 0:
		return nil
	case !l.namespaces:
		return fmt.Errorf("namespaces with the %s launcher: %w", l.name, ErrNotSupported)
	case c.namespaces&unix.CLONE_NEWUSER != 0:
		return fmt.Errorf("a user namespace around the supervisor: %w", ErrNotSupported)
	case c.enters != 0 && c.id.GetParent() == nil:
		return fmt.Errorf("enter namespaces of a parent: %s has none: %w", Key(c.id), ErrNotSupported)
	case c.enters&c.namespaces != 0:
		return fmt.Errorf("namespaces (%#x) both new and the parent's: %w", c.enters&c.namespaces, ErrNotSupported)
	case c.enters&unix.CLONE_NEWNS != 0 && c.namespaces&unix.CLONE_NEWPID != 0,
		c.enters&unix.CLONE_NEWPID != 0 && c.namespaces&unix.CLONE_NEWNS != 0 && c.namespaces&unix.CLONE_NEWPID != 0:
		return fmt.Errorf("namespaces %#x of the parent's with %#x of its own: %w", c.enters, c.namespaces, ErrNotSupported)
	}
	return nil
}

// start says how a supervisor is started.
type start struct {
	program program
	env     []string
	// executes is a program of ours that the supervisor starts, if there is one.
	executes *program
	// birthplace starts it, if it is not to be a child of this process.
	birthplace Birthplace
}

func (l *launcher) supervisorOf(c *launched) (s start, err error) {
	s.env = []string{"GOMAXPROCS=1"} // one thread does all the work
	builtin := c.builtin
	if builtin == BuiltinNone {
		builtin = builtinSupervisor
	} else {
		s.env = append(s.env, supervisor.InlineEnv)
	}
	if s.program, err = l.programs.get(builtin); err != nil || c.program == BuiltinNone {
		return s, err
	}
	p, err := l.programs.get(c.program)
	s.executes, s.env = &p, append(s.env, supervisor.ProgramEnv)
	return s, err
}

// fork makes the runtime directory and starts the supervisor.
func (l *launcher) fork(ctx context.Context, c *launched, start start, cgroup string) (err error) {
	if err := l.makeRuntimeDir(c); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(c.dir)
		}
	}()
	if l.tree != nil {
		if err := l.tree.Create(c.id); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, l.tree.Destroy(context.Background(), c.id))
			}
		}()
		if cgroup == "" {
			cgroup = l.tree.ProcessDir(c.id)
		}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make control socket: %w", err)
	}
	err = unix.SetNonblock(pair[0], true)
	if err == nil && c.namespaces&unix.CLONE_NEWPID != 0 {
		err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}
	if err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return err
	}
	c.control = os.NewFile(uintptr(pair[0]), "control")
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	if err = l.spawn(ctx, c, start, theirs, cgroup); err == nil {
		if err = l.forked(c); err == nil {
			return nil
		}
	}
	c.control.Close() // ends the supervisor
	if c.supervisor != 0 {
		reap(c.supervisor, 0)
	}
	if c.pidfd != nil {
		c.pidfd.Close()
	}
	return err
}

func (l *launcher) makeRuntimeDir(c *launched) error {
	err := os.Mkdir(c.dir, 0o755)
	if errors.Is(err, os.ErrNotExist) {
		if c.id.GetParent() == nil {
			// Somebody has cleaned up under us. What ran is lost to a restart of the
			// agent; what comes need not be.
			l.log.Warn().Str("path", filepath.Dir(c.dir)).Msg("the runtime directory was removed: it is made again")
		}
		if err = os.MkdirAll(filepath.Dir(c.dir), 0o755); err == nil {
			err = os.Mkdir(c.dir, 0o755)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return ErrContainerExists
	} else if err != nil {
		return fmt.Errorf("make runtime directory: %w", err)
	}
	return nil
}

// spawn starts the supervisor, in the container's new namespaces and its cgroup.
func (l *launcher) spawn(ctx context.Context, c *launched, start start, control *os.File, cgroup string) error {
	logFile, err := os.OpenFile(filepath.Join(c.dir, supervisorLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	files := []*os.File{l.null, l.null, logFile, control}
	if start.executes != nil {
		files = append(files, start.executes.file)
	}
	cgroupFD := -1
	if cgroup != "" {
		if cgroupFD, err = unix.Open(cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open cgroup %s: %w", cgroup, err)
		}
		defer unix.Close(cgroupFD)
	}
	b := &Birth{
		Argv: append(slices.Clone(start.program.argv), Key(c.id)), Env: start.env, Program: start.program.file, Files: files,
		Supervises: c.builtin == BuiltinNone, Small: c.builtin == BuiltinNone && start.program.embedded,
	}
	var pid int
	if start.birthplace != nil {
		pid, err = start.birthplace(ctx, b)
	} else {
		pid, err = l.execute(c, b, cgroupFD)
	}
	if cgroupFD >= 0 && (errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG)) {
		// Linux before 5.7: it is assigned below.
		pid, err = l.execute(c, b, -1)
	}
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	c.mu.Lock() // Status does not wait until the container runs
	c.supervisor = pid
	c.mu.Unlock()
	if c.pidfd, err = openPidfd(pid); err == nil && l.tree != nil {
		err = l.tree.Assign(c.id, pid)
	}
	return err
}

// execute starts the supervisor's program with these files, from 0 on.
func (l *launcher) execute(c *launched, b *Birth, cgroup int) (pid int, err error) {
	var script rawfork.Script
	fds, release, err := l.handover.place(&script, b.Files, b.Program)
	if err != nil {
		return 0, err
	}
	defer release()
	defer runtime.KeepAlive(b)
	// The cgroup namespace is made when the process is in its cgroups.
	return b.start(&script, fds, c.namespaces&^unix.CLONE_NEWCGROUP, cgroup)
}

// forked writes down who the supervisor is.
func (l *launcher) forked(c *launched) error {
	p, ok := proctree.Read(c.supervisor)
	if !ok {
		return fmt.Errorf("start supervisor: read its start time: %w", os.ErrNotExist)
	}
	name := string(c.builtin)
	if c.builtin == BuiltinNone {
		name = noBuiltin
	}
	line := fmt.Sprintf("%d %d %s %s %d\n", c.supervisor, p.Start, l.bootID, name, int(c.order))
	if err := os.WriteFile(filepath.Join(c.dir, supervisorFile), []byte(line), 0o644); err != nil {
		return fmt.Errorf("write down the supervisor: %w", err)
	}
	return nil
}
