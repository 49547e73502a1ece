package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/bench/measure"
	"clusterd/internal/emulate"
	"clusterd/internal/testcluster"
)

// shape is what a cluster has. Tasks are spread evenly over agents and frameworks.
type shape struct {
	name              string
	agents            int
	frameworks        int
	running, ended    int
	masterFlags       []string
	framesUnconnected bool // the frameworks are known by their tasks only
}

// world is a real master with emulated agents and connected frameworks.
type world struct {
	shape   shape
	s       *settings
	c       *testcluster.Cluster
	http    *http.Client
	infos   []*mesos.FrameworkInfo
	clients []*framework
	agents  []*emulate.Agent
	labels  *mesos.Labels // of every task
	ready   time.Time     // when it was made

	reportEnded atomic.Bool  // agents tell of tasks that have ended, too
	returned    atomic.Int64 // agents that have come back
	// ends has the times when tasks of offers were ended, by their ids.
	ends sync.Map
}

// labels of a task; Mesos's benchmarks have ten (src/tests/master_benchmarks.cpp).
func labels(n int) *mesos.Labels {
	l := &mesos.Labels{}
	for i := range n {
		l.Labels = append(l.Labels, &mesos.Label{Key: new("key" + strconv.Itoa(i)), Value: new("value" + strconv.Itoa(i))})
	}
	return l
}

// create makes a cluster without launching its tasks: agents come back with them, as
// after a failover of the master. Tasks that have ended are reported once, and not again:
// the master, which has heard of their end, files them.
func create(ctx context.Context, s *settings, sh shape) (_ *world, err error) {
	w := &world{shape: sh, s: s, http: newHTTP(), labels: labels(s.labels)}
	defer func() {
		if err != nil {
			w.stop(err)
		}
	}()
	dir := filepath.Join(s.dir, sh.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	begin := time.Now()
	w.c, err = testcluster.New(testcluster.Options{Dir: dir, Agents: -1, MasterFlags: sh.masterFlags})
	if err != nil {
		return nil, err
	}
	if err := w.c.Up(); err != nil {
		return nil, err
	}
	if err := w.join(ctx); err != nil {
		return nil, err
	}
	w.agents, err = emulate.StartAll(ctx, sh.agents, emulate.Options{
		Masters: []string{w.c.Master.Addr}, CPUs: 20, MemMB: 10240, OwnAddresses: true,
		Redial: max(20*time.Millisecond, time.Duration(sh.agents)*50*time.Microsecond), MaxRedial: 2 * time.Second,
		Has:          w.has,
		OnRegistered: func(_ int, again bool) { w.count(again) },
		OnTerminal:   func(task string, at time.Time) { w.ends.Store(task, at) },
	})
	if err != nil {
		return nil, err
	}
	for _, ended := range []bool{true, false} {
		if ended && sh.ended == 0 {
			continue
		}
		if err := w.report(ended); err != nil {
			return nil, err
		}
	}
	if err := w.verify(ctx); err != nil {
		return nil, err
	}
	w.ready = time.Now()
	fmt.Fprintf(s.progress, "%d agents, %d frameworks, %d running and %d completed tasks after %.1f s\n",
		sh.agents, sh.frameworks, sh.running, sh.ended, w.ready.Sub(begin).Seconds())
	return w, nil
}

func (w *world) count(again bool) {
	if again {
		w.returned.Add(1)
	}
}

// join makes the frameworks. They want no offers.
func (w *world) join(ctx context.Context) error {
	for i := range w.shape.frameworks {
		role := fmt.Sprintf("role%d", i%10)
		w.infos = append(w.infos, &mesos.FrameworkInfo{
			User: new("root"), Name: new(fmt.Sprintf("framework%d", i)), Roles: []string{role}, Checkpoint: new(true),
			FailoverTimeout: proto.Float64(7 * 24 * 3600),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
			},
		})
	}
	if w.shape.framesUnconnected {
		for i, info := range w.infos {
			info.Id = &mesos.FrameworkID{Value: new(fmt.Sprintf("framework-%05d", i))}
		}
		return nil
	}
	w.clients = make([]*framework, len(w.infos))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, info := range w.infos {
		g.Go(func() error {
			f, err := w.subscribe(gctx, proto.CloneOf(info), info.Roles, nil)
			if err != nil {
				return err
			}
			w.clients[i] = f
			info.Id = f.FrameworkID()
			return nil
		})
	}
	return g.Wait()
}

