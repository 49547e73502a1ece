package top

import (
	"errors"
	"fmt"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

var errShort = errors.New("summary: the columns of tasks are not of one length")

// task reads a row.
func (s *summary) task(i int) (*task, error) {
	c := &s.Tasks.Columns
	if i == 0 && !c.Fit(s.Tasks.Rows) {
		return nil, errShort
	}
	id, of, at, state := c.TaskID.At(i), c.Framework.At(i), c.Agent.At(i), c.State.At(i)
	if of >= len(s.Frameworks) || at >= len(s.Agents) || state >= len(s.States) || min(of, at, state) < 0 {
		return nil, fmt.Errorf("summary: task %s names what is not there", id)
	}
	t := &task{
		id: id, name: c.Name.At(i, id), framework: s.Frameworks[of].ID, agent: s.Agents[at].ID, executor: c.Executor.At(i, ""),
		state: short(s.States[state]), role: c.Role.At(i, ""), health: health(c.Healthy.At(i)),
		uses: amounts{c.CPUs.At(i), c.Mem.At(i), c.Disk.At(i), c.GPUs.At(i)},
		live: active(s.States[state]),
	}
	from := s.Tasks.Since
	if ms := c.Started.At(i); ms != nil {
		from += *ms / 1000
		t.started = seconds(from)
	}
	if ms := c.Updated.At(i); ms != nil {
		t.updated = seconds(from + *ms/1000)
	}
	return t, nil
}

// active says whether a task in the state holds resources.
func active(state string) bool {
	s := mesos.TaskState(mesos.TaskState_value[state])
	return !console.Terminal(s) && s != mesos.TaskState_TASK_UNREACHABLE
}
