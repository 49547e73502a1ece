package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"clusterd/api/client/executor"
	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// executorEnv makes the test binary an executor instead.
const executorEnv = "CLUSTERD_TEST_EXECUTOR"

// runExecutor is an executor on the client library: its tasks run until they are
// killed, and a message comes back as it was.
func runExecutor() int {
	config, err := executor.FromEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := executor.New(config, executor.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	for event, err := range c.Subscribe(ctx) {
		if err == nil {
			var over bool
			over, err = handleEvent(ctx, c, event)
			if over {
				return 0
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func handleEvent(ctx context.Context, c *executor.Client, event *executor.Event) (over bool, err error) {
	report := func(id *mesos.TaskID, state mesos.TaskState) error {
		return c.Update(ctx, &mesos.TaskStatus{TaskId: id, State: state.Enum()})
	}
	switch event.GetType() {
	case executor.LAUNCH:
		return false, report(event.GetLaunch().GetTask().GetTaskId(), mesos.TaskState_TASK_RUNNING)
	case executor.LAUNCH_GROUP:
		for _, t := range event.GetLaunchGroup().GetTaskGroup().GetTasks() {
			if err := report(t.GetTaskId(), mesos.TaskState_TASK_RUNNING); err != nil {
				return false, err
			}
		}
	case executor.KILL:
		return false, report(event.GetKill().GetTaskId(), mesos.TaskState_TASK_KILLED)
	case executor.MESSAGE:
		// The test kills the agent once it has the answer: the agent may then not have
		// told that it took it.
		_ = c.Message(ctx, event.GetMessage().GetData())
	case executor.SHUTDOWN:
		return true, nil
	default:
	}
	return false, nil
}

// groupOf makes an operation that launches tasks together under our executor.
func groupOf(t *testing.T, f *framework, offer *mesos.Offer, ids ...string) *mesos.Offer_Operation {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	group := &mesos.TaskGroupInfo{}
	for _, id := range ids {
		task := shellTask(id, "")
		task.Command, task.AgentId = nil, offer.GetAgentId()
		group.Tasks = append(group.Tasks, task)
	}
	return &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_LAUNCH_GROUP.Enum(),
		LaunchGroup: &mesos.Offer_Operation_LaunchGroup{TaskGroup: group, Executor: &mesos.ExecutorInfo{
			Type:        mesos.ExecutorInfo_CUSTOM.Enum(),
			ExecutorId:  &mesos.ExecutorID{Value: new("group")},
			FrameworkId: f.client.FrameworkID(),
			Resources:   []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 16)},
			Command: &mesos.CommandInfo{
				Shell: new(bool), Value: &self, Arguments: []string{self},
				Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new(executorEnv), Value: new("1")}}},
			},
		}},
	}
}

// TestLaunchGroup launches two tasks as a group under a custom executor, sends it
// a message, kills -9 the agent under it, kills one task and shuts the executor
// down: the other task ends with it.
func TestLaunchGroup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{"--registration_backoff_factor=50ms"}})
	f := subscribe(t, c, "group")
	offer := f.nextOffer(ctx)
	err := f.client.Accept(ctx, []*mesos.OfferID{offer.GetId()}, []*mesos.Offer_Operation{groupOf(t, f, offer, "a", "b")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	running := map[string]bool{}
	for len(running) < 2 {
		running[f.update(ctx, mesos.TaskState_TASK_RUNNING).GetTaskId().GetValue()] = true
	}
	group := &mesos.ExecutorID{Value: new("group")}
	if err := f.client.Message(ctx, offer.GetAgentId(), group, []byte("there and back")); err != nil {
		t.Fatal(err)
	}
	if got := string(f.next(ctx, scheduler.MESSAGE).GetMessage().GetData()); got != "there and back" {
		t.Errorf("message: got %q", got)
	}

	c.Agents[0].Kill()
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	if err := f.client.Kill(ctx, &mesos.TaskID{Value: new("a")}, offer.GetAgentId(), nil); err != nil {
		t.Fatal(err)
	}
	if s := f.update(ctx, mesos.TaskState_TASK_KILLED); s.GetTaskId().GetValue() != "a" {
		t.Errorf("killed a, heard of %s", s.GetTaskId().GetValue())
	}
	if err := f.client.Shutdown(ctx, group, offer.GetAgentId()); err != nil {
		t.Fatal(err)
	}
	s := f.update(ctx, mesos.TaskState_TASK_FAILED)
	if s.GetTaskId().GetValue() != "b" || s.GetReason() != mesos.TaskStatus_REASON_EXECUTOR_TERMINATED {
		t.Errorf("after the executor's end: got %v", s)
	}
}
