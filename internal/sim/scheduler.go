package sim

import (
	"fmt"
	"strings"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/sim/clock"
)

// framework is a well-behaved framework: it keeps its id and its tasks on a disk,
// its scheduler may die and start again, it subscribes until it succeeds, reconciles
// afterwards and from time to time, and acknowledges what it has written down.
type framework struct {
	w     *World
	index int
	host  *host

	// What is kept.
	info     *mesos.FrameworkInfo
	tasks    map[string]*fwTask
	order    []*fwTask
	reserved []*reservation
	former   []string // ids that it had and that ended
	nextTask int
	nextOp   int

	// The scheduler's process.
	up        bool
	gen       int
	ears      *listener
	stream    *end
	streamID  string
	master    int // that the stream leads to
	connected bool
	trying    bool
	heard     time.Time
	retry     *clock.Event
	want      int
	custom    bool // its tasks share executors of its own
	quiet     bool // it wants no more offers
	leaving   bool // it has asked to be torn down
	probe     bool // it takes every offer and keeps it
	offers    map[string]bool

	// Kept by the world, for its checks: since when no master has had the stream.
	streams int
	lostAt  time.Time
}

// fwTask is a task as its framework sees it.
type fwTask struct {
	id, agent string
	state     mesos.TaskState
	seen      map[mesos.TaskState]bool
	at        time.Time
	executor  string
	report    int               // number of the newest update that it has heard
	end       *mesos.TaskStatus // the agent's word on how it ended
}

func terminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED,
		mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_ERROR, mesos.TaskState_TASK_DROPPED,
		mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

func (w *World) addFramework(h *host) *framework {
	f := &framework{w: w, index: len(w.frameworks), host: h, tasks: map[string]*fwTask{}, offers: map[string]bool{}}
	f.want = 2 + w.rng.IntN(4)
	f.custom = w.rng.IntN(3) == 0
	info := &mesos.FrameworkInfo{
		User: new("u"), Name: new(fmt.Sprintf("f%d", f.index)),
		FailoverTimeout: new([]float64{40, 90, 300, 3600}[w.rng.IntN(4)]),
		Checkpoint:      new(w.rng.IntN(4) > 0),
	}
	caps := []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
		mesos.FrameworkInfo_Capability_PARTITION_AWARE,
	}
	switch w.rng.IntN(3) {
	case 0:
		info.Role = new("eng")
		caps = nil
	case 1:
		info.Roles = []string{"eng"}
	default:
		info.Roles = []string{"eng", "ops"}
	}
	for _, c := range caps {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	f.info = info
	f.ears = w.newListener(h, nil)
	w.frameworks = append(w.frameworks, f)
	return f
}

func (f *framework) id() string { return f.info.GetId().GetValue() }

func (f *framework) later(d time.Duration, fn func()) *clock.Event {
	gen := f.gen
	return f.w.clock.After(d, func() {
		if f.up && f.gen == gen {
			fn()
		}
	})
}

func (f *framework) start() {
	if f.up || !f.host.on {
		return
	}
	f.gen++
	f.up, f.trying, f.connected, f.stream = true, false, false, nil
	f.w.say("f%d's scheduler starts", f.index)
	f.connectIn(f.w.between(0, 200*time.Millisecond))
	f.later(f.w.between(5*time.Second, 15*time.Second), f.routine)
}

func (f *framework) die(told bool) {
	if !f.up {
		return
	}
	f.w.say("f%d's scheduler dies", f.index)
	f.up = false
	f.gen++
	f.w.net.drop(f.host, told)
	f.stream, f.connected = nil, false
	clear(f.offers)
}

func (f *framework) connectIn(d time.Duration) {
	f.w.clock.Cancel(f.retry)
	f.retry = f.later(d, func() {
		if f.stream == nil && !f.trying {
			first, _ := f.ears.leader()
			if first < 0 {
				first = f.w.rng.IntN(len(f.w.masters))
			}
			f.subscribe(first, 0)
		}
	})
}

