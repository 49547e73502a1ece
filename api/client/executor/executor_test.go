package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"clusterd/api/client"
	"clusterd/api/client/internal/wiretest"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/executor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent is a server that answers subscriptions by a script and remembers calls.
type agent struct {
	*httptest.Server
	t         *testing.T
	subscribe func(n int, call *Call, w http.ResponseWriter, r *http.Request)
	// answer returns the status for a call that is not SUBSCRIBE.
	answer func(call *Call) int

	mu         sync.Mutex
	subscribed []*Call
	calls      []*Call
	tokens     []string
}

func newAgent(t *testing.T, subscribe func(n int, call *Call, w http.ResponseWriter, r *http.Request)) *agent {
	a := &agent{t: t, subscribe: subscribe}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/slave(1)/api/v1/executor" {
		a.t.Errorf("path %s", r.URL.Path)
	}
	call := &Call{}
	wiretest.Read(a.t, r, call)
	if call.GetFrameworkId().GetValue() != "fw" || call.GetExecutorId().GetValue() != "ex" {
		a.t.Errorf("got a call of %s, %s", call.GetFrameworkId(), call.GetExecutorId())
	}
	a.mu.Lock()
	a.tokens = append(a.tokens, r.Header.Get("Authorization"))
	if call.GetType() == pb.Call_SUBSCRIBE {
		n := len(a.subscribed)
		a.subscribed = append(a.subscribed, call)
		a.mu.Unlock()
		a.subscribe(n, call, w, r)
		return
	}
	a.calls = append(a.calls, call)
	a.mu.Unlock()
	status := http.StatusAccepted
	if a.answer != nil {
		status = a.answer(call)
	}
	w.WriteHeader(status)
}

func (a *agent) all() (subscribed, calls []*Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.subscribed), slices.Clone(a.calls)
}

func (a *agent) config() Config {
	return Config{
		URL: mustURL(a.t, a.URL+"/slave(1)"+Path), FrameworkID: "fw", ExecutorID: "ex", AgentID: "ag",
		Checkpoint: true, RecoveryTimeout: 15 * time.Second, SubscriptionBackoffMax: 4 * time.Millisecond,
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func open(t *testing.T, w http.ResponseWriter, r *http.Request) *wiretest.Stream {
	s := wiretest.Open(t, w, r)
	s.Send(&Event{Type: SUBSCRIBED.Enum(), Subscribed: &pb.Event_Subscribed{
		ExecutorInfo:  &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: new("ex")}},
		FrameworkInfo: &mesos.FrameworkInfo{User: new("u"), Name: new("n")},
		AgentInfo:     &mesos.AgentInfo{Hostname: new("h")},
	}})
	return s
}

func launch(id string) *Event {
	return &Event{Type: LAUNCH.Enum(), Launch: &pb.Event_Launch{Task: task(id)}}
}

func task(id string) *mesos.TaskInfo {
	return &mesos.TaskInfo{Name: &id, TaskId: &mesos.TaskID{Value: &id}, AgentId: &mesos.AgentID{Value: new("ag")}}
}

func acknowledged(u *pb.Call_Update) *Event {
	return &Event{Type: ACKNOWLEDGED.Enum(), Acknowledged: &pb.Event_Acknowledged{
		TaskId: u.GetStatus().GetTaskId(), Uuid: u.GetStatus().GetUuid(),
	}}
}

func status(id string, state mesos.TaskState) *mesos.TaskStatus {
	return &mesos.TaskStatus{TaskId: &mesos.TaskID{Value: &id}, State: &state}
}

