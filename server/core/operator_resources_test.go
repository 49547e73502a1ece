package core

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
)

// audited is a harness whose books are compared with the allocator's by checkBooks.
func audited(t failer) (*harness, *auditor) {
	t.Helper()
	h := newHarness(t, testConfig(), Recovered{})
	a := newAuditor()
	h.core = New(testConfig(), Recovered{}, a, h.now)
	return h, a
}

func (h *harness) checkBooks(a *auditor) {
	h.t.Helper()
	if err := h.core.audit(a); err != nil {
		h.t.Fatalf("%v", err)
	}
}

// total is what the view shows of an agent.
func (h *harness) total(agent string) string {
	h.t.Helper()
	a, ok := h.core.View().Agents.Get(agent)
	if !ok {
		h.t.Fatalf("agent %s is not there", agent)
	}
	return a.Total.String()
}

// outstanding lists the offers of a stream that were not rescinded, by what they hold.
func (h *harness) outstanding(stream string) []string {
	var ids []string
	offers := map[string]string{}
	for _, e := range h.streams[stream] {
		for _, o := range e.GetOffers().GetOffers() {
			ids = append(ids, o.Id.GetValue())
			offers[o.Id.GetValue()] = mustResources(o.Resources).Unallocate().String()
		}
		if r := e.GetRescind(); r != nil {
			delete(offers, r.OfferId.GetValue())
		}
	}
	var out []string
	for _, id := range ids {
		if text, ok := offers[id]; ok {
			out = append(out, text)
		}
	}
	return out
}

func (h *harness) rescinds(stream string) int {
	n := 0
	for _, e := range h.streams[stream] {
		if e.GetType() == scheduler.Event_RESCIND {
			n++
		}
	}
	return n
}

// applied lists the operations that the agent on link 1 was told to do.
func (h *harness) applied() []*clusterdv1.ApplyOperation {
	var out []*clusterdv1.ApplyOperation
	for _, m := range h.links[1] {
		if op := m.GetApplyOperation(); op != nil {
			out = append(out, op)
		}
	}
	return out
}

// reservedJSON is a resource that is reserved for roles, refined from left to right.
func reservedJSON(name, value string, roles ...string) string {
	var stack []string
	for _, r := range roles {
		stack = append(stack, `{"type":"DYNAMIC","role":"`+r+`"}`)
	}
	return `{"name":"` + name + `","type":"SCALAR","scalar":{"value":` + value + `},"reservations":[` + strings.Join(stack, ",") + `]}`
}

func diskJSON(id, value string, roles ...string) string {
	return strings.TrimSuffix(reservedJSON("disk", value, roles...), "}") +
		`,"disk":{"persistence":{"id":"` + id + `"},"volume":{"mode":"RW","container_path":"data"}}}`
}

// resourcesCall makes one of the four calls that take a list.
func resourcesCall(kind, agent string, list ...string) string {
	member := map[string]string{
		"RESERVE_RESOURCES": "resources", "UNRESERVE_RESOURCES": "resources",
		"CREATE_VOLUMES": "volumes", "DESTROY_VOLUMES": "volumes",
	}[kind]
	return `{"type":"` + kind + `","` + strings.ToLower(kind) + `":{"agent_id":{"value":"` + agent + `"},"` +
		member + `":[` + strings.Join(list, ",") + `]}}`
}

func (h *harness) wantAnswer(call string, status int, body string) {
	h.t.Helper()
	got := h.operate(call)
	got.Request = 0
	if diff := cmp.Diff(Respond{Status: status, Body: body}, got); diff != "" {
		h.t.Fatalf("%s: answer (-want +got):\n%s", call, diff)
	}
}

