package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
	allocatorpb "clusterd/api/mesos/v1/allocator"
	"clusterd/api/mesos/v1/scheduler"
)

// windowJSON is a window of machines that each are "hostname ip".
func windowJSON(start int, machines ...string) string {
	var ids []string
	for _, m := range machines {
		ids = append(ids, machineJSON(m))
	}
	return fmt.Sprintf(`{"machine_ids":[%s],"unavailability":{"start":{"nanoseconds":%d},"duration":{"nanoseconds":60}}}`, strings.Join(ids, ","), start)
}

func machineJSON(text string) string {
	host, ip, _ := strings.Cut(text, " ")
	if ip == "" {
		return fmt.Sprintf(`{"hostname":%q}`, host)
	}
	return fmt.Sprintf(`{"hostname":%q,"ip":%q}`, host, ip)
}

func scheduleCall(windows ...string) string {
	return `{"type":"UPDATE_MAINTENANCE_SCHEDULE","update_maintenance_schedule":{"schedule":{"windows":[` + strings.Join(windows, ",") + `]}}}`
}

func machinesCall(kind string, machines ...string) string {
	var ids []string
	for _, m := range machines {
		ids = append(ids, machineJSON(m))
	}
	return `{"type":"` + kind + `","` + strings.ToLower(kind) + `":{"machines":[` + strings.Join(ids, ",") + `]}}`
}

// inverseOffers lists the inverse offers of a stream that were not rescinded.
func (h *harness) inverseOffers(stream string) []*mesos.InverseOffer {
	var out []*mesos.InverseOffer
	for _, e := range h.streams[stream] {
		out = append(out, e.GetInverseOffers().GetInverseOffers()...)
		if r := e.GetRescindInverseOffer(); r != nil {
			for i, o := range out {
				if o.Id.GetValue() == r.InverseOfferId.GetValue() {
					out = append(out[:i:i], out[i+1:]...)
					break
				}
			}
		}
	}
	return out
}

// lastOffer is the newest offer on stream s.
func (h *harness) lastOffer() *mesos.Offer {
	h.t.Helper()
	offers := h.offers()
	if len(offers) == 0 {
		h.t.Fatalf("there is no offer")
	}
	return offers[len(offers)-1]
}

