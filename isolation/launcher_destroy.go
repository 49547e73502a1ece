package isolation

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/proctree"
	"clusterd/isolation/supervisor"
)

const (
	// destroyPatience is how long a supervisor may take to clear up its container
	// before the launcher does it instead (the supervisor may be stopped, or the
	// kernel may not let go of a process).
	destroyPatience = 10 * time.Second
	// cgroupPatience is that where the launcher has a cgroup to kill: processes that
	// fork without end may keep ahead of a supervisor that shares their pid namespace.
	cgroupPatience = 2 * time.Second
)

// Destroy implements Launcher.
func (l *launcher) Destroy(ctx context.Context, id *mesos.ContainerID) error {
	c, err := l.get(id)
	if err != nil {
		return err
	}
	select {
	case <-c.forked:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := l.destroyNested(ctx, id); err != nil {
		return err
	}
	c.mu.Lock()
	if c.control != nil { // nothing was started: this ends the supervisor
		c.control.Close()
		c.control = nil
	}
	c.mu.Unlock()
	wait := destroyPatience
	if l.holds(id) {
		wait = cgroupPatience
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	signalPidfd(c, c.order)
	for {
		select {
		case <-c.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			l.log.Warn().Str("container_id", Key(id)).Int("supervisor", c.supervisor).Msg("supervisor does not end: killing the container without it")
			l.force(ctx, c)
			patience.Reset(destroyPatience)
		}
	}
}

// destroyNested destroys the containers that are nested in one, all at a time.
func (l *launcher) destroyNested(ctx context.Context, id *mesos.ContainerID) error {
	nested := l.nested(id)
	errs := make([]error, len(nested))
	var wg sync.WaitGroup
	for i, c := range nested {
		if Key(c.id.GetParent()) != Key(id) {
			continue // its parent does it
		}
		wg.Go(func() {
			if err := l.Destroy(ctx, c.id); err != nil && !errors.Is(err, ErrUnknownContainer) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Kill implements Launcher.
func (l *launcher) Kill(id *mesos.ContainerID, signal syscall.Signal) error {
	c, err := l.get(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	pid := c.pid
	c.mu.Unlock()
	select {
	case <-c.ended:
		return nil
	default:
	}
	if pid == 0 {
		return fmt.Errorf("signal container %s: its command has not been started", Key(id))
	}
	// The supervisor reaps its command, so the number may be another's when it is used:
	// a descriptor is looked at once it is held.
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signal container %s: %w", Key(id), err)
	}
	defer unix.Close(fd)
	if p, ok := proctree.Read(pid); pid != c.supervisor && (!ok || p.Parent != c.supervisor) {
		return nil
	}
	err = unix.PidfdSendSignal(fd, signal, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal container %s: %w", Key(id), err)
	}
	return nil
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

// force kills a container whose supervisor does not: all in its cgroup, supervisor
// included, or where there is none first what stands below it, stopped so that nothing
// new appears meanwhile, then itself.
func (l *launcher) force(ctx context.Context, c *launched) {
	c.forced.Store(true)
	if l.holds(c.id) {
		err := l.tree.Kill(ctx, c.id)
		if err == nil {
			return
		}
		l.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("kill the processes of a container")
	}
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
func (l *launcher) watch(c *launched) {
	if err := waitPidfd(c.pidfd); err != nil {
		return // closed: the containerizer stops watching
	}
	l.reap(c, c.supervisor)
	err := l.destroyNested(l.base, c.id)
	if l.base.Err() != nil {
		return // as above
	}
	if err != nil {
		l.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("destroy the containers nested in one that has ended")
	}
	l.finish(c, true)
	c.pidfd.Close()
}

// reap collects a supervisor that has ended, if it is a child of this process:
// also one that an earlier launcher of this very process started. The wait
// status of a program that supervises itself is the container's.
func (l *launcher) reap(c *launched, pid int) {
	ws, ok := reap(pid, syscall.WNOHANG)
	c.status = ExitStatus{Known: ok && c.builtin != BuiltinNone, Status: int(ws)}
}

// finish takes note of a container whose supervisor has ended. Seen says that
// it ended just now.
func (l *launcher) finish(c *launched, seen bool) {
	status, ok := supervisor.ReadStatus(c.dir)
	if ok {
		c.status = ExitStatus{Known: true, Status: status}
	}
	if !ok && c.forced.Load() {
		c.status = ExitStatus{Known: true, Status: int(syscall.SIGKILL)}
	}
	started := fileExists(filepath.Join(c.dir, launchInfoFile))
	switch {
	case l.holds(c.id):
		// The supervisor cannot see everything where it shares a pid namespace.
		if err := l.tree.Kill(l.base, c.id); err != nil && l.base.Err() == nil {
			l.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("kill what is left of a container")
		}
	case started && (!ok || l.namespaces && l.tree == nil):
		session := 0
		if seen && !ok {
			session = readInt(filepath.Join(c.dir, supervisor.PIDFile))
		}
		l.killStrays(c, session)
	}
	close(c.ended)
}

// holds says whether a container can be killed by its cgroup. One that an earlier run of the
// agent started with the posix launcher has none.
func (l *launcher) holds(id *mesos.ContainerID) bool { return l.tree != nil && l.tree.Holds(id) }

// killStrays kills what a supervisor left that was killed itself: whatever
// carries the container's mark in its environment, with all that stands below
// it, and the members of the command's session. The session is 0 when the
// supervisor died at an unknown time: its number may be another's by now, while
// it cannot be reused as long as there are members.
func (l *launcher) killStrays(c *launched, session int) {
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
