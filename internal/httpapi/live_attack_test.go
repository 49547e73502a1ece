package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLiveInLive: what watches cannot watch what watches, however that is written: each
// request would become many.
func TestLiveInLive(t *testing.T) {
	w := newWatched(t)
	inner := url.QueryEscape("/value")
	for _, path := range []string{
		LivePath + "?path=" + inner,
		"/api/clusterd/v1/l%69ve?path=" + inner,
		"/%61pi/clusterd/v1/live?path=" + inner,
		"/master/api/clusterd/v1/l%69ve.json?path=" + inner,
		"/somewhere?to=" + LivePath,
	} {
		if c := w.watch(t, "ann", "", path); c.status != http.StatusBadRequest {
			t.Errorf("%s: status %d", path, c.status)
		}
	}
	if n := w.asked.Load(); n != 0 {
		t.Errorf("what was to be watched within was asked for %d times", n)
	}
}

// TestLiveSlowPath: a path that does not answer holds no other up.
func TestLiveSlowPath(t *testing.T) {
	w := newWatched(t)
	w.Config.Handler.(*Router).Handle("/hangs", Open("test"), func(_ http.ResponseWriter, r *http.Request) error {
		<-r.Context().Done()
		return r.Context().Err()
	})
	c := w.watch(t, "ann", "", "/hangs", "/value")
	if e := <-c.events; e.name != "/value" {
		t.Errorf("first came %+v", e)
	}
}

// TestLiveLarge: of large answers a client has one in memory at a time, and gets all of them.
func TestLiveLarge(t *testing.T) {
	w := newWatched(t)
	var asked, admitted atomic.Int64
	w.Config.Handler.(*Router).Handle("/large", Open("test"), func(rw http.ResponseWriter, _ *http.Request) error {
		rw.Header().Set("Content-Type", "application/json")
		text := []byte(`"` + strings.Repeat("x", smallLook) + `"`)
		asked.Add(1)
		_, err := rw.Write(text)
		admitted.Add(1)
		return err
	})
	paths := []string{"/large?1", "/large?2", "/large?3", "/large?4"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, LivePath+"?"+url.Values{"path": paths, "interval": {"1hrs"}}.Encode(), http.NoBody)
	slow := &slowClient{header: http.Header{}, wrote: make(chan []byte), ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Config.Handler.(*Router).ServeHTTP(slow, req)
	}()
	for asked.Load() < int64(len(paths)) && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	for read := 0; read < len(paths); {
		if n := admitted.Load(); n > int64(read)+1 {
			t.Errorf("%d large answers were admitted while the client has read %d", n, read)
		}
		select {
		case b := <-slow.wrote:
			read += strings.Count(string(b[:min(len(b), 64)]), "event: ")
		case <-ctx.Done():
			t.Fatalf("there came only %d answers", read)
		}
	}
	cancel()
	<-done
	if n := len(w.live.large); n != 0 {
		t.Errorf("%d large answers are held after the end", n)
	}
}

// slowClient has each piece taken by the test.
type slowClient struct {
	header http.Header
	wrote  chan []byte
	ctx    context.Context
}

func (c *slowClient) Header() http.Header { return c.header }

func (c *slowClient) WriteHeader(int) {}

func (c *slowClient) Write(b []byte) (int, error) {
	select {
	case c.wrote <- b:
		return len(b), nil
	case <-c.ctx.Done():
		return 0, c.ctx.Err()
	}
}

func (c *slowClient) FlushError() error { return nil }
