package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/registryapi"
	"clusterd/registry"
	"clusterd/registry/dump"
	"clusterd/registry/state"
	"clusterd/server/core"
)

func registryStatus(t *testing.T, s *Server) registryapi.Status {
	t.Helper()
	r := get(t, s, registryapi.Path)
	var st registryapi.Status
	if err := json.Unmarshal([]byte(r.body), &st); err != nil || r.status != http.StatusOK {
		t.Fatalf("status: %d %s: %v", r.status, r.body, err)
	}
	return st
}

func postJSON(t *testing.T, s *Server, path, body string) reply {
	t.Helper()
	return do(t, http.MethodPost, endpoint(s, registryapi.Path+path), http.Header{"Content-Type": {"application/json"}}, []byte(body))
}

func postSnapshot(t *testing.T, s *Server, query string, body []byte) reply {
	t.Helper()
	return do(t, http.MethodPost, endpoint(s, registryapi.Path+"/snapshot"+query), http.Header{"Content-Type": {"application/octet-stream"}}, body)
}

func TestRegistryStatus(t *testing.T) {
	s := startMaster(t)
	startAgent(t, s, agentInfo())
	eventually(t, "the agent is in the registry", func() bool { return registryStatus(t, s).Counts.Agents == 1 })
	st := registryStatus(t, s)
	if !st.Leads || st.State != "leader" || st.Leader != st.ID || st.LeaderAddress != hostPort(s.MasterInfo()) {
		t.Errorf("got %+v, want one that leads and says so", st)
	}
	if st.ClusterID == "" || st.Epoch != 1 || st.AppliedIndex == 0 || st.Format != state.Format {
		t.Errorf("got %+v, want cluster, epoch, indexes and format", st)
	}
	want := []registryapi.Member{{
		ID: st.ID, Address: st.Address, HTTP: hostPort(s.MasterInfo()), Known: true, Alive: true,
		Format: state.Format, Build: st.Build, Voter: true, Leads: true,
	}}
	for i := range st.Members {
		st.Members[i].Health = "" // known a moment later
	}
	if diff := cmp.Diff(want, st.Members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

// TestRegistryRefusals: what is wrong is said by a status and a text, and
// changes nothing.
func TestRegistryRefusals(t *testing.T) {
	s := startMaster(t, func(o *Options) { o.InMemory, o.WorkDir = false, t.TempDir() })
	st := registryStatus(t, s)
	closed := closedPort(t)
	tests := []struct {
		name, path, body string
		status           int
		text             string
	}{
		{"no json", "/add", "id=1", http.StatusBadRequest, "Failed to parse"},
		{"unknown field", "/remove", `{"idd":"x"}`, http.StatusBadRequest, `unknown field "idd"`},
		{"no id", "/add", `{"address":"10.0.0.1:5052"}`, http.StatusBadRequest, "'id'"},
		{"no port", "/add", `{"id":"x","address":"10.0.0.1"}`, http.StatusBadRequest, "not host:port"},
		{"bad port", "/add", `{"id":"x","address":"10.0.0.1:99999"}`, http.StatusBadRequest, "not host:port"},
		{"every address", "/add", `{"id":"x","address":"0.0.0.0:5052"}`, http.StatusBadRequest, "every address"},
		{"nobody there", "/add", `{"id":"x","address":"` + closed + `"}`, http.StatusConflict, "does not answer"},
		{"address of another", "/add", `{"id":"x","address":"` + st.Address + `"}`, http.StatusConflict, "address of member " + st.ID},
		{"remove without id", "/remove", `{}`, http.StatusBadRequest, "'id'"},
		{"remove a stranger", "/remove", `{"id":"x"}`, http.StatusNotFound, "no such member"},
		{"remove the last", "/remove", `{"id":"` + st.ID + `"}`, http.StatusConflict, "only voting member"},
		{"remove the last by force", "/remove?force=true", `{"id":"` + st.ID + `"}`, http.StatusConflict, "only voting member"},
		{"transfer to nobody", "/transfer", `{}`, http.StatusConflict, "no other voting member"},
		{"transfer to itself", "/transfer", `{"id":"` + st.ID + `"}`, http.StatusConflict, "leads already"},
		{"unknown change", "/destroy", `{}`, http.StatusNotFound, "404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := postJSON(t, s, tt.path, tt.body)
			if r.status != tt.status || !strings.Contains(r.body, tt.text) {
				t.Errorf("POST %s %s: got %d %q, want %d with %q", tt.path, tt.body, r.status, r.body, tt.status, tt.text)
			}
		})
	}
	if r := do(t, http.MethodPost, endpoint(s, registryapi.Path+"/remove"), http.Header{"Content-Type": {"text/plain"}}, []byte(`{}`)); r.status != http.StatusUnsupportedMediaType {
		t.Errorf("a form of another site: got %d %s", r.status, r.body)
	}
	if r := get(t, s, registryapi.Path+"/add"); r.status != http.StatusMethodNotAllowed {
		t.Errorf("GET add: got %d %s", r.status, r.body)
	}
	ids := func(st registryapi.Status) (all []string) {
		for _, m := range st.Members {
			all = append(all, m.ID+" "+m.Address)
		}
		return all
	}
	if diff := cmp.Diff(ids(st), ids(registryStatus(t, s))); diff != "" {
		t.Errorf("members have changed (-want +got):\n%s", diff)
	}
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestMayRemove(t *testing.T) {
	// group makes members: a letter each, upper case if alive; after a dot those
	// without a vote; after a plus those that gossip sees and the leader does not.
	group := func(text string) (members []registryapi.Member) {
		voter, health := true, ""
		for _, c := range text {
			switch id := strings.ToLower(string(c)); id {
			case ".":
				voter = false
			case "+":
				health = registryapi.Unhealthy
			default:
				members = append(members, registryapi.Member{ID: id, Alive: id != string(c), Voter: voter, Health: health})
			}
		}
		return members
	}
	tests := []struct {
		name, members, id string
		force             bool
		want              string // part of the refusal, empty if it may
	}{
		{"a dead one of three", "ABc", "c", false, ""},
		{"a live one of three", "ABC", "c", false, "alive and would join again"},
		{"a live one of three by force", "ABC", "c", true, ""},
		{"a live one where another is dead", "ABc", "b", false, "2 voting members of which 1 are alive"},
		{"the same by force", "ABc", "b", true, ""},
		{"a dead one of two", "Ab", "b", false, ""},
		{"the live one of two", "Ab", "a", false, "1 voting members of which 0 are alive"},
		{"the last", "A", "a", false, "only voting member"},
		{"the last by force", "A", "a", true, "only voting member"},
		{"the last voter", "A.B", "a", true, "only voting member"},
		{"one without a vote", "A.b", "b", false, ""},
		{"a live one without a vote", "A.B", "b", false, "alive and would join again"},
		{"one of five with two dead", "ABCde", "a", false, "4 voting members of which 2 are alive"},
		{"a dead one of five with two dead", "ABCde", "e", false, ""},
		{"a dead one where another does not answer the leader", "Ab+C", "b", false, "2 voting members of which 1 are alive"},
		{"a stranger", "ABC", "x", true, registry.ErrNoMember.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := mayRemove(group(tt.members), tt.id, tt.force)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("remove %s of %s: got %v, want %q", tt.id, tt.members, err, tt.want)
			}
		})
	}
}

