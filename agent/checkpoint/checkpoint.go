// Package checkpoint keeps on disk what an agent must know after it was killed:
// its id, its frameworks, executors and tasks, the updates that are not yet
// acknowledged, and the resources that operations have changed.
//
// It is one bbolt file, <work_dir>/meta/clusterd.db. Schema, version 1
// (messages of clusterd.v1 are in api/clusterd/v1/checkpoint.proto):
//
//	bucket      key                              value
//	------      ---                              -----
//	header      "version"                        uint64, big endian
//	agent       "info"                           mesos.v1.AgentInfo, id included
//	            "resources"                      clusterd.v1.ResourcesRecord
//	            "drain"                          mesos.v1.DrainConfig, while it drains
//	frameworks  <framework id>                   mesos.v1.FrameworkInfo
//	executors   <framework id> 0 <executor id>   clusterd.v1.ExecutorRecord
//	tasks       <framework id> 0 <task id>       clusterd.v1.TaskRecord
//	updates     <framework id> 0 <task id> 0 seq clusterd.v1.UpdateRecord; seq is
//	                                             uint64, big endian
//	operations  <operation uuid>                 clusterd.v1.OperationRecord
//	cluster     "cluster"                        clusterd.v1.ClusterRecord
//
// (0 is a zero byte, which no id contains.) Without "agent"/"info" nothing else
// counts but "cluster": the agent never registered, or is to begin anew.
//
// [Store] has three implementations: [Bolt], [Memory] for simulations, and
// [Failing] for tests of what a full disk does. A Store belongs to one
// goroutine. Only package agent imports it.
package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"clusterd/agent/core"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

var (
	// ErrCorrupt says that the file does not hold what this package wrote.
	ErrCorrupt = errors.New("the checkpoint is corrupt")
	// ErrNewer says that a younger clusterd wrote the file.
	ErrNewer = errors.New("the checkpoint was written by a newer clusterd")
	// ErrLocked says that another process has the file open.
	ErrLocked = errors.New("the checkpoint is in use by another agent")
)

// Store keeps records.
type Store interface {
	// Load returns all that is kept. With strict false, records that cannot be
	// read are left out and counted instead of being an error.
	Load(strict bool) (kept *core.Checkpoint, skipped int, err error)
	// Write makes the records durable, in order, all or none of them.
	Write(records []core.Record) error
	// Close gives the store up.
	Close() error
}

const (
	bucketAgent      = "agent"
	bucketFrameworks = "frameworks"
	bucketExecutors  = "executors"
	bucketTasks      = "tasks"
	bucketUpdates    = "updates"
	bucketOperations = "operations"
	bucketCluster    = "cluster"
)

var buckets = []string{bucketAgent, bucketFrameworks, bucketExecutors, bucketTasks, bucketUpdates, bucketOperations, bucketCluster}

// tables is what records are written to.
type tables interface {
	put(bucket string, key, value []byte) error
	del(bucket string, key []byte) error
	delPrefix(bucket string, prefix []byte) error
	clear(bucket string) error
}

func key(parts ...string) []byte {
	var k []byte
	for i, p := range parts {
		if i > 0 {
			k = append(k, 0)
		}
		k = append(k, p...)
	}
	return k
}

func putMessage(t tables, bucket string, k []byte, m proto.Message) error {
	v, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %T: %w", m, err)
	}
	return t.put(bucket, k, v)
}

func apply(t tables, r core.Record) error {
	switch r := r.(type) {
	case core.PutAgent:
		return putMessage(t, bucketAgent, key("info"), r.Info)
	case core.ForgetAgent:
		for _, b := range buckets {
			if b == bucketCluster {
				continue // to come back as another it must find the masters
			}
			if err := t.clear(b); err != nil {
				return err
			}
		}
		return nil
	case core.PutCluster:
		return putMessage(t, bucketCluster, key("cluster"), r.Cluster)
	case core.PutResources:
		return putMessage(t, bucketAgent, key("resources"), r.Resources)
	case core.PutDrain:
		if r.Config == nil {
			return t.del(bucketAgent, key("drain"))
		}
		return putMessage(t, bucketAgent, key("drain"), r.Config)
	case core.PutFramework:
		return putMessage(t, bucketFrameworks, key(r.Info.GetId().GetValue()), r.Info)
	case core.DeleteFramework:
		return t.del(bucketFrameworks, key(r.FrameworkID))
	case core.PutExecutor:
		e := r.Executor
		return putMessage(t, bucketExecutors,
			key(e.GetFrameworkId().GetValue(), e.GetExecutorInfo().GetExecutorId().GetValue()), e)
	case core.DeleteExecutor:
		return t.del(bucketExecutors, key(r.FrameworkID, r.ExecutorID))
	case core.PutTask:
		task := r.Task.GetTask()
		return putMessage(t, bucketTasks, key(task.GetFrameworkId().GetValue(), task.GetTaskId().GetValue()), r.Task)
	case core.DeleteTask:
		if err := t.del(bucketTasks, key(r.FrameworkID, r.TaskID)); err != nil {
			return err
		}
		return t.delPrefix(bucketUpdates, append(key(r.FrameworkID, r.TaskID), 0))
	case core.AppendUpdate:
		k := binary.BigEndian.AppendUint64(append(key(r.FrameworkID, r.TaskID), 0), r.Seq)
		return putMessage(t, bucketUpdates, k, r.Update)
	case core.PutOperation:
		return putMessage(t, bucketOperations, r.Operation.GetOperation().GetUuid().GetValue(), r.Operation)
	case core.DeleteOperation:
		return t.del(bucketOperations, []byte(r.UUID))
	default:
		return fmt.Errorf("unknown record %T", r)
	}
}

