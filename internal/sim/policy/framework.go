package policy

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/server/core"
)

// framework is a model of one: it has tasks to launch, takes the offers that they fit
// into and declines the others.
type framework struct {
	w     *world
	index int
	name  string
	group *FrameworkGroup
	role  *role
	rng   *rand.Rand
	sizes []*size // biggest first

	id         string
	stream     string
	connected  bool
	suppressed bool
	revived    time.Duration // when it last said that it wants offers
	reviving   bool          // it will, as soon as it may
	every      time.Duration // between jobs, if Load says so
	// rescinded are offers that it has still to look at, and that are gone.
	rescinded map[string]bool
	// unheard are tasks of which the leader has said nothing since it leads.
	unheard map[string]*task
	begun   bool

	used    amount
	wanted  amount
	waiting int
	running int
	frameworkCounts
}

// size is a size of a framework's tasks, and the tasks of that size that wait.
type size struct {
	amount
	cpus, mem float64
	jobs      []job // the first that still has some is at head
	head      int
}

// job is tasks that are wanted since the same time.
type job struct {
	wanted time.Duration
	left   int
}

func (s *size) resources(role string) []*mesos.Resource {
	return []*mesos.Resource{scalar("cpus", s.cpus, role), scalar("mem", s.mem, role)}
}

func scalar(name string, v float64, role string) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: &role},
	}
}

// makeFrameworks makes the frameworks and the roles.
func (w *world) makeFrameworks() error {
	roles := map[string]*role{}
	for i := range w.opts.Workload.Roles {
		r := &w.opts.Workload.Roles[i]
		roles[r.Name] = &role{
			name: r.Name, weight: cmp.Or(r.Weight, 1),
			guarantee: w.quantity(r.Guarantee, 0), limit: w.quantity(r.Limit, unlimited),
		}
	}
	for i := range w.opts.Workload.Frameworks {
		g := &w.opts.Workload.Frameworks[i]
		if roles[g.Role] == nil {
			roles[g.Role] = &role{name: g.Role, weight: 1, limit: amount{unlimited, unlimited}}
		}
		for j := range g.Count {
			f := &framework{
				w: w, index: len(w.frameworks), name: g.Name, group: g, role: roles[g.Role],
				rescinded: map[string]bool{}, suppressed: true,
			}
			if g.Count > 1 {
				f.name += "-" + strconv.Itoa(j+1)
			}
			f.rng = newRand(w.opts.Seed, "framework "+f.name)
			f.init()
			w.frameworks = append(w.frameworks, f)
			f.role.frameworks = append(f.role.frameworks, f)
		}
	}
	for _, name := range sortedKeys(roles) {
		if len(roles[name].frameworks) > 0 {
			w.roles = append(w.roles, roles[name])
		}
	}
	return w.checkSizes()
}

// unlimited is more than any cluster has.
const unlimited = int64(1) << 60

func (w *world) quantity(m map[string]Share, otherwise int64) amount {
	get := func(name string, total int64) int64 {
		if s, ok := m[name]; ok {
			return resources.ToMilli(s.Of(float64(total) / 1000))
		}
		return otherwise
	}
	return amount{get("cpus", w.total.cpus), get("mem", w.total.mem)}
}

// checkSizes finds tasks that no agent will ever have room for.
func (w *world) checkSizes() error {
	kinds := map[string]*agent{}
	for _, ag := range w.agents {
		kinds[fmt.Sprint(ag.kind.total, ag.kind.attributes, ag.rack)] = ag
	}
	for _, f := range w.frameworks {
		for _, s := range f.sizes {
			fits := false
			for _, ag := range kinds {
				fits = fits || f.accepts(ag) && ag.kind.total.fits(s.amount) > 0
			}
			if !fits {
				return fmt.Errorf("workload: framework %s: no agent has cpus %v and mem %v and the attributes %v", f.name, s.cpus, s.mem, f.group.Attributes)
			}
		}
	}
	return nil
}

