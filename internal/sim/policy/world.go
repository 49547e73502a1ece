package policy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/quota"
	"clusterd/internal/sim/clock"
	"clusterd/registry/state"
	"clusterd/server"
	"clusterd/server/core"
)

// epoch is when virtual time begins.
var epoch = time.Unix(1_800_000_000, 0)

// tick is how exactly timers of the master fire, as in a real process.
const tick = time.Millisecond

// world is the cluster: one master at a time, its registry, and everybody around it.
type world struct {
	opts  *Options
	clock *clock.Clock
	rng   *rand.Rand
	end   time.Time
	err   error

	// core is nil while there is no leader; term counts leaders.
	core    *core.Core
	term    int
	inputs  []core.Input
	feeding bool
	wake    *clock.Event
	wakeAt  time.Time
	request core.RequestID

	registry   *state.State
	proposed   []proposal // wait for the next commit
	committing []proposal

	agents     []*agent
	links      map[core.LinkID]*agent
	nextLink   core.LinkID
	total      amount // of all agents
	frameworks []*framework
	streams    map[string]*framework
	tasks      map[string]*task // of which somebody has still to hear something
	nextTask   uint64
	nextUUID   uint64
	roles      []*role

	measure
}

// proposal is a change of the registry on its way.
type proposal struct {
	term     int
	id       uint64
	commands []*clusterdv1.Command
}

// role is what the frameworks of a role have and want together.
type role struct {
	name       string
	weight     float64
	used       amount
	wanted     amount // by tasks that wait
	greedy     int    // frameworks that always want more
	waiting    int
	running    int
	frameworks []*framework
	guarantee  amount
	limit      amount // unlimited where none
}

// Run simulates a cluster. When ctx ends it returns what there is so far, marked as
// partial. An error means that the options are wrong, or that the master did what it
// must not.
func Run(ctx context.Context, opts Options) (*Result, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	w := &world{
		opts: &opts, clock: clock.New(epoch), rng: newRand(opts.Seed, "world"), end: epoch.Add(opts.For),
		registry: state.New(), links: map[core.LinkID]*agent{}, streams: map[string]*framework{}, tasks: map[string]*task{},
	}
	w.measure.began, w.measure.cpu = time.Now(), processorTime()
	w.makeAgents()
	if err := w.makeFrameworks(); err != nil {
		return nil, err
	}
	if err := w.prepareFailures(); err != nil {
		return nil, err
	}
	w.lead()
	if err := w.settings(); err != nil {
		return nil, err
	}
	for _, f := range w.frameworks {
		w.clock.After(time.Duration(f.group.Start), f.begin)
	}
	w.startAgents()
	w.sample()
	steps := 0
	for w.err == nil && w.clock.Step(w.end) {
		if steps++; steps%256 == 0 && ctx.Err() != nil {
			break
		}
	}
	if w.err != nil {
		return nil, fmt.Errorf("after %s: %w", w.clock.Now().Sub(epoch), w.err)
	}
	return w.result(ctx.Err() != nil), nil
}

func (w *world) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// now is the time since the beginning.
func (w *world) now() time.Duration { return w.clock.Now().Sub(epoch) }

// jitter is a random part of d.
func (w *world) jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(d)))
}

// lead makes a new leader from what the registry holds, as server/term.go does.
func (w *world) lead() {
	w.term++
	info := &mesos.MasterInfo{
		Id: new("M" + strconv.Itoa(w.term)), Ip: proto.Uint32(16777343), Port: proto.Uint32(5050),
		Hostname: new("master"),
	}
	cfg := w.opts.Core
	cfg.MasterInfo, cfg.Seed = info, w.opts.Seed+uint64(w.term)
	// What has ended is counted here; readers are there none.
	cfg.MaxCompletedFrameworks, cfg.MaxCompletedTasks, cfg.PublishFrameworkMetrics = 0, 0, false
	opts := w.opts.Allocator
	opts.Seed, opts.Interval = cfg.Seed, cfg.AllocationInterval
	w.core = core.New(cfg, server.Recovered(w.registry), allocator.New(opts), w.clock.Now())
	w.wake, w.wakeAt = nil, time.Time{}
	w.arm()
}

// feed hands the leader an input, and performs what follows. Without a leader it is
// lost.
func (w *world) feed(in core.Input) {
	if w.core == nil || w.err != nil {
		return
	}
	w.inputs = append(w.inputs, in)
	if w.feeding {
		return
	}
	w.feeding = true
	for i := 0; i < len(w.inputs); i++ {
		next := w.inputs[i]
		w.inputs[i] = nil
		start := time.Now()
		effects := w.core.Handle(w.clock.Now(), next)
		w.measure.handled(time.Since(start))
		for _, e := range effects {
			w.perform(e)
		}
	}
	w.inputs = w.inputs[:0]
	if cap(w.inputs) > 1<<16 {
		w.inputs = nil
	}
	w.feeding = false
	w.arm()
}

