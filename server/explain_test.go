package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
)

type explanation struct {
	Active, Connected bool
	Offers            int
	Suppressed        []string `json:"suppressed_roles"`
	Roles             []struct {
		Role   string
		Weight float64
		Quota  *struct {
			Role   string
			Limit  map[string]float64
			Consum map[string]float64 `json:"consumed"`
		}
		LimitedBy []string `json:"limited_by"`
	}
	Agents struct {
		Total, Eligible int
		Reasons         []struct {
			Reason   string
			Agents   int
			Examples []string
			Until    float64
		}
	}
	Declined *struct {
		Offers  int
		Since   float64
		Largest map[string]float64
		Agent   string `json:"largest_agent_id"`
		Whole   bool   `json:"whole_agent"`
		Larger  int    `json:"larger_agents"`
	}
	Requested []struct {
		Resources map[string]float64
		Text      string `json:"resources_text"`
	}
	Hint string
}

func (e *explanation) reason() string {
	if len(e.Agents.Reasons) != 1 {
		return fmt.Sprint(e.Agents.Reasons)
	}
	return e.Agents.Reasons[0].Reason
}

func getExplanation(t *testing.T, s *Server, query string) *explanation {
	t.Helper()
	r := do(t, http.MethodGet, endpoint(s, "/api/clusterd/v1/explain?"+query), nil, nil)
	out := new(explanation)
	if err := json.Unmarshal([]byte(r.body), out); err != nil {
		t.Fatalf("%v in %d %s", err, r.status, r.body)
	}
	return out
}

func TestExplain(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	query := "framework_id=" + f.id.GetValue()
	want := func(when, reason, hint string) *explanation {
		t.Helper()
		var e *explanation
		eventually(t, when, func() bool { e = getExplanation(t, s, query); return e.reason() == reason })
		if !strings.Contains(e.Hint, hint) {
			t.Errorf("%s: the hint is %q, want %q", when, e.Hint, hint)
		}
		return e
	}
	e := want("the offer is there", "OFFERED", "It holds 1 offer")
	if e.Agents.Total != 1 || e.Agents.Eligible != 1 || e.Offers != 1 || !e.Active || !e.Connected || len(e.Roles) != 1 || e.Roles[0].Role != "golden" || e.Roles[0].Quota != nil {
		t.Errorf("got %+v", e)
	}
	offer := f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	f.accepted(&scheduler.Call{Type: scheduler.Call_DECLINE.Enum(), Decline: &scheduler.Call_Decline{
		OfferIds: []*mesos.OfferID{offer.Id}, Filters: &mesos.Filters{RefuseSeconds: new(3600.0)},
	}})
	e = want("it declined", "FILTERED", "It has declined what is free on 1 agent; the first of its filters ends in 1h0m0s")
	if e.Agents.Reasons[0].Until == 0 || e.Agents.Reasons[0].Examples[0] != a.id.GetValue() {
		t.Errorf("got %+v", e)
	}
	f.accepted(&scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum()})
	if e = want("it suppressed", "SUPPRESSED", "It has suppressed offers in all"); len(e.Suppressed) != 1 {
		t.Errorf("got %+v", e)
	}
	r := do(t, http.MethodPost, endpoint(s, "/api/v1"), http.Header{"Content-Type": {"application/json"}}, []byte(
		`{"type":"UPDATE_QUOTA","update_quota":{"force":true,"quota_configs":[{"role":"golden","limits":{"cpus":{"value":0},"mem":{"value":0}}}]}}`,
	))
	if r.status != http.StatusOK {
		t.Fatalf("UPDATE_QUOTA: %d %s", r.status, r.body)
	}
	f.accepted(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum()})
	eventually(t, "the quota is named", func() bool {
		e = getExplanation(t, s, query)
		return len(e.Roles) == 1 && e.Roles[0].Quota != nil && len(e.Roles[0].LimitedBy) == 1
	})
	if one := getExplanation(t, s, query+"&agent_id="+a.id.GetValue()); one.Agents.Total != 1 {
		t.Errorf("one agent: got %+v", one)
	}
	if none := getExplanation(t, s, query+"&agent_id=x"); none.Agents.Total != 0 {
		t.Errorf("no agent: got %+v", none)
	}
	for path, status := range map[string]int{
		"/api/clusterd/v1/explain": http.StatusBadRequest, "/api/clusterd/v1/explain?framework_id=x": http.StatusNotFound,
	} {
		if got := get(t, s, path); got.status != status {
			t.Errorf("%s: got %d %s, want %d", path, got.status, got.body, status)
		}
	}
}

