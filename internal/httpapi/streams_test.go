package httpapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

// withStreams adds what streams to a server: /ticks sends a number each time that the test
// lets it, and notes when it has ended.
type withStreams struct {
	*watched
	streams Streams
	ticks   chan int
	ended   atomic.Int64
}

func newWithStreams(t *testing.T) *withStreams {
	w := &withStreams{watched: newWatched(t), ticks: make(chan int)}
	rt := w.router()
	w.streams.Register(rt)
	t.Cleanup(w.streams.Close)
	begin := func(rw http.ResponseWriter) {
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.WriteHeader(http.StatusOK)
	}
	rt.Handle("/ticks", Open("test"), func(rw http.ResponseWriter, r *http.Request) error {
		defer w.ended.Add(1)
		begin(rw)
		for {
			select {
			case n := <-w.ticks:
				if n < 0 {
					return nil
				}
				fmt.Fprintf(rw, "data: %d\n\n", n)
				if http.NewResponseController(rw).Flush() != nil {
					return nil
				}
			case <-r.Context().Done():
				return nil
			}
		}
	})
	rt.Handle("/floods", Open("test"), func(rw http.ResponseWriter, _ *http.Request) error {
		defer w.ended.Add(1)
		begin(rw)
		for {
			if n, _ := rw.Write(make([]byte, 1<<20)); n < 1<<20 {
				return nil
			}
		}
	})
	rt.Handle("/tears", Open("test"), func(rw http.ResponseWriter, _ *http.Request) error {
		begin(rw)
		fmt.Fprint(rw, "data: torn\n\n")
		panic(http.ErrAbortHandler)
	})
	rt.Handle("/later", Open("test"), func(http.ResponseWriter, *http.Request) error {
		e := Unavailable("nobody leads")
		e.Header = http.Header{"Retry-After": {"7"}}
		return e
	})
	rt.Handle("/headers", Open("test"), func(rw http.ResponseWriter, r *http.Request) error {
		begin(rw)
		return json.NewEncoder(rw).Encode(r.Header)
	})
	return w
}

func (w *watched) router() *Router { return w.Config.Handler.(*Router) }

// page is the other end.
type page struct {
	t  *testing.T
	ws *websocket.Conn
}

func (w *withStreams) page(t *testing.T, header http.Header) *page {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, w.URL+StreamsPath, &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // there is none
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &page{t, ws}
}

func (p *page) say(text string) {
	p.t.Helper()
	if err := p.ws.Write(p.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		p.t.Fatalf("say %.100s: %v", text, err)
	}
}

func (p *page) open(id int, path string) {
	p.t.Helper()
	p.say(fmt.Sprintf(`{"open":%d,"path":%q}`, id, path))
}

// read returns the next message: a control message, or the number of a stream and its bytes.
func (p *page) read() (streamControl, string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	kind, data, err := p.ws.Read(ctx)
	var m streamControl
	switch {
	case err != nil:
		return m, "", err
	case kind == websocket.MessageText:
		return m, "", json.Unmarshal(data, &m)
	case len(data) < 4:
		return m, "", fmt.Errorf("a message of %d bytes", len(data))
	}
	return streamControl{ID: binary.BigEndian.Uint32(data)}, string(data[4:]), nil
}

