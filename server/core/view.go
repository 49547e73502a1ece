package core

import (
	"iter"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	allocatorpb "clusterd/api/mesos/v1/allocator"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
	"clusterd/api/mesos/v1/scheduler"
)

// View is what the core knew at one moment. It and all that hangs on it is
// immutable: any number of goroutines may read it for as long as they like.
// Taking one costs what has changed since the last was taken, not the size of
// the cluster; records that did not change are shared between views.
type View struct {
	// Serial grows whenever a view differs from the one before it.
	Serial uint64
	// Events is the serial of the last event that was announced before the view was
	// taken: the view and the events after it are all that there is to know.
	Events uint64
	// Taken is the time of the last input that the view includes.
	Taken time.Time
	// Master is this master.
	Master *mesos.MasterInfo
	// Agents are the admitted agents that have registered with this master.
	Agents Map[*Agent]
	// RecoveredAgents are admitted agents that have not come back since this
	// master took over.
	RecoveredAgents Map[*mesos.AgentInfo]
	// Unreachable and Gone agents, and since when.
	Unreachable Map[time.Time]
	Gone        Map[time.Time]
	// Frameworks that run, are disconnected but may return, or are recovered.
	Frameworks Map[*Framework]
	// CompletedFrameworks is the ring of removed ones, oldest first.
	CompletedFrameworks []*Framework
	// Operations in flight or not yet acknowledged, by UUID (16 bytes).
	Operations Map[*Operation]
	// Roles with a weight or a quota of their own. Others exist through the
	// frameworks subscribed to them and the reservations made for them.
	Weights Map[float64]
	Quotas  Map[*quota.QuotaConfig]
	// Schedule of maintenance; without windows when there is none.
	Schedule *maintenance.Schedule
	// Machines that are in the schedule, by MachineKey.
	Machines Map[*mesos.MachineInfo]
	// Counts of everything that /metrics/snapshot shows as a gauge.
	Counts Counts

	tls bool // as Config.TLS
}

// Counts are gauges of the whole cluster.
type Counts struct {
	AgentsActive, AgentsInactive         int
	AgentsConnected, AgentsDisconnected  int
	AgentsUnreachable                    int
	FrameworksActive, FrameworksInactive int
	FrameworksConnected                  int
	FrameworksDisconnected               int
	OutstandingOffers                    int
	// Tasks that live (not completed, unreachable ones included), by state.
	Tasks map[mesos.TaskState]int
}

// Map is an immutable map that is ordered by key.
type Map[V any] struct{ m *btree.Map[string, V] }

// Len is the number of entries.
func (m Map[V]) Len() int {
	if m.m == nil {
		return 0
	}
	return m.m.Len()
}

// Get looks an entry up.
func (m Map[V]) Get(key string) (V, bool) {
	if m.m == nil {
		var zero V
		return zero, false
	}
	return m.m.Get(key)
}

// All goes through the entries by ascending key.
func (m Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if m.m != nil {
			m.m.Scan(yield)
		}
	}
}

// Values goes through the values by ascending key.
func (m Map[V]) Values() iter.Seq[V] {
	return func(yield func(V) bool) {
		if m.m != nil {
			m.m.Scan(func(_ string, v V) bool { return yield(v) })
		}
	}
}

// Agent is a registered agent.
type Agent struct {
	ID string
	// Info as the agent sent it, its id set.
	Info *mesos.AgentInfo
	// IP that others reach it at; the port is Info.Port.
	IP           string
	Version      string
	Capabilities []mesos.AgentInfo_Capability_Type
	RegisteredAt time.Time
	// ReregisteredAt is zero for an agent that registered once only.
	ReregisteredAt time.Time
	// Connected: its link is up. Active: connected and not deactivated, so that
	// its resources are offered. Deactivated: by an operator, or draining.
	Connected, Active, Deactivated bool
	// Total resources, with dynamic reservations and volumes applied. Used by
	// tasks and executors, and Offered, carry their allocation role.
	Total, Used, Offered resources.Resources
	DrainInfo            *mesos.DrainInfo
	DrainStart           time.Time // zero when it does not drain
	// InverseOfferStatuses are what frameworks answered to inverse offers while its
	// machine is to be maintained, by framework id.
	InverseOfferStatuses []*allocatorpb.InverseOfferStatus
}

// PID is the address of the agent in the form of libprocess.
func (a *Agent) PID() string { return agentPID(a.IP, a.Info.GetPort()) }

// Framework is a framework, running or completed.
type Framework struct {
	ID   string
	Info *mesos.FrameworkInfo
	// Roles it is subscribed to, sorted, and those it has suppressed.
	Roles, Suppressed []string
	Constraints       *scheduler.OfferConstraints
	// Active: offered to. Connected: its stream is up. Recovered: known from the
	// registry or from agents only; it has not subscribed to this master.
	Active, Connected, Recovered               bool
	RegisteredAt, ReregisteredAt, Unregistered time.Time
	// Tasks that are not yet forgotten, by id; some may be terminal, waiting for
	// an acknowledgement.
	Tasks Map[*Task]
	// UnreachableTasks of agents that are unreachable, by id.
	UnreachableTasks Map[*Task]
	// CompletedTasks is the ring of finished ones, oldest first.
	CompletedTasks []*Task
	// Executors that tasks named themselves, by agent id and executor id; those
	// of command tasks are made by agents and not known here.
	Executors Map[*Executor]
	// Offers outstanding, oldest first.
	Offers []*Offer
	// InverseOffers outstanding, oldest first.
	InverseOffers []*InverseOffer

	once    sync.Once
	used    resources.Resources
	offered resources.Resources
}

