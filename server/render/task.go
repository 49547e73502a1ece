package render

import (
	"encoding/base64"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// encodeTask appends a mesos.v1.Task, straight from the core's compact record.
// It is what [core.Task.Proto] would be encoded as, a test sees to that; but
// GET_STATE of a large cluster is hundreds of thousands of tasks, and making the
// messages first takes several times as long as writing them.
func encodeTask(f Format, dst []byte, t *core.Task) []byte {
	if f == JSON {
		return jsonTask(dst, t)
	}
	return protoTask(dst, t)
}

func appendValue(dst []byte, key, value string) []byte {
	dst = append(dst, key...)
	return append(appendString(append(dst, `{"value":`...), value), '}')
}

func jsonTask(dst []byte, t *core.Task) []byte {
	dst = appendString(append(dst, `{"name":`...), t.Name)
	dst = appendValue(dst, `,"task_id":`, t.ID)
	dst = appendValue(dst, `,"framework_id":`, t.FrameworkID)
	if t.ExecutorID != "" {
		dst = appendValue(dst, `,"executor_id":`, t.ExecutorID)
	}
	dst = appendValue(dst, `,"agent_id":`, t.AgentID)
	dst = append(append(append(dst, `,"state":"`...), stateName(t.State)...), '"')
	if !t.Resources.Empty() {
		dst = append(jsonResources(append(dst, `,"resources":[`...), t.Resources), ']')
	}
	if len(t.Statuses) > 0 {
		dst = append(dst, `,"statuses":[`...)
		for i := range t.Statuses {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = jsonStatus(dst, t, &t.Statuses[i])
		}
		dst = append(dst, ']')
	}
	if t.StatusUpdateUUID != "" {
		dst = append(append(append(dst, `,"status_update_state":"`...), stateName(t.StatusUpdateState)...), '"')
		dst = appendBase64(append(dst, `,"status_update_uuid":`...), t.StatusUpdateUUID)
	}
	o := object{buf: dst, comma: true}
	e := t.Extra
	if e == nil {
		e = &core.TaskExtra{}
	}
	if e.Labels != nil {
		o.key("labels")
		o.buf = append(o.buf, '{')
		if len(e.Labels.Labels) > 0 {
			o.buf = appendLabels(append(o.buf, `"labels":`...), e.Labels)
		}
		o.buf = append(o.buf, '}')
	}
	if e.Discovery != nil {
		o.proto("discovery", e.Discovery)
	}
	if e.Container != nil {
		o.proto("container", e.Container)
	}
	if e.HealthCheck != nil {
		o.proto("health_check", e.HealthCheck)
	}
	if e.KillPolicy != nil {
		o.proto("kill_policy", e.KillPolicy)
	}
	if t.User != "" {
		o.str("user", t.User)
	}
	if len(e.Limits) > 0 {
		o.key("limits")
		in := open(o.buf)
		for _, name := range sortedKeys(e.Limits) {
			in.name(name)
			in.buf = appendProto(in.buf, e.Limits[name])
		}
		o.buf = in.close()
	}
	return o.close()
}

func appendBase64(dst []byte, s string) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, []byte(s))
	return append(dst, '"')
}

// ordinary items have a name, an amount and a role, and nothing else. Disks may
// have more to them than the algebra tells.
func ordinary(it *resources.Item) bool {
	return it.Type() == mesos.Value_SCALAR && it.Name() != "disk" && !it.Reserved() && !it.Revocable() && !it.Shared() && it.ProviderID() == ""
}

func jsonResources(dst []byte, r resources.Resources) []byte {
	for i := range r.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		it := r.At(i)
		if !ordinary(&it) {
			dst = appendProto(dst, it.Proto())
			continue
		}
		dst = appendString(append(dst, `{"name":`...), it.Name())
		dst = append(appendMilli(append(dst, `,"type":"SCALAR","scalar":{"value":`...), it.Milli()), '}')
		if it.Role() != "" {
			dst = append(appendString(append(dst, `,"allocation_info":{"role":`...), it.Role()), '}')
		}
		dst = append(dst, '}')
	}
	return dst
}

