// Package measure is what the benchmark programs share: the machine's name, what a
// process has used, and the table of figures beside their targets.
//
// It is imported by the programs below internal/bench only.
package measure

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// Row is one line of the table.
type Row struct {
	What, Value, Target, Note string
}

// Print writes the table, below the name of the machine.
func Print(w io.Writer, rows []Row) error {
	fmt.Fprintf(w, "%s\n\n", Machine())
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tmeasured\ttarget\tnote")
	fmt.Fprintln(tw, "----\t--------\t------\t----")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.What, r.Value, r.Target, r.Note)
	}
	return tw.Flush()
}

// Machine names the machine, the version of Go and the day.
func Machine() string {
	return fmt.Sprintf("%s, %d cores, %s, %s", CPUModel(), runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format("2006-01-02"))
}

// CPUModel names the processor.
func CPUModel() string {
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

// Quantiles renders p50, p99 and the maximum of samples, which it sorts.
func Quantiles(samples []time.Duration, render func(time.Duration) string) string {
	slices.Sort(samples)
	q := func(p float64) string { return render(samples[min(int(p*float64(len(samples))), len(samples)-1)]) }
	return fmt.Sprintf("p50 %s, p99 %s, max %s", q(0.50), q(0.99), q(1))
}

// CPUTime is what a process, without its children, has used of the processors.
func CPUTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name in parentheses: utime and stime are fields 14 and 15, in
	// hundredths of a second.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// RSS is the resident memory of a process in bytes.
func RSS(pid int) (float64, error) { return memory(pid, "VmRSS:") }

// PeakRSS is the most memory of a process that ever was resident, in bytes.
func PeakRSS(pid int) (float64, error) { return memory(pid, "VmHWM:") }

func memory(pid int, name string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s of process %d", name, pid)
}

// AllowFiles lets this process, and those that it starts, open so many files, or as many
// as the machine allows, and returns how many that are.
func AllowFiles(want uint64) (uint64, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	l.Cur = want
	if want <= l.Max {
		l.Cur = l.Max
	} else if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: want, Max: want}); err != nil {
		l.Cur = l.Max // more is for root alone, and not always
	} else {
		return want, nil
	}
	return l.Cur, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
