package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Ping returns once raft's own loop has answered, whatever the answer is: then
// this member can still follow, vote and lead. One that hears its leader counts
// as alive as well: while it takes in a large snapshot its loop answers nobody,
// and to restart it would only make it begin again.
//
// It is for a watchdog, which ends before the registry is closed: a question that
// raft has not answered when it shuts down is never answered.
func (r *Registry) Ping(ctx context.Context) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() { answered <- r.raft.VerifyLeader().Error() }()
	select {
	case err := <-answered:
		if errors.Is(err, raft.ErrRaftShutdown) {
			return ErrClosed
		}
		return nil // that it does not lead, or leads no more, is an answer
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	case <-ctx.Done():
	}
	if at := r.raft.LastContact(); r.raft.State() == raft.Follower && time.Since(at) < 10*r.opts.HeartbeatTimeout {
		return nil
	}
	return fmt.Errorf("raft does not answer: %w", context.Cause(ctx))
}
