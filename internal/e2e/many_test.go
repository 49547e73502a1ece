package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// TestKillMany launches 200 tasks at once, kills half of them before they run and
// the others as they come to run: each is told to have been killed, and no process
// is left.
func TestKillMany(t *testing.T) {
	const tasks = 200
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{"--resources=cpus:100;mem:100000;disk:100"}})
	f := subscribe(t, c, "many")
	offer := f.nextOffer(ctx)
	var all []*mesos.TaskInfo
	for i := range tasks {
		all = append(all, shellTask(fmt.Sprintf("many-%03d", i), "sleep 1000"))
	}
	if err := f.client.Launch(ctx, offer, all...); err != nil {
		t.Fatal(err)
	}
	kill := func(id *mesos.TaskID) {
		if err := f.client.Kill(ctx, id, offer.GetAgentId(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, task := range all[:tasks/2] {
		kill(task.GetTaskId())
	}
	ran := 0
	ended := map[string]mesos.TaskState{}
	for len(ended) < tasks {
		s := f.next(ctx, scheduler.UPDATE).GetUpdate().GetStatus()
		if err := f.client.Acknowledge(ctx, s); err != nil {
			t.Fatal(err)
		}
		if s.GetState() == mesos.TaskState_TASK_RUNNING {
			ran++
			kill(s.GetTaskId())
		}
		if !terminal(s.GetState()) {
			continue
		}
		if s.GetState() != mesos.TaskState_TASK_KILLED {
			t.Errorf("%s: got %s (%s, %s), want TASK_KILLED", s.GetTaskId().GetValue(), s.GetState(), s.GetReason(), s.GetMessage())
		}
		ended[s.GetTaskId().GetValue()] = s.GetState()
	}
	if ran < tasks/2 {
		t.Errorf("%d tasks ran, want %d at least", ran, tasks/2)
	}
	err := testcluster.Poll(func() error {
		for _, pid := range testcluster.Processes(c.Agents[0].WorkDir) {
			if pid != c.Agents[0].PID() {
				return errors.New("a process is left")
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
