package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/flags"
)

const goldenDir = "../../shared/golden"

// shape reduces JSON to paths and types, with all elements of a list taken
// together.
func shape(v any, path string, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		into[path] = "object"
		for k, e := range v {
			shape(e, path+"."+k, into)
		}
	case []any:
		into[path] = "list"
		for _, e := range v {
			shape(e, path+"[]", into)
		}
	case string:
		into[path] = "string"
	case float64:
		into[path] = "number"
	case bool:
		into[path] = "bool"
	}
}

// difference is a member that either side does not have, and why.
type difference struct {
	file, path string // regular expressions, of the whole
	why        string
}

// differences are those from the recorded agent that are meant.
var differences = []difference{
	{`agent/(slave1_)?state|.*GET_VERSION|agent/version`, `.*\.git_(sha|branch)`, "the build of a test has no commit"},
	{`agent/flags|agent/(slave1_)?state`, `\.flags\..*`, "flags are compared where they are defined, internal/flags"},
	{`.*`, `.*\.container_id\.parent(\.value)?|.*_tasks\[\]\.executor_id(\.value)?`, "no default executor ran here"},
	{`.*state|.*GET_STATE|.*GET_EXECUTORS`, `.*\.type`, "no default executor ran here"},
	{`agent/files_debug`, `\./.*`, "names of sandboxes"},
}

// TestGolden compares every read with that of a real Mesos's agent, while a like framework
// runs and after it: status, headers, members, types, nesting. What differs is listed above.
func TestGolden(t *testing.T) {
	if _, err := os.Stat(goldenDir); err != nil {
		t.Skipf("the recorded answers of a real Mesos are not here (%s)", goldenDir)
	}
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start(func(o *Options) {
		o.Attributes = "rack:r1;level:3"
		o.Flags = []flags.Pair{{Name: "work_dir", Value: h.work}, {Name: "log_dir", Value: h.work}}
	})
	logged := filepath.Join(h.work, "log")
	if err := errors.Join(os.WriteFile(logged, []byte("hello\n"), 0o600), a.SetLogFile(logged)); err != nil {
		t.Fatal(err)
	}
	defer h.leave(a)
	m.waitRegistered(1)
	fw := framework("M-0000")
	fw.FailoverTimeout = proto.Float64(60)
	fw.Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: strp("k"), Value: strp("v")}}}
	task := commandTask("t1", "echo hi; sleep 1000")
	task.Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: strp("tk"), Value: strp("tv")}}}
	task.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: strp("FOO"), Value: strp("bar"), Type: mesos.Environment_Variable_VALUE.Enum()}}}
	task.Discovery = &mesos.DiscoveryInfo{
		Visibility: mesos.DiscoveryInfo_CLUSTER.Enum(), Name: strp("t1"),
		Ports: &mesos.Ports{Ports: []*mesos.Port{{Number: proto.Uint32(80), Name: strp("http"), Protocol: strp("tcp")}}},
	}
	m.send(runTasks(fw, task))
	m.send(runTasks(fw, commandTask("t_fail", "exit 3")))
	m.send(runTasks(fw, commandTask("t_kill", "sleep 1000")))
	m.waitState("t1", "RUNNING")
	m.waitState("t_kill", "RUNNING")
	m.send(killTask("M-0000", "t_kill"))
	m.waitState("t_fail", "FAILED")
	m.waitState("t_kill", "KILLED")
	completed := func(n int) func() bool {
		return func() bool {
			v, err := a.View(t.Context())
			if err != nil {
				return false
			}
			done := 0
			for _, fws := range [][]*core.FrameworkView{v.Frameworks, v.Completed} {
				for _, fw := range fws {
					done += len(fw.CompletedExecutors)
				}
			}
			return done == n
		}
	}
	eventually(t, "two executors are completed", completed(2))
	sandbox := fmt.Sprintf("%s/slaves/M-S0/frameworks/M-0000/executors/t1/runs/latest", h.work)
	g := goldenReads{a: a, sandbox: sandbox, used: make([]bool, len(differences))}
	g.compareAll(t, "running")
	m.send(killTask("M-0000", "t1"))
	m.waitState("t1", "KILLED")
	eventually(t, "all executors are completed", completed(3))
	a.measured.mu.Lock()
	a.measured.at = time.Time{}
	a.measured.mu.Unlock()
	g.compareAll(t, "after")
	for i, d := range differences {
		if !g.used[i] {
			t.Errorf("no longer different: %+v", d)
		}
	}
}

