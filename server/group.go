package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/version"
	"clusterd/registry"
	"clusterd/registry/gossip"
	"clusterd/registry/state"
)

// groupInterval is how often a master compares what it says of itself in gossip
// with what is the case, beside doing so at once when something changes there.
const groupInterval = 250 * time.Millisecond

// orphanAfter is how long a master waits to be taken in by a cluster that it sees
// before it says that nothing happens.
const orphanAfter = 15 * time.Second

// group is this master among the others: it tells them of itself by gossip, and
// takes part in founding the cluster.
type group struct {
	gossip   *gossip.Gossip
	registry *registry.Registry
	log      zerolog.Logger

	mu sync.Mutex
	// mu guards epoch, of the present leadership; 0: none.
	epoch uint64
	nudge chan struct{} // size 1: the epoch has changed

	// What follows belongs to the goroutine of run.
	said     string // the last word on why founding waits
	orphaned time.Time
}

// openGroup begins to gossip, and to take part in founding the cluster.
func (s *Server) openGroup(ctx context.Context) error {
	advertise := s.opts.GossipAdvertise
	if advertise == "" {
		advertise = reachable(s.opts.GossipBind, s.info.GetAddress().GetIp())
	}
	talk, err := gossip.Open(ctx, gossip.Options{
		Self:      s.describeNode(),
		Bind:      s.opts.GossipBind,
		Advertise: advertise,
		Join:      s.opts.Join,
		Keys:      s.opts.GossipKeys,
		Logger:    s.log,
	})
	if err != nil {
		return err
	}
	g := &group{gossip: talk, registry: s.registry, log: s.log, nudge: make(chan struct{}, 1)}
	s.group.Store(g)
	s.push("gossip", func(ctx context.Context) error {
		return errors.Join(talk.Leave(ctx), talk.Close())
	})
	s.wg.Go(func() { g.run(s.ctx) })
	return nil
}

// raftAdvertise is where other masters dial this one's Raft, empty for what it
// listens on.
func (s *Server) raftAdvertise() string {
	if s.opts.RaftAdvertise != "" {
		return s.opts.RaftAdvertise
	}
	return reachable(s.opts.RaftBind, s.info.GetAddress().GetIp())
}

// describeNode is what this master says of itself to begin with.
func (s *Server) describeNode() gossip.Node {
	r := s.registry
	n := gossip.Node{
		Name:      r.Self().ID,
		Role:      gossip.Master,
		HTTP:      hostPort(s.info),
		Raft:      r.Self().Addr,
		ClusterID: r.State().ClusterID(),
		Format:    state.Format,
		Build:     version.Clusterd,
		Region:    s.info.GetDomain().GetFaultDomain().GetRegion().GetName(),
		Zone:      s.info.GetDomain().GetFaultDomain().GetZone().GetName(),
	}
	switch expect := s.opts.BootstrapExpect; {
	case expect == 1 && n.ClusterID == "", expect > 1 && r.Pristine():
		n.Expect = expect
	}
	return n
}

// leads tells the others that this master leads, or with 0 that it does no more.
func (g *group) leads(epoch uint64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.epoch = epoch
	g.mu.Unlock()
	select {
	case g.nudge <- struct{}{}:
	default:
	}
}

// run keeps what this master says of itself true until ctx ends.
func (g *group) run(ctx context.Context) {
	tick := time.NewTicker(groupInterval)
	defer tick.Stop()
	for {
		changed := g.gossip.Changed()
		g.step(time.Now())
		select {
		case <-changed:
		case <-g.nudge:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (g *group) step(now time.Time) {
	self := g.gossip.Self()
	pristine := g.registry.Pristine()
	want := self
	g.mu.Lock()
	want.Epoch = g.epoch
	g.mu.Unlock()
	want.ClusterID = g.registry.State().ClusterID()
	if want.ClusterID != "" || !pristine && want.Expect > 1 {
		want.Expect, want.Endorses = 0, ""
	}
	f := decideFounding(foundingView{self: want, pristine: pristine, masters: g.gossip.Masters()})
	want.Endorses = f.endorse
	if want != self {
		if err := g.gossip.Update(func(n *gossip.Node) { *n = want }); err != nil {
			g.log.Warn().Err(err).Msg("cannot tell the other masters what is new of this one")
		}
	}
	if f.wait != "" && f.wait != g.said {
		g.log.Info().Str("reason", f.wait).Msg("no cluster is founded yet")
	}
	g.said = f.wait
	if f.found != nil {
		g.found(f.found)
	}
	g.checkOrphan(now, pristine, want.ClusterID)
}

func (g *group) found(members []registry.Member) {
	e := g.log.Info()
	for _, m := range members {
		e = e.Str("member_"+m.ID, m.Addr)
	}
	e.Msg("founding the cluster")
	if err := g.registry.Bootstrap(members); err != nil {
		g.log.Error().Err(err).Msg("cannot found the cluster")
	}
}

// checkOrphan says so when this master sees a cluster that does not take it in: it
// would wait for ever.
func (g *group) checkOrphan(now time.Time, pristine bool, clusterID string) {
	other := ""
	for _, m := range g.gossip.Masters() {
		if m.ClusterID != "" {
			other = m.ClusterID
		}
	}
	if clusterID != "" || other == "" {
		g.orphaned = time.Time{}
		return
	}
	if g.orphaned.IsZero() {
		g.orphaned = now
	}
	if now.Sub(g.orphaned) < orphanAfter {
		return
	}
	g.orphaned = now.Add(time.Hour) // say it once an hour
	e := g.log.Error().Str("cluster_id", other).Str("raft_address", g.registry.Self().Addr)
	if pristine {
		e.Msg("there is a cluster, but it has not added this master: " +
			"its leader must reach this master's raft_address (--raft_port, --raft_advertise), see its log")
		return
	}
	e.Msg("a cluster was founded, but this master, which has begun to found one, does not belong to it: " +
		"stop it, remove its raft directory, and start it again with --join to have it added")
}

// peers is what gossip knows of masters, for the leader, who adds and removes them.
func (g *group) peers() []registry.Peer {
	if g == nil {
		return nil
	}
	id := g.registry.State().ClusterID()
	var peers []registry.Peer
	for _, n := range g.gossip.All() {
		if n.Role != gossip.Master || (n.ClusterID != "" && n.ClusterID != id) {
			continue
		}
		if n.ClusterID == "" && n.Expect == 1 {
			continue // it is about to found a cluster of its own
		}
		peers = append(peers, registry.Peer{
			Member: registry.Member{ID: n.Name, Addr: n.Raft}, Alive: n.Alive, Format: n.Format, Build: n.Build,
		})
	}
	return peers
}

// masters are the addresses of all masters of this cluster that are there, in the
// order of their names.
func (g *group) masters() []string {
	if g == nil {
		return nil
	}
	id := g.registry.State().ClusterID()
	var addrs []string
	for _, n := range g.gossip.Nodes() {
		if n.Role == gossip.Master && n.ClusterID == id {
			addrs = append(addrs, n.HTTP)
		}
	}
	return addrs
}

// changed is closed when gossip has something new; nil, which blocks for ever, if
// there is no gossip.
func (g *group) changed() <-chan struct{} {
	if g == nil {
		return nil
	}
	return g.gossip.Changed()
}

// reachable gives an address to advertise its host when what is bound is every
// address of this machine.
func reachable(bind, host string) string {
	h, port, err := net.SplitHostPort(bind)
	if err != nil || port == "0" {
		return ""
	}
	if ip := net.ParseIP(h); h == "" || ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort(host, port)
	}
	return ""
}
