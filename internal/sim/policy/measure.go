package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"clusterd/server/core"
)

// measure is what is counted while the world turns.
type measure struct {
	began  time.Time     // in real time, as handle is
	cpu    time.Duration // that the process had used by then
	handle histogram

	up, used         amount // of agents that are on, of tasks on them
	empty            int    // agents that are on and without tasks
	waiting, running int    // tasks
	latency          histogram
	samples          []Sample
	fairRoles        average
	fairFrameworks   average
	failures         []*failure
}

// frameworkCounts are what is counted of a framework.
type frameworkCounts struct {
	submitted, launched, finished, lost  int
	offers, accepted, declined, rescinds int
	wait                                 histogram
	share                                average
}

// failure is a Failure that is being watched.
type failure struct {
	Failure
	w      *world
	agents []*agent
	before float64 // cpus in use just before, in thousandths
	least  float64
	lost   int // tasks that were on the agents, or were sent there
	known  int // of them, those that their frameworks have heard of

	detected, recovered, back, offer time.Duration // since At; negative: not yet
	dipped                           bool
	missing                          int // agents that are not back
}

func (m *measure) handled(d time.Duration) { m.handle.add(d) }

// use notes that a task holds resources, or does so no more.
func (w *world) use(t *task, n int) {
	a := t.size.times(n)
	w.used = w.used.plus(a)
	t.framework.used = t.framework.used.plus(a)
	t.framework.role.used = t.framework.role.used.plus(a)
}

// Sample is the cluster at one moment.
type Sample struct {
	At time.Duration `json:"at_ns"`
	// CPUs and Mem in use, as parts of all that the cluster has.
	CPUs float64 `json:"cpus"`
	Mem  float64 `json:"mem"`
	// Up is the part of the cluster's cpus on agents that are on.
	Up      float64 `json:"up"`
	Waiting int     `json:"waiting"`
	Running int     `json:"running"`
	// Empty is how many agents that are on have no task.
	Empty int `json:"empty_agents"`
	// Shares of the roles, and what would be fair, in the order of the result's roles.
	Shares []float64 `json:"shares"`
	Fair   []float64 `json:"fair_shares"`
}

// sample takes one, and arranges for the next.
func (w *world) sample() {
	s := Sample{
		At: w.now(), Waiting: w.waiting, Running: w.running, Empty: w.empty,
		CPUs: float64(w.used.cpus) / float64(w.total.cpus),
		Mem:  float64(w.used.mem) / float64(w.total.mem),
		Up:   float64(w.up.cpus) / float64(w.total.cpus),
	}
	s.Shares, s.Fair = w.roleShares()
	if s.At > 0 {
		if j, ok := fairness(s.Shares, s.Fair); ok {
			w.fairRoles.add(j)
		}
		w.sampleFrameworks()
	}
	w.samples = append(w.samples, s)
	for _, f := range w.failures {
		f.look()
	}
	if w.opts.Progress != nil {
		w.opts.Progress(Progress{Virtual: s.At, For: w.opts.For, Real: time.Since(w.began), Running: w.running, Waiting: w.waiting})
	}
	if next := s.At + w.opts.Sample; next <= w.opts.For {
		w.clock.At(epoch.Add(next), w.sample)
	}
}

// roleShares are the dominant shares of the roles, and how those would be if what
// they have together were divided fairly among them: by weight, nobody more than it
// asks for or its quota lets it have, nobody less than it is guaranteed.
func (w *world) roleShares() (shares, fair []float64) {
	var total float64
	claims := make([]claim, len(w.roles))
	shares = make([]float64, len(w.roles))
	for i, r := range w.roles {
		shares[i] = r.used.share(w.total)
		total += shares[i]
		c := claim{weight: r.weight, cap: r.used.plus(r.wanted).share(w.total), floor: r.guarantee.share(w.total)}
		if r.greedy > 0 {
			c.cap = math.Inf(1)
		}
		c.cap = min(c.cap, float64(r.limit.cpus)/float64(w.total.cpus), float64(r.limit.mem)/float64(w.total.mem))
		claims[i] = c
	}
	return shares, fairShares(total, claims)
}

// sampleFrameworks judges the frameworks of each role among themselves.
func (w *world) sampleFrameworks() {
	for _, r := range w.roles {
		var total float64
		claims := make([]claim, len(r.frameworks))
		shares := make([]float64, len(r.frameworks))
		for i, f := range r.frameworks {
			shares[i] = f.used.share(w.total)
			f.share.add(shares[i])
			total += shares[i]
			claims[i] = claim{weight: 1, cap: f.used.plus(f.wanted).share(w.total)}
			if f.group.Kind == Greedy && f.begun {
				claims[i].cap = math.Inf(1)
			}
		}
		if len(claims) < 2 {
			continue
		}
		if j, ok := fairness(shares, fairShares(total, claims)); ok {
			w.fairFrameworks.add(j)
		}
	}
}

