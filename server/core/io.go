package core

import (
	"time"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
)

// Input is one thing that happens to the leading master. The shell hands inputs
// to [Core.Handle] one at a time, and leaves the messages in them alone from then
// on: the core keeps parts of them, and changes others.
type Input interface{ input() }

// RequestID names an HTTP request that waits for its answer; the shell makes it.
type RequestID uint64

// LinkID names one connection of an agent; the shell makes it, and never twice.
type LinkID uint64

// Subscribe is a SUBSCRIBE call that has passed the checks of the front
// (steps 1 to 10 of the order in mesos.md 3.1). StreamID is a fresh random UUID:
// if the core accepts, it answers OpenStream and the stream lives under that id.
type Subscribe struct {
	Request   RequestID
	StreamID  string
	Principal *authz.Principal
	Call      *scheduler.Call
}

// Call is any other scheduler call, checked by the front likewise; StreamID is
// its Mesos-Stream-Id header, empty if absent.
type Call struct {
	Request   RequestID
	StreamID  string
	Principal *authz.Principal
	Call      *scheduler.Call
}

// Operate is a call of the operator API that changes something. The front has
// checked that it has a type and the member of that type.
type Operate struct {
	Request   RequestID
	Principal *authz.Principal
	Call      *master.Call
}

// CancelDrain takes a DRAIN_AGENT back, which Mesos cannot: the agent is offered again, and
// not marked gone. It may be done as long as the agent drains, and when it has; who may
// reactivate agents may do it.
type CancelDrain struct {
	Request   RequestID
	Principal *authz.Principal
	AgentID   string
}

// StreamClosed says that a scheduler's stream ended: its client went away or
// was cut off because it did not read.
type StreamClosed struct{ StreamID string }

// AgentMessage is a message over an agent's link. The first on a link is a
// RegisterAgent.
type AgentMessage struct {
	Link      LinkID
	Principal *authz.Principal
	Message   *clusterdv1.AgentMessage
}

// LinkClosed says that an agent's link ended.
type LinkClosed struct {
	Link   LinkID
	Reason string
}

// Committed is the outcome of a Propose effect. A failed proposal means that
// this master leads no more: the shell stops the core after it.
type Committed struct {
	Proposal uint64
	Err      error
}

// Whitelist replaces the agent whitelist; nil lifts it.
type Whitelist struct{ Hostnames []string }

// Policy replaces the rules of who may do what; nil permits everything.
type Policy struct{ ACLs *authz.ACLs }

// Tick says that the time of Core.NextWake has come.
type Tick struct{}

func (Subscribe) input()    {}
func (Call) input()         {}
func (Operate) input()      {}
func (CancelDrain) input()  {}
func (StreamClosed) input() {}
func (AgentMessage) input() {}
func (LinkClosed) input()   {}
func (Committed) input()    {}
func (Whitelist) input()    {}
func (Policy) input()       {}
func (Tick) input()         {}

// Effect is something that the shell must do. Effects are performed in order. The
// messages in them are shared with the core and with views: they must not change.
type Effect interface{ effect() }

// Respond answers a request with a status and a plain-text body, and ends it.
type Respond struct {
	Request RequestID
	Status  int
	Body    string
}

// OpenStream answers a SUBSCRIBE with 200 and its stream.
type OpenStream struct {
	Request  RequestID
	StreamID string
}

// SendEvent queues an event on a scheduler's stream. A full queue closes the
// stream, which comes back as StreamClosed.
type SendEvent struct {
	StreamID string
	Event    *scheduler.Event
}

// CloseStream ends a stream after what is queued on it.
type CloseStream struct{ StreamID string }

// SendAgent queues a message on an agent's link. A full queue closes the link,
// which comes back as LinkClosed.
type SendAgent struct {
	Link    LinkID
	Message *clusterdv1.MasterMessage
}

// CloseLink ends a link after what is queued on it.
type CloseLink struct {
	Link   LinkID
	Reason string
}

// Propose asks the registry to commit commands; Committed brings the outcome. The
// core never has two proposals under way that concern the same agent or framework,
// so that the shell may commit them in any order, and many at once.
type Propose struct {
	Proposal uint64
	Commands []*clusterdv1.Command
}

