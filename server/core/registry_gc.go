package core

import (
	"cmp"
	"slices"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// collectRegistry prunes what the registry has held for long enough (Mesos:
// Master::doRegistryGc): unreachable and gone agents, and the ids of frameworks
// that ended.
func (c *Core) collectRegistry() {
	c.timers.add(c.now.Add(c.cfg.RegistryGCInterval), timer{kind: gcTimer})
	prune := &clusterdv1.PruneAgents{}
	old := func(m map[string]time.Time) []string { return c.expired(m) }
	for _, id := range old(mapOf(c.unreachable.Scan)) {
		// Nor one that an operator just decides about.
		if c.busy[id] == settled && c.registering[id] == nil && len(c.queued[id]) == 0 && !c.pruning[id] {
			c.pruning[id] = true
			prune.Unreachable = append(prune.Unreachable, &mesos.AgentID{Value: new(id)})
		}
	}
	for _, id := range old(mapOf(c.gone.Scan)) {
		prune.Gone = append(prune.Gone, &mesos.AgentID{Value: new(id)})
	}
	for _, id := range old(c.removed) {
		prune.RemovedFrameworks = append(prune.RemovedFrameworks, &mesos.FrameworkID{Value: new(id)})
	}
	if len(prune.Unreachable)+len(prune.Gone)+len(prune.RemovedFrameworks) == 0 {
		return
	}
	c.propose("registry gc", func() {
		for _, id := range prune.Unreachable {
			delete(c.pruning, id.GetValue())
			// An agent that came back meanwhile is not in the list any more.
			if c.registering[id.GetValue()] == nil {
				c.unreachable.Delete(id.GetValue())
				c.forgetUnreachable(id.GetValue(), nil)
				c.setWill(id.GetValue(), will{})
			}
		}
		for _, id := range prune.Gone {
			c.gone.Delete(id.GetValue())
		}
		for _, id := range prune.RemovedFrameworks {
			delete(c.removed, id.GetValue())
		}
		c.publish.departures = true
	}, command(clusterdv1.Command_PRUNE_AGENTS, prune))
}

func mapOf(scan func(func(string, time.Time) bool)) map[string]time.Time {
	m := map[string]time.Time{}
	scan(func(id string, t time.Time) bool {
		m[id] = t
		return true
	})
	return m
}

// expired lists the ids that are too old, or the oldest of too many.
func (c *Core) expired(m map[string]time.Time) []string {
	ids := sortedKeys(m)
	slices.SortStableFunc(ids, func(a, b string) int { return cmp.Compare(m[a].UnixNano(), m[b].UnixNano()) })
	over := len(ids) - c.cfg.RegistryMaxAgentCount
	n := 0
	for n < len(ids) && (n < over || c.now.Sub(m[ids[n]]) > c.cfg.RegistryMaxAgentAge) {
		n++
	}
	return ids[:n]
}
