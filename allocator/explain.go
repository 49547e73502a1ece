package allocator

import (
	"slices"
	"strings"
	"time"

	"clusterd/allocator/resources"
)

// Reason says why a framework is offered nothing of an agent.
type Reason string

// Reasons, in the order in which they are looked for. Of a framework with several roles
// that of the role which came furthest counts.
const (
	// FrameworkInactive says that the framework is disconnected, or was deactivated.
	FrameworkInactive Reason = "FRAMEWORK_INACTIVE"
	// NoRoles says that it is subscribed to no role.
	NoRoles Reason = "NO_ROLES"
	// Suppressed says that it has suppressed offers.
	Suppressed Reason = "SUPPRESSED"
	// Deactivated says that the agent is not offered to anybody.
	Deactivated Reason = "DEACTIVATED"
	// NotWhitelisted says that the agent is not in the whitelist.
	NotWhitelisted Reason = "WHITELIST"
	// AgentTooSmall says that even all that the agent has is less than the least that the
	// framework wants in an offer, or that is offered at all.
	AgentTooSmall Reason = "AGENT_TOO_SMALL"
	// NoResources says that all of the agent is in use or offered.
	NoResources Reason = "NO_RESOURCES"
	// ReservedForOthers says that what is left is reserved for other roles.
	ReservedForOthers Reason = "RESERVED_FOR_OTHERS"
	// LacksCapability says that the framework cannot use what is left, or the agent cannot
	// serve the role: one of them is too old for the other.
	LacksCapability Reason = "CAPABILITIES"
	// Recovering says that agents are still to come back after a change of the leader, and
	// that nothing that counts towards a quota is offered before.
	Recovering Reason = "RECOVERING"
	// QuotaLimit says that the role has what the limit of its quota allows.
	QuotaLimit Reason = "QUOTA_LIMIT"
	// GuaranteesOfOthers says that what is left is kept for roles whose guarantee is not met.
	GuaranteesOfOthers Reason = "GUARANTEES_OF_OTHERS"
	// BelowMinAllocatable says that too little is left to be offered.
	BelowMinAllocatable Reason = "BELOW_MIN_ALLOCATABLE"
	// Filtered says that the framework has declined what is left, and its filter still holds.
	Filtered Reason = "FILTERED"
	// NoGPU says that agents with GPUs are offered only to frameworks with GPU_RESOURCES.
	NoGPU Reason = "GPU"
	// OtherRegion says that the agent is in another region, and the framework is not aware
	// of regions.
	OtherRegion Reason = "REGION"
	// ConstraintsUnmet says that the framework's offer constraints exclude the agent.
	ConstraintsUnmet Reason = "CONSTRAINTS"
	// Eligible says that nothing stands in the way: it is a matter of whose turn it is.
	Eligible Reason = "ELIGIBLE"
)

// rank orders reasons as they are declared.
func (r Reason) rank() int { return slices.Index(reasons[:], r) }

var reasons = [...]Reason{
	FrameworkInactive, NoRoles, Suppressed, Deactivated, NotWhitelisted, AgentTooSmall, NoResources, ReservedForOthers, LacksCapability,
	Recovering, QuotaLimit, GuaranteesOfOthers, BelowMinAllocatable, Filtered, NoGPU, OtherRegion, ConstraintsUnmet, Eligible,
}

// AgentExplanation says why a framework is offered nothing of an agent.
type AgentExplanation struct {
	AgentID string
	Reason  Reason
	// Role is the one that came furthest.
	Role string
	// Until is when the filters end that hold it back, if they do so at a time: those for no
	// time end with the next run for all agents.
	Until time.Time
	// Unfit says that the framework has stated what it needs (REQUEST), and that none of it
	// would find room on the agent if all of that were free.
	Unfit bool
}

// RoleExplanation says how a role of a framework stands.
type RoleExplanation struct {
	Role       string
	Suppressed bool
	// Weight and Share are of the role with all roles below it: the largest part of any
	// resource of the cluster that it holds. FrameworkShare is the framework's own in it.
	Weight, Share, FrameworkShare float64
	// Quota that binds the role: its own, or that of the nearest role above it that has
	// one; nil if there is none.
	Quota *QuotaExplanation
	// LimitedBy are the roles, this one or above it, whose limits leave no more to offer.
	LimitedBy []string
}

