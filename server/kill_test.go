package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

func TestKillTask(t *testing.T) {
	var mu sync.Mutex
	var audited []string
	s := startMaster(t, func(o *Options) {
		o.OnAudit = func(_ *http.Request, a httpapi.Audited) {
			mu.Lock()
			defer mu.Unlock()
			audited = append(audited, fmt.Sprint(a.Action, a.Fields, a.Err == nil))
		}
	})
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	launchOne(f, a.id, "t1")
	kill := func(framework, task, more string) reply {
		t.Helper()
		body := fmt.Sprintf(`{"framework_id":{"value":%q},"task_id":{"value":%q}%s}`, framework, task, more)
		return do(t, http.MethodPost, endpoint(s, "/api/clusterd/v1/tasks/kill"), http.Header{"Content-Type": {"application/json"}}, []byte(body))
	}
	for _, row := range []struct {
		framework, task, more string
		status                int
	}{
		{f.id.GetValue(), "t2", "", http.StatusNotFound},
		{"x", "t1", "", http.StatusNotFound},
		{f.id.GetValue(), "t1", `,"kill_policy":{"grace_period":{"nanoseconds":-1}}`, http.StatusBadRequest},
		{f.id.GetValue(), "t1", `,"kill_policy":[]`, http.StatusBadRequest},
		{f.id.GetValue(), "t1", `,"grace":1`, http.StatusBadRequest},
		{f.id.GetValue(), "t1", `,"kill_policy":null`, http.StatusAccepted},
		{f.id.GetValue(), "t1", `,"kill_policy":{"grace_period":{"nanoseconds":5000000000}}`, http.StatusAccepted},
	} {
		if got := kill(row.framework, row.task, row.more); got.status != row.status {
			t.Errorf("kill %s%s: got %d %s, want %d", row.task, row.more, got.status, got.body, row.status)
		}
	}
	for _, grace := range []int64{0, 5e9} {
		var m *clusterdv1.KillTask
		for m == nil {
			m = a.receive().GetKillTask()
		}
		if m.GetTaskId().GetValue() != "t1" || m.GetKillPolicy().GetGracePeriod().GetNanoseconds() != grace {
			t.Errorf("the agent was told %v, want a grace of %d", m, grace)
		}
	}
	if got := get(t, s, "/api/clusterd/v1/tasks/kill"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: got %d", got.status)
	}
	want := fmt.Sprint("KILL_TASK", []string{"framework_id", f.id.GetValue(), "task_id", "t1"}, true)
	eventually(t, "the audit log has it", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(audited) > 0 && audited[len(audited)-1] == want
	})
}

func TestKillTaskIsAsked(t *testing.T) {
	g := newGuardedMaster(t)
	frameworks := map[string]string{}
	sum, _ := getSummary(t, g.s, basicHeader("carol"))
	for i := range sum.Tasks.Rows {
		frameworks[sum.of("task_id", i).(string)] = sum.Frameworks[int(sum.of("framework", i).(float64))].ID
	}
	acls, err := authz.Parse([]byte(`{"permissive":false,"teardown_frameworks":[{"principals":{"values":["carol"]},"framework_principals":{"values":["P-open"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	g.s.SetPolicy(acls)
	for _, row := range []struct {
		who, task string
		status    int
	}{
		{"", "T-open", http.StatusUnauthorized},
		{"dave", "T-open", http.StatusForbidden},
		{"carol", "T-" + hidden, http.StatusForbidden},
		{"carol", "T-open", http.StatusAccepted},
	} {
		body := fmt.Sprintf(`{"framework_id":{"value":%q},"task_id":{"value":%q}}`, frameworks[row.task], row.task)
		if got := g.do(row.who, http.MethodPost, "/api/clusterd/v1/tasks/kill", body, ""); got.status != row.status {
			t.Errorf("%s kills %s: got %d %s, want %d", row.who, row.task, got.status, got.body, row.status)
		}
	}
}

func TestOffersAreListed(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	type offer struct {
		OfferID     string `json:"offer_id"`
		FrameworkID string `json:"framework_id"`
		AgentID     string `json:"agent_id"`
		Hostname    string
		Role        string
		Since       float64
		Text        string `json:"resources_text"`
		Resources   map[string]float64
		Inverse     bool
	}
	offers := func(query string) (out []offer) {
		t.Helper()
		r := get(t, s, "/api/clusterd/v1/offers"+query)
		if err := json.Unmarshal([]byte(r.body), &out); err != nil {
			t.Fatalf("%v in %d %s", err, r.status, r.body)
		}
		return out
	}
	eventually(t, "there is an offer", func() bool { return len(offers("")) == 1 })
	o := offers("")[0]
	if o.OfferID == "" || o.FrameworkID != f.id.GetValue() || o.AgentID != a.id.GetValue() || o.Hostname != agentInfo().GetHostname() ||
		o.Role != "golden" || o.Since == 0 || o.Resources["cpus"] <= 0 || o.Text == "" || o.Inverse {
		t.Errorf("got %+v", o)
	}
	for query, want := range map[string]int{
		"?framework_id=x": 0, "?framework_id=" + f.id.GetValue(): 1, "?agent_id=x": 0, "?agent_id=" + a.id.GetValue(): 1, "?role=golden": 1, "?role=x": 0,
	} {
		if n := len(offers(query)); n != want {
			t.Errorf("%s: got %d offers, want %d", query, n, want)
		}
	}
}
