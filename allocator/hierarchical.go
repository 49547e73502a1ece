package allocator

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// hierarchical is the allocator: see DESIGN.md for how it avoids looking at what
// has not changed.
type hierarchical struct {
	opts Options

	names    map[string]int // of scalar resources, see vec
	excluded []bool         // by index, from Options.FairnessExclude

	agents     map[string]*agent
	frameworks map[string]*framework
	// orphaned are the agents on which an unknown framework holds something.
	orphaned   map[string]map[*agent]bool
	whitelist  map[string]bool // nil: all
	recovering bool
	lastSeq    uint64 // the last number given to an agent

	// total is that of all agents, and scale the same with the greatest common
	// divisor, unit, taken out, but for what does not count for fairness. With
	// scale all shares change, which epoch counts.
	total, scale vec
	unit         int64
	epoch        uint64

	root    *node
	roles   map[string]*role // with frameworks
	weights map[string]float64
	// shuffled counts the changes of what takes part in the random sorters.
	shuffled  uint64
	chances   []weighted
	chancesAt uint64
	lots      []lot // scratch

	quotas quotas
	// minimums are Options.MinAllocatable, none if they are not all known to be
	// scalars.
	minimums []vec
	// cut are the agents that are limited or heldBack, and rest all on which there
	// is something left.
	cut, rest []*agent
	charge    vec // scratch

	// dirty are the agents to look at in the next run, and changed the leaves that
	// every agent with something left has to be looked at for.
	dirty   []*agent
	changed []*leaf
	run     uint64
	tasks   []task // scratch
	turns   []turn // scratch
	counts  []int  // scratch
	scratch vec
	// sharers have offeredShared.
	sharers []*agent

	maintenance maintenance
	slots       slots

	expiries []expiry // heap
	stale    int      // how many of expiries are of filters that are gone, at least
	brief    []expiry // filters until the next AllocateAll
}

// framework is a framework and its leaves, sorted by role.
type framework struct {
	id     string
	info   Framework
	leaves []*leaf
	needs  []need // what it has stated by REQUEST
}

var _ Allocator = (*hierarchical)(nil)

// New returns an empty allocator.
func New(opts Options) Allocator { return newHierarchical(opts) }

func newHierarchical(opts Options) *hierarchical {
	if opts.Interval <= 0 {
		opts.Interval = time.Second
	}
	h := &hierarchical{
		opts:       opts,
		names:      make(map[string]int),
		agents:     make(map[string]*agent),
		frameworks: make(map[string]*framework),
		orphaned:   make(map[string]map[*agent]bool),
		epoch:      1,
		root:       &node{children: make(map[string]*node), weight: 1},
		roles:      make(map[string]*role),
		weights:    make(map[string]float64),
	}
	h.quotas.by, h.quotas.under = make(map[string]*quota), make(map[string]int)
	h.root.bound = &h.quotas.root
	for _, q := range opts.MinAllocatable {
		if slices.ContainsFunc(q.Names(), func(n string) bool { return !slices.Contains(knownScalars, n) }) {
			h.minimums = nil
			break
		}
		var m vec
		for i := range q.Len() {
			m.addAt(h.index(q.At(i).Name), q.At(i).Milli)
		}
		h.minimums = append(h.minimums, m)
	}
	return h
}

var knownScalars = []string{"cpus", "mem", "disk", "gpus"}

func (h *hierarchical) index(name string) int {
	i, ok := h.names[name]
	if !ok {
		i = len(h.names)
		h.names[name] = i
		h.excluded = append(h.excluded, slices.Contains(h.opts.FairnessExclude, name))
	}
	return i
}

// vecOf returns the scalars among the items that keep, if any, lets through.
func (h *hierarchical) vecOf(r resources.Resources, keep func(resources.Item) bool) vec {
	return h.appendVec(make(vec, 0, len(h.names)), r, keep)
}

// appendVec is vecOf into the empty v.
func (h *hierarchical) appendVec(v vec, r resources.Resources, keep func(resources.Item) bool) vec {
	for i := range r.Len() {
		if it := r.At(i); it.Type() == mesos.Value_SCALAR && (keep == nil || keep(it)) {
			n := h.index(it.Name())
			for len(v) <= n {
				v = append(v, 0)
			}
			v[n] += it.Milli()
		}
	}
	return v
}

func (h *hierarchical) framework(id string) *framework {
	f := h.frameworks[id]
	if f == nil {
		panic(fmt.Sprintf("allocator: unknown framework %q", id))
	}
	return f
}

func (h *hierarchical) agent(id string) *agent {
	a := h.agents[id]
	if a == nil {
		panic(fmt.Sprintf("allocator: unknown agent %q", id))
	}
	return a
}

// leaf returns the framework's leaf of the role, nil if there is none.
func (f *framework) leaf(path string) *leaf {
	if i, ok := f.find(path); ok {
		return f.leaves[i]
	}
	return nil
}

