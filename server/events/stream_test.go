package events

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/recordio"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// TestOneRecordInEachChunk reads chunks off the wire, as clients in the wild do who take a
// chunk for a record.
func TestOneRecordInEachChunk(t *testing.T) {
	for name, request := range map[string]string{
		"mesos": "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAccept: application/json\r\n\r\n",
		"own":   "GET " + Path + " HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n",
		"sse":   "GET " + Path + " HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 1)
			c := h.dial(t)
			_, _ = io.WriteString(c, request)
			in := bufio.NewReader(c)
			res, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost}) //nolint:bodyclose // chunks are read from the connection
			if err != nil {
				t.Fatal(err)
			}
			want := http.Header{"Content-Type": {"application/json"}, "Date": res.Header["Date"]}
			if name != "mesos" {
				want.Set("Cache-Control", "no-store")
			}
			if name == "sse" {
				want.Set("Content-Type", "text/event-stream")
				want.Set("X-Accel-Buffering", "no")
			}
			if diff := cmp.Diff(want, res.Header); diff != "" || res.StatusCode != http.StatusOK || len(res.TransferEncoding) != 1 {
				t.Errorf("status %d, transfer %v, headers (-want +got):\n%s", res.StatusCode, res.TransferEncoding, diff)
			}
			for range 500 {
				h.step()
			}
			h.end()
			for n := 0; ; n++ {
				chunk := readChunk(t, in)
				if name == "sse" {
					if !bytes.HasSuffix(chunk, []byte("\n\n")) || bytes.Count(chunk, []byte("\n\n")) != 1 {
						t.Fatalf("chunk %d is no single event: %q", n, chunk)
					}
				} else if r, err := recordio.NewReader(bytes.NewReader(chunk), 0).Next(); err != nil || len(r)+len(strconv.Itoa(len(r)))+1 != len(chunk) {
					t.Fatalf("chunk %d is no single record: %v, %q", n, err, chunk)
				}
				if bytes.Contains(chunk, []byte(`"id":{"value":"end"}`)) {
					break
				}
			}
		})
	}
}

func readChunk(t *testing.T, in *bufio.Reader) []byte {
	t.Helper()
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, n+2)
	if _, err := io.ReadFull(in, chunk); err != nil || !bytes.HasSuffix(chunk, []byte("\r\n")) {
		t.Fatalf("%v, %q", err, chunk)
	}
	return chunk[:n]
}

// TestOtherProtocols subscribes by HTTP/2 and by HTTP/1.0.
func TestOtherProtocols(t *testing.T) {
	h := newHouse(t, 1)
	for range 100 {
		h.step()
	}
	t.Run("HTTP/2", func(t *testing.T) {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetUnencryptedHTTP2(true)
		defer tr.CloseIdleConnections()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, h.http.URL+Path, http.NoBody)
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.ProtoMajor != 2 || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s, %v", res.Proto, res.Header)
		}
		h.goesOn(t, newReader(formats["own-json"], res.Body))
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := h.dial(t)
		_, _ = io.WriteString(c, "GET "+Path+" HTTP/1.0\r\nAccept: application/x-protobuf\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil) //nolint:bodyclose // goesOn closes it
		if err != nil {
			t.Fatal(err)
		}
		if !res.Close || len(res.TransferEncoding) != 0 {
			t.Errorf("close %t, transfer %v", res.Close, res.TransferEncoding)
		}
		h.goesOn(t, newReader(formats["own-protobuf"], res.Body))
	})
	eventually(t, "both have left", func() bool { return h.hub.Subscribers() == 0 })
}

// goesOn reads a stream while the world changes, and closes it.
func (h *house) goesOn(t *testing.T, r *reader) {
	t.Helper()
	for range 300 {
		h.step()
	}
	last := token{leader, h.serialNow()}.String()
	r.until(t, "the last event came", func(delta) bool { return r.token == last })
	if diff := cmp.Diff(h.truth(ownFace), r.known); diff != "" {
		t.Errorf("-truth +known:\n%s", diff)
	}
	_ = r.body.Close()
}

// stuck subscribes and reads nothing but the answer's head.
func (h *house) stuck(t *testing.T) net.Conn {
	t.Helper()
	c := h.dial(t)
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = io.WriteString(c, "GET "+Path+"?snapshot=false HTTP/1.1\r\nHost: x\r\n\r\n")
	readHead(t, c)
	return c
}

