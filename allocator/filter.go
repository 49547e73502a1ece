package allocator

import (
	"slices"
	"time"

	"clusterd/allocator/resources"
)

// filter keeps a framework in a role from being offered resources of an agent
// that are no more than it refused (RefusedOfferFilter).
type filter struct {
	refused resources.Resources
	// expires is when it ends. The zero time stands for the next AllocateAll.
	expires time.Time
	// era is the agent's when the filter was set: it ends with it.
	era uint64
	// heldAt is the agent's version when the filter last held all of it back.
	heldAt uint64
}

// expiry is an entry of the heap of filters. The filter may be gone already.
type expiry struct {
	at    time.Time
	leaf  *leaf
	agent *agent
	f     *filter
}

// refuse sets a filter for r, which carries no allocation role. Refusing for no time at all sets none, as in Mesos;
// there, however, the next offer is a second away. Here it would be made at
// once, refused, and so on as fast as the network goes; so it waits for
// AllocateAll.
func (h *hierarchical) refuse(now time.Time, l *leaf, a *agent, r resources.Resources, d time.Duration) {
	f := &filter{refused: r, era: a.era}
	if d > 0 {
		d = min(d, maxRefusal)
		f.expires = now.Add(max(d, h.opts.Interval))
	}
	// What the new one covers in resources and time need not be kept.
	old := l.filtersOn(a)
	kept := old[:0:0]
	for _, o := range old {
		if !o.expires.IsZero() && (f.expires.IsZero() || o.expires.After(f.expires)) || !f.refused.Contains(o.refused) {
			kept = append(kept, o)
		}
	}
	h.stale += len(old) - len(kept)
	a.filters += 1 + len(kept) - len(old)
	l.filterCount += 1 + len(kept) - len(old)
	if l.filters == nil {
		l.filters = make(map[*agent][]*filter)
	}
	l.filters[a] = append(kept, f)
	if f.expires.IsZero() {
		h.brief = append(h.brief, expiry{leaf: l, agent: a, f: f})
		return
	}
	h.push(expiry{at: f.expires, leaf: l, agent: a, f: f})
}

const maxRefusal = 365 * 24 * time.Hour

// dropFilters drops all filters of a framework in a role.
func (h *hierarchical) dropFilters(l *leaf) {
	for a, fs := range l.filters {
		if fs[0].era == a.era {
			h.stale += len(fs)
			a.filters -= len(fs)
		}
	}
	l.filters, l.filterCount = nil, 0
	h.compact()
}

// dropFiltersOn drops all filters on an agent. With its era they are void; who
// comes across them clears them away.
func (h *hierarchical) dropFiltersOn(a *agent) {
	h.stale += a.filters
	if a.filters > 0 {
		h.voided(a)
	}
	a.filters = 0
	a.era++
	h.endRefusals(a)
	h.compact()
}

// filtersOn returns the framework's filters on the agent.
func (l *leaf) filtersOn(a *agent) []*filter {
	fs := l.filters[a]
	if len(fs) > 0 && fs[0].era != a.era {
		l.filterCount -= len(fs)
		delete(l.filters, a)
		return nil
	}
	return fs
}

// expire ends the filters whose time has come; their agents are looked at again.
func (h *hierarchical) expire(now time.Time) {
	for len(h.expiries) > 0 && !h.expiries[0].at.After(now) {
		e := h.pop()
		if e.live() {
			e.end()
			h.mark(e.agent)
		} else {
			h.stale--
		}
	}
}

// expireBrief ends the filters that last until AllocateAll.
func (h *hierarchical) expireBrief() {
	for _, e := range h.brief {
		if e.live() {
			e.end()
			h.mark(e.agent)
		}
	}
	h.brief = nil
}

func (e expiry) live() bool {
	return slices.Contains(e.leaf.filtersOn(e.agent), e.f)
}

func (e expiry) end() {
	e.agent.filters--
	e.leaf.filterCount--
	fs := e.leaf.filters[e.agent]
	if len(fs) == 1 {
		delete(e.leaf.filters, e.agent)
		return
	}
	kept := make([]*filter, 0, len(fs)-1)
	for _, f := range fs {
		if f != e.f {
			kept = append(kept, f)
		}
	}
	e.leaf.filters[e.agent] = kept
}

// filtered reports whether a filter keeps r, unallocated, from l. All says that r
// is all that is free on the agent.
func (l *leaf) filtered(a *agent, r resources.Resources, all bool) bool {
	for _, f := range l.filtersOn(a) {
		if all && f.heldAt == a.version {
			return true
		}
		if f.refused.Contains(r) {
			if all {
				f.heldAt = a.version
			}
			return true
		}
	}
	return false
}

// nextExpiry is the end of the first filter that is still set.
func (h *hierarchical) nextExpiry() (time.Time, bool) {
	for len(h.expiries) > 0 {
		if h.expiries[0].live() {
			return h.expiries[0].at, true
		}
		h.pop()
		h.stale--
	}
	return time.Time{}, false
}

// The heap of expiries, the earliest first. Of those with the same time any may
// be first: all that are due are ended before anything is decided.

func (h *hierarchical) push(e expiry) {
	h.expiries = append(h.expiries, e)
	q := h.expiries
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !q[i].at.Before(q[up].at) {
			break
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
	h.compact()
}

func (h *hierarchical) pop() expiry {
	q := h.expiries
	top := q[0]
	last := len(q) - 1
	q[0] = q[last]
	q[last] = expiry{}
	h.expiries = q[:last]
	h.sift(0)
	return top
}

func (h *hierarchical) sift(i int) {
	q := h.expiries
	for {
		c := 2*i + 1
		if c >= len(q) {
			return
		}
		if c+1 < len(q) && q[c+1].at.Before(q[c].at) {
			c++
		}
		if !q[c].at.Before(q[i].at) {
			return
		}
		q[i], q[c] = q[c], q[i]
		i = c
	}
}

// compact rebuilds the heap when most of it stands for filters that are gone,
// so that a framework that refuses for a year and revives every second costs
// memory for its live filters only.
func (h *hierarchical) compact() {
	if h.stale < 1024 || h.stale < len(h.expiries)/2 {
		return
	}
	live := h.expiries[:0]
	for _, e := range h.expiries {
		if e.live() {
			live = append(live, e)
		}
	}
	clear(h.expiries[len(live):])
	h.expiries = live
	for i := len(live)/2 - 1; i >= 0; i-- {
		h.sift(i)
	}
	h.stale = 0
}
