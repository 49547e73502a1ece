package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// hasten makes a follower notice a silent leader in time. Raft's own timer is
// random between one and two heartbeat timeouts, and starts again when a
// heartbeat came while it ran: up to three, and a majority elects only once the
// slowest of it has noticed. Here the followers take turns, by their ids, from
// one heartbeat timeout on, so that an election takes little more than that and
// two do not ask for votes at the same time.
func (r *Registry) hasten() {
	step := r.opts.HeartbeatTimeout / 5
	t := time.NewTimer(r.opts.HeartbeatTimeout)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-r.ctx.Done():
			return
		}
		_, leader := r.raft.LeaderWithID()
		heard := r.raft.LastContact()
		turn, votes := r.turn(leader)
		if r.raft.State() != raft.Follower || leader == "" || heard.IsZero() || !votes {
			t.Reset(step)
			continue
		}
		due := heard.Add(r.opts.HeartbeatTimeout + time.Duration(turn)*step)
		if left := time.Until(due); left > 0 {
			t.Reset(left)
			continue
		}
		r.lookForLeader()
		t.Reset(step)
	}
}

// turn says how many voters are to notice before this one that the leader is
// silent.
func (r *Registry) turn(leader raft.ServerID) (turn int, votes bool) {
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return 0, false
	}
	for _, s := range f.Configuration().Servers {
		switch {
		case s.Suffrage != raft.Voter || s.ID == leader:
		case s.ID == r.id:
			votes = true
		case s.ID < r.id:
			turn++
		}
	}
	return turn, votes
}

// lookForLeader makes raft's timer fire: it looks again when its timeout gets
// shorter. Then raft checks itself whether the leader is silent.
func (r *Registry) lookForLeader() {
	conf := r.raft.ReloadableConfig()
	for _, timeout := range []time.Duration{r.opts.HeartbeatTimeout + 1, r.opts.HeartbeatTimeout} {
		conf.HeartbeatTimeout = timeout
		if err := r.raft.ReloadConfig(conf); err != nil {
			r.log.Error().Err(err).Msg("registry waits for the election timeout")
			return
		}
	}
}

// TransferLeadership hands the leadership to a voter, or with an empty id to
// whichever is furthest. Only the leader can. The Leadership of the moment ends
// first; when the handover fails, this member takes office again.
func (r *Registry) TransferLeadership(ctx context.Context, id string) error {
	if id == "" {
		return r.transfer(ctx, "another master", handedOver("another master"), r.raft.LeadershipTransfer)
	}
	if id == string(r.id) {
		if r.raft.State() != raft.Leader {
			return fmt.Errorf("transfer leadership to %s: %w", id, ErrNotLeader)
		}
		return nil
	}
	members, err := r.Members()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
	if at < 0 {
		return fmt.Errorf("transfer leadership to %s: %w", id, ErrNoMember)
	}
	if !members[at].Voter {
		return fmt.Errorf("transfer leadership to %s: %w", id, ErrNoVote)
	}
	return r.transfer(ctx, id, handedOver(id), func() raft.Future {
		return r.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(members[at].Addr))
	})
}

func handedOver(to string) error { return fmt.Errorf("%w: handed over to %s", ErrLeadershipLost, to) }

// Resign hands the leadership over, if this member has it and there is another
// voter, so that the others need not wait until they miss it. A master calls it
// before it stops; Close does so too.
func (r *Registry) Resign(ctx context.Context) error {
	return r.resign(ctx, fmt.Errorf("%w: this master resigns", ErrLeadershipLost))
}

func (r *Registry) resign(ctx context.Context, cause error) error {
	members, err := r.Members()
	if err != nil {
		return err
	}
	alone := !slices.ContainsFunc(members, func(m Member) bool { return m.Voter && m.ID != string(r.id) })
	if alone || r.raft.State() != raft.Leader {
		return nil
	}
	return r.transfer(ctx, "another master", cause, r.raft.LeadershipTransfer)
}

// transfer waits for a handover, which raft bounds by an election timeout.
func (r *Registry) transfer(ctx context.Context, to string, cause error, begin func() raft.Future) error {
	if r.raft.State() != raft.Leader {
		return fmt.Errorf("transfer leadership to %s: %w", to, ErrNotLeader)
	}
	resume := r.suspend(cause)
	defer resume()
	done := make(chan error, 1)
	r.wg.Go(func() { done <- begin().Error() })
	select {
	case err := <-done:
		return memberError("transfer leadership to", to, err)
	case <-ctx.Done():
		return fmt.Errorf("transfer leadership to %s: %w", to, context.Cause(ctx))
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// ErrNoVote says that a member cannot lead because it has no vote yet.
var ErrNoVote = errors.New("this member of the registry has no vote")