func newClient(t *testing.T, config Config, opts Options) *Client {
	t.Helper()
	c, err := New(config, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdle)
	return c
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// states describes updates as "task STATE".
func states(updates []*pb.Call_Update) []string {
	var s []string
	for _, u := range updates {
		s = append(s, u.GetStatus().GetTaskId().GetValue()+" "+u.GetStatus().GetState().String())
	}
	return s
}

func names(tasks []*mesos.TaskInfo) []string {
	var s []string
	for _, t := range tasks {
		s = append(s, t.GetName())
	}
	return s
}

// TestUnacknowledgedComesBack is a whole life: tasks are launched, updates made, some
// acknowledged, the agent dies, updates are made meanwhile, and the next
// subscription carries all that is open, in order.
func TestUnacknowledgedComesBack(t *testing.T) {
	for name, format := range map[string]client.Format{"json": client.JSON, "protobuf": client.Protobuf} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, nil)
			cut := make(chan struct{})
			a.subscribe = func(n int, call *Call, w http.ResponseWriter, r *http.Request) {
				switch n {
				case 0:
					s := open(t, w, r)
					s.Send(launch("t1"))
					s.Send(&Event{Type: LAUNCH_GROUP.Enum(), LaunchGroup: &pb.Event_LaunchGroup{
						TaskGroup: &mesos.TaskGroupInfo{Tasks: []*mesos.TaskInfo{task("t2"), task("t3")}},
					}})
					wiretest.Eventually(t, "three updates", func() bool { _, calls := a.all(); return len(calls) == 3 })
					_, calls := a.all()
					s.Send(acknowledged(calls[0].GetUpdate())) // t1 is known now, t1's second update is open
					s.Send(&Event{Type: MESSAGE.Enum(), Message: &pb.Event_Message{Data: []byte("die")}})
					<-cut
				case 1:
					w.WriteHeader(http.StatusServiceUnavailable) // recovering
				default:
					s := open(t, w, r)
					for _, u := range call.GetSubscribe().GetUnacknowledgedUpdates() {
						s.Send(acknowledged(u))
					}
					s.Send(&Event{Type: SHUTDOWN.Enum()})
				}
			}
			config := a.config()
			config.Token = "token"
			var disconnected []error
			c := newClient(t, config, Options{
				HTTP:         client.Options{Format: format},
				OnDisconnect: func(err error) { disconnected = append(disconnected, err) },
			})
			ctx := testContext(t)
			if err := c.Message(ctx, nil); !errors.Is(err, ErrNotSubscribed) {
				t.Errorf("call before the subscription: got %v", err)
			}
			for event, err := range c.Subscribe(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				switch event.GetType() {
				case LAUNCH_GROUP:
					for _, s := range []*mesos.TaskStatus{
						status("t1", mesos.TaskState_TASK_STARTING),
						status("t1", mesos.TaskState_TASK_RUNNING),
						status("t2", mesos.TaskState_TASK_FAILED),
					} {
						if err := c.Update(ctx, s); err != nil {
							t.Error(err)
						}
					}
				case MESSAGE:
					close(cut)
				default:
				}
			}
			if c.Unacknowledged() != 0 {
				t.Errorf("got %d updates open at the end", c.Unacknowledged())
			}
			subscribed, calls := a.all()
			again := subscribed[2].GetSubscribe()
			if diff := cmp.Diff([]string{"t1 TASK_RUNNING", "t2 TASK_FAILED"}, states(again.GetUnacknowledgedUpdates())); diff != "" {
				t.Errorf("updates: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff([]string{"t2", "t3"}, names(again.GetUnacknowledgedTasks())); diff != "" {
				t.Errorf("tasks: -want +got:\n%s", diff)
			}
			u := calls[0].GetUpdate().GetStatus()
			if len(u.GetUuid()) != 16 || u.GetSource() != mesos.TaskStatus_SOURCE_EXECUTOR || u.GetExecutorId().GetValue() != "ex" ||
				u.GetAgentId().GetValue() != "ag" || u.GetTimestamp() < 1e9 {
				t.Errorf("update is not complete: %v", u)
			}
			if len(disconnected) != 2 || client.StatusCode(disconnected[1]) != 503 {
				t.Errorf("got disconnections %v", disconnected)
			}
			for _, token := range a.tokens {
				if token != "Bearer token" {
					t.Errorf("got Authorization %q", token)
				}
			}
		})
	}
}

// TestUpdateMeanwhile makes updates before the first subscription and between SUBSCRIBE
// and SUBSCRIBED: the first goes with SUBSCRIBE, the second right after SUBSCRIBED.
func TestUpdateMeanwhile(t *testing.T) {
	a := newAgent(t, nil)
	asked, answer := make(chan struct{}), make(chan struct{})
	a.subscribe = func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-answer
		open(t, w, r).Wait()
	}
	c := newClient(t, a.config(), Options{})
	ctx := testContext(t)
	update := func(id string) {
		if err := c.Update(ctx, status(id, mesos.TaskState_TASK_RUNNING)); err != nil {
			t.Error(err)
		}
	}
	update("before")
	go func() {
		<-asked
		update("between-1")
		update("between-2")
		close(answer)
	}()
	for _, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		update("after")
		break
	}
	subscribed, calls := a.all()
	if diff := cmp.Diff([]string{"before TASK_RUNNING"}, states(subscribed[0].GetSubscribe().GetUnacknowledgedUpdates())); diff != "" {
		t.Errorf("with SUBSCRIBE: -want +got:\n%s", diff)
	}
	var posted []*pb.Call_Update
	for _, call := range calls {
		posted = append(posted, call.GetUpdate())
	}
	if diff := cmp.Diff([]string{"between-1 TASK_RUNNING", "between-2 TASK_RUNNING", "after TASK_RUNNING"}, states(posted)); diff != "" {
		t.Errorf("after SUBSCRIBED: -want +got:\n%s", diff)
	}
}

