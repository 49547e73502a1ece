package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"clusterd/agent/checkpoint"
	"clusterd/agent/core"
	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/sim/clock"
)

// agentDisk is an agent's work_dir: its checkpoint and the boot that wrote it.
type agentDisk struct {
	checkpoint.Memory
	boot int
}

// agent is one run of an agent's process (agent/agent.go, agent/loop.go).
type agent struct {
	w  *World
	m  *machine
	up bool
	// started says that the HTTP API is served: executors may subscribe.
	started    bool
	core       *core.Core
	inputs     []core.Input
	busy       bool // a batch is being written
	stepping   bool
	wake       *clock.Event
	wakeAt     time.Time
	containers map[string]*shellContainer
	requests   map[core.RequestID]func(status int, open bool)
	streams    map[core.StreamID]*execStream
	links      map[core.LinkID]*end
	nextID     uint64
	first      func() // what follows the first batch
	epoch      uint64 // the leadership that the core was told of
}

// agentCapabilities are those of package agent.
var agentCapabilities = []mesos.AgentInfo_Capability_Type{
	mesos.AgentInfo_Capability_MULTI_ROLE,
	mesos.AgentInfo_Capability_HIERARCHICAL_ROLE,
	mesos.AgentInfo_Capability_RESERVATION_REFINEMENT,
	mesos.AgentInfo_Capability_RESOURCE_PROVIDER,
	mesos.AgentInfo_Capability_RESIZE_VOLUME,
	mesos.AgentInfo_Capability_AGENT_OPERATION_FEEDBACK,
	mesos.AgentInfo_Capability_AGENT_DRAINING,
	mesos.AgentInfo_Capability_TASK_RESOURCE_LIMITS,
}

func (w *World) addMachine(h *host) {
	m := &machine{w: w, index: len(w.machines), host: h, disk: &agentDisk{}, containers: map[string]*container{}}
	m.ears = w.newListener(h, func() {
		if m.agent != nil {
			m.agent.heardLeader()
		}
	})
	w.machines = append(w.machines, m)
}

// start runs an agent on the machine.
func (m *machine) start() {
	if !m.host.on || m.agent != nil && m.agent.up {
		return
	}
	a := &agent{
		w: m.w, m: m, up: true,
		containers: map[string]*shellContainer{},
		requests:   map[core.RequestID]func(int, bool){},
		streams:    map[core.StreamID]*execStream{},
		links:      map[core.LinkID]*end{},
	}
	if m.agent != nil {
		a.nextID = m.agent.nextID
	}
	m.agent = a
	if m.w.troubled() && m.w.rng.IntN(5) == 0 {
		m.configuration++
	}
	m.w.say("a%d starts", m.index)
	a.later(m.w.between(20*time.Millisecond, 400*time.Millisecond), a.open)
}

// agentInfo describes the machine.
func (m *machine) agentInfo() *mesos.AgentInfo {
	info := &mesos.AgentInfo{
		Hostname: new(m.host.name), Port: new(int32(5051)),
		Resources: resources.MustParse(agentResources).Proto(),
	}
	if m.w.cfg.Agent.ReconfigurationPolicy == "any" {
		info.Attributes = []*mesos.Attribute{{
			Name: new("configuration"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: new(fmt.Sprint(m.configuration))},
		}}
	}
	return info
}

const agentResources = "cpus:4;mem:4096;disk:4096;ports:[31000-31009]"

func (a *agent) open() {
	kept, skipped, err := a.m.disk.Load(true)
	if err != nil || skipped > 0 {
		a.w.fail(CheckpointReads, "a%d: the checkpoint cannot be read: %v", a.m.index, err)
		return
	}
	cfg := a.w.cfg.Agent
	cfg.Info = a.m.agentInfo()
	cfg.IP = fmt.Sprintf("10.0.1.%d", a.m.index+1)
	cfg.Capabilities = agentCapabilities
	cfg.Rebooted = a.m.disk.boot != a.m.booted && a.m.disk.boot != 0
	for i := 0; i < len(cfg.Seed); i += 8 {
		binary.LittleEndian.PutUint64(cfg.Seed[i:], a.w.rng.Uint64())
	}
	if a.core, err = core.New(cfg, kept, a.m.host.now()); err != nil {
		a.w.fail(CheckpointReads, "a%d does not start: %v", a.m.index, err)
		return
	}
	statuses := a.takeUp(a.core.Containers())
	// Executors are heard, and the boot is noted, once what follows is written.
	a.first = func() {
		a.m.disk.boot = a.m.booted
		a.started = true
		a.heardLeader()
	}
	a.post(core.Recovered{Statuses: statuses})
}

