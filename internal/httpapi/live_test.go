package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
)

// liveAuth takes who somebody is from a header.
type liveAuth struct{}

func (liveAuth) Authenticate(r *http.Request, realm authn.Realm) (*authz.Principal, error) {
	who := r.Header.Get("Who")
	if who == "" {
		return nil, &authn.Failure{Status: http.StatusUnauthorized, Challenges: []string{"Header " + string(realm)}}
	}
	return &authz.Principal{Value: who}, nil
}

// watched is a server with paths to watch, and what it counts.
type watched struct {
	*httptest.Server
	live  Live
	value atomic.Int64
	asked atomic.Int64
	errs  atomic.Int64
}

func newWatched(t *testing.T) *watched {
	w := &watched{}
	rt := NewRouter("master")
	rt.Guards = Guards{Realms: authn.Realms{authn.MasterReadonly: liveAuth{}}}
	rt.OnError = func(*http.Request, error) { w.errs.Add(1) }
	w.live.Register(rt)
	rt.Handle("/value", In(authn.MasterReadonly), func(rw http.ResponseWriter, r *http.Request) error {
		w.asked.Add(1)
		return WriteJSON(rw, r, fmt.Appendf(nil, `{"value":%d,"who":%q,"q":%q}`, w.value.Load(), PrincipalOf(r).Value, r.URL.RawQuery))
	})
	rt.Handle("/text", Open("test"), func(rw http.ResponseWriter, r *http.Request) error {
		Write(rw, r, textPlain, []byte("two\nlines"))
		return nil
	})
	rt.Handle("/lines", Open("test"), func(rw http.ResponseWriter, r *http.Request) error {
		Write(rw, r, JSON.String(), []byte("{\n \"a\": 1\n}\n"))
		return nil
	})
	rt.Handle("/stream", Open("test"), func(rw http.ResponseWriter, r *http.Request) error {
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.WriteHeader(http.StatusOK)
		<-r.Context().Done()
		return nil
	})
	rt.Handle("/panics", Open("test"), func(http.ResponseWriter, *http.Request) error { panic("no") })
	rt.Handle("/breaks", Open("test"), func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) })
	w.Server = httptest.NewServer(rt)
	t.Cleanup(func() {
		w.live.Close()
		w.Close()
	})
	return w
}

type liveEvent struct{ name, data string }

// liveClient is who watches.
type liveClient struct {
	status int
	header http.Header
	events <-chan liveEvent
	leave  func()
}

// watch opens a stream of paths.
func (w *watched) watch(t *testing.T, who, interval string, paths ...string) *liveClient {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	q := url.Values{"path": paths}
	if interval != "" {
		q.Set("interval", interval)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+LivePath+"?"+q.Encode(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if who != "" {
		req.Header.Set("Who", who)
	}
	resp, err := http.DefaultClient.Do(req) //nolint:bodyclose // the goroutine below does
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan liveEvent, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		defer resp.Body.Close()
		var e liveEvent
		var data []string
		in := bufio.NewScanner(resp.Body)
		for in.Scan() {
			switch line := in.Text(); {
			case strings.HasPrefix(line, "event: "):
				e.name = line[7:]
			case strings.HasPrefix(line, "data: "):
				data = append(data, line[6:])
			case line == "" && e.name != "":
				e.data = strings.Join(data, "\n")
				events <- e
				e, data = liveEvent{}, nil
			}
		}
	}()
	leave := func() { cancel(); <-done }
	t.Cleanup(leave)
	return &liveClient{resp.StatusCode, resp.Header, events, leave}
}

func nextEvent(t *testing.T, events <-chan liveEvent) liveEvent {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream has ended")
		}
		return e
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
	}
	return liveEvent{}
}

