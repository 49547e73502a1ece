package core

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// returningAgents are what the agents of a cluster send to a new master: each with tasks of
// ten labels, of ten frameworks, one of which the master has a stream of.
func returningAgents(b *testing.B, agents, tasks int) (Recovered, [][]byte) {
	b.Helper()
	labels := &mesos.Labels{}
	for i := range 10 {
		labels.Labels = append(labels.Labels, &mesos.Label{Key: new(fmt.Sprintf("label-%d", i)), Value: new(fmt.Sprintf("value-%d", i))})
	}
	var rec Recovered
	for i := range 10 {
		rec.Frameworks = append(rec.Frameworks, RecoveredFramework{Info: &mesos.FrameworkInfo{
			Id: &mesos.FrameworkID{Value: new(fmt.Sprintf("OLD-%04d", i))}, User: new("u"), Name: new(fmt.Sprintf("f%d", i)),
			Roles: []string{fmt.Sprintf("role-%d", i)}, Checkpoint: new(true), FailoverTimeout: new(1e6),
			Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
		}})
	}
	messages := make([][]byte, agents)
	for i := range agents {
		m := benchAgent(i, 0, rec.Frameworks[0].Info)
		m.Frameworks = nil
		for j := range tasks {
			fw := rec.Frameworks[(i+j)%10].Info
			one := benchAgent(i, 1, fw)
			if j < 10 {
				m.Frameworks = append(m.Frameworks, fw)
			}
			t := one.Tasks[0]
			t.TaskId.Value = new(fmt.Sprintf("task-%d-%d-5f1f2d7e-0c4d-4c47-9a4e", i, j))
			t.Labels = proto.CloneOf(labels)
			t.Labels.Labels[0].Value = new(fmt.Sprintf("instance-%d-%d", i, j)) // no two tasks have the same
			for _, r := range t.Resources {
				r.AllocationInfo.Role = &fw.Roles[0]
			}
			m.Tasks = append(m.Tasks, t)
		}
		rec.Agents = append(rec.Agents, RecoveredAgent{Info: proto.CloneOf(m.AgentInfo)})
		raw, err := proto.Marshal(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: m}})
		if err != nil {
			b.Fatal(err)
		}
		messages[i] = raw
	}
	return rec, messages
}

// BenchmarkReregister is a failover of the master: all agents come back at once, each
// with its tasks, as the shell hands them to the core. cpu-ms is the work of it in all,
// decode-cpu-ms the part that is spent in decoding the messages.
func BenchmarkReregister(b *testing.B) {
	for _, size := range []struct{ agents, tasks int }{{2_000, 5}, {20_000, 5}, {2_000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.agents, size.tasks), func(b *testing.B) {
			rec, messages := returningAgents(b, size.agents, size.tasks)
			before := cpuTime(b)
			for b.Loop() {
				comeBack(b, rec, messages)
			}
			b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
			before = cpuTime(b)
			for range b.N {
				for _, raw := range messages {
					if _, err := DecodeAgentMessage(raw); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "decode-cpu-ms/op")
		})
	}
}

// cpuTime is what this process has used so far, collecting garbage included. Other than
// the time on the clock it says something on a busy machine, too.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func comeBack(b *testing.B, rec Recovered, messages [][]byte) {
	b.Helper()
	c := New(testConfig(), rec, allocator.New(allocator.DefaultOptions()), epoch)
	c.Handle(epoch, Subscribe{Request: 1, StreamID: "s", Call: &scheduler.Call{
		Type: scheduler.Call_SUBSCRIBE.Enum(), FrameworkId: rec.Frameworks[0].Info.Id,
		Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: proto.CloneOf(rec.Frameworks[0].Info)},
	}})
	for i, raw := range messages {
		m, err := DecodeAgentMessage(raw)
		if err != nil {
			b.Fatal(err)
		}
		now := epoch.Add(time.Duration(i) * 50 * time.Microsecond)
		c.Handle(now, AgentMessage{Link: LinkID(i + 1), Message: m})
		if i%256 == 255 {
			c.Handle(now, Tick{}) // so many the shell takes at a time
		}
	}
	if n := c.agents.Len(); n != len(messages) {
		b.Fatalf("%d agents registered, want %d", n, len(messages))
	}
}
