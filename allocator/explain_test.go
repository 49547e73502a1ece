package allocator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// Explain of the allocator that others are compared with knows nothing.
func (m *maintained) Explain(string, []string) (Explanation, bool) { return Explanation{}, false }

// TestExplainAgreesWithAllocate: what is explained to be eligible is offered when the
// framework is alone, and nothing else is, whatever the world is like.
func TestExplainAgreesWithAllocate(t *testing.T) {
	for _, kind := range worldKinds {
		t.Run(kind.name, rapid.MakeCheck(func(t *rapid.T) {
			explainWorld(kind, func(label string, n int) int {
				return rapid.IntRange(0, n-1).Draw(t, label)
			}, t.Fatalf, 10+10*rapid.IntRange(0, 4).Draw(t, "length"))
		}))
	}
}

// TestExplainSaysEverything: in many worlds each reason comes up that there can be.
func TestExplainSaysEverything(t *testing.T) {
	seen := map[Reason]int{}
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for reason, n := range explainWorld(worldKinds[3], func(_ string, n int) int { return rng.IntN(n) }, t.Fatalf, 60) {
			seen[reason] += n
		}
	}
	for _, r := range reasons {
		if seen[r] == 0 && r != NoRoles { // each framework of a world has some
			t.Errorf("%s never came up: %v", r, seen)
		}
	}
}

// explainWorld lets a world go for some steps, and then has a look at a framework on each
// agent. It returns how often each reason came up.
func explainWorld(kind worldKind, draw func(string, int) int, fail func(string, ...any), steps int) map[Reason]int {
	w := newWorld(kind, draw, fail)
	for range steps {
		w.step()
	}
	seen := map[Reason]int{}
	if len(w.frameworks) == 0 || len(w.agents) == 0 {
		return seen
	}
	framework := w.one("explained", slices.Sorted(maps.Keys(w.frameworks)))
	agents := slices.Sorted(maps.Keys(w.agents))
	for _, agent := range agents {
		h := newHierarchical(w.opts)
		for i, call := range w.calls {
			if got := call(h); got != w.said[i] {
				w.failf("call %d is different", i)
			}
			if i%7 == 0 { // it must not make a difference
				h.Explain(framework, agents)
			}
		}
		h.recount() // as a run begins: quotas are left out until then
		before := h.describe()
		e, ok := h.Explain(framework, []string{agent, "nobody"})
		if !ok || len(e.Agents) != 1 {
			w.failf("got %+v, %t", e, ok)
		}
		if after := h.describe(); after != before {
			w.failf("explaining has changed\n%s\ninto\n%s", before, after)
		}
		got := e.Agents[0]
		seen[got.Reason]++
		for _, o := range w.empty(h, framework, agent) {
			if got.Reason == AgentTooSmall && o.Role == got.Role {
				w.failf("%s is too small for %s in role %s, and when nothing is in use it is offered %v", agent, framework, got.Role, o)
			}
			if got.Unfit && !h.frameworks[framework].defers(h.agents[agent], o.Resources) {
				w.failf("%s is unfit for %s, and when nothing is in use it is offered %v, which is one of %v", agent, framework, o, e.Needs)
			}
		}
		offers := h.alone(framework, agent)
		if (len(offers) > 0) != (got.Reason == Eligible) {
			w.failf("%s on %s is %s in role %s, and alone it is offered %v", framework, agent, got.Reason, got.Role, offers)
		}
	}
	return seen
}

// empty is a run for a framework on an agent as they are, of a cluster with nothing else in it.
func (w *world) empty(h *hierarchical, framework, id string) []Offer {
	fresh := newHierarchical(w.opts)
	info := h.frameworks[framework].info
	info.Active, info.Suppressed = true, nil
	fresh.AddFramework(framework, info, nil)
	for _, l := range h.frameworks[framework].leaves {
		if l.suppressed {
			fresh.SuppressOffers(framework, []string{l.role.path})
		}
	}
	fresh.AddAgent(id, h.agents[id].info, nil)
	fresh.recount()
	return fresh.alone(framework, id)
}

