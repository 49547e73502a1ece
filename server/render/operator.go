package render

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/server/core"
)

// Format is one of the two encodings of the v1 API.
type Format int

// The formats.
const (
	JSON Format = iota
	Protobuf
)

// Operator writes the response to a call that reads the view; false says that
// calls of this type are none of it.
//
// The large ones are written in pieces by several goroutines: protobuf messages
// and JSON lists may both be put together from parts.
func Operator(f Format, v *core.View, m *Master, t master.Call_Type) (body Body, ok bool, err error) {
	switch t {
	case master.Call_GET_STATE:
		return f.envelope(master.Response_GET_STATE, "get_state", 9, f.state(v)), true, nil
	case master.Call_GET_TASKS:
		return f.envelope(master.Response_GET_TASKS, "get_tasks", 13, f.tasks(v)), true, nil
	case master.Call_GET_EXECUTORS:
		return f.envelope(master.Response_GET_EXECUTORS, "get_executors", 12, f.executors(v)), true, nil
	case master.Call_GET_FRAMEWORKS:
		return f.envelope(master.Response_GET_FRAMEWORKS, "get_frameworks", 11, f.frameworks(v)), true, nil
	case master.Call_GET_AGENTS:
		return f.envelope(master.Response_GET_AGENTS, "get_agents", 10, f.agents(v)), true, nil
	default:
	}
	r := small(v, m, t)
	if r == nil {
		return nil, false, nil
	}
	var b []byte
	if f == Protobuf {
		b, err = proto.Marshal(r)
	} else {
		b, err = mesosjson.Marshal(r)
	}
	if err != nil {
		return nil, true, fmt.Errorf("encode the response to %s: %w", t, err)
	}
	return Body{b}, true, nil
}

// small makes the responses that are never large.
func small(v *core.View, m *Master, t master.Call_Type) *master.Response {
	switch t {
	case master.Call_GET_OPERATIONS:
		get := &master.Response_GetOperations{}
		for o := range v.Operations.Values() {
			get.Operations = append(get.Operations, o.Proto())
		}
		return &master.Response{Type: master.Response_GET_OPERATIONS.Enum(), GetOperations: get}
	case master.Call_GET_ROLES:
		get := &master.Response_GetRoles{}
		for _, r := range roles(v, m.RoleWhitelist) {
			get.Roles = append(get.Roles, r.proto())
		}
		return &master.Response{Type: master.Response_GET_ROLES.Enum(), GetRoles: get}
	case master.Call_GET_WEIGHTS:
		r := &master.Response{Type: master.Response_GET_WEIGHTS.Enum()}
		for name, w := range v.Weights.All() {
			if r.GetWeights == nil {
				r.GetWeights = &master.Response_GetWeights{}
			}
			r.GetWeights.WeightInfos = append(r.GetWeights.WeightInfos,
				&mesos.WeightInfo{Role: new(name), Weight: new(w)})
		}
		return r
	case master.Call_GET_QUOTA:
		return &master.Response{
			Type:     master.Response_GET_QUOTA.Enum(),
			GetQuota: &master.Response_GetQuota{Status: quotaStatus(v)},
		}
	case master.Call_GET_MAINTENANCE_SCHEDULE:
		return &master.Response{
			Type:                   master.Response_GET_MAINTENANCE_SCHEDULE.Enum(),
			GetMaintenanceSchedule: &master.Response_GetMaintenanceSchedule{Schedule: v.Schedule},
		}
	case master.Call_GET_MAINTENANCE_STATUS:
		return &master.Response{
			Type:                 master.Response_GET_MAINTENANCE_STATUS.Enum(),
			GetMaintenanceStatus: &master.Response_GetMaintenanceStatus{Status: maintenanceStatus(v)},
		}
	case master.Call_GET_MASTER:
		return &master.Response{Type: master.Response_GET_MASTER.Enum(), GetMaster: &master.Response_GetMaster{
			MasterInfo:  m.Info,
			StartTime:   new(Seconds(m.Start)),
			ElectedTime: new(Seconds(m.Elected)),
		}}
	default:
		return nil
	}
}

// proto is the role as GET_ROLES shows it: only these resources are sure to be
// scalars.
func (r *role) proto() *mesos.Role {
	p := &mesos.Role{Name: &r.name, Weight: &r.weight}
	for _, id := range r.frameworks {
		p.Frameworks = append(p.Frameworks, &mesos.FrameworkID{Value: new(id)})
	}
	for _, e := range r.allocated.plus(r.offered) {
		switch e.name {
		case "cpus", "disk", "gpus", "mem":
			p.Resources = append(p.Resources, scalar(e.name, float64(e.milli)/1000))
		}
	}
	return p
}

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name:   new(name),
		Type:   mesos.Value_SCALAR.Enum(),
		Scalar: &mesos.Value_Scalar{Value: new(value)},
	}
}

