package operator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/testing/protocmp"

	"clusterd/api/client"
	"clusterd/api/client/internal/wiretest"
	mesos "clusterd/api/mesos/v1"
	agentpb "clusterd/api/mesos/v1/agent"
	masterpb "clusterd/api/mesos/v1/master"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// serve starts a server of the operator API.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != Path {
			t.Errorf("path %s", r.URL.Path)
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func newMaster(t *testing.T, opts Options, addresses ...string) *Master {
	t.Helper()
	opts.HTTPClient = client.NewHTTPClient(nil)
	t.Cleanup(opts.HTTPClient.CloseIdleConnections)
	opts.MinBackoff, opts.MaxBackoff = time.Millisecond, 5*time.Millisecond
	m, err := NewMaster(addresses, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newAgent(t *testing.T, opts Options, address string) *Agent {
	t.Helper()
	opts.HTTPClient = client.NewHTTPClient(nil)
	t.Cleanup(opts.HTTPClient.CloseIdleConnections)
	a, err := NewAgent(address, opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestMasterCall(t *testing.T) {
	for name, format := range map[string]client.Format{"json": client.JSON, "protobuf": client.Protobuf} {
		t.Run(name, func(t *testing.T) {
			want := &masterpb.Response{
				Type:      masterpb.Response_GET_HEALTH.Enum(),
				GetHealth: &masterpb.Response_GetHealth{Healthy: new(true)},
			}
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				call := &masterpb.Call{}
				wiretest.Read(t, r, call)
				switch call.GetType() {
				case masterpb.Call_GET_HEALTH:
					wiretest.Write(t, w, r, want)
				case masterpb.Call_TEARDOWN:
					w.WriteHeader(http.StatusOK)
				default:
					http.Error(w, "Framework cannot be found", http.StatusBadRequest)
				}
			})
			m := newMaster(t, Options{Options: client.Options{Format: format}}, s.URL)
			ctx := testContext(t)
			got, err := m.Get(ctx, masterpb.Call_GET_HEALTH)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got, err := m.Get(ctx, masterpb.Call_TEARDOWN); got != nil || err != nil {
				t.Errorf("empty answer: got %v, %v", got, err)
			}
			_, err = m.Get(ctx, masterpb.Call_REMOVE_QUOTA)
			if client.StatusCode(err) != 400 || err.Error() != "REMOVE_QUOTA: 400 Bad Request: Framework cannot be found" {
				t.Errorf("refusal: got %v", err)
			}
		})
	}
}

// TestCallFindsLeader goes past a dead master, one that has no leader and one that
// redirects.
func TestCallFindsLeader(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	var asked atomic.Int32
	electing := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	leader := serve(t, func(w http.ResponseWriter, r *http.Request) {
		wiretest.Write(t, w, r, &masterpb.Response{Type: masterpb.Response_GET_VERSION.Enum()})
	})
	follower := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, strings.TrimPrefix(leader.URL, "http:")+r.URL.Path, http.StatusTemporaryRedirect)
	})
	m := newMaster(t, Options{}, dead.URL, electing.URL, follower.URL)
	for range 3 {
		if _, err := m.Get(testContext(t), masterpb.Call_GET_VERSION); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("got %d requests past the leader, want 2", asked.Load())
	}
	leader.Close()
	if _, err := m.Get(testContext(t), masterpb.Call_GET_VERSION); err == nil {
		t.Error("all gone: got no error")
	}
}

// TestCallIsNotRepeated cuts the answer off: the call may have been carried out.
func TestCallIsNotRepeated(t *testing.T) {
	var n atomic.Int32
	cut := func(http.ResponseWriter, *http.Request) {
		n.Add(1)
		panic(http.ErrAbortHandler)
	}
	m := newMaster(t, Options{}, serve(t, cut).URL, serve(t, cut).URL)
	if _, err := m.Get(testContext(t), masterpb.Call_TEARDOWN); err == nil {
		t.Error("got no error")
	}
	if n.Load() != 1 {
		t.Errorf("sent %d times", n.Load())
	}
}

func TestCallTimeout(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	m := newMaster(t, Options{Options: client.Options{CallTimeout: 20 * time.Millisecond}}, s.URL)
	if _, err := m.Get(testContext(t), masterpb.Call_GET_STATE); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestMasterSubscribe(t *testing.T) {
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		call := &masterpb.Call{}
		wiretest.Read(t, r, call)
		if call.GetType() != masterpb.Call_SUBSCRIBE {
			t.Errorf("got %v", call)
		}
		interval := 15.0
		if n.Add(1) == 2 {
			interval = 0.2 // and then silence: five missed heartbeats are a second
		}
		stream := wiretest.Open(t, w, r)
		stream.Send(&masterpb.Event{Type: masterpb.Event_SUBSCRIBED.Enum(), Subscribed: &masterpb.Event_Subscribed{
			HeartbeatIntervalSeconds: &interval,
		}})
		stream.Send(&masterpb.Event{Type: masterpb.Event_AGENT_REMOVED.Enum(), AgentRemoved: &masterpb.Event_AgentRemoved{
			AgentId: &mesos.AgentID{Value: new("a")},
		}})
		if n.Load() > 1 {
			stream.Wait()
		}
	})
	var reasons []error
	m := newMaster(t, Options{OnDisconnect: func(err error) { reasons = append(reasons, err) }}, s.URL)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer cancel(nil)
	var got []masterpb.Event_Type
	for event, err := range m.Subscribe(ctx) {
		if err != nil {
			if !errors.Is(err, why) {
				t.Errorf("got %v", err)
			}
			break
		}
		if got = append(got, event.GetType()); len(got) == 6 {
			cancel(why)
		}
	}
	one := []masterpb.Event_Type{masterpb.Event_SUBSCRIBED, masterpb.Event_AGENT_REMOVED}
	if want := slices.Concat(one, one, one); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(reasons) != 2 || !errors.Is(reasons[0], io.EOF) || !errors.Is(reasons[1], client.ErrStalled) {
		t.Errorf("reasons: got %v", reasons)
	}
}

