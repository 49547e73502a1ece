package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	agentcore "clusterd/agent/core"
	"clusterd/allocator"
	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/registry/state"
	"clusterd/server/core"
)

// fail notes the first violation; the run ends with it.
func (w *World) fail(i Invariant, format string, args ...any) {
	if w.violation != nil {
		return
	}
	w.violation = &Violation{
		Seed: w.cfg.Seed, At: w.clock.Now().Sub(start), Invariant: i, Text: fmt.Sprintf(format, args...),
	}
	w.say("VIOLATION: %s: %s", i, w.violation.Text)
	w.violation.Last = w.trace.last()
}

// books are what the world knows to be true.
type books struct {
	truths   map[string]*taskTruth
	order    []*taskTruth
	acted    uint64 // the latest epoch that has acted
	owner    map[*end]*framework
	ids      map[string]*framework // who has, or had, an id
	removed  map[string]bool       // framework ids that the registry says have ended
	reborn   map[string]bool       // those that it has forgotten again: they may come back, without their past
	gone     map[string]bool
	wiped    map[string]bool // agents whose disk was lost
	reports  map[string]int  // number of an executor's update by its uuid
	pacified bool
}

func (b *books) init() {
	b.truths = map[string]*taskTruth{}
	b.owner = map[*end]*framework{}
	b.ids = map[string]*framework{}
	b.removed = map[string]bool{}
	b.reborn = map[string]bool{}
	b.gone = map[string]bool{}
	b.wiped = map[string]bool{}
	b.reports = map[string]int{}
}

// taskTruth is what really became of a task.
type taskTruth struct {
	w             *World
	framework, id string
	starts        int
	in            *container // that it runs in
	// reported is how the task ended, as its executor had it acknowledged.
	reported   mesos.TaskState
	isReported bool
}

func (w *World) truth(framework, id string) *taskTruth {
	key := framework + "/" + id
	t := w.truths[key]
	if t == nil {
		t = &taskTruth{w: w, framework: framework, id: id}
		w.truths[key] = t
		w.order = append(w.order, t)
	}
	return t
}

func (t *taskTruth) started(c *container) {
	t.starts++
	t.in = c
	t.w.say("task %s starts on a%d", t.id, c.m.index)
	if t.starts > 1 {
		t.w.fail(StartedOnce, "task %s of %s is started on a%d, for the second time", t.id, t.framework, c.m.index)
	}
	if t.w.removed[t.framework] && t.w.peace {
		t.w.fail(EndedStays, "task %s of the ended framework %s starts on a%d", t.id, t.framework, c.m.index)
	}
}

func (t *taskTruth) stopped() {
	if t.in != nil {
		t.w.say("task %s ends", t.id)
	}
	t.in = nil
}

func (t *taskTruth) durable(s mesos.TaskState) {
	t.reported, t.isReported = s, true
}

// acts notes that a term has done something that others can see.
func (w *World) acts(t *term) {
	switch {
	case t.epoch > w.acted:
		w.acted = t.epoch
	case t.epoch < w.acted:
		w.fail(OneLeader, "m%d acts in epoch %d after another has in epoch %d", t.m.id, t.epoch, w.acted)
	}
}

// checkCommit looks at what an entry did to the registry.
func (w *World) checkCommit(after *state.State, e *entry, results []error) {
	for i, c := range e.cmds {
		w.trace.mix(uint64(c.GetKind()) << 8)
		if w.trace.on {
			w.note("registry: %s %v", c.GetKind(), w.commandText(c))
		}
		if i < len(results) && results[i] != nil {
			w.fail(RegistryTakes, "%s: %v", c.GetKind(), results[i])
		}
		w.checkCommand(c)
	}
	for d := range after.Gone() {
		id := d.GetAgentId().GetValue()
		w.gone[id] = true
		if after.Agent(id) != nil || after.UnreachableAgent(id) != nil {
			w.fail(OneStanding, "agent %s is gone and admitted or unreachable", id)
		}
	}
	for d := range after.Unreachable() {
		if id := d.GetAgentId().GetValue(); after.Agent(id) != nil {
			w.fail(OneStanding, "agent %s is unreachable and admitted", id)
		}
	}
	for _, id := range sortedKeys(w.gone) {
		if after.GoneAgent(id) == nil {
			w.fail(GoneStays, "agent %s was gone and is not any more", id)
		}
	}
	for _, id := range sortedKeys(w.removed) {
		if after.Framework(id) != nil || after.RemovedFramework(id) == nil {
			w.fail(EndedStays, "framework %s had ended and is admitted again", id)
		}
	}
}

