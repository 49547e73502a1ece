package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/proctree"
	"clusterd/isolation/rawfork"
	"clusterd/isolation/supervisor"
)

const (
	// supervisorFile holds the supervisor's process id, the tick it started at,
	// the boot it belongs to and, when it is the container's command as well,
	// which program of ours it is. The agent writes it before anything of the
	// container runs.
	supervisorFile = "supervisor"
	// launchInfoFile says for humans what was started.
	launchInfoFile = "launch_info"
	// supervisorLog gets what a supervisor has to complain about.
	supervisorLog = "supervisor.log"
	// markVariable is in the environment of all that runs in a container, so
	// that strays are found even when their supervisor was killed.
	markVariable = "CLUSTERD_CONTAINER_ID"
)

// launcher is what all launchers are made of: a supervisor for each container, and the
// runtime directory that remembers it.
type launcher struct {
	name     string
	dir      string
	programs *Programs
	log      zerolog.Logger
	lock     *os.File // of dir, held until Close
	bootID   string
	null     *os.File
	// namespaces says that containers may have namespaces of their own.
	namespaces bool
	// tree keeps the containers' cgroups; nil: they have none.
	tree *cgroups.Tree

	// base ends with Close: what the launcher does on its own runs under it.
	base   context.Context //nolint:containedctx // the lifecycle owner
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// containers and closed are guarded by mu.
	containers map[string]*launched
	closed     bool
}

// launched is one container's processes.
type launched struct {
	id         *mesos.ContainerID
	dir        string
	supervisor int
	// pidfd is pollable; nil for a container that ended before it was
	// recovered.
	pidfd *os.File
	// builtin is the program of ours that is its own supervisor, if it is one, and program
	// one that has a supervisor all the same.
	builtin, program Builtin
	// namespaces are those (CLONE_NEW*) of its own, enters those of its parent's.
	namespaces, enters uintptr
	// forced says that the agent has killed the supervisor with all the rest.
	forced atomic.Bool
	// forked is closed when Fork is done, whatever came of it.
	forked chan struct{}
	// ended is closed when no process is left; status is set before.
	ended  chan struct{}
	status ExitStatus

	// mu guards what follows.
	mu sync.Mutex
	// control is open from Fork until Start.
	control *os.File
	pid     int
}

