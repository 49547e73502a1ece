package mesosjson_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
)

// manyTasks is the answer to GET_TASKS of a master with n running tasks.
func manyTasks(n int) *master.Response {
	scalar := func(name string, v float64) *mesos.Resource {
		return &mesos.Resource{
			Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v},
			AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("engineering/batch")},
		}
	}
	get := &master.Response_GetTasks{}
	for i := range n {
		id := &mesos.TaskID{Value: new(fmt.Sprintf("service.%d.3f1c8a52-0d7b-4e6a-9d5f-%012d", i%97, i))}
		agent := &mesos.AgentID{Value: new(fmt.Sprintf("87b62806-7648-48b9-adfb-e17ef857b670-S%d", i%1000))}
		status := func(state mesos.TaskState) *mesos.TaskStatus {
			return &mesos.TaskStatus{
				TaskId: id, State: state.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), AgentId: agent,
				ExecutorId: &mesos.ExecutorID{Value: id.Value}, Timestamp: new(1795359925.026412 + float64(i)),
				Uuid: []byte("0123456789abcdef"),
				ContainerStatus: &mesos.ContainerStatus{
					ContainerId: &mesos.ContainerID{Value: new("7d35c001-399d-4c3a-8750-677ff59d8fb9")},
					NetworkInfos: []*mesos.NetworkInfo{{IpAddresses: []*mesos.NetworkInfo_IPAddress{{
						Protocol: mesos.NetworkInfo_IPv4.Enum(), IpAddress: new("10.0.0.17"),
					}}}},
				},
			}
		}
		get.Tasks = append(get.Tasks, &mesos.Task{
			Name: new(fmt.Sprintf("service.%d", i%97)), TaskId: id, AgentId: agent,
			FrameworkId: &mesos.FrameworkID{Value: new("87b62806-7648-48b9-adfb-e17ef857b670-0000")},
			State:       mesos.TaskState_TASK_RUNNING.Enum(),
			Resources: []*mesos.Resource{scalar("cpus", 0.5), scalar("mem", 128), scalar("disk", 0.1), {
				Name: new("ports"), Type: mesos.Value_RANGES.Enum(),
				Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: new(uint64(31000 + i%1000)), End: new(uint64(31000 + i%1000))}}},
			}},
			Statuses: []*mesos.TaskStatus{status(mesos.TaskState_TASK_STARTING), status(mesos.TaskState_TASK_RUNNING)},
			Labels:   &mesos.Labels{Labels: []*mesos.Label{{Key: new("team"), Value: new("search \"ranking\"")}}},
		})
	}
	return &master.Response{Type: master.Response_GET_TASKS.Enum(), GetTasks: get}
}

func BenchmarkMarshal(b *testing.B) {
	m := manyTasks(10_000)
	marshalers := []struct {
		name string
		fn   func(buf []byte) ([]byte, error)
	}{
		{"mesosjson", func(buf []byte) ([]byte, error) { return mesosjson.Append(buf, m) }},
		{"proto", func(buf []byte) ([]byte, error) { return proto.MarshalOptions{}.MarshalAppend(buf, m) }},
		{"protojson", func(buf []byte) ([]byte, error) { return protojson.MarshalOptions{}.MarshalAppend(buf, m) }},
	}
	for _, bm := range marshalers {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			var err error
			for b.Loop() {
				if buf, err = bm.fn(buf[:0]); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	m := manyTasks(10_000)
	text, err := mesosjson.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	binary, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	protoText, err := protojson.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	unmarshalers := []struct {
		name string
		in   []byte
		fn   func([]byte, proto.Message) error
	}{
		{"mesosjson", text, mesosjson.Unmarshal},
		{"proto", binary, proto.Unmarshal},
		{"protojson", protoText, protojson.Unmarshal},
	}
	for _, bm := range unmarshalers {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bm.in)))
			for b.Loop() {
				if err := bm.fn(bm.in, &master.Response{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
