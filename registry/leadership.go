package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/registry/state"
)

// Leadership is one term of this master as the leader.
type Leadership struct {
	r      *Registry
	ctx    context.Context
	cancel context.CancelCauseFunc
	state  *State
}

// Context ends when the leadership does, and before another member can lead: a
// leader that does not hear of a majority steps down sooner than the others
// begin to look for a new one. Its cause says why.
func (l *Leadership) Context() context.Context { return l.ctx }

// State returns the registry as this leader found it: everything that leaders
// before it have committed, and its own election.
func (l *Leadership) State() *State { return l.state }

// Epoch numbers the leaderships of the cluster, from 1.
func (l *Leadership) Epoch() uint64 { return l.state.Epoch() }

// AwaitLeadership waits until this master leads and may act: all that was
// committed is applied, and its MasterInfo is in the registry. While it leads,
// every call returns the same Leadership. It fails when ctx ends or the registry
// is done.
func (r *Registry) AwaitLeadership(ctx context.Context) (*Leadership, error) {
	for {
		r.mu.Lock()
		l, changed := r.lead, r.changed
		r.mu.Unlock()
		if l != nil && l.ctx.Err() == nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (r *Registry) leadership() *Leadership {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lead == nil || r.lead.ctx.Err() != nil {
		return nil
	}
	return r.lead
}

func (r *Registry) setLeadership(l *Leadership) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lead = l
	close(r.changed)
	r.changed = make(chan struct{})
}

// follow listens to raft's word on who leads.
func (r *Registry) follow() {
	end := func() {}
	for {
		select {
		case leads := <-r.notify:
			end()
			end = func() {}
			if leads {
				end = r.beginLeadership()
			}
		case <-r.ctx.Done():
			end()
			return
		}
	}
}

// beginLeadership takes office beside follow, which may hear meanwhile that it
// is over already, and returns how to end it.
func (r *Registry) beginLeadership() (end func()) {
	l := &Leadership{r: r}
	l.ctx, l.cancel = context.WithCancelCause(r.ctx)
	done := make(chan struct{})
	r.wg.Go(func() {
		defer close(done)
		if err := r.takeOffice(l); err != nil {
			l.cancel(err)
			if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrLeadershipLost) {
				r.fail(fmt.Errorf("elected leader cannot take office: %w", err))
			}
			return
		}
		r.log.Info().Uint64("epoch", l.Epoch()).Str("cluster_id", l.state.ClusterID()).Msg("registry leads")
		r.setLeadership(l)
	})
	return func() {
		l.cancel(ErrLeadershipLost)
		<-done
		r.setLeadership(nil)
		r.log.Info().Msg("registry leads no more")
	}
}

// takeOffice waits until everything committed is applied, and writes who leads:
// the write shows that a majority still follows.
func (r *Registry) takeOffice(l *Leadership) error {
	if err := r.await(r.raft.Barrier(r.opts.FetchTimeout), r.opts.FetchTimeout); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	elect := state.ElectMaster(r.opts.MasterInfo, string(r.id), uuid.NewString())
	results, err := r.store([]*clusterdv1.Command{elect})
	if err != nil {
		return fmt.Errorf("elect master: %w", err)
	}
	if results[0] != nil {
		return results[0]
	}
	l.state = r.State()
	r.correctAddress()
	return nil
}

// correctAddress tells the cluster this leader's address if it moved while it
// was down.
func (r *Registry) correctAddress() {
	self := r.Self()
	members, err := r.Members()
	if err != nil {
		return // it leads no more, which others tell
	}
	for _, m := range members {
		if m.ID == self.ID && m.Addr != self.Addr {
			r.log.Info().Str("from", m.Addr).Str("to", self.Addr).Msg("raft address of this master has changed")
			r.raft.AddVoter(raft.ServerID(self.ID), raft.ServerAddress(self.Addr), 0, r.opts.StoreTimeout)
		}
	}
}
