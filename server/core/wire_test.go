package core

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

func newTaskReader(frameworks ...string) *taskReader {
	r := &taskReader{wireReader: new(wireReader), agentID: "A-S0"}
	r.init()
	for _, id := range frameworks {
		r.frameworks = append(r.frameworks, &reportedFramework{info: &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: &id}}})
	}
	return r
}

// compareTasks wants both ways of reading a task to come to the same.
func compareTasks(short, long reportedTask) string {
	if (short.err == nil) != (long.err == nil) {
		return "one way refuses its resources, the other does not"
	}
	if short.named != long.named {
		return "one way sees an executor, the other does not"
	}
	if (short.Extra == nil) != (long.Extra == nil) {
		return "one way sees more than the other"
	}
	return cmp.Diff(long.Task, short.Task, protocmp.Transform(), cmp.AllowUnexported(Task{}),
		cmp.Comparer(func(a, b resources.Resources) bool { return a.Equal(b) }))
}

// drawTask makes tasks of all kinds, most of them usual.
func drawTask(t *rapid.T) *mesos.Task {
	chance := func(what string, of int) bool { return rapid.IntRange(1, of).Draw(t, what) == 1 }
	text := rapid.SampledFrom([]string{"", "t", "a-longer-name-than-the-others-have"})
	state := rapid.SampledFrom([]mesos.TaskState{mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FINISHED})
	id := text.Draw(t, "id")
	p := &mesos.Task{
		Name: new(text.Draw(t, "name")), TaskId: &mesos.TaskID{Value: &id}, FrameworkId: &mesos.FrameworkID{Value: new(text.Draw(t, "framework"))},
		AgentId: &mesos.AgentID{Value: new(rapid.SampledFrom([]string{"A-S0", "other"}).Draw(t, "agent"))}, State: state.Draw(t, "state").Enum(),
	}
	for range rapid.IntRange(0, 3).Draw(t, "resources") {
		r := scalar(rapid.SampledFrom([]string{"cpus", "mem"}).Draw(t, "resource"), float64(rapid.IntRange(-1, 5).Draw(t, "value")))
		if chance("allocated", 2) {
			r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: new("eng")}
		}
		if chance("old format", 8) {
			r.Role = new("eng")
		}
		p.Resources = append(p.Resources, r)
	}
	if chance("executor", 3) {
		p.ExecutorId = &mesos.ExecutorID{Value: new(text.Draw(t, "executor"))}
	}
	if chance("update", 2) {
		p.StatusUpdateState, p.StatusUpdateUuid = state.Draw(t, "update state").Enum(), make([]byte, rapid.SampledFrom([]int{0, 16}).Draw(t, "uuid"))
	}
	if chance("labels", 2) {
		p.Labels = &mesos.Labels{}
		for range rapid.IntRange(0, 3).Draw(t, "number of labels") {
			l := &mesos.Label{Key: new(text.Draw(t, "key"))}
			if !chance("no value", 4) {
				l.Value = new(text.Draw(t, "label"))
			}
			p.Labels.Labels = append(p.Labels.Labels, l)
		}
	}
	if chance("user", 4) {
		p.User = new(text.Draw(t, "user"))
	}
	if chance("health check", 10) {
		p.HealthCheck = &mesos.HealthCheck{DelaySeconds: new(1.0)}
	}
	if chance("limits", 10) {
		p.Limits = map[string]*mesos.Value_Scalar{"cpus": {Value: new(1.0)}}
	}
	for range rapid.IntRange(0, 3).Draw(t, "statuses") {
		p.Statuses = append(p.Statuses, drawStatus(t, p))
	}
	return p
}

