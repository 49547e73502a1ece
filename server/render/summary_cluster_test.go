package render

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
		Rows    int
		Since   float64
		Columns map[string]any
	}
}

// rows are the tasks with what their columns stand for.
func (c *wholeCluster) rows() []map[string]any {
	out := make([]map[string]any, c.Tasks.Rows)
	for i := range out {
		out[i] = map[string]any{}
	}
	for name, column := range c.Tasks.Columns {
		list, several := column.([]any)
		var texts []string
		for i, row := range out {
			v := column
			if several {
				v = list[i]
			}
			text, isText := v.(string)
			if isText && several {
				texts = append(texts, text)
			}
			switch n, _ := v.(float64); name {
			case "framework":
				v = c.Frameworks[int(n)].ID
			case "agent":
				v = c.Agents[int(n)].ID
			case "state":
				v = c.States[int(n)]
			case "name", "executor_id", "role":
				if !isText && v != nil {
					v = texts[int(n)]
				}
			}
			row[name] = v
		}
		if several && len(list) != len(out) {
			panic(fmt.Sprintf("column %s has %d values of %d", name, len(list), len(out)))
		}
	}
	for _, row := range out {
		if row["name"] == nil {
			row["name"] = row["task_id"]
		}
		from := c.Tasks.Since
		if n, ok := row["started"].(float64); ok {
			from += n / 1000
			row["started"] = from
		}
		if n, ok := row["updated"].(float64); ok {
			row["updated"] = from + n/1000
		}
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
	for _, r := range got.rows() {
		rows[r["framework"].(string)+"/"+r["task_id"].(string)] = r
	}
	if len(rows) != 6+3+3+2 {
		t.Errorf("got %d tasks: %v", len(rows), rows)
	}
	if diff := cmp.Diff(map[string]any{
		"task_id": "on-removed", "name": "n", "framework": "seen-0", "agent": "S8", "executor_id": "e", "state": "TASK_FAILED", "role": "a/b",
		"cpus": 0.25, "mem": 64.0, "disk": 10.0, "gpus": 2.0, "healthy": false, "started": 11.5, "updated": 12.25,
	}, rows["seen-0/on-removed"]); diff != "" {
		t.Errorf("task: -want +got:\n%s", diff)
	}
	bare := rows["seen-0/on-gone"]
	if bare["healthy"] != nil || bare["started"] != nil || bare["updated"] != nil || bare["agent"] != "S6" {
		t.Errorf("a task without statuses: %v", bare)
	}
	if r := rows["seen-0/seen-task-TASK_RUNNING"]; r["state"] != "TASK_RUNNING" || r["started"] != 1.0 {
		t.Errorf("a running task: %v", r)
	}
	if got.Agents[0].Tasks["TASK_RUNNING"] != 4 || got.Agents[0].Allocated["cpus"] != 2 || got.Agents[0].Reserved["cpus"] != 3 {
		t.Errorf("agent: %+v", got.Agents[0])
	}
	if n := len(readCluster(t, Cluster(v, m, ClusterOptions{Bare: true}, nil)).rows()); n != 6 {
		t.Errorf("%d tasks without those that ended, want 6", n)
	}
}

// TestTaskTable: what is written short is read as it was, whatever it is.
func TestTaskTable(t *testing.T) {
	one := resources.MustParse("cpus:1.5;mem:3;disk:7").Allocate("r")
	two := resources.MustParse("cpus:0.25;gpus:1").Allocate("s")
	at := func(seconds float64) []core.Status {
		return []core.Status{{State: mesos.TaskState_TASK_RUNNING, Timestamp: seconds}}
	}
	task := func(id, name, executor string, r resources.Resources, statuses ...core.Status) *core.Task {
		return &core.Task{ID: id, Name: name, ExecutorID: executor, Resources: r, State: mesos.TaskState_TASK_RUNNING, Statuses: statuses}
	}
	later := func(seconds float64) []core.Status {
		return append(at(seconds), core.Status{State: mesos.TaskState_TASK_KILLING, Timestamp: seconds - 2, HasHealth: true, Healthy: true})
	}
	for name, tasks := range map[string][]*core.Task{
		"none":           {},
		"one":            {task("a", "a", "", one, at(1700000000.25)...)},
		"one of a name":  {task("a", "b", "e", one)},
		"alike":          {task("a", "n", "e", one, at(5)...), task("b", "n", "e", one, at(5)...), task("c", "n", "e", one, at(5)...)},
		"as their ids":   {task("a", "a", "a", one), task("b", "b", "b", two)},
		"first its id":   {task("a", "a", "x", one), task("b", "n", "x", two), task("c", "n", "y", one), task("d", "d", "x", one)},
		"names are ids":  {task("a", "b", "", one), task("b", "a", "", one), task("c", "c", "", one), task("d", "a", "", two)},
		"empty names":    {task("a", "", "", one), task("b", "", "e", one), task("c", "c", "", one)},
		"in turn":        {task("a", "x", "", one), task("b", "y", "", two), task("c", "x", "", one), task("d", "y", "", two), task("e", "z", "", one)},
		"times":          {task("a", "n", "", one), task("b", "n", "", one, later(1700000000.5)...), task("c", "n", "", one, at(1600000000.001)...)},
		"no numbers":     {task("a", "n", "", one, at(math.NaN())...), task("b", "n", "", one, at(math.Inf(1))...), task("c", "n", "", one, at(-3)...)},
		"only the later": {task("a", "n", "", one, append(at(0), core.Status{Timestamp: 9})...), task("b", "n", "", one, at(100)...)},
	} {
		c := &wholeCluster{States: taskStates}
		c.Agents = append(c.Agents, struct {
			ID, State, Hostname string
			Since               float64
			Allocated, Reserved map[string]float64
			Tasks               map[string]int
			Drain               map[string]any
		}{ID: "A"})
		c.Frameworks = append(c.Frameworks, struct {
			ID        string
			Completed bool
			Roles     []string
			Allocated map[string]float64
			Tasks     map[string]int
		}{ID: "F"})
		list, want := newTaskTable(0), []map[string]any{}
		for _, x := range tasks {
			list.add(x, 0, 0)
			row := map[string]any{
				"task_id": x.ID, "name": x.Name, "framework": "F", "agent": "A", "executor_id": x.ExecutorID, "state": "TASK_RUNNING", "role": x.Role(),
				"healthy": nil, "started": nil, "updated": nil,
			}
			for k, r := range map[string]int{"cpus": atCPUs, "mem": atMem, "disk": atDisk, "gpus": atGPUs} {
				row[k] = float64(scalars(x.Resources)[r]) / 1000
			}
			if at := started(x); at.ok {
				row["started"] = float64(at.millis) / 1000
			}
			if last := x.Latest(); last != nil {
				if at := millis(last.Timestamp); at.ok {
					row["updated"] = float64(at.millis) / 1000
				}
				if last.HasHealth {
					row["healthy"] = last.Healthy
				}
			}
			want = append(want, row)
		}
		var p plan
		list.write(&p)
		text := p.write().Bytes()
		if err := json.Unmarshal(text, &c.Tasks); err != nil {
			t.Errorf("%s: %v in %s", name, err, text)
			continue
		}
		if diff := cmp.Diff(want, c.rows(), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
			t.Errorf("%s: -want +got:\n%s\nof %s", name, diff, text)
		}
	}
}

// TestTextsAreBounded: when too many different texts were remembered, numbers go on to mean
// what they meant.
func TestTextsAreBounded(t *testing.T) {
	x := texts{known: map[string]code{}}
	var written []string
	check := func(text string) {
		t.Helper()
		switch c := x.code(text); {
		case c == asText:
			written = append(written, text)
		case written[c] != text:
			t.Fatalf("%s is written as %d, which is %s", text, c, written[c])
		}
	}
	for i := range maxTexts + 100 {
		check(strconv.Itoa(i))
	}
	for i := range maxTexts + 100 {
		check(strconv.Itoa(i))
		check(strconv.Itoa(i))
	}
	if n := len(written); n != maxTexts+200 {
		t.Errorf("%d texts are written, want %d", n, maxTexts+200)
	}
	if len(x.known) != maxTexts {
		t.Errorf("%d are remembered", len(x.known))
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