func (f *framework) init() {
	for _, t := range f.group.Tasks {
		f.sizes = append(f.sizes, &size{
			amount: amount{resources.ToMilli(t.CPUs), resources.ToMilli(t.Mem)}, cpus: t.CPUs, mem: t.Mem,
		})
	}
	if f.group.Load == 0 {
		return
	}
	// Load is what all frameworks of the group hold on the average: rate x size x time.
	var share, weights float64
	for i, t := range f.group.Tasks {
		share += t.Share * f.sizes[i].share(f.w.total)
		weights += t.Share
	}
	share /= weights
	mine := f.group.Load / float64(f.group.Count)
	if f.group.Kind == Service {
		return
	}
	tasks := 1.0
	if f.group.JobSize != nil {
		tasks = f.group.JobSize.average()
	}
	seconds := tasks * share * f.group.Duration.average() / mine
	f.every = max(time.Microsecond, time.Duration(min(seconds, maxDuration.Seconds())*float64(time.Second)))
}

// begin subscribes for the first time, and starts what brings the framework work.
func (f *framework) begin() {
	f.begun = true
	f.subscribe()
	switch f.group.Kind {
	case Service:
		n := f.group.Instances
		if f.group.Load > 0 {
			n = f.instances()
		}
		for i, k := range split(n, f.group.weights()) {
			f.want(f.sizes[i], k)
		}
	case Greedy:
		f.role.greedy++
		f.adjust()
	default:
		f.w.clock.After(f.untilJob(), f.arrive)
	}
}

// instances is how many tasks of a service make its part of the load.
func (f *framework) instances() int {
	var share, weights float64
	for i, t := range f.group.Tasks {
		share += t.Share * f.sizes[i].share(f.w.total)
		weights += t.Share
	}
	return max(1, int(f.group.Load/float64(f.group.Count)/(share/weights)+0.5))
}

func (f *framework) untilJob() time.Duration {
	if f.group.Every != nil {
		return max(time.Microsecond, f.group.Every.drawDuration(f.rng))
	}
	return max(time.Microsecond, time.Duration(min(f.rng.ExpFloat64()*float64(f.every), float64(maxDuration))))
}

// arrive brings a job, and arranges for the next.
func (f *framework) arrive() {
	n := 1
	if f.group.JobSize != nil {
		n = f.group.JobSize.drawCount(f.rng)
	}
	f.want(f.sizes[f.pick()], n)
	f.w.clock.After(f.untilJob(), f.arrive)
}

// pick draws the size of a job's tasks.
func (f *framework) pick() int {
	var sum float64
	for _, t := range f.group.Tasks {
		sum += t.Share
	}
	at := f.rng.Float64() * sum
	for i, t := range f.group.Tasks {
		if at -= t.Share; at < 0 {
			return i
		}
	}
	return len(f.group.Tasks) - 1
}

// lasts draws how long a task runs; 0: for ever.
func (f *framework) lasts() time.Duration {
	if f.group.Duration == nil {
		return 0
	}
	return max(time.Millisecond, f.group.Duration.drawDuration(f.rng))
}

// want adds tasks that wait to be launched.
func (f *framework) want(s *size, n int) {
	if n == 0 {
		return
	}
	f.submitted += n
	f.again(s, n)
	f.adjust()
}

func (f *framework) again(s *size, n int) {
	s.jobs = append(s.jobs, job{wanted: f.w.now(), left: n})
	f.waits(s, n)
}

func (f *framework) waits(s *size, n int) {
	f.waiting += n
	f.role.waiting += n
	f.w.waiting += n
	f.wanted = f.wanted.plus(s.times(n))
	f.role.wanted = f.role.wanted.plus(s.times(n))
}

// take takes the task that has waited longest of a size.
func (f *framework) take(s *size) (wanted time.Duration) {
	for s.jobs[s.head].left == 0 {
		s.head++
	}
	j := &s.jobs[s.head]
	j.left--
	if s.head > 64 && s.head*2 > len(s.jobs) {
		s.jobs = slices.Delete(s.jobs, 0, s.head)
		s.head = 0
		j = &s.jobs[0]
	}
	f.waits(s, -1)
	return j.wanted
}

// has is how many tasks of a size wait.
func (s *size) has() bool {
	for s.head < len(s.jobs) && s.jobs[s.head].left == 0 {
		s.head++
	}
	if s.head == len(s.jobs) {
		s.jobs, s.head = s.jobs[:0], 0
		return false
	}
	return true
}

