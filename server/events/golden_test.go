package events

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
	"clusterd/server/core"
)

// recorded is the stream of a real Mesos.
const recorded = "../../../shared/golden/streams/operator_subscribe.events.jsonl"

// TestGoldenStream makes the events that a real Mesos has sent again, from the core's
// records of the same things: every member, and no other, must come out.
func TestGoldenStream(t *testing.T) {
	file, err := os.Open(recorded)
	if os.IsNotExist(err) {
		t.Skipf("the recorded stream of a real Mesos is not here (%s)", recorded)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := newHouse(t, 1)
	r := h.subscribe(t, formats["mesos-json"], "")
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	seen := map[string]int{}
	for lines.Scan() {
		want := &master.Event{}
		if err := mesosjson.Unmarshal(lines.Bytes(), want); err != nil {
			t.Fatal(err)
		}
		e := eventOf(t, want)
		if e == nil && seen["HEARTBEAT"] > 0 && want.GetType() == master.Event_HEARTBEAT {
			continue // they come by the clock
		}
		seen[want.GetType().String()]++
		if e != nil {
			h.mu.Lock()
			h.announceLocked(e)
			h.mu.Unlock()
		}
		got, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(generic(t, lines.Bytes()), generic(t, got)); diff != "" {
			t.Errorf("%s (-Mesos +ours):\n%s", want.GetType(), diff)
		}
	}
	if lines.Err() != nil || len(seen) < 7 {
		t.Errorf("read %v, %v", seen, lines.Err())
	}
}

func generic(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

// eventOf is what the core would have announced; nil for what is not announced.
func eventOf(t *testing.T, e *master.Event) *core.Event {
	t.Helper()
	switch e.GetType() {
	case master.Event_TASK_ADDED:
		p := e.GetTaskAdded().GetTask()
		task := &core.Task{
			ID: p.GetTaskId().GetValue(), Name: p.GetName(), FrameworkID: p.GetFrameworkId().GetValue(),
			AgentID: p.GetAgentId().GetValue(), ExecutorID: p.GetExecutorId().GetValue(), State: p.GetState(),
			Resources: algebra(t, p.Resources),
		}
		if p.Labels != nil || p.Discovery != nil {
			task.Extra = &core.TaskExtra{Labels: p.Labels, Discovery: p.Discovery}
		}
		return &core.Event{Type: core.TaskAdded, Task: task, FrameworkInfo: &mesos.FrameworkInfo{}}
	case master.Event_TASK_UPDATED:
		p := e.GetTaskUpdated()
		return &core.Event{
			Type: core.TaskUpdated, Status: p.Status, FrameworkInfo: &mesos.FrameworkInfo{},
			Task: &core.Task{ID: p.GetStatus().GetTaskId().GetValue(), FrameworkID: p.GetFrameworkId().GetValue(), State: p.GetState()},
		}
	case master.Event_AGENT_ADDED:
		p := e.GetAgentAdded().GetAgent()
		a := &core.Agent{
			ID: p.GetAgentInfo().GetId().GetValue(), Info: p.GetAgentInfo(), IP: "127.0.0.1", Version: p.GetVersion(),
			RegisteredAt: time.Unix(0, p.GetRegisteredTime().GetNanoseconds()), Active: p.GetActive(), Connected: true,
			Total: algebra(t, p.GetAgentInfo().GetResources()),
		}
		for _, c := range p.Capabilities {
			a.Capabilities = append(a.Capabilities, c.GetType())
		}
		return &core.Event{Type: core.AgentAdded, AgentID: a.ID, Agent: a}
	case master.Event_FRAMEWORK_ADDED:
		p := e.GetFrameworkAdded().GetFramework()
		return &core.Event{Type: core.FrameworkAdded, Framework: &core.Framework{
			ID: p.GetFrameworkInfo().GetId().GetValue(), Info: p.GetFrameworkInfo(), Active: p.GetActive(),
			Connected: p.GetConnected(), RegisteredAt: time.Unix(0, p.GetRegisteredTime().GetNanoseconds()),
		}}
	case master.Event_FRAMEWORK_REMOVED:
		info := e.GetFrameworkRemoved().GetFrameworkInfo()
		return &core.Event{Type: core.FrameworkRemoved, Framework: &core.Framework{ID: info.GetId().GetValue(), Info: info}}
	case master.Event_SUBSCRIBED, master.Event_HEARTBEAT:
		return nil
	default:
		t.Fatalf("an event of type %s was recorded", e.GetType())
		return nil
	}
}

func algebra(t *testing.T, list []*mesos.Resource) resources.Resources {
	t.Helper()
	r, err := resources.FromProto(list)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