// alone is a run for one framework on one agent.
func (h *hierarchical) alone(framework, id string) []Offer {
	var only []*leaf
	for _, l := range h.frameworks[framework].leaves {
		if l.active {
			only = append(only, l)
		}
	}
	a := h.agents[id]
	if len(only) == 0 || !h.offered(a) {
		return nil
	}
	var out Allocation
	v := visit{h: h, out: &out}
	tasks := []task{{agent: a, only: only}}
	v.pass(tasks, shares)
	if tasks[0].deferred {
		v.pass(tasks, deferred)
	}
	return out.Offers
}

// explained sets up an agent and a framework, lets it run, and explains.
func explained(t *testing.T, opts Options, f Framework, a Agent, then func(*hierarchical)) Explanation {
	t.Helper()
	h := newHierarchical(opts)
	h.AddAgent("a", a, nil)
	f.Active = true
	h.AddFramework("f", f, nil)
	if then != nil {
		then(h)
	}
	h.recount()
	e, ok := h.Explain("f", []string{"a"})
	if !ok || len(e.Agents) != 1 {
		t.Fatalf("got %+v, %t", e, ok)
	}
	return e
}

func TestExplainReasons(t *testing.T) {
	plain := Agent{Hostname: "h1", Total: resources.MustParse("cpus:4;mem:4096"), Active: true, MultiRole: true, HierarchicalRole: true}
	with := func(change func(*Agent)) Agent {
		a := plain
		change(&a)
		return a
	}
	eng := Framework{Roles: []string{"eng"}, MultiRole: true}
	framework := func(change func(*Framework)) Framework {
		f := eng
		change(&f)
		return f
	}
	declined := func(d time.Duration) func(*hierarchical) {
		return func(h *hierarchical) {
			offer := h.Allocate(epoch).Offers[0]
			h.RecoverResources(epoch, "f", "a", offer.Resources, &Filter{RefuseFor: d})
		}
	}
	w := newWorld(worldKinds[1], func(string, int) int { return 0 }, t.Fatalf)
	for _, row := range []struct {
		name string
		f    Framework
		a    Agent
		then func(*hierarchical)
		opts func(*Options)
		want Reason
	}{
		{name: "eligible", f: eng, a: plain, want: Eligible},
		{name: "no roles", f: framework(func(f *Framework) { f.Roles = nil }), a: plain, want: NoRoles},
		{name: "inactive", f: eng, a: plain, then: func(h *hierarchical) { h.DeactivateFramework("f") }, want: FrameworkInactive},
		{name: "suppressed", f: eng, a: plain, then: func(h *hierarchical) { h.SuppressOffers("f", nil) }, want: Suppressed},
		{name: "one of two roles suppressed", f: framework(func(f *Framework) { f.Roles = []string{"eng", "ops"} }), a: plain, then: func(h *hierarchical) {
			h.SuppressOffers("f", []string{"eng"})
		}, want: Eligible},
		{name: "deactivated", f: eng, a: with(func(a *Agent) { a.Active = false }), want: Deactivated},
		{name: "whitelist", f: eng, a: plain, then: func(h *hierarchical) { h.SetWhitelist([]string{"h2"}) }, want: NotWhitelisted},
		{name: "all in use", f: eng, a: plain, then: func(h *hierarchical) { h.Allocate(epoch) }, want: NoResources},
		{name: "reserved", f: eng, a: with(func(a *Agent) { a.Total = resources.MustParse("cpus(ops):4;mem(ops):4096") }), want: ReservedForOthers},
		{name: "refined", f: framework(func(f *Framework) { f.Roles = []string{"eng/x"} }), a: with(func(a *Agent) {
			r := resources.MustParse("cpus(eng):4;mem(eng):4096").Proto()
			for _, one := range r {
				one.Reservations = append(one.Reservations, &mesos.Resource_ReservationInfo{
					Type: mesos.Resource_ReservationInfo_DYNAMIC.Enum(), Role: new("eng/x"),
				})
			}
			a.Total = resources.MustFromProto(r)
		}), want: LacksCapability},
		{name: "old agent", f: eng, a: with(func(a *Agent) { a.MultiRole = false }), want: LacksCapability},
		{name: "agent without hierarchical roles", f: framework(func(f *Framework) { f.Roles = []string{"eng/x"} }), a: with(func(a *Agent) { a.HierarchicalRole = false }), want: LacksCapability},
		{name: "too small", f: eng, a: with(func(a *Agent) { a.Total = resources.MustParse("cpus:0.001;mem:1") }), want: AgentTooSmall},
		{name: "too small for it", f: framework(func(f *Framework) {
			f.MinAllocatable = map[string][]resources.Quantities{"eng": {resources.NewQuantities(map[string]float64{"cpus": 5})}}
		}), a: plain, want: AgentTooSmall},
		{name: "too little left", f: eng, a: plain, then: func(h *hierarchical) {
			h.RemoveAgent("a")
			h.AddFramework("g", Framework{Roles: []string{"eng"}, Active: true}, nil)
			h.AddAgent("a", plain, map[string]resources.Resources{"g": resources.MustParse("cpus:3.999;mem:4090").Allocate("eng")})
		}, want: BelowMinAllocatable},
		{name: "filter", f: eng, a: plain, then: declined(time.Hour), want: Filtered},
		{name: "filter for no time", f: eng, a: plain, then: declined(0), want: Filtered},
		{name: "gpu", f: eng, a: with(func(a *Agent) { a.Total = resources.MustParse("cpus:4;mem:4096;gpus:1") }), opts: func(o *Options) { o.FilterGPUResources = true }, want: NoGPU},
		{name: "region", f: eng, a: with(func(a *Agent) { a.Domain = testDomain("there") }), opts: func(o *Options) { o.Domain = testDomain("here") }, want: OtherRegion},
		{name: "constraints", f: framework(func(f *Framework) { f.Constraints = w.onlyHost("eng", "h2") }), a: plain, want: ConstraintsUnmet},
		{name: "limit", f: eng, a: plain, then: func(h *hierarchical) {
			h.UpdateQuota("eng", &Quota{Limits: resources.NewLimits(map[string]float64{"cpus": 0, "mem": 0})})
		}, want: QuotaLimit},
		{name: "limit above", f: framework(func(f *Framework) { f.Roles = []string{"eng/x"} }), a: plain, then: func(h *hierarchical) {
			h.UpdateQuota("eng", &Quota{Limits: resources.NewLimits(map[string]float64{"cpus": 0, "mem": 0})})
		}, want: QuotaLimit},
		{name: "limit of another", f: eng, a: plain, then: func(h *hierarchical) {
			h.UpdateQuota("ops", &Quota{Limits: resources.NewLimits(map[string]float64{"cpus": 0, "mem": 0})})
		}, want: Eligible},
		{name: "guarantees of others", f: eng, a: plain, then: func(h *hierarchical) {
			h.UpdateQuota("ops", &Quota{Guarantees: resources.NewQuantities(map[string]float64{"cpus": 4, "mem": 4096})})
		}, want: GuaranteesOfOthers},
		{name: "recovering", f: eng, a: plain, then: func(h *hierarchical) {
			h.UpdateQuota("eng", &Quota{Guarantees: resources.NewQuantities(map[string]float64{"cpus": 1})})
			h.StartRecovery()
		}, want: Recovering},
	} {
		t.Run(row.name, func(t *testing.T) {
			opts := DefaultOptions()
			if row.opts != nil {
				row.opts(&opts)
			}
			e := explained(t, opts, row.f, row.a, row.then)
			if got := e.Agents[0]; got.Reason != row.want {
				t.Errorf("got %+v, want %s; roles %+v", got, row.want, e.Roles)
			}
		})
	}
}

