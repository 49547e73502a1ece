package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesosjson"
	"clusterd/api/recordio"
)

// request sends one and returns status, Content-Type and body.
func request(t *testing.T, a *Agent, method, path, contentType, body string) (int, string, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

const jsonType = "application/json"

// testExecutor speaks the executor API from within the test; its container only
// sleeps.
type testExecutor struct {
	t      *testing.T
	a      *Agent
	fw, id string
	proto  bool
	events chan *executor.Event
	cancel context.CancelFunc
}

func (e *testExecutor) call(c *executor.Call) (*http.Response, error) {
	c.FrameworkId = &mesos.FrameworkID{Value: &e.fw}
	c.ExecutorId = &mesos.ExecutorID{Value: &e.id}
	var body []byte
	var err error
	media := jsonType
	if e.proto {
		media = "application/x-protobuf"
		body, err = proto.Marshal(c)
	} else {
		body, err = mesosjson.Marshal(c)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.a.Addr()+"/slave(1)/api/v1/executor", bytes.NewReader(body))
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Accept", media)
	if c.GetType() == executor.Call_SUBSCRIBE {
		e.cancel = cancel
	} else {
		defer cancel()
	}
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
}

func (e *testExecutor) subscribe(sub *executor.Call_Subscribe) {
	e.t.Helper()
	resp, err := e.call(&executor.Call{Type: executor.Call_SUBSCRIBE.Enum(), Subscribe: sub}) //nolint:bodyclose // by the reader below
	if err != nil {
		e.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		e.t.Fatalf("subscribe: got %d %s", resp.StatusCode, b)
	}
	events := make(chan *executor.Event, 100)
	e.events = events
	r := recordio.NewReader(resp.Body, 0)
	useProto := e.proto
	done := make(chan struct{})
	cancel := e.cancel
	e.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		defer close(events)
		defer resp.Body.Close()
		for {
			rec, err := r.Next()
			if err != nil {
				return
			}
			ev := &executor.Event{}
			if useProto {
				err = proto.Unmarshal(rec, ev)
			} else {
				err = mesosjson.Unmarshal(rec, ev)
			}
			if err != nil {
				return
			}
			events <- ev
		}
	}()
}

func (e *testExecutor) next() *executor.Event {
	e.t.Helper()
	select {
	case ev, ok := <-e.events:
		if !ok {
			e.t.Fatal("the stream ended")
		}
		return ev
	case <-time.After(patience):
		e.t.Fatal("no event came")
		return nil
	}
}

func (e *testExecutor) expect(want executor.Event_Type) *executor.Event {
	e.t.Helper()
	ev := e.next()
	if ev.GetType() != want {
		e.t.Fatalf("got event %v, want %v", ev, want)
	}
	return ev
}

func (e *testExecutor) status(task string, state mesos.TaskState, uuid string) *mesos.TaskStatus {
	return &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &task}, State: state.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
		ExecutorId: &mesos.ExecutorID{Value: &e.id}, Uuid: []byte(uuid), Timestamp: new(1.5),
	}
}

func (e *testExecutor) update(st *mesos.TaskStatus) int {
	e.t.Helper()
	resp, err := e.call(&executor.Call{Type: executor.Call_UPDATE.Enum(), Update: &executor.Call_Update{Status: st}})
	if err != nil {
		e.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func customTask(id, exec string) *mesos.TaskInfo {
	t := commandTask(id, "")
	t.Command = nil
	t.Executor = &mesos.ExecutorInfo{
		ExecutorId: &mesos.ExecutorID{Value: &exec}, FrameworkId: &mesos.FrameworkID{Value: new("M-0000")},
		Type: mesos.ExecutorInfo_CUSTOM.Enum(), Command: &mesos.CommandInfo{Value: new("exec sleep 1000")},
		Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)},
	}
	return t
}

