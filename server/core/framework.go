package core

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// framework is what the core knows of a framework that has not ended.
type framework struct {
	id    string
	info  *mesos.FrameworkInfo
	roles []string // sorted
	wishes

	stream    string // of its connection; empty while there is none
	active    bool
	recovered bool // has not subscribed to this master yet
	admitted  bool // is in the registry
	ending    bool // the registry is being told that it has ended
	whenEnded []func()

	registeredAt, reregisteredAt time.Time
	deadline                     time.Time
	deadlineGen                  uint64
	deadlineSaved                bool // the registry has a deadline

	refused          Refused
	news             news
	cells            map[string]*cell
	tasks            btree.Map[string, *Task] // the records of cells
	unreachable      btree.Map[string, *Task]
	unreachableOrder []string
	completed        []*Task
	executors        btree.Map[string, *Executor] // by executorKey
	offers           btree.Map[uint64, *offer]
	inverse          btree.Map[uint64, *inverseOffer]
	operationIDs     map[string]string // operation id -> uuid
}

// cell is the place of a live task: its newest record and where it belongs.
type cell struct {
	rec   *Task
	fw    *framework
	ag    *agent
	index int  // in ag.cells
	held  bool // its resources are in use
}

func executorKey(agentID, executorID string) string { return agentID + "\x00" + executorID }

func (fw *framework) connected() bool { return fw.stream != "" }

func (fw *framework) can(c mesos.FrameworkInfo_Capability_Type) bool {
	return hasCapability(fw.info, c)
}

func (fw *framework) partitionAware() bool {
	return fw.can(mesos.FrameworkInfo_Capability_PARTITION_AWARE)
}

func (fw *framework) hasRole(role string) bool {
	_, ok := slices.BinarySearch(fw.roles, role)
	return ok
}

// lost is the state that stands for a loss: state for frameworks that know of
// partitions, LOST for others.
func (fw *framework) lost(state mesos.TaskState) mesos.TaskState {
	if fw.partitionAware() {
		return state
	}
	return mesos.TaskState_TASK_LOST
}

func (c *Core) framework(id string) *framework {
	fw, _ := c.frameworks.Get(id)
	return fw
}

func (c *Core) newFramework(info *mesos.FrameworkInfo) *framework {
	return &framework{
		id:           info.GetId().GetValue(),
		info:         info,
		roles:        frameworkRoles(info),
		cells:        map[string]*cell{},
		operationIDs: map[string]string{},
		registeredAt: c.now,
	}
}

// failoverTimeout is how long a disconnected framework is waited for.
func failoverTimeout(info *mesos.FrameworkInfo) time.Duration {
	s := info.GetFailoverTimeout()
	if !(s > 0) {
		return 0
	}
	return time.Duration(min(s*1e9, math.MaxInt64/2))
}

// allocation is what the allocator is told of a framework.
func (fw *framework) allocation() allocator.Framework {
	f := allocator.Framework{
		Roles:                 fw.roles,
		Suppressed:            fw.suppressed,
		Revocable:             fw.can(mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES),
		GPU:                   fw.can(mesos.FrameworkInfo_Capability_GPU_RESOURCES),
		Shared:                fw.can(mesos.FrameworkInfo_Capability_SHARED_RESOURCES),
		ReservationRefinement: fw.can(mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT),
		RegionAware:           fw.can(mesos.FrameworkInfo_Capability_REGION_AWARE),
		MultiRole:             fw.can(mesos.FrameworkInfo_Capability_MULTI_ROLE),
		Constraints:           fw.compiled,
		Active:                fw.active,
	}
	for role, filter := range fw.info.GetOfferFilters() {
		if filter.MinAllocatableResources == nil {
			continue
		}
		if f.MinAllocatable == nil {
			f.MinAllocatable = map[string][]resources.Quantities{}
		}
		minimum := []resources.Quantities{}
		for _, q := range filter.MinAllocatableResources.Quantities {
			minimum = append(minimum, resources.QuantitiesFromProto(q.Quantities))
		}
		f.MinAllocatable[role] = minimum
	}
	return f
}