// arm sees to it that the leader is woken when it wants to be, or a little later.
func (w *world) arm() {
	at, ok := w.core.NextWake()
	if !ok {
		return
	}
	if over := at.Sub(epoch) % tick; over > 0 {
		at = at.Add(tick - over)
	}
	if w.wake != nil && !w.wakeAt.After(at) {
		return
	}
	w.clock.Cancel(w.wake)
	w.wakeAt = at
	w.wake = w.clock.At(at, func() {
		w.wake = nil
		w.feed(core.Tick{})
	})
}

func (w *world) perform(e core.Effect) {
	switch e := e.(type) {
	case core.SendAgent:
		if ag := w.links[e.Link]; ag != nil {
			ag.receive(e.Message)
		}
	case core.SendEvent:
		if f := w.streams[e.StreamID]; f != nil {
			f.receive(e.Event)
		}
	case core.Propose:
		w.proposed = append(w.proposed, proposal{w.term, e.Proposal, e.Commands})
		w.commit()
	case core.CloseLink:
		if ag := w.links[e.Link]; ag != nil {
			ag.unlinked()
		}
	case core.CloseStream:
		w.fail(fmt.Errorf("the master ended the subscription of %s", e.StreamID))
	case core.Respond:
		if e.Status >= 300 {
			w.fail(fmt.Errorf("the master answered %d: %s", e.Status, e.Body))
		}
	case core.Stop:
		w.fail(errors.New(e.Reason))
	default: // logs, counters, and streams that open
	}
}

// commit lets the registry commit what is proposed, all at once, unless it is still
// busy with the last.
func (w *world) commit() {
	if len(w.committing) > 0 || len(w.proposed) == 0 {
		return
	}
	w.committing, w.proposed = w.proposed, nil
	w.clock.After(w.opts.CommitLatency, func() {
		done := w.committing
		w.committing = nil
		entry := &clusterdv1.Entry{Format: proto.Uint32(state.Format), ProposedAt: new(w.clock.Now().UnixNano())}
		for _, p := range done {
			entry.Commands = append(entry.Commands, p.commands...)
		}
		next, refused, err := w.registry.Apply(entry)
		if err != nil {
			w.fail(err)
			return
		}
		w.registry = next
		for _, p := range done {
			err := errors.Join(refused[:len(p.commands)]...)
			refused = refused[len(p.commands):]
			// Its leader may be gone; what it proposed is committed all the same.
			if p.term == w.term {
				w.feed(core.Committed{Proposal: p.id, Err: err})
			}
		}
		w.commit()
	})
}

// settings has the master set weights and quotas before anybody comes.
func (w *world) settings() error {
	var weights []*mesos.WeightInfo
	var quotas []*quota.QuotaConfig
	for i := range w.opts.Workload.Roles {
		r := &w.opts.Workload.Roles[i]
		if r.Weight > 0 {
			weights = append(weights, &mesos.WeightInfo{Role: &r.Name, Weight: &r.Weight})
		}
		if len(r.Guarantee)+len(r.Limit) > 0 {
			quotas = append(quotas, &quota.QuotaConfig{
				Role: &r.Name, Guarantees: w.scalars(r.Guarantee), Limits: w.scalars(r.Limit),
			})
		}
	}
	if len(weights) > 0 {
		w.operate(&master.Call{
			Type: master.Call_UPDATE_WEIGHTS.Enum(), UpdateWeights: &master.Call_UpdateWeights{WeightInfos: weights},
		})
	}
	if len(quotas) > 0 {
		// By force, for there are no agents yet that could satisfy it.
		w.operate(&master.Call{
			Type:        master.Call_UPDATE_QUOTA.Enum(),
			UpdateQuota: &master.Call_UpdateQuota{Force: new(true), QuotaConfigs: quotas},
		})
	}
	return w.err
}

func (w *world) operate(call *master.Call) {
	w.request++
	w.feed(core.Operate{Request: w.request, Call: call})
}

func (w *world) scalars(shares map[string]Share) map[string]*mesos.Value_Scalar {
	m := map[string]*mesos.Value_Scalar{}
	for name, s := range shares {
		total := float64(w.total.cpus) / 1000
		if name == "mem" {
			total = float64(w.total.mem) / 1000
		}
		m[name] = &mesos.Value_Scalar{Value: new(s.Of(total))}
	}
	return m
}

// uuid makes one that nobody has had.
func (w *world) uuid() []byte {
	w.nextUUID++
	b := make([]byte, 16)
	for i := range 8 {
		b[i] = byte(w.nextUUID >> (8 * i))
	}
	return b
}

// amount is cpus and MB of memory in thousandths.
type amount struct{ cpus, mem int64 }

func (a amount) plus(b amount) amount  { return amount{a.cpus + b.cpus, a.mem + b.mem} }
func (a amount) minus(b amount) amount { return amount{a.cpus - b.cpus, a.mem - b.mem} }
func (a amount) times(n int) amount    { return amount{a.cpus * int64(n), a.mem * int64(n)} }

// fits is how often b goes into a.
func (a amount) fits(b amount) int {
	return int(min(a.cpus/max(b.cpus, 1), a.mem/max(b.mem, 1)))
}

// share is the dominant share of a in total.
func (a amount) share(total amount) float64 {
	return max(float64(a.cpus)/float64(total.cpus), float64(a.mem)/float64(total.mem))
}
