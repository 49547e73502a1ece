package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

// goldenDir holds the recorded answers of a real Mesos.
const goldenDir = "../../shared/golden"

// The ids of the recorded run.
const (
	recordedMaster = "87b62806-7648-48b9-adfb-e17ef857b670"
	recordedStream = "4a4cfc32-1b64-418b-884a-1d071593e55c"
)

// recorded is one recorded request with its answer.
type recorded struct {
	Request struct {
		To, Method, Path string
		Headers          []string
		JSON             json.RawMessage
		Body             string
	}
	Response struct {
		Status  int
		Headers []string
		JSON    json.RawMessage
		Body    string
	}
}

func goldenCase(t testing.TB, name string, replace *strings.Replacer) recorded {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, name))
	if os.IsNotExist(err) {
		t.Skipf("the recorded answers of a real Mesos are not here (%s)", goldenDir)
	}
	if err != nil {
		t.Fatal(err)
	}
	if replace != nil {
		b = []byte(replace.Replace(string(b)))
	}
	var c recorded
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}

// replay sends the recorded request.
func (c *recorded) replay(t testing.TB, s *Server) reply {
	t.Helper()
	header := make(http.Header)
	for _, h := range c.Request.Headers {
		if k, v, ok := strings.Cut(h, ": "); ok {
			header.Add(k, v)
		}
	}
	body := []byte(c.Request.Body)
	if c.Request.JSON != nil {
		body = c.Request.JSON
	}
	return do(t, c.Request.Method, endpoint(s, c.Request.Path), header, body)
}

