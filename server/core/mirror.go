package core

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
)

// Mirror is what somebody knows who has read one [View] and heard of every [Event] after
// it. Tests and the simulator hold it against later views: whatever differs, no event has
// told. What events leave out on purpose, which is offers, what is in use, operations, and
// when a task that has ended is forgotten, it does not know.
//
// A Mirror is not safe for concurrent use.
type Mirror struct {
	last       uint64
	agents     map[string]*Agent
	recovered  map[string]bool
	frameworks map[string]*Framework
	tasks      map[mirrorKey]mirrorTask
	quotas     map[string]*quota.QuotaConfig
	weights    map[string]float64
	schedule   *maintenance.Schedule
	machines   map[string]*mesos.MachineInfo
}

// mirrorKey names a task. An id may be used again while an agent that is away has, or had, a
// task of it, so that the agent belongs to the name.
type mirrorKey struct{ framework, task, agent string }

// mirrorTask is what is known of a task.
type mirrorTask struct {
	state mesos.TaskState
	last  mesos.TaskState // of the newest status
}

// NewMirror returns what is known of a view and before any event after it.
func NewMirror(v *View) *Mirror {
	m := &Mirror{
		last: v.Events, agents: maps.Collect(v.Agents.All()), frameworks: maps.Collect(v.Frameworks.All()),
		recovered: map[string]bool{}, tasks: map[mirrorKey]mirrorTask{},
		quotas: maps.Collect(v.Quotas.All()), weights: maps.Collect(v.Weights.All()),
		schedule: v.Schedule, machines: maps.Collect(v.Machines.All()),
	}
	for id := range v.RecoveredAgents.All() {
		m.recovered[id] = true
	}
	for f := range v.Frameworks.Values() {
		for t := range f.UnreachableTasks.Values() {
			m.keep(t)
		}
		for t := range f.Tasks.Values() {
			m.keep(t)
		}
	}
	return m
}

func keyOfTask(t *Task) mirrorKey { return mirrorKey{t.FrameworkID, t.ID, t.AgentID} }

func (m *Mirror) keep(t *Task) {
	kept := mirrorTask{state: t.State, last: t.State}
	if s := t.Latest(); s != nil {
		kept.last = s.State
	}
	m.tasks[keyOfTask(t)] = kept
}

// Hear takes the next event. The error says what makes no sense about it.
func (m *Mirror) Hear(e *Event) error {
	if e.Serial != m.last+1 {
		return fmt.Errorf("event %d follows event %d", e.Serial, m.last)
	}
	m.last = e.Serial
	switch e.Type {
	case TaskAdded, TaskUpdated:
		return m.hearTask(e)
	case AgentAdded, AgentUpdated:
		return m.hearAgent(e)
	case AgentRemoved:
		delete(m.agents, e.AgentID)
		delete(m.recovered, e.AgentID)
	case FrameworkAdded, FrameworkUpdated:
		if known := m.frameworks[e.Framework.ID] != nil; known == (e.Type == FrameworkAdded) {
			return fmt.Errorf("event of type %d about framework %s, which is known: %t", e.Type, e.Framework.ID, known)
		}
		m.frameworks[e.Framework.ID] = e.Framework
	case FrameworkRemoved:
		return m.hearRemoved(e)
	case QuotasUpdated:
		for _, q := range e.Quotas {
			if len(q.Guarantees) == 0 && len(q.Limits) == 0 {
				delete(m.quotas, q.GetRole())
			} else {
				m.quotas[q.GetRole()] = q
			}
		}
	case WeightsUpdated:
		for _, w := range e.Weights {
			m.weights[w.GetRole()] = w.GetWeight()
		}
	case MaintenanceUpdated:
		m.schedule = e.Schedule
		clear(m.machines)
		for _, info := range e.Machines {
			m.machines[keyOf(info.GetId())] = info
		}
	default:
		return fmt.Errorf("event of unknown type %d", e.Type)
	}
	return nil
}

func (m *Mirror) hearTask(e *Event) error {
	key := keyOfTask(e.Task)
	_, known := m.tasks[key]
	switch {
	case m.frameworks[key.framework] == nil:
		return fmt.Errorf("task %s is of framework %s, which nobody has heard of", key.task, key.framework)
	case e.FrameworkInfo == nil:
		return fmt.Errorf("task %s has no framework", key.task)
	case e.Type == TaskUpdated && (!known || e.Status == nil):
		return fmt.Errorf("task %s changes to %s, it is known: %t, there is a status: %t", key.task, e.Task.State, known, e.Status != nil)
	}
	m.keep(e.Task)
	return nil
}

func (m *Mirror) hearAgent(e *Event) error {
	if known := m.agents[e.AgentID] != nil; known == (e.Type == AgentAdded) {
		return fmt.Errorf("event of type %d about agent %s, which is known: %t", e.Type, e.AgentID, known)
	}
	if e.Agent.ID != e.AgentID {
		return fmt.Errorf("event about agent %s has agent %s", e.AgentID, e.Agent.ID)
	}
	m.agents[e.AgentID] = e.Agent
	delete(m.recovered, e.AgentID)
	return nil
}

func (m *Mirror) hearRemoved(e *Event) error {
	id := e.FrameworkInfo.GetId().GetValue()
	if m.frameworks[id] == nil {
		return fmt.Errorf("framework %s is removed, of which nobody has heard", id)
	}
	delete(m.frameworks, id)
	maps.DeleteFunc(m.tasks, func(k mirrorKey, _ mirrorTask) bool { return k.framework == id })
	return nil
}

