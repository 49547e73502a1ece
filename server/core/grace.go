package core

import (
	"fmt"

	mesos "clusterd/api/mesos/v1"
)

// startGrace begins the time that tasks have whose framework does not checkpoint. Mesos
// declares them lost as soon as the link breaks, for they die with the agent's process
// (MESOS-7911). But a link breaks more often than an agent ends: what the agent reports
// when it comes back was never lost, and what it does not report it accounts for.
func (c *Core) startGrace(ag *agent) {
	mortal := false
	for _, cl := range ag.cells {
		mortal = mortal || !cl.fw.info.GetCheckpoint()
	}
	ag.executors.Scan(func(_ string, e *Executor) bool {
		fw := c.framework(e.FrameworkID)
		mortal = mortal || fw == nil || !fw.info.GetCheckpoint()
		return !mortal
	})
	switch {
	case !mortal:
	case *c.cfg.NonCheckpointingGrace <= 0:
		c.endGrace(ag)
	default:
		c.timers.add(c.now.Add(*c.cfg.NonCheckpointingGrace), timer{kind: graceTimer, id: ag.id, gen: ag.disconnectGen})
	}
}

func (c *Core) graceTimeout(id string, gen uint64) {
	ag := c.agent(id)
	if ag == nil || ag.connected || ag.disconnectGen != gen ||
		c.busy[id] != settled || c.registering[id] != nil {
		return // it is back, or on its way in or out, where tasks are looked at anyway
	}
	c.endGrace(ag)
}

// endGrace gives up the tasks of frameworks that do not checkpoint. A framework that
// knows of partitions hears what is true: that the task cannot be reached. The master
// keeps such a task without its resources, until the agent is back or is given up.
func (c *Core) endGrace(ag *agent) {
	message := fmt.Sprintf("Agent %s disconnected", ag.info.GetHostname())
	for _, cl := range sortedCells(ag) {
		switch {
		case cl.fw.info.GetCheckpoint() || removable(cl.rec.State):
		case cl.fw.partitionAware():
			s := c.status(update{
				task: cl.rec.ID, agent: ag.id, executor: cl.rec.ExecutorID,
				state: mesos.TaskState_TASK_UNREACHABLE, message: message,
				reason: mesos.TaskStatus_REASON_AGENT_DISCONNECTED, unreachable: timeInfo(ag.disconnectedAt),
			})
			c.applyStatus(cl, s, mesos.TaskState_TASK_UNREACHABLE)
			c.sendStatus(cl.fw, s)
		default:
			c.endTask(cl, false, update{
				state: mesos.TaskState_TASK_LOST, message: message,
				reason: mesos.TaskStatus_REASON_AGENT_DISCONNECTED,
			})
		}
	}
	for _, e := range ag.executors.Values() {
		if fw := c.framework(e.FrameworkID); fw == nil || !fw.info.GetCheckpoint() {
			c.removeExecutor(e)
		}
	}
	c.touchAgent(ag)
}
