package core

import (
	"testing"

	"clusterd/allocator"
	mesos "clusterd/api/mesos/v1"
)

// explainAll asks step by step, one agent at a time.
func (h *harness) explainAll(framework string) map[string]allocator.Reason {
	h.t.Helper()
	out := map[string]allocator.Reason{}
	for after := ""; ; {
		h.request++
		var e *Explanation
		for _, effect := range h.core.Handle(h.now, Explain{Request: h.request, FrameworkID: framework, After: after, Limit: 1}) {
			if got, ok := effect.(Explained); ok && got.Request == h.request {
				e = got.Explanation
			}
		}
		if e == nil {
			return nil
		}
		for _, a := range e.Agents {
			if _, twice := out[a.AgentID]; twice {
				h.t.Fatalf("agent %s comes twice", a.AgentID)
			}
			out[a.AgentID] = a.Reason
		}
		if after = e.Next; after == "" {
			return out
		}
	}
}

func TestExplain(t *testing.T) {
	h, _ := audited(t)
	h.subscribe("s", refining("f", "eng"))
	f := h.core.streams["s"].id
	want := func(when string, reasons map[string]allocator.Reason) {
		t.Helper()
		got := h.explainAll(f)
		if len(got) != len(reasons) {
			t.Errorf("%s: got %v, want %v", when, got, reasons)
		}
		for id, r := range reasons {
			if got[id] != r {
				t.Errorf("%s: agent %s is %s, want %s", when, id, got[id], r)
			}
		}
	}
	want("no agents", map[string]allocator.Reason{})
	a := h.register(1, registerMessage("", "a1", "cpus:4"))
	h.launch("t1")
	h.update(a, mesos.TaskState_TASK_RUNNING)
	b := h.register(2, registerMessage("", "a2", "cpus:4"))
	got := h.explainAll(f)
	if got[b] != Offered {
		t.Errorf("agent b is %s, want %s", got[b], Offered)
	}
	h.wantAnswer(agentCall("DEACTIVATE_AGENT", b), 200, "")
	if got := h.explainAll(f); got[b] != allocator.Deactivated {
		t.Errorf("deactivated: %s", got[b])
	}
	h.wantAnswer(agentCall("DRAIN_AGENT", b), 200, "")
	if got := h.explainAll(f); got[b] != AgentDraining {
		t.Errorf("draining: %s", got[b])
	}
	h.feed(LinkClosed{Link: 1, Reason: "test"})
	if got := h.explainAll(f); got[a] != AgentDisconnected {
		t.Errorf("disconnected: %s", got[a])
	}
	if got := h.explainAll("nobody"); got != nil {
		t.Errorf("a framework that is not known: %v", got)
	}
}

// TestOffersToOthersAreExplained: who comes second hears that the first holds an offer.
func TestOffersToOthersAreExplained(t *testing.T) {
	h, _ := audited(t)
	h.subscribe("s", refining("f", "eng"))
	h.subscribe("s2", refining("g", "eng"))
	a := h.register(1, registerMessage("", "a1", "cpus:4"))
	both := map[allocator.Reason]int{}
	for _, s := range []string{"s", "s2"} {
		both[h.explainAll(h.core.streams[s].id)[a]]++
	}
	if both[Offered] != 1 || both[OfferedToOthers] != 1 {
		t.Errorf("got %v", both)
	}
}