// addFramework makes a framework known to the allocator and to readers.
func (c *Core) addFramework(fw *framework) {
	c.frameworks.Set(fw.id, fw)
	c.alloc.AddFramework(fw.id, fw.allocation(), nil)
	c.touchFramework(fw)
	c.frameworkChanged(fw)
}

// recoverFramework makes a framework known that has not subscribed to this
// master: from the registry, from an agent or from its own subscription.
func (c *Core) recoverFramework(info *mesos.FrameworkInfo, admitted bool) *framework {
	fw := c.newFramework(info)
	fw.recovered, fw.admitted = true, admitted
	c.addFramework(fw)
	return fw
}

// subscribe handles a SUBSCRIBE call (Mesos: Master::subscribe).
func (c *Core) subscribe(in Subscribe) {
	sub := in.Call.GetSubscribe()
	info := sub.GetFrameworkInfo()
	if info == nil {
		c.emit(Respond{Request: in.Request, Status: 400, Body: "Failed to validate scheduler::Call: Expecting 'subscribe' to be present"})
		return
	}
	if info.GetId().GetValue() == "" {
		c.count("master/messages_register_framework")
	} else {
		c.count("master/messages_reregister_framework")
	}
	if in.Principal != nil && info.Principal == nil {
		info.Principal = new(in.Principal.Value)
	}
	want, err := c.readSubscription(sub)
	if err == nil {
		err = c.authorizeFramework(principalOf(info), info)
	}
	if err != nil {
		c.refuse(in, err)
		return
	}
	id := info.GetId().GetValue()
	if id == "" {
		c.subscribeNew(in, info, want)
		return
	}
	fw := c.framework(id)
	if fw == nil {
		// Neither the registry nor an agent knows it: it comes from before this
		// registry, or its admission was never committed.
		fw = c.recoverFramework(proto.CloneOf(info), false)
		c.setDeadline(fw, c.now.Add(max(failoverTimeout(info), c.cfg.AgentReregisterTimeout)))
	}
	c.resubscribe(in, fw, info, want)
}

func (c *Core) readSubscription(sub *scheduler.Call_Subscribe) (wishes, error) {
	if err := c.validateFramework(sub.FrameworkInfo); err != nil {
		return wishes{}, err
	}
	return c.readWishes(frameworkRoles(sub.FrameworkInfo), sub.SuppressedRoles, sub.OfferConstraints)
}

// refuse opens the stream, says what is wrong, and closes it: a subscription that
// fails is not a 4xx.
func (c *Core) refuse(in Subscribe, err error) {
	info := in.Call.GetSubscribe().GetFrameworkInfo()
	c.log(Info, "subscription_refused", "framework", info.GetName(), "framework_id", info.GetId().GetValue(), "error", err.Error())
	c.emit(OpenStream{Request: in.Request, StreamID: in.StreamID})
	c.emit(SendEvent{StreamID: in.StreamID, Event: errorEvent(err.Error())})
	c.emit(CloseStream{StreamID: in.StreamID})
}

func errorEvent(message string) *scheduler.Event {
	return &scheduler.Event{
		Type:  scheduler.Event_ERROR.Enum(),
		Error: &scheduler.Event_Error{Message: &message},
	}
}

// subscribeNew gives a new framework its id. The registry has it before the
// framework does, so that no crash makes it unknown.
func (c *Core) subscribeNew(in Subscribe, info *mesos.FrameworkInfo, want wishes) {
	info.Id = &mesos.FrameworkID{Value: new(fmt.Sprintf("%s-%04d", c.masterID, c.nextFramework))}
	c.nextFramework++
	fw := c.newFramework(info)
	fw.admitted = true
	c.opening[in.StreamID] = true
	c.propose(fw.id, func() {
		if !c.opening[in.StreamID] {
			c.subscribedInVain(fw)
			return
		}
		delete(c.opening, in.StreamID)
		fw.registeredAt, fw.reregisteredAt = c.now, c.now
		fw.wishes = want
		fw.active = true
		c.addFramework(fw)
		c.connect(fw, in)
		c.log(Info, "framework_subscribed", "framework_id", fw.id, "framework", info.GetName())
	}, command(clusterdv1.Command_ADMIT_FRAMEWORK, &clusterdv1.AdmitFramework{FrameworkInfo: info}))
}

