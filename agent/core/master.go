package core

import (
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

const (
	// refusedRetryMax bounds the wait between attempts to register that masters
	// refuse (REGISTER_RETRY_INTERVAL_MAX in src/slave/constants.hpp).
	refusedRetryMax = time.Minute
	// registerRetryMax bounds it when links end before the agent is registered: it
	// is over for a whole herd in that time.
	registerRetryMax = 10 * time.Second
	// dialRetryMax bounds it while nobody leads: tasks that end have nobody to
	// tell, and an election is over in a second or two.
	dialRetryMax = 2 * time.Second
	// gossipRetryMax is dialRetryMax of an agent that gossip tells who leads: it
	// need not ask.
	gossipRetryMax = 5 * time.Second
	// staleLinkTimeout is how long a master that another may have replaced may take
	// to answer a registration.
	staleLinkTimeout = 5 * time.Second
	// registerTimeout is how long a master may take to admit the agent: it
	// commits the admission to its registry first.
	registerTimeout = time.Minute
	// defaultPingTimeout is 5 pings of 15 seconds, if the master names none.
	defaultPingTimeout = 75 * time.Second
)

// registration is where the agent stands with its master.
type registration struct {
	link       LinkID // 0: none
	connecting bool
	attempts   int // since the last success
	refusals   int // those of them that a master refused
	master     *mesos.MasterInfo
	// linkEpoch numbers the leadership that the agent is registered with, and
	// leaderEpoch the newest that gossip knows; 0: unknown.
	linkEpoch, leaderEpoch uint64
	// cluster is what is kept of the cluster last registered with; nil: none.
	cluster *clusterdv1.ClusterRecord

	pingTimeout time.Duration
	// linkTimer guards the answer to RegisterAgent, then the pings.
	linkTimer *timer
	dialTimer *timer
	// infoChanged says that the agent's description differs from the kept one.
	infoChanged bool
	exitReason  string
}

// connectIn asks for a link after d.
func (c *Core) connectIn(d time.Duration) {
	c.dialTimer.stop()
	c.dialTimer = c.after(d, func() {
		if c.link == 0 && !c.connecting {
			c.connecting = true
			c.emit(ConnectMaster{})
		}
	})
}

// backoff is uniform in [0, factor * 2^attempts], at most limit
// (Slave::doReliableRegistration).
func (c *Core) backoff(attempts int, limit time.Duration) time.Duration {
	span := c.cfg.RegistrationBackoffFactor
	for range attempts {
		if span >= limit {
			break
		}
		span *= 2
	}
	return time.Duration(c.rand.Float64() * float64(min(span, limit)))
}

func (c *Core) linkUp(in LinkUp) {
	if !c.connecting {
		c.emit(CloseLink{Link: in.Link, Reason: "the agent did not ask for this link"})
		return
	}
	c.connecting = false
	c.link = in.Link
	c.sendMaster(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: c.registerMessage()}})
	c.linkTimer.stop()
	c.linkTimer = c.after(registerTimeout, func() {
		c.log(Warn, "master_did_not_answer_registration")
		c.dropLink("the master did not answer the registration")
	})
}

// dropLink ends the link at once for the core; LinkDown of it will be ignored.
func (c *Core) dropLink(reason string) {
	if c.link == 0 {
		return
	}
	link := c.link
	c.emit(CloseLink{Link: link, Reason: reason})
	c.linkDown(LinkDown{Link: link, Reason: reason})
}

