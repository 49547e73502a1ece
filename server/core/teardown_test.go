package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// TestTeardownIsCommittedFirst: as long as a teardown may be lost with this leader no
// agent hears of it, for the next leader would still have the framework and its tasks.
func TestTeardownIsCommittedFirst(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	fw := multiRole("f", 1e6)
	fw.Id = &mesos.FrameworkID{Value: new(h.subscribe("s", fw))}
	agent := h.register(1, registerMessage("", "a0", "cpus:4"))
	h.launch("t")
	before := len(h.told(1))
	h.hold = true
	h.feed(Call{Request: 77, StreamID: "s", Call: &scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum(), FrameworkId: fw.Id}})
	if got := h.told(1)[before:]; len(got) > 0 {
		t.Errorf("before the teardown is sure the agent is told %q", got)
	}
	h.register(2, returningAgent(agent, "a0", fw, taskReport(fw, agent, "t", mesos.TaskState_TASK_RUNNING)))
	if d := cmp.Diff([]string{"registered"}, h.told(2)); d != "" {
		t.Errorf("the agent that comes back is told (-want +got):\n%s", d)
	}
	h.commit()
	if d := cmp.Diff([]string{"registered", "shutdown of " + fw.Id.GetValue()}, h.told(2)); d != "" {
		t.Errorf("after it is sure the agent is told (-want +got):\n%s", d)
	}
}
