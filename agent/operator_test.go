package agent

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesosjson"
	"clusterd/internal/httpapi"
)

// TestOperatorCalls are those that do more than read the agent's state.
func TestOperatorCalls(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	verbosity := httpapi.NewVerbosity(0)
	a := h.start(func(o *Options) { o.Verbosity = verbosity })
	defer h.leave(a)
	m.waitRegistered(1)
	m.send(runTasks(framework("M-0000"), commandTask("t", "echo so long; sleep 1000")))
	m.waitState("t", "RUNNING")
	call := func(body string, want int) *agentv1.Response {
		t.Helper()
		status, _, got := request(t, a, "POST", "/api/v1", jsonType, body)
		if status != want {
			t.Fatalf("%s: got %d %q, want %d", body, status, got, want)
		}
		res := &agentv1.Response{}
		if status == 200 && got != "" {
			if err := mesosjson.Unmarshal([]byte(got), res); err != nil {
				t.Fatal(err)
			}
		}
		return res
	}
	sandbox := "/frameworks/M-0000/executors/t/runs/latest"
	var names []string
	for _, f := range call(`{"type":"LIST_FILES","list_files":{"path":"`+sandbox+`"}}`, 200).GetListFiles().GetFileInfos() {
		names = append(names, filepath.Base(f.GetPath()))
	}
	if d := cmp.Diff([]string{"stderr", "stdout"}, names); d != "" {
		t.Errorf("LIST_FILES (-want +got):\n%s", d)
	}
	eventually(t, "output can be read", func() bool {
		res := call(`{"type":"READ_FILE","read_file":{"path":"`+sandbox+`/stdout","offset":3,"length":4}}`, 200)
		return string(res.GetReadFile().GetData()) == "long"
	})
	call(`{"type":"LIST_FILES","list_files":{"path":"/etc"}}`, 404)

	call(`{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":3,"duration":{"nanoseconds":60000000000}}}`, 200)
	if got := verbosity.Level(); got != 3 {
		t.Errorf("level is %d, want 3", got)
	}
	if got := call(`{"type":"GET_LOGGING_LEVEL"}`, 200).GetGetLoggingLevel().GetLevel(); got != 3 {
		t.Errorf("GET_LOGGING_LEVEL: got %d, want 3", got)
	}
	if err := verbosity.Set(0, 0); err != nil {
		t.Error(err)
	}

	call(`{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"nosuch"}}}`, 404)
	call(`{"type":"ATTACH_CONTAINER_OUTPUT","attach_container_output":{"container_id":{"value":"nosuch"}}}`, 404)
	containers := call(`{"type":"GET_CONTAINERS","get_containers":{}}`, 200).GetGetContainers().GetContainers()
	if len(containers) != 1 {
		t.Fatalf("got %d containers, want 1", len(containers))
	}
	ended := make(chan string, 1)
	go func() {
		_, _, body := request(t, a, "POST", "/api/v1", jsonType,
			`{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"`+containers[0].GetContainerId().GetValue()+`"}}}`)
		ended <- body
	}()
	m.send(killTask("M-0000", "t"))
	select {
	case body := <-ended:
		if !strings.HasPrefix(body, `{"type":"WAIT_CONTAINER","wait_container":{`) {
			t.Errorf("WAIT_CONTAINER: got %s", body)
		}
	case <-time.After(patience):
		t.Fatal("WAIT_CONTAINER does not end with the container")
	}
}