// subscribedInVain forgets a framework whose client went away before it heard its
// id: nobody can come back under it.
func (c *Core) subscribedInVain(fw *framework) {
	c.removed[fw.id] = c.now
	c.proposeRemoval(fw)
}

// resubscribe lets a framework come back: on a new connection, or to a new master.
func (c *Core) resubscribe(in Subscribe, fw *framework, info *mesos.FrameworkInfo, want wishes) {
	preserveImmutable(fw.info, info)
	if err := validateUpdate(fw.info, info); err != nil {
		c.refuse(in, err)
		return
	}
	changed := !proto.Equal(fw.info, info)
	c.updateFramework(fw, info, want)
	c.saveFramework(fw, changed)
	if fw.recovered {
		fw.recovered = false
		fw.registeredAt, fw.reregisteredAt = c.now, c.now
	} else {
		fw.reregisteredAt = c.now
		c.failover(fw)
	}
	c.clearDeadline(fw)
	if !fw.active {
		fw.active = true
		c.alloc.ActivateFramework(fw.id)
	}
	fw.refused = Refused{}
	c.connect(fw, in)
	c.tellAgents(fw)
	c.log(Info, "framework_resubscribed", "framework_id", fw.id, "framework", info.GetName())
}

// failover cuts the old connection off. Its offers are forgotten without a
// RESCIND: the new one never heard of them.
func (c *Core) failover(fw *framework) {
	if fw.connected() {
		c.sendEvent(fw, errorEvent("Framework failed over"))
		c.emit(CloseStream{StreamID: fw.stream})
		delete(c.streams, fw.stream)
		fw.stream = ""
	}
	c.discardOffers(fw, false)
}

// connect puts a framework on its stream and greets it.
func (c *Core) connect(fw *framework, in Subscribe) {
	fw.stream = in.StreamID
	c.streams[in.StreamID] = fw
	c.touchFramework(fw)
	c.frameworkChanged(fw)
	c.emit(OpenStream{Request: in.Request, StreamID: in.StreamID})
	c.sendEvent(fw, &scheduler.Event{
		Type: scheduler.Event_SUBSCRIBED.Enum(),
		Subscribed: &scheduler.Event_Subscribed{
			FrameworkId:              &mesos.FrameworkID{Value: &fw.id},
			HeartbeatIntervalSeconds: new(c.cfg.HeartbeatInterval.Seconds()),
			MasterInfo:               c.cfg.MasterInfo,
		},
	})
	c.heartbeat(in.StreamID)
}

// heartbeat sends one, and the next after the interval.
func (c *Core) heartbeat(stream string) {
	fw := c.streams[stream]
	if fw == nil {
		return
	}
	c.sendEvent(fw, &scheduler.Event{Type: scheduler.Event_HEARTBEAT.Enum()})
	c.timers.add(c.now.Add(c.cfg.HeartbeatInterval), timer{kind: heartbeatTimer, id: stream})
}

// sendEvent puts an event on a framework's stream, if it has one.
func (c *Core) sendEvent(fw *framework, e *scheduler.Event) {
	if !fw.connected() {
		return
	}
	c.emit(SendEvent{StreamID: fw.stream, Event: e})
	c.countFramework(fw, "events")
	c.countFramework(fw, "events/"+lower(e.GetType().String()))
}

// updateFramework replaces what a framework says of itself, and rescinds the
// offers for roles that it left (Mesos: Master::updateFramework).
func (c *Core) updateFramework(fw *framework, info *mesos.FrameworkInfo, want wishes) {
	fw.info = info
	fw.roles = frameworkRoles(info)
	fw.wishes = want
	c.alloc.UpdateFramework(fw.id, fw.allocation())
	for _, o := range fw.offers.Values() {
		if !fw.hasRole(o.Role) {
			c.rescind(o)
		}
	}
	c.touchFramework(fw)
	fw.news.spoken = true
	c.frameworkChanged(fw)
}

