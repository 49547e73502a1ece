package core_test

import (
	"strings"
	"testing"

	"clusterd/agent/core"
	"clusterd/api/mesos/v1/executor"
)

// TestCallers: an executor that had to authenticate may speak for itself, in the container
// that runs now. What anybody else says changes nothing.
func TestCallers(t *testing.T) {
	w := newWorld()
	for _, line := range []string{
		"new", "recovered", "up", "registered", "run task=t", "launched container=c1", "subscribe executor=t",
	} {
		w.line(line)
	}
	container := w.cids["c1"]
	if container == "" {
		t.Fatal("no container")
	}
	claims := func(fw, id, cid string) *core.Caller {
		return &core.Caller{Name: "somebody", Claims: map[string]string{"fid": fw, "eid": id, "cid": cid}}
	}
	for _, c := range []struct {
		name   string
		caller *core.Caller
		status int
		text   string
	}{
		{"another framework", claims("G", "t", container), 403, "'fid' claim with the framework ID F"},
		{"another executor", claims("F", "u", container), 403, "'eid' claim with the executor ID t"},
		{"an earlier container", claims("F", "t", "c0"), 403, "'cid' claim with the correct active ContainerID"},
		{"no claims", &core.Caller{Name: "ops"}, 403, "principal 'ops'"},
		{"empty claims", claims("", "", ""), 403, "'fid'"},
		{"itself", claims("F", "t", container), 202, ""},
		{"nobody was asked", nil, 202, ""},
	} {
		before := describe(w.core.View())
		for _, in := range []core.Input{
			core.Call{Request: 77, Caller: c.caller, Call: &executor.Call{
				Type: executor.Call_MESSAGE.Enum(), FrameworkId: fwID("F"), ExecutorId: execID("t"), Message: &executor.Call_Message{Data: []byte("x")},
			}},
			core.Subscribe{Request: 77, Stream: 99, Caller: c.caller, Call: &executor.Call{
				Type: executor.Call_SUBSCRIBE.Enum(), FrameworkId: fwID("F"), ExecutorId: execID("t"), Subscribe: &executor.Call_Subscribe{},
			}},
		} {
			if _, ok := in.(core.Subscribe); ok && c.status == 202 {
				continue // would be answered by a stream
			}
			answered := false
			for _, e := range w.core.Handle(w.now, in) {
				switch e := e.(type) {
				case core.Respond:
					answered = true
					if e.Status != c.status || !strings.Contains(e.Body, c.text) {
						t.Errorf("%s: %T: got %d %q, want %d %q", c.name, in, e.Status, e.Body, c.status, c.text)
					}
				case core.Log:
				default:
					if c.status == 403 {
						t.Errorf("%s: %T has the effect %T", c.name, in, e)
					}
				}
			}
			if !answered {
				t.Errorf("%s: %T is not answered", c.name, in)
			}
		}
		if after := describe(w.core.View()); after != before {
			t.Errorf("%s: changed\n%s\nto\n%s", c.name, before, after)
		}
	}
}
