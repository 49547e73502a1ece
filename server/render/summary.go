package render

import (
	"maps"
	"slices"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

// summaryStates are the states that /state-summary counts, in its order.
var summaryStates = [...]mesos.TaskState{
	mesos.TaskState_TASK_STAGING,
	mesos.TaskState_TASK_STARTING,
	mesos.TaskState_TASK_RUNNING,
	mesos.TaskState_TASK_KILLING,
	mesos.TaskState_TASK_FINISHED,
	mesos.TaskState_TASK_KILLED,
	mesos.TaskState_TASK_FAILED,
	mesos.TaskState_TASK_LOST,
	mesos.TaskState_TASK_ERROR,
	mesos.TaskState_TASK_UNREACHABLE,
}

// summaryIndex is where a state stands in summaryStates, plus one.
var summaryIndex = func() (index [32]uint8) {
	for i, s := range summaryStates {
		index[s] = uint8(i + 1)
	}
	return index
}()

// tally counts tasks by state and collects the other side of each task: the frameworks
// of an agent, or the agents of a framework.
type tally struct {
	states [len(summaryStates)]int64
	peers  []string
	// last is the framework that was counted last on an agent.
	last *tally
}

func (c *tally) count(s mesos.TaskState) {
	if s < 0 || int(s) >= len(summaryIndex) {
		return
	}
	if i := summaryIndex[s]; i > 0 {
		c.states[i-1]++
	}
}

func (o *object) tally(c *tally, peers string) {
	for i, s := range summaryStates {
		o.integer(stateName(s), c.states[i])
	}
	o.strings(peers, c.peers)
}

// tallies are those of all agents and frameworks, by id.
type tallies struct{ agents, frameworks map[string]*tally }

// tallyAll counts the tasks of all running frameworks. Those that are hidden count too:
// as numbers, not as peers.
func tallyAll(v *core.View, who sight) tallies {
	all := tallies{make(map[string]*tally, v.Agents.Len()), make(map[string]*tally, v.Frameworks.Len())}
	for f := range v.Frameworks.Values() {
		own, seen := new(tally), who.framework(f)
		all.frameworks[f.ID] = own
		count := func(t *core.Task) {
			own.count(t.State)
			a := all.agents[t.AgentID]
			if a == nil {
				a = new(tally)
				all.agents[t.AgentID] = a
			}
			a.count(t.State)
			if a.last == own {
				return
			}
			a.last = own
			own.peers = append(own.peers, t.AgentID)
			if seen {
				a.peers = append(a.peers, f.ID) // sorted, as frameworks are
			}
		}
		for t := range f.Tasks.Values() {
			count(t)
		}
		for t := range f.UnreachableTasks.Values() {
			count(t)
		}
		for _, t := range f.CompletedTasks {
			count(t)
		}
		slices.Sort(own.peers)
	}
	return all
}

// agent is the tally of an agent, of zeros if it has none.
func (t tallies) agent(id string) *tally {
	if c := t.agents[id]; c != nil {
		return c
	}
	return new(tally)
}

// Summary writes /state-summary. Tasks of completed frameworks do not count.
func Summary(v *core.View, m *Master, viewer *authz.Viewer) Body {
	who := sight{viewer}
	all := tallyAll(v, who)
	var frameworks []*core.Framework
	for f := range v.Frameworks.Values() {
		if who.framework(f) {
			frameworks = append(frameworks, f)
		}
	}
	var p plan
	p.text("{")
	p.object(1, func(o *object) {
		o.str("hostname", m.Info.GetHostname())
		if m.Cluster != "" {
			o.str("cluster", m.Cluster)
		}
	})
	p.text(",")
	p.agents(v, func(o *object, a *core.Agent) {
		o.agent(a, who)
		o.tally(all.agent(a.ID), "framework_ids")
	})
	p.text(`,"frameworks":[`)
	list(&p, frameworks, func(dst []byte, f *core.Framework) []byte {
		o := open(dst)
		o.frameworkSummary(f)
		o.tally(all.frameworks[f.ID], "slave_ids")
		return o.close()
	})
	p.text("]}")
	return p.write()
}

// Agents writes /slaves; an id selects one.
func Agents(v *core.View, id string, viewer *authz.Viewer) Body {
	who := sight{viewer}
	write := func(o *object, a *core.Agent) {
		o.agent(a, who)
		o.agentFull(a, who)
	}
	var p plan
	p.text("{")
	if id == "" {
		p.agents(v, write)
	} else {
		var one []*core.Agent
		if a, ok := v.Agents.Get(id); ok {
			one = append(one, a)
		}
		p.agentList(one, write)
	}
	p.text(",")
	p.recovered(v, id)
	p.text("}")
	return p.write()
}

// agentFull writes what /slaves shows beyond /state: the resources unabridged,
// with the "role" that older readers look at.
func (o *object) agentFull(a *core.Agent, who sight) {
	o.key("reserved_resources_full")
	in := open(o.buf)
	for _, r := range a.Total.Reservations() {
		if !who.role(r.Role) {
			continue
		}
		in.name(r.Role)
		in.buf = appendFull(in.buf, who.resources(r.Resources))
	}
	o.buf = in.close()
	o.key("unreserved_resources_full")
	o.buf = appendFull(o.buf, who.resources(a.Total.Unreserved()))
	o.key("used_resources_full")
	o.buf = appendFull(o.buf, who.resources(a.Used))
	o.key("offered_resources_full")
	o.buf = appendFull(o.buf, who.resources(a.Offered))
}

func appendFull(dst []byte, r resources.Resources) []byte {
	return append(jsonEndpoint(append(dst, '['), r), ']')
}

// endpoint is the form of resources that reads show: the reservations as a
// stack, and the same once more the old way if that can hold it.
func endpoint(r resources.Resources) []*mesos.Resource {
	list := r.Proto()
	for _, p := range list {
		resources.ToEndpoint(p)
	}
	return list
}
