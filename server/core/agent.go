package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
)

// agent is what the core knows of an admitted agent that has registered with it.
type agent struct {
	id           string
	info         *mesos.AgentInfo
	ip           string
	version      string
	capabilities []mesos.AgentInfo_Capability_Type

	link                              LinkID // 0: none
	connected, active, deactivated    bool
	registeredAt, reregisteredAt      time.Time
	disconnectedAt                    time.Time // of the last time
	total, used, offered              resources.Resources
	unavailability                    *mesos.Unavailability
	drain                             *mesos.DrainInfo
	drainStart                        time.Time
	cells                             []*cell
	executors                         btree.Map[string, *Executor] // by executorKey(framework, executor)
	offers                            btree.Map[uint64, *offer]
	inverse                           btree.Map[uint64, *inverseOffer]
	operations                        btree.Map[string, *operation]
	pongDue                           bool
	missed                            int
	pingGen, disconnectGen, removeGen uint64
	drainSaving                       bool // the registry is being told that it is drained
	removing                          bool // its being marked unreachable is scheduled
	removeReason                      string
	news                              news
	doubles                           []taskRef // tasks to kill: they live elsewhere by the same id
}

// link is one connection of an agent.
type link struct {
	id  LinkID
	ag  *agent        // once it has registered
	reg *registration // until then
}

// registration is a RegisterAgent that is being worked on.
type registration struct {
	link      LinkID
	principal *authz.Principal
	msg       *clusterdv1.RegisterAgent
	total     resources.Resources

	capabilities []mesos.AgentInfo_Capability_Type // shared: never changed
	frameworks   []*reportedFramework
	tasks        []reportedTask
	reported     map[taskRef]bool // the names of tasks
}

func (r *registration) id() string { return r.msg.GetAgentInfo().GetId().GetValue() }

// String names the agent in errors that go to frameworks, as Mesos does.
func (ag *agent) String() string {
	return fmt.Sprintf("%s at %s (%s)", ag.id, agentPID(ag.ip, ag.info.GetPort()), ag.info.GetHostname())
}

func (ag *agent) can(c mesos.AgentInfo_Capability_Type) bool {
	return slices.Contains(ag.capabilities, c)
}

// executor looks an executor up; nil if the master knows none.
func (ag *agent) executor(frameworkID, executorID string) *Executor {
	e, _ := ag.executors.Get(executorKey(frameworkID, executorID))
	return e
}

// allocation is what the allocator is told of an agent.
func (ag *agent) allocation() allocator.Agent {
	return allocator.Agent{
		Hostname:         ag.info.GetHostname(),
		Attributes:       ag.info.GetAttributes(),
		Domain:           ag.info.GetDomain(),
		Total:            ag.total,
		MultiRole:        ag.can(mesos.AgentInfo_Capability_MULTI_ROLE),
		HierarchicalRole: ag.can(mesos.AgentInfo_Capability_HIERARCHICAL_ROLE),
		Active:           ag.active,
		Unavailability:   ag.unavailability,
	}
}

func (c *Core) agent(id string) *agent {
	ag, _ := c.agents.Get(id)
	return ag
}

// tell sends a message to an agent, if it is connected.
func (c *Core) tell(ag *agent, m *clusterdv1.MasterMessage) {
	if ag.link != 0 {
		c.emit(SendAgent{Link: ag.link, Message: m})
	}
}

