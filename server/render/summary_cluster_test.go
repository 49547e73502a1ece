package render

import (
	"compress/gzip"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// wholeCluster is a summary as a page reads it.
type wholeCluster struct {
	Token   string
	Taken   float64
	Leader  map[string]any
	Cluster string
	States  []string
	Totals  map[string]any
	Roles   []map[string]any
	Agents  []struct {
		ID, State, Hostname string
		Since               float64
		Allocated, Reserved map[string]float64
		Tasks               map[string]int
		Drain               map[string]any
	}
	Frameworks []struct {
		ID        string
		Completed bool
		Roles     []string
		Allocated map[string]float64
		Tasks     map[string]int
	}
	Tasks struct {
		Columns []string
		Rows    [][]any
	}
}

// row is a task by its columns, with the ids that its numbers stand for.
func (c *wholeCluster) row(i int) map[string]any {
	out := map[string]any{}
	for k, name := range c.Tasks.Columns {
		v := c.Tasks.Rows[i][k]
		switch name {
		case "framework":
			v = c.Frameworks[int(v.(float64))].ID
		case "agent":
			v = c.Agents[int(v.(float64))].ID
		case "state":
			v = c.States[int(v.(float64))]
		}
		out[name] = v
	}
	return out
}

func readCluster(t *testing.T, body Body) *wholeCluster {
	t.Helper()
	c := new(wholeCluster)
	if err := json.Unmarshal(body.Bytes(), c); err != nil {
		t.Fatalf("%v in %.500s", err, body.Bytes())
	}
	return c
}

func TestClusterSummary(t *testing.T) {
	v, m := markedView()
	v.Unreachable = core.MapOf(map[string]time.Time{"S5": time.Unix(5, 0)})
	v.Gone = core.MapOf(map[string]time.Time{"S6": time.Unix(6, 0), "S7": time.Unix(7, 0)})
	f, _ := v.Frameworks.Get("seen-0")
	f.CompletedTasks = append(f.CompletedTasks,
		&core.Task{ID: "on-gone", FrameworkID: f.ID, AgentID: "S6", State: mesos.TaskState_TASK_GONE_BY_OPERATOR},
		&core.Task{
			ID: "on-removed", Name: "n", FrameworkID: f.ID, AgentID: "S8", ExecutorID: "e", State: mesos.TaskState_TASK_FAILED,
			Resources: resources.MustParse("cpus:0.25;mem:64;disk:10;gpus:2").Allocate("a/b"),
			Statuses: []core.Status{
				{State: mesos.TaskState_TASK_STARTING, Timestamp: 10.0001},
				{State: mesos.TaskState_TASK_RUNNING, Timestamp: 11.5, HasHealth: true, Healthy: true},
				{State: mesos.TaskState_TASK_FAILED, Timestamp: 12.25, HasHealth: true, ContainerID: "c", ParentContainerID: "p"},
			},
		})
	got := readCluster(t, Cluster(v, m, ClusterOptions{Token: "m:7", Build: "1"}, nil))
	if got.Token != "m:7" || got.Cluster != "c" || got.Leader["id"] != "m" {
		t.Errorf("got token %q, cluster %q, leader %v", got.Token, got.Cluster, got.Leader)
	}
	states := map[string]string{}
	for _, a := range got.Agents {
		states[a.ID] = a.State
	}
	want := map[string]string{"S0": "ACTIVE", "S9": "RECOVERED", "S5": "UNREACHABLE", "S6": "GONE", "S8": "REMOVED"}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Errorf("agents: -want +got:\n%s", diff)
	}
	rows := map[string]map[string]any{}
	for i := range got.Tasks.Rows {
		r := got.row(i)
		rows[r["framework"].(string)+"/"+r["task_id"].(string)] = r
	}
	if len(rows) != 6+3+3+2 {
		t.Errorf("got %d tasks: %v", len(rows), rows)
	}
	if diff := cmp.Diff(map[string]any{
		"task_id": "on-removed", "name": "n", "framework": "seen-0", "agent": "S8", "executor_id": "e", "state": "TASK_FAILED", "role": "a/b",
		"cpus": 0.25, "mem": 64.0, "disk": 10.0, "gpus": 2.0, "healthy": false, "started": 11.5, "updated": 12.25, "active": false, "container_id": "p.c",
	}, rows["seen-0/on-removed"]); diff != "" {
		t.Errorf("task: -want +got:\n%s", diff)
	}
	bare := rows["seen-0/on-gone"]
	if bare["healthy"] != nil || bare["started"] != nil || bare["updated"] != nil || bare["agent"] != "S6" {
		t.Errorf("a task without statuses: %v", bare)
	}
	if r := rows["seen-0/seen-task-TASK_RUNNING"]; r["active"] != true || r["started"] != 1.0 {
		t.Errorf("a running task: %v", r)
	}
	if got.Agents[0].Tasks["TASK_RUNNING"] != 4 || got.Agents[0].Allocated["cpus"] != 2 || got.Agents[0].Reserved["cpus"] != 3 {
		t.Errorf("agent: %+v", got.Agents[0])
	}
	if n := len(readCluster(t, Cluster(v, m, ClusterOptions{Bare: true}, nil)).Tasks.Rows); n != 6 {
		t.Errorf("%d tasks without those that ended, want 6", n)
	}
	for _, column := range got.Tasks.Columns {
		if _, ok := rows["seen-0/on-gone"][column]; !ok {
			t.Errorf("no column %s", column)
		}
	}
}

