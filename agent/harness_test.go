package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"clusterd/agent/commandexecutor"
	"clusterd/agent/defaultexecutor"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/link"
	"clusterd/internal/testcluster"
	"clusterd/isolation/supervisor"
)

// TestMain is also what runs beside and in containers: the test's binary is the
// whole clusterd in the modes that matter here.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervisor":
			os.Exit(supervisor.Main(os.Args[1:]))
		case "command-executor", "command-executor-tls":
			os.Exit(commandexecutor.Main(commandexecutor.Options{}))
		case "default-executor":
			os.Exit(defaultexecutor.Main(defaultexecutor.Options{}))
		}
	}
	// A probe of gossip outlives its end by a moment, see registry/gossip.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

const patience = 60 * time.Second

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// scriptedMaster is the master's end of a real link. It admits every agent, and
// acknowledges updates unless told to hold them.
type scriptedMaster struct {
	t   testing.TB
	srv *httptest.Server
	lnk *link.Server

	mu        sync.Mutex
	conn      *link.MasterConn
	registers []*clusterdv1.RegisterAgent
	updates   []*clusterdv1.UpdateTask
	others    []*clusterdv1.AgentMessage
	holdAcks  bool
	seen      map[string]bool
	agentID   string
	finished  int
	// registered, if set, changes the answer to a registration; nil refuses it, with
	// refusal.
	registered func(*clusterdv1.Registered) *clusterdv1.Registered
	refusal    *clusterdv1.Refused
	// elsewhere is where a master that does not lead sends agents, "none" if it
	// knows of no leader.
	elsewhere string
	// mute makes it take everything and say nothing.
	mute bool
}

func newScriptedMaster(t testing.TB) *scriptedMaster {
	return newScriptedMasterOn(t, httptest.NewServer)
}

// newScriptedMasterOn is served by a server of one's own.
func newScriptedMasterOn(t testing.TB, serve func(http.Handler) *httptest.Server) *scriptedMaster {
	m := &scriptedMaster{t: t, seen: map[string]bool{}, agentID: "M-S0"}
	m.lnk = link.NewServer(link.Options{}, m.serve)
	mux := http.NewServeMux()
	mux.HandleFunc(link.Path, m.open)
	m.srv = serve(mux)
	t.Cleanup(m.close)
	return m
}

func (m *scriptedMaster) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = m.lnk.Stop(ctx, "test is over")
	m.srv.Close()
}

// open lets an agent in if the master leads.
func (m *scriptedMaster) open(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	elsewhere := m.elsewhere
	m.mu.Unlock()
	switch elsewhere {
	case "":
		m.lnk.ServeHTTP(w, r)
	case "none":
		http.Error(w, "no master leads", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Location", "//"+elsewhere+link.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

// set changes the master's ways.
func (m *scriptedMaster) set(f func(*scriptedMaster)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

// cut ends the agent's link as a master does that leads no more.
func (m *scriptedMaster) cut(reason string) {
	m.mu.Lock()
	c := m.conn
	m.mu.Unlock()
	c.Close(reason)
}

func (m *scriptedMaster) addr() string { return m.srv.Listener.Addr().String() }

func (m *scriptedMaster) serve(c *link.MasterConn, _ *http.Request) {
	for {
		msg, err := c.Receive()
		if err != nil {
			return
		}
		m.mu.Lock()
		switch x := msg.GetMessage().(type) {
		case *clusterdv1.AgentMessage_Register:
			m.conn = c
			m.registers = append(m.registers, x.Register)
			_ = c.Send(m.answerLocked())
		case *clusterdv1.AgentMessage_UpdateTask:
			if id := string(x.UpdateTask.GetStatus().GetUuid()); !m.seen[id] {
				m.seen[id] = true
				m.updates = append(m.updates, x.UpdateTask)
				if x.UpdateTask.GetStatus().GetState() == mesos.TaskState_TASK_FINISHED {
					m.finished++
				}
			}
			if !m.holdAcks && !m.mute {
				m.ackLocked(x.UpdateTask)
			}
		default:
			m.others = append(m.others, msg)
		}
		m.mu.Unlock()
	}
}

// answerLocked answers a registration.
func (m *scriptedMaster) answerLocked() *clusterdv1.MasterMessage {
	r := &clusterdv1.Registered{
		AgentId:     &mesos.AgentID{Value: new(m.agentID)},
		MasterInfo:  &mesos.MasterInfo{Id: new("M"), Ip: proto.Uint32(0), Port: proto.Uint32(1), Hostname: new("h")},
		PingTimeout: &mesos.DurationInfo{Nanoseconds: proto.Int64(int64(time.Minute))},
	}
	if m.registered != nil {
		r = m.registered(r)
	}
	if r == nil {
		return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Refused{Refused: m.refusal}}
	}
	return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Registered{Registered: r}}
}

func (m *scriptedMaster) ackLocked(u *clusterdv1.UpdateTask) {
	_ = m.conn.Send(&clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_AcknowledgeTask{
		AcknowledgeTask: &clusterdv1.AcknowledgeTask{
			FrameworkId: u.GetFrameworkId(), TaskId: u.GetStatus().GetTaskId(), Uuid: u.GetStatus().GetUuid(),
		},
	}})
}

func (m *scriptedMaster) send(msg *clusterdv1.MasterMessage) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		m.t.Fatal("no agent is linked")
	}
	if err := m.conn.Send(msg); err != nil {
		m.t.Fatal(err)
	}
}

