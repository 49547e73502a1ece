package allocator

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"clusterd/allocator/resources"
)

// framework is a framework and its leaves, sorted by role.
type framework struct {
	id     string
	info   Framework
	leaves []*leaf
	needs  []need // what it has stated by REQUEST
}

func (h *hierarchical) framework(id string) *framework {
	f := h.frameworks[id]
	if f == nil {
		panic(fmt.Sprintf("allocator: unknown framework %q", id))
	}
	return f
}

// leaf returns the framework's leaf of the role, nil if there is none.
func (f *framework) leaf(path string) *leaf {
	if i, ok := f.find(path); ok {
		return f.leaves[i]
	}
	return nil
}

func (f *framework) find(path string) (int, bool) {
	return slices.BinarySearchFunc(f.leaves, path, func(l *leaf, path string) int {
		return strings.Compare(l.role.path, path)
	})
}

// track returns the framework's leaf of the role, which it makes if need be.
func (h *hierarchical) track(f *framework, path string) *leaf {
	i, ok := f.find(path)
	if ok {
		return f.leaves[i]
	}
	l := &leaf{rank: rank{name: f.id}, fw: f, role: h.roleOf(path), hash: hashName(f.id)}
	f.leaves = slices.Insert(f.leaves, i, l)
	at, _ := slices.BinarySearchFunc(l.role.members, f.id, func(m *leaf, id string) int {
		return strings.Compare(m.name, id)
	})
	l.role.members = slices.Insert(l.role.members, at, l)
	return l
}

// untrack drops a leaf that is neither subscribed nor holds anything.
func (h *hierarchical) untrack(l *leaf) {
	if l.subscribed || l.agents > 0 {
		return
	}
	i, _ := l.fw.find(l.role.path)
	l.fw.leaves = slices.Delete(l.fw.leaves, i, i+1)
	at := slices.Index(l.role.members, l)
	l.role.members = slices.Delete(l.role.members, at, at+1)
	h.forget(l.role)
}

// change notes that l may now get what it could not before.
func (h *hierarchical) change(l *leaf) {
	if !l.changed {
		l.changed = true
		h.changed = append(h.changed, l)
	}
}

// AddFramework implements [Allocator].
func (h *hierarchical) AddFramework(id string, info Framework, used map[string]resources.Resources) {
	if h.frameworks[id] != nil {
		panic(fmt.Sprintf("allocator: framework %q is there already", id))
	}
	f := &framework{id: id, info: info}
	h.frameworks[id] = f
	h.subscribe(f, info)
	known := make(map[*agent]resources.Resources)
	for a := range h.orphaned[id] {
		known[a] = a.orphans[id]
	}
	for agentID, r := range used {
		if a := h.agents[agentID]; a != nil {
			known[a] = r
		}
	}
	delete(h.orphaned, id)
	for _, a := range sortedAgents(maps.Keys(known)) {
		h.orphan(a, id, resources.Resources{})
		for _, e := range known[a].Allocations() {
			h.hold(a, h.track(f, e.Role), e.Resources.Unallocate())
		}
		h.mark(a)
	}
}

// subscribe makes f's leaves those of info.
func (h *hierarchical) subscribe(f *framework, info Framework) {
	f.info = info
	for _, path := range info.Roles {
		h.track(f, path)
	}
	for _, l := range slices.Clone(f.leaves) {
		path := l.role.path
		suppressed := slices.Contains(info.Suppressed, path)
		if l.suppressed && !suppressed {
			h.dropFilters(l)
		}
		l.suppressed = suppressed
		l.subscribed = slices.Contains(info.Roles, path)
		if !l.subscribed {
			h.dropFilters(l)
		}
		h.judge(l)
		h.activate(l)
		if l.active {
			h.change(l)
		}
		h.untrack(l)
	}
}

// UpdateFramework implements [Allocator].
func (h *hierarchical) UpdateFramework(id string, info Framework) {
	h.subscribe(h.framework(id), info)
	h.askAnew(h.framework(id))
}

// RemoveFramework implements [Allocator].
func (h *hierarchical) RemoveFramework(id string) {
	f := h.framework(id)
	for _, a := range h.heldBy(f) {
		for _, hd := range slices.Clone(a.held) {
			if hd.leaf.fw == f {
				h.unhold(a, hd.leaf, hd.res)
				h.mark(a)
			}
		}
	}
	for _, l := range slices.Clone(f.leaves) {
		l.subscribed = false
		h.dropFilters(l)
		h.activate(l)
		h.untrack(l)
	}
	delete(h.frameworks, id)
	h.forgetAnswers(id)
}

// heldBy returns the agents on which the framework holds something, by id.
func (h *hierarchical) heldBy(f *framework) []*agent {
	var out []*agent
	if !slices.ContainsFunc(f.leaves, func(l *leaf) bool { return l.agents > 0 }) {
		return nil
	}
	for _, a := range h.agents {
		if slices.ContainsFunc(a.held, func(hd holding) bool { return hd.leaf.fw == f }) {
			out = append(out, a)
		}
	}
	return sortedAgents(slices.Values(out))
}

// ActivateFramework implements [Allocator].
func (h *hierarchical) ActivateFramework(id string) {
	f := h.framework(id)
	f.info.Active = true
	for _, l := range f.leaves {
		h.activate(l)
		if l.active {
			h.change(l)
		}
	}
	h.askEverywhere()
}

// DeactivateFramework implements [Allocator].
func (h *hierarchical) DeactivateFramework(id string) {
	f := h.framework(id)
	f.info.Active = false
	f.needs = nil
	for _, l := range f.leaves {
		h.activate(l)
		h.dropFilters(l)
	}
	h.askAnew(f)
}

// SuppressOffers implements [Allocator]. Roles that the framework is not
// subscribed to are ignored.
func (h *hierarchical) SuppressOffers(frameworkID string, roles []string) {
	for _, l := range h.named(frameworkID, roles) {
		l.suppressed = true
		h.activate(l)
	}
}

// ReviveOffers implements [Allocator]. Roles that the framework is not
// subscribed to are ignored.
func (h *hierarchical) ReviveOffers(frameworkID string, roles []string) {
	for _, l := range h.named(frameworkID, roles) {
		l.suppressed = false
		h.dropFilters(l)
		h.activate(l)
		if l.active {
			h.change(l)
		}
	}
	h.askAnew(h.framework(frameworkID))
}

func (h *hierarchical) named(frameworkID string, roles []string) []*leaf {
	f := h.framework(frameworkID)
	var out []*leaf
	for _, l := range f.leaves {
		if l.subscribed && (len(roles) == 0 || slices.Contains(roles, l.role.path)) {
			out = append(out, l)
		}
	}
	return out
}

func sortedAgents(agents iter.Seq[*agent]) []*agent {
	return slices.SortedFunc(agents, func(a, b *agent) int { return strings.Compare(a.id, b.id) })
}