// TestExplainSizes: who declines whole agents, or asks for more than any agent has, hears of it.
func TestExplainSizes(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	query := "framework_id=" + f.id.GetValue()
	if e := getExplanation(t, s, query); e.Declined != nil || e.Requested == nil || len(e.Requested) > 0 {
		t.Errorf("before anything was declined: %+v", e)
	}
	offer := f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	f.accepted(&scheduler.Call{Type: scheduler.Call_DECLINE.Enum(), Decline: &scheduler.Call_Decline{
		OfferIds: []*mesos.OfferID{offer.Id}, Filters: &mesos.Filters{RefuseSeconds: new(3600.0)},
	}})
	f.accepted(&scheduler.Call{Type: scheduler.Call_REQUEST.Enum(), Request: &scheduler.Call_Request{Requests: []*mesos.Request{
		{Resources: resources.MustParse("cpus:16;mem:512").Proto()},
	}}})
	var e *explanation
	eventually(t, "both are explained", func() bool {
		e = getExplanation(t, s, query)
		return e.Declined != nil && len(e.Requested) == 1
	})
	d := e.Declined
	if d.Offers != 1 || !d.Whole || d.Larger != 0 || d.Since == 0 || d.Agent != a.id.GetValue() || d.Largest["cpus"] != 4 || d.Largest["mem"] != 2048 || e.Requested[0].Resources["cpus"] != 16 || e.Requested[0].Text != "cpus:16; mem:512" {
		t.Errorf("got %+v, requested %v", d, e.Requested)
	}
	for _, part := range []string{
		"It has asked for cpus:16; mem:512 (REQUEST), which no agent has",
		"It has launched nothing and declined 1 offer in ", "the largest was cpus:4; disk:10000; mem:2048 of localhost, all that this agent has, and no agent has more.",
		"a task of it is larger than any agent",
	} {
		if !strings.Contains(e.Hint, part) {
			t.Errorf("the hint %q does not say %q", e.Hint, part)
		}
	}
	// A larger agent joins: no longer is it said that there is none.
	info := agentInfo()
	info.Hostname, info.Port = new("large"), new(int32(10001))
	info.Resources = resources.MustParse("cpus:32;mem:65536").Proto()
	startAgent(t, s, info)
	eventually(t, "the larger agent is explained", func() bool {
		e = getExplanation(t, s, query)
		return e.Agents.Total == 2 && e.Declined != nil && e.Declined.Larger == 1
	})
	if strings.Contains(e.Hint, "no agent") || !strings.Contains(e.Hint, "1 agent would have more") {
		t.Errorf("with a larger agent the hint is %q", e.Hint)
	}
}

// TestExplainGoesStepByStep: with more agents than are looked at in one step none is left
// out, and none comes twice.
func TestExplainGoesStepByStep(t *testing.T) {
	s := startMaster(t)
	f := subscribe(t, s, goldenInfo())
	const agents = explainStep + 7
	for i := range agents {
		info := agentInfo()
		info.Hostname, info.Port = new(fmt.Sprintf("h%d", i)), new(int32(10000+i))
		startAgent(t, s, info)
	}
	e := getExplanation(t, s, "framework_id="+f.id.GetValue())
	n := 0
	for _, r := range e.Agents.Reasons {
		n += r.Agents
	}
	if e.Agents.Total != agents || n != agents {
		t.Errorf("%d agents were looked at, and reasons are given for %d, want %d", e.Agents.Total, n, agents)
	}
}

func TestExplainHides(t *testing.T) {
	g := newGuardedMaster(t)
	sum, _ := getSummary(t, g.s, basicHeader("carol"))
	acls, err := authz.Parse([]byte(`{"permissive":false,"view_frameworks":[{"principals":{"values":["carol"]},"users":{"values":["oscar"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	g.s.SetPolicy(acls)
	seen := 0
	for _, f := range sum.Frameworks {
		switch got := g.do("carol", http.MethodGet, "/api/clusterd/v1/explain?framework_id="+f.ID, "", ""); got.status {
		case http.StatusOK:
			seen++
		case http.StatusNotFound:
		default:
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	if seen != 1 {
		t.Errorf("%d frameworks are explained to carol, want 1", seen)
	}
}