// subscribe asks a master for a stream and follows where it points.
func (f *framework) subscribe(master, redirects int) {
	f.trying = true
	gen := f.gen
	again := func() {
		if f.up && f.gen == gen {
			f.trying = false
			f.connectIn(f.w.between(100*time.Millisecond, time.Second))
		}
	}
	m := f.w.masters[master]
	f.w.net.dial(f.host, m, func(client, server *end) {
		if client == nil {
			again()
			return
		}
		if !f.up || f.gen != gen {
			client.vanish(true)
			return
		}
		f.stream, f.master, f.heard = client, master, f.w.clock.Now()
		f.watch(client)
		client.closed = func(string) {
			if f.stream == client {
				f.disconnected()
			}
		}
		client.deliver = func(v any) {
			if f.stream != client || !f.up {
				return
			}
			f.heard = f.w.clock.Now()
			msg := v.(streamMessage)
			switch {
			case msg.event != nil:
				f.trying = false
				f.event(msg.event)
			case msg.status == 200:
				f.streamID = msg.streamID
			case msg.status == 307 && redirects < 5:
				f.stream = nil
				client.closed = nil
				f.subscribe(msg.redirect, redirects+1)
			default:
				f.stream = nil
				client.close("refused")
				again()
			}
		}
		call := &scheduler.Call{
			Type: scheduler.Call_SUBSCRIBE.Enum(), FrameworkId: f.info.Id,
			Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: clone(f.info)},
		}
		if f.quiet {
			call.Subscribe.SuppressedRoles = f.roles()
		}
		// The request travels behind the handshake.
		f.w.net.clock.After(f.w.net.latency(f.host, m.host), func() {
			if m.up && !server.over {
				f.w.owner[server] = f
				m.subscribe(server, call)
			}
		})
	})
}

func (f *framework) roles() []string {
	if f.info.Role != nil {
		return []string{f.info.GetRole()}
	}
	return f.info.GetRoles()
}

// watch gives a stream up that is silent: heartbeats come every few seconds.
func (f *framework) watch(c *end) {
	f.later(5*time.Second, func() {
		if f.stream != c {
			return
		}
		if f.w.clock.Now().Sub(f.heard) > 3*f.w.cfg.Core.HeartbeatInterval+2*time.Second {
			c.shut("no heartbeat", true)
			return
		}
		f.watch(c)
	})
}

func (f *framework) disconnected() {
	f.stream, f.connected, f.trying = nil, false, false
	clear(f.offers)
	f.connectIn(f.w.between(50*time.Millisecond, time.Second))
}

// call sends a call on the present subscription. Its outcome may stay unknown.
func (f *framework) call(c *scheduler.Call) {
	if !f.connected {
		return
	}
	c.FrameworkId = f.info.Id
	f.post(c)
	// A proxy or a client library repeats what is safe to repeat.
	if f.w.troubled() && f.w.rng.IntN(25) == 0 && c.GetType() != scheduler.Call_ACCEPT {
		f.later(f.w.between(0, 3*time.Second), func() {
			if f.connected {
				f.post(c)
			}
		})
	}
}

func (f *framework) post(c *scheduler.Call) {
	m, stream, gen := f.w.masters[f.master], f.streamID, f.gen
	conn := f.stream
	f.w.net.request(f.host, m.host, func(reply func(any)) bool {
		if !m.up {
			return false
		}
		m.call(c, stream, reply)
		return true
	}, func(v any, ok bool) {
		if f.gen != gen || f.stream != conn || f.stream == nil {
			return
		}
		if a, is := v.(answer); ok && is && a.status < 300 {
			return
		}
		if a, is := v.(answer); is && f.w.trace.on {
			f.w.note("f%d: %s answered %d %s", f.index, c.GetType(), a.status, a.body)
		}
		if a, is := v.(answer); is && (a.status == 403 || a.status == 307 || a.status == 503 ||
			a.status == 400 && strings.Contains(a.body, "stream ID")) {
			f.stream.shut("not subscribed", true)
		}
	})
}