func TestRegistrySnapshot(t *testing.T) {
	s := startMaster(t)
	startAgent(t, s, agentInfo())
	eventually(t, "the agent is in the registry", func() bool { return registryStatus(t, s).Counts.Agents == 1 })
	r := get(t, s, registryapi.Path+"/snapshot")
	saved, err := state.ReadSnapshot(strings.NewReader(r.body))
	if err != nil {
		t.Fatalf("snapshot: %d %v", r.status, err)
	}
	if got, want := dump.Count(saved), registryStatus(t, s).Counts; got != want {
		t.Errorf("the snapshot holds %+v, want %+v", got, want)
	}

	// What cannot be restored is refused before anything happens.
	other := new(bytes.Buffer)
	if err := state.New().WriteSnapshot(other, "test"); err != nil {
		t.Fatal(err)
	}
	whole := []byte(r.body)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 0xff
	tests := []struct {
		name   string
		body   []byte
		status int
		text   string
	}{
		{"empty", nil, http.StatusBadRequest, "ends before its trailer"},
		{"cut off", whole[:len(whole)-3], http.StatusBadRequest, "no snapshot"},
		{"goes on", append(bytes.Clone(whole), 0), http.StatusBadRequest, "after its trailer"},
		{"a bit flipped", flipped, http.StatusBadRequest, "no snapshot"},
		{"another file", []byte("#!/bin/sh\nexit 0\n"), http.StatusBadRequest, "no snapshot"},
		{"another cluster", other.Bytes(), http.StatusConflict, "this is cluster"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if r := postSnapshot(t, s, "", tt.body); r.status != tt.status || !strings.Contains(r.body, tt.text) {
				t.Errorf("got %d %q, want %d with %q", r.status, r.body, tt.status, tt.text)
			}
		})
	}
	if r := do(t, http.MethodPost, endpoint(s, registryapi.Path+"/snapshot"), nil, whole); r.status != http.StatusUnsupportedMediaType {
		t.Errorf("without a media type: got %d %s", r.status, r.body)
	}
	before := registryStatus(t, s)
	if before.Epoch != 1 || before.Counts.Agents != 1 {
		t.Errorf("after refusals: got %+v", before)
	}

	// What can be restored is, under a new leadership.
	if r := postSnapshot(t, s, "", whole); r.status != http.StatusOK || !strings.Contains(r.body, `"agents":1`) {
		t.Fatalf("restore: %d %s", r.status, r.body)
	}
	eventually(t, "somebody leads with what was restored", func() bool {
		st := registryStatus(t, s)
		return st.Leads && st.Epoch > before.Epoch && st.ClusterID == before.ClusterID && st.Counts.Agents == 1
	})

	// Another cluster's, by force: this one becomes it.
	admitted := agentInfo()
	admitted.Id = &mesos.AgentID{Value: new("other-S0")}
	foreign := apply(t, state.New(), state.ElectMaster(s.info, "raft", "other-cluster"), state.AdmitAgent(admitted))
	other.Reset()
	if err := foreign.WriteSnapshot(other, "test"); err != nil {
		t.Fatal(err)
	}
	if r := postSnapshot(t, s, "", other.Bytes()); r.status != http.StatusConflict {
		t.Errorf("another cluster's: %d %s", r.status, r.body)
	}
	if r := postSnapshot(t, s, "?force=true", other.Bytes()); r.status != http.StatusOK {
		t.Fatalf("another cluster's by force: %d %s", r.status, r.body)
	}
	eventually(t, "this cluster is the other one", func() bool {
		st := registryStatus(t, s)
		return st.Leads && st.ClusterID == "other-cluster"
	})
}

