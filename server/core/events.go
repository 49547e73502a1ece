package core

import (
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
	// disconnected or connected again.
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
	// Framework, without offers.
	Framework *Framework
	// Agent, without what is used of it and offered. AgentRemoved has only its id.
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