func quotaOf(v *core.View, role string) *quota.QuotaConfig {
	q, _ := v.Quotas.Get(role)
	return q
}

func quotaStatus(v *core.View) *quota.QuotaStatus {
	s := &quota.QuotaStatus{}
	for name, q := range v.Quotas.All() {
		info := &quota.QuotaInfo{Role: new(name)}
		for _, res := range sortedKeys(q.GetGuarantees()) {
			info.Guarantee = append(info.Guarantee, scalar(res, q.Guarantees[res].GetValue()))
		}
		s.Infos = append(s.Infos, info)
		s.Configs = append(s.Configs, q)
	}
	return s
}

// member is one field of a message under construction: its JSON name, its
// number, and its encoded elements.
type member struct {
	name   string
	number protowire.Number
	// pieces are runs of encoded elements: for JSON separated by commas, for
	// protobuf with their tags.
	pieces Body
	// single says that pieces is one encoded message, not a list.
	single bool
}

// message puts members together. Lists that are empty appear in JSON as [], as
// Mesos writes these messages.
func (f Format) message(members ...member) Body {
	var body Body
	if f == Protobuf {
		for _, m := range members {
			if m.single {
				body = append(body, head(m.number, m.pieces))
			}
			body = append(body, m.pieces...)
		}
		return body
	}
	for i, m := range members {
		key := `,"` + m.name + `":`
		if i == 0 {
			key = `{"` + m.name + `":`
		}
		body = append(body, []byte(key))
		if m.single {
			body = append(body, m.pieces...)
			continue
		}
		body = append(body, []byte{'['})
		first := true
		for _, p := range m.pieces {
			if len(p) == 0 {
				continue
			}
			if !first {
				body = append(body, comma)
			}
			first = false
			body = append(body, p)
		}
		body = append(body, []byte{']'})
	}
	return append(body, []byte{'}'})
}

// head is the tag and the length before a message in protobuf.
func head(number protowire.Number, body Body) []byte {
	dst := protowire.AppendTag(nil, number, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(body.Len()))
}

func (f Format) envelope(t master.Response_Type, name string, number protowire.Number, body Body) Body {
	if f == Protobuf {
		dst := protowire.AppendTag(nil, 1, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(t))
		return append(Body{dst, head(number, body)}, body...)
	}
	start := `{"type":"` + t.String() + `","` + name + `":`
	return append(append(Body{[]byte(start)}, body...), []byte{'}'})
}

// list encodes elements as a member, in as many pieces as there are CPUs when
// there are many. encode appends one element: for protobuf the message alone.
func list[T any](f Format, name string, number protowire.Number, elems []T, encode func(Format, []byte, T) []byte) member {
	workers := runtime.GOMAXPROCS(0)
	if len(elems) < parallelFrom {
		workers = 1
	}
	each := (len(elems) + workers - 1) / workers
	m := member{name: name, number: number, pieces: make(Body, workers)}
	run := func(w int) {
		var dst, scratch []byte
		mine := elems[min(w*each, len(elems)):min((w+1)*each, len(elems))]
		for i, e := range mine {
			if i == 16 { // these tell how much room all will need
				dst = append(make([]byte, 0, (len(dst)/16+16)*len(mine)*17/16), dst...)
			}
			if f == JSON {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = encode(f, dst, e)
				continue
			}
			scratch = encode(f, scratch[:0], e)
			dst = protowire.AppendTag(dst, number, protowire.BytesType)
			dst = protowire.AppendBytes(dst, scratch)
		}
		m.pieces[w] = dst
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { run(w) })
	}
	run(0)
	wg.Wait()
	return m
}

// encode appends a message.
func (f Format) encode(dst []byte, p proto.Message) []byte {
	if f == JSON {
		return appendProto(dst, p)
	}
	out, err := proto.MarshalOptions{}.MarshalAppend(dst, p)
	if err != nil {
		return dst // see appendProto
	}
	return out
}

func (f Format) state(v *core.View) Body {
	return f.message(
		member{"get_tasks", 1, f.tasks(v), true},
		member{"get_executors", 2, f.executors(v), true},
		member{"get_frameworks", 3, f.frameworks(v), true},
		member{"get_agents", 4, f.agents(v), true},
	)
}

// everyFramework goes through running and completed ones.
func everyFramework(v *core.View, each func(*core.Framework)) {
	for f := range v.Frameworks.Values() {
		each(f)
	}
	for _, f := range v.CompletedFrameworks {
		each(f)
	}
}

