package allocator

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// reference is the allocator written to be read: it keeps the plain facts and
// works everything else out anew, for every agent, whenever it allocates. It has
// in common with the real one the resource algebra and the source of
// randomness, nothing else.
type reference struct {
	opts       Options
	run        uint64
	lastSeq    uint64
	recovering bool
	whitelist  []string
	limited    bool // whitelist is in force
	agents     map[string]*refAgent
	frameworks map[string]*Framework
	// holds says who holds what, without allocation role.
	holds   map[refHold]resources.Resources
	orphans map[[2]string]resources.Resources // agent, framework
	counts  map[string]int64                  // of allocations, by node or leaf
	weights map[string]float64
	quotas  map[string]Quota
	// requests are what frameworks have said that they need.
	requests map[string][]*mesos.Request
	filters  []refFilter
}

type refHold struct{ agent, framework, role string }

type refAgent struct {
	Agent
	seq           uint64
	offeredShared resources.Resources
}

type refFilter struct {
	hold    refHold
	refused resources.Resources
	expires time.Time
	brief   bool
}

func newReference(opts Options) *reference {
	return &reference{
		opts: opts, agents: map[string]*refAgent{}, frameworks: map[string]*Framework{},
		holds: map[refHold]resources.Resources{}, orphans: map[[2]string]resources.Resources{},
		counts: map[string]int64{}, weights: map[string]float64{}, quotas: map[string]Quota{},
		requests: map[string][]*mesos.Request{},
	}
}

func (r *reference) hold(h refHold, res resources.Resources) {
	r.holds[h] = r.holds[h].Add(res)
	for _, n := range r.countedAt(h) {
		r.counts[n]++
	}
}

// countedAt names the leaf and the nodes of the tree that an allocation counts
// at.
func (r *reference) countedAt(h refHold) []string {
	out := []string{"leaf " + h.role + " " + h.framework, "node " + h.role + "/.", "node " + h.role}
	for _, a := range resources.Ancestors(h.role) {
		out = append(out, "node "+a)
	}
	return out
}

// tidy drops the counts of what is no more: leaves that are neither subscribed
// nor hold anything, and nodes without leaves at or below them.
func (r *reference) tidy() {
	alive := map[string]bool{}
	for h, res := range r.holds {
		if res.Empty() {
			delete(r.holds, h)
			continue
		}
		for _, n := range r.countedAt(h) {
			alive[n] = true
		}
	}
	for id, f := range r.frameworks {
		for _, role := range f.Roles {
			for _, n := range r.countedAt(refHold{framework: id, role: role}) {
				alive[n] = true
			}
		}
	}
	maps.DeleteFunc(r.counts, func(n string, _ int64) bool { return !alive[n] })
}

func (r *reference) dropFilters(drop func(refFilter) bool) {
	r.filters = slices.DeleteFunc(r.filters, drop)
}

func (r *reference) AddFramework(id string, f Framework, used map[string]resources.Resources) {
	r.frameworks[id] = &f
	for _, agent := range slices.Sorted(maps.Keys(r.agents)) {
		res, ok := r.orphans[[2]string{agent, id}]
		delete(r.orphans, [2]string{agent, id})
		if u, named := used[agent]; named {
			res, ok = u, true
		}
		if ok {
			for _, e := range res.Allocations() {
				r.hold(refHold{agent, id, e.Role}, e.Resources.Unallocate())
			}
			r.touch(agent)
		}
	}
}

func (r *reference) UpdateFramework(id string, f Framework) {
	old := r.frameworks[id]
	r.dropFilters(func(x refFilter) bool {
		return x.hold.framework == id && (!slices.Contains(f.Roles, x.hold.role) ||
			slices.Contains(old.Suppressed, x.hold.role) && !slices.Contains(f.Suppressed, x.hold.role))
	})
	r.frameworks[id] = &f
	r.tidy()
}

func (r *reference) RemoveFramework(id string) {
	for h := range r.holds {
		if h.framework == id {
			delete(r.holds, h)
			r.touch(h.agent)
		}
	}
	r.dropFilters(func(x refFilter) bool { return x.hold.framework == id })
	delete(r.frameworks, id)
	delete(r.requests, id)
	r.tidy()
}

func (r *reference) ActivateFramework(id string) { r.frameworks[id].Active = true }

func (r *reference) DeactivateFramework(id string) {
	r.frameworks[id].Active = false
	delete(r.requests, id)
	r.dropFilters(func(x refFilter) bool { return x.hold.framework == id })
}

