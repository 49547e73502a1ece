package agent

import (
	"fmt"
	"testing"

	mesos "clusterd/api/mesos/v1"
)

// BenchmarkCommandTasks runs `true` through an agent on a real link, 500 at a
// time: tasks per second from RunTasks to the acknowledgement of TASK_FINISHED.
func BenchmarkCommandTasks(b *testing.B) {
	m := newScriptedMaster(b)
	h := newMachine(b, m)
	a := h.start(func(o *Options) { o.Resources = "cpus:1000;mem:1000000" })
	defer h.leave(a)
	m.waitRegistered(1)
	fw := framework("M-0000")
	const tasks = 500
	round := 0
	for b.Loop() {
		round++
		for i := range tasks {
			t := commandTask(fmt.Sprintf("t-%d-%d", round, i), "")
			t.Command = &mesos.CommandInfo{Shell: new(bool), Value: strp("/bin/true"), Arguments: []string{"true"}}
			m.send(runTasks(fw, t))
		}
		eventually(b, "all tasks finish", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, u := range m.updates {
				if u.GetStatus().GetState() == mesos.TaskState_TASK_FAILED {
					b.Fatalf("%v", u.GetStatus())
				}
			}
			return m.finished >= round*tasks
		})
	}
	b.ReportMetric(float64(round*tasks)/b.Elapsed().Seconds(), "tasks/s")
}
