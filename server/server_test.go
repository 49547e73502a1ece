package server

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/registry"
)

// The life of a task on the wire: subscribe, offer, accept, launch, updates,
// acknowledgements, and what the reads show of it.
func TestTaskLife(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	if f.header.Get("Content-Type") != "application/json" || len(f.streamID) != 36 {
		t.Errorf("got headers %v", f.header)
	}
	f.next(scheduler.Event_HEARTBEAT) // right after SUBSCRIBED
	offer := f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	f.launch(offer, "t1")

	run := a.receive().GetRunTasks()
	if len(run.GetTasks()) != 1 || run.Tasks[0].GetTaskId().GetValue() != "t1" {
		t.Fatalf("got %v", run)
	}
	for n, state := range []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FINISHED} {
		a.update(f, "t1", state, byte(n))
		u := f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus()
		if u.GetState() != state {
			t.Fatalf("got %v, want %s", u, state)
		}
		if state == mesos.TaskState_TASK_RUNNING {
			fw := frameworkOf(t, getJSON(t, s, "/master/state"))
			if len(fw["tasks"].([]any)) != 1 || fw["used_resources"].(map[string]any)["cpus"] != 0.1 {
				t.Errorf("got %v", fw)
			}
		}
		f.acknowledge(u)
		ack := a.receive().GetAcknowledgeTask()
		if !bytes.Equal(ack.GetUuid(), u.GetUuid()) {
			t.Fatalf("got %v", ack)
		}
	}
	fw := frameworkOf(t, getJSON(t, s, "/state.json"))
	if len(fw["tasks"].([]any)) != 0 || len(fw["completed_tasks"].([]any)) != 1 {
		t.Errorf("got %v", fw)
	}
	snapshot := getJSON(t, s, "/metrics/snapshot")
	for key, want := range map[string]float64{
		"master/elected": 1, "master/tasks_finished": 1, "master/tasks_running": 0, "master/slaves_active": 1, "master/frameworks_connected": 1,
		"master/messages_status_update": 3, "master/messages_status_update_acknowledgement": 3, "master/valid_status_updates": 3,
		"master/cpus_total": 4, "master/cpus_used": 0, "master/messages_register_framework": 1, "master/messages_register_slave": 1,
	} {
		if got := snapshot[key]; got != want {
			t.Errorf("metric %s: got %v, want %v", key, got, want)
		}
	}
	prefix := "master/frameworks/golden/" + f.id.GetValue() + "/"
	for key, want := range map[string]float64{
		"calls": 4, "calls/accept": 1, "calls/acknowledge": 3, "calls/kill": 0, "events/update": 3, "events/subscribed": 1,
		"operations/launch": 1, "tasks/terminal/task_finished": 1, "tasks/active/task_running": 0, "subscribed": 1, "roles/golden/suppressed": 0,
	} {
		if got := snapshot[prefix+key]; got != want && key != "calls" {
			t.Errorf("metric %s: got %v, want %v", key, got, want)
		}
	}

	f.accepted(&scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum()})
	f.ended()
	a.receive() // ShutdownFramework
	state := getJSON(t, s, "/state")
	if len(state["frameworks"].([]any)) != 0 || len(state["completed_frameworks"].([]any)) != 1 {
		t.Errorf("after TEARDOWN: %v", state)
	}
}

func frameworkOf(t testing.TB, state map[string]any) map[string]any {
	t.Helper()
	list := state["frameworks"].([]any)
	if len(list) != 1 {
		t.Fatalf("got %d frameworks", len(list))
	}
	return list[0].(map[string]any)
}

