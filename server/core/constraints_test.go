package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"clusterd/allocator"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

// wantRacks makes constraints for role eng: the attribute rack matches.
func wantRacks(t *testing.T, regex string) *scheduler.OfferConstraints {
	t.Helper()
	c := new(scheduler.OfferConstraints)
	if err := mesosjson.Unmarshal([]byte(`{"role_constraints":{"eng":{"groups":[{"attribute_constraints":[
		{"selector":{"attribute_name":"rack"},"predicate":{"text_matches":{"regex":"`+regex+`"}}}]}]}}}`), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// hosts lists the hosts in a framework's outstanding offers.
func (h *harness) hosts(id string) string {
	v := h.core.View()
	f, _ := v.Frameworks.Get(id)
	var out []string
	for _, o := range f.Offers {
		a, _ := v.Agents.Get(o.AgentID)
		out = append(out, a.Info.GetHostname())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// Offers come only of agents that the constraints let through: those given at
// SUBSCRIBE, by UPDATE_FRAMEWORK, and, after a failover, those given last.
func TestOfferConstraintsAct(t *testing.T) {
	h := newHarness(t, testConfig(), Recovered{})
	subscribe := func(stream, id string, c *scheduler.OfferConstraints) string {
		info := multiRole("f", 60)
		if id != "" {
			info.Id = &mesos.FrameworkID{Value: &id}
		}
		h.request++
		h.feed(Subscribe{Request: h.request, StreamID: stream, Call: &scheduler.Call{
			Type: scheduler.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id,
			Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: info, OfferConstraints: c},
		}})
		if errs := h.streams[stream][0].GetError(); errs != nil {
			t.Fatalf("SUBSCRIBE: %s", errs.GetMessage())
		}
		return h.streams[stream][0].GetSubscribed().GetFrameworkId().GetValue()
	}
	id := subscribe("s", "", wantRacks(t, "r[12]"))
	for i := range 4 {
		m := registerMessage("", fmt.Sprint("h", i), "cpus:1;mem:32")
		if i > 0 {
			m.AgentInfo.Attributes = []*mesos.Attribute{{
				Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new(fmt.Sprint("r", i))},
			}}
		}
		h.register(LinkID(i+1), m)
	}
	h.advance(5 * time.Second)
	if got := h.hosts(id); got != "h1 h2" {
		t.Errorf("for racks r1 and r2 it is offered %q, want h1 h2", got)
	}
	update := func(c *scheduler.OfferConstraints) Respond {
		info := multiRole("f", 60)
		info.Id = &mesos.FrameworkID{Value: &id}
		return h.call("s", &scheduler.Call{
			Type: scheduler.Call_UPDATE_FRAMEWORK.Enum(), FrameworkId: info.Id,
			UpdateFramework: &scheduler.Call_UpdateFramework{FrameworkInfo: info, OfferConstraints: c},
		})
	}
	if a := update(wantRacks(t, strings.Repeat("[ab]", 101))); a.Status != 400 || !strings.Contains(a.Body, "program size") {
		t.Errorf("a regular expression of 101 classes: %d %s", a.Status, a.Body)
	}
	// What is offered already stays, as in Mesos.
	if a := update(wantRacks(t, "r3")); a.Status != 200 {
		t.Fatalf("UPDATE_FRAMEWORK: %d %s", a.Status, a.Body)
	}
	if got := h.hosts(id); got != "h1 h2 h3" {
		t.Errorf("after the change to rack r3 it is offered %q, want h1 h2 h3", got)
	}
	if a := update(nil); a.Status != 200 {
		t.Fatalf("UPDATE_FRAMEWORK: %d %s", a.Status, a.Body)
	}
	if got := h.hosts(id); got != "h0 h1 h2 h3" {
		t.Errorf("without constraints it is offered %q, want all", got)
	}
	subscribe("s2", id, wantRacks(t, "r2"))
	h.advance(5 * time.Second)
	if got := h.hosts(id); got != "h2" {
		t.Errorf("after it subscribed again for rack r2 it is offered %q, want h2", got)
	}
	if f, _ := h.core.View().Frameworks.Get(id); len(f.Constraints.GetRoleConstraints()) != 1 {
		t.Errorf("readers see the constraints %v", f.Constraints)
	}
}

// The limits of --offer_constraints_re2_max_mem and _max_program_size.
func TestOfferConstraintRegexpsAreLimited(t *testing.T) {
	for _, tc := range []struct {
		limits allocator.RegexpLimits
		regex  string
		want   string
	}{
		{allocator.RegexpLimits{}, "[a-f]{50}", ""},
		{allocator.RegexpLimits{MaxProgramSize: 20}, "[a-f]{50}", "program size"},
		{allocator.RegexpLimits{MaxProgramSize: 1000}, "[a-f]{500}", "too large"},
		{allocator.RegexpLimits{MaxMemory: 16384, MaxProgramSize: 1000}, "[a-f]{500}", ""},
	} {
		cfg := testConfig()
		cfg.ConstraintRegexps = tc.limits
		_, err := newHarness(t, cfg, Recovered{}).core.readWishes([]string{"eng"}, nil, wantRacks(t, tc.regex))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s within %+v: got %v, want %q", tc.regex, tc.limits, err, tc.want)
		}
	}
}
