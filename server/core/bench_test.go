package core

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// reports are what agents send when they come back to a new master, and what
// that master knows before.
func reports(tb testing.TB, agents, tasksPerAgent int) (Recovered, [][]byte) {
	tb.Helper()
	var rec Recovered
	framework := &mesos.FrameworkInfo{
		Id: &mesos.FrameworkID{Value: new("OLD-0000")}, User: new("u"), Name: new("f"),
		Roles: []string{"eng"}, Checkpoint: new(true), FailoverTimeout: new(1e6),
		Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
	}
	rec.Frameworks = []RecoveredFramework{{Info: framework}}
	messages := make([][]byte, agents)
	for i := range agents {
		m := benchAgent(i, tasksPerAgent, framework)
		rec.Agents = append(rec.Agents, RecoveredAgent{Info: m.AgentInfo})
		b, err := proto.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		messages[i] = b
	}
	return rec, messages
}

// loaded is a core with agents and tasks, as they report themselves after a
// failover of the master.
func loaded(tb testing.TB, agents, tasksPerAgent int) *Core {
	tb.Helper()
	rec, messages := reports(tb, agents, tasksPerAgent)
	return reregister(tb, rec, messages)
}

// reregister lets agents come back.
func reregister(tb testing.TB, rec Recovered, messages [][]byte) *Core {
	tb.Helper()
	c := New(testConfig(), rec, allocator.New(allocator.DefaultOptions()), epoch)
	for i, b := range messages {
		m := &clusterdv1.RegisterAgent{}
		if err := proto.Unmarshal(b, m); err != nil {
			tb.Fatal(err)
		}
		c.Handle(epoch.Add(time.Duration(i)*time.Microsecond), AgentMessage{
			Link: LinkID(i + 1), Message: &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: m}},
		})
	}
	if n := c.agents.Len(); n != len(messages) {
		tb.Fatalf("%d agents registered, want %d", n, len(messages))
	}
	return c
}

func benchAgent(i, tasks int, framework *mesos.FrameworkInfo) *clusterdv1.RegisterAgent {
	id := fmt.Sprintf("OLD-S%d", i)
	m := registerMessage(id, fmt.Sprintf("host%d", i), "cpus:64;mem:262144;disk:1000000;ports:[31000-32000]")
	m.Ip = new(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	m.AgentInfo.Attributes = []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new("r1")}}}
	m.Frameworks = []*mesos.FrameworkInfo{framework}
	for j := range tasks {
		task := fmt.Sprintf("task-%d-%d-5f1f2d7e-0c4d-4c47-9a4e", i, j)
		container := fmt.Sprintf("7d35c001-399d-4c3a-8750-%012d", i*1000+j)
		p := &mesos.Task{
			Name: new("a task"), TaskId: &mesos.TaskID{Value: &task}, FrameworkId: framework.Id,
			AgentId: m.AgentInfo.Id, State: mesos.TaskState_TASK_RUNNING.Enum(),
			Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)},
		}
		allocateTo("eng", p.Resources)
		for _, s := range []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING} {
			p.Statuses = append(p.Statuses, &mesos.TaskStatus{
				TaskId: p.TaskId, State: s.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), AgentId: p.AgentId,
				ExecutorId: &mesos.ExecutorID{Value: &task}, Timestamp: proto.Float64(1), Uuid: make([]byte, 16),
				ContainerStatus: &mesos.ContainerStatus{
					ContainerId: &mesos.ContainerID{Value: &container}, ExecutorPid: proto.Uint32(123),
					NetworkInfos: []*mesos.NetworkInfo{{IpAddresses: []*mesos.NetworkInfo_IPAddress{{
						Protocol: mesos.NetworkInfo_IPv4.Enum(), IpAddress: new("127.0.0.1"),
					}}}},
				},
			})
		}
		m.Tasks = append(m.Tasks, p)
	}
	return m
}

func liveBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory reports what an agent and a task cost, the allocator's and the
// view's share included.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := liveBytes()
		empty := loaded(b, 2000, 0)
		empty.View()
		withAgents := liveBytes()
		runtime.KeepAlive(empty)
		empty = nil
		before2 := liveBytes()
		full := loaded(b, 2000, 10)
		full.View()
		withTasks := liveBytes()
		runtime.KeepAlive(full)
		agent := float64(withAgents-before) / 2000
		b.ReportMetric(agent, "B/agent")
		b.ReportMetric((float64(withTasks-before2)-agent*2000)/20000, "B/task")
	}
}

// BenchmarkStatus measures a task's status update: two of them and the view that
// readers get after each.
func BenchmarkStatus(b *testing.B) {
	c := loaded(b, 1000, 10)
	c.View()
	task := "task-7-3-5f1f2d7e-0c4d-4c47-9a4e"
	link := LinkID(8)
	i := 0
	for b.Loop() {
		i++
		uuid := make([]byte, 16)
		uuid[0], uuid[1] = byte(i), byte(i>>8)
		c.Handle(epoch.Add(time.Second), AgentMessage{Link: link, Message: &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{
			UpdateTask: &clusterdv1.UpdateTask{
				FrameworkId: &mesos.FrameworkID{Value: new("OLD-0000")},
				Status: &mesos.TaskStatus{
					TaskId: &mesos.TaskID{Value: &task}, State: mesos.TaskState_TASK_RUNNING.Enum(), Timestamp: proto.Float64(1), Uuid: uuid,
				},
			},
		}}})
		c.View()
	}
}
