package core

import (
	"errors"
	"fmt"
	"math/rand/v2" //nolint:depguard // seeded by Config.Seed alone
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/units"
)

// ErrIncompatible says that the agent's description differs from the kept one in
// a way that --reconfiguration_policy does not permit.
var ErrIncompatible = errors.New("the agent's configuration changed")

// New returns a core that goes on where the checkpoint ends (Slave::recover in
// src/slave/slave.cpp). It waits for [Recovered].
//
// On a machine that booted since, an incompatible configuration makes a new
// agent; otherwise it is an error that wraps [ErrIncompatible].
func New(cfg Config, kept *Checkpoint, now time.Time) (*Core, error) {
	c := &Core{
		cfg: cfg, now: now, src: rand.NewChaCha8(cfg.Seed),
		info:       proto.CloneOf(cfg.Info),
		containers: map[string]*executorRun{}, streams: map[StreamID]*executorRun{},
	}
	c.rand = rand.New(c.src)
	total, err := resources.FromProto(cfg.Info.GetResources())
	if err != nil {
		return nil, fmt.Errorf("the agent's resources: %w", err)
	}
	c.total = total
	if kept != nil {
		c.cluster = kept.Cluster
	}
	if kept == nil || kept.Agent == nil {
		return c, nil
	}
	if err := compatible(cfg.ReconfigurationPolicy, kept.Agent, cfg.Info); err != nil {
		if cfg.Rebooted {
			c.forget(err)
			return c, nil
		}
		return nil, err
	}
	checkpointed, err := resources.FromProto(kept.Resources.GetResources())
	if err != nil {
		return nil, fmt.Errorf("checkpointed resources: %w", err)
	}
	if c.total, err = total.ApplyCheckpointed(checkpointed); err != nil {
		err = fmt.Errorf("%w: checkpointed resources %s do not fit into the agent's resources %s: %w",
			ErrIncompatible, checkpointed, total, err)
		if cfg.Rebooted {
			c.total = total
			c.forget(err)
			return c, nil
		}
		return nil, err
	}
	c.checkpointed = checkpointed
	c.info.Id = kept.Agent.GetId()
	c.infoChanged = !proto.Equal(c.info, kept.Agent)
	c.recoverFrameworks(kept)
	c.draining.config = kept.Drain
	for _, r := range kept.Operations {
		c.operations.put(string(r.GetOperation().GetUuid().GetValue()), &operation{op: r.GetOperation()})
	}
	return c, nil
}

// forget begins as a new agent; the effects come out with the first input.
func (c *Core) forget(why error) {
	c.recovery.forgotten = why
}

func (c *Core) recoverFrameworks(kept *Checkpoint) {
	for _, info := range kept.Frameworks {
		fw := &framework{id: info.GetId().GetValue(), info: info, tasks: map[string]*executorRun{}}
		c.frameworks.put(fw.id, fw)
	}
	for _, r := range kept.Executors {
		fw, ok := c.frameworks.get(r.GetFrameworkId().GetValue())
		if !ok {
			continue // it was written with its framework in one transaction, or before it
		}
		e := &executorRun{
			fw: fw, id: r.GetExecutorInfo().GetExecutorId().GetValue(), info: r.GetExecutorInfo(),
			containerID: r.GetContainerId(), directory: r.GetDirectory(), user: r.GetUser(),
			commandTask: r.GetCommandTask(), sentTask: r.GetSentTask(), recovered: true, port: kept.Agent.GetPort(),
		}
		if r.AgentPort != nil {
			e.port = r.GetAgentPort()
		}
		if r.GetTerminated() {
			e.state = execTerminated
		}
		fw.executors.put(e.id, e)
		c.containers[e.containerID.GetValue()] = e
	}
	for _, t := range kept.Tasks {
		c.recoverTask(t)
	}
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			e.given = e.allocated()
		}
	}
}

// recoverTask replays what was reported of a task (Executor::recoverTask,
// TaskStatusUpdateStream::replay).
func (c *Core) recoverTask(kept TaskCheckpoint) {
	t := kept.Record.GetTask()
	fwID, taskID := t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()
	fw, ok := c.frameworks.get(fwID)
	if !ok {
		return
	}
	e, ok := fw.executors.get(kept.Record.GetExecutorId().GetValue())
	if !ok {
		return
	}
	s := &updateStream{framework: fwID, task: taskID, checkpoint: true, seq: kept.NextSeq, received: map[string]bool{}}
	var last, acked *mesos.TaskStatus
	for _, u := range kept.Updates {
		if st := u.GetStatus(); st != nil {
			s.received[string(st.GetUuid())] = true
			s.pending = append(s.pending, st)
			// After a terminal status the state stays what it is.
			if last == nil || !IsTerminal(last.GetState()) {
				last = st
				t = with(t, func(n *mesos.Task) {
					n.State = st.GetState().Enum()
					n.Statuses = appendStatus(n.Statuses, st)
				})
			}
			continue
		}
		if len(s.pending) > 0 && string(s.pending[0].GetUuid()) == string(u.GetAcknowledged()) {
			acked = s.pending[0]
			s.pending = s.pending[1:]
		}
	}
	if len(s.pending) > 0 || acked != nil {
		sent := acked
		if len(s.pending) > 0 {
			sent = s.pending[0]
		}
		t = with(t, func(n *mesos.Task) {
			n.StatusUpdateState = sent.GetState().Enum()
			n.StatusUpdateUuid = sent.GetUuid()
		})
	}
	if len(kept.Updates) > 0 {
		c.updates.put(streamKey(fwID, taskID), s)
	}
	fw.tasks[taskID] = e
	if last != nil && IsTerminal(last.GetState()) {
		e.terminated.put(taskID, &task{t: t})
	} else {
		e.launched.put(taskID, &task{t: t})
	}
}

