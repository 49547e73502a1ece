package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
)

// size is a cell of Mesos's grid.
type size struct{ agents, frameworks int }

func (s size) String() string {
	return fmt.Sprintf("%s agents x %s frameworks", thousands(int64(s.agents)), thousands(int64(s.frameworks)))
}

// grid returns the cells to run: those given or, by scale, all that Mesos has.
func (r *runner) grid(selected ...size) []size {
	if r.only != nil {
		return []size{*r.only}
	}
	switch r.scale {
	case tiny:
		return []size{{40, 10}}
	case full:
		var all []size
		for _, a := range []int{1000, 5000, 10000, 20000, 30000, 50000} {
			for _, f := range []int{1, 50, 100, 200, 500, 1000, 3000, 6000} {
				all = append(all, size{a, f})
			}
		}
		for _, s := range selected {
			if s.agents == 20000 && s.frameworks == 2000 { // of the chart, not of the grid
				all = append(all, s)
			}
		}
		return all
	default:
		return selected
	}
}

// cluster is an allocator and what the benchmarks know of it.
type cluster struct {
	allocator.Allocator
	now    time.Time
	agents []string
	// frameworks by index, for used resources go round them.
	frameworks []string
}

func newCluster(sorter string) *cluster {
	opts := allocator.DefaultOptions()
	opts.RoleSorter, opts.FrameworkSorter, opts.Seed = sorter, sorter, 1
	return &cluster{Allocator: allocator.New(opts), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// addFrameworks adds n frameworks of one role.
func (c *cluster) addFrameworks(n int, info allocator.Framework) time.Duration {
	base := len(c.frameworks)
	for i := range n {
		c.frameworks = append(c.frameworks, fmt.Sprintf("framework%d", base+i))
	}
	return timed(func() {
		for _, id := range c.frameworks[base:] {
			c.AddFramework(id, info, nil)
			c.Allocate(c.now)
		}
	})
}

func framework(roles ...string) allocator.Framework {
	return allocator.Framework{Roles: roles, Active: true, MultiRole: true, ReservationRefinement: true}
}

func agent(id string, total resources.Resources) allocator.Agent {
	return allocator.Agent{Hostname: id, Total: total, MultiRole: true, HierarchicalRole: true, Active: true}
}

// unshared returns a copy that shares no memory with r, as resources that two
// agents report do not either. Comparing what is the same in memory would be
// faster than it is in a cluster.
func unshared(r resources.Resources) resources.Resources { return resources.MustFromProto(r.Proto()) }

// addAgents adds n agents with what total and used say of the i-th; what is used
// on them goes round the frameworks. After each the allocator runs, as the master lets it.
func (c *cluster) addAgents(
	n int, total, used func(i int) resources.Resources,
) (took time.Duration, offers []allocator.Offer) {
	infos, uses := c.makeAgents(n, total, used)
	took = timed(func() {
		for i, id := range c.agents {
			c.AddAgent(id, infos[i], uses[i])
			offers = append(offers, c.Allocate(c.now).Offers...)
		}
	})
	return took, offers
}

// addAgentsAtOnce is addAgents with a single run after all of them.
func (c *cluster) addAgentsAtOnce(
	n int, total, used func(i int) resources.Resources,
) (took time.Duration, offers []allocator.Offer) {
	infos, uses := c.makeAgents(n, total, used)
	took = timed(func() {
		for i, id := range c.agents {
			c.AddAgent(id, infos[i], uses[i])
		}
		offers = c.Allocate(c.now).Offers
	})
	return took, offers
}

func (c *cluster) makeAgents(
	n int, total, used func(i int) resources.Resources,
) ([]allocator.Agent, []map[string]resources.Resources) {
	infos := make([]allocator.Agent, n)
	uses := make([]map[string]resources.Resources, n)
	for i := range n {
		id := fmt.Sprintf("agent%d", i)
		c.agents = append(c.agents, id)
		infos[i] = agent(id, unshared(total(i)))
		if used != nil {
			uses[i] = map[string]resources.Resources{c.frameworks[i%len(c.frameworks)]: unshared(used(i))}
		}
	}
	return infos, uses
}

// number is that in the id of an agent or a framework.
func number(id string) int {
	n, err := strconv.Atoi(strings.TrimLeft(id, "abcdefghijklmnopqrstuvwxyz"))
	if err != nil {
		panic(fmt.Sprintf("id %q: %v", id, err))
	}
	return n
}

// always returns a function that gives r for every agent.
func always(r resources.Resources) func(int) resources.Resources {
	return func(int) resources.Resources { return r }
}

// recoverAll returns offers.
func (c *cluster) recoverAll(offers []allocator.Offer, filter *allocator.Filter) time.Duration {
	return clocked(func() {
		for i := range offers {
			o := &offers[i]
			c.RecoverResources(c.now, o.FrameworkID, o.AgentID, o.Resources, filter)
		}
	})
}

// round lets an allocation interval pass and runs the periodic allocation.
func (c *cluster) round() (time.Duration, []allocator.Offer) {
	c.now = c.now.Add(time.Second)
	var out allocator.Allocation
	took := timed(func() { out = c.AllocateAll(c.now) })
	return took, out.Offers
}

// idle is a round in which there is nothing to do, the mean of many.
func (c *cluster) idle() (time.Duration, error) {
	const n = 1000
	offers := 0
	took := clocked(func() {
		for range n {
			c.now = c.now.Add(time.Second)
			offers += len(c.AllocateAll(c.now).Offers)
		}
	})
	return took / n, want(offers, 0, "offers of idle rounds")
}

// want reports a count that is not what it must be.
func want(got, want int, what string) error {
	if got != want {
		return fmt.Errorf("%s: got %d, want %d", what, got, want)
	}
	return nil
}

// wantWhole checks that offers are of n different agents, and all there is free
// on each.
func wantWhole(offers []allocator.Offer, n int, cpus float64) error {
	if err := want(len(offers), n, "offers"); err != nil {
		return err
	}
	seen := make(map[string]bool, n)
	for i := range offers {
		if o := &offers[i]; o.Resources.CPUs() != cpus {
			return fmt.Errorf("offer of %s of %s: got %v cpus, want %v", o.AgentID, o.FrameworkID, o.Resources.CPUs(), cpus)
		}
		seen[offers[i].AgentID] = true
	}
	return want(len(seen), n, "agents offered")
}

// fragments is ports of [from-to] as n ranges: single ports with a gap of one
// between them, the last going on to the end (src/tests/resources_utils.cpp).
func fragments(from, to, n int) string {
	parts := make([]string, n)
	for i := range n {
		first := from + 2*i
		last := first
		if i == n-1 {
			last = to
		}
		parts[i] = fmt.Sprintf("%d-%d", first, last)
	}
	return "ports:[" + strings.Join(parts, ",") + "]"
}
