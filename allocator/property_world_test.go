package allocator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// world is a cluster with one allocator, driven at random. It knows what it has
// told the allocator and what that has offered, nothing of its inside, and checks
// every offer against that: see property_test.go.
type world struct {
	kind  worldKind
	opts  Options
	fail  func(format string, args ...any)
	draw  func(label string, n int) int // one of 0 to n-1
	a     Allocator
	now   time.Time
	calls []func(Allocator) string // all that was done
	said  []string                 // and what came of it
	story []string                 // both, to be read

	serial     int
	frameworks map[string]*Framework
	agents     map[string]*Agent
	held       map[worldHold]resources.Resources // by framework, also unknown ones
	filters    []worldFilter
	quotas     map[string]Quota
	weights    map[string]float64
	wants      map[string]string // the role in which a framework wants h1 only
	requested  map[string]bool   // frameworks that have used REQUEST
	whitelist  []string
	recovering bool
	counted    map[[2]string]int64 // what consumed has found since something changed
}

// worldKind says what happens in a world.
type worldKind struct {
	name string
	// plain: all resources may go to anyone; nobody refuses anything.
	plain  bool
	quotas bool
	// wild: quotas that UPDATE_QUOTA would not let through, recovery, agents that
	// shrink below what is held.
	wild bool
}

type worldHold struct{ framework, role, agent string }

type worldFilter struct {
	worldHold
	refused resources.Resources
	expires time.Time // zero: at the next AllocateAll
}

var worldRoles = []string{"a", "a/x", "a/x/p", "a/y", "b", "b/x", "c"}

// worldNames are the resources with quotas.
var worldNames = []string{"cpus", "mem", "disk"}

func newWorld(kind worldKind, draw func(string, int) int, fail func(string, ...any)) *world {
	w := &world{
		kind: kind, opts: DefaultOptions(), fail: fail, draw: draw, now: epoch,
		frameworks: map[string]*Framework{}, agents: map[string]*Agent{},
		held: map[worldHold]resources.Resources{}, quotas: map[string]Quota{}, weights: map[string]float64{},
		wants: map[string]string{}, requested: map[string]bool{},
		counted: map[[2]string]int64{},
	}
	w.opts.Seed = uint64(draw("seed", 1000))
	w.opts.Domain = testDomain("here")
	w.opts.Placement = choose(w, "placement", "", PlacementSpread, PlacementPack)
	if !kind.plain {
		w.opts.RoleSorter = choose(w, "roles", SorterDRF, SorterDRF, SorterRandom)
		w.opts.FrameworkSorter = choose(w, "frameworks", SorterDRF, SorterDRF, SorterRandom)
	}
	if w.chance(4) {
		w.opts.FairnessExclude = []string{"mem"}
	}
	w.a = New(w.opts)
	return w
}

func choose[T any](w *world, label string, from ...T) T { return from[w.draw(label, len(from))] }

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.draw("chance", n) == n-1 }

func (w *world) one(label string, from []string) string { return choose(w, label, from...) }

// do calls the allocator and notes the call, of which the text tells.
func (w *world) do(text string, f func(Allocator)) {
	w.ask(text, func(a Allocator) string { f(a); return "" })
}

func (w *world) ask(text string, f func(Allocator) string) string {
	clear(w.counted)
	out := f(w.a)
	w.calls, w.said = append(w.calls, f), append(w.said, out)
	w.story = append(w.story, strings.TrimSpace(text+"\n"+out))
	return out
}

// failf ends the test, and tells how it came to this.
func (w *world) failf(format string, args ...any) {
	const last = 40
	story := w.story[max(0, len(w.story)-last):]
	w.fail("%s\nafter\n%s", fmt.Sprintf(format, args...), strings.Join(story, "\n"))
}

// step does one thing.
func (w *world) step() {
	steps := []func(){w.addAgent, w.run, w.run, w.runAll, w.changeWeight}
	if len(w.frameworks) < 8 {
		steps = append(steps, w.addFramework)
	}
	if len(w.frameworks) > 0 {
		steps = append(steps, w.changeFramework, w.changeFramework)
		if !w.kind.plain {
			steps = append(steps, w.request)
		}
	}
	if len(w.agents) > 0 {
		steps = append(steps, w.changeAgent)
	}
	if len(w.agents) > 10 {
		steps[0] = w.removeAgent
	}
	if len(w.held) > 0 {
		steps = append(steps, w.giveBack, w.giveBack, w.giveBack)
	}
	if !w.kind.plain {
		steps = append(steps, w.wait, w.setWhitelist)
		if len(w.held) > 0 {
			steps = append(steps, w.convert)
		}
	}
	if w.kind.quotas {
		steps = append(steps, w.setQuota, w.setQuota)
	}
	if w.kind.wild {
		steps = append(steps, w.switchRecovery)
	}
	choose(w, "step", steps...)()
}

