package conformance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/encoding"
	"github.com/mesos/mesos-go/api/v1/lib/encoding/codecs"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpsched"
	"github.com/mesos/mesos-go/api/v1/lib/resources"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"
)

// framework is a scheduler on mesos-go's client.
type framework struct {
	t      *testing.T
	info   *mesos.FrameworkInfo
	caller calls.Caller
	events chan *scheduler.Event
	offers []mesos.Offer // that came while something else was waited for
	cancel context.CancelFunc
	ended  chan error
}

// subscribe connects a framework; a non-empty id fails the former instance over.
func subscribe(t *testing.T, master, codec, id string) *framework {
	t.Helper()
	return subscribeAs(t, master, codec, id, login{})
}

// subscribeAs connects a framework whose principal is that of the login.
func subscribeAs(t *testing.T, master, codec, id string, who login) *framework {
	t.Helper()
	api := "http://" + master + "/api/v1/scheduler"
	if codec == "json" {
		api = withoutQuotaV2(t, api)
	}
	info := &mesos.FrameworkInfo{
		User: "root", Name: "conformance", Roles: []string{"conf"}, Checkpoint: proto.Bool(true),
		FailoverTimeout: proto.Float64(60),
		Capabilities: []mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE},
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE},
			{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT},
			{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE},
		},
	}
	if who.user != "" {
		info.Principal = proto.String(who.user)
	}
	if id != "" {
		info.ID = &mesos.FrameworkID{Value: id}
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &framework{t: t, info: info, cancel: cancel, events: make(chan *scheduler.Event, 1000), ended: make(chan error, 1)}
	f.caller = httpsched.NewCaller(httpcli.New(
		httpcli.Endpoint(api),
		httpcli.Codec(codecs.ByMediaType[map[string]encoding.MediaType{
			"json": codecs.MediaTypeJSON, "protobuf": codecs.MediaTypeProtobuf,
		}[codec]]),
		httpcli.Do(httpcli.With(httpcli.Timeout(patience), who.option())),
	), httpsched.AllowReconnection(true))
	res, err := f.caller.Call(ctx, calls.Subscribe(info))
	if err != nil {
		t.Fatalf("SUBSCRIBE: %v", err)
	}
	go func() {
		defer res.Close()
		for {
			e := &scheduler.Event{}
			if err := res.Decode(e); err != nil {
				f.ended <- err
				close(f.events)
				return
			}
			f.events <- e
		}
	}()
	t.Cleanup(cancel)
	e := f.next(scheduler.Event_SUBSCRIBED)
	info.ID = e.Subscribed.FrameworkID
	if got := e.Subscribed.GetHeartbeatIntervalSeconds(); got != 15 {
		t.Errorf("heartbeat_interval_seconds: got %v, want 15", got)
	}
	return f
}

// next returns the next event of a type; offers that come meanwhile are kept.
func (f *framework) next(want scheduler.Event_Type) *scheduler.Event {
	f.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e, ok := <-f.events:
			switch {
			case !ok:
				f.t.Fatalf("stream ended while waiting for %s: %v", want, <-f.ended)
			case e.GetType() == want:
				return e
			case e.GetType() == scheduler.Event_OFFERS:
				f.offers = append(f.offers, e.Offers.Offers...)
			case e.GetType() == scheduler.Event_HEARTBEAT, e.GetType() == scheduler.Event_RESCIND, e.GetType() == scheduler.Event_FAILURE:
			default:
				f.t.Fatalf("got %v, want %s", e, want)
			}
		case <-timeout:
			f.t.Fatalf("no %s within %s", want, patience)
		}
	}
}

func (f *framework) call(c *scheduler.Call) {
	f.t.Helper()
	c.FrameworkID = f.info.ID
	if err := calls.CallNoData(context.Background(), f.caller, c); err != nil {
		f.t.Fatalf("%s: %v", c.GetType(), err)
	}
}

// update waits for a task's state and acknowledges it.
func (f *framework) update(task string, want mesos.TaskState) mesos.TaskStatus {
	f.t.Helper()
	s := f.next(scheduler.Event_UPDATE).Update.Status
	if s.TaskID.Value != task || s.GetState() != want {
		f.t.Fatalf("got %s %s (%s, %s), want %s %s", s.TaskID.Value, s.GetState(), s.GetReason(), s.GetMessage(), task, want)
	}
	if len(s.UUID) > 0 {
		f.call(calls.Acknowledge(s.AgentID.Value, task, s.UUID))
	}
	return s
}

func (f *framework) offer() mesos.Offer {
	f.t.Helper()
	if len(f.offers) == 0 {
		f.offers = f.next(scheduler.Event_OFFERS).Offers.Offers
	}
	o := f.offers[0]
	f.offers = f.offers[1:]
	return o
}

func task(id string, offer mesos.Offer, command string) mesos.TaskInfo {
	var rs mesos.Resources
	for _, r := range []mesos.Resource{resources.NewCPUs(0.1).Resource, resources.NewMemory(32).Resource} {
		r.AllocationInfo = offer.AllocationInfo
		rs = append(rs, r)
	}
	return mesos.TaskInfo{
		Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: offer.AgentID, Resources: rs,
		Command: &mesos.CommandInfo{Value: proto.String(command)},
	}
}