func drawStatus(t *rapid.T, p *mesos.Task) *mesos.TaskStatus {
	chance := func(what string, of int) bool { return rapid.IntRange(1, of).Draw(t, what) == 1 }
	text := rapid.SampledFrom([]string{"", "x", "another, longer text"})
	s := &mesos.TaskStatus{TaskId: p.TaskId, State: p.State, AgentId: p.AgentId, Timestamp: new(rapid.Float64().Draw(t, "time"))}
	if chance("source", 2) {
		s.Source = mesos.TaskStatus_SOURCE_EXECUTOR.Enum()
	}
	if chance("reason", 2) {
		s.Reason = mesos.TaskStatus_REASON_COMMAND_EXECUTOR_FAILED.Enum()
	}
	if chance("message", 2) {
		s.Message = new(text.Draw(t, "text"))
	}
	if chance("data", 4) {
		s.Data = []byte("data")
	}
	if chance("uuid", 2) {
		s.Uuid = make([]byte, 16)
	}
	if chance("healthy", 3) {
		s.Healthy = new(rapid.Bool().Draw(t, "health"))
	}
	if chance("its executor", 2) {
		s.ExecutorId = &mesos.ExecutorID{Value: rapid.SampledFrom([]*string{p.TaskId.Value, new("e")}).Draw(t, "executor of it")}
	}
	if chance("unusual", 12) {
		s.UnreachableTime = &mesos.TimeInfo{Nanoseconds: new(int64(7))}
	}
	if chance("no container", 3) {
		return s
	}
	cs := &mesos.ContainerStatus{}
	s.ContainerStatus = cs
	if !chance("no container id", 8) {
		cs.ContainerId = &mesos.ContainerID{Value: new(text.Draw(t, "container"))}
		if chance("nested", 4) {
			cs.ContainerId.Parent = &mesos.ContainerID{Value: new(text.Draw(t, "parent"))}
			if chance("deeper", 4) {
				cs.ContainerId.Parent.Parent = &mesos.ContainerID{Value: new("top")}
			}
		}
	}
	if chance("pid", 2) {
		cs.ExecutorPid = new(uint32(rapid.IntRange(0, 2).Draw(t, "process")))
	}
	for range rapid.IntRange(0, 5).Draw(t, "networks") / 2 {
		n := &mesos.NetworkInfo{}
		for range rapid.IntRange(0, 5).Draw(t, "addresses") / 2 {
			a := &mesos.NetworkInfo_IPAddress{IpAddress: new(text.Draw(t, "ip"))}
			if !chance("no protocol", 4) {
				a.Protocol = rapid.SampledFrom([]mesos.NetworkInfo_Protocol{mesos.NetworkInfo_IPv4, mesos.NetworkInfo_IPv4, mesos.NetworkInfo_IPv6}).Draw(t, "protocol").Enum()
			}
			n.IpAddresses = append(n.IpAddresses, a)
		}
		if chance("named network", 8) {
			n.Name = new("net")
		}
		cs.NetworkInfos = append(cs.NetworkInfos, n)
	}
	return s
}

// TestTasksAreReadAlike reads tasks of all kinds both ways.
func TestTasksAreReadAlike(t *testing.T) {
	plain, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawTask(t)
		raw, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		r := newTaskReader("t")
		all++
		for range 2 { // the second time from memory
			if _, err := r.plainTask(raw); err == nil {
				plain++
			}
			short, err := r.task(raw)
			if err != nil {
				t.Fatalf("task %v: %v", p, err)
			}
			if d := compareTasks(short, reportedFromProto(p)); d != "" {
				t.Fatalf("task %v (-long way +short way):\n%s", p, d)
			}
		}
	})
	if plain == 0 || plain == 2*all {
		t.Errorf("%d of %d tasks were plain: one of the ways is not tested", plain, 2*all)
	}
}

// TestUsualTasksArePlain: if the tasks that agents really send took the long way nobody
// would see it but in the time that a failover takes.
func TestUsualTasksArePlain(t *testing.T) {
	fw := awareInfo("OLD-0000", true)
	m := benchAgent(0, 2, fw)
	m.Tasks[0].Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: new("k"), Value: new("v")}}}
	m.Tasks[0].StatusUpdateState, m.Tasks[0].StatusUpdateUuid = mesos.TaskState_TASK_RUNNING.Enum(), make([]byte, 16)
	for _, p := range m.Tasks {
		raw, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newTaskReader("OLD-0000").plainTask(raw); err != nil {
			t.Errorf("task %v: %v", p, err)
		}
	}
}

// FuzzTask: whatever the short way takes the long way takes too, for the same.
func FuzzTask(f *testing.F) {
	fw := awareInfo("OLD-0000", true)
	for _, p := range benchAgent(0, 2, fw).Tasks {
		raw, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		// Twice the same members, out of order.
		f.Add(append(append([]byte{}, raw...), raw...))
	}
	f.Add([]byte{0x0a, 0x01, 'x', 0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, raw []byte) {
		short, err := newTaskReader("OLD-0000").plainTask(raw)
		if err != nil {
			return
		}
		p := new(mesos.Task)
		if err := proto.Unmarshal(raw, p); err != nil {
			t.Fatalf("the short way takes what is no task: %v", err)
		}
		if d := compareTasks(short, reportedFromProto(p)); d != "" {
			t.Fatalf("%v (-long way +short way):\n%s", p, d)
		}
	})
}