func (f *framework) wants() bool { return f.group.Kind == Greedy || f.waiting > 0 }

func truth(b *bool) bool { return b == nil || *b }

// adjust tells the master whether offers are wanted.
func (f *framework) adjust() {
	if !f.connected {
		return
	}
	if !f.wants() {
		if !f.suppressed && truth(f.group.Suppress) {
			f.suppressed = true
			f.call(&scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum(), Suppress: &scheduler.Call_Suppress{}})
		}
		return
	}
	if !f.suppressed || f.reviving {
		return
	}
	if wait := f.revived + time.Duration(f.group.ReviveEvery) - f.w.now(); f.revived > 0 && wait > 0 {
		f.reviving = true
		f.w.clock.After(wait, func() {
			f.reviving = false
			f.adjust()
		})
		return
	}
	f.suppressed, f.revived = false, f.w.now()
	f.call(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum(), Revive: &scheduler.Call_Revive{}})
}

func (f *framework) call(c *scheduler.Call) {
	c.FrameworkId = &mesos.FrameworkID{Value: &f.id}
	f.w.request++
	f.w.feed(core.Call{Request: f.w.request, StreamID: f.stream, Call: c})
}

func (f *framework) info() *mesos.FrameworkInfo {
	info := &mesos.FrameworkInfo{
		User: new("sim"), Name: &f.name, Roles: []string{f.role.name}, Checkpoint: new(true), FailoverTimeout: proto.Float64(604800),
		Capabilities: []*mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
			{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT.Enum()},
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
		},
	}
	if f.id != "" {
		info.Id = &mesos.FrameworkID{Value: &f.id}
	}
	if !truth(f.group.OfferFilters) {
		return info
	}
	enough := &mesos.OfferFilters_MinAllocatableResources{}
	for _, s := range f.sizes {
		enough.Quantities = append(enough.Quantities, &mesos.OfferFilters_ResourceQuantities{Quantities: map[string]*mesos.Value_Scalar{
			"cpus": {Value: &s.cpus}, "mem": {Value: &s.mem},
		}})
	}
	info.OfferFilters = map[string]*mesos.OfferFilters{f.role.name: {MinAllocatableResources: enough}}
	return info
}

// subscribe opens a stream to the leader.
func (f *framework) subscribe() {
	w := f.w
	if w.core == nil {
		return // the next leader will be found
	}
	f.stream = fmt.Sprintf("%s of master %d", f.name, w.term)
	w.streams[f.stream] = f
	sub := &scheduler.Call_Subscribe{FrameworkInfo: f.info(), OfferConstraints: f.constraints()}
	f.suppressed = truth(f.group.Suppress) && !f.wants()
	if f.suppressed {
		sub.SuppressedRoles = []string{f.role.name}
	} else {
		f.revived = w.now()
	}
	w.request++
	w.feed(core.Subscribe{Request: w.request, StreamID: f.stream, Call: &scheduler.Call{
		Type: scheduler.Call_SUBSCRIBE.Enum(), FrameworkId: sub.FrameworkInfo.Id, Subscribe: sub,
	}})
}

func (f *framework) constraints() *scheduler.OfferConstraints {
	if !f.group.Constraints {
		return nil
	}
	group := &scheduler.OfferConstraints_RoleConstraints_Group{}
	for _, name := range sortedKeys(f.group.Attributes) {
		group.AttributeConstraints = append(group.AttributeConstraints, &scheduler.AttributeConstraint{
			Selector: &scheduler.AttributeConstraint_Selector{
				Selector: &scheduler.AttributeConstraint_Selector_AttributeName{AttributeName: name},
			},
			Predicate: &scheduler.AttributeConstraint_Predicate{
				Predicate: &scheduler.AttributeConstraint_Predicate_TextEquals_{
					TextEquals: &scheduler.AttributeConstraint_Predicate_TextEquals{Value: new(f.group.Attributes[name])},
				},
			},
		})
	}
	return &scheduler.OfferConstraints{RoleConstraints: map[string]*scheduler.OfferConstraints_RoleConstraints{
		f.role.name: {Groups: []*scheduler.OfferConstraints_RoleConstraints_Group{group}},
	}}
}

