package allocator

// FilterCounter is what an [Allocator] may do besides.
type FilterCounter interface {
	// OfferFilters returns how many filters there are in each role that frameworks are
	// subscribed to. It changes nothing that is decided.
	OfferFilters() map[string]int
}

var _ FilterCounter = (*hierarchical)(nil)

const (
	// maxUnswept agents may wait to be swept. Beyond that each drop sweeps another.
	maxUnswept = 1024
	// maxSwept is how many filters' places one call looks at, so that it is short even
	// after a change of all agents; the rest is for the next.
	maxSwept = 200_000
)

// voided notes that the filters on an agent are void, which frameworks still count.
func (h *hierarchical) voided(a *agent) {
	if a.unswept {
		return
	}
	a.unswept = true
	h.unswept = append(h.unswept, a)
	if len(h.unswept) > maxUnswept {
		h.sweep(1)
	}
}

// sweep clears away void filters on at least one agent, and on more until n places have
// been looked at.
func (h *hierarchical) sweep(n int) {
	for n > 0 && len(h.unswept) > 0 {
		a := h.unswept[0]
		h.unswept[0] = nil
		h.unswept = h.unswept[1:]
		a.unswept = false
		for _, f := range h.frameworks {
			for _, l := range f.leaves {
				if l.filterCount > 0 {
					l.filtersOn(a)
				}
				n--
			}
		}
	}
	if len(h.unswept) == 0 {
		h.unswept = nil
	}
}

// OfferFilters implements [FilterCounter].
func (h *hierarchical) OfferFilters() map[string]int {
	h.sweep(maxSwept)
	counts := make(map[string]int, len(h.roles))
	for path, r := range h.roles {
		n, subscribed := 0, false
		for _, l := range r.members {
			n += l.filterCount
			subscribed = subscribed || l.subscribed
		}
		if subscribed {
			counts[path] = n
		}
	}
	return counts
}
