package core

import (
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// A call may name as many resources as fit into its body. All checks of them take
// one pass: with one that compares each with each, this test takes minutes.
func TestVeryManyResources(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.register(1, registerMessage("", "h1", "cpus:8;mem:8192"))
	id := h.subscribe("s", multiRole("f", 0))
	o := h.offers()[0]
	many := func(prefix string) []*mesos.Resource {
		rs := make([]*mesos.Resource, 50_000)
		for i := range rs {
			rs[i] = &mesos.Resource{
				Name: new(prefix + strconv.Itoa(i)), Type: mesos.Value_SCALAR.Enum(),
				Scalar: &mesos.Value_Scalar{Value: proto.Float64(1)},
			}
		}
		return rs
	}
	h.call("s", &scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), FrameworkId: &mesos.FrameworkID{Value: &id}, Accept: &scheduler.Call_Accept{
		OfferIds: []*mesos.OfferID{o.Id},
		Operations: []*mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{
			TaskInfos: []*mesos.TaskInfo{{
				Name: new("t"), TaskId: &mesos.TaskID{Value: new("t")}, AgentId: o.AgentId, Resources: many("t"),
				Executor: &mesos.ExecutorInfo{
					ExecutorId: &mesos.ExecutorID{Value: new("e")}, Command: &mesos.CommandInfo{Value: new("true")},
					Resources: many("e"),
				},
			}},
		}}},
	}})
	events := h.streams["s"]
	st := events[len(events)-1].GetUpdate().GetStatus()
	if st == nil {
		st = events[len(events)-2].GetUpdate().GetStatus() // an offer followed
	}
	if st.GetState() != mesos.TaskState_TASK_ERROR || !strings.HasPrefix(st.GetMessage(), "Total resources t0") {
		t.Fatalf("got %s %.100s", st.GetState(), st.GetMessage())
	}
	// What is wrong is said, but not at any length: one call can bring very many
	// such tasks, and each message may repeat all that was offered.
	if n := len(st.GetMessage()); n > maxMessage+10 {
		t.Errorf("the message is %d bytes long", n)
	}
}
