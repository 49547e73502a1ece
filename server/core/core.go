// Package core is the leading master's mind: it decides who is offered what,
// which tasks run where, which agents live, and what each framework is told.
//
// [Core] is a value that takes one [Input] at a time and the time with it, and
// returns the [Effect]s that follow. It starts no goroutine, reads no clock,
// performs no I/O, logs nothing itself and takes its randomness from
// Config.Seed: the same inputs give the same effects, byte for byte. The shell in
// package server feeds it from one goroutine and performs the effects.
//
// A Core is not safe for concurrent use. What it knows is read through
// [Core.View], whose results any goroutine may use.
//
// The behaviour is that of Mesos's src/master/master.cpp, which comments name
// where a rule comes from; package server is the only importer.
package core

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/quota"
)

// Core is the leading master's mind. It lives as long as its master leads.
type Core struct {
	cfg   Config
	alloc allocator.Allocator
	rng   uint64 // state of random
	now   time.Time
	out   []Effect
	// stopped cores do nothing any more.
	stopped bool

	masterID                 string
	nextFramework, nextAgent int
	nextOffer                uint64 // offers and inverse offers share it
	started                  time.Time
	timers                   timers
	frameworks               btree.Map[string, *framework]
	streams                  map[string]*framework
	opening                  map[string]bool // streams that wait for the registry
	completed                []*Framework
	removed                  map[string]time.Time // ids that may not come back
	agents                   btree.Map[string, *agent]
	links                    map[LinkID]*link
	recovered                btree.Map[string, RecoveredAgent]
	unreachable              btree.Map[string, time.Time]
	gone                     btree.Map[string, time.Time]
	unreachableTasks         map[string][]taskRef                  // by agent id
	busy                     map[string]transition                 // agents being removed or marked
	waiting                  map[string][]func()                   // for the end of a transition, by agent id
	wills                    map[string]will                       // of operators, by agent id
	drainChecks              map[string]bool                       // agents that may be drained by now
	cancelling               map[string]int                        // calls to cancel the drain of an agent that are under way
	pruning                  map[string]bool                       // unreachable agents that the registry is forgetting
	machines                 btree.Map[string, *mesos.MachineInfo] // not simply up, by MachineKey
	windows                  []*maintenance.Window
	maintenanceGen           uint64 // of the timer that counts
	parked                   map[string]*registration
	registering              map[string]*registration // by agent id
	admitting                map[string]*registration // by ip:port
	addresses                map[string]string        // ip:port -> agent id
	offers                   map[string]*offer
	inverse                  map[string]*inverseOffer
	operations               btree.Map[string, *operation]
	weights                  btree.Map[string, float64]
	quotas                   btree.Map[string, *quota.QuotaConfig]
	proposals                map[uint64]*proposal
	queued                   map[string][]*proposal    // by key; the first is under way
	turns                    map[string][]func(func()) // by key; the first is under way
	nextProposal             uint64
	limiters                 [limiterKinds]limiter
	missing                  map[string]uint64 // recovered agents that wait for a limiter: the generation of their ticket
	missingGen               uint64
	inherited                int // agents in the registry when this master took over
	nextAllocation           time.Time
	allocation               allocationState
	recovering               bool // the allocator waits for agents
	recoveryRest             int  // so many may be missing when it ends

	publish publisher
	events  announcer
	wire    wireReader
}

// Recovered is what the registry knows when a master takes over.
type Recovered struct {
	Agents      []RecoveredAgent
	Unreachable []Departed
	Gone        []Departed
	Frameworks  []RecoveredFramework
	// RemovedFrameworks were torn down or timed out; they may not come back.
	RemovedFrameworks []Departed
	Weights           map[string]float64
	Quotas            []*quota.QuotaConfig
	// Schedule of maintenance, and the machines in it.
	Schedule *maintenance.Schedule
	Machines []*mesos.MachineInfo
}

// RecoveredAgent is an admitted agent.
type RecoveredAgent struct {
	Info        *mesos.AgentInfo
	DrainInfo   *mesos.DrainInfo
	Deactivated bool

	late uint64 // not zero: expected since later than the others, until the timer of this generation
}