// TestOperatorLifeOfAVolume reserves, creates, grows, shrinks, destroys and unreserves.
// After each step a framework of the role is offered what came out.
func TestOperatorLifeOfAVolume(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4;disk:100"))
	resize := func(kind, member, volume, with string) string {
		return `{"type":"` + kind + `","` + member + `":{"agent_id":{"value":"` + id + `"},"volume":` + volume + `,` + with + `}}`
	}
	for i, step := range []struct{ call, total string }{
		{
			resourcesCall("RESERVE_RESOURCES", id, reservedJSON("disk", "60", "eng")),
			"cpus:4; disk:40; disk(reservations: [(DYNAMIC,eng)]):60",
		}, {
			resourcesCall("CREATE_VOLUMES", id, diskJSON("v1", "20", "eng")),
			"cpus:4; disk:40; disk(reservations: [(DYNAMIC,eng)]):40; disk(reservations: [(DYNAMIC,eng)])[v1:data]:20",
		}, {
			resize("GROW_VOLUME", "grow_volume", diskJSON("v1", "20", "eng"), `"addition":`+reservedJSON("disk", "10", "eng")),
			"cpus:4; disk:40; disk(reservations: [(DYNAMIC,eng)]):30; disk(reservations: [(DYNAMIC,eng)])[v1:data]:30",
		}, {
			resize("SHRINK_VOLUME", "shrink_volume", diskJSON("v1", "30", "eng"), `"subtract":{"value":25}`),
			"cpus:4; disk:40; disk(reservations: [(DYNAMIC,eng)]):55; disk(reservations: [(DYNAMIC,eng)])[v1:data]:5",
		}, {
			resourcesCall("DESTROY_VOLUMES", id, diskJSON("v1", "5", "eng")),
			"cpus:4; disk:40; disk(reservations: [(DYNAMIC,eng)]):60",
		}, {
			resourcesCall("UNRESERVE_RESOURCES", id, reservedJSON("disk", "60", "eng")),
			"cpus:4; disk:100",
		},
	} {
		h.wantAnswer(step.call, 202, "")
		want := mustParts(step.total)
		if got := mustParts(h.total(id)); !cmp.Equal(got, want) {
			t.Fatalf("after %s the agent has %v, want %v", step.call, got, want)
		}
		offers := h.outstanding("s")
		if len(offers) != 1 || !cmp.Equal(mustParts(offers[0]), want) {
			t.Fatalf("after %s the offers are %v, want all of %v", step.call, offers, want)
		}
		if n := h.rescinds("s"); n != i+1 {
			t.Fatalf("after %s there were %d rescinds, want %d", step.call, n, i+1)
		}
		told := h.applied()
		if len(told) != i+1 || told[i].FrameworkId != nil {
			t.Fatalf("after %s the agent was told %v", step.call, told)
		}
		if n := h.core.View().Operations.Len(); n != 1 {
			t.Fatalf("%d operations are known while the agent works, want 1", n)
		}
		h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateOperation{
			UpdateOperation: &clusterdv1.UpdateOperation{
				OperationUuid: told[i].OperationUuid,
				Status: &mesos.OperationStatus{
					State: mesos.OperationState_OPERATION_FINISHED.Enum(),
					Uuid:  &mesos.UUID{Value: []byte("0123456789abcdef")},
				},
			},
		}})
		if n := h.core.View().Operations.Len(); n != 0 {
			t.Fatalf("%d operations are known after the agent is done, want none", n)
		}
		last := h.links[1][len(h.links[1])-1].GetAcknowledgeOperation()
		if last == nil || last.FrameworkId != nil || string(last.OperationUuid) != string(told[i].OperationUuid) {
			t.Fatalf("the agent's word was not acknowledged, the last message is %v", last)
		}
		h.checkBooks(a)
	}
}

// mustParts splits resources as text; their order says nothing.
func mustParts(text string) map[string]bool {
	parts := map[string]bool{}
	for p := range strings.SplitSeq(text, "; ") {
		parts[p] = true
	}
	return parts
}

func refining(name string, roles ...string) *mesos.FrameworkInfo {
	info := multiRole(name, 60)
	info.Roles = roles
	info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{
		Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT.Enum(),
	})
	return info
}

