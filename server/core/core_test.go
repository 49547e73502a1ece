package core

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

func multiRole(name string, timeout float64) *mesos.FrameworkInfo {
	return &mesos.FrameworkInfo{
		User: new("u"), Name: &name, Roles: []string{"eng"}, Checkpoint: new(true), FailoverTimeout: &timeout,
		Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
	}
}

// launch accepts the newest offer on stream s with one task.
func (h *harness) launch(id string) {
	const stream = "s"
	h.t.Helper()
	offers := h.offers()
	if len(offers) == 0 {
		h.t.Fatalf("no offer on %s", stream)
	}
	o := offers[len(offers)-1]
	h.call(stream, &scheduler.Call{
		Type: scheduler.Call_ACCEPT.Enum(), FrameworkId: o.FrameworkId,
		Accept: &scheduler.Call_Accept{OfferIds: []*mesos.OfferID{o.Id}, Operations: []*mesos.Offer_Operation{{
			Type: mesos.Offer_Operation_LAUNCH.Enum(),
			Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
				Name: &id, TaskId: &mesos.TaskID{Value: &id}, AgentId: o.AgentId,
				Command: &mesos.CommandInfo{Value: new("true")}, Resources: []*mesos.Resource{scalar("cpus", 1)},
			}}},
		}}},
	})
}

// TestViewIsImmutable looks at a view again after everything has changed.
func TestViewIsImmutable(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.subscribe("s", multiRole("f", 0))
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	v := h.core.View()
	before := describe(v)
	if again := h.core.View(); again != v {
		t.Error("nothing has changed, and the view is another")
	}
	h.feed(StreamClosed{StreamID: "s"})
	h.feed(LinkClosed{Link: 1})
	h.advance(time.Hour)
	if got := describe(v); got != before {
		t.Errorf("the view has become\n%s\nit was\n%s", got, before)
	}
	if w := h.core.View(); w.Serial <= v.Serial || describe(w) == before {
		t.Errorf("view %d after view %d has the same:\n%s", w.Serial, v.Serial, describe(w))
	}
}

// TestViewsWhileTheCoreWorks reads views in other goroutines; the race detector
// is the judge.
func TestViewsWhileTheCoreWorks(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.subscribe("s", multiRole("f", 0))
	views := make(chan *View)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for v := range views {
				_ = describe(v)
				for f := range v.Frameworks.Values() {
					_, _ = f.Used(), f.Offered()
					for _, o := range f.Offers {
						_ = v.OfferProto(o)
					}
				}
			}
		})
	}
	for i := range 20 {
		h.register(LinkID(i+1), registerMessage("", fmt.Sprintf("a%d", i), "cpus:4;ports:[1-9]"))
		h.launch(fmt.Sprintf("t%d", i))
		views <- h.core.View()
	}
	close(views)
	wg.Wait()
}

// TestTaskOnTwoAgents has a framework use an id again that it was told is lost.
func TestTaskOnTwoAgents(t *testing.T) {
	cfg := testConfig()
	cfg.NonCheckpointingGrace = new(time.Duration(0))
	h := newHarness(t, cfg, Recovered{})
	info := multiRole("f", 0)
	info.Checkpoint = new(false)
	id := h.subscribe("s", info)
	first := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.feed(LinkClosed{Link: 1}) // t1 is lost
	h.register(2, registerMessage("", "a2", "cpus:4"))
	h.launch("t1")

	back := registerMessage(first, "a1", "cpus:4")
	stored := proto.CloneOf(info)
	stored.Id = &mesos.FrameworkID{Value: &id}
	back.Frameworks = []*mesos.FrameworkInfo{stored}
	used := scalar("cpus", 1)
	allocateTo("eng", []*mesos.Resource{used})
	back.Tasks = []*mesos.Task{{
		Name: new("t1"), TaskId: &mesos.TaskID{Value: new("t1")}, FrameworkId: stored.Id,
		AgentId: &mesos.AgentID{Value: &first}, State: mesos.TaskState_TASK_RUNNING.Enum(), Resources: []*mesos.Resource{used},
	}}
	h.register(3, back)
	killed := false
	for _, m := range h.links[3] {
		killed = killed || m.GetKillTask().GetTaskId().GetValue() == "t1"
	}
	if !killed {
		t.Fatalf("the old task is not killed: %v", h.links[3])
	}
	events := len(h.streams["s"])
	h.agentSays(3, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: stored.Id,
		Status: &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: new("t1")}, State: mesos.TaskState_TASK_KILLED.Enum(), Uuid: make([]byte, 16),
		},
	}}})
	for _, e := range h.streams["s"][events:] {
		if e.GetType() == scheduler.Event_UPDATE {
			t.Errorf("the framework hears of the old task: %v", e)
		}
	}
	last := h.links[3][len(h.links[3])-1]
	if last.GetAcknowledgeTask() == nil {
		t.Errorf("the agent's update is not acknowledged, the last message is %v", last)
	}
	if cl := h.core.framework(id).cells["t1"]; cl == nil || cl.ag.id == first || cl.rec.Terminal() {
		t.Errorf("the new task is %+v", cl)
	}
}

