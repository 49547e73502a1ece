package policy

import (
	"strconv"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// The defaults of a framework's handling of offers.
const (
	defaultLatency = 10 * time.Millisecond
	defaultRefuse  = 5 * time.Second
)

// offered takes offers, to be looked at a little later.
func (f *framework) offered(offers []*mesos.Offer) {
	w := f.w
	for _, o := range offers {
		ag := w.agentOf(o)
		if ag.freed >= 0 {
			// Who asks later cannot have been offered it before.
			w.latency.add(w.now() - max(ag.freed, f.revived) + w.opts.LinkLatency)
			ag.freed = -1
		}
	}
	f.offers += len(offers)
	w.measure.firstOffer()
	latency := defaultLatency
	if f.group.Latency != nil {
		latency = time.Duration(*f.group.Latency)
	}
	term := w.term
	w.clock.After(latency+2*w.opts.LinkLatency, func() {
		if w.core != nil && w.term == term {
			f.consider(offers)
		}
	})
}

// agentOf finds the agent of an offer: its hostname has its number.
func (w *world) agentOf(o *mesos.Offer) *agent {
	n, err := strconv.Atoi(o.GetHostname()[len("agent-"):])
	if err != nil || n >= len(w.agents) {
		panic("offer of an agent that does not exist: " + o.GetHostname())
	}
	return w.agents[n]
}

// consider launches what fits and declines the rest.
func (f *framework) consider(offers []*mesos.Offer) {
	var declined []*mesos.OfferID
	for _, o := range offers {
		id := o.GetId().GetValue()
		if f.rescinded[id] {
			delete(f.rescinded, id)
			continue
		}
		var tasks []*mesos.TaskInfo
		if f.wants() && f.accepts(f.w.agentOf(o)) {
			tasks = f.fill(o)
		}
		if len(tasks) == 0 {
			declined = append(declined, o.Id)
			continue
		}
		f.accepted++
		f.launched += len(tasks)
		f.call(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
			OfferIds: []*mesos.OfferID{o.Id}, Filters: f.filters(),
			Operations: []*mesos.Offer_Operation{{
				Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks},
			}},
		}})
	}
	f.adjust()
	if len(declined) > 0 {
		f.declined += len(declined)
		f.call(&scheduler.Call{Type: scheduler.Call_DECLINE.Enum(), Decline: &scheduler.Call_Decline{
			OfferIds: declined, Filters: f.filters(),
		}})
	}
}

// filters are what a framework says with what it does not use. One that wants nothing
// has suppressed its offers: no filter is needed besides.
func (f *framework) filters() *mesos.Filters {
	refuse := defaultRefuse
	if f.group.Refuse != nil {
		refuse = time.Duration(*f.group.Refuse)
	}
	if !f.wants() && truth(f.group.Suppress) {
		refuse = 0
	}
	return &mesos.Filters{RefuseSeconds: new(refuse.Seconds())}
}

// accepts reports whether the framework takes offers of an agent.
func (f *framework) accepts(ag *agent) bool {
	for name, value := range f.group.Attributes {
		if ag.attribute(name) != value {
			return false
		}
	}
	return true
}

// fill makes the tasks that an offer has room for. Of several sizes, that goes first
// of which a task has waited longest.
func (f *framework) fill(o *mesos.Offer) []*mesos.TaskInfo {
	var room amount
	for _, r := range o.GetResources() {
		switch r.GetName() {
		case "cpus":
			room.cpus += resources.ToMilli(r.GetScalar().GetValue())
		case "mem":
			room.mem += resources.ToMilli(r.GetScalar().GetValue())
		}
	}
	var tasks []*mesos.TaskInfo
	if f.group.Kind == Greedy {
		for s := f.sizes[0]; room.fits(s.amount) > 0; room = room.minus(s.amount) {
			f.submitted++
			tasks = append(tasks, f.task(s, f.w.now(), o))
		}
		return tasks
	}
	for {
		var next *size
		for _, s := range f.sizes {
			if s.has() && room.fits(s.amount) > 0 && (next == nil || s.jobs[s.head].wanted < next.jobs[next.head].wanted) {
				next = s
			}
		}
		if next == nil {
			return tasks
		}
		room = room.minus(next.amount)
		tasks = append(tasks, f.task(next, f.take(next), o))
	}
}

// task makes a task that is to be launched.
func (f *framework) task(s *size, wanted time.Duration, o *mesos.Offer) *mesos.TaskInfo {
	w := f.w
	w.nextTask++
	t := &task{id: "task-" + strconv.FormatUint(w.nextTask, 10), framework: f, size: s, target: w.agentOf(o), wanted: wanted, seen: mesos.TaskState_TASK_STAGING}
	w.tasks[t.id] = t
	return &mesos.TaskInfo{
		Name: &t.id, TaskId: &mesos.TaskID{Value: &t.id}, AgentId: o.AgentId, Resources: s.resources(f.role.name),
		Command: &mesos.CommandInfo{Value: &f.name},
	}
}
