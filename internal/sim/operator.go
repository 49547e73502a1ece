package sim

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	opapi "clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
)

// operator is a person, or a program, who changes the cluster: one call at a time,
// until it is answered or given up.
type operator struct {
	w    *World
	host *host
	ears *listener
	// settings that must be kept, by name; see promise.
	promises map[string]*promise
	// gone are agents whose removal was acknowledged, ended the frameworks.
	gone, ended map[string]bool
	// last is the agent that it has drained last.
	last string
	// torn are frameworks that it has asked to end, whatever the answer.
	torn     map[string]bool
	draining map[string]bool
	// kept are agents whose drain was cancelled: that drain may not remove them any more.
	kept map[string]bool
}

// promise is a setting: what it must be, or may be besides because the outcome of a
// later call is unknown.
type promise struct{ values []string }

func (o *operator) promise(name string) *promise {
	p := o.promises[name]
	if p == nil {
		p = &promise{values: []string{""}}
		o.promises[name] = p
	}
	return p
}

// routine makes a call now and then.
func (o *operator) routine() {
	o.w.clock.After(o.w.between(5*time.Second, 40*time.Second), func() {
		if o.w.peace {
			return
		}
		o.act(o.routine)
	})
}

func (o *operator) act(next func()) {
	w := o.w
	switch w.rng.IntN(12) {
	case 0, 1:
		o.quota(next)
	case 2, 3:
		o.weight(next)
	case 4:
		o.agent(o.regret(next), func(id string) *opapi.Call {
			o.last = id
			return &opapi.Call{Type: opapi.Call_DRAIN_AGENT.Enum(), DrainAgent: &opapi.Call_DrainAgent{
				AgentId: &mesos.AgentID{Value: &id}, MarkGone: new(w.rng.IntN(4) == 0), MaxGracePeriod: durationpb.New(5 * time.Second),
			}}
		})
	case 5:
		o.agent(next, func(id string) *opapi.Call {
			return &opapi.Call{Type: opapi.Call_DEACTIVATE_AGENT.Enum(), DeactivateAgent: &opapi.Call_DeactivateAgent{AgentId: &mesos.AgentID{Value: &id}}}
		})
	case 6, 7:
		o.reactivate(next)
	case 8, 9:
		o.reserve(next)
	case 10:
		if w.rng.IntN(3) == 0 {
			o.teardown(next)
			return
		}
		o.maintenance(next)
	default:
		if w.rng.IntN(3) > 0 {
			next()
			return
		}
		o.agent(next, func(id string) *opapi.Call {
			return &opapi.Call{Type: opapi.Call_MARK_AGENT_GONE.Enum(), MarkAgentGone: &opapi.Call_MarkAgentGone{AgentId: &mesos.AgentID{Value: &id}}}
		})
	}
}

// send sends a call to whom leads, and hands on the status: 0 means that the outcome
// is unknown.
func (o *operator) send(c *opapi.Call, done func(status int)) {
	o.ask(o.first(), c, 0, done)
}

// first is the master to ask first.
func (o *operator) first() int {
	first, _ := o.ears.leader()
	if first < 0 {
		first = o.w.rng.IntN(len(o.w.masters))
	}
	return first
}

func (o *operator) ask(number int, c *opapi.Call, redirects int, done func(int)) {
	o.request(number, c.GetType().String(), func(m *master, reply func(any)) { m.operate(c, reply) }, redirects, done)
}

// request makes a request of a master, or of the one that it names.
func (o *operator) request(number int, what string, call func(*master, func(any)), redirects int, done func(int)) {
	m := o.w.masters[number]
	o.w.net.request(o.host, m.host, func(reply func(any)) bool {
		if !m.up {
			return false
		}
		call(m, reply)
		return true
	}, func(v any, ok bool) {
		a, _ := v.(answer)
		switch {
		case !ok:
			done(0)
		case a.status == 307 && redirects < 5:
			o.request(a.redirect, what, call, redirects+1, done)
		case a.status == 503 || a.status == 307:
			done(0)
		default:
			o.w.say("the operator's %s is answered %d %s", what, a.status, a.body)
			done(a.status)
		}
	})
}

