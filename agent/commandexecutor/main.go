// Package commandexecutor is the executor of command tasks: it runs the one
// command of its task, checks its health, kills it when told to, and reports
// all that to the agent over the v1 executor API
// (src/launcher/executor.cpp of Mesos).
//
// One is started for every command task, so the package is built for a quick
// start: HTTP and protobuf are done by hand (agent/executorlink), and what is
// only sometimes needed comes from outside (Options.TLS). Its programs are
// internal/bin/command-executor and internal/bin/command-executor-tls; package
// isolation embeds them, and internal/cli runs the same as a mode of the one
// binary.
//
//	agent ── SUBSCRIBE stream ──▶ ┌──────────┐ ◀─ SIGCHLD
//	agent ◀── UPDATE calls ────── │ executor │ ◀─ timers, probes
//	                              └──────────┘ ─▶ task, in its own session
//
// One goroutine owns the executor's state (executor.run); others only dial,
// read and wait, and post what they find to it.
//
// What differs from Mesos, on purpose: the executor leaves as soon as its last
// status update is acknowledged, unless the task has left processes, which get
// the second that Mesos waits in any case; while the agent is
// away it keeps the last status for as long as the recovery timeout says; a
// command that cannot be executed is reported as failed, with the reason, and
// not first as running; probes are made by the executor itself instead of by
// curl and a helper; it writes nothing to the task's output but errors.
package commandexecutor

import (
	"os"
	"syscall"
	"unsafe"

	"clusterd/agent/checks"
	"clusterd/agent/executorlink"
	"clusterd/isolation/supervisor"
)

// Options is what the different programs around the executor differ in.
type Options struct {
	// TLS, if set, makes probes of https possible.
	TLS checks.TLS
}

const (
	prSetName           = 15
	prSetChildSubreaper = 36
)

// Main runs the command executor in the environment that the agent made for
// it, and returns its exit code: 0 once the last status update of its task was
// acknowledged or it was shut down before it had a task, 1 otherwise.
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
	// Daemons of the task stay below this process and get its signals.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	return syscall.WaitStatus(run(options, os.Environ(), false)).ExitStatus()
}

const processName = "command-exec"

// run returns a wait status.
func run(options Options, environ []string, supervised bool) int {
	c, env, err := executorlink.ReadConfig(environ)
	var o overrides
	if err == nil {
		o, env, err = readOverrides(env)
	}
	if err != nil {
		_, _ = os.Stderr.WriteString("command executor: " + err.Error() + "\n")
		return 1 << 8
	}
	e := newExecutor(options, c, env)
	e.supervised, e.command, e.environment, e.checkCommand = supervised, o.command, o.environment, o.checkCommand
	return e.run()
}
