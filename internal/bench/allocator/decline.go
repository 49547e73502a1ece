package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
)

// The agents of DeclineOffers and those like it: 24 cpus, of which tasks with
// ports of their own use 16.
const (
	bigAgent = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]"
	freeCPUs = 8
)

func usedPart(scalars string) resources.Resources {
	return resources.MustParse(scalars + ";" + fragments(31000, 32000, 16))
}

// forever is the refusal of a framework that has done its work.
var forever = &allocator.Filter{RefuseFor: math.MaxInt32 * time.Second}

// declining is the cluster of DeclineOffers, with an Allocate after each agent or
// one after all of them.
func declining(s size, each bool) (c *cluster, frameworks, agents time.Duration, offers []allocator.Offer) {
	c = newCluster(allocator.SorterDRF)
	frameworks = c.addFrameworks(s.frameworks, framework("*"))
	add := c.addAgentsAtOnce
	if each {
		add = c.addAgents
	}
	agents, offers = add(s.agents, always(resources.MustParse(bigAgent)),
		always(usedPart("cpus:16;mem:2014;disk:1024").Allocate("*")))
	return c, frameworks, agents, offers
}

// declineOffers is Mesos's DeclineOffers: in each round every framework refuses
// all that it is offered for ever. Mesos does twice as many rounds as there are
// frameworks; by default we do twenty, and all of them in a cluster where all is
// refused in the end.
func declineOffers(r *runner) error {
	cells := r.grid(size{1000, 100}, size{5000, 500}, size{10000, 1000}, size{10000, 3000}, size{20000, 2000}, size{50000, 6000})
	for _, s := range cells {
		if err := r.declineCell(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return r.exhausted()
}

func (r *runner) declineCell(s size) error {
	const bench = "DeclineOffers"
	params := s.String()
	heap := heapInUse()
	each := s.agents*s.frameworks <= 100e6 || r.scale == full
	c, frameworks, agents, offers := declining(s, each)
	r.add(bench, params, whatFrameworks, []time.Duration{frameworks}, "")
	if each {
		r.add(bench, params, whatAddAgents, []time.Duration{agents}, "with an Allocate after each")
	} else {
		r.add(bench, params, whatAddAtOnce, []time.Duration{agents}, "with one Allocate")
	}
	if err := wantWhole(offers, s.agents, freeCPUs); err != nil {
		return fmt.Errorf("offers of new agents: %w", err)
	}
	r.count(bench, params, "memory, an agent with one framework on it",
		float64((heapInUse()-heap)/int64(s.agents)), " bytes", "all of it offered; frameworks included")

	// What one agent costs while the offers of all others are out.
	changed, err := c.oneAgent(offers)
	if err != nil {
		return fmt.Errorf("one agent changed: %w", err)
	}
	joined, err := c.joins(min(s.agents, 1000))
	if err != nil {
		return fmt.Errorf("an agent joins: %w", err)
	}

	c.recoverAll(offers, nil)
	first, offers := c.round()
	if err := wantWhole(offers, s.agents, freeCPUs); err != nil {
		return fmt.Errorf("first round: %w", err)
	}
	r.add(bench, params, whatFirst, []time.Duration{first}, "")

	declines, rounds, offers, err := r.declineRounds(c, s, offers)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%d rounds, up to %s filters", len(rounds), thousands(int64(len(rounds)*s.agents)))
	r.add(bench, params, whatRound, rounds, note)
	r.add(bench, params, whatDeclines, declines, "Mesos does not count them either")
	r.add(bench, params, whatOneAgent, changed, "refused by one, offered to the next")
	r.add(bench, params, "an agent joins (AddAgent, Allocate)", joined, "all shares change")
	if len(offers) < s.agents {
		return nil // with few frameworks all is refused by now
	}
	if err := r.idleFigure(bench, params, c); err != nil {
		return err
	}
	return r.frameworkEvents(bench, params, c)
}

// frameworkEvents measures what comes from frameworks while the offers of all
// agents are out.
func (r *runner) frameworkEvents(bench, params string, c *cluster) error {
	n := min(len(c.frameworks), 20)
	var revive, leave, come []time.Duration
	for _, id := range c.frameworks[:n] {
		offers := 0
		revive = append(revive, clocked(func() {
			c.ReviveOffers(id, nil)
			offers = len(c.Allocate(c.now).Offers)
		}))
		if err := want(offers, 0, "offers after a revival, all being out"); err != nil {
			return err
		}
	}
	// What those that leave held goes to others.
	for _, id := range c.frameworks[:n-1] {
		offers := 0
		leave = append(leave, clocked(func() {
			c.RemoveFramework(id)
			offers = len(c.Allocate(c.now).Offers)
		}))
		if offers == 0 {
			return fmt.Errorf("what %s had was offered to nobody", id)
		}
		come = append(come, clocked(func() {
			c.AddFramework(id, framework("*"), nil)
			c.Allocate(c.now)
		}))
	}
	r.add(bench, params, "a framework revives (ReviveOffers, Allocate)", revive, "while all offers are out")
	if len(leave) > 0 {
		r.add(bench, params, "a framework leaves (RemoveFramework, Allocate)", leave, "what it had is offered to others")
		r.add(bench, params, "a framework comes (AddFramework, Allocate)", come, "while all offers are out")
	}
	return nil
}

func (r *runner) idleFigure(bench, params string, c *cluster) error {
	var samples []time.Duration
	for range 5 {
		took, err := c.idle()
		if err != nil {
			return err
		}
		samples = append(samples, took)
	}
	r.add(bench, params, "idle round (AllocateAll)", samples, "all offers are out; means of 1,000")
	return nil
}

// declineRounds refuses and allocates, as often as r says. Each agent is offered
// until all frameworks have refused it.
func (r *runner) declineRounds(
	c *cluster, s size, offers []allocator.Offer,
) (declines, rounds []time.Duration, last []allocator.Offer, err error) {
	n := r.rounds
	if n == 0 {
		n = 2 * s.frameworks
	}
	refused := make([]bool, s.frameworks*s.agents)
	for i := range n {
		for j := range offers {
			k := number(offers[j].FrameworkID)*s.agents + number(offers[j].AgentID)
			if refused[k] {
				return nil, nil, nil, fmt.Errorf("round %d: %s was offered %s, which it has refused",
					i, offers[j].FrameworkID, offers[j].AgentID)
			}
			refused[k] = true
		}
		declines = append(declines, c.recoverAll(offers, forever))
		var took time.Duration
		took, offers = c.round()
		expected := s.agents
		if i+1 >= s.frameworks {
			expected = 0
		}
		if err := want(len(offers), expected, fmt.Sprintf("offers of round %d", i)); err != nil {
			return nil, nil, nil, err
		}
		rounds = append(rounds, took)
	}
	return declines, rounds, offers, nil
}

// oneAgent refuses one offer of those that are out, for ever, and lets the
// allocator offer the agent to another framework.
func (c *cluster) oneAgent(offers []allocator.Offer) ([]time.Duration, error) {
	if len(c.frameworks) < 2 {
		return nil, nil
	}
	runtime.GC()
	var samples []time.Duration
	for i := range min(len(offers), 1000) {
		o := offers[i]
		start := stamp()
		c.RecoverResources(c.now, o.FrameworkID, o.AgentID, o.Resources, forever)
		again := c.Allocate(c.now).Offers
		samples = append(samples, stamp()-start)
		if len(again) != 1 || again[0].AgentID != o.AgentID || again[0].FrameworkID == o.FrameworkID {
			return nil, fmt.Errorf("got %d offers, want one of agent %s and not to %s", len(again), o.AgentID, o.FrameworkID)
		}
		offers[i] = again[0]
	}
	// Let all refusals end again: the agents change. The rounds begin without filters.
	for _, id := range c.frameworks {
		c.ReviveOffers(id, nil)
	}
	return samples, want(len(c.Allocate(c.now).Offers), 0, "offers after a revival, all being out")
}

// joins adds n agents, one at a time, and removes them again.
func (c *cluster) joins(n int) ([]time.Duration, error) {
	infos := make([]allocator.Agent, n)
	for i := range infos {
		infos[i] = agent(fmt.Sprintf("new%d", i), unshared(resources.MustParse(bigAgent)))
	}
	runtime.GC()
	var samples []time.Duration
	for i := range infos {
		start := stamp()
		c.AddAgent(infos[i].Hostname, infos[i], nil)
		offers := c.Allocate(c.now).Offers
		samples = append(samples, stamp()-start)
		if err := wantWhole(offers, 1, 24); err != nil {
			return nil, err
		}
	}
	for i := range infos {
		c.RemoveAgent(infos[i].Hostname)
	}
	return samples, nil
}

// exhausted runs DeclineOffers to its end, where every framework has refused
// every agent: Mesos's rounds go on at full cost then.
func (r *runner) exhausted() error {
	const bench = "DeclineOffers"
	s := size{1000, 200}
	if r.scale == tiny {
		s = size{40, 10}
	}
	params := s.String() + ", to the end"
	c, _, _, offers := declining(s, false)
	all := *r
	all.rounds = 0
	declines, rounds, _, err := all.declineRounds(c, s, offers)
	if err != nil {
		return fmt.Errorf("%s: %w", params, err)
	}
	r.add(bench, params, whatRound, rounds[:s.frameworks-1], fmt.Sprintf("%d rounds", s.frameworks-1))
	r.add(bench, params, whatDeclines, declines[:s.frameworks-1], "")
	r.add(bench, params, "round when all is refused", rounds[s.frameworks:], thousands(int64(s.agents*s.frameworks))+" filters")

	// Everything ends at once when all frameworks revive.
	var offered int
	took := timed(func() {
		for _, id := range c.frameworks {
			c.ReviveOffers(id, nil)
		}
		offered = len(c.Allocate(c.now).Offers)
	})
	r.add(bench, params, "all frameworks revive, all is offered", []time.Duration{took}, "")
	return want(offered, s.agents, "offers after revival")
}

// growth measures rounds of clusters that are each twice as large as the last,
// taking turns, so that a machine that is busy for a while is so for all.
func growth(r *runner) error {
	sizes := []size{{5000, 1000}, {10000, 1000}, {20000, 1000}, {40000, 1000}}
	repeat := 15
	if r.scale == tiny {
		sizes, repeat = []size{{20, 10}, {40, 10}}, 3
	}
	clusters := make([]*cluster, len(sizes))
	offers := make([][]allocator.Offer, len(sizes))
	for i, s := range sizes {
		clusters[i], _, _, offers[i] = declining(s, false)
	}
	rounds := make([][]time.Duration, len(sizes))
	idle := make([][]time.Duration, len(sizes))
	for range repeat {
		for i, c := range clusters {
			c.recoverAll(offers[i], forever)
			var took time.Duration
			took, offers[i] = c.round()
			if err := wantWhole(offers[i], sizes[i].agents, freeCPUs); err != nil {
				return fmt.Errorf("%s: %w", sizes[i], err)
			}
			rounds[i] = append(rounds[i], took)
			nothing, err := c.idle()
			if err != nil {
				return fmt.Errorf("%s: %w", sizes[i], err)
			}
			idle[i] = append(idle[i], nothing)
		}
	}
	const bench = "Growth"
	const fastest = "of the fastest rounds, which others on the machine disturb the least"
	least := func(s []time.Duration) float64 { return slices.Min(s).Seconds() }
	for i, s := range sizes {
		r.add(bench, s.String(), whatRound, rounds[i], "")
		r.add(bench, s.String(), "idle round (AllocateAll)", idle[i], "all offers are out; means of 1,000")
	}
	for i := range sizes[1:] {
		r.count(bench, steps(sizes[i], sizes[i+1]), whatDoubling, least(rounds[i+1])/least(rounds[i]), "x", fastest)
	}
	last := len(sizes) - 1
	r.count(bench, steps(sizes[0], sizes[last]), whatIdleGrowth,
		median(idle[last]).Seconds()/median(idle[0]).Seconds(), "x", "of the medians")
	return freeNobodyWants(r, clusters, offers, sizes)
}

func steps(from, to size) string {
	return fmt.Sprintf("%s -> %s agents", thousands(int64(from.agents)), thousands(int64(to.agents)))
}

// freeNobodyWants measures idle rounds of clusters with all agents free, all
// frameworks having suppressed their offers.
func freeNobodyWants(r *runner, clusters []*cluster, offers [][]allocator.Offer, sizes []size) error {
	for i, c := range clusters {
		for _, id := range c.frameworks {
			c.SuppressOffers(id, nil)
		}
		c.recoverAll(offers[i], nil)
		first, got := c.round()
		if err := want(len(got), 0, "offers to suppressed frameworks"); err != nil {
			return err
		}
		took, err := c.idle()
		if err != nil {
			return err
		}
		r.add("Growth", sizes[i].String(), "round that finds no taker for any agent", []time.Duration{first}, "all suppressed")
		r.add("Growth", sizes[i].String(), "idle round after it", []time.Duration{took}, "mean of 1,000")
	}
	return nil
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