func jsonStatus(dst []byte, t *core.Task, s *core.Status) []byte {
	if s.Full != nil {
		return appendProto(dst, s.Full)
	}
	dst = appendValue(dst, `{"task_id":`, t.ID)
	dst = append(append(append(dst, `,"state":"`...), stateName(s.State)...), '"')
	if s.Message != "" {
		dst = appendString(append(dst, `,"message":`...), s.Message)
	}
	if s.HasSource {
		dst = append(append(append(dst, `,"source":"`...), s.Source.String()...), '"')
	}
	if s.HasReason {
		dst = append(append(append(dst, `,"reason":"`...), s.Reason.String()...), '"')
	}
	dst = appendValue(dst, `,"agent_id":`, t.AgentID)
	if s.ExecutorID != "" {
		dst = appendValue(dst, `,"executor_id":`, s.ExecutorID)
	}
	dst = appendDouble(append(dst, `,"timestamp":`...), s.Timestamp)
	if s.UUID != "" {
		dst = appendBase64(append(dst, `,"uuid":`...), s.UUID)
	}
	if s.HasHealth {
		dst = strconv.AppendBool(append(dst, `,"healthy":`...), s.Healthy)
	}
	if s.ContainerID != "" {
		dst = appendString(append(dst, `,"container_status":{"container_id":{"value":`...), s.ContainerID)
		if s.ParentContainerID != "" {
			dst = append(appendString(append(dst, `,"parent":{"value":`...), s.ParentContainerID), '}')
		}
		dst = append(dst, '}')
		if s.HasNetwork {
			dst = append(dst, `,"network_infos":[{"ip_addresses":[{"protocol":"IPv4","ip_address":`...)
			dst = append(appendString(dst, s.IP), `}]}]`...)
		}
		if s.ExecutorPID != 0 {
			dst = strconv.AppendUint(append(dst, `,"executor_pid":`...), uint64(s.ExecutorPID), 10)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// protoString appends a string field, protoValue a message whose only field is
// a string with number 1: an id.
func protoString(dst []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, n, protowire.BytesType), s)
}

func protoValue(dst []byte, n protowire.Number, s string) []byte {
	dst = protowire.AppendTag(dst, n, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(valueSize(s)))
	return protoString(dst, 1, s)
}

func valueSize(s string) int { return 1 + protowire.SizeBytes(len(s)) }

func protoEnum(dst []byte, n protowire.Number, v int32) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), uint64(v))
}

// protoMessage appends a message whose length is known only once it is written:
// room for a length of two bytes is kept, and moved apart should that not do.
func protoMessage(dst []byte, n protowire.Number, write func([]byte) []byte) []byte {
	dst = protowire.AppendTag(dst, n, protowire.BytesType)
	at := len(dst)
	dst = write(append(dst, 0, 0))
	size := len(dst) - at - 2
	if size >= 1<<14 {
		extra := protowire.SizeVarint(uint64(size)) - 2
		dst = append(dst, make([]byte, extra)...)
		copy(dst[at+2+extra:], dst[at+2:at+2+size])
		protowire.AppendVarint(dst[:at], uint64(size))
		return dst
	}
	// A varint may be padded: two bytes for a small number too. Readers accept it.
	dst[at], dst[at+1] = byte(size&0x7f)|0x80, byte(size>>7)
	return dst
}