func (r *reference) AddAgent(id string, a Agent, used map[string]resources.Resources) {
	r.lastSeq++
	r.agents[id] = &refAgent{Agent: a, seq: r.lastSeq}
	for _, fw := range slices.Sorted(maps.Keys(used)) {
		if r.frameworks[fw] == nil {
			r.orphans[[2]string{id, fw}] = used[fw]
			continue
		}
		for _, e := range used[fw].Allocations() {
			r.hold(refHold{id, fw, e.Role}, e.Resources.Unallocate())
		}
	}
}

func (r *reference) UpdateAgent(id string, a Agent) {
	old := r.agents[id]
	if !old.Total.Equal(a.Total) || fmt.Sprint(old.Attributes) != fmt.Sprint(a.Attributes) {
		r.dropFilters(func(x refFilter) bool { return x.hold.agent == id })
	}
	r.agents[id] = &refAgent{Agent: a, seq: old.seq}
}

func (r *reference) RemoveAgent(id string) {
	maps.DeleteFunc(r.holds, func(h refHold, _ resources.Resources) bool { return h.agent == id })
	maps.DeleteFunc(r.orphans, func(k [2]string, _ resources.Resources) bool { return k[0] == id })
	r.dropFilters(func(x refFilter) bool { return x.hold.agent == id })
	delete(r.agents, id)
	r.tidy()
}

func (r *reference) ActivateAgent(id string) {
	r.agents[id].Active = true
	r.touch(id)
}
func (r *reference) DeactivateAgent(id string) { r.agents[id].Active = false }

func (r *reference) SetWhitelist(hostnames []string) {
	r.whitelist, r.limited = hostnames, hostnames != nil
	for id := range r.agents {
		r.touch(id)
	}
}

func (r *reference) RequestResources(id string, requests []*mesos.Request) { r.requests[id] = requests }

func (r *reference) subscribed(id string, roles []string) []string {
	var out []string
	for _, role := range r.frameworks[id].Roles {
		if len(roles) == 0 || slices.Contains(roles, role) {
			out = append(out, role)
		}
	}
	return out
}

func (r *reference) SuppressOffers(id string, roles []string) {
	f := r.frameworks[id]
	for _, role := range r.subscribed(id, roles) {
		if !slices.Contains(f.Suppressed, role) {
			f.Suppressed = append(slices.Clone(f.Suppressed), role)
		}
	}
}

func (r *reference) ReviveOffers(id string, roles []string) {
	f := r.frameworks[id]
	for _, role := range r.subscribed(id, roles) {
		f.Suppressed = slices.DeleteFunc(slices.Clone(f.Suppressed), func(s string) bool { return s == role })
		r.dropFilters(func(x refFilter) bool { return x.hold.framework == id && x.hold.role == role })
	}
}

func (r *reference) UpdateAllocation(fw, agent string, consumed, converted resources.Resources) {
	for _, e := range consumed.Allocations() {
		h := refHold{agent, fw, e.Role}
		r.holds[h] = r.holds[h].Sub(e.Resources.Unallocate())
	}
	for _, e := range converted.Allocations() {
		h := refHold{agent, fw, e.Role}
		r.holds[h] = r.holds[h].Add(e.Resources.Unallocate())
	}
	if !consumed.Empty() {
		a := r.agents[agent]
		a.Total = a.Total.Sub(consumed.Unallocate()).Add(converted.Unallocate())
	}
	r.touch(agent)
	r.tidy()
}

func (r *reference) UpdateAvailable(agent string, consumed, converted resources.Resources) bool {
	a := r.agents[agent]
	if !r.available(agent).Contains(consumed.Unallocate()) {
		return false
	}
	a.Total = a.Total.Sub(consumed.Unallocate()).Add(converted.Unallocate())
	r.touch(agent)
	return true
}

func (r *reference) RecoverResources(now time.Time, fw, agent string, res resources.Resources, f *Filter) {
	if r.agents[agent] == nil || res.Empty() {
		return
	}
	if r.frameworks[fw] == nil {
		if o, ok := r.orphans[[2]string{agent, fw}]; ok {
			r.orphans[[2]string{agent, fw}] = o.Sub(res)
			if o.Sub(res).Empty() {
				delete(r.orphans, [2]string{agent, fw})
			}
			r.touch(agent)
		}
		return
	}
	for _, e := range res.Allocations() {
		h := refHold{agent, fw, e.Role}
		r.holds[h] = r.holds[h].Sub(e.Resources.Unallocate())
		if f != nil && slices.Contains(r.frameworks[fw].Roles, e.Role) {
			x := refFilter{hold: h, refused: e.Resources.Unallocate(), brief: f.RefuseFor <= 0}
			x.expires = now.Add(max(min(f.RefuseFor, 365*24*time.Hour), r.opts.Interval))
			// It replaces refusals of no more for no longer.
			r.dropFilters(func(o refFilter) bool {
				return o.hold == h && x.refused.Contains(o.refused) &&
					(o.brief || !x.brief && !o.expires.After(x.expires))
			})
			r.filters = append(r.filters, x)
		}
	}
	r.touch(agent)
	r.tidy()
}

