package core

import (
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// taskUpdate takes a status from an agent: it goes to the framework, and into the
// books (Mesos: Master::statusUpdate). The agent sends it again until the
// framework has acknowledged it, so nothing is lost when the framework is away.
func (c *Core) taskUpdate(ag *agent, m *clusterdv1.UpdateTask) {
	c.count("master/messages_status_update")
	s := m.GetStatus()
	reason := ""
	switch state := s.GetState(); {
	case s == nil:
		reason = "no status"
	case len(s.Uuid) != 16:
		reason = "invalid uuid"
	case state == mesos.TaskState_TASK_UNKNOWN || state == mesos.TaskState_TASK_UNREACHABLE:
		reason = "a state that agents do not send"
	case m.LatestState != nil && (m.GetLatestState() == mesos.TaskState_TASK_UNKNOWN ||
		m.GetLatestState() == mesos.TaskState_TASK_UNREACHABLE):
		reason = "a latest state that agents do not send"
	case s.AgentId != nil && s.AgentId.GetValue() != ag.id:
		reason = "status of another agent"
	}
	if reason != "" {
		c.count("master/invalid_status_updates")
		c.drop("update_task", reason, "agent_id", ag.id)
		return
	}
	fw := c.framework(m.GetFrameworkId().GetValue())
	if fw == nil {
		c.count("master/invalid_status_updates")
		c.log(Warn, "update_of_unknown_framework", "agent_id", ag.id, "framework_id", m.GetFrameworkId().GetValue())
		return
	}
	cl := fw.cells[s.GetTaskId().GetValue()]
	if cl != nil && cl.ag != ag {
		// An old task of an id that lives elsewhere by now. Its framework must not
		// take this for the end of the new one; the agent must not wait for ever.
		c.count("master/invalid_status_updates")
		c.drop("update_task", "task of another agent", "agent_id", ag.id, "task_id", s.GetTaskId().GetValue())
		c.acknowledgeTask(ag, fw.id, s.GetTaskId().GetValue(), s.Uuid)
		return
	}
	valid := fw.connected()
	if valid {
		c.sendStatus(fw, s)
	}
	if cl == nil {
		// The master gave it up, or the framework has acknowledged its end and the
		// agent does not know yet.
		c.count("master/invalid_status_updates")
		c.log(Debug, "update_of_unknown_task", "agent_id", ag.id, "framework_id", fw.id, "task_id", s.GetTaskId().GetValue())
		return
	}
	if valid {
		rec := cl.rec.clone()
		rec.StatusUpdateState, rec.StatusUpdateUUID = s.GetState(), string(s.Uuid)
		c.setTask(cl, rec)
		c.count("master/valid_status_updates")
	} else {
		c.count("master/invalid_status_updates")
	}
	latest := s.GetState()
	if m.LatestState != nil {
		latest = m.GetLatestState()
	}
	c.applyStatus(cl, s, latest)
}

// acknowledge takes a framework's acknowledgement of a status (Mesos:
// Master::acknowledge). The task is forgotten when the status was its last.
func (c *Core) acknowledge(fw *framework, call *scheduler.Call_Acknowledge) {
	c.count("master/messages_status_update_acknowledgement")
	ag := c.agent(call.GetAgentId().GetValue())
	reason := ""
	var cl *cell
	switch {
	case ag == nil:
		reason = "agent is not registered"
	case !ag.connected:
		reason = "agent is disconnected"
	default:
		cl = fw.cells[call.GetTaskId().GetValue()]
		if cl != nil && cl.ag != ag {
			cl = nil
		}
		if cl != nil && cl.rec.StatusUpdateUUID == "" {
			reason = "the update was not sent by this master"
		}
	}
	if reason != "" {
		c.count("master/invalid_status_update_acknowledgements")
		c.log(Warn, "acknowledgement_invalid", "framework_id", fw.id, "task_id", call.GetTaskId().GetValue(),
			"agent_id", call.GetAgentId().GetValue(), "reason", reason)
		return
	}
	if cl != nil && Terminal(cl.rec.StatusUpdateState) && cl.rec.StatusUpdateUUID == string(call.Uuid) {
		c.forgetTask(cl, false)
	}
	c.acknowledgeTask(ag, fw.id, call.GetTaskId().GetValue(), call.Uuid)
	c.count("master/valid_status_update_acknowledgements")
}

func (c *Core) acknowledgeTask(ag *agent, frameworkID, taskID string, uuid []byte) {
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_AcknowledgeTask{
		AcknowledgeTask: &clusterdv1.AcknowledgeTask{
			FrameworkId: &mesos.FrameworkID{Value: &frameworkID},
			TaskId:      &mesos.TaskID{Value: &taskID},
			Uuid:        uuid,
		},
	}})
}