func (w *world) newFramework(id string) Framework {
	f := Framework{Active: true, MultiRole: true, ReservationRefinement: true}
	for _, r := range worldRoles {
		if w.chance(3) {
			f.Roles = append(f.Roles, r)
		}
	}
	if len(f.Roles) == 0 {
		f.Roles = []string{w.one("role", worldRoles)}
	}
	if w.chance(4) {
		f.Suppressed = f.Roles[:1]
	}
	if w.kind.plain {
		return f
	}
	f.MultiRole, f.ReservationRefinement = !w.chance(5), !w.chance(3)
	f.GPU, f.Shared, f.Revocable, f.RegionAware = w.chance(2), w.chance(2), w.chance(2), w.chance(2)
	f.Active = !w.chance(6)
	delete(w.wants, id)
	if w.chance(4) {
		w.wants[id] = f.Roles[0]
		f.Constraints = w.onlyHost(f.Roles[0], "h1")
	}
	switch w.draw("minimum", 5) {
	case 0:
		f.MinAllocatable = map[string][]resources.Quantities{f.Roles[0]: {}}
	case 1:
		f.MinAllocatable = map[string][]resources.Quantities{
			f.Roles[0]: {resources.NewQuantities(map[string]float64{"cpus": 2, "mem": 100})},
		}
	}
	return f
}

// onlyHost is the constraint that the agents of a role have this name.
func (w *world) onlyHost(role, host string) *Constraints {
	hostname := scheduler.AttributeConstraint_Selector_HOSTNAME
	c, err := CompileConstraints(&scheduler.OfferConstraints{
		RoleConstraints: map[string]*scheduler.OfferConstraints_RoleConstraints{role: {
			Groups: []*scheduler.OfferConstraints_RoleConstraints_Group{{
				AttributeConstraints: []*scheduler.AttributeConstraint{{
					Selector: &scheduler.AttributeConstraint_Selector{
						Selector: &scheduler.AttributeConstraint_Selector_PseudoattributeType_{PseudoattributeType: hostname},
					},
					Predicate: &scheduler.AttributeConstraint_Predicate{
						Predicate: &scheduler.AttributeConstraint_Predicate_TextEquals_{
							TextEquals: &scheduler.AttributeConstraint_Predicate_TextEquals{Value: &host},
						},
					},
				}},
			}},
		}},
	}, RegexpLimits{})
	if err != nil {
		w.failf("%v", err)
	}
	return c
}

// request says that a framework has a need, which may put it behind others but
// keeps nothing from it.
func (w *world) request() {
	id := w.one("framework", slices.Sorted(maps.Keys(w.frameworks)))
	w.requested[id] = true
	var requests []*mesos.Request
	for range w.draw("requests", 3) {
		q := &mesos.Request{Resources: resources.MustParse(choose(w, "need", "cpus:4", "mem:256", "cpus:2;ports:[2-3]")).Proto()}
		if w.chance(4) {
			q.AgentId = &mesos.AgentID{Value: new(fmt.Sprint("s", w.serial))}
		}
		requests = append(requests, q)
	}
	w.do(fmt.Sprintf("request %s %v", id, requests), func(a Allocator) { a.RequestResources(id, requests) })
}

func (w *world) addFramework() {
	w.serial++
	id := fmt.Sprint("f", w.serial)
	f := w.newFramework(id)
	w.frameworks[id] = &f
	g := f
	w.do(fmt.Sprintf("framework %s %+v", id, g), func(a Allocator) { a.AddFramework(id, g, nil) })
}

