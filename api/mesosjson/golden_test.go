package mesosjson_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
)

const golden = "../../../shared/golden"

// needGolden skips the test where the recorded answers are not there.
func needGolden(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(golden); err != nil {
		t.Skipf("no recorded answers of Mesos: %v", err)
	}
}

// sameJSON decodes text into m and checks that m encodes to the same values.
func sameJSON(t *testing.T, text []byte, m proto.Message) {
	t.Helper()
	if err := mesosjson.Unmarshal(text, m); err != nil {
		t.Fatalf("Unmarshal %.200s: %v", text, err)
	}
	got, err := mesosjson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	want := values(t, text)
	dropCheckpoint(want)
	if diff := cmp.Diff(want, values(t, got)); diff != "" {
		t.Errorf("JSON values differ (-Mesos +clusterd):\n%s", diff)
	}
}

// sameText checks that m encodes to text byte for byte, white space aside.
func sameText(t *testing.T, text []byte, m proto.Message) {
	t.Helper()
	var want bytes.Buffer
	if err := json.Compact(&want, text); err != nil {
		t.Fatal(err)
	}
	got, err := mesosjson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("got  %s\nwant %s", got, want.Bytes())
	}
}

// dropCheckpoint takes out of every agent_info the member "checkpoint", a field
// of the v0 message that the v1 contract does not have: Mesos writes some
// answers straight from its v0 messages.
func dropCheckpoint(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			dropCheckpoint(e)
		}
	case map[string]any:
		for k, e := range v {
			if info, ok := e.(map[string]any); ok && k == "agent_info" {
				delete(info, "checkpoint")
			}
			dropCheckpoint(e)
		}
	}
}

// values parses JSON, keeping numbers as they are written: 1 and 1.0 differ.
func values(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
	return v
}

func TestGoldenStreams(t *testing.T) {
	needGolden(t)
	streams := map[string]func() proto.Message{
		"scheduler_subscribe.events.jsonl": func() proto.Message { return &scheduler.Event{} },
		"operator_subscribe.events.jsonl":  func() proto.Message { return &master.Event{} },
	}
	for name, fresh := range streams {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(golden, "streams", name))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for line := range bytes.Lines(data) {
				m := fresh()
				sameJSON(t, line, m)
				sameText(t, line, m)
				n++
			}
			if n < 10 {
				t.Errorf("got only %d events", n)
			}
		})
	}
}

// recorded is one file of the recorded answers.
type recorded struct {
	Request struct {
		To   string          `json:"to"`
		Path string          `json:"path"`
		JSON json.RawMessage `json:"json"`
	} `json:"request"`
	Response struct {
		Status int             `json:"status"`
		JSON   json.RawMessage `json:"json"`
		Body   string          `json:"body"`
	} `json:"response"`
}

func readRecorded(t *testing.T, glob string) map[string]recorded {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(golden, glob))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: got %d files, %v", glob, len(files), err)
	}
	all := map[string]recorded{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var r recorded
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[filepath.Base(f)] = r
	}
	return all
}

func TestGoldenResponses(t *testing.T) {
	needGolden(t)
	for glob, fresh := range map[string]func() proto.Message{
		"running/master_api_v1/*.json": func() proto.Message { return &master.Response{} },
		"running/agent_api_v1/*.json":  func() proto.Message { return &agent.Response{} },
		"after/master_api_v1/*.json":   func() proto.Message { return &master.Response{} },
		"after/agent_api_v1/*.json":    func() proto.Message { return &agent.Response{} },
	} {
		for name, r := range readRecorded(t, glob) {
			t.Run(glob[:strings.LastIndex(glob, "/")]+"/"+name, func(t *testing.T) {
				if r.Response.Status != 200 || r.Response.JSON == nil {
					t.Skipf("no JSON: status %d", r.Response.Status)
				}
				sameJSON(t, r.Response.JSON, fresh())
			})
		}
	}
}

func TestGoldenSchedulerCalls(t *testing.T) {
	needGolden(t)
	for name, r := range readRecorded(t, "streams/scheduler_calls/*.json") {
		if r.Request.JSON == nil {
			t.Errorf("%s: no call", name)
			continue
		}
		call := &scheduler.Call{}
		if err := mesosjson.Unmarshal(r.Request.JSON, call); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if call.GetType() == scheduler.Call_UNKNOWN {
			t.Errorf("%s: no type", name)
		}
	}
}

func TestGoldenErrors(t *testing.T) {
	needGolden(t)
	const prefix = "Failed to convert JSON into Call protobuf: "
	n := 0
	for name, r := range readRecorded(t, "errors/*.json") {
		want, ok := strings.CutPrefix(r.Response.Body, prefix)
		if !ok {
			continue
		}
		n++
		var m proto.Message
		switch r.Request.Path {
		case "/api/v1/scheduler":
			m = &scheduler.Call{}
		case "/api/v1/executor", "/slave(1)/api/v1/executor":
			m = &executor.Call{}
		default:
			t.Fatalf("%s: path %s", name, r.Request.Path)
		}
		if err := mesosjson.Unmarshal(r.Request.JSON, m); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	if n < 3 {
		t.Errorf("got only %d answers that begin with %q", n, prefix)
	}
}
