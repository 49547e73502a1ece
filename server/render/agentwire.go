package render

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// encodeAgent appends an agent of GET_AGENTS. It is what [AgentProto] would be encoded as,
// a test sees to that; but most of the work there is to make a message of each resource.
func encodeAgent(f Format, dst []byte, a *core.Agent, who sight) []byte {
	total, used, offered := who.resources(a.Total), who.resources(a.Used), who.resources(a.Offered)
	if f == Protobuf {
		dst = protoEndpoint(dst, 7, total)
		dst = protoEndpoint(dst, 8, used)
		dst = protoEndpoint(dst, 9, offered)
		return appendPartial(dst, agentProto(a, who)) // in any order, by protobuf
	}
	o := open(dst)
	o.proto("agent_info", who.agentInfo(a.Info))
	o.boolean("active", a.Active)
	o.boolean("deactivated", a.Deactivated)
	o.str("version", a.Version)
	o.str("pid", a.PID())
	if t := timeInfo(a.RegisteredAt); t != nil {
		o.proto("registered_time", t)
	}
	if t := timeInfo(a.ReregisteredAt); t != nil {
		o.proto("reregistered_time", t)
	}
	o.endpoint("total_resources", total)
	o.endpoint("allocated_resources", used)
	o.endpoint("offered_resources", offered)
	if len(a.Capabilities) > 0 {
		o.key("capabilities")
		for i, c := range a.Capabilities {
			start := `,{"type":"`
			if i == 0 {
				start = `[{"type":"`
			}
			o.buf = append(append(append(o.buf, start...), c.String()...), `"}`...)
		}
		o.buf = append(o.buf, ']')
	}
	if a.DrainInfo != nil {
		o.proto("drain_info", a.DrainInfo)
	}
	if t := timeInfo(a.DrainStart); t != nil {
		o.proto("estimated_drain_start_time", t)
	}
	return o.close()
}

// endpoint writes a member with resources in the form of [endpoint], unless it is empty.
func (o *object) endpoint(k string, r resources.Resources) {
	if r.Empty() {
		return
	}
	o.key(k)
	o.buf = append(o.buf, '[')
	o.buf = append(jsonEndpoint(o.buf, r), ']')
}

// simple items have a name, an amount or ranges, and a role that they are allocated to.
func simple(it *resources.Item) bool {
	return ordinary(it) ||
		it.Type() == mesos.Value_RANGES && !it.Reserved() && !it.Revocable() && !it.Shared() && it.ProviderID() == "" && it.Name() != "disk"
}

func jsonEndpoint(dst []byte, r resources.Resources) []byte {
	for i := range r.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		it := r.At(i)
		if !simple(&it) {
			p := it.Proto()
			resources.ToEndpoint(p)
			dst = appendProto(dst, p)
			continue
		}
		dst = appendString(append(dst, `{"name":`...), it.Name())
		if it.Type() == mesos.Value_SCALAR {
			dst = append(appendMilli(append(dst, `,"type":"SCALAR","scalar":{"value":`...), it.Milli()), '}')
		} else {
			dst = append(dst, `,"type":"RANGES","ranges":{"range":[`...)
			for i, e := range it.AsResources().Ranges(it.Name()) {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = strconv.AppendUint(append(dst, `{"begin":`...), e.Begin, 10)
				dst = append(strconv.AppendUint(append(dst, `,"end":`...), e.End, 10), '}')
			}
			dst = append(dst, `]}`...)
		}
		dst = append(dst, `,"role":"*"`...)
		if it.Role() != "" {
			dst = append(appendString(append(dst, `,"allocation_info":{"role":`...), it.Role()), '}')
		}
		dst = append(dst, '}')
	}
	return dst
}

// protoEndpoint is jsonEndpoint for a repeated field in protobuf.
func protoEndpoint(dst []byte, n protowire.Number, r resources.Resources) []byte {
	for i := range r.Len() {
		it := r.At(i)
		dst = protoMessage(dst, n, func(dst []byte) []byte {
			if !simple(&it) {
				p := it.Proto()
				resources.ToEndpoint(p)
				return Protobuf.encode(dst, p)
			}
			dst = protoString(dst, 1, it.Name())
			dst = protoEnum(dst, 2, int32(it.Type()))
			if it.Type() == mesos.Value_SCALAR {
				dst = protoMessage(dst, 3, func(b []byte) []byte { return protoDouble(b, 1, resources.FromMilli(it.Milli())) })
			} else {
				dst = protoMessage(dst, 4, func(b []byte) []byte { return protoRanges(b, it.AsResources().Ranges(it.Name())) })
			}
			dst = protoString(dst, 6, "*")
			if it.Role() != "" {
				dst = protoValue(dst, 11, it.Role())
			}
			return dst
		})
	}
	return dst
}

func protoRanges(dst []byte, rs []resources.Range) []byte {
	for _, e := range rs {
		dst = protoMessage(dst, 1, func(b []byte) []byte {
			b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), e.Begin)
			return protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), e.End)
		})
	}
	return dst
}
