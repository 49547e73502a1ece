package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// TestAgentsOutliveTheirMasters starts two agents that know of one master only, one
// by its address and one by gossip. Two masters join, the first dies for good: the
// agents follow, with their tasks, and even restarted with the command line that
// names nobody alive they find their cluster.
func TestAgentsOutliveTheirMasters(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*testcluster.Patience)
	defer cancel()
	c, err := testcluster.New(testcluster.Options{Dir: shortDir(t), Masters: 3, Grow: true, Agents: 2, AgentFlags: []string{
		"--registration_backoff_factor=50ms", "--resources=cpus:0.1;mem:32;disk:1024",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.DumpLogs(t.Output())
		}
	})
	c.Agents[0].SetFlags("--master=" + c.Master.Addr)
	c.Agents[1].DropFlag("--master")
	c.Agents[1].SetFlags("--join=" + c.Master.Gossip)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	f := &keeper{framework: everywhere(t, c, "outlive")}
	counters := []waits{newWaits(t), newWaits(t)}
	for i, w := range counters { // each fills an agent
		task := fmt.Sprintf("task%d", i)
		f.launch(ctx, shellTask(task, w.command(7)))
		f.await(ctx, task, mesos.TaskState_TASK_RUNNING)
	}
	ids := agentsOf(t, c)
	for n, m := range c.Masters[1:] {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		err := testcluster.Poll(func() error {
			if voters := status(c.Master).voters(); voters != n+2 {
				return fmt.Errorf("%d voters, want %d", voters, n+2)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	c.Master.Kill()
	same := func() error {
		if got := agentsOf(t, c); got != ids {
			return fmt.Errorf("agents and their tasks are %s, want %s", got, ids)
		}
		return nil
	}
	if err := testcluster.Poll(same); err != nil {
		t.Fatal(err)
	}
	for _, a := range c.Agents {
		a.Kill()
	}
	for _, a := range c.Agents {
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range c.Agents {
		registered(t, a)
	}
	if err := testcluster.Poll(same); err != nil {
		t.Fatal(err)
	}
	for i, w := range counters {
		w.finish(t)
		f.await(ctx, fmt.Sprintf("task%d", i), mesos.TaskState_TASK_FAILED)
		w.once(t)
	}
	if found, _ := filepath.Glob(filepath.Join(c.Agents[1].WorkDir, "meta", "node_id")); len(found) != 1 {
		t.Error("the agent that gossips has no name of its own")
	}
}

// agentsOf lists the active agents and the running tasks, as one line.
func agentsOf(t *testing.T, c *testcluster.Cluster) string {
	t.Helper()
	body, err := c.State()
	if err != nil {
		return err.Error()
	}
	var state struct {
		Slaves []struct {
			ID     string
			Active bool
		}
		Frameworks []struct {
			Tasks []struct {
				ID, State string
				Agent     string `json:"slave_id"`
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &state); err != nil {
		return err.Error()
	}
	active := map[string]bool{}
	for _, a := range state.Slaves {
		active[a.ID] = a.Active
	}
	tasks := map[string]string{}
	for _, f := range state.Frameworks {
		for _, task := range f.Tasks {
			tasks[task.ID] = fmt.Sprintf("%s on %s", task.State, task.Agent)
		}
	}
	return fmt.Sprint(active, tasks)
}
