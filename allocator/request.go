package allocator

import (
	"slices"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// need is one request of a framework.
type need struct {
	agent      string // any if empty
	res        resources.Resources
	quantities resources.Quantities // the scalars of res
}

// RequestResources implements [Allocator]. Requests that do not make sense are
// left out.
func (h *hierarchical) RequestResources(frameworkID string, requests []*mesos.Request) {
	f := h.framework(frameworkID)
	f.needs = nil
	for _, r := range requests {
		res, err := resources.FromProto(r.GetResources())
		if err != nil || res.Empty() {
			continue
		}
		f.needs = append(f.needs, need{agent: r.GetAgentId().GetValue(), res: res, quantities: res.Quantities()})
	}
}

// defers reports whether the framework, for which r of the agent is meant, lets
// others go first: it has said what it needs, and r is not enough for any of it.
func (f *framework) defers(a *agent, r resources.Resources) bool {
	return len(f.needs) > 0 && !slices.ContainsFunc(f.needs, func(n need) bool {
		return (n.agent == "" || n.agent == a.id) && n.satisfied(r)
	})
}

// satisfied reports whether r has all that is needed, reserved or not.
func (n *need) satisfied(r resources.Resources) bool {
	if !r.ContainsQuantities(n.quantities) {
		return false
	}
	for i := range n.res.Len() {
		switch it := n.res.At(i); it.Type() {
		case mesos.Value_RANGES:
			if !containsRanges(r.Ranges(it.Name()), n.res.Ranges(it.Name())) {
				return false
			}
		case mesos.Value_SET:
			have := r.Set(it.Name())
			for _, s := range n.res.Set(it.Name()) {
				if !slices.Contains(have, s) {
					return false
				}
			}
		default: // Scalars are in quantities.
		}
	}
	return true
}

func containsRanges(have, want []resources.Range) bool {
	for _, w := range want {
		if !slices.ContainsFunc(have, func(r resources.Range) bool { return r.Begin <= w.Begin && w.End <= r.End }) {
			return false
		}
	}
	return true
}