// regret takes a drain back now and then, before going on.
func (o *operator) regret(next func()) func() {
	return func() {
		if o.w.rng.IntN(2) == 0 {
			next()
			return
		}
		id := o.last
		o.w.clock.After(o.w.between(0, 10*time.Second), func() {
			o.request(o.first(), "CANCEL_DRAIN", func(m *master, reply func(any)) { m.cancelDrain(id, reply) }, 0, func(status int) {
				o.kept[id] = status == 200
				next()
			})
		})
	}
}

// keep settles what a setting is after a call.
func (p *promise) keep(value string, status int) {
	switch status {
	case 200:
		p.values = []string{value}
	case 0:
		if !slices.Contains(p.values, value) {
			p.values = append(p.values, value)
		}
	}
}

func (o *operator) quota(next func()) {
	w := o.w
	role := []string{"eng", "ops"}[w.rng.IntN(2)]
	q := &quota.QuotaConfig{Role: &role}
	if w.rng.IntN(4) > 0 {
		n := float64(1 + w.rng.IntN(3))
		q.Guarantees = map[string]*mesos.Value_Scalar{"cpus": {Value: new(n)}}
		if w.rng.IntN(2) == 0 {
			q.Limits = map[string]*mesos.Value_Scalar{"cpus": {Value: new(n + 8)}}
		}
	}
	o.send(&opapi.Call{Type: opapi.Call_UPDATE_QUOTA.Enum(), UpdateQuota: &opapi.Call_UpdateQuota{
		Force: new(true), QuotaConfigs: []*quota.QuotaConfig{q},
	}}, func(status int) {
		o.promise("quota of "+role).keep(quotaText(q), status)
		w.checkPromises(status)
		next()
	})
}

func quotaText(q *quota.QuotaConfig) string {
	if q == nil || len(q.Guarantees) == 0 && len(q.Limits) == 0 {
		return ""
	}
	return fmt.Sprintf("%v-%v", q.Guarantees["cpus"].GetValue(), q.Limits["cpus"].GetValue())
}

func (o *operator) weight(next func()) {
	role := []string{"eng", "ops"}[o.w.rng.IntN(2)]
	v := float64(1 + o.w.rng.IntN(5))
	o.send(&opapi.Call{Type: opapi.Call_UPDATE_WEIGHTS.Enum(), UpdateWeights: &opapi.Call_UpdateWeights{
		WeightInfos: []*mesos.WeightInfo{{Role: &role, Weight: &v}},
	}}, func(status int) {
		o.promise("weight of "+role).keep(fmt.Sprint(v), status)
		o.w.checkPromises(status)
		next()
	})
}

// agent makes a call about some agent.
func (o *operator) agent(next func(), call func(id string) *opapi.Call) {
	m := o.w.machines[o.w.rng.IntN(len(o.w.machines))]
	id := m.agentID()
	if id == "" {
		next()
		return
	}
	c := call(id)
	if c.GetDrainAgent() != nil {
		o.draining[id] = true
	}
	if c.GetDrainAgent() != nil || c.GetMarkAgentGone() != nil {
		delete(o.kept, id)
	}
	o.send(c, func(status int) {
		if c.GetMarkAgentGone() != nil && status == 200 {
			o.gone[id] = true
			o.w.checkPromises(status)
		}
		next()
	})
}

// reserve reserves a bit of an agent's disk for a role, or frees it again. Such a call
// promises nothing: it is answered before the agent knows.
func (o *operator) reserve(next func()) {
	o.agent(next, func(id string) *opapi.Call {
		r := &mesos.Resource{
			Name: new("disk"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(8.0)},
			Reservations: []*mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new("eng")}},
		}
		agent, rs := &mesos.AgentID{Value: &id}, []*mesos.Resource{r}
		if o.w.rng.IntN(2) == 0 {
			return &opapi.Call{Type: opapi.Call_UNRESERVE_RESOURCES.Enum(), UnreserveResources: &opapi.Call_UnreserveResources{AgentId: agent, Resources: rs}}
		}
		return &opapi.Call{Type: opapi.Call_RESERVE_RESOURCES.Enum(), ReserveResources: &opapi.Call_ReserveResources{AgentId: agent, Resources: rs}}
	})
}

// reactivate lets all agents be offered again.
func (o *operator) reactivate(next func()) {
	i := 0
	var step func()
	step = func() {
		if i == len(o.w.machines) {
			next()
			return
		}
		id := o.w.machines[i].agentID()
		i++
		if id == "" {
			step()
			return
		}
		o.send(&opapi.Call{Type: opapi.Call_REACTIVATE_AGENT.Enum(), ReactivateAgent: &opapi.Call_ReactivateAgent{AgentId: &mesos.AgentID{Value: &id}}},
			func(int) { step() })
	}
	step()
}

