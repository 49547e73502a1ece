package core

import (
	"math/rand/v2" //nolint:depguard // seeded by Config.Seed alone
	"strconv"
	"time"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
)

type phase int

// The agent's phases (Slave::State in src/slave/slave.hpp).
const (
	recovering phase = iota
	disconnected
	running
	terminating
)

func (p phase) String() string {
	return [...]string{"RECOVERING", "DISCONNECTED", "RUNNING", "TERMINATING"}[p]
}

type executorState int

// An executor's states (Executor::State in src/slave/slave.hpp).
const (
	execRegistering executorState = iota // launched, not subscribed
	execRunning                          // subscribed
	execTerminating                      // being shut down or destroyed
	execTerminated                       // container ended, updates not all acknowledged
)

func (s executorState) String() string {
	return [...]string{"REGISTERING", "RUNNING", "TERMINATING", "TERMINATED"}[s]
}

// Core is the agent's mind. See the package documentation.
type Core struct {
	cfg   Config
	src   *rand.ChaCha8
	rand  *rand.Rand
	phase phase
	now   time.Time
	out   []Effect

	timers   timers
	timerSeq uint64
	// version grows with every input; it tells views apart.
	version uint64
	token   uint64

	info *mesos.AgentInfo // never written to, only replaced
	// total is what the agent has, operations applied; checkpointed is the part
	// of it that operations have changed.
	total, checkpointed resources.Resources

	registration
	draining draining
	recovery struct {
		// reconnect says that the containerizer has recovered and executors may
		// subscribe.
		reconnect bool
		timer     *timer
		// forgotten is why the checkpoint was not used.
		forgotten error
	}

	frameworks ordered[*framework]
	completed  []*framework
	containers map[string]*executorRun
	streams    map[StreamID]*executorRun
	updates    ordered[*updateStream]
	operations ordered[*operation]
	exited     bool
}

// framework is one framework that has executors here.
type framework struct {
	id          string
	info        *mesos.FrameworkInfo
	terminating bool
	executors   ordered[*executorRun]
	completed   []*executorRun
	// tasks finds the executor of a task that is queued, launched or terminated
	// but not completed.
	tasks map[string]*executorRun
}

func (f *framework) checkpoint() bool { return f.info.GetCheckpoint() }

func (f *framework) capable(t mesos.FrameworkInfo_Capability_Type) bool {
	for _, c := range f.info.GetCapabilities() {
		if c.GetType() == t {
			return true
		}
	}
	return false
}

// lost is the state of a task that never was or is no more: frameworks without
// PARTITION_AWARE know none of the newer states.
func lost(info *mesos.FrameworkInfo, aware mesos.TaskState) mesos.TaskState {
	f := framework{info: info}
	if f.capable(mesos.FrameworkInfo_Capability_PARTITION_AWARE) {
		return aware
	}
	return mesos.TaskState_TASK_LOST
}

// executorRun is one run of an executor in one container.
type executorRun struct {
	fw          *framework
	id          string
	info        *mesos.ExecutorInfo
	containerID *mesos.ContainerID
	directory   string
	user        string
	// port is where it was told to find the agent.
	port int32
	// commandTask says that the agent made the executor for one command task.
	commandTask bool
	state       executorState
	stream      StreamID
	// launching says that ContainerLaunched is still to come.
	launching bool
	sentTask  bool
	// recovered says that the executor is of an earlier run of the agent and has
	// not subscribed to this one.
	recovered bool

	queued     ordered[*queuedTask]
	launched   ordered[*task]
	terminated ordered[*task]
	completed  []*mesos.Task

	status *mesos.ContainerStatus
	// given is what the container was last told that it may use. Stale says that an
	// earlier run of the agent told it so, and it has to hear it again.
	given resources.Resources
	stale bool
	// resizes are what waits for ContainerUpdated, by token.
	resizes map[uint64]func(error)
	// pending says how the tasks will have ended when the container has.
	pending *verdict

	registerTimer, shutdownTimer *timer
}

// verdict is how tasks end with their executor.
type verdict struct {
	state   mesos.TaskState
	reason  mesos.TaskStatus_Reason
	message string
}

