package allocator

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	allocatorpb "clusterd/api/mesos/v1/allocator"
)

// maintenance is what the allocator knows of agents that are to be maintained,
// and of the inverse offers that ask frameworks to leave them (generateInverseOffers
// and what belongs to it in src/master/allocator/mesos/hierarchical.cpp). The
// zero value is empty.
//
// A run looks at the agents in due alone: those where something happened since
// that may call for an inverse offer.
type maintenance struct {
	agents map[*agent]*leaving
	due    []*leaving
	ends   refusals   // of those with an end
	brief  []*refusal // of those that last until the next AllocateAll
}

// leaving is an agent that is to be maintained. What it holds is by framework id.
type leaving struct {
	agent *agent
	// due: it is in maintenance.due.
	due bool
	// outstanding inverse offers are not answered yet. A framework has at most one
	// an agent, and none while it has a refusal.
	outstanding map[string]bool
	answers     map[string]*allocatorpb.InverseOfferStatus
	refusals    map[string]*refusal
}

// refusal keeps a framework from being asked again (RefusedInverseOfferFilter).
type refusal struct {
	from      *leaving
	framework string
	// ends is when it does; the zero time stands for the next AllocateAll.
	ends  time.Time
	index int // in maintenance.ends
}

// UpdateUnavailability implements [Allocator].
func (h *hierarchical) UpdateUnavailability(agentID string, u *mesos.Unavailability) {
	h.setUnavailability(h.agent(agentID), u)
}

// setUnavailability starts with a clean slate, even if nothing changes.
func (h *hierarchical) setUnavailability(a *agent, u *mesos.Unavailability) {
	a.info.Unavailability = u
	if a.leaving != nil {
		h.endRefusals(a)
		delete(h.maintenance.agents, a)
		a.leaving = nil
	}
	if u == nil {
		return
	}
	a.leaving = &leaving{
		agent: a, outstanding: make(map[string]bool),
		answers: make(map[string]*allocatorpb.InverseOfferStatus), refusals: make(map[string]*refusal),
	}
	if h.maintenance.agents == nil {
		h.maintenance.agents = make(map[*agent]*leaving)
	}
	h.maintenance.agents[a] = a.leaving
	h.ask(a)
}

// maintain notes the part of an agent's new info that concerns maintenance. It
// precedes the change of the agent's own info.
func (h *hierarchical) maintain(a *agent, info *Agent) {
	if !proto.Equal(a.info.Unavailability, info.Unavailability) {
		h.setUnavailability(a, info.Unavailability)
	}
	if !info.Active {
		h.rescindOn(a)
	}
	h.ask(a)
}

// ask notes that frameworks on the agent, if it is leaving, may have to be asked.
func (h *hierarchical) ask(a *agent) {
	if l := a.leaving; l != nil && !l.due {
		l.due = true
		h.maintenance.due = append(h.maintenance.due, l)
	}
}

func (h *hierarchical) askEverywhere() {
	for a := range h.maintenance.agents {
		h.ask(a)
	}
}

// askAnew drops all refusals of a framework; and the inverse offers to one that is
// not active, which count as rescinded. Mesos does so too on any REVIVE or
// UPDATE_FRAMEWORK (reviveRoles), whatever the roles.
func (h *hierarchical) askAnew(f *framework) {
	for _, l := range h.maintenance.agents {
		if r := l.refusals[f.id]; r != nil {
			h.maintenance.end(r)
		}
		if !f.info.Active {
			delete(l.outstanding, f.id)
		}
	}
	h.askEverywhere()
}

// forgetAnswers drops all that is kept of a framework. Mesos shows the answers of
// frameworks that are gone as long as the maintenance lasts.
func (h *hierarchical) forgetAnswers(framework string) {
	for _, l := range h.maintenance.agents {
		if r := l.refusals[framework]; r != nil {
			h.maintenance.end(r)
		}
		delete(l.outstanding, framework)
		delete(l.answers, framework)
	}
}

// rescindOn counts all inverse offers for the agent as rescinded.
func (h *hierarchical) rescindOn(a *agent) {
	if a.leaving != nil {
		clear(a.leaving.outstanding)
	}
}

// endRefusals drops all refusals of inverse offers for the agent.
func (h *hierarchical) endRefusals(a *agent) {
	if a.leaving == nil {
		return
	}
	for _, r := range a.leaving.refusals {
		h.maintenance.end(r)
	}
	h.ask(a)
}

// RescindInverseOffer implements [Allocator].
func (h *hierarchical) RescindInverseOffer(frameworkID, agentID string) {
	if a := h.agents[agentID]; a != nil && a.leaving != nil {
		delete(a.leaving.outstanding, frameworkID)
		h.ask(a)
	}
}