// TestUpdateFails lets the agent fail to take one update: the client subscribes again with it
// and with the one that came after, which must not overtake it.
func TestUpdateFails(t *testing.T) {
	a := newAgent(t, func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, w, r).Wait() })
	a.answer = func(*Call) int { return http.StatusServiceUnavailable }
	c := newClient(t, a.config(), Options{})
	ctx := testContext(t)
	subscriptions := 0
	for event, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetType() != SUBSCRIBED {
			continue
		}
		if subscriptions++; subscriptions == 2 {
			break
		}
		for _, state := range []mesos.TaskState{mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FINISHED} {
			if err := c.Update(ctx, status("t", state)); err != nil {
				t.Error(err)
			}
		}
	}
	subscribed, calls := a.all()
	if len(calls) != 1 {
		t.Errorf("got %d calls, want 1", len(calls))
	}
	if diff := cmp.Diff([]string{"t TASK_RUNNING", "t TASK_FINISHED"}, states(subscribed[1].GetSubscribe().GetUnacknowledgedUpdates())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestUpdateRefused(t *testing.T) {
	a := newAgent(t, func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, w, r).Wait() })
	a.answer = func(*Call) int { return http.StatusBadRequest }
	c := newClient(t, a.config(), Options{})
	ctx := testContext(t)
	for _, err := range c.Subscribe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Update(ctx, status("t", mesos.TaskState_TASK_RUNNING)); client.StatusCode(err) != 400 {
			t.Errorf("got %v", err)
		}
		if err := c.Update(ctx, status("t", mesos.TaskState_TASK_STAGING)); err == nil {
			t.Error("TASK_STAGING: got no error")
		}
		if err := c.Update(ctx, &mesos.TaskStatus{}); err == nil {
			t.Error("incomplete: got no error")
		}
		break
	}
	if c.Unacknowledged() != 0 {
		t.Errorf("got %d updates kept", c.Unacknowledged())
	}
}

// TestAgentLost covers the ways in which there is no agent any more: each is a SHUTDOWN
// event and then ErrAgentLost.
func TestAgentLost(t *testing.T) {
	serveOnce := func(n int, _ *Call, w http.ResponseWriter, r *http.Request) {
		if n == 0 {
			open(t, w, r)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	tests := map[string]struct {
		subscribe func(n int, call *Call, w http.ResponseWriter, r *http.Request)
		change    func(*Config, *Options)
		want      []pb.Event_Type
		attempts  func(int) bool
	}{
		"no checkpoint": {
			serveOnce, func(c *Config, _ *Options) { c.Checkpoint = false },
			[]pb.Event_Type{SUBSCRIBED, SHUTDOWN},
			func(n int) bool { return n == 1 },
		},
		"recovery timeout": {
			serveOnce, func(c *Config, _ *Options) { c.RecoveryTimeout = time.Second },
			[]pb.Event_Type{SUBSCRIBED, SHUTDOWN},
			func(n int) bool { return n > 3 },
		},
		"never there": {
			func(_ int, _ *Call, w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
			},
			func(_ *Config, o *Options) { o.FirstTimeout = time.Second },
			[]pb.Event_Type{SHUTDOWN},
			func(n int) bool { return n > 1 },
		},
		"refused": {
			func(_ int, _ *Call, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
			func(*Config, *Options) {},
			[]pb.Event_Type{SHUTDOWN},
			func(n int) bool { return n == 1 },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			a := newAgent(t, tt.subscribe)
			config, opts := a.config(), Options{}
			tt.change(&config, &opts)
			var got []pb.Event_Type
			var last error
			for event, err := range newClient(t, config, opts).Subscribe(testContext(t)) {
				if err != nil {
					last = err
					continue
				}
				got = append(got, event.GetType())
			}
			if !errors.Is(last, ErrAgentLost) || !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v, want %v", got, last, tt.want)
			}
			if subscribed, _ := a.all(); !tt.attempts(len(subscribed)) {
				t.Errorf("got %d attempts", len(subscribed))
			}
		})
	}
}

func TestHeartbeats(t *testing.T) {
	a := newAgent(t, nil)
	a.subscribe = func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) {
		s := open(t, w, r)
		wiretest.Eventually(t, "three heartbeats", func() bool { _, calls := a.all(); return len(calls) >= 3 })
		s.Send(&Event{Type: SHUTDOWN.Enum()})
	}
	c := newClient(t, a.config(), Options{HeartbeatInterval: 2 * time.Millisecond})
	for _, err := range c.Subscribe(testContext(t)) {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, calls := a.all()
	for _, call := range calls {
		if call.GetType() != pb.Call_HEARTBEAT {
			t.Errorf("got %v", call)
		}
	}
}

func TestCancelled(t *testing.T) {
	a := newAgent(t, func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, w, r).Wait() })
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer cancel(nil)
	var last error
	c := newClient(t, a.config(), Options{})
	for _, err := range c.Subscribe(ctx) {
		for _, err := range c.Subscribe(ctx) {
			if !errors.Is(err, ErrSubscribed) {
				t.Errorf("second Subscribe: got %v", err)
			}
		}
		cancel(why)
		last = err
	}
	if !errors.Is(last, why) {
		t.Errorf("got %v", last)
	}
}

