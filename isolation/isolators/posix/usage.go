package posix

import (
	"context"
	"fmt"
	"os"
	"sync"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/proctree"
)

// pageSize is the unit of the resident set size.
var pageSize = uint64(os.Getpagesize())

// usage is posix/cpu and posix/mem: they limit nothing and measure the
// processes of a container by reading /proc
// (src/slave/containerizer/mesos/isolators/posix.hpp, src/usage/usage.cpp).
type usage struct {
	isolation.BaseIsolator
	name  string
	table *sharedTable
	add   func(stats *mesos.ResourceStatistics, supervisor proctree.Process, below []proctree.Process)

	mu sync.Mutex
	// pids are the processes above the containers; 0 for one that has ended
	// or is not isolated yet. Guarded by mu.
	pids map[string]int
}

var _ isolation.Isolator = (*usage)(nil)

// NewUsage makes posix/cpu and posix/mem, which share what they read.
func NewUsage() (cpu, mem isolation.Isolator) {
	table := &sharedTable{}
	return newUsage("posix/cpu", table, addCPU), newUsage("posix/mem", table, addMem)
}

func newUsage(name string, table *sharedTable, add func(*mesos.ResourceStatistics, proctree.Process, []proctree.Process)) *usage {
	return &usage{name: name, table: table, add: add, pids: make(map[string]int)}
}

// addCPU counts the time of all processes below the supervisor and of all
// that have ended there: whatever ends is waited for, at the latest by the
// supervisor. So the figures never go back, as they do in Mesos.
func addCPU(stats *mesos.ResourceStatistics, supervisor proctree.Process, below []proctree.Process) {
	user, system := supervisor.ChildUser, supervisor.ChildSystem
	for _, p := range below {
		user += p.User + p.ChildUser
		system += p.System + p.ChildSystem
	}
	stats.CpusUserTimeSecs = new(float64(user) / proctree.TicksPerSecond)
	stats.CpusSystemTimeSecs = new(float64(system) / proctree.TicksPerSecond)
}

func addMem(stats *mesos.ResourceStatistics, _ proctree.Process, below []proctree.Process) {
	var pages uint64
	for _, p := range below {
		pages += p.ResidentPages
	}
	stats.MemRssBytes = new(pages * pageSize)
}

func (u *usage) Name() string { return u.name }

func (u *usage) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range states {
		u.pids[isolation.Key(s.Config.ID)] = s.PID
	}
	return nil
}

func (u *usage) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pids[isolation.Key(config.ID)]; ok {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(config.ID), isolation.ErrContainerExists)
	}
	u.pids[isolation.Key(config.ID)] = 0
	return nil, nil
}

func (u *usage) Isolate(_ context.Context, id *mesos.ContainerID, pid int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pids[isolation.Key(id)]; !ok {
		return fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	u.pids[isolation.Key(id)] = pid
	return nil
}

func (u *usage) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	_, err := u.pid(id)
	return nil, err
}

func (u *usage) Update(_ context.Context, id *mesos.ContainerID, _ []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	_, err := u.pid(id)
	return err
}

func (u *usage) Usage(_ context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error {
	pid, err := u.pid(id)
	if err != nil || pid == 0 {
		return err
	}
	table, err := u.table.get(pid)
	if err != nil {
		return fmt.Errorf("read process table: %w", err)
	}
	if above, ok := table[pid]; ok {
		u.add(stats, above, table.Below(pid))
	}
	return nil
}

func (u *usage) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	_, err := u.pid(id)
	return err
}

func (u *usage) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.pids, isolation.Key(id))
	return nil
}

func (u *usage) pid(id *mesos.ContainerID) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	pid, ok := u.pids[isolation.Key(id)]
	if !ok {
		return 0, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return pid, nil
}
