package core

import (
	"fmt"
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
			t.Labels = labels
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
// with its tasks, as the shell hands them to the core. decode-ms is the part of it that
// is spent in reading the messages.
func BenchmarkReregister(b *testing.B) {
	for _, size := range []struct{ agents, tasks int }{{2_000, 5}, {20_000, 5}, {2_000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.agents, size.tasks), func(b *testing.B) {
			rec, messages := returningAgents(b, size.agents, size.tasks)
			var decode time.Duration
			for b.Loop() {
				decode += comeBack(b, rec, messages)
			}
			b.ReportMetric(float64(decode.Milliseconds())/float64(b.N), "decode-ms/op")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(size.agents), "us/agent")
		})
	}
}

func comeBack(b *testing.B, rec Recovered, messages [][]byte) (decode time.Duration) {
	c := New(testConfig(), rec, allocator.New(allocator.DefaultOptions()), epoch)
	c.Handle(epoch, Subscribe{Request: 1, StreamID: "s", Call: &scheduler.Call{
		Type: scheduler.Call_SUBSCRIBE.Enum(), FrameworkId: rec.Frameworks[0].Info.Id,
		Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: proto.CloneOf(rec.Frameworks[0].Info)},
	}})
	for i, raw := range messages {
		began := time.Now()
		m := &clusterdv1.AgentMessage{}
		if err := proto.Unmarshal(raw, m); err != nil {
			b.Fatal(err)
		}
		decode += time.Since(began)
		c.Handle(epoch.Add(time.Duration(i)*50*time.Microsecond), AgentMessage{Link: LinkID(i + 1), Message: m})
	}
	if n := c.agents.Len(); n != len(messages) {
		b.Fatalf("%d agents registered, want %d", n, len(messages))
	}
	return decode
}
