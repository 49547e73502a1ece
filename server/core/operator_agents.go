package core

import (
	"fmt"
	"math"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
)

// will is what operators want of an agent. It is in the registry, and outlives the
// agent's connection and the master; it ends with the agent.
type will struct {
	drain       *mesos.DrainInfo // nil: it does not drain
	deactivated bool
}

func (c *Core) setWill(id string, w will) {
	if w == (will{}) {
		delete(c.wills, id)
		return
	}
	c.wills[id] = w
}

// obey notes what operators want of an agent. Whoever drains is deactivated.
func (ag *agent) obey(w will) {
	ag.drain, ag.deactivated = w.drain, w.deactivated || w.drain != nil
}

// whenSettled does f, at once unless the agent is just being removed or marked.
func (c *Core) whenSettled(id string, f func()) {
	if c.busy[id] != settled {
		c.waiting[id] = append(c.waiting[id], f)
		return
	}
	f()
}

// known says whether an agent is registered, recovered or unreachable: then the
// registry takes what operators want of it.
func (c *Core) known(id string) bool {
	_, recovered := c.recovered.Get(id)
	_, unreachable := c.unreachable.Get(id)
	return c.agent(id) != nil || recovered || unreachable && !c.pruning[id]
}

func (c *Core) deactivateCall(in Operate) {
	if !c.permits(in.Principal, authz.DeactivateAgents, "") {
		c.forbid(in)
		return
	}
	id := in.Call.GetDeactivateAgent().GetAgentId().GetValue()
	c.whenSettled(id, func() {
		if !c.known(id) {
			c.answer(in.Request, 400, "Unknown agent")
			return
		}
		c.propose(id, func() {
			w := c.wills[id]
			w.deactivated = true
			c.setWill(id, w)
			if ag := c.agent(id); ag != nil {
				c.deactivateAgent(ag)
			}
			c.log(Info, "agent_deactivated", "agent_id", id)
			c.answer(in.Request, 200, "")
		}, command(clusterdv1.Command_SET_AGENT_DEACTIVATED, &clusterdv1.SetAgentDeactivated{
			AgentId: &mesos.AgentID{Value: &id}, Deactivated: new(true),
		}))
	})
}

// deactivateAgent stops offers of an agent that operators want nothing new on
// (Mesos: Master::deactivate).
func (c *Core) deactivateAgent(ag *agent) {
	ag.obey(c.wills[ag.id])
	ag.active = false
	c.alloc.DeactivateAgent(ag.id)
	c.rescindAgent(ag)
	c.touchAgent(ag)
	c.agentChanged(ag)
}

// reactivateCall lets offers flow again (Mesos: Master::Http::_reactivateAgent). Of an
// agent that has not come back yet Mesos answers 409, though it does as it was told.
func (c *Core) reactivateCall(in Operate) {
	if !c.permits(in.Principal, authz.ReactivateAgents, "") {
		c.forbid(in)
		return
	}
	id := in.Call.GetReactivateAgent().GetAgentId().GetValue()
	c.whenSettled(id, func() {
		w, ok := c.wills[id]
		switch {
		case !ok || !c.known(id):
			c.answer(in.Request, 400, "Agent is not deactivated")
			return
		case w.drain.GetState() == mesos.DrainState_DRAINING:
			c.answer(in.Request, 400, "Agent is still in the DRAINING state")
			return
		}
		c.setFree(id, func() {
			c.log(Info, "agent_reactivated", "agent_id", id)
			c.answer(in.Request, 200, "")
		})
	})
}

// setFree ends all that operators want of an agent, first in the registry. An agent may
// drain for longer than the master believes, as long as executors without tasks live, and
// would drop what is launched: it is told.
func (c *Core) setFree(id string, then func()) {
	agentID := &mesos.AgentID{Value: &id}
	drain := command(clusterdv1.Command_SET_AGENT_DRAIN, &clusterdv1.SetAgentDrain{AgentId: agentID})
	activate := command(clusterdv1.Command_SET_AGENT_DEACTIVATED, &clusterdv1.SetAgentDeactivated{AgentId: agentID, Deactivated: new(false)})
	activate.WithPrevious = new(true)
	c.propose(id, func() {
		drained := c.wills[id].drain != nil
		c.setWill(id, will{})
		if ag := c.agent(id); ag != nil {
			ag.obey(will{})
			ag.drainStart = time.Time{}
			if drained {
				c.tellCancelDrain(ag)
			}
			if ag.connected {
				ag.active = true
				c.alloc.ActivateAgent(id)
			}
			c.touchAgent(ag)
			c.agentChanged(ag)
		}
		then()
	}, drain, activate)
}

