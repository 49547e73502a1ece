package core

import (
	"slices"
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// addTask makes a task known. If it holds its resources they count as used; the
// allocator has them as the framework's already, or is told by the caller.
func (c *Core) addTask(rec *Task, fw *framework, ag *agent, held bool) {
	cl := &cell{rec: rec, fw: fw, ag: ag, index: len(ag.cells), held: held}
	ag.cells = append(ag.cells, cl)
	fw.cells[rec.ID] = cl
	fw.tasks.Set(rec.ID, rec)
	c.publish.tally(rec.State, 1)
	if held {
		ag.used = ag.used.Add(rec.Resources)
		c.touchAgent(ag)
	}
	c.touchFramework(fw)
	c.announceTask(TaskAdded, fw, rec, nil)
}

// setTask replaces the record of a task.
func (c *Core) setTask(cl *cell, rec *Task) {
	if cl.rec.State != rec.State {
		c.publish.tally(cl.rec.State, -1)
		c.publish.tally(rec.State, 1)
	}
	cl.rec = rec
	cl.fw.tasks.Set(rec.ID, rec)
	c.touchFramework(cl.fw)
}

// release takes the resources of a task back, once.
func (c *Core) release(cl *cell) {
	if !cl.held {
		return
	}
	cl.held = false
	cl.ag.used = cl.ag.used.Sub(cl.rec.Resources)
	c.alloc.RecoverResources(c.now, cl.fw.id, cl.ag.id, cl.rec.Resources, nil)
	c.touchAgent(cl.ag)
}

// forgetTask ends the life of a task in the master's memory: it becomes one of
// the completed or of the unreachable ones.
func (c *Core) forgetTask(cl *cell, unreachable bool) {
	c.release(cl)
	c.detachTask(cl)
	if unreachable {
		c.addUnreachable(cl.fw, cl.rec)
	} else {
		c.addCompleted(cl.fw, cl.rec)
	}
}

func (c *Core) detachTask(cl *cell) {
	c.noteDrain(cl.ag)
	ag, last := cl.ag, len(cl.ag.cells)-1
	ag.cells[cl.index] = ag.cells[last]
	ag.cells[cl.index].index = cl.index
	ag.cells[last] = nil
	ag.cells = ag.cells[:last]
	delete(cl.fw.cells, cl.rec.ID)
	cl.fw.tasks.Delete(cl.rec.ID)
	c.publish.tally(cl.rec.State, -1)
	c.touchFramework(cl.fw)
}

// addCompleted puts a task into its framework's ring. The slice only ever grows
// at its end and shrinks at its start, so that readers may share it.
func (c *Core) addCompleted(fw *framework, rec *Task) {
	if c.cfg.MaxCompletedTasks <= 0 {
		return
	}
	fw.completed = append(fw.completed, rec)
	if over := len(fw.completed) - c.cfg.MaxCompletedTasks; over > 0 {
		fw.completed = fw.completed[over:]
	}
	c.touchFramework(fw)
}

// addUnreachable remembers a task of an agent that is unreachable, up to the
// number that the flag allows.
func (c *Core) addUnreachable(fw *framework, rec *Task) {
	if c.cfg.MaxUnreachableTasks <= 0 {
		return
	}
	c.dropUnreachable(fw, rec.ID)
	fw.unreachable.Set(rec.ID, rec)
	fw.unreachableOrder = append(fw.unreachableOrder, rec.ID)
	c.unreachableTasks[rec.AgentID] = append(c.unreachableTasks[rec.AgentID], taskRef{fw.id, rec.ID})
	c.publish.tally(rec.State, 1)
	for fw.unreachable.Len() > c.cfg.MaxUnreachableTasks {
		oldest := fw.unreachableOrder[0]
		fw.unreachableOrder = fw.unreachableOrder[1:]
		if forgotten, ok := fw.unreachable.Get(oldest); ok {
			c.dropUnreachable(fw, oldest)
			c.announceForgotten(fw, forgotten)
		}
	}
	c.compactUnreachable(fw)
	c.touchFramework(fw)
}

// taskRef names a task of any framework.
type taskRef struct{ framework, task string }

func (c *Core) dropUnreachable(fw *framework, id string) {
	rec, ok := fw.unreachable.Delete(id)
	if !ok {
		return
	}
	c.publish.tally(rec.State, -1)
	c.touchFramework(fw)
}

// compactUnreachable drops the names of tasks that have come back from the order
// once they are the most of it.
func (c *Core) compactUnreachable(fw *framework) {
	if len(fw.unreachableOrder) < 2*fw.unreachable.Len()+16 {
		return
	}
	seen := map[string]bool{}
	var order []string
	for _, id := range slices.Backward(fw.unreachableOrder) {
		if _, ok := fw.unreachable.Get(id); ok && !seen[id] {
			seen[id] = true
			order = append(order, id)
		}
	}
	for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
		order[i], order[j] = order[j], order[i]
	}
	fw.unreachableOrder = order
}

