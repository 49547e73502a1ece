package allocator

// verdicts remember which agents the constraints of a framework let through in one
// of its roles, a bit an agent. What constraints look at changes seldom, while agents
// are offered all the time: without this, a freed agent has every regular expression
// of every framework run on its hostname, a thousand times a microsecond.
type verdicts struct {
	constraints   *Constraints
	known, wanted []uint64 // by agent.slot
}

// judge gives l, whose framework has changed, its verdicts: nil if there is nothing to
// judge in its role.
func (h *hierarchical) judge(l *leaf) {
	c := l.fw.info.Constraints
	switch {
	case c == nil || c.roles[l.role.path] == nil:
		l.verdicts = nil
	case l.verdicts == nil || l.verdicts.constraints != c:
		l.verdicts = &verdicts{constraints: c}
	}
}

// wants reports whether the constraints of l, which has some, let the agent through.
func (h *hierarchical) wants(l *leaf, a *agent) bool {
	v := l.verdicts
	if a.slot == 0 {
		h.takeSlot(a)
	}
	word, bit := a.slot/64, uint64(1)<<(a.slot%64)
	for len(v.known) <= word {
		v.known, v.wanted = append(v.known, 0), append(v.wanted, 0)
	}
	if v.known[word]&bit == 0 {
		v.known[word] |= bit
		v.wanted[word] &^= bit
		if v.constraints.Match(l.role.path, a.info.Hostname, a.info.Domain, a.info.Attributes) {
			v.wanted[word] |= bit
		}
	}
	return v.wanted[word]&bit != 0
}

// slots number the agents that were judged. Numbers are used again, so that verdicts
// do not grow with the agents that come and go. Zero is no number.
type slots struct {
	last int
	free []int
}

func (h *hierarchical) takeSlot(a *agent) {
	if n := len(h.slots.free); n > 0 {
		a.slot = h.slots.free[n-1]
		h.slots.free = h.slots.free[:n-1]
		return
	}
	h.slots.last++
	a.slot = h.slots.last
}

// forgetVerdicts gives the agent's number up, after what constraints look at has
// changed or before the agent goes.
func (h *hierarchical) forgetVerdicts(a *agent) {
	if a.slot == 0 {
		return
	}
	word, bit := a.slot/64, uint64(1)<<(a.slot%64)
	for _, f := range h.frameworks {
		for _, l := range f.leaves {
			if v := l.verdicts; v != nil && word < len(v.known) {
				v.known[word] &^= bit
			}
		}
	}
	h.slots.free = append(h.slots.free, a.slot)
	a.slot = 0
}
