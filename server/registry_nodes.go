package server

import (
	"cmp"
	"slices"
	"time"

	"clusterd/internal/registryapi"
	"clusterd/registry"
	"clusterd/registry/gossip"
)

// autopilotOf is how the leader finds the members; empty on others.
func autopilotOf(health []registry.MemberHealth) []registryapi.Autopilot {
	var out []registryapi.Autopilot
	for _, h := range health {
		out = append(out, registryapi.Autopilot{
			ID: h.ID, Healthy: h.Healthy, Since: unixSeconds(h.Since), LastContactMS: h.LastContact.Milliseconds(), LastIndex: h.LastIndex,
		})
	}
	return out
}

// gossipStatus is what gossip knows; nil without it.
func (g *group) gossipStatus() *registryapi.Gossip {
	if g == nil {
		return nil
	}
	stats := g.gossip.Stats()
	out := &registryapi.Gossip{
		Address: g.gossip.Addr(), Masters: stats.Masters, Agents: stats.Agents, DeadMasters: stats.DeadMasters,
		Refused: stats.Refused, Duplicates: stats.Duplicates, Score: stats.Health,
	}
	out.Nodes, out.LeftOut = nodesOf(g.gossip.All())
	return out
}

// nodesOf lists masters first, then agents that are dead, then the rest, by name.
func nodesOf(all []gossip.Seen) (nodes []registryapi.Node, leftOut int) {
	rank := func(n gossip.Seen) int {
		switch {
		case n.Role == gossip.Master:
			return 0
		case !n.Alive:
			return 1
		}
		return 2
	}
	slices.SortFunc(all, func(a, b gossip.Seen) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
	nodes = make([]registryapi.Node, 0, min(len(all), registryapi.MaxNodes))
	for _, n := range all[:min(len(all), registryapi.MaxNodes)] {
		role := "agent"
		if n.Role == gossip.Master {
			role = "master"
		}
		nodes = append(nodes, registryapi.Node{
			Name: n.Name, Role: role, Address: n.Addr, HTTP: n.HTTP, Alive: n.Alive, Since: unixSeconds(n.Since),
			Build: n.Build, Region: n.Region, Zone: n.Zone,
		})
	}
	return nodes, len(all) - len(nodes)
}

// unixSeconds is zero for the zero time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}
