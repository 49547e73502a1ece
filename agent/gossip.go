package agent

import (
	"context"
	"fmt"
	"time"

	"clusterd/internal/version"
	"clusterd/registry/gossip"
)

// leaveTimeout bounds how long an agent that stops tries to tell the others.
const leaveTimeout = 500 * time.Millisecond

// gossiped finds masters by gossip.
type gossiped struct{ g *gossip.Gossip }

func (f gossiped) Masters() []string {
	var addrs []string
	for _, n := range f.g.Masters() {
		addrs = append(addrs, n.HTTP)
	}
	return addrs
}

func (f gossiped) Leader() (addr string, epoch uint64, ok bool) {
	n, ok := f.g.Leader()
	return n.HTTP, n.Epoch, ok
}

func (f gossiped) Changed() <-chan struct{} { return f.g.Changed() }

// openGossip joins the others.
func (a *Agent) openGossip(ctx context.Context) error {
	a.finder = a.opts.Finder
	if len(a.opts.Join) == 0 {
		return nil
	}
	name, err := a.nodeID()
	if err != nil {
		return err
	}
	domain := a.opts.Domain.GetFaultDomain()
	a.gossip, err = gossip.Open(ctx, gossip.Options{
		Self: gossip.Node{
			Name: name, Role: gossip.Agent, HTTP: a.endpoint(), ClusterID: a.cluster, Build: version.Clusterd,
			Region: domain.GetRegion().GetName(), Zone: domain.GetZone().GetName(),
		},
		Bind: a.opts.GossipBind, Advertise: a.opts.GossipAdvertise,
		Join: a.opts.Join, Keys: a.opts.GossipKeys,
		Logger: a.log,
	})
	if err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if a.finder == nil {
		a.finder = gossiped{a.gossip}
	}
	return nil
}

// tellCluster says of which cluster this node is, when that is known.
func (a *Agent) tellCluster() {
	for {
		select {
		case id := <-a.joined:
			if err := a.gossip.Update(func(n *gossip.Node) { n.ClusterID = id }); err != nil {
				a.log.Warn().Err(err).Str("cluster_id", id).Msg("cannot tell by gossip of which cluster this agent is")
			}
		case <-a.ctx.Done():
			return
		}
	}
}

// closeGossip leaves; nothing of the agent runs any more.
func (a *Agent) closeGossip() error {
	if a.gossip == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	// Who does not hear it finds out.
	_ = a.gossip.Leave(ctx)
	return a.gossip.Close()
}
