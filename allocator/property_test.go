package allocator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// What must hold of the allocator whatever happens. Other than in rapid_test.go
// there is no second allocator: each offer is judged by what the world has told
// the allocator before.

var worldKinds = []worldKind{
	{name: "plain", plain: true},
	{name: "all"},
	{name: "quotas", quotas: true},
	{name: "wild", quotas: true, wild: true},
}

func TestProperties(t *testing.T) {
	for _, kind := range worldKinds {
		t.Run(kind.name, rapid.MakeCheck(func(t *rapid.T) {
			w := newWorld(kind, func(label string, n int) int {
				return rapid.IntRange(0, n-1).Draw(t, label)
			}, t.Fatalf)
			for range 20 + 20*rapid.IntRange(0, 4).Draw(t, "length") {
				w.step()
			}
			w.replay()
		}))
	}
}

// TestPropertiesLong is one history of thousands of steps of each kind.
func TestPropertiesLong(t *testing.T) {
	for _, kind := range worldKinds {
		t.Run(kind.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			step := 0
			w := newWorld(kind, func(_ string, n int) int { return rng.IntN(n) }, func(format string, args ...any) {
				t.Helper()
				t.Fatalf("step %d: "+format, append([]any{step}, args...)...)
			})
			offers := 0
			for step = range 3000 {
				w.step()
			}
			for _, out := range w.said {
				offers += strings.Count(out, "\n")
			}
			if offers < 500 {
				t.Errorf("only %d offers in 3000 steps", offers)
			}
			w.replay()
		})
	}
}

// replay does all once more: the same offers come, byte for byte.
func (w *world) replay() {
	a := New(w.opts)
	for i, call := range w.calls {
		if got := call(a); got != w.said[i] {
			w.failf("call %d of the same history: got\n%s\nand before\n%s", i, got, w.said[i])
		}
	}
}

func (w *world) run() { w.settle(false) }

func (w *world) runAll() { w.settle(true) }

// settle allocates, and now and then once more: nothing has happened, so nothing
// comes of it.
func (w *world) settle(all bool) {
	w.allocate(all)
	if w.chance(3) && w.allocate(false) > 0 {
		w.failf("offers out of nothing")
	}
}

// allocate checks what comes of a run and returns how many offers there are.
func (w *world) allocate(all bool) int {
	w.dropFilters(func(x worldFilter) bool {
		return x.expires.IsZero() && all || !x.expires.IsZero() && !x.expires.After(w.now)
	})
	now := w.now
	var got Allocation
	out := w.ask(fmt.Sprintf("allocate at %s, all %t", now.Sub(epoch), all), func(a Allocator) string {
		if all {
			got = a.AllocateAll(now)
		} else {
			got = a.Allocate(now)
		}
		return describe(got)
	})
	seen := map[worldHold]bool{}
	for _, o := range got.Offers {
		h := worldHold{o.FrameworkID, o.Role, o.AgentID}
		if seen[h] {
			w.failf("two offers for %v in a run:\n%s", h, out)
		}
		seen[h] = true
		w.checkOffer(h, o.Resources)
		r := o.Resources.Unallocate()
		w.checkFree(h, r)
		if w.kind.plain {
			w.checkOrder(h, r)
		}
		if !w.kind.wild {
			w.checkPrecedence(h, r)
		}
		before := w.shortages()
		w.held[h] = w.held[h].Add(r)
		clear(w.counted)
		w.checkLimits(h, r)
		if !w.kind.wild {
			w.checkShortages(h, r, before)
		}
	}
	w.checkNothingMissed()
	if !w.kind.wild {
		w.checkGuarantees()
	}
	return len(got.Offers)
}

func chargeableScalar(it resources.Item) bool {
	return it.Type() == mesos.Value_SCALAR && !it.Reserved() && !it.Revocable()
}

// within reports whether a role is another or below it. All are below "".
func within(role, of string) bool {
	return of == "" || role == of || strings.HasPrefix(role, of+"/")
}

