package core

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

const goldenDir = "../../../shared/golden"

// batched is the real allocator, made as slow as Mesos's: nothing is offered but
// once an interval. The recorded offers would come otherwise apportioned.
type batched struct{ allocator.Allocator }

func (batched) Allocate(time.Time) allocator.Allocation { return allocator.Allocation{} }

func (batched) NextDeadline() (time.Time, bool) { return time.Time{}, false }

// TestGoldenStream replays the recorded life of a framework of a real Mesos: the
// calls that its scheduler made, and what its agent's executors reported. The
// events must be those that Mesos sent, field by field. Towards its
// end an operator changes the cluster.
func TestGoldenStream(t *testing.T) {
	events := goldenEvents(t)
	calls := goldenCalls(t)
	var subscribed scheduler.Event
	unmarshalJSON(t, events[0], &subscribed)
	cfg := testConfig()
	cfg.MasterInfo = subscribed.Subscribed.MasterInfo
	h := newHarness(t, cfg, Recovered{})
	h.core = New(cfg, Recovered{}, batched{allocator.New(allocator.DefaultOptions())}, h.now)
	g := &golden{t: t, h: h, calls: calls}

	// What happens right before an event of Mesos's stream, by the event's index.
	before := map[int]func(){
		0:  g.subscribe,
		2:  g.register,
		3:  func() { g.call("01_ACCEPT_LAUNCH") },
		12: func() { g.call("09_ACCEPT_LAUNCH_GROUP") },
		16: func() { g.call("14_ACCEPT_RESERVE_CREATE") },
		18: func() { g.call("15_RECONCILE"); g.call("16_RECONCILE_OPERATIONS") },
		20: func() { g.call("17_KILL") },
		28: func() { g.call("23_DECLINE") },
		29: func() { g.call("sched_accept_unknown_offer_ok") },
		// Two offers are rescinded; Mesos does so in no order, and it was the other way
		// round.
		30: func() { g.operate("01_UPDATE_WEIGHTS"); events[30], events[31] = events[31], events[30] },
		33: func() {
			g.operate("19_RESERVE_RESOURCES")
			g.operate("22_UNRESERVE_RESOURCES")
			g.operate("26_maintenance_schedule_agent")
		},
		36: func() {
			g.call("24_ACCEPT_INVERSE_OFFERS")
			g.operate("30_maintenance_schedule_clear")
		},
	}
	for i := range events {
		want := events[i]
		if do := before[i]; do != nil {
			do()
			want = events[i]
		}
		g.expect(i, want)
	}
	g.call("25_TEARDOWN")
	if !h.closed[goldenStream] {
		t.Error("the stream is open after TEARDOWN")
	}
}

const goldenStream = "4a4cfc32-1b64-418b-884a-1d071593e55c"

type golden struct {
	t     *testing.T
	h     *harness
	calls map[string]*scheduler.Call
	heard int
}

func (g *golden) subscribe() {
	info := &mesos.FrameworkInfo{
		User: new("root"), Name: new("golden"), Roles: []string{"golden"},
		FailoverTimeout: proto.Float64(60), Checkpoint: new(true),
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT, mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
	} {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	g.h.subscribe(goldenStream, info)
}

func (g *golden) register() {
	m := registerMessage("", "localhost", "ports:[31000-32000];cpus:4;mem:2048;disk:10000")
	m.Ip = new("127.0.0.1")
	m.AgentInfo.Port = proto.Int32(15051)
	m.AgentInfo.Attributes = []*mesos.Attribute{
		{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r1")}},
		{Name: new("level"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(3)}},
	}
	g.h.register(1, m)
}

func (g *golden) call(name string) {
	g.t.Helper()
	call := g.calls[name]
	if call == nil {
		g.t.Fatalf("no call %s is recorded", name)
	}
	if a := g.h.call(goldenStream, proto.CloneOf(call)); a.Status != 202 || a.Body != "" {
		g.t.Fatalf("call %s: got %d %q, want 202", name, a.Status, a.Body)
	}
}

// expect makes the agent do what led to the event, and compares it with what the
// core sends.
func (g *golden) expect(i int, want []byte) {
	g.t.Helper()
	var e scheduler.Event
	unmarshalJSON(g.t, want, &e)
	switch {
	case e.GetType() == scheduler.Event_HEARTBEAT:
		return // on their own schedule
	case e.GetType() == scheduler.Event_OFFERS:
		for range 5 { // a filter of a second ends at the next full allocation or the one after
			g.h.advance(time.Second)
			if g.pending() {
				break
			}
		}
	case e.GetType() == scheduler.Event_FAILURE:
		g.h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExitedExecutor{ExitedExecutor: &clusterdv1.ExitedExecutor{
			FrameworkId: g.calls["25_TEARDOWN"].FrameworkId,
			ExecutorId:  e.Failure.ExecutorId,
			Status:      e.Failure.Status,
		}}})
	case e.GetUpdate().GetStatus().GetUuid() != nil:
		g.h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
			FrameworkId: g.calls["25_TEARDOWN"].FrameworkId,
			Status:      proto.CloneOf(e.Update.Status),
		}}})
	}
	got := g.next(i)
	if diff := cmp.Diff(normal(g.t, want), normal(g.t, got)); diff != "" {
		g.t.Fatalf("event %d (-Mesos +core):\n%s", i, diff)
	}
	if uuid := e.GetUpdate().GetStatus().GetUuid(); uuid != nil {
		for name, c := range g.calls {
			if c.GetType() == scheduler.Call_ACKNOWLEDGE && bytes.Equal(c.Acknowledge.Uuid, uuid) {
				g.call(name)
			}
		}
	}
}

