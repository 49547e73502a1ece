// Package emulate plays many agents against a real master over real links, in
// one process and without containers: tasks "run" at once, and end when killed
// or after a set time. Benchmarks use it to load a master with more agents than
// one machine could run.
//
// An [Agent] owns one goroutine; its methods are safe for concurrent use.
package emulate

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

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
}

// Agent is one emulated agent.
type Agent struct {
	conn *link.AgentConn
	opts Options
	info *mesos.AgentInfo

	wg    sync.WaitGroup
	ready chan struct{}

	mu  sync.Mutex // guards id
	id  *mesos.AgentID
	err error
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
	conn, err := link.Dial(ctx, opts.Masters, link.DialOptions{})
	if err != nil {
		return nil, err
	}
	a := &Agent{
		conn: conn, opts: opts, ready: make(chan struct{}),
		info: &mesos.AgentInfo{
			Hostname:  new(fmt.Sprintf("emulated-%d", n)),
			Port:      new(int32(10000 + n%50000)),
			Resources: []*mesos.Resource{scalar("cpus", opts.CPUs), scalar("mem", opts.MemMB)},
		},
	}
	if err := a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: &clusterdv1.RegisterAgent{
		LinkVersion: proto.Uint32(link.Version), AgentInfo: a.info,
		BuildVersion: proto.String(version.Mesos), Capabilities: capabilities(),
		Ip: new(fmt.Sprintf("127.%d.%d.%d", 1+n>>16, n>>8&255, n&255)),
	}}}); err != nil {
		return nil, err
	}
	a.wg.Go(a.receive)
	return a, nil
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
	a.conn.CloseNow()
	a.wg.Wait()
}

func (a *Agent) send(m *clusterdv1.AgentMessage) error { return a.conn.Send(m) }

func (a *Agent) receive() {
	var once sync.Once
	admitted := func() { once.Do(func() { close(a.ready) }) }
	defer admitted()
	for {
		m, err := a.conn.Receive()
		if err == nil {
			err = a.handle(m, admitted)
		}
		if err != nil {
			a.mu.Lock()
			a.err = err
			a.mu.Unlock()
			return
		}
	}
}

func (a *Agent) handle(m *clusterdv1.MasterMessage, admitted func()) error {
	switch m := m.GetMessage().(type) {
	case *clusterdv1.MasterMessage_Registered:
		a.mu.Lock()
		a.id = m.Registered.GetAgentId()
		a.mu.Unlock()
		admitted()
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
	return a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: framework, LatestState: state.Enum(),
		Status: &mesos.TaskStatus{
			TaskId: task, State: state.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), AgentId: a.id,
			Timestamp: new(float64(time.Now().UnixNano()) / 1e9), Uuid: uuid,
		},
	}}})
}
