package commandexecutor

import (
	"bufio"
	"context"
	"encoding/base64"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"clusterd/agent/checks"
	"clusterd/agent/executorlink/wire"
	"clusterd/isolation/supervisor"
)

// reports are what a task tells that only stands for one that runs elsewhere
// (supervisor.TaskReportsVariable).
type reports struct {
	// open says that more may come; ended is the task's end meanwhile, which counts
	// when all was read.
	open  bool
	ended *syscall.WaitStatus
	// running says that the task has begun, at addresses.
	running   bool
	addresses []string
	network   *os.File
	// data goes with the news that it runs.
	data []byte
	// failed and oom are why it ended.
	failed, oom string
}

// maxReport bounds a line: what an engine knows of a container grows with its environment.
const maxReport = 8 << 20

// inputs of reports.
type (
	report     string
	reportsEnd struct{}
)

// asked says whether the task is to report.
func asked(env []string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, supervisor.TaskReportsVariable+"=") {
			return true
		}
	}
	return false
}

// readReports makes the pipe that a task reports over, and reads it.
func (e *executor) readReports(std *files) (started func(), err error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	e.reports.open = true
	std.report = uintptr(ends[1])
	pipe := os.NewFile(uintptr(ends[0]), "reports")
	go func() {
		lines := bufio.NewScanner(pipe)
		lines.Buffer(nil, maxReport)
		for lines.Scan() {
			e.Post(report(lines.Text()))
		}
		pipe.Close()
		e.Post(reportsEnd{})
	}()
	return func() { syscall.Close(ends[1]) }, nil
}

// reported takes a line of the task's.
func (e *executor) reported(line string) {
	what, rest, _ := strings.Cut(line, " ")
	switch what {
	case "running":
		fields := strings.Fields(rest)
		if e.reports.running || e.terminated || len(fields) == 0 {
			return
		}
		e.reports.running, e.reports.addresses = true, fields[1:]
		if pid, err := strconv.Atoi(fields[0]); err == nil && pid > 0 {
			e.reports.network, _ = os.Open("/proc/" + fields[0] + "/ns/net")
		}
		e.running()
	case "data":
		e.reports.data, _ = base64.StdEncoding.DecodeString(rest) // what cannot be read is not passed on
	case "failed":
		e.reports.failed = rest
	case "oom":
		e.reports.oom = rest
	}
}

// reportsOver lets an end count that waited for the reports.
func (e *executor) reportsOver() {
	e.reports.open = false
	if ws := e.reports.ended; ws != nil {
		e.reaped(*ws)
	}
}

// cause is why the task ended, if it has said so.
func (r *reports) cause() (reason wire.Reason, message string, ok bool) {
	switch {
	case r.oom != "":
		return wire.ReasonLimitationMemory, r.oom, true
	case r.failed != "":
		return wire.NoReason, r.failed, true
	}
	return wire.NoReason, "", false
}

// dial connects from where the task is.
func (e *executor) dial(ctx context.Context, address string) (net.Conn, error) {
	if e.reports.network != nil {
		return checks.DialIn(ctx, e.reports.network, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}
