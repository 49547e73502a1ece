package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/flags"
)

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

// TestGoldenReads compares the members of every read with those of a real Mesos's
// agent that ran a like task.
func TestGoldenReads(t *testing.T) {
	if _, err := os.Stat("../../shared/golden/running/agent"); err != nil {
		t.Skip("the recorded answers of a real Mesos (../shared/golden) are not here")
	}
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start(func(o *Options) {
		o.Attributes = "rack:r1;level:3"
		o.Flags = []flags.Pair{{Name: "work_dir", Value: h.work}}
	})
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
	m.waitState("t1", "RUNNING")
	m.waitState("t_fail", "FAILED")
	eventually(t, "t_fail is completed", func() bool {
		v, err := a.View(t.Context())
		return err == nil && len(v.Frameworks) == 1 && len(v.Frameworks[0].CompletedExecutors) == 1
	})
	sandbox := fmt.Sprintf("%s/slaves/M-S0/frameworks/M-0000/executors/t1/runs/latest", h.work)

	// What Mesos shows and this agent has no reason to: builds without a commit,
	// a log file, default executors, flags of its own.
	ignore := []string{".git_", ".log_dir", ".flags.", "executor_pid", "type", ".parent", "nested", "[].mode", "arguments", ".disk", "cgroup", "launched_tasks[].executor_id"}
	for _, c := range []struct{ file, method, path, body string }{
		{"agent/state", "GET", "/state", ""},
		{"agent/slave1_state", "GET", "/slave(1)/state", ""},
		{"agent/containers", "GET", "/containers", ""},
		{"agent/monitor_statistics", "GET", "/monitor/statistics", ""},
		{"agent/containerizer_debug", "GET", "/containerizer/debug", ""},
		{"agent/version", "GET", "/version", ""},
		{"agent/metrics_snapshot", "GET", "/metrics/snapshot", ""},
		{"agent/files_browse_sandbox", "GET", "/files/browse?path=" + sandbox, ""},
		{"agent/files_read_stdout", "GET", "/files/read?path=" + sandbox + "/stdout&offset=0", ""},
		{"agent_api_v1/GET_STATE", "POST", "/api/v1", `{"type":"GET_STATE"}`},
		{"agent_api_v1/GET_TASKS", "POST", "/api/v1", `{"type":"GET_TASKS"}`},
		{"agent_api_v1/GET_EXECUTORS", "POST", "/api/v1", `{"type":"GET_EXECUTORS"}`},
		{"agent_api_v1/GET_FRAMEWORKS", "POST", "/api/v1", `{"type":"GET_FRAMEWORKS"}`},
		{"agent_api_v1/GET_CONTAINERS", "POST", "/api/v1", `{"type":"GET_CONTAINERS","get_containers":{}}`},
		{"agent_api_v1/GET_AGENT", "POST", "/api/v1", `{"type":"GET_AGENT"}`},
		{"agent_api_v1/GET_HEALTH", "POST", "/api/v1", `{"type":"GET_HEALTH"}`},
		{"agent_api_v1/GET_VERSION", "POST", "/api/v1", `{"type":"GET_VERSION"}`},
		{"agent_api_v1/GET_METRICS", "POST", "/api/v1", `{"type":"GET_METRICS","get_metrics":{}}`},
		{"agent_api_v1/GET_FLAGS", "POST", "/api/v1", `{"type":"GET_FLAGS"}`},
		{"agent_api_v1/GET_OPERATIONS", "POST", "/api/v1", `{"type":"GET_OPERATIONS"}`},
		{"agent_api_v1/GET_RESOURCE_PROVIDERS", "POST", "/api/v1", `{"type":"GET_RESOURCE_PROVIDERS"}`},
		{"agent_api_v1/GET_LOGGING_LEVEL", "POST", "/api/v1", `{"type":"GET_LOGGING_LEVEL"}`},
		{"agent_api_v1/LIST_FILES", "POST", "/api/v1", `{"type":"LIST_FILES","list_files":{"path":"` + sandbox + `"}}`},
		{"agent_api_v1/READ_FILE", "POST", "/api/v1", `{"type":"READ_FILE","read_file":{"path":"` + sandbox + `/stdout","offset":0}}`},
	} {
		t.Run(c.file, func(t *testing.T) {
			data, err := os.ReadFile("../../shared/golden/running/" + c.file + ".json")
			if err != nil {
				t.Skip(err)
			}
			var golden struct {
				Response struct {
					Status int
					JSON   any
				}
			}
			if err := json.Unmarshal(data, &golden); err != nil {
				t.Fatal(err)
			}
			contentType := ""
			if c.body != "" {
				contentType = jsonType
			}
			status, gotType, body := request(t, a, c.method, c.path, contentType, c.body)
			if status != golden.Response.Status || gotType != jsonType {
				t.Fatalf("got %d %s %s, want %d", status, gotType, body, golden.Response.Status)
			}
			var mine any
			if err := json.Unmarshal([]byte(body), &mine); err != nil {
				t.Fatalf("not JSON: %v\n%s", err, body)
			}
			want, got := map[string]string{}, map[string]string{}
			shape(golden.Response.JSON, "", want)
			shape(mine, "", got)
			var bad []string
			for p, kind := range want {
				if got[p] != kind && !slices.ContainsFunc(ignore, func(i string) bool { return strings.Contains(p, i) }) {
					bad = append(bad, fmt.Sprintf("%s: Mesos has a %s, we %q", p, kind, got[p]))
				}
			}
			for p := range got {
				if want[p] == "" && !slices.ContainsFunc(ignore, func(i string) bool { return strings.Contains(p, i) }) {
					bad = append(bad, fmt.Sprintf("%s: Mesos has none", p))
				}
			}
			sort.Strings(bad)
			if len(bad) > 0 {
				t.Errorf("%s\n%s", strings.Join(bad, "\n"), body)
			}
		})
	}
}
