package cgroup

import (
	"math"
	"path/filepath"
	"strconv"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// What a CPU is worth (src/slave/containerizer/mesos/isolators/cgroups/constants.hpp,
// .../cgroups2/constants.hpp).
const (
	sharesPerCPU          = 1024
	sharesPerRevocableCPU = 10
	minShares             = 2
	maxShares             = 262144 // the kernel's

	weightPerCPU          = 100
	weightPerRevocableCPU = 1
	minWeight, maxWeight  = 1, 10000 // the kernel's

	periodMicros   = 100_000
	minQuotaMicros = 1_000
)

// ticksPerSecond is the unit of cpuacct.stat: USER_HZ, which is 100 on every architecture
// that Go runs on.
const ticksPerSecond = 100

// cpu is cgroups/cpu (.../cgroups/subsystems/cpu.cpp, cpuacct.cpp,
// .../cgroups2/controllers/cpu.cpp).
type cpu struct {
	nothing
	options *Options
	version int
}

func newCPU(s *Set) (controller, error) {
	return &cpu{options: &s.options, version: s.tree.Version("cpu")}, nil
}

func (u *cpu) update(c *container, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	request, _ := isolation.ScalarSum(resources, "cpus")
	low := u.options.RevocableLowPriority && revocable(resources, "cpus")
	// Nobody who has no limit gets one because he asked for nothing.
	quota, limited := limitOf(limits, "cpus")
	if !limited && u.options.EnableCFS && request > 0 {
		quota, limited = request, true
	}
	if u.version == 2 {
		weight := math.Floor(request * pick(low, weightPerRevocableCPU, weightPerCPU))
		if err := cgroups.Write(filepath.Join(c.dirs[0], "cpu.weight"), whole(min(max(weight, minWeight), maxWeight))); err != nil {
			return err
		}
		limit := "max"
		if limited && !math.IsInf(quota, 1) {
			limit = whole(quotaMicros(quota))
		}
		return cgroups.Write(filepath.Join(c.dirs[0], "cpu.max"), limit+" "+strconv.Itoa(periodMicros))
	}
	shares := math.Floor(request * pick(low, sharesPerRevocableCPU, sharesPerCPU))
	if err := cgroups.Write(filepath.Join(c.dirs[0], "cpu.shares"), whole(min(max(shares, minShares), maxShares))); err != nil {
		return err
	}
	// As Mesos does, a limit is only touched by one who has something to say about it.
	if !limited {
		return nil
	}
	if err := cgroups.Write(filepath.Join(c.dirs[0], "cpu.cfs_period_us"), strconv.Itoa(periodMicros)); err != nil {
		return err
	}
	limit := "-1"
	if !math.IsInf(quota, 1) {
		limit = whole(quotaMicros(quota))
	}
	return cgroups.Write(filepath.Join(c.dirs[0], "cpu.cfs_quota_us"), limit)
}

func quotaMicros(cpus float64) float64 {
	return max(math.Floor(cpus*periodMicros+0.5), minQuotaMicros)
}

func pick(yes bool, a, b float64) float64 {
	if yes {
		return a
	}
	return b
}

func whole(f float64) string { return strconv.FormatInt(int64(f), 10) }

func (u *cpu) usage(c *container, stats *mesos.ResourceStatistics) error {
	if err := cpuTimes(c.dirs[1], u.version, stats); err != nil {
		return err
	}
	if u.options.CountPIDsAndTIDs {
		processes, threads, err := cgroups.Count(c.dirs[0])
		if err != nil {
			return err
		}
		stats.Processes, stats.Threads = new(uint32(processes)), new(uint32(threads))
	}
	b, err := cgroups.Read(filepath.Join(c.dirs[0], "cpu.stat"))
	if err != nil {
		return err
	}
	cgroups.Keyed(b, func(key []byte, n uint64) {
		switch string(key) {
		case "nr_periods":
			stats.CpusNrPeriods = new(uint32(n))
		case "nr_throttled":
			stats.CpusNrThrottled = new(uint32(n))
		case "throttled_time": // v1
			stats.CpusThrottledTimeSecs = new(float64(n) / 1e9)
		case "throttled_usec": // v2
			stats.CpusThrottledTimeSecs = new(float64(n) / 1e6)
		}
	})
	if u.version == 1 && stats.GetCpusNrPeriods() == 0 {
		// Mesos shows them with CFS only; on v1 they are there, and zero, without.
		stats.CpusNrPeriods, stats.CpusNrThrottled, stats.CpusThrottledTimeSecs = nil, nil, nil
		if u.options.EnableCFS {
			stats.CpusNrPeriods, stats.CpusNrThrottled, stats.CpusThrottledTimeSecs = new(uint32(0)), new(uint32(0)), new(0.0)
		}
	}
	return nil
}

// cpuTimes adds the time that a cgroup has used.
func cpuTimes(dir string, version int, stats *mesos.ResourceStatistics) error {
	file := "cpuacct.stat"
	if version == 2 {
		file = "cpu.stat"
	}
	b, err := cgroups.Read(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	cgroups.Keyed(b, func(key []byte, n uint64) {
		switch string(key) {
		case "user":
			stats.CpusUserTimeSecs = new(float64(n) / ticksPerSecond)
		case "system":
			stats.CpusSystemTimeSecs = new(float64(n) / ticksPerSecond)
		case "user_usec":
			stats.CpusUserTimeSecs = new(float64(n) / 1e6)
		case "system_usec":
			stats.CpusSystemTimeSecs = new(float64(n) / 1e6)
		}
	})
	return nil
}

// limitOf is the limit of a resource, if it has one.
func limitOf(limits map[string]*mesos.Value_Scalar, name string) (limit float64, ok bool) {
	l, ok := limits[name]
	return l.GetValue(), ok
}

// revocable says whether some of a resource may be taken back at any time.
func revocable(resources []*mesos.Resource, name string) bool {
	for _, r := range resources {
		if r.GetName() == name && r.Revocable != nil {
			return true
		}
	}
	return false
}
