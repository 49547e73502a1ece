package allocator

import (
	"cmp"
	"math/bits"
	"slices"
)

// turn is when a task comes up in a round: by used, which the placement sets, and
// then by chance.
type turn struct {
	used   float64
	chance uint64
	task   int
}

func (a turn) compare(b turn) int {
	return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.chance, b.chance), cmp.Compare(a.task, b.task))
}

// order returns the tasks in the order of the placement; where it leaves that
// open, chance decides. Chance is a function of seed, run and agent, so that the
// agents looked at are in the same order whoever else is. The result is good until
// the next call.
func (h *hierarchical) order(tasks []task, salt uint64) []turn {
	seed := h.opts.Seed ^ mix(h.run<<2|salt)
	h.turns = slices.Grow(h.turns[:0], 2*len(tasks))[:2*len(tasks)]
	out, by := h.turns[:len(tasks)], h.turns[len(tasks):]
	for i := range tasks {
		a := tasks[i].agent
		by[i] = turn{chance: mix(seed ^ mix(a.seq<<20)), task: i}
		switch h.opts.Placement {
		case PlacementSpread:
			by[i].used = a.used()
		case PlacementPack:
			by[i].used = -a.used()
		}
	}
	if len(by) < 64 || h.opts.Placement == PlacementSpread || h.opts.Placement == PlacementPack {
		copy(out, by)
		slices.SortFunc(out, turn.compare)
		return out
	}
	h.distribute(out, by)
	return out
}

// distribute sorts turns by chance, in time that is proportional to their number:
// chances are spread evenly, so that one pass puts each nearly where it belongs.
func (h *hierarchical) distribute(out, by []turn) {
	shift := 64 - bits.Len(uint(len(by)))
	n := 1<<(64-shift) + 1
	h.counts = slices.Grow(h.counts[:0], n)[:n]
	clear(h.counts)
	for i := range by {
		h.counts[by[i].chance>>shift+1]++
	}
	for i := 1; i < n; i++ {
		h.counts[i] += h.counts[i-1]
	}
	for i := range by {
		to := &h.counts[by[i].chance>>shift]
		out[*to] = by[i]
		*to++
	}
	for i := 1; i < len(out); i++ {
		for j := i; j > 0 && out[j].compare(out[j-1]) < 0; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
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