// tellCancelDrain tells an agent before anything else can be launched on it.
func (c *Core) tellCancelDrain(ag *agent) {
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_CancelDrain{CancelDrain: &clusterdv1.CancelDrain{}}})
}

// cancelDrain takes the draining of an agent back, finished or not. What is being killed
// is killed. Once the registry is being told that the agent is gone, it is too late.
func (c *Core) cancelDrain(in CancelDrain) {
	id := in.AgentID
	if !c.permits(in.Principal, authz.ReactivateAgents, "") {
		c.answer(in.Request, 403, "")
		return
	}
	if c.busy[id] == toGone {
		c.answer(in.Request, 409, "Agent is currently being marked gone")
		return
	}
	c.whenSettled(id, func() {
		if _, gone := c.gone.Get(id); gone {
			c.answer(in.Request, 409, "Agent has been marked gone")
			return
		}
		if c.wills[id].drain == nil || !c.known(id) {
			c.answer(in.Request, 400, "Agent is not draining")
			return
		}
		c.cancelling[id]++ // until it is done checkDrains does not mark the agent gone
		c.setFree(id, func() {
			if c.cancelling[id]--; c.cancelling[id] == 0 {
				delete(c.cancelling, id)
			}
			c.log(Info, "agent_drain_cancelled", "agent_id", id)
			c.answer(in.Request, 200, "")
		})
	})
}

// drainCall stops offers of an agent and ends its tasks (Mesos:
// Master::Http::drainAgent). The agent kills them; the master notices when none is
// left.
func (c *Core) drainCall(in Operate) {
	m := in.Call.GetDrainAgent()
	if !c.permits(in.Principal, authz.DrainAgents, "") || m.GetMarkGone() && !c.permits(in.Principal, authz.MarkAgentsGone, "") {
		c.forbid(in)
		return
	}
	id := m.GetAgentId().GetValue()
	if c.busy[id] == toGone {
		c.answer(in.Request, 409, "Agent is currently being marked gone")
		return
	}
	config := &mesos.DrainConfig{MarkGone: new(m.GetMarkGone())}
	if g := m.GetMaxGracePeriod(); g != nil {
		ns := float64(g.GetSeconds())*1e9 + float64(g.GetNanos())
		if ns < 0 || ns > math.MaxInt64 {
			c.answer(in.Request, 400, "'max_grace_period' is out of range")
			return
		}
		config.MaxGracePeriod = &mesos.DurationInfo{Nanoseconds: new(g.GetSeconds()*1e9 + int64(g.GetNanos()))}
	}
	c.whenSettled(id, func() {
		if ag := c.agent(id); ag != nil {
			if scheduled := c.machineOf(ag); scheduled != nil {
				c.answer(in.Request, 400, fmt.Sprintf("Agent %s is part of a maintenance schedule under Machine %s",
					id, machineName(scheduled.GetId())))
				return
			}
			if !ag.can(mesos.AgentInfo_Capability_AGENT_DRAINING) {
				c.answer(in.Request, 400, fmt.Sprintf("Agent %s is not capable of draining", id))
				return
			}
		}
		if !c.known(id) {
			c.answer(in.Request, 400, "Unknown agent")
			return
		}
		c.drain(id, &mesos.DrainInfo{State: mesos.DrainState_DRAINING.Enum(), Config: config}, func() {
			if ag := c.agent(id); ag != nil {
				c.deactivateAgent(ag)
				c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Drain{Drain: &clusterdv1.Drain{Config: config}}})
				ag.drainStart = c.now
			}
			c.log(Info, "agent_draining", "agent_id", id)
			c.answer(in.Request, 200, "")
		})
	})
}

// drain puts the state of an agent's draining into the registry, and then here.
func (c *Core) drain(id string, info *mesos.DrainInfo, then func()) {
	c.propose(id, func() {
		c.setWill(id, will{drain: info, deactivated: true})
		if ag := c.agent(id); ag != nil {
			ag.drainSaving = false
			ag.obey(c.wills[id])
			c.touchAgent(ag)
			c.agentChanged(ag)
			c.noteDrain(ag)
		}
		then()
	}, command(clusterdv1.Command_SET_AGENT_DRAIN, &clusterdv1.SetAgentDrain{AgentId: &mesos.AgentID{Value: &id}, DrainInfo: info}))
}

// noteDrain has a draining agent looked at before the input is done with.
func (c *Core) noteDrain(ag *agent) {
	if ag.drain.GetState() == mesos.DrainState_DRAINING {
		c.drainChecks[ag.id] = true
	}
}

