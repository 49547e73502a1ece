package core

import (
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
)

// EventType says what an Event tells of.
type EventType int

// Types of events. The first seven are Mesos's (master.proto, Event); the others are ours.
const (
	TaskAdded EventType = iota + 1
	TaskUpdated
	AgentAdded
	AgentRemoved
	FrameworkAdded
	FrameworkUpdated
	FrameworkRemoved
	// AgentUpdated: deactivated, reactivated, draining, drained, not draining any more,
	// disconnected or connected again, or it has more or less than before.
	AgentUpdated
	QuotasUpdated
	WeightsUpdated
	// MaintenanceUpdated: the schedule, or the mode of machines, has changed.
	MaintenanceUpdated
)

// Event is something that happened, for those who watch the cluster. It is immutable,
// and so is all that hangs on it; what the type does not need is zero.
type Event struct {
	// Serial grows by one from event to event, from 1 on, as long as a core lives.
	Serial uint64
	Type   EventType

	// Task as it is now, and for TaskUpdated the status that made it so.
	Task   *Task
	Status *mesos.TaskStatus
	// FrameworkInfo of the task's framework, which readers' rights depend on.
	FrameworkInfo *mesos.FrameworkInfo
	// Spoken, of FrameworkUpdated: the framework has subscribed again or updated itself. Of
	// others, which were only connected or disconnected, Mesos tells nobody.
	Spoken bool
	// Framework, without offers, tasks and executors. FrameworkRemoved has it as it was.
	Framework *Framework
	// Agent, without what is used of it and offered. AgentRemoved has only its id, and may
	// be of an agent that never came: one of View.RecoveredAgents, also of those that came
	// to be expected after the view.
	Agent   *Agent
	AgentID string
	// Quotas that were set; those that were removed have neither guarantees nor limits.
	Quotas []*quota.QuotaConfig
	// Weights that were set.
	Weights []*mesos.WeightInfo
	// Schedule of maintenance, and all machines that are in it.
	Schedule *maintenance.Schedule
	Machines []*mesos.MachineInfo
}

// announcer numbers events, and knows whom there is news of that is told at the end of
// the input: what changes twice in one input is told once.
type announcer struct {
	serial     uint64
	agents     []*agent
	frameworks []*framework
}

// news is what an agent or framework has to do with events.
type news struct {
	announced bool // it was added, as far as events go
	due       bool // it is in the announcer's list
	spoken    bool // see Event.Spoken
}

func (c *Core) announce(e *Event) {
	c.events.serial++
	e.Serial = c.events.serial
	c.emit(Announce{Event: e})
}

// agentChanged has an event of an agent told when the input is done with.
func (c *Core) agentChanged(ag *agent) {
	if !ag.news.due {
		ag.news.due = true
		c.events.agents = append(c.events.agents, ag)
	}
}

// frameworkChanged does the same for a framework.
func (c *Core) frameworkChanged(fw *framework) {
	if !fw.news.due {
		fw.news.due = true
		c.events.frameworks = append(c.events.frameworks, fw)
	}
}

// tellChanges announces what has changed of agents and frameworks that are still there.
func (c *Core) tellChanges() {
	for _, fw := range c.events.frameworks {
		if fw.news.due && c.framework(fw.id) == fw {
			c.announceFramework(fw)
		}
	}
	for _, ag := range c.events.agents {
		if ag.news.due && c.agent(ag.id) == ag {
			c.announceAgent(ag)
		}
	}
	c.events.agents, c.events.frameworks = nil, nil
}

func (c *Core) announceFramework(fw *framework) {
	e := &Event{Type: FrameworkUpdated, FrameworkInfo: fw.info, Framework: fw.face(), Spoken: fw.news.spoken}
	if !fw.news.announced {
		e.Type = FrameworkAdded
	}
	fw.news = news{announced: true}
	c.announce(e)
}

func (c *Core) announceAgent(ag *agent) {
	e := &Event{Type: AgentUpdated, AgentID: ag.id, Agent: ag.freeze()}
	if !ag.news.announced {
		e.Type = AgentAdded
	}
	e.Agent.Used, e.Agent.Offered = resources.Resources{}, resources.Resources{}
	ag.news = news{announced: true}
	c.announce(e)
}

// announceTask announces a task that is new, or changed by a status. Who hears of a task
// knows its framework.
func (c *Core) announceTask(what EventType, fw *framework, rec *Task, s *mesos.TaskStatus) {
	if !fw.news.announced {
		c.announceFramework(fw)
	}
	c.announce(&Event{Type: what, Task: rec, Status: s, FrameworkInfo: fw.info})
}

// announceForgotten announces that the master knows nothing of a task any more that was
// not known to have ended.
func (c *Core) announceForgotten(fw *framework, rec *Task) {
	if rec.Terminal() {
		return
	}
	unknown := rec.clone()
	unknown.State = mesos.TaskState_TASK_UNKNOWN
	c.announceTask(TaskUpdated, fw, unknown, c.status(update{
		task: rec.ID, agent: rec.AgentID, executor: rec.ExecutorID, state: unknown.State,
		message: "The master has forgotten the task", reason: mesos.TaskStatus_REASON_RECONCILIATION,
	}))
}

// newsworthy says whether a status is told to those who watch: if it makes a new state,
// or is about health or a check (Mesos: Master::updateTask, which overlooks a state that
// an agent tells ahead of the status that belongs to it).
func newsworthy(old, rec *Task, s *mesos.TaskStatus) bool {
	switch s.GetReason() {
	case mesos.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED, mesos.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED:
		return true
	default:
	}
	last, next := old.Latest(), rec.Latest()
	return last == nil || last.State != next.State || old.State != rec.State ||
		last.HasHealth != next.HasHealth || last.Healthy != next.Healthy
}

func (c *Core) announceAgentRemoved(id string) { c.announce(&Event{Type: AgentRemoved, AgentID: id}) }

func (c *Core) announceMaintenance() {
	c.announce(&Event{
		Type: MaintenanceUpdated, Schedule: &maintenance.Schedule{Windows: c.windows}, Machines: c.machines.Values(),
	})
}

// face is the record of a framework for events.
func (fw *framework) face() *Framework {
	return &Framework{
		ID:             fw.id,
		Info:           fw.info,
		Roles:          fw.roles,
		Suppressed:     fw.suppressed,
		Constraints:    fw.constraints,
		Active:         fw.active,
		Connected:      fw.connected(),
		Recovered:      fw.recovered,
		RegisteredAt:   fw.registeredAt,
		ReregisteredAt: fw.reregisteredAt,
	}
}
