package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/link"
)

// dialRaw opens a link that registers as told, and returns the answer: nil when
// the master ended the link instead.
func dialRaw(t *testing.T, s *Server, r *clusterdv1.RegisterAgent) (*agent, *clusterdv1.MasterMessage) {
	t.Helper()
	conn, err := link.Dial(t.Context(), []string{s.Addr().String()}, link.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow(); <-conn.Done() })
	a := &agent{t: t, conn: conn}
	a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: r}})
	m, err := conn.Receive()
	if err != nil {
		return a, nil
	}
	a.id = m.GetRegistered().GetAgentId()
	return a, m
}

func registerMessage(change func(*clusterdv1.RegisterAgent)) *clusterdv1.RegisterAgent {
	r := &clusterdv1.RegisterAgent{
		LinkVersion: proto.Uint32(link.Version), AgentInfo: agentInfo(), BuildVersion: new("1.12.0"), Ip: new("127.0.0.1"),
		Capabilities: []*mesos.AgentInfo_Capability{
			{Type: mesos.AgentInfo_Capability_MULTI_ROLE.Enum()},
			{Type: mesos.AgentInfo_Capability_HIERARCHICAL_ROLE.Enum()},
			{Type: mesos.AgentInfo_Capability_RESERVATION_REFINEMENT.Enum()},
		},
	}
	change(r)
	return r
}

// An agent that lies about what it is never becomes one.
func TestAgentsThatMayNotRegister(t *testing.T) {
	s := startMaster(t, quiet)
	honest := startAgent(t, s, agentInfo())
	for name, change := range map[string]func(*clusterdv1.RegisterAgent){
		"id with a slash": func(r *clusterdv1.RegisterAgent) { r.AgentInfo.Id = &mesos.AgentID{Value: new("../../x")} },
		"id too long": func(r *clusterdv1.RegisterAgent) {
			r.AgentInfo.Id = &mesos.AgentID{Value: new(strings.Repeat("x", 256))}
		},
		"another's id":       func(r *clusterdv1.RegisterAgent) { r.AgentInfo.Id, r.Ip = honest.id, new("127.0.0.2") },
		"another's host":     func(r *clusterdv1.RegisterAgent) { r.AgentInfo.Id, r.AgentInfo.Hostname = honest.id, new("elsewhere") },
		"negative resources": func(r *clusterdv1.RegisterAgent) { r.AgentInfo.Resources[0].Scalar.Value = proto.Float64(-5) },
		"endless resources":  func(r *clusterdv1.RegisterAgent) { r.AgentInfo.Resources[0].Scalar.Value = new(1e300) },
		"allocated resources": func(r *clusterdv1.RegisterAgent) {
			r.AgentInfo.Resources, r.AgentInfo.Port = resources.MustParse("cpus:1").Allocate("r").Proto(), proto.Int32(8)
		},
		"task of another agent": func(r *clusterdv1.RegisterAgent) {
			r.AgentInfo.Id, r.AgentInfo.Port = &mesos.AgentID{Value: new("own")}, proto.Int32(7)
			r.Tasks = []*mesos.Task{{
				Name: new("t"), TaskId: &mesos.TaskID{Value: new("t")}, FrameworkId: &mesos.FrameworkID{Value: new("f")},
				AgentId: honest.id, State: mesos.TaskState_TASK_RUNNING.Enum(),
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, m := dialRaw(t, s, registerMessage(change))
			if m.GetRefused() == nil || m.GetRefused().GetMessage() == "" {
				t.Errorf("got %v, want it refused with a reason", m)
			}
		})
	}
	state := getJSON(t, s, "/state")
	if n := len(state["slaves"].([]any)); n != 1 || state["activated_slaves"] != 1.0 {
		t.Errorf("there are %d agents, %v active, want the honest one", n, state["activated_slaves"])
	}
	honest.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}})
}