func (w *world) changeFramework() {
	id := w.one("framework", slices.Sorted(maps.Keys(w.frameworks)))
	f := w.frameworks[id]
	of := func(roles []string) func(worldFilter) bool {
		return func(x worldFilter) bool {
			return x.framework == id && (roles == nil || slices.Contains(roles, x.role))
		}
	}
	role := w.one("which", f.Roles)
	switch choose(w, "change", "suppress", "suppress", "revive", "revive", "revive all", "deactivate", "activate", "activate", "update", "remove") {
	case "suppress":
		f.Suppressed = append(slices.Clone(f.Suppressed), role)
		w.do("suppress "+id+" "+role, func(a Allocator) { a.SuppressOffers(id, []string{role}) })
	case "revive":
		f.Suppressed = slices.DeleteFunc(slices.Clone(f.Suppressed), func(s string) bool { return s == role })
		w.dropFilters(of([]string{role}))
		w.do("revive "+id+" "+role, func(a Allocator) { a.ReviveOffers(id, []string{role}) })
	case "revive all":
		f.Suppressed = nil
		w.dropFilters(of(nil))
		w.do("revive "+id, func(a Allocator) { a.ReviveOffers(id, nil) })
	case "deactivate":
		f.Active = false
		w.dropFilters(of(nil))
		w.do("deactivate-framework "+id, func(a Allocator) { a.DeactivateFramework(id) })
	case "activate":
		f.Active = true
		w.do("activate-framework "+id, func(a Allocator) { a.ActivateFramework(id) })
	case "update":
		g := w.newFramework(id)
		g.Active = f.Active
		w.dropFilters(func(x worldFilter) bool {
			revived := slices.Contains(f.Suppressed, x.role) && !slices.Contains(g.Suppressed, x.role)
			return x.framework == id && (revived || !slices.Contains(g.Roles, x.role))
		})
		*f = g
		w.do(fmt.Sprintf("update-framework %s %+v", id, g), func(a Allocator) { a.UpdateFramework(id, g) })
	case "remove":
		delete(w.frameworks, id)
		w.dropFilters(of(nil))
		maps.DeleteFunc(w.held, func(h worldHold, _ resources.Resources) bool { return h.framework == id })
		w.do("remove-framework "+id, func(a Allocator) { a.RemoveFramework(id) })
	}
}

func (w *world) dropFilters(gone func(worldFilter) bool) {
	w.filters = slices.DeleteFunc(w.filters, gone)
}

func (w *world) newTotal() resources.Resources {
	text := fmt.Sprintf("cpus:%d;mem:%d", 1+w.draw("cpus", 8), 64*(1+w.draw("mem", 8)))
	if w.kind.plain {
		return resources.MustParse(text)
	}
	if w.chance(2) {
		text += fmt.Sprintf(";ports:[1-%d]", 1+w.draw("ports", 9))
	}
	if w.chance(4) {
		text += ";gpus:1"
	}
	if w.chance(3) {
		text += ";disk:10"
	}
	if w.chance(3) {
		text += ";cpus(" + w.one("for", worldRoles) + "):2;mem(" + w.one("for", worldRoles) + "):64"
	}
	lines := []string{text}
	if w.chance(4) {
		lines = append(lines, "disk:20 @ mount=/m") // Goes whole or not at all.
	}
	if w.chance(4) {
		lines = append(lines, "cpus:2 @ revocable")
	}
	if w.chance(4) {
		lines = append(lines, "disk:10 @ static=a dynamic="+choose(w, "refined", "a/x", "a/y")+" volume=v")
	}
	if w.chance(4) {
		lines = append(lines, "disk:20 @ static="+w.one("for", worldRoles)+" volume=s shared")
	}
	var sum resources.Resources
	for _, line := range lines {
		r, err := parseScript(line)
		if err != nil {
			w.failf("%v", err)
		}
		sum = sum.Add(r)
	}
	return sum
}

// users are the frameworks, one that is not known, and one that comes next.
func (w *world) users() []string {
	return append(slices.Sorted(maps.Keys(w.frameworks)), "ghost", fmt.Sprint("f", w.serial+1))
}

func (w *world) addAgent() {
	w.serial++
	id := fmt.Sprint("s", w.serial)
	a := Agent{
		Hostname: choose(w, "host", "h1", "h2", "h3"), Total: w.newTotal(),
		MultiRole: true, HierarchicalRole: true, Active: true,
	}
	if !w.kind.plain {
		a.MultiRole, a.HierarchicalRole, a.Active = !w.chance(6), !w.chance(6), !w.chance(6)
		if w.chance(4) {
			a.Domain = testDomain(choose(w, "region", "here", "there"))
		}
	}
	w.agents[id] = &a
	var used map[string]resources.Resources
	if w.chance(4) {
		h := worldHold{w.one("user", w.users()), w.one("role", worldRoles), id}
		w.held[h] = resources.MustParse("cpus:1;mem:32")
		used = map[string]resources.Resources{h.framework: w.held[h].Allocate(h.role)}
	}
	b := a
	w.do(fmt.Sprintf("agent %s %+v used %v", id, b, used), func(al Allocator) { al.AddAgent(id, b, used) })
}

