package main

import (
	"fmt"
	"slices"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
)

// fullSort is Mesos's BENCHMARK_FullSort, of clients in one list: frameworks of
// a role.
func fullSort(r *runner) error {
	cells := r.grid(size{10000, 1000}, size{50000, 1000})
	for _, sorter := range []string{allocator.SorterDRF, allocator.SorterRandom} {
		for _, s := range cells {
			if s.frameworks > 1000 {
				continue // Mesos has no more clients here
			}
			roles := slices.Repeat([]string{"role"}, s.frameworks)
			params := fmt.Sprintf("%s agents x %s clients, %s", thousands(int64(s.agents)), thousands(int64(s.frameworks)), sorter)
			if err := r.sortCell("FullSort", params, sorter, s.agents, roles); err != nil {
				return fmt.Errorf("%s: %w", params, err)
			}
		}
	}
	return nil
}

// hierarchyFullSort is Mesos's BENCHMARK_HierarchyFullSort: clients in a tree of
// roles, one framework in each.
func hierarchyFullSort(r *runner) error {
	agents := []int{10000, 50000}
	trees := []struct{ height, branches int }{{3, 32}, {7, 3}, {10, 2}}
	if r.scale == full {
		agents = []int{1000, 5000, 10000, 20000, 30000, 50000}
	}
	if r.scale == tiny {
		agents = []int{40}
		trees[0].height, trees[1].height, trees[2].height = 2, 3, 3
	}
	for _, sorter := range []string{allocator.SorterDRF, allocator.SorterRandom} {
		for _, n := range agents {
			for _, t := range trees {
				roles := tree("", t.height-1, t.branches)
				params := fmt.Sprintf("%s agents, height %d, %d branches: %s clients, %s",
					thousands(int64(n)), t.height, t.branches, thousands(int64(len(roles))), sorter)
				if err := r.sortCell("HierarchyFullSort", params, sorter, n, roles); err != nil {
					return fmt.Errorf("%s: %w", params, err)
				}
			}
		}
	}
	return nil
}

// tree returns the roles below one, the deepest first.
func tree(parent string, height, branches int) []string {
	if height == 0 {
		return nil
	}
	var out []string
	for i := range branches {
		role := fmt.Sprintf("%s%d", parent, i)
		out = append(out, tree(role+"/", height-1, branches)...)
		out = append(out, role)
	}
	return out
}

// sortCell does with the allocator what Mesos does with its sorter. All agents
// but one small one are inactive, so that a run sorts and makes one offer.
func (r *runner) sortCell(bench, params, sorter string, agents int, roles []string) error {
	c := newCluster(sorter)
	total := resources.MustParse("cpus:24;mem:4096;disk:4096;ports:[31000-32000]")
	used := resources.MustParse("cpus:16;mem:2014;disk:1024;" + fragments(31000, 32000, 100))
	for i := range roles {
		c.frameworks = append(c.frameworks, fmt.Sprint("framework", i))
	}
	addClients := timed(func() {
		for i, role := range roles {
			c.AddFramework(c.frameworks[i], framework(role), nil)
		}
	})
	infos := make([]allocator.Agent, agents)
	held := make([]map[string]resources.Resources, agents)
	for i := range infos {
		infos[i] = agent(fmt.Sprint("agent", i), unshared(total))
		infos[i].Active = false
		client := i % len(roles)
		held[i] = map[string]resources.Resources{c.frameworks[client]: unshared(used.Allocate(roles[client]))}
	}
	addAgents := timed(func() {
		for i := range infos {
			c.AddAgent(infos[i].Hostname, infos[i], held[i])
		}
	})
	c.Allocate(c.now) // Nothing: but frameworks are no longer new.
	c.AddAgent("probe", agent("probe", resources.MustParse("cpus:1;mem:64")), nil)
	one := func() (time.Duration, error) {
		var offers []allocator.Offer
		took := timed(func() { offers = c.Allocate(c.now).Offers })
		c.recoverAll(offers, nil)
		return took, wantWhole(offers, 1, 1)
	}
	sorted, err := one()
	if err != nil {
		return err
	}
	var again []time.Duration
	for range 20 {
		took, err := one()
		if err != nil {
			return err
		}
		again = append(again, took)
	}
	unallocate := timed(func() {
		for i := range infos {
			for id, res := range held[i] {
				c.RecoverResources(c.now, id, infos[i].Hostname, res, nil)
			}
		}
	})
	removeAgents := timed(func() {
		for i := range infos {
			c.RemoveAgent(infos[i].Hostname)
		}
	})
	removeClients := timed(func() {
		for _, id := range c.frameworks {
			c.RemoveFramework(id)
		}
	})
	single := func(d time.Duration) []time.Duration { return []time.Duration{d} }
	r.add(bench, params, "add clients (AddFramework)", single(addClients), "")
	r.add(bench, params, whatAddAgentsUsed, single(addAgents), "two figures in Mesos")
	r.add(bench, params, "full sort (first Allocate)", single(sorted), "with one offer")
	r.add(bench, params, "no-op sort (Allocate)", again, "with one offer")
	r.add(bench, params, whatRemoveAllocations, single(unallocate), "")
	r.add(bench, params, "remove agents (RemoveAgent)", single(removeAgents), "")
	r.add(bench, params, "remove clients (RemoveFramework)", single(removeClients), "")
	return nil
}
