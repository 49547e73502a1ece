package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain gives the collector less to do: worlds are short-lived.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

var (
	oneSeed   = flag.Uint64("seed", 0, "run this seed only; with -v its trace is printed")
	seeds     = flag.Int("seeds", 40, "how many seeds TestSim runs")
	firstSeed = flag.Uint64("first", 1, "the first seed of TestSim")
	lines     = flag.Int("lines", 150, "how many of the last events are shown")
	only      = flag.String("only", "", "print trace lines with this text only")
)

// TestSim runs worlds and wants every invariant to hold.
func TestSim(t *testing.T) {
	if *oneSeed != 0 {
		replay(t, *oneSeed)
		return
	}
	began := time.Now()
	results := runSeeds(t, *firstSeed, *seeds)
	var steps, leaders, tasks int
	faults := map[string]int{}
	for _, r := range results {
		steps, leaders, tasks = steps+r.Steps, leaders+r.Leaders, tasks+r.Tasks
		for k, n := range r.Faults {
			faults[k] += n
		}
	}
	took := time.Since(began)
	t.Logf("%d seeds in %s, %s each: %d inputs of cores, %d leaderships, %d tasks", len(results), took.Round(time.Millisecond),
		(took / time.Duration(max(1, len(results)))).Round(time.Millisecond), steps, leaders, tasks)
	var kinds []string
	for k, n := range faults {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	sort.Strings(kinds)
	t.Logf("faults: %s", strings.Join(kinds, ", "))
}

// runSeeds runs seeds side by side and replays the first that fails.
func runSeeds(t *testing.T, first uint64, n int) []Result {
	t.Helper()
	results := make([]Result, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				results[i] = Run(NewConfig(first + uint64(i)))
			}
		})
	}
	wg.Wait()
	failed := 0
	for _, r := range results {
		if r.Violation == nil {
			continue
		}
		if failed++; failed == 1 {
			replay(t, r.Seed)
		} else {
			t.Error(r.Violation)
		}
	}
	return results
}

// replay runs a seed with a trace.
func replay(t *testing.T, seed uint64) {
	t.Helper()
	cfg := NewConfig(seed)
	verbose := testing.Verbose() && *oneSeed != 0
	cfg.Print = func(line string) {
		if verbose && (*only == "" || strings.Contains(line, *only)) {
			fmt.Println(line)
		}
	}
	r := Run(cfg)
	if r.Violation == nil {
		t.Logf("seed %d: no violation; %d inputs, %d leaderships, %d tasks", seed, r.Steps, r.Leaders, r.Tasks)
		return
	}
	last := r.Violation.Last
	if len(last) > *lines {
		last = last[len(last)-*lines:]
	}
	if !verbose {
		t.Logf("the last events:\n%s", strings.Join(last, "\n"))
	}
	t.Error(r.Violation)
}

// TestFound runs the seeds that have found something.
func TestFound(t *testing.T) {
	for _, seed := range []uint64{
		467,   // operations of two leaderships had one UUID
		10740, // a write went to the disk of a machine that had lost it
		10741, // agents were told of a teardown that was lost with the leader
		1590,  // what a framework used was given away before its end was sure
	} {
		if v := Run(NewConfig(seed)).Violation; v != nil {
			t.Error(v)
		}
	}
}

// TestSame: a seed gives the same run each time.
func TestSame(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		a, b := Run(NewConfig(seed)), Run(NewConfig(seed))
		if a.Hash != b.Hash || a.Steps != b.Steps {
			t.Errorf("seed %d: %d steps and hash %x, then %d steps and hash %x", seed, a.Steps, a.Hash, b.Steps, b.Hash)
		}
	}
}