// agentMessage takes a message from an agent's link.
func (c *Core) agentMessage(in AgentMessage) {
	l := c.links[in.Link]
	if reg := in.Message.GetRegister(); reg != nil {
		if l != nil {
			c.drop("register", "this link has registered already")
			c.emit(CloseLink{Link: in.Link, Reason: "registered twice on one link"})
			return
		}
		l = &link{id: in.Link, reg: &registration{link: in.Link, principal: in.Principal, msg: reg}}
		c.links[in.Link] = l
		c.register(l.reg)
		return
	}
	if l == nil || l.ag == nil {
		c.drop("agent_message", "not registered")
		c.emit(CloseLink{Link: in.Link, Reason: "the first message must register the agent"})
		return
	}
	ag := l.ag
	switch m := in.Message.GetMessage().(type) {
	case *clusterdv1.AgentMessage_UpdateTask:
		c.taskUpdate(ag, m.UpdateTask)
	case *clusterdv1.AgentMessage_UpdateOperation:
		c.operationUpdate(ag, m.UpdateOperation)
	case *clusterdv1.AgentMessage_ExecutorMessage:
		c.executorMessage(ag, m.ExecutorMessage)
	case *clusterdv1.AgentMessage_ExitedExecutor:
		c.exitedExecutor(ag, m.ExitedExecutor)
	case *clusterdv1.AgentMessage_UpdateAgent:
		c.updateAgent(ag, m.UpdateAgent)
	case *clusterdv1.AgentMessage_Pong:
		c.pong(ag)
	case *clusterdv1.AgentMessage_Unregister:
		c.count("master/messages_unregister_slave")
		c.removeAgent(ag, "the agent unregistered", "master/slave_removals/reason_unregistered")
	default:
		// A member younger than this master: link.proto says to ignore it.
		c.drop("agent_message", "unknown member", "agent_id", ag.id)
	}
}

// register takes the first message of a link (Mesos: Master::registerSlave and
// Master::reregisterSlave).
func (c *Core) register(reg *registration) {
	unreadable := c.wire.read(reg, c.knownInfo)
	info := reg.msg.GetAgentInfo()
	if reg.id() == "" {
		c.count("master/messages_register_slave")
	} else {
		c.count("master/messages_reregister_slave")
	}
	if unreadable != nil {
		c.refuseAgent(reg, unreadable.Error(), false)
		return
	}
	if err := reg.validate(); err != nil {
		c.refuseAgent(reg, err.Error(), false)
		return
	}
	if other := reg.msg.GetClusterId(); reg.id() != "" && other != "" && c.cfg.ClusterID != "" && other != c.cfg.ClusterID {
		// Before anything that could tell it to shut down: its tasks are another
		// cluster's, and only a person knows which of the two is wrong.
		c.refuseAgent(reg, fmt.Sprintf("Agent %s belongs to cluster %s, and this master to cluster %s: "+
			"point the agent at its own masters, or remove its checkpointed state to let it join this cluster anew",
			reg.id(), other, c.cfg.ClusterID), false)
		return
	}
	if err := c.authorizeAgent(reg); err != nil {
		c.refuseAgent(reg, err.Error(), false)
		return
	}
	domain := info.GetDomain().GetFaultDomain() != nil
	_, gone := c.gone.Get(reg.id())
	machine, _ := c.machines.Get(MachineKey(info.GetHostname(), reg.msg.GetIp()))
	switch {
	case machine.GetMode() == mesos.MachineInfo_DOWN && !gone:
		c.refuseAgent(reg, "Machine is `DOWN`", true)
	case domain && c.cfg.MasterInfo.GetDomain().GetFaultDomain() == nil:
		c.refuseAgent(reg, "The agent is configured with a domain, but the master has no configured domain", false)
	case !domain && c.cfg.RequireAgentDomain:
		c.refuseAgent(reg, "This master is configured to require agent domains, but the agent has none", false)
	case reg.id() == "":
		c.registerNew(reg)
	default:
		c.reregister(reg)
	}
}

// knownInfo is what the master knows of an agent that is registered or expected back.
func (c *Core) knownInfo(id string) *mesos.AgentInfo {
	if ag := c.agent(id); ag != nil {
		return ag.info
	}
	rec, _ := c.recovered.Get(id)
	return rec.Info
}

// refuseAgent ends a link that may not register.
func (c *Core) refuseAgent(reg *registration, why string, shutdown bool) {
	c.log(Warn, "agent_refused", "agent_id", reg.id(), "hostname", reg.msg.GetAgentInfo().GetHostname(),
		"ip", reg.msg.GetIp(), "error", why)
	c.emit(SendAgent{Link: reg.link, Message: &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Refused{
		Refused: &clusterdv1.Refused{Message: &why, Shutdown: &shutdown},
	}}})
	c.emit(CloseLink{Link: reg.link, Reason: why})
	delete(c.links, reg.link)
}

