package main

import (
	"fmt"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// addAndUpdateSlave is Mesos's AddAndUpdateSlave: agents come with something in
// use, then report revocable resources besides.
func addAndUpdateSlave(r *runner) error {
	const bench = "AddAndUpdateSlave"
	total := resources.MustParse("cpus:2;mem:1024;disk:4096;ports:[31000-32000]")
	used := resources.MustParse("cpus:1;mem:128;disk:1024;ports:[31126-31510,31512-31623,31810-31852,31854-31964]")
	revocable := resources.MustParse("cpus:10").Proto()
	revocable[0].Revocable = &mesos.Resource_RevocableInfo{}
	more := total.Add(resources.MustFromProto(revocable))
	for _, s := range r.grid(size{10000, 1000}) {
		c := newCluster(allocator.SorterDRF)
		info := framework("*")
		info.Revocable = true
		frameworks := c.addFrameworks(s.frameworks, info)
		added, offers := c.addAgents(s.agents, always(total), always(used.Allocate("*")))
		if err := wantWhole(offers, s.agents, 1); err != nil {
			return fmt.Errorf("%s: add: %w", s, err)
		}
		infos := make([]allocator.Agent, s.agents)
		for i, id := range c.agents {
			infos[i] = agent(id, unshared(more))
		}
		offers = offers[:0]
		updated := timed(func() {
			for i, id := range c.agents {
				c.UpdateAgent(id, infos[i])
				offers = append(offers, c.Allocate(c.now).Offers...)
			}
		})
		if err := wantWhole(offers, s.agents, 10); err != nil {
			return fmt.Errorf("%s: update: %w", s, err)
		}
		r.add(bench, s.String(), whatFrameworks, []time.Duration{frameworks}, "")
		r.add(bench, s.String(), whatAddAgents, []time.Duration{added}, "with an Allocate after each")
		r.add(bench, s.String(), "update agents, offering each", []time.Duration{updated}, "with an Allocate after each")
	}
	return nil
}

// allocatorBacklog is Mesos's AllocatorBacklog: events that each ask for an
// allocation, while nothing is free. Mesos runs one allocation for all that wait
// in the queue; here there is one after each event.
func allocatorBacklog(r *runner) error {
	const bench = "AllocatorBacklog"
	for _, s := range r.grid(size{10000, 1000}) {
		c := newCluster(allocator.SorterDRF)
		frameworks := c.addFrameworks(s.frameworks, framework("*"))
		added, offers := c.addAgents(s.agents, always(resources.MustParse(bigAgent)), nil)
		if err := wantWhole(offers, s.agents, 24); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		got := 0
		revived := timed(func() {
			for _, id := range c.frameworks {
				c.ReviveOffers(id, nil)
				got += len(c.Allocate(c.now).Offers)
			}
		})
		if err := want(got, 0, "offers after revivals, all being out"); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		runs := func(n int) string { return fmt.Sprintf("%s allocation runs", thousands(int64(n))) }
		r.add(bench, s.String(), whatFrameworks, []time.Duration{frameworks}, runs(s.frameworks))
		r.add(bench, s.String(), whatAddAgents, []time.Duration{added}, runs(s.agents))
		r.add(bench, s.String(), "all frameworks revive, one by one", []time.Duration{revived}, runs(s.frameworks))
	}
	return nil
}

// suppressOffers is Mesos's SuppressOffers: five rounds, a fifth more of the
// frameworks suppressed in each.
func suppressOffers(r *runner) error {
	return suppressed(r, "SuppressOffers", func(frameworks, round int) int { return (round + 1) * (frameworks / 5) })
}

// extremeSuppressOffers is Mesos's ExtremeSuppressOffers: 99 of 100 are.
func extremeSuppressOffers(r *runner) error {
	return suppressed(r, "ExtremeSuppressOffers", func(frameworks, _ int) int { return frameworks * 99 / 100 })
}

func suppressed(r *runner, bench string, upTo func(frameworks, round int) int) error {
	for _, s := range r.grid(size{10000, 1000}) {
		if err := r.suppressedCell(bench, s, upTo); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (r *runner) suppressedCell(bench string, s size, upTo func(frameworks, round int) int) error {
	c := newCluster(allocator.SorterDRF)
	c.addFrameworks(s.frameworks, framework("*"))
	_, offers := c.addAgentsAtOnce(s.agents, always(resources.MustParse(bigAgent)),
		always(usedPart("cpus:16;mem:1024;disk:1024").Allocate("*")))
	var rounds, suppressing []time.Duration
	n := 0
	for i := range 5 {
		c.recoverAll(offers, nil)
		suppressing = append(suppressing, timed(func() {
			for ; n < upTo(s.frameworks, i); n++ {
				c.SuppressOffers(c.frameworks[n], nil)
			}
		}))
		var took time.Duration
		took, offers = c.round()
		expected := s.agents
		if n == s.frameworks {
			expected = 0
		}
		if err := wantWhole(offers, expected, freeCPUs); err != nil {
			return fmt.Errorf("round %d, %d suppressed: %w", i, n, err)
		}
		for j := range offers {
			if number(offers[j].FrameworkID) < n {
				return fmt.Errorf("round %d: %s got an offer, and is suppressed", i, offers[j].FrameworkID)
			}
		}
		rounds = append(rounds, took)
	}
	r.add(bench, s.String(), whatRound, rounds, fmt.Sprintf("5 rounds, the last with %s suppressed", thousands(int64(n))))
	r.add(bench, s.String(), "suppressing (SuppressOffers)", suppressing, "")
	return nil
}