// TestExecutorAPI drives a custom executor through its life, with JSON and with
// protobuf.
func TestExecutorAPI(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	for _, useProto := range []bool{false, true} {
		id := "exec-json"
		if useProto {
			id = "exec-proto"
		}
		t.Run(id, func(t *testing.T) {
			task := id + "-task"
			m.send(runTasks(framework("M-0000"), customTask(task, id)))
			e := &testExecutor{t: t, a: a, fw: "M-0000", id: id, proto: useProto}
			eventually(t, "executor is known", func() bool {
				code, _, body := request(t, a, "POST", "/api/v1/executor", jsonType, `{"type":"UPDATE","framework_id":{"value":"M-0000"},"executor_id":{"value":"`+id+`"},
					"update":{"status":{"task_id":{"value":"x"},"state":"TASK_RUNNING","source":"SOURCE_EXECUTOR","uuid":"AAAAAAAAAAAAAAAAAAAAAA=="}}}`)
				return code == 403 && body == "Executor is not subscribed"
			})
			e.subscribe(&executor.Call_Subscribe{})
			sub := e.expect(executor.Event_SUBSCRIBED).GetSubscribed()
			if sub.GetContainerId() == nil || sub.GetAgentInfo().GetId().GetValue() != "M-S0" ||
				sub.GetExecutorInfo().GetExecutorId().GetValue() != id || sub.GetFrameworkInfo().GetName() != "M-0000" {
				t.Errorf("got SUBSCRIBED %v", sub)
			}
			if got := e.expect(executor.Event_LAUNCH).GetLaunch().GetTask().GetTaskId().GetValue(); got != task {
				t.Errorf("launched %q, want %q", got, task)
			}
			uuid := "01234" + id[len(id)-5:] + "abcde" // and one more
			for i, state := range []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING} {
				u := uuid + string(rune('0'+i))
				if got := e.update(e.status(task, state, u)); got != http.StatusAccepted {
					t.Fatalf("update: got %d, want 202", got)
				}
				if ack := e.expect(executor.Event_ACKNOWLEDGED).GetAcknowledged(); string(ack.GetUuid()) != u {
					t.Errorf("acknowledged %q, want %q", ack.GetUuid(), u)
				}
			}
			// Twice the same: acknowledged again, reported once.
			e.update(e.status(task, mesos.TaskState_TASK_RUNNING, uuid+"1"))
			e.expect(executor.Event_ACKNOWLEDGED)
			m.waitState(task, "RUNNING")
			if d := cmp.Diff([]string{"STARTING", "RUNNING"}, m.states(task)); d != "" {
				t.Errorf("states (-want +got):\n%s", d)
			}
			m.send(&clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_FrameworkMessage{FrameworkMessage: &clusterdv1.ExecutorMessage{
				FrameworkId: &mesos.FrameworkID{Value: new("M-0000")}, ExecutorId: &mesos.ExecutorID{Value: &id}, Data: []byte("ping"),
			}}})
			if got := e.expect(executor.Event_MESSAGE).GetMessage().GetData(); string(got) != "ping" {
				t.Errorf("got message %q, want ping", got)
			}
			if resp, err := e.call(&executor.Call{Type: executor.Call_MESSAGE.Enum(), Message: &executor.Call_Message{Data: []byte("pong")}}); err != nil || resp.StatusCode != http.StatusAccepted {
				t.Fatalf("message: %v %v", resp, err)
			} else {
				resp.Body.Close()
			}
			eventually(t, "message arrives", func() bool {
				m.mu.Lock()
				defer m.mu.Unlock()
				for _, o := range m.others {
					if x := o.GetExecutorMessage(); x.GetExecutorId().GetValue() == id && string(x.GetData()) == "pong" {
						return true
					}
				}
				return false
			})
			// A kill while the executor is away is not lost.
			e.cancel()
			for range e.events {
			}
			eventually(t, "stream is closed", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return len(a.streams) == 0
			})
			m.send(killTask("M-0000", task))
			e.subscribe(&executor.Call_Subscribe{})
			e.expect(executor.Event_SUBSCRIBED)
			if got := e.expect(executor.Event_KILL).GetKill().GetTaskId().GetValue(); got != task {
				t.Errorf("kill of %q, want %q", got, task)
			}
			// A second SUBSCRIBE closes the first stream.
			first := e.events
			e.subscribe(&executor.Call_Subscribe{})
			for range first {
			}
			e.expect(executor.Event_SUBSCRIBED)
			e.expect(executor.Event_KILL)
			e.update(e.status(task, mesos.TaskState_TASK_KILLED, uuid+"9"))
			e.expect(executor.Event_ACKNOWLEDGED)
			m.waitState(task, "KILLED")
			m.send(&clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_ShutdownExecutor{ShutdownExecutor: &clusterdv1.ShutdownExecutor{
				FrameworkId: &mesos.FrameworkID{Value: new("M-0000")}, ExecutorId: &mesos.ExecutorID{Value: &id},
			}}})
			e.expect(executor.Event_SHUTDOWN)
		})
	}
}