// alive reports whether the link of a registration still waits for its answer.
func (c *Core) alive(reg *registration) bool {
	l := c.links[reg.link]
	return l != nil && l.reg == reg
}

// registerNew gives a new agent its id. The registry knows it before it does.
func (c *Core) registerNew(reg *registration) {
	info := reg.msg.AgentInfo
	address := agentPID(reg.msg.GetIp(), info.GetPort())
	c.supersede(c.admitting[address])
	delete(c.admitting, address)
	if old := c.agent(c.addresses[address]); old != nil && c.busy[old.id] == settled {
		if old.connected {
			// The agent has not heard that it was admitted, or has lost its memory
			// and come back before its old link was noticed to be dead. What it
			// reports now is the truth.
			info.Id = &mesos.AgentID{Value: &old.id}
			c.reregister(reg)
			return
		}
		c.removeAgent(old, "a new agent registered at the same address", "master/slave_removals/reason_registered")
	}
	id := fmt.Sprintf("%s-S%d", c.masterID, c.nextAgent)
	c.nextAgent++
	info.Id = &mesos.AgentID{Value: &id}
	c.admitting[address] = reg
	c.propose(id, func() {
		if c.admitting[address] == reg {
			delete(c.admitting, address)
		}
		if !c.alive(reg) {
			// It never heard its id, so that it will not come back under it.
			c.propose(id, nil, command(clusterdv1.Command_REMOVE_AGENT, &clusterdv1.RemoveAgent{AgentId: info.Id}))
			return
		}
		c.count("master/slave_registrations")
		c.join(reg, newcomer)
	}, command(clusterdv1.Command_ADMIT_AGENT, &clusterdv1.AdmitAgent{AgentInfo: info}))
}

// reregister lets an agent that has an id come back.
func (c *Core) reregister(reg *registration) {
	id, info := reg.id(), reg.msg.AgentInfo
	if _, gone := c.gone.Get(id); gone {
		c.refuseAgent(reg, "Agent has been marked gone", true)
		return
	}
	if c.busy[id] != settled {
		// It is being marked unreachable or removed: wait for the outcome.
		c.supersede(c.parked[id])
		c.parked[id] = reg
		return
	}
	if c.impostor(reg) {
		return
	}
	var known *mesos.AgentInfo
	ag := c.agent(id)
	rec, isRecovered := c.recovered.Get(id)
	switch {
	case ag != nil:
		known = ag.info
	case isRecovered:
		known = rec.Info
	default:
		c.readmit(reg, clusterdv1.Command_MARK_AGENT_REACHABLE, &clusterdv1.MarkAgentReachable{AgentInfo: info})
		return
	}
	if c.wire.sameInfo(known, info) && c.registering[id] == nil {
		c.rejoin(reg)
		return
	}
	c.readmit(reg, clusterdv1.Command_UPDATE_AGENT, &clusterdv1.UpdateRegisteredAgent{AgentInfo: info})
}

// impostor refuses whoever claims the id of an agent that is linked from elsewhere.
// Mesos tells it to shut down, which here would end the tasks of an agent that has
// moved (--reconfiguration_policy=any) before its old link is seen to be dead, or of
// a copy of a work_dir: it is refused for now, and let in once the other is gone.
func (c *Core) impostor(reg *registration) bool {
	ag := c.agent(reg.id())
	if ag == nil || ag.link == 0 || ag.ip == reg.msg.GetIp() && ag.info.GetHostname() == reg.msg.GetAgentInfo().GetHostname() {
		return false
	}
	c.refuseAgent(reg, "Agent attempted to reregister with different IP / hostname while it is linked as "+ag.String(), false)
	return true
}

// supersede ends the link of a registration that waits for its answer: its agent has
// begun another.
func (c *Core) supersede(older *registration) {
	if older != nil && c.alive(older) {
		delete(c.links, older.link)
		c.emit(CloseLink{Link: older.link, Reason: "replaced by a newer link"})
	}
}

