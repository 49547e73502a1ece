package isolation

import (
	"context"
	"fmt"
	"sync"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/proctree"
)

// posixUsage is posix/cpu and posix/mem: they limit nothing and measure the
// processes of a container by reading /proc
// (src/slave/containerizer/mesos/isolators/posix.hpp, src/usage/usage.cpp).
type posixUsage struct {
	name  string
	table *sharedTable
	add   func(stats *mesos.ResourceStatistics, supervisor proctree.Process, below []proctree.Process)

	mu sync.Mutex
	// pids are the processes above the containers; 0 for one that has ended
	// or is not isolated yet. Guarded by mu.
	pids map[string]int
}

var _ Isolator = (*posixUsage)(nil)

func newPosixUsage(name string, table *sharedTable, add func(*mesos.ResourceStatistics, proctree.Process, []proctree.Process)) *posixUsage {
	return &posixUsage{name: name, table: table, add: add, pids: make(map[string]int)}
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

func (u *posixUsage) Name() string { return u.name }

func (u *posixUsage) Recover(_ context.Context, states []ContainerState, _ []*mesos.ContainerID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range states {
		u.pids[Key(s.Config.ID)] = s.PID
	}
	return nil
}

func (u *posixUsage) Prepare(_ context.Context, config *ContainerConfig) (*Preparation, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pids[Key(config.ID)]; ok {
		return nil, fmt.Errorf("container %s: %w", Key(config.ID), ErrContainerExists)
	}
	u.pids[Key(config.ID)] = 0
	return nil, nil
}

func (u *posixUsage) Isolate(_ context.Context, id *mesos.ContainerID, pid int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.pids[Key(id)]; !ok {
		return fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
	}
	u.pids[Key(id)] = pid
	return nil
}

func (u *posixUsage) Watch(id *mesos.ContainerID) (<-chan Limitation, error) {
	_, err := u.pid(id)
	return nil, err
}

func (u *posixUsage) Update(_ context.Context, id *mesos.ContainerID, _ []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	_, err := u.pid(id)
	return err
}

func (u *posixUsage) Usage(_ context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error {
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

func (u *posixUsage) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	_, err := u.pid(id)
	return err
}

func (u *posixUsage) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.pids, Key(id))
	return nil
}

func (u *posixUsage) pid(id *mesos.ContainerID) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	pid, ok := u.pids[Key(id)]
	if !ok {
		return 0, fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
	}
	return pid, nil
}
