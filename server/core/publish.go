package core

import (
	"maps"
	"slices"
	"time"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/encoding/protowire"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
)

// publisher keeps the records that views are made of. Agents and frameworks that
// change are only marked; their records are made again when a view is taken.
type publisher struct {
	agents     btree.Map[string, *Agent]
	frameworks btree.Map[string, *Framework]
	recovered  btree.Map[string, *mesos.AgentInfo]
	operations btree.Map[string, *Operation]

	dirtyAgents     map[*agent]struct{}
	dirtyFrameworks map[*framework]struct{}
	// departures: the lists of recovered, unreachable and gone agents changed.
	departures bool
	changed    bool

	tasks  map[mesos.TaskState]int
	counts Counts
	last   *View
	serial uint64

	// capabilitySets holds each set of capabilities once: all agents of one
	// version have the same.
	capabilitySets map[string][]mesos.AgentInfo_Capability_Type
}

func (p *publisher) init(*Core) {
	p.dirtyAgents = map[*agent]struct{}{}
	p.dirtyFrameworks = map[*framework]struct{}{}
	p.tasks = map[mesos.TaskState]int{}
	p.capabilitySets = map[string][]mesos.AgentInfo_Capability_Type{}
	p.departures, p.changed = true, true
}

// expect notes an agent that is admitted, and has not registered with this master.
func (c *Core) expect(id string, a RecoveredAgent) {
	c.recovered.Set(id, a)
	c.publish.recovered.Set(id, a.Info)
	c.publish.departures = true
}

// unexpect forgets that an agent is expected.
func (c *Core) unexpect(id string) {
	c.cancelMissing(id)
	c.recovered.Delete(id)
	c.publish.recovered.Delete(id)
	c.publish.departures = true
}

func (c *Core) touchAgent(ag *agent) {
	c.publish.dirtyAgents[ag] = struct{}{}
	c.publish.changed = true
}

func (c *Core) touchFramework(fw *framework) {
	c.publish.dirtyFrameworks[fw] = struct{}{}
	c.publish.changed = true
}

func (p *publisher) tally(s mesos.TaskState, n int) {
	p.tasks[s] += n
	p.changed = true
}

func (p *publisher) operation(uuid string, op *Operation) {
	if op == nil {
		p.operations.Delete(uuid)
	} else {
		p.operations.Set(uuid, op)
	}
	p.changed = true
}

// capabilities returns the sorted set of capabilities that an agent announced.
func (p *publisher) capabilities(set []mesos.AgentInfo_Capability_Type) []mesos.AgentInfo_Capability_Type {
	key := make([]byte, 0, 64) // mostly stays on the stack
	for _, c := range set {
		key = protowire.AppendVarint(key, uint64(c)) //nolint:gosec // any number will do that tells them apart
	}
	if have, ok := p.capabilitySets[string(key)]; ok {
		return have
	}
	// A bound on what agents can make the master keep; there are about ten sets.
	if len(p.capabilitySets) < 1000 {
		p.capabilitySets[string(key)] = set
	}
	return set
}

// complete makes the last record of a framework that has ended.
func (p *publisher) complete(c *Core, fw *framework) {
	rec := fw.freeze()
	rec.Unregistered = c.now
	delete(p.dirtyFrameworks, fw)
	p.setFramework(fw.id, nil)
	if c.cfg.MaxCompletedFrameworks > 0 {
		c.completed = append(c.completed, rec)
		if over := len(c.completed) - c.cfg.MaxCompletedFrameworks; over > 0 {
			c.completed = c.completed[over:]
		}
	}
	p.changed = true
	c.agents.Scan(func(_ string, ag *agent) bool {
		if ag.unavailability != nil {
			c.touchAgent(ag) // what the framework answered to inverse offers is forgotten
		}
		return true
	})
}

