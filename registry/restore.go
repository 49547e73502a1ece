package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"clusterd/registry/state"
)

// ErrOtherCluster says that a snapshot is not of this cluster.
var ErrOtherCluster = errors.New("the snapshot is of another cluster")

// ErrRestored is the cause with which a leadership ends when the registry is
// replaced by a snapshot.
var ErrRestored = errors.New("the registry is being restored from a snapshot")

// Save writes a snapshot of what this member has applied. Writes that come
// meanwhile neither wait for it nor are in it.
func (r *Registry) Save(ctx context.Context, w io.Writer) error {
	return r.State().WriteSnapshot(&ctxWriter{ctx, w}, r.opts.BuildVersion)
}

// ctxWriter fails once its context has ended.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c *ctxWriter) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.w.Write(b)
}

// Restore replaces what the registry holds by a snapshot that Save has written,
// on all members. Only the leader can. The snapshot is read and checked as a
// whole first; the leadership ends, with ErrRestored, before anything of it can
// be seen, and this member takes office again with what was restored. It returns
// when a majority has the snapshot.
//
// A snapshot of another cluster is refused with ErrOtherCluster unless force is
// set; then this cluster takes that one's id, since the agents and frameworks in
// the snapshot belong to it.
func (r *Registry) Restore(ctx context.Context, rd io.Reader, force bool) error {
	restored, err := state.ReadSnapshot(rd)
	if err != nil {
		return fmt.Errorf("restore registry: %w", err)
	}
	l := r.leadership()
	if l == nil {
		return fmt.Errorf("restore registry: %w", ErrNotLeader)
	}
	if own, other := l.State().ClusterID(), restored.ClusterID(); own != other && !force {
		return fmt.Errorf("restore registry: %w: it is of cluster %s, this is cluster %s", ErrOtherCluster, other, own)
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("restore registry: %w", err)
	}
	resume := r.suspend(ErrRestored)
	defer resume()
	// What the ended leadership has proposed last may still be under way; it counts.
	if err := r.await(r.raft.Barrier(r.opts.StoreTimeout), r.opts.StoreTimeout); err != nil {
		return fmt.Errorf("restore registry: %w", err)
	}
	var buf bytes.Buffer
	if err := restored.Succeed(r.State()).WriteSnapshot(&buf, r.opts.BuildVersion); err != nil {
		return fmt.Errorf("restore registry: %w", err)
	}
	begun := time.Now()
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: int64(buf.Len())}
	done := make(chan error, 1)
	r.wg.Go(func() { done <- r.raft.Restore(meta, &buf, r.opts.StoreTimeout) })
	select {
	case err = <-done:
	case <-r.ctx.Done():
		return fmt.Errorf("restore registry: %w", context.Cause(r.ctx))
	}
	if err != nil {
		return fmt.Errorf("restore registry: %w", storeError(err))
	}
	r.log.Warn().Dur("took", time.Since(begun)).Int("agents", restored.AgentCount()).Msg("registry was restored from a snapshot")
	return nil
}
