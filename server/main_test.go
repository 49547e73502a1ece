package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/api/recordio"
	"clusterd/internal/flags"
	"clusterd/internal/link"
)

func TestMain(m *testing.M) {
	// A probe of gossip outlives its end by a moment, see registry/gossip.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// startMaster runs a real master on a free port until the test ends.
func startMaster(t testing.TB, change ...func(*Options)) *Server {
	t.Helper()
	opts := DefaultOptions()
	opts.IP, opts.Port, opts.Hostname, opts.InMemory = "127.0.0.1", 0, "localhost", true
	opts.Flags = []flags.Pair{{Name: "ip", Value: "127.0.0.1"}, {Name: "quiet", Value: "false"}}
	opts.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	for _, f := range change {
		f(&opts)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopMaster(t, s) })
	eventually(t, "the master leads", func() bool { return s.term.Load() != nil })
	return s
}

func stopMaster(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func endpoint(s *Server, path string) string { return "http://" + s.Addr().String() + path }

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request and reads the answer; redirects are not followed.
func do(t testing.TB, method, target string, header http.Header, body []byte) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	// The transport would add this and unpack the answer.
	if req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(b)}
}

func get(t testing.TB, s *Server, path string) reply {
	t.Helper()
	return do(t, http.MethodGet, endpoint(s, path), nil, nil)
}

// getJSON decodes an answer of 200.
func getJSON(t testing.TB, s *Server, path string) map[string]any {
	t.Helper()
	r := get(t, s, path)
	if r.status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, r.status, r.body)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, r.body)
	}
	return v
}

// framework is a scheduler that speaks raw HTTP.
type framework struct {
	t        testing.TB
	s        *Server
	id       *mesos.FrameworkID
	streamID string
	header   http.Header // of the answer to SUBSCRIBE
	body     io.ReadCloser
	records  *recordio.Reader
	events   chan *scheduler.Event // closed when the stream ends
	done     chan struct{}
}

func goldenInfo() *mesos.FrameworkInfo {
	info := &mesos.FrameworkInfo{
		User: new("root"), Name: new("golden"), Roles: []string{"golden"},
		FailoverTimeout: proto.Float64(60), Checkpoint: new(true),
		Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: new("k"), Value: new("v")}}},
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT, mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
	} {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	return info
}

// subscribeRaw opens a stream and leaves reading it to the caller.
func subscribeRaw(t testing.TB, s *Server, info *mesos.FrameworkInfo) *framework {
	t.Helper()
	call := &scheduler.Call{
		Type: scheduler.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id,
		Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: info},
	}
	body, err := mesosjson.Marshal(call)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint(s, "/api/v1/scheduler"), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("SUBSCRIBE: %d %s", resp.StatusCode, b)
	}
	f := &framework{
		t: t, s: s, id: info.Id, streamID: resp.Header.Get(streamIDHeader), header: resp.Header, body: resp.Body,
		records: recordio.NewReader(resp.Body, 64<<20), events: make(chan *scheduler.Event, 1000), done: make(chan struct{}),
	}
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { cancel(); resp.Body.Close() }) })
	return f
}

// subscribe opens a stream and reads it; it returns after SUBSCRIBED.
func subscribe(t testing.TB, s *Server, info *mesos.FrameworkInfo) *framework {
	t.Helper()
	f := subscribeRaw(t, s, info)
	quit := make(chan struct{})
	go func() {
		defer close(f.done)
		defer close(f.events)
		for {
			record, err := f.records.Next()
			if err != nil {
				return
			}
			ev := new(scheduler.Event)
			if err := mesosjson.Unmarshal(record, ev); err != nil {
				t.Errorf("event %s: %v", record, err)
				return
			}
			select {
			case f.events <- ev:
			case <-quit:
				return
			}
		}
	}()
	t.Cleanup(func() { close(quit); f.body.Close(); <-f.done })
	f.id = f.next(scheduler.Event_SUBSCRIBED).GetSubscribed().GetFrameworkId()
	return f
}

// next returns the next event of a type; others are passed over.
func (f *framework) next(want scheduler.Event_Type) *scheduler.Event {
	f.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case ev, ok := <-f.events:
			if !ok {
				f.t.Fatalf("the stream ended before %s", want)
			}
			if ev.GetType() == want {
				return ev
			}
		case <-timeout.C:
			f.t.Fatalf("no %s came", want)
		}
	}
}

// ended waits until the stream ends.
func (f *framework) ended() {
	f.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case _, ok := <-f.events:
			if !ok {
				return
			}
		case <-timeout.C:
			f.t.Fatal("the stream goes on")
		}
	}
}

