package scheduler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"clusterd/api/client"
	"clusterd/api/client/internal/wiretest"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
	"clusterd/api/recordio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// master is a server that answers subscriptions by a script and remembers calls.
type master struct {
	*httptest.Server
	t *testing.T
	// subscribe answers the n-th subscription, counted from 0.
	subscribe func(n int, call *Call, w http.ResponseWriter, r *http.Request)
	// answer, if given, answers the other calls; it returns 202 otherwise.
	answer func(call *Call, w http.ResponseWriter)

	mu         sync.Mutex
	subscribed []*Call
	calls      []*Call
	headers    []http.Header
}

func newMaster(t *testing.T, subscribe func(n int, call *Call, w http.ResponseWriter, r *http.Request)) *master {
	m := &master{t: t, subscribe: subscribe}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *master) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != Path {
		m.t.Errorf("path %s", r.URL.Path)
	}
	call := &Call{}
	wiretest.Read(m.t, r, call)
	m.mu.Lock()
	m.headers = append(m.headers, r.Header.Clone())
	if call.GetType() == pb.Call_SUBSCRIBE {
		n := len(m.subscribed)
		m.subscribed = append(m.subscribed, call)
		m.mu.Unlock()
		if id := r.Header.Get(client.StreamIDHeader); id != "" {
			m.t.Errorf("SUBSCRIBE with stream id %s", id)
		}
		m.subscribe(n, call, w, r)
		return
	}
	m.calls = append(m.calls, call)
	m.mu.Unlock()
	if m.answer != nil {
		m.answer(call, w)
		return
	}
	if id := r.Header.Get(client.StreamIDHeader); id != "stream-0" {
		m.t.Errorf("%s with stream id %q", call.GetType(), id)
	}
	w.WriteHeader(http.StatusAccepted)
}

func (m *master) subscriptions() []*Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.subscribed)
}

// open begins the n-th stream with SUBSCRIBED and a HEARTBEAT.
func open(t *testing.T, n int, interval float64, w http.ResponseWriter, r *http.Request) *wiretest.Stream {
	w.Header().Set(client.StreamIDHeader, fmt.Sprintf("stream-%d", n))
	s := wiretest.Open(t, w, r)
	s.Send(&Event{Type: SUBSCRIBED.Enum(), Subscribed: &pb.Event_Subscribed{
		FrameworkId: &mesos.FrameworkID{Value: new("fw-1")}, HeartbeatIntervalSeconds: &interval,
	}})
	s.Send(&Event{Type: HEARTBEAT.Enum()})
	return s
}

func options(addresses ...string) Options {
	return Options{
		Masters:    addresses,
		Framework:  &mesos.FrameworkInfo{User: new("root"), Name: new("test"), Roles: []string{"a", "b"}},
		MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
	}
}

func newClient(t *testing.T, opts Options) *Client {
	t.Helper()
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdle)
	return c
}

