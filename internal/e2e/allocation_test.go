package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/operator"
	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	pb "clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/internal/testcluster"
)

// holder is a framework of one role that holds on to every offer.
type holder struct {
	*framework
	role   string
	offers map[string]*mesos.Offer
	// batch has the offers of the last OFFERS event, in its order.
	batch   []*mesos.Offer
	running map[string]bool
}

func hold(t *testing.T, c *testcluster.Cluster, role string, constraints *pb.OfferConstraints) *holder {
	t.Helper()
	f := start(t, scheduler.Options{
		Masters: []string{c.Master.Addr},
		Framework: &mesos.FrameworkInfo{
			User: new("root"), Name: &role, Roles: []string{role},
			Checkpoint: new(true), FailoverTimeout: proto.Float64(600),
			Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
		},
		OfferConstraints: constraints,
	})
	h := &holder{framework: f, role: role, offers: map[string]*mesos.Offer{}, running: map[string]bool{}}
	f.next(t.Context(), scheduler.SUBSCRIBED)
	return h
}

// hear takes in the events that have come.
func (h *holder) hear() {
	h.t.Helper()
	for {
		select {
		case e := <-h.events:
			switch e.GetType() {
			case scheduler.OFFERS:
				h.batch = e.GetOffers().GetOffers()
				for _, o := range h.batch {
					h.offers[o.GetId().GetValue()] = o
				}
			case scheduler.RESCIND:
				delete(h.offers, e.GetRescind().GetOfferId().GetValue())
			case scheduler.UPDATE:
				s := e.GetUpdate().GetStatus()
				if err := h.client.Acknowledge(h.t.Context(), s); err != nil {
					h.t.Fatal(err)
				}
				switch id := s.GetTaskId().GetValue(); {
				case s.GetState() == mesos.TaskState_TASK_KILLED:
					delete(h.running, id)
				case terminal(s.GetState()):
					h.t.Fatalf("task ended: %v", s)
				case s.GetState() == mesos.TaskState_TASK_RUNNING:
					h.running[id] = true
				}
			default:
			}
		default:
			return
		}
	}
}

// cpus sums those of the offers that it holds.
func (h *holder) cpus() float64 {
	sum := 0.0
	for _, o := range h.offers {
		sum += amount(o, "cpus")
	}
	return sum
}

