package agent

import (
	"math"
	"testing"

	mesos "clusterd/api/mesos/v1"
)

// TestEndlessTimes: the longest times that a framework can name are as good as
// any. (Margins added to them must not make them negative.)
func TestEndlessTimes(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	endless := &mesos.DurationInfo{Nanoseconds: new(int64(math.MaxInt64))}
	task := commandTask("t", "exit 0")
	task.KillPolicy = &mesos.KillPolicy{GracePeriod: endless}
	task.MaxCompletionTime = endless
	m.send(runTasks(framework("M-0000"), task))
	m.waitState("t", "FINISHED")
	custom := customTask("c", "e")
	custom.Executor.ShutdownGracePeriod = endless
	custom.Executor.Command = &mesos.CommandInfo{Value: strp(`case $MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD in *-*) exit 9;; esac; exit 0`)}
	m.send(runTasks(framework("M-0000"), custom))
	if st := m.waitState("c", "FAILED"); st.GetMessage() != "Exited with status 0" {
		t.Errorf("got %q: the executor was given a negative time", st.GetMessage())
	}
}