func (w *World) commandText(c *clusterdv1.Command) string {
	for _, kind := range []string{"AGENT", "FRAMEWORK"} {
		if strings.Contains(c.GetKind().String(), kind) {
			return fmt.Sprintf("%q", c.GetPayload())
		}
	}
	return ""
}

// checkCommand follows what concerns frameworks.
func (w *World) checkCommand(c *clusterdv1.Command) {
	switch c.GetKind() {
	case clusterdv1.Command_PRUNE_AGENTS:
		w.pruned(c)
		return
	case clusterdv1.Command_MARK_AGENT_GONE:
		m := &clusterdv1.MarkAgentGone{}
		if id := m.GetAgentId; unmarshal(c.GetPayload(), m) == nil && w.op.kept[id().GetValue()] {
			w.fail(SettingsKept, "agent %s is marked gone, its drain was cancelled", id().GetValue())
		}
		return
	case clusterdv1.Command_REMOVE_FRAMEWORK:
	default:
		return
	}
	m := &clusterdv1.RemoveFramework{}
	if err := unmarshal(c.GetPayload(), m); err != nil {
		return // Apply has said so
	}
	id := m.GetFrameworkId().GetValue()
	if w.removed[id] {
		return
	}
	w.removed[id] = true
	f := w.ids[id]
	if f == nil || f.id() != id || f.leaving || w.op.torn[id] {
		return // nobody knows its id, or it was to end
	}
	timeout := time.Duration(f.info.GetFailoverTimeout() * float64(time.Second))
	allowed := min(timeout, time.Minute) - 3*time.Second
	if f.streams > 0 {
		w.fail(EndedFairly, "framework %s ends while it is connected", id)
	} else if gap := w.clock.Now().Sub(f.lostAt); gap < allowed {
		w.fail(EndedFairly, "framework %s ends %s after it was lost, its timeout is %s", id, gap, timeout)
	}
}

// pruned: what the registry has forgotten on purpose need not be known any more.
func (w *World) pruned(c *clusterdv1.Command) {
	m := &clusterdv1.PruneAgents{}
	if err := unmarshal(c.GetPayload(), m); err != nil {
		return // Apply has said so
	}
	for _, id := range m.Gone {
		delete(w.gone, id.GetValue())
		delete(w.op.gone, id.GetValue())
	}
	for _, id := range m.RemovedFrameworks {
		delete(w.removed, id.GetValue())
		w.reborn[id.GetValue()] = true
	}
}

// checkSubscribed: a framework that hears its id is in the registry.
func (w *World) checkSubscribed(f *framework) {
	id := f.id()
	w.ids[id] = f
	s := w.past.states[len(w.past.states)-1]
	if s.Framework(id) == nil && s.RemovedFramework(id) == nil && !w.cfg.prunes() {
		w.fail(FrameworkKept, "f%d is subscribed as %s, which the registry does not know", f.index, id)
	}
	if w.removed[id] && w.peace {
		w.fail(EndedStays, "f%d is subscribed as %s, which has ended", f.index, id)
	}
}

