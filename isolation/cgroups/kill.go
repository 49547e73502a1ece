package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
)

// Processes lists the processes of a container by its core, those of nested containers
// and in cgroups of its own making included. An unknown container has none.
func (t *Tree) Processes(id *mesos.ContainerID) ([]int, error) {
	p, err := t.place(Core)
	if err != nil {
		return nil, err
	}
	pids, err := processesBelow(filepath.Join(p.dir, relative(id)), nil)
	slices.Sort(pids)
	return slices.Compact(pids), err
}

// processesBelow lists the processes of a cgroup and of all below it.
func processesBelow(dir string, pids []int) ([]int, error) {
	pids, err := pidsOf(filepath.Join(dir, "cgroup.procs"), pids)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENODEV):
		return pids, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		// A threaded cgroup; the one above lists its processes.
	case err != nil:
		return pids, err
	}
	for _, child := range children(dir) {
		if pids, err = processesBelow(child, pids); err != nil {
			return pids, err
		}
	}
	return pids, nil
}

// Kill kills every process of a container and of those nested in it, and returns when
// none is left: stopped and frozen ones too, and those that fork meanwhile. The
// directories stay. Zombies do not count. It gives up when ctx does, or after the destroy
// timeout, with ErrNotEmpty.
func (t *Tree) Kill(ctx context.Context, id *mesos.ContainerID) error {
	p, err := t.place(Core)
	if err != nil {
		return err
	}
	ctx, cancel := t.bound(ctx)
	defer cancel()
	if err := p.empty(ctx, filepath.Join(p.dir, relative(id))); err != nil {
		return fmt.Errorf("kill container %s: %w", key(id), err)
	}
	return nil
}

// Destroy kills what is left of a container and removes all its cgroups, those of
// nested containers and of its own making too, in every hierarchy. Call it last:
// isolators still read from them until their Cleanup. It is no error when there are none.
func (t *Tree) Destroy(ctx context.Context, id *mesos.ContainerID) error {
	if !usable(id) {
		return nil
	}
	ctx, cancel := t.bound(ctx)
	defer cancel()
	t.mu.Lock()
	places := slices.Clone(t.places)
	core := t.used[Core]
	t.mu.Unlock()
	var errs []error
	// First the core, so that what is left dies at once and not by parts.
	if core != nil {
		errs = append(errs, core.empty(ctx, filepath.Join(core.dir, relative(id))))
	}
	for _, p := range places {
		errs = append(errs, p.remove(ctx, filepath.Join(p.dir, relative(id))))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("destroy cgroups of container %s: %w", key(id), err)
	}
	t.forget(id)
	return nil
}

// forget drops what is known of a container and of those nested in it.
func (t *Tree) forget(id *mesos.ContainerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked(key(id))
	if id.GetParent() == nil {
		return
	}
	parent := key(id.GetParent())
	left := slices.DeleteFunc(t.nested[parent], func(k string) bool { return k == key(id) })
	if t.nested[parent] = left; len(left) == 0 {
		delete(t.nested, parent)
	}
}

func (t *Tree) forgetLocked(k string) {
	delete(t.containers, k)
	for _, n := range t.nested[k] {
		t.forgetLocked(n)
	}
	delete(t.nested, k)
}

// Release says that a subsystem's isolator is done with a container. The cgroup goes when
// nobody else needs it: the other subsystems of the hierarchy, or the core.
func (t *Tree) Release(ctx context.Context, id *mesos.ContainerID, subsystem string) error {
	p, err := t.place(subsystem)
	if err != nil {
		return err
	}
	t.mu.Lock()
	e := t.containers[key(id)]
	var shared []string
	for s, o := range t.used {
		if o == p && s != subsystem {
			shared = append(shared, s)
		}
	}
	t.mu.Unlock()
	if e == nil {
		return nil // destroyed already, or never there
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.holders, subsystem)
	if slices.ContainsFunc(shared, func(s string) bool { return e.holders[s] }) {
		return nil
	}
	ctx, cancel := t.bound(ctx)
	defer cancel()
	if err := p.remove(ctx, filepath.Join(p.dir, relative(id))); err != nil {
		return fmt.Errorf("remove cgroup of container %s: %w", key(id), err)
	}
	e.there &^= 1 << p.index
	e.own &^= 1 << p.index
	if len(e.holders) == 0 {
		t.forget(id)
	}
	return nil
}

func (t *Tree) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return context.WithTimeout(ctx, t.destroyTimeout)
}

// remove removes a cgroup and all below it.
func (p *place) remove(ctx context.Context, dir string) error {
	wait := backoff{}
	for {
		err := p.rmdir(dir)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		if err := p.empty(ctx, dir); err != nil {
			return err
		}
		// The kernel may take a moment to see that the last process is gone.
		if !wait.sleep(ctx) {
			return fmt.Errorf("%w: %s: %w", ErrNotEmpty, dir, ctx.Err())
		}
	}
}

