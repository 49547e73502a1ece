package isolation

import (
	"math"
	"runtime"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
)

// addAllocation adds to stats what the container may use
// (src/slave/containerizer/mesos/containerizer.cpp, _usage).
func addAllocation(stats *mesos.ResourceStatistics, config *ContainerConfig) {
	if cpus, ok := ScalarSum(config.Resources, "cpus"); ok {
		stats.CpusSoftLimit = new(cpus)
	}
	if limit, ok := config.Limits["cpus"]; ok {
		cpus := limit.GetValue()
		if math.IsInf(cpus, 1) {
			cpus = float64(runtime.NumCPU())
		}
		stats.CpusLimit = new(cpus)
	}
	mem, ok := ScalarSum(config.Resources, "mem")
	if ok {
		stats.MemSoftLimitBytes = new(megabytes(mem))
		stats.MemLimitBytes = new(megabytes(mem))
	}
	if limit, ok := config.Limits["mem"]; ok {
		bytes := megabytes(limit.GetValue())
		if math.IsInf(limit.GetValue(), 1) {
			bytes = totalMemory()
		}
		stats.MemLimitBytes = new(bytes)
	}
}

func megabytes(mb float64) uint64 {
	if math.IsNaN(mb) || math.IsInf(mb, 0) || mb < 0 {
		return 0
	}
	return uint64(mb * (1 << 20))
}

func totalMemory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}

// ScalarSum adds up a scalar resource over all roles, in thousandths as Mesos
// counts them.
func ScalarSum(resources []*mesos.Resource, name string) (sum float64, found bool) {
	var milli int64
	for _, r := range resources {
		if r.GetName() == name && r.GetType() == mesos.Value_SCALAR {
			milli += int64(math.Round(r.GetScalar().GetValue() * 1000))
			found = true
		}
	}
	return float64(milli) / 1000, found
}
