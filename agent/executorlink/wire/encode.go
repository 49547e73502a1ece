package wire

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Call types of mesos.v1.executor.Call.
const (
	callSubscribe = 1
	callUpdate    = 2
	callHeartbeat = 4
)

// Subscribe encodes a SUBSCRIBE call: tasks are TaskInfos as they came, updates
// what EncodeStatus gave.
func Subscribe(framework, executor string, tasks, updates [][]byte) []byte {
	var s []byte
	for _, t := range tasks {
		s = appendBytes(s, 1, t)
	}
	for _, u := range updates {
		s = appendBytes(s, 2, appendBytes(nil, 1, u))
	}
	b := call(framework, executor, callSubscribe)
	return appendBytes(b, 4, s)
}

// Update encodes an UPDATE call for a status that EncodeStatus gave.
func Update(framework, executor string, status []byte) []byte {
	b := call(framework, executor, callUpdate)
	return appendBytes(b, 5, appendBytes(nil, 1, status))
}

// Heartbeat encodes a HEARTBEAT call.
func Heartbeat(framework, executor string) []byte {
	return call(framework, executor, callHeartbeat)
}

func call(framework, executor string, typ uint64) []byte {
	b := appendBytes(nil, 1, appendString(nil, 1, executor))
	b = appendBytes(b, 2, appendString(nil, 1, framework))
	return appendVarint(b, 3, typ)
}

// EncodeStatus encodes a TaskStatus.
func EncodeStatus(s *Status) []byte {
	b := appendBytes(nil, 1, appendString(nil, 1, s.TaskID))
	b = appendVarint(b, 2, uint64(s.State))
	if s.Data != nil {
		b = appendBytes(b, 3, s.Data)
	}
	if s.Message != "" {
		b = appendString(b, 4, s.Message)
	}
	b = protowire.AppendTag(b, 6, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, math.Float64bits(s.Timestamp))
	b = appendBytes(b, 7, appendString(nil, 1, s.Executor))
	if s.Healthy != nil {
		b = appendVarint(b, 8, protowire.EncodeBool(*s.Healthy))
	}
	b = appendVarint(b, 9, sourceExecutor)
	if s.Reason != NoReason {
		b = appendVarint(b, 10, uint64(s.Reason))
	}
	b = appendBytes(b, 11, s.UUID)
	if container := encodeContainerStatus(s); container != nil {
		b = appendBytes(b, 13, container)
	}
	if s.Check != nil {
		b = appendBytes(b, 15, encodeCheckStatus(s.Check))
	}
	if s.Limitation != nil {
		b = appendBytes(b, 16, s.Limitation)
	}
	return b
}

// encodeContainerStatus encodes a ContainerStatus; nil when there is nothing to say.
func encodeContainerStatus(s *Status) []byte {
	var b []byte
	if len(s.Addresses) > 0 {
		b = appendBytes(b, 1, networkInfo(s.Container, s.Addresses))
	}
	if s.ContainerID != nil {
		b = appendBytes(b, 4, s.ContainerID)
	}
	return b
}

// NetworkInfo.Protocol.
const (
	ipv6 = 2
)

// encodeCheckStatus encodes a CheckStatusInfo: its sub-message is there, empty,
// also before there is a result.
func encodeCheckStatus(c *CheckStatus) []byte {
	b := appendVarint(nil, 1, uint64(c.Type))
	var sub []byte
	if c.Has {
		sub = appendVarint(nil, 1, uint64(int64(c.Value)))
	}
	switch c.Type {
	case CheckCommand:
		return appendBytes(b, 2, sub)
	case CheckHTTP:
		return appendBytes(b, 3, sub)
	case CheckTCP:
		return appendBytes(b, 4, sub)
	case CheckUnknown:
	}
	return b
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendString(b []byte, n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendVarint(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}
