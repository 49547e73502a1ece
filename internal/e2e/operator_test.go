package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/testcluster"
)

// offerWhere returns the next offer of which something is true.
func (f *framework) offerWhere(ctx context.Context, what string, ok func(*mesos.Offer) bool) *mesos.Offer {
	f.t.Helper()
	for {
		select {
		case <-ctx.Done():
			f.t.Fatalf("no offer that %s", what)
		case e := <-f.events:
			for _, o := range e.GetOffers().GetOffers() {
				if ok(o) {
					return o
				}
			}
		}
	}
}

// onVolume runs a task with the volume in whatever offer has it, until the task is in
// the wanted state. An offer may be rescinded before the launch comes.
func (f *framework) onVolume(ctx context.Context, id, command string, want mesos.TaskState) {
	f.t.Helper()
	offers := map[string]*mesos.Offer{}
	launched := false
	for {
		select {
		case <-ctx.Done():
			f.t.Fatalf("task %s is not %s", id, want)
		case e := <-f.events:
			for _, o := range e.GetOffers().GetOffers() {
				offers[o.GetId().GetValue()] = o
			}
			delete(offers, e.GetRescind().GetOfferId().GetValue())
			s := e.GetUpdate().GetStatus()
			if s.GetUuid() != nil {
				if err := f.client.Acknowledge(ctx, s); err != nil {
					f.t.Fatal(err)
				}
			}
			if s.GetTaskId().GetValue() == id && s.GetState() == want {
				return
			}
			if s.GetReason() == mesos.TaskStatus_REASON_INVALID_OFFERS {
				launched = false
			}
		}
		for oid, o := range offers {
			if launched || volumeOf(o, "v1") == nil {
				continue
			}
			delete(offers, oid)
			launched = true
			task := shellTask(id, command)
			task.Resources = append(task.Resources, volumeOf(o, "v1"))
			if err := f.client.Launch(ctx, o, task); err != nil {
				f.t.Fatal(err)
			}
			if err := f.client.Revive(ctx); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// volumeOf finds a persistent volume in an offer.
func volumeOf(o *mesos.Offer, id string) *mesos.Resource {
	for _, r := range o.GetResources() {
		if r.GetDisk().GetPersistence().GetId() == id {
			return r
		}
	}
	return nil
}

// agentCall writes an operator's call about an agent.
func agentCall(kind string, agent *mesos.AgentID, members string) string {
	return fmt.Sprintf(`{"type":%q,%q:{"agent_id":{"value":%q}%s}}`, kind, strings.ToLower(kind), agent.GetValue(), members)
}

// slave is an agent as /slaves shows it.
type slave struct {
	ID          string
	Active      bool
	Deactivated bool
	DrainInfo   struct{ State string } `json:"drain_info"`
}

// awaitSlave waits until /slaves shows the only agent as it should be.
func awaitSlave(t *testing.T, c *testcluster.Cluster, ok func(slave) bool) {
	t.Helper()
	err := testcluster.Poll(func() error {
		text, err := testcluster.Get("http://" + c.Master.Addr + "/slaves")
		if err != nil {
			return err
		}
		var answer struct{ Slaves []slave }
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			return err
		}
		if len(answer.Slaves) != 1 || !ok(answer.Slaves[0]) {
			return fmt.Errorf("the agents are %+v", answer.Slaves)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestVolumeByOperator: what an operator reserves and creates is offered to the role,
// used by tasks, outlives the agent, and is gone from the disk when it is destroyed.
func TestVolumeByOperator(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{"--registration_backoff_factor=50ms"}})
	f := subscribe(t, c, "volumes")
	agent := f.nextOffer(ctx).GetAgentId()
	reserved := func(value int, more string) string {
		return fmt.Sprintf(`{"name":"disk","type":"SCALAR","scalar":{"value":%d},"reservations":[{"type":"DYNAMIC","role":%q}]%s}`, value, role, more)
	}
	volume := reserved(16, `,"disk":{"persistence":{"id":"v1"},"volume":{"mode":"RW","container_path":"data"}}`)
	operate(t, c, agentCall("RESERVE_RESOURCES", agent, `,"resources":[`+reserved(32, "")+`]`))
	operate(t, c, agentCall("CREATE_VOLUMES", agent, `,"volumes":[`+volume+`]`))

	f.onVolume(ctx, "writes", "echo hello >data/word", mesos.TaskState_TASK_FINISHED)
	c.Agents[0].Kill()
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	awaitSlave(t, c, func(s slave) bool { return s.Active })
	f.onVolume(ctx, "reads", "grep hello data/word && sleep 1000", mesos.TaskState_TASK_RUNNING)

	// It is in use.
	destroy := agentCall("DESTROY_VOLUMES", agent, `,"volumes":[`+volume+`]`)
	if err := tryOperate(t, c, destroy); err == nil || !strings.Contains(err.Error(), "Persistent volumes in use") {
		t.Errorf("DESTROY_VOLUMES of a volume in use: %v", err)
	}
	if err := f.client.Kill(ctx, &mesos.TaskID{Value: new("reads")}, agent, nil); err != nil {
		t.Fatal(err)
	}
	f.await(ctx, "reads", mesos.TaskState_TASK_KILLED)
	path := filepath.Join(c.Agents[0].WorkDir, "volumes", "roles", role, "v1")
	if b, err := os.ReadFile(filepath.Join(path, "word")); err != nil || string(b) != "hello\n" {
		t.Errorf("the volume has %q, %v", b, err)
	}
	operate(t, c, destroy)
	operate(t, c, agentCall("UNRESERVE_RESOURCES", agent, `,"resources":[`+reserved(32, "")+`]`))
	f.offerWhere(ctx, "has nothing reserved", func(o *mesos.Offer) bool {
		for _, r := range o.GetResources() {
			if len(r.GetReservations()) > 0 {
				return false
			}
		}
		return amount(o, "disk") >= 32
	})
	if err := testcluster.Poll(func() error {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			return fmt.Errorf("the volume is still on the disk: %w", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestMaintenanceWindow: an inverse offer reaches a client, whose answer is shown; the
// machine goes down with its agent and comes back.
func TestMaintenanceWindow(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{})
	f := subscribe(t, c, "maintained")
	o := f.launch(ctx, shellTask("long", "sleep 1000"))
	f.await(ctx, "long", mesos.TaskState_TASK_RUNNING)
	if err := f.client.Revive(ctx); err != nil {
		t.Fatal(err)
	}
	f.nextOffer(ctx)
	machine := fmt.Sprintf(`{"hostname":%q,"ip":%q}`, o.GetHostname(), o.GetUrl().GetAddress().GetIp())
	operate(t, c, `{"type":"UPDATE_MAINTENANCE_SCHEDULE","update_maintenance_schedule":{"schedule":{"windows":[
		{"machine_ids":[`+machine+`],"unavailability":{"start":{"nanoseconds":4102444800000000000}}}]}}}`)
	f.next(ctx, scheduler.RESCIND)
	if again := f.nextOffer(ctx); again.GetUnavailability().GetStart().GetNanoseconds() != 4102444800000000000 {
		t.Errorf("the offer does not say when its agent will be maintained: %v", again)
	}
	inverse := f.next(ctx, scheduler.INVERSE_OFFERS).GetInverseOffers().GetInverseOffers()[0]
	if inverse.GetAgentId().GetValue() != o.GetAgentId().GetValue() {
		t.Errorf("the inverse offer is %v", inverse)
	}
	if err := f.client.AcceptInverseOffers(ctx, nil, inverse.GetId()); err != nil {
		t.Fatal(err)
	}
	status, err := testcluster.Get("http://" + c.Master.Addr + "/maintenance/status")
	if want := `"status":"ACCEPT","framework_id":{"value":"` + f.client.FrameworkID().GetValue() + `"}`; err != nil || !strings.Contains(status, want) {
		t.Errorf("the status is %s (%v), want %s in it", status, err, want)
	}

	operate(t, c, `{"type":"START_MAINTENANCE","start_maintenance":{"machines":[`+machine+`]}}`)
	if s := f.await(ctx, "long", mesos.TaskState_TASK_LOST); !strings.Contains(s.GetMessage(), "Machine DOWN") {
		t.Errorf("the task ended by %v", s)
	}
	select {
	case <-c.Agents[0].Done():
	case <-ctx.Done():
		t.Fatal("the agent lives on a machine that is down")
	}
	c.Agents[0].Kill() // it has ended; now it may be started again
	operate(t, c, `{"type":"STOP_MAINTENANCE","stop_maintenance":{"machines":[`+machine+`]}}`)
	if err := c.Agents[0].Start(); err != nil {
		t.Fatal(err)
	}
	back := f.nextOffer(ctx)
	if back.Unavailability != nil || back.GetAgentId().GetValue() == o.GetAgentId().GetValue() {
		t.Errorf("the agent is offered as %v", back)
	}
}

// quiet wants that nothing has been offered since the last event that was taken, up to
// an answer that it asks for.
func (f *framework) quiet(ctx context.Context, when string) {
	f.t.Helper()
	if err := f.client.Revive(ctx); err != nil {
		f.t.Fatal(err)
	}
	if err := f.client.Reconcile(ctx, &pb.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: new("nosuch")}}); err != nil {
		f.t.Fatal(err)
	}
	for {
		select {
		case <-ctx.Done():
			f.t.Fatal("reconciliation is not answered")
		case e := <-f.events:
			if e.GetType() == scheduler.OFFERS {
				f.t.Fatalf("%s: got the offers %v", when, e.GetOffers())
			}
			if e.GetUpdate().GetStatus().GetTaskId().GetValue() == "nosuch" {
				return
			}
		}
	}
}

// TestDeactivateAndDrain: a deactivated agent keeps its tasks and is not offered, a
// draining one loses them; the master's end changes nothing of it.
func TestDeactivateAndDrain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{"--registration_backoff_factor=50ms"}})
	f := subscribe(t, c, "drained")
	task := shellTask("stubborn", `trap "" TERM; echo ready >ready; while :; do sleep 1; done`)
	task.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(3600e9)}}
	agent := f.launch(ctx, task).GetAgentId()
	f.await(ctx, "stubborn", mesos.TaskState_TASK_RUNNING)
	if err := f.client.Revive(ctx); err != nil {
		t.Fatal(err)
	}
	f.nextOffer(ctx)
	operate(t, c, agentCall("DEACTIVATE_AGENT", agent, ""))
	f.next(ctx, scheduler.RESCIND)
	f.quiet(ctx, "deactivated")

	c.Master.Kill()
	if err := c.Master.Start(); err != nil {
		t.Fatal(err)
	}
	f.next(ctx, scheduler.SUBSCRIBED)
	awaitSlave(t, c, func(s slave) bool { return s.Deactivated && !s.Active && s.ID == agent.GetValue() })
	f.quiet(ctx, "deactivated, with another master")
	operate(t, c, agentCall("REACTIVATE_AGENT", agent, ""))
	f.nextOffer(ctx)

	// The operator's patience is shorter than the task's.
	operate(t, c, agentCall("DRAIN_AGENT", agent, `,"max_grace_period":{"seconds":1}`))
	s := f.await(ctx, "stubborn", mesos.TaskState_TASK_KILLED)
	if s.GetReason() != mesos.TaskStatus_REASON_AGENT_DRAINING {
		t.Errorf("the task ended by %v", s)
	}
	awaitSlave(t, c, func(s slave) bool { return s.DrainInfo.State == "DRAINED" && s.Deactivated })
	f.quiet(ctx, "drained")
	operate(t, c, agentCall("REACTIVATE_AGENT", agent, ""))
	f.nextOffer(ctx)
	awaitSlave(t, c, func(s slave) bool { return s.Active && s.DrainInfo.State == "" })

	operate(t, c, agentCall("MARK_AGENT_GONE", agent, ""))
	select {
	case <-c.Agents[0].Done():
	case <-ctx.Done():
		t.Fatal("the agent goes on though it is gone")
	}
}

