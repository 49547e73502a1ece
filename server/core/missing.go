package core

import (
	"fmt"
	"strings"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// maxNamed is how many missing agents are named when this master stops for them.
const maxNamed = 20

// recoveryTimeout gives up on the agents that have not come back since this master
// took over, unless there are so many of them that something else must be wrong: then
// it ends, and a person should look (Mesos: Master::recoveredSlavesTimeout).
func (c *Core) recoveryTimeout() {
	var missing []string
	c.recovered.Scan(func(id string, rec RecoveredAgent) bool {
		// One with a time of its own was expected later than the others.
		if rec.late == 0 && c.busy[id] == settled && c.registering[id] == nil {
			missing = append(missing, id)
		}
		return true
	})
	share := float64(len(missing)) / float64(max(1, c.inherited))
	if limit := c.cfg.RecoveryAgentRemovalLimit; limit != nil && share > *limit {
		names := strings.Join(missing[:min(len(missing), maxNamed)], ", ")
		if more := len(missing) - maxNamed; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		c.stop(fmt.Sprintf("Post-recovery agent removal limit exceeded! After %s there were %d (%.4g%%) agents recovered "+
			"from the registry that did not reregister: %s. The configured removal limit is %.4g%%. "+
			"Please investigate or increase --recovery_agent_removal_limit to proceed further",
			c.cfg.AgentReregisterTimeout, len(missing), share*100, names, *limit*100))
		return
	}
	for _, id := range missing {
		c.scheduleMissing(id)
	}
}

// scheduleMissing has a recovered agent marked unreachable as soon as the rate limit
// permits it.
func (c *Core) scheduleMissing(id string) {
	_, ok := c.recovered.Get(id)
	if _, scheduled := c.missing[id]; scheduled || !ok || c.busy[id] != settled || c.registering[id] != nil {
		return
	}
	c.missingGen++
	c.missing[id] = c.missingGen
	c.count("master/slave_unreachable_scheduled")
	c.await(missingLimiter, ticket{id: id, gen: c.missingGen})
}

// cancelMissing forgets that a recovered agent was to be marked unreachable.
func (c *Core) cancelMissing(id string) {
	if _, ok := c.missing[id]; ok {
		delete(c.missing, id)
		c.count("master/slave_unreachable_canceled")
	}
}

// missingPermitted says whether the limit was made use of.
func (c *Core) missingPermitted(t ticket) bool {
	if c.missing[t.id] != t.gen || c.busy[t.id] != settled {
		return false
	}
	if c.registering[t.id] != nil {
		// It is just coming back. If that fails it is expected anew, for a while.
		c.cancelMissing(t.id)
		return false
	}
	delete(c.missing, t.id)
	c.markMissing(t.id)
	return true
}

// expectLate waits for an agent from now on: other than those of the registry, it was
// heard of after this master took over.
func (c *Core) expectLate(id string, rec RecoveredAgent) {
	c.missingGen++
	rec.late = c.missingGen
	c.expect(id, rec)
	c.timers.add(c.now.Add(c.cfg.AgentReregisterTimeout), timer{kind: recoveredTimer, id: id, gen: rec.late})
}

func (c *Core) recoveredTimeout(id string, gen uint64) {
	if rec, ok := c.recovered.Get(id); ok && rec.late == gen {
		c.scheduleMissing(id)
	}
}

// markMissing has the registry know first.
func (c *Core) markMissing(id string) {
	c.count("master/slave_unreachable_completed")
	c.log(Warn, "recovered_agent_unreachable", "agent_id", id)
	c.busy[id] = toUnreachable
	at := c.now
	c.propose(id, func() {
		c.count("master/slave_removals")
		c.count("master/slave_removals/reason_unhealthy")
		c.count("master/recovery_slave_removals")
		c.unexpect(id)
		c.unreachable.Set(id, at)
		c.announceAgentRemoved(id)
		c.agentLost(id)
		c.settle(id)
	}, command(clusterdv1.Command_MARK_AGENT_UNREACHABLE, &clusterdv1.MarkAgentUnreachable{
		AgentId:         &mesos.AgentID{Value: &id},
		UnreachableTime: timeInfo(at),
	}))
}