// wants reads the next message and compares it.
func (p *page) wants(want streamControl, text string) {
	p.t.Helper()
	got, data, err := p.read()
	if err != nil {
		p.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || data != text {
		p.t.Fatalf("got %+v %q, want %+v %q", got, data, want, text)
	}
}

// closes reads until the connection is closed, and compares the code.
func (p *page) closes(code websocket.StatusCode) {
	p.t.Helper()
	for {
		if _, _, err := p.read(); err != nil {
			if got := websocket.CloseStatus(err); got != code {
				p.t.Errorf("closed with %v (%v), want %v", got, err, code)
			}
			return
		}
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestStreams: streams go side by side, each as GET answers it and for who asks.
func TestStreams(t *testing.T) {
	w := newWithStreams(t)
	p := w.page(t, http.Header{"Who": {"carol"}})
	p.open(1, "/ticks")
	p.wants(streamControl{ID: 1, Status: 200}, "")
	p.open(7, LivePath+"?path=/value")
	p.wants(streamControl{ID: 7, Status: 200}, "")
	p.wants(streamControl{ID: 7}, "event: /value\ndata: {\"value\":0,\"who\":\"carol\",\"q\":\"\"}\n\n")
	w.ticks <- 5
	p.wants(streamControl{ID: 1}, "data: 5\n\n")
	w.value.Store(3)
	p.wants(streamControl{ID: 7}, "event: /value\ndata: {\"value\":3,\"who\":\"carol\",\"q\":\"\"}\n\n")

	// One that is dropped ends, and says nothing any more; the other goes on.
	p.say(`{"close":7}`)
	p.say(`{"close":7}`)
	p.say(`{"close":99}`)
	eventually(t, "nobody watches", func() bool {
		w.live.guests.mu.Lock()
		defer w.live.guests.mu.Unlock()
		return w.live.guests.n == 0
	})
	w.ticks <- 6
	p.wants(streamControl{ID: 1}, "data: 6\n\n")
	w.ticks <- -1
	p.wants(streamControl{ID: 1, End: true}, "")
	p.open(1, "/ticks")
	p.wants(streamControl{ID: 1, Status: 200}, "")

	// When the page goes, all of it ends.
	ended := w.ended.Load()
	_ = p.ws.CloseNow()
	eventually(t, "its streams end", func() bool { return w.ended.Load() == ended+1 })
}

// TestStreamsRefuse: a refusal comes with its status, and ends nothing else.
func TestStreamsRefuse(t *testing.T) {
	w := newWithStreams(t)
	p := w.page(t, nil)
	p.open(1, "/ticks")
	p.wants(streamControl{ID: 1, Status: 200}, "")
	for i, row := range []struct {
		path string
		want streamControl
	}{
		{"/nothing", streamControl{Status: 404, Body: "404 Not Found."}},
		{LivePath + "?path=/value", streamControl{Status: 401, Body: "401 Unauthorized."}},
		{"/later", streamControl{Status: 503, Body: "nobody leads", RetryAfter: "7"}},
		{"/text", streamControl{Status: 406, Body: "It is no stream of events"}},
		{"/panics", streamControl{Status: 502, Body: "The answer broke off"}},
		{"/breaks", streamControl{Status: 502, Body: "The answer broke off"}},
		{StreamsPath, streamControl{Status: 426, Body: "Expecting 'Upgrade: websocket'"}},
		{"http://elsewhere/ticks", streamControl{Status: 400, Body: "'http://elsewhere/ticks' is no path"}},
		{"", streamControl{Status: 400, Body: "'' is no path"}},
	} {
		row.want.ID = uint32(10 + i)
		p.open(10+i, row.path)
		p.wants(row.want, "")
	}
	p.open(2, "/tears")
	p.wants(streamControl{ID: 2, Status: 200}, "")
	p.wants(streamControl{ID: 2}, "data: torn\n\n")
	p.wants(streamControl{ID: 2, End: true, Error: "The stream broke off."}, "")
	w.ticks <- 1
	p.wants(streamControl{ID: 1}, "data: 1\n\n")
}

// TestStreamsHeaders: what is asked for has the page's cookies, and nothing of the websocket.
func TestStreamsHeaders(t *testing.T) {
	w := newWithStreams(t)
	p := w.page(t, http.Header{"Cookie": {"a=b"}, "Accept-Encoding": {"gzip"}, "Last-Event-Id": {"m:1"}, "Origin": {w.URL}})
	p.open(1, "/headers")
	p.wants(streamControl{ID: 1, Status: 200}, "")
	_, text, err := p.read()
	if err != nil {
		t.Fatal(err)
	}
	var got http.Header
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	got.Del("User-Agent")
	want := http.Header{"Accept": {"text/event-stream"}, "Cookie": {"a=b"}, "Origin": {w.URL}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestStreamsOrigin: a page of another origin is refused before anything is asked for.
func TestStreamsOrigin(t *testing.T) {
	w := newWithStreams(t)
	for _, row := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"program", nil, http.StatusSwitchingProtocols},
		{"own page", http.Header{"Origin": {w.URL}}, http.StatusSwitchingProtocols},
		{"another port", http.Header{"Origin": {"http://127.0.0.1:1"}}, http.StatusForbidden},
		{"another site", http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		{"none of its own", http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{"another site, as browsers say", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"websocket"}}, http.StatusForbidden},
	} {
		ws, res, err := websocket.Dial(t.Context(), w.URL+StreamsPath, &websocket.DialOptions{HTTPHeader: row.header}) //nolint:bodyclose // Dial does
		if ws != nil {
			_ = ws.CloseNow()
		}
		if res == nil || res.StatusCode != row.status {
			t.Errorf("%s: got %v, %v, want %d", row.name, res, err, row.status)
		}
	}
	res, err := http.Get(w.URL + StreamsPath)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUpgradeRequired || res.Header.Get("Upgrade") != "websocket" {
		t.Errorf("no websocket: got %d %v", res.StatusCode, res.Header)
	}
}

// TestStreamsBounds: who asks for too much, or says what makes no sense, is sent away.
func TestStreamsBounds(t *testing.T) {
	w := newWithStreams(t)
	for name, say := range map[string]func(p *page){
		"no JSON":    func(p *page) { p.say(`x`) },
		"no number":  func(p *page) { p.say(`{"path":"/ticks"}`) },
		"both":       func(p *page) { p.say(`{"open":1,"close":2}`) },
		"bytes":      func(p *page) { _ = p.ws.Write(t.Context(), websocket.MessageBinary, []byte(`{"open":1}`)) },
		"same twice": func(p *page) { p.open(1, "/ticks"); p.open(1, "/ticks") },
		"too many": func(p *page) {
			for i := range maxStreams + 1 {
				p.open(i+1, "/ticks")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.page(t, nil)
			say(p)
			p.closes(websocket.StatusPolicyViolation)
		})
	}
	t.Run("too long", func(t *testing.T) {
		p := w.page(t, nil)
		_ = p.ws.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte(" "), maxStreamsMessage+1))
		p.closes(websocket.StatusMessageTooBig)
	})
	eventually(t, "all have gone", func() bool {
		w.streams.guests.mu.Lock()
		defer w.streams.guests.mu.Unlock()
		return w.streams.guests.n == 0
	})
	w.streams.guests.mu.Lock()
	w.streams.guests.limit = 0
	w.streams.guests.mu.Unlock()
	if _, res, _ := websocket.Dial(t.Context(), w.URL+StreamsPath, nil); res == nil || res.StatusCode != http.StatusServiceUnavailable { //nolint:bodyclose // Dial does
		t.Errorf("one too many: got %v", res)
	}
}

// TestStreamsInTurn: who opens and closes all the time holds no more than it may.
func TestStreamsInTurn(t *testing.T) {
	w := newWithStreams(t)
	p := w.page(t, nil)
	const times = 300
	go func() {
		for {
			if _, _, err := p.ws.Read(t.Context()); err != nil {
				return
			}
		}
	}()
	for i := range times {
		p.open(i+1, "/ticks")
		p.say(fmt.Sprintf(`{"close":%d}`, i+1))
	}
	// One that is dropped before it was looked at may never have been served.
	p.open(times+1, "/ticks")
	w.ticks <- 1
	w.ticks <- -1
	_ = p.ws.CloseNow()
	eventually(t, "it has gone", func() bool {
		w.streams.guests.mu.Lock()
		defer w.streams.guests.mu.Unlock()
		return w.streams.guests.n == 0
	})
}

// TestStreamsSlowReader: a client that does not read is cut off.
func TestStreamsSlowReader(t *testing.T) {
	was := writeTimeout
	writeTimeout = 100 * time.Millisecond
	defer func() { writeTimeout = was }()
	w := newWithStreams(t)
	p := w.page(t, nil)
	p.open(1, "/floods")
	eventually(t, "it is cut off", func() bool { return w.ended.Load() == 1 })
	eventually(t, "it has gone", func() bool {
		w.streams.guests.mu.Lock()
		defer w.streams.guests.mu.Unlock()
		return w.streams.guests.n == 0
	})
	w.streams.Close() // before writeTimeout is as it was
}

// TestStreamsDeadline: a handler that bounds a write is told when the client takes too long.
func TestStreamsDeadline(t *testing.T) {
	w := newWithStreams(t)
	told := make(chan error, 1)
	w.router().Handle("/bounded", Open("test"), func(rw http.ResponseWriter, _ *http.Request) error {
		rw.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(rw)
		for {
			_ = rc.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			n, err := rw.Write(make([]byte, 1<<20))
			if n < 1<<20 {
				told <- err
				return nil
			}
		}
	})
	p := w.page(t, nil)
	p.open(1, "/bounded")
	select {
	case err := <-told:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the write was not bounded")
	}
}

// TestStreamsEnd: the server ends, and says so; who follows nothing is sent away.
func TestStreamsEnd(t *testing.T) {
	w := newWithStreams(t)
	p := w.page(t, nil)
	p.open(1, "/ticks")
	p.wants(streamControl{ID: 1, Status: 200}, "")
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.streams.Close()
	}()
	p.closes(websocket.StatusGoingAway)
	<-done
	if n := w.ended.Load(); n != 1 {
		t.Errorf("%d streams have ended, want 1", n)
	}
	if _, res, _ := websocket.Dial(t.Context(), w.URL+StreamsPath, nil); res == nil || res.StatusCode != http.StatusServiceUnavailable { //nolint:bodyclose // Dial does
		t.Errorf("after the end: got %v", res)
	}
}

