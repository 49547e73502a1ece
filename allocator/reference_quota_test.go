package allocator

import (
	"math"
	"slices"
	"strings"

	"clusterd/allocator/resources"
)

// The quantities of quotas are in thousandths by name. Without a limit there is
// boundless room.
const boundless = int64(math.MaxInt64)

func isBelow(role, top string) bool { return role == top || strings.HasPrefix(role, top+"/") }

// consumed is what the role and those below it hold, and what is reserved for
// them.
func (r *reference) consumed(top, name string) int64 {
	var sum int64
	for h, res := range r.holds {
		if isBelow(h.role, top) {
			sum += res.Filter(isQuota).Scalar(name)
		}
	}
	for _, res := range r.orphans {
		for _, e := range res.Allocations() {
			if isBelow(e.Role, top) {
				sum += e.Resources.Filter(isQuota).Scalar(name)
			}
		}
	}
	for _, a := range r.agents {
		sum += a.Total.ReservedToSubtree(top).Scalar(name)
	}
	return sum
}

// children are the roles with a quota below a role, "" for the cluster, that have
// no other role with a quota between them and it.
func (r *reference) children(top string) []string {
	var out []string
	for role := range r.quotas {
		if r.quotaAbove(role) == top {
			out = append(out, role)
		}
	}
	return out
}

// quotaAbove is the nearest ancestor with a quota, "" if there is none.
func (r *reference) quotaAbove(role string) string {
	for _, a := range resources.Ancestors(role) {
		if _, ok := r.quotas[a]; ok {
			return a
		}
	}
	return ""
}

// left is what the limit of the role leaves.
func (r *reference) left(role, name string) int64 {
	if l := r.quotas[role].Limits; l.Has(name) {
		return l.Get(name) - r.consumed(role, name)
	}
	return boundless
}

func (r *reference) lacking(role, name string) int64 {
	return r.quotas[role].Guarantees.Get(name) - r.consumed(role, name)
}

// need is what has to be kept for a role with a quota.
func (r *reference) need(role, name string) int64 {
	return max(0, min(max(r.lacking(role, name), r.needBelow(role, name)), r.left(role, name)))
}

func (r *reference) needBelow(role, name string) int64 {
	var sum int64
	for _, c := range r.children(role) {
		sum += r.need(c, name)
	}
	return sum
}

// room is what a role may be given of a name, and what its guarantee or one
// above it still promises it.
func (r *reference) room(role, name string) (most, entitled int64) {
	// The roles with quotas that bind it, the nearest first.
	var bounds []string
	if _, ok := r.quotas[role]; ok {
		bounds = append(bounds, role)
	}
	for _, a := range resources.Ancestors(role) {
		if _, ok := r.quotas[a]; ok {
			bounds = append(bounds, a)
		}
	}
	if r.recovering && len(bounds) > 0 {
		return 0, 0
	}
	// others is what others need within a role that binds it, "" for the cluster.
	others := func(within string) int64 {
		var sum int64
		for _, b := range append([]string{""}, bounds...) {
			if within != "" && !isBelow(b, within) {
				continue
			}
			for _, c := range r.children(b) {
				if !slices.Contains(bounds, c) {
					sum += r.need(c, name)
				}
			}
		}
		return sum
	}
	room, limit := boundless, boundless
	for _, b := range bounds {
		entitled = max(entitled, r.lacking(b, name)-others(b))
		if left := r.left(b, name); left != boundless {
			limit = min(limit, left)
			room = min(room, left-others(b))
		}
	}
	if o := others(""); o > 0 {
		room = min(room, r.idle(name)-o)
	}
	return max(0, min(limit, max(entitled, room))), entitled
}

// idle is what no one holds, of agents that are offered. It is not the sum of what
// is available, which is cut off at zero where the total of an agent has shrunk.
func (r *reference) idle(name string) int64 {
	var sum int64
	for _, a := range r.agents {
		if r.offered(a) {
			sum += a.Total.Filter(isQuota).Scalar(name)
		}
	}
	for h, held := range r.holds {
		if r.offered(r.agents[h.agent]) {
			sum -= held.Filter(isQuota).Scalar(name)
		}
	}
	for k, held := range r.orphans {
		if r.offered(r.agents[k[0]]) {
			sum -= held.Filter(isQuota).Scalar(name)
		}
	}
	return sum
}

// cut leaves of the quota items what the role has room for, and says whether it
// is entitled to some of that.
func (r *reference) cut(role string, res resources.Resources) (out resources.Resources, entitled bool) {
	room := map[string]int64{}
	for i := range res.Len() {
		it := res.At(i)
		if !isQuota(it) {
			out = out.Add(it.AsResources())
			continue
		}
		name := it.Name()
		most, promised := r.room(role, name)
		if _, ok := room[name]; !ok {
			room[name] = most
		}
		part := it.AsResources().Shrink(resources.NewQuantities(map[string]float64{name: resources.FromMilli(room[name])}))
		room[name] -= part.Scalar(name)
		out = out.Add(part)
		entitled = entitled || !part.Shrink(resources.NewQuantities(map[string]float64{name: resources.FromMilli(promised)})).Empty()
	}
	return out, entitled
}