// checkRemoved: a framework is told that it has ended only if it has.
func (w *World) checkRemoved(f *framework) {
	if id := f.id(); id != "" && !w.removed[id] && !f.leaving && !w.op.torn[id] {
		w.ids[id] = f
		timeout := time.Duration(f.info.GetFailoverTimeout() * float64(time.Second))
		if gap := w.clock.Now().Sub(f.lostAt); f.streams == 0 && gap >= min(timeout, time.Minute)-3*time.Second {
			return // it is being written down
		}
		w.fail(EndedFairly, "f%d is told that %s has ended", f.index, id)
	}
}

// heard looks at an update that reaches a framework.
func (w *World) heard(f *framework, t *fwTask, s *mesos.TaskStatus) {
	if s.Uuid == nil {
		return // the master's own word, which may be overtaken by events
	}
	if t.end != nil && string(t.end.GetUuid()) != string(s.GetUuid()) && t.end.GetState() != s.GetState() {
		w.fail(EndToldOnce, "f%d heard that task %s is %s (%s), and now %s (%s)",
			f.index, t.id, t.end.GetState(), t.end.GetMessage(), s.GetState(), s.GetMessage())
	}
	if terminal(s.GetState()) {
		t.end = s
	}
	if n := w.reports[string(s.GetUuid())]; n > 0 {
		if n < t.report {
			w.fail(InOrder, "f%d hears that task %s is %s after it has heard what came later", f.index, t.id, s.GetState())
		}
		t.report = n
	}
}

// checkAnswer: of a task that runs on an admitted agent no master says that it is lost.
func (w *World) checkAnswer(t *term, f *framework, s *mesos.TaskStatus) {
	if s.Uuid != nil || s.GetReason() != mesos.TaskStatus_REASON_RECONCILIATION || f == nil || !f.info.GetCheckpoint() {
		return
	}
	switch state := s.GetState(); {
	case terminal(state), state == mesos.TaskState_TASK_UNKNOWN, state == mesos.TaskState_TASK_UNREACHABLE:
	default:
		return
	}
	truth := w.truths[f.id()+"/"+s.GetTaskId().GetValue()]
	if truth == nil || truth.in == nil || truth.in.m.agent == nil || truth.in.m.agent.core == nil {
		return
	}
	agent := truth.in.m.agent.core.View().Info.GetId().GetValue()
	if w.wiped[agent] || t.m.raft.state().Agent(agent) == nil || t.writing {
		return
	}
	w.fail(NoneForgotten, "m%d answers that task %s is %s, it runs on a%d", t.m.id, truth.id, s.GetState(), truth.in.m.index)
}

// settled says that nothing more is to be checked of a task that has ended.
func (w *World) settled(f *framework, t *fwTask) bool {
	truth := w.truth(f.id(), t.id)
	return truth.in == nil && (!truth.isReported || t.seen[truth.reported])
}

// heardEvent takes an event for somebody who watches since the leadership began.
func (w *World) heardEvent(t *term, e *core.Event) {
	w.trace.mix(e.Serial<<8 | uint64(e.Type))
	if w.cfg.Break == BreakForgetEvents && e.Serial%200 == 0 {
		forged := *e
		forged.Type, forged.Weights = core.WeightsUpdated, nil
		e = &forged
	}
	if err := t.mirror.Hear(e); err != nil {
		w.fail(EventsTell, "m%d: %v", t.m.id, err)
	}
}

// checkMaster looks at the books of a leading master.
func (w *World) checkMaster(t *term) {
	v := t.core.View()
	for ag := range v.Agents.Values() {
		sum := ag.Used.Add(ag.Offered).Unallocate()
		if !ag.Total.Contains(sum) {
			w.fail(OnceAllocated, "m%d: agent %s has %s, of which %s are used and %s offered", t.m.id, ag.ID, ag.Total, ag.Used, ag.Offered)
		}
	}
}

