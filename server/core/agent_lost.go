package core

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// linkClosed handles the end of an agent's connection (Mesos: Master::exited).
func (c *Core) linkClosed(in LinkClosed) {
	l := c.links[in.Link]
	if l == nil {
		return // refused, or replaced by a newer one
	}
	delete(c.links, in.Link)
	if l.ag == nil || l.ag.link != in.Link {
		return
	}
	c.log(Info, "agent_disconnected", "agent_id", l.ag.id, "hostname", l.ag.info.GetHostname(), "reason", in.Reason)
	c.disconnect(l.ag)
}

// disconnect takes an agent's offers back and waits for it. The tasks of
// frameworks that do not checkpoint are lost at once: their executors die with
// the agent's process.
func (c *Core) disconnect(ag *agent) {
	ag.link, ag.connected, ag.active = 0, false, false
	c.alloc.DeactivateAgent(ag.id)
	c.rescindAgent(ag)
	cells := slices.Clone(ag.cells)
	slices.SortFunc(cells, compareCells)
	for _, cl := range cells {
		if cl.fw.info.GetCheckpoint() {
			continue
		}
		c.endTask(cl, false, update{
			state:   mesos.TaskState_TASK_LOST,
			message: fmt.Sprintf("Agent %s disconnected", ag.info.GetHostname()),
			reason:  mesos.TaskStatus_REASON_AGENT_DISCONNECTED,
		})
	}
	for _, e := range ag.executors.Values() {
		if fw := c.framework(e.FrameworkID); fw == nil || !fw.info.GetCheckpoint() {
			c.removeExecutor(e)
		}
	}
	ag.disconnectGen++
	c.timers.add(c.now.Add(c.cfg.AgentReregisterTimeout), timer{kind: reregisterTimer, id: ag.id, gen: ag.disconnectGen})
	c.touchAgent(ag)
}

// endTask ends a task that an agent will say nothing about any more, and tells
// its framework. A task that has ended already keeps its state.
func (c *Core) endTask(cl *cell, unreachable bool, u update) {
	u.task, u.agent, u.executor = cl.rec.ID, cl.rec.AgentID, cl.rec.ExecutorID
	s := c.status(u)
	c.applyStatus(cl, s, u.state)
	fw := cl.fw
	c.forgetTask(cl, unreachable)
	c.sendStatus(fw, s)
}

// ping asks an agent for a sign of life, and counts how often there was none. It
// goes on while the agent is disconnected.
func (c *Core) ping(id string, gen uint64) {
	ag := c.agent(id)
	if ag == nil || ag.pingGen != gen {
		return
	}
	if ag.pongDue {
		ag.missed++
		if ag.missed >= c.cfg.MaxAgentPingTimeouts {
			c.scheduleUnreachable(ag, "health check timed out")
		}
	}
	// scheduleUnreachable may have had its way at once; the agent is still there
	// until the registry knows.
	ag.pongDue = true
	connected := ag.connected
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Ping{Ping: &clusterdv1.Ping{Connected: &connected}}})
	c.timers.add(c.now.Add(c.cfg.AgentPingTimeout), timer{kind: pingTimer, id: id, gen: gen})
}

func (c *Core) pong(ag *agent) {
	ag.pongDue, ag.missed = false, 0
	if ag.removing && c.busy[ag.id] == settled {
		ag.removing = false
		ag.removeGen++
		c.count("master/slave_unreachable_canceled")
	}
}

func (c *Core) reregisterTimeout(id string, gen uint64) {
	ag := c.agent(id)
	if ag == nil || ag.connected || ag.disconnectGen != gen {
		return
	}
	c.scheduleUnreachable(ag, fmt.Sprintf("agent did not reregister within %s after disconnecting", c.cfg.AgentReregisterTimeout))
}