// View returns what the core knows now. It is cheap when little has changed since
// the last call, and returns the same view when nothing has.
func (c *Core) View() *View {
	p := &c.publish
	if !p.changed && !p.departures && p.last != nil && p.last.Events == c.events.serial {
		return p.last
	}
	for ag := range p.dirtyAgents {
		if c.agent(ag.id) == ag {
			rec := ag.freeze()
			if ag.unavailability != nil {
				rec.InverseOfferStatuses = c.alloc.InverseOfferStatuses(ag.id)
			}
			p.setAgent(ag.id, rec)
		} else if c.agent(ag.id) == nil {
			p.setAgent(ag.id, nil)
		}
	}
	for fw := range p.dirtyFrameworks {
		if c.framework(fw.id) == fw {
			p.setFramework(fw.id, fw.freeze())
		}
	}
	clear(p.dirtyAgents)
	clear(p.dirtyFrameworks)
	p.serial++
	counts := p.counts
	counts.AgentsUnreachable = c.unreachable.Len()
	counts.OutstandingOffers = len(c.offers)
	counts.Tasks = map[mesos.TaskState]int{}
	maps.Copy(counts.Tasks, p.tasks)
	p.last = &View{
		Serial:              p.serial,
		Events:              c.events.serial,
		Taken:               c.now,
		Master:              c.cfg.MasterInfo,
		Agents:              Map[*Agent]{p.agents.Copy()},
		RecoveredAgents:     Map[*mesos.AgentInfo]{p.recovered.Copy()},
		Unreachable:         Map[time.Time]{c.unreachable.Copy()},
		Gone:                Map[time.Time]{c.gone.Copy()},
		Frameworks:          Map[*Framework]{p.frameworks.Copy()},
		CompletedFrameworks: slices.Clip(c.completed),
		Operations:          Map[*Operation]{p.operations.Copy()},
		Weights:             Map[float64]{c.weights.Copy()},
		Quotas:              Map[*quota.QuotaConfig]{c.quotas.Copy()},
		Schedule:            &maintenance.Schedule{Windows: c.windows},
		Machines:            Map[*mesos.MachineInfo]{c.machines.Copy()},
		Counts:              counts,
		tls:                 c.cfg.TLS,
	}
	p.departures, p.changed = false, false
	return p.last
}

func (p *publisher) setAgent(id string, rec *Agent) {
	if old, ok := p.agents.Get(id); ok {
		p.countAgent(old, -1)
	}
	if rec == nil {
		p.agents.Delete(id)
		return
	}
	p.countAgent(rec, 1)
	p.agents.Set(id, rec)
}

func (p *publisher) countAgent(a *Agent, n int) {
	if a.Active {
		p.counts.AgentsActive += n
	} else {
		p.counts.AgentsInactive += n
	}
	if a.Connected {
		p.counts.AgentsConnected += n
	} else {
		p.counts.AgentsDisconnected += n
	}
}

func (p *publisher) setFramework(id string, rec *Framework) {
	if old, ok := p.frameworks.Get(id); ok {
		p.countFramework(old, -1)
	}
	if rec == nil {
		p.frameworks.Delete(id)
		return
	}
	p.countFramework(rec, 1)
	p.frameworks.Set(id, rec)
}

func (p *publisher) countFramework(f *Framework, n int) {
	if f.Active {
		p.counts.FrameworksActive += n
	} else {
		p.counts.FrameworksInactive += n
	}
	if f.Connected {
		p.counts.FrameworksConnected += n
	} else {
		p.counts.FrameworksDisconnected += n
	}
}

func (ag *agent) freeze() *Agent {
	return &Agent{
		ID:             ag.id,
		Info:           ag.info,
		IP:             ag.ip,
		Version:        ag.version,
		Capabilities:   ag.capabilities,
		RegisteredAt:   ag.registeredAt,
		ReregisteredAt: ag.reregisteredAt,
		Connected:      ag.connected,
		Active:         ag.active,
		Deactivated:    ag.deactivated,
		Total:          ag.total,
		Used:           ag.used,
		Offered:        ag.offered,
		DrainInfo:      ag.drain,
		DrainStart:     ag.drainStart,
	}
}

func (fw *framework) freeze() *Framework {
	rec := &Framework{
		ID:               fw.id,
		Info:             fw.info,
		Roles:            fw.roles,
		Suppressed:       fw.suppressed,
		Constraints:      fw.constraints,
		Active:           fw.active,
		Connected:        fw.connected(),
		Recovered:        fw.recovered,
		RegisteredAt:     fw.registeredAt,
		ReregisteredAt:   fw.reregisteredAt,
		Tasks:            Map[*Task]{fw.tasks.Copy()},
		UnreachableTasks: Map[*Task]{fw.unreachable.Copy()},
		CompletedTasks:   slices.Clip(fw.completed),
		Executors:        Map[*Executor]{fw.executors.Copy()},
	}
	fw.offers.Scan(func(_ uint64, o *offer) bool {
		rec.Offers = append(rec.Offers, o.Offer)
		return true
	})
	fw.inverse.Scan(func(_ uint64, o *inverseOffer) bool {
		rec.InverseOffers = append(rec.InverseOffers, o.InverseOffer)
		return true
	})
	return rec
}