func (c *Core) linkDown(in LinkDown) {
	limit := registerRetryMax
	switch {
	case in.Link == 0 && c.connecting:
		c.connecting = false
		limit = dialRetryMax
		if c.leaderEpoch != 0 {
			limit = gossipRetryMax
		}
		if in.Refused {
			limit = refusedRetryMax
		}
	case in.Link != 0 && in.Link == c.link:
		c.link, c.linkEpoch = 0, 0
	default:
		return // of a link that is given up already
	}
	c.linkTimer.stop()
	if c.phase == running {
		c.phase = disconnected
		c.attempts = 0
		c.log(Warn, "disconnected_from_master", "reason", in.Reason)
	}
	c.pauseUpdates()
	if c.phase != disconnected {
		return
	}
	wait := c.backoff(c.attempts, limit)
	c.attempts++
	if c.refusals > 0 && in.Link != 0 {
		wait = c.backoff(c.refusals-1, refusedRetryMax)
	}
	level := Info
	if in.Refused {
		level = Error
	}
	c.log(level, "registration_scheduled", "in", wait.String(), "reason", in.Reason)
	c.connectIn(wait)
}

// registerMessage is the whole truth of the agent (Slave::doReliableRegistration).
func (c *Core) registerMessage() *clusterdv1.RegisterAgent {
	m := &clusterdv1.RegisterAgent{
		LinkVersion:           new(c.cfg.LinkVersion),
		AgentInfo:             c.info,
		BuildVersion:          new(c.cfg.BuildVersion),
		Ip:                    new(c.cfg.IP),
		CheckpointedResources: c.checkpointed.Proto(),
		DrainConfig:           c.draining.config,
	}
	if id := c.cluster.GetClusterId(); id != "" && c.agentID() != "" {
		m.ClusterId = &id
	}
	for _, t := range c.cfg.Capabilities {
		m.Capabilities = append(m.Capabilities, &mesos.AgentInfo_Capability{Type: t.Enum()})
	}
	for fw := range c.frameworks.values() {
		m.Frameworks = append(m.Frameworks, fw.info)
		for e := range fw.executors.values() {
			if !e.commandTask && e.state != execTerminated {
				m.Executors = append(m.Executors, &clusterdv1.AgentExecutor{FrameworkId: fw.info.GetId(), ExecutorInfo: e.info})
			}
			for t := range e.launched.values() {
				m.Tasks = append(m.Tasks, t.t)
			}
			for t := range e.terminated.values() {
				m.Tasks = append(m.Tasks, t.t)
			}
			for q := range e.queued.values() {
				m.Tasks = append(m.Tasks, newTask(q.info, fw.info.GetId(), mesos.TaskState_TASK_STAGING))
			}
		}
	}
	for op := range c.operations.values() {
		m.Operations = append(m.Operations, op.op)
	}
	return m
}

func (c *Core) masterMessage(in MasterMessage) {
	if in.Link == 0 || in.Link != c.link {
		return // from a link that is given up
	}
	switch m := in.Message.GetMessage().(type) {
	case *clusterdv1.MasterMessage_Registered:
		c.registered(m.Registered)
		return
	case *clusterdv1.MasterMessage_Refused:
		c.refused(m.Refused)
		return
	case *clusterdv1.MasterMessage_Ping:
		c.ping(m.Ping)
		return
	case *clusterdv1.MasterMessage_Masters:
		if c.phase == running { // else it may be of a cluster that is not the agent's
			c.learn(c.cluster.GetClusterId(), m.Masters.GetAddresses())
		}
		return
	}
	if c.phase != running {
		c.log(Warn, "dropped_message_of_master", "phase", c.phase.String())
		return
	}
	switch m := in.Message.GetMessage().(type) {
	case *clusterdv1.MasterMessage_RunTasks:
		c.runTasks(m.RunTasks)
	case *clusterdv1.MasterMessage_KillTask:
		c.killTask(m.KillTask)
	case *clusterdv1.MasterMessage_ShutdownExecutor:
		c.shutdownExecutorMessage(m.ShutdownExecutor)
	case *clusterdv1.MasterMessage_ShutdownFramework:
		c.shutdownFramework(m.ShutdownFramework.GetFrameworkId().GetValue())
	case *clusterdv1.MasterMessage_UpdateFramework:
		c.updateFramework(m.UpdateFramework.GetFramework())
	case *clusterdv1.MasterMessage_FrameworkMessage:
		c.frameworkMessage(m.FrameworkMessage)
	case *clusterdv1.MasterMessage_AcknowledgeTask:
		c.acknowledge(m.AcknowledgeTask)
	case *clusterdv1.MasterMessage_ApplyOperation:
		c.applyOperation(m.ApplyOperation)
	case *clusterdv1.MasterMessage_AcknowledgeOperation:
		c.acknowledgeOperation(m.AcknowledgeOperation)
	case *clusterdv1.MasterMessage_Drain:
		c.drainAgent(m.Drain.GetConfig())
	case *clusterdv1.MasterMessage_CancelDrain:
		c.cancelDrain()
	default:
		// A member younger than this agent.
		c.log(Warn, "ignored_message_of_master", "type", typeName(in.Message))
	}
}

