package render

import (
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// member is one field of a message under construction: its JSON name, its number, and
// how its content is planned. It is either a message, or a list of messages.
type member struct {
	name    string
	number  protowire.Number
	message []member
	list    func(p *plan)
}

// members of a message are written in this order. Lists that are empty appear in JSON
// as [], as Mesos writes these messages.
func (p *plan) members(all []member) {
	for i, m := range all {
		start := `,"` + m.name + `":`
		if i == 0 {
			start = `{"` + m.name + `":`
		}
		p.text(start)
		if m.message != nil {
			p.members(m.message)
			continue
		}
		p.text("[")
		m.list(p)
		p.text("]")
	}
	p.text("}")
}

// protobuf writes the members of a message. Lengths come before what they are the
// lengths of, so all is written before it is put together.
func protobuf(all []member) Body {
	var body Body
	for _, m := range all {
		if m.message != nil {
			inner := protobuf(m.message)
			body = append(append(body, head(m.number, inner)), inner...)
			continue
		}
		var p plan
		m.list(&p)
		body = append(body, p.write()...)
	}
	return body
}

// head is the tag and the length before a message in protobuf.
func head(number protowire.Number, body Body) []byte {
	dst := protowire.AppendTag(nil, number, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(body.Len()))
}

// envelope writes a response; its member has the name of the type in small letters.
func (f Format) envelope(t master.Response_Type, number protowire.Number, message []member) Body {
	if f == Protobuf {
		dst := protowire.AppendTag(nil, 1, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(t))
		return append(Body{dst}, protobuf([]member{{number: number, message: message}})...)
	}
	var p plan
	p.text(`{"type":"` + t.String() + `","` + strings.ToLower(t.String()) + `":`)
	p.members(message)
	p.text("}")
	return p.write()
}

// listOf is a member that is a list of messages.
func listOf[T any](f Format, name string, number protowire.Number, elems []T, encode func(Format, []byte, T) []byte) member {
	write := func(dst []byte, e T) []byte { return encode(f, dst, e) }
	return member{name: name, number: number, list: func(p *plan) {
		if f == JSON {
			list(p, elems, write)
		} else {
			fields(p, number, elems, write)
		}
	}}
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

func (f Format) state(v *core.View, who sight) []member {
	return []member{
		{name: "get_tasks", number: 1, message: f.tasks(v, who)},
		{name: "get_executors", number: 2, message: f.executors(v, who)},
		{name: "get_frameworks", number: 3, message: f.frameworks(v, who)},
		{name: "get_agents", number: 4, message: f.agents(v, who)},
	}
}

// everyFramework goes through the running and the completed ones that are seen.
func everyFramework(v *core.View, who sight, each func(*core.Framework)) {
	for f := range v.Frameworks.Values() {
		if who.framework(f) {
			each(f)
		}
	}
	for _, f := range v.CompletedFrameworks {
		if who.framework(f) {
			each(f)
		}
	}
}

func (f Format) tasks(v *core.View, who sight) []member {
	var active, unreachable, completed []*core.Task
	everyFramework(v, who, func(fw *core.Framework) {
		active = append(active, who.tasks(fw, values(fw.Tasks))...)
		unreachable = append(unreachable, who.tasks(fw, values(fw.UnreachableTasks))...)
		completed = append(completed, who.tasks(fw, fw.CompletedTasks)...)
	})
	return []member{
		listOf(f, "tasks", 2, active, encodeTask),
		listOf(f, "unreachable_tasks", 5, unreachable, encodeTask),
		listOf(f, "completed_tasks", 3, completed, encodeTask),
	}
}

// values are those of a map, by key.
func values[V any](m core.Map[V]) []V {
	all := make([]V, 0, m.Len())
	for v := range m.Values() {
		all = append(all, v)
	}
	return all
}

func (f Format) executors(v *core.View, who sight) []member {
	var all []*core.Executor
	everyFramework(v, who, func(fw *core.Framework) {
		for e := range fw.Executors.Values() {
			if who.executor(fw, e) {
				all = append(all, e)
			}
		}
	})
	return []member{listOf(f, "executors", 1, all, func(f Format, dst []byte, e *core.Executor) []byte {
		return f.encode(dst, &master.Response_GetExecutors_Executor{
			ExecutorInfo: e.Info,
			AgentId:      &mesos.AgentID{Value: &e.AgentID},
		})
	})}
}

func (f Format) frameworks(v *core.View, who sight) []member {
	var running, completed []*core.Framework
	for fw := range v.Frameworks.Values() {
		if who.framework(fw) {
			running = append(running, fw)
		}
	}
	for _, fw := range v.CompletedFrameworks {
		if who.framework(fw) {
			completed = append(completed, fw)
		}
	}
	write := func(f Format, dst []byte, fw *core.Framework) []byte {
		return f.encode(dst, FrameworkProto(v, fw, who.who))
	}
	return []member{
		listOf(f, "frameworks", 1, running, write),
		listOf(f, "completed_frameworks", 2, completed, write),
	}
}

// FrameworkProto is a framework as GET_FRAMEWORKS shows it.
func FrameworkProto(v *core.View, fw *core.Framework, viewer *authz.Viewer) *master.Response_GetFrameworks_Framework {
	who := sight{viewer}
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
		if offer := offerProto(v, fw, o, who); offer != nil {
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

// offerProto is an offer without the executors that are hidden; nil if its agent has
// gone.
func offerProto(v *core.View, fw *core.Framework, o *core.Offer, who sight) *mesos.Offer {
	p := v.OfferProto(o)
	if p == nil || who.all() || len(p.ExecutorIds) == 0 {
		return p
	}
	p.ExecutorIds = nil
	for e := range fw.ExecutorsOn(o.AgentID) {
		if who.executor(fw, e) {
			p.ExecutorIds = append(p.ExecutorIds, e.Info.GetExecutorId())
		}
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

func (f Format) agents(v *core.View, who sight) []member {
	return []member{
		listOf(f, "agents", 1, values(v.Agents), func(f Format, dst []byte, a *core.Agent) []byte {
			return encodeAgent(f, dst, a, who)
		}),
		listOf(f, "recovered_agents", 2, values(v.RecoveredAgents), func(f Format, dst []byte, i *mesos.AgentInfo) []byte {
			return f.encode(dst, who.agentInfo(i))
		}),
	}
}

// AgentProto is an agent as GET_AGENTS shows it.
func AgentProto(a *core.Agent, viewer *authz.Viewer) *master.Response_GetAgents_Agent {
	who := sight{viewer}
	p := agentProto(a, who)
	p.TotalResources = endpoint(who.resources(a.Total))
	p.AllocatedResources = endpoint(who.resources(a.Used))
	p.OfferedResources = endpoint(who.resources(a.Offered))
	return p
}

// agentProto is all but the resources.
func agentProto(a *core.Agent, who sight) *master.Response_GetAgents_Agent {
	p := &master.Response_GetAgents_Agent{
		AgentInfo:               who.agentInfo(a.Info),
		Active:                  &a.Active,
		Deactivated:             &a.Deactivated,
		Version:                 &a.Version,
		Pid:                     new(a.PID()),
		RegisteredTime:          timeInfo(a.RegisteredAt),
		ReregisteredTime:        timeInfo(a.ReregisteredAt),
		DrainInfo:               a.DrainInfo,
		EstimatedDrainStartTime: timeInfo(a.DrainStart),
	}
	for _, c := range a.Capabilities {
		p.Capabilities = append(p.Capabilities, &mesos.AgentInfo_Capability{Type: c.Enum()})
	}
	return p
}
