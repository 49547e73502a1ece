package cgroups

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"clusterd/isolation/flock"
)

// ErrInUse says that another agent has containers below the same root: each would take
// the other's for orphans and kill them.
var ErrInUse = errors.New("the cgroup root belongs to another agent")

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
	err = flock.Lock(f)
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s: give this one another --cgroups_root", ErrInUse, dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