// QuotaExplanation is a quota, and what counts towards it, by the name of the resource.
type QuotaExplanation struct {
	Role                       string
	Guarantee, Limit, Consumed map[string]float64
}

// Explanation says why a framework is offered nothing.
type Explanation struct {
	Active bool
	Roles  []RoleExplanation
	Agents []AgentExplanation
	// Needs are what the framework has said that it needs (REQUEST): any of them will do.
	Needs []Need
}

// Need is something that a framework has said that it needs.
type Need struct {
	// AgentID is where, anywhere if it is empty.
	AgentID   string
	Resources resources.Resources
}

// Explain implements [Allocator]. It decides as [visit.offer] does, one agent after the
// other, as if the framework were alone.
func (h *hierarchical) Explain(frameworkID string, agentIDs []string) (Explanation, bool) {
	f := h.frameworks[frameworkID]
	if f == nil {
		return Explanation{}, false
	}
	e := Explanation{Active: f.info.Active}
	for _, l := range f.leaves {
		if l.subscribed {
			e.Roles = append(e.Roles, h.explainRole(l))
		}
	}
	for i := range f.needs {
		e.Needs = append(e.Needs, Need{f.needs[i].agent, f.needs[i].res})
	}
	v := visit{h: h, round: shares, t: &task{}}
	for _, id := range agentIDs {
		if a := h.agents[id]; a != nil {
			one := v.explain(f, a)
			one.Unfit = f.defers(a, a.info.Total)
			e.Agents = append(e.Agents, one)
		}
	}
	return e, true
}

func (h *hierarchical) explainRole(l *leaf) RoleExplanation {
	n := h.find(l.role.path)
	out := RoleExplanation{
		Role: l.role.path, Suppressed: l.suppressed, Weight: n.weight,
		Share: h.trueShare(h.share(n.alloc)), FrameworkShare: h.trueShare(h.share(l.alloc)),
	}
	qs := &h.quotas
	if !qs.active() || qs.stale {
		return out
	}
	for q := qs.nearest(l.role.path); q != &qs.root; q = q.parent {
		if out.Quota == nil {
			out.Quota = &QuotaExplanation{
				Role: q.role, Guarantee: amountsOf(q.q.Guarantees), Limit: amountsOf(q.q.Limits), Consumed: h.byName(q.consumed),
			}
		}
		if h.tooLittle(q.left) || q.exhausted() {
			out.LimitedBy = append(out.LimitedBy, q.role)
		}
	}
	return out
}

// exhausted reports whether a limit leaves nothing of some resource.
func (q *quota) exhausted() bool {
	for i := range q.limits {
		if q.left(i) <= 0 {
			return true
		}
	}
	return false
}

func amountsOf(q resources.Quantities) map[string]float64 {
	out := make(map[string]float64, q.Len())
	for i := range q.Len() {
		out[q.At(i).Name] = resources.FromMilli(q.At(i).Milli)
	}
	return out
}

func (h *hierarchical) byName(v vec) map[string]float64 {
	out := make(map[string]float64, len(v))
	for name, i := range h.names {
		if x := v.at(i); x != 0 {
			out[name] = resources.FromMilli(x)
		}
	}
	return out
}

// explain finds out why f is offered nothing of the agent.
func (v *visit) explain(f *framework, a *agent) AgentExplanation {
	out := AgentExplanation{AgentID: a.id}
	switch {
	case !a.info.Active:
		out.Reason = Deactivated
		return out
	case !v.h.offered(a):
		out.Reason = NotWhitelisted
		return out
	case !f.info.Active:
		out.Reason = FrameworkInactive
		return out
	}
	v.a, v.roomFor, v.roomAt = a, nil, 0
	v.look()
	out.Reason = NoRoles
	for _, l := range f.leaves {
		if !l.subscribed {
			continue
		}
		reason, until := v.reason(l)
		better := reason.rank() > out.Reason.rank()
		if reason == Filtered && out.Reason == Filtered && until.Before(out.Until) {
			better = true // the filter that ends first
		}
		if better {
			out.Reason, out.Role, out.Until = reason, l.role.path, until
		}
	}
	return out
}