func (f *framework) find(path string) (int, bool) {
	return slices.BinarySearchFunc(f.leaves, path, func(l *leaf, path string) int {
		return strings.Compare(l.role.path, path)
	})
}

// track returns the framework's leaf of the role, which it makes if need be.
func (h *hierarchical) track(f *framework, path string) *leaf {
	i, ok := f.find(path)
	if ok {
		return f.leaves[i]
	}
	l := &leaf{rank: rank{name: f.id}, fw: f, role: h.roleOf(path), hash: hashName(f.id)}
	f.leaves = slices.Insert(f.leaves, i, l)
	at, _ := slices.BinarySearchFunc(l.role.members, f.id, func(m *leaf, id string) int {
		return strings.Compare(m.name, id)
	})
	l.role.members = slices.Insert(l.role.members, at, l)
	return l
}

// untrack drops a leaf that is neither subscribed nor holds anything.
func (h *hierarchical) untrack(l *leaf) {
	if l.subscribed || l.agents > 0 {
		return
	}
	i, _ := l.fw.find(l.role.path)
	l.fw.leaves = slices.Delete(l.fw.leaves, i, i+1)
	at := slices.Index(l.role.members, l)
	l.role.members = slices.Delete(l.role.members, at, at+1)
	h.forget(l.role)
}

// change notes that l may now get what it could not before.
func (h *hierarchical) change(l *leaf) {
	if !l.changed {
		l.changed = true
		h.changed = append(h.changed, l)
	}
}

// AddFramework implements [Allocator].
func (h *hierarchical) AddFramework(id string, info Framework, used map[string]resources.Resources) {
	if h.frameworks[id] != nil {
		panic(fmt.Sprintf("allocator: framework %q is there already", id))
	}
	f := &framework{id: id, info: info}
	h.frameworks[id] = f
	h.subscribe(f, info)
	known := make(map[*agent]resources.Resources)
	for a := range h.orphaned[id] {
		known[a] = a.orphans[id]
	}
	for agentID, r := range used {
		if a := h.agents[agentID]; a != nil {
			known[a] = r
		}
	}
	delete(h.orphaned, id)
	for _, a := range sortedAgents(maps.Keys(known)) {
		h.orphan(a, id, resources.Resources{})
		for _, e := range known[a].Allocations() {
			h.hold(a, h.track(f, e.Role), e.Resources.Unallocate())
		}
		h.mark(a)
	}
}

func sortedAgents(agents iter.Seq[*agent]) []*agent {
	return slices.SortedFunc(agents, func(a, b *agent) int { return strings.Compare(a.id, b.id) })
}

// subscribe makes f's leaves those of info.
func (h *hierarchical) subscribe(f *framework, info Framework) {
	f.info = info
	for _, path := range info.Roles {
		h.track(f, path)
	}
	for _, l := range slices.Clone(f.leaves) {
		path := l.role.path
		suppressed := slices.Contains(info.Suppressed, path)
		if l.suppressed && !suppressed {
			h.dropFilters(l)
		}
		l.suppressed = suppressed
		l.subscribed = slices.Contains(info.Roles, path)
		if !l.subscribed {
			h.dropFilters(l)
		}
		h.judge(l)
		h.activate(l)
		if l.active {
			h.change(l)
		}
		h.untrack(l)
	}
}

// UpdateFramework implements [Allocator].
func (h *hierarchical) UpdateFramework(id string, info Framework) {
	h.subscribe(h.framework(id), info)
	h.askAnew(h.framework(id))
}

// RemoveFramework implements [Allocator].
func (h *hierarchical) RemoveFramework(id string) {
	f := h.framework(id)
	for _, a := range h.heldBy(f) {
		for _, hd := range slices.Clone(a.held) {
			if hd.leaf.fw == f {
				h.unhold(a, hd.leaf, hd.res)
				h.mark(a)
			}
		}
	}
	for _, l := range slices.Clone(f.leaves) {
		l.subscribed = false
		h.dropFilters(l)
		h.activate(l)
		h.untrack(l)
	}
	delete(h.frameworks, id)
	h.forgetAnswers(id)
}

// heldBy returns the agents on which the framework holds something, by id.
func (h *hierarchical) heldBy(f *framework) []*agent {
	var out []*agent
	if !slices.ContainsFunc(f.leaves, func(l *leaf) bool { return l.agents > 0 }) {
		return nil
	}
	for _, a := range h.agents {
		if slices.ContainsFunc(a.held, func(hd holding) bool { return hd.leaf.fw == f }) {
			out = append(out, a)
		}
	}
	return sortedAgents(slices.Values(out))
}

