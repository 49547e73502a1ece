package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"clusterd/server/render"
)

// Who asks while a rendering is under way shares the next one, which begins after that:
// an answer is never older than its question.
func TestThoseWhoWaitShareTheNextRendering(t *testing.T) {
	var s sharing
	var renderings, now atomic.Int64
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	w := wanted{key: "k", bulk: true, render: func(context.Context) (render.Body, error) {
		n := renderings.Add(1)
		moment := now.Load()
		begun <- struct{}{}
		if n == 1 {
			<-goOn
		}
		return render.Body{fmt.Appendf(nil, "%d", moment)}, nil
	}}
	var wg sync.WaitGroup
	var hits atomic.Int64
	ask := func(asked int64) {
		wg.Go(func() {
			a, hit, err := s.get(t.Context(), w)
			if err != nil {
				t.Error(err)
				return
			}
			var moment int64
			_, _ = fmt.Sscan(string(a.body.Bytes()), &moment)
			if moment < asked {
				t.Errorf("asked at %d, the answer is of %d", asked, moment)
			}
			if hit {
				hits.Add(1)
			}
			a.leave()
		})
	}
	ask(0)
	<-begun
	now.Store(1)
	const others = 20
	for range others {
		ask(1)
	}
	eventually(t, "all others wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		l := s.lines["k"]
		return l != nil && l.next != nil && l.next.readers.Load() == others
	})
	close(goOn)
	wg.Wait()
	if n := renderings.Load(); n != 2 {
		t.Errorf("%d renderings for %d who asked, want 2", n, others+1)
	}
	if n := hits.Load(); n != others-1 {
		t.Errorf("%d hits, want %d", n, others-1)
	}
	if len(s.lines) != 0 {
		t.Errorf("%d lines are left", len(s.lines))
	}
}

// Keys do not wait for each other, as long as there are slots; a bound on bulk ones holds.
func TestRenderingsAreBounded(t *testing.T) {
	s := sharing{bulk: make(chan struct{}, 2), small: make(chan struct{}, 1)}
	s.once.Do(func() {})
	var now, most atomic.Int64
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			a, _, err := s.get(t.Context(), wanted{key: fmt.Sprint(i), bulk: true, render: func(context.Context) (render.Body, error) {
				n := now.Add(1)
				defer now.Add(-1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				return render.Body{[]byte("x")}, nil
			}})
			if err != nil {
				t.Error(err)
				return
			}
			a.leave()
		})
	}
	wg.Wait()
	if n := most.Load(); n > 2 {
		t.Errorf("%d renderings at once, want 2 at most", n)
	}
}

// Errors, panics and readers who go away leave nothing behind, and hold nobody up.
func TestFailedRenderings(t *testing.T) {
	var s sharing
	want := errors.New("no view")
	if _, _, err := s.get(t.Context(), wanted{key: "k", render: func(context.Context) (render.Body, error) { return nil, want }}); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	panics := wanted{key: "k", render: func(context.Context) (render.Body, error) { panic("as planned") }}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_, _, _ = s.get(t.Context(), panics)
	}()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	slow := wanted{key: "k", render: func(context.Context) (render.Body, error) {
		begun <- struct{}{}
		<-goOn
		return render.Body{[]byte("x")}, nil
	}}
	for range 2 { // one who renders, one who leads those who wait
		wg.Go(func() { _, _, _ = s.get(t.Context(), slow) })
	}
	<-begun
	eventually(t, "somebody waits", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.lines["k"].next != nil
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.get(gone, slow); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(goOn)
	<-begun
	wg.Wait()
	a, hit, err := s.get(t.Context(), wanted{key: "k", render: func(context.Context) (render.Body, error) { return render.Body{[]byte("y")}, nil }})
	if err != nil || hit || string(a.body.Bytes()) != "y" {
		t.Errorf("got %v, %v, %v", a, hit, err)
	}
	if len(s.lines) != 0 {
		t.Errorf("%d lines are left", len(s.lines))
	}
}

// Many at once, with and without gzip, all get whole answers, though memory is used again.
func TestManyReadersGetWholeAnswers(t *testing.T) {
	s := goldenCluster(t)
	want := get(t, s, "/state").body
	var wg sync.WaitGroup
	for i := range 40 {
		header := http.Header{"Accept-Encoding": {"identity"}}
		if i%2 == 1 {
			header.Set("Accept-Encoding", "gzip")
		}
		wg.Go(func() {
			r := do(t, http.MethodGet, endpoint(s, "/state"), header, nil)
			body := r.body
			if r.header.Get("Content-Encoding") == "gzip" {
				body = gunzip(t, r.body)
			}
			if body != want {
				t.Errorf("got %d bytes, want %d, or others", len(body), len(want))
			}
		})
	}
	wg.Wait()
}

// A rendering whose turn comes when its only reader has gone is not made.
func TestAbandonedRendering(t *testing.T) {
	var s sharing
	gone, leave := context.WithCancel(t.Context())
	leave()
	made := 0
	w := wanted{key: "k", render: func(context.Context) (render.Body, error) {
		made++
		return render.Body{[]byte("x")}, nil
	}}
	if _, _, err := s.get(gone, w); !errors.Is(err, context.Canceled) || made != 0 {
		t.Errorf("got %v, and %d renderings, want none", err, made)
	}
	a, _, err := s.get(t.Context(), w)
	if err != nil || made != 1 {
		t.Fatalf("got %v, and %d renderings, want one", err, made)
	}
	a.leave()
	if len(s.lines) != 0 {
		t.Errorf("%d lines are left", len(s.lines))
	}
}
