package httpapi

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
)

// Bodies of nothing but empty messages are refused before they are decoded: each of their
// bytes would take fifty.
func TestTooManyMessages(t *testing.T) {
	weights := bytes.Repeat([]byte{0x0a, 0}, maxMessages+1) // UpdateWeights.weight_infos
	inner, err := proto.Marshal(&master.Call{Type: master.Call_UPDATE_WEIGHTS.Enum()})
	if err != nil {
		t.Fatal(err)
	}
	// The member is twice there: the decoder joins them.
	for range 2 {
		half := weights[:len(weights)/4*2]
		inner = append(inner, 0x32, byte(len(half)&127|128), byte(len(half)>>7&127|128), byte(len(half)>>14&127|128), byte(len(half)>>21))
		inner = append(inner, half...)
	}
	inText := []byte(`{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{}` + strings.Repeat(",{}", maxMessages) + `]}}`)
	for name, err := range map[string]error{
		"protobuf": UnmarshalCall(inner, Protobuf, new(master.Call)),
		"JSON":     UnmarshalCall(inText, JSON, new(master.Call)),
		"agent":    UnmarshalAgentCall(inText, JSON, new(agentv1.Call)),
	} {
		if e, ok := errors.AsType[*Error](err); !ok || e.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: got %.200v, want 413", name, err)
		}
	}
}

// A message in a message in a message, and so on, is refused by the decoder, and does not
// use the stack up before.
func TestDeepMessage(t *testing.T) {
	const levels = 1 << 20
	sizes := make([]int, levels)
	size := 0
	for i := range sizes {
		sizes[i] = size
		size += 1 + protowire.SizeBytes(size) - size
	}
	body := make([]byte, 0, size+64)
	for _, n := range slices.Backward(sizes) {
		body = protowire.AppendVarint(protowire.AppendTag(body, 2, protowire.BytesType), uint64(n)) // ContainerID.parent
	}
	kill := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), body) // container_id
	call, err := proto.Marshal(&agentv1.Call{Type: agentv1.Call_KILL_CONTAINER.Enum()})
	if err != nil {
		t.Fatal(err)
	}
	number := new(agentv1.Call).ProtoReflect().Descriptor().Fields().ByName("kill_container").Number()
	call = protowire.AppendBytes(protowire.AppendTag(call, number, protowire.BytesType), kill)
	if len(call) < maxMessages {
		t.Fatalf("%d bytes are not counted", len(call))
	}
	if err := UnmarshalAgentCall(call, Protobuf, new(agentv1.Call)); err == nil || StatusOf(err) != http.StatusBadRequest {
		t.Errorf("got %.200v, want 400", err)
	}
}

// The largest call that the master takes is not refused.
func TestManyMessages(t *testing.T) {
	call := &scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: &scheduler.Call_Reconcile{}}
	for range 1 << 18 {
		call.Reconcile.Tasks = append(call.Reconcile.Tasks, &scheduler.Call_Reconcile_Task{
			TaskId: &mesos.TaskID{Value: new("t")}, AgentId: &mesos.AgentID{Value: new("a")},
		})
	}
	for _, media := range []Media{JSON, Protobuf} {
		b, err := Marshal(media, call)
		if err != nil {
			t.Fatal(err)
		}
		if err := UnmarshalCall(b, media, new(scheduler.Call)); err != nil {
			t.Errorf("%s: %v", media, err)
		}
	}
}