// apply has a state take commands that must succeed.
func apply(t *testing.T, s *state.State, cmds ...*clusterdv1.Command) *state.State {
	t.Helper()
	next, results, err := s.Apply(&clusterdv1.Entry{Commands: cmds})
	if err := errors.Join(append(results, err)...); err != nil {
		t.Fatal(err)
	}
	return next
}

func TestRegistrarRegistry(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	eventually(t, "the agent is in the registry", func() bool { return registryStatus(t, s).Counts.Agents == 1 })
	for _, path := range []string{"/registrar(1)/registry", "/registrar(1)/registry.json"} {
		reg := getJSON(t, s, path)
		slaves := reg["slaves"].(map[string]any)["slaves"].([]any)
		info := slaves[0].(map[string]any)["info"].(map[string]any)
		if got := info["id"].(map[string]any)["value"]; got != a.id.GetValue() || len(slaves) != 1 {
			t.Errorf("%s: got %v of %d agents, want %s alone", path, got, len(slaves), a.id.GetValue())
		}
		leader := reg["master"].(map[string]any)["info"].(map[string]any)["id"]
		if want := s.MasterInfo().GetId(); leader != want {
			t.Errorf("%s: master %v, want %s", path, leader, want)
		}
	}
}

// TestAlive: a watchdog's question is answered by the core's loop, not by what it
// has published; a loop that is stuck leaves it without an answer.
func TestAlive(t *testing.T) {
	s := startMaster(t)
	for range 3 {
		if err := s.Alive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Summary(); !strings.HasPrefix(got, "leads cluster ") {
		t.Errorf("summary: %q", got)
	}
	term := s.term.Load()
	// The loop is held up where it asks a request of size 0 for an answer.
	hold := &request{answer: make(chan answer)}
	if err := term.submit(t.Context(), envelope{request: hold, in: core.Call{
		Request: core.RequestID(s.request.Add(1)), StreamID: "nobody's",
		Call: &scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum(), FrameworkId: &mesos.FrameworkID{Value: new("f")}},
	}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loop is stuck", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := s.Alive(ctx)
		return errors.Is(err, context.DeadlineExceeded)
	})
	<-hold.answer
	if err := s.Alive(t.Context()); err != nil {
		t.Errorf("after it went on: %v", err)
	}
}
