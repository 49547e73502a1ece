package policy

import (
	"errors"
	"fmt"
	"time"

	"clusterd/allocator"
	"clusterd/server"
	"clusterd/server/core"
)

// What can be simulated.
const (
	maxAgents     = 100_000
	maxFrameworks = 10_000
)

// Options are the settings of a run.
type Options struct {
	Agents   int
	Workload *Workload
	// For is the length of the run, in virtual time.
	For  time.Duration
	Seed uint64
	// Core and Allocator are the master's settings. Of Core's, the seed and the
	// MasterInfo are filled in, and nothing is remembered of what has ended.
	Core      core.Config
	Allocator allocator.Options
	// Failures, in any order.
	Failures []Failure

	// CommitLatency is how long the registry takes to commit, LinkLatency a message
	// between master and agent or framework, TaskStart an agent to start a task.
	CommitLatency, LinkLatency, TaskStart time.Duration
	// Backoff spreads registrations: each agent and framework waits up to that long
	// before it comes back to a new master.
	Backoff time.Duration
	// Sample is the time between two samples of the cluster; 0: a 720th of For, but
	// at least 1 s.
	Sample time.Duration
	// Progress, unless nil, is told of each sample.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Virtual, For time.Duration
	Real         time.Duration
	Running      int // tasks
	Waiting      int
}

// DefaultOptions are a run of an hour with the defaults of the master's flags.
func DefaultOptions() Options {
	o := server.DefaultOptions()
	return Options{
		Agents:        1000,
		For:           time.Hour,
		Seed:          1,
		Core:          o.Core,
		Allocator:     o.Allocator,
		CommitLatency: 5 * time.Millisecond,
		LinkLatency:   500 * time.Microsecond,
		TaskStart:     25 * time.Millisecond,
		Backoff:       time.Second,
	}
}

func (o *Options) validate() error {
	if o.Agents < 1 || o.Agents > maxAgents {
		return fmt.Errorf("%d agents; 1 to %d can be simulated", o.Agents, maxAgents)
	}
	if o.For < time.Second || o.For > maxDuration {
		return fmt.Errorf("a run of %s; it takes between a second and ten years", o.For)
	}
	if o.Workload == nil {
		return errors.New("there is no workload")
	}
	if err := o.Workload.validate(); err != nil {
		return fmt.Errorf("workload: %w", err)
	}
	if len(o.Workload.Agents) == 0 {
		return errors.New("workload: agents: there are none")
	}
	frameworks := 0
	for i := range o.Workload.Frameworks {
		frameworks += o.Workload.Frameworks[i].Count
	}
	if frameworks > maxFrameworks {
		return fmt.Errorf("workload: %d frameworks; %d can be simulated", frameworks, maxFrameworks)
	}
	for _, d := range []time.Duration{o.CommitLatency, o.LinkLatency, o.TaskStart, o.Backoff, o.Sample} {
		if d < 0 {
			return fmt.Errorf("a negative duration, %s", d)
		}
	}
	for _, f := range o.Failures {
		if f.At >= o.For {
			return fmt.Errorf("failure %s: the run is over after %s", f.Text, o.For)
		}
	}
	if o.Sample == 0 {
		o.Sample = max(time.Second, (o.For / 720).Truncate(time.Millisecond))
	}
	return nil
}