// rmdir removes what can be removed at once, in the fewest calls.
func (p *place) rmdir(dir string) error {
	if p.mount.unified {
		if err := rmdir(filepath.Join(dir, leafDir)); err != nil && !busy(err) {
			return err
		}
	}
	err := rmdir(dir)
	if !busy(err) {
		return err
	}
	for _, child := range children(dir) {
		if err := p.rmdir(child); err != nil {
			return err
		}
	}
	return rmdir(dir)
}

func rmdir(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return &os.PathError{Op: "rmdir", Path: dir, Err: err}
}

func busy(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) }

// empty kills until no process is left in a cgroup and all below it.
func (p *place) empty(ctx context.Context, dir string) error {
	wait := backoff{}
	for round := 0; ; round++ {
		pids, err := p.left(dir)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		if slices.Contains(pids, os.Getpid()) {
			if err := p.leave(); err != nil {
				return err
			}
			continue
		}
		// What was killed takes a moment to go. Whoever forks meanwhile is seen in
		// the next round.
		if round%8 == 0 {
			if err := p.strike(ctx, dir, pids); err != nil {
				return err
			}
		}
		if !wait.sleep(ctx) {
			return fmt.Errorf("%w: %s: %s: %w", ErrNotEmpty, dir, describe(pids), ctx.Err())
		}
	}
}

// left lists processes of a cgroup. On v2 a look at one file tells most of the time that
// there are none.
func (p *place) left(dir string) ([]int, error) {
	if p.mount.unified {
		b, err := Read(filepath.Join(dir, "cgroup.events"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		populated := true
		Keyed(b, func(k []byte, v uint64) {
			if string(k) == "populated" {
				populated = v != 0
			}
		})
		if err == nil && !populated {
			return nil, nil
		}
	}
	pids, err := processesBelow(dir, nil)
	if err != nil || len(pids) > 0 || !p.mount.unified {
		return pids, err
	}
	// Populated by processes that no list names: the last threads of a dying one.
	return []int{0}, nil
}

// leave moves the agent out of a container's cgroup: it never kills itself.
func (p *place) leave() error {
	target := p.mount.point
	if p.mount.unified && Exists(filepath.Join(p.base, "cgroup.type")) {
		leaf, err := p.agentLeaf()
		if err != nil {
			return err
		}
		target = leaf
	}
	return Write(filepath.Join(target, "cgroup.procs"), strconv.Itoa(os.Getpid()))
}

// strike kills all that is in a cgroup now.
func (p *place) strike(ctx context.Context, dir string, pids []int) error {
	switch {
	case p.mount.unified:
		err := Write(filepath.Join(dir, "cgroup.kill"), "1")
		if err == nil || errors.Is(err, unix.ENODEV) {
			return nil
		}
		// Kernels before 5.14. Frozen processes cannot fork, and die when killed.
		_ = Write(filepath.Join(dir, "cgroup.freeze"), "1")
		killAll(processesOr(dir, pids))
		_ = Write(filepath.Join(dir, "cgroup.freeze"), "0")
	case slices.Contains(p.mount.options, "freezer"):
		p.freezeAndKill(ctx, dir, pids)
	default:
		killAll(pids)
	}
	return nil
}

// freezeAndKill stops all processes of a cgroup of v1, so that none can fork, or end and
// leave its number to another, between the list and the kill. They die when they thaw. A
// process that does not freeze (one that waits for a disk) is killed as well.
func (p *place) freezeAndKill(ctx context.Context, dir string, pids []int) {
	state := filepath.Join(dir, "freezer.state")
	if err := Write(state, "FROZEN"); err != nil {
		killAll(pids)
		return
	}
	wait := backoff{}
	for range 12 {
		b, err := Read(state)
		if err != nil || strings.TrimSpace(string(b)) == "FROZEN" || !wait.sleep(ctx) {
			break
		}
	}
	killAll(processesOr(dir, pids))
	thaw(dir)
}

// thaw lets the processes of a cgroup of v1 go on, also where the container froze a part
// of itself.
func thaw(dir string) {
	_ = Write(filepath.Join(dir, "freezer.state"), "THAWED")
	for _, child := range children(dir) {
		thaw(child)
	}
}

func processesOr(dir string, pids []int) []int {
	if now, err := processesBelow(dir, nil); err == nil {
		return now
	}
	return pids
}

func killAll(pids []int) {
	for _, pid := range pids {
		if pid > 0 && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// describe says for a message which processes are left, and what they do.
func describe(pids []int) string {
	var b strings.Builder
	for i, pid := range pids {
		if i == 8 {
			fmt.Fprintf(&b, " and %d more", len(pids)-i)
			break
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if _, rest, ok := strings.Cut(string(stat), ") "); err == nil && ok {
			fmt.Fprintf(&b, " %d (%c)", pid, rest[0])
		} else {
			fmt.Fprintf(&b, " %d", pid)
		}
	}
	return "processes" + b.String()
}

// backoff waits a little longer each time.
type backoff struct{ next time.Duration }

// sleep says no when ctx is over.
func (b *backoff) sleep(ctx context.Context) bool {
	b.next = min(max(2*b.next, 250*time.Microsecond), 50*time.Millisecond)
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