// ActivateFramework implements [Allocator].
func (h *hierarchical) ActivateFramework(id string) {
	f := h.framework(id)
	f.info.Active = true
	for _, l := range f.leaves {
		h.activate(l)
		if l.active {
			h.change(l)
		}
	}
	h.askEverywhere()
}

// DeactivateFramework implements [Allocator].
func (h *hierarchical) DeactivateFramework(id string) {
	f := h.framework(id)
	f.info.Active = false
	f.needs = nil
	for _, l := range f.leaves {
		h.activate(l)
		h.dropFilters(l)
	}
	h.askAnew(f)
}

// AddAgent implements [Allocator].
func (h *hierarchical) AddAgent(id string, info Agent, used map[string]resources.Resources) {
	if h.agents[id] != nil {
		panic(fmt.Sprintf("allocator: agent %q is there already", id))
	}
	h.lastSeq++
	a := &agent{id: id, seq: h.lastSeq}
	h.agents[id] = a
	h.setAgent(a, info)
	for _, fw := range slices.Sorted(maps.Keys(used)) {
		f := h.frameworks[fw]
		if f == nil {
			h.orphan(a, fw, used[fw])
			continue
		}
		for _, e := range used[fw].Allocations() {
			h.hold(a, h.track(f, e.Role), e.Resources.Unallocate())
		}
	}
	h.mark(a)
}

// setAgent replaces what is known of the agent and says whether its total or
// its attributes changed.
func (h *hierarchical) setAgent(a *agent, info Agent) bool {
	totalChanged := !a.info.Total.Equal(info.Total)
	attributesChanged := !slices.EqualFunc(a.info.Attributes, info.Attributes, func(x, y *mesos.Attribute) bool {
		return proto.Equal(x, y)
	})
	total := info.Total
	if !totalChanged {
		total = a.info.Total
	}
	h.maintain(a, &info)
	info.Total = a.info.Total
	if attributesChanged || a.info.Hostname != info.Hostname || !proto.Equal(a.info.Domain, info.Domain) {
		h.forgetVerdicts(a)
	}
	a.info = info
	a.remote = h.isRemote(info.Domain)
	if totalChanged {
		h.setTotal(a, total)
	}
	h.countIdle(a)
	return totalChanged || attributesChanged
}

func (h *hierarchical) setTotal(a *agent, total resources.Resources) {
	h.quotas.totalChanged(h, a, a.info.Total, -1)
	before := h.vecOf(a.info.Total, nil)
	a.setTotal(total)
	after := h.vecOf(total, nil)
	h.quotas.totalChanged(h, a, total, 1)
	after.add(before, -1)
	if slices.ContainsFunc(after, func(x int64) bool { return x != 0 }) {
		h.total.add(after, 1)
		h.measure()
	}
}

// isRemote reports whether an agent of the domain is in another region than the
// master.
func (h *hierarchical) isRemote(d *mesos.DomainInfo) bool {
	if d.GetFaultDomain() == nil || h.opts.Domain.GetFaultDomain() == nil {
		return false
	}
	return d.GetFaultDomain().GetRegion().GetName() != h.opts.Domain.GetFaultDomain().GetRegion().GetName()
}

// UpdateAgent implements [Allocator].
func (h *hierarchical) UpdateAgent(id string, info Agent) {
	a := h.agent(id)
	if h.setAgent(a, info) {
		h.dropFiltersOn(a)
	}
	h.mark(a)
}

// RemoveAgent implements [Allocator].
func (h *hierarchical) RemoveAgent(id string) {
	a := h.agent(id)
	for _, hd := range slices.Clone(a.held) {
		h.unhold(a, hd.leaf, hd.res)
		h.untrack(hd.leaf)
	}
	for _, fw := range slices.Sorted(maps.Keys(a.orphans)) {
		h.orphan(a, fw, resources.Resources{})
	}
	h.dropFiltersOn(a)
	h.setUnavailability(a, nil)
	h.forgetVerdicts(a)
	h.setTotal(a, resources.Resources{})
	a.gone = true
	delete(h.agents, id)
}

// ActivateAgent implements [Allocator].
func (h *hierarchical) ActivateAgent(id string) {
	a := h.agent(id)
	a.info.Active = true
	h.countIdle(a)
	h.ask(a)
	h.mark(a)
}

// DeactivateAgent implements [Allocator].
func (h *hierarchical) DeactivateAgent(id string) {
	a := h.agent(id)
	a.info.Active = false
	h.countIdle(a)
	h.rescindOn(a)
}

// SetWhitelist implements [Allocator].
func (h *hierarchical) SetWhitelist(hostnames []string) {
	h.whitelist = nil
	if hostnames != nil {
		h.whitelist = make(map[string]bool, len(hostnames))
		for _, n := range hostnames {
			h.whitelist[n] = true
		}
	}
	for _, a := range sortedAgents(maps.Values(h.agents)) {
		h.countIdle(a)
		h.mark(a)
	}
}

