package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

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
