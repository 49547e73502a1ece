package server

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// postForm sends a form: alternating names and values.
func postForm(t *testing.T, s *Server, path string, fields ...string) reply {
	t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	return do(t, http.MethodPost, endpoint(s, path), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(v.Encode()))
}

// The life of a reservation and of a volume by the endpoints that take forms, with the texts
// of Mesos for what does not parse.
func TestForms(t *testing.T) {
	s := startMaster(t)
	id := startAgent(t, s, agentInfo()).id.GetValue()
	const (
		reserved = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"ops"}]}`
		volume   = `{"name":"disk","type":"SCALAR","scalar":{"value":100},"reservations":[{"type":"DYNAMIC","role":"ops"}],
			"disk":{"persistence":{"id":"v1"},"volume":{"container_path":"data","mode":"RW"}}}`
	)
	for _, tc := range []struct {
		path   string
		form   []string
		status int
		body   string
	}{
		{"/reserve", nil, 400, "Missing 'slaveId' query parameter in the request body"},
		{"/reserve", []string{"slaveId", id}, 400, "Missing 'resources' query parameter in the request body"},
		{"/reserve", []string{"slaveId", id, "resources", "x"}, 400, "Error parsing 'resources' query parameter in the request body: "},
		{"/unreserve", []string{"slaveId", id, "resources", "x"}, 400, "Error in parsing 'resources' query parameter in the request body: "},
		{"/reserve", []string{"slaveId", "nosuch", "resources", "[" + reserved + "]"}, 400, "No agent found with specified ID"},
		{"/reserve", []string{"slaveId", id, "resources", "[" + reserved + "]", "source", "x"}, 400, "Error parsing 'source' query parameter in the request body: "},
		{"/master/reserve", []string{"slaveId", id, "resources", "[" + reserved + "]"}, 202, ""},
		{"/create-volumes", []string{"slaveId", id, "volumes", "x"}, 400, "Error in parsing 'volumes' query parameter in the request body: "},
		{"/create-volumes", []string{"slaveId", id, "volumes", "[" + volume + "]"}, 202, ""},
		{"/unreserve", []string{"slaveId", id, "resources", "[" + reserved + "]"}, 409, ""},
		{"/destroy-volumes", []string{"slaveId", id, "volumes", "[" + volume + "]"}, 202, ""},
		{"/unreserve", []string{"slaveId", id, "resources", "[" + reserved + "]"}, 202, ""},
		{"/teardown", nil, 400, "Missing 'frameworkId' query parameter in the request body"},
		{"/teardown", []string{"frameworkId", "nosuch"}, 400, "No framework found with specified ID"},
	} {
		r := postForm(t, s, tc.path, tc.form...)
		if r.status != tc.status || !strings.HasPrefix(r.body, tc.body) || tc.status == 202 && r.body != "" {
			t.Errorf("%s %q: got %d %q, want %d %q", tc.path, tc.form, r.status, r.body, tc.status, tc.body)
		}
	}
	if r := do(t, http.MethodGet, endpoint(s, "/teardown"), nil, nil); r.status != http.StatusMethodNotAllowed {
		t.Errorf("GET /teardown: %d", r.status)
	}
	if r := do(t, http.MethodPost, endpoint(s, "/teardown"), nil, []byte("frameworkId=%zz")); r.status != 400 || !strings.HasPrefix(r.body, "Unable to decode query string: ") {
		t.Errorf("got %d %q", r.status, r.body)
	}
	f := subscribe(t, s, goldenInfo())
	if r := postForm(t, s, "/teardown", "frameworkId", f.id.GetValue()); r.status != 200 {
		t.Errorf("got %d %q", r.status, r.body)
	}
	f.ended()
}

// What changes something is reported once, with who and what came of it; what reads is not.
func TestAudited(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := startMaster(t, func(o *Options) {
		credentials, err := authn.ParseCredentials([]byte(`{"credentials":[{"principal":"ops","secret":"s"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		basic := authn.NewBasic(func() *authn.Credentials { return credentials })
		o.Realms = authn.Realms{authn.MasterReadwrite: basic, authn.MasterReadonly: basic}
		o.OnAudit = func(r *http.Request, a httpapi.Audited) {
			mu.Lock()
			defer mu.Unlock()
			result := "ok"
			if a.Err != nil {
				result = a.Err.Error()
			}
			seen = append(seen, a.Principal.String()+" "+a.Action+" "+strings.Join(a.Fields, "=")+" "+result)
		}
	})
	send := func(method, path, body string) {
		h := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Basic b3BzOnM="}}
		do(t, method, endpoint(s, path), h, []byte(body))
	}
	send("PUT", "/weights", `[{"role":"a","weight":2}]`)
	send("PUT", "/weights", `[{"role":"a","weight":-2}]`)
	send("GET", "/weights", "")
	send("POST", "/api/v1", `{"type":"GET_STATE"}`)
	send("POST", "/api/v1", `{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":1,"duration":{"nanoseconds":1000000}}}`)
	send("POST", "/api/clusterd/v1/agents/cancel_drain", `{"agent_id":{"value":"S0"}}`)
	do(t, "PUT", endpoint(s, "/weights"), nil, []byte(`[{"role":"a","weight":3}]`)) // nobody: not even looked at
	f := subscribe(t, s, goldenInfo())
	_ = f
	mu.Lock()
	defer mu.Unlock()
	want := []string{
		`ops UPDATE_WEIGHTS call={"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"weight":2.0,"role":"a"}]}} ok`,
		`ops UPDATE_WEIGHTS call=`,
		`ops SET_LOGGING_LEVEL call=`,
		`ops CANCEL_DRAIN agent_id=S0 400: `,
		` SUBSCRIBE framework_id==framework=golden ok`,
	}
	if len(seen) != len(want) {
		t.Fatalf("reported are:\n%s", strings.Join(seen, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(seen[i], want[i]) {
			t.Errorf("%d: got %s, want %s", i, seen[i], want[i])
		}
	}
	if !strings.Contains(seen[1], "400: ") {
		t.Errorf("a call that failed: %s", seen[1])
	}
}

// A firewall rule holds for every spelling of the path, before anybody is asked who they are.
func TestFirewall(t *testing.T) {
	s := startMaster(t, func(o *Options) { o.Disabled = []string{"/master/state", "/api/v1", "/nosuch"} })
	for path, want := range map[string]int{
		"/state": 403, "/master/state": 403, "/state.json": 403, "/state/": 403, "/api/v1": 403, "/api/v1/x": 403,
		"/api/v1/scheduler": 405, "/state-summary": 200,
	} {
		if r := get(t, s, path); r.status != want {
			t.Errorf("%s: got %d, want %d", path, r.status, want)
		}
	}
}

// --weights are for a registry that has none; what operators have set holds against them.
func TestFirstWeights(t *testing.T) {
	dir := t.TempDir()
	start := func(weights map[string]float64) *Server {
		return startMaster(t, func(o *Options) {
			o.InMemory, o.WorkDir, o.RaftBind, o.Weights = false, dir, "127.0.0.1:0", weights
		})
	}
	s := start(map[string]float64{"a": 2.5, "b/c": 4})
	if r := get(t, s, "/weights"); r.body != `[{"weight":2.5,"role":"a"},{"weight":4.0,"role":"b/c"}]` {
		t.Errorf("got %s", r.body)
	}
	// What is answered is in the registry, and behind them.
	if r := do(t, "PUT", endpoint(s, "/weights"), nil, []byte(`[{"role":"d","weight":3}]`)); r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.body)
	}
	stopMaster(t, s)
	s = start(map[string]float64{"a": 9})
	if r := get(t, s, "/weights"); r.body != `[{"weight":2.5,"role":"a"},{"weight":4.0,"role":"b/c"},{"weight":3.0,"role":"d"}]` {
		t.Errorf("after a restart with other weights: got %s", r.body)
	}
	opts := DefaultOptions()
	opts.InMemory, opts.Weights = true, map[string]float64{"/": 1}
	if _, err := New(opts); err == nil || !strings.Contains(err.Error(), "--weights") {
		t.Errorf("a role that cannot be: %v", err)
	}
}

// The log is shown to those who may see it, also after it has moved to another file.
func TestLogFile(t *testing.T) {
	s := startMaster(t)
	if r := get(t, s, "/files/browse?path=/master/log"); r.status != 404 {
		t.Errorf("without a log: %d", r.status)
	}
	for _, text := range []string{"first", "second"} {
		path := t.TempDir() + "/" + text
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.SetLogFile(path); err != nil {
			t.Fatal(err)
		}
		if r := get(t, s, "/files/read?path=/master/log&offset=0"); r.body != `{"data":"`+text+`","offset":0}` {
			t.Errorf("got %d %s", r.status, r.body)
		}
		r := do(t, "POST", endpoint(s, "/api/v1"), http.Header{"Content-Type": {"application/json"}},
			[]byte(`{"type":"READ_FILE","read_file":{"path":"/master/log","offset":1,"length":2}}`))
		mustContain(t, r.body, `"size":`)
	}
	acls, err := authz.Parse([]byte(`{"access_mesos_logs":[{"principals":{"type":"ANY"},"logs":{"type":"NONE"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s.SetPolicy(acls)
	if r := get(t, s, "/files/download?path=/master/log"); r.status != 403 {
		t.Errorf("after it was forbidden: %d", r.status)
	}
}
