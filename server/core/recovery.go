package core

import "strconv"

// After a failover it is not known yet what roles with a quota use on the agents that
// have not come back. Until enough of them have, the allocator keeps from such roles
// what counts towards their quota; Mesos pauses all offers, to everybody
// (src/master/allocator/mesos/hierarchical.cpp, recover).

// startRecovery begins the wait, if there are agents to wait for.
func (c *Core) startRecovery() {
	agents := c.recovered.Len()
	enough := int(float64(agents) * c.cfg.AllocatorAgentRecoveryFactor)
	if enough <= 0 || c.cfg.AllocatorRecoveryTimeout <= 0 {
		return
	}
	c.recovering, c.recoveryRest = true, agents-enough
	c.timers.add(c.now.Add(c.cfg.AllocatorRecoveryTimeout), timer{kind: patienceTimer})
	c.alloc.StartRecovery()
}

// checkRecovery ends the wait when so few agents are missing that those which are back
// make up their share. One that was given up is not waited for either.
func (c *Core) checkRecovery() {
	if c.recovering && c.recovered.Len() <= c.recoveryRest {
		c.finishRecovery("enough agents are back")
	}
}

func (c *Core) finishRecovery(why string) {
	if !c.recovering {
		return
	}
	c.recovering = false
	c.alloc.FinishRecovery()
	c.log(Info, "allocator_recovered", "reason", why, "agents_missing", strconv.Itoa(c.recovered.Len()))
}