// event takes what the master says.
func (f *framework) event(e *scheduler.Event) {
	f.w.trace.mix(uint64(e.GetType()) + 100)
	switch e.GetType() {
	case scheduler.Event_SUBSCRIBED:
		f.subscribed(e.GetSubscribed())
	case scheduler.Event_OFFERS:
		for _, o := range e.GetOffers().GetOffers() {
			f.offers[o.GetId().GetValue()] = true
			f.later(f.w.between(0, 30*time.Millisecond), func() { f.offer(o) })
		}
	case scheduler.Event_RESCIND:
		delete(f.offers, e.GetRescind().GetOfferId().GetValue())
	case scheduler.Event_UPDATE:
		f.update(e.GetUpdate().GetStatus())
	case scheduler.Event_UPDATE_OPERATION_STATUS:
		f.operation(e.GetUpdateOperationStatus().GetStatus())
	case scheduler.Event_ERROR:
		f.refused(e.GetError().GetMessage())
	case scheduler.Event_INVERSE_OFFERS:
		var ids []*mesos.OfferID
		for _, o := range e.GetInverseOffers().GetInverseOffers() {
			ids = append(ids, o.GetId())
		}
		f.call(&scheduler.Call{Type: scheduler.Call_ACCEPT_INVERSE_OFFERS.Enum(), AcceptInverseOffers: &scheduler.Call_AcceptInverseOffers{InverseOfferIds: ids}})
	default:
	}
}

func (f *framework) subscribed(e *scheduler.Event_Subscribed) {
	id := e.GetFrameworkId().GetValue()
	if f.id() == "" {
		f.info.Id = &mesos.FrameworkID{Value: &id}
	} else if f.id() != id {
		f.w.fail(FrameworkKept, "f%d subscribed as %s and is called %s", f.index, f.id(), id)
	}
	f.w.say("f%d is subscribed as %s with m%d", f.index, id, f.master)
	f.connected = true
	f.w.checkSubscribed(f)
	if f.leaving {
		f.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum()})
		return
	}
	f.reconcile()
}

// refused takes an ERROR: the stream ends after it. A framework that was removed
// begins anew under another id, and knows that its tasks are no more.
func (f *framework) refused(message string) {
	f.w.say("f%d hears an error: %s", f.index, message)
	if strings.Contains(message, "removed") || strings.Contains(message, "torn down") || strings.Contains(message, "Completed") ||
		strings.Contains(message, "completed") {
		f.w.checkRemoved(f)
		f.reborn()
	}
}

func (f *framework) reborn() {
	f.former = append(f.former, f.id())
	f.info.Id = nil
	f.leaving = false
	f.tasks, f.order, f.reserved = map[string]*fwTask{}, nil, nil
}

// reconcile asks for what it may have missed: all tasks that are not over by name,
// sometimes all that the master knows.
func (f *framework) reconcile() {
	if f.w.rng.IntN(3) == 0 {
		f.call(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: &scheduler.Call_Reconcile{}})
	}
	var ask []*scheduler.Call_Reconcile_Task
	for _, t := range f.order {
		if terminal(t.state) {
			continue
		}
		r := &scheduler.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: new(t.id)}}
		if f.w.rng.IntN(4) > 0 {
			r.AgentId = &mesos.AgentID{Value: new(t.agent)}
		}
		ask = append(ask, r)
	}
	if len(ask) > 0 {
		f.call(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: &scheduler.Call_Reconcile{Tasks: ask}})
	}
}