// Each path comes at once, and again when it has changed and not before, as whoever watches
// would get it.
func TestLive(t *testing.T) {
	w := newWatched(t)
	c := w.watch(t, "carol", "1ms", "/value?a=%2Fb", "/master/text", "/lines", "/value?a=%2Fb", "/nothing")
	if c.status != http.StatusOK || c.header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %d %v", c.status, c.header)
	}
	want := map[string]string{
		"/value?a=%2Fb": `{"value":0,"who":"carol","q":"a=%2Fb"}`,
		"/master/text":  `"two\nlines"`,
		"/lines":        "{\n \"a\": 1\n}",
		"/nothing":      `{"error":{"message":"404 Not Found.","status":404}}`,
	}
	for range len(want) {
		e := nextEvent(t, c.events)
		if want[e.name] != e.data {
			t.Errorf("%s: got %s, want %s", e.name, e.data, want[e.name])
		}
		delete(want, e.name)
	}
	for asked := w.asked.Load(); w.asked.Load() < asked+2; {
		time.Sleep(10 * time.Millisecond)
	}
	w.value.Store(7)
	if e := nextEvent(t, c.events); e.name != "/value?a=%2Fb" || !strings.Contains(e.data, `"value":7`) {
		t.Errorf("got %v", e)
	}
	w.live.Close()
	if e, ok := <-c.events; ok {
		t.Errorf("after the end came %v", e)
	}
	if c := w.watch(t, "carol", "", "/lines"); c.status != http.StatusServiceUnavailable {
		t.Errorf("after the end: got %d", c.status)
	}
}

// What may not be seen is not; who may see nothing is told so at once.
func TestLiveRefuses(t *testing.T) {
	w := newWatched(t)
	c := w.watch(t, "", "", "/value", "/value?again")
	if c.status != http.StatusUnauthorized || !strings.HasPrefix(c.header.Get("Www-Authenticate"), "Header") {
		t.Errorf("got %d %v", c.status, c.header)
	}
	c = w.watch(t, "", "", "/lines", "/value")
	for range 2 {
		if e := nextEvent(t, c.events); e.name == "/value" && e.data != `{"error":{"message":"401 Unauthorized.","status":401}}` {
			t.Errorf("got %v", e)
		}
	}
	for _, paths := range [][]string{
		nil,
		{"value"},
		{"http://a/b"},
		{"/a\nb"},
		{"/a b"},
		{LivePath + "?path=/value"},
		{"/" + strings.Repeat("a", maxLivePath)},
		strings.Split(strings.Repeat("/a?x,", 1)+strings.Join(numbered(maxLivePaths), ","), ","),
	} {
		if c := w.watch(t, "carol", "", paths...); c.status != http.StatusBadRequest {
			t.Errorf("%.100v: got %d", paths, c.status)
		}
	}
	if c := w.watch(t, "carol", "soon", "/value"); c.status != http.StatusBadRequest {
		t.Errorf("got %d", c.status)
	}
}

func numbered(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("/value?%d", i))
	}
	return out
}

// What streams, breaks off or panics is an error of its path alone.
func TestLiveSurvives(t *testing.T) {
	w := newWatched(t)
	c := w.watch(t, "carol", "", "/stream", "/panics", "/breaks", "/lines")
	want := map[string]int{"/stream": http.StatusRequestEntityTooLarge, "/panics": http.StatusBadGateway, "/breaks": http.StatusBadGateway, "/lines": 0}
	for range len(want) {
		e := nextEvent(t, c.events)
		var got struct {
			Error struct {
				Status int `json:"status"`
			} `json:"error"`
		}
		if err := json.Unmarshal([]byte(e.data), &got); err != nil || got.Error.Status != want[e.name] {
			t.Errorf("%s: got %s", e.name, e.data)
		}
	}
	if w.errs.Load() != 1 {
		t.Errorf("%d errors were told, of one panic", w.errs.Load())
	}
}

// When the client goes, nobody asks any more; and there is a bound on clients.
func TestLiveClientGoes(t *testing.T) {
	w := newWatched(t)
	c := w.watch(t, "carol", "", "/value")
	nextEvent(t, c.events)
	c.leave()
	left := func() bool {
		w.live.guests.mu.Lock()
		defer w.live.guests.mu.Unlock()
		return w.live.guests.n == 0
	}
	for end := time.Now().Add(30 * time.Second); !left(); {
		if time.Now().After(end) {
			t.Fatal("the client is gone, its stream is not")
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.live.guests.mu.Lock()
	w.live.guests.n = maxLive
	w.live.guests.mu.Unlock()
	if c := w.watch(t, "carol", "", "/value"); c.status != http.StatusServiceUnavailable {
		t.Errorf("one too many: got %d", c.status)
	}
	w.live.guests.mu.Lock()
	w.live.guests.n = 0
	w.live.guests.mu.Unlock()
}
