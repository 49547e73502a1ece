package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clusterd/api/client"
)

// doorOf is a door to the leader by several masters.
func doorOf(t *testing.T, patience time.Duration, masters ...string) *http.Client {
	t.Helper()
	base := client.NewTLSClient(nil, nil).Transport
	d := &door{base: base, prefix: leaderPrefix, patient: true, shared: &doorState{plain: map[int]bool{}, patience: patience}}
	for _, m := range masters {
		u, err := url.Parse(m)
		if err != nil {
			t.Fatal(err)
		}
		d.masters = append(d.masters, u)
	}
	c := &http.Client{Transport: d}
	t.Cleanup(base.(*http.Transport).CloseIdleConnections)
	return c
}

// scripted is a master that gives the answers of a script one after the other, the last of
// them for ever, and counts the requests.
func scripted(t *testing.T, script ...http.HandlerFunc) (base string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, leaderPrefix) {
			return // the version, which is asked for to see who lives
		}
		script[min(int(asked.Add(1)), len(script))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func electing(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `{"error":{"message":"No leader elected","status":503}}`)
}

func status(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, code) }
}

// cut ends the connection instead of answering.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	_, _ = w.Write(append([]byte("done "), b...))
}

// TestWaitForLeader sends requests to masters none of which leads at first, or whose leader goes
// down with what it was asked.
func TestWaitForLeader(t *testing.T) {
	t.Parallel() // it waits more than it works
	const long, none = time.Minute, time.Duration(0)
	down := "http://127.0.0.1:1"
	for _, row := range []struct {
		name     string
		patience time.Duration
		get      bool
		script   []http.HandlerFunc
		sent     int32  // how often
		want     string // the answer, or what is in it or in the error
	}{
		{"a change waits for a leader", long, false, []http.HandlerFunc{electing, electing, echo}, 3, "done kill"},
		{"a look waits for a leader", long, true, []http.HandlerFunc{electing, electing, echo}, 3, "done "},
		{"no time given", none, false, []http.HandlerFunc{electing, echo}, 1, "No leader elected"},
		{"little time given", 50 * time.Millisecond, false, []http.HandlerFunc{electing}, 1, "No leader elected"},
		{"a change that the leader may have begun", long, false, []http.HandlerFunc{status(503, "Master is not able to answer: it stops"), echo}, 1, "it stops"},
		{"a look that the leader has not answered", long, true, []http.HandlerFunc{status(503, "Master is not able to answer: it stops"), echo}, 2, "done "},
		{"a change whose leader went down", long, false, []http.HandlerFunc{status(502, "it is not known"), echo}, 1, "not known"},
		{"a look whose leader went down", long, true, []http.HandlerFunc{status(502, "it is not known"), echo}, 2, "done "},
		{"a change that is cut off", long, false, []http.HandlerFunc{cut, echo}, 1, "EOF"},
		{"a look at what is not well", long, true, []http.HandlerFunc{status(503, "unhealthy")}, 1, "unhealthy"},
		{"what is refused for good", long, true, []http.HandlerFunc{status(403, "no")}, 1, "no"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			master, asked := scripted(t, row.script...)
			h := doorOf(t, row.patience, master, down)
			send := func() (*http.Response, error) {
				return h.Post(master+"/api/v1", "text/plain", strings.NewReader("kill"))
			}
			if row.get {
				send = func() (*http.Response, error) { return h.Get(master + "/state") }
			}
			res, err := send()
			text := ""
			if err != nil {
				text = err.Error()
			} else {
				b, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				text = string(b)
			}
			if !strings.Contains(text, row.want) || asked.Load() != row.sent {
				t.Errorf("got %q, sent %d times, want %q, %d times", text, asked.Load(), row.want, row.sent)
			}
			if broke := strings.Contains(text, "EOF"); broke && !strings.Contains(HintOf(err), "may have been done") {
				t.Errorf("hint %q does not say that it may have been done", HintOf(err))
			}
		})
	}
}

// TestWaitInterrupted ends a wait by ^C.
func TestWaitInterrupted(t *testing.T) {
	t.Parallel()
	master, asked := scripted(t, electing)
	h := doorOf(t, time.Hour, master)
	ctx, interrupt := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, master+"/state", nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		res, err := h.Do(r)
		if err == nil {
			err = res.Body.Close()
		}
		ended <- err
	}()
	for asked.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	interrupt()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestFrozenMidway asks two masters one of which answers no more after it has answered once:
// what only looks is asked of the other.
func TestFrozenMidway(t *testing.T) {
	t.Parallel() // it waits for what does not come
	frozen := make(chan struct{})
	var lock atomic.Bool
	lazy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lock.Load() {
			<-frozen
		}
		echo(w, r)
	}))
	defer lazy.Close()
	defer close(frozen)
	lives, asked := scripted(t, echo)
	h := doorOf(t, time.Minute, lazy.URL, lives)
	get := func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, lazy.URL+"/api/v1", strings.NewReader("GET_TASKS"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := h.Do(r)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(res.Body)
		if string(b) != "done GET_TASKS" {
			err = errors.Join(err, errors.New(string(b)))
		}
		return errors.Join(err, res.Body.Close())
	}
	if err := get(Harmlessly(t.Context())); err != nil || asked.Load() != 0 {
		t.Fatalf("%v; the other was asked %d times", err, asked.Load())
	}
	lock.Store(true)
	if err := get(Harmlessly(t.Context())); err != nil || asked.Load() != 1 {
		t.Errorf("%v; the other was asked %d times", err, asked.Load())
	}
}

// TestNobodyAnswers tries every address, and says where nobody was.
func TestNobodyAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := "http://" + l.Addr().String()
	_ = l.Close()
	h := doorOf(t, time.Hour, down, down)
	res, err := h.Get(down + "/state")
	if err == nil {
		_ = res.Body.Close()
	}
	if err == nil || strings.Count(err.Error(), "refused") != 2 {
		t.Errorf("got %v", err)
	}
}