// checkOffer: who is suppressed, inactive, not capable, or refused it gets
// nothing, and what is offered is for that role and framework.
func (w *world) checkOffer(h worldHold, r resources.Resources) {
	f, a := w.frameworks[h.framework], w.agents[h.agent]
	if f == nil || a == nil || !w.eligible(h.framework, h.role) || !w.reachable(h.framework, h.role, h.agent) {
		w.failf("offer to %v, which may have none: %+v, agent %+v", h, f, a)
	}
	for i := range r.Len() {
		it := r.At(i)
		if it.Role() != h.role || it.Reserved() && !within(h.role, it.ReservationRole()) ||
			it.Shared() && !f.Shared || it.Revocable() && !f.Revocable || it.Refined() && !f.ReservationRefinement {
			w.failf("%v is offered %s", h, it)
		}
		if w.recovering && w.bound(h.role) && chargeableScalar(it) {
			w.failf("%v is offered %s during recovery", h, it)
		}
	}
	if !w.enough(f, h.role, r) {
		w.failf("%v is offered too little: %s", h, r)
	}
	if w.refused(h, r.Unallocate()) {
		w.failf("%v is offered %s, which it refused", h, r)
	}
}

// bound reports whether a quota binds the role.
func (w *world) bound(role string) bool {
	for q := range w.quotas {
		if within(role, q) {
			return true
		}
	}
	return false
}

// eligible reports whether a framework may be offered anything in a role.
func (w *world) eligible(framework, role string) bool {
	f := w.frameworks[framework]
	return f.Active && slices.Contains(f.Roles, role) && !slices.Contains(f.Suppressed, role)
}

// reachable reports whether it may be offered anything of the agent.
func (w *world) reachable(framework, role, agent string) bool {
	f, a := w.frameworks[framework], w.agents[agent]
	return w.offered(a) &&
		(a.Domain == nil || a.Domain.GetFaultDomain().GetRegion().GetName() == "here" || f.RegionAware) &&
		(a.Total.Get("gpus").Empty() || f.GPU) && (a.MultiRole || !f.MultiRole) &&
		(a.HierarchicalRole || !strings.Contains(role, "/")) &&
		(w.wants[framework] != role || a.Hostname == "h1")
}

// offered reports whether an agent is offered at all.
func (w *world) offered(a *Agent) bool {
	return a.Active && (w.whitelist == nil || slices.Contains(w.whitelist, a.Hostname))
}

func (w *world) enough(f *Framework, role string, r resources.Resources) bool {
	minimums, ok := f.MinAllocatable[role]
	if !ok {
		minimums = w.opts.MinAllocatable
	}
	return !r.Empty() && (len(minimums) == 0 || slices.ContainsFunc(minimums, r.ContainsQuantities))
}

func (w *world) refused(h worldHold, r resources.Resources) bool {
	return slices.ContainsFunc(w.filters, func(x worldFilter) bool {
		return x.worldHold == h && x.refused.Contains(r)
	})
}

// free is what no one has, but for shared resources.
func (w *world) free(agent string) resources.Resources {
	r := w.agents[agent].Total.NonShared()
	for h, held := range w.held {
		if h.agent == agent {
			r = r.Sub(held.NonShared())
		}
	}
	return r
}

// checkFree: nothing is given twice, or that is not there.
func (w *world) checkFree(h worldHold, r resources.Resources) {
	if !w.free(h.agent).Contains(r.NonShared()) || !w.agents[h.agent].Total.Contains(r.Shared()) {
		w.failf("%v is offered %s: of %s free are %s", h, r, w.agents[h.agent].Total, w.free(h.agent))
	}
}

