package allocator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"clusterd/allocator/resources"
)

// describe prints the state, for tests and for finding out why they fail.
func (h *hierarchical) describe() string {
	var b strings.Builder
	for _, a := range sortedAgents(maps.Values(h.agents)) {
		fmt.Fprintf(&b, "agent %s active=%t free: %s\n", a.id, a.info.Active, a.available())
		for _, hd := range a.held {
			fmt.Fprintf(&b, "  %s %s holds %s\n", hd.leaf.name, hd.leaf.role.path, hd.res)
		}
	}
	h.describeNode(&b, h.root, 0)
	for _, role := range slices.Sorted(maps.Keys(h.quotas.by)) {
		q := h.quotas.by[role]
		fmt.Fprintf(&b, "quota %s guarantees %s limits %s: consumed %s needs %s\n",
			role, q.q.Guarantees, q.q.Limits, h.amounts(q.consumed), h.amounts(q.need))
	}
	if h.quotas.active() {
		fmt.Fprintf(&b, "idle %s needed %s\n", h.amounts(h.quotas.idle), h.amounts(h.quotas.root.below))
	}
	for _, id := range slices.Sorted(maps.Keys(h.frameworks)) {
		for _, l := range h.frameworks[id].leaves {
			for _, a := range sortedAgents(maps.Keys(l.filters)) {
				for _, f := range l.filtersOn(a) {
					fmt.Fprintf(&b, "filter %s %s %s: %s\n", id, l.role.path, a.id, f.refused)
				}
			}
		}
	}
	return b.String()
}

func (h *hierarchical) describeNode(b *strings.Builder, n *node, depth int) {
	for i := range n.order.fresh(h) {
		c := n.order.at(i)
		indent := strings.Repeat("  ", depth)
		fmt.Fprintf(b, "%s%s share=%.4f count=%d\n", indent, c.name, h.trueShare(c.share), c.count)
		if c.role != nil {
			for j := range c.role.order.fresh(h) {
				l := c.role.order.at(j)
				fmt.Fprintf(b, "%s  framework %s share=%.4f count=%d\n", indent, l.name, h.trueShare(l.share), l.count)
			}
		}
		h.describeNode(b, c, depth+1)
	}
}

func (h *hierarchical) amounts(v vec) string {
	var parts []string
	for name, i := range h.names {
		if x := v.at(i); x != 0 {
			parts = append(parts, fmt.Sprintf("%s:%g", name, resources.FromMilli(x)))
		}
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, "; ") + "}"
}

// trueShare turns a share as it is kept into the part of the cluster.
func (h *hierarchical) trueShare(share float64) float64 { return share / float64(max(1, h.unit)) }