// update describes a status that the master makes itself.
type update struct {
	task, agent string // agent may be empty
	state       mesos.TaskState
	message     string
	reason      mesos.TaskStatus_Reason
	executor    string
	of          *Task // whose health, check and container it repeats; may be nil
	unreachable *mesos.TimeInfo
}

// status makes the message; such statuses carry no uuid and want no
// acknowledgement.
func (c *Core) status(u update) *mesos.TaskStatus {
	s := &mesos.TaskStatus{
		TaskId:          &mesos.TaskID{Value: new(u.task)},
		State:           u.state.Enum(),
		Source:          mesos.TaskStatus_SOURCE_MASTER.Enum(),
		Reason:          u.reason.Enum(),
		Message:         new(u.message),
		Timestamp:       new(seconds(c.now)),
		UnreachableTime: u.unreachable,
	}
	if u.agent != "" {
		s.AgentId = &mesos.AgentID{Value: new(u.agent)}
	}
	if u.executor != "" {
		s.ExecutorId = &mesos.ExecutorID{Value: new(u.executor)}
	}
	if u.of == nil {
		return s
	}
	last := u.of.Latest()
	if last == nil {
		return s
	}
	s.ContainerStatus = last.ContainerStatus()
	if last.HasHealth {
		s.Healthy = new(last.Healthy)
	}
	if last.Full != nil {
		s.CheckStatus = last.Full.CheckStatus
	}
	return s
}

// sendStatus puts a status on a framework's stream.
func (c *Core) sendStatus(fw *framework, s *mesos.TaskStatus) {
	c.sendEvent(fw, &scheduler.Event{
		Type:   scheduler.Event_UPDATE.Enum(),
		Update: &scheduler.Event_Update{Status: s},
	})
}

// maxMessage is the longest message of a status that the master makes, in bytes.
// What is wrong with a task may take in all that was asked for and offered, again
// for each of a hundred thousand tasks of one call.
const maxMessage = 4096

// failTask tells a framework of a task that was never launched.
func (c *Core) failTask(fw *framework, t *mesos.TaskInfo, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) {
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + " ..."
	}
	s := c.status(update{
		task:    t.GetTaskId().GetValue(),
		agent:   t.GetAgentId().GetValue(),
		state:   state,
		message: message,
		reason:  reason,
	})
	c.countTask(fw, s)
	c.sendStatus(fw, s)
}

// applyStatus brings a task's record up to date with a status; latest is the
// state that the agent is at already (Mesos: Master::updateTask).
func (c *Core) applyStatus(cl *cell, s *mesos.TaskStatus, latest mesos.TaskState) {
	old := cl.rec
	rec := old.clone()
	if !old.Terminal() {
		rec.State = latest
	}
	rec.Statuses = old.withStatus(compactStatus(s))
	c.setTask(cl, rec)
	if newsworthy(old, rec, s) {
		c.announceTask(TaskUpdated, cl.fw, rec, s)
	}
	if !removable(old.State) && removable(latest) {
		c.release(cl)
	}
	// An agent may tell of the end ahead of the status that says how it came. It is
	// counted with that one; Mesos, which looks at the former only, counts no such task.
	if last := old.Latest(); removable(s.GetState()) && (last == nil || !removable(last.State)) {
		c.countTask(cl.fw, s)
	}
}

// usedBy sums what each framework holds on an agent.
func (ag *agent) usedBy() map[string]resources.Resources {
	used := map[string]resources.Resources{}
	for _, cl := range ag.cells {
		if cl.held {
			used[cl.fw.id] = used[cl.fw.id].Add(cl.rec.Resources)
		}
	}
	ag.executors.Scan(func(_ string, e *Executor) bool {
		used[e.FrameworkID] = used[e.FrameworkID].Add(e.Resources)
		return true
	})
	ag.operations.Scan(func(_ string, op *operation) bool {
		if op.held && op.fw != nil {
			used[op.FrameworkID] = used[op.FrameworkID].Add(op.Consumed)
		}
		return true
	})
	return used
}