func protoTask(dst []byte, t *core.Task) []byte {
	dst = protoString(dst, 1, t.Name)
	dst = protoValue(dst, 2, t.ID)
	dst = protoValue(dst, 3, t.FrameworkID)
	if t.ExecutorID != "" {
		dst = protoValue(dst, 4, t.ExecutorID)
	}
	dst = protoValue(dst, 5, t.AgentID)
	dst = protoEnum(dst, 6, int32(t.State))
	for i := range t.Resources.Len() {
		it := t.Resources.At(i)
		dst = protoMessage(dst, 7, func(b []byte) []byte { return protoResource(b, &it) })
	}
	for i := range t.Statuses {
		dst = protoMessage(dst, 8, func(b []byte) []byte { return protoStatus(b, t, &t.Statuses[i]) })
	}
	if t.StatusUpdateUUID != "" {
		dst = protoEnum(dst, 9, int32(t.StatusUpdateState))
		dst = protoString(dst, 10, t.StatusUpdateUUID)
	}
	if t.User != "" {
		dst = protoString(dst, 14, t.User)
	}
	if e := t.Extra; e != nil {
		rest := &mesos.Task{
			Labels: e.Labels, Discovery: e.Discovery, Container: e.Container,
			HealthCheck: e.HealthCheck, KillPolicy: e.KillPolicy, Limits: e.Limits,
		}
		dst = appendPartial(dst, rest)
	}
	return dst
}

func protoResource(dst []byte, it *resources.Item) []byte {
	if !ordinary(it) {
		return Protobuf.encode(dst, it.Proto())
	}
	dst = protoString(dst, 1, it.Name())
	dst = protoEnum(dst, 2, int32(mesos.Value_SCALAR))
	dst = protoMessage(dst, 3, func(b []byte) []byte { return protoDouble(b, 1, resources.FromMilli(it.Milli())) })
	if it.Role() != "" {
		dst = protoValue(dst, 11, it.Role())
	}
	return dst
}

func protoDouble(dst []byte, n protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, n, protowire.Fixed64Type), math.Float64bits(v))
}

func protoStatus(dst []byte, t *core.Task, s *core.Status) []byte {
	if s.Full != nil {
		return Protobuf.encode(dst, s.Full)
	}
	dst = protoValue(dst, 1, t.ID)
	dst = protoEnum(dst, 2, int32(s.State))
	if s.Message != "" {
		dst = protoString(dst, 4, s.Message)
	}
	dst = protoValue(dst, 5, t.AgentID)
	dst = protoDouble(dst, 6, s.Timestamp)
	if s.ExecutorID != "" {
		dst = protoValue(dst, 7, s.ExecutorID)
	}
	if s.HasHealth {
		dst = protoEnum(dst, 8, int32(boolInt(s.Healthy)))
	}
	if s.HasSource {
		dst = protoEnum(dst, 9, int32(s.Source))
	}
	if s.HasReason {
		dst = protoEnum(dst, 10, int32(s.Reason))
	}
	if s.UUID != "" {
		dst = protoString(dst, 11, s.UUID)
	}
	if s.ContainerID != "" {
		dst = protoMessage(dst, 13, func(b []byte) []byte { return protoContainer(b, s) })
	}
	return dst
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func protoContainer(dst []byte, s *core.Status) []byte {
	if s.HasNetwork {
		dst = protoMessage(dst, 1, func(b []byte) []byte {
			return protoMessage(b, 5, func(b []byte) []byte {
				return protoString(protoEnum(b, 1, int32(mesos.NetworkInfo_IPv4)), 2, s.IP)
			})
		})
	}
	if s.ExecutorPID != 0 {
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 3, protowire.VarintType), uint64(s.ExecutorPID))
	}
	return protoMessage(dst, 4, func(b []byte) []byte {
		b = protoString(b, 1, s.ContainerID)
		if s.ParentContainerID != "" {
			b = protoValue(b, 2, s.ParentContainerID)
		}
		return b
	})
}

// appendPartial appends the fields of a message that is part of another.
func appendPartial(dst []byte, p proto.Message) []byte {
	out, err := proto.MarshalOptions{AllowPartial: true}.MarshalAppend(dst, p)
	if err != nil {
		return dst
	}
	return out
}

// TaskProto is a task as GET_TASKS shows it.
func TaskProto(t *core.Task) *mesos.Task { return t.Proto() }
