package state

import (
	"iter"
	"strings"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
)

// State is the registry at one entry of the log. The zero value is not usable;
// [New] makes the empty one. Messages that its methods return are shared and
// must not be changed, except where a method says otherwise.
type State struct {
	clusterID string
	master    *mesos.MasterInfo
	serverID  string
	epoch     uint64

	// Agents are kept in their wire form: they are the bulk of a registry, are
	// read only by a new leader and by snapshots, and take a third that way.
	agents      *btree.Map[string, []byte] // RegisteredAgent by agent id
	unreachable *btree.Map[string, *clusterdv1.DepartedAgent]
	gone        *btree.Map[string, *clusterdv1.DepartedAgent]
	frameworks  *btree.Map[string, *clusterdv1.RegisteredFramework]
	removed     *btree.Map[string, *clusterdv1.RemovedFramework]
	weights     *btree.Map[string, *mesos.WeightInfo]
	quotas      *btree.Map[string, *quota.QuotaConfig]
	machines    *btree.Map[string, *mesos.MachineInfo]
	windows     []*maintenance.Window
}

// New returns the registry of a cluster that has never had a leader.
func New() *State {
	return &State{
		agents:      new(btree.Map[string, []byte]),
		unreachable: new(btree.Map[string, *clusterdv1.DepartedAgent]),
		gone:        new(btree.Map[string, *clusterdv1.DepartedAgent]),
		frameworks:  new(btree.Map[string, *clusterdv1.RegisteredFramework]),
		removed:     new(btree.Map[string, *clusterdv1.RemovedFramework]),
		weights:     new(btree.Map[string, *mesos.WeightInfo]),
		quotas:      new(btree.Map[string, *quota.QuotaConfig]),
		machines:    new(btree.Map[string, *mesos.MachineInfo]),
	}
}

// clone returns a state that may be changed without s changing. It writes to
// the maps of s what no reader looks at (their copy-on-write generation).
func (s *State) clone() *State {
	c := *s
	c.agents = s.agents.Copy()
	c.unreachable = s.unreachable.Copy()
	c.gone = s.gone.Copy()
	c.frameworks = s.frameworks.Copy()
	c.removed = s.removed.Copy()
	c.weights = s.weights.Copy()
	c.quotas = s.quotas.Copy()
	c.machines = s.machines.Copy()
	return &c
}

// ClusterID returns the id that the first leader gave the cluster, "" before.
func (s *State) ClusterID() string { return s.clusterID }

// Master returns the newest leader, nil before the first.
func (s *State) Master() *mesos.MasterInfo { return s.master }

// MasterServerID returns the Raft id of the newest leader.
func (s *State) MasterServerID() string { return s.serverID }

// Epoch returns how often a leader was elected.
func (s *State) Epoch() uint64 { return s.epoch }

// Agents returns the admitted agents in the order of their ids. Each is decoded
// afresh and belongs to the caller.
func (s *State) Agents() iter.Seq[*clusterdv1.RegisteredAgent] {
	return func(yield func(*clusterdv1.RegisteredAgent) bool) {
		s.agents.Scan(func(_ string, raw []byte) bool { return yield(decodeAgent(raw)) })
	}
}

// Agent returns an admitted agent, which belongs to the caller, or nil.
func (s *State) Agent(id string) *clusterdv1.RegisteredAgent {
	raw, ok := s.agents.Get(id)
	if !ok {
		return nil
	}
	return decodeAgent(raw)
}

// AgentCount returns how many agents are admitted.
func (s *State) AgentCount() int { return s.agents.Len() }

func decodeAgent(raw []byte) *clusterdv1.RegisteredAgent {
	a := new(clusterdv1.RegisteredAgent)
	if err := proto.Unmarshal(raw, a); err != nil {
		panic("agent in the registry does not decode: " + err.Error()) // encodeAgent made it
	}
	return a
}

func encodeAgent(a *clusterdv1.RegisteredAgent) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(a)
}

// Unreachable returns the unreachable agents in the order of their ids.
func (s *State) Unreachable() iter.Seq[*clusterdv1.DepartedAgent] { return values(s.unreachable) }

// UnreachableAgent returns an unreachable agent or nil.
func (s *State) UnreachableAgent(id string) *clusterdv1.DepartedAgent { return get(s.unreachable, id) }

// Gone returns the agents that are gone in the order of their ids.
func (s *State) Gone() iter.Seq[*clusterdv1.DepartedAgent] { return values(s.gone) }

// GoneAgent returns an agent that is gone or nil.
func (s *State) GoneAgent(id string) *clusterdv1.DepartedAgent { return get(s.gone, id) }

// Frameworks returns the admitted frameworks in the order of their ids.
func (s *State) Frameworks() iter.Seq[*clusterdv1.RegisteredFramework] { return values(s.frameworks) }

// Framework returns an admitted framework or nil.
func (s *State) Framework(id string) *clusterdv1.RegisteredFramework { return get(s.frameworks, id) }

// RemovedFrameworks returns the frameworks that may not come back in the order
// of their ids.
func (s *State) RemovedFrameworks() iter.Seq[*clusterdv1.RemovedFramework] { return values(s.removed) }

// RemovedFramework returns a removed framework or nil.
func (s *State) RemovedFramework(id string) *clusterdv1.RemovedFramework { return get(s.removed, id) }

// Weights returns the weights that were set in the order of their roles.
func (s *State) Weights() iter.Seq[*mesos.WeightInfo] { return values(s.weights) }

// Quotas returns the quotas that were set in the order of their roles.
func (s *State) Quotas() iter.Seq[*quota.QuotaConfig] { return values(s.quotas) }

// Schedule returns the maintenance schedule; it has no windows when there is none.
func (s *State) Schedule() *maintenance.Schedule { return &maintenance.Schedule{Windows: s.windows} }

// Machines returns the machines that are not simply up in the order of hostname
// and ip.
func (s *State) Machines() iter.Seq[*mesos.MachineInfo] { return values(s.machines) }

// Machine returns a machine's record, or nil when it is up.
func (s *State) Machine(id *mesos.MachineID) *mesos.MachineInfo {
	return get(s.machines, machineKey(id))
}

// machineKey orders machines and makes equal those that Mesos holds for equal:
// hostnames are compared without case (include/mesos/type_utils.hpp).
func machineKey(id *mesos.MachineID) string {
	return strings.ToLower(id.GetHostname()) + "\x00" + id.GetIp()
}

func values[V any](m *btree.Map[string, V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		m.Scan(func(_ string, v V) bool { return yield(v) })
	}
}

func get[V any](m *btree.Map[string, V], key string) V {
	v, _ := m.Get(key)
	return v
}

func has[V any](m *btree.Map[string, V], key string) bool {
	_, ok := m.Get(key)
	return ok
}