// What a registered agent says of others' tasks and frameworks changes nothing.
func TestAgentThatLies(t *testing.T) {
	s := startMaster(t, quiet)
	honest := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	f.launch(f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0], "mine")
	for honest.receive().GetRunTasks() == nil {
	}
	honest.update(f, "mine", mesos.TaskState_TASK_RUNNING, 1)
	f.acknowledge(f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus())

	liar, m := dialRaw(t, s, registerMessage(func(r *clusterdv1.RegisterAgent) { r.AgentInfo.Port = proto.Int32(6) }))
	if liar.id == nil {
		t.Fatalf("the other agent is refused: %v", m)
	}
	status := func(task string, state mesos.TaskState, agent *mesos.AgentID, uuid int) *mesos.TaskStatus {
		return &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: &task}, State: state.Enum(), AgentId: agent, Timestamp: proto.Float64(1),
			Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), Uuid: bytes.Repeat([]byte{9}, uuid),
		}
	}
	finished := mesos.TaskState_TASK_FINISHED
	nobody := &mesos.FrameworkID{Value: new("nobody")}
	for _, u := range []*clusterdv1.UpdateTask{
		{FrameworkId: f.id, Status: status("mine", finished, liar.id, 16)},
		{FrameworkId: f.id, Status: status("mine", finished, honest.id, 16)},
		{FrameworkId: f.id, Status: status("mine", finished, nil, 16)},
		{FrameworkId: f.id, Status: status("mine", finished, liar.id, 3)},
		{FrameworkId: f.id, Status: status("mine", mesos.TaskState_TASK_UNREACHABLE, liar.id, 16)},
		{FrameworkId: nobody, Status: status("mine", finished, liar.id, 16)},
	} {
		liar.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: u}})
	}
	e := &mesos.ExecutorID{Value: new("e")}
	liar.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExitedExecutor{ExitedExecutor: &clusterdv1.ExitedExecutor{FrameworkId: nobody, ExecutorId: e}}})
	liar.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_ExecutorMessage{ExecutorMessage: &clusterdv1.ExecutorMessage{FrameworkId: nobody, ExecutorId: e}}})
	liar.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateOperation{UpdateOperation: &clusterdv1.UpdateOperation{
		FrameworkId: nobody, OperationUuid: []byte("x"), Status: &mesos.OperationStatus{State: mesos.OperationState_OPERATION_FINISHED.Enum()},
	}}})
	liar.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateAgent{UpdateAgent: &clusterdv1.UpdateAgent{
		TotalResources: []*mesos.Resource{{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(-1)}}},
	}}})
	liar.send(&clusterdv1.AgentMessage{}) // a member younger than this master
	// Registering twice on one link ends it, after all that came before.
	liar.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: registerMessage(func(*clusterdv1.RegisterAgent) {})}})
	for {
		if _, err := liar.conn.Receive(); err != nil {
			if !errors.Is(err, link.ErrPeerClosed) || !strings.Contains(err.Error(), "registered twice") {
				t.Errorf("the liar's link ended with %v", err)
			}
			break
		}
	}
	// The honest agent's word still counts, and is the next that is heard.
	honest.update(f, "mine", mesos.TaskState_TASK_FAILED, 2)
	if st := f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus(); st.GetState() != mesos.TaskState_TASK_FAILED || st.GetAgentId().GetValue() != honest.id.GetValue() {
		t.Errorf("got %v, want the honest agent's update", st)
	}
}

// Who does not speak the link's protocol is cut off, without having cost more
// than was sent.
func TestLinkGarbage(t *testing.T) {
	s := startMaster(t, quiet)
	before := s.links.Len()
	for name, bytes := range map[string]string{
		"noise":             "GET / HTTP/1.1\r\n\r\n",
		"unknown type":      "\x09\x01x",
		"a record too long": "\x01\xff\xff\xff\xff\x7f" + strings.Repeat("x", 100_000),
		"no message":        "\x01\x04\xff\xff\xff\xff",
		"not registered":    "\x01\x02\x3a\x00", // a pong
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: 1\r\n\r\n%s", link.Path, link.Protocol, link.VersionHeader, bytes)
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, errDeadline(err)) {
				t.Errorf("the link goes on: %v", err)
			}
		})
	}
	eventually(t, "no link is left", func() bool { return s.links.Len() == before })
	startAgent(t, s, agentInfo())
}

// errDeadline returns err if it is a timeout.
func errDeadline(err error) error {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return err
	}
	return errNoDeadline
}

var errNoDeadline = errors.New("no deadline was passed")
