package render

import (
	"strconv"

	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// appendTask writes a task. It and appendStatus are most of the work of /state:
// they go without the conveniences of object.
func appendTask(dst []byte, t *core.Task) []byte {
	dst = appendString(append(dst, `{"id":`...), t.ID)
	dst = appendString(append(dst, `,"name":`...), t.Name)
	dst = appendString(append(dst, `,"framework_id":`...), t.FrameworkID)
	dst = appendString(append(dst, `,"executor_id":`...), t.ExecutorID)
	dst = appendString(append(dst, `,"slave_id":`...), t.AgentID)
	dst = append(append(append(dst, `,"state":"`...), stateName(t.State)...), `","resources":`...)
	dst = appendResources(dst, t.Resources)
	if t.Extra != nil && len(t.Extra.Limits) > 0 {
		dst = appendLimits(append(dst, `,"limits":`...), t.Extra.Limits)
	}
	dst = appendString(append(dst, `,"role":`...), t.Role())
	dst = append(dst, `,"statuses":[`...)
	for i := range t.Statuses {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendStatus(dst, &t.Statuses[i])
	}
	o := object{buf: append(dst, ']'), comma: true}
	if t.User != "" {
		o.str("user", t.User)
	}
	if e := t.Extra; e != nil {
		if e.Labels != nil {
			o.labels(e.Labels)
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
	}
	return o.close()
}

func appendLimits(dst []byte, limits map[string]*mesos.Value_Scalar) []byte {
	o := open(dst)
	for _, name := range sortedKeys(limits) {
		o.name(name)
		o.buf = appendDouble(o.buf, limits[name].GetValue())
	}
	return o.close()
}

func appendStatus(dst []byte, s *core.Status) []byte {
	dst = append(append(append(dst, `{"state":"`...), stateName(s.State)...), `","timestamp":`...)
	dst = appendDouble(dst, s.Timestamp)
	if s.Full != nil {
		o := object{buf: dst, comma: true}
		if l := s.Full.Labels; l != nil {
			o.labels(l)
		}
		if cs := s.Full.ContainerStatus; cs != nil {
			o.containerStatus(cs)
		}
		dst = o.buf
	} else if s.ContainerID != "" {
		dst = appendString(append(dst, `,"container_status":{"container_id":{"value":`...), s.ContainerID)
		if s.ParentContainerID != "" {
			dst = append(appendString(append(dst, `,"parent":{"value":`...), s.ParentContainerID), '}')
		}
		dst = append(dst, '}')
		if s.HasNetwork {
			dst = append(dst, `,"network_infos":[{"ip_addresses":[{"protocol":"IPv4","ip_address":`...)
			dst = append(appendString(dst, s.IP), `}]}]`...)
		}
		dst = append(dst, '}')
	}
	if s.HasHealth {
		dst = strconv.AppendBool(append(dst, `,"healthy":`...), s.Healthy)
	}
	return append(dst, '}')
}

// containerStatus writes the members that Mesos shows of it.
func (o *object) containerStatus(cs *mesos.ContainerStatus) {
	o.key("container_status")
	in := open(o.buf)
	if cs.ContainerId != nil {
		in.proto("container_id", cs.ContainerId)
	}
	if len(cs.NetworkInfos) > 0 {
		in.key("network_infos")
		in.buf = append(in.buf, '[')
		for i, n := range cs.NetworkInfos {
			if i > 0 {
				in.buf = append(in.buf, ',')
			}
			in.buf = appendNetwork(in.buf, n)
		}
		in.buf = append(in.buf, ']')
	}
	if cs.CgroupInfo != nil {
		in.proto("cgroup_info", cs.CgroupInfo)
	}
	o.buf = in.close()
}

func appendNetwork(dst []byte, n *mesos.NetworkInfo) []byte {
	o := open(dst)
	if len(n.Groups) > 0 {
		o.strings("groups", n.Groups)
	}
	if n.Labels != nil {
		o.labels(n.Labels)
	}
	if len(n.IpAddresses) > 0 {
		o.key("ip_addresses")
		o.buf = append(o.buf, '[')
		for i, ip := range n.IpAddresses {
			if i > 0 {
				o.buf = append(o.buf, ',')
			}
			o.buf = appendProto(o.buf, ip)
		}
		o.buf = append(o.buf, ']')
	}
	if n.Name != nil {
		o.str("name", *n.Name)
	}
	if len(n.PortMappings) > 0 {
		o.key("port_mappings")
		o.buf = append(o.buf, '[')
		for i, p := range n.PortMappings {
			if i > 0 {
				o.buf = append(o.buf, ',')
			}
			o.buf = appendProto(o.buf, p)
		}
		o.buf = append(o.buf, ']')
	}
	return o.close()
}

// stateName is the enum's name without the lookups of its String method.
func stateName(s mesos.TaskState) string {
	if s >= 0 && int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return strconv.Itoa(int(s))
}

var stateNames = func() (names [32]string) {
	for n, name := range mesos.TaskState_name {
		names[n] = name
	}
	return names
}()