// RecoveredFramework is a framework that had not ended. Deadline is when it is
// removed unless it comes back; zero if it was connected.
type RecoveredFramework struct {
	Info     *mesos.FrameworkInfo
	Deadline time.Time
}

// Departed is an id that has left, and when.
type Departed struct {
	ID   string
	Time time.Time
	// Of an unreachable agent: what operators wanted of it, as in RecoveredAgent.
	DrainInfo   *mesos.DrainInfo
	Deactivated bool
}

// takeoverGrace is how long a framework has at least to find a new leader: while
// masters fail over its timer would otherwise run out with nobody to talk to.
const takeoverGrace = time.Minute

// New makes the mind of a master that has just been elected. The allocator must
// be new; it belongs to the core from now on.
func New(cfg Config, rec Recovered, alloc allocator.Allocator, now time.Time) *Core {
	c := &Core{
		cfg:              withDefaults(cfg),
		alloc:            alloc,
		now:              now,
		started:          now,
		masterID:         cfg.MasterInfo.GetId(),
		streams:          map[string]*framework{},
		removed:          map[string]time.Time{},
		opening:          map[string]bool{},
		links:            map[LinkID]*link{},
		offers:           map[string]*offer{},
		unreachableTasks: map[string][]taskRef{},
		busy:             map[string]transition{},
		waiting:          map[string][]func(){},
		wills:            map[string]will{},
		drainChecks:      map[string]bool{},
		cancelling:       map[string]int{},
		pruning:          map[string]bool{},
		parked:           map[string]*registration{},
		registering:      map[string]*registration{},
		admitting:        map[string]*registration{},
		addresses:        map[string]string{},
		inverse:          map[string]*inverseOffer{},
		proposals:        map[uint64]*proposal{},
		queued:           map[string][]*proposal{},
		turns:            map[string][]func(func()){},
		missing:          map[string]uint64{},
	}
	// The seed is stirred first: it may itself be made of the id, and would undo it.
	c.rng = cfg.Seed
	c.rng = c.random() ^ hashString(c.masterID)
	for i := range c.limiters {
		c.limiters[i].limit = cfg.AgentRemovalRateLimit
	}
	c.publish.init(c)
	c.wire.init()
	for _, d := range rec.Unreachable {
		c.unreachable.Set(d.ID, d.Time)
		c.setWill(d.ID, will{drain: d.DrainInfo, deactivated: d.Deactivated})
	}
	for _, d := range rec.Gone {
		c.gone.Set(d.ID, d.Time)
	}
	for _, d := range rec.RemovedFrameworks {
		c.removed[d.ID] = d.Time
	}
	for _, a := range rec.Agents {
		c.expect(a.Info.GetId().GetValue(), a)
		c.setWill(a.Info.GetId().GetValue(), will{drain: a.DrainInfo, deactivated: a.Deactivated})
	}
	c.recoverMaintenance(rec)
	c.recoverSettings(rec)
	for _, f := range rec.Frameworks {
		if _, known := c.frameworks.Get(f.Info.GetId().GetValue()); known {
			continue
		}
		fw := c.recoverFramework(f.Info, true)
		fw.deadlineSaved = !f.Deadline.IsZero()
		c.setDeadline(fw, c.takeoverDeadline(f))
	}
	for _, fw := range c.events.frameworks {
		fw.news = news{announced: true} // they are in the first view
	}
	c.events.frameworks = nil
	c.inherited = c.recovered.Len()
	c.startRecovery()
	if c.recovered.Len() > 0 {
		c.timers.add(now.Add(c.cfg.AgentReregisterTimeout), timer{kind: recoveryTimer})
	}
	if c.cfg.RegistryGCInterval > 0 {
		c.timers.add(now.Add(c.cfg.RegistryGCInterval), timer{kind: gcTimer})
	}
	c.nextAllocation = now.Add(c.cfg.AllocationInterval)
	return c
}

