package allocator

import (
	"slices"
	"strings"

	"clusterd/allocator/resources"
)

// quotas are the quotas of top-level roles. While there is none, nothing is
// counted. A role without frameworks may have one.
//
// A role has consumed what is allocated to it or below it and not reserved, and
// all reservations for it or below it, allocated or not.
type quotas struct {
	by   map[string]*quota // by top-level role
	list []*quota          // by name
	// idle is what no one has and no one has reserved and is not revocable:
	// Mesos's available headroom.
	idle vec
	// required is what guarantees still lack: Mesos's required headroom.
	required vec
	// eased means that something an agent was blocked by may be so no longer.
	eased bool
}

type quota struct {
	role       string
	q          Quota
	guarantees vec
	consumed   vec
}

// lacking is what the role still has to get, at index i.
func (q *quota) lacking(i int) int64 { return max(0, q.guarantees.at(i)-q.consumed.at(i)) }

func topLevel(role string) string {
	top, _, _ := strings.Cut(role, "/")
	return top
}

// of returns the quota that binds a role, nil if there is none.
func (qs *quotas) of(role string) *quota {
	if len(qs.by) == 0 {
		return nil
	}
	return qs.by[topLevel(role)]
}

func (qs *quotas) consume(q *quota, v vec, sign int64) {
	for i, x := range v {
		if x == 0 {
			continue
		}
		before := q.lacking(i)
		for len(q.consumed) <= i {
			q.consumed = append(q.consumed, 0)
		}
		q.consumed[i] += sign * x
		for len(qs.required) <= i {
			qs.required = append(qs.required, 0)
		}
		qs.required[i] += q.lacking(i) - before
	}
}

func chargeable(it resources.Item) bool { return !it.Reserved() && !it.Revocable() }

// held counts r as held (or by sign no longer held) in a role.
func (qs *quotas) held(h *hierarchical, role string, r resources.Resources, sign int64) {
	if len(qs.by) == 0 {
		return
	}
	v := h.vecOf(r, chargeable)
	qs.idle.add(v, -sign)
	if q := qs.of(role); q != nil {
		qs.consume(q, v, sign)
	}
	if sign < 0 {
		qs.eased = true
	}
}

// totalChanged counts the reservations of an agent's total.
func (qs *quotas) totalChanged(h *hierarchical, total resources.Resources, sign int64) {
	if len(qs.by) == 0 {
		return
	}
	qs.eased = true
	qs.idle.add(h.vecOf(total, chargeable), sign)
	for _, e := range total.Reservations() {
		if q := qs.of(e.Role); q != nil {
			qs.consume(q, h.vecOf(e.Resources, nil), sign)
		}
	}
}

// UpdateQuota implements [Allocator]. Only quotas of top-level roles act: they
// bind their subroles, too, which Mesos leaves unbound.
func (h *hierarchical) UpdateQuota(role string, q *Quota) {
	qs := &h.quotas
	i, found := slices.BinarySearchFunc(qs.list, role, func(e *quota, role string) int {
		return strings.Compare(e.role, role)
	})
	if found {
		qs.list = slices.Delete(qs.list, i, i+1)
		delete(qs.by, role)
	}
	if q != nil && (!q.Guarantees.Empty() || !q.Limits.Empty()) {
		e := &quota{role: role, q: *q}
		for j := range q.Guarantees.Len() {
			g := q.Guarantees.At(j)
			n := h.index(g.Name)
			for len(e.guarantees) <= n {
				e.guarantees = append(e.guarantees, 0)
			}
			e.guarantees[n] = g.Milli
		}
		qs.list = slices.Insert(qs.list, i, e)
		qs.by[role] = e
	}
	h.recount()
}

// recount counts everything anew.
func (h *hierarchical) recount() {
	qs := &h.quotas
	qs.idle, qs.required, qs.eased = nil, nil, true
	for _, q := range qs.list {
		q.consumed = nil
		for i := range q.guarantees {
			for len(qs.required) <= i {
				qs.required = append(qs.required, 0)
			}
			qs.required[i] += q.guarantees[i]
		}
	}
	// Sums of whole numbers: the order of agents cannot be seen.
	for _, a := range h.agents {
		qs.totalChanged(h, a.info.Total, 1)
		for _, hd := range a.held {
			qs.held(h, hd.leaf.role.path, hd.res, 1)
		}
		for _, r := range a.orphans {
			for _, e := range r.Allocations() {
				qs.held(h, e.Role, e.Resources, 1)
			}
		}
	}
}

// quantities turns v, where positive, into quantities.
func (h *hierarchical) quantities(v func(i int) int64) resources.Quantities {
	amounts := make(map[string]float64, len(h.names))
	for name, i := range h.names {
		if x := v(i); x > 0 {
			amounts[name] = resources.FromMilli(x)
		}
	}
	return resources.NewQuantities(amounts)
}

// withinLimits cuts r down to what the quota's limits leave.
func (h *hierarchical) withinLimits(q *quota, r, taken resources.Resources) resources.Resources {
	if q == nil || q.q.Limits.Empty() {
		return r
	}
	consumed := h.quantities(q.consumed.at)
	return r.Within(q.q.Limits.SubFromLimits(consumed).SubFromLimits(taken.Quantities()))
}

// withinHeadroom cuts r down to what guarantees of others do not need.
func (h *hierarchical) withinHeadroom(r resources.Resources) resources.Resources {
	qs := &h.quotas
	if r.Empty() || !slices.ContainsFunc(qs.required, func(x int64) bool { return x > 0 }) {
		return r
	}
	return r.Shrink(h.quantities(func(i int) int64 { return qs.idle.at(i) - qs.required.at(i) }))
}
