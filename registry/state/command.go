package state

import (
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
)

// Format is the version of log entries and snapshots that this build writes. A
// new kind of command, or a new member of a snapshot that may not be lost, adds
// one here and a line below. A build restores the snapshots of its own format
// and older ones; a newer one is refused. The meaning of a kind never changes,
// so an entry of a newer format is applied as long as its kinds are known.
//
//   - 1 (2026-11-22): kinds 1 to 18.
const Format = 1

// KindFormat returns the format that brought a kind of command: a build that knows
// less stops at it. A leader asks before it proposes one.
func KindFormat(kind clusterdv1.Command_Kind) uint32 {
	if kind <= clusterdv1.Command_SET_MACHINE_MODE {
		return 1
	}
	return Format + 1 // not known to this build either
}

// command makes a command. Required members that are missing are found by
// [Check] before the command is proposed.
func command(kind clusterdv1.Command_Kind, m proto.Message) *clusterdv1.Command {
	payload, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m)
	if err != nil {
		panic("encode " + kind.String() + ": " + err.Error()) // proto2 has no other reason left
	}
	return &clusterdv1.Command{Kind: kind.Enum(), Payload: payload}
}

func agentID(id string) *mesos.AgentID { return &mesos.AgentID{Value: new(id)} }

func frameworkID(id string) *mesos.FrameworkID { return &mesos.FrameworkID{Value: new(id)} }

func timeInfo(t time.Time) *mesos.TimeInfo {
	return &mesos.TimeInfo{Nanoseconds: new(t.UnixNano())}
}

// Together makes the commands take effect together or not at all, and returns them.
func Together(cmds ...*clusterdv1.Command) []*clusterdv1.Command {
	for i, c := range cmds {
		if i > 0 {
			c.WithPrevious = new(true)
		} else {
			c.WithPrevious = nil
		}
	}
	return cmds
}

// ElectMaster records a new leader. The cluster id is taken by the first one.
func ElectMaster(info *mesos.MasterInfo, serverID, clusterID string) *clusterdv1.Command {
	return command(clusterdv1.Command_ELECT_MASTER, &clusterdv1.ElectMaster{
		MasterInfo: info, ClusterId: &clusterID, ServerId: &serverID,
	})
}

// AdmitAgent adds an agent that has registered for the first time.
func AdmitAgent(info *mesos.AgentInfo) *clusterdv1.Command {
	return command(clusterdv1.Command_ADMIT_AGENT, &clusterdv1.AdmitAgent{AgentInfo: info})
}

// UpdateAgent replaces what is known of an admitted agent.
func UpdateAgent(info *mesos.AgentInfo) *clusterdv1.Command {
	return command(clusterdv1.Command_UPDATE_AGENT, &clusterdv1.UpdateRegisteredAgent{AgentInfo: info})
}

// MarkAgentUnreachable moves an admitted agent to the unreachable ones.
func MarkAgentUnreachable(id string, at time.Time) *clusterdv1.Command {
	return command(clusterdv1.Command_MARK_AGENT_UNREACHABLE, &clusterdv1.MarkAgentUnreachable{
		AgentId: agentID(id), UnreachableTime: timeInfo(at),
	})
}

// MarkAgentReachable admits an agent again that was unreachable, or that was
// forgotten meanwhile.
func MarkAgentReachable(info *mesos.AgentInfo) *clusterdv1.Command {
	return command(clusterdv1.Command_MARK_AGENT_REACHABLE, &clusterdv1.MarkAgentReachable{AgentInfo: info})
}

// MarkAgentGone removes an agent for good: its id may not come back.
func MarkAgentGone(id string, at time.Time) *clusterdv1.Command {
	return command(clusterdv1.Command_MARK_AGENT_GONE, &clusterdv1.MarkAgentGone{
		AgentId: agentID(id), GoneTime: timeInfo(at),
	})
}

// RemoveAgent forgets an admitted agent that left by itself.
func RemoveAgent(id string) *clusterdv1.Command {
	return command(clusterdv1.Command_REMOVE_AGENT, &clusterdv1.RemoveAgent{AgentId: agentID(id)})
}

