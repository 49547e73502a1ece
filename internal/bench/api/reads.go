package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"clusterd/internal/bench/measure"
)

// benchState reads the whole state, with the shape of Mesos's MasterStateQuery
// (src/tests/master_benchmarks.cpp).
func benchState(ctx context.Context, s *settings) ([]measure.Row, error) {
	w, err := s.large(ctx)
	if err != nil {
		return nil, err
	}
	var rows []measure.Row
	for _, t := range []struct {
		q            query
		target, note string
	}{
		{query{name: "/state", path: "/state"}, "<= 250 ms", "Mesos: 1.86 s, 2.48 s on 2 cores"},
		{call("GET_STATE", "JSON"), "", "Mesos, 2 cores: 3.59 s"},
		{call("GET_STATE", "protobuf"), "", "Mesos, 2 cores: 1.29 s"},
		{query{name: "/state gzip", path: "/state", gzip: true}, "", ""},
	} {
		took, size, err := w.sample(ctx, t.q, s.samples)
		if err != nil {
			return rows, err
		}
		rows = append(rows, measure.Row{
			What: t.q.name + ", 1 client", Value: measure.Quantiles(took, ms), Target: t.target,
			Note: join(fmt.Sprintf("%s, %d times", megabytes(float64(size)), len(took)), t.note),
		})
		share, err := w.cpu()
		if err != nil {
			return rows, err
		}
		l, err := w.pollFor(ctx, t.q, s.clients)
		if err != nil {
			return rows, err
		}
		used, err := share()
		if err != nil {
			return rows, err
		}
		rows = append(rows, measure.Row{
			What: fmt.Sprintf("- %d clients", s.clients), Value: l.String(), Note: fmt.Sprintf("the master used %.2f processors", used),
		})
	}
	return rows, nil
}

// benchTasks reads pages of tasks, of a cluster that rests and of one that does not.
func benchTasks(ctx context.Context, s *settings) ([]measure.Row, error) {
	w, err := s.large(ctx)
	if err != nil {
		return nil, err
	}
	all := []query{
		{name: "/tasks?limit=100", path: "/tasks?limit=100"},
		{name: "/tasks?limit=100&order=asc", path: "/tasks?limit=100&order=asc"},
		{name: fmt.Sprintf("/tasks?limit=100&offset=%d", s.tasks), path: fmt.Sprintf("/tasks?limit=100&offset=%d", s.tasks)},
		{name: "/tasks?limit=100&framework_id=...", path: "/tasks?limit=100&framework_id=" + w.infos[0].Id.GetValue()},
	}
	read := func(when string) ([]measure.Row, error) {
		var rows []measure.Row
		for _, q := range all {
			took, size, err := w.sample(ctx, q, 10*s.samples)
			if err != nil {
				return nil, err
			}
			rows = append(rows, measure.Row{
				What: q.name + when, Value: measure.Quantiles(took, ms), Target: "<= 5 ms", Note: fmt.Sprintf("%.0f KB, %d times", float64(size)/1e3, len(took)),
			})
		}
		return rows, nil
	}
	rows, err := read("")
	if err != nil {
		return nil, err
	}
	flips, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	const rate = 100
	g.Go(func() error {
		_, err := w.flip(flips, rate)
		return err
	})
	busy, err := read(fmt.Sprintf(", %d updates/s", rate))
	stop()
	if err != nil {
		return rows, err
	}
	return append(rows, busy...), g.Wait()
}

// benchMetrics reads the metrics of the large cluster.
func benchMetrics(ctx context.Context, s *settings) ([]measure.Row, error) {
	w, err := s.large(ctx)
	if err != nil {
		return nil, err
	}
	return w.metrics(ctx, fmt.Sprintf("%d frameworks", s.frameworks))
}

func (w *world) metrics(ctx context.Context, of string) ([]measure.Row, error) {
	var rows []measure.Row
	for _, q := range []query{
		{name: "/metrics/snapshot", path: "/metrics/snapshot"},
		call("GET_METRICS", "JSON"),
		call("GET_METRICS", "protobuf"),
		{name: "/metrics (Prometheus)", path: "/metrics"},
	} {
		took, size, err := w.sample(ctx, q, 5*w.s.samples)
		if err != nil {
			return rows, err
		}
		rows = append(rows, measure.Row{
			What: q.name + ", " + of, Value: measure.Quantiles(took, ms), Note: fmt.Sprintf("%s, %d times", megabytes(float64(size)), len(took)),
		})
	}
	return rows, nil
}

// benchManyMetrics reads the metrics of many frameworks on one agent, with two tasks each,
// a tenth of which is completed: Mesos's MasterMetricsQuery.
func benchManyMetrics(ctx context.Context, s *settings) ([]measure.Row, error) {
	w, err := create(ctx, s, shape{
		name: "many", agents: 1, frameworks: s.many, running: 2 * s.many, framesUnconnected: true,
		masterFlags: []string{fmt.Sprintf("--max_completed_frameworks=%d", s.many)},
	})
	if err != nil {
		return nil, err
	}
	defer func() { w.stop(err) }()
	completed := s.many / 10
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, info := range w.infos[:completed] {
		g.Go(func() error {
			_, err := w.body(gctx, query{
				path: "/api/v1", body: `{"type":"TEARDOWN","teardown":{"framework_id":{"value":"` + info.Id.GetValue() + `"}}}`,
			})
			return err
		})
	}
	if err = g.Wait(); err != nil {
		return nil, err
	}
	var rows []measure.Row
	rows, err = w.metrics(ctx, fmt.Sprintf("%d + %d frameworks", s.many-completed, completed))
	return rows, err
}

// benchMemory shows what the master of the large cluster needs, whatever was asked of it.
func benchMemory(ctx context.Context, s *settings) ([]measure.Row, error) {
	w, err := s.large(ctx)
	if err != nil {
		return nil, err
	}
	now, err := measure.RSS(w.c.Master.PID())
	if err != nil {
		return nil, err
	}
	peak, err := measure.PeakRSS(w.c.Master.PID())
	if err != nil {
		return nil, err
	}
	return []measure.Row{{
		What: fmt.Sprintf("memory of the master of %d agents, %d + %d tasks", s.agents, s.tasks, s.tasks), Value: megabytes(now),
		Note: "resident, after the sections above; at most " + megabytes(peak),
	}}, nil
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}