// TestVolumeAndTaskAtOnce makes a volume and uses it by one ACCEPT: the container must
// find it.
func TestVolumeAndTaskAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testcluster.Patience)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{})
	f := subscribe(t, c, "at-once")
	o := f.nextOffer(ctx)
	for i := range 5 {
		id := fmt.Sprintf("v%d", i)
		disk := scalar("disk", 16)
		disk.Reservations = []*mesos.Resource_ReservationInfo{{Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new(role)}}
		volume := proto.CloneOf(disk)
		volume.Disk = &mesos.Resource_DiskInfo{
			Persistence: &mesos.Resource_DiskInfo_Persistence{Id: &id},
			Volume:      &mesos.Volume{ContainerPath: new("data"), Mode: mesos.Volume_RW.Enum()},
		}
		task := shellTask("writes-"+id, "echo hello >data/word")
		task.AgentId = o.GetAgentId()
		task.Resources = append(task.Resources, volume)
		err := f.client.Accept(ctx, []*mesos.OfferID{o.GetId()}, []*mesos.Offer_Operation{
			{Type: mesos.Offer_Operation_RESERVE.Enum(), Reserve: &mesos.Offer_Operation_Reserve{Resources: []*mesos.Resource{disk}}},
			{Type: mesos.Offer_Operation_CREATE.Enum(), Create: &mesos.Offer_Operation_Create{Volumes: []*mesos.Resource{volume}}},
			{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{task}}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		// The agent tells of the end with the update before, so that what the task used
		// may be offered before its last update comes.
		var ended *mesos.TaskStatus
		for o = nil; o == nil || ended == nil; {
			switch e := f.event(ctx, "event"); e.GetType() {
			case pb.Event_OFFERS:
				o = e.GetOffers().GetOffers()[0]
			case pb.Event_UPDATE:
				s := e.GetUpdate().GetStatus()
				if err := f.client.Acknowledge(ctx, s); err != nil {
					t.Fatal(err)
				}
				if terminal(s.GetState()) {
					ended = s
				}
			default:
			}
		}
		if ended.GetState() != mesos.TaskState_TASK_FINISHED {
			t.Fatalf("the task ended by %v", ended)
		}
	}
}