// TestExecutorAPIRefusals are the answers to calls that are wrong
// (src/slave/http.cpp, src/common/validation.cpp).
func TestExecutorAPIRefusals(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), customTask("t", "e")))
	eventually(t, "framework is known", func() bool {
		v, err := a.View(t.Context())
		return err == nil && len(v.Frameworks) == 1
	})
	ids := `"framework_id":{"value":"M-0000"},"executor_id":{"value":"e"}`
	uuid := `"uuid":"AAAAAAAAAAAAAAAAAAAAAA=="`
	for _, c := range []struct {
		name, method, contentType, body string
		status                          int
		want                            string
	}{
		{"get", "GET", "", "", 405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."},
		{"no content type", "POST", "", "{}", 400, "Expecting 'Content-Type' to be present"},
		{"charset", "POST", "application/json; charset=utf-8", "{}", 415, "Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"garbage", "POST", "application/x-protobuf", "\x01\x02garbage", 400, "Failed to parse body into Call protobuf"},
		{"missing ids", "POST", jsonType, `{"type":"SUBSCRIBE"}`, 400, "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id"},
		{"no type", "POST", jsonType, `{` + ids + `}`, 400, "Failed to validate Executor::Call: Expecting 'type' to be present"},
		{"unknown framework", "POST", jsonType, `{"type":"SUBSCRIBE","subscribe":{},"framework_id":{"value":"x"},"executor_id":{"value":"e"}}`, 400, "Framework cannot be found"},
		{"unknown executor", "POST", jsonType, `{"type":"SUBSCRIBE","subscribe":{},"framework_id":{"value":"M-0000"},"executor_id":{"value":"y"}}`, 400, "Executor cannot be found"},
		{"no subscribe", "POST", jsonType, `{"type":"SUBSCRIBE",` + ids + `}`, 400, "Failed to validate Executor::Call: Expecting 'subscribe' to be present"},
		{"no update", "POST", jsonType, `{"type":"UPDATE",` + ids + `}`, 400, "Failed to validate Executor::Call: Expecting 'update' to be present"},
		{"no message", "POST", jsonType, `{"type":"MESSAGE",` + ids + `}`, 400, "Failed to validate Executor::Call: Expecting 'message' to be present"},
		{
			"no uuid", "POST", jsonType, `{"type":"UPDATE",` + ids + `,"update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","source":"SOURCE_EXECUTOR"}}}`, 400,
			"Failed to validate Executor::Call: Expecting 'uuid' to be present",
		},
		{
			"wrong source", "POST", jsonType, `{"type":"UPDATE",` + ids + `,"update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","source":"SOURCE_AGENT",` + uuid + `}}}`, 400,
			"Failed to validate Executor::Call: Received Call from executor e of framework M-0000 with invalid source, expecting 'SOURCE_EXECUTOR'",
		},
		{
			"staging", "POST", jsonType, `{"type":"UPDATE",` + ids + `,"update":{"status":{"task_id":{"value":"t"},"state":"TASK_STAGING","source":"SOURCE_EXECUTOR",` + uuid + `}}}`, 400,
			"Failed to validate Executor::Call: Received TASK_STAGING from executor e of framework M-0000 which is not allowed",
		},
		{
			"unreachable", "POST", jsonType, `{"type":"UPDATE",` + ids + `,"update":{"status":{"task_id":{"value":"t"},"state":"TASK_UNREACHABLE","source":"SOURCE_EXECUTOR",` + uuid + `}}}`, 400,
			"Failed to validate Executor::Call: Received TASK_UNREACHABLE from executor e of framework M-0000 which is not allowed",
		},
		{"message before subscribe", "POST", jsonType, `{"type":"MESSAGE",` + ids + `,"message":{"data":"YQ=="}}`, 403, "Executor is not subscribed"},
		{"heartbeat", "POST", jsonType, `{"type":"HEARTBEAT","framework_id":{"value":"dummy"},"executor_id":{"value":"dummy"}}`, 202, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, body := request(t, a, c.method, "/api/v1/executor", c.contentType, c.body)
			if status != c.status || body != c.want {
				t.Errorf("got %d %q, want %d %q", status, body, c.status, c.want)
			}
		})
	}
	if got := m.states("t"); len(got) != 0 {
		t.Errorf("refused calls changed something: %v", got)
	}
}

// TestGoldenErrors replays the wrong requests that were put to a real Mesos's
// agent.
func TestGoldenErrors(t *testing.T) {
	cases, _ := filepath.Glob("../../shared/golden/errors/*.json")
	if len(cases) == 0 {
		t.Skip("the recorded answers of a real Mesos (../shared/golden) are not here")
	}
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	n := 0
	for _, path := range cases {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if !strings.HasPrefix(name, "exec_") && !strings.HasPrefix(name, "agent_") && name != "http_404_agent" {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) { replay(t, a, path) })
	}
	if n < 15 {
		t.Errorf("replayed %d cases, want at least 15", n)
	}
}

func replay(t *testing.T, a *Agent, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Request struct {
			Method, Path, Body string
			Headers            []string
			JSON               json.RawMessage
		}
		Response struct {
			Status  int
			Headers []string
			Body    string
		}
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	body := c.Request.Body
	if len(c.Request.JSON) > 0 {
		body = string(c.Request.JSON)
	}
	contentType := ""
	for _, h := range c.Request.Headers {
		if v, ok := strings.CutPrefix(h, "Content-Type:"); ok {
			contentType = strings.TrimSpace(v)
		}
	}
	status, gotType, gotBody := request(t, a, c.Request.Method, c.Request.Path, contentType, body)
	if status != c.Response.Status || gotBody != c.Response.Body {
		t.Errorf("got %d %q, want %d %q", status, gotBody, c.Response.Status, c.Response.Body)
	}
	for _, h := range c.Response.Headers {
		if v, ok := strings.CutPrefix(h, "Content-Type:"); ok && strings.TrimSpace(v) != gotType {
			t.Errorf("got Content-Type %q, want %q", gotType, v)
		}
	}
}