// consumed is what counts towards the quota of a role: what is held in it or
// below it and not reserved, and all that is reserved for it or below it.
func (w *world) consumed(role, name string) int64 {
	key := [2]string{role, name}
	if sum, ok := w.counted[key]; ok {
		return sum
	}
	var sum int64
	for h, r := range w.held {
		if within(h.role, role) {
			sum += r.Filter(chargeableScalar).Scalar(name)
		}
	}
	for _, a := range w.agents {
		sum += a.Total.Filter(func(it resources.Item) bool {
			return it.Reserved() && within(it.ReservationRole(), role)
		}).Scalar(name)
	}
	w.counted[key] = sum
	return sum
}

// checkLimits: after an offer no limit is passed in what it consists of, at any
// level. That more is held than a limit says comes only of what was there before.
func (w *world) checkLimits(h worldHold, r resources.Resources) {
	for role, q := range w.quotas {
		if !within(h.role, role) {
			continue
		}
		for i := range q.Limits.Len() {
			l := q.Limits.At(i)
			if r.Filter(chargeableScalar).Scalar(l.Name) > 0 && w.consumed(role, l.Name) > l.Milli {
				w.failf("%v is offered %s: of %s role %s now has %d, more than its limit %d",
					h, r, l.Name, role, w.consumed(role, l.Name), l.Milli)
			}
		}
	}
}

// need is what a role, or those below it, still lack of their guarantees, as far
// as the role's limit allows it.
func (w *world) need(role, name string) int64 {
	below := w.needBelow(role, "", name)
	if role == "" {
		return below
	}
	q, consumed := w.quotas[role], w.consumed(role, name)
	need := max(below, q.Guarantees.Get(name)-consumed)
	if q.Limits.Has(name) {
		need = min(need, q.Limits.Get(name)-consumed)
	}
	return max(0, need)
}

// needBelow is the sum of the needs of a role's children, but for one.
func (w *world) needBelow(role, but, name string) int64 {
	var sum int64
	for _, c := range worldChildren(role) {
		if c != but {
			sum += w.need(c, name)
		}
	}
	return sum
}

// entitled is what the frameworks of a role themselves are sure of: what a
// guarantee of the role, or of one above it, says, less what has been had of it and
// what others below that one need.
func (w *world) entitled(role, name string) int64 {
	var most int64
	if len(w.quotas) == 0 {
		return 0
	}
	others := w.needBelow(role, "", name)
	room := int64(1) << 62
	for p := role; p != ""; p = worldParent(p) {
		q, consumed := w.quotas[p], w.consumed(p, name)
		if q.Limits.Has(name) {
			room = min(room, q.Limits.Get(name)-consumed-others)
		}
		most = max(most, min(q.Guarantees.Get(name)-consumed-others, room, w.room(p, name)))
		others += w.needBelow(worldParent(p), p, name)
	}
	return most
}

// shortages says for the cluster ("") and for each limited role how much more is
// needed below than there is room for, by role and resource.
func (w *world) shortages() map[[2]string]int64 {
	out := map[[2]string]int64{}
	if len(w.quotas) == 0 {
		return out
	}
	for _, name := range worldNames {
		out[[2]string{"", name}] = max(0, w.need("", name)-w.idle(name))
		for role, q := range w.quotas {
			if !q.Limits.Has(name) {
				continue
			}
			below := w.needBelow(role, "", name)
			out[[2]string{role, name}] = max(0, below-(q.Limits.Get(name)-w.consumed(role, name)))
		}
	}
	return out
}

// checkShortages: no offer takes away what another is guaranteed.
func (w *world) checkShortages(h worldHold, r resources.Resources, before map[[2]string]int64) {
	for key, after := range w.shortages() {
		if after > before[key] {
			w.failf("%v is offered %s: the shortage of %s in %q grows from %d to %d", h, r, key[1], key[0], before[key], after)
		}
	}
}

