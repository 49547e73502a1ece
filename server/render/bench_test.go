package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/authz"
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

// measure runs a rendering as those who serve it do: its memory is given back. The
// processor time is more to be trusted than the time where others work, too.
func measure(b *testing.B, f func() Body) {
	b.Helper()
	body := f()
	b.SetBytes(int64(body.Len()))
	body.Release()
	b.ReportAllocs()
	start := processorTime(b)
	for b.Loop() {
		body := f()
		body.Release()
	}
	b.ReportMetric(float64((processorTime(b)-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The goal is 0.25 s for /state of 10,000 agents, 100,000 running and 100,000
// completed tasks, on two cores.
func BenchmarkState(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	measure(b, func() Body { return State(v, m, nil) })
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
	measure(b, func() Body { return State(v, m, nil) })
}

// The same for one who sees all by rules that must be asked for each task.
func BenchmarkStateFiltered(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	acls, err := authz.Parse([]byte(`{"view_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["root"]}}, {"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]}`))
	if err != nil {
		b.Fatal(err)
	}
	who := acls.Viewer(&authz.Principal{Value: "p"})
	if who == nil {
		b.Fatal("sees everything")
	}
	measure(b, func() Body { return State(v, m, who) })
}

func BenchmarkGetState(b *testing.B) {
	v, m := largeView(10_000, 100_000, 100_000)
	for _, f := range []Format{JSON, Protobuf} {
		b.Run([]string{"json", "protobuf"}[f], func(b *testing.B) {
			measure(b, func() Body {
				body, _, _ := Operator(f, v, m, master.Call_GET_STATE, nil)
				return body
			})
		})
	}
}

// The goal is 5 ms for a page of 100 of 200,000 tasks.
func BenchmarkTasks(b *testing.B) {
	v, _ := largeView(10_000, 100_000, 100_000)
	for name, q := range map[string]TaskQuery{
		"newest": {Limit: 100}, "oldest": {Limit: 100, Ascending: true}, "page": {Limit: 100, Offset: 5000}, "all": {Limit: -1},
		"one": {Limit: 100, TaskID: "task-3-17"},
	} {
		starts := new(Starts)
		b.Run(name, func(b *testing.B) { measure(b, func() Body { return Tasks(v, q, nil, starts) }) })
	}
}

// The same while tasks change: from one view to the next all frameworks have, in a few
// of their tasks.
func BenchmarkTasksOfMovingCluster(b *testing.B) {
	v, _ := largeView(10_000, 100_000, 100_000)
	views := []*core.View{v, {Serial: 2, Agents: v.Agents}}
	frameworks := make(map[string]*core.Framework)
	for f := range v.Frameworks.Values() {
		tasks := make(map[string]*core.Task)
		for t := range f.Tasks.Values() {
			if len(tasks)%1000 == 0 {
				c := *t
				t = &c
			}
			tasks[t.ID] = t
		}
		frameworks[f.ID] = &core.Framework{
			ID: f.ID, Info: f.Info, Tasks: core.MapOf(tasks),
			CompletedTasks: append(slices.Clone(f.CompletedTasks[10:]), f.CompletedTasks[:10]...),
		}
	}
	views[1].Frameworks = core.MapOf(frameworks)
	var starts Starts
	n := 0
	measure(b, func() Body {
		n++
		return Tasks(views[n%2], TaskQuery{Limit: 100}, nil, &starts)
	})
}

// manyFrameworks is a cluster of 10,000 agents with 100 tasks for each of 1,000
// frameworks, in a role each.
func manyFrameworks() (*core.View, *Master) {
	v, m := largeView(10_000, 0, 0)
	one := resources.MustParse("cpus:0.5;mem:128")
	frameworks := make(map[string]*core.Framework)
	used := make(map[int]resources.Resources)
	for k := range 1000 {
		id, role := fmt.Sprintf("%s-%04d", masterID, k), fmt.Sprintf("team%d/role%d", k%50, k)
		tasks := make(map[string]*core.Task)
		for n := range 100 {
			at := (k*100 + n*101) % 10_000
			t := &core.Task{
				ID: fmt.Sprintf("t-%d-%d", k, n), FrameworkID: id, AgentID: fmt.Sprintf("%s-S%d", masterID, at),
				State: mesos.TaskState_TASK_RUNNING, Resources: one.Allocate(role),
			}
			tasks[t.ID] = t
			used[at] = used[at].Add(t.Resources)
		}
		frameworks[id] = &core.Framework{
			ID: id, Roles: []string{role}, Active: true, Connected: true, Tasks: core.MapOf(tasks),
			Info: &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: &id}, Name: new("f"), User: new("root"), Roles: []string{role}},
		}
	}
	agents := make(map[string]*core.Agent)
	for at := range 10_000 {
		a, _ := v.Agents.Get(fmt.Sprintf("%s-S%d", masterID, at))
		a.Used, a.Offered = used[at], resources.Resources{}
		role := fmt.Sprintf("team%d", at%50)
		a.Total = a.Total.Add(resources.MustFromProto([]*mesos.Resource{reservation(role)}))
		agents[a.ID] = a
	}
	v.Agents, v.Frameworks = core.MapOf(agents), core.MapOf(frameworks)
	return v, m
}

func BenchmarkManyFrameworks(b *testing.B) {
	v, m := manyFrameworks()
	b.Run("roles", func(b *testing.B) { measure(b, func() Body { return Roles(v, nil, nil) }) })
	b.Run("summary", func(b *testing.B) { measure(b, func() Body { return Summary(v, m, nil) }) })
	b.Run("state", func(b *testing.B) { measure(b, func() Body { return State(v, m, nil) }) })
	b.Run("get_agents", func(b *testing.B) {
		measure(b, func() Body {
			body, _, _ := Operator(JSON, v, m, master.Call_GET_AGENTS, nil)
			return body
		})
	})
}
