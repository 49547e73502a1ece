package sim

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	agentcore "clusterd/agent/core"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/server/core"
)

func unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }

func suppress() *scheduler.Call { return &scheduler.Call{Type: scheduler.Call_SUPPRESS.Enum()} }

// text is a message for a reader.
func text(m proto.Message) string {
	b, err := mesosjson.Marshal(m)
	if err != nil {
		return err.Error()
	}
	if len(b) > 600 {
		b = append(b[:600:600], "..."...)
	}
	return string(b)
}

// traceInput writes down what a master's core was told and what it did.
func (t *term) traceInput(in core.Input, effects []core.Effect) {
	if _, tick := in.(core.Tick); tick && len(effects) == 0 {
		return
	}
	var what string
	switch in := in.(type) {
	case core.Subscribe:
		what = "SUBSCRIBE " + text(in.Call)
	case core.Call:
		what = "call " + text(in.Call)
	case core.Operate:
		what = "operate " + text(in.Call)
	case core.AgentMessage:
		what = fmt.Sprintf("link %d: %s", in.Link, text(in.Message))
	default:
		what = fmt.Sprintf("%T %+v", in, in)
	}
	t.m.w.note("m%d <- %s", t.m.id, what)
	for _, e := range effects {
		switch e := e.(type) {
		case core.Count:
		case core.Log:
			t.m.w.note("m%d    log %s %s", t.m.id, e.Event, strings.Join(e.Fields, " "))
		case core.SendEvent:
			t.m.w.note("m%d -> stream %s %s", t.m.id, e.StreamID, text(e.Event))
		case core.SendAgent:
			t.m.w.note("m%d -> link %d %s", t.m.id, e.Link, text(e.Message))
		case core.Propose:
			for _, c := range e.Commands {
				t.m.w.note("m%d -> propose %d %s", t.m.id, e.Proposal, c.GetKind())
			}
		default:
			t.m.w.note("m%d -> %T %+v", t.m.id, e, e)
		}
	}
}

// traceInput writes down what an agent's core was told and what it did.
func (a *agent) traceInput(in agentcore.Input, effects []agentcore.Effect) {
	if _, tick := in.(agentcore.Tick); tick && len(effects) == 0 {
		return
	}
	var what string
	switch in := in.(type) {
	case agentcore.MasterMessage:
		what = fmt.Sprintf("link %d: %s", in.Link, text(in.Message))
	case agentcore.Subscribe:
		what = fmt.Sprintf("SUBSCRIBE stream %d %s", in.Stream, text(in.Call))
	case agentcore.Call:
		what = "call " + text(in.Call)
	default:
		what = fmt.Sprintf("%T %+v", in, in)
	}
	a.w.note("a%d <- %s", a.m.index, what)
	for _, e := range effects {
		switch e := e.(type) {
		case agentcore.Count, agentcore.AttachFiles, agentcore.CollectSandbox:
		case agentcore.Log:
			a.w.note("a%d    log %s %s", a.m.index, e.Event, strings.Join(e.Fields, " "))
		case agentcore.SendMaster:
			a.w.note("a%d -> link %d %s", a.m.index, e.Link, text(e.Message))
		case agentcore.SendExecutor:
			a.w.note("a%d -> stream %d %s", a.m.index, e.Stream, text(e.Event))
		case agentcore.Persist:
			a.w.note("a%d -> persist %T", a.m.index, e.Record)
		default:
			a.w.note("a%d -> %T", a.m.index, e)
		}
	}
}