func TestRegistryGC(t *testing.T) {
	old := epoch.Add(-15 * 24 * time.Hour)
	h := newHarness(t, testConfig(), Recovered{
		Unreachable:       []Departed{{ID: "old", Time: old}, {ID: "new", Time: epoch}},
		Gone:              []Departed{{ID: "old-gone", Time: old}},
		RemovedFrameworks: []Departed{{ID: "old-framework", Time: old}, {ID: "new-framework", Time: epoch}},
	})
	h.advance(16 * time.Minute)
	v := h.core.View()
	_, stillOld := v.Unreachable.Get("old")
	_, stillNew := v.Unreachable.Get("new")
	if stillOld || !stillNew || v.Gone.Len() != 0 {
		t.Errorf("unreachable: old %t, new %t; gone: %d", stillOld, stillNew, v.Gone.Len())
	}
	if len(h.core.removed) != 1 {
		t.Errorf("removed frameworks: %v", h.core.removed)
	}
	if len(h.log) != 1 || h.log[0].GetKind() != clusterdv1.Command_PRUNE_AGENTS {
		t.Errorf("proposed %v", h.log)
	}
}

func TestRegistryGCByCount(t *testing.T) {
	cfg := testConfig()
	cfg.RegistryMaxAgentCount = 2
	var gone []Departed
	for i := range 5 {
		gone = append(gone, Departed{ID: fmt.Sprintf("g%d", i), Time: epoch.Add(time.Duration(i) * time.Second)})
	}
	h := newHarness(t, cfg, Recovered{Gone: gone})
	h.advance(16 * time.Minute)
	var left []string
	for id := range h.core.View().Gone.All() {
		left = append(left, id)
	}
	if got := strings.Join(left, " "); got != "g3 g4" {
		t.Errorf("left are %q, want the newest two", got)
	}
}

// TestRemovalRateLimit loses five agents at once; one a minute may go. One that
// answers in time stays.
func TestRemovalRateLimit(t *testing.T) {
	cfg := testConfig()
	cfg.AgentRemovalRateLimit = &RateLimit{N: 1, Per: time.Minute}
	h := newHarness(t, cfg, Recovered{})
	for i := range 5 {
		h.register(LinkID(i+1), registerMessage("", fmt.Sprintf("a%d", i), "cpus:1"))
	}
	h.advance(100 * time.Second)
	if n := h.core.View().Unreachable.Len(); n != 1 {
		t.Fatalf("%d agents are unreachable after 100 s, want 1", n)
	}
	survivor := h.core.View().Agents
	last := ""
	for id := range survivor.All() {
		last = id
	}
	l := h.core.agent(last).link
	for range 20 {
		h.agentSays(l, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}})
		h.advance(15 * time.Second)
	}
	v := h.core.View()
	if v.Unreachable.Len() != 4 || v.Agents.Len() != 1 {
		t.Errorf("%d unreachable, %d left; want 4 and 1:\n%s", v.Unreachable.Len(), v.Agents.Len(), describe(v))
	}
	if _, ok := v.Agents.Get(last); !ok {
		t.Errorf("agent %s answered, and is gone", last)
	}
}

