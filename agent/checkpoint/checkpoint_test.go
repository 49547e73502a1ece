package checkpoint

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"clusterd/agent/core"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

func fwID(s string) *mesos.FrameworkID { return &mesos.FrameworkID{Value: &s} }
func taskID(s string) *mesos.TaskID    { return &mesos.TaskID{Value: &s} }

func task(id string) core.PutTask {
	return core.PutTask{Task: &clusterdv1.TaskRecord{
		Task: &mesos.Task{
			Name: &id, TaskId: taskID(id), FrameworkId: fwID("f"), AgentId: &mesos.AgentID{Value: new("S0")},
			State: mesos.TaskState_TASK_STAGING.Enum(),
		},
		ExecutorId: &mesos.ExecutorID{Value: new("e")},
	}}
}

func update(fw, id string, seq uint64, state mesos.TaskState) core.AppendUpdate {
	return core.AppendUpdate{FrameworkID: fw, TaskID: id, Seq: seq, Update: &clusterdv1.UpdateRecord{
		Status: &mesos.TaskStatus{TaskId: taskID(id), State: state.Enum()},
	}}
}

var agentInfo = &mesos.AgentInfo{Hostname: new("h"), Id: &mesos.AgentID{Value: new("S0")}}

func history() [][]core.Record {
	fw := &mesos.FrameworkInfo{User: new("u"), Name: new("n"), Id: fwID("f")}
	exec := &clusterdv1.ExecutorRecord{
		FrameworkId: fwID("f"), ContainerId: &mesos.ContainerID{Value: new("c")}, Directory: new("/d"),
		ExecutorInfo: &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: new("e")}},
	}
	return [][]core.Record{
		{core.PutAgent{Info: agentInfo}},
		{core.PutFramework{Info: fw}, core.PutExecutor{Executor: exec}, task("t"), task("t1"), task("t10")},
		{update("f", "t1", 0, mesos.TaskState_TASK_STARTING), update("f", "t10", 0, mesos.TaskState_TASK_STARTING)},
		{core.AppendUpdate{FrameworkID: "f", TaskID: "t1", Seq: 1, Update: &clusterdv1.UpdateRecord{Acknowledged: []byte("0123456789abcdef")}}},
		{update("f", "t1", 2, mesos.TaskState_TASK_RUNNING)},
		{core.PutResources{Resources: &clusterdv1.ResourcesRecord{Resources: []*mesos.Resource{{
			Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(1)},
		}}}}},
		{core.DeleteTask{FrameworkID: "f", TaskID: "t"}},
		{core.PutDrain{Config: &mesos.DrainConfig{MarkGone: new(true)}}, core.PutDrain{}, core.PutDrain{Config: &mesos.DrainConfig{MarkGone: new(false)}}},
		{core.PutCluster{Cluster: &clusterdv1.ClusterRecord{ClusterId: new("C"), Masters: []string{"m:1"}}}},
		{core.PutCluster{Cluster: &clusterdv1.ClusterRecord{ClusterId: new("C"), Masters: []string{"m:2", "m:3"}}}},
	}
}

// TestConformance runs every implementation through the same history and
// compares what comes back, also after a restart.
func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta", "clusterd.db")
	open := func() Store {
		b, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mem := &Memory{}
	disk := open()
	for _, records := range history() {
		if err := disk.Write(records); err != nil {
			t.Fatal(err)
		}
		if err := mem.Write(records); err != nil {
			t.Fatal(err)
		}
		if err := disk.Close(); err != nil {
			t.Fatal(err)
		}
		disk = open()
		a, _, err := disk.Load(true)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := mem.Load(true)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(a, b, protocmp.Transform()); d != "" {
			t.Fatalf("bolt and memory differ:\n%s", d)
		}
	}
	got, _, _ := mem.Load(true)
	if len(got.Tasks) != 2 || len(got.Tasks[0].Updates) != 3 || got.Tasks[0].NextSeq != 3 || len(got.Tasks[1].Updates) != 1 {
		t.Fatalf("got tasks %v, want t1 with three steps and t10 with one", got.Tasks)
	}
	if got.Drain == nil || got.Drain.GetMarkGone() {
		t.Errorf("got drain config %v, want the last", got.Drain)
	}
	if got.Resources == nil || len(got.Frameworks) != 1 || len(got.Executors) != 1 {
		t.Fatalf("got %+v, want resources, a framework and an executor", got)
	}
	for _, s := range []Store{disk, mem} {
		if err := s.Write([]core.Record{core.ForgetAgent{}, task("late")}); err != nil {
			t.Fatal(err)
		}
		kept, _, err := s.Load(true)
		if err != nil || kept.Agent != nil || len(kept.Tasks) != 0 || !slices.Equal(kept.Cluster.GetMasters(), []string{"m:2", "m:3"}) {
			t.Fatalf("after ForgetAgent: got %+v, %v, want nothing but the cluster", kept, err)
		}
	}
	_ = disk.Close()
}

func TestLockedByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clusterd.db")
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := Open(path); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want ErrLocked naming the file", err)
	}
}

// TestDamage overwrites, cuts and replaces the file: the agent must be told, and
// must not crash.
func TestDamage(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "clusterd.db")
	b, err := Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range history() {
		if err := b.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	_ = b.Close()
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	damage := map[string]func([]byte) []byte{
		"text": func([]byte) []byte { return []byte(strings.Repeat("not a database\n", 4000)) },
		"both metas": func(d []byte) []byte {
			copy(d[16:64], make([]byte, 48))
			copy(d[page+16:page+64], make([]byte, 48))
			return d
		},
		"cut":            func(d []byte) []byte { return d[:2*page] },
		"zeroed content": func(d []byte) []byte { clear(d[2*page:]); return d },
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "clusterd.db")
			if err := os.WriteFile(path, f(append([]byte(nil), data...)), 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := Open(path)
			if err == nil {
				_, _, err = b.Load(true)
				_ = b.Close()
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") {
				t.Fatalf("got %v, want ErrCorrupt naming the file and the way out", err)
			}
		})
	}
}

func TestUnreadableRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clusterd.db")
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, r := range history() {
		if err := b.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	err = b.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketTasks)).Put(key("f", "t1"), []byte("garbage"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Load(true); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("strict: got %v, want ErrCorrupt", err)
	}
	kept, skipped, err := b.Load(false)
	// The task and the three steps of its stream.
	if err != nil || skipped != 4 || len(kept.Tasks) != 1 {
		t.Fatalf("not strict: got %d tasks, %d skipped, %v, want 1, 4, nil", len(kept.Tasks), skipped, err)
	}
}

func TestVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clusterd.db")
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write([]core.Record{core.PutAgent{Info: agentInfo}}); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()

	// Two releases later.
	steps := []func(*bolt.Tx) error{
		func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketAgent)).Put([]byte("one"), []byte("1")) },
		func(tx *bolt.Tx) error {
			if tx.Bucket([]byte(bucketAgent)).Get([]byte("one")) == nil {
				return errors.New("out of order")
			}
			return nil
		},
	}
	for range 2 { // the second time nothing is left to do
		b, err = open(path, steps)
		if err != nil {
			t.Fatal(err)
		}
		kept, _, err := b.Load(true)
		if err != nil || !proto.Equal(kept.Agent, agentInfo) {
			t.Fatalf("after migration: got %v, %v", kept, err)
		}
		_ = b.Close()
	}
	// Back to this release.
	if _, err := Open(path); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want ErrNewer naming the file", err)
	}
	// A step that fails leaves the file as it was.
	bad := slices.Concat(steps, []func(*bolt.Tx) error{func(*bolt.Tx) error { return errors.New("boom") }})
	if _, err := open(path, bad); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Fatalf("got %v, want the step's error", err)
	}
	b, err = open(path, steps)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_ = b.db.View(func(tx *bolt.Tx) error {
		if v := binary.BigEndian.Uint64(tx.Bucket(headerBucket).Get(versionKey)); v != 3 {
			t.Errorf("got version %d, want 3", v)
		}
		return nil
	})
}

func TestFailing(t *testing.T) {
	full := errors.New("no space left on device")
	mem := &Memory{}
	s := &Failing{Store: mem, After: 1, Err: full}
	if err := s.Write([]core.Record{core.PutAgent{Info: agentInfo}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Write([]core.Record{core.ForgetAgent{}}); !errors.Is(err, full) {
		t.Fatalf("got %v, want %v", err, full)
	}
	if kept, _, _ := mem.Load(true); kept.Agent == nil {
		t.Fatal("a failed write changed something")
	}
}