// readmit brings the registry up to date before an agent is let in again. If it
// tries again meanwhile, its newest try counts.
func (c *Core) readmit(reg *registration, kind clusterdv1.Command_Kind, payload proto.Message) {
	id := reg.id()
	c.registering[id] = reg
	c.propose(id, func() {
		if c.registering[id] == reg {
			delete(c.registering, id)
		}
		if !c.alive(reg) {
			c.readmittedInVain(id, reg.msg.AgentInfo)
			return
		}
		if c.impostor(reg) {
			return // two have claimed the id at the same time
		}
		c.rejoin(reg)
	}, command(kind, payload))
}

// readmittedInVain keeps track of an agent that the registry holds for admitted
// while its link is gone again: it is expected back like one that was recovered.
func (c *Core) readmittedInVain(id string, info *mesos.AgentInfo) {
	if c.agent(id) != nil || c.registering[id] != nil {
		return
	}
	c.unreachable.Delete(id)
	c.unexpect(id)
	c.expectLate(id, RecoveredAgent{Info: info})
	c.publish.departures = true
}

// origin says where an agent that joins comes from.
type origin int

const (
	newcomer    origin = iota // has a new id
	returning                 // was registered with this master all along
	recovering                // was known from the registry only
	unreachable               // was unreachable
	stranger                  // has an id that nobody knows
)

// rejoin finds out where an agent comes from, and lets it in.
func (c *Core) rejoin(reg *registration) {
	id := reg.id()
	c.count("master/slave_reregistrations")
	_, isRecovered := c.recovered.Get(id)
	_, wasUnreachable := c.unreachable.Get(id)
	from := stranger
	switch ag := c.agent(id); {
	case ag != nil:
		from = returning
	case isRecovered:
		from = recovering
	case wasUnreachable:
		from = unreachable
	}
	c.join(reg, from)
}

// join lets an agent in: what it reports replaces what was believed of it.
func (c *Core) join(reg *registration, from origin) {
	id, msg := reg.id(), reg.msg
	ag := c.agent(id)
	if ag == nil {
		ag = &agent{id: id, registeredAt: c.now}
		c.agents.Set(id, ag)
	} else {
		c.detach(ag)
	}
	delete(c.addresses, agentPID(ag.ip, ag.info.GetPort()))
	ag.info, ag.ip, ag.version = msg.AgentInfo, msg.GetIp(), msg.GetBuildVersion()
	c.addresses[agentPID(ag.ip, ag.info.GetPort())] = id
	ag.capabilities = c.publish.capabilities(reg.capabilities)
	ag.total = reg.total
	ag.obey(c.wills[id])
	ag.unavailability = c.machineOf(ag).GetUnavailability()
	ag.link, ag.connected, ag.active = reg.link, true, !ag.deactivated
	if from != newcomer {
		ag.reregisteredAt = c.now
	}
	c.links[reg.link].ag, c.links[reg.link].reg = ag, nil
	c.unexpect(id)
	c.unreachable.Delete(id)
	c.publish.departures = true
	if ag.drain != nil {
		ag.drainStart = c.now
	}
	c.announceAgent(ag)

	reconcile := c.adopt(ag, reg, from)
	c.alloc.AddAgent(id, ag.allocation(), ag.usedBy())
	c.allocation = agentJoined
	c.touchAgent(ag)
	registered := &clusterdv1.Registered{
		AgentId:        &mesos.AgentID{Value: &ag.id},
		MasterInfo:     c.cfg.MasterInfo,
		PingTimeout:    &mesos.DurationInfo{Nanoseconds: new(int64(c.cfg.AgentPingTimeout) * int64(c.cfg.MaxAgentPingTimeouts))},
		ReconcileTasks: reconcile,
	}
	if c.cfg.ClusterID != "" {
		registered.ClusterId = &c.cfg.ClusterID
	}
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Registered{Registered: registered}})
	c.briefAgent(ag, reg)
	ag.pongDue, ag.missed = false, 0
	c.cancelUnreachable(ag)
	ag.pingGen++
	ag.disconnectGen++
	c.timers.add(c.now.Add(c.cfg.AgentPingTimeout), timer{kind: pingTimer, id: id, gen: ag.pingGen})
	c.log(Info, "agent_registered", "agent_id", id, "hostname", ag.info.GetHostname(),
		"ip", ag.ip)
	c.noteDrain(ag)
	if c.machineOf(ag).GetMode() == mesos.MachineInfo_DOWN {
		c.shutDown(ag) // it went down while the registry let the agent in
	}
}

