package policy

import (
	"cmp"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Result is what came of a run. Durations are virtual, but for those in Real.
type Result struct {
	Settings Settings `json:"settings"`
	// Partial: the run was stopped before its end, after For.
	Partial bool          `json:"partial,omitempty"`
	For     time.Duration `json:"for_ns"`

	Cluster  Cluster   `json:"cluster"`
	Roles    []Shared  `json:"roles"`
	Groups   []Group   `json:"groups"`
	Each     []Group   `json:"frameworks"`
	Failures []Outcome `json:"failures,omitempty"`
	Samples  []Sample  `json:"samples"`
	// Real is what the run cost; it differs from run to run.
	Real Real `json:"real"`
}

// Settings repeat what was simulated.
type Settings struct {
	Agents          int           `json:"agents"`
	Frameworks      int           `json:"frameworks"`
	CPUs            float64       `json:"cpus"`
	Mem             float64       `json:"mem_mb"`
	For             time.Duration `json:"for_ns"`
	Seed            uint64        `json:"seed"`
	RoleSorter      string        `json:"role_sorter"`
	FrameworkSorter string        `json:"framework_sorter"`
	Placement       string        `json:"allocator_placement"`
}

// Cluster is what is told of the cluster as a whole. Means and percentiles are over
// the samples.
type Cluster struct {
	CPUs Use `json:"cpus"`
	Mem  Use `json:"mem"`
	// RoleFairness and FrameworkFairness are means of Jain's index, of the roles and
	// of the frameworks within their roles; nil if there were never two to compare.
	RoleFairness      *float64 `json:"role_fairness"`
	FrameworkFairness *float64 `json:"framework_fairness"`
	// EmptyAgents is how many agents that were on had no task, on the average.
	EmptyAgents float64 `json:"empty_agents"`
	// OfferLatency is from when resources became free, or wanted, to their offer.
	OfferLatency Quantiles `json:"offer_latency"`
	Counts
}

// Use is how much of something was used, as parts of what the cluster has.
type Use struct {
	Mean float64 `json:"mean"`
	P95  float64 `json:"p95"`
	Last float64 `json:"last"`
}

// Counts are what is counted of a framework, or of many together.
type Counts struct {
	Submitted int `json:"tasks_submitted"`
	Finished  int `json:"tasks_finished"`
	Lost      int `json:"tasks_lost"`
	Running   int `json:"tasks_running"`
	Waiting   int `json:"tasks_waiting"`
	Launched  int `json:"tasks_launched"`
	Offers    int `json:"offers"`
	Accepted  int `json:"offers_accepted"`
	Declined  int `json:"offers_declined"`
	Rescinded int `json:"offers_rescinded"`
	// Wait of tasks, from submission to TASK_RUNNING; after a loss from the loss.
	Wait Quantiles `json:"wait"`
}

// OffersPerLaunch is how many offers it took to launch a task.
func (c *Counts) OffersPerLaunch() float64 {
	return float64(c.Offers) / float64(c.Launched)
}

// DeclinedPart is which part of the offers was declined.
func (c *Counts) DeclinedPart() float64 {
	return float64(c.Declined) / float64(c.Offers)
}

// Shared is a role.
type Shared struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
	// Share is the mean dominant share, Fair what would have been fair; Last are the
	// same in the last sample.
	Share     float64 `json:"share"`
	Fair      float64 `json:"fair_share"`
	LastShare float64 `json:"last_share"`
	LastFair  float64 `json:"last_fair_share"`
	Counts
}

// Group is a framework, or all of a group.
type Group struct {
	Name  string  `json:"name"`
	Role  string  `json:"role"`
	Kind  string  `json:"kind"`
	Count int     `json:"count"`
	Share float64 `json:"share"` // mean dominant share, of all together
	Counts
}

// Outcome is what came of a failure. Times count from its beginning; they are nil if
// it did not come to that.
type Outcome struct {
	Failure string        `json:"failure"`
	At      time.Duration `json:"at_ns"`
	Agents  int           `json:"agents"`
	// TasksLost were on agents that died, or were sent to them afterwards.
	TasksLost int `json:"tasks_lost"`
	// Heard is when frameworks had heard of every task that was lost.
	Heard *time.Duration `json:"heard_ns"`
	// Back is when all its agents were registered again.
	Back *time.Duration `json:"agents_back_ns"`
	// FirstOffer is when the next master made its first offer.
	FirstOffer *time.Duration `json:"first_offer_ns"`
	// Before and Least are the parts of the cluster's cpus that were in use before, and
	// at the worst until it had recovered.
	Before float64 `json:"cpus_before"`
	Least  float64 `json:"cpus_least"`
	// Recovered is when 99 % of what was used before was used again, to the next
	// sample; 0 if it never was less.
	Recovered *time.Duration `json:"recovered_ns"`

	until time.Duration // it is over then; 0: never
}

// Real is what a run cost.
type Real struct {
	Took time.Duration `json:"took_ns"`
	// CPU is the processor time of the process, of all cores.
	CPU time.Duration `json:"cpu_ns"`
	// Master is how long the master's core thought in all, of which the allocator is
	// the most; each of its inputs took Input.
	Master time.Duration `json:"master_ns"`
	Input  Quantiles     `json:"input"`
}