// TestOperatorRescinds takes back no offer in vain.
func TestOperatorRescinds(t *testing.T) {
	h, a := audited(t)
	h.subscribe("x", refining("fx", "x"))
	id := h.register(1, registerMessage("", "a1", "cpus(x):2;cpus(y):2;mem:100"))
	h.subscribe("y", refining("fy", "y"))
	if x, y := h.outstanding("x"), h.outstanding("y"); len(x) != 1 || len(y) != 1 {
		t.Fatalf("the offers are %v and %v, want one each", x, y)
	}

	// The memory is with x; y keeps its offer.
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("mem", "40", "y")), 202, "")
	h.checkBooks(a)
	if x, y := h.rescinds("x"), h.rescinds("y"); x != 1 || y != 0 {
		t.Errorf("%d and %d rescinds, want 1 and 0", x, y)
	}
	// y has been offered the reservation on top of its first offer.
	if got := h.outstanding("y"); len(got) != 2 || got[1] != "mem(reservations: [(DYNAMIC,y)]):40" {
		t.Errorf("y has the offers %v", got)
	}

	// What nobody is offered is taken without a word.
	h.call("y", &scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum(), FrameworkId: &mesos.FrameworkID{Value: new("M-0001")}})
	h.feed(StreamClosed{StreamID: "x"})
	before := h.rescinds("y")
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("mem", "10", "z")), 202, "")
	if got := h.rescinds("y"); got != before {
		t.Errorf("%d offers were rescinded though enough is free", got-before)
	}
	h.checkBooks(a)
}

// TestOperatorRescindsAsFewAsNeeded has two offers of one agent out, and needs what
// the newer one has: the older one, too small, stays.
func TestOperatorRescindsAsFewAsNeeded(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	o := h.offers()[0]
	accept := &scheduler.Call_Accept{OfferIds: []*mesos.OfferID{o.Id}}
	for task, cpus := range map[string]float64{"small": 1, "large": 3} {
		accept.Operations = append(accept.Operations, &mesos.Offer_Operation{
			Type: mesos.Offer_Operation_LAUNCH.Enum(),
			Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
				Name: new(task), TaskId: &mesos.TaskID{Value: new(task)}, AgentId: o.AgentId,
				Command: &mesos.CommandInfo{Value: new("true")}, Resources: []*mesos.Resource{scalar("cpus", cpus)},
			}}},
		})
	}
	h.call("s", &scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), FrameworkId: o.FrameworkId, Accept: accept})
	for _, task := range []string{"small", "large"} {
		h.agentSays(1, &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_UpdateTask{UpdateTask: &clusterdv1.UpdateTask{
			FrameworkId: o.FrameworkId,
			Status: &mesos.TaskStatus{
				TaskId: &mesos.TaskID{Value: new(task)}, AgentId: o.AgentId,
				State: mesos.TaskState_TASK_FINISHED.Enum(), Uuid: []byte("0123456789abcdef"),
			},
		}}})
	}
	// The first is the one that was accepted.
	if got, want := h.outstanding("s")[1:], []string{"cpus:1", "cpus:3"}; !cmp.Equal(got, want) {
		t.Fatalf("the offers are %v, want %v", got, want)
	}
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "3", "ops")), 202, "")
	if got, want := h.outstanding("s")[1:], []string{"cpus:1"}; !cmp.Equal(got, want) {
		t.Errorf("the offers are %v, want %v", got, want)
	}
	h.checkBooks(a)
}

// TestOperatorConflict is refused what tasks use, and then nothing has changed.
func TestOperatorConflict(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4;mem:64"))
	h.launch("t1")
	h.advance(h.core.cfg.AllocationInterval * 10)
	rescinds, before := h.rescinds("s"), h.total(id)
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "3.5", "eng")), 409,
		"cpus:3; mem:64 does not contain cpus:3.5")
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "5", "eng")), 409,
		"cpus:4; mem:64 does not contain cpus:5")
	if got := h.total(id); got != before || h.rescinds("s") != rescinds || len(h.applied()) != 0 {
		t.Errorf("the agent has %s, it had %s; %d rescinds, %d before", got, before, h.rescinds("s"), rescinds)
	}
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "3", "eng")), 202, "")
	h.checkBooks(a)
}

