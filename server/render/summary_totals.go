package render

import (
	"clusterd/server/core"
)

// clusterHead writes who leads, and since when.
func (o *object) clusterHead(m *Master, opts ClusterOptions) {
	o.key("leader")
	l := m.Leader
	in := open(o.buf)
	in.str("id", l.GetId())
	in.str("hostname", l.GetHostname())
	in.str("ip", l.GetAddress().GetIp())
	in.integer("port", int64(l.GetPort()))
	in.str("pid", l.GetPid())
	in.str("version", m.Version.GetVersion())
	if fd := l.GetDomain().GetFaultDomain(); fd != nil {
		in.str("region", fd.GetRegion().GetName())
		in.str("zone", fd.GetZone().GetName())
	}
	o.buf = in.close()
	o.str("cluster", m.Cluster)
	o.time("start_time", m.Start)
	o.time("elected_time", m.Elected)
	o.key("build")
	in = open(o.buf)
	in.str("clusterd", opts.Build)
	b := m.Version
	in.str("version", b.GetVersion())
	in.str("build_date", b.GetBuildDate())
	in.double("build_time", b.GetBuildTime())
	in.str("build_user", b.GetBuildUser())
	for _, f := range []struct{ name, value string }{
		{"git_sha", b.GetGitSha()}, {"git_branch", b.GetGitBranch()}, {"git_tag", b.GetGitTag()},
	} {
		if f.value != "" {
			in.str(f.name, f.value)
		}
	}
	o.buf = in.close()
}

// totals writes the members "totals" and "roles".
func (o *object) totals(v *core.View, m *Master, who sight) {
	o.key("totals")
	in := open(o.buf)
	in.agentTotals(v, who)
	in.frameworkTotals(v, who)
	o.buf = in.close()
	o.key("roles")
	o.buf = append(o.buf, '[')
	for i, r := range roles(v, m.RoleWhitelist, who) {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		in := open(o.buf)
		in.str("name", r.name)
		in.double("weight", r.weight)
		in.integer("frameworks", int64(len(r.frameworks)))
		for _, q := range []struct {
			name string
			of   quantities
		}{{"allocated", r.allocated}, {"offered", r.offered}, {"reserved", r.reserved}, {"consumed", r.allocated.plus(r.idle)}} {
			in.key(q.name)
			in.buf = appendQuantities(in.buf, q.of)
		}
		if q := quotaOf(v, r.name); q != nil && who.quota(r.name) {
			in.key("guarantee")
			in.buf = appendScalars(in.buf, q.GetGuarantees())
			in.key("limit")
			in.buf = appendScalars(in.buf, q.GetLimits())
		}
		o.buf = in.close()
	}
	o.buf = append(o.buf, ']')
}

// agentTotals writes numbers of agents, and what they have.
func (o *object) agentTotals(v *core.View, who sight) {
	var total, allocated, offered, reserved, revocable [len(always)]int64
	states := map[string]int64{}
	add := func(to *[len(always)]int64, what [len(always)]int64) {
		for i, n := range what {
			to[i] += n
		}
	}
	for a := range v.Agents.Values() {
		states[AgentState(a)]++
		add(&total, scalars(a.Total))
		add(&allocated, scalars(a.Used))
		add(&offered, scalars(a.Offered))
		for i := range a.Total.Len() {
			it := a.Total.At(i)
			if it.Reserved() && (who.allRoles() || who.item(&it)) {
				add(&reserved, scalars(it.AsResources()))
			}
			if it.Revocable() {
				add(&revocable, scalars(it.AsResources()))
			}
		}
	}
	o.key("agents")
	in := open(o.buf)
	in.integer("total", int64(v.Agents.Len()))
	in.integer("active", int64(v.Counts.AgentsActive))
	in.integer("inactive", int64(v.Counts.AgentsInactive))
	in.integer("connected", int64(v.Counts.AgentsConnected))
	in.integer("disconnected", int64(v.Counts.AgentsDisconnected))
	in.integer("unreachable", int64(v.Unreachable.Len()))
	in.integer("recovered", int64(v.RecoveredAgents.Len()))
	in.integer("gone", int64(v.Gone.Len()))
	in.integer("draining", states["DRAINING"])
	in.integer("drained", states["DRAINED"])
	in.integer("deactivated", states["DEACTIVATED"])
	o.buf = in.close()
	o.key("resources")
	in = open(o.buf)
	for _, r := range []struct {
		name string
		sums [len(always)]int64
	}{{"total", total}, {"allocated", allocated}, {"offered", offered}, {"reserved", reserved}, {"revocable", revocable}} {
		in.key(r.name)
		in.buf = appendAmounts(in.buf, r.sums)
	}
	o.buf = in.close()
}

// frameworkTotals writes numbers of frameworks, their offers, and of tasks that are not
// completed. Of frameworks and tasks that are hidden nothing is counted.
func (o *object) frameworkTotals(v *core.View, who sight) {
	var total, active, connected, recovered, offers, inverse int64
	one := func(is bool) int64 {
		if is {
			return 1
		}
		return 0
	}
	var tasks stateCounts
	for f := range v.Frameworks.Values() {
		if !who.framework(f) {
			continue
		}
		total++
		active += one(f.Active)
		connected += one(f.Connected)
		recovered += one(f.Recovered)
		offers += int64(len(f.Offers))
		inverse += int64(len(f.InverseOffers))
		if who.all() {
			continue
		}
		for _, m := range []core.Map[*core.Task]{f.Tasks, f.UnreachableTasks} {
			for t := range m.Values() {
				if who.task(f, t) {
					tasks.count(t.State)
				}
			}
		}
	}
	if who.all() {
		for s, n := range v.Counts.Tasks {
			if s >= 0 && int(s) < len(tasks) {
				tasks[s] = int32(n) //nolint:gosec // tasks in memory
			}
		}
	}
	completed := int64(0)
	for _, f := range v.CompletedFrameworks {
		completed += one(who.framework(f))
	}
	o.key("frameworks")
	in := open(o.buf)
	in.integer("total", total)
	in.integer("active", active)
	in.integer("inactive", total-active)
	in.integer("connected", connected)
	in.integer("disconnected", total-connected)
	in.integer("recovered", recovered)
	in.integer("completed", completed)
	o.buf = in.close()
	o.integer("offers", offers)
	o.integer("inverse_offers", inverse)
	o.counts("tasks", &tasks)
}
