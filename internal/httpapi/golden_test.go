package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/flags"
	"clusterd/internal/metrics"
)

// recorded is one file of the recorded answers.
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

func readRecorded(t *testing.T, path string) recorded {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rec recorded
	if err := json.Unmarshal(data, &rec); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return rec
}

func common() Common {
	return Common{
		Flags:     []flags.Pair{{Name: "ip", Value: "127.0.0.1"}, {Name: "quiet", Value: "false"}},
		Version:   &mesos.VersionInfo{Version: new("1.12.0"), BuildDate: new("2026-11-22 14:46:22 UTC"), BuildTime: new(1795358782.0), BuildUser: new(""), GitSha: new("c1b42f79"), GitBranch: new("refs/heads/master")},
		Metrics:   metrics.NewRegistry(),
		Verbosity: NewVerbosity(0),
		Readonly:  "readonly", Readwrite: "readwrite",
	}
}

// decodeOnly answers calls by decoding them: 501 stands for "decoded", since
// what a call then does is not this package's business.
func decodeOnly[T proto.Message](decode func(http.ResponseWriter, *http.Request, proto.Message) error, newMsg func() T) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := decode(w, r, newMsg()); err != nil {
			return err
		}
		if _, err := ResponseMedia(r); err != nil {
			return err
		}
		return NotImplemented()
	}
}

func newServer(t *testing.T) (m, a *httptest.Server) {
	call := func(w http.ResponseWriter, r *http.Request, msg proto.Message) error {
		_, err := DecodeCall(w, r, msg)
		return err
	}
	agentCall := func(w http.ResponseWriter, r *http.Request, msg proto.Message) error {
		_, err := DecodeAgentCall(w, r, msg)
		return err
	}
	mr := NewRouter("master")
	common().Register(mr)
	mr.Handle("/api/v1", Open("test"), decodeOnly(call, func() *master.Call { return new(master.Call) }))
	mr.Handle("/api/v1/scheduler", Open("test"), decodeOnly(call, func() *scheduler.Call { return new(scheduler.Call) }))
	mr.Handle("/weights", Open("test"), func(_ http.ResponseWriter, r *http.Request) error {
		if err := RequireMethod(r, http.MethodGet, http.MethodPut); err != nil {
			return err
		}
		return NotImplemented()
	})
	mr.Handle("/redirect", Open("test"), func(http.ResponseWriter, *http.Request) error { return Redirect("localhost:15050", "") })
	ar := NewRouter("slave(1)")
	common().Register(ar)
	ar.Handle("/api/v1", Open("test"), decodeOnly(agentCall, func() *agent.Call { return new(agent.Call) }))
	ar.Handle("/api/v1/executor", Open("test"), decodeOnly(call, func() *executor.Call { return new(executor.Call) }))
	m, a = httptest.NewServer(mr), httptest.NewServer(ar)
	t.Cleanup(m.Close)
	t.Cleanup(a.Close)
	return m, a
}

// golden lists what this package alone answers like the recorded Mesos.
var golden = []string{
	"running/master/logging_toggle", // before the level is raised below
	"errors/op_empty_body", "errors/op_no_content_type", "errors/op_wrong_method_get",
	"errors/sched_content_type_charset", "errors/sched_malformed_protobuf", "errors/sched_no_content_type",
	"errors/sched_not_acceptable", "errors/sched_subscribe_missing_user", "errors/sched_subscribe_no_framework_info",
	"errors/sched_wrong_method_delete",
	"errors/agent_empty_body", "errors/agent_malformed_protobuf", "errors/agent_no_content_type", "errors/agent_wrong_method_put",
	"errors/agent_unknown_type_value_0", "errors/op_unknown_type_value_0",
	"errors/exec_missing_fields", "errors/exec_no_content_type", "errors/exec_wrong_method_get",
	"errors/http_404_agent", "errors/http_weights_delete", "errors/http_logging_toggle_bad", "errors/http_head_version",
	"running/master/redirect", "running/master/health", "running/master/version",
	"running/agent/health", "running/agent/version",
}

func TestGolden(t *testing.T) {
	const dir = "../../../shared/golden"
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no recorded answers: %v", err)
	}
	toMaster, toAgent := newServer(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, name := range golden {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			rec := readRecorded(t, filepath.Join(dir, name+".json"))
			url := toMaster.URL
			if rec.Request.To == "agent" {
				url = toAgent.URL
			}
			body := rec.Request.Body
			if rec.Request.JSON != nil {
				body = string(rec.Request.JSON)
			}
			req, err := http.NewRequestWithContext(t.Context(), rec.Request.Method, url+rec.Request.Path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range rec.Request.Headers {
				// "Name:" is how curl leaves a header out.
				if k, v, _ := strings.Cut(h, ":"); strings.TrimSpace(v) != "" {
					req.Header.Set(k, strings.TrimSpace(v))
				}
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != rec.Response.Status {
				t.Errorf("status is %d, want %d", resp.StatusCode, rec.Response.Status)
			}
			want := rec.Response.Body
			if rec.Response.JSON != nil && req.Method != http.MethodHead {
				want = string(rec.Response.JSON)
			}
			compareBody(t, name, got, want)
			wantHeaders := make(map[string]string)
			for _, h := range rec.Response.Headers {
				k, v, _ := strings.Cut(h, ": ")
				// Lengths of JSON depend on what is in it.
				if k != "Content-Length" || rec.Response.JSON == nil && req.Method != http.MethodHead {
					wantHeaders[k] = v
				}
			}
			gotHeaders := make(map[string]string)
			for k := range resp.Header {
				gotHeaders[k] = resp.Header.Get(k)
			}
			delete(gotHeaders, "Date")
			if _, ok := wantHeaders["Content-Length"]; !ok {
				delete(gotHeaders, "Content-Length")
			}
			if d := cmp.Diff(wantHeaders, gotHeaders); d != "" {
				t.Errorf("headers (-want +got):\n%s", d)
			}
		})
	}
}

// compareBody compares text exactly and JSON objects by the names of their members.
func compareBody(t *testing.T, name string, got []byte, want string) {
	t.Helper()
	var g, w map[string]any
	if json.Unmarshal([]byte(want), &w) == nil && json.Unmarshal(got, &g) == nil {
		if d := cmp.Diff(slices.Sorted(maps.Keys(w)), slices.Sorted(maps.Keys(g))); d != "" {
			t.Errorf("members of %s (-want +got):\n%s", name, d)
		}
		return
	}
	if string(bytes.TrimRight(got, "\n")) != strings.TrimRight(want, "\n") {
		t.Errorf("body is %q, want %q", got, want)
	}
}
