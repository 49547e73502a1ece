package client

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"
)

// Backoff makes the waits between attempts: the first one up to Min, each one up to
// twice as long as the one before, up to Max, and always a random half of it at
// least, so that the clients of a lost master do not return in step.
type Backoff struct {
	// Min is the longest first wait; the default is 200 ms.
	Min time.Duration
	// Max is the longest wait; the default is 15 s.
	Max time.Duration

	next time.Duration
}

// Reset makes the next wait a first one.
func (b *Backoff) Reset() { b.next = 0 }

// Next returns how long to wait now.
func (b *Backoff) Next() time.Duration {
	limit := cmp.Or(b.Max, 15*time.Second)
	d := cmp.Or(b.next, b.Min, 200*time.Millisecond)
	d = min(d, limit)
	b.next = min(2*d, limit)
	return d/2 + rand.N(d/2+1)
}

// Wait waits as long as Next says, or until ctx is done: then it returns the cause.
func (b *Backoff) Wait(ctx context.Context) error {
	return Sleep(ctx, b.Next())
}

// Sleep waits for d, or until ctx is done: then it returns the cause.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
