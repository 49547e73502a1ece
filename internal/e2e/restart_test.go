package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// await returns the next update of a task in the wanted state, acknowledging all.
func (f *framework) await(ctx context.Context, task string, want mesos.TaskState) *mesos.TaskStatus {
	f.t.Helper()
	for {
		s := f.next(ctx, scheduler.UPDATE).GetUpdate().GetStatus()
		if err := f.client.Acknowledge(ctx, s); err != nil {
			f.t.Logf("acknowledge: %v", err)
		}
		if s.GetTaskId().GetValue() == task && s.GetState() == want {
			return s
		}
	}
}

// launch launches a task on the next offer.
func (f *framework) launch(ctx context.Context, task *mesos.TaskInfo) *mesos.Offer {
	f.t.Helper()
	offer := f.nextOffer(ctx)
	if err := f.client.Launch(ctx, offer, task); err != nil {
		f.t.Fatal(err)
	}
	return offer
}

// TestRestartKeeps kills -9 and restarts master and agent under a running task: the
// cluster id, the agent id, the framework id and the task are the same after.
func TestRestartKeeps(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{"--registration_backoff_factor=50ms"}})
	f := subscribe(t, c, "restart")
	offer := f.launch(ctx, shellTask("long", "sleep 1000"))
	f.await(ctx, "long", mesos.TaskState_TASK_RUNNING)
	framework := f.client.FrameworkID().GetValue()
	for _, p := range []*testcluster.Process{c.Master, c.Agents[0], c.Master} {
		p.Kill()
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitAgents(1); err != nil {
			t.Fatal(err)
		}
		err := testcluster.Poll(func() error {
			return sameCluster(c, offer.GetAgentId().GetValue(), framework, "long")
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kill := time.NewTicker(time.Second)
	defer kill.Stop()
	for {
		select {
		case <-ctx.Done():
			t.Fatal("the task could not be killed")
		case <-kill.C:
			_ = f.client.Kill(ctx, &mesos.TaskID{Value: new("long")}, offer.GetAgentId(), nil)
		case e := <-f.events:
			if e.GetType() == scheduler.UPDATE {
				s := e.GetUpdate().GetStatus()
				_ = f.client.Acknowledge(ctx, s)
				if s.GetState() == mesos.TaskState_TASK_KILLED {
					return
				}
			}
		}
	}
}

// sameCluster looks into /state for an agent, a connected framework and its task.
func sameCluster(c *testcluster.Cluster, agent, framework, task string) error {
	s, err := look(c)
	if err == nil && (len(s.Slaves) != 1 || s.Slaves[0].ID != agent) {
		err = fmt.Errorf("agents are %v, want %s", s.Slaves, agent)
	}
	if err != nil {
		return err
	}
	return s.runs(framework, task)
}

// clusterState is what tests read of /state.
type clusterState struct {
	Slaves     []struct{ ID string }
	Frameworks []struct {
		ID        string
		Connected bool
		Tasks     []struct{ ID, State string }
	}
}

// look asks the leading master.
func look(c *testcluster.Cluster) (clusterState, error) {
	var s clusterState
	body, err := c.State()
	if err == nil {
		err = json.Unmarshal([]byte(body), &s)
	}
	return s, err
}

// runs wants a connected framework with one running task.
func (s *clusterState) runs(framework, task string) error {
	for _, f := range s.Frameworks {
		if f.ID == framework && f.Connected && len(f.Tasks) == 1 && f.Tasks[0].ID == task && f.Tasks[0].State == "TASK_RUNNING" {
			return nil
		}
	}
	return fmt.Errorf("frameworks are %+v, want %s connected with running %s", s.Frameworks, framework, task)
}