// Used sums the resources of live tasks and executors. It is computed by the
// first reader that asks, never by the core.
func (f *Framework) Used() resources.Resources {
	f.once.Do(f.sum)
	return f.used
}

// Offered sums the resources of outstanding offers, like [Framework.Used].
func (f *Framework) Offered() resources.Resources {
	f.once.Do(f.sum)
	return f.offered
}

func (f *Framework) sum() {
	parts := make([]resources.Resources, 0, f.Tasks.Len()+f.Executors.Len())
	for t := range f.Tasks.Values() {
		if !t.Terminal() {
			parts = append(parts, t.Resources)
		}
	}
	for e := range f.Executors.Values() {
		parts = append(parts, e.Resources)
	}
	f.used = sumResources(parts)
	parts = parts[:0]
	for _, o := range f.Offers {
		parts = append(parts, o.Resources)
	}
	f.offered = sumResources(parts)
}

// sumResources adds pairwise: long port lists are merged log n times, not n.
func sumResources(parts []resources.Resources) resources.Resources {
	switch len(parts) {
	case 0:
		return resources.Resources{}
	case 1:
		return parts[0]
	}
	half := len(parts) / 2
	return sumResources(parts[:half]).Add(sumResources(parts[half:]))
}

// ExecutorsOn goes through the framework's executors on an agent, without looking at
// those on others.
func (f *Framework) ExecutorsOn(agentID string) iter.Seq[*Executor] {
	return func(yield func(*Executor) bool) {
		if f.Executors.m == nil {
			return
		}
		f.Executors.m.Ascend(executorKey(agentID, ""), func(_ string, e *Executor) bool {
			return e.AgentID == agentID && yield(e)
		})
	}
}

// Executor is an executor on an agent, as a task named it.
type Executor struct {
	FrameworkID, AgentID string
	Info                 *mesos.ExecutorInfo
	Resources            resources.Resources
}

// Offer is an outstanding offer.
type Offer struct {
	ID, FrameworkID, AgentID, Role string
	Resources                      resources.Resources
	Unavailability                 *mesos.Unavailability
	MadeAt                         time.Time
}

// InverseOffer is an outstanding inverse offer.
type InverseOffer struct {
	ID, FrameworkID, AgentID string
	Unavailability           *mesos.Unavailability
}

// Operation is an operation on resources of an agent.
type Operation struct {
	UUID                   string // 16 bytes
	FrameworkID, AgentID   string
	Info                   *mesos.Offer_Operation
	Latest                 *mesos.OperationStatus
	Statuses               []*mesos.OperationStatus
	Consumed               resources.Resources
	LatestUnacknowledgedID []byte // status uuid; nil when nothing waits
}

// Proto renders the operation for GET_OPERATIONS.
func (o *Operation) Proto() *mesos.Operation {
	p := &mesos.Operation{
		Info:         o.Info,
		LatestStatus: o.Latest,
		Statuses:     o.Statuses,
		Uuid:         &mesos.UUID{Value: []byte(o.UUID)},
	}
	if o.FrameworkID != "" {
		p.FrameworkId = &mesos.FrameworkID{Value: &o.FrameworkID}
	}
	if o.AgentID != "" {
		p.AgentId = &mesos.AgentID{Value: &o.AgentID}
	}
	return p
}

// OfferProto renders an offer as its framework got it, less the downgrades for what
// the framework lacks. It is nil if the agent is not in the view.
func (v *View) OfferProto(o *Offer) *mesos.Offer {
	a, ok := v.Agents.Get(o.AgentID)
	if !ok {
		return nil
	}
	f, _ := v.Frameworks.Get(o.FrameworkID)
	var executors []*mesos.ExecutorID
	if f != nil {
		for e := range f.ExecutorsOn(o.AgentID) {
			executors = append(executors, e.Info.GetExecutorId())
		}
	}
	return offerProto(o, a.Info, a.IP, executors, v.tls)
}

// offerProto makes the message of an offer.
func offerProto(o *Offer, info *mesos.AgentInfo, ip string, executors []*mesos.ExecutorID, tls bool) *mesos.Offer {
	return &mesos.Offer{
		Id:             &mesos.OfferID{Value: &o.ID},
		FrameworkId:    &mesos.FrameworkID{Value: &o.FrameworkID},
		AgentId:        &mesos.AgentID{Value: &o.AgentID},
		Hostname:       info.Hostname,
		Url:            agentURL(info, ip, tls),
		Domain:         info.Domain,
		Resources:      o.Resources.Proto(),
		Attributes:     info.Attributes,
		ExecutorIds:    executors,
		Unavailability: o.Unavailability,
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: &o.Role},
	}
}

// agentURL is where a client finds the agent's HTTP API.
func agentURL(info *mesos.AgentInfo, ip string, tls bool) *mesos.URL {
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return &mesos.URL{
		Scheme: &scheme,
		Address: &mesos.Address{
			Hostname: info.Hostname,
			Ip:       &ip,
			Port:     new(info.GetPort()),
		},
		Path: new("/slave(1)"),
	}
}
