package main

import (
	"context"
	"fmt"
	"time"

	"clusterd/internal/bench/measure"
)

// benchFailover kills the leader of three masters again and again, and measures how long
// a framework that was subscribed needs to be subscribed at the next one.
func benchFailover(ctx context.Context, s *settings) (_ []measure.Row, err error) {
	c, err := startMasters(s)
	if err != nil {
		return nil, err
	}
	defer func() { stop(s, c, err) }()
	f, err := subscribe(ctx, addrs(c.Masters), "failover")
	if err != nil {
		return nil, err
	}
	defer f.close()
	var took []time.Duration
	for i := range s.rounds {
		old, _, err := leader(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i, err)
		}
		start := time.Now()
		old.Kill()
		at, err := f.wait()
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i, err)
		}
		took = append(took, at.Sub(start))
		if err := old.Start(); err != nil {
			return nil, fmt.Errorf("round %d: %w", i, err)
		}
	}
	return []measure.Row{{
		What: "leader killed -> SUBSCRIBED at the next one", Value: measure.Quantiles(took, seconds), Target: "p99 <= 2 s",
		Note: fmt.Sprintf("%d kills -9, 3 masters, default timeouts; Mesos: 10 s session", len(took)),
	}}, nil
}
