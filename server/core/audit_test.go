package core

import (
	"fmt"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
)

// auditor is the real allocator with a notebook: it writes down what each
// framework holds on each agent by what the core tells and is told, so that tests
// can compare the allocator's books with the core's.
type auditor struct {
	allocator.Allocator
	held map[[2]string]resources.Resources // framework, agent
	// liars: agents may report what cannot be.
	liars bool
}

func newAuditor() *auditor {
	return &auditor{
		Allocator: allocator.New(allocator.DefaultOptions()),
		held:      map[[2]string]resources.Resources{},
	}
}

func (a *auditor) AddAgent(id string, info allocator.Agent, used map[string]resources.Resources) {
	for fw, r := range used {
		a.held[[2]string{fw, id}] = r
	}
	a.Allocator.AddAgent(id, info, used)
}

func (a *auditor) RemoveAgent(id string) {
	for k := range a.held {
		if k[1] == id {
			delete(a.held, k)
		}
	}
	a.Allocator.RemoveAgent(id)
}

func (a *auditor) RemoveFramework(id string) {
	for k := range a.held {
		if k[0] == id {
			delete(a.held, k)
		}
	}
	a.Allocator.RemoveFramework(id)
}

func (a *auditor) UpdateAllocation(fw, ag string, consumed, converted resources.Resources) {
	k := [2]string{fw, ag}
	a.held[k] = a.held[k].Sub(consumed).Add(converted)
	a.Allocator.UpdateAllocation(fw, ag, consumed, converted)
}

func (a *auditor) RecoverResources(now time.Time, fw, ag string, r resources.Resources, f *allocator.Filter) {
	k := [2]string{fw, ag}
	a.held[k] = a.held[k].Sub(r)
	a.Allocator.RecoverResources(now, fw, ag, r, f)
}

func (a *auditor) note(al allocator.Allocation) allocator.Allocation {
	for _, o := range al.Offers {
		k := [2]string{o.FrameworkID, o.AgentID}
		a.held[k] = a.held[k].Add(o.Resources)
	}
	return al
}

func (a *auditor) Allocate(now time.Time) allocator.Allocation {
	return a.note(a.Allocator.Allocate(now))
}

func (a *auditor) AllocateAll(now time.Time) allocator.Allocation {
	return a.note(a.Allocator.AllocateAll(now))
}

// audit compares the books of the core with each other and with the allocator's.
func (c *Core) audit(alloc *auditor) error {
	held := map[[2]string]resources.Resources{}
	add := func(fw, ag string, r resources.Resources) {
		k := [2]string{fw, ag}
		held[k] = held[k].Add(r)
	}
	var problem error
	fail := func(format string, args ...any) {
		if problem == nil {
			problem = fmt.Errorf(format, args...)
		}
	}
	offers, tasks, live := 0, 0, map[string]int{}
	c.agents.Scan(func(id string, ag *agent) bool {
		var used, offered resources.Resources
		for i, cl := range ag.cells {
			tasks++
			if cl.index != i || cl.ag != ag || cl.fw.cells[cl.rec.ID] != cl {
				fail("agent %s: cell %d of task %s is out of place", id, i, cl.rec.ID)
			}
			if rec, _ := cl.fw.tasks.Get(cl.rec.ID); rec != cl.rec {
				fail("task %s: its framework has another record", cl.rec.ID)
			}
			if c.framework(cl.fw.id) != cl.fw {
				fail("task %s is of framework %s, which is not there", cl.rec.ID, cl.fw.id)
			}
			if cl.held && removable(cl.rec.State) {
				fail("task %s is %s and holds resources", cl.rec.ID, cl.rec.State)
			}
			if cl.held {
				used = used.Add(cl.rec.Resources)
				add(cl.fw.id, id, cl.rec.Resources)
			}
			live[cl.rec.State.String()]++
		}
		ag.executors.Scan(func(_ string, e *Executor) bool {
			used = used.Add(e.Resources)
			add(e.FrameworkID, id, e.Resources)
			fw := c.framework(e.FrameworkID)
			if fw == nil {
				fail("executor of framework %s, which is not there", e.FrameworkID)
				return false
			}
			if _, ok := fw.executors.Get(executorKey(id, e.Info.GetExecutorId().GetValue())); !ok {
				fail("executor %v is not with its framework", e.Info.GetExecutorId())
			}
			return true
		})
		ag.offers.Scan(func(_ uint64, o *offer) bool {
			offers++
			offered = offered.Add(o.Resources)
			add(o.FrameworkID, id, o.Resources)
			if c.offers[o.ID] != o || !o.fw.active || !ag.active {
				fail("offer %s is not in the books, or of an inactive framework or agent", o.ID)
			}
			if have, _ := o.fw.offers.Get(o.seq); have != o {
				fail("offer %s is not with its framework", o.ID)
			}
			return true
		})
		if !ag.used.Equal(used) {
			fail("agent %s: used is %s, its tasks and executors use %s", id, ag.used, used)
		}
		if !ag.offered.Equal(offered) {
			fail("agent %s: offered is %s, its offers have %s", id, ag.offered, offered)
		}
		// An agent that lies may use more than it has.
		if all := used.Add(offered).Unallocate(); alloc.liars {
			return true
		} else if !ag.total.ContainsQuantities(all.NonShared().Quantities()) {
			fail("agent %s has %s, and %s is given out", id, ag.total, all)
		} else if !ag.total.Contains(all.NonShared()) {
			fail("agent %s has %s, which does not contain %s", id, ag.total, all)
		}
		return true
	})
	if offers != len(c.offers) {
		fail("%d offers in the books, %d with agents", len(c.offers), offers)
	}
	for k, r := range held {
		if !alloc.held[k].Equal(r) {
			fail("framework %s on agent %s: the core says %s, the allocator %s", k[0], k[1], r, alloc.held[k])
		}
	}
	for k, r := range alloc.held {
		if !r.Empty() && !held[k].Equal(r) {
			fail("framework %s on agent %s: the allocator says %s, the core %s", k[0], k[1], r, held[k])
		}
	}
	total := 0
	c.frameworks.Scan(func(id string, fw *framework) bool {
		total += len(fw.cells)
		if fw.tasks.Len() != len(fw.cells) {
			fail("framework %s has %d records of %d tasks", id, fw.tasks.Len(), len(fw.cells))
		}
		fw.unreachable.Scan(func(_ string, t *Task) bool { live[t.State.String()]++; return true })
		if fw.connected() && c.streams[fw.stream] != fw {
			fail("framework %s is connected by a stream that is not its own", id)
		}
		return true
	})
	if total != tasks {
		fail("%d tasks with frameworks, %d with agents", total, tasks)
	}
	if err := c.auditOperators(); err != nil {
		fail("%v", err)
	}
	v := c.View()
	for s, n := range v.Counts.Tasks {
		if live[s.String()] != n {
			fail("%d tasks are counted as %s, there are %d", n, s, live[s.String()])
		}
	}
	if v.Counts.AgentsActive+v.Counts.AgentsInactive != v.Agents.Len() || v.Agents.Len() != c.agents.Len() {
		fail("the view counts %+v, of %d agents", v.Counts, c.agents.Len())
	}
	if v.Counts.FrameworksActive+v.Counts.FrameworksInactive != c.frameworks.Len() {
		fail("the view counts %+v, of %d frameworks", v.Counts, c.frameworks.Len())
	}
	return problem
}