// Containers returns the containers that should still be there: what the
// containerizer needs to recover.
func (c *Core) Containers() []LaunchContainer {
	var out []LaunchContainer
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			if e.state == execTerminated {
				continue
			}
			out = append(out, LaunchContainer{
				ContainerID: e.containerID, FrameworkID: fw.info.GetId(), ExecutorID: e.info.GetExecutorId(),
				CommandExecutor: e.commandTask, DefaultExecutor: isDefault(e.info), Command: e.info.GetCommand(), Container: e.info.GetContainer(),
				Directory: e.directory, Owner: Owner(fw.info, e.info), User: e.user, Environment: c.environment(e),
				Resources: e.given.Proto(), Limits: c.limits(e),
			})
		}
	}
	return out
}

// FormerPorts returns, in order, the ports other than the agent's own at which
// executors of earlier runs look for it.
func (c *Core) FormerPorts() []int32 {
	var ports []int32
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			if e.state != execTerminated && e.port != c.info.GetPort() && !slices.Contains(ports, e.port) {
				ports = append(ports, e.port)
			}
		}
	}
	slices.Sort(ports)
	return ports
}

// recovered opens the agent to its executors (Slave::_recover).
func (c *Core) recovered(in Recovered) {
	if c.recovery.reconnect {
		return
	}
	c.recovery.reconnect = true
	if c.recovery.forgotten != nil {
		c.log(Warn, "starting_as_new_agent", "reason", c.recovery.forgotten.Error())
		c.persist(ForgetAgent{})
	}
	c.syncVolumes(resources.Resources{}, c.checkpointed)
	waiting := 0
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			for _, v := range c.virtualPaths(e) {
				c.emit(AttachFiles{Virtual: v, Real: e.directory, Owner: Owner(fw.info, e.info)})
			}
			if e.state == execTerminated {
				c.emit(RemoveContainer{ContainerID: e.containerID})
				if !e.incompleteTasks() {
					c.removeExecutor(e)
				}
				continue
			}
			waiting++
			e.status = in.Statuses[e.containerID.GetValue()]
			c.emit(WatchContainer{ContainerID: e.containerID})
			if c.cfg.Recover == "cleanup" {
				c.shutdownExecutor(e)
			}
		}
		c.removeIdleFramework(fw)
	}
	if c.cfg.Recover == "cleanup" {
		c.persist(ForgetAgent{})
		c.phase = terminating
		c.exitReason = "cleaned up"
		for fw := range c.frameworks.values() {
			c.shutdownFramework(fw.id)
		}
		c.maybeExit()
		return
	}
	c.log(Info, "recovered", "executors", itoa(waiting))
	c.warnOfOvercommit()
	if c.draining.config != nil {
		c.draining.since = c.now
		c.killForDrain()
	}
	c.recovery.timer = c.after(c.cfg.ExecutorReregistrationTimeout, c.reregistrationTimeout)
	c.maybeRecovered()
}

// warnOfOvercommit says so when what runs here was promised more than the agent
// now has, as --reconfiguration_policy=any allows. Nothing is killed for it; the
// master offers nothing here until enough of it has ended.
func (c *Core) warnOfOvercommit() {
	var used resources.Resources
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			used = used.Add(e.allocated().Unallocate())
		}
	}
	if !c.total.Contains(used) {
		c.log(Warn, "resources_overcommitted", "used", used.String(), "total", c.total.String())
	}
}

// maybeRecovered ends the recovery as soon as no executor is waited for.
func (c *Core) maybeRecovered() {
	if c.phase != recovering || !c.recovery.reconnect {
		return
	}
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			if e.state == execRegistering {
				return
			}
		}
	}
	c.recovery.timer.stop()
	c.phase = disconnected
	c.log(Info, "recovery_finished")
	// An agent that just started comes alone: it need not wait its turn.
	c.connectIn(0)
}

// reregistrationTimeout destroys the executors that did not come back
// (Slave::reregisterExecutorTimeout).
func (c *Core) reregistrationTimeout() {
	for fw := range c.frameworks.values() {
		for e := range fw.executors.values() {
			if e.state != execRegistering {
				continue
			}
			c.log(Warn, "executor_did_not_reregister", "framework_id", fw.id, "executor_id", e.id)
			e.state = execTerminating
			e.pending = &verdict{
				state:   lost(fw.info, mesos.TaskState_TASK_GONE),
				reason:  mesos.TaskStatus_REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
				message: "Executor did not reregister within " + units.FormatDuration(c.cfg.ExecutorReregistrationTimeout),
			}
			c.emit(DestroyContainer{ContainerID: e.containerID})
		}
	}
	c.maybeRecovered()
}
