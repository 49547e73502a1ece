package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/rs/zerolog"
)

// AutopilotOptions say when members come and go by themselves. It needs
// [Options.Peers].
type AutopilotOptions struct {
	// StabilizationTime is how long a new member must keep up before it gets a
	// vote; 10 s if zero. A leader that is new itself does not insist on it.
	StabilizationTime time.Duration
	// DeadAfter is how long a member must have been silent, for gossip and for the
	// leader, before another takes its place; 10 s if zero.
	DeadAfter time.Duration
	// Interval is how often the leader looks; 1 s if zero.
	Interval time.Duration
}

func (o *AutopilotOptions) setDefaults() {
	if o.StabilizationTime <= 0 {
		o.StabilizationTime = 10 * time.Second
	}
	if o.DeadAfter <= 0 {
		o.DeadAfter = 10 * time.Second
	}
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
}

// pilot keeps the members of the Raft group what they should be while this one
// leads: raft-autopilot decides who gets a vote and who may be removed, and the
// pilot tells it what is known and brings new masters in.
//
// A dead member is removed when the voters that are left are as many as before,
// because another has come, or when an odd number of them is left: three of which
// one is dead stay three, four become three. A group never shrinks below what its
// operator made it; that is for RemoveMember.
type pilot struct {
	r     *Registry
	l     *Leadership
	begun time.Time
	ap    *autopilot.Autopilot
	last  uint64 // index at which the leadership began
}

// steer runs the pilot for one leadership.
func (r *Registry) steer(l *Leadership) {
	o := r.opts.Autopilot
	p := &pilot{r: r, l: l, begun: time.Now(), last: r.raft.LastIndex()}
	p.ap = autopilot.New(r.raft, p,
		autopilot.WithLogger(newHCLog(r.log)), autopilot.WithPromoter(&promoter{r: r}),
		autopilot.WithUpdateInterval(o.Interval), autopilot.WithReconcileInterval(o.Interval))
	p.ap.Start(l.ctx)
	t := time.NewTicker(o.Interval)
	defer t.Stop()
	for {
		p.bringIn()
		select {
		case <-t.C:
		case <-l.ctx.Done():
			<-p.ap.Stop()
			p.NotifyState(nil)
			return
		}
	}
}

// bringIn adds live masters that are no members, and corrects addresses.
func (p *pilot) bringIn() {
	members, err := p.r.Members()
	if err != nil {
		return
	}
	peers := p.r.peers()
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(a.ID, b.ID) })
	for _, peer := range peers {
		if !peer.Alive || peer.ID == "" || peer.Addr == "" || peer.ID == string(p.r.id) {
			continue
		}
		at := slices.IndexFunc(members, func(m Member) bool { return m.ID == peer.ID })
		if at >= 0 && members[at].Addr == peer.Addr {
			continue
		}
		if why := p.r.tooOld(build{peer.Format, peer.Build}); at < 0 && why != "" {
			p.r.who.complain(peer.ID+why, "master is not added to the registry", func(e *zerolog.Event) *zerolog.Event {
				return e.Str("id", peer.ID).Str("because", why)
			})
			continue
		}
		if p.l.ctx.Err() != nil {
			return
		}
		if err := p.ap.AddServer(p.server(peer)); err != nil {
			p.r.who.complain(peer.ID+err.Error(), "cannot add a master to the registry", func(e *zerolog.Event) *zerolog.Event {
				return e.Str("id", peer.ID).Str("addr", peer.Addr).Err(err)
			})
			continue
		}
		if at < 0 {
			p.r.log.Info().Str("id", peer.ID).Str("addr", peer.Addr).Msg("master joins the registry")
		} else {
			p.r.log.Info().Str("id", peer.ID).Str("addr", peer.Addr).Str("from", members[at].Addr).Msg("raft address of a master has changed")
		}
	}
}

// tooOld says why a master of another build cannot follow this leader, or "".
func (r *Registry) tooOld(b build) string {
	if b.format == 0 || b.format >= r.opts.format {
		return ""
	}
	return fmt.Sprintf("its build %q understands registry format %d, the leader writes format %d: run a build at least as new", b.version, b.format, r.opts.format)
}

func (p *pilot) server(peer Peer) *autopilot.Server {
	return &autopilot.Server{
		ID: raft.ServerID(peer.ID), Name: peer.ID, Address: raft.ServerAddress(peer.Addr), Version: peer.Build,
		RaftVersion: raft.ProtocolVersionMax, NodeStatus: autopilot.NodeAlive, NodeType: autopilot.NodeVoter,
	}
}

