package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/bench/measure"
	"clusterd/internal/testcluster"
)

// benchTasks launches command tasks on one offer, reads the agent while some of them run,
// and kills them.
func benchTasks(ctx context.Context, s *settings) (rows []measure.Row, err error) {
	c, root, err := start(s, "tasks")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop(c, root)) }()
	f := &framework{states: map[string]mesos.TaskState{}}
	client, err := scheduler.New(scheduler.Options{
		Masters: []string{c.Master.Addr},
		Framework: &mesos.FrameworkInfo{
			User: new("root"), Name: new("bench-agent"), Roles: []string{"bench"}, Checkpoint: new(true), FailoverTimeout: proto.Float64(60),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}, {Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan *scheduler.Event, 1<<16)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = client.Run(ctx, func(e *scheduler.Event) error { events <- e; return nil })
	}()
	defer func() { cancel(); <-ended }()
	f.client, f.events = client, events
	if rows, err = f.measure(ctx, s, c); err != nil {
		return nil, err
	}
	return rows, nil
}

// framework is a scheduler that launches and kills.
type framework struct {
	client *scheduler.Client
	events chan *scheduler.Event
	states map[string]mesos.TaskState
	// offers are held until the next launch: all are of the one agent.
	offers  []*mesos.Offer
	message string // of the last update
}

// until takes events until enough is so.
func (f *framework) until(ctx context.Context, enough func() bool) error {
	for !enough() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-f.events:
			if e.GetType() == scheduler.OFFERS {
				f.offers = append(f.offers, e.GetOffers().GetOffers()...)
			}
			if e.GetType() == scheduler.UPDATE {
				status := e.GetUpdate().GetStatus()
				f.states[status.GetTaskId().GetValue()] = status.GetState()
				f.message = status.GetMessage()
				if len(status.GetUuid()) > 0 {
					if err := f.client.Acknowledge(ctx, status); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (f *framework) count(states ...mesos.TaskState) int {
	n := 0
	for _, have := range f.states {
		for _, s := range states {
			if s == have {
				n++
			}
		}
	}
	return n
}

func (f *framework) measure(ctx context.Context, s *settings, c *testcluster.Cluster) ([]measure.Row, error) {
	var rows []measure.Row
	if _, err := f.launchAll(ctx, "r", s.reads); err != nil {
		return nil, err
	}
	for _, path := range []string{"/containers", "/monitor/statistics"} {
		var samples []time.Duration
		for range s.samples {
			began := time.Now()
			if err := read(ctx, "http://"+c.Agents[0].Addr+path); err != nil {
				return nil, err
			}
			samples = append(samples, time.Since(began))
		}
		rows = append(rows, measure.Row{What: fmt.Sprintf("%s with %d containers", path, s.reads), Value: measure.Quantiles(samples, millis), Target: "<= 100 ms"})
	}
	bytes, n, err := privateMemory("command-exec")
	if err != nil {
		return nil, err
	}
	rows = append(rows, measure.Row{
		What: "memory of a command executor", Value: fmt.Sprintf("%.2f MiB private", float64(bytes)/float64(max(n, 1))/(1<<20)), Target: "<= 4 MiB", Note: fmt.Sprintf("%d of them; they supervise themselves", n),
	})
	if _, err := f.killAll(ctx); err != nil {
		return nil, err
	}
	launched, err := f.launchAll(ctx, "t", s.number)
	if err != nil {
		return nil, err
	}
	killed, err := f.killAll(ctx)
	if err != nil {
		return nil, err
	}
	return append(rows,
		measure.Row{What: fmt.Sprintf("%d tasks: ACCEPT until all run", s.number), Value: seconds(launched), Note: "command tasks in cgroups and namespaces"},
		measure.Row{What: fmt.Sprintf("%d tasks: KILL until all are told killed", s.number), Value: seconds(killed)},
	), nil
}

// launchAll launches tasks on one offer and waits until all run.
func (f *framework) launchAll(ctx context.Context, prefix string, number int) (time.Duration, error) {
	clear(f.states)
	if err := f.until(ctx, func() bool { return len(f.offers) > 0 }); err != nil {
		return 0, err
	}
	tasks := make([]*mesos.TaskInfo, 0, number)
	for i := range number {
		id := fmt.Sprintf("%s%d", prefix, i)
		tasks = append(tasks, &mesos.TaskInfo{
			Name: &id, TaskId: &mesos.TaskID{Value: &id}, AgentId: f.offers[0].GetAgentId(),
			Resources: []*mesos.Resource{scalar("cpus", 0.01), scalar("mem", 32)},
			Command:   &mesos.CommandInfo{Shell: new(false), Value: new("sleep"), Arguments: []string{"sleep", "100000"}},
		})
	}
	for _, t := range tasks {
		for _, r := range t.Resources {
			r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: new("bench")}
		}
	}
	began := time.Now()
	ids := make([]*mesos.OfferID, 0, len(f.offers))
	for _, o := range f.offers {
		ids = append(ids, o.GetId())
	}
	f.offers = nil
	err := f.client.Accept(ctx, ids, []*mesos.Offer_Operation{{
		Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks},
	}}, &mesos.Filters{RefuseSeconds: proto.Float64(0)})
	if err != nil {
		return 0, err
	}
	err = f.until(ctx, func() bool {
		return f.count(mesos.TaskState_TASK_RUNNING) == number || f.count(mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_ERROR, mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_DROPPED) > 0
	})
	if err == nil && f.count(mesos.TaskState_TASK_RUNNING) != number {
		err = fmt.Errorf("only %d of %d tasks run: %s", f.count(mesos.TaskState_TASK_RUNNING), number, f.message)
	}
	return time.Since(began), err
}

func (f *framework) killAll(ctx context.Context) (time.Duration, error) {
	number := len(f.states)
	began := time.Now()
	for id := range f.states {
		if err := f.client.Kill(ctx, &mesos.TaskID{Value: &id}, nil, nil); err != nil {
			return 0, err
		}
	}
	err := f.until(ctx, func() bool {
		return f.count(mesos.TaskState_TASK_KILLED, mesos.TaskState_TASK_FAILED) == number
	})
	return time.Since(began), err
}

func read(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
