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
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one line of the table.
type row struct {
	what   string
	value  string
	target string // empty: none set
	note   string
}

// section measures one thing.
type section struct {
	name string
	run  func(ctx context.Context, s *settings) ([]row, error)
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

	var rows []row
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
	fmt.Printf("%s, %d cores, %s, %s\n\n", cpuModel(), runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format("2006-01-02"))
	return printTable(os.Stdout, rows)
}

func sectionNames() string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

func printTable(w io.Writer, rows []row) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tmeasured\ttarget\tnote")
	fmt.Fprintln(tw, "----\t--------\t------\t----")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.what, r.value, r.target, r.note)
	}
	return tw.Flush()
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown cpu"
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimLeft(strings.TrimSpace(name), ": ")
		}
	}
	return "unknown cpu"
}

// quantiles renders p50, p99 and the maximum of samples.
func quantiles(samples []time.Duration) string {
	slices.Sort(samples)
	q := func(p float64) time.Duration { return samples[min(int(p*float64(len(samples))), len(samples)-1)] }
	return fmt.Sprintf("p50 %s, p99 %s, max %s", ms(q(0.50)), ms(q(0.99)), ms(samples[len(samples)-1]))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// benchBare is the floor: what the machine does without clusterd.
func benchBare(ctx context.Context, _ *settings) ([]row, error) {
	const n = 300
	start := time.Now()
	for range n {
		if err := exec.CommandContext(ctx, "/bin/true").Run(); err != nil {
			return nil, err
		}
	}
	return []row{{
		what: "fork, exec and wait of true, from Go", value: fmt.Sprintf("%.0f/s", n/time.Since(start).Seconds()),
		note: "the floor of this machine, one at a time",
	}}, nil
}