func TestStreamsIdle(t *testing.T) {
	was := streamsIdle
	streamsIdle = time.Second
	w := newWithStreams(t)
	defer func() {
		w.streams.Close()
		streamsIdle = was
	}()
	p := w.page(t, nil)
	p.open(1, "/ticks")
	p.wants(streamControl{ID: 1, Status: 200}, "")
	for n := range 2 {
		w.ticks <- n // longer than it may be idle, but it is not
		p.wants(streamControl{ID: 1}, fmt.Sprintf("data: %d\n\n", n))
		<-time.After(streamsIdle)
	}
	p.say(`{"close":1}`)
	p.closes(websocket.StatusNormalClosure)
}

func TestDeadline(t *testing.T) {
	d := deadline{expired: make(chan struct{})}
	over := func() bool {
		select {
		case <-d.passed():
			return true
		default:
			return false
		}
	}
	if d.set(time.Now().Add(time.Hour)); over() {
		t.Error("it is over before its time")
	}
	waits := d.passed()
	if d.set(time.Unix(1, 0)); !over() {
		t.Error("it is not over after its time")
	}
	<-waits // who waits already is told
	if d.set(time.Time{}); over() {
		t.Error("it is over though there is none")
	}
	d.set(time.Now().Add(time.Millisecond))
	<-d.passed()
	if d.set(time.Now().Add(time.Hour)); over() {
		t.Error("it cannot be moved")
	}
	if d.set(time.Time{}); d.timer != nil {
		t.Error("a timer is left")
	}
}

// TestStreamsNumberAgain: a number is free for another stream as soon as its end was heard.
func TestStreamsNumberAgain(t *testing.T) {
	w := newWithStreams(t)
	w.router().Handle("/nothing_new", Open("test"), func(rw http.ResponseWriter, _ *http.Request) error {
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.WriteHeader(http.StatusOK)
		return nil
	})
	p := w.page(t, nil)
	for range 500 {
		p.open(1, "/nothing_new")
		p.wants(streamControl{ID: 1, Status: 200}, "")
		p.wants(streamControl{ID: 1, End: true}, "")
	}
}