// TestOperatorResourcesRefused has the texts of src/master/http.cpp and
// src/master/validation.cpp.
func TestOperatorResourcesRefused(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4;disk:100;cpus(static):2"))
	on := "on agent M-S0 at slave(1)@10.0.0.1:5051 (a1): "
	withSource := func(source, target string) string {
		return `{"type":"RESERVE_RESOURCES","reserve_resources":{"agent_id":{"value":"` + id + `"},"source":[` + source + `],"resources":[` + target + `]}}`
	}
	static := `{"name":"cpus","type":"SCALAR","scalar":{"value":2},"reservations":[{"type":"STATIC","role":"static"}]}`
	for name, tt := range map[string]struct {
		call   string
		status int
		body   string
	}{
		"agent": {resourcesCall("RESERVE_RESOURCES", "nosuch", reservedJSON("cpus", "1", "eng")), 400, "No agent found with specified ID"},
		"unreserved": {
			resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "1")), 400,
			"Invalid RESERVE operation " + on + "Resource cpus:1 is not dynamically reserved",
		},
		"resource": {
			resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "-1", "eng")), 400,
			"Failed to validate master::Call: Resource 'cpus(reservations: [(DYNAMIC,eng)]):-1' is invalid: Invalid scalar resource: value <= 0",
		},
		"allocated": {
			resourcesCall("RESERVE_RESOURCES", id, strings.TrimSuffix(reservedJSON("cpus", "1", "eng"), "}")+`,"allocation_info":{"role":"eng"}}`), 400,
			"Invalid RESERVE operation " + on + "A reserve operation was attempted with an allocated resource, but the operator API only allows reservations to be made to unallocated resources",
		},
		"volume": {
			resourcesCall("UNRESERVE_RESOURCES", id, diskJSON("v", "1", "eng")), 400,
			"Invalid UNRESERVE operation: A dynamically reserved persistent volume disk(reservations: [(DYNAMIC,eng)])[v:data]:1 " +
				"cannot be unreserved directly. Please destroy the persistent volume first then unreserve the resource",
		},
		"no volume": {resourcesCall("DESTROY_VOLUMES", id, diskJSON("v", "1", "eng")), 400, "Invalid DESTROY operation: Persistent volumes not found"},
		"not a volume": {
			resourcesCall("CREATE_VOLUMES", id, reservedJSON("disk", "1", "eng")), 400,
			"Invalid CREATE operation " + on + "Not a persistent volume: Resource disk(reservations: [(DYNAMIC,eng)]):1 does not have DiskInfo",
		},
		"not reserved yet": {
			resourcesCall("CREATE_VOLUMES", id, diskJSON("v", "1", "eng")), 409,
			"cpus:4; disk:100; cpus(reservations: [(STATIC,static)]):2 does not contain disk(reservations: [(DYNAMIC,eng)]):1",
		},
		"grow without agent": {
			`{"type":"GROW_VOLUME","grow_volume":{"volume":` + diskJSON("v", "1", "eng") + `,"addition":` + reservedJSON("disk", "1", "eng") + `}}`, 400,
			"Failed to validate master::Call: Expecting 'agent_id' to be present; only agent default resources are supported right now",
		},
		"shrink to nothing": {
			`{"type":"SHRINK_VOLUME","shrink_volume":{"agent_id":{"value":"` + id + `"},"volume":` + diskJSON("v", "1", "eng") + `,"subtract":{"value":1}}}`, 400,
			"Invalid SHRINK_VOLUME operation " + on + "Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'",
		},
		"source differs": {
			withSource(reservedJSON("cpus", "1", "eng"), reservedJSON("cpus", "2", "ops")), 400,
			"Invalid RESERVE operation " + on + "Source and target resources should refer to identical resource quantities: cpus:1 vs. cpus:2",
		},
		"mixed source": {
			withSource(reservedJSON("cpus", "1", "eng")+","+reservedJSON("disk", "1", "ops"), reservedJSON("cpus", "1", "ops")), 400,
			"Invalid RESERVE operation " + on + "Invalid source: Mixed reservations are not supported" +
				"cpus(reservations: [(DYNAMIC,eng)]):1; disk(reservations: [(DYNAMIC,ops)]):1",
		},
		"static source": {withSource(static, reservedJSON("cpus", "2", "eng")), 400, "Invalid RESERVE operation " + on + "Static reservations cannot be changed"},
		"source is not there": {
			withSource(reservedJSON("cpus", "1", "eng"), reservedJSON("cpus", "1", "ops")), 409,
			"cpus:4; disk:100; cpus(reservations: [(STATIC,static)]):2 does not contain cpus(reservations: [(DYNAMIC,eng)]):1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			h.wantAnswer(tt.call, tt.status, tt.body)
		})
	}
	h.t = t
	if len(h.applied()) != 0 {
		t.Errorf("the agent was told %v", h.applied())
	}
	// The agent would never hear of it: Mesos answers 202.
	h.feed(LinkClosed{Link: 1, Reason: "cut"})
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "1", "eng")), 409,
		"Agent M-S0 at slave(1)@10.0.0.1:5051 (a1) is disconnected")
}

