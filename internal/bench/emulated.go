package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/bench/measure"
	"clusterd/internal/emulate"
	"clusterd/internal/testcluster"
)

// benchOffers measures how long freed resources take to be offered again in a
// cluster of many agents: from the moment an agent reports a task's end to the
// OFFERS event at the framework.
func benchOffers(ctx context.Context, s *settings) ([]measure.Row, error) {
	c, err := startMaster(s)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	var mu sync.Mutex // guards ended
	ended := map[string]time.Time{}
	start := time.Now()
	agents, err := addAgents(ctx, s.agents, emulate.Options{
		Masters: []string{c.Master.Addr},
		OnTerminal: func(task string, at time.Time) {
			mu.Lock()
			defer mu.Unlock()
			ended[task] = at
		},
	})
	defer emulate.StopAll(agents)
	if err != nil {
		return nil, err
	}
	registered := time.Since(start)
	f, err := subscribe(ctx, c.Master.Addr)
	if err != nil {
		return nil, err
	}
	defer f.close()
	start = time.Now()
	offers, err := collectOffers(ctx, f, s.agents)
	if err != nil {
		return nil, err
	}
	offered := time.Since(start)
	for _, o := range offers[1:] {
		if err := f.Decline(ctx, scheduler.Refuse(100000), o.GetId()); err != nil {
			return nil, err
		}
	}
	var latencies []time.Duration
	offer := offers[0]
	for i := range s.samples {
		id := fmt.Sprintf("freed-%d", i)
		if err := occupy(ctx, f, offer, id); err != nil {
			return nil, err
		}
		if err := f.Kill(ctx, &mesos.TaskID{Value: &id}, offer.GetAgentId(), nil); err != nil {
			return nil, err
		}
		if offer, err = f.offer(ctx); err != nil {
			return nil, err
		}
		now := time.Now()
		mu.Lock()
		latencies = append(latencies, now.Sub(ended[id]))
		mu.Unlock()
	}
	return []measure.Row{
		{What: fmt.Sprintf("free resources -> OFFERS, %d agents", s.agents), Value: measure.Quantiles(latencies, ms), Target: "p99 <= 10 ms", Note: "Mesos: p50 1,001 ms, max 3,003"},
		{What: fmt.Sprintf("%d agents register", s.agents), Value: ms(registered), Note: "admission is durable before the answer"},
		{What: fmt.Sprintf("first offers of %d agents to a new framework", s.agents), Value: ms(offered)},
	}, nil
}

// collectOffers gathers the offers of n agents.
func collectOffers(ctx context.Context, f *scheduling, n int) ([]*mesos.Offer, error) {
	var all []*mesos.Offer
	for len(all) < n {
		e, err := f.next(ctx, scheduler.OFFERS)
		if err != nil {
			return nil, err
		}
		all = append(all, e.GetOffers().GetOffers()...)
	}
	return all, nil
}

// occupy launches a task that takes an offer whole, and waits until it runs.
func occupy(ctx context.Context, f *scheduling, offer *mesos.Offer, id string) error {
	task := trueTask(id)
	for _, r := range task.Resources {
		r.Scalar.Value = new(amount(offer, r.GetName()))
	}
	if err := f.Launch(ctx, offer, task); err != nil {
		return err
	}
	for {
		e, err := f.next(ctx, scheduler.UPDATE)
		if err != nil {
			return err
		}
		st := e.GetUpdate().GetStatus()
		if err := f.Acknowledge(ctx, st); err != nil {
			return err
		}
		if st.GetTaskId().GetValue() == id && st.GetState() == mesos.TaskState_TASK_RUNNING {
			return nil
		}
	}
}

// benchMemory measures what an agent and a task cost the master.
func benchMemory(ctx context.Context, s *settings) ([]measure.Row, error) {
	// Collect often, so that what is resident is what is used.
	if err := os.Setenv("GOGC", "10"); err != nil {
		return nil, err
	}
	defer func() { _ = os.Unsetenv("GOGC") }()
	c, err := startMaster(s)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	f, err := subscribe(ctx, c.Master.Addr)
	if err != nil {
		return nil, err
	}
	defer f.close()
	empty, err := settled(ctx, c)
	if err != nil {
		return nil, err
	}
	agents, err := addAgents(ctx, s.agents, emulate.Options{Masters: []string{c.Master.Addr}})
	defer emulate.StopAll(agents)
	if err != nil {
		return nil, err
	}
	offers, err := collectOffers(ctx, f, s.agents)
	if err != nil {
		return nil, err
	}
	withAgents, err := settled(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := launchEverywhere(ctx, f, offers, s.tasks); err != nil {
		return nil, err
	}
	withTasks, err := settled(ctx, c)
	if err != nil {
		return nil, err
	}
	return []measure.Row{
		{What: "memory of the master, per agent", Value: fmt.Sprintf("%.1f KB", (withAgents-empty)/float64(s.agents)/1e3), Target: "<= 8 KB", Note: fmt.Sprintf("%d agents, links and offers included; resident, GOGC=10", s.agents)},
		{What: "memory of the master, per task", Value: fmt.Sprintf("%.1f KB", (withTasks-withAgents)/float64(s.tasks)/1e3), Target: "<= 2 KB", Note: fmt.Sprintf("%d running command tasks", s.tasks)},
		{What: "memory of the master, empty", Value: fmt.Sprintf("%.0f MB", empty/1e6)},
	}, nil
}

// launchEverywhere spreads running tasks over the offers.
func launchEverywhere(ctx context.Context, f *scheduling, offers []*mesos.Offer, tasks int) error {
	each := (tasks + len(offers) - 1) / len(offers)
	launched := 0
	for _, o := range offers {
		var batch []*mesos.TaskInfo
		for ; len(batch) < each && launched < tasks; launched++ {
			t := trueTask(fmt.Sprintf("service-%06d.5f0b7c1e-3c2a-4a63-9a83-0d8d4d0f", launched))
			t.AgentId = o.GetAgentId()
			batch = append(batch, t)
		}
		if len(batch) == 0 {
			break
		}
		if err := f.Accept(ctx, []*mesos.OfferID{o.GetId()}, launchOp(batch), scheduler.Refuse(100000)); err != nil {
			return err
		}
	}
	for running := 0; running < launched; {
		e, err := f.next(ctx, scheduler.UPDATE)
		if err != nil {
			return err
		}
		st := e.GetUpdate().GetStatus()
		if st.GetState() == mesos.TaskState_TASK_RUNNING {
			running++
		}
		if err := f.Acknowledge(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// settled is the master's resident memory once it has stopped to shrink.
func settled(ctx context.Context, c *testcluster.Cluster) (float64, error) {
	last, err := measure.RSS(c.Master.PID())
	for quiet := 0; err == nil && quiet < 5; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		var now float64
		if now, err = measure.RSS(c.Master.PID()); now < last*0.99 {
			quiet = 0
		} else {
			quiet++
		}
		last = min(last, now)
	}
	return last, err
}
