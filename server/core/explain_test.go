package core

import (
	"fmt"
	"testing"
	"time"

	"clusterd/allocator"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
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

// TestRefusalsAreExplained: the largest of what a framework declines is remembered, by whatever
// call it does so, until it launches something, revives offers or subscribes anew.
func TestRefusalsAreExplained(t *testing.T) {
	h, _ := audited(t)
	h.subscribe("s", refining("f", "eng"))
	f := h.core.streams["s"].id
	small := h.register(1, registerMessage("", "a1", "cpus:2;mem:4096"))
	large := h.register(2, registerMessage("", "a2", "cpus:8;mem:1024"))
	look := func() *Explanation {
		t.Helper()
		h.request++
		for _, effect := range h.core.Handle(h.now, Explain{Request: h.request, FrameworkID: f, Limit: 10}) {
			if got, ok := effect.(Explained); ok && got.Request == h.request {
				return got.Explanation
			}
		}
		t.Fatal("nothing is explained")
		return nil
	}
	want := func(when string, offers, larger int, largest, agent string, whole bool) {
		t.Helper()
		e := look()
		r := e.Refused
		text := ""
		if r.Offers > 0 {
			text = r.Largest.String()
		}
		if r.Offers != offers || e.Larger != larger || text != largest || r.AgentID != agent || r.Whole != whole {
			t.Errorf("%s: got %+v (%s), %d agents larger, want %d offers, %s of %s, whole %t, %d larger", when, r, text, e.Larger, offers, largest, agent, whole, larger)
		}
	}
	// answer declines the newest offer of an agent, or accepts it for nothing.
	answer := func(agent string, accept bool) {
		t.Helper()
		var o *mesos.Offer
		for _, one := range h.offers() {
			if one.AgentId.GetValue() == agent {
				o = one
			}
		}
		if o == nil {
			t.Fatalf("no offer of %s", agent)
		}
		ids, filters := []*mesos.OfferID{o.Id}, &mesos.Filters{RefuseSeconds: new(0.0)}
		call := &scheduler.Call{FrameworkId: o.FrameworkId, Type: scheduler.Call_DECLINE.Enum(), Decline: &scheduler.Call_Decline{OfferIds: ids, Filters: filters}}
		if accept {
			call = &scheduler.Call{FrameworkId: o.FrameworkId, Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
				OfferIds: ids, Filters: filters, Operations: []*mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{}}},
			}}
		}
		h.call("s", call)
		h.advance(2 * time.Second) // and it is offered anew
	}
	want("nothing was declined", 0, 0, "", "", false)
	since := h.now
	answer(small, true)
	want("the small one is used for nothing", 1, 1, "cpus:2; mem:4096", small, true)
	answer(large, false)
	want("the large one is declined", 2, 1, "cpus:8; mem:1024", large, true)
	answer(small, false)
	want("the small one once more", 3, 1, "cpus:8; mem:1024", large, true)
	if got := look().Refused.Since; !got.Equal(since) {
		t.Errorf("it declines since %s, want %s", got, since)
	}
	h.launch("t1") // on the agent that was offered last
	want("it launched something", 0, 0, "", "", false)
	h.advance(10 * time.Second) // the filters of what was not used
	var left string
	for _, id := range []string{small, large} {
		if len(h.core.agent(id).cells) > 0 {
			left = id
		}
	}
	if left == "" {
		t.Fatal("no task was launched")
	}
	answer(left, false)
	if r := look().Refused; r.Offers != 1 || r.Whole {
		t.Errorf("what is left beside a task was declined: got %+v, want that it is not all of the agent", r)
	}
	h.call("s", &scheduler.Call{Type: scheduler.Call_REVIVE.Enum(), FrameworkId: &mesos.FrameworkID{Value: &f}})
	want("it revived offers", 0, 0, "", "", false)
	h.advance(10 * time.Second) // the filters of what was not used
	answer(left, false)
	if r := look().Refused; r.Offers != 1 {
		t.Errorf("got %s, want one refusal", fmt.Sprint(r))
	}
	info := refining("f", "eng")
	info.Id = &mesos.FrameworkID{Value: &f}
	h.subscribe("s2", info)
	want("it subscribed anew", 0, 0, "", "", false)
}
