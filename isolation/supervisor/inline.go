package supervisor

import (
	"os"
	"strconv"
	"syscall"
	"time"

	"clusterd/isolation/rawfork"
)

// inlineVariable is in the environment of a program that shall be its own
// supervisor.
const inlineVariable = "CLUSTERD_CONTROL_FD"

// InlineEnv is the environment entry that makes Inline say yes.
const InlineEnv = inlineVariable + "=3"

// ProbeEnv makes a program of ours end at once with ProbeCode. A binary tries its
// embedded programs that way: they must run, and speak its version of Spec.
const (
	ProbeEnv  = probeVariable + "=1"
	ProbeCode = 64 + specVersion
)

const probeVariable = "CLUSTERD_PROBE"

// Probed says whether this program shall end at once with ProbeCode.
func Probed() bool { return os.Getenv(probeVariable) != "" }

// Killed is the wait status of a process that SIGKILL ended: what RunInline's
// function returns when it was told to destroy the container.
const Killed = int(syscall.SIGKILL)

// Inline says whether this program was started by an agent to be its own
// supervisor.
func Inline() bool { return os.Getenv(inlineVariable) == strconv.Itoa(ControlFD) }

// RunInline is Main for a program of ours that is the container's command and
// supervises itself: one process less for every command task, which is a
// quarter of what such a task costs. It becomes what the Spec says (user,
// directory, output, but not environment, which run gets), calls run, and leaves
// the wait status that run returns.
//
// What is lost against a supervisor of its own: when the program is killed
// while no agent watches, its exit status is unknown. Run must take SIGTERM for
// the order to kill the container at once, and return Killed.
func RunInline(name string, run func(env []string) (status int)) int {
	setName(name)
	s := &supervisor{}
	if !s.begin() {
		return exitNotStarted
	}
	s.pid = os.Getpid()
	if s.spec.Namespaces&(syscall.CLONE_NEWPID|syscall.CLONE_NEWNS) == 0 {
		s.writePID()
	}
	if what, err := s.become(); err != nil {
		replyError(what, err)
		return exitNotStarted
	}
	s.streams.started()
	reply("K" + strconv.Itoa(s.pid))
	status := syscall.WaitStatus(run(s.spec.Env))
	s.writeStatus(status)
	for s.reap() && !s.blind {
		s.kill()
		time.Sleep(5 * time.Millisecond)
	}
	s.streams.drain()
	return status.ExitStatus()
}

// become makes this process what the command of the Spec would have been.
func (s *supervisor) become() (what string, err error) {
	streams, what, err := openStreams(s.spec)
	if err != nil {
		return what, err
	}
	s.streams = streams
	w, what, err := makeWorld(s.spec)
	if err != nil {
		return what, err
	}
	defer w.close()
	s.findKillers()
	if err := streams.enter(); err != nil {
		return "open a terminal", err
	}
	if what, err := streams.become(); err != nil {
		return what, err
	}
	// The task shall have it, so it stays.
	if _, err := w.setScore(); err != nil {
		return "set the badness for the OOM killer", err
	}
	var script rawfork.Script
	script.Do("working directory "+s.spec.Dir, syscall.SYS_CHDIR, script.String(s.spec.Dir))
	s.rights(&script, w)
	s.lastRights(&script)
	if err := script.OnAllThreads(); err != nil {
		return explainError(err)
	}
	s.unprivileged = s.spec.SwitchUser
	return "", nil
}