func typeName(m *clusterdv1.MasterMessage) string {
	r := m.ProtoReflect()
	if fd := r.WhichOneof(r.Descriptor().Oneofs().ByName("message")); fd != nil {
		return string(fd.Name())
	}
	return "unknown"
}

// registered is Slave::registered and Slave::reregistered in one.
func (c *Core) registered(m *clusterdv1.Registered) {
	id := m.GetAgentId().GetValue()
	if !safeID(id) {
		c.dropLink("the master sent an impossible agent id")
		return
	}
	known := c.agentID()
	if known != "" && known != id {
		c.exit("registered, but was given the id "+id+" instead of "+known, true)
		return
	}
	if c.phase == terminating {
		return
	}
	if c.phase == running {
		c.log(Warn, "already_registered")
		return
	}
	if ours, theirs := c.cluster.GetClusterId(), m.GetClusterId(); known != "" && ours != "" && theirs != "" && ours != theirs {
		c.refuse("the master is of the cluster " + theirs + ", this agent of " + ours)
		return
	}
	if m.Epoch != nil && m.GetEpoch() < c.leaderEpoch {
		c.dropLink("another master leads")
		return
	}
	// A master that does not say is taken for the one that gossip means.
	c.linkEpoch = max(m.GetEpoch(), c.leaderEpoch)
	c.master = m.GetMasterInfo()
	c.attempts, c.refusals = 0, 0
	c.phase = running
	if known == "" {
		info := proto.CloneOf(c.info)
		info.Id = m.GetAgentId()
		c.info = info
		if c.cluster.GetClusterId() != "" { // of an earlier agent
			c.cluster = &clusterdv1.ClusterRecord{ClusterId: new(""), Masters: c.cluster.GetMasters()}
		}
		// What an earlier agent left, if it was killed while it shut down.
		c.persist(ForgetAgent{})
	}
	if known == "" || c.infoChanged {
		c.infoChanged = false
		c.persist(PutAgent{c.info})
	}
	c.learn(m.GetClusterId(), m.GetMasters())
	c.pingTimeout = time.Duration(m.GetPingTimeout().GetNanoseconds())
	if c.pingTimeout <= 0 {
		c.pingTimeout = defaultPingTimeout
	}
	c.watchPings()
	c.log(Info, "registered", "agent_id", id, "master_id", c.master.GetId())
	c.resumeUpdates()
	for _, r := range m.GetReconcileTasks() {
		c.reconcileTask(r)
	}
}

// refused takes the master's no.
func (c *Core) refused(m *clusterdv1.Refused) {
	if m.GetShutdown() {
		c.log(Error, "refused_by_master", "message", m.GetMessage())
		c.shutdownAgent("the master refused the agent: "+m.GetMessage(), false)
		return
	}
	c.refuse(m.GetMessage())
}

func (c *Core) watchPings() {
	c.linkTimer.stop()
	c.linkTimer = c.after(c.pingTimeout, func() {
		c.log(Warn, "no_ping_from_master", "for", c.pingTimeout.String())
		c.dropLink("no ping came for " + c.pingTimeout.String())
	})
}