// Announce tells those who watch the cluster of an event. See [View.Events] for how
// events and views go together.
type Announce struct{ Event *Event }

// Stop ends this master: an invariant would break if it went on.
type Stop struct{ Reason string }

// Level is how much an operator should care about a log line.
type Level int

// Levels of Log effects.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log is a line for the log: an event name and fields.
type Log struct {
	Level  Level
	Event  string
	Fields []string // alternating names and values, e.g. "agent_id", "S0"
}

// Count adds to a counter of the metrics, by its Mesos key
// (e.g. "master/messages_decline_offers").
type Count struct {
	Key string
	N   int64
}

func (Respond) effect()     {}
func (OpenStream) effect()  {}
func (SendEvent) effect()   {}
func (CloseStream) effect() {}
func (SendAgent) effect()   {}
func (CloseLink) effect()   {}
func (Propose) effect()     {}
func (Announce) effect()    {}
func (Stop) effect()        {}
func (Log) effect()         {}
func (Count) effect()       {}

// Config is what the core is told once, by the flags that concern decisions.
type Config struct {
	// MasterInfo of this master; its id prefixes agent, framework and offer ids.
	MasterInfo *mesos.MasterInfo
	// ClusterID of the cluster, which agents keep with their ids.
	ClusterID string
	// Seed of the core's own random choices.
	Seed uint64
	// Policy says who may do what; a Policy input replaces it. Nil permits everything.
	Policy *authz.ACLs

	AllocationInterval      time.Duration // --allocation_interval
	OfferTimeout            time.Duration // --offer_timeout; 0: none
	AgentPingTimeout        time.Duration // --agent_ping_timeout
	MaxAgentPingTimeouts    int           // --max_agent_ping_timeouts
	AgentReregisterTimeout  time.Duration // --agent_reregister_timeout
	AgentRemovalRateLimit   *RateLimit    // --agent_removal_rate_limit, see limiterKind; nil: none
	Roles                   []string      // --roles; nil: any
	RootSubmissions         bool          // --root_submissions
	RequireAgentDomain      bool          // --require_agent_domain
	MaxCompletedFrameworks  int           // --max_completed_frameworks
	MaxCompletedTasks       int           // --max_completed_tasks_per_framework
	MaxUnreachableTasks     int           // --max_unreachable_tasks_per_framework
	HeartbeatInterval       time.Duration // of scheduler streams; 15 s
	RegistryGCInterval      time.Duration // --registry_gc_interval; 0: never
	RegistryMaxAgentAge     time.Duration // --registry_max_agent_age; 0: all are too old
	RegistryMaxAgentCount   int           // --registry_max_agent_count; 0: all are too many
	PublishFrameworkMetrics bool          // --publish_per_framework_metrics
	// AutomaticMaintenance (--automatic_maintenance) has machines go down and come up by
	// the schedule, without an operator.
	AutomaticMaintenance bool
	// TLS: agents serve HTTP over TLS, and their URLs in offers say so.
	TLS bool

	// After a failover, roles with a quota are offered nothing that counts towards it
	// until the share --allocator_agent_recovery_factor of the agents is back or
	// --allocator_recovery_timeout is over. Zero in either: nobody waits.
	AllocatorAgentRecoveryFactor float64
	AllocatorRecoveryTimeout     time.Duration

	// RecoveryAgentRemovalLimit (--recovery_agent_removal_limit) is the share of the
	// agents, 0 to 1, that may be missing AgentReregisterTimeout after a failover: if
	// more are, the core stops. Nil: all may.
	RecoveryAgentRemovalLimit *float64
	// NonCheckpointingGrace (--non_checkpointing_grace) is how long tasks of frameworks
	// that do not checkpoint are kept when the link to their agent breaks. Nil: as long
	// as an agent may leave pings unanswered; zero: not at all, as in Mesos.
	NonCheckpointingGrace *time.Duration

	// ConstraintRegexps are --offer_constraints_re2_max_mem and
	// --offer_constraints_re2_max_program_size.
	ConstraintRegexps allocator.RegexpLimits
}

// RateLimit permits N events in each Per.
type RateLimit struct {
	N   int
	Per time.Duration
}