// has is what agent n reports when it comes back.
func (w *world) has(n int, agent *mesos.AgentID) ([]*mesos.FrameworkInfo, []*mesos.Task) {
	var infos []*mesos.FrameworkInfo
	seen := make(map[int]bool)
	var tasks []*mesos.Task
	add := func(i int, state mesos.TaskState) {
		f := i % len(w.infos)
		if !seen[f] {
			seen[f] = true
			infos = append(infos, w.infos[f])
		}
		id := w.taskID(i, state)
		tasks = append(tasks, &mesos.Task{
			Name: new("test-task"), TaskId: id, FrameworkId: w.infos[f].Id, AgentId: agent, State: state.Enum(), Labels: w.labels,
			Resources: []*mesos.Resource{allocated("cpus", 0.1, w.infos[f].Roles[0]), allocated("mem", 5, w.infos[f].Roles[0])},
			// Mesos's have none, but /tasks sorts by it.
			Statuses: []*mesos.TaskStatus{{
				TaskId: id, State: state.Enum(), AgentId: agent, Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
				Timestamp: new(1795359925 + float64(i*7919%100003)/64),
			}},
		})
	}
	for i := n; i < w.shape.running; i += w.shape.agents {
		add(w.mix(i), mesos.TaskState_TASK_RUNNING)
	}
	for i := n; w.reportEnded.Load() && i < w.shape.ended; i += w.shape.agents {
		add(w.mix(i), mesos.TaskState_TASK_FINISHED)
	}
	return infos, tasks
}

// mix has an agent's tasks belong to many frameworks, though their numbers may have
// divisors in common.
func (w *world) mix(i int) int {
	block := i / w.shape.agents * w.shape.agents
	size := min(w.shape.agents, max(w.shape.running, w.shape.ended)-block)
	if size < w.shape.agents {
		return i
	}
	return block + (i-block+i/w.shape.agents)%size
}

func (w *world) taskID(i int, state mesos.TaskState) *mesos.TaskID {
	kind := "service"
	if state == mesos.TaskState_TASK_FINISHED {
		kind = "batch"
	}
	return &mesos.TaskID{Value: new(fmt.Sprintf("%s-%06d.5f0b7c1e-3c2a-4a63-9a83-0d8d4d0f", kind, i))}
}

func allocated(name string, value float64, role string) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: &role},
	}
}

// report has all agents come back with what they have.
func (w *world) report(ended bool) error {
	w.reportEnded.Store(ended)
	w.returned.Store(0)
	for _, a := range w.agents {
		a.Reconnect()
	}
	return testcluster.Poll(func() error {
		if n := w.returned.Load(); n < int64(len(w.agents)) {
			return fmt.Errorf("%d of %d agents have come back", n, len(w.agents))
		}
		return nil
	})
}

// verify finds the tasks in what the master shows: nothing was dropped to be fast.
func (w *world) verify(ctx context.Context) error {
	return testcluster.Poll(func() error {
		body, err := w.body(ctx, query{path: "/state"})
		if err != nil {
			return err
		}
		text := string(body)
		for what, want := range map[string]int{
			// Of the task and of its status.
			`"state":"TASK_RUNNING"`: 2 * w.shape.running, `"state":"TASK_FINISHED"`: 2 * w.shape.ended, `"hostname":"emulated-`: w.shape.agents,
		} {
			if got := strings.Count(text, what); got != want {
				err = errors.Join(err, fmt.Errorf("/state has %d times %s, want %d", got, what, want))
			}
		}
		return err
	})
}

// stop ends everything; it may be called again.
func (w *world) stop(failed error) {
	if w == nil {
		return
	}
	for _, f := range w.clients {
		if f != nil {
			f.close()
		}
	}
	emulate.StopAll(w.agents)
	if w.c != nil {
		w.c.Stop()
		if failed != nil && w.s.keep {
			w.c.DumpLogs(w.s.progress)
		}
	}
	w.http.CloseIdleConnections()
	w.clients, w.agents, w.c = nil, nil, nil
}

// cpu measures the master's processor time, in shares of one processor, until share is called.
func (w *world) cpu() (share func() (float64, error), err error) {
	begin := time.Now()
	before, err := measure.CPUTime(w.c.Master.PID())
	return func() (float64, error) {
		used, err := measure.CPUTime(w.c.Master.PID())
		return (used - before).Seconds() / time.Since(begin).Seconds(), err
	}, err
}

// framework is a connected scheduler.
type framework struct {
	*scheduler.Client
	events chan event
	cancel context.CancelFunc
	done   chan struct{} // closed when the subscription is over, err says why
	err    error
}

// event is what a scheduler was sent.
type event struct {
	*scheduler.Event
	at time.Time
}

// subscribe connects a framework. Its events are put into the channel, if there is one.
func (w *world) subscribe(ctx context.Context, info *mesos.FrameworkInfo, suppressed []string, events chan event) (*framework, error) {
	c, err := scheduler.New(scheduler.Options{Masters: []string{w.c.Master.Addr}, Framework: info, SuppressedRoles: suppressed})
	if err != nil {
		return nil, err
	}
	// Not the context of who subscribes, which may end before.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &framework{Client: c, events: events, cancel: cancel, done: make(chan struct{})}
	subscribed := make(chan struct{}, 100)
	go func() {
		defer close(f.done)
		f.err = c.Run(run, func(e *scheduler.Event) error {
			if e.GetType() == scheduler.SUBSCRIBED {
				subscribed <- struct{}{}
			}
			if events != nil {
				events <- event{e, time.Now()}
			}
			return nil
		})
	}()
	select {
	case <-subscribed:
		return f, nil
	case <-f.done:
		cancel()
		return nil, f.err
	case <-ctx.Done():
		f.close()
		return nil, ctx.Err()
	}
}

func (f *framework) close() {
	f.cancel()
	<-f.done
}