// racks lists the attribute rack of the agents that it holds offers of.
func (h *holder) racks() string {
	var out []string
	for _, o := range h.offers {
		for _, a := range o.GetAttributes() {
			if a.GetName() == "rack" {
				out = append(out, a.GetText().GetValue())
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// await waits until the frameworks have heard what makes the condition true.
func await(t *testing.T, what string, holds func() bool, holders ...*holder) {
	t.Helper()
	err := testcluster.Poll(func() error {
		for _, h := range holders {
			h.hear()
		}
		if !holds() {
			return fmt.Errorf("not yet: %s", what)
		}
		return nil
	})
	if err != nil {
		for _, h := range holders {
			t.Logf("%s holds %v cpus, runs %d tasks", h.role, h.cpus(), len(h.running))
		}
		t.Fatal(err)
	}
}

// launchAll starts a task in each offer, with all its cpus, and waits until all run.
func (h *holder) launchAll(ctx context.Context) {
	h.t.Helper()
	for id, o := range h.offers {
		name := "task-" + id
		task := &mesos.TaskInfo{Name: &name, TaskId: &mesos.TaskID{Value: &name}, Command: &mesos.CommandInfo{Value: new("sleep 1000")}}
		for _, r := range o.GetResources() {
			if r.GetName() == "cpus" {
				task.Resources = append(task.Resources, r)
			}
		}
		delete(h.offers, id)
		if err := h.client.Launch(ctx, o, task); err != nil {
			h.t.Fatal(err)
		}
		await(h.t, name+" runs", func() bool { return h.running[name] }, h)
	}
}

// operate sends an operator's call and wants it to be taken.
func operate(t *testing.T, c *testcluster.Cluster, text string) {
	t.Helper()
	if err := tryOperate(t, c, text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func tryOperate(t *testing.T, c *testcluster.Cluster, text string) error {
	t.Helper()
	call := new(master.Call)
	if err := mesosjson.Unmarshal([]byte(text), call); err != nil {
		t.Fatal(err)
	}
	op, err := operator.NewMaster([]string{c.Master.Addr}, operator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = op.Call(t.Context(), call)
	return err
}

// consumed reads what a role has of its quota from /roles.
func consumed(t *testing.T, c *testcluster.Cluster, role string) float64 {
	t.Helper()
	text, err := testcluster.Get("http://" + c.Master.Addr + "/roles")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Roles []struct {
			Name  string
			Quota struct{ Consumed map[string]float64 }
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	for _, r := range answer.Roles {
		if r.Name == role {
			return r.Quota.Consumed["cpus"]
		}
	}
	t.Fatalf("no role %s in %s", role, text)
	return 0
}

// onlyCPUs are the flags of an agent that has nothing else to offer.
func onlyCPUs(n float64) string { return fmt.Sprintf("--resources=cpus:%v;mem:0;disk:0", n) }

// TestQuotaWhileTasksRun: limits hold at every level of the tree while frameworks
// take all that they can get, and the rest goes to others; the limits outlive the
// master.
func TestQuotaWhileTasksRun(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{
		Agents: 3, AgentFlags: []string{onlyCPUs(2)},
		MasterFlags: []string{"--allocator_agent_recovery_factor=1"},
	})
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	operate(t, c, `{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[
		{"role":"eng","limits":{"cpus":{"value":4}}},{"role":"eng/a","limits":{"cpus":{"value":1.5}}}]}}`)
	a := hold(t, c, "eng/a", nil)
	await(t, "eng/a holds 1.5 cpus", func() bool { return a.cpus() == 1.5 }, a)
	a.launchAll(ctx)
	b := hold(t, c, "eng/b", nil)
	await(t, "eng/b holds what eng has left", func() bool { return b.cpus() == 2.5 }, a, b)
	b.launchAll(ctx)
	other := hold(t, c, "other", nil)
	await(t, "other holds the rest", func() bool { return other.cpus() == 2 }, a, b, other)
	other.launchAll(ctx)
	for role, want := range map[string]float64{"eng": 4, "eng/a": 1.5, "eng/b": 2.5} {
		if got := consumed(t, c, role); got != want {
			t.Errorf("%s has consumed %v cpus, want %v", role, got, want)
		}
	}
	lower := `{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"eng/a","limits":{"cpus":{"value":1}}}]}}`
	if err := tryOperate(t, c, lower); err == nil || !strings.Contains(err.Error(), "already consuming 'cpus:1.5'") {
		t.Errorf("a limit below what is in use: %v", err)
	}

	// The same after a failover of the master, when there is more to be had.
	c.Master.Kill()
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*holder{a, b, other} {
		h.next(ctx, scheduler.SUBSCRIBED)
	}
	for id := range other.running {
		if err := other.client.Kill(ctx, &mesos.TaskID{Value: &id}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "only other is offered its cpus", func() bool { return len(other.running) == 0 && other.cpus() == 2 }, a, b, other)
	if a.cpus()+b.cpus() != 0 {
		t.Errorf("eng/a is offered %v and eng/b %v cpus: eng has what it may have", a.cpus(), b.cpus())
	}
	operate(t, c, `{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"eng","limits":{"cpus":{"value":5}}}]}}`)
	if err := other.client.Suppress(ctx); err != nil {
		t.Fatal(err)
	}
	for _, o := range other.offers {
		if err := other.client.Decline(ctx, nil, o.GetId()); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "eng/b gets one more", func() bool { return b.cpus() == 1 }, a, b)
	if a.cpus() != 0 {
		t.Errorf("eng/a is offered %v cpus: it has what it may have", a.cpus())
	}
}

// TestGuaranteeAndWeights: a guarantee is met out of what others hold as offers, and
// a new weight shares offers out anew.
func TestGuaranteeAndWeights(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Agents: 4, AgentFlags: []string{onlyCPUs(1)}})
	greedy := hold(t, c, "greedy", nil)
	await(t, "greedy holds everything", func() bool { return greedy.cpus() == 4 }, greedy)
	modest := hold(t, c, "modest", nil)
	operate(t, c, `{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"modest","guarantees":{"cpus":{"value":2}}}]}}`)
	await(t, "modest holds its guarantee", func() bool { return modest.cpus() == 2 && greedy.cpus() == 2 }, greedy, modest)
	if err := tryOperate(t, c, `{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"modest","guarantees":{"cpus":{"value":4.5}}}]}}`); err == nil {
		t.Error("more was guaranteed than there is")
	}
	operate(t, c, `{"type":"REMOVE_QUOTA","remove_quota":{"role":"modest"}}`)
	operate(t, c, `{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"greedy","weight":3}]}}`)
	await(t, "greedy holds three times as much", func() bool { return modest.cpus() == 1 && greedy.cpus() == 3 }, greedy, modest)
}

// TestConstraintsAndRequests: constraints and requests steer which agents a framework
// is offered.
func TestConstraintsAndRequests(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Agents: 4, EachAgent: func(i int) []string {
		size := 1.0
		if i == 3 {
			size = 4
		}
		return []string{fmt.Sprintf("--attributes=rack:r%d", i), onlyCPUs(size)}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
	defer cancel()
	constraints := new(pb.OfferConstraints)
	if err := mesosjson.Unmarshal([]byte(`{"role_constraints":{"strict":{"groups":[{"attribute_constraints":[
		{"selector":{"attribute_name":"rack"},"predicate":{"text_matches":{"regex":"r[12]"}}}]}]}}}`), constraints); err != nil {
		t.Fatal(err)
	}
	strict := hold(t, c, "strict", constraints)
	rest := hold(t, c, "rest", nil)
	await(t, "each rack is offered", func() bool { return strict.racks() == "r1 r2" && rest.racks() == "r0 r3" }, strict, rest)
	if err := strict.client.Teardown(ctx); err != nil {
		t.Fatal(err)
	}

	// Of much greater weight, it would be first on most agents.
	picky := hold(t, c, "picky", nil)
	if err := picky.client.Request(ctx, &mesos.Request{Resources: []*mesos.Resource{{
		Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(2.0)},
	}}}); err != nil {
		t.Fatal(err)
	}
	operate(t, c, `{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"picky","weight":100}]}}`)
	await(t, "the large agent is picky's", func() bool { return picky.racks() == "r3" && rest.racks() == "r0 r1 r2" }, picky, rest)
	if err := picky.client.Request(ctx); err != nil {
		t.Fatal(err)
	}
	operate(t, c, `{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"picky","weight":99}]}}`)
	await(t, "picky takes smaller ones as well", func() bool { return picky.cpus() > 1 && len(picky.offers) > 1 && len(rest.offers) == 1 }, picky, rest)
}

// TestPlacement: the agent that is in use comes first or last.
func TestPlacement(t *testing.T) {
	for _, placement := range []string{"pack", "spread"} {
		t.Run(placement, func(t *testing.T) {
			t.Parallel()
			const agents = 4
			c := testcluster.Start(t, testcluster.Options{
				Agents: agents, AgentFlags: []string{onlyCPUs(4)}, MasterFlags: []string{"--allocator_placement=" + placement},
			})
			ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
			defer cancel()
			user := hold(t, c, "user", nil)
			await(t, "all is offered", func() bool { return len(user.offers) == agents }, user)
			var used *mesos.Offer
			for _, o := range user.offers {
				if used == nil {
					used = o
					continue
				}
				if err := user.client.Decline(ctx, scheduler.Refuse(1000), o.GetId()); err != nil {
					t.Fatal(err)
				}
			}
			task := shellTask("t", "sleep 1000")
			task.Resources = []*mesos.Resource{scalar("cpus", 1)}
			task.Resources[0].AllocationInfo.Role = new("user")
			if err := user.client.Accept(ctx, []*mesos.OfferID{used.GetId()}, []*mesos.Offer_Operation{{
				Type:   mesos.Offer_Operation_LAUNCH.Enum(),
				Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{withAgent(task, used)}},
			}}, scheduler.Refuse(1000)); err != nil {
				t.Fatal(err)
			}
			await(t, "the task runs", func() bool { return user.running["t"] }, user)
			next := hold(t, c, "next", nil)
			await(t, "all is offered to the next", func() bool { return len(next.offers) == agents }, next)
			if len(next.batch) != agents {
				t.Fatalf("the last event has %d offers, want all %d", len(next.batch), agents)
			}
			want := map[string]int{"pack": 0, "spread": agents - 1}[placement]
			got := slices.IndexFunc(next.batch, func(o *mesos.Offer) bool {
				return o.GetAgentId().GetValue() == used.GetAgentId().GetValue()
			})
			if got != want {
				t.Errorf("the agent in use is the offer %d of %d, want %d", got, agents, want)
			}
		})
	}
}

func withAgent(task *mesos.TaskInfo, o *mesos.Offer) *mesos.TaskInfo {
	task.AgentId = o.GetAgentId()
	return task
}