// testContext ends before the test hangs.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestSubscribeAndCall(t *testing.T) {
	for name, format := range map[string]client.Format{"json": client.JSON, "protobuf": client.Protobuf} {
		t.Run(name, func(t *testing.T) {
			m := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) {
				s := open(t, n, 15, w, r)
				s.Send(&Event{Type: OFFERS.Enum(), Offers: &pb.Event_Offers{Offers: []*mesos.Offer{offer("o1"), offer("o2")}}})
				s.Wait()
			})
			opts := options(m.URL)
			opts.HTTP.Format = format
			opts.SuppressedRoles = []string{"b"}
			c := newClient(t, opts)
			ctx := testContext(t)
			if err := c.Decline(ctx, nil); !errors.Is(err, ErrNotSubscribed) {
				t.Errorf("call before the subscription: got %v", err)
			}
			var types []pb.Event_Type
			for event, err := range c.Subscribe(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				types = append(types, event.GetType())
				if event.GetType() == OFFERS {
					o := event.GetOffers().GetOffers()
					if err := c.Launch(ctx, o[0], &mesos.TaskInfo{Name: new("t"), TaskId: &mesos.TaskID{Value: new("t")}}); err != nil {
						t.Error(err)
					}
					if err := c.Decline(ctx, Refuse(1.5), o[1].GetId()); err != nil {
						t.Error(err)
					}
					break
				}
			}
			if diff := cmp.Diff([]pb.Event_Type{SUBSCRIBED, HEARTBEAT, OFFERS}, types); diff != "" {
				t.Errorf("events: -want +got:\n%s", diff)
			}
			if got := c.FrameworkID().GetValue(); got != "fw-1" {
				t.Errorf("framework id: got %q", got)
			}
			if err := c.Revive(ctx); !errors.Is(err, ErrNotSubscribed) {
				t.Errorf("call after the subscription: got %v", err)
			}
			wantSubscribe := &Call{Type: pb.Call_SUBSCRIBE.Enum(), Subscribe: &pb.Call_Subscribe{
				FrameworkInfo: opts.Framework, SuppressedRoles: []string{"b"},
			}}
			id := &mesos.FrameworkID{Value: new("fw-1")}
			wantCalls := []*Call{
				{FrameworkId: id, Type: pb.Call_ACCEPT.Enum(), Accept: &pb.Call_Accept{
					OfferIds: []*mesos.OfferID{{Value: new("o1")}},
					Operations: []*mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{
						TaskInfos: []*mesos.TaskInfo{{Name: new("t"), TaskId: &mesos.TaskID{Value: new("t")}, AgentId: &mesos.AgentID{Value: new("agent")}}},
					}}},
				}},
				{FrameworkId: id, Type: pb.Call_DECLINE.Enum(), Decline: &pb.Call_Decline{
					OfferIds: []*mesos.OfferID{{Value: new("o2")}}, Filters: &mesos.Filters{RefuseSeconds: new(1.5)},
				}},
			}
			// JSON sets the explicit defaults.
			if format == client.JSON {
				wantSubscribe.Subscribe.FrameworkInfo = proto.CloneOf(opts.Framework)
				wantSubscribe.Subscribe.FrameworkInfo.Checkpoint = new(false)
				wantSubscribe.Subscribe.FrameworkInfo.FailoverTimeout = new(0.0)
			}
			if diff := cmp.Diff([]*Call{wantSubscribe}, m.subscriptions(), protocmp.Transform()); diff != "" {
				t.Errorf("SUBSCRIBE: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(wantCalls, m.calls, protocmp.Transform()); diff != "" {
				t.Errorf("calls: -want +got:\n%s", diff)
			}
		})
	}
}

func offer(id string) *mesos.Offer {
	return &mesos.Offer{
		Id: &mesos.OfferID{Value: &id}, FrameworkId: &mesos.FrameworkID{Value: new("fw-1")},
		AgentId: &mesos.AgentID{Value: new("agent")}, Hostname: new("localhost"),
	}
}

// TestEveryCall checks that each convenience makes the call it is named after, complete.
func TestEveryCall(t *testing.T) {
	m := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, n, 15, w, r).Wait() })
	c := newClient(t, options(m.URL))
	ctx := testContext(t)
	task, agent, executor := &mesos.TaskID{Value: new("t")}, &mesos.AgentID{Value: new("s")}, &mesos.ExecutorID{Value: new("e")}
	operation := &mesos.OperationID{Value: new("op")}
	calls := []struct {
		want pb.Call_Type
		call func() error
	}{
		{pb.Call_ACCEPT, func() error { return c.Accept(ctx, nil, nil, nil) }},
		{pb.Call_DECLINE, func() error { return c.Decline(ctx, nil) }},
		{pb.Call_ACCEPT_INVERSE_OFFERS, func() error { return c.AcceptInverseOffers(ctx, nil, &mesos.OfferID{Value: new("i")}) }},
		{pb.Call_DECLINE_INVERSE_OFFERS, func() error { return c.DeclineInverseOffers(ctx, nil, &mesos.OfferID{Value: new("i")}) }},
		{pb.Call_REVIVE, func() error { return c.Revive(ctx, "a") }},
		{pb.Call_SUPPRESS, func() error { return c.Suppress(ctx) }},
		{pb.Call_KILL, func() error { return c.Kill(ctx, task, agent, nil) }},
		{pb.Call_SHUTDOWN, func() error { return c.Shutdown(ctx, executor, agent) }},
		{pb.Call_ACKNOWLEDGE, func() error {
			return c.Acknowledge(ctx, &mesos.TaskStatus{TaskId: task, AgentId: agent, Uuid: []byte("uuid")})
		}},
		{pb.Call_ACKNOWLEDGE_OPERATION_STATUS, func() error {
			return c.AcknowledgeOperation(ctx, &mesos.OperationStatus{OperationId: operation, AgentId: agent, Uuid: &mesos.UUID{Value: []byte("uuid")}})
		}},
		{pb.Call_RECONCILE, func() error { return c.Reconcile(ctx, &pb.Call_Reconcile_Task{TaskId: task}) }},
		{pb.Call_RECONCILE_OPERATIONS, func() error {
			return c.ReconcileOperations(ctx, &pb.Call_ReconcileOperations_Operation{OperationId: operation})
		}},
		{pb.Call_MESSAGE, func() error { return c.Message(ctx, agent, executor, []byte("x")) }},
		{pb.Call_REQUEST, func() error { return c.Request(ctx) }},
		{pb.Call_UPDATE_FRAMEWORK, func() error {
			return c.UpdateFramework(ctx, &mesos.FrameworkInfo{User: new("u"), Name: new("n")}, nil, nil)
		}},
		{pb.Call_TEARDOWN, func() error { return c.Teardown(ctx) }},
	}
	for event, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetType() != HEARTBEAT {
			continue
		}
		// Updates without a uuid are not acknowledged.
		if err := errors.Join(c.Acknowledge(ctx, &mesos.TaskStatus{TaskId: task}), c.AcknowledgeOperation(ctx, &mesos.OperationStatus{})); err != nil {
			t.Error(err)
		}
		for _, call := range calls {
			if err := call.call(); err != nil {
				t.Errorf("%s: %v", call.want, err)
			}
		}
		break
	}
	if len(m.calls) != len(calls) {
		t.Fatalf("got %d calls, want %d", len(m.calls), len(calls))
	}
	for i, call := range m.calls {
		name := strings.ToLower(call.GetType().String())
		fd := call.ProtoReflect().Descriptor().Fields().ByTextName(name)
		if call.GetType() != calls[i].want || call.GetFrameworkId().GetValue() != "fw-1" ||
			fd != nil && !call.ProtoReflect().Has(fd) || proto.CheckInitialized(call) != nil {
			t.Errorf("call %d: got %v, want a complete %s", i, call, calls[i].want)
		}
	}
}

