package core

import (
	"fmt"
	"strings"
	"testing"

	"clusterd/api/mesos/v1/scheduler"
)

// weightsJSON writes an UPDATE_WEIGHTS; weights are such as "eng=2.5".
func weightsJSON(weights ...string) string {
	var parts []string
	for _, w := range weights {
		role, value, _ := strings.Cut(w, "=")
		parts = append(parts, fmt.Sprintf(`{"role":%q,"weight":%s}`, role, value))
	}
	return `{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[` + strings.Join(parts, ",") + `]}}`
}

func weightsOf(v *View) string {
	var parts []string
	for role, w := range v.Weights.All() {
		parts = append(parts, fmt.Sprintf("%s=%v", role, w))
	}
	return strings.Join(parts, " ")
}

// The texts are those of src/master/weights_handler.cpp; golden/errors has the
// second.
func TestUpdateWeightsIsChecked(t *testing.T) {
	cfg := testConfig()
	cfg.Roles = []string{"a", "a/b", "c"}
	h := newHarness(t, cfg, Recovered{})
	const prefix = "Failed to validate update weights request JSON"
	for _, tc := range []struct{ call, want string }{
		{weightsJSON("a=2.5", "a/b=0.1"), ""},
		{weightsJSON("c=3", "a=-1"), prefix + " for role 'a': Invalid weight '-1': Weights must be positive"},
		{weightsJSON("c=0"), prefix + " for role 'c': Invalid weight '0': Weights must be positive"},
		{weightsJSON(`c="NaN"`), prefix + " for role 'c': Invalid weight 'NaN': Weights must be positive"},
		{weightsJSON(`c="Infinity"`), prefix + " for role 'c': Invalid weight '+Inf': Weights must be positive"},
		{weightsJSON("d=1"), prefix + ": Unknown role 'd'"},
		{weightsJSON("a//b=1"), prefix + ": Invalid role 'a//b': Role 'a//b' cannot contain two adjacent slashes"},
		{weightsJSON("=1"), prefix + ": Invalid role '': Role names cannot be the empty string"},
		{weightsJSON(" a =1"), ""}, // trimmed; and a weight of 1 is kept as any other
		{weightsJSON("*=4"), ""},
		{weightsJSON(), ""},
	} {
		want := 200
		if tc.want != "" {
			want = 400
		}
		if a := h.operate(tc.call); a.Status != want || a.Body != tc.want {
			t.Errorf("%s: got %d %q, want %d %q", tc.call, a.Status, a.Body, want, tc.want)
		}
	}
	if got := weightsOf(h.core.View()); got != "*=4 a=1 a/b=0.1" {
		t.Errorf("in the end there is %s", got)
	}
}

// A new weight is answered when the registry has it, and shares everything that is
// offered out anew.
func TestWeightsShareOffersOutAnew(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	h.subscribe("a", ofRoles("a", "a"))
	h.subscribe("b", ofRoles("b", "b"))
	const agents = 12
	for i := range agents {
		h.register(LinkID(i+1), registerMessage("", fmt.Sprint("a", i+1), "cpus:1;mem:32"))
	}
	if a, b := h.offered("a"), h.offered("b"); a != 6 || b != 6 {
		t.Fatalf("of equal weight a has %v and b %v cpus, want 6 each", a, b)
	}
	h.mustOperate(weightsJSON("unused=7"))
	if n := len(rescinds(h.streams["a"])) + len(rescinds(h.streams["b"])); n != 0 {
		t.Errorf("%d offers were rescinded for a role that nobody uses", n)
	}
	h.hold = true
	if a := h.operate(weightsJSON("b=3")); a.Status != 0 {
		t.Fatalf("answered %d %s before the registry had it", a.Status, a.Body)
	}
	if w := weightsOf(h.core.View()); w != "unused=7" {
		t.Errorf("weights %s before the registry had them", w)
	}
	h.hold = false
	h.commit()
	if a := h.answers[h.request]; a.Status != 200 {
		t.Fatalf("got %d %s", a.Status, a.Body)
	}
	if n := len(rescinds(h.streams["a"])) + len(rescinds(h.streams["b"])); n != agents {
		t.Errorf("%d offers were rescinded, want all %d", n, agents)
	}
	if a, b := h.offered("a"), h.offered("b"); a != 3 || b != 9 {
		t.Errorf("a has %v and b %v cpus, want 3 and 9", a, b)
	}
	h2 := newHarness(t, testConfig(), Recovered{Weights: map[string]float64{"b": 3}})
	h2.subscribe("a", ofRoles("a", "a"))
	h2.subscribe("b", ofRoles("b", "b"))
	for i := range agents {
		h2.register(LinkID(i+1), registerMessage("", fmt.Sprint("a", i+1), "cpus:1;mem:32"))
	}
	if a, b := h2.offered("a"), h2.offered("b"); a != 3 || b != 9 {
		t.Errorf("after a failover a has %v and b %v cpus, want 3 and 9", a, b)
	}
}

func rescinds(events []*scheduler.Event) []string {
	var ids []string
	for _, e := range events {
		if e.GetType() == scheduler.Event_RESCIND {
			ids = append(ids, e.Rescind.GetOfferId().GetValue())
		}
	}
	return ids
}

// A role is in use as long as something of it runs.
func TestWeightOfARoleThatOnlyHasTasks(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	id := h.subscribe("s", ofRoles("f", "eng", "ops"))
	h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t")
	role := h.core.framework(id).cells["t"].rec.Role()
	other := map[string]string{"eng": "ops", "ops": "eng"}[role]
	info := ofRoles("f", other)
	info.Id = h.core.framework(id).info.Id
	if a := h.call("s", &scheduler.Call{
		Type: scheduler.Call_UPDATE_FRAMEWORK.Enum(), FrameworkId: info.Id,
		UpdateFramework: &scheduler.Call_UpdateFramework{FrameworkInfo: info},
	}); a.Status != 200 {
		t.Fatalf("UPDATE_FRAMEWORK: %d %s", a.Status, a.Body)
	}
	h.advance(6e9)
	before := len(rescinds(h.streams["s"]))
	if h.offered(other) == 0 {
		t.Fatalf("nothing is offered to %s", other)
	}
	h.mustOperate(weightsJSON(role + "=2"))
	if len(rescinds(h.streams["s"])) == before {
		t.Error("no offer was rescinded")
	}
}