// SetAgentDrain sets how far an agent's draining is, which deactivates it too;
// nil ends the draining and leaves it deactivated.
func SetAgentDrain(id string, info *mesos.DrainInfo) *clusterdv1.Command {
	return command(clusterdv1.Command_SET_AGENT_DRAIN, &clusterdv1.SetAgentDrain{AgentId: agentID(id), DrainInfo: info})
}

// SetAgentDeactivated says whether an agent's resources are offered.
func SetAgentDeactivated(id string, deactivated bool) *clusterdv1.Command {
	return command(clusterdv1.Command_SET_AGENT_DEACTIVATED, &clusterdv1.SetAgentDeactivated{
		AgentId: agentID(id), Deactivated: &deactivated,
	})
}

// Prune forgets unreachable and gone agents and removed frameworks.
func Prune(unreachable, gone, removedFrameworks []string) *clusterdv1.Command {
	m := &clusterdv1.PruneAgents{}
	for _, id := range unreachable {
		m.Unreachable = append(m.Unreachable, agentID(id))
	}
	for _, id := range gone {
		m.Gone = append(m.Gone, agentID(id))
	}
	for _, id := range removedFrameworks {
		m.RemovedFrameworks = append(m.RemovedFrameworks, frameworkID(id))
	}
	return command(clusterdv1.Command_PRUNE_AGENTS, m)
}

// AdmitFramework adds a framework that has subscribed for the first time.
func AdmitFramework(info *mesos.FrameworkInfo) *clusterdv1.Command {
	return command(clusterdv1.Command_ADMIT_FRAMEWORK, &clusterdv1.AdmitFramework{FrameworkInfo: info})
}

// UpdateFramework replaces what is known of an admitted framework.
func UpdateFramework(info *mesos.FrameworkInfo) *clusterdv1.Command {
	return command(clusterdv1.Command_UPDATE_FRAMEWORK, &clusterdv1.UpdateRegisteredFramework{FrameworkInfo: info})
}

// SetFrameworkDeadline says when a disconnected framework is to be removed; the
// zero time says that it is connected.
func SetFrameworkDeadline(id string, deadline time.Time) *clusterdv1.Command {
	m := &clusterdv1.SetFrameworkDeadline{FrameworkId: frameworkID(id)}
	if !deadline.IsZero() {
		m.Deadline = timeInfo(deadline)
	}
	return command(clusterdv1.Command_SET_FRAMEWORK_DEADLINE, m)
}

// RemoveFramework removes a framework for good: its id may not come back until
// it is pruned.
func RemoveFramework(id string, at time.Time) *clusterdv1.Command {
	return command(clusterdv1.Command_REMOVE_FRAMEWORK, &clusterdv1.RemoveFramework{
		FrameworkId: frameworkID(id), RemovedTime: timeInfo(at),
	})
}

// UpdateWeights sets the weights of roles; others keep theirs.
func UpdateWeights(weights []*mesos.WeightInfo) *clusterdv1.Command {
	return command(clusterdv1.Command_UPDATE_WEIGHTS, &clusterdv1.UpdateWeights{Weights: weights})
}

// UpdateQuota sets the quota of roles; one without guarantees and limits is erased.
func UpdateQuota(configs []*quota.QuotaConfig) *clusterdv1.Command {
	return command(clusterdv1.Command_UPDATE_QUOTA, &clusterdv1.UpdateQuota{Configs: configs})
}

// UpdateMaintenanceSchedule replaces the maintenance schedule.
func UpdateMaintenanceSchedule(schedule *maintenance.Schedule) *clusterdv1.Command {
	return command(clusterdv1.Command_UPDATE_MAINTENANCE_SCHEDULE, &clusterdv1.UpdateMaintenanceSchedule{Schedule: schedule})
}

// SetMachineMode starts (DOWN) or stops (UP) the maintenance of machines.
func SetMachineMode(machines []*mesos.MachineID, mode mesos.MachineInfo_Mode) *clusterdv1.Command {
	return command(clusterdv1.Command_SET_MACHINE_MODE, &clusterdv1.SetMachineMode{Machines: machines, Mode: &mode})
}