func TestRedirectToLeader(t *testing.T) {
	leader := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, n, 15, w, r).Wait() })
	asked := 0
	follower := newMaster(t, func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) {
		asked++
		// Scheme-less, as Mesos does.
		w.Header().Set("Location", strings.TrimPrefix(leader.URL, "http:")+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	opts := options(strings.TrimPrefix(follower.URL, "http://"))
	opts.HTTP.Credential = &client.Credential{Principal: "me", Secret: "secret"}
	c := newClient(t, opts)
	ctx := testContext(t)
	for event, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetType() == HEARTBEAT {
			if err := c.Suppress(ctx, "a"); err != nil {
				t.Error(err)
			}
			break
		}
	}
	// The leader is remembered: the follower is not asked again.
	for _, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if asked != 1 || len(leader.subscriptions()) != 2 || len(leader.calls) != 1 {
		t.Errorf("follower asked %d times, leader %d, want 1 and 2", asked, len(leader.subscriptions()))
	}
	for _, h := range leader.headers {
		if user, password, ok := (&http.Request{Header: h}).BasicAuth(); !ok || user != "me" || password != "secret" {
			t.Errorf("got credentials %q, %q, %v", user, password, ok)
		}
	}
}

// TestComesBack breaks the stream in many ways; each time the client subscribes again with its
// id and with what it has suppressed.
func TestComesBack(t *testing.T) {
	breaks := map[string]func(s *wiretest.Stream){
		"closed":           func(*wiretest.Stream) {},
		"cut":              func(s *wiretest.Stream) { s.SendRaw("100\nabc") },
		"aborted":          func(*wiretest.Stream) { panic(http.ErrAbortHandler) },
		"malformed record": func(s *wiretest.Stream) { s.SendRaw("<html>\n"); s.Wait() },
		"malformed event":  func(s *wiretest.Stream) { s.SendRaw("3\n{]}"); s.Wait() },
		"too large":        func(s *wiretest.Stream) { s.SendRaw("100001\n"); s.Wait() },
		"silent":           func(s *wiretest.Stream) { s.Wait() },
		"silent in a record": func(s *wiretest.Stream) {
			s.SendRaw("10\nabc")
			s.Wait()
		},
	}
	reasons := map[string]error{
		"closed": io.EOF, "cut": io.ErrUnexpectedEOF, "aborted": io.ErrUnexpectedEOF, "malformed record": recordio.ErrMalformed,
		"too large": recordio.ErrTooLarge, "silent": client.ErrStalled, "silent in a record": client.ErrStalled,
	}
	for name, end := range breaks {
		t.Run(name, func(t *testing.T) {
			ready := make(chan struct{})
			m := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) {
				if n > 0 {
					open(t, n, 15, w, r).Wait()
					return
				}
				interval := 15.0
				if errors.Is(reasons[name], client.ErrStalled) {
					interval = 0.02 // five missed heartbeats are 100 ms
				}
				s := open(t, n, interval, w, r)
				<-ready
				end(s)
			})
			opts := options(m.URL)
			opts.HTTP.MaxRecord = 100_000
			var lost error
			opts.OnDisconnect = func(err error) { lost = err }
			c := newClient(t, opts)
			ctx := testContext(t)
			subscribed := 0
			for event, err := range c.Subscribe(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				if event.GetType() == SUBSCRIBED {
					if subscribed++; subscribed == 2 {
						break
					}
					if err := errors.Join(c.Suppress(ctx), c.Revive(ctx, "a")); err != nil {
						t.Error(err)
					}
					close(ready)
				}
			}
			want := reasons[name]
			if lost == nil || want != nil && !errors.Is(lost, want) {
				t.Errorf("reason: got %v, want %v", lost, want)
			}
			again := m.subscriptions()[1]
			if again.GetFrameworkId().GetValue() != "fw-1" || again.GetSubscribe().GetFrameworkInfo().GetId().GetValue() != "fw-1" {
				t.Errorf("framework id: got %v", again)
			}
			if diff := cmp.Diff([]string{"b"}, again.GetSubscribe().GetSuppressedRoles()); diff != "" {
				t.Errorf("suppressed roles: -want +got:\n%s", diff)
			}
		})
	}
}

