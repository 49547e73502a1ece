// Package emulate plays many agents against a real master over real links, in
// one process and without containers: tasks "run" at once, and end when killed
// or after a set time. Benchmarks use it to load a master with more agents than
// one machine could run.
//
// An [Agent] owns one goroutine; its methods are safe for concurrent use. Imported
// by internal/bench and its parts.
package emulate

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/link"
	"clusterd/internal/version"
)

// Options describe the agents.
type Options struct {
	// Masters are host:port addresses.
	Masters []string
	// CPUs and MemMB of each agent.
	CPUs, MemMB float64
	// Finish makes tasks finish right after they run.
	Finish bool
	// OnTerminal, if set, is told when the agent reports a task's end, just before
	// the report leaves.
	OnTerminal func(task string, at time.Time)

	// Redial, if positive, makes an agent that has lost its link come back with what it
	// has: after a random wait of up to that at first, of up to twice as long after each
	// attempt that fails, up to MaxRedial.
	Redial, MaxRedial time.Duration
	// Has, if set, makes what an agent reports when it comes back: its tasks and
	// their frameworks.
	Has func(n int, id *mesos.AgentID) ([]*mesos.FrameworkInfo, []*mesos.Task)
	// OnRegistered, if set, is told each time that a master has taken the agent in;
	// again says that it had an id already.
	OnRegistered func(n int, again bool)
	// OwnAddresses gives each agent an address of 127.0.0.0/8 of its own, so that
	// their number is not limited by that of the ports.
	OwnAddresses bool
}

// Agent is one emulated agent.
type Agent struct {
	n    int
	opts Options
	info *mesos.AgentInfo

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{}
	admit  sync.Once // closes ready

	mu sync.Mutex
	// mu guards what follows.
	conn    *link.AgentConn
	id      *mesos.AgentID
	cluster string
	err     error
}

// capabilities that a current agent has.
func capabilities() []*mesos.AgentInfo_Capability {
	var all []*mesos.AgentInfo_Capability
	for _, t := range []mesos.AgentInfo_Capability_Type{
		mesos.AgentInfo_Capability_MULTI_ROLE, mesos.AgentInfo_Capability_HIERARCHICAL_ROLE,
		mesos.AgentInfo_Capability_RESERVATION_REFINEMENT, mesos.AgentInfo_Capability_RESOURCE_PROVIDER,
		mesos.AgentInfo_Capability_RESIZE_VOLUME, mesos.AgentInfo_Capability_AGENT_OPERATION_FEEDBACK,
		mesos.AgentInfo_Capability_AGENT_DRAINING, mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS,
	} {
		all = append(all, &mesos.AgentInfo_Capability{Type: t.Enum()})
	}
	return all
}

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
	}
}

// Start connects agent number n and registers it. It returns once the link
// stands; Ready tells when the master has admitted it.
func Start(ctx context.Context, n int, opts Options) (*Agent, error) {
	a := &Agent{
		n: n, opts: opts, ready: make(chan struct{}),
		info: &mesos.AgentInfo{
			Hostname:  new(fmt.Sprintf("emulated-%d", n)),
			Port:      new(int32(10000 + n%50000)),
			Resources: []*mesos.Resource{scalar("cpus", opts.CPUs), scalar("mem", opts.MemMB)},
		},
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	conn, err := a.connect(ctx)
	if err != nil {
		a.cancel()
		return nil, err
	}
	a.wg.Go(func() { a.run(conn) })
	return a, nil
}

// address is the agent's own among those of loopback.
func (a *Agent) address() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+a.n>>16, a.n>>8&255, a.n&255)
}

// connect opens a link and registers.
func (a *Agent) connect(ctx context.Context) (*link.AgentConn, error) {
	// One master after the other: three connections for each of many agents are more
	// files than one process may open, and who fails for that tries for ever.
	opts := link.DialOptions{Stagger: time.Minute}
	if a.opts.OwnAddresses {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a.address())}}
		opts.DialContext = d.DialContext
	}
	conn, err := link.Dial(ctx, a.opts.Masters, opts)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.conn = conn
	r := &clusterdv1.RegisterAgent{
		LinkVersion: proto.Uint32(link.Version), AgentInfo: a.info,
		BuildVersion: proto.String(version.Mesos), Capabilities: capabilities(), Ip: new(a.address()),
	}
	if a.id != nil {
		r.AgentInfo = proto.CloneOf(a.info)
		r.AgentInfo.Id, r.ClusterId = a.id, &a.cluster
	}
	a.mu.Unlock()
	if r.AgentInfo.Id != nil && a.opts.Has != nil {
		r.Frameworks, r.Tasks = a.opts.Has(a.n, r.AgentInfo.Id)
	}
	if err := conn.Send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: r}}); err != nil {
		conn.CloseNow()
		return nil, err
	}
	return conn, nil
}

