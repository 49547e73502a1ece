package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/bench/measure"
	"clusterd/internal/emulate"
	"clusterd/internal/testcluster"
)

// role of the benchmarks' frameworks.
const role = "bench"

// scheduling is a framework whose events come one by one.
type scheduling struct {
	*scheduler.Client
	events chan *scheduler.Event
	early  []*scheduler.Event // offers that came while something else was waited for
	done   chan struct{}      // closed when the subscription is over
	cancel context.CancelFunc
}

func subscribe(ctx context.Context, master string) (*scheduling, error) {
	client, err := scheduler.New(scheduler.Options{
		Masters: []string{master},
		Framework: &mesos.FrameworkInfo{
			User: new("root"), Name: new("bench"), Roles: []string{role}, Checkpoint: new(true),
			FailoverTimeout: proto.Float64(60),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT.Enum()},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	// Deep enough that reading is never what limits a run.
	s := &scheduling{Client: client, events: make(chan *scheduler.Event, 1<<16), done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(s.done)
		defer close(s.events)
		// Why it ends shows in what is waited for: it was cancelled, or next fails.
		_ = client.Run(ctx, func(e *scheduler.Event) error { s.events <- e; return nil })
	}()
	if _, err := s.next(ctx, scheduler.SUBSCRIBED); err != nil {
		cancel()
		return nil, err
	}
	return s, nil
}

func (s *scheduling) close() {
	s.cancel()
	<-s.done
}

// errStreamEnded says that the master ended the subscription.
var errStreamEnded = errors.New("the subscription ended")

// next waits for an event of a type.
func (s *scheduling) next(ctx context.Context, want ...any) (*scheduler.Event, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e, ok := <-s.events:
			if !ok {
				return nil, errStreamEnded
			}
			for _, w := range want {
				if e.GetType() == w {
					return e, nil
				}
			}
			if e.GetType() == scheduler.OFFERS {
				// What an ended task had is offered as soon as its agent knows, which
				// may be before its last update is sent.
				s.early = append(s.early, e)
			}
		}
	}
}

// offer waits for offers and returns the first.
func (s *scheduling) offer(ctx context.Context) (*mesos.Offer, error) {
	if len(s.early) > 0 {
		e := s.early[0]
		s.early = s.early[1:]
		return e.GetOffers().GetOffers()[0], nil
	}
	e, err := s.next(ctx, scheduler.OFFERS)
	if err != nil {
		return nil, err
	}
	return e.GetOffers().GetOffers()[0], nil
}

func trueTask(id string) *mesos.TaskInfo {
	return &mesos.TaskInfo{
		Name: &id, TaskId: &mesos.TaskID{Value: &id},
		Resources: []*mesos.Resource{resource("cpus", 0.01), resource("mem", 1)},
		Command:   &mesos.CommandInfo{Shell: new(false), Value: new("/bin/true"), Arguments: []string{"true"}},
	}
}

func launchOp(tasks []*mesos.TaskInfo) []*mesos.Offer_Operation {
	return []*mesos.Offer_Operation{{
		Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks},
	}}
}

