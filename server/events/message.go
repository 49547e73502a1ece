package events

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// sight is what a subscriber may see (src/master/master.cpp, Subscriber::send; Mesos
// leaves reserved roles in the resources of agent_info, we do not).
type sight struct {
	viewer *authz.Viewer // nil: everything but what follows
	// maintenance: schedules and the modes of machines.
	maintenance bool
}

// whole sees everything.
var whole = sight{maintenance: true}

func sightOf(acls *authz.ACLs, p *authz.Principal) sight {
	return sight{
		viewer:      acls.Viewer(p),
		maintenance: acls.Approver(p, authz.GetMaintenanceSchedules).Everything(),
	}
}

func (s sight) whole() bool { return s.viewer == nil && s.maintenance }

// key tells sights apart.
func (s sight) key() string {
	if s.maintenance {
		return s.viewer.Key()
	}
	return s.viewer.Key() + "-"
}

// sees says whether an event may be shown, perhaps not with all that it has.
func (s sight) sees(e *core.Event) bool {
	switch e.Type {
	case core.TaskAdded, core.TaskUpdated:
		user := e.FrameworkInfo.GetUser()
		if !s.viewer.SeesFramework(user) {
			return false
		}
		if e.Task != nil && e.Task.User != "" {
			user = e.Task.User
		}
		return s.viewer.SeesTask(user)
	case core.FrameworkAdded, core.FrameworkUpdated, core.FrameworkRemoved:
		return s.viewer.SeesFramework(frameworkInfo(e).GetUser())
	case core.MaintenanceUpdated:
		return s.maintenance
	default:
		return true
	}
}

// splits says whether events of a type show different things to different subscribers
// who see them.
func splits(t core.EventType) bool {
	switch t {
	case core.AgentAdded, core.AgentUpdated, core.QuotasUpdated, core.WeightsUpdated:
		return true
	default:
		return false
	}
}

func frameworkInfo(e *core.Event) *mesos.FrameworkInfo {
	if e.Framework != nil {
		return e.Framework.Info
	}
	return e.FrameworkInfo
}

// mesosMessage is an event as Mesos tells it (src/common/protobuf_utils.cpp, namespace
// event); nil if Mesos does not know its like.
func mesosMessage(e *core.Event, s sight) *master.Event {
	switch e.Type {
	case core.TaskAdded:
		return &master.Event{Type: master.Event_TASK_ADDED.Enum(), TaskAdded: taskAdded(e)}
	case core.TaskUpdated:
		return &master.Event{Type: master.Event_TASK_UPDATED.Enum(), TaskUpdated: taskUpdated(e)}
	case core.AgentAdded:
		return &master.Event{Type: master.Event_AGENT_ADDED.Enum(), AgentAdded: agentAdded(e, s)}
	case core.AgentRemoved:
		return &master.Event{Type: master.Event_AGENT_REMOVED.Enum(), AgentRemoved: agentRemoved(e)}
	case core.FrameworkAdded:
		return &master.Event{
			Type:           master.Event_FRAMEWORK_ADDED.Enum(),
			FrameworkAdded: &master.Event_FrameworkAdded{Framework: framework(e.Framework)},
		}
	case core.FrameworkUpdated:
		if !e.Spoken {
			return nil
		}
		return &master.Event{
			Type:             master.Event_FRAMEWORK_UPDATED.Enum(),
			FrameworkUpdated: &master.Event_FrameworkUpdated{Framework: framework(e.Framework)},
		}
	case core.FrameworkRemoved:
		return &master.Event{
			Type:             master.Event_FRAMEWORK_REMOVED.Enum(),
			FrameworkRemoved: &master.Event_FrameworkRemoved{FrameworkInfo: frameworkInfo(e)},
		}
	default:
		return nil
	}
}

