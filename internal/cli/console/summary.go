package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
)

// TaskRow is a task as tables show it: what a summary tells of it.
type TaskRow struct {
	ID, Name, Framework, FrameworkID, Hostname, AgentID, Executor, Role string
	State                                                               mesos.TaskState
	CPUs, Mem                                                           float64
	Healthy                                                             *bool
	Changed                                                             time.Time
}

var errShortSummary = errors.New("summary: the columns of tasks are not of one length")

// TaskRows are all tasks that live, with ended also those that do not, without what only a look
// at one of them shows: a hundredth of what [Cluster.Tasks] takes.
func (cl *Cluster) TaskRows(ctx context.Context, ended bool) ([]TaskRow, error) {
	var s struct {
		States []string `json:"states"`
		Agents []struct {
			ID       string `json:"id"`
			Hostname string `json:"hostname"`
		} `json:"agents"`
		Frameworks []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"frameworks"`
		Tasks TaskColumns `json:"tasks"`
	}
	err := cl.Get(ctx, fmt.Sprintf("%ssummary?completed=%t", OwnPath, ended), &s)
	if client.StatusCode(err) == http.StatusNotFound {
		return cl.rowsOfTasks(ctx, ended) // a master of before
	}
	if err != nil {
		return nil, err
	}
	c := &s.Tasks.Columns
	if !c.Fit(s.Tasks.Rows) {
		return nil, errShortSummary
	}
	rows := make([]TaskRow, s.Tasks.Rows)
	for i := range rows {
		id, of, at, state := c.TaskID.At(i), c.Framework.At(i), c.Agent.At(i), c.State.At(i)
		if of >= len(s.Frameworks) || at >= len(s.Agents) || state >= len(s.States) || min(of, at, state) < 0 {
			return nil, fmt.Errorf("summary: task %s names what is not there", id)
		}
		rows[i] = TaskRow{
			ID: id, Name: c.Name.At(i, id), Framework: s.Frameworks[of].Name, FrameworkID: s.Frameworks[of].ID,
			Hostname: s.Agents[at].Hostname, AgentID: s.Agents[at].ID, Executor: cmp.Or(c.Executor.At(i, ""), id), Role: c.Role.At(i, ""),
			State: mesos.TaskState(mesos.TaskState_value[s.States[state]]), CPUs: c.CPUs.At(i), Mem: c.Mem.At(i), Healthy: c.Healthy.At(i),
		}
		from := s.Tasks.Since
		if ms := c.Started.At(i); ms != nil {
			from += *ms / 1000
		}
		if ms := c.Updated.At(i); ms != nil {
			rows[i].Changed = time.UnixMicro(int64((from + *ms/1000) * 1e6))
		}
	}
	return rows, nil
}

func (cl *Cluster) rowsOfTasks(ctx context.Context, ended bool) ([]TaskRow, error) {
	tasks, err := cl.Tasks(ctx)
	var rows []TaskRow
	for _, t := range tasks {
		if ended || !t.Ended {
			rows = append(rows, RowOf(t))
		}
	}
	return rows, err
}

// RowOf is a task as tables show it.
func RowOf(t Task) TaskRow {
	r := TaskRow{
		ID: t.GetTaskId().GetValue(), Name: t.GetName(), Framework: t.Framework, FrameworkID: t.GetFrameworkId().GetValue(),
		Hostname: t.Hostname, AgentID: t.GetAgentId().GetValue(), Executor: t.Executor(), State: t.GetState(),
		CPUs: Scalar(t.GetResources(), "cpus"), Mem: Scalar(t.GetResources(), "mem"), Changed: Changed(t.Task),
	}
	for _, one := range t.GetResources() {
		if r.Role = one.GetAllocationInfo().GetRole(); r.Role != "" {
			break
		}
	}
	for _, s := range slices.Backward(t.GetStatuses()) {
		if s.Healthy != nil {
			r.Healthy = s.Healthy
			break
		}
	}
	return r
}

// Task is the task with what the row has of it.
func (r *TaskRow) Task() Task {
	return Task{Framework: r.Framework, Hostname: r.Hostname, Task: &mesos.Task{
		TaskId: &mesos.TaskID{Value: &r.ID}, FrameworkId: FrameworkID(r.FrameworkID), AgentId: AgentID(r.AgentID),
		ExecutorId: &mesos.ExecutorID{Value: &r.Executor}, Name: &r.Name, State: r.State.Enum(),
	}}
}
