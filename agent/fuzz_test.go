package agent

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesosjson"
	"clusterd/api/recordio"
)

// medias are the ways in which a body can be sent.
var medias = []http.Header{
	{"Content-Type": {jsonType}},
	{"Content-Type": {"application/x-protobuf"}, "Accept": {"application/x-protobuf"}},
	{"Content-Type": {"application/recordio"}, "Message-Content-Type": {jsonType}},
	{"Content-Type": {"application/recordio"}, "Message-Content-Type": {"application/x-protobuf"}, "Accept": {"application/recordio"}},
	{"Content-Type": {jsonType}, "Content-Encoding": {"gzip"}},
}

// fuzzed is an agent with a running task, and the seeds that concern it.
func fuzzed(f *testing.F) (a *Agent, container string) {
	m := newScriptedMaster(f)
	h := newMachine(f, m)
	a = h.start()
	f.Cleanup(func() { h.leave(a) })
	m.waitRegistered(1)
	m.send(runTasks(framework("F"), commandTask("t", "sleep 1000")))
	m.waitState("t", "RUNNING")
	v, err := a.View(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return a, v.Frameworks[0].Executors[0].ContainerID.GetValue()
}

// refusals are those that Mesos answers with 500.
var refusals = regexp.MustCompile(`^(Unknown root container|Nested container has not terminated yet|Container .* is an executor's|.*cannot be attached to|` +
	`Failed writing to stdin: .*|Unable to send signal to container: .*)$`)

// harms says whether a body is a call that ends the task, or runs a command of the fuzzer's
// making on this machine.
func harms(body []byte, container string) bool {
	texts := [][]byte{body}
	if rec, err := recordio.NewReader(bytes.NewReader(body), 1<<20).Next(); err == nil {
		texts = append(texts, rec)
	}
	for _, b := range texts {
		for _, decode := range []func([]byte, proto.Message) error{mesosjson.Unmarshal, proto.Unmarshal} {
			c := &agentv1.Call{}
			if decode(b, c) != nil {
				continue
			}
			cc := containerCallOf(c)
			if cc != nil && (cc.cmd.GetValue() != "" || len(cc.cmd.GetUris()) > 0 ||
				strings.HasPrefix(c.GetType().String(), "KILL") && cc.id.GetValue() == container) {
				return true
			}
		}
	}
	return false
}

// throw puts a body to an API of the agent, which must answer what it can answer, and run
// its task after it.
func throw(t *testing.T, a *Agent, path string, media uint8, body []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // some calls wait for a container
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	req.Header = medias[int(media)%len(medias)].Clone()
	w := httptest.NewRecorder()
	a.server.Handler.ServeHTTP(w, req)
	if w.Code == http.StatusInternalServerError && ctx.Err() == nil && !refusals.Match(w.Body.Bytes()) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	v, err := a.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Frameworks) != 1 || len(v.Frameworks[0].Executors) != 1 {
		t.Fatalf("the task is gone: %+v", v)
	}
}

func FuzzOperatorAPI(f *testing.F) {
	a, container := fuzzed(f)
	for name := range agentv1.Call_Type_value {
		j := fmt.Sprintf(`{"type":%q}`, name)
		f.Add(uint8(0), []byte(j))
		f.Add(uint8(2), recordio.Append(nil, []byte(j)))
		full := fmt.Sprintf(`{"type":%q,%q:{"container_id":{"value":%q},"type":"CONTAINER_ID","path":"/","level":1,"duration":{"nanoseconds":1}}}`,
			name, strings.ToLower(name), container)
		f.Add(uint8(0), []byte(full))
		c := &agentv1.Call{}
		if mesosjson.Unmarshal([]byte(full), c) == nil {
			if b, err := proto.Marshal(c); err == nil {
				f.Add(uint8(1), b)
				f.Add(uint8(3), recordio.Append(nil, b))
			}
		}
	}
	for _, p := range permissions(container) {
		for _, probe := range p.probes {
			f.Add(uint8(0), []byte(probe.call))
		}
	}
	f.Add(uint8(2), []byte("18446744073709551615\n{}"))
	f.Add(uint8(0), []byte(strings.Repeat(`{"a":`, 2000)))
	f.Add(uint8(0), []byte(`{"type":"KILL_CONTAINER","kill_container":{"container_id":`+strings.Repeat(`{"value":"x","parent":`, 500)+`{"value":"x"}`+strings.Repeat(`}`, 500)+`}}`))
	f.Fuzz(func(t *testing.T, media uint8, body []byte) {
		if bytes.Contains(body, []byte("LOGGING_LEVEL")) {
			return // a level that lasts is no harm, and makes the log of this long
		}
		if harms(body, container) {
			return
		}
		throw(t, a, "/api/v1", media, body)
	})
}

func FuzzExecutorAPI(f *testing.F) {
	a, _ := fuzzed(f)
	ids := `"framework_id":{"value":"F"},"executor_id":{"value":"%s"}`
	for name := range executor.Call_Type_value {
		for _, id := range []string{"nobody", "t"} {
			j := fmt.Sprintf(`{"type":%q,`+ids+`,"subscribe":{},"message":{"data":"aGk="}}`, name, id)
			if name == "SUBSCRIBE" && id == "t" {
				continue // it would take the place of the real one
			}
			f.Add(uint8(0), []byte(j))
			c := &executor.Call{}
			if mesosjson.Unmarshal([]byte(j), c) == nil {
				if b, err := proto.Marshal(c); err == nil {
					f.Add(uint8(1), b)
				}
			}
		}
	}
	f.Add(uint8(0), []byte(`{"type":"UPDATE","framework_id":{"value":"F"},"executor_id":{"value":"nobody"},"update":{"status":{"task_id":{"value":"t"},"state":"TASK_FINISHED","source":"SOURCE_EXECUTOR","uuid":"MTIzNDU2Nzg5MDEyMzQ1Ng=="}}}`))
	f.Fuzz(func(t *testing.T, media uint8, body []byte) {
		c := &executor.Call{}
		if (proto.Unmarshal(body, c) == nil || mesosjson.Unmarshal(body, c) == nil) && c.GetExecutorId().GetValue() == "t" {
			return // who may speak for the executor may end its task
		}
		throw(t, a, "/api/v1/executor", media, body)
	})
}
