// Command agent measures what containers cost on one agent, and prints a table beside
// the targets: a thousand of them launched and destroyed, over the agent's API and as
// tasks, with an image and without; the memory of our own processes; how fast many are
// read. Master and agent are real processes with the linux launcher, so it needs root.
//
// What has no processes around it is measured by Go's own benchmarks, which make
// bench-agent runs as well: the steps of a launch (isolation/setup), the pull of an image
// (isolation/images), a hit of the fetcher's cache (agent/fetcher).
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
	"time"

	"clusterd/internal/bench/measure"
)

// settings are the command line.
type settings struct {
	dir string
	// runtimeDir is for what daemons need not find again after a reboot.
	runtimeDir string
	number     int // of containers
	reads      int // containers that are read, and how often
	samples    int
	parallel   int
	only       string // the one section to measure; empty: all
	progress   io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("bench-agent", flag.ContinueOnError)
	clusterd := fs.String("clusterd", "", "binary to measure; built from the repository if empty")
	s := &settings{progress: progress}
	fs.IntVar(&s.number, "containers", 1000, "containers to launch and destroy")
	fs.IntVar(&s.reads, "read", 500, "tasks that run while the agent is read")
	fs.IntVar(&s.samples, "samples", 20, "samples of each read")
	fs.IntVar(&s.parallel, "parallel", 32, "calls that are under way at one time")
	fs.StringVar(&s.only, "only", "", "measure this section alone: containers, images or tasks")
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
	var err error
	if s.dir, err = os.MkdirTemp("", "ba"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if s.runtimeDir, err = memoryDir(s.dir); err != nil {
		return err
	}
	defer os.RemoveAll(s.runtimeDir)
	var rows []measure.Row
	for _, section := range []struct {
		name string
		run  func(ctx context.Context, s *settings) ([]measure.Row, error)
	}{
		{"containers", benchContainers},
		{"images", benchImages},
		{"tasks", benchTasks},
	} {
		if s.only != "" && s.only != section.name {
			continue
		}
		fmt.Fprintf(progress, "measuring %s ...\n", section.name)
		r, err := section.run(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", section.name, err)
		}
		rows = append(rows, r...)
	}
	return measure.Print(out, rows)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
