package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/proctree"
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

// destroyPatience is how long a supervisor may take to clear up its container
// before the launcher does it instead (the supervisor may be stopped, or the
// kernel may not let go of a process).
const destroyPatience = 10 * time.Second

// PosixLauncher starts containers as plain processes, as the launcher named
// "posix" of Mesos does (src/slave/containerizer/mesos/launcher.cpp), but with
// a supervisor above each, so that a process that forks twice does not escape.
type PosixLauncher struct {
	dir      string
	programs *Programs
	log      zerolog.Logger
	lock     *os.File // of dir, held until Close
	bootID   string
	null     *os.File

	wg sync.WaitGroup

	mu sync.Mutex
	// containers and closed are guarded by mu.
	containers map[string]*launched
	closed     bool
}

var _ Launcher = (*PosixLauncher)(nil)

// launched is one container's processes.
type launched struct {
	id         *mesos.ContainerID
	dir        string
	supervisor int
	// pidfd is pollable; nil for a container that ended before it was
	// recovered.
	pidfd *os.File
	// builtin is the program of ours that is its own supervisor, if it is one.
	builtin Builtin
	// ended is closed when no process is left; status is set before.
	ended  chan struct{}
	status ExitStatus

	// mu guards what follows.
	mu sync.Mutex
	// control is open from Fork until Start.
	control *os.File
	pid     int
}

// NewPosixLauncher makes a launcher that keeps its containers' runtime
// directories under runtimeDir/containers.
func NewPosixLauncher(runtimeDir string, programs *Programs, log zerolog.Logger) (*PosixLauncher, error) {
	if err := os.MkdirAll(filepath.Join(runtimeDir, "containers"), 0o755); err != nil {
		return nil, fmt.Errorf("make runtime directory: %w", err)
	}
	lock, err := lockDir(runtimeDir)
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &PosixLauncher{
		dir: runtimeDir, lock: lock, programs: programs, log: log, bootID: bootID(), null: null,
		containers: make(map[string]*launched),
	}, nil
}

// Name is "posix".
func (l *PosixLauncher) Name() string { return "posix" }