// scheduleUnreachable has an agent marked unreachable as soon as the rate limit
// permits it.
func (c *Core) scheduleUnreachable(ag *agent, reason string) {
	if ag.removing || c.busy[ag.id] != settled {
		return
	}
	ag.removing, ag.removeReason = true, reason
	ag.removeGen++
	c.count("master/slave_unreachable_scheduled")
	at := c.limiter.take(c.now)
	if at.After(c.now) {
		c.timers.add(at, timer{kind: unreachableTimer, id: ag.id, gen: ag.removeGen})
		return
	}
	c.markUnreachable(ag)
}

func (c *Core) unreachablePermitted(id string, gen uint64) {
	if ag := c.agent(id); ag != nil && ag.removing && ag.removeGen == gen && c.busy[id] == settled {
		c.markUnreachable(ag)
	}
}

// markUnreachable has the registry know first (Mesos: Master::markUnreachable).
func (c *Core) markUnreachable(ag *agent) {
	if c.registering[ag.id] != nil {
		ag.removing = false
		return // it is just coming back
	}
	c.count("master/slave_unreachable_completed")
	c.log(Warn, "agent_marking_unreachable", "agent_id", ag.id, "hostname", ag.info.GetHostname(), "reason", ag.removeReason)
	c.busy[ag.id] = toUnreachable
	at := c.now
	c.propose(ag.id, func() {
		c.count("master/slave_removals")
		c.count("master/slave_removals/reason_unhealthy")
		c.bulkOperations(ag, mesos.OperationState_OPERATION_UNREACHABLE, "Agent was marked unreachable")
		c.loseAgent(ag, true, func(fw *framework) update {
			return update{
				state:       fw.lost(mesos.TaskState_TASK_UNREACHABLE),
				message:     ag.removeReason,
				reason:      mesos.TaskStatus_REASON_AGENT_REMOVED,
				unreachable: timeInfo(at),
			}
		})
		c.unreachable.Set(ag.id, at)
		c.settle(ag.id)
	}, command(clusterdv1.Command_MARK_AGENT_UNREACHABLE, &clusterdv1.MarkAgentUnreachable{
		AgentId:         &mesos.AgentID{Value: &ag.id},
		UnreachableTime: timeInfo(at),
	}))
}

// removeAgent forgets an agent for good (Mesos: Master::removeSlave).
func (c *Core) removeAgent(ag *agent, cause, counter string) {
	if c.busy[ag.id] != settled {
		return
	}
	c.log(Warn, "agent_removing", "agent_id", ag.id, "hostname", ag.info.GetHostname(), "reason", cause)
	c.busy[ag.id] = toRemoved
	c.propose(ag.id, func() {
		c.count("master/slave_removals")
		if counter != "" {
			c.count(counter)
		}
		c.loseAgent(ag, false, func(*framework) update {
			return update{
				state:   mesos.TaskState_TASK_LOST,
				message: fmt.Sprintf("Agent %s removed: %s", ag.info.GetHostname(), cause),
				reason:  mesos.TaskStatus_REASON_AGENT_REMOVED,
			}
		})
		c.setWill(ag.id, will{})
		c.settle(ag.id)
	}, command(clusterdv1.Command_REMOVE_AGENT, &clusterdv1.RemoveAgent{AgentId: &mesos.AgentID{Value: &ag.id}}))
}

// transition is what is being made of an agent in the registry.
type transition int

const (
	settled transition = iota
	toUnreachable
	toRemoved
	toGone
)

// settle ends what kept an agent from registering, and operators from having their
// will with it.
func (c *Core) settle(id string) {
	delete(c.busy, id)
	c.publish.departures = true
	waiting := c.waiting[id]
	delete(c.waiting, id)
	for _, f := range waiting {
		c.whenSettled(id, f)
	}
	reg := c.parked[id]
	delete(c.parked, id)
	if reg != nil && c.alive(reg) {
		c.reregister(reg)
	}
}