// pending reports whether there is an event that has not been compared.
func (g *golden) pending() bool {
	return slices.ContainsFunc(g.h.streams[goldenStream][g.heard:], func(e *scheduler.Event) bool {
		return e.GetType() != scheduler.Event_HEARTBEAT
	})
}

// next returns the next event that is not a heartbeat.
func (g *golden) next(i int) []byte {
	g.t.Helper()
	for g.heard < len(g.h.streams[goldenStream]) {
		e := g.h.streams[goldenStream][g.heard]
		g.heard++
		if e.GetType() != scheduler.Event_HEARTBEAT {
			return []byte(jsonText(e))
		}
	}
	g.t.Fatalf("event %d does not come", i)
	return nil
}

// normal leaves out what differs between runs, and orders what has no order.
func normal(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	normalizeAny(v)
	return v
}

func normalizeAny(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["source"] == "SOURCE_MASTER" {
			delete(v, "timestamp")
		}
		if rs, ok := v["resources"].([]any); ok {
			slices.SortFunc(rs, func(a, b any) int {
				return strings.Compare(a.(map[string]any)["name"].(string), b.(map[string]any)["name"].(string))
			})
		}
		for _, e := range v {
			normalizeAny(e)
		}
	case []any:
		for _, e := range v {
			normalizeAny(e)
		}
	}
}

func goldenEvents(t *testing.T) [][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join(goldenDir, "streams/scheduler_subscribe.events.jsonl"))
	if err != nil {
		t.Skipf("the recorded answers of a real Mesos are not there: %v", err)
	}
	defer f.Close()
	var events [][]byte
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		events = append(events, bytes.Clone(lines.Bytes()))
	}
	if lines.Err() != nil || len(events) < 30 {
		t.Fatalf("%d events are recorded: %v", len(events), lines.Err())
	}
	return events
}

func goldenCalls(t *testing.T) map[string]*scheduler.Call {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "streams/scheduler_calls/*.json"))
	if err != nil || len(files) == 0 {
		t.Skipf("the recorded calls are not there: %v", err)
	}
	files = append(files, filepath.Join(goldenDir, "errors/sched_accept_unknown_offer_ok.json"))
	calls := map[string]*scheduler.Call{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Request struct{ JSON json.RawMessage }
		}
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		call := &scheduler.Call{}
		unmarshalJSON(t, c.Request.JSON, call)
		calls[strings.TrimSuffix(filepath.Base(file), ".json")] = call
	}
	return calls
}

func unmarshalJSON(t *testing.T, text []byte, m proto.Message) {
	t.Helper()
	if err := mesosjson.Unmarshal(text, m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// operate makes a call of an operator that was recorded, and expects Mesos's answer.
func (g *golden) operate(name string) {
	g.t.Helper()
	c := mutation(g.t, name)
	text := string(c.Request.JSON)
	if !strings.Contains(text, `"type"`) { // of the endpoint that came before the API
		text = `{"type":"UPDATE_MAINTENANCE_SCHEDULE","update_maintenance_schedule":{"schedule":` + text + `}}`
	}
	g.h.wantAnswer(text, c.Response.Status, c.Response.Body)
}
