package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// TestForgottenEnd: an agent that has reported the end of a task and was restarted
// before the framework, which does not checkpoint, acknowledged it is not asked about
// the task: it would call it lost. The simulation found that.
func TestForgottenEnd(t *testing.T) {
	h, fw, keeps := mortal(t, testConfig(), false)
	h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
		FrameworkId: fw.Id,
		Status: &mesos.TaskStatus{
			TaskId: &mesos.TaskID{Value: new("t")}, State: mesos.TaskState_TASK_FAILED.Enum(),
			Source: mesos.TaskStatus_SOURCE_AGENT.Enum(), Reason: mesos.TaskStatus_REASON_EXECUTOR_TERMINATED.Enum(),
			AgentId: &mesos.AgentID{Value: new("A-S0")}, Timestamp: proto.Float64(1), Uuid: []byte("0123456789abcdef"),
		},
		LatestState: mesos.TaskState_TASK_FAILED.Enum(),
	}}})
	n := len(h.streams["s"])
	h.feed(LinkClosed{Link: 1, Reason: "cut"})
	if d := cmp.Diff([]string{"registered"}, mortalReports(h, 2, fw, keeps, false)); d != "" {
		t.Errorf("the agent is told (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"t TASK_FAILED SOURCE_MASTER REASON_RECONCILIATION"}, h.statuses(n)); d != "" {
		t.Errorf("the framework hears (-want +got):\n%s", d)
	}
	if got := h.used(); got != "cpus(allocated: eng):1" {
		t.Errorf("used: %s", got)
	}
}
