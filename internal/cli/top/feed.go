package top

import (
	"context"
	"time"

	tea "charm.land/bubbletea/v2"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/cli/console"
)

const (
	// eager is how often a changed world is shown, unhurried how often one with very many
	// tasks is, which costs more to sort.
	eager     = 200 * time.Millisecond
	unhurried = time.Second
	manyTasks = 20_000
	// again is how long to wait before a lost leader is looked for again.
	again = time.Second
)

// feed reads the cluster.
type feed struct {
	cluster *console.Cluster
	world   *world
}

func newFeed(cl *console.Cluster) *feed { return &feed{cluster: cl} }

// load reads the summary.
func (f *feed) load(ctx context.Context) error {
	var s summary
	if err := f.cluster.Get(ctx, console.OwnPath+"summary", &s); err != nil {
		return err
	}
	w, err := newWorld(&s)
	if err != nil {
		return err
	}
	if f.world != nil {
		w.recent = f.world.recent
	}
	f.world = w
	return nil
}

func (f *feed) snapshot() *snapshot { return f.world.snapshot() }

// follow sends the model what changes, until ctx ends. What is lost is read anew.
func (f *feed) follow(ctx context.Context, send func(tea.Msg)) {
	for ctx.Err() == nil {
		err := f.listen(ctx, send)
		if ctx.Err() != nil {
			return
		}
		send(lostMsg{err})
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(again):
			}
			if err = f.load(ctx); err == nil {
				break
			}
			send(lostMsg{err})
		}
		send(snapshotMsg{f.snapshot()})
	}
}

// listen follows the events until they end. It returns nil if the summary must be read
// again because too much was missed.
func (f *feed) listen(ctx context.Context, send func(tea.Msg)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type received struct {
		event *clusterdv1.OperatorEvent
		err   error
	}
	events := make(chan received)
	go func() {
		defer close(events)
		for e, err := range f.cluster.Events(ctx, operator.EventsOptions{Resume: f.world.token, Bare: true}) {
			select {
			case events <- received{e, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	changed := false
	tick := time.NewTimer(eager)
	defer tick.Stop()
	for {
		select {
		case r, ok := <-events:
			switch {
			case !ok:
				return nil
			case r.err != nil:
				return r.err
			case !f.world.apply(r.event, time.Now()):
				return nil
			}
			changed = changed || r.event.GetType() != clusterdv1.OperatorEvent_SUBSCRIBED
		case <-tick.C:
			if changed {
				send(snapshotMsg{f.snapshot()})
				changed = false
			}
			pace := eager
			if len(f.world.tasks) > manyTasks {
				pace = unhurried
			}
			tick.Reset(pace)
		}
	}
}

// snapshotMsg brings a new world, lostMsg that there is no connection at present; its error
// is nil if only too much was missed.
type (
	snapshotMsg struct{ *snapshot }
	lostMsg     struct{ err error }
)