// ping answers, and registers again if the master believes that the agent is
// disconnected (Slave::ping).
func (c *Core) ping(m *clusterdv1.Ping) {
	c.sendMaster(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}})
	if c.phase != running {
		return
	}
	if !m.GetConnected() {
		c.dropLink("the master holds the agent for disconnected")
		return
	}
	c.watchPings()
}

// reconcileTask answers for a task that the master knows and RegisterAgent did
// not name. If an update of it is waiting, resumeUpdates has sent that.
func (c *Core) reconcileTask(r *clusterdv1.ReconcileTask) {
	fwID, taskID := r.GetFrameworkId().GetValue(), r.GetTaskId().GetValue()
	if c.updates.has(streamKey(fwID, taskID)) {
		return
	}
	fw, ok := c.frameworks.get(fwID)
	if ok && fw.tasks[taskID] != nil {
		return
	}
	if !ok {
		fw = c.completedFramework(fwID)
	}
	state := mesos.TaskState_TASK_LOST
	switch {
	case r.GetPartitionAware():
		// The master's word comes first: the framework may have changed since it was
		// last heard of here, if it ever was.
		state = mesos.TaskState_TASK_DROPPED
	case r.PartitionAware == nil && fw != nil:
		state = lost(fw.info, mesos.TaskState_TASK_DROPPED)
	}
	c.log(Warn, "task_unknown_to_agent", "framework_id", fwID, "task_id", taskID)
	st := c.newStatus(taskID, state, mesos.TaskStatus_REASON_RECONCILIATION,
		"Reconciliation: task unknown to the agent", "")
	c.take(fwID, st, nil, nil)
}

func (c *Core) completedFramework(id string) *framework {
	for _, fw := range c.completed {
		if fw.id == id {
			return fw
		}
	}
	return nil
}

// updateFramework takes a framework's new description (Slave::updateFramework).
func (c *Core) updateFramework(info *mesos.FrameworkInfo) {
	fw, ok := c.frameworks.get(info.GetId().GetValue())
	if !ok || fw.terminating {
		return
	}
	// Whether tasks survive the agent is fixed at the framework's first
	// subscription (master's validation); keep it so even if the message differs.
	if info.GetCheckpoint() != fw.checkpoint() {
		info = proto.CloneOf(info)
		info.Checkpoint = new(fw.checkpoint())
	}
	fw.info = info
	if fw.checkpoint() {
		c.persist(PutFramework{info})
	}
	// The scheduler may just have failed over: let it have what waits.
	c.resumeUpdates()
}

// frameworkMessage hands a scheduler's message to its executor
// (Slave::schedulerMessage).
func (c *Core) frameworkMessage(m *clusterdv1.ExecutorMessage) {
	fw, ok := c.frameworks.get(m.GetFrameworkId().GetValue())
	if ok && !fw.terminating {
		if e, ok := fw.executors.get(m.GetExecutorId().GetValue()); ok && e.state == execRunning {
			if c.sendExecutor(e, messageEvent(m.GetData())) {
				c.count("slave/valid_framework_messages")
				return
			}
		}
	}
	c.count("slave/invalid_framework_messages")
}

// shutdownAgent ends all executors and then the agent (Slave::shutdown). The
// next run begins as a new agent.
func (c *Core) shutdownAgent(message string, unregister bool) {
	if c.phase == terminating {
		return
	}
	c.log(Warn, "agent_shutting_down", "reason", message)
	if unregister && c.agentID() != "" {
		c.sendMaster(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Unregister{Unregister: &clusterdv1.UnregisterAgent{}}})
	}
	c.persist(ForgetAgent{})
	c.phase = terminating
	c.exitReason = message
	c.pauseUpdates()
	c.dialTimer.stop()
	c.linkTimer.stop()
	for fw := range c.frameworks.values() {
		c.shutdownFramework(fw.id)
	}
	c.maybeExit()
}

// maybeExit ends an agent that is terminating when nothing is left of it.
func (c *Core) maybeExit() {
	if c.phase == terminating && c.frameworks.len() == 0 && !c.exited {
		c.exit(c.exitReason, false)
	}
}