// TestSlowBodyIsNoSilence lets the loop's body take longer than five heartbeats.
func TestSlowBodyIsNoSilence(t *testing.T) {
	t.Parallel() // it waits more than it works
	const heartbeat = 400 * time.Millisecond
	m := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) {
		s := open(t, n, heartbeat.Seconds(), w, r)
		for {
			select {
			case <-s.Done:
				return
			case <-time.After(5 * time.Millisecond):
				s.Send(&Event{Type: HEARTBEAT.Enum()})
			}
		}
	})
	opts := options(m.URL)
	opts.OnDisconnect = func(err error) { t.Errorf("disconnected: %v", err) }
	n := 0
	for event, err := range newClient(t, opts).Subscribe(testContext(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetType() == SUBSCRIBED {
			<-time.After(6 * heartbeat)
		}
		if n++; n == 10 {
			break
		}
	}
}

// TestUnansweredSubscribe leaves the request without any response.
func TestUnansweredSubscribe(t *testing.T) {
	t.Parallel() // it waits more than it works
	stalled := newMaster(t, func(_ int, _ *Call, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	good := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, n, 15, w, r).Wait() })
	opts := options(stalled.URL, good.URL)
	opts.HTTP.CallTimeout = 2 * time.Second // the good one answers in time
	for event, err := range newClient(t, opts).Subscribe(testContext(t)) {
		if err != nil || event.GetType() != SUBSCRIBED {
			t.Fatalf("got %v, %v", event, err)
		}
		break
	}
	if len(stalled.subscriptions()) != 1 {
		t.Errorf("stalled master was asked %d times", len(stalled.subscriptions()))
	}
}

func TestDeadAndRecoveringMasters(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	m := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) {
		if n < 3 {
			http.Error(w, "No leader elected", http.StatusServiceUnavailable)
			return
		}
		open(t, n, 15, w, r).Wait()
	})
	opts := options(dead, m.URL)
	failures := 0
	opts.OnDisconnect = func(error) { failures++ }
	for event, err := range newClient(t, opts).Subscribe(testContext(t)) {
		if err != nil || event.GetType() != SUBSCRIBED {
			t.Fatalf("got %v, %v", event, err)
		}
		break
	}
	if failures == 0 {
		t.Error("got no failure reported")
	}
}

func TestRedirectLoop(t *testing.T) {
	var a, b *master
	redirect := func(to **master) func(int, *Call, http.ResponseWriter, *http.Request) {
		return func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, (*to).URL+Path, http.StatusTemporaryRedirect)
		}
	}
	a, b = newMaster(t, redirect(&b)), newMaster(t, redirect(&a))
	ctx, cancel := context.WithCancelCause(testContext(t))
	opts := options(a.URL, b.URL)
	opts.OnDisconnect = func(err error) { cancel(err) }
	for _, err := range newClient(t, opts).Subscribe(ctx) {
		if !errors.Is(err, client.ErrRedirects) {
			t.Errorf("got %v, want %v", err, client.ErrRedirects)
		}
	}
}