func TestExplainFilterEnds(t *testing.T) {
	a := Agent{Total: resources.MustParse("cpus:4;mem:4096"), Active: true, MultiRole: true}
	for _, d := range []time.Duration{0, time.Hour} {
		e := explained(t, DefaultOptions(), Framework{Roles: []string{"eng"}}, a, func(h *hierarchical) {
			h.RecoverResources(epoch, "f", "a", h.Allocate(epoch).Offers[0].Resources, &Filter{RefuseFor: d})
		})
		want := time.Time{}
		if d > 0 {
			want = epoch.Add(d)
		}
		if got := e.Agents[0].Until; !got.Equal(want) {
			t.Errorf("a filter for %s ends at %s, want %s", d, got, want)
		}
	}
}

func TestExplainNeeds(t *testing.T) {
	a := Agent{Total: resources.MustParse("cpus:4;mem:4096"), Active: true, MultiRole: true}
	ask := func(agent string, amounts ...string) func(*hierarchical) {
		return func(h *hierarchical) {
			var all []*mesos.Request
			for _, text := range amounts {
				r := &mesos.Request{Resources: resources.MustParse(text).Proto()}
				if agent != "" {
					r.AgentId = &mesos.AgentID{Value: &agent}
				}
				all = append(all, r)
			}
			h.RequestResources("f", all)
		}
	}
	for _, row := range []struct {
		name  string
		then  func(*hierarchical)
		needs int
		unfit bool
	}{
		{name: "nothing asked for"},
		{name: "as much as there is", then: ask("", "cpus:4"), needs: 1},
		{name: "in use is no matter", then: func(h *hierarchical) { h.Allocate(epoch); ask("", "cpus:4")(h) }, needs: 1},
		{name: "more than there is", then: ask("", "cpus:5"), needs: 1, unfit: true},
		{name: "one of two", then: ask("", "cpus:5", "mem:10"), needs: 2},
		{name: "of another agent", then: ask("b", "cpus:1"), needs: 1, unfit: true},
	} {
		e := explained(t, DefaultOptions(), Framework{Roles: []string{"eng"}}, a, row.then)
		if len(e.Needs) != row.needs || e.Agents[0].Unfit != row.unfit {
			t.Errorf("%s: got %v, unfit %t, want %d and %t", row.name, e.Needs, e.Agents[0].Unfit, row.needs, row.unfit)
		}
	}
}

