package core

import (
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

func (h *harness) requestResources(stream, framework string, requests ...*mesos.Request) {
	h.t.Helper()
	if a := h.call(stream, &scheduler.Call{
		Type: scheduler.Call_REQUEST.Enum(), FrameworkId: &mesos.FrameworkID{Value: &framework},
		Request: &scheduler.Call_Request{Requests: requests},
	}); a.Status != 202 {
		h.t.Fatalf("REQUEST: %d %s", a.Status, a.Body)
	}
}

// offeredTo sums the cpus in the outstanding offers of a framework.
func (h *harness) offeredTo(id string) float64 {
	f, _ := h.core.View().Frameworks.Get(id)
	return f.Offered().CPUs()
}

// A framework that has said what it needs leaves agents that are too small for it to
// others, and only to them.
func TestRequest(t *testing.T) {
	need := func(cpus float64) *mesos.Request {
		return &mesos.Request{Resources: []*mesos.Resource{scalar("cpus", cpus)}}
	}
	bad := &mesos.Request{Resources: []*mesos.Resource{scalar("cpus", -1)}}
	old := &mesos.Resource{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(8.0)}, Role: new("eng")}
	many := make([]*mesos.Request, maxRequests+1)
	for i := range many {
		many[i] = need(8)
	}
	for _, tc := range []struct {
		name     string
		requests []*mesos.Request
		picky    bool
	}{
		{"one", []*mesos.Request{need(8)}, true},
		{"one that fits", []*mesos.Request{need(8), need(1)}, false},
		{"none", nil, false},
		{"a wrong one", []*mesos.Request{bad}, false},
		{"a wrong one and a good one", []*mesos.Request{bad, need(8)}, true},
		{"old format", []*mesos.Request{{Resources: []*mesos.Resource{old}}}, true},
		{"too many", many, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, testConfig(), Recovered{})
			picky := h.subscribe("p", ofRoles("picky", "a"))
			h.requestResources("p", picky, tc.requests...)
			other := h.subscribe("o", ofRoles("other", "b"))
			// With equal shares role a is the first.
			h.register(1, registerMessage("", "a1", "cpus:2"))
			wantPicky, wantOther := 2.0, 0.0
			if tc.picky {
				wantPicky, wantOther = 0, 2
			}
			if p, o := h.offeredTo(picky), h.offeredTo(other); p != wantPicky || o != wantOther {
				t.Errorf("of the small agent it is offered %v cpus and the other %v, want %v and %v", p, o, wantPicky, wantOther)
			}
			if !tc.picky {
				return
			}
			h.register(2, registerMessage("", "a2", "cpus:8"))
			if got := h.offeredTo(picky); got != 8 {
				t.Errorf("of the large agent it is offered %v cpus, want all 8", got)
			}
			h.requestResources("p", picky) // it has no particular need any more
			h.call("o", &scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum(), FrameworkId: &mesos.FrameworkID{Value: &other}})
			h.register(3, registerMessage("", "a3", "cpus:4"))
			h.call("o", &scheduler.Call{Type: scheduler.Call_REVIVE.Enum(), FrameworkId: &mesos.FrameworkID{Value: &other}})
			h.register(4, registerMessage("", "a4", "cpus:4"))
			if p, o := h.offeredTo(picky), h.offeredTo(other); p != 12 || o != 6 {
				t.Errorf("by shares, it is offered %v cpus and the other %v, want 12 and 6", p, o)
			}
		})
	}
}

// What nobody else wants, it gets all the same.
func TestRequestIsAPreference(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	picky := h.subscribe("p", ofRoles("picky", "a"))
	h.requestResources("p", picky, &mesos.Request{Resources: []*mesos.Resource{scalar("cpus", 8)}})
	h.register(1, registerMessage("", "a1", "cpus:2"))
	if got := h.offeredTo(picky); got != 2 {
		t.Errorf("alone, it is offered %v cpus, want the 2 that there are", got)
	}
}