// TestOperatorReservationUpdate moves a volume from one role to another.
func TestOperatorReservationUpdate(t *testing.T) {
	h, a := audited(t)
	id := h.register(1, registerMessage("", "a1", "disk:100"))
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("disk", "100", "eng")), 202, "")
	h.wantAnswer(resourcesCall("CREATE_VOLUMES", id, diskJSON("v", "30", "eng")), 202, "")
	h.wantAnswer(`{"type":"RESERVE_RESOURCES","reserve_resources":{"agent_id":{"value":"`+id+`"},"source":[`+
		diskJSON("v", "30", "eng")+`],"resources":[`+diskJSON("v", "30", "ops", "ops/web")+`]}}`, 202, "")
	want := "disk(reservations: [(DYNAMIC,eng)]):70; disk(reservations: [(DYNAMIC,ops),(DYNAMIC,ops/web)])[v:data]:30"
	if got := h.total(id); !cmp.Equal(mustParts(got), mustParts(want)) {
		t.Errorf("the agent has %s, want %s", got, want)
	}
	h.checkBooks(a)
}

// TestOperatorPrincipal may reserve and create in its own name only.
func TestOperatorPrincipal(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	as := func(principal, call string) Respond {
		m := new(master.Call)
		if err := mesosjson.Unmarshal([]byte(call), m); err != nil {
			t.Fatal(err)
		}
		h.request++
		h.feed(Operate{Request: h.request, Principal: &authz.Principal{Value: principal}, Call: m})
		return h.answers[h.request]
	}
	named := strings.Replace(reservedJSON("cpus", "1", "eng"), `"role":"eng"`, `"role":"eng","principal":"p"`, 1)
	if got := as("p", resourcesCall("RESERVE_RESOURCES", id, reservedJSON("cpus", "1", "eng"))); got.Status != 400 ||
		!strings.Contains(got.Body, "with no principal set") {
		t.Errorf("without a principal: %+v", got)
	}
	if got := as("q", resourcesCall("RESERVE_RESOURCES", id, named)); got.Status != 400 ||
		!strings.Contains(got.Body, "does not match a reserved resource in the request with principal 'p'") {
		t.Errorf("in another's name: %+v", got)
	}
	if got := as("p", resourcesCall("RESERVE_RESOURCES", id, named)); got.Status != 202 {
		t.Errorf("in its own name: %+v", got)
	}
}

