package work

import (
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// signalled is what is added to a signal's number, as shells do.
const signalled = 128

// interrupted is the exit code of who was interrupted before there was another one.
const interrupted = signalled + int(syscall.SIGINT)

// The contract has no field for an exit code: the messages of the executors that come
// along do (WSTRINGIFY in src/common/status_utils.hpp). Others may go on after it.
var (
	exitedText   = regexp.MustCompile(`^Command exited with status (\d+)`)
	signalText   = regexp.MustCompile(`^Command terminated with signal ([^:(]+?)(?: \(core dumped\))?(?::|$)`)
	dockerStatus = regexp.MustCompile(`^Container exited with status (\d+)`)
)

// codeOf turns a task's last status into an exit code. told is whether the status says it:
// if not, the message is all there is to say.
func codeOf(s *mesos.TaskStatus) (code int, told bool) {
	message := s.GetMessage()
	for _, re := range []*regexp.Regexp{exitedText, dockerStatus} {
		if m := re.FindStringSubmatch(message); m != nil {
			if code, err := strconv.Atoi(m[1]); err == nil {
				return code, true
			}
		}
	}
	if m := signalText.FindStringSubmatch(message); m != nil {
		for n := syscall.Signal(1); n < 65; n++ {
			if strings.EqualFold(n.String(), m[1]) || unix.SignalName(n) == m[1] {
				return signalled + int(n), false
			}
		}
	}
	if s.GetState() == mesos.TaskState_TASK_FINISHED {
		return 0, true
	}
	return console.ExitFailed, false
}

// worst is the exit code of several tasks: the largest of those that failed by themselves,
// and of those that were killed if none did. So a task that was killed because another one
// failed does not hide why.
func worst(ends []*mesos.TaskStatus) int {
	failed, killed := 0, 0
	for _, s := range ends {
		code, _ := codeOf(s)
		if s.GetState() == mesos.TaskState_TASK_KILLED {
			killed = max(killed, code)
		} else {
			failed = max(failed, code)
		}
	}
	if failed > 0 {
		return failed
	}
	return killed
}

// ofStatus is the exit code of a process by its wait status.
func ofStatus(status int32) int {
	ws := syscall.WaitStatus(uint32(status))
	if ws.Signaled() {
		return signalled + int(ws.Signal())
	}
	return ws.ExitStatus()
}
