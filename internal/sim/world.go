package sim

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	agentcore "clusterd/agent/core"
	"clusterd/internal/sim/clock"
	"clusterd/registry/state"
	"clusterd/server/core"
)

// start is when virtual time begins.
var start = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// Config says what kind of world to make. Seed alone decides a run.
type Config struct {
	Seed uint64
	// Masters, Agents and Frameworks are how many there are.
	Masters, Agents, Frameworks int
	// Trouble is how long faults happen; Peace is how long the world then has to
	// come to rest before the last checks.
	Trouble, Peace time.Duration
	// Core and Agent are the settings of the cores; what concerns one process is
	// filled in.
	Core  core.Config
	Agent agentcore.Config
	// Break makes a model wrong on purpose, to see that it is noticed.
	Break Break
	// Print takes each line of the trace, if set.
	Print func(string)
}

// Break is a deliberate mistake.
type Break int

// The mistakes that tests make.
const (
	BreakNothing Break = iota
	// BreakAckFirst has agents act before their checkpoint is written.
	BreakAckFirst
	// BreakLogSync has members of the log acknowledge entries before they are on the disk.
	BreakLogSync
	// BreakDeposedActs lets a master act for a while after it was deposed.
	BreakDeposedActs
	// BreakVotesEarly has members of the log elect a new leader while the last one's
	// lease may run, as raft by itself does after a restart.
	BreakVotesEarly
	// BreakForgetFrameworks, BreakForgetQuotas and BreakForgetGone have a new leader
	// overlook part of the registry.
	BreakForgetFrameworks
	BreakForgetQuotas
	BreakForgetGone
	// BreakForgetTasks has agents leave a task out when they register.
	BreakForgetTasks
	// BreakStartTwice has executors start tasks twice.
	BreakStartTwice
	// BreakLeak has the allocator overlook resources that return.
	BreakLeak
	// BreakForgetEvents has those who watch miss an event now and then.
	BreakForgetEvents
	// BreakDoubleOffer has the allocator overlook what is in use on an agent.
	BreakDoubleOffer
)

// NewConfig draws a world's size and settings from a seed.
func NewConfig(seed uint64) Config {
	r := rand.New(rand.NewPCG(seed, 0xc10c))
	pick := func(values ...time.Duration) time.Duration { return values[r.IntN(len(values))] }
	cfg := Config{
		Seed: seed, Masters: 3, Agents: 3 + r.IntN(3), Frameworks: 2 + r.IntN(2),
		Trouble: 400 * time.Second, Peace: 200 * time.Second,
		Core: core.Config{
			AllocationInterval:           time.Second,
			AgentPingTimeout:             pick(3*time.Second, 5*time.Second),
			MaxAgentPingTimeouts:         2 + r.IntN(3),
			AgentReregisterTimeout:       pick(20*time.Second, 45*time.Second, 90*time.Second),
			RootSubmissions:              true,
			MaxCompletedFrameworks:       50,
			MaxCompletedTasks:            100,
			MaxUnreachableTasks:          1000,
			HeartbeatInterval:            5 * time.Second,
			RegistryGCInterval:           time.Minute,
			RegistryMaxAgentAge:          14 * 24 * time.Hour,
			RegistryMaxAgentCount:        102400,
			AllocatorAgentRecoveryFactor: 0.8,
			AllocatorRecoveryTimeout:     30 * time.Second,
			OfferTimeout:                 pick(0, 0, 20*time.Second),
		},
		Agent: agentcore.Config{
			BuildVersion: "1.12.0", LinkVersion: 1, WorkDir: "/var/lib/clusterd",
			RegistrationBackoffFactor:     time.Second,
			ExecutorRegistrationTimeout:   pick(10*time.Second, 60*time.Second),
			ExecutorReregistrationTimeout: pick(2*time.Second, 5*time.Second),
			ExecutorShutdownGracePeriod:   5 * time.Second,
			RecoveryTimeout:               pick(30*time.Second, 15*time.Minute),
			ReconfigurationPolicy:         "equal",
			Recover:                       "reconnect",
			MaxCompletedFrameworks:        50,
			MaxCompletedExecutors:         150,
			MaxCompletedTasks:             200,
		},
	}
	if r.IntN(5) == 0 {
		cfg.Masters = 5
	}
	if r.IntN(4) == 0 {
		cfg.Core.RegistryGCInterval = 20 * time.Second
		cfg.Core.RegistryMaxAgentAge = 90 * time.Second
		cfg.Core.RegistryMaxAgentCount = 2
	}
	if r.IntN(3) == 0 {
		cfg.Core.NonCheckpointingGrace = new(pick(0, 2*time.Second, time.Minute))
	}
	if r.IntN(2) == 0 {
		cfg.Agent.ReconfigurationPolicy = "any"
	}
	if r.IntN(4) == 0 {
		cfg.Core.AgentRemovalRateLimit = &core.RateLimit{N: 1, Per: 5 * time.Second}
	}
	cfg.Core.AutomaticMaintenance = r.IntN(2) == 0
	return cfg
}

// prunes says that the registry forgets early.
func (c *Config) prunes() bool { return c.Core.RegistryMaxAgentAge < time.Hour }

