package wire

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/executor"
)

func taskInfo() *mesos.TaskInfo {
	command := &mesos.CommandInfo{
		Value: new("echo hi"), Shell: new(true), User: new("u"),
		Arguments: []string{"a", "", "c d"},
		Uris:      []*mesos.CommandInfo_URI{{Value: new("http://x/y")}},
		Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{
			{Name: new("A"), Value: new("1")},
			{Name: new("S"), Type: mesos.Environment_Variable_SECRET.Enum(), Secret: &mesos.Secret{Type: mesos.Secret_VALUE.Enum()}},
			{Name: new("B"), Value: new(""), Type: mesos.Environment_Variable_VALUE.Enum()},
		}},
	}
	return &mesos.TaskInfo{
		Name: new("name"), TaskId: &mesos.TaskID{Value: new("t1")},
		AgentId: &mesos.AgentID{Value: new("a1")},
		Resources: []*mesos.Resource{
			{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(1)}, AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("eng/dev")}},
			{Name: new("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(1)}, AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("other")}},
		},
		Command:           command,
		KillPolicy:        &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(5e9)}},
		MaxCompletionTime: &mesos.DurationInfo{Nanoseconds: proto.Int64(7e9)},
		HealthCheck: &mesos.HealthCheck{
			DelaySeconds: new(0.5), IntervalSeconds: proto.Float64(0), ConsecutiveFailures: proto.Uint32(9), GracePeriodSeconds: new(2.5),
			Type: mesos.HealthCheck_HTTP.Enum(),
			Http: &mesos.HealthCheck_HTTPCheckInfo{Protocol: mesos.NetworkInfo_IPv6.Enum(), Scheme: new("https"), Port: proto.Uint32(8443), Path: new("/h"), Statuses: []uint32{200, 201}},
		},
		Check: &mesos.CheckInfo{
			Type: mesos.CheckInfo_COMMAND.Enum(), TimeoutSeconds: proto.Float64(1),
			Command: &mesos.CheckInfo_Command{Command: &mesos.CommandInfo{Value: new("true"), Shell: new(false)}},
		},
		Limits: map[string]*mesos.Value_Scalar{"cpus": {Value: proto.Float64(2)}},
		Data:   []byte{1, 2, 3},
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeTask(t *testing.T) {
	info := taskInfo()
	raw := marshal(t, info)
	got, err := DecodeTask(raw)
	if err != nil {
		t.Fatal(err)
	}
	grace := int64(5e9)
	want := &Task{
		Raw: raw, ID: "t1", Role: "eng/dev", Grace: &grace, MaxCompletion: 7e9,
		Command: &Command{Raw: marshal(t, info.GetCommand()), Shell: true, HasValue: true, Value: "echo hi", Arguments: []string{"a", "", "c d"}, Env: []Variable{{"A", "1"}, {"B", ""}}},
		HealthCheck: &Check{
			Type: CheckHTTP, Delay: 0.5, Interval: 0, Timeout: 20, Failures: 9, GracePeriod: 2.5,
			Scheme: "https", Port: 8443, Path: "/h", IPv6: true,
		},
		Check: &Check{
			Type: CheckCommand, Delay: 15, Interval: 10, Timeout: 1, Failures: 3, GracePeriod: 10,
			Command: &Command{Raw: marshal(t, info.GetCheck().GetCommand().GetCommand()), HasValue: true, Value: "true"},
		},
		Resources: [][]byte{marshal(t, info.GetResources()[0]), marshal(t, info.GetResources()[1])},
		Limits:    [][]byte{marshal(t, &agentv1.Call_LaunchContainer{ContainerId: &mesos.ContainerID{Value: new("")}, Limits: info.GetLimits()})[6:]},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
}

// TestDefaults compares the defaults kept here with those of the contract.
func TestDefaults(t *testing.T) {
	task, err := DecodeTask(marshal(t, &mesos.TaskInfo{
		Name: new("n"), TaskId: &mesos.TaskID{Value: new("t")}, AgentId: &mesos.AgentID{Value: new("a")},
		Command: &mesos.CommandInfo{}, HealthCheck: &mesos.HealthCheck{}, Check: &mesos.CheckInfo{},
	}))
	if err != nil {
		t.Fatal(err)
	}
	hc, c := &mesos.HealthCheck{}, &mesos.CheckInfo{}
	want := Check{
		Delay: hc.GetDelaySeconds(), Interval: hc.GetIntervalSeconds(), Timeout: hc.GetTimeoutSeconds(),
		Failures: hc.GetConsecutiveFailures(), GracePeriod: hc.GetGracePeriodSeconds(),
	}
	if diff := cmp.Diff(&want, task.HealthCheck); diff != "" {
		t.Errorf("health check (-want +got):\n%s", diff)
	}
	want.Delay, want.Interval, want.Timeout = c.GetDelaySeconds(), c.GetIntervalSeconds(), c.GetTimeoutSeconds()
	if diff := cmp.Diff(&want, task.Check); diff != "" {
		t.Errorf("check (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&Command{Shell: (&mesos.CommandInfo{}).GetShell()}, task.Command); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
}

func TestDecodeCheckTypes(t *testing.T) {
	for _, c := range []struct {
		name string
		info *mesos.TaskInfo
		want Check
	}{
		{"http", &mesos.TaskInfo{Check: &mesos.CheckInfo{Type: mesos.CheckInfo_HTTP.Enum(), Http: &mesos.CheckInfo_Http{Port: proto.Uint32(80), Path: new("/x")}}}, Check{Type: CheckHTTP, Port: 80, Path: "/x"}},
		{"tcp", &mesos.TaskInfo{Check: &mesos.CheckInfo{Type: mesos.CheckInfo_TCP.Enum(), Tcp: &mesos.CheckInfo_Tcp{Port: proto.Uint32(81)}}}, Check{Type: CheckTCP, Port: 81}},
		{"health tcp", &mesos.TaskInfo{HealthCheck: &mesos.HealthCheck{Type: mesos.HealthCheck_TCP.Enum(), Tcp: &mesos.HealthCheck_TCPCheckInfo{Port: proto.Uint32(82), Protocol: mesos.NetworkInfo_IPv6.Enum()}}}, Check{Type: CheckTCP, Port: 82, IPv6: true}},
		{"health command", &mesos.TaskInfo{HealthCheck: &mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND.Enum(), Command: &mesos.CommandInfo{Value: new("x")}}}, Check{Type: CheckCommand, Command: &Command{Raw: []byte("\x1a\x01x"), Shell: true, HasValue: true, Value: "x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(c.info)
			if err != nil {
				t.Fatal(err)
			}
			task, err := DecodeTask(b)
			if err != nil {
				t.Fatal(err)
			}
			got := task.Check
			if got == nil {
				got = task.HealthCheck
			}
			c.want.Delay, c.want.Interval, c.want.Timeout, c.want.Failures, c.want.GracePeriod = 15, 10, 20, 3, 10
			if diff := cmp.Diff(&c.want, got); diff != "" {
				t.Errorf("check (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeEvent(t *testing.T) {
	info := taskInfo()
	task, err := DecodeTask(marshal(t, info))
	if err != nil {
		t.Fatal(err)
	}
	id := &mesos.TaskID{Value: new("t1")}
	framework := &mesos.FrameworkInfo{User: new("u"), Name: new("n"), Capabilities: []*mesos.FrameworkInfo_Capability{
		{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()}, {Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE.Enum()},
	}}
	subscribed := &executor.Event_Subscribed{
		ExecutorInfo:  &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: new("e")}},
		FrameworkInfo: framework, AgentInfo: &mesos.AgentInfo{Hostname: new("h")},
	}
	plain := proto.Clone(subscribed).(*executor.Event_Subscribed)
	plain.FrameworkInfo.Capabilities = plain.FrameworkInfo.Capabilities[:1]
	plain.ContainerId = &mesos.ContainerID{Value: new("c")}
	grace := int64(0)
	for _, c := range []struct {
		name string
		in   *executor.Event
		want *Event
	}{
		{"subscribed", &executor.Event{Type: executor.Event_SUBSCRIBED.Enum(), Subscribed: subscribed}, &Event{Type: EventSubscribed, TaskKilling: true, PartitionAware: true}},
		{"subscribed without killing", &executor.Event{Type: executor.Event_SUBSCRIBED.Enum(), Subscribed: plain}, &Event{Type: EventSubscribed, PartitionAware: true, ContainerID: []byte("\n\x01c")}},
		{"launch", &executor.Event{Type: executor.Event_LAUNCH.Enum(), Launch: &executor.Event_Launch{Task: info}}, &Event{Type: EventLaunch, Task: task}},
		{"kill", &executor.Event{Type: executor.Event_KILL.Enum(), Kill: &executor.Event_Kill{TaskId: id}}, &Event{Type: EventKill, TaskID: "t1"}},
		{"kill now", &executor.Event{Type: executor.Event_KILL.Enum(), Kill: &executor.Event_Kill{TaskId: id, KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(0)}}}}, &Event{Type: EventKill, TaskID: "t1", Grace: &grace}},
		{"kill with empty policy", &executor.Event{Type: executor.Event_KILL.Enum(), Kill: &executor.Event_Kill{TaskId: id, KillPolicy: &mesos.KillPolicy{}}}, &Event{Type: EventKill, TaskID: "t1"}},
		{"acknowledged", &executor.Event{Type: executor.Event_ACKNOWLEDGED.Enum(), Acknowledged: &executor.Event_Acknowledged{TaskId: id, Uuid: []byte{0, 1}}}, &Event{Type: EventAcknowledged, TaskID: "t1", UUID: []byte{0, 1}}},
		{"error", &executor.Event{Type: executor.Event_ERROR.Enum(), Error: &executor.Event_Error{Message: new("m")}}, &Event{Type: EventError, Message: "m"}},
		{"message", &executor.Event{Type: executor.Event_MESSAGE.Enum(), Message: &executor.Event_Message{Data: []byte("d")}}, &Event{Type: EventMessage}},
		{"shutdown", &executor.Event{Type: executor.Event_SHUTDOWN.Enum()}, &Event{Type: EventShutdown}},
		{"empty launch group", &executor.Event{Type: executor.Event_LAUNCH_GROUP.Enum()}, &Event{Type: EventLaunchGroup}},
		{"launch group", &executor.Event{Type: executor.Event_LAUNCH_GROUP.Enum(), LaunchGroup: &executor.Event_LaunchGroup{TaskGroup: &mesos.TaskGroupInfo{Tasks: []*mesos.TaskInfo{info, info}}}}, &Event{Type: EventLaunchGroup, Group: []*Task{task, task}}},
		{"heartbeat", &executor.Event{Type: executor.Event_HEARTBEAT.Enum()}, &Event{Type: EventHeartbeat}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(c.in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeEvent(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	b := marshal(t, &executor.Event{Type: executor.Event_LAUNCH.Enum(), Launch: &executor.Event_Launch{Task: taskInfo()}})
	for n := range b {
		// Some prefixes are whole messages; none may be more than that.
		if _, err := DecodeEvent(b[:n]); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("first %d bytes: got %v", n, err)
		}
	}
	if _, err := DecodeEvent([]byte{0xff}); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want %v", err, ErrMalformed)
	}
}

func TestEncode(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name string
		in   Status
		want *mesos.TaskStatus
	}{
		{"bare", Status{State: TaskStarting, Reason: NoReason}, &mesos.TaskStatus{State: mesos.TaskState_TASK_STARTING.Enum()}},
		{
			"full",
			Status{State: TaskFailed, Reason: ReasonMaxCompletionTime, Message: "m", Healthy: &yes, Check: &CheckStatus{Type: CheckHTTP, Has: true, Value: 404}},
			&mesos.TaskStatus{
				State: mesos.TaskState_TASK_FAILED.Enum(), Reason: mesos.TaskStatus_REASON_MAX_COMPLETION_TIME_REACHED.Enum(), Message: new("m"), Healthy: new(true),
				CheckStatus: &mesos.CheckStatusInfo{Type: mesos.CheckInfo_HTTP.Enum(), Http: &mesos.CheckStatusInfo_Http{StatusCode: proto.Uint32(404)}},
			},
		},
		{
			"no result yet",
			Status{State: TaskKilling, Reason: ReasonTaskCheckUpdated, Healthy: new(bool), Check: &CheckStatus{Type: CheckCommand}},
			&mesos.TaskStatus{
				State: mesos.TaskState_TASK_KILLING.Enum(), Reason: mesos.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED.Enum(), Healthy: new(false),
				CheckStatus: &mesos.CheckStatusInfo{Type: mesos.CheckInfo_COMMAND.Enum(), Command: &mesos.CheckStatusInfo_Command{}},
			},
		},
		{
			"of a pod",
			Status{State: TaskDropped, Reason: NoReason, ContainerID: NestedID("n", NestedID("p", marshal(t, &mesos.ContainerID{Value: new("r")}))), Limitation: marshal(t, &mesos.TaskResourceLimitation{Resources: taskInfo().GetResources()})},
			&mesos.TaskStatus{
				State: mesos.TaskState_TASK_DROPPED.Enum(), Limitation: &mesos.TaskResourceLimitation{Resources: taskInfo().GetResources()},
				ContainerStatus: &mesos.ContainerStatus{ContainerId: nestedID()},
			},
		},
		{
			"in a network",
			Status{
				State: TaskRunning, Reason: NoReason, Data: []byte("[{}]"), Addresses: []string{"fd00::2", "172.17.0.2"},
				Container: marshal(t, &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum(), Hostname: new("h"), NetworkInfos: []*mesos.NetworkInfo{
					{Name: new("n"), Groups: []string{"g"}, IpAddresses: []*mesos.NetworkInfo_IPAddress{{IpAddress: new("10.0.0.1")}}}, {Name: new("other")},
				}}),
			},
			&mesos.TaskStatus{
				State: mesos.TaskState_TASK_RUNNING.Enum(), Data: []byte("[{}]"),
				ContainerStatus: &mesos.ContainerStatus{NetworkInfos: []*mesos.NetworkInfo{{
					Name: new("n"), Groups: []string{"g"},
					IpAddresses: []*mesos.NetworkInfo_IPAddress{{IpAddress: new("172.17.0.2")}, {IpAddress: new("fd00::2"), Protocol: mesos.NetworkInfo_IPv6.Enum()}},
				}}},
			},
		},
		{
			"tcp",
			Status{State: TaskKilled, Reason: ReasonHealthStatusUpdated, Check: &CheckStatus{Type: CheckTCP, Has: true, Value: 0}},
			&mesos.TaskStatus{
				State: mesos.TaskState_TASK_KILLED.Enum(), Reason: mesos.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED.Enum(),
				CheckStatus: &mesos.CheckStatusInfo{Type: mesos.CheckInfo_TCP.Enum(), Tcp: &mesos.CheckStatusInfo_Tcp{Succeeded: new(false)}},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.TaskID, c.in.Executor, c.in.UUID, c.in.Timestamp = "t", "e", []byte{9, 8}, 1.5
			c.want.TaskId, c.want.ExecutorId = &mesos.TaskID{Value: new("t")}, &mesos.ExecutorID{Value: new("e")}
			c.want.Uuid, c.want.Timestamp, c.want.Source = []byte{9, 8}, new(1.5), mesos.TaskStatus_SOURCE_EXECUTOR.Enum()
			status := EncodeStatus(&c.in)
			compareCall(t, Update("f", "e", status), &executor.Call{
				Type: executor.Call_UPDATE.Enum(), Update: &executor.Call_Update{Status: c.want},
			})
			compareCall(t, Subscribe("f", "e", [][]byte{marshal(t, taskInfo())}, [][]byte{status, status}), &executor.Call{
				Type: executor.Call_SUBSCRIBE.Enum(), Subscribe: &executor.Call_Subscribe{
					UnacknowledgedTasks:   []*mesos.TaskInfo{taskInfo()},
					UnacknowledgedUpdates: []*executor.Call_Update{{Status: c.want}, {Status: c.want}},
				},
			})
		})
	}
	compareCall(t, Heartbeat("f", "e"), &executor.Call{Type: executor.Call_HEARTBEAT.Enum()})
	compareCall(t, Subscribe("f", "e", nil, nil), &executor.Call{Type: executor.Call_SUBSCRIBE.Enum(), Subscribe: &executor.Call_Subscribe{}})
}

func compareCall(t *testing.T, b []byte, want *executor.Call) {
	t.Helper()
	want.FrameworkId, want.ExecutorId = &mesos.FrameworkID{Value: new("f")}, &mesos.ExecutorID{Value: new("e")}
	got := &executor.Call{}
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}
}

// TestNumbers compares the numbers kept here with the contract's.
func TestNumbers(t *testing.T) {
	for name, c := range map[string][2]int32{
		"TASK_KILLING_STATE": {capabilityTaskKilling, int32(mesos.FrameworkInfo_Capability_TASK_KILLING_STATE)},
		"SOURCE_EXECUTOR":    {sourceExecutor, int32(mesos.TaskStatus_SOURCE_EXECUTOR)},
		"RUNNING":            {int32(TaskRunning), int32(mesos.TaskState_TASK_RUNNING)},
		"FINISHED":           {int32(TaskFinished), int32(mesos.TaskState_TASK_FINISHED)},
		"COMMAND":            {int32(CheckCommand), int32(mesos.HealthCheck_COMMAND)},
		"HTTP":               {int32(CheckHTTP), int32(mesos.HealthCheck_HTTP)},
		"TCP":                {int32(CheckTCP), int32(mesos.HealthCheck_TCP)},
		"PARTITION_AWARE":    {capabilityPartitionAware, int32(mesos.FrameworkInfo_Capability_PARTITION_AWARE)},
		"LOST":               {int32(TaskLost), int32(mesos.TaskState_TASK_LOST)},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: got %d, want %d", name, c[0], c[1])
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	b, err := proto.Marshal(&executor.Event{Type: executor.Event_LAUNCH.Enum(), Launch: &executor.Event_Launch{Task: taskInfo()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeEvent(b)
		if err != nil {
			return
		}
		// What the generated decoder takes must be read the same.
		var want executor.Event
		if proto.Unmarshal(b, &want) != nil || want.Launch == nil || got.Task == nil {
			return
		}
		if id := want.GetLaunch().GetTask().GetTaskId().GetValue(); id != got.Task.ID {
			t.Errorf("task id: got %q, want %q", got.Task.ID, id)
		}
	})
}