// AutopilotConfig says how careful to be.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	voters := 0
	for _, s := range p.configuration() {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	// The library counts who may become a voter beside those that are.
	atLeast := voters
	if voters%2 == 0 {
		atLeast--
	}
	return &autopilot.Config{
		CleanupDeadServers: true, LastContactThreshold: p.r.opts.HeartbeatTimeout,
		MaxTrailingLogs: 256, MinQuorum: uint(max(atLeast, 1)),
		ServerStabilizationTime: p.r.opts.Autopilot.StabilizationTime,
	}
}

func (p *pilot) configuration() []raft.Server {
	f := p.r.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// KnownServers returns the members and whether they live. A member that answers
// its leader lives, whatever gossip says; one that does not is dead once both
// have heard nothing for a while.
func (p *pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	peers := p.r.peers()
	known := map[raft.ServerID]*autopilot.Server{}
	for _, s := range p.configuration() {
		peer := Peer{Member: Member{ID: string(s.ID), Addr: string(s.Address)}}
		if at := slices.IndexFunc(peers, func(q Peer) bool { return q.ID == string(s.ID) }); at >= 0 {
			peer.Alive = peers[at].Alive
		}
		if b, ok := p.r.buildOf(s.ID); ok {
			peer.Format, peer.Build = b.format, b.version
		}
		srv := p.server(peer)
		srv.IsLeader = s.ID == p.r.id
		if !srv.IsLeader && !peer.Alive && p.silence(s.ID) > p.r.opts.Autopilot.DeadAfter {
			srv.NodeStatus = autopilot.NodeFailed
		}
		known[s.ID] = srv
	}
	return known
}

// silence returns for how long a member has not answered this leader.
func (p *pilot) silence(id raft.ServerID) time.Duration {
	if c, ok := p.r.guard.contact(id, p.l.term); ok && c.sent.After(p.begun) {
		return time.Since(c.sent)
	}
	return time.Since(p.begun)
}

// FetchServerStats returns how far the members are. They tell with each heartbeat.
func (p *pilot) FetchServerStats(_ context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	stats := map[raft.ServerID]*autopilot.ServerStats{}
	for id := range servers {
		if id == p.r.id {
			stats[id] = &autopilot.ServerStats{LastTerm: p.l.term, LastIndex: p.r.raft.LastIndex()}
			continue
		}
		c, ok := p.r.guard.contact(id, p.l.term)
		if !ok {
			continue
		}
		s := &autopilot.ServerStats{LastContact: time.Since(c.sent), LastIndex: c.lastLog}
		if c.lastLog >= p.last { // it has an entry of this term
			s.LastTerm = p.l.term
		}
		stats[id] = s
	}
	return stats
}

// NotifyState keeps how the members are for Status.
func (p *pilot) NotifyState(s *autopilot.State) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.r.health = s
}

// RemoveFailedServer removes a dead member whose place is taken.
func (p *pilot) RemoveFailedServer(s *autopilot.Server) {
	p.r.log.Warn().Str("id", string(s.ID)).Str("addr", string(s.Address)).Msg("dead master is removed from the registry")
	if err := p.r.raft.RemoveServer(s.ID, 0, p.r.opts.StoreTimeout).Error(); err != nil {
		p.r.log.Warn().Str("id", string(s.ID)).Err(err).Msg("cannot remove a dead master from the registry")
	}
}

// promoter gives a vote to who is stable, unless its build could not follow.
type promoter struct {
	autopilot.StablePromoter
	r *Registry
}

// CalculatePromotionsAndDemotions returns who is to get a vote.
func (p *promoter) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {
	changes := p.StablePromoter.CalculatePromotionsAndDemotions(c, s)
	changes.Promotions = slices.DeleteFunc(changes.Promotions, func(id raft.ServerID) bool {
		b, ok := p.r.buildOf(id)
		why := p.r.tooOld(b)
		if !ok {
			why = "its build is not known"
		}
		if why == "" {
			return false
		}
		p.r.who.complain(string(id)+why, "master gets no vote in the registry", func(e *zerolog.Event) *zerolog.Event {
			return e.Str("id", string(id)).Str("because", why)
		})
		return true
	})
	slices.Sort(changes.Promotions) // they come out of a map
	return changes
}