// UpdateInverseOffer implements [Allocator]. An answer to what is not outstanding
// is late, and ignored.
func (h *hierarchical) UpdateInverseOffer(
	now time.Time, frameworkID, agentID string, accepted bool, filter *Filter,
) {
	a := h.agents[agentID]
	if a == nil || a.leaving == nil || !a.leaving.outstanding[frameworkID] {
		return
	}
	l := a.leaving
	delete(l.outstanding, frameworkID)
	status := allocatorpb.InverseOfferStatus_DECLINE
	if accepted {
		status = allocatorpb.InverseOfferStatus_ACCEPT
	}
	l.answers[frameworkID] = &allocatorpb.InverseOfferStatus{
		Status:      &status,
		FrameworkId: &mesos.FrameworkID{Value: &frameworkID},
		Timestamp:   &mesos.TimeInfo{Nanoseconds: new(now.UnixNano())},
	}
	if filter == nil {
		h.ask(a)
		return
	}
	r := &refusal{from: l, framework: frameworkID}
	l.refusals[frameworkID] = r
	if filter.RefuseFor <= 0 {
		h.maintenance.brief = append(h.maintenance.brief, r)
		return
	}
	r.ends = now.Add(max(min(filter.RefuseFor, maxRefusal), h.opts.Interval))
	heap.Push(&h.maintenance.ends, r)
}

// InverseOfferStatuses implements [Allocator].
func (h *hierarchical) InverseOfferStatuses(agentID string) []*allocatorpb.InverseOfferStatus {
	a := h.agents[agentID]
	if a == nil || a.leaving == nil {
		return nil
	}
	out := make([]*allocatorpb.InverseOfferStatus, 0, len(a.leaving.answers))
	for _, id := range slices.Sorted(maps.Keys(a.leaving.answers)) {
		out = append(out, a.leaving.answers[id])
	}
	return out
}

// end takes a refusal away.
func (m *maintenance) end(r *refusal) {
	delete(r.from.refusals, r.framework)
	if !r.ends.IsZero() {
		heap.Remove(&m.ends, r.index)
	}
}

// inverseOffers ends the refusals whose time has come, with all those until the next
// AllocateAll too, and then asks the frameworks that hold something on agents that
// are due, in order of the agents' arrival and of the frameworks' ids.
func (h *hierarchical) inverseOffers(now time.Time, all bool) []InverseOffer {
	m := &h.maintenance
	for len(m.ends) > 0 && !m.ends[0].ends.After(now) {
		h.ask(m.ends[0].from.agent)
		m.end(m.ends[0])
	}
	if all {
		for _, r := range m.brief {
			// It may be gone, and another in its place.
			if r.from.refusals[r.framework] == r {
				m.end(r)
				h.ask(r.from.agent)
			}
		}
		m.brief = nil
	}
	if len(m.due) == 0 {
		return nil
	}
	var out []InverseOffer
	slices.SortFunc(m.due, func(a, b *leaving) int { return cmp.Compare(a.agent.seq, b.agent.seq) })
	for _, l := range m.due {
		l.due = false
		if l.agent.leaving == l && l.agent.info.Active {
			out = l.inverseOffers(out)
		}
	}
	clear(m.due)
	m.due = m.due[:0]
	return out
}

func (l *leaving) inverseOffers(out []InverseOffer) []InverseOffer {
	first := len(out)
	for i := range l.agent.held {
		f := l.agent.held[i].leaf.fw
		if !f.info.Active || l.outstanding[f.id] || l.refusals[f.id] != nil {
			continue
		}
		l.outstanding[f.id] = true
		out = append(out, InverseOffer{
			FrameworkID: f.id, AgentID: l.agent.id, Unavailability: l.agent.info.Unavailability,
		})
	}
	slices.SortFunc(out[first:], func(a, b InverseOffer) int { return strings.Compare(a.FrameworkID, b.FrameworkID) })
	return out
}

// next is when the first refusal ends.
func (m *maintenance) next() (time.Time, bool) {
	if len(m.ends) == 0 {
		return time.Time{}, false
	}
	return m.ends[0].ends, true
}

// refusals is a heap, the earliest end first. It is exact: what is dropped is taken
// out.
type refusals []*refusal

// Len implements [heap.Interface].
func (q refusals) Len() int { return len(q) }

// Less implements [heap.Interface].
func (q refusals) Less(i, j int) bool { return q[i].ends.Before(q[j].ends) }

// Swap implements [heap.Interface].
func (q refusals) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements [heap.Interface].
func (q *refusals) Push(x any) {
	r := x.(*refusal)
	r.index = len(*q)
	*q = append(*q, r)
}

// Pop implements [heap.Interface].
func (q *refusals) Pop() any {
	old := *q
	last := len(old) - 1
	r := old[last]
	old[last] = nil
	*q = old[:last]
	return r
}
