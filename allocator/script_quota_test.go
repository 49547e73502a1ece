package allocator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"clusterd/allocator/resources"
)

// totals prints an allocation by framework and role: from how many agents it
// is, and its sum. It does not depend on the order of agents.
func (s *script) totals(a Allocation) string {
	if len(a.Offers) == 0 {
		return "no offers\n"
	}
	agents := map[string]map[string]bool{}
	sums := map[string]resources.Resources{}
	for _, o := range a.Offers {
		held := heldKey(o.FrameworkID, o.AgentID)
		s.held[held] = s.held[held].Add(o.Resources)
		key := o.FrameworkID + " " + o.Role
		if agents[key] == nil {
			agents[key] = map[string]bool{}
		}
		agents[key][o.AgentID] = true
		sums[key] = sums[key].Add(o.Resources.Unallocate())
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&b, "%s, agents %d: %s\n", key, len(agents[key]), sums[key])
	}
	return b.String()
}

// declineAll returns all that is held, or all that one framework holds.
func (s *script) declineAll(c *command) string {
	filter := c.filter()
	for _, key := range slices.Sorted(maps.Keys(s.held)) {
		framework, agent, _ := strings.Cut(key, " ")
		if r := s.held[key]; !r.Empty() && (c.id == "" || c.id == framework) {
			delete(s.held, key)
			s.a.RecoverResources(s.now, framework, agent, r, filter)
		}
	}
	return ""
}