func TestTakeoverDeadlines(t *testing.T) {
	framework := func(id string, timeout float64, deadline time.Time) RecoveredFramework {
		info := multiRole(id, timeout)
		info.Id = &mesos.FrameworkID{Value: &id}
		return RecoveredFramework{Info: info, Deadline: deadline}
	}
	h := newHarness(t, testConfig(), Recovered{Frameworks: []RecoveredFramework{
		framework("connected", 0, time.Time{}),
		framework("patient", 3600, time.Time{}),
		framework("expired", 3600, epoch.Add(-time.Hour)),
		framework("hasty", 5, epoch.Add(-time.Hour)),
		framework("waiting", 3600, epoch.Add(30*time.Minute)),
	}})
	want := map[string]time.Duration{
		"connected": 10 * time.Minute, "patient": time.Hour, "expired": time.Minute, "hasty": 5 * time.Second, "waiting": 30 * time.Minute,
	}
	for id, d := range want {
		if got := h.core.framework(id).deadline.Sub(epoch); got != d {
			t.Errorf("framework %s is waited for %s, want %s", id, got, d)
		}
	}
	h.subscribe("s", framework("patient", 3600, time.Time{}).Info)
	h.advance(2 * time.Hour)
	var left []string
	for f := range h.core.View().Frameworks.Values() {
		left = append(left, f.ID)
	}
	if got := strings.Join(left, " "); got != "patient" {
		t.Errorf("left are %q, want only the one that came back", got)
	}
}

// TestStatusesStayShort has a task report its health for long.
func TestStatusesStayShort(t *testing.T) {
	task := &Task{}
	for i := range 1000 {
		task = &Task{Statuses: task.withStatus(Status{State: mesos.TaskState_TASK_RUNNING, Timestamp: float64(i)})}
	}
	if n := len(task.Statuses); n != 1 || task.Latest().Timestamp != 999 {
		t.Errorf("%d statuses, the last of %v", n, task.Latest().Timestamp)
	}
}

// TestCompactStatus renders what was compacted.
func TestCompactStatus(t *testing.T) {
	task := &Task{ID: "t", AgentID: "a"}
	tests := []struct{ name, status string }{
		{"plain", `{"task_id":{"value":"t"},"state":"TASK_RUNNING","source":"SOURCE_EXECUTOR","agent_id":{"value":"a"},"executor_id":{"value":"e"},"timestamp":1.5,"uuid":"AAAAAAAAAAAAAAAAAAAAAA==","healthy":false}`},
		{"container", `{"task_id":{"value":"t"},"state":"TASK_RUNNING","agent_id":{"value":"a"},"timestamp":1.0,"container_status":{"container_id":{"value":"c","parent":{"value":"p"}},"network_infos":[{"ip_addresses":[{"protocol":"IPv4","ip_address":"10.0.0.1"}]}],"executor_pid":7}}`},
		{"ipv6", `{"task_id":{"value":"t"},"state":"TASK_RUNNING","agent_id":{"value":"a"},"timestamp":1.0,"container_status":{"container_id":{"value":"c"},"network_infos":[{"ip_addresses":[{"protocol":"IPv6","ip_address":"::1"}]}]}}`},
		{"two networks", `{"task_id":{"value":"t"},"state":"TASK_RUNNING","agent_id":{"value":"a"},"timestamp":1.0,"container_status":{"container_id":{"value":"c"},"network_infos":[{"name":"x"},{"name":"y"}]}}`},
		{"cgroup", `{"task_id":{"value":"t"},"state":"TASK_RUNNING","agent_id":{"value":"a"},"timestamp":1.0,"container_status":{"container_id":{"value":"c"},"cgroup_info":{"net_cls":{"classid":5}}}}`},
		{"labels and check", `{"task_id":{"value":"t"},"state":"TASK_FAILED","reason":"REASON_CONTAINER_LIMITATION","agent_id":{"value":"a"},"timestamp":1.0,"check_status":{"type":"TCP","tcp":{"succeeded":true}},"labels":{"labels":[{"key":"k"}]},"limitation":{"resources":[]}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := parse[mesos.TaskStatus](t, tt.status)
			s := compactStatus(want)
			if got := s.Proto(task); !proto.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", jsonText(got), jsonText(want))
			}
		})
	}
}