// Recover implements Launcher.
func (l *PosixLauncher) Recover(ctx context.Context) ([]*mesos.ContainerID, error) {
	entries, err := os.ReadDir(filepath.Join(l.dir, "containers"))
	if err != nil {
		return nil, fmt.Errorf("read runtime directory: %w", err)
	}
	ids := make([]*mesos.ContainerID, 0, len(entries))
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !e.IsDir() {
			continue
		}
		id := containerID(e.Name())
		if err := l.recover(id); err != nil {
			return nil, fmt.Errorf("recover container %s: %w", Key(id), err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (l *PosixLauncher) recover(id *mesos.ContainerID) error {
	c := &launched{id: id, dir: RuntimePath(l.dir, id), ended: make(chan struct{})}
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
	if alive {
		fd, err := openPidfd(pid)
		// The process may have ended, and another have got its id, before
		// the descriptor held it.
		if err == nil {
			if _, still := l.readSupervisor(c); still {
				c.supervisor, c.pidfd = pid, fd
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

// readSupervisor reads who the supervisor is, and says whether it is there at
// all (its id is 0 if not) and whether it lives (it may be a zombie).
func (l *PosixLauncher) readSupervisor(c *launched) (pid int, alive bool) {
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
func (l *PosixLauncher) Fork(_ context.Context, id *mesos.ContainerID, info *ForkInfo) (int, error) {
	builtin := info.Builtin
	if info.CloneFlags|info.EnterFlags != 0 {
		return 0, fmt.Errorf("namespaces with the posix launcher: %w", ErrNotSupported)
	}
	c := &launched{id: id, dir: RuntimePath(l.dir, id), builtin: builtin, ended: make(chan struct{})}
	env := []string{"GOMAXPROCS=1"} // one thread does all the work
	if builtin == BuiltinNone {
		builtin = builtinSupervisor
	} else {
		env = append(env, supervisor.InlineEnv)
	}
	program, err := l.programs.get(builtin)
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
	l.containers[Key(id)] = c
	l.mu.Unlock()
	if err := l.fork(c, program, env); err != nil {
		l.mu.Lock()
		delete(l.containers, Key(id))
		l.mu.Unlock()
		return 0, err
	}
	l.wg.Go(func() { l.watch(c) })
	return c.supervisor, nil
}

// fork makes the runtime directory and starts the supervisor.
func (l *PosixLauncher) fork(c *launched, program program, env []string) (err error) {
	err = os.Mkdir(c.dir, 0o755)
	if errors.Is(err, os.ErrNotExist) {
		// Somebody has cleaned up under us. What ran is lost to a restart of the
		// agent; what comes need not be.
		l.log.Warn().Str("path", filepath.Dir(c.dir)).Msg("the runtime directory was removed: it is made again")
		if err = os.MkdirAll(filepath.Dir(c.dir), 0o755); err == nil {
			err = os.Mkdir(c.dir, 0o755)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return ErrContainerExists
	} else if err != nil {
		return fmt.Errorf("make runtime directory: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(c.dir)
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make control socket: %w", err)
	}
	defer unix.Close(pair[1])
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return err
	}
	control := os.NewFile(uintptr(pair[0]), "control")
	logFile, err := os.OpenFile(filepath.Join(c.dir, supervisorLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		control.Close()
		return err
	}
	defer logFile.Close()
	var pidfd int
	argv := append(append([]string(nil), program.argv...), Key(c.id))
	pid, err := syscall.ForkExec(fdPath(program.file), argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   env,
		Files: []uintptr{l.null.Fd(), l.null.Fd(), logFile.Fd(), uintptr(pair[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		control.Close()
		return fmt.Errorf("start supervisor: %w", err)
	}
	c.supervisor, c.control = pid, control
	fail := func(err error) error {
		control.Close() // ends the supervisor
		reap(pid, 0)
		if c.pidfd != nil {
			c.pidfd.Close()
		}
		return err
	}
	if pidfd < 0 { // Linux before 5.4
		if c.pidfd, err = openPidfd(pid); err != nil {
			return fail(err)
		}
	} else if c.pidfd, err = pollablePidfd(pidfd); err != nil {
		return fail(err)
	}
	p, ok := proctree.Read(pid)
	if !ok {
		return fail(fmt.Errorf("start supervisor: read its start time: %w", os.ErrNotExist))
	}
	line := fmt.Sprintf("%d %d %s %s\n", pid, p.Start, l.bootID, c.builtin)
	if err := os.WriteFile(filepath.Join(c.dir, supervisorFile), []byte(line), 0o644); err != nil {
		return fail(fmt.Errorf("write down the supervisor: %w", err))
	}
	return nil
}

// Start implements Launcher.
func (l *PosixLauncher) Start(ctx context.Context, id *mesos.ContainerID, info *LaunchInfo) error {
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
	reply, err := io.ReadAll(io.LimitReader(control, 1<<16))
	if err != nil {
		return l.startFailed(ctx, c, err)
	}
	switch {
	case len(reply) > 0 && reply[0] == 'K':
		pid, err := strconv.Atoi(string(reply[1:]))
		if err != nil {
			return fmt.Errorf("supervisor answered %q: %w", reply, err)
		}
		c.mu.Lock()
		c.pid = pid
		c.mu.Unlock()
		return nil
	case len(reply) > 0 && reply[0] == 'E':
		return launchError(string(reply[1:]))
	}
	return l.startFailed(ctx, c, io.ErrUnexpectedEOF)
}

// startFailed explains a launch whose supervisor did not answer.
func (l *PosixLauncher) startFailed(ctx context.Context, c *launched, err error) error {
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
func (l *PosixLauncher) Wait(ctx context.Context, id *mesos.ContainerID) (ExitStatus, error) {
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

// Destroy implements Launcher.
func (l *PosixLauncher) Destroy(ctx context.Context, id *mesos.ContainerID) error {
	c, err := l.get(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.control != nil { // nothing was started: this ends the supervisor
		c.control.Close()
		c.control = nil
	}
	c.mu.Unlock()
	patience := time.NewTimer(destroyPatience)
	defer patience.Stop()
	signalPidfd(c, unix.SIGTERM)
	for {
		select {
		case <-c.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			l.log.Warn().Str("container_id", Key(id)).Int("supervisor", c.supervisor).Msg("supervisor does not end: killing the container without it")
			l.force(c)
			patience.Reset(destroyPatience)
		}
	}
}

func signalPidfd(c *launched, sig unix.Signal) {
	if c.pidfd == nil {
		return
	}
	rc, err := c.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
}

// force kills a container whose supervisor does not: first what stands below
// it, stopped so that nothing new appears meanwhile, then itself.
func (l *PosixLauncher) force(c *launched) {
	table, err := proctree.ReadTable()
	if err != nil {
		l.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("read process table")
		return
	}
	below := table.Below(c.supervisor)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, p := range below {
			if now, ok := proctree.Read(p.PID); ok && now.Start == p.Start {
				_ = syscall.Kill(p.PID, sig)
			}
		}
	}
	signalPidfd(c, unix.SIGKILL)
}

// watch waits for the supervisor's end.
func (l *PosixLauncher) watch(c *launched) {
	if err := waitPidfd(c.pidfd); err != nil {
		return // closed: the containerizer stops watching
	}
	l.reap(c, c.supervisor)
	l.finish(c, true)
	c.pidfd.Close()
}

// reap collects a supervisor that has ended, if it is a child of this process:
// also one that an earlier launcher of this very process started. The wait
// status of a program that supervises itself is the container's.
func (l *PosixLauncher) reap(c *launched, pid int) {
	ws, ok := reap(pid, syscall.WNOHANG)
	c.status = ExitStatus{Known: ok && c.builtin != BuiltinNone, Status: int(ws)}
}

// finish takes note of a container whose supervisor has ended. Seen says that
// it ended just now.
func (l *PosixLauncher) finish(c *launched, seen bool) {
	status, ok := supervisor.ReadStatus(c.dir)
	if ok {
		c.status = ExitStatus{Known: true, Status: status}
	}
	if !ok && fileExists(filepath.Join(c.dir, launchInfoFile)) {
		session := 0
		if seen {
			session = readInt(filepath.Join(c.dir, supervisor.PIDFile))
		}
		l.killStrays(c, session)
	}
	close(c.ended)
}

// killStrays kills what a supervisor left that was killed itself: whatever
// carries the container's mark in its environment, with all that stands below
// it, and the members of the command's session. The session is 0 when the
// supervisor died at an unknown time: its number may be another's by now, while
// it cannot be reused as long as there are members.
func (l *PosixLauncher) killStrays(c *launched, session int) {
	mark := markVariable + "=" + Key(c.id)
	for range 100 {
		table, err := proctree.ReadTable()
		if err != nil {
			l.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("read process table")
			return
		}
		victims := make(map[int]bool)
		for pid, p := range table {
			if p.State != 'Z' && (session != 0 && p.Session == session || hasEnv(pid, mark)) {
				victims[pid] = true
				for _, b := range table.Below(pid) {
					if b.State != 'Z' {
						victims[b.PID] = true
					}
				}
			}
		}
		if len(victims) == 0 {
			return
		}
		for pid := range victims {
			if now, ok := proctree.Read(pid); ok && now.Start == table[pid].Start {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.log.Error().Str("container_id", Key(c.id)).Msg("processes of a container survive its end")
}

// Status implements Launcher.
func (l *PosixLauncher) Status(id *mesos.ContainerID) (LauncherStatus, error) {
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
func (l *PosixLauncher) Remove(id *mesos.ContainerID) error {
	c, err := l.get(id)
	if err != nil {
		return err
	}
	select {
	case <-c.ended:
	default:
		return fmt.Errorf("remove container %s: still running", Key(id))
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove runtime directory: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.containers, Key(id))
	return nil
}

// Close implements Launcher.
func (l *PosixLauncher) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for _, c := range l.containers {
		if c.pidfd != nil {
			c.pidfd.Close()
		}
	}
	l.mu.Unlock()
	l.wg.Wait()
	return errors.Join(l.null.Close(), l.lock.Close())
}

func (l *PosixLauncher) get(id *mesos.ContainerID) (*launched, error) {
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
