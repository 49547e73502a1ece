package registry

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"clusterd/registry/state"
)

// fsm forwards committed entries to the state machine. Raft calls it from one
// goroutine; readers take what it has published.
type fsm struct {
	build  string
	failed func(error) // told once that this build cannot follow the log
	state  atomic.Pointer[state.State]
	broken atomic.Pointer[error] // set once, with the state frozen before it
}

func newFSM(build string, s *state.State, failed func(error)) *fsm {
	f := &fsm{build: build, failed: failed}
	f.state.Store(s)
	return f
}

// Apply returns the results of the entry's commands as []error, or an error when
// the node cannot go on.
func (f *fsm) Apply(l *raft.Log) any {
	if err := f.broken.Load(); err != nil {
		return *err
	}
	e, err := state.DecodeEntry(l.Data)
	var next *state.State
	var results []error
	if err == nil {
		next, results, err = f.state.Load().Apply(e)
	}
	if err != nil {
		err = fmt.Errorf("registry stops at log index %d (this build: %q): %w", l.Index, f.build, err)
		f.broken.Store(&err)
		f.failed(err)
		return err
	}
	f.state.Store(next)
	return results
}

// Snapshot costs nothing: the state is immutable.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.broken.Load(); err != nil {
		return nil, *err // it would leave out the entries that were not applied
	}
	return &snapshot{state: f.state.Load(), build: f.build}, nil
}

// Restore replaces the state by a leader's snapshot.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	s, err := state.ReadSnapshot(r)
	if err != nil {
		return err
	}
	f.state.Store(s)
	return nil
}

type snapshot struct {
	state *state.State
	build string
}

// Persist writes the snapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.state.WriteSnapshot(sink, s.build); err != nil {
		_ = sink.Cancel() // the first error tells
		return err
	}
	return sink.Close()
}

// Release has nothing to free.
func (*snapshot) Release() {}
