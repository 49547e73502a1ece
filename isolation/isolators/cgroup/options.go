package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// ErrUnknownIsolator says that there is no isolator of that name.
var ErrUnknownIsolator = errors.New("unknown isolator")

// Options are what the flags say about cgroups. The zero value does what Mesos does by
// default, but for RevocableLowPriority, and bounds the number of processes.
type Options struct {
	// EnableCFS (--cgroups_enable_cfs) makes requests of CPUs limits too.
	EnableCFS bool
	// CountPIDsAndTIDs (--cgroups_cpu_enable_pids_and_tids_count) adds the numbers of
	// processes and threads to statistics.
	CountPIDsAndTIDs bool
	// RevocableLowPriority (--revocable_cpu_low_priority; true by default there) gives
	// containers with revocable CPUs next to none when others want them.
	RevocableLowPriority bool
	// LimitSwap (--cgroups_limit_swap) makes the limit of memory one of memory and swap.
	LimitSwap bool
	// MemoryHigh is where, from the request (0) to the limit (1), the kernel begins to
	// slow a container down and to take its memory back; only on v2, and only where
	// the limit is above the request. 0 means 0.9; a negative number: never.
	MemoryHigh float64
	// PidsMax bounds the tasks (processes and threads) of a container that has no
	// resource "pids", so that a fork bomb ends. 0 means DefaultPidsMax, a negative
	// number: no bound.
	PidsMax int64
	// IOMax are lines for io.max, "8:0 rbps=1048576 wiops=100", that every container
	// gets; only on v2.
	IOMax []string
	// AllowedDevices (--allowed_devices) may be used besides the usual ones.
	AllowedDevices *mesos.DeviceWhitelist
	// NetClsPrimaryHandle and NetClsSecondaryHandles (--cgroups_net_cls_primary_handle,
	// --cgroups_net_cls_secondary_handles) are "0xAAAA" and "0xAAAA,0xBBBB". Without
	// the first no handles are given out.
	NetClsPrimaryHandle, NetClsSecondaryHandles string
	// PerfEvents (--perf_events) are names of events, separated by commas; empty: none
	// are sampled. PerfInterval and PerfDuration (--perf_interval, --perf_duration) say
	// how often and how long; 0 means a minute and ten seconds.
	PerfEvents                 string
	PerfInterval, PerfDuration time.Duration
	// AgentSubsystems (--agent_subsystems) are those in which the agent puts itself into
	// a cgroup of its own, beside the containers'.
	AgentSubsystems []string
}

// names of the isolators, in order, and the subsystems that each is made of.
var names = []struct {
	name       string
	subsystems []string
	make       func(s *Set) (controller, error)
}{
	{"cgroups/blkio", []string{"blkio"}, newBlkio},
	{"cgroups/cpu", []string{"cpu", "cpuacct"}, newCPU},
	{"cgroups/cpuset", []string{"cpuset"}, newAttached},
	{"cgroups/devices", []string{"devices"}, newDevices},
	{"cgroups/hugetlb", []string{"hugetlb"}, newAttached},
	{"cgroups/mem", []string{"memory"}, newMemory},
	{"cgroups/net_cls", []string{"net_cls"}, newNetCls},
	{"cgroups/net_prio", []string{"net_prio"}, newAttached},
	{"cgroups/perf_event", []string{"perf_event"}, newPerfEvent},
	{"cgroups/pids", []string{"pids"}, newPids},
}

// Names lists the isolators there are, in the order in which they prepare.
func Names() []string {
	var all []string
	for _, n := range names {
		all = append(all, n.name)
	}
	return all
}

// Available lists the isolators that cgroups/all stands for: those whose subsystems the
// machine has.
func Available(tree *cgroups.Tree) []string {
	var all []string
	for _, n := range names {
		if len(tree.Available(n.subsystems...)) == len(n.subsystems) {
			all = append(all, n.name)
		}
	}
	return all
}

// Set makes the isolators of one agent.
type Set struct {
	tree    *cgroups.Tree
	options Options
	log     zerolog.Logger

	mu sync.Mutex
	// made is guarded by mu.
	made map[string]*isolator
}

// New puts the agent itself where the options say and makes a Set. Isolators are made
// when they are asked for.
func New(tree *cgroups.Tree, options Options, log zerolog.Logger) (*Set, error) {
	if err := tree.AssignAgent(options.AgentSubsystems...); err != nil {
		return nil, err
	}
	return &Set{tree: tree, options: options, log: log, made: make(map[string]*isolator)}, nil
}

// Isolator makes an isolator, or returns the one that was made before.
func (s *Set) Isolator(name string) (isolation.Isolator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.made[name]; i != nil {
		return i, nil
	}
	for _, n := range names {
		if n.name != name {
			continue
		}
		if err := s.tree.Use(n.subsystems...); err != nil {
			return nil, err
		}
		ctl, err := n.make(s)
		if err != nil {
			return nil, err
		}
		i := &isolator{
			name: name, subsystems: n.subsystems, tree: s.tree, ctl: ctl, first: len(s.made) == 0,
			log: s.log.With().Str("isolator", name).Logger(), containers: make(map[string]*container),
		}
		s.made[name] = i
		return i, nil
	}
	return nil, fmt.Errorf("%w: %s (there are %s)", ErrUnknownIsolator, name, strings.Join(Names(), ", "))
}

// Devices is the isolator cgroups/devices if it was made: other isolators let containers
// use devices through it.
func (s *Set) Devices() (*Devices, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.made["cgroups/devices"]
	if i == nil {
		return nil, false
	}
	return &Devices{i}, true
}

// AgentUsage measures the agent itself, as far as it has cgroups of its own
// (Options.AgentSubsystems).
func (s *Set) AgentUsage() (*mesos.ResourceStatistics, error) {
	stats := &mesos.ResourceStatistics{Timestamp: new(float64(time.Now().UnixMicro()) / 1e6)}
	if slices.Contains(s.options.AgentSubsystems, "cpuacct") {
		if dir, ok := s.tree.AgentDir("cpuacct"); ok {
			if err := cpuTimes(dir, s.tree.Version("cpuacct"), stats); err != nil {
				return nil, err
			}
		}
	}
	if slices.Contains(s.options.AgentSubsystems, "memory") {
		if dir, ok := s.tree.AgentDir("memory"); ok {
			if err := memoryUsage(dir, s.tree.Version("memory"), s.options.LimitSwap, stats); err != nil {
				return nil, err
			}
		}
	}
	return stats, nil
}

// Close ends what the isolators do on their own. Containers and their limits stay.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, i := range s.made {
		errs = append(errs, i.ctl.close())
	}
	return errors.Join(errs...)
}
