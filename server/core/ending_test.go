package core

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// TestEndingHoldsResources: until the registry knows that a framework has ended, what it uses
// is not given away. The leader may be lost first; the next one has the framework, and the
// agent would run more than it has.
func TestEndingHoldsResources(t *testing.T) {
	for _, how := range []string{"teardown", "failover timeout"} {
		t.Run(how, func(t *testing.T) {
			h, a := audited(t)
			id := h.register(1, registerMessage("", "a1", "cpus:4"))
			h.subscribe("s", refining("f", "eng"))
			h.launch("t1")
			h.update(id, mesos.TaskState_TASK_RUNNING)
			h.subscribe("other", refining("g", "eng"))
			h.hold = true
			if how == "teardown" {
				h.operate(`{"type":"TEARDOWN","teardown":{"framework_id":{"value":"M-0000"}}}`)
				h.operate(`{"type":"TEARDOWN","teardown":{"framework_id":{"value":"M-0000"}}}`)
			} else {
				h.feed(StreamClosed{StreamID: "s"})
				h.hold = false
				h.commit()
				h.hold = true
				h.advance(time.Minute)
			}
			h.advance(10 * time.Second)
			v := h.core.View()
			fw, ok := v.Frameworks.Get("M-0000")
			ag, _ := v.Agents.Get(id)
			if !ok || fw.Connected || fw.Active || fw.Tasks.Len() != 1 || ag.Used.Empty() {
				t.Fatalf("the framework is there: %t, with %+v; the agent uses %s", ok, fw, ag.Used)
			}
			h.checkBooks(a)
			// Nobody comes back under the id any more.
			again := refining("f", "eng")
			again.Id = &mesos.FrameworkID{Value: new("M-0000")}
			if got := h.subscribe("again", proto.CloneOf(again)); got != "" {
				t.Error("a framework that ends may subscribe")
			}
			h.hold = false
			h.commit()
			v = h.core.View()
			ag, _ = v.Agents.Get(id)
			if _, ok := v.Frameworks.Get("M-0000"); ok || !ag.Used.Empty() || len(v.CompletedFrameworks) != 1 {
				t.Errorf("the framework is there: %t; the agent uses %s", ok, ag.Used)
			}
			h.checkBooks(a)
			for _, r := range h.answers {
				if r.Status >= 300 {
					t.Errorf("answer %v", r)
				}
			}
		})
	}
}
