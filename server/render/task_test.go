package render

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/server/core"
)

// randomTask makes tasks with any combination of what a task may have.
func randomTask(rng *rand.Rand) *core.Task {
	maybe := func(s string) string {
		if rng.IntN(2) == 0 {
			return ""
		}
		return s
	}
	states := []mesos.TaskState{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
	t := &core.Task{
		ID: "task \"1\"", Name: maybe("näme"), FrameworkID: "f", AgentID: "a", ExecutorID: maybe("e"), User: maybe("root"),
		State: states[rng.IntN(len(states))],
	}
	if rng.IntN(2) == 0 {
		t.StatusUpdateUUID, t.StatusUpdateState = "0123456789abcdef", states[rng.IntN(len(states))]
	}
	text := []string{
		"", "cpus:0.5;mem:128", "cpus:0.001;mem:128;disk:32;ports:[1-2,5-9];zones:{a,b}", "cpus(role):1;mem(*):64.125",
	}
	t.Resources = resources.MustParse(text[rng.IntN(len(text))])
	if rng.IntN(2) == 0 {
		t.Resources = t.Resources.Allocate("role")
	}
	for range rng.IntN(4) {
		s := core.Status{
			State: states[rng.IntN(len(states))], HasSource: rng.IntN(2) == 0, HasReason: rng.IntN(2) == 0, HasHealth: rng.IntN(2) == 0, Healthy: rng.IntN(2) == 0,
			Source: mesos.TaskStatus_SOURCE_EXECUTOR, Reason: mesos.TaskStatus_REASON_RECONCILIATION, Timestamp: rng.Float64() * 2e9,
			UUID: maybe("fedcba9876543210"), Message: maybe("it\nfailed"), ExecutorID: maybe("e"),
		}
		if rng.IntN(2) == 0 {
			s.ContainerID, s.ParentContainerID = "c", maybe("p")
			s.ExecutorPID = uint32(rng.IntN(3))
			if s.HasNetwork = rng.IntN(2) == 0; s.HasNetwork {
				s.IP = "10.1.2.3"
			}
		}
		if rng.IntN(5) == 0 {
			s.Full = &mesos.TaskStatus{
				TaskId: &mesos.TaskID{Value: new("x")}, State: s.State.Enum(),
				Message: new(strings.Repeat("m", rng.IntN(40_000))), Labels: &mesos.Labels{},
			}
		}
		if rng.IntN(8) == 0 {
			s.Message = strings.Repeat("long", rng.IntN(10_000))
		}
		t.Statuses = append(t.Statuses, s)
	}
	if rng.IntN(2) == 0 {
		t.Extra = &core.TaskExtra{
			Labels:      &mesos.Labels{Labels: []*mesos.Label{{Key: new("k"), Value: new("v")}}},
			Discovery:   &mesos.DiscoveryInfo{Visibility: mesos.DiscoveryInfo_CLUSTER.Enum()},
			Container:   &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum()},
			HealthCheck: &mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND.Enum()},
			KillPolicy:  &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(5)}},
			Limits:      map[string]*mesos.Value_Scalar{"cpus": {Value: proto.Float64(1)}, "mem": {Value: new(2.5)}},
		}
	}
	return t
}

func TestTaskIsWhatItsMessageIs(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 500 {
		task := randomTask(rng)
		message := task.Proto()
		want, err := mesosjson.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(encodeTask(JSON, nil, task))); diff != "" {
			t.Fatalf("task %d, JSON: %s", n, diff)
		}
		var got mesos.Task
		if err := proto.Unmarshal(encodeTask(Protobuf, nil, task), &got); err != nil {
			t.Fatalf("task %d: %v", n, err)
		}
		if !proto.Equal(message, &got) {
			t.Fatalf("task %d, protobuf: %s", n, cmp.Diff(message, &got, protocmp.Transform()))
		}
	}
}

func TestLongMessageInProtobuf(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 1<<14 - 1, 1 << 14, 1<<14 + 1, 1 << 21, 1<<21 + 5} {
		text := strings.Repeat("x", size)
		b := protoMessage(nil, 1, func(b []byte) []byte { return append(b, protoString(nil, 1, text)...) })
		var label mesos.Labels
		if err := (proto.UnmarshalOptions{}).Unmarshal(b, &label); err != nil || len(label.GetLabels()) != 1 || label.Labels[0].GetKey() != text {
			t.Errorf("size %d: %v", size, err)
		}
	}
}
