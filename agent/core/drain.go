package core

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// draining is set while an operator wants the agent empty (Slave::drain in
// src/slave/slave.cpp). It is kept on disk, and ends when nothing is left here; the
// master, which offers the agent to nobody, knows how far it has got.
type draining struct {
	config *mesos.DrainConfig // nil: the agent does not drain
	since  time.Time
}

// drainAgent takes the master's word. The master repeats it whenever the agent
// registers, so that it comes again while tasks are being killed, and after.
func (c *Core) drainAgent(config *mesos.DrainConfig) {
	if c.empty() {
		c.log(Info, "drain_without_effect", "reason", "there is nothing here")
		return
	}
	if !proto.Equal(c.draining.config, config) {
		c.log(Info, "draining", "mark_gone", strconv.FormatBool(config.GetMarkGone()))
		c.draining = draining{config: config, since: c.now}
		c.persist(PutDrain{config})
	}
	c.killForDrain()
}

// cancelDrain takes the master's word that the agent is to go on. What is being killed
// goes on to end, and says no more that draining was the reason; the grace periods stay
// as short as they were.
func (c *Core) cancelDrain() {
	if c.draining.config == nil {
		return
	}
	c.log(Info, "drain_cancelled")
	c.draining = draining{}
	c.persist(PutDrain{})
}

// killForDrain kills every task. One whose executor is away hears of it when its
// executor is back.
func (c *Core) killForDrain() {
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			for t := range e.launched.values() {
				c.killOne(fw, t.t.GetTaskId(), t.t.GetKillPolicy())
			}
			for q := range e.queued.values() {
				c.killOne(fw, q.info.GetTaskId(), q.info.GetKillPolicy())
			}
		}
	}
}

func (c *Core) killOne(fw *framework, id *mesos.TaskID, policy *mesos.KillPolicy) {
	if fw.tasks[id.GetValue()] == nil {
		return // killed with another one of its group
	}
	c.killTask(&clusterdv1.KillTask{FrameworkId: fw.info.GetId(), TaskId: id, KillPolicy: c.drainPolicy(policy)})
}

// drainPolicy shortens a grace period that is longer than the operator allows. Nil
// leaves the task its own.
func (c *Core) drainPolicy(own *mesos.KillPolicy) *mesos.KillPolicy {
	limit := c.draining.config.GetMaxGracePeriod()
	if limit == nil {
		return nil
	}
	if g := own.GetGracePeriod(); g != nil && g.GetNanoseconds() <= limit.GetNanoseconds() {
		return nil
	}
	return &mesos.KillPolicy{GracePeriod: limit}
}

// drainStatus says of a task that was killed why it was. Mesos calls a task gone as
// soon as it is being killed, if the agent is to be marked gone; here it is gone when
// it is.
func (c *Core) drainStatus(fw *framework, st *mesos.TaskStatus) *mesos.TaskStatus {
	s := st.GetState()
	if c.draining.config == nil || s != mesos.TaskState_TASK_KILLING && s != mesos.TaskState_TASK_KILLED {
		return st
	}
	st = proto.CloneOf(st)
	st.Reason = mesos.TaskStatus_REASON_AGENT_DRAINING.Enum()
	if s == mesos.TaskState_TASK_KILLED && c.draining.config.GetMarkGone() &&
		fw.capable(mesos.FrameworkInfo_Capability_PARTITION_AWARE) {
		st.State = mesos.TaskState_TASK_GONE_BY_OPERATOR.Enum()
	}
	return st
}

// empty says that there is nothing here that draining would wait for.
func (c *Core) empty() bool { return c.frameworks.len() == 0 && c.operations.len() == 0 }

// endDrain forgets the draining of an agent on which nothing is left
// (Slave::updateDrainStatus).
func (c *Core) endDrain() {
	if c.draining.config == nil || !c.empty() {
		return
	}
	c.log(Info, "drained")
	c.draining = draining{}
	c.persist(PutDrain{})
}
