package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
)

// Member is a member of the Raft group.
type Member struct {
	ID   string
	Addr string
	// Voter says whether its vote counts; a member that has just been added
	// catches up first.
	Voter bool
	// Leads says whether it leads, as far as this master knows.
	Leads bool
}

// MemberHealth is how a member is, as the leader sees it.
type MemberHealth struct {
	ID      string
	Healthy bool
	// Since is when that changed last.
	Since time.Time
	// LastContact is how long ago the member answered, negative if it never did.
	LastContact time.Duration
	LastIndex   uint64
	Build       string
	Format      uint32
}

// Peer is a master that this one has heard of by other means than Raft.
type Peer struct {
	Member
	// Alive says whether it answered lately.
	Alive bool
	// Format is the newest registry format that it understands.
	Format uint32
	Build  string
}

// Status is how this member stands in its Raft group.
type Status struct {
	Self      Member
	ClusterID string
	// State is Leader, Follower, Candidate or Shutdown.
	State  string
	Term   uint64
	Leader string // id; empty if none is known
	// LastContact is how long ago the leader was heard, zero on the leader itself.
	LastContact                             time.Duration
	LastIndex, CommitIndex, AppliedIndex    uint64
	SnapshotIndex, SnapshotTerm, QueuedCall uint64
	Members                                 []Member

	// Held is what the registry holds, and LeaderInfo who the leader says that it is, nil as
	// long as it has not introduced itself (see [Registry.Leader]).
	Held       *State
	LeaderInfo *mesos.MasterInfo

	// Health is how the members are; it is known on the leader only, and while
	// autopilot runs. Tolerates is how many voters may fail.
	Health    []MemberHealth
	Tolerates int
}

// standing is what changes with who leads. Two that are equal have nothing between them.
type standing struct {
	term   uint64
	state  raft.RaftState
	leader raft.ServerID
	epoch  uint64
	lead   *Leadership
}

func (r *Registry) standing() standing {
	_, leader := r.raft.LeaderWithID()
	return standing{r.raft.CurrentTerm(), r.raft.State(), leader, r.State().Epoch(), r.leadership()}
}

// statusTries bounds how often Status looks again because who leads has just changed. Where it
// changes that fast nobody leads.
const statusTries = 20

// Bootstrap founds the cluster with the given members, this one among them. It
// does nothing if this one belongs to a cluster already. One member of those that
// found a cluster does it; it tells the others.
func (r *Registry) Bootstrap(members []Member) error {
	var c raft.Configuration
	for _, m := range members {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr)})
	}
	err := r.raft.BootstrapCluster(c).Error()
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap registry: %w", err)
	}
	if err == nil {
		r.guard.newcomer.become(established)
	}
	return nil
}

// Pristine says whether this member has never had to do with any cluster: it
// has no log, no term and no vote.
func (r *Registry) Pristine() bool {
	return r.raft.LastIndex() == 0 && r.raft.CurrentTerm() == 0
}

// Members returns the members of the Raft group, as far as this one knows.
func (r *Registry) Members() ([]Member, error) {
	f := r.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("members of the registry: %w", err)
	}
	_, leader := r.raft.LeaderWithID()
	return ledBy(membersOf(f.Configuration()), leader), nil
}

// ledBy marks who leads.
func ledBy(members []Member, leader raft.ServerID) []Member {
	for i := range members {
		members[i].Leads = members[i].ID == string(leader)
	}
	return members
}

// Self returns this member, with the address that others dial.
func (r *Registry) Self() Member {
	return Member{ID: string(r.id), Addr: string(r.guard.LocalAddr())}
}

// Status returns how this member stands, at one moment: it is not the follower of one term
// with the leader of the next.
func (r *Registry) Status() (Status, error) {
	for try := 1; ; try++ {
		at := r.standing()
		s, err := r.statusAt(at)
		if err != nil || try == statusTries || r.standing() == at {
			return s, err
		}
	}
}

func (r *Registry) statusAt(at standing) (Status, error) {
	f := r.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return Status{}, fmt.Errorf("members of the registry: %w", err)
	}
	held := r.State()
	s := Status{
		Self: r.Self(), ClusterID: held.ClusterID(), State: at.state.String(), Term: at.term, Leader: string(at.leader),
		Members: ledBy(membersOf(f.Configuration()), at.leader), QueuedCall: uint64(r.QueuedOperations()), Held: held,
	}
	// They grow meanwhile, and none outruns the next.
	s.AppliedIndex = r.raft.AppliedIndex()
	s.CommitIndex = max(r.raft.CommitIndex(), s.AppliedIndex)
	s.LastIndex = max(r.raft.LastIndex(), s.CommitIndex)
	s.LeaderInfo, _ = r.Leader()
	if last := r.raft.LastContact(); !last.IsZero() && at.state != raft.Leader {
		s.LastContact = time.Since(last)
	}
	if snaps, err := r.stores.snaps.List(); err == nil && len(snaps) > 0 {
		s.SnapshotIndex, s.SnapshotTerm = snaps[0].Index, snaps[0].Term
	}
	s.Health, s.Tolerates = r.memberHealth()
	return s, nil
}

func (r *Registry) memberHealth() (all []MemberHealth, tolerates int) {
	r.mu.Lock()
	h, leads := r.health, r.lead != nil
	r.mu.Unlock()
	if h == nil || !leads {
		return nil, 0
	}
	for id, s := range h.Servers {
		b, _ := r.buildOf(id)
		m := MemberHealth{
			ID: string(id), Healthy: s.Health.Healthy, Since: s.Health.StableSince,
			LastContact: s.Stats.LastContact, LastIndex: s.Stats.LastIndex, Build: b.version, Format: b.format,
		}
		if id == r.id {
			m.Build, m.Format = r.opts.BuildVersion, state.Format
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b MemberHealth) int { return strings.Compare(a.ID, b.ID) })
	return all, h.FailureTolerance
}

// AddMember lets a master join; it gets a vote once it has caught up. Only the
// leader can.
func (r *Registry) AddMember(_ context.Context, m Member) error {
	err := r.raft.AddNonvoter(raft.ServerID(m.ID), raft.ServerAddress(m.Addr), 0, r.opts.StoreTimeout).Error()
	return memberError("add", m.ID, err)
}

// RemoveMember removes a master. Only the leader can, and not itself without
// leading no more.
func (r *Registry) RemoveMember(_ context.Context, id string) error {
	members, err := r.Members()
	if err != nil {
		return err
	}
	if r.raft.State() == raft.Leader && !slices.ContainsFunc(members, func(m Member) bool { return m.ID == id }) {
		return fmt.Errorf("remove %s: %w", id, ErrNoMember)
	}
	return memberError("remove", id, r.raft.RemoveServer(raft.ServerID(id), 0, r.opts.StoreTimeout).Error())
}

// ErrNoMember says that a master is not a member of the registry.
var ErrNoMember = errors.New("no such member of the registry")

func memberError(what, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost):
		return fmt.Errorf("%s %s: %w", what, id, ErrNotLeader)
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}
