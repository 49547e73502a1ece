package server

import (
	"testing"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// A task whose end its agent tells ahead of the status that belongs to it is counted when
// that status comes, once, however often it is sent.
func TestFastTasksAreCounted(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	f.launch(f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0], "fast")
	tell := func(state mesos.TaskState, n byte) {
		uuid := make([]byte, 16)
		uuid[0] = n
		a.send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
			FrameworkId: f.id,
			LatestState: mesos.TaskState_TASK_FINISHED.Enum(),
			Status: &mesos.TaskStatus{
				TaskId: &mesos.TaskID{Value: new("fast")}, AgentId: a.id, State: &state, Uuid: uuid,
				Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), Timestamp: new(float64(n)),
			},
		}}})
		if got := f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus().GetState(); got != state {
			t.Fatalf("got %s, want %s", got, state)
		}
	}
	for i, c := range []struct {
		state    mesos.TaskState
		finished float64
	}{
		{mesos.TaskState_TASK_STARTING, 0},
		{mesos.TaskState_TASK_RUNNING, 0},
		{mesos.TaskState_TASK_FINISHED, 1},
		{mesos.TaskState_TASK_FINISHED, 1},
	} {
		tell(c.state, byte(min(i, 2)+1))
		if got := getJSON(t, s, "/metrics/snapshot")["master/tasks_finished"]; got != c.finished {
			t.Errorf("after %s: %v are counted, want %v", c.state, got, c.finished)
		}
	}
}