// queuedTask was not yet sent to its executor.
type queuedTask struct {
	info *mesos.TaskInfo
	// group is set for a task of a group: they are sent, or killed, together.
	group *mesos.TaskGroupInfo
}

// task was sent to its executor.
type task struct {
	t *mesos.Task // never written to, only replaced
	// kill is the last KILL that the executor was, or would have been, sent.
	kill *executor.Event
	// held are updates that wait for the container to shrink, by uuid.
	held map[string]bool
}

// everSentTask says whether the executor has ever had a task (slave.cpp,
// Executor::everSentTask).
func (e *executorRun) everSentTask() bool {
	if e.sentTask || e.launched.len() > 0 {
		return true
	}
	for t := range e.terminated.values() {
		for _, s := range t.t.GetStatuses() {
			if s.GetSource() == mesos.TaskStatus_SOURCE_EXECUTOR {
				return true
			}
		}
	}
	return false
}

func (e *executorRun) incompleteTasks() bool {
	return e.queued.len() > 0 || e.launched.len() > 0 || e.terminated.len() > 0
}

// allocated is what the executor and its live tasks use.
func (e *executorRun) allocated() resources.Resources {
	sum := toResources(e.info.GetResources())
	for q := range e.queued.values() {
		sum = sum.Add(toResources(q.info.GetResources()))
	}
	for t := range e.launched.values() {
		sum = sum.Add(toResources(t.t.GetResources()))
	}
	return sum
}

// toResources reads resources that were validated before they came here; what
// is not valid in spite of that counts as nothing.
func toResources(rs []*mesos.Resource) resources.Resources {
	r, err := resources.FromProto(rs)
	if err != nil {
		return resources.Resources{}
	}
	return r
}

// Handle takes one input and returns what is to be done.
func (c *Core) Handle(now time.Time, in Input) []Effect {
	if now.After(c.now) {
		c.now = now
	}
	c.version++
	c.out = nil
	if c.exited {
		return nil
	}
	switch in := in.(type) {
	case Recovered:
		c.recovered(in)
	case LinkUp:
		c.linkUp(in)
	case LinkDown:
		c.linkDown(in)
	case LeaderKnown:
		c.leaderKnown(in)
	case MasterMessage:
		c.masterMessage(in)
	case Subscribe:
		c.subscribe(in)
	case Call:
		c.call(in)
	case StreamClosed:
		c.streamClosed(in)
	case ContainerLaunched:
		c.containerLaunched(in)
	case ContainerUpdated:
		c.containerUpdated(in)
	case ContainerTerminated:
		c.containerTerminated(in)
	case Shutdown:
		c.shutdownAgent(in.Message, true)
	case Tick:
	}
	c.fire()
	c.endDrain()
	return c.out
}

func (c *Core) emit(e Effect) { c.out = append(c.out, e) }

func (c *Core) persist(r Record) { c.emit(Persist{r}) }

func (c *Core) log(l Level, event string, fields ...string) {
	c.emit(Log{Level: l, Event: event, Fields: fields})
}

func (c *Core) count(key string) { c.emit(Count{Key: key, N: 1}) }

func (c *Core) exit(reason string, isErr bool) {
	c.exited = true
	c.emit(Exit{Reason: reason, Err: isErr})
}

// newUUID returns 16 random bytes that are a version 4 UUID.
func (c *Core) newUUID() []byte {
	b := make([]byte, 16)
	for i := 0; i < 16; i += 8 {
		v := c.src.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b
}

func uuidString(b []byte) string {
	const hex = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, v := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, hex[v>>4], hex[v&15])
	}
	return string(out)
}

func (c *Core) agentID() string { return c.info.GetId().GetValue() }

func (c *Core) sendMaster(m *clusterdv1.AgentMessage) {
	if c.link != 0 {
		c.emit(SendMaster{Link: c.link, Message: m})
	}
}

func (c *Core) sendExecutor(e *executorRun, ev *executor.Event) bool {
	if e.stream == 0 {
		return false
	}
	c.emit(SendExecutor{Stream: e.stream, Event: ev})
	return true
}

// seconds is a time as Mesos's status updates carry it.
func seconds(t time.Time) float64 {
	return float64(t.UnixMicro()) / 1e6
}

func itoa(n int) string { return strconv.Itoa(n) }

//go:fix inline
