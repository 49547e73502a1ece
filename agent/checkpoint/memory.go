package checkpoint

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"clusterd/agent/core"
)

// Memory is a Store that lives as long as the process. The zero value is empty.
// Closing it keeps what it holds, so that it can stand for a disk that outlives
// the agent.
type Memory struct{ rows map[string]map[string][]byte }

// Load returns all that is kept.
func (m *Memory) Load(strict bool) (*core.Checkpoint, int, error) {
	l := &loader{strict: strict, tasks: map[string]int{}}
	for _, name := range buckets {
		for _, k := range slices.Sorted(maps.Keys(m.rows[name])) {
			if err := l.row(name, []byte(k), m.rows[name][k]); err != nil {
				return nil, 0, err
			}
		}
	}
	return l.done(), l.skipped, nil
}

// Write keeps the records.
func (m *Memory) Write(records []core.Record) error {
	next := Memory{rows: map[string]map[string][]byte{}}
	for name, rows := range m.rows {
		next.rows[name] = maps.Clone(rows)
	}
	for _, r := range records {
		if err := apply(&next, r); err != nil {
			return err
		}
	}
	m.rows = next.rows
	return nil
}

// Close does nothing.
func (m *Memory) Close() error { return nil }

func (m *Memory) put(bucket string, k, v []byte) error {
	if m.rows[bucket] == nil {
		m.rows[bucket] = map[string][]byte{}
	}
	m.rows[bucket][string(k)] = bytes.Clone(v)
	return nil
}

func (m *Memory) del(bucket string, k []byte) error {
	delete(m.rows[bucket], string(k))
	return nil
}

func (m *Memory) delPrefix(bucket string, prefix []byte) error {
	maps.DeleteFunc(m.rows[bucket], func(k string, _ []byte) bool { return strings.HasPrefix(k, string(prefix)) })
	return nil
}

func (m *Memory) clear(bucket string) error {
	delete(m.rows, bucket)
	return nil
}

// Failing is a Store whose writes fail with Err once After of them succeeded,
// as on a disk that is full.
type Failing struct {
	Store
	After int
	Err   error
}

// Write fails, or writes.
func (f *Failing) Write(records []core.Record) error {
	if f.After <= 0 {
		return f.Err
	}
	f.After--
	return f.Store.Write(records)
}
