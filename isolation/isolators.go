package isolation

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
)

// ErrUnknownIsolator says that --isolation names something that is not there.
var ErrUnknownIsolator = errors.New("unknown isolator")

// IsolatorOptions is what isolators need to know about the agent.
type IsolatorOptions struct {
	// WorkDir is the agent's work directory, where persistent volumes are.
	WorkDir string
}

// DefaultIsolation is what --isolation is when it is not given.
const DefaultIsolation = "posix/cpu,posix/mem"

// isolatorOrder is the order in which isolators prepare, whatever the order
// of their names (src/slave/containerizer/mesos/containerizer.cpp).
var isolatorOrder = []string{"filesystem/posix", "posix/cpu", "posix/mem"}

// NewIsolators makes the isolators that a value of --isolation names, and
// filesystem/posix when it names none for the file system.
func NewIsolators(isolation string, options IsolatorOptions) ([]Isolator, error) {
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(isolation, ",") {
		switch name = strings.TrimSpace(name); name {
		case "":
		case "process", "posix": // names from before there were several
			wanted["posix/cpu"], wanted["posix/mem"] = true, true
		default:
			if !slices.Contains(isolatorOrder, name) {
				return nil, fmt.Errorf("%w: %q (there are %s)", ErrUnknownIsolator, name, strings.Join(isolatorOrder, ", "))
			}
			wanted[name] = true
		}
	}
	wanted["filesystem/posix"] = true
	table := &sharedTable{}
	var isolators []Isolator
	for _, name := range isolatorOrder {
		if !wanted[name] {
			continue
		}
		switch name {
		case "filesystem/posix":
			isolators = append(isolators, newPosixFilesystem(options.WorkDir))
		case "posix/cpu":
			isolators = append(isolators, newPosixUsage(name, table, addCPU))
		case "posix/mem":
			isolators = append(isolators, newPosixUsage(name, table, addMem))
		}
	}
	return isolators, nil
}

// NewLauncher makes the launcher that a value of --launcher names; empty means
// the default one.
func NewLauncher(name, runtimeDir string, programs *Programs, log zerolog.Logger) (Launcher, error) {
	switch name {
	case "", "posix":
		return NewPosixLauncher(runtimeDir, programs, log)
	case "linux":
		return nil, fmt.Errorf("launcher %q: %w", name, ErrNotSupported)
	}
	return nil, fmt.Errorf("unknown launcher %q (there is posix)", name)
}

// addAllocation adds to stats what the container may use
// (src/slave/containerizer/mesos/containerizer.cpp, _usage).
func addAllocation(stats *mesos.ResourceStatistics, config *ContainerConfig) {
	if cpus, ok := scalarSum(config.Resources, "cpus"); ok {
		stats.CpusSoftLimit = new(cpus)
	}
	if limit, ok := config.Limits["cpus"]; ok {
		cpus := limit.GetValue()
		if math.IsInf(cpus, 1) {
			cpus = float64(runtime.NumCPU())
		}
		stats.CpusLimit = new(cpus)
	}
	mem, ok := scalarSum(config.Resources, "mem")
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

// scalarSum adds up a scalar resource over all roles, in thousandths as Mesos
// counts them.
func scalarSum(resources []*mesos.Resource, name string) (sum float64, found bool) {
	var milli int64
	for _, r := range resources {
		if r.GetName() == name && r.GetType() == mesos.Value_SCALAR {
			milli += int64(math.Round(r.GetScalar().GetValue() * 1000))
			found = true
		}
	}
	return float64(milli) / 1000, found
}

// pageSize is the unit of the resident set size.
var pageSize = uint64(os.Getpagesize())
