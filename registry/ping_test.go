package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"clusterd/registry/state"
)

// TestPing: raft's loop answers while it goes, and does not while a disk that is
// stuck holds it up.
func TestPing(t *testing.T) {
	d := &disk{hang: make(chan struct{})}
	opts := single(t.TempDir())
	opts.wrapLog = func(l raft.LogStore) raft.LogStore { d.LogStore = l; return d }
	r := openT(t, opts)
	l := leadT(t, r)
	if err := r.Ping(t.Context()); err != nil {
		t.Fatalf("ping: %v", err)
	}
	written := l.Propose(state.AdmitAgent(agentInfo("hang")))
	for end := time.Now().Add(time.Minute); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := r.Ping(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("ping of a loop that is stuck: got %v, want that it does not answer", err)
		}
	}
	close(d.hang)
	if err := written(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.Ping(t.Context()); err != nil {
		t.Errorf("ping of a loop that goes on: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Ping(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("ping after the end: got %v, want %v", err, ErrClosed)
	}
}