func (o *operator) teardown(next func()) {
	f := o.w.frameworks[o.w.rng.IntN(len(o.w.frameworks))]
	id := f.id()
	if id == "" {
		next()
		return
	}
	o.torn[id] = true
	o.send(&opapi.Call{Type: opapi.Call_TEARDOWN.Enum(), Teardown: &opapi.Call_Teardown{FrameworkId: &mesos.FrameworkID{Value: &id}}}, func(status int) {
		if status == 200 {
			o.ended[id] = true
		}
		next()
	})
}

// maintenance schedules a machine's maintenance, brings it down and up again, or
// clears the schedule.
func (o *operator) maintenance(next func()) {
	w := o.w
	m := w.machines[w.rng.IntN(len(w.machines))]
	machine := []*mesos.MachineID{{Hostname: new(m.host.name), Ip: new(m.ip())}}
	schedule := func(then func()) {
		s := &maintenance.Schedule{Windows: []*maintenance.Window{{
			MachineIds: machine,
			Unavailability: &mesos.Unavailability{
				Start:    &mesos.TimeInfo{Nanoseconds: new(w.clock.Now().Add(30 * time.Second).UnixNano())},
				Duration: &mesos.DurationInfo{Nanoseconds: new(int64(time.Minute))},
			},
		}}}
		o.send(&opapi.Call{Type: opapi.Call_UPDATE_MAINTENANCE_SCHEDULE.Enum(), UpdateMaintenanceSchedule: &opapi.Call_UpdateMaintenanceSchedule{Schedule: s}},
			func(int) { then() })
	}
	up := func(then func()) {
		o.send(&opapi.Call{Type: opapi.Call_STOP_MAINTENANCE.Enum(), StopMaintenance: &opapi.Call_StopMaintenance{Machines: machine}}, func(int) { then() })
	}
	clear := func() {
		o.send(&opapi.Call{Type: opapi.Call_UPDATE_MAINTENANCE_SCHEDULE.Enum(), UpdateMaintenanceSchedule: &opapi.Call_UpdateMaintenanceSchedule{Schedule: &maintenance.Schedule{}}},
			func(int) { next() })
	}
	if w.rng.IntN(3) > 0 {
		schedule(func() { w.clock.After(w.between(time.Second, 20*time.Second), clear) })
		return
	}
	schedule(func() {
		o.send(&opapi.Call{Type: opapi.Call_START_MAINTENANCE.Enum(), StartMaintenance: &opapi.Call_StartMaintenance{Machines: machine}}, func(int) {
			w.clock.After(w.between(5*time.Second, 30*time.Second), func() { up(next) })
		})
	})
}

// pacify undoes what keeps resources from being offered, until it has succeeded.
func (o *operator) pacify(done func()) {
	var calls []*opapi.Call
	for _, role := range []string{"eng", "ops"} {
		calls = append(calls, &opapi.Call{Type: opapi.Call_UPDATE_QUOTA.Enum(), UpdateQuota: &opapi.Call_UpdateQuota{
			Force: new(true), QuotaConfigs: []*quota.QuotaConfig{{Role: new(role)}},
		}})
	}
	for _, m := range o.w.machines {
		id := []*mesos.MachineID{{Hostname: new(m.host.name), Ip: new(m.ip())}}
		calls = append(calls, &opapi.Call{Type: opapi.Call_STOP_MAINTENANCE.Enum(), StopMaintenance: &opapi.Call_StopMaintenance{Machines: id}})
	}
	calls = append(calls, &opapi.Call{Type: opapi.Call_UPDATE_MAINTENANCE_SCHEDULE.Enum(), UpdateMaintenanceSchedule: &opapi.Call_UpdateMaintenanceSchedule{Schedule: &maintenance.Schedule{}}})
	i := 0
	var step func()
	step = func() {
		if i == len(calls) {
			done()
			return
		}
		c := calls[i]
		o.send(c, func(status int) {
			if q := c.GetUpdateQuota(); q != nil {
				o.promise("quota of "+q.QuotaConfigs[0].GetRole()).keep("", status)
			}
			if status != 0 {
				i++
			}
			o.w.clock.After(200*time.Millisecond, step)
		})
	}
	step()
}