func (r *reference) UpdateQuota(role string, q *Quota) {
	delete(r.quotas, role)
	if q != nil && (!q.Guarantees.Empty() || !q.Limits.Empty()) {
		r.quotas[role] = *q
	}
}

func (r *reference) UpdateWeights(w map[string]float64) { maps.Copy(r.weights, w) }

func (r *reference) StartRecovery() { r.recovering = true }

func (r *reference) FinishRecovery() { r.recovering = false }

func (r *reference) NextDeadline() (time.Time, bool) {
	var first time.Time
	for _, x := range r.filters {
		if !x.brief && (first.IsZero() || x.expires.Before(first)) {
			first = x.expires
		}
	}
	return first, !first.IsZero()
}

// touch notes that the agent changed: its shared resources may be offered anew.
func (r *reference) touch(agent string) {
	if a := r.agents[agent]; a != nil {
		a.offeredShared = resources.Resources{}
	}
}

// expire ends filters; their agents have changed by it.
func (r *reference) expire(over func(refFilter) bool) {
	for _, x := range r.filters {
		if over(x) {
			r.touch(x.hold.agent)
		}
	}
	r.dropFilters(over)
}

func (r *reference) Allocate(now time.Time) Allocation {
	r.expire(func(x refFilter) bool { return !x.brief && !x.expires.After(now) })
	return r.allocate()
}

func (r *reference) AllocateAll(now time.Time) Allocation {
	r.expire(func(x refFilter) bool { return x.brief || !x.expires.After(now) })
	for id := range r.agents {
		r.touch(id)
	}
	return r.allocate()
}

func (r *reference) available(agent string) resources.Resources {
	total := r.agents[agent].Total
	free := total.NonShared()
	for h, res := range r.holds {
		if h.agent == agent {
			free = free.Sub(res)
		}
	}
	for k, res := range r.orphans {
		if k[0] == agent {
			free = free.Sub(res.Unallocate())
		}
	}
	return free.Add(total.Shared())
}

// scalars sums the scalars of resources, shared ones once, by name.
func (r *reference) scalars(res resources.Resources) map[string]int64 {
	out := map[string]int64{}
	for i := range res.Len() {
		if it := res.At(i); it.Type() == mesos.Value_SCALAR {
			out[it.Name()] += it.Milli()
		}
	}
	return out
}

func (r *reference) share(match func(refHold) bool) float64 {
	total, mine := map[string]int64{}, map[string]int64{}
	for _, a := range r.agents {
		for n, v := range r.scalars(a.Total) {
			total[n] += v
		}
	}
	// Of shared resources the copies on an agent count once.
	shared := map[string]resources.Resources{}
	for h, res := range r.holds {
		if !match(h) {
			continue
		}
		for n, v := range r.scalars(res.NonShared()) {
			mine[n] += v
		}
		for i := range res.Len() {
			if it := res.At(i); it.Shared() && shared[h.agent].Count(it) == 0 {
				shared[h.agent] = shared[h.agent].Add(it.AsResources())
			}
		}
	}
	for _, res := range shared {
		for n, v := range r.scalars(res) {
			mine[n] += v
		}
	}
	// Shares are in parts of the cluster divided by the greatest common divisor of
	// what counts of it, so that equal ones are equal whatever doubles make of them.
	var divisor int64
	for n, v := range total {
		if slices.Contains(r.opts.FairnessExclude, n) {
			continue
		}
		for v > 0 && divisor > 0 && v%divisor != 0 {
			v, divisor = divisor, v%divisor
		}
		if v > 0 && (divisor == 0 || v < divisor) {
			divisor = v
		}
	}
	var share float64
	for n, v := range mine {
		if total[n] > 0 && !slices.Contains(r.opts.FairnessExclude, n) {
			share = max(share, float64(v)/float64(total[n]/divisor))
		}
	}
	return share
}

func (r *reference) weight(path string) float64 {
	if w, ok := r.weights[path]; ok {
		return w
	}
	return 1
}