// lookAround looks at everybody once in a while.
func (w *World) lookAround() {
	w.clock.After(3*time.Second, w.lookAround)
	for _, m := range w.machines {
		if a := m.agent; a != nil && a.up && a.started {
			v := a.core.View()
			if used := agentUses(v); !v.Total.Contains(used) {
				w.fail(OnceAllocated, "agent a%d has %s and runs %s", m.index, v.Total, used)
			}
		}
	}
	for _, m := range w.masters {
		if t := m.term; t != nil && !t.writing {
			w.checkMaster(t)
			w.checkSettings(t.core.View(), m.raft.state())
			if err := t.mirror.Differs(t.core.View()); err != nil {
				w.fail(EventsTell, "m%d: %v", t.m.id, err)
			}
		}
	}
}

// agentUses sums what tasks that live and named executors use. What a framework
// has that is being shut down is not in it: the master gives that away as soon as
// the framework has ended, as Mesos does, though executors take a while to go.
func agentUses(v *agentcore.View) resources.Resources {
	var sum resources.Resources
	add := func(rs []*mesos.Resource) { sum = sum.Add(resources.MustFromProto(rs).Unallocate()) }
	for _, fw := range v.Frameworks {
		if fw.Terminating {
			continue
		}
		for _, e := range fw.Executors {
			if !e.CommandTask && e.State != "TERMINATED" {
				add(e.Info.GetResources())
			}
			for _, t := range e.Queued {
				add(t.GetResources())
			}
			for _, t := range e.Launched {
				if !terminal(t.GetState()) {
					add(t.GetResources())
				}
			}
		}
	}
	return sum
}

// checkPromises compares what operators were told with the registry.
func (w *World) checkPromises(status int) {
	if status != 200 {
		return
	}
	s := w.past.states[len(w.past.states)-1]
	has := map[string]string{}
	for q := range s.Quotas() {
		has["quota of "+q.GetRole()] = quotaText(q)
	}
	for x := range s.Weights() {
		has["weight of "+x.GetRole()] = fmt.Sprint(x.GetWeight())
	}
	for _, name := range sortedKeys(w.op.promises) {
		if p := w.op.promises[name]; !slices.Contains(p.values, has[name]) {
			w.fail(SettingsKept, "the %s is %q, the operator was told %q", name, has[name], p.values)
		}
	}
	for _, id := range sortedKeys(w.op.gone) {
		if s.GoneAgent(id) == nil {
			w.fail(SettingsKept, "the operator was told that agent %s is gone, and it is not", id)
		}
	}
}

// noteStop judges a core that stops.
func (w *World) noteStop(t *term, reason string) {
	if !strings.Contains(reason, errLeadershipLost.Error()) && !strings.Contains(reason, errNotLeader.Error()) {
		w.fail(CoreGoesOn, "the core of m%d stops: %s", t.m.id, reason)
	}
}

// noteExit judges an agent that ends.
func (w *World) noteExit(a *agent, e agentcore.Exit) {
	if e.Err {
		w.fail(CoreGoesOn, "agent a%d ends: %s", a.m.index, e.Reason)
	}
}

// leading returns the term that leads.
func (w *World) leading() *term {
	for _, m := range w.masters {
		if m.term != nil && !m.term.over && m.term.epoch == w.past.states[len(w.past.states)-1].Epoch() {
			return m.term
		}
	}
	return nil
}

// checkRest looks at everything once the world has had its peace.
func (w *World) checkRest() {
	t := w.leading()
	if t == nil {
		w.fail(ComesToRest, "nobody leads")
		return
	}
	if !w.pacified {
		w.fail(ComesToRest, "the operator is not served")
		return
	}
	w.checkPromises(200)
	v := t.core.View()
	w.checkSettings(v, t.m.raft.state())
	for _, f := range w.frameworks {
		w.checkFramework(v, f)
	}
	for _, m := range w.machines {
		w.checkMachine(v, m)
	}
}

