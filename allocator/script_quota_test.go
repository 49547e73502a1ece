package allocator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// more runs the commands that are about many agents at once, and REQUEST. It
// reports false if it does not know the command.
func (s *script) more(d *datadriven.TestData, id, refuse string) (string, bool) {
	switch d.Cmd {
	case "totals":
		return s.totals(s.a.Allocate(s.now)), true
	case "totals-all":
		return s.totals(s.a.AllocateAll(s.now)), true
	case "decline-all":
		return s.declineAll(id, refuse), true
	case "request":
		return s.request(id, d.Input), true
	}
	return "", false
}

// totals prints an allocation by framework and role: from how many agents it
// is, and its sum. It does not depend on the order of agents.
func (s *script) totals(a Allocation) string {
	s.offers(a)
	if len(a.Offers) == 0 {
		return "no offers\n"
	}
	agents := map[string]map[string]bool{}
	sums := map[string]resources.Resources{}
	for _, o := range a.Offers {
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

// declineAll returns all offers, or those of one framework.
func (s *script) declineAll(framework, refuse string) string {
	var f *Filter
	if refuse != "" {
		d, err := time.ParseDuration(refuse)
		if err != nil {
			return err.Error()
		}
		f = &Filter{RefuseFor: d}
	}
	for _, key := range slices.Sorted(maps.Keys(s.last)) {
		fw, agent, _ := strings.Cut(key, " ")
		if r := s.last[key]; !r.Empty() && (framework == "" || framework == fw) {
			s.last[key] = resources.Resources{}
			s.a.RecoverResources(s.now, fw, agent, r, f)
		}
	}
	return ""
}

// request makes one request of each line: resources, and before them "on" and an
// agent if it is to be that one.
func (s *script) request(framework, text string) string {
	var requests []*mesos.Request
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		q := &mesos.Request{}
		if rest, ok := strings.CutPrefix(line, "on "); ok {
			var agent string
			agent, line, _ = strings.Cut(rest, " ")
			q.AgentId = &mesos.AgentID{Value: &agent}
		}
		r, err := parseScript(line)
		if err != nil {
			return err.Error()
		}
		q.Resources = r.Proto()
		requests = append(requests, q)
	}
	s.a.RequestResources(framework, requests)
	return ""
}
