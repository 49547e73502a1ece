package core

import (
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// reconcile answers a RECONCILE (Mesos: Master::reconcile): with the state of the
// tasks asked for, or of all that the framework has.
func (c *Core) reconcile(fw *framework, tasks []*scheduler.Call_Reconcile_Task) {
	c.count("master/messages_reconcile_tasks")
	if len(tasks) == 0 {
		fw.tasks.Scan(func(_ string, rec *Task) bool {
			c.sendStatus(fw, c.latestStatus(rec))
			return true
		})
		return
	}
	for _, t := range tasks {
		if s := c.reconcileTask(fw, t); s != nil {
			c.sendStatus(fw, s)
		}
	}
}

// latestStatus repeats what the framework was told last.
func (c *Core) latestStatus(rec *Task) *mesos.TaskStatus {
	state := rec.State
	if rec.StatusUpdateUUID != "" {
		state = rec.StatusUpdateState
	}
	u := update{
		task: rec.ID, agent: rec.AgentID, executor: rec.ExecutorID, state: state,
		message: "Reconciliation: Latest task state",
		reason:  mesos.TaskStatus_REASON_RECONCILIATION,
		of:      rec,
	}
	if rec.State == mesos.TaskState_TASK_UNREACHABLE {
		// What the agent said last is not the news: see endGrace.
		u.state, u.unreachable = rec.State, rec.Latest().Full.GetUnreachableTime()
	}
	return c.status(u)
}

// reconcileTask answers for one task; nil if the answer must wait until agents
// have come back.
func (c *Core) reconcileTask(fw *framework, t *scheduler.Call_Reconcile_Task) *mesos.TaskStatus {
	id, agentID := t.GetTaskId().GetValue(), t.GetAgentId().GetValue()
	if cl := fw.cells[id]; cl != nil {
		return c.latestStatus(cl.rec)
	}
	u := update{task: id, agent: agentID, reason: mesos.TaskStatus_REASON_RECONCILIATION}
	_, recovered := c.recovered.Get(agentID)
	unreachableSince, unreachable := c.unreachable.Get(agentID)
	_, gone := c.gone.Get(agentID)
	named := t.AgentId != nil
	switch {
	case named && recovered, !named && c.recovered.Len() > 0:
		c.log(Info, "reconciliation_waits", "framework_id", fw.id, "task_id", id, "agent_id", agentID)
		return nil
	case named && c.agent(agentID) != nil:
		u.state, u.message = fw.lost(mesos.TaskState_TASK_GONE), "Reconciliation: Task is unknown to the agent"
	case named && unreachable:
		u.state, u.message = fw.lost(mesos.TaskState_TASK_UNREACHABLE), "Reconciliation: Task is unreachable"
		u.unreachable = timeInfo(unreachableSince)
	case named && gone:
		u.state, u.message = fw.lost(mesos.TaskState_TASK_GONE_BY_OPERATOR), "Reconciliation: Task is gone"
	default:
		u.state, u.message = fw.lost(mesos.TaskState_TASK_UNKNOWN), "Reconciliation: Task is unknown"
	}
	return c.status(u)
}

// reconcileOperations answers a RECONCILE_OPERATIONS by events (Mesos:
// Master::reconcileOperations).
func (c *Core) reconcileOperations(fw *framework, ops []*scheduler.Call_ReconcileOperations_Operation) {
	c.count("master/messages_reconcile_operations")
	if len(ops) == 0 {
		for _, id := range sortedKeys(fw.operationIDs) {
			if op, ok := c.operations.Get(fw.operationIDs[id]); ok {
				c.sendOperation(fw, latestOperation(op))
			}
		}
		return
	}
	for _, o := range ops {
		if op, ok := c.operations.Get(fw.operationIDs[o.GetOperationId().GetValue()]); ok {
			c.sendOperation(fw, latestOperation(op))
			continue
		}
		state, message := c.unknownOperation(o)
		c.sendOperation(fw, &mesos.OperationStatus{
			OperationId:        o.OperationId,
			State:              state.Enum(),
			Message:            &message,
			AgentId:            o.AgentId,
			ResourceProviderId: o.ResourceProviderId,
		})
	}
}

// latestOperation is the newest status of an operation. It wants no
// acknowledgement.
func latestOperation(op *operation) *mesos.OperationStatus {
	latest := op.Latest
	if n := len(op.Statuses); n > 0 {
		latest = op.Statuses[n-1]
	}
	s := proto.CloneOf(latest)
	s.Uuid = nil
	return s
}

func (c *Core) unknownOperation(o *scheduler.Call_ReconcileOperations_Operation) (mesos.OperationState, string) {
	id := o.GetAgentId().GetValue()
	_, recovered := c.recovered.Get(id)
	_, unreachable := c.unreachable.Get(id)
	_, gone := c.gone.Get(id)
	switch {
	case o.AgentId == nil:
		return mesos.OperationState_OPERATION_UNKNOWN, "Reconciliation: Operation is unknown and no 'agent_id' was provided"
	case recovered:
		return mesos.OperationState_OPERATION_RECOVERING, "Reconciliation: Agent is recovered but has not re-registered"
	case c.agent(id) != nil:
		return mesos.OperationState_OPERATION_UNKNOWN, "Reconciliation: Operation is unknown"
	case unreachable:
		return mesos.OperationState_OPERATION_UNREACHABLE, "Reconciliation: Agent is unreachable"
	case gone:
		return mesos.OperationState_OPERATION_GONE_BY_OPERATOR, "Reconciliation: Agent marked gone by operator"
	}
	return mesos.OperationState_OPERATION_UNKNOWN, "Reconciliation: Both operation and agent are unknown"
}