// prepareFailures arranges for what will go wrong.
func (w *world) prepareFailures() error {
	sorted := slices.Clone(w.opts.Failures)
	slices.SortStableFunc(sorted, func(a, b Failure) int { return int(a.At - b.At) })
	for i, spec := range sorted {
		f := &failure{Failure: spec, w: w, detected: -1, recovered: -1, back: -1, offer: -1}
		switch spec.Kind {
		case FailAgents:
			rng := newRand(w.opts.Seed, fmt.Sprintf("failure %d", i))
			n := int(spec.Agents.Of(float64(len(w.agents))) + 0.5)
			if !spec.Agents.Part {
				n = int(spec.Agents.Amount)
			}
			if n > len(w.agents) {
				return fmt.Errorf("failure %s: there are %d agents", spec.Text, len(w.agents))
			}
			for _, j := range rng.Perm(len(w.agents))[:n] {
				f.agents = append(f.agents, w.agents[j])
			}
		case FailRack:
			racks := map[string]bool{}
			for _, ag := range w.agents {
				rack := ag.attribute("rack")
				racks[rack] = true
				if rack == spec.Rack {
					f.agents = append(f.agents, ag)
				}
			}
			if len(f.agents) == 0 {
				return fmt.Errorf("failure %s: no agent is in that rack (%s)", spec.Text, strings.Join(sortedKeys(racks), ", "))
			}
		}
		w.failures = append(w.failures, f)
		w.clock.At(epoch.Add(spec.At), f.strike)
	}
	return nil
}

// strike lets it happen.
func (f *failure) strike() {
	w := f.w
	f.before = w.usedLately()
	f.least = f.before
	if f.Kind == FailMaster {
		f.strikeMaster()
		return
	}
	f.agents = slices.DeleteFunc(f.agents, func(ag *agent) bool { return ag.down })
	for _, ag := range f.agents {
		ag.awaited = f
		ag.die(f)
	}
	f.missing = len(f.agents)
	if f.For > 0 {
		w.clock.After(f.For, func() {
			for _, ag := range f.agents {
				ag.boot()
			}
		})
	}
}

// usedLately is how many cpus were in use in the last samples, on the average.
func (w *world) usedLately() float64 {
	var a average
	for _, s := range w.samples[max(0, len(w.samples)-5):] {
		a.add(s.CPUs * float64(w.total.cpus))
	}
	return a.value()
}

// strikeMaster ends the leader; after For there is the next. Everybody notices at
// once, and looks for the new one.
func (f *failure) strikeMaster() {
	w := f.w
	if w.core == nil {
		return
	}
	w.core = nil
	w.clock.Cancel(w.wake)
	w.wake = nil
	w.proposed = nil // what the registry is committing is committed all the same
	clear(w.links)
	clear(w.streams)
	for _, ag := range w.agents {
		ag.link = 0
		if !ag.down && ag.id != "" {
			f.agents = append(f.agents, ag)
			ag.awaited = f
		}
	}
	f.missing = len(f.agents)
	for _, fw := range w.frameworks {
		fw.connected = false
		clear(fw.rescinded)
		fw.unheard = map[string]*task{}
	}
	for id, t := range w.tasks {
		if !core.Terminal(t.seen) {
			t.framework.unheard[id] = t
		}
	}
	w.clock.After(f.For, func() {
		w.lead()
		for _, ag := range w.agents {
			if !ag.down {
				w.clock.After(w.jitter(w.opts.Backoff), ag.register)
			}
		}
		for _, fw := range w.frameworks {
			if w.now() >= time.Duration(fw.group.Start) {
				w.clock.After(w.jitter(w.opts.Backoff), fw.subscribe)
			}
		}
	})
}

// since is how long ago the failure began.
func (f *failure) since() time.Duration { return f.w.now() - f.At }

// lose counts a task that the failure took.
func (f *failure) lose(t *task) {
	t.failure = f
	f.lost++
}

// heard counts a task of which its framework knows that it is lost.
func (f *failure) heard() {
	if f.known++; f.known == f.lost {
		f.detected = f.since()
	}
}

// agentIsBack notes that an agent has returned from what befell it.
func (m *measure) agentIsBack(ag *agent) {
	f := ag.awaited
	if f == nil {
		return
	}
	ag.awaited = nil
	if f.missing--; f.missing == 0 {
		f.back = f.since()
	}
}

// firstOffer notes when offers flow again after the master failed.
func (m *measure) firstOffer() {
	for _, f := range m.failures {
		if f.offer < 0 && f.Kind == FailMaster && f.since() > 0 {
			f.offer = f.since()
		}
	}
}

// recoveredPart is how much of what was in use must be so again.
const recoveredPart = 0.99

// look notes how far the cluster has recovered.
func (f *failure) look() {
	if f.since() <= 0 || f.recovered >= 0 {
		return
	}
	used := float64(f.w.used.cpus)
	f.least = min(f.least, used)
	switch {
	case used < f.before*recoveredPart:
		f.dipped = true
	case f.Kind == FailMaster && f.back < 0: // it may yet get worse
	case f.dipped:
		f.recovered = f.since()
	default:
		f.recovered = 0
	}
}