func (w *world) anAgent() string { return w.one("agent", slices.Sorted(maps.Keys(w.agents))) }

func (w *world) removeAgent() {
	id := w.anAgent()
	delete(w.agents, id)
	w.dropFilters(func(x worldFilter) bool { return x.agent == id })
	maps.DeleteFunc(w.held, func(h worldHold, _ resources.Resources) bool { return h.agent == id })
	w.do("remove-agent "+id, func(a Allocator) { a.RemoveAgent(id) })
}

func (w *world) changeAgent() {
	id := w.anAgent()
	a := w.agents[id]
	update := func() {
		w.dropFilters(func(x worldFilter) bool { return x.agent == id })
		b := *a
		w.do(fmt.Sprintf("update-agent %s %+v", id, b), func(al Allocator) { al.UpdateAgent(id, b) })
	}
	switch choose(w, "do", "remove", "grow", "attributes", "deactivate", "activate", "activate", "operator", "operator", "shrink") {
	case "remove":
		w.removeAgent()
	case "grow":
		a.Total = a.Total.Add(resources.MustParse("cpus:1;mem:64"))
		update()
	case "shrink":
		if w.kind.wild {
			a.Total = a.Total.Sub(resources.MustParse("cpus:1;mem:64"))
			update()
		}
	case "attributes":
		w.serial++
		a.Attributes = []*mesos.Attribute{{
			Name: new("n"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(float64(w.serial))},
		}}
		update()
	case "deactivate":
		a.Active = w.kind.plain
		if !w.kind.plain {
			w.do("deactivate-agent "+id, func(al Allocator) { al.DeactivateAgent(id) })
		}
	case "activate":
		a.Active = true
		w.do("activate-agent "+id, func(al Allocator) { al.ActivateAgent(id) })
	case "operator":
		if !w.kind.plain {
			w.operate(id, a)
		}
	}
}

// operate reserves or unreserves a cpu on behalf of an operator.
func (w *world) operate(id string, a *Agent) {
	from, to := resources.MustParse("cpus:1"), resources.MustParse("cpus("+w.one("for", worldRoles)+"):1")
	if w.chance(2) {
		from, to = to, from
	}
	want := w.free(id).Contains(from) && a.Total.Contains(from)
	text := fmt.Sprintf("available %s: %s -> %s", id, from, to)
	got := w.ask(text, func(al Allocator) string { return fmt.Sprint(al.UpdateAvailable(id, from, to)) })
	if got != fmt.Sprint(want) {
		w.failf("UpdateAvailable(%s, %s) said %s, of %s free", id, from, got, w.free(id))
	}
	if want {
		a.Total = a.Total.Sub(from).Add(to)
	}
}

func (w *world) setWhitelist() {
	list := choose(w, "list", nil, nil, nil, []string{}, []string{"h1"}, []string{"h1", "h3"})
	w.whitelist = list
	w.do(fmt.Sprintf("whitelist %v, all %t", list, list == nil), func(a Allocator) { a.SetWhitelist(list) })
}

func (w *world) changeWeight() {
	weights := map[string]float64{w.one("role", worldRoles): float64(1 + w.draw("weight", 4))}
	maps.Copy(w.weights, weights)
	w.do(fmt.Sprintf("weights %v", weights), func(a Allocator) { a.UpdateWeights(weights) })
}

func (w *world) wait() {
	w.now = w.now.Add(time.Duration(1+w.draw("wait", 8)) * 500 * time.Millisecond)
}

func (w *world) switchRecovery() {
	w.recovering = !w.recovering
	on := w.recovering
	w.do(fmt.Sprintf("recovery %t", on), func(a Allocator) {
		if on {
			a.StartRecovery()
		} else {
			a.FinishRecovery()
		}
	})
}

func (w *world) holds() []worldHold {
	return slices.SortedFunc(maps.Keys(w.held), func(a, b worldHold) int {
		return strings.Compare(a.agent+" "+a.framework+" "+a.role, b.agent+" "+b.framework+" "+b.role)
	})
}