// checkNothingMissed: once a run is over, nothing is left that a framework might
// have been offered. Of what is subject to quotas that is said of as much as limits
// and the needs of all others, and its own, leave it.
func (w *world) checkNothingMissed() {
	spare := map[string]resources.Quantities{}
	if len(w.quotas) > 0 {
		for _, role := range worldRoles {
			spare[role] = w.spare(role)
		}
	}
	for _, agent := range slices.Sorted(maps.Keys(w.agents)) {
		free := w.free(agent)
		w.eachReachable(agent, func(h worldHold, f *Framework) {
			r := free.Filter(func(it resources.Item) bool {
				return (!it.Reserved() || within(h.role, it.ReservationRole())) &&
					(!it.Revocable() || f.Revocable) && (!it.Refined() || f.ReservationRefinement)
			})
			if len(w.quotas) > 0 {
				bound := r.Filter(chargeableScalar)
				r = r.Sub(bound).Add(bound.Shrink(spare[h.role]))
			}
			if w.enough(f, h.role, r) && !w.refused(h, r) {
				w.failf("%v could have been offered %s", h, r)
			}
		})
	}
}

// spare is what a role may surely be given though it needs nothing.
func (w *world) spare(role string) resources.Quantities {
	if w.recovering && w.bound(role) {
		return resources.Quantities{}
	}
	out := map[string]float64{"gpus": 1000}
	for _, name := range []string{"cpus", "mem"} {
		least := w.idle(name) - w.need("", name)
		for p := role; p != ""; p = worldParent(p) {
			if q := w.quotas[p]; q.Limits.Has(name) {
				least = min(least, q.Limits.Get(name)-w.consumed(p, name)-w.needBelow(p, "", name))
			}
		}
		out[name] = resources.FromMilli(max(0, least))
	}
	return resources.NewQuantities(out)
}

// idle is what no one holds of what quotas are about, on agents that are offered:
// others serve nobody.
func (w *world) idle(name string) int64 {
	var sum int64
	for id, a := range w.agents {
		if w.offered(a) {
			sum += a.Total.Filter(chargeableScalar).Scalar(name)
			for h, r := range w.held {
				if h.agent == id {
					sum -= r.Filter(chargeableScalar).Scalar(name)
				}
			}
		}
	}
	return sum
}

// eachReachable calls visit for all who may be offered something of the agent.
func (w *world) eachReachable(agent string, visit func(worldHold, *Framework)) {
	for _, id := range slices.Sorted(maps.Keys(w.frameworks)) {
		f := w.frameworks[id]
		for _, role := range f.Roles {
			if w.eligible(id, role) && w.reachable(id, role, agent) {
				visit(worldHold{id, role, agent}, f)
			}
		}
	}
}

// entitlements are what the roles are entitled to, by role and resource.
func (w *world) entitlements() map[[2]string]int64 {
	out := map[[2]string]int64{}
	for _, role := range worldRoles {
		for _, name := range []string{"cpus", "mem"} {
			if x := w.entitled(role, name); x > 0 {
				out[[2]string{role, name}] = x
			}
		}
	}
	return out
}

// entitledTo calls visit for all who are entitled to something of the agent and
// could be offered it.
func (w *world) entitledTo(agent string, visit func(h worldHold, r resources.Resources)) {
	due := w.entitlements()
	if len(due) == 0 {
		return
	}
	free := w.free(agent).Filter(chargeableScalar)
	w.eachReachable(agent, func(h worldHold, f *Framework) {
		for _, name := range []string{"cpus", "mem"} {
			x := due[[2]string{h.role, name}]
			r := free.Get(name).Shrink(resources.NewQuantities(map[string]float64{name: resources.FromMilli(x)}))
			if x > 0 && w.enough(f, h.role, r) && !w.refused(h, r) {
				visit(h, r)
			}
		}
	})
}

// checkPrecedence: a role that is entitled to nothing is served after those that
// are, but for frameworks that let others go first.
func (w *world) checkPrecedence(h worldHold, r resources.Resources) {
	if r.Filter(chargeableScalar).Empty() || slices.ContainsFunc(worldNames, func(name string) bool {
		return w.entitled(h.role, name) > 0
	}) {
		return
	}
	w.entitledTo(h.agent, func(first worldHold, due resources.Resources) {
		if !w.requested[first.framework] {
			w.failf("%v is offered %s before %v, which is entitled to %s", h, r, first, due)
		}
	})
}

