package main

import (
	"fmt"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
)

const quotaAgent = "cpus:2;mem:2048;disk:2048"

// quotaOf is a quota with the same guarantees and limits.
func quotaOf(text string) *allocator.Quota {
	guarantees, err := resources.ParseQuantities(text)
	if err != nil {
		panic(fmt.Sprintf("quota %q: %v", text, err))
	}
	limits, err := resources.ParseLimits(text)
	if err != nil {
		panic(fmt.Sprintf("quota %q: %v", text, err))
	}
	return &allocator.Quota{Guarantees: guarantees, Limits: limits}
}

// quotaCluster has agents first and then frameworks, each in a role, before the
// allocator runs for the first time: Mesos's is paused until then.
type quotaCluster struct {
	*cluster
	roles      []string // of the frameworks
	frameworks time.Duration
	quotas     time.Duration
}

func newQuotaCluster(sorter string, agents int, roles []string, frameworksPerRole int) *quotaCluster {
	c := &quotaCluster{cluster: newCluster(sorter)}
	for i := range agents {
		id := fmt.Sprint("agent", i)
		c.AddAgent(id, agent(id, unshared(resources.MustParse(quotaAgent))), nil)
	}
	for _, role := range roles {
		for range frameworksPerRole {
			c.roles = append(c.roles, role)
		}
	}
	c.frameworks = timed(func() {
		for i, role := range c.roles {
			c.AddFramework(fmt.Sprint("framework", i), framework(role), nil)
		}
	})
	return c
}

func (c *quotaCluster) setQuotas(quotas map[string]*allocator.Quota, roles []string) {
	c.quotas = timed(func() {
		for _, role := range roles {
			c.UpdateQuota(role, quotas[role])
		}
	})
}

// measure runs a cycle that offers everything and one that has nothing to do.
func (c *quotaCluster) measure(r *runner, bench, params string) ([]allocator.Offer, error) {
	all, offers := c.round()
	r.add(bench, params, whatFrameworks, []time.Duration{c.frameworks}, "")
	if c.quotas > 0 {
		r.add(bench, params, "set quotas (UpdateQuota)", []time.Duration{c.quotas}, "")
	}
	r.add(bench, params, whatAllCycle, []time.Duration{all}, thousands(int64(len(offers)))+" offers")
	var empty []time.Duration
	for range 5 {
		took, again := c.round()
		if err := want(len(again), 0, "offers of the empty cycle"); err != nil {
			return nil, err
		}
		empty = append(empty, took)
	}
	r.add(bench, params, whatEmptyCycle, empty, "")
	return offers, nil
}

// largeAndSmallQuota is Mesos's LargeAndSmallQuota: small quotas of half an
// agent, for which agents are cut up, and large ones of two agents. One cycle
// satisfies them all and leaves the rest of the cluster idle, by the limits.
func largeAndSmallQuota(r *runner) error {
	cells := []struct{ small, large int }{{25, 5}, {250, 50}, {2500, 500}}
	if r.scale == tiny {
		cells = cells[:1]
	}
	for _, sorter := range []string{allocator.SorterDRF, allocator.SorterRandom} {
		for i, cell := range cells {
			agents := cell.small/5 + cell.large*5
			params := fmt.Sprintf("%d: %s + %d roles, %s agents, %s",
				i, thousands(int64(cell.small)), cell.large, thousands(int64(agents)), sorter)
			if err := r.largeAndSmall(params, sorter, cell.small, cell.large, agents); err != nil {
				return fmt.Errorf("%s: %w", params, err)
			}
		}
	}
	return nil
}

func (r *runner) largeAndSmall(params, sorter string, small, large, agents int) error {
	var roles []string
	quotas := make(map[string]*allocator.Quota)
	cpus := make(map[string]float64)
	add := func(name string, n int, quota string, each float64) {
		for i := range n {
			role := fmt.Sprint(name, i)
			roles = append(roles, role)
			quotas[role] = quotaOf(quota)
			cpus[role] = each
		}
	}
	add("smallQuotaRole", small, "cpus:1;mem:1024;disk:1024", 1)
	add("largeQuotaRole", large, "cpus:4;mem:4096;disk:4096", 4)
	c := newQuotaCluster(sorter, agents, roles, 1)
	c.setQuotas(quotas, roles)
	offers, err := c.measure(r, "LargeAndSmallQuota", params)
	if err != nil {
		return err
	}
	// Small ones get half an agent each. Large ones get whole agents where shares
	// decide, but for the other half of the last small one's; where chance does,
	// they get more halves.
	offersWanted := small + 2*large + small%2
	if len(offers) < offersWanted-small%2 || sorter == allocator.SorterDRF && len(offers) != offersWanted {
		return fmt.Errorf("got %d offers, want %d", len(offers), offersWanted)
	}
	got := make(map[string]float64)
	for i := range offers {
		got[offers[i].Role] += offers[i].Resources.CPUs()
	}
	for _, role := range roles {
		if got[role] != cpus[role] {
			return fmt.Errorf("role %s: got %v cpus, want its quota of %v", role, got[role], cpus[role])
		}
	}
	return nil
}

// nonQuotaVsQuota is Mesos's NonQuotaVsQuota: the same offers with and without
// quotas, which are of whole agents.
func nonQuotaVsQuota(r *runner) error {
	sizes := []int{10, 100, 1000}
	if r.scale == tiny {
		sizes = sizes[:1]
	}
	for _, sorter := range []string{allocator.SorterDRF, allocator.SorterRandom} {
		for _, n := range sizes {
			for _, set := range []bool{false, true} {
				if err := r.nonQuota(sorter, n, set); err != nil {
					return fmt.Errorf("%d roles, quota %t, %s: %w", n, set, sorter, err)
				}
			}
		}
	}
	return nil
}

func (r *runner) nonQuota(sorter string, n int, set bool) error {
	roles := make([]string, n)
	quotas := make(map[string]*allocator.Quota)
	for i := range roles {
		roles[i] = fmt.Sprint("role", i)
		quotas[roles[i]] = quotaOf("cpus:4;mem:4096;disk:4096")
	}
	c := newQuotaCluster(sorter, 2*n, roles, 2)
	params := fmt.Sprintf("%s roles, %s agents and frameworks, ", thousands(int64(n)), thousands(int64(2*n)))
	if set {
		c.setQuotas(quotas, roles)
		params += "quota, " + sorter
	} else {
		params += "no quota, " + sorter
	}
	offers, err := c.measure(r, "NonQuotaVsQuota", params)
	if err != nil {
		return err
	}
	if err := wantWhole(offers, 2*n, 2); err != nil {
		return err
	}
	got := make(map[string]int)
	for i := range offers {
		got[offers[i].Role]++
	}
	for _, role := range roles {
		if set && got[role] != 2 {
			return fmt.Errorf("role %s: got %d agents, want 2", role, got[role])
		}
	}
	return nil
}
