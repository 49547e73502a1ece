package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// figure is one line of the table: how long something took, or how much it was.
type figure struct {
	bench   string
	params  string
	what    string
	samples []time.Duration
	value   float64 // where there are no samples
	unit    string
	note    string
}

func (f *figure) timed() bool { return len(f.samples) > 0 }

// number returns the figure's value: the median of its samples, in seconds.
func (f *figure) number() float64 {
	if !f.timed() {
		return f.value
	}
	return median(f.samples).Seconds()
}

func median(samples []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(samples))[len(samples)/2]
}

// add notes a duration for each of several repetitions.
func (r *runner) add(bench, params, what string, samples []time.Duration, note string) {
	r.figures = append(r.figures, figure{bench: bench, params: params, what: what, samples: samples, note: note})
}

// count notes something that is not a duration.
func (r *runner) count(bench, params, what string, value float64, unit, note string) {
	r.figures = append(r.figures, figure{bench: bench, params: params, what: what, value: value, unit: unit, note: note})
}

// timed runs f and says how long it took. The garbage of what came before is
// collected first: that of f, as far as it is collected while f runs, counts.
func timed(f func()) time.Duration {
	runtime.GC()
	return clocked(f)
}

// clocked is timed without collecting garbage.
func clocked(f func()) time.Duration {
	start := stamp()
	f()
	return stamp() - start
}

// stamp reads the clock that figures are taken with.
var stamp = wallClock

var started = time.Now()

func wallClock() time.Duration { return time.Since(started) }

// threadClock is the processor time of this thread: what remains comparable on a
// busy machine, though without the part of the collector on other threads.
func threadClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(fmt.Sprintf("thread clock: %v", err))
	}
	return time.Duration(t.Nano())
}

// header of the table.
var header = []string{"benchmark", "parameters", "what", "min", "median", "max", "Mesos", "faster by", "target", "", "note"}

func (f *figure) cells() []string {
	ref := references[key{f.bench, f.params, f.what}]
	least, middle, most := "", amount(f.value)+f.unit, ""
	if f.timed() {
		middle = duration(median(f.samples))
		if len(f.samples) > 1 {
			least, most = duration(slices.Min(f.samples)), duration(slices.Max(f.samples))
		}
	}
	faster := ""
	if f.timed() && ref.mesosTime > 0 && f.number() > 0 {
		faster = amount(ref.mesosTime.Seconds()/f.number()) + "x"
	}
	return []string{f.bench, f.params, f.what, least, middle, most, ref.mesos, faster, ref.targetText(), ref.verdict(f), f.note}
}

// printFigures prints the table, leaving out what the lines above say already.
func printFigures(w io.Writer, figures []figure, markdown bool) error {
	var rows [][]string
	missed := 0
	for i := range figures {
		row := figures[i].cells()
		if row[9] == notMet {
			missed++
		}
		rows = append(rows, row)
	}
	if markdown {
		return printMarkdown(w, rows, missed)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header, "\t"))
	for i, row := range rows {
		show := slices.Clone(row)
		if i > 0 && rows[i-1][0] == row[0] {
			show[0] = ""
			if rows[i-1][1] == row[1] {
				show[1] = ""
			}
		}
		fmt.Fprintln(tw, strings.Join(show, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\ntargets not met: %d\n", missed)
	return err
}

func printMarkdown(w io.Writer, rows [][]string, missed int) error {
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	_, err := fmt.Fprintf(w, "\nTargets not met: %d.\n", missed)
	return err
}

// duration prints three digits at most.
func duration(d time.Duration) string {
	switch {
	case d >= time.Second:
		return amount(d.Seconds()) + " s"
	case d >= time.Millisecond:
		return amount(float64(d)/1e6) + " ms"
	case d >= time.Microsecond:
		return amount(float64(d)/1e3) + " us"
	}
	return strconv.FormatInt(d.Nanoseconds(), 10) + " ns"
}

// amount prints a number to three digits, whole numbers with thousands apart.
func amount(v float64) string {
	switch {
	case v == float64(int64(v)) || v >= 100:
		return thousands(int64(v + 0.5))
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