// Ready is closed when the agent is admitted, or has failed (see Err).
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Err is why the agent's link ended, nil while it stands.
func (a *Agent) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Stop ends the link and waits.
func (a *Agent) Stop() {
	a.cancel()
	a.mu.Lock()
	a.conn.CloseNow()
	a.mu.Unlock()
	a.wg.Wait()
}

// Reconnect drops the link, so that the agent comes back with what it has. Without
// Options.Redial it does not.
func (a *Agent) Reconnect() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn.CloseNow()
}

// Update reports a state of a task.
func (a *Agent) Update(framework *mesos.FrameworkID, task *mesos.TaskID, state mesos.TaskState) error {
	return a.update(framework, task, state)
}

func (a *Agent) send(m *clusterdv1.AgentMessage) error {
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	return conn.Send(m)
}

// run receives, and comes back after a loss if it is to.
func (a *Agent) run(conn *link.AgentConn) {
	defer a.admit.Do(func() { close(a.ready) })
	bound := a.opts.Redial
	for {
		registered, err := a.receive(conn)
		conn.CloseNow()
		if a.opts.Redial <= 0 || a.ctx.Err() != nil {
			a.fail(err)
			return
		}
		if registered {
			bound = a.opts.Redial
		}
		for {
			if client.Sleep(a.ctx, mathrand.N(bound)+1) != nil {
				a.fail(err)
				return
			}
			if conn, err = a.connect(a.ctx); err == nil {
				break
			}
			bound = min(2*bound, max(a.opts.MaxRedial, a.opts.Redial))
		}
		if a.ctx.Err() != nil { // Stop may have closed the last one
			conn.CloseNow()
		}
	}
}

func (a *Agent) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// receive handles what comes until the link ends. It says whether the master has
// taken the agent in.
func (a *Agent) receive(conn *link.AgentConn) (registered bool, err error) {
	for {
		m, err := conn.Receive()
		if err == nil {
			err = a.handle(m)
		}
		if err != nil {
			return registered, err
		}
		registered = registered || m.GetRegistered() != nil
	}
}

func (a *Agent) handle(m *clusterdv1.MasterMessage) error {
	switch m := m.GetMessage().(type) {
	case *clusterdv1.MasterMessage_Registered:
		a.mu.Lock()
		again := a.id != nil
		a.id, a.cluster = m.Registered.GetAgentId(), m.Registered.GetClusterId()
		a.mu.Unlock()
		if a.opts.OnRegistered != nil {
			a.opts.OnRegistered(a.n, again)
		}
		a.admit.Do(func() { close(a.ready) })
	case *clusterdv1.MasterMessage_Refused:
		return fmt.Errorf("refused: %s", m.Refused.GetMessage())
	case *clusterdv1.MasterMessage_Ping:
		return a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}})
	case *clusterdv1.MasterMessage_RunTasks:
		for _, t := range m.RunTasks.GetTasks() {
			states := []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING}
			if a.opts.Finish {
				states = append(states, mesos.TaskState_TASK_FINISHED)
			}
			for _, s := range states {
				if err := a.update(m.RunTasks.GetFramework().GetId(), t.GetTaskId(), s); err != nil {
					return err
				}
			}
		}
	case *clusterdv1.MasterMessage_KillTask:
		return a.update(m.KillTask.GetFrameworkId(), m.KillTask.GetTaskId(), mesos.TaskState_TASK_KILLED)
	}
	return nil
}

func (a *Agent) update(framework *mesos.FrameworkID, task *mesos.TaskID, state mesos.TaskState) error {
	if a.opts.OnTerminal != nil && (state == mesos.TaskState_TASK_FINISHED || state == mesos.TaskState_TASK_KILLED) {
		a.opts.OnTerminal(task.GetValue(), time.Now())
	}
	uuid := make([]byte, 16)
	if _, err := rand.Read(uuid); err != nil {
		return err
	}
	a.mu.Lock()
	id := a.id
	a.mu.Unlock()
	return a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: framework, LatestState: state.Enum(),
		Status: &mesos.TaskStatus{
			TaskId: task, State: state.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), AgentId: id,
			Timestamp: new(float64(time.Now().UnixNano()) / 1e9), Uuid: uuid,
		},
	}}})
}
