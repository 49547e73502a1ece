package emulate

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// StartAll starts n agents, 64 at a time, and waits until all are admitted. Those
// that it returns are to be stopped, also after an error.
func StartAll(ctx context.Context, n int, opts Options) ([]*Agent, error) {
	agents := make([]*Agent, n)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i := range agents {
		g.Go(func() error {
			a, err := Start(gctx, i, opts)
			if err != nil {
				return err
			}
			agents[i] = a
			select {
			case <-a.Ready():
				return a.Err()
			case <-gctx.Done():
				return gctx.Err()
			}
		})
	}
	return agents, g.Wait()
}

// StopAll stops what StartAll has started.
func StopAll(agents []*Agent) {
	for _, a := range agents {
		if a != nil {
			a.Stop()
		}
	}
}