// TestDomainSocket reaches the agent over a socket whose path is too long for an address.
func TestDomainSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	l, err := net.Listen("unix", "agent.sock")
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, subscribe: func(_ int, _ *Call, w http.ResponseWriter, r *http.Request) { open(t, w, r).Wait() }}
	server := &http.Server{Handler: a}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	defer func() { server.Close(); <-done }()
	env := map[string]string{
		"MESOS_FRAMEWORK_ID": "fw", "MESOS_EXECUTOR_ID": "ex", "MESOS_SLAVE_PID": "slave(1)@10.255.255.1:5051",
		"MESOS_DOMAIN_SOCKET": filepath.Join(dir, "agent.sock"),
		// For others than this agent: on its socket there is no TLS.
		"LIBPROCESS_SSL_ENABLED": "true",
	}
	config, err := ParseEnvironment(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, config, Options{})
	for event, err := range c.Subscribe(testContext(t)) {
		if err != nil || event.GetType() != SUBSCRIBED {
			t.Fatalf("got %v, %v", event, err)
		}
		if err := c.Update(t.Context(), status("t", mesos.TaskState_TASK_RUNNING)); err != nil {
			t.Error(err)
		}
		break
	}
	if _, calls := a.all(); len(calls) != 1 {
		t.Errorf("got %d calls", len(calls))
	}
}

func TestParseEnvironment(t *testing.T) {
	env := map[string]string{
		"MESOS_FRAMEWORK_ID": "fw", "MESOS_EXECUTOR_ID": "ex", "MESOS_SLAVE_ID": "ag", "MESOS_DIRECTORY": "/d", "MESOS_SANDBOX": "/s",
		"MESOS_SLAVE_PID": "slave(1)@10.0.0.1:5051", "MESOS_AGENT_ENDPOINT": "10.0.0.2:5051", "MESOS_CHECKPOINT": "1",
		"MESOS_RECOVERY_TIMEOUT": "15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2.5secs",
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs", "MESOS_EXECUTOR_AUTHENTICATION_TOKEN": "jwt", "LIBPROCESS_SSL_ENABLED": "true",
	}
	getenv := func(name string) string { return env[name] }
	got, err := ParseEnvironment(getenv)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		URL: mustURL(t, "https://10.0.0.2:5051/slave(1)/api/v1/executor"), FrameworkID: "fw", ExecutorID: "ex", AgentID: "ag",
		Directory: "/d", Sandbox: "/s", Checkpoint: true, RecoveryTimeout: 15 * time.Minute,
		SubscriptionBackoffMax: 2500 * time.Millisecond, ShutdownGracePeriod: 5 * time.Second, Token: "jwt",
	}
	if fmt.Sprint(got.URL) != fmt.Sprint(want.URL) {
		t.Errorf("URL: got %s, want %s", got.URL, want.URL)
	}
	got.URL, want.URL = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for name, value := range map[string]string{
		"MESOS_FRAMEWORK_ID": "", "MESOS_EXECUTOR_ID": "", "MESOS_RECOVERY_TIMEOUT": "soon", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2",
	} {
		old := env[name]
		env[name] = value
		if _, err := ParseEnvironment(getenv); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%q: got %v", name, value, err)
		}
		env[name] = old
	}
	env["MESOS_SLAVE_PID"], env["MESOS_AGENT_ENDPOINT"] = "", ""
	if _, err := ParseEnvironment(getenv); err == nil {
		t.Error("no address: got no error")
	}
}

// TestTokenLeavesTheEnvironment checks that children do not see the token.
func TestTokenLeavesTheEnvironment(t *testing.T) {
	t.Setenv("MESOS_FRAMEWORK_ID", "fw")
	t.Setenv("MESOS_EXECUTOR_ID", "ex")
	t.Setenv("MESOS_AGENT_ENDPOINT", "10.0.0.2:5051")
	t.Setenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "jwt")
	config, err := FromEnvironment()
	if err != nil || config.Token != "jwt" {
		t.Errorf("got %v, %v", config, err)
	}
	if token, ok := os.LookupEnv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"); ok {
		t.Errorf("still in the environment: %q", token)
	}
}