func (r *reference) active(id, role string) bool {
	f := r.frameworks[id]
	return f.Active && slices.Contains(f.Roles, role) && !slices.Contains(f.Suppressed, role)
}

// tree returns the names of the active nodes below a path, "." for the role of
// the path itself.
func (r *reference) below(path string) []string {
	seen := map[string]bool{}
	for id, f := range r.frameworks {
		for _, role := range f.Roles {
			if !r.active(id, role) {
				continue
			}
			switch {
			case role == path:
				seen["."] = true
			case path == "" || strings.HasPrefix(role, path+"/"):
				rest := role
				if path != "" {
					rest = role[len(path)+1:]
				}
				first, _, _ := strings.Cut(rest, "/")
				seen[first] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

func (r *reference) roleOrder(path string) []string {
	type child struct {
		name  string
		share float64
		count int64
	}
	var children []child
	for _, name := range r.below(path) {
		full := join(path, name)
		s := r.share(func(h refHold) bool {
			if name == "." {
				return h.role == path
			}
			return h.role == full || strings.HasPrefix(h.role, full+"/")
		})
		children = append(children, child{name, s / r.weight(full), r.counts["node "+full]})
	}
	slices.SortStableFunc(children, func(a, b child) int {
		switch {
		case a.share != b.share && a.share < b.share:
			return -1
		case a.share != b.share:
			return 1
		case a.count != b.count:
			return int(a.count - b.count)
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range children {
		if c.name == "." {
			out = append(out, path)
		} else {
			out = append(out, r.roleOrder(join(path, c.name))...)
		}
	}
	return out
}

func (r *reference) relative(path string, part float64, into map[string]float64) {
	names := r.below(path)
	var sum float64
	for _, n := range names {
		sum += r.weight(join(path, n))
	}
	for _, n := range names {
		p := part * r.weight(join(path, n)) / sum
		if n == "." {
			into[path] = p
		} else {
			r.relative(join(path, n), p, into)
		}
	}
}

func (r *reference) draw(a *refAgent, name string) float64 {
	x := mix(mix(r.opts.Seed^mix(r.run^mix(a.seq))) ^ hashName(name))
	return -math.Log((float64(x>>11) + 0.5) / (1 << 53))
}

func (r *reference) roles(a *refAgent) []string {
	if r.opts.RoleSorter != SorterRandom {
		return r.roleOrder("")
	}
	parts := map[string]float64{}
	r.relative("", 1, parts)
	out := slices.Sorted(maps.Keys(parts))
	slices.SortStableFunc(out, func(x, y string) int {
		if r.draw(a, x)/parts[x] < r.draw(a, y)/parts[y] {
			return -1
		}
		return 1
	})
	return out
}

func (r *reference) members(a *refAgent, role string) []string {
	var out []string
	for id := range r.frameworks {
		if r.active(id, role) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	if r.opts.FrameworkSorter == SorterRandom {
		slices.SortStableFunc(out, func(x, y string) int {
			if r.draw(a, x) < r.draw(a, y) {
				return -1
			}
			return 1
		})
		return out
	}
	share := map[string]float64{}
	for _, id := range out {
		share[id] = r.share(func(h refHold) bool { return h.role == role && h.framework == id })
	}
	slices.SortStableFunc(out, func(x, y string) int {
		cx, cy := r.counts["leaf "+role+" "+x], r.counts["leaf "+role+" "+y]
		switch {
		case share[x] < share[y]:
			return -1
		case share[x] > share[y]:
			return 1
		}
		return int(cx - cy)
	})
	return out
}

// used is the largest part of a scalar of the agent that is not free.
func (r *reference) used(id string) float64 {
	total := r.agents[id].Total.NonShared().Quantities()
	free := r.available(id).NonShared().Quantities()
	var most float64
	for i := range total.Len() {
		q := total.At(i)
		most = max(most, 1-float64(free.Get(q.Name))/float64(q.Milli))
	}
	return most
}

func (r *reference) order(round uint64) []string {
	out := slices.Sorted(maps.Keys(r.agents))
	used := map[string]float64{}
	for _, id := range out {
		switch r.opts.Placement {
		case PlacementSpread:
			used[id] = r.used(id)
		case PlacementPack:
			used[id] = -r.used(id)
		}
	}
	key := func(id string) uint64 {
		return mix(r.opts.Seed ^ mix(r.run<<2|round) ^ mix(r.agents[id].seq<<20))
	}
	slices.SortStableFunc(out, func(x, y string) int {
		if used[x] < used[y] || used[x] == used[y] && key(x) < key(y) {
			return -1
		}
		return 1
	})
	return out
}

// pick is a framework and role, in the order in which an agent is offered.
type pick struct{ framework, role string }

func (r *reference) picks(a *refAgent) []pick {
	var out []pick
	for _, role := range r.roles(a) {
		for _, id := range r.members(a, role) {
			out = append(out, pick{id, role})
		}
	}
	return out
}

func isQuota(it resources.Item) bool {
	return it.Type() == mesos.Value_SCALAR && !it.Reserved() && !it.Revocable()
}

// usable is what of the agent's free resources the pick can be given.
func (r *reference) usable(id string, p pick) resources.Resources {
	a, f := r.agents[id], r.frameworks[p.framework]
	region := func(d *mesos.DomainInfo) string { return d.GetFaultDomain().GetRegion().GetName() }
	if r.opts.FilterGPUResources && a.Total.GPUs() > 0 && !f.GPU ||
		!f.RegionAware && a.Domain.GetFaultDomain() != nil && r.opts.Domain.GetFaultDomain() != nil &&
			region(a.Domain) != region(r.opts.Domain) ||
		f.MultiRole && !a.MultiRole || strings.Contains(p.role, "/") && !a.HierarchicalRole ||
		!slowWants(testConstraints[f.Constraints], p.role, &a.Agent) {
		return resources.Resources{}
	}
	return r.available(id).Filter(func(it resources.Item) bool {
		return it.AllocatableTo(p.role) && (f.Shared || !it.Shared()) && (f.Revocable || !it.Revocable()) &&
			(f.ReservationRefinement || !it.Refined()) && (!it.Shared() || a.offeredShared.Count(it) == 0)
	})
}

func (r *reference) wanted(id string, p pick, res resources.Resources) bool {
	if res.Empty() {
		return false
	}
	minimums, ok := r.frameworks[p.framework].MinAllocatable[p.role]
	if !ok {
		minimums = r.opts.MinAllocatable
	}
	enough := len(minimums) == 0
	for _, q := range minimums {
		enough = enough || res.ContainsQuantities(q)
	}
	for _, x := range r.filters {
		if x.hold == (refHold{id, p.framework, p.role}) && x.refused.Contains(res) {
			return false
		}
	}
	return enough
}

// satisfies reports whether res is enough for something that the framework needs
// on the agent, or whether it has not said what it needs.
func (r *reference) satisfies(id, fw string, res resources.Resources) bool {
	for _, q := range r.requests[fw] {
		if q.AgentId != nil && q.GetAgentId().GetValue() != id {
			continue
		}
		want := resources.MustFromProto(q.Resources)
		enough := res.ContainsQuantities(want.Quantities())
		for _, port := range want.Ports() {
			for p := port.Begin; p <= port.End; p++ {
				found := false
				for _, have := range res.Ports() {
					found = found || have.Begin <= p && p <= have.End
				}
				enough = enough && found
			}
		}
		if enough {
			return true
		}
	}
	return len(r.requests[fw]) == 0
}

func (r *reference) offered(a *refAgent) bool {
	return a.Active && (!r.limited || slices.Contains(r.whitelist, a.Hostname))
}

func (r *reference) allocate() Allocation {
	r.run++
	var out Allocation
	give := func(id string, p pick, res resources.Resources) {
		r.hold(refHold{id, p.framework, p.role}, res)
		r.agents[id].offeredShared = r.agents[id].offeredShared.Add(res.Shared())
		res = res.Allocate(p.role)
		for i, o := range out.Offers {
			if o.AgentID == id && o.FrameworkID == p.framework && o.Role == p.role {
				out.Offers[i].Resources = o.Resources.Add(res)
				return
			}
		}
		out.Offers = append(out.Offers, Offer{p.framework, p.role, id, res})
	}
	// Round 1 is for those who are entitled to something, round 2 for all, round 3
	// for those who need more than there was on an agent.
	for round := uint64(1); round <= 3; round++ {
		for _, id := range r.order(round) {
			a := r.agents[id]
			if !r.offered(a) {
				continue
			}
			for _, p := range r.picks(a) {
				res, entitled := r.cut(p.role, r.usable(id, p))
				if !r.wanted(id, p, res) || round == 1 && !entitled {
					continue
				}
				if round == 3 && len(r.requests[p.framework]) > 0 || round < 3 && r.satisfies(id, p.framework, res) {
					give(id, p, res)
				}
			}
		}
	}
	return out
}