func (f Format) tasks(v *core.View) Body {
	var active, unreachable, completed []*core.Task
	everyFramework(v, func(fw *core.Framework) {
		for t := range fw.Tasks.Values() {
			active = append(active, t)
		}
		for t := range fw.UnreachableTasks.Values() {
			unreachable = append(unreachable, t)
		}
		completed = append(completed, fw.CompletedTasks...)
	})
	return f.message(
		list(f, "tasks", 2, active, encodeTask),
		list(f, "unreachable_tasks", 5, unreachable, encodeTask),
		list(f, "completed_tasks", 3, completed, encodeTask),
	)
}

func (f Format) executors(v *core.View) Body {
	var all []*core.Executor
	everyFramework(v, func(fw *core.Framework) {
		for e := range fw.Executors.Values() {
			all = append(all, e)
		}
	})
	return f.message(list(f, "executors", 1, all, func(f Format, dst []byte, e *core.Executor) []byte {
		return f.encode(dst, &master.Response_GetExecutors_Executor{
			ExecutorInfo: e.Info,
			AgentId:      &mesos.AgentID{Value: &e.AgentID},
		})
	}))
}

func (f Format) frameworks(v *core.View) Body {
	var running []*core.Framework
	for fw := range v.Frameworks.Values() {
		running = append(running, fw)
	}
	message := func(f Format, dst []byte, fw *core.Framework) []byte { return f.encode(dst, framework(v, fw)) }
	return f.message(
		list(f, "frameworks", 1, running, message),
		list(f, "completed_frameworks", 2, v.CompletedFrameworks, message),
	)
}

func framework(v *core.View, fw *core.Framework) *master.Response_GetFrameworks_Framework {
	p := &master.Response_GetFrameworks_Framework{
		FrameworkInfo:      fw.Info,
		Active:             &fw.Active,
		Connected:          &fw.Connected,
		Recovered:          &fw.Recovered,
		RegisteredTime:     timeInfo(fw.RegisteredAt),
		ReregisteredTime:   timeInfo(fw.ReregisteredAt),
		UnregisteredTime:   timeInfo(fw.Unregistered),
		AllocatedResources: endpoint(fw.Used()),
		OfferedResources:   endpoint(fw.Offered()),
		OfferConstraints:   fw.Constraints,
	}
	if p.ReregisteredTime == nil {
		p.ReregisteredTime = p.RegisteredTime // as in Mesos
	}
	if p.OfferConstraints == nil {
		p.OfferConstraints = &scheduler.OfferConstraints{}
	}
	for _, o := range fw.Offers {
		if offer := v.OfferProto(o); offer != nil {
			p.Offers = append(p.Offers, offer)
		}
	}
	for _, o := range fw.InverseOffers {
		p.InverseOffers = append(p.InverseOffers, &mesos.InverseOffer{
			Id:             &mesos.OfferID{Value: &o.ID},
			FrameworkId:    &mesos.FrameworkID{Value: &o.FrameworkID},
			AgentId:        &mesos.AgentID{Value: &o.AgentID},
			Unavailability: o.Unavailability,
		})
	}
	return p
}

// timeInfo is nil for the zero time, so that the member stays away.
func timeInfo(t time.Time) *mesos.TimeInfo {
	if t.IsZero() {
		return nil
	}
	return &mesos.TimeInfo{Nanoseconds: new(t.UnixNano())}
}

func (f Format) agents(v *core.View) Body {
	agents := make([]*core.Agent, 0, v.Agents.Len())
	for a := range v.Agents.Values() {
		agents = append(agents, a)
	}
	recovered := make([]*mesos.AgentInfo, 0, v.RecoveredAgents.Len())
	for info := range v.RecoveredAgents.Values() {
		recovered = append(recovered, info)
	}
	return f.message(
		list(f, "agents", 1, agents, func(f Format, dst []byte, a *core.Agent) []byte { return f.encode(dst, agent(a)) }),
		list(f, "recovered_agents", 2, recovered, func(f Format, dst []byte, i *mesos.AgentInfo) []byte { return f.encode(dst, i) }),
	)
}

func agent(a *core.Agent) *master.Response_GetAgents_Agent {
	p := &master.Response_GetAgents_Agent{
		AgentInfo:               a.Info,
		Active:                  &a.Active,
		Deactivated:             &a.Deactivated,
		Version:                 &a.Version,
		Pid:                     new(a.PID()),
		RegisteredTime:          timeInfo(a.RegisteredAt),
		ReregisteredTime:        timeInfo(a.ReregisteredAt),
		TotalResources:          endpoint(a.Total),
		AllocatedResources:      endpoint(a.Used),
		OfferedResources:        endpoint(a.Offered),
		DrainInfo:               a.DrainInfo,
		EstimatedDrainStartTime: timeInfo(a.DrainStart),
	}
	for _, c := range a.Capabilities {
		p.Capabilities = append(p.Capabilities, &mesos.AgentInfo_Capability{Type: c.Enum()})
	}
	return p
}
