package core

import (
	"fmt"

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

// disconnect takes an agent's offers back and waits for it. Its tasks may live, whoever
// started them: only the link is known to be broken.
func (c *Core) disconnect(ag *agent) {
	ag.link, ag.connected, ag.active = 0, false, false
	c.alloc.DeactivateAgent(ag.id)
	c.rescindAgent(ag)
	ag.disconnectedAt = c.now
	ag.disconnectGen++
	c.timers.add(c.now.Add(c.cfg.AgentReregisterTimeout), timer{kind: reregisterTimer, id: ag.id, gen: ag.disconnectGen})
	c.startGrace(ag)
	c.touchAgent(ag)
	c.agentChanged(ag)
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
	c.cancelUnreachable(ag)
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
	c.await(lostLimiter, ticket{id: ag.id, gen: ag.removeGen})
}

// cancelUnreachable lets an agent live that was to be marked unreachable.
func (c *Core) cancelUnreachable(ag *agent) {
	if !ag.removing {
		return
	}
	ag.removing = false
	ag.removeGen++
	c.count("master/slave_unreachable_canceled")
}

// unreachablePermitted says whether the limit was made use of.
func (c *Core) unreachablePermitted(t ticket) bool {
	ag := c.agent(t.id)
	if ag == nil || !ag.removing || ag.removeGen != t.gen || c.busy[t.id] != settled {
		return false
	}
	if c.registering[ag.id] != nil {
		c.cancelUnreachable(ag) // it is just coming back
		return false
	}
	c.markUnreachable(ag)
	return true
}

// markUnreachable has the registry know first (Mesos: Master::markUnreachable).
func (c *Core) markUnreachable(ag *agent) {
	ag.removing = false
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
	c.cancelUnreachable(ag)
	c.alloc.RemoveAgent(ag.id)
	for _, cl := range sortedCells(ag) {
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
	c.announceAgentRemoved(ag.id)
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
