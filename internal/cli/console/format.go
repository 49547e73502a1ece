package console

import (
	"fmt"
	"strings"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
)

// Scalar sums a scalar resource.
func Scalar(rs []*mesos.Resource, name string) float64 {
	var sum float64
	for _, r := range rs {
		if r.GetName() == name {
			sum += r.GetScalar().GetValue()
		}
	}
	return sum
}

// Number writes a number as people do: one decimal if it needs one.
func Number(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

// Age is how long ago a time was; "-" without one.
func Age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return Duration(time.Since(t))
}

// Duration writes a duration in its two largest units.
func Duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Bytes writes an amount of bytes.
func Bytes(n uint64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return Number(v) + " " + units[i]
}

// Time turns a TimeInfo into a time, zero if it has none.
func Time(t *mesos.TimeInfo) time.Time {
	if t.GetNanoseconds() == 0 {
		return time.Time{}
	}
	return time.Unix(0, t.GetNanoseconds())
}

// Stamp writes a time of the past or future exactly, in this machine's zone; "-" without one.
func Stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// Changed is when a task's newest status was made.
func Changed(t *mesos.Task) time.Time {
	if n := len(t.GetStatuses()); n > 0 {
		return time.UnixMicro(int64(t.GetStatuses()[n-1].GetTimestamp() * 1e6))
	}
	return time.Time{}
}

// Terminal tells whether a task has ended.
func Terminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED, mesos.TaskState_TASK_ERROR,
		mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

// Plural writes how many there are of something: "1 task", "3 tasks".
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// AgentState is the state of an agent in one word.
func AgentState(a *master.Response_GetAgents_Agent) string {
	switch {
	case a.GetDrainInfo() != nil:
		return strings.ToLower(a.GetDrainInfo().GetState().String())
	case a.GetDeactivated():
		return "deactivated"
	case a.GetActive():
		return "active"
	case a.GetPid() == "":
		return "recovered"
	}
	return "disconnected"
}
