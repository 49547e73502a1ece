package core_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/agent/core"
	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/api/mesos/v1/executor"
)

// playAll takes a core into the middle of its life and gives it a message of the
// master and a call of an executor. What it wants kept must be possible to keep.
func playAll(t *testing.T, m *clusterdv1.MasterMessage, call *executor.Call) {
	t.Helper()
	w := newWorld()
	for _, line := range []string{
		"new", "recovered", "up", "registered", "run task=t", "run executor=e task=a", "launched container=c1",
		"subscribe executor=t", "subscribe executor=e", "update executor=t task=t state=RUNNING uuid=1",
		"operation type=reserve id=o uuid=p",
	} {
		w.line(line)
	}
	for _, in := range []core.Input{
		core.MasterMessage{Link: w.link, Message: m},
		core.Call{Request: 1, Call: call},
		core.Subscribe{Request: 2, Stream: 99, Call: call},
		core.MasterMessage{Link: w.link, Message: m},
		core.Tick{},
	} {
		if out := w.do(in); strings.Contains(out, "WRITE FAILED") {
			t.Fatalf("%s", out)
		}
	}
	describe(w.core.View())
	w.line("advance by=1h")
	if out := w.line("crash"); strings.Contains(out, "corrupt") {
		t.Fatal(out)
	}
	w.line("recovered")
}

func FuzzMessages(f *testing.F) {
	w := newWorld()
	idsOnly, _ := proto.Marshal(&executor.Call{FrameworkId: fwID("F"), ExecutorId: execID("e")})
	for _, line := range []string{
		"registered unknown=x", "registered id=../x", "refused", "refused shutdown", "run task=t", "run task=u,v group executor=e existing",
		"run executor=e task=b existing limit volume", "kill task=t", "kill task=a", "ack task=t uuid=1", "shutdown-executor executor=e",
		"shutdown-framework", "ping disconnected", "masters are=a,b", "registered cluster=C masters=a epoch=3", "operation type=create uuid=q id=2", "operation uuid=z", "ack-operation uuid=p status=s",
	} {
		cmd, a := parseArgs(line)
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(w.message(cmd, a))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, idsOnly)
	}
	for _, line := range []string{"update executor=e task=a state=FINISHED uuid=9", "message executor=t", "update executor=e task=none state=STAGING uuid=8"} {
		cmd, a := parseArgs(line)
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(w.input(cmd, a).(core.Call).Call)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte{}, b)
	}
	f.Fuzz(func(t *testing.T, message, call []byte) {
		m, c := &clusterdv1.MasterMessage{}, &executor.Call{}
		// What lacks required fields is refused before it comes to the core.
		_, _ = proto.Unmarshal(message, m), proto.Unmarshal(call, c)
		if proto.CheckInitialized(m) != nil || proto.CheckInitialized(c) != nil {
			return
		}
		playAll(t, m, c)
	})
}
