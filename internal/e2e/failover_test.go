package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// everywhere runs a framework that knows all masters.
func everywhere(t *testing.T, c *testcluster.Cluster, name string) *framework {
	t.Helper()
	var masters []string
	for _, m := range c.Masters {
		masters = append(masters, m.Addr)
	}
	return start(t, scheduler.Options{
		Masters: masters,
		Framework: &mesos.FrameworkInfo{
			User: new("root"), Name: &name, Roles: []string{role}, Checkpoint: new(true), FailoverTimeout: proto.Float64(600),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
			},
		},
	})
}

// TestFailover kills -9 the leader of three masters twice under a running task:
// the task, its framework and its agent are known to each next leader, and a
// master that comes back follows.
func TestFailover(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{Masters: 3, Agents: 2, Join: true, AgentFlags: []string{"--registration_backoff_factor=50ms"}})
	f := everywhere(t, c, "failover")
	starts := filepath.Join(t.TempDir(), "starts")
	f.launch(ctx, shellTask("long", "echo started >> "+starts+"; sleep 1000"))
	f.await(ctx, "long", mesos.TaskState_TASK_RUNNING)
	id := f.client.FrameworkID().GetValue()
	cluster := clusterID(t, c)
	for range 2 {
		leader, err := c.Leader()
		if err != nil {
			t.Fatal(err)
		}
		leader.Kill()
		if err := c.WaitAgents(2); err != nil {
			t.Fatal(err)
		}
		if err := testcluster.Poll(func() error { return runs(c, id, "long") }); err != nil {
			t.Fatal(err)
		}
		if got := clusterID(t, c); got != cluster {
			t.Errorf("cluster id %q has become %q", cluster, got)
		}
		if err := leader.Start(); err != nil {
			t.Fatal(err)
		}
		if err := testcluster.Poll(func() error { return follows(c, leader) }); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(starts); err != nil || strings.Count(string(b), "started") != 1 {
		t.Errorf("the task says that it started: %q, %v; want once", b, err)
	}
}

// TestAllMastersAtOnce kills -9 all three masters and starts them again: nothing
// of what they agreed on is lost.
func TestAllMastersAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{Masters: 3, AgentFlags: []string{"--registration_backoff_factor=50ms"}})
	f := everywhere(t, c, "all")
	f.launch(ctx, shellTask("long", "sleep 1000"))
	f.await(ctx, "long", mesos.TaskState_TASK_RUNNING)
	id, cluster := f.client.FrameworkID().GetValue(), clusterID(t, c)
	for _, m := range c.Masters {
		m.Kill()
	}
	for _, m := range c.Masters {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	if err := testcluster.Poll(func() error { return runs(c, id, "long") }); err != nil {
		t.Fatal(err)
	}
	if got := clusterID(t, c); got != cluster {
		t.Errorf("cluster id %q has become %q", cluster, got)
	}
}

// TestGrow founds a cluster of one master and lets two more join while a task runs.
// Then the first one dies for good, and the cluster lives on.
func TestGrow(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{Masters: 3, Grow: true, Join: true, AgentFlags: []string{"--registration_backoff_factor=50ms"}})
	f := everywhere(t, c, "grow")
	f.launch(ctx, shellTask("long", "sleep 1000"))
	f.await(ctx, "long", mesos.TaskState_TASK_RUNNING)
	id := f.client.FrameworkID().GetValue()
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
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	if err := testcluster.Poll(func() error { return runs(c, id, "long") }); err != nil {
		t.Fatal(err)
	}
}

// registryStatus is what a master says of the registry's members.
type registryStatus struct {
	ClusterID string `json:"cluster_id"`
	State     string
	Members   []struct{ Voter bool }
}

func (s registryStatus) voters() int {
	n := 0
	for _, m := range s.Members {
		if m.Voter {
			n++
		}
	}
	return n
}

// status asks a master; of one that does not answer nothing is known.
func status(m *testcluster.Process) registryStatus {
	var s registryStatus
	body, err := testcluster.Get("http://" + m.Addr + "/api/clusterd/v1/registry")
	if err != nil || json.Unmarshal([]byte(body), &s) != nil {
		return registryStatus{}
	}
	return s
}

func clusterID(t *testing.T, c *testcluster.Cluster) string {
	t.Helper()
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	id := status(leader).ClusterID
	if id == "" {
		t.Fatal("the leader does not know the cluster's id")
	}
	return id
}

// runs wants a connected framework with one running task.
func runs(c *testcluster.Cluster, framework, task string) error {
	s, err := look(c)
	if err != nil {
		return err
	}
	return s.runs(framework, task)
}

// follows wants a master to send clients to the leader, which is another one.
func follows(c *testcluster.Cluster, m *testcluster.Process) error {
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get("http://" + m.Addr + "/state?x=1")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	leader, err := c.Leader()
	if err != nil {
		return err
	}
	want := "//" + strings.Replace(leader.Addr, "127.0.0.1", "localhost", 1) + "/state?x=1"
	if leader == m || res.StatusCode != http.StatusTemporaryRedirect || res.Header.Get("Location") != want {
		return fmt.Errorf("%s to %q, want 307 to %q", res.Status, res.Header.Get("Location"), want)
	}
	return nil
}
