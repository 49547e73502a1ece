package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"clusterd/internal/bench/measure"
	"clusterd/internal/testcluster"
)

// commands are what people type at a large cluster; %s is a task of it.
var commands = []struct {
	args   []string
	target string
}{
	{args: []string{"task", "list"}},
	{args: []string{"task", "list", "-o", "name"}},
	{args: []string{"task", "list", "--sort-by=-cpus", "--filter", "framework=framework7"}},
	{args: []string{"task", "list", "-o", "json"}},
	{args: []string{"task", "list", "-o", "yaml"}},
	{args: []string{"task", "list", "-o", "json", "--filter", "framework=framework7"}},
	{args: []string{"task", "show", "TASK"}},
	{args: []string{"task", "show", "no-such-task"}},
	{args: []string{"agent", "list"}},
	{args: []string{"agent", "show", "AGENT"}},
	{args: []string{"framework", "list"}},
	{args: []string{"__complete", "bash", "task", "kill", "service-04"}, target: "< 0.3 s"},
	{args: []string{"__complete", "bash", "task", "kill", ""}, target: "< 0.3 s"},
	{args: []string{"__complete", "bash", "agent", "drain", "emulated-1"}, target: "< 0.3 s"},
	{args: []string{"__complete", "bash", "framework", "show", ""}, target: "< 0.3 s"},
}

// benchCLI measures commands from their start to their end, each in a process of its own.
func benchCLI(ctx context.Context, s *settings) ([]measure.Row, error) {
	w, err := s.large(ctx)
	if err != nil {
		return nil, err
	}
	binary, err := testcluster.Binary()
	if err != nil {
		return nil, err
	}
	task := w.taskID(s.tasks/2, 0).GetValue()[:len("service-000000.5f0b")]
	var rows []measure.Row
	for _, c := range commands {
		row := measure.Row{What: "clusterd", Target: c.target}
		args := make([]string, len(c.args))
		for i, a := range c.args {
			args[i] = a
			switch a {
			case "TASK":
				args[i] = task
			case "AGENT":
				args[i] = "emulated-7"
			}
			row.What += " " + a
			if a == "" {
				row.What += "''"
			}
		}
		var took []time.Duration
		var size float64
		var cpu time.Duration
		for range max(s.samples/4, 1) {
			d, used, out, err := w.command(ctx, s, binary, args)
			if err != nil {
				return rows, err
			}
			took, cpu, size = append(took, d), cpu+used, float64(out)
		}
		row.Value = measure.Quantiles(took, ms)
		row.Note = fmt.Sprintf("%s written, %s of a processor", megabytes(size), ms(cpu/time.Duration(len(took))))
		rows = append(rows, row)
		fmt.Fprintf(s.progress, "%s: %s\n", row.What, row.Value)
	}
	return rows, nil
}

// command runs a command of the binary. Codes other than 0 are as good: nothing fits, or who
// completes gives up.
func (w *world) command(ctx context.Context, s *settings, binary string, args []string) (took, cpu time.Duration, written int, err error) {
	cache := filepath.Join(s.dir, "cache")
	if err := os.RemoveAll(cache); err != nil { // every time as if for the first time
		return 0, 0, 0, err
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "CLUSTERD_MASTER="+w.c.Master.Addr, "XDG_CACHE_HOME="+cache, "XDG_CONFIG_HOME="+cache)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	begin := time.Now()
	if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != 3 {
		return 0, 0, 0, fmt.Errorf("clusterd %v: %w\n%s", args, err, &errOut)
	}
	return time.Since(begin), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), out.Len(), nil
}