// checkSettings: the leader knows what the registry knows.
func (w *World) checkSettings(v *core.View, s *state.State) {
	n := 0
	for q := range s.Quotas() {
		n++
		if have, ok := v.Quotas.Get(q.GetRole()); !ok || quotaText(have) != quotaText(q) {
			w.fail(SettingsKept, "the leader does not know the quota of %s", q.GetRole())
		}
	}
	for x := range s.Weights() {
		if have, _ := v.Weights.Get(x.GetRole()); have != x.GetWeight() {
			w.fail(SettingsKept, "the leader takes the weight of %s for %v, it is %v", x.GetRole(), have, x.GetWeight())
		}
	}
	for d := range s.Gone() {
		if _, ok := v.Gone.Get(d.GetAgentId().GetValue()); !ok {
			w.fail(SettingsKept, "the leader does not know that %s is gone", d.GetAgentId().GetValue())
		}
	}
	if n != v.Quotas.Len() {
		w.fail(SettingsKept, "the leader has %d quotas, the registry %d", v.Quotas.Len(), n)
	}
	for f := range s.Frameworks() {
		id := f.GetFrameworkInfo().GetId().GetValue()
		if _, ok := v.Frameworks.Get(id); !ok {
			w.fail(FrameworkKept, "the leader does not know framework %s", id)
		}
	}
}

// checkFramework compares what a framework believes with what is.
func (w *World) checkFramework(v *core.View, f *framework) {
	if !f.connected {
		w.fail(ComesToRest, "f%d is not connected", f.index)
		return
	}
	seen, ok := v.Frameworks.Get(f.id())
	if !ok {
		w.fail(FrameworkKept, "the master does not know framework %s, which is connected", f.id())
		return
	}
	for _, t := range f.order {
		truth := w.truth(f.id(), t.id)
		if truth.in == nil {
			if !terminal(t.state) && t.state != mesos.TaskState_TASK_UNKNOWN && !w.out(t.agent) {
				w.fail(LastStateHeard, "f%d takes task %s of agent %s for %s, it does not run", f.index, t.id, t.agent, t.state)
			}
		} else {
			if terminal(t.state) || t.state == mesos.TaskState_TASK_UNKNOWN || t.state == mesos.TaskState_TASK_STAGING {
				w.fail(LastStateHeard, "f%d takes task %s of agent %s for %s, it runs on a%d", f.index, t.id, t.agent, t.state, truth.in.m.index)
			}
			if rec, ok := seen.Tasks.Get(t.id); !ok || rec.Terminal() {
				w.fail(NoneForgotten, "task %s runs on a%d and the master does not know", t.id, truth.in.m.index)
			}
		}
		w.checkReport(f, t, truth)
	}
	w.checkReservations(f)
}

// out says that an agent is not here and may still come back.
func (w *World) out(agent string) bool {
	return w.past.states[len(w.past.states)-1].UnreachableAgent(agent) != nil
}

// checkReport: the last report that an agent took reaches the framework, unless the
// agent was given up for good.
func (w *World) checkReport(f *framework, t *fwTask, truth *taskTruth) {
	if !truth.isReported || !f.info.GetCheckpoint() || t.seen[truth.reported] || w.reborn[f.id()] {
		return
	}
	s := w.past.states[len(w.past.states)-1]
	if s.Agent(t.agent) == nil || w.op.draining[t.agent] || w.wiped[t.agent] {
		return
	}
	w.fail(ReportsHeard, "f%d never heard that task %s is %s, which agent %s has taken; it believes %s",
		f.index, t.id, truth.reported, t.agent, t.state)
}

// checkReservations: what was reported as reserved is on the agent.
func (w *World) checkReservations(f *framework) {
	for _, r := range f.reserved {
		if !r.done || r.released || w.wiped[r.agent] {
			continue
		}
		for _, m := range w.machines {
			if m.agentID() != r.agent || m.agent == nil || !m.agent.up {
				continue
			}
			if !hasReservation(m.agent.core.View().Total, r.label) {
				w.fail(ReservationsKept, "agent a%d does not have the reservation %s of f%d", m.index, r.label, f.index)
			}
			if r.volumeDone && !strings.Contains(m.agent.core.View().Total.PersistentVolumes().String(), r.volume) {
				w.fail(ReservationsKept, "agent a%d does not have the volume %s of f%d", m.index, r.volume, f.index)
			}
		}
	}
}