type goldenReads struct {
	a       *Agent
	sandbox string
	used    []bool
}

type goldenCase struct {
	Request struct {
		Method, Path string
		JSON         json.RawMessage
	}
	Response struct {
		Status  int
		Headers []string
		JSON    any
		Body    string
	}
}

func (g *goldenReads) compareAll(t *testing.T, state string) {
	var all []string
	for _, dir := range []string{"agent", "agent_api_v1"} {
		found, err := filepath.Glob(filepath.Join(goldenDir, state, dir, "*.json"))
		if err != nil || len(found) < 15 {
			t.Fatalf("only %d recorded answers in %s/%s: %v", len(found), state, dir, err)
		}
		all = append(all, found...)
	}
	// The sandbox of the recorded agent.
	recorded := regexp.MustCompile(`/var/lib/mesos-agent/slaves/[^"]*/runs/[^/"]*`)
	for _, file := range all {
		name := strings.TrimSuffix(strings.TrimPrefix(file, filepath.Join(goldenDir, state)+"/"), ".json")
		t.Run(state+"/"+name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c goldenCase
			if err := json.Unmarshal(recorded.ReplaceAll(b, []byte(g.sandbox)), &c); err != nil {
				t.Fatal(err)
			}
			// The recording left the queries out.
			c.Request.Path += map[string]string{
				"agent/files_browse_sandbox": "?path=" + g.sandbox, "agent/files_download_stdout": "?path=" + g.sandbox + "/stdout",
				"agent/files_read_offset_minus1": "?offset=-1&path=" + g.sandbox + "/stdout", "agent/files_read_stdout": "?offset=0&path=" + g.sandbox + "/stdout",
			}[name]
			g.compare(t, name, &c)
		})
	}
}

func (g *goldenReads) compare(t *testing.T, name string, c *goldenCase) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), c.Request.Method, "http://"+g.a.Addr()+c.Request.Path, strings.NewReader(string(c.Request.JSON)))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Request.JSON) > 0 {
		req.Header.Set("Content-Type", jsonType)
	}
	got := answerTo(t, req)
	if got.status != c.Response.Status {
		t.Errorf("got %d, want %d", got.status, c.Response.Status)
	}
	want := http.Header{}
	for _, h := range c.Response.Headers {
		if k, v, ok := strings.Cut(h, ": "); ok {
			want.Add(k, v)
		}
	}
	want.Set("Content-Length", got.header.Get("Content-Length")) // follows from the body
	got.header.Del("Date")
	if name == "agent/files_download_stdout" { // ours can be downloaded piece by piece
		got.header.Del("Accept-Ranges")
		got.header.Del("Last-Modified")
	}
	if d := cmp.Diff(want, got.header); d != "" {
		t.Errorf("headers (-want +got):\n%s", d)
	}
	if c.Response.JSON == nil {
		return
	}
	var mine any
	if err := json.Unmarshal([]byte(got.body), &mine); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got.body)
	}
	theirs, ours := map[string]string{}, map[string]string{}
	shape(c.Response.JSON, "", theirs)
	shape(mine, "", ours)
	paths := maps.Clone(theirs)
	maps.Copy(paths, ours)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if theirs[path] == "" && (name == "agent/metrics_snapshot" || name == "agent_api_v1/GET_METRICS") {
			continue // more metrics are welcome
		}
		if theirs[path] != ours[path] && !g.meant(name, path) {
			t.Errorf("%s: Mesos has a %q, we have a %q", path, theirs[path], ours[path])
		}
	}
}

// meant says whether a difference is listed.
func (g *goldenReads) meant(name, path string) bool {
	for i, d := range differences {
		if regexp.MustCompile("^("+d.file+")$").MatchString(name) && regexp.MustCompile("^("+d.path+")$").MatchString(path) {
			g.used[i] = true
			return true
		}
	}
	return false
}