// A framework that subscribes again with its id takes over: the old stream gets
// an ERROR and ends, its id no longer works.
func TestFailover(t *testing.T) {
	s := startMaster(t)
	f1 := subscribe(t, s, goldenInfo())
	info := goldenInfo()
	info.Id = f1.id
	f2 := subscribe(t, s, info)
	if got := f1.next(scheduler.Event_ERROR).GetError().GetMessage(); got != "Framework failed over" {
		t.Errorf("got %q", got)
	}
	f1.ended()
	revive := &scheduler.Call{Type: scheduler.Call_REVIVE.Enum()}
	if r := f1.call(revive, "application/json"); r.status != http.StatusBadRequest {
		t.Errorf("old stream id: %d %s", r.status, r.body)
	}
	f2.accepted(revive)
	if r := f2.call(revive, "application/x-protobuf"); r.status != http.StatusAccepted {
		t.Errorf("protobuf: %d %s", r.status, r.body)
	}
}

// A framework whose client goes away is disconnected, and shown so.
func TestClientGone(t *testing.T) {
	s := startMaster(t)
	f := subscribe(t, s, goldenInfo())
	f.body.Close()
	eventually(t, "the framework is disconnected", func() bool {
		return frameworkOf(t, getJSON(t, s, "/frameworks"))["connected"] == false
	})
	if r := f.call(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum()}, "application/json"); r.status != http.StatusForbidden || r.body != "Framework is not subscribed" {
		t.Errorf("got %d %s", r.status, r.body)
	}
}

// A scheduler that does not read is cut off; others do not notice.
func TestStalledSchedulerDoesNotHoldUpOthers(t *testing.T) {
	s := startMaster(t, func(o *Options) { o.Streams = StreamLimits{Events: 64, Bytes: 1 << 20, WriteTimeout: time.Hour} })
	a := startAgent(t, s, agentInfo())
	stalled := subscribeRaw(t, s, goldenInfo())
	record, err := stalled.records.Next()
	if err != nil {
		t.Fatal(err)
	}
	var first scheduler.Event
	if err := mesosjson.Unmarshal(record, &first); err != nil {
		t.Fatal(err)
	}
	stalled.id = first.GetSubscribed().GetFrameworkId()
	reader := subscribe(t, s, goldenInfo())

	data := bytes.Repeat([]byte("x"), 64<<10)
	message := func(id *mesos.FrameworkID) *clusterdv1.AgentMessage {
		return &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExecutorMessage{ExecutorMessage: &clusterdv1.ExecutorMessage{
			FrameworkId: id, ExecutorId: &mesos.ExecutorID{Value: new("e")}, Data: data,
		}}}
	}
	connected := func() int {
		n := 0
		for _, f := range getJSON(t, s, "/frameworks")["frameworks"].([]any) {
			if f.(map[string]any)["connected"] == true {
				n++
			}
		}
		return n
	}
	for sent := 0; connected() == 2; sent++ {
		if sent > 10_000 {
			t.Fatal("600 MB were sent to a reader that does not read")
		}
		a.send(message(stalled.id))
		a.send(message(reader.id))
		reader.next(scheduler.Event_MESSAGE)
	}
	reader.accepted(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum()})
	if connected() != 1 {
		t.Error("the one that reads was cut off too")
	}
}

// The registry remembers agents and frameworks over a restart of the master.
func TestRestartKeepsFrameworks(t *testing.T) {
	dir := t.TempDir()
	onDisk := func(o *Options) { o.WorkDir, o.InMemory = dir, false }
	s1 := startMaster(t, onDisk)
	a := startAgent(t, s1, agentInfo())
	f := subscribe(t, s1, goldenInfo())
	torn := subscribe(t, s1, goldenInfo())
	torn.accepted(&scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum()})
	torn.ended()
	a.conn.CloseNow() // it is scripted, and would not answer the farewell
	stopMaster(t, s1)
	f.ended()

	s2 := startMaster(t, onDisk)
	state := getJSON(t, s2, "/state")
	fw := frameworkOf(t, state)
	if fw["id"] != f.id.GetValue() || fw["connected"] != false || fw["recovered"] != true {
		t.Errorf("got %v", fw)
	}
	recovered := state["recovered_slaves"].([]any)
	if len(recovered) != 1 || recovered[0].(map[string]any)["id"] != a.id.GetValue() {
		t.Errorf("got recovered agents %v", recovered)
	}
	info := goldenInfo()
	info.Id = f.id
	if again := subscribe(t, s2, info); again.id.GetValue() != f.id.GetValue() {
		t.Errorf("got id %v", again.id)
	}
	ai := agentInfo()
	ai.Id = a.id
	if again := startAgent(t, s2, ai); again.id.GetValue() != a.id.GetValue() {
		t.Errorf("got agent id %v", again.id)
	}
}

