// Command ha measures what high availability costs and how fast it is, and prints a
// table beside the targets: how soon the next leader takes calls after the first was
// killed, how fast agents with their tasks come back to it, what a follower needs,
// and what the registry writes in a second. The masters are real processes, the agents
// are emulated ones on real sockets, the disks are the machine's.
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
	dir      string
	rounds   int // of failover
	agents   int // that come back with 5 tasks each; a tenth of them with 100
	registry int // agents in the registry
	jitter   time.Duration
	keep     bool // the logs of a section that failed
	progress io.Writer
}

var sections = []section{
	{"failover", benchFailover},
	{"reregister", benchReregister},
	{"registry", benchRegistry},
	{"follower", benchFollower},
}

// spareFiles is how many files a process with many links needs beside them.
const spareFiles = 500

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-ha:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench-ha", flag.ContinueOnError)
	clusterd := fs.String("clusterd", "", "binary to measure; built from the repository if empty")
	only := fs.String("only", "", "comma list of sections: "+sectionNames())
	dir := fs.String("dir", "", "where work directories are made; the system's place for temporary files if empty")
	s := &settings{progress: progress}
	fs.IntVar(&s.rounds, "rounds", 20, "kills of a leader")
	fs.IntVar(&s.agents, "agents", 20000, "emulated agents with 5 tasks each; a tenth of them with 100 each")
	fs.IntVar(&s.registry, "registry", 50000, "agents in the registry")
	fs.DurationVar(&s.jitter, "jitter", time.Second, "bound of the agents' first random wait, as --registration_backoff_factor")
	fs.BoolVar(&s.keep, "logs", false, "print the masters' logs when a section fails")
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
	files, err := measure.AllowFiles(uint64(s.agents) + spareFiles)
	if err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if most := int(files) - spareFiles; s.agents > most {
		fmt.Fprintf(progress, "this machine allows %d open files: %d agents instead of %d\n", files, most, s.agents)
		s.agents = most
	}
	base, err := os.MkdirTemp(*dir, "ha")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	var rows []measure.Row
	for _, sec := range sections {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), sec.name) {
			continue
		}
		fmt.Fprintf(progress, "measuring %s ...\n", sec.name)
		s.dir = filepath.Join(base, sec.name)
		if err := os.Mkdir(s.dir, 0o755); err != nil {
			return err
		}
		r, err := sec.run(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", sec.name, err)
		}
		rows = append(rows, r...)
	}
	return measure.Print(out, rows)
}

func sectionNames() string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// rate renders how many of something were done in a second.
func rate(n int, took time.Duration) string { return fmt.Sprintf("%.0f/s", float64(n)/took.Seconds()) }