func (m *scriptedMaster) waitRegistered(n int) *clusterdv1.RegisterAgent {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("registration %d", n), func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.registers) >= n
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.registers[n-1]
}

// states are those that were reported of the task, in order.
func (m *scriptedMaster) states(task string) (out []string) {
	for _, u := range m.updatesOf(task) {
		out = append(out, strings.TrimPrefix(u.GetStatus().GetState().String(), "TASK_"))
	}
	return out
}

func (m *scriptedMaster) updatesOf(task string) (out []*clusterdv1.UpdateTask) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.updates {
		if u.GetStatus().GetTaskId().GetValue() == task {
			out = append(out, u)
		}
	}
	return out
}

func (m *scriptedMaster) waitState(task, state string) *mesos.TaskStatus {
	m.t.Helper()
	var last *mesos.TaskStatus
	eventually(m.t, task+" "+state, func() bool {
		for _, u := range m.updatesOf(task) {
			if u.GetStatus().GetState().String() == "TASK_"+state {
				last = u.GetStatus()
				return true
			}
		}
		return false
	})
	return last
}

// machine is where agents of a test live, one after the other.
type machine struct {
	t      testing.TB
	work   string
	run    string
	master *scriptedMaster
	port   int
}

func newMachine(t testing.TB, m *scriptedMaster) *machine {
	t.Helper()
	ports, err := testcluster.Ports(1) // it is free when the agent comes back
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t: t, work: t.TempDir(), run: t.TempDir(), master: m, port: ports[0]}
}

func (h *machine) options() Options {
	o := DefaultOptions()
	o.Masters = []string{h.master.addr()}
	o.IP, o.Port, o.Hostname = "127.0.0.1", h.port, "agent.test"
	o.WorkDir, o.RuntimeDir = h.work, h.run
	o.Resources = "cpus:4;mem:1024;disk:1024;ports:[31000-32000]"
	o.RegistrationBackoffFactor = 10 * time.Millisecond
	o.SwitchUser = false
	o.ExecutorShutdownGracePeriod = 200 * time.Millisecond
	if testing.Verbose() {
		o.Log = zerolog.New(zerolog.NewConsoleWriter(func(w *zerolog.ConsoleWriter) { w.Out = os.Stderr; w.NoColor = true })).
			With().Timestamp().Logger()
	}
	return o
}

func (h *machine) start(change ...func(*Options)) *Agent {
	h.t.Helper()
	o := h.options()
	for _, f := range change {
		f(&o)
	}
	a, err := New(o)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := a.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.stop(a) })
	return a
}

func (h *machine) stop(a *Agent) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		h.t.Errorf("stop: %v", err)
	}
}

// leave ends an agent with all that runs on it, so that a test leaves nothing
// behind.
func (h *machine) leave(a *Agent) {
	h.t.Helper()
	a.Leave("test is over")
	select {
	case <-a.Done():
	case <-time.After(patience):
		h.t.Error("the agent does not leave")
	}
	h.stop(a)
}

func framework(id string) *mesos.FrameworkInfo {
	return &mesos.FrameworkInfo{
		Id: &mesos.FrameworkID{Value: &id}, Name: new(id), User: new("root"),
		Checkpoint: new(true), Roles: []string{"r"},
		Capabilities: []*mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
			{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE.Enum()},
		},
	}
}

func scalar(name string, v float64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("r")},
	}
}

func commandTask(id, command string) *mesos.TaskInfo {
	return &mesos.TaskInfo{
		Name: new(id), TaskId: &mesos.TaskID{Value: &id}, AgentId: &mesos.AgentID{Value: new("M-S0")},
		Resources: []*mesos.Resource{scalar("cpus", 0.5), scalar("mem", 32)},
		Command:   &mesos.CommandInfo{Value: &command},
	}
}

func runTasks(fw *mesos.FrameworkInfo, tasks ...*mesos.TaskInfo) *clusterdv1.MasterMessage {
	return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_RunTasks{RunTasks: &clusterdv1.RunTasks{
		Framework: fw, Tasks: tasks, Executor: tasks[0].GetExecutor(),
	}}}
}

func killTask(fw, task string) *clusterdv1.MasterMessage {
	return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_KillTask{KillTask: &clusterdv1.KillTask{
		FrameworkId: &mesos.FrameworkID{Value: &fw}, TaskId: &mesos.TaskID{Value: &task},
	}}}
}
