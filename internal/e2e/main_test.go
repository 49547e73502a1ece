package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

func TestMain(m *testing.M) {
	if os.Getenv(executorEnv) != "" {
		os.Exit(runExecutor())
	}
	code := m.Run()
	testcluster.RemoveBinary()
	os.Exit(code)
}

// framework is a scheduler for tests: it holds on to the newest offers and keeps
// every update.
type framework struct {
	t      *testing.T
	client *scheduler.Client
	cancel context.CancelFunc
	events chan *scheduler.Event
	done   chan error
}

// role that the tests' frameworks subscribe with.
const role = "e2e"

func subscribe(t *testing.T, c *testcluster.Cluster, name string) *framework {
	t.Helper()
	return start(t, scheduler.Options{
		Masters: []string{c.Master.Addr},
		Framework: &mesos.FrameworkInfo{
			User: new("root"), Name: &name, Roles: []string{role},
			Checkpoint: new(true), FailoverTimeout: proto.Float64(600),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT.Enum()},
			},
		},
	})
}

// start runs a framework until the test ends; its events wait to be taken.
func start(t *testing.T, opts scheduler.Options) *framework {
	t.Helper()
	client, err := scheduler.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &framework{t: t, client: client, cancel: cancel, events: make(chan *scheduler.Event, 10000), done: make(chan error, 1)}
	go func() {
		f.done <- client.Run(ctx, func(e *scheduler.Event) error { f.events <- e; return nil })
	}()
	t.Cleanup(func() { cancel(); <-f.done })
	return f
}

// event returns the next event; want is what the test waits for.
func (f *framework) event(ctx context.Context, want any) *scheduler.Event {
	f.t.Helper()
	select {
	case <-ctx.Done():
		f.t.Fatalf("no %v", want)
		return nil
	case e := <-f.events:
		return e
	}
}

// next returns the next event of a type.
func (f *framework) next(ctx context.Context, want any) *scheduler.Event {
	f.t.Helper()
	for {
		if e := f.event(ctx, want); any(e.GetType()) == want {
			return e
		}
	}
}

func (f *framework) nextOffer(ctx context.Context) *mesos.Offer {
	f.t.Helper()
	return f.next(ctx, scheduler.OFFERS).GetOffers().GetOffers()[0]
}

// update returns the next update, acknowledged, and wants it to be of a state.
func (f *framework) update(ctx context.Context, want mesos.TaskState) *mesos.TaskStatus {
	f.t.Helper()
	s := f.next(ctx, scheduler.UPDATE).GetUpdate().GetStatus()
	if err := f.client.Acknowledge(ctx, s); err != nil {
		f.t.Fatal(err)
	}
	if s.GetState() != want {
		f.t.Fatalf("got %v, want %s", s, want)
	}
	return s
}

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: new(role)},
	}
}

func shellTask(id, command string) *mesos.TaskInfo {
	return &mesos.TaskInfo{
		Name: &id, TaskId: &mesos.TaskID{Value: &id},
		Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)},
		Command:   &mesos.CommandInfo{Value: &command},
	}
}

func amount(offer *mesos.Offer, name string) float64 {
	var sum float64
	for _, r := range offer.GetResources() {
		if r.GetName() == name {
			sum += r.GetScalar().GetValue()
		}
	}
	return sum
}

func terminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED, mesos.TaskState_TASK_ERROR,
		mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

// sandbox is the folder in which a command task of the framework runs.
func sandbox(c *testcluster.Cluster, task string) string {
	found, _ := filepath.Glob(filepath.Join(c.Agents[0].WorkDir, "slaves", "*", "frameworks", "*", "executors", task, "runs", "latest"))
	return strings.Join(found, "")
}
