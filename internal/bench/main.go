// Command bench measures clusterd and prints a table of figures beside their
// targets (design, section 8): latencies and throughput of a real master and a
// real agent, the wire codecs, and the master's memory under emulated agents.
//
// Figures depend on the machine, which is named above the table; compare only
// within one run.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"clusterd/internal/bench/measure"
)

// section measures one thing.
type section struct {
	name string
	run  func(ctx context.Context, s *settings) ([]measure.Row, error)
}

// settings are the command line.
type settings struct {
	dir      string // for work directories
	runtime  string // for runtime directories
	agents   int    // emulated
	tasks    int    // on emulated agents
	samples  int
	progress io.Writer
}

var sections = []section{
	{"codec", benchCodec},
	{"bare", benchBare},
	{"latency", benchLatency},
	{"throughput", benchThroughput},
	{"offers", benchOffers},
	{"memory", benchMemory},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	clusterd := fs.String("clusterd", "", "binary to measure; built from the repository if empty")
	only := fs.String("only", "", "comma list of sections: "+sectionNames())
	s := &settings{progress: os.Stderr}
	fs.IntVar(&s.agents, "agents", 10000, "emulated agents")
	fs.IntVar(&s.tasks, "tasks", 20000, "tasks on the emulated agents")
	fs.IntVar(&s.samples, "samples", 100, "samples of each latency")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *clusterd != "" {
		path, err := filepath.Abs(*clusterd)
		if err != nil {
			return err
		}
		if err := os.Setenv("CLUSTERD", path); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "cb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	// As on a real machine, where the default lies in /var/run: in memory.
	if s.runtime, err = os.MkdirTemp("/dev/shm", "cb"); err != nil {
		return err
	}
	defer os.RemoveAll(s.runtime)

	var rows []measure.Row
	for _, sec := range sections {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), sec.name) {
			continue
		}
		fmt.Fprintf(s.progress, "measuring %s ...\n", sec.name)
		s.dir = filepath.Join(dir, sec.name)
		if err := os.Mkdir(s.dir, 0o755); err != nil {
			return err
		}
		r, err := sec.run(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", sec.name, err)
		}
		rows = append(rows, r...)
	}
	return measure.Print(os.Stdout, rows)
}

func sectionNames() string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// benchBare is the floor: what the machine does without clusterd.
func benchBare(ctx context.Context, _ *settings) ([]measure.Row, error) {
	const n = 300
	start := time.Now()
	for range n {
		if err := exec.CommandContext(ctx, "/bin/true").Run(); err != nil {
			return nil, err
		}
	}
	return []measure.Row{{
		What: "fork, exec and wait of true, from Go", Value: fmt.Sprintf("%.0f/s", n/time.Since(start).Seconds()),
		Note: "the floor of this machine, one at a time",
	}}, nil
}
