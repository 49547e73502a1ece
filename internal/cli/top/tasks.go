package top

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// taskTable is what a summary has of tasks, by columns (docs/http-api.md).
type taskTable struct {
	Rows    int            `json:"rows"`
	Since   float64        `json:"since"`
	Columns columnsOfTasks `json:"columns"`
}

type columnsOfTasks struct {
	TaskID    values[string]   `json:"task_id"`
	Name      texts            `json:"name"`
	Framework values[int]      `json:"framework"`
	Agent     values[int]      `json:"agent"`
	Executor  texts            `json:"executor_id"`
	State     values[int]      `json:"state"`
	Role      texts            `json:"role"`
	CPUs      values[float64]  `json:"cpus"`
	Mem       values[float64]  `json:"mem"`
	Disk      values[float64]  `json:"disk"`
	GPUs      values[float64]  `json:"gpus"`
	Healthy   values[*bool]    `json:"healthy"`
	Started   values[*float64] `json:"started"`
	Updated   values[*float64] `json:"updated"`
}

// fit says whether all are of one length.
func (c *columnsOfTasks) fit(rows int) bool {
	return c.TaskID.fits(rows) && c.Name.fits(rows) && c.Framework.fits(rows) && c.Agent.fits(rows) && c.Executor.fits(rows) &&
		c.State.fits(rows) && c.Role.fits(rows) && c.CPUs.fits(rows) && c.Mem.fits(rows) && c.Disk.fits(rows) && c.GPUs.fits(rows) &&
		c.Healthy.fits(rows) && c.Started.fits(rows) && c.Updated.fits(rows)
}

// values are one for each task; or one is that of all.
type values[T any] struct {
	list []T
	one  T
}

// UnmarshalJSON reads a list, or what is none.
func (c *values[T]) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		if err := json.Unmarshal(b, &c.list); err != nil {
			return err
		}
		if c.list == nil {
			c.list = []T{}
		}
		return nil
	}
	return json.Unmarshal(b, &c.one)
}

func (c *values[T]) at(i int) T {
	if c.list == nil {
		return c.one
	}
	return c.list[i]
}

// fits says whether there is a value for each of so many tasks.
func (c *values[T]) fits(rows int) bool { return c.list == nil || len(c.list) == rows }

// texts are a column in which numbers stand for texts that come before; nil for none.
type texts struct{ values[*string] }

var errNoText = errors.New("a number stands for a text that does not come before it")

// UnmarshalJSON reads texts, or the one of all.
func (t *texts) UnmarshalJSON(b []byte) error {
	var coded values[any]
	if err := json.Unmarshal(b, &coded); err != nil {
		return err
	}
	var written []*string
	text := func(v any) (*string, error) {
		switch v := v.(type) {
		case string:
			written = append(written, &v)
			return &v, nil
		case float64:
			if v < 0 || int(v) >= len(written) {
				return nil, errNoText
			}
			return written[int(v)], nil
		}
		return nil, nil //nolint:nilnil // that of null
	}
	if coded.list == nil {
		var err error
		t.one, err = text(coded.one)
		return err
	}
	t.list = make([]*string, len(coded.list))
	for i, v := range coded.list {
		var err error
		if t.list[i], err = text(v); err != nil {
			return err
		}
	}
	return nil
}

// at is a text, or another where there is none.
func (t *texts) at(i int, other string) string {
	if s := t.values.at(i); s != nil {
		return *s
	}
	return other
}

var errShort = errors.New("summary: the columns of tasks are not of one length")

// task reads a row.
func (s *summary) task(i int) (*task, error) {
	c := &s.Tasks.Columns
	if i == 0 && !c.fit(s.Tasks.Rows) {
		return nil, errShort
	}
	id, of, at, state := c.TaskID.at(i), c.Framework.at(i), c.Agent.at(i), c.State.at(i)
	if of >= len(s.Frameworks) || at >= len(s.Agents) || state >= len(s.States) || min(of, at, state) < 0 {
		return nil, fmt.Errorf("summary: task %s names what is not there", id)
	}
	t := &task{
		id: id, name: c.Name.at(i, id), framework: s.Frameworks[of].ID, agent: s.Agents[at].ID, executor: c.Executor.at(i, ""),
		state: short(s.States[state]), role: c.Role.at(i, ""), health: health(c.Healthy.at(i)),
		uses: amounts{c.CPUs.at(i), c.Mem.at(i), c.Disk.at(i), c.GPUs.at(i)},
		live: active(s.States[state]),
	}
	from := s.Tasks.Since
	if ms := c.Started.at(i); ms != nil {
		from += *ms / 1000
		t.started = seconds(from)
	}
	if ms := c.Updated.at(i); ms != nil {
		t.updated = seconds(from + *ms/1000)
	}
	return t, nil
}

// active says whether a task in the state holds resources.
func active(state string) bool {
	s := mesos.TaskState(mesos.TaskState_value[state])
	return !console.Terminal(s) && s != mesos.TaskState_TASK_UNREACHABLE
}
