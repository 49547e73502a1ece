package render

import (
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// State writes /state.
func State(v *core.View, m *Master, viewer *authz.Viewer) Body {
	who := sight{viewer}
	var p plan
	p.text("{")
	p.object(1, func(o *object) { o.master(v, m, who) })
	p.text(",")
	p.agents(v, func(o *object, a *core.Agent) { o.agent(a, who) })
	p.text(",")
	p.recovered(v, "")
	p.text(",")
	p.frameworks(v, who, "")
	p.text(`,"orphan_tasks":[],"unregistered_frameworks":[]}`)
	return p.write()
}

// Frameworks writes /frameworks; an id selects one.
func Frameworks(v *core.View, id string, viewer *authz.Viewer) Body {
	var p plan
	p.text("{")
	p.frameworks(v, sight{viewer}, id)
	p.text(`,"unregistered_frameworks":[]}`)
	return p.write()
}

// master writes what comes before the lists in /state.
func (o *object) master(v *core.View, m *Master, who sight) {
	b := m.Version
	o.str("version", b.GetVersion())
	if b.GitSha != nil {
		o.str("git_sha", *b.GitSha)
	}
	if b.GitBranch != nil {
		o.str("git_branch", *b.GitBranch)
	}
	if b.GitTag != nil {
		o.str("git_tag", *b.GitTag)
	}
	o.str("build_date", b.GetBuildDate())
	o.double("build_time", b.GetBuildTime())
	o.str("build_user", b.GetBuildUser())
	o.time("start_time", m.Start)
	if !m.Elected.IsZero() {
		o.time("elected_time", m.Elected)
	}
	o.str("id", m.Info.GetId())
	o.str("pid", m.Info.GetPid())
	o.str("hostname", m.Info.GetHostname())
	o.key("capabilities")
	o.buf = append(o.buf, '[')
	for i, c := range m.Info.GetCapabilities() {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, c.GetType().String())
	}
	o.buf = append(o.buf, ']')
	o.double("activated_slaves", float64(v.Counts.AgentsActive))
	o.double("deactivated_slaves", float64(v.Counts.AgentsInactive))
	o.double("unreachable_slaves", float64(v.Counts.AgentsUnreachable))
	o.domain(m.Info.GetDomain())
	if l := m.Leader; l != nil {
		o.str("leader", l.GetPid())
		o.key("leader_info")
		in := open(o.buf)
		in.str("id", l.GetId())
		in.str("pid", l.GetPid())
		in.integer("port", int64(l.GetPort()))
		in.str("hostname", l.GetHostname())
		in.domain(l.GetDomain())
		o.buf = in.close()
	}
	if !who.flags() {
		return
	}
	if m.Cluster != "" {
		o.str("cluster", m.Cluster)
	}
	if m.LogDir != "" {
		o.str("log_dir", m.LogDir)
	}
	if m.ExternalLogFile != "" {
		o.str("external_log_file", m.ExternalLogFile)
	}
	o.flags(m.Flags)
}

// agents plans the member "slaves"; write adds the members of one.
func (p *plan) agents(v *core.View, write func(*object, *core.Agent)) {
	p.agentList(values(v.Agents), write)
}

func (p *plan) agentList(all []*core.Agent, write func(*object, *core.Agent)) {
	p.text(`"slaves":[`)
	list(p, all, func(dst []byte, a *core.Agent) []byte {
		o := open(dst)
		write(&o, a)
		return o.close()
	})
	p.text("]")
}

// recovered plans the member "recovered_slaves"; an id selects one.
func (p *plan) recovered(v *core.View, id string) {
	type entry struct {
		id   string
		info *mesos.AgentInfo
	}
	var all []entry
	if id != "" {
		if info, ok := v.RecoveredAgents.Get(id); ok {
			all = append(all, entry{id, info})
		}
	} else {
		for id, info := range v.RecoveredAgents.All() {
			all = append(all, entry{id, info})
		}
	}
	p.text(`"recovered_slaves":[`)
	list(p, all, func(dst []byte, e entry) []byte {
		o := open(dst)
		o.agentInfo(e.id, e.info)
		return o.close()
	})
	p.text("]")
}

func (o *object) agentInfo(id string, info *mesos.AgentInfo) {
	o.str("id", id)
	o.str("hostname", info.GetHostname())
	o.integer("port", int64(info.GetPort()))
	o.key("attributes")
	in := open(o.buf)
	for _, a := range info.GetAttributes() {
		in.name(a.GetName())
		in.buf = appendAttribute(in.buf, a)
	}
	o.buf = in.close()
	o.domain(info.GetDomain())
}

func appendAttribute(dst []byte, a *mesos.Attribute) []byte {
	switch a.GetType() {
	case mesos.Value_SCALAR:
		return appendDouble(dst, a.GetScalar().GetValue())
	case mesos.Value_RANGES:
		rs := make([]resources.Range, 0, len(a.GetRanges().GetRange()))
		for _, r := range a.GetRanges().GetRange() {
			rs = append(rs, resources.Range{Begin: r.GetBegin(), End: r.GetEnd()})
		}
		return append(appendRanges(append(dst, '"'), rs), '"')
	case mesos.Value_SET:
		return appendString(dst, "{"+strings.Join(a.GetSet().GetItem(), ", ")+"}")
	default:
		return appendString(dst, a.GetText().GetValue())
	}
}

// agent writes the members of an agent (Mesos: SlaveWriter).
func (o *object) agent(a *core.Agent, who sight) {
	o.agentInfo(a.ID, a.Info)
	o.str("pid", a.PID())
	o.time("registered_time", a.RegisteredAt)
	if !a.ReregisteredAt.IsZero() {
		o.time("reregistered_time", a.ReregisteredAt)
	}
	o.resources("resources", a.Total)
	o.resources("used_resources", a.Used)
	o.resources("offered_resources", a.Offered)
	o.key("reserved_resources")
	in := open(o.buf)
	unreserved := a.Total
	if reservations := a.Total.Reservations(); len(reservations) > 0 {
		unreserved = a.Total.Unreserved()
		for _, r := range reservations {
			if !who.role(r.Role) {
				continue
			}
			in.name(r.Role)
			in.buf = appendResources(in.buf, r.Resources)
		}
	}
	o.buf = in.close()
	o.resources("unreserved_resources", unreserved)
	o.boolean("active", a.Active)
	o.boolean("deactivated", a.Deactivated)
	o.str("version", a.Version)
	o.key("capabilities")
	o.buf = append(o.buf, '[')
	for i, c := range a.Capabilities {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, c.String())
	}
	o.buf = append(o.buf, ']')
	if a.DrainInfo != nil {
		o.proto("drain_info", a.DrainInfo)
		if !a.DrainStart.IsZero() {
			o.time("estimated_drain_start_time_seconds", a.DrainStart)
		}
	}
}

func (o *object) resources(k string, r resources.Resources) {
	o.key(k)
	o.buf = appendResources(o.buf, r)
}
