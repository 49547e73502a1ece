package console

import (
	"bytes"
	"encoding/json"
	"errors"
)

// TaskColumns is what a summary has of tasks, by columns (docs/http-api.md).
type TaskColumns struct {
	Rows    int     `json:"rows"`
	Since   float64 `json:"since"`
	Columns Columns `json:"columns"`
}

// Columns are values of all tasks.
type Columns struct {
	TaskID    Values[string]   `json:"task_id"`
	Name      Texts            `json:"name"`
	Framework Values[int]      `json:"framework"`
	Agent     Values[int]      `json:"agent"`
	Executor  Texts            `json:"executor_id"`
	State     Values[int]      `json:"state"`
	Role      Texts            `json:"role"`
	CPUs      Values[float64]  `json:"cpus"`
	Mem       Values[float64]  `json:"mem"`
	Disk      Values[float64]  `json:"disk"`
	GPUs      Values[float64]  `json:"gpus"`
	Healthy   Values[*bool]    `json:"healthy"`
	Started   Values[*float64] `json:"started"`
	Updated   Values[*float64] `json:"updated"`
}

// Fit says whether all are of one length.
func (c *Columns) Fit(rows int) bool {
	return c.TaskID.fits(rows) && c.Name.fits(rows) && c.Framework.fits(rows) && c.Agent.fits(rows) && c.Executor.fits(rows) &&
		c.State.fits(rows) && c.Role.fits(rows) && c.CPUs.fits(rows) && c.Mem.fits(rows) && c.Disk.fits(rows) && c.GPUs.fits(rows) &&
		c.Healthy.fits(rows) && c.Started.fits(rows) && c.Updated.fits(rows)
}

// Values are one for each task; or one is that of all.
type Values[T any] struct {
	list []T
	one  T
}

// UnmarshalJSON reads a list, or what is none.
func (c *Values[T]) UnmarshalJSON(b []byte) error {
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

// At is the value of the task with a number.
func (c *Values[T]) At(i int) T {
	if c.list == nil {
		return c.one
	}
	return c.list[i]
}

// fits says whether there is a value for each of so many tasks.
func (c *Values[T]) fits(rows int) bool { return c.list == nil || len(c.list) == rows }

// Texts are a column in which numbers stand for texts that come before; nil for none.
type Texts struct{ Values[*string] }

var errNoText = errors.New("a number stands for a text that does not come before it")

// UnmarshalJSON reads texts, or the one of all.
func (t *Texts) UnmarshalJSON(b []byte) error {
	var coded Values[any]
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

// At is a text, or another where there is none.
func (t *Texts) At(i int, other string) string {
	if s := t.Values.At(i); s != nil {
		return *s
	}
	return other
}