// machines prints the machines of the view, with what frameworks answered for each.
func (h *harness) machines() string {
	v := h.core.View()
	var out []string
	for _, m := range v.Machines.All() {
		text := machineName(m.Id) + " " + m.GetMode().String()
		for a := range v.Agents.Values() {
			if MachineKey(a.Info.GetHostname(), a.IP) == keyOf(m.Id) {
				for _, s := range a.InverseOfferStatuses {
					text += fmt.Sprintf(" %s:%s", s.GetFrameworkId().GetValue(), s.GetStatus())
				}
			}
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestMaintenanceSchedule(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.register(2, registerMessage("", "a2", "cpus:4"))
	if u := h.lastOffer().Unavailability; u != nil {
		t.Fatalf("an offer says %v before there is a schedule", u)
	}

	// Its hostname in other letters is the same machine; the other agent is left alone.
	h.wantAnswer(scheduleCall(windowJSON(100, "A1 10.0.0.1")), 200, "")
	if n := h.rescinds("s"); n != 1 {
		t.Errorf("%d rescinds, want 1", n)
	}
	o := h.lastOffer()
	if o.GetAgentId().GetValue() != "M-S0" || o.Unavailability.GetStart().GetNanoseconds() != 100 {
		t.Errorf("the new offer is %v", o)
	}
	if got, want := h.machines(), "A1 (10.0.0.1) DRAINING"; got != want {
		t.Errorf("machines: %s, want %s", got, want)
	}
	inverse := h.inverseOffers("s")
	want := []*mesos.InverseOffer{{
		Id: &mesos.OfferID{Value: new("M-O3")},
		Url: &mesos.URL{
			Scheme: new("http"), Path: new("/slave(1)"),
			Address: &mesos.Address{Hostname: new("a1"), Ip: new("10.0.0.1"), Port: new(int32(5051))},
		},
		FrameworkId:    &mesos.FrameworkID{Value: new("M-0000")},
		AgentId:        &mesos.AgentID{Value: new("M-S0")},
		Unavailability: o.Unavailability,
	}}
	if diff := cmp.Diff(want, inverse, protocmp.Transform()); diff != "" {
		t.Fatalf("inverse offers (-want +got):\n%s", diff)
	}

	// The same schedule again disturbs nobody.
	h.wantAnswer(scheduleCall(windowJSON(100, "a1 10.0.0.1")), 200, "")
	if n := h.rescinds("s"); n != 1 || len(h.inverseOffers("s")) != 1 {
		t.Errorf("%d rescinds and %d inverse offers, want 1 and 1", n, len(h.inverseOffers("s")))
	}
	// Another time does.
	h.wantAnswer(scheduleCall(windowJSON(200, "a1 10.0.0.1")), 200, "")
	inverse = h.inverseOffers("s")
	if h.rescinds("s") != 2 || len(inverse) != 1 || inverse[0].Unavailability.GetStart().GetNanoseconds() != 200 {
		t.Errorf("%d rescinds, inverse offers %v", h.rescinds("s"), inverse)
	}
	h.wantAnswer(scheduleCall(), 200, "")
	if u := h.lastOffer().Unavailability; u != nil || len(h.inverseOffers("s")) != 0 || h.machines() != "" {
		t.Errorf("after the end: unavailability %v, inverse offers %v, machines %s", u, h.inverseOffers("s"), h.machines())
	}
	h.checkBooks(a)
}

func TestInverseOfferAnswers(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.wantAnswer(scheduleCall(windowJSON(100, "a1 10.0.0.1")), 200, "")
	answer := func(accept bool, seconds float64, ids ...*mesos.OfferID) {
		t.Helper()
		call := &scheduler.Call{FrameworkId: &mesos.FrameworkID{Value: new("M-0000")}}
		filters := &mesos.Filters{RefuseSeconds: &seconds}
		if accept {
			call.Type = scheduler.Call_ACCEPT_INVERSE_OFFERS.Enum()
			call.AcceptInverseOffers = &scheduler.Call_AcceptInverseOffers{InverseOfferIds: ids, Filters: filters}
		} else {
			call.Type = scheduler.Call_DECLINE_INVERSE_OFFERS.Enum()
			call.DeclineInverseOffers = &scheduler.Call_DeclineInverseOffers{InverseOfferIds: ids, Filters: filters}
		}
		if got := h.call("s", call); got.Status != 202 {
			t.Fatalf("answer: got %+v", got)
		}
	}
	first := h.inverseOffers("s")
	if len(first) != 1 {
		t.Fatalf("the inverse offers are %v, want one", first)
	}
	answer(false, 30, first[0].Id)
	if got, want := h.machines(), "a1 (10.0.0.1) DRAINING M-0000:DECLINE"; got != want {
		t.Errorf("machines: %s, want %s", got, want)
	}
	h.advance(29 * time.Second)
	if n := len(h.inverseOffers("s")); n != 1 {
		t.Fatalf("%d inverse offers while the refusal lasts, want no second one", n-1)
	}
	h.advance(3 * time.Second)
	second := h.inverseOffers("s")
	if len(second) != 2 {
		t.Fatalf("the inverse offers are %v, want another one after the refusal", second)
	}
	at := h.now
	// What is not known is passed over, also another's.
	answer(true, 60, &mesos.OfferID{Value: new("nosuch")}, second[1].Id)
	ag, _ := h.core.View().Agents.Get("M-S0")
	want := []*allocatorpb.InverseOfferStatus{{
		Status: allocatorpb.InverseOfferStatus_ACCEPT.Enum(), FrameworkId: &mesos.FrameworkID{Value: new("M-0000")}, Timestamp: timeInfo(at),
	}}
	if diff := cmp.Diff(want, ag.InverseOfferStatuses, protocmp.Transform()); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	// A new time makes old answers void.
	h.wantAnswer(scheduleCall(windowJSON(300, "a1 10.0.0.1")), 200, "")
	if got, want := h.machines(), "a1 (10.0.0.1) DRAINING"; got != want {
		t.Errorf("machines: %s, want %s", got, want)
	}
	answer(true, 60, h.inverseOffers("s")[2].Id)
	// It leaves the agent as it said, and ends.
	id := &mesos.FrameworkID{Value: new("M-0000")}
	h.call("s", &scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum(), FrameworkId: id})
	h.taskEnds("M-S0", true)
	for _, o := range h.core.framework("M-0000").offers.Values() {
		h.call("s", &scheduler.Call{
			Type: scheduler.Call_DECLINE.Enum(), FrameworkId: id,
			Decline: &scheduler.Call_Decline{OfferIds: []*mesos.OfferID{{Value: new(o.ID)}}},
		})
	}
	if got, want := h.machines(), "a1 (10.0.0.1) DRAINING M-0000:ACCEPT"; got != want {
		t.Errorf("machines after the framework has left: %s, want %s", got, want)
	}
	h.call("s", &scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum(), FrameworkId: &mesos.FrameworkID{Value: new("M-0000")}})
	if got, want := h.machines(), "a1 (10.0.0.1) DRAINING"; got != want {
		t.Errorf("machines after the framework's end: %s, want %s", got, want)
	}
	h.checkBooks(a)
}

// TestInverseOfferTimeout takes inverse offers back like others, and asks again.
func TestInverseOfferTimeout(t *testing.T) {
	cfg := testConfig()
	cfg.OfferTimeout = 10 * time.Second
	h := newHarness(t, cfg, Recovered{})
	h.subscribe("s", refining("f", "eng"))
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.wantAnswer(scheduleCall(windowJSON(100, "a1 10.0.0.1")), 200, "")
	first := h.inverseOffers("s")
	h.advance(11 * time.Second)
	second := h.inverseOffers("s")
	if len(first) != 1 || len(second) != 1 || first[0].Id.GetValue() == second[0].Id.GetValue() {
		t.Errorf("inverse offers before the timeout %v, after it %v", first, second)
	}
}

// TestInverseOffersAfterFailover asks the scheduler's new connection again.
func TestInverseOffersAfterFailover(t *testing.T) {
	h, a := audited(t)
	info := refining("f", "eng")
	info.Id = &mesos.FrameworkID{Value: new(h.subscribe("s", info))}
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.wantAnswer(scheduleCall(windowJSON(100, "a1 10.0.0.1")), 200, "")
	h.subscribe("s2", info)
	if got := h.inverseOffers("s2"); len(got) != 1 {
		t.Errorf("the new connection has the inverse offers %v, want one", got)
	}
	h.checkBooks(a)
}

func TestMachineDownAndUp(t *testing.T) {
	h, a := audited(t)
	h.subscribe("s", refining("f", "eng"))
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.wantAnswer(scheduleCall(windowJSON(100, "a1 10.0.0.1"), windowJSON(100, "b", "a2 10.0.0.2")), 200, "")
	h.wantAnswer(machinesCall("START_MAINTENANCE", "A1 10.0.0.1"), 200, "")

	var told string
	for _, m := range h.links[1] {
		if r := m.GetRefused(); r.GetShutdown() {
			told = r.GetMessage()
		}
	}
	if want := "Operator initiated 'Machine DOWN'"; told != want || !h.cut[1] {
		t.Errorf("the agent was told %q, and its link cut: %t; want %q", told, h.cut[1], want)
	}
	lost := h.updates()
	if want := []string{"t1 TASK_LOST REASON_AGENT_REMOVED Agent a1 removed: Operator initiated 'Machine DOWN'"}; !cmp.Equal(lost, want) {
		t.Errorf("updates %v, want %v", lost, want)
	}
	if got, want := h.machines(), "a1 (10.0.0.1) DOWN, a2 (10.0.0.2) DRAINING, b DRAINING"; !strings.EqualFold(got, want) {
		t.Errorf("machines: %s, want %s", got, want)
	}
	// The machine is refused, under a new id too, also by the next master.
	for i, h := range []*harness{h, h.failover(testConfig())} {
		for j, old := range []string{id, ""} {
			l := LinkID(10 + j)
			if got := h.register(l, registerMessage(old, "a1", "cpus:4")); got != "" {
				t.Errorf("master %d: an agent of a machine that is down is %s", i, got)
			}
			if r := h.links[l][0].GetRefused(); r.GetMessage() != "Machine is `DOWN`" || !r.GetShutdown() {
				t.Errorf("master %d: the agent was told %v", i, r)
			}
		}
		if got := h.register(20, registerMessage("", "a2", "cpus:1")); got == "" {
			t.Errorf("master %d: an agent of a machine that drains is refused", i)
		}
	}

	h.wantAnswer(machinesCall("STOP_MAINTENANCE", "a1 10.0.0.1"), 200, "")
	if got, want := h.machines(), "a2 (10.0.0.2) DRAINING, b DRAINING"; got != want {
		t.Errorf("machines: %s, want %s", got, want)
	}
	if got := h.core.View().Schedule.GetWindows(); len(got) != 1 || len(got[0].MachineIds) != 2 {
		t.Errorf("the windows are %v, want the second one", got)
	}
	if got := h.register(30, registerMessage("", "a1", "cpus:4")); got == "" {
		t.Error("the agent is refused though its machine is up")
	}
	h.checkBooks(a)
}

// updates lists the statuses on stream s that the master made.
func (h *harness) updates() []string {
	var out []string
	for _, e := range h.streams["s"] {
		if s := e.GetUpdate().GetStatus(); s != nil && s.GetSource() == mesos.TaskStatus_SOURCE_MASTER {
			out = append(out, fmt.Sprintf("%s %s %s %s", s.TaskId.GetValue(), s.GetState(), s.GetReason(), s.GetMessage()))
		}
	}
	return out
}

// TestMachineDownWhileAgentRegisters removes an agent that the registry lets in while
// its machine goes down.
func TestMachineDownWhileAgentRegisters(t *testing.T) {
	h, a := audited(t)
	h.wantAnswer(scheduleCall(windowJSON(100, "a1 10.0.0.1")), 200, "")
	h.hold = true
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.operate(machinesCall("START_MAINTENANCE", "a1 10.0.0.1"))
	h.hold = false
	// The machine is down before the agent is in.
	h.waiting[0], h.waiting[1] = h.waiting[1], h.waiting[0]
	h.commit()
	if n := h.core.View().Agents.Len(); n != 0 || !h.cut[1] {
		t.Errorf("%d agents are registered, the link is cut: %t", n, h.cut[1])
	}
	h.checkBooks(a)
}

// TestMaintenanceSurvives has the next master go on with the schedule.
func TestMaintenanceSurvives(t *testing.T) {
	h, _ := audited(t)
	id := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.wantAnswer(scheduleCall(windowJSON(100, "a1 10.0.0.1")), 200, "")
	next := h.failover(testConfig())
	next.register(1, registerMessage(id, "a1", "cpus:4"))
	next.subscribe("s", refining("f", "eng"))
	if u := next.lastOffer().Unavailability; u.GetStart().GetNanoseconds() != 100 {
		t.Errorf("the offer says %v", u)
	}
	if got, want := next.machines(), "a1 (10.0.0.1) DRAINING"; got != want {
		t.Errorf("machines: %s, want %s", got, want)
	}
	if n := len(next.core.View().Schedule.GetWindows()); n != 1 {
		t.Errorf("%d windows, want 1", n)
	}
}

// TestMaintenanceRefused has the texts of src/master/maintenance.cpp and
// src/master/http.cpp.
func TestMaintenanceRefused(t *testing.T) {
	h, _ := audited(t)
	h.wantAnswer(scheduleCall(windowJSON(1, "m1 10.0.0.1", "m2")), 200, "")
	h.wantAnswer(machinesCall("START_MAINTENANCE", "m2"), 200, "")
	for name, tt := range map[string]struct{ call, body string }{
		"empty window":   {scheduleCall(windowJSON(1)), "List of machines in the maintenance window is empty"},
		"twice":          {scheduleCall(windowJSON(1, "m1", "m2"), windowJSON(2, "M1")), `Machine '{"hostname":"M1"}' appears more than once in the schedule`},
		"no name":        {scheduleCall(windowJSON(1, "")), "Both 'hostname' and 'ip' for a machine are empty"},
		"no address":     {scheduleCall(windowJSON(1, "m1 x")), "Failed to parse IPv4: x"},
		"negative":       {strings.Replace(scheduleCall(windowJSON(1, "m2")), "60", "-60", 1), "Unavailability 'duration' is negative"},
		"down":           {scheduleCall(), `Machine '{"hostname":"m2"}' is deactivated and cannot be removed from the schedule`},
		"none":           {machinesCall("START_MAINTENANCE"), "List of machines is empty"},
		"not scheduled":  {machinesCall("START_MAINTENANCE", "nosuch"), `Machine '{"hostname":"nosuch"}' is not part of a maintenance schedule`},
		"ip is missing":  {machinesCall("START_MAINTENANCE", "m1"), `Machine '{"hostname":"m1"}' is not part of a maintenance schedule`},
		"down already":   {machinesCall("START_MAINTENANCE", "m2"), `Machine '{"hostname":"m2"}' is not in DRAINING mode and cannot be brought down`},
		"not down":       {machinesCall("STOP_MAINTENANCE", "m1 10.0.0.1"), `Machine '{"hostname":"m1","ip":"10.0.0.1"}' is not in DOWN mode and cannot be brought up`},
		"down and twice": {machinesCall("STOP_MAINTENANCE", "m2", "m2"), `Machine '{"hostname":"m2"}' appears more than once in the schedule`},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			h.wantAnswer(tt.call, 400, tt.body)
		})
	}
	h.t = t
	// Two changes at once: the second is judged by what the first one leaves.
	h.hold = true
	h.operate(machinesCall("STOP_MAINTENANCE", "m2"))
	first := h.request
	h.operate(machinesCall("STOP_MAINTENANCE", "m2"))
	if len(h.waiting) != 1 {
		t.Fatalf("%d proposals are under way, want 1", len(h.waiting))
	}
	h.hold = false
	h.commit()
	if a, b := h.answers[first], h.answers[first+1]; a.Status != 200 || b.Status != 400 {
		t.Errorf("the answers are %+v and %+v", a, b)
	}
}