// routine is what a scheduler does from time to time.
func (f *framework) routine() {
	f.later(f.w.between(8*time.Second, 20*time.Second), f.routine)
	if !f.connected {
		return
	}
	f.reconcile()
	if f.quiet {
		return
	}
	for _, t := range f.order {
		if (t.state == mesos.TaskState_TASK_RUNNING || t.state == mesos.TaskState_TASK_STAGING) && f.w.rng.IntN(12) == 0 {
			call := &scheduler.Call_Kill{TaskId: &mesos.TaskID{Value: new(t.id)}}
			if f.w.rng.IntN(2) == 0 {
				call.AgentId = &mesos.AgentID{Value: new(t.agent)}
			}
			f.call(&scheduler.Call{Type: scheduler.Call_KILL.Enum(), Kill: call})
		}
	}
	if f.w.rng.IntN(4) == 0 {
		f.call(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum()})
	}
	f.meddle()
	f.forget()
}

// meddle does what schedulers seldom do: ends or calls an executor, changes what it
// says of itself.
func (f *framework) meddle() {
	if n := len(f.order); n > 0 && f.custom {
		t := f.order[f.w.rng.IntN(n)]
		agent, executor := &mesos.AgentID{Value: new(t.agent)}, &mesos.ExecutorID{Value: new(t.executor)}
		switch f.w.rng.IntN(8) {
		case 0:
			f.call(&scheduler.Call{Type: scheduler.Call_SHUTDOWN.Enum(), Shutdown: &scheduler.Call_Shutdown{AgentId: agent, ExecutorId: executor}})
		case 1:
			f.call(&scheduler.Call{Type: scheduler.Call_MESSAGE.Enum(), Message: &scheduler.Call_Message{AgentId: agent, ExecutorId: executor, Data: []byte("m")}})
		}
	}
	if f.info.Roles == nil || f.w.rng.IntN(12) > 0 {
		return
	}
	f.info = clone(f.info)
	f.info.Roles = [][]string{{"eng"}, {"eng", "ops"}}[f.w.rng.IntN(2)]
	f.info.FailoverTimeout = new(f.info.GetFailoverTimeout() + 1)
	f.call(&scheduler.Call{Type: scheduler.Call_UPDATE_FRAMEWORK.Enum(), UpdateFramework: &scheduler.Call_UpdateFramework{FrameworkInfo: clone(f.info)}})
}

// forget drops tasks that ended long ago from memory, as frameworks do; the world
// has checked what it wants of them.
func (f *framework) forget() {
	if len(f.order) < 60 {
		return
	}
	keep := f.order[:0:0]
	for _, t := range f.order {
		if terminal(t.state) && f.w.clock.Now().Sub(t.at) > 3*time.Minute && f.w.settled(f, t) {
			delete(f.tasks, t.id)
			continue
		}
		keep = append(keep, t)
	}
	f.order = keep
}

// update takes a status, writes it down and acknowledges it.
func (f *framework) update(s *mesos.TaskStatus) {
	t := f.tasks[s.GetTaskId().GetValue()]
	if f.w.trace.on {
		f.w.note("f%d hears %s %s (%s, %s) uuid=%t", f.index, s.GetTaskId().GetValue(), s.GetState(), s.GetReason(), s.GetMessage(), s.Uuid != nil)
	}
	if t != nil {
		f.w.heard(f, t, s)
		t.state, t.at = s.GetState(), f.w.clock.Now()
		t.seen[t.state] = true
		if s.AgentId != nil {
			t.agent = s.GetAgentId().GetValue()
		}
	}
	if s.Uuid != nil {
		f.call(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE.Enum(), Acknowledge: &scheduler.Call_Acknowledge{
			AgentId: s.AgentId, TaskId: s.TaskId, Uuid: s.Uuid,
		}})
	}
}