// TestDecodeAgentMessage: nothing gets lost on the way, and what is no message is none.
func TestDecodeAgentMessage(t *testing.T) {
	fw := awareInfo("OLD-0000", true)
	reg := benchAgent(0, 3, fw)
	reg.ClusterId = new("c")
	reg.Executors = []*clusterdv1.AgentExecutor{{FrameworkId: fw.Id, ExecutorInfo: &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: new("e")}}}}
	register := &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: reg}}
	pong := pongMessage()
	raw := map[*clusterdv1.AgentMessage][]byte{}
	for _, m := range []*clusterdv1.AgentMessage{register, pong, {}} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		raw[m] = b
		got, err := DecodeAgentMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := proto.MarshalOptions{AllowPartial: true}.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		back := new(clusterdv1.AgentMessage)
		if err := proto.Unmarshal(again, back); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, back, protocmp.Transform()); d != "" {
			t.Errorf("decoded (-want +got):\n%s", d)
		}
	}
	got, err := DecodeAgentMessage(raw[register])
	if err != nil {
		t.Fatal(err)
	}
	if r := got.GetRegister(); len(r.Tasks)+len(r.Frameworks)+len(r.Capabilities) != 0 || r.AgentInfo != nil {
		t.Errorf("decoded too early: %v", r)
	}
	// The buffer is the link's, which uses it again.
	clear(raw[register])
	r := &registration{msg: got.GetRegister()}
	c := newHarness(t, testConfig(), Recovered{}).core
	if err := c.wire.read(r, c.knownInfo); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(reg.AgentInfo, r.msg.AgentInfo, protocmp.Transform()); d != "" {
		t.Errorf("agent info (-want +got):\n%s", d)
	}
	var capabilities []mesos.AgentInfo_Capability_Type
	for _, c := range reg.Capabilities {
		capabilities = append(capabilities, c.GetType())
	}
	if d := cmp.Diff(capabilities, r.capabilities); d != "" {
		t.Errorf("capabilities (-want +got):\n%s", d)
	}
	if len(r.tasks) != 3 || len(r.frameworks) != 1 || r.tasks[2].ID != reg.Tasks[2].TaskId.GetValue() {
		t.Errorf("read are %d frameworks and %d tasks", len(r.frameworks), len(r.tasks))
	}
	for name, b := range map[string][]byte{
		"cut short":                raw[pong][:1],
		"not protobuf":             []byte("\xff\xff\xff"),
		"a registration of nobody": {0x0a, 0x00},
		"a broken registration":    {0x0a, 0x02, 0x4a, 0x7f},
	} {
		if _, err := DecodeAgentMessage(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestBrokenReports: what cannot be read in a registration refuses the agent, and it may
// go on trying.
func TestBrokenReports(t *testing.T) {
	base, err := proto.Marshal(registerMessage("A-S0", "a0", "cpus:4"))
	if err != nil {
		t.Fatal(err)
	}
	for name, lazy := range map[string][]byte{
		"a task that is none":           protowire.AppendBytes(protowire.AppendTag(nil, fieldTasks, protowire.BytesType), []byte{0xff}),
		"an info without what it needs": nil,
		"a task without what it needs":  protowire.AppendBytes(protowire.AppendTag(nil, fieldTasks, protowire.BytesType), nil),
		"a framework that is none":      protowire.AppendBytes(protowire.AppendTag(nil, fieldFrameworks, protowire.BytesType), []byte{0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			body := append(append([]byte{}, base...), lazy...)
			if lazy == nil {
				m := registerMessage("A-S0", "a0", "cpus:4")
				m.AgentInfo.Hostname = nil
				if body, err = (proto.MarshalOptions{AllowPartial: true}).Marshal(m); err != nil {
					t.Fatal(err)
				}
			}
			m, err := DecodeAgentMessage(protowire.AppendBytes(protowire.AppendTag(nil, fieldRegister, protowire.BytesType), body))
			if err != nil {
				t.Fatal(err)
			}
			h := newHarness(t, testConfig(), Recovered{})
			h.agentSays(1, m)
			if d := cmp.Diff([]string{"refused, shutdown=false"}, h.told(1)); d != "" {
				t.Errorf("the agent is told (-want +got):\n%s", d)
			}
		})
	}
}

// TestMemoryOfReports is bounded, whatever agents say.
func TestMemoryOfReports(t *testing.T) {
	m := map[string]int{}
	for i := range 3 * maxAlike {
		remember(m, protowire.AppendVarint(nil, uint64(i)), i)
	}
	if len(m) > maxAlike {
		t.Errorf("%d entries, want at most %d", len(m), maxAlike)
	}
	clear(m)
	if remember(m, make([]byte, maxAlikeKey+1), 1); len(m) > 0 {
		t.Errorf("a key of %d bytes is kept", maxAlikeKey+1)
	}
	var s fields
	if err := s.once(64); !errors.Is(err, errNotPlain) {
		t.Errorf("field 64: %v", err)
	}
}