// loseAgent takes an agent and all that is on it out of the books.
func (c *Core) loseAgent(ag *agent, unreachable bool, how func(*framework) update) {
	c.alloc.RemoveAgent(ag.id)
	cells := slices.Clone(ag.cells)
	slices.SortFunc(cells, compareCells)
	for _, cl := range cells {
		c.endTask(cl, unreachable, how(cl.fw))
	}
	for _, e := range ag.executors.Values() {
		c.removeExecutor(e)
	}
	c.rescindAgent(ag)
	for _, op := range ag.operations.Values() {
		c.removeOperation(op)
	}
	if ag.link != 0 {
		delete(c.links, ag.link)
		c.emit(CloseLink{Link: ag.link, Reason: "the agent has been removed"})
		ag.link = 0
	}
	c.agents.Delete(ag.id)
	if c.addresses[agentPID(ag.ip, ag.info.GetPort())] == ag.id {
		delete(c.addresses, agentPID(ag.ip, ag.info.GetPort()))
	}
	c.touchAgent(ag)
	c.agentLost(ag.id)
}

// agentLost tells every framework.
func (c *Core) agentLost(id string) {
	c.frameworks.Scan(func(_ string, fw *framework) bool {
		c.sendEvent(fw, failureEvent(id, "", nil))
		return true
	})
}

func failureEvent(agentID, executorID string, status *int32) *scheduler.Event {
	f := &scheduler.Event_Failure{AgentId: &mesos.AgentID{Value: &agentID}, Status: status}
	if executorID != "" {
		f.ExecutorId = &mesos.ExecutorID{Value: &executorID}
	}
	return &scheduler.Event{Type: scheduler.Event_FAILURE.Enum(), Failure: f}
}

// bulkOperations tells frameworks of the operations on an agent that is lost.
func (c *Core) bulkOperations(ag *agent, state mesos.OperationState, message string) {
	for _, op := range ag.operations.Values() {
		if op.fw == nil || op.Info.Id == nil {
			continue
		}
		c.countOperation(op.Info, state)
		c.sendOperation(op.fw, &mesos.OperationStatus{
			OperationId: op.Info.Id,
			State:       state.Enum(),
			Message:     &message,
			AgentId:     &mesos.AgentID{Value: &ag.id},
		})
	}
}

// recoveryTimeout marks the agents unreachable that have not come back since this
// master took over (Mesos: Master::recoveredSlavesTimeout).
func (c *Core) recoveryTimeout() {
	for _, id := range c.recovered.Keys() {
		c.scheduleRecovered(id)
	}
}

func (c *Core) scheduleRecovered(id string) {
	if _, ok := c.recovered.Get(id); !ok || c.busy[id] != settled {
		return
	}
	at := c.limiter.take(c.now)
	if at.After(c.now) {
		c.timers.add(at, timer{kind: recoveredGoneTimer, id: id})
		return
	}
	c.recoveredUnreachable(id)
}

func (c *Core) recoveredUnreachable(id string) {
	if _, ok := c.recovered.Get(id); !ok || c.busy[id] != settled || c.registering[id] != nil {
		return
	}
	c.log(Warn, "recovered_agent_unreachable", "agent_id", id)
	c.busy[id] = toUnreachable
	at := c.now
	c.propose(id, func() {
		c.count("master/slave_removals")
		c.count("master/slave_removals/reason_unhealthy")
		c.count("master/recovery_slave_removals")
		c.unexpect(id)
		c.unreachable.Set(id, at)
		c.agentLost(id)
		c.settle(id)
	}, command(clusterdv1.Command_MARK_AGENT_UNREACHABLE, &clusterdv1.MarkAgentUnreachable{
		AgentId:         &mesos.AgentID{Value: &id},
		UnreachableTime: timeInfo(at),
	}))
}

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
				delete(c.unreachableTasks, id.GetValue())
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
	over := 0
	if c.cfg.RegistryMaxAgentCount > 0 {
		over = max(0, len(ids)-c.cfg.RegistryMaxAgentCount)
	}
	n := 0
	for n < len(ids) && (n < over || c.cfg.RegistryMaxAgentAge > 0 && c.now.Sub(m[ids[n]]) >= c.cfg.RegistryMaxAgentAge) {
		n++
	}
	return ids[:n]
}
