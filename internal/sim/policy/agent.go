package policy

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/sim/clock"
	"clusterd/server/core"
)

// startSpread is how long the agents of a new cluster take to come up, all together.
const startSpread = 10 * time.Second

// resendAfter is when an agent first repeats an update that nobody has acknowledged.
const resendAfter = 10 * time.Second

// agent is a model of one: it starts tasks, ends them and says so.
type agent struct {
	w     *world
	index int
	kind  *agentKind
	rack  string // empty: none
	id    string // empty until it has registered for the first time
	link  core.LinkID
	down  bool // its machine is off
	tasks []*task
	// freed is when something of it became free that has not been offered since, as
	// far as the master can know; negative: nothing.
	freed time.Duration
	// awaited is the failure that it has still to come back from, downBy the last one
	// that switched it off.
	awaited, downBy *failure
}

// agentKind is what the agents of a group share.
type agentKind struct {
	total      amount
	resources  []*mesos.Resource
	attributes map[string]string
	names      []string // of the attributes, sorted
}

// task is a task, from its launch until nobody has to hear of it any more. Its agent
// and its framework share the record.
type task struct {
	id        string
	framework *framework
	size      *size
	target    *agent // that it was launched on
	agent     *agent // the same, once it is there
	wanted    time.Duration
	event     *clock.Event

	state   mesos.TaskState // that the agent knows
	seen    mesos.TaskState // that the framework knows
	uuid    []byte          // of the update that waits for its acknowledgement
	sent    mesos.TaskState // in that update
	dead    bool            // went with its machine
	failure *failure        // that took it away
}

var agentCapabilities = func() []*mesos.AgentInfo_Capability {
	var all []*mesos.AgentInfo_Capability
	for t := mesos.AgentInfo_Capability_MULTI_ROLE; t <= mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS; t++ {
		all = append(all, &mesos.AgentInfo_Capability{Type: t.Enum()})
	}
	return all
}()

var pong = &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}}

// makeAgents makes the agents, of the groups in proportion and well mixed.
func (w *world) makeAgents() {
	groups := w.opts.Workload.Agents
	shares := make([]float64, len(groups))
	for i := range groups {
		shares[i] = groups[i].Share
	}
	for i, n := range split(w.opts.Agents, shares) {
		g := &groups[i]
		r, _ := resources.Parse(g.Resources, "*") // validate has read it
		kind := &agentKind{total: g.total, resources: r.Proto(), attributes: g.Attributes}
		for name := range g.Attributes {
			kind.names = append(kind.names, name)
		}
		slices.Sort(kind.names)
		for j := range n {
			ag := &agent{w: w, kind: kind, freed: -1}
			if g.Racks > 0 {
				ag.rack = fmt.Sprintf("r%d", 1+j%g.Racks)
			}
			w.agents = append(w.agents, ag)
			w.total = w.total.plus(kind.total)
		}
	}
	w.up = w.total
	w.rng.Shuffle(len(w.agents), func(i, j int) { w.agents[i], w.agents[j] = w.agents[j], w.agents[i] })
	for i, ag := range w.agents {
		ag.index = i
	}
	w.empty = len(w.agents)
}

// startAgents lets all agents register for the first time.
func (w *world) startAgents() {
	spread := min(startSpread, w.opts.For/10)
	for i, ag := range w.agents {
		w.clock.After(spread*time.Duration(i+1)/time.Duration(len(w.agents)), ag.register)
	}
}

// attribute is the value of one of the agent's.
func (ag *agent) attribute(name string) string {
	if name == "rack" && ag.rack != "" {
		return ag.rack
	}
	return ag.kind.attributes[name]
}

func (ag *agent) info() *mesos.AgentInfo {
	info := &mesos.AgentInfo{
		Hostname: new(fmt.Sprintf("agent-%d", ag.index)), Port: proto.Int32(5051), Resources: ag.kind.resources,
	}
	add := func(name, value string) {
		info.Attributes = append(info.Attributes, &mesos.Attribute{
			Name: &name, Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: &value},
		})
	}
	for _, name := range ag.kind.names {
		add(name, ag.kind.attributes[name])
	}
	if ag.rack != "" {
		add("rack", ag.rack)
	}
	if ag.id != "" {
		info.Id = &mesos.AgentID{Value: &ag.id}
	}
	return info
}

