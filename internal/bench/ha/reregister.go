package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/bench/measure"
	"clusterd/internal/emulate"
	"clusterd/internal/testcluster"
)

// shape is what the agents have that come back.
type shape struct {
	agents     int
	frameworks int
	tasks      int // of each framework on each agent
	target     string
	mesos      string
}

// labels of a task, as in Mesos's benchmark.
const labels = 10

// benchReregister measures how agents come back to the next leader, with the shapes of
// Mesos's AgentReregistrationDelay (src/tests/master_benchmarks.cpp): all frameworks
// have tasks on all agents, and each task has ten labels. Other than there, the agents
// notice the failover by themselves, open new connections, and wait at random before.
func benchReregister(ctx context.Context, s *settings) ([]measure.Row, error) {
	var rows []measure.Row
	for i, sh := range []shape{
		{agents: s.agents, frameworks: 1, tasks: 5, target: "<= 2 s of the master's, <= 10 s wall", mesos: "9 s (1.5), 15.2 s on 2 cores"},
		{agents: s.agents / 10, frameworks: 5, tasks: 20, target: "", mesos: ""},
	} {
		section := *s
		section.dir = filepath.Join(s.dir, strconv.Itoa(i))
		if err := os.Mkdir(section.dir, 0o755); err != nil {
			return nil, err
		}
		r, err := sh.run(ctx, &section)
		if err != nil {
			return nil, fmt.Errorf("%d agents: %w", sh.agents, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (sh shape) run(ctx context.Context, s *settings) (_ []measure.Row, err error) {
	c, err := startMasters(s)
	if err != nil {
		return nil, err
	}
	defer func() { stop(s, c, err) }()
	var infos []*mesos.FrameworkInfo
	for i := range sh.frameworks {
		f, err := subscribe(ctx, addrs(c.Masters), fmt.Sprintf("framework%d", i))
		if err != nil {
			return nil, err
		}
		defer f.close()
		infos = append(infos, &mesos.FrameworkInfo{
			Id: f.FrameworkID(), User: new("root"), Name: new(fmt.Sprintf("framework%d", i)), Roles: []string{fmt.Sprintf("framework%d", i)},
			Checkpoint: new(true), Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
		})
	}
	var back counter
	agents, err := emulate.StartAll(ctx, sh.agents, emulate.Options{
		Masters: addrs(c.Masters), CPUs: 32, MemMB: 65536, OwnAddresses: true, Redial: s.jitter, MaxRedial: 2 * time.Second,
		Has: func(n int, id *mesos.AgentID) ([]*mesos.FrameworkInfo, []*mesos.Task) {
			return infos, tasks(n, id, infos, sh.tasks)
		},
		OnRegistered: back.note,
	})
	defer emulate.StopAll(agents)
	if err != nil {
		return nil, err
	}
	old, others, err := leader(ctx, c)
	if err != nil {
		return nil, err
	}
	return sh.failover(ctx, c, old, others, &back)
}

// failover kills the leader and waits until all agents are back.
func (sh shape) failover(ctx context.Context, c *testcluster.Cluster, old *testcluster.Process, others []*testcluster.Process, back *counter) ([]measure.Row, error) {
	before := map[*testcluster.Process]time.Duration{}
	for _, m := range others {
		var err error
		if before[m], err = measure.CPUTime(m.PID()); err != nil {
			return nil, err
		}
	}
	first, all := back.expect(sh.agents)
	start := time.Now()
	old.Kill()
	for _, ch := range []chan time.Time{first, all} {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case at := <-ch:
			ch <- at
		case <-time.After(4 * testcluster.Patience):
			return nil, fmt.Errorf("%d of %d agents came back", back.n.Load(), sh.agents)
		}
	}
	lead, _, err := leader(ctx, c)
	if err != nil {
		return nil, err
	}
	used, err := measure.CPUTime(lead.PID())
	if err != nil {
		return nil, err
	}
	used -= before[lead]
	total := sh.agents * sh.frameworks * sh.tasks
	if err := counts(lead, sh.agents, total); err != nil {
		return nil, err
	}
	mem, err := measure.RSS(lead.PID())
	if err != nil {
		return nil, err
	}
	firstAt, allAt := <-first, <-all
	note := "with 10 labels each"
	if sh.mesos != "" {
		note += "; Mesos: " + sh.mesos
	}
	what := fmt.Sprintf("%d agents with %d tasks each re-register", sh.agents, sh.frameworks*sh.tasks)
	return []measure.Row{
		{What: what, Value: fmt.Sprintf("%s of the master's processor time", seconds(used)), Target: sh.target, Note: note},
		{What: "- from the kill of the leader", Value: seconds(allAt.Sub(start)) + " wall", Note: "election and the agents' jitter included; the agents share the processors"},
		{What: "- from the first agent that is back", Value: seconds(allAt.Sub(firstAt)) + " wall"},
		{What: "- memory of the new leader then", Value: fmt.Sprintf("%.0f MB", mem/1e6), Note: "resident"},
	}, nil
}

// counter counts agents that come back.
type counter struct {
	n atomic.Int64

	mu sync.Mutex
	// mu guards what follows.
	want       int64
	first, all chan time.Time
}

// expect starts to count n agents, and returns channels that take when the first and
// the last one is back.
func (c *counter) expect(n int) (first, all chan time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n.Store(0)
	c.want, c.first, c.all = int64(n), make(chan time.Time, 2), make(chan time.Time, 2)
	return c.first, c.all
}

func (c *counter) note(_ int, again bool) {
	if !again {
		return
	}
	n := c.n.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 1 && c.first != nil {
		c.first <- time.Now()
	}
	if n == c.want {
		c.all <- time.Now()
	}
}

// tasks makes the tasks of an agent.
func tasks(n int, agent *mesos.AgentID, frameworks []*mesos.FrameworkInfo, each int) []*mesos.Task {
	var all []*mesos.Task
	for _, f := range frameworks {
		for i := range each {
			id := fmt.Sprintf("task-%d-%d", n, i)
			t := &mesos.Task{
				Name: new("benchmark-task"), TaskId: &mesos.TaskID{Value: &id}, FrameworkId: f.Id, AgentId: agent,
				State:     mesos.TaskState_TASK_RUNNING.Enum(),
				Resources: []*mesos.Resource{allocated("cpus", 0.1, f.Roles[0]), allocated("mem", 32, f.Roles[0])},
				Labels:    &mesos.Labels{},
			}
			for l := range labels {
				t.Labels.Labels = append(t.Labels.Labels, &mesos.Label{Key: new("key" + strconv.Itoa(l)), Value: new("value" + strconv.Itoa(l))})
			}
			all = append(all, t)
		}
	}
	return all
}

func allocated(name string, value float64, role string) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: &role},
	}
}

// counts wants the leader to know so many active agents and running tasks: nothing was
// dropped to be fast.
func counts(m *testcluster.Process, agents, tasks int) error {
	return testcluster.Poll(func() error {
		body, err := testcluster.Get("http://" + m.Addr + "/metrics/snapshot")
		if err != nil {
			return err
		}
		var errs []error
		for key, want := range map[string]int{"master/slaves_active": agents, "master/tasks_running": tasks} {
			_, rest, ok := strings.Cut(body, strconv.Quote(key)+":")
			number, _, _ := strings.Cut(rest, ",")
			got, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if !ok || err != nil || int(got) != want {
				errs = append(errs, fmt.Errorf("%s is %q, want %d", key, number, want))
			}
		}
		return errors.Join(errs...)
	})
}
