// Package core is the agent's mind: which executors and tasks there are, what
// was reported of them and not yet acknowledged, and whether the agent is
// registered with a master.
//
// It decides and does nothing: [Core.Handle] takes an [Input] and the time and
// returns [Effect]s, which the shell (package agent) performs. There is no
// goroutine, clock, disk, logger or unseeded randomness in it, and no result
// depends on the order of a map: the same inputs give the same effects, byte
// for byte.
//
// A Core belongs to one goroutine. A [View] of it is immutable and may be read
// by all. Only package agent imports it.
package core

import (
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

// Input is one thing that happens to the agent. The shell hands inputs to
// [Core.Handle] one at a time.
type Input interface{ input() }

// RequestID names an HTTP request that waits for its answer; the shell makes it.
type RequestID uint64

// StreamID names one subscribed executor's stream; the shell makes it, and never
// twice.
type StreamID uint64

// LinkID names one link to a master; the shell makes it, and never twice.
type LinkID uint64

// Recovered says that the containerizer has taken up the containers that were
// left by an earlier run. It is the first input, once.
type Recovered struct {
	// Statuses of the containers that live or lived, by container id.
	Statuses map[string]*mesos.ContainerStatus
}

// LinkUp says that the link of the last ConnectMaster is open.
type LinkUp struct {
	Link LinkID
}

// LinkDown says that a link ended, or, with Link zero, that ConnectMaster found
// no master.
type LinkDown struct {
	Link   LinkID
	Reason string
	// Refused says that a master was found that does not let this agent in: who it
	// is, or what it may do, must be changed by an operator.
	Refused bool
}

// LeaderKnown says which leadership is the newest that gossip has heard of; zero
// if nobody seems to lead. It is a hint.
type LeaderKnown struct{ Epoch uint64 }

// MasterMessage is a message over the link.
type MasterMessage struct {
	Link    LinkID
	Message *clusterdv1.MasterMessage
}

// Subscribe is an executor's SUBSCRIBE. If the core accepts it answers
// OpenStream, and the stream lives under Stream.
type Subscribe struct {
	Request RequestID
	Stream  StreamID
	Call    *executor.Call
	// Caller sent it; nil if nobody had to authenticate.
	Caller *Caller
}

// Call is any other executor's call but HEARTBEAT.
type Call struct {
	Request RequestID
	Call    *executor.Call
	// Caller sent it; nil if nobody had to authenticate.
	Caller *Caller
}

// Caller is who has authenticated as an executor.
type Caller struct {
	// Name is for messages.
	Name string
	// Claims are those of the executor's token: fid, eid and cid.
	Claims map[string]string
}

// StreamClosed says that an executor's stream ended.
type StreamClosed struct{ Stream StreamID }

// ContainerLaunched is the outcome of LaunchContainer.
type ContainerLaunched struct {
	ContainerID string
	Status      *mesos.ContainerStatus
	Err         error
}

// ContainerUpdated is the outcome of UpdateContainer.
type ContainerUpdated struct {
	ContainerID string
	Token       uint64
	Err         error
}

// ContainerTerminated says that no process of the container is left.
type ContainerTerminated struct {
	ContainerID string
	Termination Termination
}

// Termination says how a container ended.
type Termination struct {
	// StatusKnown says whether Status, a wait status, is known.
	StatusKnown bool
	Status      int
	// Reason and Message are set when the containerizer had a say in it; Limited
	// is what the container used too much of.
	Reason  *mesos.TaskStatus_Reason
	Message string
	Limited []*mesos.Resource
	// Failure is set when the containerizer does not know the container or could
	// not destroy it.
	Failure string
}

// Shutdown ends every executor and then the agent, for good: its next run is a
// new agent (SIGUSR1, or a master that says so).
type Shutdown struct{ Message string }

// Tick says that the time of Core.NextWake has come.
type Tick struct{}

func (Recovered) input()           {}
func (LinkUp) input()              {}
func (LinkDown) input()            {}
func (LeaderKnown) input()         {}
func (MasterMessage) input()       {}
func (Subscribe) input()           {}
func (Call) input()                {}
func (StreamClosed) input()        {}
func (ContainerLaunched) input()   {}
func (ContainerUpdated) input()    {}
func (ContainerTerminated) input() {}
func (Shutdown) input()            {}
func (Tick) input()                {}

// Effect is something that the shell must do. Persist effects of a batch of
// inputs are made durable before any other effect of that batch is performed,
// with the one exception of LaunchContainer, which may go first, though not before
// a MakeVolume or RemoveVolume that precedes it: a container
// that nobody wrote down is destroyed as an orphan by the next run, and its
// executor is told nothing before the records are durable. All others are
// performed in order.
type Effect interface{ effect() }

// Persist adds a record to the checkpoint.
type Persist struct{ Record Record }

// ConnectMaster asks for a link to the leading master; LinkUp or LinkDown
// follows.
type ConnectMaster struct{}

// LearnMasters says where the masters of the agent's cluster are, for the next
// ConnectMaster.
type LearnMasters struct {
	ClusterID string
	Masters   []string
}

// CloseLink ends the link after what is queued on it; LinkDown follows.
type CloseLink struct {
	Link   LinkID
	Reason string
}

// SendMaster queues a message on the link.
type SendMaster struct {
	Link    LinkID
	Message *clusterdv1.AgentMessage
}

// Respond answers an executor's call with a status and a plain-text body.
type Respond struct {
	Request RequestID
	Status  int
	Body    string
}

// OpenStream answers a SUBSCRIBE with 200 and its stream.
type OpenStream struct {
	Request RequestID
	Stream  StreamID
}

// SendExecutor queues an event on an executor's stream. A full queue closes the
// stream, which comes back as StreamClosed.
type SendExecutor struct {
	Stream StreamID
	Event  *executor.Event
}

// CloseStream ends a stream after what is queued on it.
type CloseStream struct{ Stream StreamID }

// LaunchContainer makes the sandbox, fetches the URIs of the command, and starts
// the container; ContainerLaunched follows, and after a success
// ContainerTerminated.
type LaunchContainer struct {
	ContainerID *mesos.ContainerID
	FrameworkID *mesos.FrameworkID
	ExecutorID  *mesos.ExecutorID
	// CommandExecutor says to run the built-in one instead of Command, of which
	// then only the URIs and the environment count.
	CommandExecutor bool
	// DefaultExecutor says to run the built-in one; there is no Command then.
	DefaultExecutor bool
	// Task is what the command executor will run.
	Task      *mesos.TaskInfo
	Command   *mesos.CommandInfo
	Container *mesos.ContainerInfo
	Directory string
	// Virtual are the paths under which /files shows the directory.
	Virtual []string
	// Owner is whose sandbox the directory is, for who wants to look into it.
	Owner       string
	User        string
	Environment map[string]string
	Resources   []*mesos.Resource
	Limits      map[string]*mesos.Value_Scalar
}

// UpdateContainer changes what the container may use; ContainerUpdated with the
// same token follows.
type UpdateContainer struct {
	ContainerID *mesos.ContainerID
	Token       uint64
	Resources   []*mesos.Resource
	Limits      map[string]*mesos.Value_Scalar
}

// DestroyContainer kills everything in the container, also while it is being
// launched; ContainerTerminated follows, unless a failed ContainerLaunched does.
type DestroyContainer struct{ ContainerID *mesos.ContainerID }

// WatchContainer asks for ContainerTerminated of a recovered container.
type WatchContainer struct{ ContainerID *mesos.ContainerID }

// RemoveContainer forgets an ended container: how it ended is recorded.
type RemoveContainer struct{ ContainerID *mesos.ContainerID }

// AttachFiles makes a real path visible under a virtual one to /files. Owner is
// whose sandbox it is.
type AttachFiles struct{ Virtual, Real, Owner string }

// CollectSandbox hands the sandbox of an ended executor to the garbage
// collector, which detaches it from /files when it is gone.
type CollectSandbox struct {
	Directory string
	// Virtual paths that end with the directory.
	Virtual []string
}

// MakeVolume creates a persistent volume's directory, RemoveVolume removes it
// with all that is in it (of a MOUNT disk only what is in it).
type MakeVolume struct{ Path string }

// RemoveVolume is described at MakeVolume.
type RemoveVolume struct {
	Path     string
	KeepRoot bool
}

// Exit ends the agent. With Err set it is an error that an operator must see.
type Exit struct {
	Reason string
	Err    bool
}

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
	Fields []string // alternating names and values
}

