package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
)

// summarized is as much of the summary as these tests look at.
type summarized struct {
	Token  string
	States []string
	Agents []struct {
		ID        string
		Allocated map[string]float64
	}
	Frameworks []struct {
		ID        string
		Completed bool
	}
	Tasks struct {
		Rows    int
		Columns map[string]any
	}
}

// states are the tasks' states by id.
func (s *summarized) states() map[string]string {
	out := map[string]string{}
	for i := range s.Tasks.Rows {
		out[s.of("task_id", i).(string)] = s.States[int(s.of("state", i).(float64))]
	}
	return out
}

// of is what a column has for a task.
func (s *summarized) of(column string, i int) any {
	if list, ok := s.Tasks.Columns[column].([]any); ok {
		return list[i]
	}
	return s.Tasks.Columns[column] // that of all
}

func getSummary(t *testing.T, s *Server, header http.Header) (*summarized, reply) {
	t.Helper()
	r := do(t, http.MethodGet, endpoint(s, "/api/clusterd/v1/summary"), header, nil)
	out := new(summarized)
	if r.status == http.StatusOK {
		if err := json.Unmarshal([]byte(r.body), out); err != nil {
			t.Fatalf("%v in %.300s", err, r.body)
		}
	}
	return out, r
}

// launchOne has a framework launch a task with the next offer.
func launchOne(f *framework, agent *mesos.AgentID, id string) {
	f.t.Helper()
	offer := f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0]
	f.accepted(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
		OfferIds: []*mesos.OfferID{offer.Id},
		Operations: []*mesos.Offer_Operation{{
			Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
				Name: new(id), TaskId: &mesos.TaskID{Value: &id}, AgentId: agent,
				Resources: resources.MustParse("cpus:0.1;mem:32").Allocate("golden").Proto(),
				Command:   &mesos.CommandInfo{Value: new("sleep 1000")},
			}}},
		}},
		Filters: &mesos.Filters{RefuseSeconds: new(0.0)},
	}})
}

// TestSummaryAndEventsAreTheWholeTruth has tasks come while summaries are taken: with
// the events after any of them nothing is missing and nothing comes twice.
func TestSummaryAndEventsAreTheWholeTruth(t *testing.T) {
	// What is left of an offer is offered again with the next run of the allocator.
	s := startMaster(t, func(o *Options) { o.Core.AllocationInterval = 10 * time.Millisecond })
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	const tasks = 20
	launched := make(chan struct{})
	go func() {
		defer close(launched)
		for i := range tasks {
			launchOne(f, a.id, fmt.Sprintf("t%02d", i))
		}
	}()
	var taken []*summarized
	for done := false; !done; {
		select {
		case <-launched:
			done = true
		default:
		}
		sum, r := getSummary(t, s, nil)
		if r.status != http.StatusOK {
			t.Fatalf("got %d %s", r.status, r.body)
		}
		taken = append(taken, sum)
	}
	if n := taken[len(taken)-1].Tasks.Rows; n != tasks {
		t.Fatalf("the last summary has %d tasks, want %d", n, tasks)
	}
	step := max(1, len(taken)/10)
	for i := 0; i < len(taken); i += step {
		sum := taken[i]
		added := addedSince(t, s, sum.Token, tasks-sum.Tasks.Rows)
		known := sum.states()
		for _, id := range added {
			if _, twice := known[id]; twice {
				t.Errorf("summary %d has %s, and an event adds it", i, id)
			}
			known[id] = ""
		}
		if len(known) != tasks {
			t.Errorf("summary %d and its events have %d tasks, want %d", i, len(known), tasks)
		}
	}
}

// addedSince reads so many TASK_ADDED after a token.
func addedSince(t *testing.T, s *Server, token string, n int) (ids []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		endpoint(s, "/api/clusterd/v1/events?snapshot=false&resume="+url.QueryEscape(token)), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	resumed := false
	for (len(ids) < n || !resumed) && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var e struct {
			Type       string
			Subscribed struct {
				Resumed bool
				Reason  string
			}
			TaskAdded struct {
				Task struct {
					TaskID struct{ Value string } `json:"task_id"`
				}
			} `json:"task_added"`
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		switch e.Type {
		case "SUBSCRIBED":
			if resumed = e.Subscribed.Resumed; !resumed {
				t.Fatalf("the token of a summary is refused: %s", e.Subscribed.Reason)
			}
		case "TASK_ADDED":
			ids = append(ids, e.TaskAdded.Task.TaskID.Value)
		}
	}
	if len(ids) != n {
		t.Fatalf("got %d tasks after %s, want %d: %v", len(ids), token, n, lines.Err())
	}
	return ids
}

func TestSummaryQueries(t *testing.T) {
	s := startMaster(t)
	startAgent(t, s, agentInfo())
	for _, row := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/api/clusterd/v1/summary?completed=true", http.StatusOK},
		{http.MethodGet, "/api/clusterd/v1/summary?completed=x", http.StatusBadRequest},
		{http.MethodPost, "/api/clusterd/v1/summary", http.StatusMethodNotAllowed},
		{http.MethodGet, "/api/clusterd/v1/summary/x", http.StatusNotFound},
		{http.MethodGet, "/api/clusterd/v1/totals", http.StatusOK},
		{http.MethodGet, "/api/clusterd/v1/totals/x", http.StatusNotFound},
	} {
		if got := do(t, row.method, endpoint(s, row.path), nil, nil); got.status != row.status {
			t.Errorf("%s %s: got %d %s, want %d", row.method, row.path, got.status, got.body, row.status)
		}
	}
}

// TestSummaryHides: who may not see tasks and frameworks does not, and a token of before
// is refused when the rules change.
func TestSummaryHides(t *testing.T) {
	g := newGuardedMaster(t)
	sum, _ := getSummary(t, g.s, basicHeader("carol"))
	if got := sum.states(); len(got) != 2 || got["T-"+hidden] == "" {
		t.Errorf("carol sees %v", got)
	}
	acls, err := authz.Parse([]byte(`{"view_frameworks":[{"principals":{"values":["carol"]},"users":{"values":["oscar"]}},{"principals":{"type":"ANY"},"users":{"type":"NONE"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	g.s.SetPolicy(acls)
	less, r := getSummary(t, g.s, basicHeader("carol"))
	if got := less.states(); len(got) != 1 || got["T-open"] == "" || strings.Contains(r.body, "T-"+hidden) {
		t.Errorf("carol now sees %v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint(g.s, "/api/clusterd/v1/events?snapshot=false&resume="+url.QueryEscape(sum.Token)), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = basicHeader("carol")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
			if !strings.Contains(data, `"resumed":false`) {
				t.Errorf("a token of before the rules changed is taken: %s", data)
			}
			return
		}
	}
	t.Error("no answer")
}
