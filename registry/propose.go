package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/registry/state"
)

// maxEntryBytes bounds what is merged into one log entry. A single call may
// exceed it, up to maxCallBytes.
const (
	maxEntryBytes = 1 << 20
	maxCallBytes  = 16 << 20
)

// proposal is one call of Apply.
type proposal struct {
	lead *Leadership
	cmds []*clusterdv1.Command
	size int
	done chan error // takes the outcome; never blocks
}

// queue holds proposals until the proposer takes them. Its length is bounded by
// the callers, each of which waits.
type queue struct {
	mu sync.Mutex
	// mu guards what follows.
	waiting []*proposal
	ready   chan struct{} // holds a token while something may wait
}

func (q *queue) init() { q.ready = make(chan struct{}, 1) }

func (q *queue) put(p *proposal) {
	q.mu.Lock()
	q.waiting = append(q.waiting, p)
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns the next proposals that fit into one entry.
func (q *queue) take() []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	size, n := 0, 0
	for n < len(q.waiting) && (n == 0 || size+q.waiting[n].size <= maxEntryBytes) {
		size += q.waiting[n].size
		n++
	}
	taken := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	} else {
		q.signal()
	}
	return taken
}

// QueuedOperations returns how many calls of Apply wait to be written.
func (r *Registry) QueuedOperations() int {
	r.proposals.mu.Lock()
	defer r.proposals.mu.Unlock()
	return len(r.proposals.waiting)
}

// Apply commits commands, which take effect together or not at all, and returns
// when they are on the disks of a majority and in State. ErrRefused means that
// the registry's state does not allow them, and nothing happened; any other error
// means that the leadership is over or about to be. When ctx ends first, the
// outcome is open.
func (l *Leadership) Apply(ctx context.Context, cmds ...*clusterdv1.Command) error {
	return l.Propose(cmds...)(ctx)
}

// Propose is the first half of [Leadership.Apply]: it hands the commands over and
// returns how to wait for their outcome, which may be called once. Commands that
// one goroutine proposes take effect in the order of its calls.
func (l *Leadership) Propose(cmds ...*clusterdv1.Command) (wait func(context.Context) error) {
	failed := func(err error) func(context.Context) error {
		return func(context.Context) error { return err }
	}
	if len(cmds) == 0 {
		return failed(nil)
	}
	p := &proposal{lead: l, done: make(chan error, 1)}
	for i, c := range cmds {
		if err := state.Check(c); err != nil {
			return failed(fmt.Errorf("%w: %w", ErrRefused, err))
		}
		if c.GetWithPrevious() != (i > 0) {
			c = &clusterdv1.Command{Kind: c.Kind, Payload: c.Payload, Ignorable: c.Ignorable}
			if i > 0 {
				c.WithPrevious = new(true)
			}
		}
		p.cmds = append(p.cmds, c)
		p.size += len(c.Payload) + 16
	}
	if p.size > maxCallBytes {
		return failed(fmt.Errorf("%w: %d bytes in one call, the limit is %d", ErrRefused, p.size, maxCallBytes))
	}
	if err := l.r.understood(cmds); err != nil {
		return failed(err)
	}
	if l.ctx.Err() != nil {
		return failed(l.ended())
	}
	l.r.proposals.put(p)
	return func(ctx context.Context) error { return l.await(ctx, p) }
}

func (l *Leadership) await(ctx context.Context, p *proposal) error {
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.r.ctx.Done(): // the proposer may have gone without seeing p
		select {
		case err := <-p.done:
			return err
		default:
			return context.Cause(l.r.ctx)
		}
	}
}

// ended is the error of a proposal after the end of its leadership.
func (l *Leadership) ended() error {
	if err := l.r.Err(); err != nil {
		return err
	}
	return ErrNotLeader
}

// propose writes what is proposed, one entry at a time: while an entry is being
// written the next one gathers.
func (r *Registry) propose() {
	for {
		select {
		case <-r.proposals.ready:
			r.commit(r.proposals.take())
		case <-r.ctx.Done():
			for batch := r.proposals.take(); len(batch) > 0; batch = r.proposals.take() {
				for _, p := range batch {
					p.done <- context.Cause(r.ctx)
				}
			}
			return
		}
	}
}

// commit writes proposals as one entry and tells each its outcome.
func (r *Registry) commit(batch []*proposal) {
	var cmds []*clusterdv1.Command
	live := batch[:0]
	for _, p := range batch {
		if p.lead.ctx.Err() != nil { // a core of an earlier leadership
			p.done <- p.lead.ended()
			continue
		}
		live = append(live, p)
		cmds = append(cmds, p.cmds...)
	}
	if len(cmds) == 0 {
		return
	}
	results, err := r.store(cmds)
	for _, p := range live {
		if err != nil {
			p.done <- err
			continue
		}
		p.done <- results[0] // a group has one result
		results = results[len(p.cmds):]
	}
}

// store writes commands as one entry and returns their results.
func (r *Registry) store(cmds []*clusterdv1.Command) ([]error, error) {
	start := time.Now()
	data, err := state.EncodeEntry(start, r.opts.BuildVersion, cmds)
	if err != nil {
		return nil, fmt.Errorf("%w: encode entry: %w", ErrRefused, err)
	}
	f := r.raft.Apply(data, r.opts.StoreTimeout)
	if err := r.await(f, r.opts.StoreTimeout); err != nil {
		return nil, err
	}
	r.opts.OnStore(time.Since(start), len(cmds))
	switch resp := f.Response().(type) {
	case []error:
		return resp, nil
	case error:
		return nil, resp
	default:
		return nil, fmt.Errorf("registry answered %T", resp)
	}
}

// await waits for raft. When that takes too long the registry gives up: a master
// that cannot say whether its write took effect must not go on
// (src/master/registrar.cpp aborts likewise).
func (r *Registry) await(f raft.Future, limit time.Duration) error {
	done := make(chan error, 1)
	r.wg.Go(func() { done <- f.Error() }) // ends with raft at the latest
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case err := <-done:
		return storeError(err)
	case <-timeout.C:
		err := fmt.Errorf("%w after %s", ErrStoreTimeout, limit)
		r.fail(err)
		return err
	}
}

// storeError says in our words why raft did not do what it was asked.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrStoreTimeout
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	default:
		return fmt.Errorf("%w: %w", ErrLeadershipLost, err)
	}
}