// While nobody leads, what needs a leader says so and what does not answers.
func TestNoLeader(t *testing.T) {
	opts := DefaultOptions()
	opts.IP, opts.Hostname, opts.InMemory, opts.Port = "127.0.0.1", "localhost", true, 0
	opts.BootstrapExpect = 0 // waits to be joined to a cluster
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopMaster(t, s) })
	for _, path := range []string{"/state", "/master/redirect", "/api/v1/scheduler", "/api/v1", "/tasks"} {
		if r := get(t, s, path); r.status != http.StatusServiceUnavailable || r.body != "No leader elected" {
			t.Errorf("%s: got %d %q", path, r.status, r.body)
		}
	}
	for _, path := range []string{"/health", "/version", "/flags", "/metrics/snapshot", "/master/health"} {
		if r := get(t, s, path); r.status != http.StatusOK {
			t.Errorf("%s: got %d %q", path, r.status, r.body)
		}
	}
}

func TestRedirect(t *testing.T) {
	s := startMaster(t)
	_, port, _ := strings.Cut(s.Addr().String(), ":")
	for _, path := range []string{"/redirect", "/master/redirect", "/redirect/"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := do(t, method, endpoint(s, path), nil, nil)
			if r.status != http.StatusTemporaryRedirect || r.header.Get("Location") != "//localhost:"+port || r.body != "" {
				t.Errorf("%s %s: got %d %v", method, path, r.status, r.header)
			}
		}
	}
	if r := get(t, s, "/redirect/more"); r.status != http.StatusNotFound {
		t.Errorf("got %d", r.status)
	}
}

// When the leadership ends this master stops acting at once: it tells nobody
// anything any more, cuts everybody off, and, if the registry is gone for good,
// says that it must be stopped.
func TestLeadershipEnds(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	term := s.term.Load()
	if err := s.registry.Close(); err != nil {
		t.Fatal(err)
	}
	f.ended()
	for _, err := a.conn.Receive(); err == nil; _, err = a.conn.Receive() {
	}
	<-term.done
	if err := term.submit(context.Background(), envelope{}); err == nil {
		t.Error("the term that is over still takes inputs")
	}
	<-s.Done()
	if !errors.Is(s.Err(), registry.ErrClosed) {
		t.Errorf("got %v", s.Err())
	}
	eventually(t, "there is no leader", func() bool { return get(t, s, "/state").status == http.StatusServiceUnavailable })
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"work_dir":                 func(o *Options) { o.InMemory = false },
		"ip":                       func(o *Options) { o.IP = "nonsense" },
		"port":                     func(o *Options) { o.Port = 70000 },
		"allocation_interval":      func(o *Options) { o.Core.AllocationInterval = 0 },
		"max_agent_ping_timeouts":  func(o *Options) { o.Core.MaxAgentPingTimeouts = 0 },
		"bootstrap_expect":         func(o *Options) { o.BootstrapExpect = -1 },
		"limits of streams":        func(o *Options) { o.Streams = StreamLimits{} },
		"agent_ping_timeout":       func(o *Options) { o.Core.AgentPingTimeout = -1 },
		"agent_reregister_timeout": func(o *Options) { o.Core.AgentReregisterTimeout = 0 },
	} {
		opts := DefaultOptions()
		opts.InMemory, opts.Port = true, 0
		change(&opts)
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestPortTaken(t *testing.T) {
	s := startMaster(t)
	opts := DefaultOptions()
	opts.IP, opts.InMemory = "127.0.0.1", true
	opts.Port = int(s.MasterInfo().GetPort())
	if _, err := New(opts); err == nil {
		t.Error("two masters listen on one port")
	}
}
