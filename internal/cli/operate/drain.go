package operate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

func drain(x *call) error {
	agents, err := findAgents(x)
	if err != nil {
		return err
	}
	var grace *durationpb.Duration
	within := "with their own kill policies"
	if text := x.String("grace"); text != "" {
		d, err := duration("--grace", text)
		if err != nil {
			return err
		}
		grace, within = durationpb.New(d), "within "+cmp.Or(d.String(), "0s")
	}
	after := ""
	if x.Bool("mark-gone") {
		after = ", and mark it gone for good afterwards"
	}
	if err := x.confirm("kill all tasks %s on %s and use it no more%s", within, describeAgents(x, agents), after); err != nil {
		return err
	}
	err = console.Each(x.Env, agents, agentName, func(a *agentInfo) error {
		_, err := x.cluster.Call(x.ctx(), &master.Call{
			Type: master.Call_DRAIN_AGENT.Enum(),
			DrainAgent: &master.Call_DrainAgent{
				AgentId: console.AgentID(agentID(a)), MaxGracePeriod: grace, MarkGone: new(x.Bool("mark-gone")),
			},
		})
		return x.done(err, "draining %s", agentName(a))
	})
	if err != nil || !x.Bool("wait") {
		return err
	}
	return awaitDrained(x, agents)
}

// awaitDrained waits until agents are drained, or gone, and says what it waits for.
func awaitDrained(x *call, agents []*agentInfo) error {
	ctx, cancel, err := x.patience()
	if err != nil {
		return err
	}
	defer cancel()
	status := console.NewStatus(x.Env)
	defer status.Done()
	d := newDraining(agents, func(format string, args ...any) {
		status.Clear()
		x.say(format, args...)
	})
	// All types: tasks that end and frameworks that come back are what it waits for.
	for ev, err := range x.cluster.Events(ctx, operator.EventsOptions{}) {
		if err != nil {
			return waited(ctx, err, fmt.Sprintf("%s still draining: %s", console.Plural(len(d.left), "agent"), d))
		}
		if err := d.learn(ev); err != nil || len(d.left) == 0 {
			return err
		}
		status.Set("waiting for " + d.String())
		if hint := d.hint(); hint != "" {
			status.Say("hint: " + hint)
		}
	}
	return nil
}

// draining follows agents that drain: what is left to wait for.
type draining struct {
	say func(format string, args ...any)
	// left are the names of the agents that are not drained, away those of them that are not
	// connected to the leader.
	left map[string]string
	away map[string]bool
	// tasks are those on agents that are left. They count until their frameworks have taken note
	// of their end, as the master counts them (checkAndTransitionDrainingAgent of Mesos's master).
	tasks      map[taskKey]drainedTask
	frameworks map[string]drainedFramework
	hinted     map[string]bool
}

type drainedTask struct {
	agent string
	ended bool
}

type drainedFramework struct {
	name      string
	connected bool
}

func newDraining(agents []*agentInfo, say func(string, ...any)) *draining {
	d := &draining{
		say: say, left: map[string]string{}, away: map[string]bool{}, tasks: map[taskKey]drainedTask{},
		frameworks: map[string]drainedFramework{}, hinted: map[string]bool{},
	}
	for _, a := range agents {
		d.left[agentID(a)] = agentName(a)
	}
	return d
}

// learn takes an event in. It fails where an agent does not drain any more.
func (d *draining) learn(ev *clusterdv1.OperatorEvent) error {
	switch ev.GetType() {
	case clusterdv1.OperatorEvent_SUBSCRIBED:
		if ev.GetSubscribed().GetResumed() {
			return nil // nothing was missed, and there is no state
		}
		return d.begin(ev.GetSubscribed().GetGetState())
	case clusterdv1.OperatorEvent_AGENT_ADDED:
		return d.agent(ev.GetAgentAdded().GetAgent(), true)
	case clusterdv1.OperatorEvent_AGENT_UPDATED:
		return d.agent(ev.GetAgentUpdated().GetAgent(), ev.GetAgentUpdated().GetConnected())
	case clusterdv1.OperatorEvent_AGENT_REMOVED:
		d.settle(ev.GetAgentRemoved().GetAgentId().GetValue(), "is gone")
	case clusterdv1.OperatorEvent_TASK_ADDED:
		d.task(ev.GetTaskAdded().GetTask())
	case clusterdv1.OperatorEvent_TASK_UPDATED:
		u := ev.GetTaskUpdated()
		d.task(&mesos.Task{
			TaskId: u.GetStatus().GetTaskId(), FrameworkId: u.GetFrameworkId(), AgentId: u.GetStatus().GetAgentId(), State: u.State,
		})
	case clusterdv1.OperatorEvent_FRAMEWORK_ADDED:
		d.framework(ev.GetFrameworkAdded().GetFramework())
	case clusterdv1.OperatorEvent_FRAMEWORK_UPDATED:
		d.framework(ev.GetFrameworkUpdated().GetFramework())
	case clusterdv1.OperatorEvent_FRAMEWORK_REMOVED:
		id := ev.GetFrameworkRemoved().GetFrameworkInfo().GetId().GetValue()
		delete(d.frameworks, id)
		d.forget(func(k taskKey, t drainedTask) bool { return k.framework == id && t.ended })
	default:
	}
	return nil
}