// loader puts a checkpoint together from rows in order of bucket and key.
type loader struct {
	strict  bool
	skipped int
	out     core.Checkpoint
	tasks   map[string]int // index in out.Tasks by key
}

// bad takes a row that cannot be read.
func (l *loader) bad(bucket string, k []byte, err error) error {
	if !l.strict {
		l.skipped++
		return nil
	}
	return fmt.Errorf("%w: %s %q: %w", ErrCorrupt, bucket, k, err)
}

func (l *loader) row(bucket string, k, v []byte) error {
	k = bytes.Clone(k)
	decode := func(m proto.Message) error { return proto.Unmarshal(v, m) } // copies v
	switch bucket {
	case bucketAgent:
		return l.agentRow(k, decode)
	case bucketFrameworks:
		m := &mesos.FrameworkInfo{}
		if err := decode(m); err != nil {
			return l.bad(bucket, k, err)
		}
		l.out.Frameworks = append(l.out.Frameworks, m)
	case bucketExecutors:
		m := &clusterdv1.ExecutorRecord{}
		if err := decode(m); err != nil {
			return l.bad(bucket, k, err)
		}
		l.out.Executors = append(l.out.Executors, m)
	case bucketTasks:
		m := &clusterdv1.TaskRecord{}
		if err := decode(m); err != nil {
			return l.bad(bucket, k, err)
		}
		l.tasks[string(k)] = len(l.out.Tasks)
		l.out.Tasks = append(l.out.Tasks, core.TaskCheckpoint{Record: m})
	case bucketUpdates:
		return l.updateRow(k, decode)
	case bucketOperations:
		m := &clusterdv1.OperationRecord{}
		if err := decode(m); err != nil {
			return l.bad(bucket, k, err)
		}
		l.out.Operations = append(l.out.Operations, m)
	case bucketCluster:
		m := &clusterdv1.ClusterRecord{}
		if err := decode(m); err != nil {
			return l.bad(bucket, k, err)
		}
		l.out.Cluster = m
	}
	return nil
}

func (l *loader) agentRow(k []byte, decode func(proto.Message) error) error {
	switch string(k) {
	case "info":
		m := &mesos.AgentInfo{}
		if err := decode(m); err != nil {
			// Without it there is nothing to recover, strict or not.
			return fmt.Errorf("%w: %s %q: %w", ErrCorrupt, bucketAgent, k, err)
		}
		l.out.Agent = m
	case "resources":
		m := &clusterdv1.ResourcesRecord{}
		if err := decode(m); err != nil {
			return l.bad(bucketAgent, k, err)
		}
		l.out.Resources = m
	case "drain":
		m := &mesos.DrainConfig{}
		if err := decode(m); err != nil {
			return l.bad(bucketAgent, k, err)
		}
		l.out.Drain = m
	}
	return nil
}

func (l *loader) updateRow(k []byte, decode func(proto.Message) error) error {
	if len(k) < 9 {
		return l.bad(bucketUpdates, k, errors.New("the key is too short"))
	}
	m := &clusterdv1.UpdateRecord{}
	if err := decode(m); err != nil {
		return l.bad(bucketUpdates, k, err)
	}
	i, ok := l.tasks[string(k[:len(k)-9])]
	if !ok {
		return l.bad(bucketUpdates, k, errors.New("an update of no task"))
	}
	t := &l.out.Tasks[i]
	t.Updates = append(t.Updates, m)
	t.NextSeq = binary.BigEndian.Uint64(k[len(k)-8:]) + 1
	return nil
}

func (l *loader) done() *core.Checkpoint {
	if l.out.Agent == nil {
		return &core.Checkpoint{Cluster: l.out.Cluster}
	}
	return &l.out
}