// startCluster runs a real master and a real agent.
func startCluster(s *settings, agents int) (*testcluster.Cluster, error) {
	c, err := testcluster.New(testcluster.Options{
		Dir: s.dir, RuntimeDir: filepath.Join(s.runtime, filepath.Base(s.dir)), Agents: agents,
		AgentFlags: []string{"--resources=cpus:100;mem:100000;disk:1000;ports:[31000-32000]", "--registration_backoff_factor=10ms"},
	})
	if err != nil {
		return nil, err
	}
	if err := c.Up(); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// benchLatency launches tasks one by one: ACCEPT to TASK_RUNNING.
func benchLatency(ctx context.Context, s *settings) ([]measure.Row, error) {
	c, err := startCluster(s, 1)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	f, err := subscribe(ctx, c.Master.Addr)
	if err != nil {
		return nil, err
	}
	defer f.close()
	var running []time.Duration
	for i := range s.samples {
		offer, err := f.offer(ctx)
		if err != nil {
			return nil, err
		}
		task := trueTask(fmt.Sprintf("latency-%d", i))
		for _, r := range task.Resources {
			r.Scalar.Value = new(amount(offer, r.GetName())) // all of it, so that its end is what is offered next
		}
		task.AgentId = offer.GetAgentId()
		start := time.Now()
		if err := f.Accept(ctx, []*mesos.OfferID{offer.GetId()}, launchOp([]*mesos.TaskInfo{task}), scheduler.Refuse(0)); err != nil {
			return nil, err
		}
		var ended time.Time
		for ended.IsZero() {
			e, err := f.next(ctx, scheduler.UPDATE)
			if err != nil {
				return nil, err
			}
			st := e.GetUpdate().GetStatus()
			switch st.GetState() {
			case mesos.TaskState_TASK_RUNNING:
				running = append(running, time.Since(start))
			case mesos.TaskState_TASK_FINISHED:
				ended = time.Now()
			case mesos.TaskState_TASK_STARTING:
			default:
				return nil, fmt.Errorf("%s: %s %s", st.GetTaskId().GetValue(), st.GetState(), st.GetMessage())
			}
			if err := f.Acknowledge(ctx, st); err != nil {
				return nil, err
			}
		}
	}
	return []measure.Row{{
		What: "ACCEPT -> TASK_RUNNING, command task", Value: measure.Quantiles(running, ms), Target: "p50 <= 25 ms",
		Note: fmt.Sprintf("%d tasks one after the other; Mesos: p50 208 ms, max 328", len(running)),
	}}, nil
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

// benchThroughput runs `true` 500 times through one agent, all launched at once.
func benchThroughput(ctx context.Context, s *settings) ([]measure.Row, error) {
	const tasks = 500
	c, err := startCluster(s, 1)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	f, err := subscribe(ctx, c.Master.Addr)
	if err != nil {
		return nil, err
	}
	defer f.close()
	offer, err := f.offer(ctx)
	if err != nil {
		return nil, err
	}
	var all []*mesos.TaskInfo
	for i := range tasks {
		t := trueTask(fmt.Sprintf("true-%d", i))
		t.AgentId = offer.GetAgentId()
		all = append(all, t)
	}
	start := time.Now()
	if err := f.Accept(ctx, []*mesos.OfferID{offer.GetId()}, launchOp(all), nil); err != nil {
		return nil, err
	}
	// Acknowledgements go out beside the reading, as a busy scheduler's do.
	var acks errgroup.Group
	acks.SetLimit(8)
	for ended := 0; ended < tasks; {
		e, err := f.next(ctx, scheduler.UPDATE)
		if err != nil {
			return nil, err
		}
		st := e.GetUpdate().GetStatus()
		switch st.GetState() {
		case mesos.TaskState_TASK_FINISHED:
			ended++
		case mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING:
		default:
			return nil, fmt.Errorf("%s: %s %s", st.GetTaskId().GetValue(), st.GetState(), st.GetMessage())
		}
		acks.Go(func() error { return f.Acknowledge(ctx, st) })
	}
	took := time.Since(start)
	if err := acks.Wait(); err != nil {
		return nil, err
	}
	agent, err := measure.CPUTime(c.Agents[0].PID())
	if err != nil {
		return nil, err
	}
	master, err := measure.CPUTime(c.Master.PID())
	if err != nil {
		return nil, err
	}
	return []measure.Row{{
		What: "processor time of a task in the agent", Value: ms(agent / tasks), Note: "its own threads; containers not counted",
	}, {
		What: "processor time of a task in the master", Value: ms(master / tasks),
	}, {
		What: "tasks through one agent, true x 500", Value: fmt.Sprintf("%.0f/s", tasks/took.Seconds()), Target: ">= 200/s",
		Note: fmt.Sprintf("%s in all; Mesos: 5/s", ms(took)),
	}}, nil
}

// startMaster runs a real master without agents.
func startMaster(s *settings) (*testcluster.Cluster, error) {
	c, err := testcluster.New(testcluster.Options{Dir: s.dir, Agents: -1})
	if err != nil {
		return nil, err
	}
	if err := c.Up(); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// addAgents registers n large emulated agents.
func addAgents(ctx context.Context, n int, opts emulate.Options) ([]*emulate.Agent, error) {
	opts.CPUs, opts.MemMB = 16, 65536
	return emulate.StartAll(ctx, n, opts)
}
