// Command api measures what those who read a large cluster wait for, and what they cost
// it: the operator API, the endpoints that tools read, metrics, and the event stream. It
// prints a table beside the targets. The master is a real process of its own; agents are
// emulated ones on real sockets, and clients share the other process with them.
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
	// asked sections are measured when they are named only.
	asked bool
}

// settings are the command line.
type settings struct {
	dir         string
	agents      int
	tasks       int // that run; as many have ended
	frameworks  int // that they belong to
	clients     int // that poll at once
	subscribers int
	rate        int // updates a second
	labels      int // of a task
	many        int // frameworks whose metrics are asked for
	samples     int // of one client
	length      time.Duration
	keep        bool // the master's log when a section failed
	progress    io.Writer

	world *world // the large cluster, once there is one
}

var sections = []section{
	{name: "state", run: benchState},
	{name: "tasks", run: benchTasks},
	{name: "metrics", run: benchMetrics},
	{name: "responsive", run: benchResponsive},
	{name: "memory", run: benchMemory},
	{name: "manymetrics", run: benchManyMetrics},
	{name: "ui", run: benchUI, asked: true},
	{name: "cli", run: benchCLI},
	{name: "events", run: benchEvents},
}

// spareFiles is how many files a process with many links needs beside them.
const spareFiles = 3000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-api:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	fs := flag.NewFlagSet("bench-api", flag.ContinueOnError)
	clusterd := fs.String("clusterd", "", "binary to measure; built from the repository if empty")
	only := fs.String("only", "", "comma list of sections: "+sectionNames())
	dir := fs.String("dir", "", "where work directories are made; the system's place for temporary files if empty")
	s := &settings{progress: progress}
	fs.IntVar(&s.agents, "agents", 10000, "emulated agents")
	fs.IntVar(&s.tasks, "tasks", 100000, "running tasks, and as many that have ended")
	fs.IntVar(&s.frameworks, "frameworks", 100, "frameworks that have the tasks; each remembers 1,000 that have ended")
	fs.IntVar(&s.labels, "labels", 10, "labels of each task")
	fs.IntVar(&s.clients, "clients", 20, "clients that poll at once")
	fs.IntVar(&s.subscribers, "subscribers", 1000, "event streams; of a cluster of a tenth")
	fs.IntVar(&s.rate, "rate", 5000, "task updates a second for the event streams")
	fs.IntVar(&s.many, "many", 10000, "frameworks of the cluster whose metrics are asked for; a tenth of them completed")
	fs.IntVar(&s.samples, "samples", 20, "requests of one client; ten times as many of small ones")
	fs.DurationVar(&s.length, "length", 10*time.Second, "how long many clients go on, and events")
	fs.BoolVar(&s.keep, "logs", false, "print the master's log when a section fails")
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
	if err := s.allowFiles(); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(*dir, "api"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	defer func() { s.world.stop(err) }()
	var rows []measure.Row
	for _, sec := range sections {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), sec.name) || *only == "" && sec.asked {
			continue
		}
		fmt.Fprintf(progress, "measuring %s ...\n", sec.name)
		r, err := sec.run(ctx, s)
		rows = append(rows, r...)
		if err != nil {
			return fmt.Errorf("%s: %w", sec.name, err)
		}
	}
	return measure.Print(out, rows)
}

// allowFiles lets as many agents be linked as the machine allows.
func (s *settings) allowFiles() error {
	files, err := measure.AllowFiles(uint64(s.agents) + spareFiles)
	if err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if most := int(files) - spareFiles; s.agents > most {
		fmt.Fprintf(s.progress, "this machine allows %d open files: %d agents instead of %d\n", files, most, s.agents)
		s.agents = most
	}
	return nil
}

// large is the cluster that most sections share; the first one makes it.
func (s *settings) large(ctx context.Context) (*world, error) {
	if s.world != nil {
		return s.world, nil
	}
	w, err := create(ctx, s, shape{name: "large", agents: s.agents, frameworks: s.frameworks, running: s.tasks, ended: s.tasks})
	s.world = w
	return w, err
}

func sectionNames() string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// ms renders milliseconds, of short durations more digits.
func ms(d time.Duration) string {
	switch m := float64(d) / float64(time.Millisecond); {
	case m < 10:
		return fmt.Sprintf("%.2f ms", m)
	case m < 100:
		return fmt.Sprintf("%.1f ms", m)
	default:
		return fmt.Sprintf("%.0f ms", m)
	}
}

func megabytes(n float64) string { return fmt.Sprintf("%.1f MB", n/1e6) }
