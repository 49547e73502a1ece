package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
)

func nestedID() *mesos.ContainerID {
	return &mesos.ContainerID{Value: new("n"), Parent: &mesos.ContainerID{Value: new("p"), Parent: &mesos.ContainerID{Value: new("r")}}}
}

func compareAgentCall(t *testing.T, b []byte, want *agentv1.Call) {
	t.Helper()
	got := &agentv1.Call{}
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}
}

// TestLaunchContainer: all that a task says of its container arrives, and what the executor
// adds.
func TestLaunchContainer(t *testing.T) {
	disk := func(path string, mode mesos.Volume_Mode) *mesos.Resource {
		return &mesos.Resource{
			Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(1.0)},
			Disk: &mesos.Resource_DiskInfo{Volume: &mesos.Volume{ContainerPath: &path, Mode: mode.Enum()}},
		}
	}
	volume := func(path string, mode mesos.Volume_Mode) *mesos.Volume {
		return &mesos.Volume{ContainerPath: &path, Mode: mode.Enum(), Source: &mesos.Volume_Source{
			Type:        mesos.Volume_Source_SANDBOX_PATH.Enum(),
			SandboxPath: &mesos.Volume_Source_SandboxPath{Type: mesos.Volume_Source_SandboxPath_PARENT.Enum(), Path: &path},
		}}
	}
	extra := []Variable{{"MESOS_CONTAINER_IP", "::1"}, {"E", ""}}
	added := []*mesos.Environment_Variable{{Name: new("MESOS_CONTAINER_IP"), Value: new("::1")}, {Name: new("E"), Value: new("")}}
	for _, c := range []struct {
		name string
		task func(*mesos.TaskInfo)
		want func(*agentv1.Call_LaunchContainer)
		nets bool
	}{
		{"plain", func(*mesos.TaskInfo) {}, func(*agentv1.Call_LaunchContainer) {}, false},
		{"no command", func(i *mesos.TaskInfo) { i.Command = nil }, func(*agentv1.Call_LaunchContainer) {}, false},
		{"container", func(i *mesos.TaskInfo) {
			i.Container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Hostname: new("h"), NetworkInfos: []*mesos.NetworkInfo{{Name: new("n")}}}
		}, func(*agentv1.Call_LaunchContainer) {}, true},
		{"disks", func(i *mesos.TaskInfo) {
			i.Resources = append(i.Resources, disk("a/b", mesos.Volume_RO), disk("c", mesos.Volume_RW))
		}, func(l *agentv1.Call_LaunchContainer) {
			l.Container = &mesos.ContainerInfo{
				Type:    mesos.ContainerInfo_MESOS.Enum(),
				Volumes: []*mesos.Volume{volume("a/b", mesos.Volume_RO), volume("c", mesos.Volume_RW)},
			}
		}, false},
		{"disk and volume", func(i *mesos.TaskInfo) {
			i.Resources = append(i.Resources, disk("a", mesos.Volume_RW))
			i.Container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Volumes: []*mesos.Volume{{ContainerPath: new("v"), HostPath: new("/h"), Mode: mesos.Volume_RO.Enum()}}}
		}, func(l *agentv1.Call_LaunchContainer) {
			l.Container = proto.CloneOf(l.Container)
			l.Container.Volumes = append(l.Container.Volumes, volume("a", mesos.Volume_RW))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			info := taskInfo()
			c.task(info)
			task, err := DecodeTask(marshal(t, info))
			if err != nil {
				t.Fatal(err)
			}
			if task.Networks != c.nets {
				t.Errorf("networks: got %v", task.Networks)
			}
			want := &agentv1.Call_LaunchContainer{
				ContainerId: nestedID(), Command: proto.CloneOf(info.GetCommand()), Resources: info.GetResources(),
				Container: info.Container, Limits: info.GetLimits(),
			}
			if want.Command == nil {
				want.Command = &mesos.CommandInfo{Environment: &mesos.Environment{}}
			}
			want.Command.Environment.Variables = append(want.Command.GetEnvironment().GetVariables(), added...)
			c.want(want)
			id := NestedID("n", NestedID("p", marshal(t, &mesos.ContainerID{Value: new("r")})))
			for range 2 { // it takes nothing from the task that it needs again
				compareAgentCall(t, LaunchContainer(id, task, extra...), &agentv1.Call{Type: agentv1.Call_LAUNCH_CONTAINER.Enum(), LaunchContainer: want})
			}
		})
	}
}

