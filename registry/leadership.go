package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
)

// Leadership is one term of this master as the leader.
type Leadership struct {
	r      *Registry
	ctx    context.Context
	cancel context.CancelCauseFunc
	term   uint64
	state  *State
}

// Context ends when the leadership does, and before another member can lead: a
// leader that a majority has not answered for half a heartbeat timeout leads no
// more, and the members of that majority elect nobody for a whole one. Its cause
// says why.
func (l *Leadership) Context() context.Context { return l.ctx }

// State returns the registry as this leader found it: everything that leaders
// before it have committed, and its own election.
func (l *Leadership) State() *State { return l.state }

// MasterInfo describes this master as the leader that it is by this leadership:
// the id is another each time.
func (l *Leadership) MasterInfo() *mesos.MasterInfo { return l.state.Master() }

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

func (r *Registry) leaveOffice() {
	r.mu.Lock()
	r.office = nil
	r.mu.Unlock()
	r.setLeadership(nil)
}

func (r *Registry) setLeadership(l *Leadership) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lead = l
	r.health = nil // that of the leadership before says nothing of this one
	close(r.changed)
	r.changed = make(chan struct{})
}

// endLeadership ends the leadership, if there is one, for good; when it returns,
// its context has ended. Raft may go on leading: then follow takes office anew.
func (r *Registry) endLeadership(cause error) {
	r.mu.Lock()
	o := r.office
	r.mu.Unlock()
	if o != nil {
		o.cancel(cause)
	}
}

// office is a Leadership from the moment that raft says that this member leads:
// while it is being taken, while it is held, and until it is cleared.
type office struct {
	*Leadership
	done chan struct{} // closed when nobody works for it any more
}

// follow listens to raft's word on who leads, and keeps an office while it is
// this member. An office that ends while raft still leads is taken anew, as
// another leadership: after a handover that failed, a restored snapshot, or a
// majority that was silent only for a moment.
func (r *Registry) follow() {
	var o *office
	var done <-chan struct{}
	leads := false
	leave := func(cause error) {
		if o != nil {
			o.cancel(cause)
			<-o.done
			o, done = nil, nil
			r.leaveOffice()
		}
	}
	for {
		select {
		case leads = <-r.notify:
			leave(ErrLeadershipLost)
		case <-done:
			leave(ErrLeadershipLost)
		case <-r.resumed:
		case <-r.ctx.Done():
			leave(context.Cause(r.ctx))
			return
		}
		if leads && o == nil {
			if o = r.enterOffice(); o != nil {
				done = o.done
			}
		}
	}
}

// suspend ends the leadership, if there is one, and keeps this member from
// another until resume is called, whatever raft says.
func (r *Registry) suspend(cause error) (resume func()) {
	r.mu.Lock()
	r.suspended++
	o := r.office
	r.mu.Unlock()
	if o != nil {
		o.cancel(cause)
		<-o.done
	}
	return func() {
		r.mu.Lock()
		r.suspended--
		r.mu.Unlock()
		select {
		case r.resumed <- struct{}{}:
		default: // follow has yet to look
		}
	}
}

// enterOffice takes office beside follow, which may hear meanwhile that it is
// over already. It returns nil while offices are suspended.
func (r *Registry) enterOffice() *office {
	l := &Leadership{r: r, term: r.raft.CurrentTerm()}
	l.ctx, l.cancel = context.WithCancelCause(r.ctx)
	o := &office{Leadership: l, done: make(chan struct{})}
	r.mu.Lock()
	if r.suspended > 0 {
		r.mu.Unlock()
		l.cancel(ErrLeadershipLost)
		return nil
	}
	r.office = o
	r.mu.Unlock()
	r.wg.Go(func() {
		defer close(o.done)
		err := r.takeOffice(l)
		if err != nil {
			l.cancel(err)
			if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrLeadershipLost) && r.Err() == nil {
				r.fail(fmt.Errorf("elected leader cannot take office: %w", err))
			}
			r.pause() // raft leads on: another try, but not at once
			return
		}
		r.log.Info().Uint64("epoch", l.Epoch()).Str("cluster_id", l.state.ClusterID()).Msg("registry leads")
		r.setLeadership(l)
		if r.opts.Peers != nil {
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { r.steer(l) })
		}
		r.holdOffice(l)
		r.log.Info().AnErr("because", context.Cause(l.ctx)).Msg("registry leads no more")
	})
	return o
}

// pause lets a moment pass, in which raft can say that it leads no more.
func (r *Registry) pause() {
	t := time.NewTimer(r.opts.HeartbeatTimeout / 20)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.ctx.Done():
	}
}

// newMasterInfo describes this master for one leadership. Ids of offers, agents and
// frameworks begin with the master's, and each leadership counts them from zero: the
// second one needs an id of its own.
func (r *Registry) newMasterInfo() *mesos.MasterInfo {
	if !r.hasLed {
		r.hasLed = true
		return r.opts.MasterInfo
	}
	info := proto.CloneOf(r.opts.MasterInfo)
	info.Id = new(uuid.NewString())
	return info
}

// takeOffice waits until everything committed is applied, and writes who leads:
// the write shows that a majority still follows.
func (r *Registry) takeOffice(l *Leadership) error {
	if err := r.await(r.raft.Barrier(r.opts.FetchTimeout), r.opts.FetchTimeout); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	elect := state.ElectMaster(r.newMasterInfo(), string(r.id), uuid.NewString())
	results, err := r.store([]*clusterdv1.Command{elect})
	if err != nil {
		return fmt.Errorf("elect master: %w", err)
	}
	if results[0] != nil {
		return results[0]
	}
	l.state = r.State()
	r.correctAddress()
	if l.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrLeadershipLost, context.Cause(l.ctx))
	}
	if !r.leaseLeft(l).After(time.Now()) {
		return fmt.Errorf("%w: no majority answers in time", ErrLeadershipLost)
	}
	return nil
}

// holdOffice ends a leadership when its lease does, or returns when it has ended.
func (r *Registry) holdOffice(l *Leadership) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-l.ctx.Done():
			return
		}
		left := time.Until(r.leaseLeft(l))
		if left <= 0 {
			l.cancel(fmt.Errorf("%w: no majority has answered for %s", ErrLeadershipLost, r.guard.lease))
			return
		}
		t.Reset(left)
	}
}

// leaseLeft returns until when a leadership may go on.
func (r *Registry) leaseLeft(l *Leadership) time.Time {
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return time.Time{}
	}
	return r.guard.leaseUntil(r.id, l.term, f.Configuration())
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
