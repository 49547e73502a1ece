package commandexecutor_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/supervisor"
)

// TestReports: a task that stands for one that runs elsewhere tells how that goes.
func TestReports(t *testing.T) {
	const reports = supervisor.TaskReportsVariable + "=1"
	for name, c := range map[string]struct {
		script  string
		states  []mesos.TaskState
		reason  *mesos.TaskStatus_Reason
		message string
		ip      string
	}{
		"runs": {
			script: "echo running 0 10.1.2.3 >&3; exit 0", ip: "10.1.2.3", message: "Command exited with status 0",
			states: []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FINISHED},
		},
		"fails by itself": {
			script: "echo running 0 >&3; exit 4", message: "Command exited with status 4",
			states: []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED},
		},
		"never ran": {
			script: "echo failed no such thing >&3; exit 125", message: "no such thing",
			states: []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_FAILED},
		},
		"says nothing": {
			script: "exit 1", message: "Command exited with status 1",
			states: []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_FAILED},
		},
		"too little memory": {
			script: "echo running 0 >&3; echo oom too little >&3; exit 137", message: "too little",
			reason: mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY.Enum(),
			states: []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			a.startTask(task(c.script), reports)
			last := a.awaitState(c.states[len(c.states)-1])
			if diff := cmp.Diff(c.states, a.states()); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if last.GetMessage() != c.message || (last.Reason == nil) != (c.reason == nil) || c.reason != nil && last.GetReason() != *c.reason {
				t.Errorf("last status: got %v", last)
			}
			var ip string
			for _, n := range last.GetContainerStatus().GetNetworkInfos() {
				ip += n.GetIpAddresses()[0].GetIpAddress()
			}
			if ip != c.ip {
				t.Errorf("addresses: got %q, want %q", ip, c.ip)
			}
		})
	}
}

// TestKilledBeforeItRan: a KILL that comes while the task is being started counts.
func TestKilledBeforeItRan(t *testing.T) {
	a := newAgent(t)
	a.startTask(task("trap 'exit 143' TERM; while :; do sleep 0.01; done"), supervisor.TaskReportsVariable+"=1")
	a.awaitState(mesos.TaskState_TASK_STARTING)
	a.send(kill())
	a.awaitState(mesos.TaskState_TASK_KILLED)
	for _, s := range a.states() {
		if s == mesos.TaskState_TASK_RUNNING {
			t.Errorf("states: got %v", a.states())
		}
	}
}

// TestCheckCommand: commands of checks are handed to the command that is for that.
func TestCheckCommand(t *testing.T) {
	a := newAgent(t)
	a.startTask(task("echo running 0 >&3; sleep 1000", func(t *mesos.TaskInfo) {
		t.HealthCheck = &mesos.HealthCheck{
			Type: mesos.HealthCheck_COMMAND.Enum(), Command: &mesos.CommandInfo{Value: new("never executed by itself")},
			DelaySeconds: new(0.0), IntervalSeconds: new(0.05),
		}
	}), supervisor.TaskReportsVariable+"=1",
		supervisor.CheckCommandVariable+"=/bin/sh\n-c\ntest \"$0 $1 $2 $3\" = 'zero /bin/sh -c never executed by itself'\nzero")
	a.await("healthy", func(s *mesos.TaskStatus) bool { return s.GetHealthy() })
	a.send(kill())
	a.awaitState(mesos.TaskState_TASK_KILLED)
}
