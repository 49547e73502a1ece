// Package defaultexecutor is the executor of task groups, of pods: each task is a container
// nested in the executor's own, which the agent runs for it
// (src/launcher/default_executor.cpp of Mesos).
//
//	agent ── SUBSCRIBE stream ──▶ ┌──────────┐ ─ LAUNCH_CONTAINER ─▶ agent ─▶ tasks
//	agent ◀── UPDATE calls ────── │ executor │ ─ WAIT_, KILL_NESTED_CONTAINER ─▶
//	                              └──────────┘ ◀─ timers, checks
//
// One goroutine owns the executor's state (executor.run); others only call, dial and wait, and
// post what they find to it. Its program is internal/bin/default-executor; package isolation
// embeds it, and internal/cli runs the same as a mode of the one binary.
//
// What differs from Mesos, on purpose: an agent that dies while it launches is asked again when
// it is back, instead of giving the pod up; a task that is killed before it runs is killed as
// soon as it does; tasks that end with their group, or with the executor, get the grace period
// of their own kill policy; only the task that failed its health check is reported unhealthy;
// HTTP and TCP checks are made in the network of a task that has one of its own.
package defaultexecutor

import (
	"os"
	"syscall"
	"unsafe"

	"clusterd/agent/checks"
	"clusterd/agent/executorlink"
	"clusterd/isolation/supervisor"
)

// Options is what the program around the executor decides.
type Options struct {
	// TLS, if set, makes probes of https possible.
	TLS checks.TLS
}

const (
	prSetName   = 15
	processName = "default-exec"
)

// Main runs the default executor in the environment that the agent made for it, and returns its
// exit code: 0 once nothing runs and all status updates were acknowledged, 1 otherwise.
//
// Started by isolation's launcher it is its own supervisor and takes SIGTERM
// for the order to end at once; started by hand it takes it for a shutdown.
func Main(options Options) int {
	if supervisor.Probed() {
		return supervisor.ProbeCode
	}
	if supervisor.Inline() {
		return supervisor.RunInline(processName, func(env []string) int {
			return run(options, env, true)
		})
	}
	var name [16]byte
	copy(name[:15], processName)
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(&name[0])), 0)
	return syscall.WaitStatus(run(options, os.Environ(), false)).ExitStatus()
}

// run returns a wait status.
func run(options Options, environ []string, supervised bool) int {
	c, env, err := executorlink.ReadConfig(environ)
	if err != nil {
		_, _ = os.Stderr.WriteString("default executor: " + err.Error() + "\n")
		return 1 << 8
	}
	e := newExecutor(options, c, env)
	e.supervised = supervised
	return e.run()
}