// ownMessage is an event as our stream tells it; nil if nothing of it may be seen.
func ownMessage(e *core.Event, s sight, token string) *clusterdv1.OperatorEvent {
	m := &clusterdv1.OperatorEvent{Type: ownType(e.Type).Enum(), Token: &token}
	switch e.Type {
	case core.TaskAdded:
		m.TaskAdded = taskAdded(e)
	case core.TaskUpdated:
		m.TaskUpdated = taskUpdated(e)
	case core.AgentAdded:
		m.AgentAdded = agentAdded(e, s)
	case core.AgentRemoved:
		m.AgentRemoved = agentRemoved(e)
	case core.FrameworkAdded:
		m.FrameworkAdded = &master.Event_FrameworkAdded{Framework: framework(e.Framework)}
	case core.FrameworkUpdated:
		m.FrameworkUpdated = &master.Event_FrameworkUpdated{Framework: framework(e.Framework)}
	case core.FrameworkRemoved:
		m.FrameworkRemoved = &master.Event_FrameworkRemoved{FrameworkInfo: frameworkInfo(e)}
	case core.AgentUpdated:
		m.AgentUpdated = &clusterdv1.OperatorEvent_AgentUpdated{
			Agent: agent(e.Agent, s.viewer), Connected: &e.Agent.Connected,
		}
	case core.QuotasUpdated:
		seen := seenQuotas(e.Quotas, s.viewer)
		if len(seen) == 0 {
			return nil
		}
		m.QuotasUpdated = &clusterdv1.OperatorEvent_QuotasUpdated{Quotas: seen}
	case core.WeightsUpdated:
		seen := seenWeights(e.Weights, s.viewer)
		if len(seen) == 0 {
			return nil
		}
		m.WeightsUpdated = &clusterdv1.OperatorEvent_WeightsUpdated{Weights: seen}
	case core.MaintenanceUpdated:
		m.MaintenanceUpdated = &clusterdv1.OperatorEvent_MaintenanceUpdated{Schedule: e.Schedule, Machines: e.Machines}
	default:
		return nil
	}
	return m
}

// ownTypes are the types of our stream by the core's.
var ownTypes = [...]clusterdv1.OperatorEvent_Type{
	core.TaskAdded:          clusterdv1.OperatorEvent_TASK_ADDED,
	core.TaskUpdated:        clusterdv1.OperatorEvent_TASK_UPDATED,
	core.AgentAdded:         clusterdv1.OperatorEvent_AGENT_ADDED,
	core.AgentRemoved:       clusterdv1.OperatorEvent_AGENT_REMOVED,
	core.FrameworkAdded:     clusterdv1.OperatorEvent_FRAMEWORK_ADDED,
	core.FrameworkUpdated:   clusterdv1.OperatorEvent_FRAMEWORK_UPDATED,
	core.FrameworkRemoved:   clusterdv1.OperatorEvent_FRAMEWORK_REMOVED,
	core.AgentUpdated:       clusterdv1.OperatorEvent_AGENT_UPDATED,
	core.QuotasUpdated:      clusterdv1.OperatorEvent_QUOTAS_UPDATED,
	core.WeightsUpdated:     clusterdv1.OperatorEvent_WEIGHTS_UPDATED,
	core.MaintenanceUpdated: clusterdv1.OperatorEvent_MAINTENANCE_UPDATED,
}

func ownType(t core.EventType) clusterdv1.OperatorEvent_Type {
	if t <= 0 || int(t) >= len(ownTypes) {
		return clusterdv1.OperatorEvent_UNKNOWN
	}
	return ownTypes[t]
}

func taskAdded(e *core.Event) *master.Event_TaskAdded {
	return &master.Event_TaskAdded{Task: e.Task.Proto()}
}

func taskUpdated(e *core.Event) *master.Event_TaskUpdated {
	return &master.Event_TaskUpdated{
		FrameworkId: &mesos.FrameworkID{Value: &e.Task.FrameworkID},
		Status:      e.Status,
		State:       e.Task.State.Enum(),
	}
}

func agentAdded(e *core.Event, s sight) *master.Event_AgentAdded {
	return &master.Event_AgentAdded{Agent: agent(e.Agent, s.viewer)}
}