// heardLeader tells the core who leads, as gossip sees it.
func (a *agent) heardLeader() {
	_, epoch := a.m.ears.leader()
	if !a.up || !a.started || epoch == a.epoch {
		return
	}
	a.epoch = epoch
	a.post(core.LeaderKnown{Epoch: epoch})
}

func (a *agent) later(d time.Duration, f func()) *clock.Event {
	return a.w.clock.After(d, func() {
		if a.up {
			f()
		}
	})
}

func (a *agent) id() uint64 { a.nextID++; return a.nextID }

// post hands an input to the core, at once or when the batch before is written.
func (a *agent) post(in core.Input) {
	if !a.up {
		return
	}
	a.inputs = append(a.inputs, in)
	if !a.busy && !a.stepping {
		a.stepping = true
		a.later(0, a.step)
	}
}

// step handles what waits, as one batch.
func (a *agent) step() {
	a.stepping = false
	if a.busy || len(a.inputs) == 0 {
		return
	}
	var effects []core.Effect
	inputs := a.inputs
	a.inputs = nil
	for _, in := range inputs {
		a.w.steps++
		out := a.core.Handle(a.m.host.now(), in)
		if a.w.trace.on {
			a.traceInput(in, out)
		}
		effects = append(effects, out...)
	}
	a.perform(effects)
}

// perform does the effects of a batch: containers may be launched first, the rest
// waits for the disk.
func (a *agent) perform(effects []core.Effect) {
	var records []core.Record
	volumes := false
	for _, e := range effects {
		switch e := e.(type) {
		case core.Persist:
			records = append(records, e.Record)
		case core.MakeVolume, core.RemoveVolume:
			volumes = true
		case core.LaunchContainer:
			if !volumes {
				a.launch(e)
			}
		}
	}
	if len(records) == 0 {
		a.rest(effects)
		return
	}
	a.w.trace.mix(uint64(len(records)))
	disk := a.m.disk // the one there is now: it may be replaced
	write := func() {
		if err := disk.Write(records); err != nil {
			a.w.fail(CheckpointReads, "a%d: the checkpoint cannot be written: %v", a.m.index, err)
		}
	}
	if a.w.cfg.Break == BreakAckFirst {
		a.rest(effects)
	}
	a.busy = true
	took := a.m.host.write()
	a.w.crashWriting(took, func() {
		if a.up {
			a.w.say("a%d is killed while it writes", a.m.index)
			a.die(true)
			a.w.clock.After(a.w.downtime(), a.m.start)
		}
	}, func() { a.m.unplug(a.w.downtime()) })
	a.w.clock.After(took, func() {
		if !a.up {
			if a.m.agent == a && a.w.crashWrites() {
				write()
			}
			return
		}
		write()
		a.busy = false
		if a.w.cfg.Break != BreakAckFirst {
			a.rest(effects)
		} else {
			a.again()
		}
	})
}

// rest does everything but launches and records, in order.
func (a *agent) rest(effects []core.Effect) {
	volumes := false
	for _, e := range effects {
		switch e := e.(type) {
		case core.Exit:
			a.exit(e)
			return
		case core.MakeVolume, core.RemoveVolume:
			volumes = true
		case core.LaunchContainer:
			if volumes {
				a.launch(e)
			}
		}
		a.do(e)
		if !a.up {
			return
		}
	}
	a.again()
}

func (a *agent) again() {
	if first := a.first; first != nil {
		a.first = nil
		first()
	}
	if len(a.inputs) > 0 && !a.busy && !a.stepping {
		a.stepping = true
		a.later(0, a.step)
	}
	at, ok := a.core.NextWake()
	if !ok || a.wake != nil && at.Equal(a.wakeAt) {
		return
	}
	a.w.clock.Cancel(a.wake)
	a.wakeAt = at
	a.wake = a.later(a.m.host.until(at), func() {
		a.wake = nil
		a.post(core.Tick{})
	})
}

