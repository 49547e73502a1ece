package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"clusterd/internal/bench/measure"
	"clusterd/internal/emulate"
)

// benchFollower measures what a master that does not lead keeps in memory: the registry.
// The agents are admitted over real links, which they leave at once.
func benchFollower(ctx context.Context, s *settings) (_ []measure.Row, err error) {
	c, err := startMasters(s)
	if err != nil {
		return nil, err
	}
	defer func() { stop(s, c, err) }()
	lead, others, err := leader(ctx, c)
	if err != nil {
		return nil, err
	}
	empty, err := measure.RSS(others[0].PID())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var admitted atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i := range s.registry {
		g.Go(func() error {
			a, err := emulate.Start(gctx, i, emulate.Options{Masters: []string{lead.Addr}, CPUs: 32, MemMB: 65536, OwnAddresses: true})
			if err != nil {
				return err
			}
			defer a.Stop()
			select {
			case <-a.Ready():
				admitted.Add(1)
				return a.Err()
			case <-gctx.Done():
				return gctx.Err()
			}
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("after %d agents: %w", admitted.Load(), err)
	}
	took := time.Since(start)
	full, err := settled(ctx, others[0].PID())
	if err != nil {
		return nil, err
	}
	return []measure.Row{
		{What: "memory of a follower", Value: fmt.Sprintf("%.0f MB", full/1e6), Note: fmt.Sprintf("resident, %d agents in the registry; %.0f MB when empty", s.registry, empty/1e6)},
		{What: fmt.Sprintf("%d new agents register, 3 masters", s.registry), Value: rate(s.registry, took), Note: "over real links, 64 at a time, each admission on two disks"},
	}, nil
}

// settled is a process's resident memory once it has stopped to shrink.
func settled(ctx context.Context, pid int) (float64, error) {
	last, err := measure.RSS(pid)
	for quiet := 0; err == nil && quiet < 5; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		var now float64
		if now, err = measure.RSS(pid); now < last*0.99 {
			quiet = 0
		} else {
			quiet++
		}
		last = min(last, now)
	}
	return last, err
}
