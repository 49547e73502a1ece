package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// launchOn accepts the newest offer of a stream with the task.
func (h *harness) launchOn(stream, task string) {
	h.t.Helper()
	h.advance(time.Second) // what was refused for no time comes with the next full run
	var offer *mesos.Offer
	for _, e := range h.streams[stream] {
		if e.GetType() == scheduler.Event_OFFERS {
			offer = e.GetOffers().GetOffers()[0]
		}
	}
	if offer == nil {
		h.t.Fatalf("%s has no offer", stream)
	}
	a := h.call(stream, &scheduler.Call{
		FrameworkId: offer.FrameworkId, Type: scheduler.Call_ACCEPT.Enum(),
		Accept: &scheduler.Call_Accept{
			OfferIds: []*mesos.OfferID{offer.Id}, Filters: &mesos.Filters{RefuseSeconds: new(0.0)},
			Operations: []*mesos.Offer_Operation{{
				Type: mesos.Offer_Operation_LAUNCH.Enum(),
				Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
					Name: &task, TaskId: &mesos.TaskID{Value: &task}, AgentId: offer.AgentId, Command: &mesos.CommandInfo{Value: new("true")},
					Resources: []*mesos.Resource{{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(0.5)}}},
				}}},
			}},
		},
	})
	if a.Status != 202 {
		h.t.Fatalf("ACCEPT: %d %s", a.Status, a.Body)
	}
}

func remembering(name string) *mesos.FrameworkInfo {
	return &mesos.FrameworkInfo{
		User: new("u"), Name: &name, Roles: []string{"eng"}, Checkpoint: new(true), FailoverTimeout: new(60.0),
		Capabilities: []*mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
		},
	}
}

// What has ended is remembered up to --max_completed_frameworks,
// --max_completed_tasks_per_framework and --max_unreachable_tasks_per_framework;
// the oldest is forgotten first.
func TestHistoryIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.MaxCompletedFrameworks, cfg.MaxCompletedTasks, cfg.MaxUnreachableTasks = 2, 3, 2
	h := newHarness(t, cfg, Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:100"))
	for n := range 3 {
		stream := fmt.Sprint("s", n)
		id := h.subscribe(stream, remembering(stream))
		for i := range 4 {
			h.launchOn(stream, fmt.Sprintf("%s-t%d", stream, i))
		}
		h.call(stream, &scheduler.Call{FrameworkId: &mesos.FrameworkID{Value: &id}, Type: scheduler.Call_TEARDOWN.Enum()})
	}
	var frameworks []string
	for _, f := range h.core.View().CompletedFrameworks {
		var tasks []string
		for _, task := range f.CompletedTasks {
			tasks = append(tasks, task.ID)
			last := task.Statuses[len(task.Statuses)-1]
			if task.State != mesos.TaskState_TASK_KILLED || last.Reason != mesos.TaskStatus_REASON_FRAMEWORK_REMOVED {
				t.Errorf("%s ended as %s, %s", task.ID, task.State, last.Reason)
			}
		}
		want := []string{f.Info.GetName() + "-t1", f.Info.GetName() + "-t2", f.Info.GetName() + "-t3"}
		if d := cmp.Diff(want, tasks); d != "" {
			t.Errorf("completed tasks of %s (-want +got):\n%s", f.Info.GetName(), d)
		}
		frameworks = append(frameworks, f.Info.GetName())
	}
	if d := cmp.Diff([]string{"s1", "s2"}, frameworks); d != "" {
		t.Errorf("completed frameworks (-want +got):\n%s", d)
	}

	h.subscribe("s9", remembering("s9"))
	for i := range 4 {
		h.launchOn("s9", fmt.Sprintf("u%d", i))
	}
	h.feed(LinkClosed{Link: 1, Reason: "cut"})
	h.advance(cfg.AgentReregisterTimeout + time.Minute)
	var unreachable []string
	for f := range h.core.View().Frameworks.Values() {
		for task := range f.UnreachableTasks.Values() {
			unreachable = append(unreachable, task.ID)
		}
	}
	slices.Sort(unreachable)
	if d := cmp.Diff([]string{"u2", "u3"}, unreachable); d != "" {
		t.Errorf("unreachable tasks (-want +got):\n%s", d)
	}
}

// Unreachable agents are forgotten when they are more than
// --registry_max_agent_count or older than --registry_max_agent_age.
func TestRegistryIsPruned(t *testing.T) {
	cfg := testConfig()
	cfg.RegistryMaxAgentCount, cfg.RegistryGCInterval, cfg.RegistryMaxAgentAge = 2, time.Hour, 24*time.Hour
	h := newHarness(t, cfg, Recovered{})
	for n := range 3 {
		h.register(LinkID(n+1), registerMessage("", fmt.Sprint("a", n), "cpus:1"))
	}
	for n := range 3 {
		h.feed(LinkClosed{Link: LinkID(n + 1), Reason: "cut"})
		h.advance(time.Second)
	}
	h.advance(11 * time.Minute)
	pruned := func() (ids []string) {
		for _, c := range h.log {
			prune := &clusterdv1.PruneAgents{}
			if c.GetKind() != clusterdv1.Command_PRUNE_AGENTS {
				continue
			}
			if err := proto.Unmarshal(c.GetPayload(), prune); err != nil {
				t.Fatal(err)
			}
			for _, id := range prune.GetUnreachable() {
				ids = append(ids, id.GetValue())
			}
		}
		return ids
	}
	if got := pruned(); len(got) != 0 {
		t.Errorf("pruned %q before the interval", got)
	}
	h.advance(time.Hour)
	if d := cmp.Diff([]string{"M-S0"}, pruned()); d != "" {
		t.Errorf("more than the count (-want +got):\n%s", d)
	}
	h.advance(25 * time.Hour)
	if d := cmp.Diff([]string{"M-S0", "M-S1", "M-S2"}, pruned()); d != "" {
		t.Errorf("older than the age (-want +got):\n%s", d)
	}
}

// With --require_agent_domain an agent without one is refused.
func TestAgentDomainIsRequired(t *testing.T) {
	cfg := testConfig()
	cfg.RequireAgentDomain = true
	h := newHarness(t, cfg, Recovered{})
	h.register(1, registerMessage("", "a1", "cpus:1"))
	if h.core.View().Agents.Len() != 0 {
		t.Error("an agent without a domain was admitted")
	}
	m := registerMessage("", "a2", "cpus:1")
	m.AgentInfo.Domain = &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
		Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: new("r")}, Zone: &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: new("z")},
	}}
	cfg.MasterInfo.Domain = m.AgentInfo.Domain // without it the master has no use for regions
	h = newHarness(t, cfg, Recovered{})
	h.register(2, m)
	if h.core.View().Agents.Len() != 1 {
		t.Error("an agent with a domain was not admitted")
	}
}
