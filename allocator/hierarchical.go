package allocator

import (
	"fmt"
	"maps"
	"slices"
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
	unswept  []*agent // whose filters were dropped, see OfferFilters
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

func (h *hierarchical) agent(id string) *agent {
	a := h.agents[id]
	if a == nil {
		panic(fmt.Sprintf("allocator: unknown agent %q", id))
	}
	return a
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