// offer answers an offer.
func (f *framework) offer(o *mesos.Offer) {
	id := o.GetId().GetValue()
	if !f.offers[id] || f.probe {
		return
	}
	delete(f.offers, id)
	accept := &scheduler.Call_Accept{
		OfferIds: []*mesos.OfferID{o.Id},
		Filters:  &mesos.Filters{RefuseSeconds: new([]float64{0.5, 3, 5, 5, 10, 20}[f.w.rng.IntN(6)])},
	}
	left := resources.MustFromProto(o.Resources)
	live := 0
	for _, t := range f.order {
		if !terminal(t.state) && t.state != mesos.TaskState_TASK_UNKNOWN {
			live++
		}
	}
	for live < f.want && !f.quiet {
		op := f.launch(o, &left)
		if op == nil {
			break
		}
		live++
		accept.Operations = append(accept.Operations, op)
		if f.w.rng.IntN(2) == 0 {
			break
		}
	}
	if op := f.reserve(o, left); op != nil {
		accept.Operations = append(accept.Operations, op)
	}
	if len(accept.Operations) == 0 {
		f.call(&scheduler.Call{Type: scheduler.Call_DECLINE.Enum(), Decline: &scheduler.Call_Decline{OfferIds: accept.OfferIds, Filters: accept.Filters}})
		return
	}
	f.call(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: accept})
}

func scalar(name string, v float64, of *mesos.Offer) *mesos.Resource {
	r := &mesos.Resource{Name: new(name), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(v)}}
	if a := of.GetAllocationInfo(); a != nil {
		r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: new(a.GetRole())}
	}
	return r
}

// launch makes a task of what is left of an offer.
func (f *framework) launch(o *mesos.Offer, left *resources.Resources) *mesos.Offer_Operation {
	need := []*mesos.Resource{scalar("cpus", []float64{0.5, 1, 1.5}[f.w.rng.IntN(3)], o), scalar("mem", 64, o)}
	if f.w.rng.IntN(4) == 0 {
		if ports := left.Ports(); len(ports) > 0 {
			p := ports[0].Begin
			r := &mesos.Resource{
				Name: new("ports"), Type: mesos.Value_RANGES.Enum(),
				Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: &p, End: &p}}},
			}
			if a := o.GetAllocationInfo(); a != nil {
				r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: new(a.GetRole())}
			}
			need = append(need, r)
		}
	}
	f.nextTask++
	id := fmt.Sprintf("f%d-t%d", f.index, f.nextTask)
	seconds := []float64{0.01, 2, 20, 60, 200, 2000}[f.w.rng.IntN(6)] * (0.5 + f.w.rng.Float64())
	name := fmt.Sprintf("%.3f", seconds)
	if f.w.rng.IntN(8) == 0 {
		name += " fails"
	}
	t := &mesos.TaskInfo{
		Name: &name, TaskId: &mesos.TaskID{Value: &id}, AgentId: o.AgentId, Resources: need,
	}
	total := resources.MustFromProto(need)
	if f.custom {
		t.Executor = f.executor(o)
		total = total.Add(resources.MustFromProto(t.Executor.Resources))
	} else {
		t.Command = &mesos.CommandInfo{Value: new("run"), Shell: new(true)}
	}
	if !left.Contains(total) {
		return nil
	}
	*left = left.Sub(total)
	ft := &fwTask{id: id, agent: o.GetAgentId().GetValue(), state: mesos.TaskState_TASK_STAGING, seen: map[mesos.TaskState]bool{}, at: f.w.clock.Now()}
	ft.executor = t.GetExecutor().GetExecutorId().GetValue()
	f.tasks[id] = ft
	f.order = append(f.order, ft)
	f.w.truth(f.id(), id)
	return &mesos.Offer_Operation{
		Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{t}},
	}
}

func (f *framework) executor(o *mesos.Offer) *mesos.ExecutorInfo {
	role := o.GetAllocationInfo().GetRole()
	return &mesos.ExecutorInfo{
		ExecutorId: &mesos.ExecutorID{Value: new(fmt.Sprintf("x%d-%s", f.w.rng.IntN(2), strings.TrimPrefix(role, "*")))},
		Type:       mesos.ExecutorInfo_CUSTOM.Enum(),
		Command:    &mesos.CommandInfo{Value: new("executor"), Shell: new(true)},
		Resources:  []*mesos.Resource{scalar("cpus", 0.1, o), scalar("mem", 32, o)},
	}
}
