package scheduler

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

// TestFrozenMaster leaves calls without an answer, while the stream stands: the client goes
// to another master and does not ask the frozen one first.
func TestFrozenMaster(t *testing.T) {
	t.Parallel() // it waits more than it works
	thawed := make(chan struct{})
	frozen := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, n, 15, w, r).Wait() })
	frozen.answer = func(*Call, http.ResponseWriter) { <-thawed }
	good := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, n, 15, w, r).Wait() })
	opts := options(frozen.URL, good.URL)
	opts.HTTP.CallTimeout = 2 * time.Second // the good one answers in time
	opts.MinBackoff, opts.MaxBackoff = time.Millisecond, time.Millisecond
	c := newClient(t, opts)
	ctx := testContext(t)
	subscriptions := 0
	for event, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetType() != SUBSCRIBED {
			continue
		}
		if subscriptions++; subscriptions == 2 {
			break
		}
		if err := c.Suppress(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a deadline exceeded", err)
		}
	}
	close(thawed)
	if f, g := len(frozen.subscriptions()), len(good.subscriptions()); f != 1 || g != 1 {
		t.Errorf("%d subscriptions at the frozen master and %d at the other, want 1 and 1", f, g)
	}
}