func agentRemoved(e *core.Event) *master.Event_AgentRemoved {
	id := e.AgentID
	if id == "" && e.Agent != nil {
		id = e.Agent.ID
	}
	return &master.Event_AgentRemoved{AgentId: &mesos.AgentID{Value: &id}}
}

// framework is one without offers and resources, which never are in events. Times that
// are not known are zero.
func framework(f *core.Framework) *master.Response_GetFrameworks_Framework {
	reregistered := f.ReregisteredAt
	if reregistered.IsZero() {
		reregistered = f.RegisteredAt
	}
	return &master.Response_GetFrameworks_Framework{
		FrameworkInfo:    f.Info,
		Active:           &f.Active,
		Connected:        &f.Connected,
		Recovered:        &f.Recovered,
		RegisteredTime:   &mesos.TimeInfo{Nanoseconds: new(nanoseconds(f.RegisteredAt))},
		ReregisteredTime: &mesos.TimeInfo{Nanoseconds: new(nanoseconds(reregistered))},
		UnregisteredTime: &mesos.TimeInfo{Nanoseconds: new(nanoseconds(f.Unregistered))},
	}
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// agent is one without allocated and offered resources, which never are in events.
func agent(a *core.Agent, viewer *authz.Viewer) *master.Response_GetAgents_Agent {
	p := &master.Response_GetAgents_Agent{
		AgentInfo:               agentInfo(a.Info, viewer),
		Active:                  &a.Active,
		Deactivated:             &a.Deactivated,
		Version:                 &a.Version,
		Pid:                     new(a.PID()),
		RegisteredTime:          timeInfo(a.RegisteredAt),
		ReregisteredTime:        timeInfo(a.ReregisteredAt),
		DrainInfo:               a.DrainInfo,
		EstimatedDrainStartTime: timeInfo(a.DrainStart),
	}
	total := a.Total
	if !seesAllRoles(viewer) {
		total = total.Filter(func(it resources.Item) bool {
			for _, r := range it.Reservations() {
				if !viewer.SeesRole(r.Role) {
					return false
				}
			}
			return true
		})
	}
	p.TotalResources = total.Proto()
	for _, r := range p.TotalResources {
		resources.ToEndpoint(r)
	}
	for _, c := range a.Capabilities {
		p.Capabilities = append(p.Capabilities, &mesos.AgentInfo_Capability{Type: c.Enum()})
	}
	return p
}

func timeInfo(t time.Time) *mesos.TimeInfo {
	if t.IsZero() {
		return nil
	}
	return &mesos.TimeInfo{Nanoseconds: new(t.UnixNano())}
}

func seesAllRoles(v *authz.Viewer) bool { return v == nil || v.Roles.Everything() }

// agentInfo is the info with the resources that may be seen.
func agentInfo(info *mesos.AgentInfo, viewer *authz.Viewer) *mesos.AgentInfo {
	if seesAllRoles(viewer) || len(info.GetResources()) == 0 {
		return info
	}
	info = proto.CloneOf(info)
	info.Resources = slices.DeleteFunc(info.Resources, func(r *mesos.Resource) bool {
		if r.Role != nil && r.GetRole() != "*" && !viewer.SeesRole(r.GetRole()) {
			return true
		}
		return slices.ContainsFunc(r.Reservations, func(e *mesos.Resource_ReservationInfo) bool {
			return !viewer.SeesRole(e.GetRole())
		})
	})
	return info
}

func seenQuotas(all []*quota.QuotaConfig, viewer *authz.Viewer) []*quota.QuotaConfig {
	return seen(all, func(q *quota.QuotaConfig) bool { return viewer.SeesQuota(q.GetRole()) })
}

func seenWeights(all []*mesos.WeightInfo, viewer *authz.Viewer) []*mesos.WeightInfo {
	return seen(all, func(w *mesos.WeightInfo) bool { return viewer.SeesRole(w.GetRole()) })
}

func seen[T any](all []T, keep func(T) bool) []T {
	var some []T
	for _, e := range all {
		if keep(e) {
			some = append(some, e)
		}
	}
	return some
}

// TypeName is the name of a type of events in our stream.
func TypeName(t core.EventType) string { return ownType(t).String() }