func (c *Core) recoverSettings(rec Recovered) {
	weights := map[string]float64{}
	for role, w := range rec.Weights {
		if w > 0 {
			weights[role] = w
			c.weights.Set(role, w)
		}
	}
	if len(weights) > 0 {
		c.alloc.UpdateWeights(weights)
	}
	for _, q := range rec.Quotas {
		c.quotas.Set(q.GetRole(), q)
		c.alloc.UpdateQuota(q.GetRole(), quotaOf(q))
	}
}

// takeoverDeadline says when a framework is removed that does not find this new
// leader. Mesos forgets such frameworks' timers, so that the tasks of a dead one
// run for ever (MESOS-4659). Here a timer that ran goes on, and a framework that
// was connected has as long as agents have to come back, or its own
// failover_timeout if that is longer.
func (c *Core) takeoverDeadline(f RecoveredFramework) time.Time {
	timeout := failoverTimeout(f.Info)
	if f.Deadline.IsZero() {
		return c.now.Add(max(timeout, c.cfg.AgentReregisterTimeout))
	}
	grace := c.now.Add(min(timeout, takeoverGrace))
	if f.Deadline.Before(grace) {
		return grace
	}
	// By this process's clock: a time that was written down has no monotonic reading,
	// and among those that do it would move whenever the host's clock is set.
	return c.now.Add(f.Deadline.Sub(c.now))
}

func withDefaults(cfg Config) Config {
	setDuration := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	setInt := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	setDuration(&cfg.AllocationInterval, time.Second)
	setDuration(&cfg.AgentPingTimeout, 15*time.Second)
	setDuration(&cfg.AgentReregisterTimeout, 10*time.Minute)
	setDuration(&cfg.HeartbeatInterval, 15*time.Second)
	setInt(&cfg.MaxAgentPingTimeouts, 5)
	if cfg.NonCheckpointingGrace == nil {
		cfg.NonCheckpointingGrace = new(cfg.AgentPingTimeout * time.Duration(cfg.MaxAgentPingTimeouts))
	}
	return cfg
}

// Handle takes one input and returns what follows from it, in the order in which
// it must be performed. The effects and the messages in them must not be changed,
// and the input belongs to the core from now on.
func (c *Core) Handle(now time.Time, in Input) []Effect {
	if c.stopped {
		return nil
	}
	// Time never runs backwards here, whatever the clock of the host does.
	if now.After(c.now) {
		c.now = now
	}
	c.out = nil
	switch in := in.(type) {
	case Subscribe:
		c.subscribe(in)
	case Call:
		c.call(in)
	case Operate:
		c.operate(in)
	case CancelDrain:
		c.cancelDrain(in)
	case KillTask:
		c.killTask(in)
	case StreamClosed:
		c.streamClosed(in.StreamID)
	case AgentMessage:
		c.agentMessage(in)
	case LinkClosed:
		c.linkClosed(in)
	case Committed:
		c.committed(in)
	case Whitelist:
		c.alloc.SetWhitelist(in.Hostnames)
	case Policy:
		c.cfg.Policy = in.ACLs
	case Tick, Explain:
	}
	c.runTimers()
	c.checkDrains()
	c.checkRecovery()
	if c.allocation == agentJoined {
		c.allocation = allocationDue
	} else {
		c.allocate()
	}
	c.tellChanges()
	if e, ok := in.(Explain); ok {
		c.explain(e) // of what is so now
	}
	out := c.out
	c.out = nil
	return out
}

// NextWake is when Handle wants a Tick if nothing else happens.
func (c *Core) NextWake() (time.Time, bool) {
	if c.stopped {
		return time.Time{}, false
	}
	if c.allocation == allocationDue {
		return c.now, true
	}
	wake := c.nextAllocation
	if t, ok := c.timers.next(); ok && t.Before(wake) {
		wake = t
	}
	if t, ok := c.alloc.NextDeadline(); ok && t.Before(wake) {
		wake = t
	}
	return wake, true
}

func (c *Core) emit(e Effect) { c.out = append(c.out, e) }

func (c *Core) log(level Level, event string, fields ...string) {
	c.emit(Log{Level: level, Event: event, Fields: fields})
}