func TestRedirectOutOfTLS(t *testing.T) {
	plain := newMaster(t, func(_ int, _ *Call, w http.ResponseWriter, _ *http.Request) {
		t.Error("the credentials went over plain HTTP")
		w.WriteHeader(http.StatusForbidden)
	})
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+Path, http.StatusTemporaryRedirect)
	}))
	defer secure.Close()
	ctx, cancel := context.WithCancelCause(testContext(t))
	opts := options(secure.URL)
	opts.HTTP.HTTPClient = secure.Client()
	opts.OnDisconnect = func(err error) { cancel(err) }
	for _, err := range newClient(t, opts).Subscribe(ctx) {
		if client.StatusCode(err) != http.StatusTemporaryRedirect || !strings.Contains(err.Error(), "without TLS") {
			t.Errorf("got %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, status := range []int{400, 401, 403, 406, 415} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			m := newMaster(t, func(_ int, _ *Call, w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "because")
			})
			n := 0
			for event, err := range newClient(t, options(m.URL)).Subscribe(testContext(t)) {
				n++
				refusal, ok := errors.AsType[*client.StatusError](err)
				if event != nil || !ok || refusal.Code != status || refusal.Body != "because" {
					t.Errorf("got %v, %v", event, err)
				}
			}
			if n != 1 || len(m.subscriptions()) != 1 {
				t.Errorf("got %d results after %d attempts", n, len(m.subscriptions()))
			}
		})
	}
}

func TestErrorEvent(t *testing.T) {
	m := newMaster(t, func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) {
		wiretest.Open(t, w, r).Send(&Event{Type: ERROR.Enum(), Error: &pb.Event_Error{Message: new("Framework failed over")}})
	})
	var types []pb.Event_Type
	err := newClient(t, options(m.URL)).Run(testContext(t), func(e *Event) error {
		types = append(types, e.GetType())
		return nil
	})
	refusal, ok := errors.AsType[*FrameworkError](err)
	if !ok || refusal.Message != "Framework failed over" || !slices.Equal(types, []pb.Event_Type{ERROR}) {
		t.Errorf("got %v after %v", err, types)
	}
	if len(m.subscriptions()) != 1 {
		t.Errorf("subscribed %d times", len(m.subscriptions()))
	}
}

func TestCallRefused(t *testing.T) {
	m := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, n, 15, w, r).Wait() })
	answers := []int{http.StatusBadRequest, http.StatusTemporaryRedirect}
	m.answer = func(_ *Call, w http.ResponseWriter) {
		w.WriteHeader(answers[len(m.calls)-1])
		_, _ = io.WriteString(w, "no")
	}
	opts := options(m.URL)
	lost := 0
	opts.OnDisconnect = func(error) { lost++ }
	c := newClient(t, opts)
	ctx := testContext(t)
	subscribed := 0
	for event, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetType() != SUBSCRIBED {
			continue
		}
		if subscribed++; subscribed == 2 {
			break
		}
		call := &Call{Type: pb.Call_TEARDOWN.Enum()}
		if err := c.Call(ctx, call); client.StatusCode(err) != 400 || !strings.Contains(err.Error(), "TEARDOWN: 400 Bad Request: no") {
			t.Errorf("got %v", err)
		}
		if call.FrameworkId != nil {
			t.Error("the caller's message was changed")
		}
		if lost != 0 {
			t.Error("a refused call ended the subscription")
		}
		// A master that does not lead any more: the subscription there is over.
		if err := c.Call(ctx, call); client.StatusCode(err) != 307 {
			t.Errorf("got %v", err)
		}
	}
	if lost != 1 {
		t.Errorf("got %d disconnections, want 1", lost)
	}
}

func TestEndings(t *testing.T) {
	m := newMaster(t, func(n int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, n, 15, w, r).Wait() })
	c := newClient(t, options(m.URL))
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(testContext(t))
	err := c.Run(ctx, func(e *Event) error {
		if e.GetType() == HEARTBEAT {
			for _, err := range c.Subscribe(ctx) {
				if !errors.Is(err, ErrSubscribed) {
					t.Errorf("second Subscribe: got %v", err)
				}
			}
			cancel(why)
		}
		return nil
	})
	if !errors.Is(err, why) {
		t.Errorf("cancelled: got %v", err)
	}
	if err := c.Run(testContext(t), func(*Event) error { return why }); !errors.Is(err, why) {
		t.Errorf("handler: got %v", err)
	}
}

func TestNew(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no masters":        func(o *Options) { o.Masters = nil },
		"bad address":       func(o *Options) { o.Masters = []string{"ftp://x"} },
		"credentials in it": func(o *Options) { o.Masters = []string{"http://a:b@x"} },
		"no framework":      func(o *Options) { o.Framework = nil },
		"incomplete":        func(o *Options) { o.Framework = &mesos.FrameworkInfo{Name: new("x")} },
	} {
		t.Run(name, func(t *testing.T) {
			opts := options("localhost:5050")
			change(&opts)
			if _, err := New(opts); err == nil {
				t.Error("got no error")
			}
		})
	}
}
