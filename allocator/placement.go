package allocator

import (
	"cmp"
	"slices"
)

// order puts the tasks into the order of the placement. Chance decides, or where
// a placement leaves it open. It is a function of seed, run and agent, so that
// the agents looked at are in the same order whoever else is.
func (h *hierarchical) order(tasks []task, salt uint64) {
	for i := range tasks {
		t := &tasks[i]
		t.order = mix(h.opts.Seed ^ mix(h.run<<2|salt) ^ mix(t.agent.seq<<20))
		switch h.opts.Placement {
		case PlacementSpread:
			t.used = t.agent.used()
		case PlacementPack:
			t.used = -t.agent.used()
		}
	}
	slices.SortFunc(tasks, func(a, b task) int {
		return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.order, b.order), cmp.Compare(a.agent.seq, b.agent.seq))
	})
}

// used returns which part of the agent is in use or offered, from 0 to 1: that of
// the scalar of which the largest part is.
func (a *agent) used() float64 {
	a.settleFree()
	free := a.free.Quantities()
	var most float64
	for i := range a.quantities.Len() {
		total := a.quantities.At(i)
		if total.Milli > 0 {
			most = max(most, 1-float64(free.Get(total.Name))/float64(total.Milli))
		}
	}
	return most
}