// World is a cluster and all that is around it.
type World struct {
	cfg   Config
	rng   *rand.Rand
	clock *clock.Clock
	net   network
	trace trace
	steps int // inputs that cores have handled

	hosts      []*host
	masters    []*master
	members    []*member
	machines   []*machine
	frameworks []*framework
	op         *operator
	past       history
	leaders    int
	faults     map[string]int // that happened, by kind
	peace      bool           // no faults any more
	said       uint64         // counts what masters gossip

	books
	violation *Violation
}

// Result is what a run shows.
type Result struct {
	Seed      uint64
	Violation *Violation
	// Hash is the same for the same run; Steps are the inputs that cores have
	// handled, Leaders the leaderships, Tasks the tasks that were started.
	Hash                  uint64
	Steps, Leaders, Tasks int
	// Faults that happened, by kind.
	Faults map[string]int
}

// Run lets a world live and returns what became of it.
func Run(cfg Config) Result {
	w := newWorld(cfg)
	w.survive()
	r := Result{
		Seed: cfg.Seed, Violation: w.violation, Hash: w.trace.hash, Steps: w.steps, Leaders: w.leaders,
		Faults: w.faults,
	}
	for _, t := range w.truths {
		if t.starts > 0 {
			r.Tasks++
		}
	}
	return r
}

func newWorld(cfg Config) *World {
	w := &World{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x5eed)), clock: clock.New(start),
		faults: map[string]int{},
	}
	w.trace.on, w.trace.print = cfg.Print != nil, cfg.Print
	w.trace.hash = 14695981039346656037
	w.past.states = []*state.State{state.New()}
	w.books.init()
	n := cfg.Masters + cfg.Agents + cfg.Frameworks + 2
	w.net.init(w, n)
	newHost := func(name string) *host {
		h := &host{w: w, id: len(w.hosts), name: name, on: true, skew: w.between(-2*time.Second, 2*time.Second)}
		w.hosts = append(w.hosts, h)
		return h
	}
	for i := range cfg.Masters {
		w.addMaster(i, newHost(fmt.Sprintf("m%d", i)))
	}
	for i := range cfg.Agents {
		w.addMachine(newHost(fmt.Sprintf("a%d", i)))
		w.machines[i].booted = 1
	}
	for i := range cfg.Frameworks {
		w.addFramework(newHost(fmt.Sprintf("f%d", i)))
	}
	w.op = &operator{
		w: w, host: newHost("op"), promises: map[string]*promise{},
		kept: map[string]bool{}, gone: map[string]bool{}, ended: map[string]bool{}, torn: map[string]bool{}, draining: map[string]bool{},
	}
	w.op.ears = w.newListener(w.op.host, nil)
	newHost("probe")
	return w
}

// survive lets the world live; what panics in it is a violation like others.
func (w *World) survive() {
	defer func() {
		if p := recover(); p != nil {
			w.fail(NoPanic, "%v\n%s", p, debug.Stack())
		}
	}()
	w.live()
}

// live runs the world through trouble and peace.
func (w *World) live() {
	for _, m := range w.masters {
		w.clock.After(w.between(0, time.Second), m.start)
	}
	for _, m := range w.machines {
		w.clock.After(w.between(0, 5*time.Second), m.start)
	}
	for _, f := range w.frameworks {
		w.clock.After(w.between(0, 10*time.Second), f.start)
	}
	w.op.routine()
	w.clock.After(w.between(5*time.Second, 15*time.Second), w.misfortune)
	w.clock.After(time.Second, w.lookAround)
	if !w.run(w.cfg.Trouble) {
		return
	}
	w.makePeace()
	if !w.run(w.cfg.Peace) {
		return
	}
	w.checkRest()
	if w.violation != nil {
		return
	}
	w.startProbe()
	if w.run(20 * time.Second) {
		w.checkLeaks()
	}
}

// run lets time pass until d is over or something is wrong.
func (w *World) run(d time.Duration) bool {
	until := w.clock.Now().Add(d)
	for w.violation == nil && w.clock.Step(until) {
	}
	return w.violation == nil
}

// between draws a duration.
func (w *World) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

// crashWrites says whether what was being written at a crash is there afterwards.
func (w *World) crashWrites() bool { return w.rng.IntN(2) == 0 }

// troubled says whether faults happen now.
func (w *World) troubled() bool { return !w.peace }

// say adds a line to the trace.
func (w *World) say(format string, args ...any) {
	w.trace.mix(uint64(w.clock.Now().UnixNano()))
	if w.trace.on {
		w.trace.add(w.clock.Now().Sub(start), format, args...)
	}
}

// note adds a line that only a traced run has.
func (w *World) note(format string, args ...any) {
	w.trace.add(w.clock.Now().Sub(start), format, args...)
}

func (m *machine) ip() string { return fmt.Sprintf("10.0.1.%d", m.index+1) }

// agentID is the id that the machine's agent has now; empty while it has none.
func (m *machine) agentID() string {
	kept, _, err := m.disk.Load(true)
	if err != nil || kept == nil {
		return ""
	}
	return kept.Agent.GetId().GetValue()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func sortedIDs[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