// call sends a call as JSON or protobuf, and returns the answer.
func (f *framework) call(c *scheduler.Call, media string) reply {
	f.t.Helper()
	c.FrameworkId = f.id
	body, err := mesosjson.Marshal(c)
	if media == "application/x-protobuf" {
		body, err = proto.Marshal(c)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return do(f.t, http.MethodPost, endpoint(f.s, "/api/v1/scheduler"), http.Header{
		"Content-Type": {media}, "Mesos-Stream-Id": {f.streamID},
	}, body)
}

// accepted makes a call that must be answered 202.
func (f *framework) accepted(c *scheduler.Call) {
	f.t.Helper()
	if r := f.call(c, "application/json"); r.status != http.StatusAccepted || r.body != "" {
		f.t.Fatalf("%s: %d %s", c.GetType(), r.status, r.body)
	}
}

func (f *framework) launch(o *mesos.Offer, taskID string) {
	f.t.Helper()
	task := &mesos.TaskInfo{
		Name: new(taskID), TaskId: &mesos.TaskID{Value: new(taskID)}, AgentId: o.AgentId,
		Command:   &mesos.CommandInfo{Value: new("sleep 100")},
		Resources: resources.MustParse("cpus:0.1;mem:32").Allocate("golden").Proto(),
	}
	f.accepted(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
		OfferIds: []*mesos.OfferID{o.Id},
		Operations: []*mesos.Offer_Operation{{
			Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{task}},
		}},
		Filters: &mesos.Filters{RefuseSeconds: proto.Float64(0)},
	}})
}

// agent is scripted, over a real link.
type agent struct {
	t    testing.TB
	conn *link.AgentConn
	id   *mesos.AgentID
}

func agentInfo() *mesos.AgentInfo {
	return &mesos.AgentInfo{
		Hostname: new("localhost"), Port: proto.Int32(15051),
		Resources: resources.MustParse("cpus:4;mem:2048;disk:10000;ports:[31000-32000]").Proto(),
		Attributes: []*mesos.Attribute{
			{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r1")}},
			{Name: new("level"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(3)}},
		},
	}
}

// startAgent registers an agent.
func startAgent(t testing.TB, s *Server, info *mesos.AgentInfo) *agent {
	t.Helper()
	conn, err := link.Dial(t.Context(), []string{s.Addr().String()}, link.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, conn: conn}
	t.Cleanup(func() { conn.CloseNow(); <-conn.Done() })
	register := &clusterdv1.RegisterAgent{
		LinkVersion: proto.Uint32(link.Version), AgentInfo: info, BuildVersion: new("1.12.0"), Ip: new("127.0.0.1"),
	}
	for _, c := range []mesos.AgentInfo_Capability_Type{
		mesos.AgentInfo_Capability_MULTI_ROLE, mesos.AgentInfo_Capability_HIERARCHICAL_ROLE, mesos.AgentInfo_Capability_RESERVATION_REFINEMENT,
		mesos.AgentInfo_Capability_RESOURCE_PROVIDER, mesos.AgentInfo_Capability_RESIZE_VOLUME, mesos.AgentInfo_Capability_AGENT_OPERATION_FEEDBACK,
		mesos.AgentInfo_Capability_AGENT_DRAINING, mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS,
	} {
		register.Capabilities = append(register.Capabilities, &mesos.AgentInfo_Capability{Type: c.Enum()})
	}
	a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: register}})
	for a.id == nil {
		a.id = a.receive().GetRegistered().GetAgentId()
	}
	return a
}

func (a *agent) send(m *clusterdv1.AgentMessage) {
	a.t.Helper()
	if err := a.conn.Send(m); err != nil {
		a.t.Fatal(err)
	}
}

// receive returns the next message; pings are answered.
func (a *agent) receive() *clusterdv1.MasterMessage {
	a.t.Helper()
	for {
		m, err := a.conn.Receive()
		if err != nil {
			a.t.Fatal(err)
		}
		if m.GetPing() == nil {
			return m
		}
		a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}})
	}
}

// update reports a status, with the uuid n.
func (a *agent) update(f *framework, taskID string, state mesos.TaskState, n byte) {
	a.t.Helper()
	var message *string
	if state == mesos.TaskState_TASK_FAILED {
		message = new("Command exited with status 3")
	}
	a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: f.id, LatestState: state.Enum(),
		Status: &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: &taskID}, State: state.Enum(), Message: message, Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
			AgentId: a.id, ExecutorId: &mesos.ExecutorID{Value: &taskID}, Timestamp: new(float64(time.Now().UnixMicro()) / 1e6),
			Uuid: bytes.Repeat([]byte{n}, 16),
			ContainerStatus: &mesos.ContainerStatus{
				ContainerId:  &mesos.ContainerID{Value: new("7d35c001-399d-4c3a-8750-677ff59d8fb9")},
				ExecutorPid:  proto.Uint32(14840),
				NetworkInfos: []*mesos.NetworkInfo{{IpAddresses: []*mesos.NetworkInfo_IPAddress{{Protocol: mesos.NetworkInfo_IPv4.Enum(), IpAddress: new("127.0.0.1")}}}},
			},
		},
	}}})
}

// acknowledge answers an update as a framework does.
func (f *framework) acknowledge(u *mesos.TaskStatus) {
	f.t.Helper()
	f.accepted(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE.Enum(), Acknowledge: &scheduler.Call_Acknowledge{
		AgentId: u.AgentId, TaskId: u.TaskId, Uuid: u.Uuid,
	}})
}

func mustContain(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in %s", p, text)
		}
	}
}
