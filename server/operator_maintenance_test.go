package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// TestGoldenMaintenance replays what operators did to machines and resources of a
// real Mesos, and compares the answers and what the reads show.
func TestGoldenMaintenance(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	f.next(scheduler.Event_OFFERS)
	ids := strings.NewReplacer(recordedMaster+"-0000", f.id.GetValue(), recordedMaster+"-S0", a.id.GetValue())
	for _, name := range []string{
		"10_UPDATE_MAINTENANCE_SCHEDULE", "11_GET_MAINTENANCE_SCHEDULE", "12_maintenance_schedule",
		"13_GET_MAINTENANCE_STATUS", "15_START_MAINTENANCE", "16_maintenance_status",
		"19_RESERVE_RESOURCES", "22_UNRESERVE_RESOURCES", "25_DESTROY_VOLUMES",
		"up", "26_maintenance_schedule_agent", "accept", "28_GET_MAINTENANCE_STATUS", "29_maintenance_status",
		"30_maintenance_schedule_clear",
	} {
		switch name {
		case "up": // what is not recorded: the first machine comes back
			if r := operate(t, s, `{"type":"STOP_MAINTENANCE","stop_maintenance":{"machines":[{"hostname":"M1","ip":"127.0.0.9"}]}}`); r.status != http.StatusOK {
				t.Fatalf("STOP_MAINTENANCE: got %d %s", r.status, r.body)
			}
			continue
		case "accept":
			o := f.next(scheduler.Event_INVERSE_OFFERS).InverseOffers.InverseOffers[0]
			f.accepted(&scheduler.Call{
				Type:                scheduler.Call_ACCEPT_INVERSE_OFFERS.Enum(),
				AcceptInverseOffers: &scheduler.Call_AcceptInverseOffers{InverseOfferIds: []*mesos.OfferID{o.Id}},
			})
			continue
		}
		c := goldenCase(t, "mutations/"+name+".json", ids)
		t.Run(name, func(t *testing.T) {
			got := c.replay(t, s)
			c.compare(t, got)
			if c.Response.JSON == nil {
				return
			}
			want := withoutTimes(decodeNumbers(t, c.Response.JSON))
			if diff := cmp.Diff(want, withoutTimes(decodeNumbers(t, []byte(got.body)))); diff != "" {
				t.Errorf("(-Mesos +clusterd):\n%s", diff)
			}
		})
	}
}

// withoutTimes leaves out when a framework answered.
func withoutTimes(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "timestamp")
		for _, e := range v {
			withoutTimes(e)
		}
	case []any:
		for _, e := range v {
			withoutTimes(e)
		}
	}
	return v
}

// TestMaintenanceEndpoints has the endpoints that are older than the operator API.
func TestMaintenanceEndpoints(t *testing.T) {
	s := startMaster(t)
	post := func(path, body string) reply {
		return do(t, http.MethodPost, endpoint(s, path), http.Header{}, []byte(body))
	}
	const window = `{"windows":[{"machine_ids":[{"hostname":"m1"},{"hostname":"m2"}],"unavailability":{"start":{"nanoseconds":1}}}]}`
	for _, tc := range []struct {
		path, body string
		status     int
		part       string
	}{
		{"/maintenance/schedule", window, 200, ""},
		{"/machine/down", `[{"hostname":"m1"}]`, 200, ""},
		{"/machine/down", `[{"hostname":"m1"}]`, 400, "is not in DRAINING mode"},
		{"/machine/down", `{}`, 400, ""},
		{"/machine/up", `[{"hostname":"m2"}]`, 400, "is not in DOWN mode"},
		{"/maintenance/schedule", `{"windows":[{"machine_ids":[{"hostname":"m1"}]}]}`, 400, "unavailability"},
		{"/maintenance/schedule", `{}`, 400, "is deactivated and cannot be removed from the schedule"},
		{"/maintenance/status", `{}`, 405, "Expecting one of { 'GET' }"},
	} {
		if r := post(tc.path, tc.body); r.status != tc.status || !strings.Contains(r.body, tc.part) {
			t.Errorf("%s %s: got %d %q, want %d and %q", tc.path, tc.body, r.status, r.body, tc.status, tc.part)
		}
	}
	if got, want := get(t, s, "/maintenance/status").body, `{"draining_machines":[{"id":{"hostname":"m2"}}],"down_machines":[{"hostname":"m1"}]}`; got != want {
		t.Errorf("status: got %s, want %s", got, want)
	}
	if r := post("/machine/up", `[{"hostname":"m1"}]`); r.status != 200 {
		t.Errorf("/machine/up: got %d %s", r.status, r.body)
	}
	if got, want := get(t, s, "/maintenance/schedule?jsonp=f").body, `f({"windows":[{"machine_ids":[{"hostname":"m2"}],"unavailability":{"start":{"nanoseconds":1}}}]})`; got != want {
		t.Errorf("schedule: got %s, want %s", got, want)
	}
	if got := operate(t, s, `{"type":"UPDATE_MAINTENANCE_SCHEDULE","update_maintenance_schedule":{"schedule":{}}}`); got.status != 200 {
		t.Errorf("clear: got %d %s", got.status, got.body)
	}
	for call, want := range map[string]string{
		"GET_MAINTENANCE_SCHEDULE": `{"type":"GET_MAINTENANCE_SCHEDULE","get_maintenance_schedule":{"schedule":{}}}`,
		"GET_MAINTENANCE_STATUS":   `{"type":"GET_MAINTENANCE_STATUS","get_maintenance_status":{"status":{}}}`,
	} {
		if got := operate(t, s, `{"type":"`+call+`"}`); got.body != want {
			t.Errorf("%s: got %s, want %s", call, got.body, want)
		}
	}
}
