package cgroups

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/isolation/flock"
)

// ErrInUse says that another agent has containers below the same root: each would take
// the other's for orphans and kill them.
var ErrInUse = errors.New("the cgroup root belongs to another agent")

// ErrUnmarked says that the kernel does not let us write down whose a root is, so that
// nobody can know it while its agent is down.
var ErrUnmarked = errors.New("the owner of the cgroup root cannot be written down")

// ownerAttr is an extended attribute of the root that says whose it is.
const ownerAttr = "trusted.clusterd.owner"

// Lock keeps other agents from the root until it is closed, or this process ends. Call
// it after Use(Core). What Claim has locked already is handed over.
func (t *Tree) Lock() (io.Closer, error) {
	t.mu.Lock()
	held := t.claimed
	t.claimed = nil
	t.mu.Unlock()
	if held != nil {
		return held, nil
	}
	return t.lock(func(string) bool { return true })
}

// Claim is Lock for an agent that is known by owner, its work directory: it also keeps off
// a root with containers of another one, which may just be down, and writes down whose the
// root is now. ErrInUse says that it is not to be had; ErrUnmarked comes with the lock held.
// The lock is Lock's to take over, and Unlock's to end.
func (t *Tree) Claim(owner string) error {
	if err := t.Use(Core); err != nil {
		return err
	}
	lock, err := t.lock(func(other string) bool { return other == "" || other == owner })
	if err != nil {
		return err
	}
	dir := lock.file.Name()
	if other := ownerOf(dir); other != "" && other != owner {
		there, err := t.Containers()
		if err == nil && len(there) > 0 {
			err = fmt.Errorf("%w: %s has containers of the agent with the work directory %s, which is not running", ErrInUse, dir, other)
		}
		if err != nil {
			return errors.Join(err, lock.Close())
		}
	}
	t.mu.Lock()
	t.claimed = lock
	t.mu.Unlock()
	if err := unix.Setxattr(dir, ownerAttr, []byte(owner), 0); err != nil {
		return fmt.Errorf("%w: %w", ErrUnmarked, err)
	}
	return nil
}

// Unlock ends what Claim has begun, if nobody has taken it over.
func (t *Tree) Unlock() error {
	t.mu.Lock()
	held := t.claimed
	t.claimed = nil
	t.mu.Unlock()
	if held == nil {
		return nil
	}
	return held.Close()
}

// Fleeting says that the root is for as long as there are containers: it goes when the lock
// is closed and none is left.
func (t *Tree) Fleeting() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fleeting = true
}

// There says whether the root exists, in any hierarchy. It changes nothing.
func (t *Tree) There() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.places) > 0 {
		return true
	}
	m, ok := pick(t.mounts, t.hierarchy, func(m mount) bool { return m.unified })
	if !ok {
		return false
	}
	base, err := t.system.base(m)
	return err == nil && Exists(filepath.Join(base, t.root))
}

// rootLock is a locked root.
type rootLock struct {
	tree *Tree
	file *os.File
}

// Close lets other agents have the root.
func (l *rootLock) Close() error {
	l.tree.mu.Lock()
	if l.tree.fleeting {
		for _, p := range l.tree.places {
			_ = unix.Rmdir(p.dir) // not while there is anything in it
		}
	}
	l.tree.mu.Unlock()
	return l.file.Close()
}

// lock locks the root. It waits a while for whoever holds the lock to end, as long as
// patient says that waiting for this owner makes sense.
func (t *Tree) lock(patient func(owner string) bool) (*rootLock, error) {
	p, err := t.place(Core)
	if err != nil {
		return nil, fmt.Errorf("lock the cgroup root: %w", err)
	}
	f, err := os.Open(p.dir)
	if err != nil {
		return nil, fmt.Errorf("lock the cgroup root: %w", err)
	}
	for deadline := time.Now().Add(flock.Patience); ; time.Sleep(20 * time.Millisecond) {
		err = flock.Try(f)
		if !errors.Is(err, unix.EWOULDBLOCK) || !patient(ownerOf(p.dir)) || time.Now().After(deadline) {
			break
		}
	}
	if err == nil {
		return &rootLock{tree: t, file: f}, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, p.dir)
	}
	return nil, fmt.Errorf("lock %s: %w", p.dir, err)
}

// ownerOf is whose a root is, as far as somebody has written it down.
func ownerOf(dir string) string {
	b := make([]byte, unix.PathMax)
	n, err := unix.Getxattr(dir, ownerAttr, b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}