// reason is [visit.offer] without an offer.
func (v *visit) reason(l *leaf) (Reason, time.Time) {
	no := func(r Reason) (Reason, time.Time) { return r, time.Time{} }
	if l.suppressed {
		return no(Suppressed)
	}
	if v.left.Empty() {
		return no(NoResources)
	}
	r := v.whole
	if !v.plain {
		if r = v.left.AllocatableTo(l.role.path); r.Empty() {
			return no(ReservedForOthers)
		}
		if r = arrange(strip(&l.fw.info, r)); r.Empty() {
			return no(LacksCapability)
		}
	}
	if !v.enoughAlone(l, r) {
		if !v.enoughAlone(l, strip(&l.fw.info, v.a.info.Total.AllocatableTo(l.role.path))) {
			return no(AgentTooSmall)
		}
		return no(BelowMinAllocatable)
	}
	if qs := &v.h.quotas; qs.active() && !qs.stale {
		within, why := v.explainQuotas(l, r)
		if why != "" {
			return no(why)
		}
		r = within
	}
	if until, held := l.filteredUntil(v.a, r); held {
		return Filtered, until
	}
	return no(v.incapable(l))
}

// enoughAlone is enoughFor without what was found out about the agent as a whole.
func (v *visit) enoughAlone(l *leaf, r resources.Resources) bool {
	if l.own {
		return meets(l.fw.info.MinAllocatable[l.role.path], r)
	}
	return meets(v.h.opts.MinAllocatable, r)
}

// explainQuotas cuts r as quotas do. Why is set if what remains cannot be offered.
func (v *visit) explainQuotas(l *leaf, r resources.Resources) (within resources.Resources, why Reason) {
	v.measure(l.role)
	cut := func(left func(i int) int64) resources.Resources {
		most := make(vec, len(v.room.limit))
		for i := range most {
			most[i] = left(i)
		}
		return r.Cut(func(it resources.Item) *int64 {
			if !isQuotaItem(it) {
				return nil
			}
			return &most[v.h.names[it.Name()]]
		})
	}
	within = cut(func(i int) int64 { return min(v.room.limit[i], v.room.cluster[i]) })
	if v.enoughAlone(l, within) && v.worth(l) {
		return within, ""
	}
	if v.h.recovering && l.role.leaf.bound != &v.h.quotas.root {
		return within, Recovering
	}
	if !v.enoughAlone(l, cut(func(i int) int64 { return v.room.limit[i] })) {
		return within, QuotaLimit
	}
	return within, GuaranteesOfOthers
}

// worth is worthwhile without a note of what was cut.
func (v *visit) worth(l *leaf) bool {
	if !v.plain || l.role.leaf.own > 0 {
		return true
	}
	return !v.h.tooLittle(func(i int) int64 { return min(v.room.limit[i], v.room.cluster[i], v.scalars.at(i)) })
}

// filteredUntil says whether filters keep r from l, and when the last of them ends; it is
// the zero time if one ends with the next run for all agents.
func (l *leaf) filteredUntil(a *agent, r resources.Resources) (until time.Time, held bool) {
	fs := l.filters[a]
	if len(fs) == 0 || fs[0].era != a.era {
		return until, false
	}
	for _, f := range fs {
		if f.refused.Contains(r) {
			held = true
			if f.expires.After(until) {
				until = f.expires
			}
		}
	}
	return until, held
}

// incapable is capable with a reason, Eligible if there is none.
func (v *visit) incapable(l *leaf) Reason {
	f, a := &l.fw.info, v.a
	switch {
	case v.h.opts.FilterGPUResources && a.gpu && !f.GPU:
		return NoGPU
	case a.remote && !f.RegionAware:
		return OtherRegion
	case f.MultiRole && !a.info.MultiRole, !a.info.HierarchicalRole && strings.Contains(l.role.path, "/"):
		return LacksCapability
	case l.verdicts != nil && !l.verdicts.constraints.Match(l.role.path, a.info.Hostname, a.info.Domain, a.info.Attributes):
		return ConstraintsUnmet
	default:
		return Eligible
	}
}
