package render

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/server/core"
)

const masterID = "87b62806-7648-48b9-adfb-e17ef857b670"

// largeView is a cluster of five frameworks: the shape of the figures of Mesos.
func largeView(agents, running, completed int) (*core.View, *Master) {
	now := time.Unix(1795359924, 218776000)
	total := resources.MustParse("cpus:64;mem:262144;disk:1000000;ports:[31000-32000]")
	one := resources.MustParse("cpus:0.5;mem:128").Allocate("role")
	used := resources.Resources{}
	for range running / max(agents, 1) {
		used = used.Add(one)
	}
	am := make(map[string]*core.Agent, agents)
	ids := make([]string, agents)
	for i := range agents {
		id := fmt.Sprintf("%s-S%d", masterID, i)
		ids[i] = id
		host := fmt.Sprintf("agent%05d.example.org", i)
		am[id] = &core.Agent{
			ID: id, IP: "10.0.0.1", Version: "1.12.0",
			Info: &mesos.AgentInfo{
				Id: &mesos.AgentID{Value: &ids[i]}, Hostname: &host, Port: proto.Int32(5051),
				Attributes: []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r1")}}},
				Resources:  total.Proto(),
			},
			Capabilities: []mesos.AgentInfo_Capability_Type{
				mesos.AgentInfo_Capability_MULTI_ROLE, mesos.AgentInfo_Capability_HIERARCHICAL_ROLE,
				mesos.AgentInfo_Capability_RESERVATION_REFINEMENT, mesos.AgentInfo_Capability_AGENT_DRAINING,
			},
			RegisteredAt: now, Connected: true, Active: true,
			Total: total, Used: used, Offered: total.Sub(used.Unallocate()).Allocate("role"),
		}
	}
	const frameworks = 5
	fm := make(map[string]*core.Framework, frameworks)
	for k := range frameworks {
		id := fmt.Sprintf("%s-%04d", masterID, k)
		tasks := make(map[string]*core.Task)
		task := func(n int, state mesos.TaskState) *core.Task {
			tid := fmt.Sprintf("task-%d-%d", k, n)
			statuses := []core.Status{}
			for _, st := range []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FINISHED} {
				statuses = append(statuses, core.Status{
					State: st, HasSource: true, Source: mesos.TaskStatus_SOURCE_EXECUTOR, Timestamp: 1795359925.026412 + float64(n)/1000,
					UUID: "0123456789abcdef", ExecutorID: tid, ContainerID: "7d35c001-399d-4c3a-8750-677ff59d8fb9",
					HasNetwork: true, IP: "127.0.0.1", ExecutorPID: 1234,
				})
				if st == state {
					break
				}
			}
			return &core.Task{
				ID: tid, Name: tid, FrameworkID: id, AgentID: ids[n%agents], State: state,
				StatusUpdateState: state, StatusUpdateUUID: "0123456789abcdef", Resources: one, Statuses: statuses,
			}
		}
		for n := range running / frameworks {
			t := task(n, mesos.TaskState_TASK_RUNNING)
			tasks[t.ID] = t
		}
		f := &core.Framework{
			ID:    id,
			Info:  &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: &id}, Name: new("f"), User: new("root"), Roles: []string{"role"}, Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}}},
			Roles: []string{"role"}, Active: true, Connected: true, RegisteredAt: now, Tasks: core.MapOf(tasks),
		}
		for n := range completed / frameworks {
			f.CompletedTasks = append(f.CompletedTasks, task(running+n, mesos.TaskState_TASK_FINISHED))
		}
		fm[id] = f
	}
	info := &mesos.MasterInfo{
		Id: new(masterID), Ip: proto.Uint32(16777343), Port: proto.Uint32(5050),
		Pid: new("master@127.0.0.1:5050"), Hostname: new("localhost"),
	}
	return &core.View{Serial: 1, Master: info, Agents: core.MapOf(am), Frameworks: core.MapOf(fm)},
		&Master{Version: &mesos.VersionInfo{Version: new("1.12.0")}, Info: info, Leader: info, Start: now, Elected: now}
}

func TestLargeStateIsValid(t *testing.T) {
	v, m := largeView(50, 12_000, 9_000)
	var state struct {
		Slaves     []json.RawMessage
		Frameworks []struct {
			Tasks     []json.RawMessage
			Completed []json.RawMessage `json:"completed_tasks"`
		}
	}
	if err := json.Unmarshal(State(v, m, nil).Bytes(), &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Slaves) != 50 || len(state.Frameworks) != 5 || len(state.Frameworks[0].Tasks) != 2400 || len(state.Frameworks[4].Completed) != 1800 {
		t.Errorf("got %d agents, %d frameworks", len(state.Slaves), len(state.Frameworks))
	}
	for _, f := range []Format{JSON, Protobuf} {
		body, _, err := Operator(f, v, m, master.Call_GET_STATE, nil)
		if err != nil {
			t.Fatal(err)
		}
		var r master.Response
		if err := unmarshal(f, body.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		tasks := r.GetGetState().GetGetTasks()
		if len(tasks.GetTasks()) != 12_000 || len(tasks.GetCompletedTasks()) != 9_000 || len(r.GetGetState().GetGetAgents().GetAgents()) != 50 {
			t.Errorf("format %d: got %d, %d tasks", f, len(tasks.GetTasks()), len(tasks.GetCompletedTasks()))
		}
	}
}

// The goal is 0.25 s for /state of 10,000 agents, 100,000 running and 100,000
// completed tasks, on two cores.
func BenchmarkState(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	b.SetBytes(int64(State(v, m, nil).Len()))
	for b.Loop() {
		State(v, m, nil)
	}
}

// The same with tasks as Mesos's own benchmark has them: one status, without a
// container (src/tests/master_benchmarks.cpp).
func BenchmarkStateBareTasks(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	bare := func(t *core.Task) { t.Statuses = []core.Status{{State: t.State, Timestamp: 1795359925.026412}} }
	for f := range v.Frameworks.Values() {
		for t := range f.Tasks.Values() {
			bare(t)
		}
		for _, t := range f.CompletedTasks {
			bare(t)
		}
	}
	b.SetBytes(int64(State(v, m, nil).Len()))
	for b.Loop() {
		State(v, m, nil)
	}
}

func BenchmarkGetState(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	for _, f := range []Format{JSON, Protobuf} {
		b.Run([]string{"json", "protobuf"}[f], func(b *testing.B) {
			for b.Loop() {
				body, _, _ := Operator(f, v, m, master.Call_GET_STATE, nil)
				b.SetBytes(int64(body.Len()))
			}
		})
	}
}