// saveFramework brings the registry up to date.
func (c *Core) saveFramework(fw *framework, changed bool) {
	switch {
	case !fw.admitted:
		fw.admitted = true
		c.propose(fw.id, nil, command(clusterdv1.Command_ADMIT_FRAMEWORK, &clusterdv1.AdmitFramework{FrameworkInfo: fw.info}))
	case changed:
		c.propose(fw.id, nil, command(clusterdv1.Command_UPDATE_FRAMEWORK, &clusterdv1.UpdateRegisteredFramework{FrameworkInfo: fw.info}))
	}
}

// tellAgents sends the framework's info to the agents that run something of it.
// Mesos sends it to every agent, most of which never heard of the framework.
func (c *Core) tellAgents(fw *framework) {
	hosts := map[string]bool{}
	fw.tasks.Scan(func(_ string, t *Task) bool { hosts[t.AgentID] = true; return true })
	fw.executors.Scan(func(_ string, e *Executor) bool { hosts[e.AgentID] = true; return true })
	c.agents.Scan(func(_ string, ag *agent) bool {
		if hosts[ag.id] {
			c.tell(ag, &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_UpdateFramework{
				UpdateFramework: &clusterdv1.UpdateFramework{Framework: fw.info},
			}})
		}
		return true
	})
}

// streamClosed handles the end of a scheduler's connection (Mesos:
// Master::_exited): its offers return, and it is waited for.
func (c *Core) streamClosed(stream string) {
	delete(c.opening, stream)
	fw := c.streams[stream]
	if fw == nil {
		return // of a refused or failed-over subscription, or not open yet
	}
	delete(c.streams, stream)
	fw.stream = ""
	c.deactivate(fw)
	timeout := failoverTimeout(fw.info)
	c.log(Info, "framework_disconnected", "framework_id", fw.id, "failover_timeout", timeout.String())
	if timeout == 0 {
		c.removeFramework(fw, "failover timeout", nil)
		return
	}
	c.setDeadline(fw, c.now.Add(timeout))
	fw.deadlineSaved = true
	c.propose(fw.id, nil, command(clusterdv1.Command_SET_FRAMEWORK_DEADLINE, &clusterdv1.SetFrameworkDeadline{
		FrameworkId: &mesos.FrameworkID{Value: &fw.id},
		Deadline:    timeInfo(fw.deadline),
	}))
	c.touchFramework(fw)
}

func (c *Core) deactivate(fw *framework) {
	if fw.active {
		fw.active = false
		c.alloc.DeactivateFramework(fw.id)
	}
	c.discardOffers(fw, true)
	c.touchFramework(fw)
	c.frameworkChanged(fw)
}

// setDeadline has a framework removed unless it is connected by then.
func (c *Core) setDeadline(fw *framework, at time.Time) {
	fw.deadline = at
	fw.deadlineGen++
	c.timers.add(at, timer{kind: failoverTimer, id: fw.id, gen: fw.deadlineGen})
}

func (c *Core) clearDeadline(fw *framework) {
	fw.deadline = time.Time{}
	fw.deadlineGen++
	if fw.deadlineSaved {
		fw.deadlineSaved = false
		c.propose(fw.id, nil, command(clusterdv1.Command_SET_FRAMEWORK_DEADLINE, &clusterdv1.SetFrameworkDeadline{
			FrameworkId: &mesos.FrameworkID{Value: &fw.id},
		}))
	}
}

func (c *Core) failoverTimeout(id string, gen uint64) {
	fw := c.framework(id)
	if fw == nil || fw.connected() || fw.deadlineGen != gen {
		return
	}
	c.log(Info, "framework_failover_timeout", "framework_id", id)
	c.removeFramework(fw, "failover timeout", nil)
}

func roleSet(roles []string) []string {
	out := slices.Clone(roles)
	slices.Sort(out)
	return slices.Compact(out)
}