// receive takes an event of the master.
func (f *framework) receive(e *scheduler.Event) {
	switch e.GetType() {
	case scheduler.Event_SUBSCRIBED:
		f.id, f.connected = e.GetSubscribed().GetFrameworkId().GetValue(), true
		f.reconcile()
		f.adjust()
	case scheduler.Event_OFFERS:
		f.offered(e.GetOffers().GetOffers())
	case scheduler.Event_RESCIND:
		f.rescinds++
		f.rescinded[e.GetRescind().GetOfferId().GetValue()] = true
	case scheduler.Event_UPDATE:
		f.update(e.GetUpdate().GetStatus())
	case scheduler.Event_ERROR:
		f.w.fail(fmt.Errorf("framework %s: %s", f.name, e.GetError().GetMessage()))
	default:
	}
}

// reconcileEvery is how often a framework asks a new leader for the tasks that it has
// not heard of.
const reconcileEvery = 30 * time.Second

// reconcile asks for them until each is accounted for: a task that was lost while
// nobody led is reported by nobody else.
func (f *framework) reconcile() {
	if !f.connected || len(f.unheard) == 0 {
		return
	}
	call := &scheduler.Call_Reconcile{}
	for _, id := range sortedKeys(f.unheard) {
		call.Tasks = append(call.Tasks, &scheduler.Call_Reconcile_Task{
			TaskId: &mesos.TaskID{Value: &id}, AgentId: &mesos.AgentID{Value: &f.unheard[id].target.id},
		})
	}
	f.call(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: call})
	term := f.w.term
	f.w.clock.After(reconcileEvery, func() {
		if f.w.term == term {
			f.reconcile()
		}
	})
}

// update takes the state of a task.
func (f *framework) update(s *mesos.TaskStatus) {
	id := s.GetTaskId().GetValue()
	delete(f.unheard, id)
	if len(s.Uuid) > 0 {
		f.call(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE.Enum(), Acknowledge: &scheduler.Call_Acknowledge{
			AgentId: s.AgentId, TaskId: s.TaskId, Uuid: s.Uuid,
		}})
	}
	t := f.w.tasks[id]
	if t == nil || core.Terminal(t.seen) || t.seen == s.GetState() {
		return // told again
	}
	before := t.seen
	t.seen = s.GetState()
	switch {
	case t.seen == mesos.TaskState_TASK_RUNNING:
		f.started(t)
	case t.seen == mesos.TaskState_TASK_FINISHED:
		f.finished++
		f.ran(before, -1)
		if f.group.Kind == Service {
			f.want(t.size, 1)
		}
	case t.seen == mesos.TaskState_TASK_ERROR:
		f.w.fail(fmt.Errorf("task %s of %s: %s", id, f.name, s.GetMessage()))
	case t.seen == mesos.TaskState_TASK_UNREACHABLE, t.seen == mesos.TaskState_TASK_UNKNOWN, core.Terminal(t.seen):
		f.lostTask(t, before)
	}
}

// started counts a task that runs.
func (f *framework) started(t *task) {
	f.ran(mesos.TaskState_TASK_RUNNING, 1)
	// The update took its time to the master and from there to here.
	f.wait.add(f.w.now() - t.wanted + 2*f.w.opts.LinkLatency)
}

// ran counts running tasks.
func (f *framework) ran(before mesos.TaskState, n int) {
	if before != mesos.TaskState_TASK_RUNNING {
		return // it was over before anybody heard that it ran
	}
	f.running += n
	f.role.running += n
	f.w.running += n
}

// lostTask wants a task again that will not come back.
func (f *framework) lostTask(t *task, before mesos.TaskState) {
	w := f.w
	f.lost++
	f.ran(before, -1)
	t.seen = mesos.TaskState_TASK_LOST
	if t.failure != nil {
		t.failure.heard()
	}
	if t.agent == nil || t.dead {
		delete(w.tasks, t.id)
	}
	if f.group.Kind != Greedy {
		f.again(t.size, 1)
		f.adjust()
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
