package main

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
	"clusterd/internal/bench/measure"
)

// getState is a GET_STATE answer with n running tasks of ordinary size.
func getState(n int) *master.Response {
	tasks := &master.Response_GetTasks{}
	for i := range n {
		id := fmt.Sprintf("instance-service-%06d.5f0b7c1e-3c2a-4a63-9a83-0d8d4d0f%04x", i, i&0xffff)
		status := func(state mesos.TaskState) *mesos.TaskStatus {
			return &mesos.TaskStatus{
				TaskId: &mesos.TaskID{Value: &id}, State: state.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
				AgentId: &mesos.AgentID{Value: new("87b62806-7648-48b9-adfb-e17ef857b670-S17")}, Timestamp: new(1795359925.026412 + float64(i)),
				Uuid: []byte("0123456789abcdef"),
				ContainerStatus: &mesos.ContainerStatus{
					ContainerId: &mesos.ContainerID{Value: new("7d35c001-399d-4c3a-8750-677ff59d8fb9")},
					NetworkInfos: []*mesos.NetworkInfo{{IpAddresses: []*mesos.NetworkInfo_IPAddress{{
						Protocol: mesos.NetworkInfo_IPv4.Enum(), IpAddress: new("10.0.17.4"),
					}}}},
				},
			}
		}
		tasks.Tasks = append(tasks.Tasks, &mesos.Task{
			Name: new("service"), TaskId: &mesos.TaskID{Value: &id},
			FrameworkId: &mesos.FrameworkID{Value: new("87b62806-7648-48b9-adfb-e17ef857b670-0000")},
			AgentId:     &mesos.AgentID{Value: new("87b62806-7648-48b9-adfb-e17ef857b670-S17")},
			State:       mesos.TaskState_TASK_RUNNING.Enum(),
			Resources:   []*mesos.Resource{resource("cpus", 0.5), resource("mem", 512)},
			Statuses:    []*mesos.TaskStatus{status(mesos.TaskState_TASK_STARTING), status(mesos.TaskState_TASK_RUNNING)},
			Labels:      &mesos.Labels{Labels: []*mesos.Label{{Key: new("team"), Value: new("storage")}}},
		})
	}
	return &master.Response{
		Type:     master.Response_GET_STATE.Enum(),
		GetState: &master.Response_GetState{GetTasks: tasks},
	}
}

func resource(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("bench")},
	}
}

// benchCodec encodes and decodes a GET_STATE of 10,000 tasks.
func benchCodec(context.Context, *settings) ([]measure.Row, error) {
	msg := getState(10000)
	text, err := mesosjson.Marshal(msg)
	if err != nil {
		return nil, err
	}
	wire, err := proto.Marshal(msg)
	if err != nil {
		return nil, err
	}
	pjson, err := protojson.Marshal(msg)
	if err != nil {
		return nil, err
	}
	var rows []measure.Row
	add := func(what string, size int, note string, f func() error) {
		r := testing.Benchmark(func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
		rows = append(rows, measure.Row{What: what, Value: fmt.Sprintf("%.0f MB/s", float64(size)/1e6/(float64(r.NsPerOp())/1e9)), Note: note})
	}
	size := func(b []byte) string { return fmt.Sprintf("GET_STATE of 10,000 tasks, %.1f MB", float64(len(b))/1e6) }
	buf := make([]byte, 0, 2*len(text))
	add("JSON encode", len(text), size(text), func() error { _, err := mesosjson.Append(buf[:0], msg); return err })
	add("JSON decode", len(text), size(text), func() error { return mesosjson.Unmarshal(text, &master.Response{}) })
	add("protobuf encode", len(wire), size(wire), func() error { _, err := proto.MarshalOptions{}.MarshalAppend(buf[:0], msg); return err })
	add("protobuf decode", len(wire), size(wire), func() error { return proto.Unmarshal(wire, &master.Response{}) })
	add("protojson encode (for comparison)", len(pjson), size(pjson), func() error { _, err := protojson.Marshal(msg); return err })
	add("protojson decode (for comparison)", len(pjson), size(pjson), func() error { return protojson.Unmarshal(pjson, &master.Response{}) })
	return rows, nil
}
