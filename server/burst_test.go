package server

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// quiet drops the log: a refused task is a line of it.
func quiet(o *Options) { o.Logger = zerolog.Nop() }

// burst is how many events one call of a large framework causes at once.
const burst = 40_000

// A framework that asks about all its tasks gets an answer for each: a reader
// that reads is not cut off, however many events one call causes.
func TestReconcileBurst(t *testing.T) {
	s := startMaster(t, quiet)
	f := subscribe(t, s, goldenInfo())
	call := &scheduler.Call_Reconcile{}
	for i := range burst {
		call.Tasks = append(call.Tasks, &scheduler.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: new("t" + strconv.Itoa(i))}})
	}
	f.accepted(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: call})
	for i := range burst {
		st := f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus()
		if st.GetTaskId().GetValue() != "t"+strconv.Itoa(i) || st.GetState() != mesos.TaskState_TASK_UNKNOWN {
			t.Fatalf("answer %d is %v", i, st)
		}
	}
}

// An ACCEPT of very many tasks that nobody can run is answered, task by task,
// and does not keep others waiting.
func TestAcceptBurst(t *testing.T) {
	s := startMaster(t, quiet)
	startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	o := f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	launch := &mesos.Offer_Operation_Launch{}
	const n = burst / 2
	for i := range n {
		id := "t" + strconv.Itoa(i)
		launch.TaskInfos = append(launch.TaskInfos, &mesos.TaskInfo{
			Name: &id, TaskId: &mesos.TaskID{Value: &id}, AgentId: o.AgentId, Command: &mesos.CommandInfo{Value: new("true")},
			Resources: resources.MustParse("cpus:0.1;mem:32").Allocate("golden").Proto(),
		})
	}
	f.accepted(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
		OfferIds:   []*mesos.OfferID{o.Id},
		Operations: []*mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: launch}},
		Filters:    &mesos.Filters{RefuseSeconds: proto.Float64(0)},
	}})
	errors := 0
	for errors < n-40 {
		if f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus().GetState() == mesos.TaskState_TASK_ERROR {
			errors++
		}
	}
}

// More than that is refused before the core hears of it.
func TestTooManyItems(t *testing.T) {
	s := startMaster(t, quiet)
	f := subscribe(t, s, goldenInfo())
	call := &scheduler.Call_Reconcile{Tasks: make([]*scheduler.Call_Reconcile_Task, MaxItems+1)}
	one := &scheduler.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: new("t")}}
	for i := range call.Tasks {
		call.Tasks[i] = one
	}
	r := f.call(&scheduler.Call{Type: scheduler.Call_RECONCILE.Enum(), Reconcile: call}, "application/x-protobuf")
	if want := "Failed to validate scheduler::Call: the call names 262145 tasks and operations, at most 262144 are taken"; r.status != http.StatusBadRequest || r.body != want {
		t.Errorf("got %d %s", r.status, r.body)
	}
	f.accepted(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum()})
}
