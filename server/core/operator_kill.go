package core

import (
	"fmt"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
)

// KillTask has an operator kill a task, which in Mesos its framework alone can. The
// framework hears of it by the status of the task, and may well launch another one. Who may
// tear down the whole framework may do it.
type KillTask struct {
	Request     RequestID
	Principal   *authz.Principal
	FrameworkID string
	TaskID      string
	// KillPolicy instead of the task's own; nil: none.
	KillPolicy *mesos.KillPolicy
}

func (KillTask) input() {}

// killTask answers 202 when the agent is asked to kill the task, now or when it comes back.
func (c *Core) killTask(in KillTask) {
	fw := c.framework(in.FrameworkID)
	if fw == nil {
		c.answer(in.Request, 404, fmt.Sprintf("There is no framework '%s'", in.FrameworkID))
		return
	}
	if c.refusedOf(in.Principal, []need{{action: authz.TeardownFrameworks, object: fw.info.Principal}}) != nil {
		c.answer(in.Request, 403, "")
		return
	}
	if in.KillPolicy.GetGracePeriod().GetNanoseconds() < 0 {
		c.answer(in.Request, 400, "'kill_policy.grace_period' must be non-negative")
		return
	}
	cl := fw.cells[in.TaskID]
	switch {
	case cl != nil && cl.rec.Terminal():
		c.answer(in.Request, 409, fmt.Sprintf("Task '%s' has already ended: it is %s", in.TaskID, cl.rec.State))
		return
	case cl == nil:
		if _, is := fw.unreachable.Get(in.TaskID); is {
			c.answer(in.Request, 409, fmt.Sprintf("Task '%s' is on an agent that is unreachable: it can be killed when the agent is back", in.TaskID))
			return
		}
		c.answer(in.Request, 404, fmt.Sprintf("Framework '%s' runs no task '%s'", in.FrameworkID, in.TaskID))
		return
	}
	c.log(Info, "task_killed_by_operator", "framework_id", fw.id, "task_id", in.TaskID, "principal", in.Principal.String())
	c.killCell(cl, &scheduler.Call_Kill{KillPolicy: in.KillPolicy})
	c.answer(in.Request, 202, "")
}