// newLauncher makes a launcher that keeps its containers' runtime directories under
// runtimeDir/containers.
func newLauncher(name, runtimeDir string, programs *Programs, log zerolog.Logger) (*launcher, error) {
	if err := os.MkdirAll(filepath.Join(runtimeDir, "containers"), 0o755); err != nil {
		return nil, fmt.Errorf("make runtime directory: %w", err)
	}
	lock, err := lockDir(runtimeDir)
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		err = keepFiles()
	}
	if err != nil {
		return nil, errors.Join(err, null.Close(), lock.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &launcher{
		base: ctx, cancel: cancel, name: name, dir: runtimeDir, lock: lock, programs: programs, log: log, bootID: bootID(), null: null,
		containers: make(map[string]*launched),
	}, nil
}

// keepFiles keeps from all that this process starts what it was started with itself.
// Files that Go opens are kept anyway.
func keepFiles() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list the open files: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// Name implements Launcher.
func (l *launcher) Name() string { return l.name }

// Recover implements Launcher.
func (l *launcher) Recover(ctx context.Context) ([]*mesos.ContainerID, error) {
	ids, err := runtimeDirs(ctx, l.dir, nil, nil)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(ids))
	for _, id := range ids {
		known[Key(id)] = true
		if err := l.recover(id); err != nil {
			return nil, fmt.Errorf("recover container %s: %w", Key(id), err)
		}
	}
	if l.tree == nil {
		return ids, nil
	}
	// Those whose runtime directory was lost may live all the same.
	all, err := l.tree.Containers()
	if err != nil {
		return nil, err
	}
	for _, id := range all {
		if known[Key(id)] {
			continue
		}
		if err := l.recover(id); err != nil {
			return nil, fmt.Errorf("recover container %s: %w", Key(id), err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// runtimeDirs lists the containers that have a runtime directory in dir, parents before
// those nested in them.
func runtimeDirs(ctx context.Context, dir string, parent *mesos.ContainerID, ids []*mesos.ContainerID) ([]*mesos.ContainerID, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "containers"))
	if errors.Is(err, os.ErrNotExist) && parent != nil {
		return ids, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read runtime directory: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !e.IsDir() {
			continue
		}
		id := containerID(e.Name())
		id.Parent = parent
		ids, err = runtimeDirs(ctx, filepath.Join(dir, "containers", e.Name()), id, append(ids, id))
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func (l *launcher) recover(id *mesos.ContainerID) error {
	c := &launched{id: id, dir: RuntimePath(l.dir, id), forked: make(chan struct{}), ended: make(chan struct{})}
	close(c.forked)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if _, ok := l.containers[Key(id)]; ok {
		return ErrContainerExists
	}
	pid, alive := l.readSupervisor(c)
	c.pid = readInt(filepath.Join(c.dir, supervisor.PIDFile))
	l.containers[Key(id)] = c
	if l.tree != nil {
		l.tree.Adopt(id, cgroups.Core)
	}
	if alive {
		fd, err := openPidfd(pid)
		// The process may have ended, and another have got its id, before
		// the descriptor held it.
		if err == nil {
			if _, still := l.readSupervisor(c); still {
				c.supervisor, c.pidfd = pid, fd
				if c.pid == 0 && fileExists(filepath.Join(c.dir, launchInfoFile)) {
					c.pid = commandOf(c)
				}
				l.wg.Go(func() { l.watch(c) })
				return nil
			}
			fd.Close()
		} else if !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	if pid != 0 {
		l.reap(c, pid)
	}
	l.finish(c, false)
	return nil
}

// commandOf finds the command of a container whose number nobody has written down: the
// agent died at that very moment. It is what the supervisor has started first.
func commandOf(c *launched) int {
	if c.builtin != BuiltinNone {
		return c.supervisor
	}
	table, err := proctree.ReadTable()
	if err != nil {
		return 0
	}
	first := 0
	for _, pid := range table.Children(c.supervisor) {
		if first == 0 || table[pid].Start < table[first].Start {
			first = pid
		}
	}
	return first
}

// readSupervisor reads who the supervisor is, and says whether it is there at
// all (its id is 0 if not) and whether it lives (it may be a zombie).
func (l *launcher) readSupervisor(c *launched) (pid int, alive bool) {
	b, err := os.ReadFile(filepath.Join(c.dir, supervisorFile))
	if err != nil {
		return 0, false
	}
	f := strings.Fields(string(b))
	if len(f) < 3 || f[2] != l.bootID {
		return 0, false
	}
	if len(f) > 3 {
		c.builtin = Builtin(f[3])
	}
	pid, err = strconv.Atoi(f[0])
	start, err2 := strconv.ParseUint(f[1], 10, 64)
	if err != nil || err2 != nil {
		return 0, false
	}
	p, ok := proctree.Read(pid)
	if !ok || p.Start != start {
		return 0, false
	}
	return pid, p.State != 'Z'
}

// Fork implements Launcher.
func (l *launcher) Fork(_ context.Context, id *mesos.ContainerID, info *ForkInfo) (int, error) {
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
	start, err := l.supervisorOf(c)
	if err != nil {
		return 0, err
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
	l.containers[Key(id)] = c
	l.mu.Unlock()
	defer close(c.forked)
	if err := l.fork(c, start, info.Cgroup); err != nil {
		l.mu.Lock()
		delete(l.containers, Key(id))
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
func (l *launcher) fork(c *launched, start start, cgroup string) (err error) {
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
	if err = l.spawn(c, start, theirs, cgroup); err == nil {
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
func (l *launcher) spawn(c *launched, start start, control *os.File, cgroup string) error {
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
	pid, err := l.execute(c, start, files, cgroupFD)
	if cgroupFD >= 0 && (errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG)) {
		// Linux before 5.7: it is assigned below.
		pid, err = l.execute(c, start, files, -1)
	}
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	c.supervisor = pid
	if c.pidfd, err = openPidfd(pid); err == nil && l.tree != nil {
		err = l.tree.Assign(c.id, pid)
	}
	return err
}

// execute starts the supervisor's program with these files, from 0 on. (syscall.ForkExec
// would need a descriptor for a pipe, and choose one that may be the program's.)
func (l *launcher) execute(c *launched, start start, files []*os.File, cgroup int) (pid int, err error) {
	var script rawfork.Script
	script.Do("start a session", unix.SYS_SETSID)
	script.Do("change directory", unix.SYS_CHDIR, script.String("/"))
	for i, f := range files {
		fd := f.Fd()
		if fd < uintptr(len(files)) { // another will take its place
			high, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, len(files))
			if err != nil {
				return 0, err
			}
			defer unix.Close(high)
			fd = uintptr(high)
		}
		script.Do("hand over files", unix.SYS_DUP3, fd, uintptr(i), 0)
	}
	if n := openFiles(); n != 0 {
		var own unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err == nil {
			limit := &unix.Rlimit{Cur: min(n, own.Max), Max: own.Max}
			script.Try(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, rawfork.Pointer(&script, limit), 0)
		}
	}
	script.Signals()
	script.ExecFile(int(start.program.file.Fd()), append(slices.Clone(start.program.argv), Key(c.id)), start.env)
	defer runtime.KeepAlive(files)
	// The cgroup namespace is made when the process is in its cgroups.
	return script.Start(c.namespaces&^unix.CLONE_NEWCGROUP, cgroup)
}

// forked writes down who the supervisor is.
func (l *launcher) forked(c *launched) error {
	p, ok := proctree.Read(c.supervisor)
	if !ok {
		return fmt.Errorf("start supervisor: read its start time: %w", os.ErrNotExist)
	}
	line := fmt.Sprintf("%d %d %s %s\n", c.supervisor, p.Start, l.bootID, c.builtin)
	if err := os.WriteFile(filepath.Join(c.dir, supervisorFile), []byte(line), 0o644); err != nil {
		return fmt.Errorf("write down the supervisor: %w", err)
	}
	return nil
}

// Start implements Launcher.
func (l *launcher) Start(ctx context.Context, id *mesos.ContainerID, info *LaunchInfo) error {
	c, err := l.get(id)
	if err != nil {
		return err
	}
	spec, err := l.spec(c, info)
	if err != nil {
		return err
	}
	c.mu.Lock()
	control := c.control
	c.control = nil
	c.mu.Unlock()
	if control == nil {
		return ErrDestroyed
	}
	defer control.Close()
	stop := onDone(ctx, control)
	defer stop()
	l.writeLaunchInfo(c, spec, info)
	if err := sendSpec(control, spec.Encode()); err != nil {
		return l.startFailed(ctx, c, err)
	}
	reply, sender, err := readReply(control)
	if err != nil {
		return l.startFailed(ctx, c, err)
	}
	switch {
	case len(reply) > 0 && reply[0] == 'K':
		pid, err := strconv.Atoi(string(reply[1:]))
		if err != nil {
			return fmt.Errorf("supervisor answered %q: %w", reply, err)
		}
		switch {
		case c.builtin != BuiltinNone:
			pid = c.supervisor
		case c.namespaces&unix.CLONE_NEWPID != 0:
			pid = sender // the container has its own numbers
		}
		c.mu.Lock()
		c.pid = pid
		c.mu.Unlock()
		if c.namespaces&(unix.CLONE_NEWPID|unix.CLONE_NEWNS) != 0 {
			l.writePID(c, pid)
		}
		return nil
	case len(reply) > 0 && reply[0] == 'E':
		return launchError(string(reply[1:]))
	}
	return l.startFailed(ctx, c, io.ErrUnexpectedEOF)
}

// writePID writes down the command's process id for a supervisor that cannot.
func (l *launcher) writePID(c *launched, pid int) {
	if err := os.WriteFile(filepath.Join(c.dir, supervisor.PIDFile), []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
		l.log.Warn().Err(err).Str("container_id", Key(c.id)).Msg("write down the process id")
	}
}

// startFailed explains a launch whose supervisor did not answer.
func (l *launcher) startFailed(ctx context.Context, c *launched, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if b, readErr := os.ReadFile(filepath.Join(c.dir, supervisorLog)); readErr == nil && len(b) > 0 {
		return fmt.Errorf("supervisor gave no answer: %w: %s", err, firstLine(string(b)))
	}
	return fmt.Errorf("supervisor gave no answer: %w", err)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Wait implements Launcher.
func (l *launcher) Wait(ctx context.Context, id *mesos.ContainerID) (ExitStatus, error) {
	c, err := l.get(id)
	if err != nil {
		return ExitStatus{}, err
	}
	select {
	case <-c.ended:
		return c.status, nil
	case <-ctx.Done():
		return ExitStatus{}, ctx.Err()
	}
}

// Status implements Launcher.
func (l *launcher) Status(id *mesos.ContainerID) (LauncherStatus, error) {
	c, err := l.get(id)
	if err != nil {
		return LauncherStatus{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := LauncherStatus{Supervisor: c.supervisor, PID: c.pid, RuntimeDir: c.dir}
	select {
	case <-c.ended:
		s.Supervisor = 0
	default:
	}
	return s, nil
}

// Remove implements Launcher.
func (l *launcher) Remove(id *mesos.ContainerID) error {
	c, err := l.get(id)
	if err != nil {
		return err
	}
	gone := append(l.nested(id), c)
	for _, c := range gone {
		select {
		case <-c.ended:
		default:
			return fmt.Errorf("remove container %s: still running", Key(c.id))
		}
	}
	if err := l.Cleanup(context.Background(), id); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove runtime directory: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range gone {
		delete(l.containers, Key(c.id))
	}
	return nil
}

// nested lists the containers nested in one, at any depth.
func (l *launcher) nested(id *mesos.ContainerID) []*launched {
	l.mu.Lock()
	defer l.mu.Unlock()
	var nested []*launched
	for key, c := range l.containers {
		if strings.HasPrefix(key, Key(id)+".") {
			nested = append(nested, c)
		}
	}
	return nested
}

// Cleanup implements Launcher.
func (l *launcher) Cleanup(ctx context.Context, id *mesos.ContainerID) error {
	if l.tree == nil {
		return nil
	}
	return l.tree.Destroy(ctx, id)
}

// Close implements Launcher.
func (l *launcher) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.cancel()
	for _, c := range l.containers {
		if c.pidfd != nil {
			c.pidfd.Close()
		}
	}
	l.mu.Unlock()
	l.wg.Wait()
	return errors.Join(l.null.Close(), l.lock.Close())
}

func (l *launcher) get(id *mesos.ContainerID) (*launched, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.containers[Key(id)]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
	}
	return c, nil
}

// readInt reads a number from a file; 0 means that there is none.
func readInt(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