// checkGuarantees: once a run is over, no framework has not got what its role is
// entitled to while there is an agent that it could have it from.
func (w *world) checkGuarantees() {
	for _, agent := range slices.Sorted(maps.Keys(w.agents)) {
		w.entitledTo(agent, func(h worldHold, r resources.Resources) {
			w.failf("%v is entitled to %s and could have been offered it", h, r)
		})
	}
}

// room is what the limits of a role and those above it leave.
func (w *world) room(role, name string) int64 {
	least := int64(1) << 62
	for q, quota := range w.quotas {
		if within(role, q) && quota.Limits.Has(name) {
			least = min(least, quota.Limits.Get(name)-w.consumed(q, name))
		}
	}
	return least
}

// checkOrder: in a plain world an offer is all that is free on an agent, and goes
// where the share is the smallest, at each level of the tree of roles: no sibling
// with a willing framework has a smaller one.
func (w *world) checkOrder(h worldHold, r resources.Resources) {
	if free := w.free(h.agent); !free.Equal(r) {
		w.failf("%v is offered %s of the free %s", h, r, free)
	}
	inRole := func(role string) func(worldHold) bool {
		return func(x worldHold) bool { return within(x.role, role) }
	}
	exactly := func(role string) func(worldHold) bool {
		return func(x worldHold) bool { return x.role == role }
	}
	weight := func(role string) float64 { return max(w.weights[role], 1) }
	for at := h.role; at != ""; at = worldParent(at) {
		own := w.share(inRole(at)) / weight(at)
		parent := worldParent(at)
		for _, sibling := range worldChildren(parent) {
			if w.willing(inRole(sibling)) {
				w.smaller(h, sibling, w.share(inRole(sibling))/weight(sibling), own)
			}
		}
		// The frameworks of the parent itself compete with its children.
		if parent != "" && w.willing(exactly(parent)) {
			w.smaller(h, parent+"/.", w.share(exactly(parent)), own)
		}
	}
	own := w.share(exactly(h.role))
	for _, child := range worldChildren(h.role) {
		if w.willing(inRole(child)) {
			w.smaller(h, child, w.share(inRole(child))/weight(child), own)
		}
	}
	mine := func(framework string) func(worldHold) bool {
		return func(x worldHold) bool { return x.role == h.role && x.framework == framework }
	}
	for id := range w.frameworks {
		if w.eligible(id, h.role) {
			w.smaller(h, id, w.share(mine(id)), w.share(mine(h.framework)))
		}
	}
}

func (w *world) smaller(h worldHold, other string, share, own float64) {
	if share < own-1e-9 {
		w.failf("%v with the share %v is served before %s with %v", h, own, other, share)
	}
}

// willing reports whether a framework that may be offered something is among
// those that of describes.
func (w *world) willing(of func(worldHold) bool) bool {
	for id, f := range w.frameworks {
		for _, role := range f.Roles {
			if w.eligible(id, role) && of(worldHold{framework: id, role: role}) {
				return true
			}
		}
	}
	return false
}

// share is the dominant share of what is held by those that of describes.
func (w *world) share(of func(worldHold) bool) float64 {
	var most float64
	for _, name := range []string{"cpus", "mem"} {
		if slices.Contains(w.opts.FairnessExclude, name) {
			continue
		}
		var part, total int64
		for h, r := range w.held {
			// What a framework holds that is not known yet has no share.
			if of(h) && w.frameworks[h.framework] != nil {
				part += r.Scalar(name)
			}
		}
		for _, a := range w.agents {
			total += a.Total.Scalar(name)
		}
		if total > 0 {
			most = max(most, float64(part)/float64(total))
		}
	}
	return most
}