// processorTime is what the process has used so far.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // it is not shown then
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counts are those of some frameworks together.
func counts(fs []*framework) Counts {
	var c Counts
	var wait histogram
	for _, f := range fs {
		c.Submitted += f.submitted
		c.Finished += f.finished
		c.Lost += f.lost
		c.Running += f.running
		c.Waiting += f.waiting
		c.Launched += f.launched
		c.Offers += f.offers
		c.Accepted += f.accepted
		c.Declined += f.declined
		c.Rescinded += f.rescinds
		wait.merge(&f.wait)
	}
	c.Wait = wait.quantiles()
	return c
}

func (w *world) result(partial bool) *Result {
	o := w.opts
	r := &Result{
		Partial: partial, For: w.now(),
		Settings: Settings{
			Agents: len(w.agents), Frameworks: len(w.frameworks), For: o.For, Seed: o.Seed,
			CPUs: float64(w.total.cpus) / 1000, Mem: float64(w.total.mem) / 1000,
			RoleSorter: cmp.Or(o.Allocator.RoleSorter, "drf"), FrameworkSorter: cmp.Or(o.Allocator.FrameworkSorter, "drf"),
			Placement: cmp.Or(o.Allocator.Placement, "random"),
		},
		Cluster: Cluster{
			CPUs:              w.useOf(func(s *Sample) float64 { return s.CPUs }),
			Mem:               w.useOf(func(s *Sample) float64 { return s.Mem }),
			RoleFairness:      w.fairRoles.pointer(),
			FrameworkFairness: w.fairFrameworks.pointer(),
			OfferLatency:      w.latency.quantiles(),
			Counts:            counts(w.frameworks),
		},
		Samples: w.samples,
		Real: Real{
			Took: time.Since(w.began), CPU: processorTime() - w.measure.cpu, Master: time.Duration(w.handle.sum * 1e9), Input: w.handle.quantiles(),
		},
	}
	var empty average
	for i := range w.samples {
		empty.add(float64(w.samples[i].Empty))
	}
	r.Cluster.EmptyAgents = empty.value()
	for i, role := range w.roles {
		r.Roles = append(r.Roles, w.sharedBy(i, role))
	}
	for _, f := range w.frameworks {
		g := Group{
			Name: f.name, Role: f.role.name, Kind: f.group.Kind, Count: 1, Share: f.share.or(0), Counts: counts([]*framework{f}),
		}
		r.Each = append(r.Each, g)
	}
	r.Groups = w.groups()
	for _, f := range w.failures {
		r.Failures = append(r.Failures, f.outcome())
	}
	return r
}

func (w *world) sharedBy(i int, role *role) Shared {
	var share, fair average
	for j := range w.samples {
		share.add(w.samples[j].Shares[i])
		fair.add(w.samples[j].Fair[i])
	}
	last := w.samples[len(w.samples)-1]
	return Shared{
		Name: role.name, Weight: role.weight, Share: share.value(), Fair: fair.value(),
		LastShare: last.Shares[i], LastFair: last.Fair[i], Counts: counts(role.frameworks),
	}
}

// groups are the frameworks of each group together; they are neighbours.
func (w *world) groups() []Group {
	var out []Group
	for i := 0; i < len(w.frameworks); {
		first := w.frameworks[i]
		of := w.frameworks[i : i+first.group.Count]
		i += len(of)
		g := Group{Name: first.group.Name, Role: first.role.name, Kind: first.group.Kind, Count: len(of), Counts: counts(of)}
		for _, f := range of {
			g.Share += f.share.or(0)
		}
		out = append(out, g)
	}
	return out
}

func (w *world) useOf(get func(*Sample) float64) Use {
	all := make([]float64, 0, len(w.samples))
	var a average
	for i := range w.samples {
		all = append(all, get(&w.samples[i]))
		a.add(all[i])
	}
	last := all[len(all)-1]
	slices.Sort(all)
	return Use{Mean: a.value(), P95: all[int(math.Ceil(0.95*float64(len(all))))-1], Last: last}
}

func (a *average) or(otherwise float64) float64 {
	if a.n == 0 {
		return otherwise
	}
	return a.value()
}

// pointer is the mean, nil if there is none.
func (a *average) pointer() *float64 {
	if a.n == 0 {
		return nil
	}
	return new(a.value())
}

func (f *failure) outcome() Outcome {
	reached := func(d time.Duration) *time.Duration {
		if d < 0 {
			return nil
		}
		return &d
	}
	o := Outcome{
		Failure: f.Text, At: f.At, Agents: len(f.agents), TasksLost: f.lost,
		Heard: reached(f.detected), Back: reached(f.back), FirstOffer: reached(f.offer), Recovered: reached(f.recovered),
		Before: f.before / float64(f.w.total.cpus), Least: f.least / float64(f.w.total.cpus),
	}
	if f.lost == 0 || f.since() < 0 {
		o.Heard = nil
	}
	if f.For > 0 {
		o.until = f.At + f.For
	}
	return o
}