// giveBack returns what is held, or a part of it.
func (w *world) giveBack() {
	h := choose(w, "held", w.holds()...)
	r := w.held[h]
	part := r
	if w.chance(3) {
		part = r.Filter(func(it resources.Item) bool { return it.Name() != "mem" })
	}
	if part.Empty() {
		return
	}
	if w.held[h] = r.Sub(part); w.held[h].Empty() {
		delete(w.held, h)
	}
	var f *Filter
	if !w.kind.plain && w.chance(2) {
		f = &Filter{RefuseFor: time.Duration(w.draw("refuse", 8)) * 500 * time.Millisecond}
		if fw := w.frameworks[h.framework]; fw != nil && slices.Contains(fw.Roles, h.role) {
			x := worldFilter{worldHold: h, refused: part}
			if f.RefuseFor > 0 {
				x.expires = w.now.Add(max(f.RefuseFor, w.opts.Interval))
			}
			w.filters = append(w.filters, x)
		}
	}
	now := w.now
	text := fmt.Sprintf("decline %v %s %+v", h, part, f)
	w.do(text, func(a Allocator) { a.RecoverResources(now, h.framework, h.agent, part.Allocate(h.role), f) })
}

// convert reserves a held cpu for the role it is held in, or takes the
// reservation off.
func (w *world) convert() {
	h := choose(w, "held", w.holds()...)
	a := w.agents[h.agent]
	from := resources.MustParse("cpus:1")
	to, err := from.PushReservation(resources.Reservation{Dynamic: true, Role: h.role}.Proto())
	if err != nil {
		w.failf("%v", err)
	}
	if w.chance(3) {
		from, to = to, from
	}
	if w.frameworks[h.framework] == nil || !w.held[h].Contains(from) || !a.Total.Contains(from) {
		return
	}
	w.held[h] = w.held[h].Sub(from).Add(to)
	a.Total = a.Total.Sub(from).Add(to)
	w.do(fmt.Sprintf("convert %v %s -> %s", h, from, to), func(al Allocator) {
		al.UpdateAllocation(h.framework, h.agent, from.Allocate(h.role), to.Allocate(h.role))
	})
}

// setQuota sets or removes a quota. Unless the world is wild, it is one that
// UPDATE_QUOTA lets through: the guarantees of children fit into that of their
// parent and into the cluster, and limits are no less than guarantees and no
// more than the parent's.
func (w *world) setQuota() {
	role := w.one("role", worldRoles)
	q := Quota{}
	if name := choose(w, "resource", "cpus", "cpus", "mem", "disk", ""); name != "" {
		unit := map[string]float64{"cpus": 1, "mem": 64, "disk": 5}[name]
		guarantee := float64(w.draw("guarantee", 12))
		if w.chance(2) {
			q.Guarantees = resources.NewQuantities(map[string]float64{name: unit * guarantee})
		}
		if w.chance(2) {
			limit := guarantee + float64(w.draw("room", 6))
			if w.kind.wild {
				limit = float64(w.draw("limit", 12))
			}
			q.Limits = resources.NewLimits(map[string]float64{name: unit * limit})
		}
	}
	old, had := w.quotas[role]
	w.quotas[role] = q
	if !w.kind.wild && !w.consistent() {
		if w.quotas[role] = old; !had {
			delete(w.quotas, role)
		}
		return
	}
	if q.Guarantees.Empty() && q.Limits.Empty() {
		delete(w.quotas, role)
		w.do("quota "+role+" none", func(a Allocator) { a.UpdateQuota(role, nil) })
		return
	}
	w.do(fmt.Sprintf("quota %s guarantees %s limits %s", role, q.Guarantees, q.Limits), func(a Allocator) {
		a.UpdateQuota(role, &q)
	})
}

func (w *world) consistent() bool {
	for _, name := range worldNames {
		for _, role := range worldRoles {
			q := w.quotas[role]
			g := q.Guarantees.Get(name)
			if q.Limits.Has(name) && q.Limits.Get(name) < g {
				return false
			}
			var sum int64
			for _, child := range worldChildren(role) {
				sum += w.quotas[child].Guarantees.Get(name)
			}
			if sum > g {
				return false
			}
			parent := w.quotas[worldParent(role)]
			if parent.Limits.Has(name) && q.Limits.Has(name) && q.Limits.Get(name) > parent.Limits.Get(name) {
				return false
			}
		}
	}
	return true
}

func worldParent(role string) string {
	if i := strings.LastIndexByte(role, '/'); i >= 0 {
		return role[:i]
	}
	return ""
}

// worldChildren are the roles right below, of "" those at the top.
func worldChildren(role string) []string {
	var out []string
	for _, r := range worldRoles {
		if worldParent(r) == role {
			out = append(out, r)
		}
	}
	return out
}