// begin starts anew with the whole state.
func (d *draining) begin(state *master.Response_GetState) error {
	clear(d.tasks)
	clear(d.frameworks)
	for _, f := range state.GetGetFrameworks().GetFrameworks() {
		d.framework(f)
	}
	for _, t := range state.GetGetTasks().GetTasks() {
		d.task(t)
	}
	here := map[string]bool{}
	get := state.GetGetAgents()
	for _, info := range get.GetRecoveredAgents() {
		here[info.GetId().GetValue()] = true
		d.away[info.GetId().GetValue()] = true
	}
	var wrong error
	for _, a := range get.GetAgents() {
		here[agentID(a)] = true
		// The state does not say whether one that drains is connected; a later event does.
		wrong = cmp.Or(wrong, d.agent(a, true))
	}
	for id := range d.left {
		if !here[id] {
			d.settle(id, "is gone")
		}
	}
	return wrong
}

func (d *draining) agent(a *agentInfo, connected bool) error {
	id := agentID(a)
	name, waits := d.left[id]
	if !waits {
		return nil
	}
	delete(d.away, id)
	if !connected {
		d.away[id] = true
	}
	switch {
	case a.GetDrainInfo().GetState() == mesos.DrainState_DRAINED:
		d.settle(id, "is drained")
	case a.GetDrainInfo() == nil:
		return fmt.Errorf("%s: somebody has stopped the drain", name)
	}
	return nil
}

func (d *draining) settle(id, how string) {
	name, waits := d.left[id]
	if !waits {
		return
	}
	delete(d.left, id)
	delete(d.away, id)
	d.forget(func(_ taskKey, t drainedTask) bool { return t.agent == id })
	d.say("%s %s", name, how)
}

func (d *draining) task(t *mesos.Task) {
	agent := t.GetAgentId().GetValue()
	if _, waits := d.left[agent]; !waits {
		return
	}
	k := taskKey{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}
	d.tasks[k] = drainedTask{agent: agent, ended: console.Terminal(t.GetState())}
	if d.tasks[k].ended && d.frameworks[k.framework].connected {
		delete(d.tasks, k) // it is told of it now
	}
}

func (d *draining) framework(f *master.Response_GetFrameworks_Framework) {
	id := f.GetFrameworkInfo().GetId().GetValue()
	d.frameworks[id] = drainedFramework{f.GetFrameworkInfo().GetName(), f.GetConnected()}
	if f.GetConnected() {
		d.forget(func(k taskKey, t drainedTask) bool { return k.framework == id && t.ended })
	}
}

func (d *draining) forget(which func(taskKey, drainedTask) bool) {
	for k, t := range d.tasks {
		if which(k, t) {
			delete(d.tasks, k)
		}
	}
}

// holding are the frameworks that are away and have not taken note of the end of tasks, and of
// how many.
func (d *draining) holding() map[string]int {
	out := map[string]int{}
	for k, t := range d.tasks {
		if t.ended {
			out[k.framework]++
		}
	}
	return out
}

// String says what is left to wait for.
func (d *draining) String() string {
	running := 0
	for _, t := range d.tasks {
		if !t.ended {
			running++
		}
	}
	var parts []string
	if running > 0 {
		parts = append(parts, console.Plural(running, "task")+" to end")
	}
	holding := d.holding()
	for _, id := range slices.Sorted(mapsKeys(holding)) {
		parts = append(parts, fmt.Sprintf("disconnected framework %s (%s) to take note of %s", cmp.Or(d.frameworks[id].name, "?"), id, console.Plural(holding[id], "ended task")))
	}
	away := []string{}
	for id := range d.away {
		if name, waits := d.left[id]; waits {
			away = append(away, name)
		}
	}
	slices.Sort(away)
	for _, name := range away {
		parts = append(parts, "agent "+name+" to connect again")
	}
	if len(parts) == 0 {
		names := []string{}
		for _, name := range d.left {
			names = append(names, name)
		}
		slices.Sort(names)
		parts = append(parts, strings.Join(names, ", "))
	}
	return strings.Join(parts, ", ")
}

// hint is what to do about frameworks that are away, once for each.
func (d *draining) hint() string {
	fresh := []string{}
	for id := range d.holding() {
		if !d.hinted[id] {
			d.hinted[id] = true
			fresh = append(fresh, id)
		}
	}
	if len(fresh) == 0 {
		return ""
	}
	slices.Sort(fresh)
	return fmt.Sprintf("start the scheduler of %s again (clusterd wait, if clusterd run --detach has left it), or end it: clusterd framework teardown %s",
		strings.Join(fresh, ", "), fresh[0])
}