// register opens a new link and reports everything.
func (ag *agent) register() {
	w := ag.w
	if ag.down || w.core == nil || ag.link != 0 {
		return
	}
	w.nextLink++
	ag.link = w.nextLink
	w.links[ag.link] = ag
	m := &clusterdv1.RegisterAgent{
		LinkVersion: proto.Uint32(1), AgentInfo: ag.info(), BuildVersion: new("1.0.0"), Capabilities: agentCapabilities,
		Ip: new(fmt.Sprintf("10.%d.%d.%d", ag.index>>16, ag.index>>8&255, ag.index&255)),
	}
	var known []*framework
	for _, t := range ag.tasks {
		if !slices.Contains(known, t.framework) {
			known = append(known, t.framework)
			m.Frameworks = append(m.Frameworks, t.framework.info())
		}
		m.Tasks = append(m.Tasks, t.report())
	}
	ag.say(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: m}})
}

// report is the task as its agent tells a new master of it.
func (t *task) report() *mesos.Task {
	m := &mesos.Task{
		Name: &t.id, TaskId: &mesos.TaskID{Value: &t.id}, FrameworkId: &mesos.FrameworkID{Value: &t.framework.id},
		AgentId: &mesos.AgentID{Value: &t.agent.id}, State: t.state.Enum(), Resources: t.size.resources(t.framework.role.name),
	}
	if t.uuid != nil {
		m.StatusUpdateState, m.StatusUpdateUuid = t.sent.Enum(), t.uuid
	}
	return m
}

func (ag *agent) say(m *clusterdv1.AgentMessage) {
	ag.w.feed(core.AgentMessage{Link: ag.link, Message: m})
}

// unlinked notes that the link ended, and comes back if it can.
func (ag *agent) unlinked() {
	delete(ag.w.links, ag.link)
	ag.link = 0
	if !ag.down && ag.w.core != nil {
		ag.w.clock.After(ag.w.jitter(ag.w.opts.Backoff), ag.register)
	}
}

// receive takes a message of the master. A machine that is off takes none.
func (ag *agent) receive(m *clusterdv1.MasterMessage) {
	if ag.down {
		if run := m.GetRunTasks(); run != nil {
			for _, t := range run.GetTasks() {
				ag.swallow(t.GetTaskId().GetValue())
			}
		}
		return
	}
	switch m := m.GetMessage().(type) {
	case *clusterdv1.MasterMessage_Ping:
		ag.say(pong)
	case *clusterdv1.MasterMessage_RunTasks:
		for _, t := range m.RunTasks.GetTasks() {
			ag.launch(ag.w.tasks[t.GetTaskId().GetValue()])
		}
	case *clusterdv1.MasterMessage_AcknowledgeTask:
		ag.acknowledged(m.AcknowledgeTask.GetTaskId().GetValue(), m.AcknowledgeTask.GetUuid())
	case *clusterdv1.MasterMessage_Registered:
		ag.registered(m.Registered)
	case *clusterdv1.MasterMessage_Refused:
		ag.w.fail(fmt.Errorf("agent %d was refused: %s", ag.index, m.Refused.GetMessage()))
	default: // what nobody here asks for
	}
}

func (ag *agent) registered(m *clusterdv1.Registered) {
	ag.id = m.GetAgentId().GetValue()
	ag.w.measure.agentIsBack(ag)
	if ag.freed < 0 {
		ag.freed = ag.w.now()
	}
	for _, t := range slices.Clone(ag.tasks) {
		if t.uuid != nil {
			t.tell()
		}
	}
	for _, r := range m.GetReconcileTasks() {
		state := mesos.TaskState_TASK_LOST
		if r.GetPartitionAware() {
			state = mesos.TaskState_TASK_DROPPED
		}
		ag.say(updateMessage(ag, r.GetFrameworkId().GetValue(), r.GetTaskId().GetValue(), state, ag.w.uuid()))
	}
}

