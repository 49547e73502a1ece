package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/proctree"
	"clusterd/isolation/supervisor"
)

const (
	// supervisorFile holds the supervisor's process id, the tick it started at, the boot
	// it belongs to, which program of ours it is when it is the container's command as
	// well (noBuiltin else), and the signal that ends it. The agent writes it before
	// anything of the container runs.
	supervisorFile = "supervisor"
	noBuiltin      = "-"
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
	handover *handover
	// namespaces says that containers may have namespaces of their own.
	namespaces bool
	// tree keeps the containers' cgroups; nil: they have none.
	tree *cgroups.Tree

	// base ends with Close: what the launcher does on its own runs under it.
	base   context.Context //nolint:containedctx // the lifecycle owner
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// containers, children and closed are guarded by mu.
	containers map[string]*launched
	// children are those of them that are nested in one, by its key.
	children map[string][]*launched
	closed   bool
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
	// order is the signal that ends it.
	order syscall.Signal
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
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	places, err := newHandover(null)
	if err == nil {
		err = keepFiles()
	}
	if err != nil {
		return nil, errors.Join(err, null.Close(), lock.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &launcher{
		base: ctx, cancel: cancel, name: name, dir: runtimeDir, lock: lock, programs: programs, log: log, bootID: bootID(), null: null, handover: places,
		containers: make(map[string]*launched), children: make(map[string][]*launched),
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
	l.addLocked(c)
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
	c.order = syscall.SIGTERM
	if len(f) > 3 && f[3] != noBuiltin {
		c.builtin = Builtin(f[3])
	}
	if len(f) > 4 {
		if n, err := strconv.Atoi(f[4]); err == nil {
			c.order = syscall.Signal(n)
		}
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
		l.forgetLocked(c)
	}
	return nil
}

// nested lists the containers nested in one, at any depth.
func (l *launcher) nested(id *mesos.ContainerID) []*launched {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nestedLocked(Key(id), nil)
}

func (l *launcher) nestedLocked(key string, nested []*launched) []*launched {
	for _, c := range l.children[key] {
		nested = l.nestedLocked(Key(c.id), append(nested, c))
	}
	return nested
}

// addLocked makes a container known.
func (l *launcher) addLocked(c *launched) {
	l.containers[Key(c.id)] = c
	if parent := c.id.GetParent(); parent != nil {
		l.children[Key(parent)] = append(l.children[Key(parent)], c)
	}
}

// forgetLocked is the end of that.
func (l *launcher) forgetLocked(c *launched) {
	if delete(l.containers, Key(c.id)); c.id.GetParent() == nil {
		return
	}
	parent := Key(c.id.GetParent())
	left := slices.DeleteFunc(l.children[parent], func(n *launched) bool { return n == c })
	if l.children[parent] = left; len(left) == 0 {
		delete(l.children, parent)
	}
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
	l.handover.close()
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