// readHead reads up to the empty line and not a byte more.
func readHead(t *testing.T, c io.Reader) {
	t.Helper()
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b...) {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSlowReaders does not read. Those who do not are cut off, memory stays bounded, and
// who reads misses nothing.
func TestSlowReaders(t *testing.T) {
	const many = 50
	var dropped atomic.Int64
	h := newHouse(t, 1, func(o *Options) {
		o.WriteTimeout = 2 * time.Second // who reads is not held up for so long
		o.MaxHistory, o.MaxHistoryBytes, o.cacheBytes, o.sendBuffer = 20000, 8<<20, 1<<20, 16<<10
		o.OnDropped = func() { dropped.Add(1) }
	})
	for range 100 {
		h.step()
	}
	good := h.subscribe(t, formats["own-protobuf"], "")
	good.first(t)
	for range many {
		h.stuck(t)
	}
	eventually(t, "all are there", func() bool { return h.hub.Subscribers() == many+1 })
	before := heap()
	caughtUp := func() {
		last := token{leader, h.serialNow()}.String()
		good.until(t, "the good one has it all", func(delta) bool { return good.token == last })
	}
	var most uint64
	eventually(t, "the slow ones are cut off", func() bool {
		for range 200 {
			h.step()
		}
		caughtUp()
		most = max(most, heap()-min(before, heap()))
		return dropped.Load() == many
	})
	if diff := cmp.Diff(h.truth(ownFace), good.known); diff != "" {
		t.Errorf("-truth +known:\n%s", diff)
	}
	eventually(t, "one is left", func() bool { return h.hub.Subscribers() == 1 })
	// The ring's 8 MiB, two classes of 1 MiB and what the world and the reader keep.
	if most > 64<<20 {
		t.Errorf("memory grew by %d MiB while they did not read", most>>20)
	}
	h.hub.ringMu.Lock()
	defer h.hub.ringMu.Unlock()
	if h.hub.ring.n > 20000 || h.hub.ring.bytes > 8<<20 {
		t.Errorf("the ring holds %d events, %d bytes", h.hub.ring.n, h.hub.ring.bytes)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestFallenBehind reads again when events that it did not get are forgotten: the stream
// ends in a way that cannot be taken for its end.
func TestFallenBehind(t *testing.T) {
	h := newHouse(t, 1, func(o *Options) { o.MaxHistory, o.sendBuffer = 5000, 4<<10 })
	for range 100 {
		h.step()
	}
	c := h.stuck(t)
	var dropped atomic.Bool
	h.hub.opts.OnDropped = func() { dropped.Store(true) }
	for range 20_000 { // more than the buffers on the way hold
		h.touch()
	}
	_ = c.(*net.TCPConn).SetReadBuffer(1 << 20)
	n, err := io.Copy(io.Discard, httputil.NewChunkedReader(c))
	if err == nil || n == 0 {
		t.Errorf("the stream has ended as if nothing was missed, after %d bytes", n)
	}
	eventually(t, "it is counted", dropped.Load)
}

// TestOldestIsClosed has too many subscribe.
func TestOldestIsClosed(t *testing.T) {
	var now atomic.Int64
	h := newHouse(t, 1, func(o *Options) {
		o.MaxSubscribers = 3
		o.OnSubscribers = func(n int) { now.Store(int64(n)) }
	})
	var all []*reader
	for i, name := range []string{"mesos-json", "own-sse", "own-json", "mesos-protobuf", "own-protobuf"} {
		r := h.subscribe(t, formats[name], "")
		if _, err := r.read(); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
		if want := int64(min(i+1, 3)); now.Load() != want {
			t.Errorf("%d subscribers, want %d", now.Load(), want)
		}
	}
	for i, r := range all[:2] {
		if err := end(r); !errors.Is(err, io.EOF) {
			t.Errorf("stream %d ended with %v", i, err)
		}
	}
	h.step()
	for _, r := range all[2:] {
		r.until(t, "the event has come", func(e delta) bool { return e.GetFrameworkAdded() != nil })
	}
}

// end reads a stream up to its end.
func end(r *reader) error {
	for {
		if _, err := r.read(); err != nil {
			return err
		}
	}
}

// TestClose ends all streams properly and lets nobody in any more.
func TestClose(t *testing.T) {
	h := newHouse(t, 1)
	var all []*reader
	for _, f := range formats {
		r := h.subscribe(t, f, "")
		if _, err := r.read(); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	h.stuck(t)
	h.hub.Close(errors.New("another leads"))
	h.hub.Wait()
	for _, r := range all {
		if err := end(r); !errors.Is(err, io.EOF) {
			t.Errorf("%+v ended with %v", r.format, err)
		}
	}
	if _, err := h.trySubscribe(t.Context(), formats["own-json"], ""); !errors.Is(err, errStatus) || err.Error() != "status 503: another leads" {
		t.Errorf("who comes later gets %v", err)
	}
	h.step() // is forgotten with the hub
}

// TestCloseWhileRendering closes the hub while subscribers wait for the first snapshot.
func TestCloseWhileRendering(t *testing.T) {
	h := newHouse(t, 1)
	begun, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.slow = func() { once.Do(func() { close(begun) }); <-gate }
	errs := make(chan error, 10)
	for range cap(errs) {
		go func() {
			_, err := h.trySubscribe(t.Context(), formats["mesos-json"], "")
			errs <- err
		}()
	}
	<-begun
	eventually(t, "all wait", func() bool { return h.hub.Subscribers() == cap(errs) })
	h.hub.Close(nil)
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, errStatus) || !strings.Contains(err.Error(), "503") {
			t.Errorf("got %v", err)
		}
	}
	close(gate)
	h.hub.Wait()
}

// TestSnapshotsAreShared lets very many subscribe at once.
func TestSnapshotsAreShared(t *testing.T) {
	const many = 100
	h := newHouse(t, 1)
	for range 200 {
		h.step()
	}
	gate := make(chan struct{})
	h.slow = func() { <-gate }
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			f := formats[[]string{"mesos-json", "own-json", "own-sse"}[i%3]]
			if err := h.follow(t.Context(), f); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all are there", func() bool { return h.hub.Subscribers() == many })
	close(gate)
	h.end()
	wg.Wait()
	if h.views > 3 {
		t.Errorf("%d snapshots were rendered for %d who came at once", h.views, many)
	}
	h.hub.snapshots.mu.Lock()
	defer h.hub.snapshots.mu.Unlock()
	if len(h.hub.snapshots.kinds) != 0 {
		t.Errorf("snapshots are kept: %v", h.hub.snapshots.kinds)
	}
}

// TestViewFails answers with the error of the view.
func TestViewFails(t *testing.T) {
	h := newHouse(t, 1)
	h.hub.opts.View = func(context.Context) (*core.View, error) { return nil, unavailable(errors.New("not now")) }
	_, err := h.trySubscribe(t.Context(), formats["mesos-json"], "")
	if err == nil || err.Error() != "status 503: not now" {
		t.Errorf("got %v", err)
	}
	eventually(t, "it has left", func() bool { return h.hub.Subscribers() == 0 })
}

// TestHeartbeats come by the clock, with a token that goes on even if nothing is for us.
func TestHeartbeats(t *testing.T) {
	h := newHouse(t, 1, func(o *Options) { o.Heartbeat = 10 * time.Millisecond })
	r := h.subscribe(t, formats["own-json"], "?types=quotas_updated&snapshot=false")
	s := r.first(t)
	if s.GetHeartbeatIntervalSeconds() != 0.01 || s.GetState != nil || s.Resumed != nil {
		t.Errorf("%v", s)
	}
	h.step() // a framework: not for this reader
	want := token{leader, 1}.String()
	e := r.until(t, "the token goes on", func(delta) bool { return r.token == want })
	if e.(*clusterdv1.OperatorEvent).GetType() != clusterdv1.OperatorEvent_HEARTBEAT {
		t.Errorf("got %v", e)
	}
	m := h.subscribe(t, formats["mesos-json"], "")
	beats := 0
	m.until(t, "five heartbeats have come", func(e delta) bool {
		if e.(*master.Event).GetType() == master.Event_HEARTBEAT {
			beats++
		}
		return beats == 5
	})
	sse := h.subscribe(t, formats["own-sse"], "?snapshot=false")
	sse.first(t)
	b, err := bufio.NewReader(sse.body).ReadString('\n')
	for err == nil && !strings.HasPrefix(b, ": heartbeat") {
		b, err = bufio.NewReader(sse.body).ReadString('\n')
	}
	if err != nil {
		t.Error(err)
	}
}

// TestDemands refuses what it does not understand.
func TestDemands(t *testing.T) {
	h := newHouse(t, 1)
	for query, want := range map[string]string{
		"?types=TASK_UPDATE":  "status 400: There are no events of type \"TASK_UPDATE\".\n",
		"?snapshot=perhaps":   "status 400: 'snapshot' is either true or false, not \"perhaps\".\n",
		"?types=UNKNOWN,BOGO": "status 400: There are no events of type \"UNKNOWN\".\n",
	} {
		if _, err := h.trySubscribe(t.Context(), formats["own-json"], query); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", query, err)
		}
	}
	if _, err := h.trySubscribe(t.Context(), formats["own-json"], "", "Accept", "text/html"); err == nil || !strings.Contains(err.Error(), "status 406") {
		t.Errorf("got %v", err)
	}
	res, err := http.Post(h.http.URL+Path, "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed || h.hub.Subscribers() != 0 {
		t.Errorf("POST: %s", res.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestClientGoes notices that a client has closed its connection.
func TestClientGoes(t *testing.T) {
	h := newHouse(t, 1)
	for name, f := range formats {
		r := h.subscribe(t, f, "")
		if _, err := r.read(); err != nil {
			t.Fatal(err)
		}
		_ = r.body.Close()
		eventually(t, name+" is missed", func() bool { return h.hub.Subscribers() == 0 })
	}
	h.hub.mu.Lock()
	defer h.hub.mu.Unlock()
	if len(h.hub.classes) != 0 {
		t.Errorf("classes are left: %v", h.hub.classes)
	}
}

// rules let eve see what belongs to alice and to rolea.
const rules = `{"permissive": true,
	"view_frameworks": [{"principals": {"values": ["eve"]}, "users": {"values": ["alice"]}}, {"principals": {"values": ["eve"]}, "users": {"type": "NONE"}}],
	"view_tasks": [{"principals": {"values": ["eve"]}, "users": {"values": ["alice"]}}, {"principals": {"values": ["eve"]}, "users": {"type": "NONE"}}],
	"view_roles": [{"principals": {"values": ["eve"]}, "roles": {"values": ["rolea"]}}, {"principals": {"values": ["eve"]}, "roles": {"type": "NONE"}}],
	"get_quotas": [{"principals": {"values": ["eve"]}, "roles": {"values": ["rolea"]}}, {"principals": {"values": ["eve"]}, "roles": {"type": "NONE"}}],
	"get_maintenance_schedules": [{"principals": {"values": ["eve"]}, "machines": {"type": "NONE"}}]}`

func parse(t *testing.T, text string) *authz.ACLs {
	t.Helper()
	acls, err := authz.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return acls
}

// TestViewers looks for what eve may not see anywhere in the bytes of all streams.
func TestViewers(t *testing.T) {
	for name, f := range formats {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 7, func(o *Options) { o.ACLs = parse(t, rules) })
			for range 300 {
				h.step()
			}
			eve := h.subscribe(t, f, "", "Principal", "eve")
			all := h.subscribe(t, f, "", "Principal", "adam")
			wg := sync.WaitGroup{}
			wg.Go(func() {
				for range 1500 {
					h.step()
				}
				h.end()
			})
			all.until(t, "the end has come", func(delta) bool {
				return all.known["framework/end"] == "" && len(all.known) > 0 && has(all.known, "framework/end")
			})
			wg.Wait()
			if diff := cmp.Diff(h.truth(f.face), all.known); diff != "" {
				t.Errorf("adam (-truth +known):\n%s", diff)
			}
			want := h.seenByEve(f.face)
			for !cmp.Equal(want, eve.known) {
				b, err := eve.next()
				if err != nil {
					t.Fatal(err)
				}
				for _, secret := range []string{"roleb", "rolec", "roled", "bob", "hosta", "hostb", "hostc"} {
					if bytes.Contains(b, []byte(secret)) {
						t.Fatalf("eve sees %s in %s", secret, b)
					}
				}
				rest := eve.next
				eve.next = func() ([]byte, error) { return b, nil }
				if f.media == asSSE {
					eve.name, _, _ = strings.Cut(strings.TrimPrefix(string(b), `{"type":"`), `"`)
				}
				_, err = eve.read()
				if eve.next = rest; err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func has(k facts, key string) bool { _, ok := k[key]; return ok }

// seenByEve is what is left of the truth.
func (w *world) seenByEve(f face) facts {
	all := w.truth(f)
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range all {
		kind, id, _ := strings.Cut(key, "/")
		keep := true
		switch kind {
		case "task":
			t := w.tasks[id]
			keep = w.frameworks[t.FrameworkID].Info.GetUser() == "alice" && (t.User == "" || t.User == "alice")
		case "framework":
			keep = w.frameworks[id].Info.GetUser() == "alice"
		case "quota", "weight":
			keep = id == "rolea"
		case "machine":
			keep = false
		}
		if !keep {
			delete(all, key)
		}
	}
	return all
}

// TestPolicyChanges closes those who see something else from now on, and no others; and
// nobody resumes with what he saw before.
func TestPolicyChanges(t *testing.T) {
	h := newHouse(t, 1)
	for range 20 {
		h.step()
	}
	eve := h.subscribe(t, formats["own-json"], "", "Principal", "eve")
	adam := h.subscribe(t, formats["own-json"], "", "Principal", "adam")
	eve.first(t)
	adam.first(t)
	h.hub.SetPolicy(parse(t, rules))
	if err := end(eve); !errors.Is(err, io.EOF) {
		t.Errorf("eve's stream ended with %v", err)
	}
	h.step()
	adam.until(t, "adam has the event", func(delta) bool { return adam.token == token{leader, 21}.String() })

	again := h.subscribe(t, formats["own-json"], "?resume="+eve.token, "Principal", "eve")
	if s := again.first(t); s.GetResumed() || s.GetReason() != ErrPolicy.Error() {
		t.Errorf("%v", s)
	}
	if diff := cmp.Diff(h.seenByEve(ownFace), again.known); diff != "" {
		t.Errorf("-truth +known:\n%s", diff)
	}
	h.hub.SetPolicy(parse(t, rules)) // the same again
	for range 100 {
		h.step() // some of it is for eve
	}
	again.until(t, "the stream goes on", func(e delta) bool { return e.GetTaskUpdated() != nil })
}

// TestTLS subscribes over TLS, with HTTP/1.1 and with HTTP/2; one reads, one does not.
func TestTLS(t *testing.T) {
	h := newHouse(t, 1, func(o *Options) { o.sendBuffer = 4 << 10 })
	secure := httptest.NewUnstartedServer(h.http.Config.Handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			config := secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			config.NextProtos = []string{protocol}
			tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: protocol == "h2"}
			defer tr.CloseIdleConnections()
			ask := func() *http.Response {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, secure.URL+Path, http.NoBody)
				res, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				return res
			}
			res := ask()
			defer res.Body.Close()
			if want := map[string]int{"http/1.1": 1, "h2": 2}[protocol]; res.ProtoMajor != want {
				t.Errorf("%s, want HTTP/%d", res.Proto, want)
			}
			h.goesOn(t, newReader(formats["own-json"], res.Body))
		})
	}
	config := secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	config.ServerName = "example.com"
	raw := h.dialTo(t, secure.Listener.Addr().String())
	_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
	stuck := tls.Client(raw, config)
	_, _ = io.WriteString(stuck, "GET "+Path+"?snapshot=false HTTP/1.1\r\nHost: x\r\n\r\n")
	readHead(t, stuck)
	for range 10_000 {
		h.touch()
	}
	h.hub.Close(nil)
	h.hub.Wait() // does not wait for who does not read
}

// TestManyKinds gives every subscriber a kind of stream of its own: what is kept of encoded
// events does not grow with their number.
func TestManyKinds(t *testing.T) {
	h := newHouse(t, 1, func(o *Options) { o.cacheBytes = 1 << 20 })
	for range 3000 {
		h.step()
	}
	var all []*reader
	for i := range 40 {
		query := "?resume=" + leader + ":0&types=TASK_ADDED"
		for bit, name := range []string{"TASK_UPDATED", "AGENT_ADDED", "AGENT_REMOVED", "WEIGHTS_UPDATED", "QUOTAS_UPDATED", "AGENT_UPDATED"} {
			if i&(1<<bit) != 0 {
				query += "," + name
			}
		}
		all = append(all, h.subscribe(t, formats["own-json"], query))
	}
	h.mu.Lock()
	h.launchLocked()
	h.mu.Unlock()
	last := token{leader, h.serialNow()}.String()
	for _, r := range all {
		for e := (&clusterdv1.OperatorEvent{}); e.GetToken() != last; {
			if err := r.decode(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.hub.mu.Lock()
	defer h.hub.mu.Unlock()
	kept := 0
	for _, c := range h.hub.classes {
		c.mu.Lock()
		kept += c.bytes
		c.mu.Unlock()
	}
	// The share of each, and the block in use.
	if limit := 1<<20 + len(h.hub.classes)*blockEvents*700; kept > limit || len(h.hub.classes) != 41 {
		t.Errorf("%d kinds keep %d bytes, want up to %d", len(h.hub.classes), kept, limit)
	}
}
