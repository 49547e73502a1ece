package events

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// formats are all that a client may ask for.
var formats = map[string]format{
	"mesos-json":     {face: mesosFace, media: asJSON},
	"mesos-protobuf": {face: mesosFace, media: asProtobuf},
	"own-json":       {face: ownFace, media: asJSON},
	"own-protobuf":   {face: ownFace, media: asProtobuf},
	"own-sse":        {face: ownFace, media: asSSE},
}

// TestNothingMissedNothingTwice has subscribers come at any time while the world changes.
// Every one's snapshot and events add up to the truth, without a contradiction on the way.
func TestNothingMissedNothingTwice(t *testing.T) {
	t.Run("roomy", func(t *testing.T) { nothingMissed(t, newHouse(t, 1)) })
	t.Run("no cache", func(t *testing.T) { nothingMissed(t, newHouse(t, 4, func(o *Options) { o.cacheBytes = 1 })) })
}

func nothingMissed(t *testing.T, h *house) {
	const each, steps = 6, 2500
	var wg sync.WaitGroup
	errs := make(chan error, each*len(formats))
	for name, f := range formats {
		for i := range each {
			wg.Go(func() {
				for h.serialNow() < uint64(i*steps/each) { // they come one after the other
					runtime.Gosched()
				}
				if err := h.follow(t.Context(), f); err != nil {
					errs <- fmt.Errorf("%s %d: %w", name, i, err)
				}
			})
		}
	}
	for range steps {
		h.step()
	}
	h.end()
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

// end is the last change of a world.
func (w *world) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := &core.Framework{ID: "end", Info: &mesos.FrameworkInfo{
		Id: &mesos.FrameworkID{Value: new("end")}, User: new("root"), Name: new("end"),
	}}
	w.frameworks["end"] = f
	w.announceLocked(&core.Event{Type: core.FrameworkAdded, Framework: f, FrameworkInfo: f.Info})
}

// follow subscribes, reads until the end of the world, and compares what it then knows with
// the truth.
func (h *house) follow(ctx context.Context, f format) error {
	r, err := h.trySubscribe(ctx, f, "")
	if err != nil {
		return err
	}
	defer r.body.Close()
	watch := time.AfterFunc(patience, func() { _ = r.body.Close() })
	defer watch.Stop()
	for {
		if _, err := r.read(); err != nil {
			return err
		}
		if _, over := r.known["framework/end"]; over {
			break
		}
	}
	if diff := cmp.Diff(h.truth(f.face), r.known); diff != "" {
		return fmt.Errorf("-truth +known:\n%s", diff)
	}
	return nil
}

// TestResume interrupts a stream again and again: what it missed follows.
func TestResume(t *testing.T) {
	for _, name := range []string{"own-json", "own-protobuf", "own-sse"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 2)
			for range 50 {
				h.step()
			}
			f := formats[name]
			r := h.subscribe(t, f, "")
			r.first(t)
			for round := range 20 {
				upTo := token{leader, h.serialNow() + 30}.String()
				for range 40 {
					h.step()
				}
				r.until(t, "thirty events came", func(delta) bool { return r.token == upTo })
				_ = r.body.Close()
				for range 10 {
					h.step()
				}
				var again *reader
				if f.media == asSSE && round%2 == 0 {
					again = h.subscribe(t, f, "", "Last-Event-ID", r.token)
				} else {
					again = h.subscribe(t, f, "?resume="+r.token)
				}
				again.known = r.known
				s := again.first(t)
				if s.Resumed == nil || !s.GetResumed() || s.GetState != nil || s.Reason != nil {
					t.Fatalf("round %d: %v", round, s)
				}
				r = again
			}
			end := token{leader, h.serialNow()}.String()
			if r.token != end {
				r.until(t, "the end has come", func(delta) bool { return r.token == end })
			}
			if diff := cmp.Diff(h.truth(ownFace), r.known); diff != "" {
				t.Errorf("after 20 interruptions (-truth +known):\n%s", diff)
			}
		})
	}
}

func (w *world) serialNow() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serial
}

// TestResumeRefused gives tokens that cannot be gone on from: the stream says so, and why,
// and begins with a snapshot.
func TestResumeRefused(t *testing.T) {
	h := newHouse(t, 3, func(o *Options) { o.MaxHistory = 20 })
	for range 100 {
		h.step()
	}
	for name, c := range map[string]struct{ token, reason string }{
		"another leader":  {token{"another-leader", 90}.String(), "another master leads now: the token is of another-leader"},
		"forgotten":       {token{leader, 79}.String(), "what came since is forgotten"},
		"from the future": {token{leader, 101}.String(), "what came since is forgotten"},
		"malformed":       {"nonsense", "the token is malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.subscribe(t, formats["own-json"], "?resume="+c.token)
			s := r.first(t)
			if s.Resumed == nil || s.GetResumed() || s.GetReason() != c.reason || s.GetState == nil {
				t.Errorf("%v", s)
			}
			if diff := cmp.Diff(h.truth(ownFace), r.known); diff != "" {
				t.Errorf("the snapshot is not the truth (-truth +known):\n%s", diff)
			}
		})
	}
	r := h.subscribe(t, formats["own-json"], "?resume="+token{leader, 80}.String())
	if s := r.first(t); !s.GetResumed() {
		t.Errorf("the oldest token that is good: %v", s)
	}
	for serial := uint64(81); serial <= 100; serial++ {
		e := &clusterdv1.OperatorEvent{}
		if err := r.decode(e); err != nil || e.GetToken() != (token{leader, serial}).String() {
			t.Fatalf("event %d: %v, %v", serial, e, err)
		}
	}
}