func TestExplainRoles(t *testing.T) {
	a := Agent{Total: resources.MustParse("cpus:10;mem:1000"), Active: true, MultiRole: true, HierarchicalRole: true}
	e := explained(t, DefaultOptions(), Framework{Roles: []string{"eng/x", "ops"}, Suppressed: []string{"ops"}}, a, func(h *hierarchical) {
		h.UpdateWeights(map[string]float64{"eng/x": 3})
		h.UpdateQuota("eng", &Quota{
			Guarantees: resources.NewQuantities(map[string]float64{"cpus": 2}), Limits: resources.NewLimits(map[string]float64{"cpus": 5}),
		})
		h.Allocate(epoch)
	})
	if len(e.Roles) != 2 || !e.Active {
		t.Fatalf("got %+v", e)
	}
	x, ops := e.Roles[0], e.Roles[1]
	if x.Role != "eng/x" || x.Suppressed || x.Weight != 3 || x.Share != 1 || x.FrameworkShare != 1 {
		t.Errorf("got %+v, want all of the memory", x)
	}
	q := x.Quota
	if q == nil || q.Role != "eng" || q.Guarantee["cpus"] != 2 || q.Limit["cpus"] != 5 || q.Consumed["cpus"] != 5 {
		t.Errorf("got quota %+v", q)
	}
	if fmt.Sprint(x.LimitedBy) != "[eng]" || len(ops.LimitedBy) > 0 || !ops.Suppressed || ops.Quota != nil {
		t.Errorf("limited by %v; the other role: %+v", x.LimitedBy, ops)
	}
	if _, ok := newHierarchical(DefaultOptions()).Explain("nobody", nil); ok {
		t.Error("a framework that is not known is explained")
	}
}

// BenchmarkExplain is of one framework on 500 agents, which is what the core does at a time.
func BenchmarkExplain(b *testing.B) {
	h := newHierarchical(DefaultOptions())
	var ids []string
	for i := range 500 {
		id := fmt.Sprintf("a%d", i)
		ids = append(ids, id)
		h.AddAgent(id, Agent{Hostname: id, Total: resources.MustParse("cpus:64;mem:262144;disk:1000000;ports:[31000-32000]"), Active: true, MultiRole: true, HierarchicalRole: true}, nil)
	}
	h.AddFramework("f", Framework{Roles: []string{"a", "b"}, Active: true, MultiRole: true}, nil)
	h.UpdateQuota("a", &Quota{Limits: resources.NewLimits(map[string]float64{"cpus": 10})})
	for _, o := range h.Allocate(epoch).Offers {
		h.RecoverResources(epoch, "f", o.AgentID, o.Resources, &Filter{RefuseFor: time.Hour})
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Explain("f", ids)
	}
}