func launch(offer mesos.Offer, tasks ...mesos.TaskInfo) *scheduler.Call {
	return calls.Accept(calls.OfferOperations{calls.OpLaunch(tasks...)}.WithOffers(offer.ID)).With(calls.RefuseSeconds(0))
}

func eachCodec(t *testing.T, f func(t *testing.T, codec string)) {
	for _, codec := range []string{"protobuf", "json"} {
		t.Run(codec, func(t *testing.T) { f(t, codec) })
	}
}

// TestTaskLife launches, follows, kills and reconciles command tasks.
func TestTaskLife(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec string) {
		f := subscribe(t, startCluster(t), codec, "")
		offer := f.offer()
		if offer.GetHostname() == "" || offer.URL == nil || offer.AllocationInfo.GetRole() != "conf" {
			t.Errorf("offer lacks hostname, url or role: %v", offer)
		}
		f.call(launch(offer, task("ok", offer, "true")))
		f.update("ok", mesos.TASK_STARTING)
		running := f.update("ok", mesos.TASK_RUNNING)
		if len(running.GetContainerStatus().GetNetworkInfos()) == 0 {
			t.Error("TASK_RUNNING carries no network_infos")
		}
		f.update("ok", mesos.TASK_FINISHED)

		offer = f.offer()
		f.call(launch(offer, task("bad", offer, "exit 3")))
		f.update("bad", mesos.TASK_STARTING)
		f.update("bad", mesos.TASK_RUNNING)
		if s := f.update("bad", mesos.TASK_FAILED); s.GetMessage() != "Command exited with status 3" {
			t.Errorf("message: got %q", s.GetMessage())
		}

		offer = f.offer()
		f.call(launch(offer, task("long", offer, "sleep 1000")))
		f.update("long", mesos.TASK_STARTING)
		f.update("long", mesos.TASK_RUNNING)
		f.call(calls.Reconcile(calls.ReconcileTasks(map[string]string{"long": offer.AgentID.Value})))
		if s := f.update("long", mesos.TASK_RUNNING); s.GetReason() != mesos.REASON_RECONCILIATION || len(s.UUID) != 0 {
			t.Errorf("reconciliation: got reason %s, uuid %x", s.GetReason(), s.UUID)
		}
		f.call(calls.Reconcile(calls.ReconcileTasks(map[string]string{"nosuch": offer.AgentID.Value})))
		f.update("nosuch", mesos.TASK_GONE)
		f.call(calls.Reconcile())
		f.update("long", mesos.TASK_RUNNING)
		f.call(calls.Kill("long", offer.AgentID.Value))
		f.update("long", mesos.TASK_KILLING)
		f.update("long", mesos.TASK_KILLED)
	})
}

// TestFailover subscribes a second instance: the first one's stream gets ERROR
// and ends, the tasks live on, and the second one ends them.
func TestFailover(t *testing.T) {
	eachCodec(t, func(t *testing.T, codec string) {
		master := startCluster(t)
		first := subscribe(t, master, codec, "")
		offer := first.offer()
		first.call(launch(offer, task("t", offer, "sleep 1000")))
		first.update("t", mesos.TASK_STARTING)
		first.update("t", mesos.TASK_RUNNING)

		second := subscribe(t, master, codec, first.info.ID.Value)
		if e := first.next(scheduler.Event_ERROR); e.Error.GetMessage() != "Framework failed over" {
			t.Errorf("ERROR of the former instance: got %q", e.Error.GetMessage())
		}
		second.call(calls.Reconcile())
		second.update("t", mesos.TASK_RUNNING)
		second.call(calls.Kill("t", offer.AgentID.Value))
		second.update("t", mesos.TASK_KILLING)
		second.update("t", mesos.TASK_KILLED)

		second.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
		if err := <-second.ended; errors.Is(err, context.Canceled) {
			t.Errorf("stream after TEARDOWN: %v", err)
		}
	})
}

// TestCustomExecutor launches two tasks under one executor: mesos-go's example,
// which tells TASK_RUNNING and TASK_FINISHED at once for each.
func TestCustomExecutor(t *testing.T) {
	f := subscribe(t, startCluster(t), "protobuf", "")
	offer := f.offer()
	path := filepath.Join(bin, "example-executor")
	ex := &mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_CUSTOM, ExecutorID: mesos.ExecutorID{Value: "ex"}, FrameworkID: f.info.ID,
		Name: proto.String("example"), Command: &mesos.CommandInfo{Value: proto.String(path)},
		Resources: task("x", offer, "").Resources,
	}
	var tasks []mesos.TaskInfo
	for i := range 2 {
		ti := task(fmt.Sprintf("e%d", i), offer, "")
		ti.Command, ti.Executor = nil, ex
		tasks = append(tasks, ti)
	}
	f.call(launch(offer, tasks...))
	got := map[string][]mesos.TaskState{}
	for range 4 {
		s := f.next(scheduler.Event_UPDATE).Update.Status
		got[s.TaskID.Value] = append(got[s.TaskID.Value], s.GetState())
		f.call(calls.Acknowledge(s.AgentID.Value, s.TaskID.Value, s.UUID))
	}
	for _, id := range []string{"e0", "e1"} {
		if len(got[id]) != 2 || got[id][0] != mesos.TASK_RUNNING || got[id][1] != mesos.TASK_FINISHED {
			t.Errorf("%s: got %v, want RUNNING then FINISHED", id, got[id])
		}
	}
}