// checkDrains ends the draining of agents that have no tasks and no operations left;
// a task whose framework has not acknowledged its end counts (Mesos:
// Master::checkAndTransitionDrainingAgent).
func (c *Core) checkDrains() {
	if len(c.drainChecks) == 0 {
		return
	}
	ids := sortedKeys(c.drainChecks)
	clear(c.drainChecks)
	for _, id := range ids {
		ag := c.agent(id)
		if ag == nil || !ag.connected || c.busy[id] != settled || ag.drainSaving || c.cancelling[id] > 0 ||
			ag.drain.GetState() != mesos.DrainState_DRAINING ||
			len(ag.cells) > 0 || ag.operations.Len() > 0 {
			continue
		}
		config := ag.drain.GetConfig()
		if config.GetMarkGone() {
			c.markGone(id, func() {})
			continue
		}
		ag.drainSaving = true
		c.drain(id, &mesos.DrainInfo{State: mesos.DrainState_DRAINED.Enum(), Config: config}, func() {
			c.log(Info, "agent_drained", "agent_id", id)
		})
	}
}

// markGoneCall ends an agent for good (Mesos: Master::Http::_markAgentGone).
func (c *Core) markGoneCall(in Operate) {
	if !c.permits(in.Principal, authz.MarkAgentsGone, "") {
		c.forbid(in)
		return
	}
	id := in.Call.GetMarkAgentGone().GetAgentId().GetValue()
	if _, gone := c.gone.Get(id); gone {
		c.answer(in.Request, 200, "")
		return
	}
	if to := map[transition]string{toGone: "already being transitioned to gone", toRemoved: "being transitioned to removed", toUnreachable: "being transitioned to unreachable"}[c.busy[id]]; to != "" {
		c.answer(in.Request, 503, fmt.Sprintf("Agent '%s' is %s", id, to))
		return
	}
	if !c.known(id) {
		c.answer(in.Request, 404, fmt.Sprintf("Agent '%s' not found", id))
		return
	}
	c.markGone(id, func() { c.answer(in.Request, 200, "") })
}

// markGone has the registry know first. Nobody may come back under the id, so that the
// tasks are gone, whatever the agent does.
func (c *Core) markGone(id string, then func()) {
	const why = "Agent has been marked gone"
	c.log(Warn, "agent_marking_gone", "agent_id", id)
	c.busy[id] = toGone
	at := c.now
	c.propose(id, func() {
		_, wasUnreachable := c.unreachable.Get(id)
		_, wasRecovered := c.recovered.Get(id)
		c.gone.Set(id, at)
		c.setWill(id, will{})
		switch ag := c.agent(id); {
		case ag != nil:
			c.count("master/slave_removals")
			c.tellToEnd(ag, why)
			c.bulkOperations(ag, mesos.OperationState_OPERATION_GONE_BY_OPERATOR, why)
			c.loseAgent(ag, false, func(fw *framework) update { return fw.goneUpdate(why) })
		case wasRecovered:
			c.unexpect(id)
			c.announceAgentRemoved(id)
			c.agentLost(id)
		case wasUnreachable:
			c.unreachable.Delete(id)
			c.loseUnreachable(id, why)
		}
		c.settle(id)
		then()
	}, command(clusterdv1.Command_MARK_AGENT_GONE, &clusterdv1.MarkAgentGone{
		AgentId: &mesos.AgentID{Value: &id}, GoneTime: timeInfo(at),
	}))
}

// goneUpdate is what a framework hears of a task whose agent is marked gone.
func (fw *framework) goneUpdate(why string) update {
	u := update{state: mesos.TaskState_TASK_LOST, message: why, reason: mesos.TaskStatus_REASON_AGENT_REMOVED}
	if fw.partitionAware() {
		u.state, u.reason = mesos.TaskState_TASK_GONE_BY_OPERATOR, mesos.TaskStatus_REASON_AGENT_REMOVED_BY_OPERATOR
	}
	return u
}

// loseUnreachable ends the tasks of an unreachable agent that will not come back.
func (c *Core) loseUnreachable(id, why string) {
	refs := c.unreachableTasks[id]
	delete(c.unreachableTasks, id)
	for _, ref := range refs {
		fw := c.framework(ref.framework)
		if fw == nil {
			continue
		}
		rec, ok := fw.unreachable.Get(ref.task)
		if !ok || rec.AgentID != id {
			continue
		}
		u := fw.goneUpdate(why)
		u.task, u.agent, u.executor = rec.ID, rec.AgentID, rec.ExecutorID
		s := c.status(u)
		ended := rec.clone()
		ended.State = u.state
		ended.Statuses = rec.withStatus(compactStatus(s))
		c.dropUnreachable(fw, rec.ID)
		c.addCompleted(fw, ended)
		c.announceTask(TaskUpdated, fw, ended, s)
		c.countTask(fw, s)
		c.sendStatus(fw, s)
	}
}
