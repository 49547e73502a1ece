package executorlink

import (
	"errors"
	"math"
	"strconv"
	"syscall"
	"time"
)

var errDuration = errors.New("malformed duration")

// durationUnits are Mesos's (3rdparty/stout/include/stout/duration.hpp).
var durationUnits = [...]struct {
	name string
	unit time.Duration
}{
	{"ns", time.Nanosecond},
	{"us", time.Microsecond},
	{"ms", time.Millisecond},
	{"secs", time.Second},
	{"mins", time.Minute},
	{"hrs", time.Hour},
	{"days", 24 * time.Hour},
	{"weeks", 7 * 24 * time.Hour},
}

// ParseDuration parses durations as the agent writes them into the
// environment: "1.5mins".
func ParseDuration(s string) (time.Duration, error) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	n, err := strconv.ParseFloat(s[:i], 64)
	if err != nil {
		return 0, errDuration
	}
	for _, u := range durationUnits {
		if s[i:] == u.name {
			return clamp(n * float64(u.unit)), nil
		}
	}
	return 0, errDuration
}

// clamp makes a duration of nanoseconds in floating point.
func clamp(ns float64) time.Duration {
	switch {
	case math.IsNaN(ns) || ns <= 0:
		return 0
	case ns >= math.MaxInt64:
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// Seconds makes a duration of seconds.
func Seconds(s float64) time.Duration { return clamp(s * 1e9) }

// Describe says how a process ended, in Mesos's words
// (src/common/status_utils.hpp).
func Describe(ws syscall.WaitStatus) string {
	switch {
	case ws.Exited():
		return "exited with status " + strconv.Itoa(ws.ExitStatus())
	case ws.Signaled():
		text := "terminated with signal " + signalName(ws.Signal())
		if ws.CoreDump() {
			text += " (core dumped)"
		}
		return text
	}
	return "wait status " + strconv.Itoa(int(ws))
}

// signalNames is what strsignal(3) of the C library says, which ends up in the
// message of a task's last status.
var signalNames = [...]string{
	1: "Hangup", 2: "Interrupt", 3: "Quit", 4: "Illegal instruction", 5: "Trace/breakpoint trap",
	6: "Aborted", 7: "Bus error", 8: "Floating point exception", 9: "Killed", 10: "User defined signal 1",
	11: "Segmentation fault", 12: "User defined signal 2", 13: "Broken pipe", 14: "Alarm clock",
	15: "Terminated", 16: "Stack fault", 17: "Child exited", 18: "Continued", 19: "Stopped (signal)",
	20: "Stopped", 21: "Stopped (tty input)", 22: "Stopped (tty output)", 23: "Urgent I/O condition",
	24: "CPU time limit exceeded", 25: "File size limit exceeded", 26: "Virtual timer expired",
	27: "Profiling timer expired", 28: "Window changed", 29: "I/O possible", 30: "Power failure",
	31: "Bad system call",
}

func signalName(sig syscall.Signal) string {
	n := int(sig)
	switch {
	case n > 0 && n < len(signalNames):
		return signalNames[n]
	case n >= 34 && n <= 64:
		return "Real-time signal " + strconv.Itoa(n-34)
	}
	return "Unknown signal " + strconv.Itoa(n)
}

// TextError is an error that needs no package to make.
type TextError string

func (e TextError) Error() string { return string(e) }