func hasReservation(r resources.Resources, label string) bool {
	for _, res := range r.Proto() {
		for _, rv := range res.GetReservations() {
			for _, l := range rv.GetLabels().GetLabels() {
				if l.GetValue() == label {
					return true
				}
			}
		}
	}
	return false
}

// checkMachine compares the master's books of an agent with the agent.
func (w *World) checkMachine(v *core.View, m *machine) {
	a := m.agent
	if a == nil || !a.up || !a.started {
		w.fail(ComesToRest, "agent a%d does not run", m.index)
		return
	}
	av := a.core.View()
	if av.Phase != "RUNNING" {
		w.fail(ComesToRest, "agent a%d is %s", m.index, av.Phase)
		return
	}
	seen, ok := v.Agents.Get(av.Info.GetId().GetValue())
	if !ok || !seen.Connected {
		w.fail(ComesToRest, "the master does not know agent a%d, which believes to be registered", m.index)
		return
	}
	used := agentUses(av)
	if !seen.Used.Unallocate().Equal(used) {
		w.fail(NothingLeaks, "the master takes %s of agent a%d for used, it runs %s", seen.Used.Unallocate(), m.index, used)
	}
	if av.DrainConfig != nil && seen.DrainInfo == nil {
		w.fail(SettingsKept, "agent a%d drains, the master knows of no drain", m.index)
	}
	if !seen.Total.Equal(av.Total) {
		w.fail(ReservationsKept, "the master takes agent a%d to have %s, it has %s", m.index, seen.Total, av.Total)
	}
	for _, c := range m.order {
		if c.exec.dead {
			continue
		}
		if w.removed[c.exec.framework] {
			w.fail(EndedStays, "a container of the ended framework %s lives on a%d", c.exec.framework, m.index)
		}
	}
}

// startProbe adds a framework that keeps all that it is offered: what it does not
// get, nobody can.
func (w *World) startProbe() {
	for _, f := range w.frameworks {
		f.call(suppress())
	}
	f := w.addFramework(w.hosts[len(w.hosts)-1])
	f.probe, f.want, f.custom = true, 0, false
	f.info.Role, f.info.Roles = nil, []string{"probe"}
	f.info.Capabilities = nil
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
	} {
		f.info.Capabilities = append(f.info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	f.start()
}

// checkLeaks: what is neither used nor offered is less than is worth an offer.
func (w *World) checkLeaks() {
	t := w.leading()
	if t == nil {
		w.fail(ComesToRest, "nobody leads")
		return
	}
	for ag := range t.core.View().Agents.Values() {
		if !ag.Active {
			if ag.Deactivated {
				continue
			}
			w.fail(ComesToRest, "agent %s is not active", ag.ID)
		}
		free := ag.Total.Sub(ag.Used.Unallocate()).Sub(ag.Offered.Unallocate()).Unreserved()
		if free.CPUs() >= 0.01 || free.Mem() >= 32 {
			w.fail(NothingLeaks, "%s of agent %s are held by nobody and offered to nobody; it has %s, used %s, offered %s",
				free, ag.ID, ag.Total, ag.Used, ag.Offered)
		}
	}
}

// allocatorSpy is the real allocator; tests let it make mistakes.
type allocatorSpy struct {
	allocator.Allocator
	w *World
}

// RecoverResources passes on what returns.
func (a *allocatorSpy) RecoverResources(now time.Time, frameworkID, agentID string, r resources.Resources, filter *allocator.Filter) {
	if a.w.cfg.Break == BreakLeak && a.w.rng.IntN(200) == 0 {
		return
	}
	a.Allocator.RecoverResources(now, frameworkID, agentID, r, filter)
}

// AddAgent passes on an agent.
func (a *allocatorSpy) AddAgent(id string, ag allocator.Agent, used map[string]resources.Resources) {
	if a.w.cfg.Break == BreakDoubleOffer {
		used = nil
	}
	a.Allocator.AddAgent(id, ag, used)
}
