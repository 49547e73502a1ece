package render

import (
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// frameworks plans the members with the running and the completed ones; an id selects
// one.
func (p *plan) frameworks(v *core.View, who sight, id string) {
	each := func(f *core.Framework, first bool) bool {
		if id != "" && f.ID != id || !who.framework(f) {
			return first
		}
		if !first {
			p.text(",")
		}
		p.framework(f, who)
		return false
	}
	p.text(`"frameworks":[`)
	first := true
	for f := range v.Frameworks.Values() {
		first = each(f, first)
	}
	p.text(`],"completed_frameworks":[`)
	first = true
	for _, f := range v.CompletedFrameworks {
		first = each(f, first)
	}
	p.text("]")
}

// framework plans one framework (Mesos: FullFrameworkWriter).
func (p *plan) framework(f *core.Framework, who sight) {
	p.text("{")
	p.object(1, func(o *object) { o.frameworkHead(f) })
	p.text(`,"tasks":[`)
	list(p, who.tasks(f, values(f.Tasks)), appendTask)
	p.text(`],"unreachable_tasks":[`)
	list(p, who.tasks(f, values(f.UnreachableTasks)), appendTask)
	p.text(`],"completed_tasks":[`)
	list(p, who.tasks(f, f.CompletedTasks), appendTask)
	p.text(`],"offers":[`)
	list(p, f.Offers, appendOffer)
	p.text(`],"executors":[`)
	list(p, values(f.Executors), func(dst []byte, e *core.Executor) []byte {
		o := open(dst)
		if who.executor(f, e) { // else {}, as in Mesos
			o.executor(e)
		}
		return o.close()
	})
	p.text("]")
	p.do(1, func(to *sink) {
		o := object{buf: to.buf, comma: true}
		if f.Info.Labels != nil {
			o.labels(f.Info.Labels)
		}
		o.key("offer_constraints")
		if f.Constraints == nil {
			o.buf = append(o.buf, '{', '}')
		} else {
			o.buf = appendProto(o.buf, f.Constraints)
		}
		to.buf = o.close()
	})
}

// frameworkSummary writes what /state-summary shows of a framework; /state
// shows more after it. An HTTP framework has no "pid".
func (o *object) frameworkSummary(f *core.Framework) {
	o.str("id", f.ID)
	o.str("name", f.Info.GetName())
	o.resources("used_resources", f.Used())
	o.resources("offered_resources", f.Offered())
	o.key("capabilities")
	o.buf = append(o.buf, '[')
	for i, c := range f.Info.GetCapabilities() {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, c.GetType().String())
	}
	o.buf = append(o.buf, ']')
	o.str("hostname", f.Info.GetHostname())
	o.str("webui_url", f.Info.GetWebuiUrl())
	o.boolean("active", f.Active)
	o.boolean("connected", f.Connected)
	o.boolean("recovered", f.Recovered)
}

func multiRole(f *core.Framework) bool {
	for _, c := range f.Info.GetCapabilities() {
		if c.GetType() == mesos.FrameworkInfo_Capability_MULTI_ROLE {
			return true
		}
	}
	return false
}

func (o *object) frameworkHead(f *core.Framework) {
	o.frameworkSummary(f)
	o.str("user", f.Info.GetUser())
	o.double("failover_timeout", f.Info.GetFailoverTimeout())
	o.boolean("checkpoint", f.Info.GetCheckpoint())
	o.time("registered_time", f.RegisteredAt)
	o.time("unregistered_time", f.Unregistered)
	if f.Info.Principal != nil {
		o.str("principal", *f.Info.Principal)
	}
	o.resources("resources", f.Used().Add(f.Offered()))
	if !f.ReregisteredAt.IsZero() && !f.ReregisteredAt.Equal(f.RegisteredAt) {
		o.time("reregistered_time", f.ReregisteredAt)
	}
	if multiRole(f) {
		o.strings("roles", f.Info.GetRoles())
	} else {
		o.str("role", f.Info.GetRole())
	}
}

func appendOffer(dst []byte, of *core.Offer) []byte {
	o := open(dst)
	o.str("id", of.ID)
	o.str("framework_id", of.FrameworkID)
	o.key("allocation_info")
	info := open(o.buf)
	info.str("role", of.Role)
	o.buf = info.close()
	o.str("slave_id", of.AgentID)
	o.resources("resources", of.Resources)
	return o.close()
}

func (o *object) executor(e *core.Executor) {
	o.str("executor_id", e.Info.GetExecutorId().GetValue())
	o.str("name", e.Info.GetName())
	o.str("framework_id", e.FrameworkID)
	o.command(e.Info.GetCommand())
	o.resources("resources", e.Resources)
	if !e.Resources.Empty() {
		o.str("role", e.Resources.At(0).Role())
	}
	if e.Info.Labels != nil {
		o.labels(e.Info.Labels)
	}
	if e.Info.Type != nil {
		o.raw("type", e.Info.GetType().String())
	}
	o.str("slave_id", e.AgentID)
}

func (o *object) command(c *mesos.CommandInfo) {
	o.key("command")
	in := open(o.buf)
	if c != nil && c.Shell != nil {
		in.boolean("shell", *c.Shell)
	}
	if c != nil && c.Value != nil {
		in.str("value", *c.Value)
	}
	in.strings("argv", c.GetArguments())
	if c.GetEnvironment() != nil {
		in.proto("environment", c.Environment)
	}
	in.key("uris")
	in.buf = append(in.buf, '[')
	for i, u := range c.GetUris() {
		if i > 0 {
			in.buf = append(in.buf, ',')
		}
		uri := open(in.buf)
		uri.str("value", u.GetValue())
		uri.boolean("executable", u.GetExecutable())
		in.buf = uri.close()
	}
	in.buf = append(in.buf, ']')
	o.buf = in.close()
}
