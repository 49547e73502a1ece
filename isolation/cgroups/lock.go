package cgroups

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another agent has containers below the same root: each would take
// the other's for orphans and kill them.
var ErrInUse = errors.New("the cgroup root belongs to another agent")

// lockTimeout is how long another agent may hold the lock: one that is just ending.
const lockTimeout = 2 * time.Second

// Lock keeps other agents from the root until it is closed, or this process ends. Call
// it after Use.
func (t *Tree) Lock() (io.Closer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.places) == 0 {
		return nil, errors.New("lock the cgroup root: nothing is used yet")
	}
	dir := t.places[0].dir
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the cgroup root: %w", err)
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s: give this one another --cgroups_root", ErrInUse, dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
