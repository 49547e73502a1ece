package main

import (
	"fmt"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
)

// workload is a kind of framework: how many of them, what their tasks are and
// how many of these an offer may get at most.
type workload struct {
	name           string
	role           string
	instances      int
	tasks          int
	task           resources.Resources
	tasksPerOffer  int
	roleOfInstance bool // each has a role of its own
}

// workloads are the profiles of Mesos's MultiFrameworkAllocations.
func workloads() []workload {
	return []workload{
		{"Marathon", "roleA", 4, 4000, resources.MustParse("cpus:0.07;mem:400"), 100, true},
		{"Jenkins", "roleB", 500, 5, resources.MustParse("cpus:0.1;mem:4000"), 1, false},
		{"SparkDispatcher", "roleC", 50, 20, resources.MustParse("cpus:1;mem:1000"), 5, true},
	}
}

const multiParams = "80 agents, 4 + 500 + 50 frameworks"

// launcher is a framework that launches its tasks and wants nothing after.
type launcher struct {
	*workload
	launched int
}

// multiFrameworkAllocations is Mesos's MultiFrameworkAllocations: frameworks
// launch what they have on what they are offered, at most so much an offer, and
// return the rest with refuse_seconds 0; those that have launched all return all.
// There every interval brings one round, here one follows the returns at once,
// too. Thirty seconds are allowed for it all.
func multiFrameworkAllocations(r *runner) error {
	const bench = "MultiFrameworkAllocations"
	c := newCluster(allocator.SorterDRF)
	total := resources.MustParse("cpus:64;mem:488000")
	for i := range 80 {
		id := fmt.Sprint("agent", i)
		c.AddAgent(id, agent(id, unshared(total)), nil)
	}
	frameworks := make(map[string]*launcher)
	wanted := 0
	kinds := workloads()
	for k := range kinds {
		w := &kinds[k]
		for i := range w.instances {
			role := w.role
			if w.roleOfInstance {
				role = fmt.Sprintf("%s-%d", w.role, i+1)
			}
			id := fmt.Sprintf("%s-%d", w.name, i)
			frameworks[id] = &launcher{workload: w}
			c.AddFramework(id, framework(role), nil)
			wanted += w.tasks
		}
	}
	m := &multi{c: c, frameworks: frameworks, wanted: wanted}
	took := clocked(func() { m.run(time.Now().Add(30 * time.Second)) })
	r.add(bench, multiParams, "all of it", []time.Duration{took}, "frameworks' own work included")
	r.count(bench, multiParams, whatLaunched, float64(m.launched), " tasks", fmt.Sprintf("of %s", thousands(int64(wanted))))
	served, some := 0, 0
	for _, f := range frameworks {
		if f.launched == f.tasks {
			served++
		}
		if f.launched > 0 {
			some++
		}
	}
	r.count(bench, multiParams, whatServed, float64(served), " frameworks",
		fmt.Sprintf("of %d; %d launched something", len(frameworks), some))
	r.count(bench, multiParams, "rounds", float64(m.rounds), "", fmt.Sprintf("%d of them periodic: %d s of a cluster's time", m.periodic, m.periodic))
	r.count(bench, multiParams, "offers", float64(m.offers), "", fmt.Sprintf("%s of them of use", thousands(int64(m.useful))))
	r.add(bench, multiParams, "allocation in a round", m.took, "")
	if err := want(m.launched, wanted, "tasks launched"); err != nil {
		return err
	}
	return want(served, len(frameworks), "frameworks that launched all")
}

// multi is a run of MultiFrameworkAllocations.
type multi struct {
	c                *cluster
	frameworks       map[string]*launcher
	wanted, launched int
	rounds, periodic int
	offers, useful   int
	took             []time.Duration
}

func (m *multi) run(deadline time.Time) {
	var offers []allocator.Offer
	for m.launched < m.wanted && time.Now().Before(deadline) {
		m.rounds++
		start := stamp()
		if len(offers) > 0 || m.rounds == 1 {
			offers = m.c.Allocate(m.c.now).Offers
		}
		if len(offers) == 0 {
			m.periodic++
			m.c.now = m.c.now.Add(time.Second)
			offers = m.c.AllocateAll(m.c.now).Offers
			if len(offers) == 0 {
				return // and for ever
			}
		}
		m.took = append(m.took, stamp()-start)
		for i := range offers {
			m.answer(&offers[i])
		}
	}
}

// answer launches tasks on an offer and returns the rest.
func (m *multi) answer(o *allocator.Offer) {
	m.offers++
	f := m.frameworks[o.FrameworkID]
	rest := o.Resources.Unallocate()
	n := 0
	for n < f.tasksPerOffer && f.launched < f.tasks && rest.Contains(f.task) {
		rest = rest.Sub(f.task)
		f.launched++
		n++
	}
	if n > 0 {
		m.useful++
	}
	m.launched += n
	m.c.RecoverResources(m.c.now, o.FrameworkID, o.AgentID, rest.Allocate(o.Role), &allocator.Filter{})
}
