package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
)

type remembered struct {
	Interval float64
	Times    []float64
	Tasks    map[string][]int
	Ended    map[string][]int
	CPUs     map[string][]float64
	Agents   map[string][]int
	Recent   []struct {
		Time        float64
		Type        string
		Text        string
		AgentID     string `json:"agent_id"`
		FrameworkID string `json:"framework_id"`
		TaskID      string `json:"task_id"`
		State       string
		Role        string
	}
}

func getHistory(t *testing.T, s *Server, query string, header http.Header) *remembered {
	t.Helper()
	r := do(t, http.MethodGet, endpoint(s, "/api/clusterd/v1/history"+query), header, nil)
	out := new(remembered)
	if err := json.Unmarshal([]byte(r.body), out); err != nil {
		t.Fatalf("%v in %d %s", err, r.status, r.body)
	}
	return out
}

func (h *remembered) texts() (all []string) {
	for _, n := range h.Recent {
		all = append(all, n.Text)
	}
	return all
}

func often(o *Options) { o.historyInterval = time.Millisecond }

func TestHistory(t *testing.T) {
	s := startMaster(t, often)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	launchOne(f, a.id, "t1")
	a.update(f, "t1", mesos.TaskState_TASK_RUNNING, 1)
	running := func(h *remembered) bool {
		col := h.Tasks["TASK_RUNNING"]
		return len(col) > 0 && col[len(col)-1] == 1
	}
	eventually(t, "a sample has the task", func() bool { return running(getHistory(t, s, "", nil)) })
	a.update(f, "t1", mesos.TaskState_TASK_FAILED, 2)
	eventually(t, "its end is told", func() bool {
		return slices.ContainsFunc(getHistory(t, s, "", nil).texts(), func(s string) bool {
			return strings.Contains(s, "t1 of golden is TASK_FAILED: Command exited with status 3")
		})
	})
	eventually(t, "its end is counted", func() bool {
		col := getHistory(t, s, "?samples=1", nil).Ended["TASK_FAILED"]
		return len(col) == 1 && col[0] == 1
	})
	h := getHistory(t, s, "", nil)
	if n := len(h.Times); n < 2 || len(h.Tasks["TASK_RUNNING"]) != n || len(h.CPUs["allocated"]) != n || len(h.Agents["active"]) != n || !slices.IsSorted(h.Times) {
		t.Errorf("columns differ: %d times, %d tasks, %d cpus, %d agents", n, len(h.Tasks["TASK_RUNNING"]), len(h.CPUs["allocated"]), len(h.Agents["active"]))
	}
	if got := h.Agents["active"]; got[len(got)-1] != 1 {
		t.Errorf("%d agents are active, want 1", got[len(got)-1])
	}
	host := agentInfo().GetHostname()
	texts := strings.Join(h.texts(), "\n")
	for _, want := range []string{"was elected", "Agent " + host + " has registered", "Framework golden has subscribed"} {
		if !strings.Contains(texts, want) {
			t.Errorf("not told: %s, in\n%s", want, texts)
		}
	}
	for i := 1; i < len(h.Recent); i++ {
		if h.Recent[i].Time > h.Recent[i-1].Time {
			t.Errorf("the newest is not first: %s", texts)
		}
	}
	if n := len(getHistory(t, s, "?samples=0&recent=1", nil).Recent); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	for _, bad := range []string{"?samples=x", "?recent=-1"} {
		if got := get(t, s, "/api/clusterd/v1/history"+bad); got.status != http.StatusBadRequest {
			t.Errorf("%s: got %d", bad, got.status)
		}
	}
}

// TestHistoryIsBounded: an hour of samples, and of events of tasks and of others so many.
func TestHistoryIsBounded(t *testing.T) {
	s := startMaster(t, often)
	h := s.term.Load().history
	eventually(t, "the first samples are there", func() bool { samples, _ := h.last(10, 0); return len(samples) > 1 })
	samples, _ := h.last(1, 0)
	for range 2 * historyLength {
		h.add(samples[0])
	}
	if all, _ := h.last(1<<20, 0); len(all) != historyLength {
		t.Errorf("%d samples are kept, want %d", len(all), historyLength)
	}
	f := subscribe(t, s, goldenInfo())
	for i := range notables + 50 {
		info := agentInfo()
		info.Hostname, info.Port = new(fmt.Sprintf("h%d", i)), new(int32(10000+i))
		startAgent(t, s, info).conn.Close("test")
	}
	eventually(t, "the others are forgotten", func() bool { _, recent := h.last(0, 1<<20); return len(recent) == notables })
	_ = f
}

func TestHistoryHides(t *testing.T) {
	g := newGuardedMaster(t)
	all := strings.Join(getHistory(t, g.s, "", basicHeader("carol")).texts(), "\n")
	for _, want := range []string{"N-" + hidden, "N-open", "Weight of weight-" + hidden, "Quota of quota-" + hidden} {
		if !strings.Contains(all, want) {
			t.Errorf("not told: %s, in\n%s", want, all)
		}
	}
	acls, err := authz.Parse([]byte(`{"permissive":false,"view_frameworks":[{"principals":{"values":["carol"]},"users":{"values":["oscar"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	g.s.SetPolicy(acls)
	some := strings.Join(getHistory(t, g.s, "", basicHeader("carol")).texts(), "\n")
	if strings.Contains(some, hidden) || !strings.Contains(some, "N-open") {
		t.Errorf("carol now hears of\n%s", some)
	}
}
