// Command allocator measures clusterd's allocator: the shapes of Mesos's own
// benchmarks (hierarchical_allocator_benchmarks.cpp, hierarchical_allocator_tests.cpp,
// sorter_tests.cpp and resources_tests.cpp in src/tests) with the same parameters,
// by direct calls of package allocator, beside Mesos's published figures and the
// project's targets.
//
// `make bench-allocator` runs the selection that has every figure with a
// published value or a target, in about five minutes; ARGS=-full the whole grid.
// Every shape checks what the allocator did, so that a benchmark which does
// nothing fails. Nobody imports it; it runs on one goroutine.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"clusterd/internal/bench/measure"
)

// shape is one of Mesos's benchmarks.
type shape struct {
	name string
	run  func(*runner) error
}

var shapes = []shape{
	{"DeclineOffers", declineOffers},
	{"Growth", growth},
	{"LargeAndSmallQuota", largeAndSmallQuota},
	{"NonQuotaVsQuota", nonQuotaVsQuota},
	{"MultiFrameworkAllocations", multiFrameworkAllocations},
	{"UpdateAllocation", updateAllocation},
	{"AddAndUpdateSlave", addAndUpdateSlave},
	{"AllocatorBacklog", allocatorBacklog},
	{"SuppressOffers", suppressOffers},
	{"ExtremeSuppressOffers", extremeSuppressOffers},
	{"ResourceLabels", resourceLabels},
	{"PersistentVolumes", persistentVolumes},
	{"FullSort", fullSort},
	{"HierarchyFullSort", hierarchyFullSort},
	{"Resources", resourcesShapes},
}

// scale says how much of the parameters is run.
type scale int

const (
	standard scale = iota
	full
	tiny // for the test of this program
)

// runner holds the settings and collects the figures.
type runner struct {
	scale    scale
	rounds   int             // of allocation, where Mesos's number depends on the frameworks
	only     *size           // of the grid
	loops    []time.Duration // what the fixed loop took
	figures  []figure
	progress io.Writer
}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench-allocator:", err)
		os.Exit(1)
	}
}

func run(args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench-allocator", flag.ContinueOnError)
	all := fs.Bool("full", false, "run the whole grid of parameters; takes long")
	only := fs.String("only", "", "comma list of benchmarks: "+shapeNames())
	brief := fs.Bool("brief", false, "print only what has a published figure or a target")
	markdown := fs.Bool("markdown", false, "print markdown")
	profile := fs.String("cpuprofile", "", "write a CPU profile to this file")
	cpu := fs.Bool("cpu", false, "measure processor time of the allocator's thread, for busy machines")
	r := &runner{progress: progress}
	fs.IntVar(&r.rounds, "rounds", 20, "rounds of DeclineOffers and ResourceLabels; 0: as many as Mesos, twice the frameworks")
	fs.Func("size", "run only this cell of the grid, such as 10000x1000 (agents x frameworks)", func(text string) error {
		r.only = &size{}
		_, err := fmt.Sscanf(text, "%dx%d", &r.only.agents, &r.only.frameworks)
		return err
	})
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *all {
		r.scale = full
	}
	selected, err := selection(*only)
	if err != nil {
		return err
	}
	clock := "wall-clock time"
	if *cpu {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		stamp, clock = threadClock, "processor time"
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	start := time.Now()
	failure := r.runAll(selected)
	fmt.Fprintf(out, "%s, %d cores, %s, %s; %s; load %s when done, %.0f s in all; a fixed loop took %s to %s\n\n",
		measure.CPUModel(), runtime.NumCPU(), runtime.Version(), start.UTC().Format("2006-01-02"), clock, load(),
		time.Since(start).Seconds(), duration(slices.Min(r.loops)), duration(slices.Max(r.loops)))
	if *brief {
		r.figures = slices.DeleteFunc(r.figures, func(f figure) bool {
			_, ok := references[key{f.bench, f.params, f.what}]
			return !ok
		})
	}
	if err := printFigures(out, r.figures, *markdown); err != nil {
		return err
	}
	return failure
}

// runAll runs the shapes; one that fails does not keep the others from running.
func (r *runner) runAll(selected []shape) error {
	var failures []error
	for _, s := range selected {
		fmt.Fprintf(r.progress, "%s ...\n", s.name)
		runtime.GC()
		r.loops = append(r.loops, fixedLoop())
		if err := s.run(r); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			fmt.Fprintln(r.progress, "FAILED:", err)
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func selection(only string) ([]shape, error) {
	if only == "" {
		return shapes, nil
	}
	var out []shape
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(shapes, func(s shape) bool { return strings.EqualFold(s.name, name) })
		if i < 0 {
			return nil, fmt.Errorf("no benchmark %q; there are %s", name, shapeNames())
		}
		out = append(out, shapes[i])
	}
	return out, nil
}

func shapeNames() string {
	var names []string
	for _, s := range shapes {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// fixedLoop is work of which the time says how fast the machine is just now: where
// it varies by much between benchmarks, others are at work on the same cores.
func fixedLoop() time.Duration {
	const words = 1 << 20
	next := make([]uint32, words) // a walk of the memory, as the allocator's is
	for i := range next {
		next[i] = uint32((i*1664525 + 1013904223) % words)
	}
	at := uint32(0)
	return clocked(func() {
		for range 2 * words {
			at = next[at]
		}
		next[0] = at
	})
}

// load is the load average of the last minute, since figures of a busy machine
// are not worth keeping.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