func TestMasterSubscribeRefused(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	for event, err := range newMaster(t, Options{}, s.URL).Subscribe(testContext(t)) {
		if event != nil || client.StatusCode(err) != 403 {
			t.Errorf("got %v, %v", event, err)
		}
	}
}

func TestAgentStream(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		call := &agentpb.Call{}
		wiretest.Read(t, r, call)
		stream := wiretest.Open(t, w, r)
		for _, data := range []string{"hello ", "world"} {
			stream.Send(&agentpb.ProcessIO{Type: agentpb.ProcessIO_DATA.Enum(), Data: &agentpb.ProcessIO_Data{
				Type: agentpb.ProcessIO_Data_STDOUT.Enum(), Data: []byte(data),
			}})
		}
		if call.GetType() == agentpb.Call_LAUNCH_NESTED_CONTAINER_SESSION {
			stream.SendRaw("5\nab")
		}
	})
	a := newAgent(t, Options{}, s.URL)
	var out bytes.Buffer
	for record, err := range a.Stream(testContext(t), &agentpb.Call{Type: agentpb.Call_ATTACH_CONTAINER_OUTPUT.Enum()}) {
		if err != nil {
			t.Fatal(err)
		}
		out.Write(record.GetData().GetData())
	}
	if out.String() != "hello world" {
		t.Errorf("got %q", out.String())
	}
	var last error
	for _, err := range a.Stream(testContext(t), &agentpb.Call{Type: agentpb.Call_LAUNCH_NESTED_CONTAINER_SESSION.Enum()}) {
		last = err
	}
	if !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Errorf("cut: got %v", last)
	}
}

// sandbox is an agent with one file that changes.
type sandbox struct {
	t *testing.T

	mu    sync.Mutex
	file  []byte
	there bool
}

func (s *sandbox) set(content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.there = []byte(content), true
}

func (s *sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := &agentpb.Call{}
	wiretest.Read(s.t, r, call)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.there || call.GetReadFile().GetPath() != "/sandbox/stdout" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	f := call.GetReadFile()
	from := min(f.GetOffset(), uint64(len(s.file)))
	to := min(from+min(f.GetLength(), 7), uint64(len(s.file))) // short reads
	wiretest.Write(s.t, w, r, &agentpb.Response{Type: agentpb.Response_READ_FILE.Enum(), ReadFile: &agentpb.Response_ReadFile{
		Data: s.file[from:to], Size: new(uint64(len(s.file))),
	}})
}

func TestCopyFile(t *testing.T) {
	box := &sandbox{t: t}
	a := newAgent(t, Options{}, serve(t, box.ServeHTTP).URL)
	ctx := testContext(t)
	if _, err := CopyFile(ctx, a, io.Discard, "/sandbox/stdout", 0); client.StatusCode(err) != 404 {
		t.Errorf("missing: got %v", err)
	}
	box.set("The quick brown fox jumps over the lazy dog")
	var out bytes.Buffer
	if end, err := CopyFile(ctx, a, &out, "/sandbox/stdout", 4); err != nil || end != 43 || out.String() != "quick brown fox jumps over the lazy dog" {
		t.Errorf("got %d, %v, %q", end, err, out.String())
	}
	if end, err := CopyFile(ctx, a, &out, "/sandbox/stdout", 100); err != nil || end != 100 {
		t.Errorf("past the end: got %d, %v", end, err)
	}
}

func TestFollow(t *testing.T) {
	box := &sandbox{t: t}
	a := newAgent(t, Options{}, serve(t, box.ServeHTTP).URL)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	steps := []struct{ content, read string }{
		{"hello", "hello"},
		{"hello world, and all", "hello world, and all"},
		{"new", "hello world, and allnew"}, // truncated and written anew
	}
	var got string
	step := 0
	go func() { box.set(steps[0].content) }() // comes into being while it is waited for
	for data, err := range Follow(ctx, a, "/sandbox/stdout", 0, time.Millisecond) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			break
		}
		got += string(data)
		if got != steps[step].read {
			continue
		}
		if step++; step == len(steps) {
			cancel()
			continue
		}
		box.set(steps[step].content)
	}
	if got != steps[2].read {
		t.Errorf("got %q", got)
	}
}

func TestAddresses(t *testing.T) {
	if _, err := NewMaster(nil, Options{}); err == nil {
		t.Error("no master: got no error")
	}
	for _, address := range []string{"", "://", "ftp://x", "http://", "http://a/?q=1", "http://u:p@a", "a b"} {
		if _, err := NewAgent(address, Options{}); err == nil {
			t.Errorf("%q: got no error", address)
		}
	}
	for _, address := range []string{"localhost:5051", "https://a", "[::1]:5051", "http://a:1/prefix"} {
		if _, err := NewAgent(address, Options{}); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}