// Differs says what a view shows that the events before it have not told, or told
// otherwise.
func (m *Mirror) Differs(v *View) error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if m.last != v.Events {
		fail("the view was taken after event %d, this is after %d", v.Events, m.last)
	}
	m.differAgents(v, fail)
	m.differFrameworks(v, fail)
	m.differSettings(v, fail)
	slices.SortFunc(problems, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

func (m *Mirror) differAgents(v *View, fail func(string, ...any)) {
	for _, id := range sortedKeys(m.agents) {
		if _, ok := v.Agents.Get(id); !ok {
			fail("agent %s is not there", id)
		}
	}
	for a := range v.Agents.Values() {
		told := m.agents[a.ID]
		if told == nil {
			fail("agent %s was not told of", a.ID)
			continue
		}
		if got, want := told.face(), a.face(); got != want {
			fail("agent %s was told to be %+v, it is %+v", a.ID, got, want)
		}
		if !told.Total.Equal(a.Total) || !slices.Equal(told.Capabilities, a.Capabilities) {
			fail("agent %s was told to have %s, it has %s", a.ID, told.Total, a.Total)
		}
	}
	// An agent that is expected only since this master leads is not told of.
	for _, id := range sortedKeys(m.recovered) {
		if _, ok := v.RecoveredAgents.Get(id); !ok {
			fail("agent %s is not waited for any more", id)
		}
	}
}

// agentFace is what of an agent can be compared.
type agentFace struct {
	info                           *mesos.AgentInfo
	ip, version                    string
	connected, active, deactivated bool
	drain                          *mesos.DrainInfo
	drainStart, registered, again  time.Time
}

func (a *Agent) face() agentFace {
	return agentFace{
		a.Info, a.IP, a.Version, a.Connected, a.Active, a.Deactivated, a.DrainInfo, a.DrainStart, a.RegisteredAt, a.ReregisteredAt,
	}
}

// frameworkFace is what of a framework can be compared.
type frameworkFace struct {
	info                         *mesos.FrameworkInfo
	active, connected, recovered bool
	registered, again            time.Time
}

func (f *Framework) face() frameworkFace {
	return frameworkFace{f.Info, f.Active, f.Connected, f.Recovered, f.RegisteredAt, f.ReregisteredAt}
}

func (m *Mirror) differFrameworks(v *View, fail func(string, ...any)) {
	for _, id := range sortedKeys(m.frameworks) {
		if _, ok := v.Frameworks.Get(id); !ok {
			fail("framework %s is not there", id)
		}
	}
	live := map[mirrorKey]bool{}
	for f := range v.Frameworks.Values() {
		told := m.frameworks[f.ID]
		if told == nil {
			fail("framework %s was not told of", f.ID)
			continue
		}
		if got, want := told.face(), f.face(); got != want {
			fail("framework %s was told to be %+v, it is %+v", f.ID, got, want)
		}
		for t := range f.UnreachableTasks.Values() {
			live[keyOfTask(t)] = true
			if _, again := f.Tasks.Get(t.ID); !again {
				m.differTask(t, fail)
			}
		}
		for t := range f.Tasks.Values() {
			live[keyOfTask(t)] = true
			m.differTask(t, fail)
		}
		m.differCompleted(f, live, fail)
	}
	for key, t := range m.tasks {
		if !live[key] && !Terminal(t.state) && t.state != mesos.TaskState_TASK_UNKNOWN {
			fail("task %s of %s on %s was told to be %s, it is not there", key.task, key.framework, key.agent, t.state)
		}
	}
}

func (m *Mirror) differTask(t *Task, fail func(string, ...any)) {
	want := mirrorTask{state: t.State, last: t.State}
	if s := t.Latest(); s != nil {
		want.last = s.State
	}
	if got, ok := m.tasks[keyOfTask(t)]; !ok || got != want {
		fail("task %s of %s on %s was told of: %t, to be %+v, it is %+v", t.ID, t.FrameworkID, t.AgentID, ok, got, want)
	}
}

// differCompleted: a task that was told to live has not ended.
func (m *Mirror) differCompleted(f *Framework, live map[mirrorKey]bool, fail func(string, ...any)) {
	ends := map[mirrorKey]*Task{}
	for _, t := range f.CompletedTasks {
		ends[keyOfTask(t)] = t
	}
	for key, t := range ends {
		if told, ok := m.tasks[key]; ok && !live[key] && told.state != t.State {
			fail("task %s of %s on %s was told to be %s, it has ended as %s", key.task, key.framework, key.agent, told.state, t.State)
		}
	}
}

func (m *Mirror) differSettings(v *View, fail func(string, ...any)) {
	if len(m.quotas) != v.Quotas.Len() || len(m.weights) != v.Weights.Len() || len(m.machines) != v.Machines.Len() {
		fail("there are %d quotas, %d weights, %d machines, of %d, %d, %d was told",
			v.Quotas.Len(), v.Weights.Len(), v.Machines.Len(), len(m.quotas), len(m.weights), len(m.machines))
	}
	for role, q := range v.Quotas.All() {
		if !proto.Equal(m.quotas[role], q) {
			fail("the quota of %s was told to be %v, it is %v", role, m.quotas[role], q)
		}
	}
	for role, w := range v.Weights.All() {
		if m.weights[role] != w {
			fail("the weight of %s was told to be %v, it is %v", role, m.weights[role], w)
		}
	}
	if !proto.Equal(m.schedule, v.Schedule) {
		fail("the schedule was told to be %v, it is %v", m.schedule, v.Schedule)
	}
	for key, info := range v.Machines.All() {
		if !proto.Equal(m.machines[key], info) {
			fail("machine %s was told to be %v, it is %v", key, m.machines[key], info)
		}
	}
}