// TestTotalsAreSums compares the totals with the summary's own agents.
func TestTotalsAreSums(t *testing.T) {
	v, m := largeView(20, 1000, 500)
	v.Counts.Tasks = map[mesos.TaskState]int{mesos.TaskState_TASK_RUNNING: 1000}
	whole := readCluster(t, Cluster(v, m, ClusterOptions{}, nil))
	var totals struct {
		Totals struct {
			Agents, Frameworks, Tasks map[string]int
			Resources                 map[string]map[string]float64
			Offers                    int
		}
		Roles []struct {
			Name      string
			Allocated map[string]float64
		}
	}
	if err := json.Unmarshal(Totals(v, m, nil).Bytes(), &totals); err != nil {
		t.Fatal(err)
	}
	cpus := 0.0
	for _, a := range whole.Agents {
		cpus += a.Allocated["cpus"]
	}
	got := totals.Totals
	if got.Resources["allocated"]["cpus"] != cpus || cpus != 500 || got.Resources["total"]["mem"] != 20*262144 {
		t.Errorf("resources %v, agents have %v cpus allocated", got.Resources, cpus)
	}
	if got.Agents["total"] != 20 || got.Frameworks["active"] != 5 || got.Tasks["TASK_RUNNING"] != 1000 {
		t.Errorf("got %+v", got)
	}
	if len(totals.Roles) != 1 || totals.Roles[0].Name != "role" || totals.Roles[0].Allocated["cpus"] != 500 {
		t.Errorf("roles: %+v", totals.Roles)
	}
}

// BenchmarkClusterSummary is of 10,000 agents, 100,000 running and 100,000 completed tasks.
// Sizes are in the figures: the limit is 15 MB for the running ones.
func BenchmarkClusterSummary(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	for name, bare := range map[string]bool{"bare": true, "whole": false} {
		b.Run(name, func(b *testing.B) {
			body := Cluster(v, m, ClusterOptions{Bare: bare}, nil)
			var n counter
			z, _ := gzip.NewWriterLevel(&n, gzip.BestSpeed)
			for _, p := range body {
				_, _ = z.Write(p)
			}
			_ = z.Close()
			size := body.Len()
			measure(b, func() Body { return Cluster(v, m, ClusterOptions{Bare: bare}, nil) })
			b.ReportMetric(float64(size)/1e6, "MB")
			b.ReportMetric(float64(n)/1e6, "gzip-MB")
		})
	}
}

func BenchmarkTotals(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	measure(b, func() Body { return Totals(v, m, nil) })
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