func (a *agent) do(e core.Effect) {
	switch e := e.(type) {
	case core.ConnectMaster:
		a.connect()
	case core.SendMaster:
		a.w.trace.mix(uint64(e.Link))
		if c := a.links[e.Link]; c != nil {
			a.sendMaster(c, e.Message)
		}
	case core.CloseLink:
		if c := a.links[e.Link]; c != nil {
			link := e.Link
			delete(a.links, link)
			c.close(e.Reason)
			a.later(0, func() { a.post(core.LinkDown{Link: link, Reason: e.Reason}) })
		}
	case core.Respond:
		a.w.trace.mix(uint64(e.Status))
		a.respond(e.Request, e.Status, false)
	case core.OpenStream:
		a.respond(e.Request, 200, true)
	case core.SendExecutor:
		if s := a.streams[e.Stream]; s != nil {
			s.send(e.Event)
		}
	case core.CloseStream:
		if s := a.streams[e.Stream]; s != nil {
			s.finish()
		}
	case core.UpdateContainer:
		out := core.ContainerUpdated{ContainerID: e.ContainerID.GetValue(), Token: e.Token}
		if a.w.troubled() && a.w.rng.IntN(50) == 0 {
			out.Err = errors.New("the limits cannot be set")
		}
		a.later(a.w.between(0, 5*time.Millisecond), func() { a.post(out) })
	case core.DestroyContainer:
		a.destroy(e.ContainerID.GetValue())
	case core.WatchContainer:
		a.wait(e.ContainerID.GetValue())
	case core.RemoveContainer:
		id := e.ContainerID.GetValue()
		a.m.remove(id)
		delete(a.containers, id)
	}
}

// sendMaster queues a message on the link.
func (a *agent) sendMaster(c *end, m *clusterdv1.AgentMessage) {
	if r := m.GetRegister(); r != nil && a.w.cfg.Break == BreakForgetTasks && len(r.Tasks) > 0 {
		m = clone(m)
		m.GetRegister().Tasks = m.GetRegister().Tasks[1:]
	}
	c.send(m)
}

func (a *agent) respond(id core.RequestID, status int, open bool) {
	if f := a.requests[id]; f != nil {
		delete(a.requests, id)
		f(status, open)
	}
}

// exit is the agent's own end. Refused for good it begins anew; systemd starts it
// again.
func (a *agent) exit(e core.Exit) {
	a.w.say("a%d exits: %s", a.m.index, e.Reason)
	a.w.noteExit(a, e)
	a.die(true)
	m := a.m
	a.w.clock.After(a.w.between(time.Second, 5*time.Second), m.start)
}

// die ends the process. Executors and containers go on.
func (a *agent) die(told bool) {
	if !a.up {
		return
	}
	a.up = false
	a.w.clock.Cancel(a.wake)
	a.w.net.drop(a.m.host, told)
	for _, id := range sortedIDs(a.streams) {
		a.streams[id].cut()
	}
	for _, id := range sortedIDs(a.requests) {
		a.requests[id](0, false)
	}
	a.requests = nil
}

// connect looks for the leader: first whom gossip names, then all in order; where a
// follower names another, that one.
func (a *agent) connect() {
	var order []int
	if leader, _ := a.m.ears.leader(); leader >= 0 {
		order = append(order, leader)
	}
	first := a.w.rng.IntN(len(a.w.masters))
	for i := range a.w.masters {
		order = append(order, (first+i)%len(a.w.masters))
	}
	a.try(order, 0)
}

func (a *agent) try(order []int, redirects int) {
	if len(order) == 0 {
		a.later(time.Millisecond, func() { a.post(core.LinkDown{Reason: "no master answers"}) })
		return
	}
	m := a.w.masters[order[0]]
	a.w.net.dial(a.m.host, m, func(client, server *end) {
		switch {
		case client == nil && !a.up:
			return
		case client == nil:
			a.try(order[1:], redirects)
			return
		case !a.up:
			client.vanish(true)
			return
		}
		a.link(client, order, redirects)
		m.openLink(server)
	})
}

// link waits for the answer and takes messages.
func (a *agent) link(c *end, order []int, redirects int) {
	var id core.LinkID
	failed := func() {
		if id == 0 {
			a.try(order[1:], redirects)
		} else if a.links[id] != nil {
			delete(a.links, id)
			a.post(core.LinkDown{Link: id, Reason: "the link broke"})
		}
	}
	// The answer must come soon; the link then lives as long as both ends do.
	a.later(requestTimeout, func() {
		if id == 0 && !c.over {
			c.shut("no answer", true)
		}
	})
	c.deliver = func(v any) {
		if !a.up {
			return
		}
		switch v := v.(type) {
		case linkAnswer:
			switch {
			case v.status == 101:
				id = core.LinkID(a.id())
				a.links[id] = c
				a.post(core.LinkUp{Link: id})
			case v.status == 307 && redirects < 5:
				c.closed = nil
				a.try(append([]int{v.redirect}, order[1:]...), redirects+1)
			}
		case *clusterdv1.MasterMessage:
			if a.links[id] != nil {
				a.post(core.MasterMessage{Link: id, Message: clone(v)})
			}
		}
	}
	c.closed = func(string) {
		if a.up {
			failed()
		}
	}
}