// count adds one to a counter of the metrics.
func (c *Core) count(key string) { c.emit(Count{Key: key, N: 1}) }

// drop notes a message that makes no sense, and that nothing is done about.
func (c *Core) drop(what, reason string, fields ...string) {
	c.count("master/dropped_messages")
	c.log(Warn, "message_dropped", append([]string{"message", what, "reason", reason}, fields...)...)
}

// stop ends this master because its state and the registry's no longer agree.
func (c *Core) stop(reason string) {
	c.log(Error, "master_stops", "reason", reason)
	c.emit(Stop{Reason: reason})
	c.stopped = true
}

// proposal is a change of the registry that is under way or waits for one that
// concerns the same agent or framework.
type proposal struct {
	id       uint64
	key      string
	commands []*clusterdv1.Command
	then     func()
}

// propose asks for a change of the registry; then runs once it is committed, and
// never if it is not, for then this master leads no more. Proposals with the same
// key are committed in order.
func (c *Core) propose(key string, then func(), commands ...*clusterdv1.Command) {
	c.nextProposal++
	p := &proposal{id: c.nextProposal, key: key, commands: commands, then: then}
	c.queued[key] = append(c.queued[key], p)
	if len(c.queued[key]) == 1 {
		c.submit(p)
	}
}

func (c *Core) submit(p *proposal) {
	c.proposals[p.id] = p
	c.emit(Propose{Proposal: p.id, Commands: p.commands})
}

func (c *Core) committed(in Committed) {
	p := c.proposals[in.Proposal]
	if p == nil {
		c.drop("committed", "unknown proposal", "proposal", strconv.FormatUint(in.Proposal, 10))
		return
	}
	if in.Err != nil {
		c.stop(fmt.Sprintf("the registry refused a change: %v", in.Err))
		return
	}
	delete(c.proposals, p.id)
	rest := c.queued[p.key][1:]
	if len(rest) == 0 {
		delete(c.queued, p.key)
	} else {
		c.queued[p.key] = rest
		c.submit(rest[0])
	}
	if p.then != nil {
		p.then()
	}
}

// command makes a command of the registry.
func command(kind clusterdv1.Command_Kind, payload proto.Message) *clusterdv1.Command {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(payload)
	if err != nil {
		// Only a missing required member can be the reason, and none is left out.
		panic(fmt.Sprintf("marshal command %s: %v", kind, err))
	}
	return &clusterdv1.Command{Kind: kind.Enum(), Payload: b}
}

// allocationState is about agents that join. When thousands do, one after the other, to
// share each out by itself costs more than to let them in: it waits for an input that is
// not about one, which the shell makes sure of by a Tick once there are no more inputs, or
// after a batch of them.
type allocationState int

const (
	allocationNotDue allocationState = iota
	agentJoined                      // in this input
	allocationDue                    // one joined since the last allocation
)

// allocate lets the allocator decide for what has changed, and in full once an
// interval.
func (c *Core) allocate() {
	if c.stopped {
		return
	}
	c.allocation = allocationNotDue
	var a allocator.Allocation
	if c.now.Before(c.nextAllocation) {
		a = c.alloc.Allocate(c.now)
	} else {
		a = c.alloc.AllocateAll(c.now)
		c.nextAllocation = c.now.Add(c.cfg.AllocationInterval)
	}
	if len(a.Offers) > 0 {
		c.offer(a.Offers)
	}
	if len(a.InverseOffers) > 0 {
		c.inverseOffer(a.InverseOffers)
	}
}

// random is the next number of a SplitMix64 sequence that begins at the seed.
func (c *Core) random() uint64 {
	c.rng += 0x9e3779b97f4a7c15
	z := c.rng
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// newUUID makes a random UUID (version 4) of 16 bytes.
func (c *Core) newUUID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], c.random())
	binary.LittleEndian.PutUint64(b[8:], c.random())
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return string(b[:])
}

func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// seconds is a time as Mesos's messages carry it.
func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func timeInfo(t time.Time) *mesos.TimeInfo {
	return &mesos.TimeInfo{Nanoseconds: new(t.UnixNano())}
}