// TestOperatorDestroysSharedVolume takes back every copy that is offered.
func TestOperatorDestroysSharedVolume(t *testing.T) {
	h, a := audited(t)
	shared := func(name string) *mesos.FrameworkInfo {
		info := refining(name, "eng")
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{
			Type: mesos.FrameworkInfo_Capability_SHARED_RESOURCES.Enum(),
		})
		info.OfferFilters = map[string]*mesos.OfferFilters{"eng": {MinAllocatableResources: &mesos.OfferFilters_MinAllocatableResources{}}}
		return info
	}
	h.subscribe("s", shared("f"))
	id := h.register(1, registerMessage("", "a1", "cpus:4;disk:100"))
	volume := strings.TrimSuffix(diskJSON("v", "10", "eng"), "}") + `,"shared":{}}`
	h.wantAnswer(resourcesCall("RESERVE_RESOURCES", id, reservedJSON("disk", "10", "eng")), 202, "")
	h.wantAnswer(resourcesCall("CREATE_VOLUMES", id, volume), 202, "")
	h.subscribe("s2", shared("g"))
	h.advance(h.core.cfg.AllocationInterval * 3)
	holding := 0
	for _, o := range append(h.outstanding("s"), h.outstanding("s2")...) {
		if strings.Contains(o, "[v:data]") {
			holding++
		}
	}
	if holding < 2 {
		t.Fatalf("%d offers hold the volume, want 2 at least: %v and %v", holding, h.outstanding("s"), h.outstanding("s2"))
	}
	h.wantAnswer(resourcesCall("DESTROY_VOLUMES", id, volume), 202, "")
	for _, o := range append(h.outstanding("s"), h.outstanding("s2")...) {
		if strings.Contains(o, "[v:data]") {
			t.Errorf("offer %s holds a volume that is destroyed", o)
		}
	}
	h.checkBooks(a)
}

// TestGoldenOperatorResources replays what a real Mesos was told, and compares the
// agent as GET_AGENTS shows it.
func TestGoldenOperatorResources(t *testing.T) {
	h, a := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4;mem:2048;disk:10000;ports:[31000-32000]"))
	for _, name := range []string{
		"19_RESERVE_RESOURCES", "21_GET_AGENTS", "22_UNRESERVE_RESOURCES", "25_DESTROY_VOLUMES",
	} {
		c := mutation(t, name)
		if name == "21_GET_AGENTS" {
			want := c.agentTotal(t)
			ag, _ := h.core.View().Agents.Get(id)
			if !ag.Total.Equal(want) {
				t.Errorf("%s: the agent has %s, Mesos's had %s", name, ag.Total, want)
			}
			continue
		}
		h.wantAnswer(strings.ReplaceAll(string(c.Request.JSON), "87b62806-7648-48b9-adfb-e17ef857b670-S0", id),
			c.Response.Status, c.Response.Body)
	}
	h.checkBooks(a)
}

// recorded is a case of shared/golden.
type recorded struct {
	Request  struct{ JSON json.RawMessage }
	Response struct {
		Status int
		JSON   json.RawMessage
		Body   string
	}
}

func mutation(t *testing.T, name string) *recorded {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(goldenDir, "mutations", name+".json"))
	if err != nil {
		t.Skipf("the recorded answers of Mesos are not here: %v", err)
	}
	c := new(recorded)
	if err := json.Unmarshal(raw, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *recorded) agentTotal(t *testing.T) resources.Resources {
	t.Helper()
	m := new(master.Response)
	if err := mesosjson.Unmarshal(c.Response.JSON, m); err != nil {
		t.Fatal(err)
	}
	rs := m.GetGetAgents().GetAgents()[0].GetTotalResources()
	for _, r := range rs { // the stack says it all; the old members repeat it
		r.Role, r.Reservation = nil, nil
	}
	return mustResources(proto.CloneOf(m).GetGetAgents().GetAgents()[0].GetTotalResources())
}
