package core

import (
	"fmt"
	"slices"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// adopt makes what an agent reports the master's own belief: what the agent has
// and the master does not know is added, what the agent does not have holds
// nothing any more. It returns the tasks that the agent must account for.
//
// An agent reports everything whenever it registers, so that the master's
// books are right again after any failure of either. Mesos leaves its books as
// they are when an agent that it knows comes back, and so can lose track of tasks
// that it gave up too early (Master::reconcileKnownSlave).
func (c *Core) adopt(ag *agent, reg *registration, from origin) []*clusterdv1.ReconcileTask {
	for _, known := range reg.frameworks {
		id := known.info.GetId().GetValue()
		if _, removed := c.removed[id]; !removed && c.framework(id) == nil {
			fw := c.recoverFramework(known.info, false)
			c.setDeadline(fw, c.takeoverDeadline(RecoveredFramework{Info: known.info}))
		}
	}
	var away []taskRef
	if from == unreachable || from == stranger {
		away = c.forgetUnreachable(ag.id, reg.reported)
	}
	for i := range reg.tasks {
		c.adoptTask(ag, reg.tasks[i].Task, from)
	}
	var reconcile []*clusterdv1.ReconcileTask
	for _, cl := range sortedCells(ag) {
		if reg.reported[taskRef{cl.fw.id, cl.rec.ID}] {
			continue
		}
		if cl.rec.Terminal() {
			c.endForgotten(cl)
			continue
		}
		// Not there: the launch was lost with the link, or the agent is done with
		// the task. It holds nothing; the agent will say how it ended.
		cl.held = false
		reconcile = append(reconcile, accountFor(cl.fw, cl.rec.ID))
	}
	for _, ref := range away {
		// Its framework was told that it may live; it hears now that it does not.
		if !reg.reported[ref] {
			reconcile = append(reconcile, accountFor(c.framework(ref.framework), ref.task))
		}
	}
	c.adoptExecutors(ag, reg.msg)
	c.adoptOperations(ag, reg.msg)
	ag.used = resources.Resources{}
	used := ag.usedBy()
	for _, id := range sortedKeys(used) {
		ag.used = ag.used.Add(used[id])
	}
	return reconcile
}

// endForgotten ends a task whose agent had reported its end and has lost its memory
// of that before the framework acknowledged it: it was restarted, and the framework
// does not checkpoint. Asked, the agent would call the task lost; the master knows
// better, and nobody resends what the framework has missed.
func (c *Core) endForgotten(cl *cell) {
	fw, s := cl.fw, c.status(update{
		task: cl.rec.ID, agent: cl.rec.AgentID, executor: cl.rec.ExecutorID, state: cl.rec.State,
		message: "Agent reregistered without the task, which had ended",
		reason:  mesos.TaskStatus_REASON_RECONCILIATION, of: cl.rec,
	})
	c.forgetTask(cl, false)
	c.sendStatus(fw, s)
}

// sortedCells lists the tasks on an agent by framework and id.
func sortedCells(ag *agent) []*cell {
	cells := slices.Clone(ag.cells)
	slices.SortFunc(cells, compareCells)
	return cells
}

func compareCells(a, b *cell) int {
	switch {
	case a.fw.id != b.fw.id && a.fw.id < b.fw.id:
		return -1
	case a.fw.id != b.fw.id:
		return 1
	case a.rec.ID < b.rec.ID:
		return -1
	}
	return 1
}

func accountFor(fw *framework, id string) *clusterdv1.ReconcileTask {
	return &clusterdv1.ReconcileTask{
		FrameworkId:    &mesos.FrameworkID{Value: &fw.id},
		TaskId:         &mesos.TaskID{Value: &id},
		PartitionAware: new(fw.partitionAware()),
	}
}

// forgetUnreachable drops the tasks that were held for unreachable with their
// agent: those that live are reported. It returns those that no framework has been told
// the end of.
func (c *Core) forgetUnreachable(agentID string, reported map[taskRef]bool) []taskRef {
	var open []taskRef
	for _, ref := range c.unreachableTasks[agentID] {
		fw := c.framework(ref.framework)
		if fw == nil {
			continue
		}
		if rec, ok := fw.unreachable.Get(ref.task); ok && rec.AgentID == agentID {
			if !rec.Terminal() {
				open = append(open, ref)
			}
			c.dropUnreachable(fw, ref.task)
			if !reported[ref] {
				c.announceForgotten(fw, rec)
			}
		}
	}
	delete(c.unreachableTasks, agentID)
	return open
}

// adoptTask takes over one reported task, and its record.
func (c *Core) adoptTask(ag *agent, rec *Task, from origin) {
	fw := c.framework(rec.FrameworkID)
	if fw == nil {
		return // of a framework that has ended: the agent is told to end it
	}
	rec.FrameworkID, rec.AgentID = fw.id, ag.id
	rec.Resources = allocatedResources(rec.Resources, fw)
	held := !removable(rec.State)
	if cl := fw.cells[rec.ID]; cl != nil {
		if cl.ag != ag {
			// Two agents claim one task: the framework was told that it is lost, and
			// used its id again elsewhere. The new one counts, the old one must end.
			c.log(Warn, "task_on_two_agents", "framework_id", fw.id, "task_id", rec.ID,
				"agent_id", ag.id, "other_agent_id", cl.ag.id)
			if held {
				ag.doubles = append(ag.doubles, taskRef{fw.id, rec.ID})
			}
			return
		}
		if !cl.rec.Terminal() && rec.Terminal() {
			ended := cl.rec.clone()
			ended.State = rec.State
			c.setTask(cl, ended)
			c.announceTask(TaskUpdated, fw, ended, c.reported(rec))
		}
		if cl.rec.State == mesos.TaskState_TASK_UNREACHABLE {
			c.reappear(cl, rec)
		}
		cl.held = !removable(cl.rec.State)
		return
	}
	c.dropUnreachable(fw, rec.ID)
	again := func(old *Task) bool { return old.ID == rec.ID }
	if slices.ContainsFunc(fw.completed, again) {
		// Readers share the old slice.
		fw.completed = slices.DeleteFunc(slices.Clone(fw.completed), again)
	}
	c.addTask(rec, fw, ag, held)
	if from == recovering || from == newcomer || from == returning && rec.Terminal() {
		return // the framework believes the same of it, or will get the update
	}
	message := map[origin]string{
		unreachable: "Unreachable agent re-reregistered",
		stranger:    "Unknown agent reregistered",
		returning:   "Agent reregistered",
	}[from]
	c.sendStatus(fw, c.reappeared(rec, message))
}

// reappear gives a task that was taken for unreachable the state that its agent reports.
func (c *Core) reappear(cl *cell, reported *Task) {
	s := c.reappeared(reported, "Agent reregistered")
	c.applyStatus(cl, s, reported.State)
	c.sendStatus(cl.fw, s)
}

// reported is the status by which those who watch learn of a state that an agent reports
// ahead of the update that brings it.
func (c *Core) reported(rec *Task) *mesos.TaskStatus {
	if last := rec.Latest(); last != nil && last.State == rec.State {
		return last.Proto(rec)
	}
	return c.reappeared(rec, "Agent reregistered")
}

// reappeared is what a framework hears of a task that it believes to be lost.
func (c *Core) reappeared(rec *Task, message string) *mesos.TaskStatus {
	return c.status(update{
		task: rec.ID, agent: rec.AgentID, state: rec.State, message: message,
		reason: mesos.TaskStatus_REASON_AGENT_REREGISTERED, executor: rec.ExecutorID, of: rec,
	})
}

// allocatedResources gives resources that an old agent reports without a role the
// only role that their framework can have had them for.
func allocatedResources(r resources.Resources, fw *framework) resources.Resources {
	role := "*"
	if len(fw.roles) > 0 {
		role = fw.roles[0]
	}
	for i := range r.Len() {
		if r.At(i).Role() == "" {
			return r.Allocate(role)
		}
	}
	return r
}

// adoptExecutors takes over the executors that frameworks named; those that
// agents make for command tasks are theirs alone.
func (c *Core) adoptExecutors(ag *agent, msg *clusterdv1.RegisterAgent) {
	for _, e := range ag.executors.Values() {
		if fw := c.framework(e.FrameworkID); fw != nil {
			fw.executors.Delete(executorKey(ag.id, e.Info.GetExecutorId().GetValue()))
			c.touchFramework(fw)
		}
	}
	ag.executors.Clear()
	for _, e := range msg.Executors {
		fw := c.framework(e.GetFrameworkId().GetValue())
		if fw == nil {
			continue
		}
		r, err := readResources(e.ExecutorInfo.Resources)
		if err != nil {
			continue
		}
		known := &Executor{
			FrameworkID: fw.id, AgentID: ag.id, Info: e.ExecutorInfo,
			Resources: allocatedResources(r, fw),
		}
		id := e.ExecutorInfo.GetExecutorId().GetValue()
		fw.executors.Set(executorKey(ag.id, id), known)
		ag.executors.Set(executorKey(fw.id, id), known)
		c.touchFramework(fw)
	}
}

// adoptOperations takes over the operations that an agent knows. One that it does
// not know was lost with the link.
func (c *Core) adoptOperations(ag *agent, msg *clusterdv1.RegisterAgent) {
	known := map[string]bool{}
	for _, m := range msg.Operations {
		uuid := string(m.GetUuid().GetValue())
		known[uuid] = true
		if _, ok := c.operations.Get(uuid); ok {
			continue
		}
		fw := c.framework(m.GetFrameworkId().GetValue())
		op := &operation{Operation: &Operation{
			UUID:        uuid,
			FrameworkID: m.GetFrameworkId().GetValue(),
			AgentID:     ag.id,
			Info:        m.Info,
			Latest:      m.LatestStatus,
			Statuses:    m.Statuses,
		}}
		c.addOperation(op, fw, ag)
	}
	for _, op := range ag.operations.Values() {
		if known[op.UUID] || terminalOperation(op.Latest.GetState()) {
			continue
		}
		op.held = false
		c.countOperation(op.Info, mesos.OperationState_OPERATION_DROPPED)
		if op.fw != nil && op.Info.Id != nil {
			message := fmt.Sprintf("Agent %s registered without knowing the operation", ag.id)
			c.sendOperation(op.fw, &mesos.OperationStatus{
				OperationId: op.Info.Id,
				State:       mesos.OperationState_OPERATION_DROPPED.Enum(),
				Message:     &message,
				AgentId:     &mesos.AgentID{Value: &ag.id},
			})
		}
		c.removeOperation(op)
	}
}
