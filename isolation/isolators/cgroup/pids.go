package cgroup

import (
	"math"
	"path/filepath"
	"strconv"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// DefaultPidsMax is the bound on the tasks of a container: of what the kernel can have,
// 15 percent as systemd gives its units, but no more than 32768.
func DefaultPidsMax() int64 {
	most := uint64(32768 * 100 / 15)
	for _, file := range [...]string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		if n, err := cgroups.ReadUint(file); err == nil {
			most = min(most, n)
		}
	}
	return int64(most * 15 / 100)
}

// pids is cgroups/pids. Mesos only makes the cgroup; here a container has a bound too,
// which is its resource "pids" if it has one. A fork beyond that fails in the container.
type pids struct {
	nothing
	max int64
}

func newPids(s *Set) (controller, error) {
	p := &pids{max: s.options.PidsMax}
	if p.max == 0 {
		p.max = DefaultPidsMax()
	}
	return p, nil
}

func (p *pids) update(c *container, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	bound := float64(p.max)
	if n, ok := isolation.ScalarSum(resources, "pids"); ok {
		bound = n
	}
	if n, ok := limitOf(limits, "pids"); ok {
		bound = n
	}
	text := "max"
	if bound >= 0 && bound <= math.MaxInt32 {
		text = whole(max(bound, 1))
	}
	return cgroups.Write(filepath.Join(c.dirs[0], "pids.max"), text)
}

// usage adds the number of tasks, which the kernel calls pids, and which are threads.
func (p *pids) usage(c *container, stats *mesos.ResourceStatistics) error {
	n, err := cgroups.ReadUint(filepath.Join(c.dirs[0], "pids.current"))
	if err == nil && stats.Threads == nil {
		stats.Threads = new(uint32(min(n, math.MaxUint32)))
	}
	return err
}

func parseUint16(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 0, 16)
	return uint16(n), err
}