// Count adds to a counter of the metrics, by its Mesos key
// (e.g. "slave/valid_status_updates").
type Count struct {
	Key string
	N   int64
}

func (Persist) effect()          {}
func (ConnectMaster) effect()    {}
func (LearnMasters) effect()     {}
func (CloseLink) effect()        {}
func (SendMaster) effect()       {}
func (Respond) effect()          {}
func (OpenStream) effect()       {}
func (SendExecutor) effect()     {}
func (CloseStream) effect()      {}
func (LaunchContainer) effect()  {}
func (UpdateContainer) effect()  {}
func (DestroyContainer) effect() {}
func (WatchContainer) effect()   {}
func (RemoveContainer) effect()  {}
func (AttachFiles) effect()      {}
func (CollectSandbox) effect()   {}
func (MakeVolume) effect()       {}
func (RemoveVolume) effect()     {}
func (Exit) effect()             {}
func (Log) effect()              {}
func (Count) effect()            {}

// Config is what the core is told once.
type Config struct {
	// Info describes the agent, without id: hostname, port, resources,
	// attributes, domain.
	Info *mesos.AgentInfo
	// IP is where others reach the agent; the port is in Info.
	IP string
	// BuildVersion and Capabilities are sent on registration.
	BuildVersion string
	Capabilities []mesos.AgentInfo_Capability_Type
	// LinkVersion is internal/link.Version.
	LinkVersion uint32
	// Seed of UUIDs and of random delays.
	Seed [32]byte
	// WorkDir is the absolute --work_dir.
	WorkDir string
	// Rebooted says that the machine booted since the last run.
	Rebooted bool

	RegistrationBackoffFactor     time.Duration // --registration_backoff_factor
	ExecutorRegistrationTimeout   time.Duration // --executor_registration_timeout
	ExecutorReregistrationTimeout time.Duration // --executor_reregistration_timeout
	ExecutorShutdownGracePeriod   time.Duration // --executor_shutdown_grace_period
	RecoveryTimeout               time.Duration // --recovery_timeout

	ReconfigurationPolicy string // --reconfiguration_policy: equal, additive or any
	Recover               string // --recover: reconnect or cleanup
	SwitchUser            bool   // --switch_user
	EnableCFS             bool   // --cgroups_enable_cfs

	// ExecutorEnvironment is --executor_environment_variables.
	ExecutorEnvironment map[string]string
	// DefaultContainerInfo is --default_container_info.
	DefaultContainerInfo *mesos.ContainerInfo
	// LibprocessIP is the agent's own LIBPROCESS_IP, which executors inherit.
	LibprocessIP string
	// DomainSocket is where executors find the agent as a Unix socket; empty: none.
	DomainSocket string

	MaxCompletedFrameworks int // 50
	MaxCompletedExecutors  int // --max_completed_executors_per_framework
	MaxCompletedTasks      int // 200 per executor
}