// launch takes a task and begins to start it. Messages take no time in here; what
// they would take is added to the start.
func (ag *agent) launch(t *task) {
	if t == nil || t.agent != nil {
		ag.w.fail(fmt.Errorf("agent %d was told to run a task that is unknown or runs", ag.index))
		return
	}
	t.agent, t.state = ag, mesos.TaskState_TASK_STAGING
	if len(ag.tasks) == 0 {
		ag.w.empty--
	}
	ag.tasks = append(ag.tasks, t)
	ag.w.use(t, 1)
	t.event = ag.w.clock.After(ag.w.opts.LinkLatency+ag.w.opts.TaskStart, t.run)
}

// run is when the task is up.
func (t *task) run() {
	t.state = mesos.TaskState_TASK_RUNNING
	t.event = nil
	if d := t.framework.lasts(); d > 0 {
		t.event = t.agent.w.clock.After(d, t.finish)
	}
	t.next()
}

// finish is when the task ends by itself.
func (t *task) finish() {
	t.state = mesos.TaskState_TASK_FINISHED
	t.event = nil
	ag := t.agent
	ag.w.use(t, -1)
	ag.freed = ag.w.now()
	t.next()
}

// next sends the newest state, once the framework has acknowledged the one before.
func (t *task) next() {
	if t.uuid == nil {
		t.uuid, t.sent = t.agent.w.uuid(), t.state
		t.tell()
	}
}

// tell sends the update that waits. If there is nobody to hear it, it is repeated
// later; a new master is told when the agent has registered.
func (t *task) tell() {
	ag := t.agent
	if ag.link == 0 {
		return
	}
	if !t.framework.connected {
		uuid := t.uuid
		ag.w.clock.After(resendAfter, func() {
			if !t.dead && t.uuid != nil && &t.uuid[0] == &uuid[0] {
				t.tell()
			}
		})
	}
	m := updateMessage(ag, t.framework.id, t.id, t.sent, t.uuid)
	m.GetUpdateTask().LatestState = t.state.Enum()
	ag.say(m)
}

func updateMessage(ag *agent, frameworkID, taskID string, s mesos.TaskState, uuid []byte) *clusterdv1.AgentMessage {
	return &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: &mesos.FrameworkID{Value: &frameworkID},
		Status: &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: &taskID}, State: s.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
			AgentId: &mesos.AgentID{Value: &ag.id}, Timestamp: new(float64(ag.w.clock.Now().UnixMicro()) / 1e6), Uuid: uuid,
		},
	}}}
}

// acknowledged ends an update; that of a task's end ends the task.
func (ag *agent) acknowledged(id string, uuid []byte) {
	t := ag.w.tasks[id]
	if t == nil || t.agent != ag || string(t.uuid) != string(uuid) {
		return // answered for a task that went with its machine
	}
	t.uuid = nil
	switch {
	case core.Terminal(t.sent):
		delete(ag.w.tasks, id)
		i := slices.Index(ag.tasks, t)
		last := len(ag.tasks) - 1
		ag.tasks[i] = ag.tasks[last]
		ag.tasks[last] = nil
		ag.tasks = ag.tasks[:last]
		if last == 0 {
			ag.w.empty++
		}
	case t.state != t.sent:
		t.next()
	}
}

// die switches the machine off, silently: nobody is told.
func (ag *agent) die(f *failure) {
	w := ag.w
	if ag.down {
		return
	}
	ag.down, ag.downBy = true, f
	w.up = w.up.minus(ag.kind.total)
	for _, t := range ag.tasks {
		w.clock.Cancel(t.event)
		if !core.Terminal(t.state) {
			w.use(t, -1)
		}
		t.dead = true
		if !core.Terminal(t.seen) {
			f.lose(t)
		}
	}
	if len(ag.tasks) == 0 {
		w.empty--
	}
	ag.tasks, ag.freed = nil, -1
}

// swallow is what happens to a task that is sent to a machine that is off.
func (ag *agent) swallow(id string) {
	t := ag.w.tasks[id]
	if t == nil || t.agent != nil {
		return
	}
	t.dead = true
	ag.downBy.lose(t)
}

// boot switches the machine on again: it has its id, and no tasks.
func (ag *agent) boot() {
	ag.down = false
	ag.w.up = ag.w.up.plus(ag.kind.total)
	ag.w.empty++
	if ag.link != 0 {
		// The master may still believe in the old link; the new one replaces it.
		delete(ag.w.links, ag.link)
		ag.link = 0
	}
	ag.w.clock.After(ag.w.jitter(ag.w.opts.Backoff), ag.register)
}