// TestContainerCalls compares the other calls with the contract.
func TestContainerCalls(t *testing.T) {
	id := marshal(t, nestedID())
	if v, err := IDValue(id); v != "n" || err != nil {
		t.Errorf("value: got %q, %v", v, err)
	}
	compareAgentCall(t, WaitContainer(id), &agentv1.Call{
		Type: agentv1.Call_WAIT_NESTED_CONTAINER.Enum(), WaitNestedContainer: &agentv1.Call_WaitNestedContainer{ContainerId: nestedID()},
	})
	compareAgentCall(t, KillContainer(id, 15), &agentv1.Call{
		Type: agentv1.Call_KILL_NESTED_CONTAINER.Enum(), KillNestedContainer: &agentv1.Call_KillNestedContainer{ContainerId: nestedID(), Signal: new(int32(15))},
	})
	compareAgentCall(t, RemoveContainer(id), &agentv1.Call{
		Type: agentv1.Call_REMOVE_NESTED_CONTAINER.Enum(), RemoveNestedContainer: &agentv1.Call_RemoveNestedContainer{ContainerId: nestedID()},
	})
	info := taskInfo().GetCommand()
	task, err := DecodeTask(marshal(t, taskInfo()))
	if err != nil {
		t.Fatal(err)
	}
	compareAgentCall(t, LaunchSession(id, task.Command), &agentv1.Call{
		Type:                         agentv1.Call_LAUNCH_NESTED_CONTAINER_SESSION.Enum(),
		LaunchNestedContainerSession: &agentv1.Call_LaunchNestedContainerSession{ContainerId: nestedID(), Command: info},
	})
}

// TestDecodeEnded compares with the contract how a container's end is read.
func TestDecodeEnded(t *testing.T) {
	limitation := &mesos.TaskResourceLimitation{Resources: taskInfo().GetResources()}
	for _, c := range []struct {
		in   *agentv1.Response_WaitNestedContainer
		want Ended
	}{
		{&agentv1.Response_WaitNestedContainer{}, Ended{Reason: NoReason}},
		{&agentv1.Response_WaitNestedContainer{ExitStatus: new(int32(9))}, Ended{StatusKnown: true, Status: 9, Reason: NoReason}},
		{
			&agentv1.Response_WaitNestedContainer{
				State: mesos.TaskState_TASK_FAILED.Enum(), Reason: mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY.Enum(),
				Limitation: limitation, Message: new("m"),
			},
			Ended{HasState: true, State: TaskFailed, Reason: Reason(mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY), Limitation: marshal(t, limitation), Message: "m"},
		},
	} {
		got, err := DecodeEnded(marshal(t, &agentv1.Response{Type: agentv1.Response_WAIT_NESTED_CONTAINER.Enum(), WaitNestedContainer: c.in}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&c.want, got); diff != "" {
			t.Errorf("end (-want +got):\n%s", diff)
		}
	}
	for _, c := range []struct {
		in   *agentv1.ProcessIO
		want string
	}{
		{&agentv1.ProcessIO{Type: agentv1.ProcessIO_DATA.Enum(), Data: &agentv1.ProcessIO_Data{Type: agentv1.ProcessIO_Data_STDERR.Enum(), Data: []byte("x")}}, "x"},
		{&agentv1.ProcessIO{Type: agentv1.ProcessIO_CONTROL.Enum(), Control: &agentv1.ProcessIO_Control{Type: agentv1.ProcessIO_Control_HEARTBEAT.Enum(), Heartbeat: &agentv1.ProcessIO_Control_Heartbeat{Interval: &mesos.DurationInfo{Nanoseconds: new(int64(1))}}}}, ""},
	} {
		if got, err := Output(marshal(t, c.in)); string(got) != c.want || err != nil {
			t.Errorf("output: got %q, %v, want %q", got, err, c.want)
		}
	}
}