// detach takes a registered agent out of the allocator before it joins anew, and
// ends its old link if there still is one.
func (c *Core) detach(ag *agent) {
	c.rescindAgent(ag)
	c.alloc.RemoveAgent(ag.id)
	if ag.link != 0 {
		delete(c.links, ag.link)
		c.emit(CloseLink{Link: ag.link, Reason: "replaced by a newer link"})
		ag.link = 0
	}
}

// briefAgent tells an agent that joins what it missed.
func (c *Core) briefAgent(ag *agent, reg *registration) {
	if ag.drain != nil {
		c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Drain{Drain: &clusterdv1.Drain{Config: ag.drain.GetConfig()}}})
	} else if reg.msg.DrainConfig != nil {
		c.tellCancelDrain(ag) // it was away when that was decided
	}
	for _, known := range reg.frameworks {
		id := known.info.GetId().GetValue()
		if fw := c.framework(id); fw != nil {
			if !known.equal(fw.info) {
				c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_UpdateFramework{
					UpdateFramework: &clusterdv1.UpdateFramework{Framework: fw.info},
				}})
			}
		} else if len(c.queued[id]) == 0 { // else proposeRemoval tells all agents
			c.shutdownFramework(ag, id)
		}
	}
	for _, cl := range ag.cells {
		if cl.rec.killed && cl.held {
			c.sendKill(cl)
		}
	}
	for _, ref := range ag.doubles {
		c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_KillTask{KillTask: &clusterdv1.KillTask{
			FrameworkId: &mesos.FrameworkID{Value: &ref.framework},
			TaskId:      &mesos.TaskID{Value: &ref.task},
		}}})
	}
	ag.doubles = nil
}

func (c *Core) shutdownFramework(ag *agent, frameworkID string) {
	c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_ShutdownFramework{
		ShutdownFramework: &clusterdv1.ShutdownFramework{FrameworkId: &mesos.FrameworkID{Value: &frameworkID}},
	}})
}

// updateAgent takes a change of an agent's total. What was offered of it returns
// first, for the agent may have less now.
func (c *Core) updateAgent(ag *agent, m *clusterdv1.UpdateAgent) {
	c.count("master/messages_update_slave")
	total, err := readTotal(m.GetTotalResources())
	if err != nil {
		c.drop("update_agent", err.Error(), "agent_id", ag.id)
		return
	}
	if total.Equal(ag.total) {
		return
	}
	c.rescindOffers(ag)
	ag.total = total
	c.alloc.UpdateAgent(ag.id, ag.allocation())
	c.touchAgent(ag)
	c.agentChanged(ag)
}

// executorMessage passes a message of an executor on. It is unreliable.
func (c *Core) executorMessage(ag *agent, m *clusterdv1.ExecutorMessage) {
	c.count("master/messages_executor_to_framework")
	fw := c.framework(m.GetFrameworkId().GetValue())
	if fw == nil || !fw.connected() {
		c.count("master/invalid_executor_to_framework_messages")
		return
	}
	c.sendEvent(fw, messageEvent(ag.id, m))
	c.count("master/valid_executor_to_framework_messages")
}

// exitedExecutor takes the end of an executor; its tasks have updates of their
// own (Mesos: Master::exitedExecutor).
func (c *Core) exitedExecutor(ag *agent, m *clusterdv1.ExitedExecutor) {
	c.count("master/messages_exited_executor")
	frameworkID, executorID := m.GetFrameworkId().GetValue(), m.GetExecutorId().GetValue()
	e := ag.executor(frameworkID, executorID)
	if e == nil {
		// Of a command task, or heard of before.
		c.log(Debug, "executor_unknown", "agent_id", ag.id, "framework_id", frameworkID, "executor_id", executorID)
		return
	}
	c.removeExecutor(e)
	if fw := c.framework(frameworkID); fw != nil {
		status := m.GetStatus()
		c.sendEvent(fw, failureEvent(ag.id, executorID, &status))
	}
}