// compare checks status, body and the headers that were recorded.
func (c *recorded) compare(t testing.TB, got reply) {
	t.Helper()
	if got.status != c.Response.Status {
		t.Errorf("status %d, want %d; body %s", got.status, c.Response.Status, got.body)
	}
	if c.Response.JSON == nil && got.body != c.Response.Body {
		t.Errorf("body\n got %q\nwant %q", got.body, c.Response.Body)
	}
	want := make(http.Header)
	for _, h := range c.Response.Headers {
		if k, v, ok := strings.Cut(h, ": "); ok {
			want.Add(k, v)
		}
	}
	if want.Get("Content-Length") != "" {
		want.Set("Content-Length", got.header.Get("Content-Length")) // follows from the body
		if got.header.Get("Content-Length") == "" {
			t.Error("no Content-Length")
		}
	}
	for _, header := range []http.Header{want, got.header} {
		header.Del("Date")
		header.Del("Transfer-Encoding")
	}
	if want.Get(streamIDHeader) != "" {
		want.Set(streamIDHeader, got.header.Get(streamIDHeader))
	}
	if diff := cmp.Diff(want, got.header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// TestGoldenErrors replays what a real Mesos was asked wrongly, and compares the
// answers field by field.
func TestGoldenErrors(t *testing.T) {
	all, err := filepath.Glob(filepath.Join(goldenDir, "errors", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Skipf("the recorded answers of a real Mesos are not here (%s)", goldenDir)
	}
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	replace := strings.NewReplacer(
		recordedMaster+"-0000", f.id.GetValue(), recordedMaster+"-S0", a.id.GetValue(), recordedStream, f.streamID,
	)
	// Tests of their own.
	special := []string{"http_gzip_state", "http_head_version", "sched_resubscribe_after_teardown"}
	// What came after TEARDOWN comes last.
	sort.SliceStable(all, func(i, j int) bool {
		return !strings.Contains(all[i], "after_teardown") && strings.Contains(all[j], "after_teardown")
	})
	tornDown := false
	ran := 0
	for _, path := range all {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		c := goldenCase(t, "errors/"+filepath.Base(path), replace)
		if c.Request.To != "master" || slices.Contains(special, name) {
			continue
		}
		if strings.Contains(name, "after_teardown") && !tornDown {
			f.accepted(&scheduler.Call{Type: scheduler.Call_TEARDOWN.Enum()})
			f.ended()
			tornDown = true
		}
		ran++
		t.Run(name, func(t *testing.T) {
			c.compare(t, c.replay(t, s))
		})
	}
	if ran < 40 {
		t.Errorf("only %d cases were replayed", ran)
	}
	t.Run("sched_resubscribe_after_teardown", func(t *testing.T) {
		c := goldenCase(t, "errors/sched_resubscribe_after_teardown.json", replace)
		got := c.replay(t, s)
		// Recorded with its chunk's length before it and without its end.
		_, c.Response.Body, _ = strings.Cut(c.Response.Body, "\n")
		_, got.body, _ = strings.Cut(got.body, "\n")
		c.Response.Body = strings.TrimSpace(c.Response.Body)
		c.compare(t, got)
	})
}

func TestGoldenGzip(t *testing.T) {
	c := goldenCase(t, "errors/http_gzip_state.json", nil)
	s := goldenCluster(t)
	plain := get(t, s, "/state")
	r := do(t, http.MethodGet, endpoint(s, "/state"), http.Header{"Accept-Encoding": {"gzip"}}, nil)
	if r.status != c.Response.Status || r.header.Get("Content-Encoding") != "gzip" || r.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %v", r.status, r.header)
	}
	if b := gunzip(t, r.body); b != plain.body {
		t.Errorf("got %d bytes, %d without gzip", len(b), len(plain.body))
	}
	if h := do(t, http.MethodHead, endpoint(s, "/version"), nil, nil); h.status != http.StatusOK || h.body != "" || h.header.Get("Content-Length") == "0" {
		t.Errorf("HEAD: got %d %v", h.status, h.header)
	}
}

func gunzip(t testing.TB, body string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// shapes collects, for each path into a JSON value, the types found there.
func shapes(v any) map[string]string {
	found := make(map[string]map[string]bool)
	var walk func(path string, v any)
	walk = func(path string, v any) {
		kind := ""
		switch v := v.(type) {
		case map[string]any:
			kind = "object"
			for k, e := range v {
				walk(path+"/"+k, e)
			}
		case []any:
			kind = "array"
			for _, e := range v {
				walk(path+"[]", e)
			}
		case string:
			kind = "string"
		case json.Number:
			kind = "integer"
			if strings.ContainsAny(v.String(), ".e") {
				kind = "double"
			}
		case bool:
			kind = "bool"
		default:
			kind = "null"
		}
		if found[path] == nil {
			found[path] = make(map[string]bool)
		}
		found[path][kind] = true
	}
	walk("", v)
	out := make(map[string]string)
	for path, kinds := range found {
		var list []string
		for k := range kinds {
			list = append(list, k)
		}
		slices.Sort(list)
		out[path] = strings.Join(list, "|")
	}
	return out
}

func decodeNumbers(t testing.TB, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %.300s", err, b)
	}
	return v
}

// goldenCluster makes the cluster that was recorded: a task with labels, a
// group under a default executor, one task that has failed and is acknowledged.
func goldenCluster(t *testing.T) *Server {
	s, _, _ := goldenParts(t)
	return s
}

func goldenParts(t *testing.T) (*Server, *agent, *framework) {
	t.Helper()
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	id := strings.NewReplacer(recordedMaster+"-0000", f.id.GetValue(), recordedMaster+"-S0", a.id.GetValue())
	accept := func(name string) {
		c := goldenCase(t, "streams/scheduler_calls/"+name, id)
		call := new(scheduler.Call)
		if err := mesosjson.Unmarshal(c.Request.JSON, call); err != nil {
			t.Fatal(err)
		}
		call.Accept.OfferIds = []*mesos.OfferID{f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0].Id}
		f.accepted(call)
	}
	updates := func(task string, n byte, states ...mesos.TaskState) {
		for i, state := range states {
			a.update(f, task, state, n+byte(i))
			f.acknowledge(f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus())
		}
	}
	accept("01_ACCEPT_LAUNCH.json")
	const starting, running, failed = mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED
	updates("t_kill", 10, starting, running)
	updates("t1", 20, starting, running)
	updates("t_fail", 30, starting, running, failed)
	accept("09_ACCEPT_LAUNCH_GROUP.json")
	updates("g1", 40, starting, running)
	updates("g2", 50, starting, running)
	f.next(scheduler.Event_OFFERS)
	return s, a, f
}

// TestGoldenShapes compares the members and their types, down to whether a
// number has a fraction, of every read of a like cluster.
func TestGoldenShapes(t *testing.T) {
	goldenCase(t, "running/master/state.json", nil)
	s := goldenCluster(t)
	compareShapes(t, s, "running/master/", "state", "master_state", "slaves", "state-summary", "roles", "tasks", "tasks_limit1", "frameworks", "version", "flags",
		"system_stats", "quota", "weights")
	compareShapes(t, s, "running/master_api_v1/", "GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_TASKS", "GET_ROLES", "GET_MASTER",
		"GET_HEALTH", "GET_VERSION", "GET_OPERATIONS", "GET_WEIGHTS", "GET_QUOTA", "GET_LOGGING_LEVEL", "GET_FLAGS", "GET_METRICS")
}

// TestGoldenMetrics checks that every key of a real master's metrics is there.
func TestGoldenMetrics(t *testing.T) {
	c := goldenCase(t, "running/master/metrics_snapshot.json", nil)
	s := goldenCluster(t)
	got := getJSON(t, s, "/metrics/snapshot")
	var want map[string]float64
	if err := json.Unmarshal(c.Response.JSON, &want); err != nil {
		t.Fatal(err)
	}
	id := frameworkOf(t, getJSON(t, s, "/frameworks"))["id"].(string)
	var missing []string
	for key := range want {
		key = strings.ReplaceAll(key, recordedMaster+"-0000", id)
		if _, ok := got[key]; !ok {
			missing = append(missing, key)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("%d keys are missing:\n%s", len(missing), strings.Join(missing, "\n"))
	}
}