// SuppressOffers implements [Allocator]. Roles that the framework is not
// subscribed to are ignored.
func (h *hierarchical) SuppressOffers(frameworkID string, roles []string) {
	for _, l := range h.named(frameworkID, roles) {
		l.suppressed = true
		h.activate(l)
	}
}

// ReviveOffers implements [Allocator]. Roles that the framework is not
// subscribed to are ignored.
func (h *hierarchical) ReviveOffers(frameworkID string, roles []string) {
	for _, l := range h.named(frameworkID, roles) {
		l.suppressed = false
		h.dropFilters(l)
		h.activate(l)
		if l.active {
			h.change(l)
		}
	}
	h.askAnew(h.framework(frameworkID))
}

func (h *hierarchical) named(frameworkID string, roles []string) []*leaf {
	f := h.framework(frameworkID)
	var out []*leaf
	for _, l := range f.leaves {
		if l.subscribed && (len(roles) == 0 || slices.Contains(roles, l.role.path)) {
			out = append(out, l)
		}
	}
	return out
}

// UpdateAllocation implements [Allocator].
func (h *hierarchical) UpdateAllocation(frameworkID, agentID string, consumed, converted resources.Resources) {
	a, f := h.agent(agentID), h.framework(frameworkID)
	for _, e := range consumed.Allocations() {
		h.release(a, f, e.Role, e.Resources.Unallocate())
	}
	for _, e := range converted.Allocations() {
		// It is still the same allocation: it does not count as another one.
		l, r := h.track(f, e.Role), e.Resources.Unallocate()
		h.record(a, l, r)
		a.unsettle()
		h.allocated(a, l, r, 1, true)
	}
	for _, l := range slices.Clone(f.leaves) {
		h.untrack(l)
	}
	// One more copy of a shared volume is not more of the agent.
	if !consumed.Empty() {
		h.convertTotal(a, consumed.Unallocate(), converted.Unallocate())
	}
	h.mark(a)
}

// release takes r, which the framework must hold in the role, back.
func (h *hierarchical) release(a *agent, f *framework, path string, r resources.Resources) *leaf {
	l := f.leaf(path)
	if l == nil || !h.unhold(a, l, r) {
		panic(fmt.Sprintf("allocator: framework %q does not hold %s on agent %q", f.id, r, a.id))
	}
	return l
}

func (h *hierarchical) convertTotal(a *agent, consumed, converted resources.Resources) {
	left, ok := a.info.Total.SubChecked(consumed)
	if !ok {
		panic(fmt.Sprintf("allocator: the total %s of agent %q does not contain %s", a.info.Total, a.id, consumed))
	}
	h.setTotal(a, left.Add(converted))
}

// UpdateAvailable implements [Allocator].
func (h *hierarchical) UpdateAvailable(agentID string, consumed, converted resources.Resources) bool {
	a := h.agent(agentID)
	consumed, converted = consumed.Unallocate(), converted.Unallocate()
	if !a.available().Contains(consumed) || !a.info.Total.Contains(consumed) {
		return false
	}
	h.convertTotal(a, consumed, converted)
	h.mark(a)
	return true
}

// RecoverResources implements [Allocator].
func (h *hierarchical) RecoverResources(
	now time.Time, frameworkID, agentID string, r resources.Resources, refusal *Filter,
) {
	a, f := h.agents[agentID], h.frameworks[frameworkID]
	if a == nil || r.Empty() {
		return
	}
	if f == nil {
		if o, ok := a.orphans[frameworkID]; ok {
			h.orphan(a, frameworkID, o.Sub(r))
			h.mark(a)
		}
		return
	}
	r.EachAllocation(func(role string, r resources.Resources) {
		l := h.release(a, f, role, r)
		if l.subscribed && refusal != nil {
			h.refuse(now, l, a, r, refusal.RefuseFor)
		}
		h.untrack(l)
	})
	h.mark(a)
}

// UpdateWeights implements [Allocator].
func (h *hierarchical) UpdateWeights(weights map[string]float64) {
	for _, p := range slices.Sorted(maps.Keys(weights)) {
		if weights[p] <= 0 {
			panic(fmt.Sprintf("allocator: weight %v of role %q", weights[p], p))
		}
		h.setWeight(p, weights[p])
	}
}

// StartRecovery implements [Allocator].
func (h *hierarchical) StartRecovery() { h.recovering = true }

// FinishRecovery implements [Allocator].
func (h *hierarchical) FinishRecovery() {
	h.recovering = false
	h.quotas.eased = true
}

// NextDeadline implements [Allocator].
func (h *hierarchical) NextDeadline() (time.Time, bool) {
	at, ok := h.nextExpiry()
	if asked, any := h.maintenance.next(); any && (!ok || asked.Before(at)) {
		return asked, true
	}
	return at, ok
}
