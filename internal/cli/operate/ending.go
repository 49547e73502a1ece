package operate

import (
	"fmt"
	"slices"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// ending waits for the end of tasks.
type ending struct {
	x    *call
	left map[taskKey]console.Task
	bar  *console.Bar
	// again asks for the end of a task once more: the leader that was asked may have gone down
	// before it asked the agent. Nil: nobody needs to.
	again func(console.Task) error
}

// awaitEnd waits until tasks have ended and says how. After a failover that takes until their
// agents have come back, or are given up.
func awaitEnd(x *call, tasks []console.Task, again func(console.Task) error) error {
	ctx, cancel, err := x.patience()
	if err != nil {
		return err
	}
	defer cancel()
	w := &ending{x: x, left: map[taskKey]console.Task{}, again: again, bar: console.Progress(x.Env, "waiting for tasks to end", int64(len(tasks)))}
	defer w.bar.Done()
	for _, t := range tasks {
		w.left[taskKey{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}] = t
	}
	first := true
	for ev, err := range x.cluster.Events(ctx, operator.EventsOptions{}) {
		if err == nil {
			err = w.event(ev, first)
			first = false
		}
		if err != nil {
			return waited(ctx, err, fmt.Sprintf("%s still running", console.Plural(len(w.left), "task")))
		}
		if len(w.left) == 0 {
			return nil
		}
	}
	return nil
}

func (w *ending) event(ev *clusterdv1.OperatorEvent, first bool) error {
	switch ev.GetType() {
	case clusterdv1.OperatorEvent_SUBSCRIBED:
		if !ev.GetSubscribed().GetResumed() { // else nothing was missed, and there is no state
			return w.state(ev.GetSubscribed().GetGetState(), first)
		}
	case clusterdv1.OperatorEvent_TASK_UPDATED:
		u := ev.GetTaskUpdated()
		if console.Terminal(u.GetState()) {
			w.ended(taskKey{u.GetFrameworkId().GetValue(), u.GetStatus().GetTaskId().GetValue()}, u.GetState())
		}
	case clusterdv1.OperatorEvent_AGENT_ADDED:
		return w.decided(ev.GetAgentAdded().GetAgent().GetAgentInfo().GetId().GetValue())
	case clusterdv1.OperatorEvent_AGENT_REMOVED:
		return w.decided(ev.GetAgentRemoved().GetAgentId().GetValue())
	default:
	}
	return nil
}

// ended says how a task has.
func (w *ending) ended(k taskKey, s mesos.TaskState) {
	if _, ok := w.left[k]; ok {
		delete(w.left, k)
		w.bar.Clear()
		w.x.say("%s %s", k.task, stateName(s))
		w.bar.Add(1)
	}
}

// state looks at all that a leader knows. What runs on agents that have not come back to it is
// none of that.
func (w *ending) state(state *master.Response_GetState, first bool) error {
	away := map[string]bool{}
	for _, a := range state.GetGetAgents().GetRecoveredAgents() {
		away[a.GetId().GetValue()] = true
	}
	known, get := map[taskKey]bool{}, state.GetGetTasks()
	for _, t := range slices.Concat(get.GetTasks(), get.GetUnreachableTasks(), get.GetCompletedTasks()) {
		k := taskKey{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}
		known[k] = true
		if err := w.look(k, t.GetState(), first); err != nil {
			return err
		}
	}
	for k, t := range w.left {
		if !known[k] && !away[t.GetAgentId().GetValue()] {
			w.ended(k, mesos.TaskState_TASK_UNKNOWN)
		}
	}
	return nil
}

// look takes a task that the leader knows.
func (w *ending) look(k taskKey, s mesos.TaskState, first bool) error {
	t, ok := w.left[k]
	switch {
	case !ok:
	case console.Terminal(s):
		w.ended(k, s)
	case !first && w.again != nil && s != mesos.TaskState_TASK_KILLING && s != mesos.TaskState_TASK_UNREACHABLE:
		if err := w.again(t); console.Code(err) == console.ExitDenied {
			return err // else it ends just now, or its agent or the leader is away again
		}
	}
	return nil
}

// decided asks for the tasks of an agent that has come back with what it runs, or was removed.
func (w *ending) decided(agent string) error {
	for k, t := range w.left {
		if t.GetAgentId().GetValue() != agent {
			continue
		}
		now, err := w.x.cluster.TaskNow(w.x.ctx(), k.framework, k.task)
		switch console.Code(err) {
		case console.ExitOK:
		case console.ExitUnreachable:
			continue // another leader tells the state anew
		default:
			return err
		}
		if now == nil {
			w.ended(k, mesos.TaskState_TASK_UNKNOWN)
			continue
		}
		if err := w.look(k, now.GetState(), false); err != nil {
			return err
		}
	}
	return nil
}
