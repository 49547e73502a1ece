package defaultexecutor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"clusterd/agent/checks"
	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
)

// agentPath is that of the agent's operator API.
const agentPath = "/api/v1"

const (
	statusOK          = 200
	statusAccepted    = 202
	statusNotFound    = 404
	statusUnavailable = 503
)

// container is one task, until its last status was sent.
type container struct {
	task  *wire.Task
	group *group
	// id is the encoded ContainerID, value that of it alone.
	id    []byte
	value string
	last  wire.Status

	// launching says that the agent was asked, launched that it has said yes.
	launching, launched bool
	// waiting says that its end is waited for.
	waiting bool
	// acknowledged says that some update of it was.
	acknowledged bool
	// killed says that it is being killed; byCompletion that it took too long; unhealthy that its
	// health check killed it.
	killed, byCompletion, unhealthy bool
	// over says that its last status was sent.
	over bool

	killGrace  time.Duration
	killStart  time.Time // zero until it runs
	killAt     time.Time
	escalation *time.Timer
	completion *time.Timer

	check, health *checks.Checker
	network       network
}

// What is posted of containers.
type (
	launched struct {
		c   *container
		err error
	}
	relaunch struct{ c *container }
	waited   struct {
		c    *container
		body []byte
		err  error
	}
	waitAgain struct{ c *container }
	signalled struct {
		c      *container
		signal syscall.Signal
		err    error
	}
	signalAgain struct {
		c      *container
		signal syscall.Signal
	}
	escalate       struct{ c *container }
	completionOver struct{ c *container }
)

// grace is the task's own.
func (c *container) grace() time.Duration {
	if c.task.Grace != nil {
		return max(0, time.Duration(*c.task.Grace))
	}
	return defaultGrace
}

// call makes one call of the agent's API over a connection of its own.
func (e *executor) call(body []byte, patient bool) ([]byte, error) {
	c := &executorlink.Caller{Agent: e.config.Agent, Path: agentPath, Patient: patient}
	defer c.Close()
	return c.Call(body, statusOK)
}

// statusOf is that which the agent refused a call with; 0: no answer came.
func statusOf(err error) int {
	if s, ok := errors.AsType[*executorlink.StatusError](err); ok {
		return s.Status
	}
	return 0
}

// away says of a failed call that the agent was not there, or recovers.
func away(err error) bool {
	s := statusOf(err)
	return s == 0 || s == statusUnavailable
}

func (e *executor) launchGroup(tasks []*wire.Task) {
	if e.shutdown {
		e.Log("LAUNCH_GROUP is ignored while shutting down")
		return
	}
	g := &group{}
	e.began = true
	var all []*container
	for _, t := range tasks {
		if e.find(t.ID) != nil {
			continue // the agent has sent it twice
		}
		value := executorlink.UUIDText(executorlink.NewUUID())
		c := &container{task: t, group: g, value: value, id: wire.NestedID(value, e.id)}
		e.containers = append(e.containers, c)
		all = append(all, c)
	}
	e.armFailSafe()
	for _, c := range all {
		e.forward(c, c.status(wire.TaskStarting, wire.NoReason, ""))
		e.launch(c)
	}
}

// launch asks the agent to launch a container. Asked twice it launches it once.
func (e *executor) launch(c *container) {
	c.launching = true
	body := wire.LaunchContainer(c.id, c.task,
		wire.Variable{Name: "MESOS_CONTAINER_IP", Value: e.ip},
		wire.Variable{Name: "MESOS_ALLOCATION_ROLE", Value: c.task.Role})
	go func() {
		_, err := e.call(body, true)
		e.Post(launched{c, err})
	}()
}

func (e *executor) launched(in launched) {
	c := in.c
	c.launching = false
	switch {
	case in.err == nil || statusOf(in.err) == statusAccepted:
	case away(in.err):
		time.AfterFunc(retryInterval, func() { e.Post(relaunch{c}) })
		return
	default:
		message := in.err.Error()
		if s, ok := errors.AsType[*executorlink.StatusError](in.err); ok && s.Text != "" {
			message = s.Text
		}
		state := wire.TaskFailed
		if c.killed {
			state = wire.TaskKilled
		}
		e.finish(c, c.status(state, wire.NoReason, message))
		return
	}
	c.launched = true
	e.linkSandbox(c)
	if c.killed {
		e.beginKill(c)
	} else {
		if d := c.task.MaxCompletion; d > 0 {
			c.completion = time.AfterFunc(time.Duration(d), func() { e.Post(completionOver{c}) })
		}
		e.startChecks(c)
		e.forward(c, c.status(wire.TaskRunning, wire.NoReason, ""))
	}
	if e.link.Up() {
		e.wait(c)
	}
}

// linkSandbox makes tasks/<task> lead to the task's sandbox, where user interfaces look for it.
// The link is relative: in an image the sandbox has another path.
func (e *executor) linkSandbox(c *container) {
	err := os.Mkdir("tasks", 0o755)
	if err == nil || errors.Is(err, os.ErrExist) {
		err = os.Symlink("../containers/"+c.value, "tasks/"+c.task.ID)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		e.Log("link the sandbox of " + c.task.ID + ": " + err.Error())
	}
}

// wait waits for the end of a container.
func (e *executor) wait(c *container) {
	if !c.launched || c.waiting || c.over {
		return
	}
	c.waiting = true
	go func() {
		body, err := e.call(wire.WaitContainer(c.id), true)
		e.Post(waited{c, body, err})
	}()
}

func (e *executor) waited(in waited) {
	c := in.c
	c.waiting = false
	switch {
	case in.err == nil:
		ended, err := wire.DecodeEnded(in.body)
		if err != nil {
			ended = &wire.Ended{Reason: wire.NoReason, Message: err.Error()}
		}
		e.ended(c, ended)
	case away(in.err):
		// A subscription that begins anew waits at once.
		time.AfterFunc(retryInterval, func() { e.Post(waitAgain{c}) })
	case statusOf(in.err) == statusNotFound:
		if c.killed {
			e.finish(c, c.status(wire.TaskKilled, wire.NoReason, ""))
			return
		}
		e.finish(c, c.status(wire.TaskFailed, wire.NoReason, "Unable to retrieve command's termination information"))
	default:
		e.Log("wait for " + c.task.ID + ": " + in.err.Error() + ": shutting down")
		e.quit(1)
	}
}

// ended reports the end of a container.
func (e *executor) ended(c *container, end *wire.Ended) {
	state, reason, message := wire.TaskFailed, wire.NoReason, "Command terminated with unknown status"
	if end.StatusKnown {
		ws := syscall.WaitStatus(end.Status)
		switch {
		case c.byCompletion:
			reason = wire.ReasonMaxCompletionTime
		case c.killed:
			state = wire.TaskKilled
		case ws.Exited() && ws.ExitStatus() == 0:
			state = wire.TaskFinished
		}
		message = "Command " + executorlink.Describe(ws)
	}
	// The agent knows better: it may have ended the container itself.
	if end.HasState {
		state = end.State
	}
	if end.Reason != wire.NoReason {
		reason = end.Reason
	}
	if end.Message != "" {
		message += ": " + end.Message
	}
	s := c.status(state, reason, message)
	s.Limitation = end.Limitation
	if c.unhealthy {
		s.Healthy = new(bool)
	}
	e.finish(c, s)
}

// finish sends the last status of a task. If it has failed or was killed, the rest of its group
// ends as well.
func (e *executor) finish(c *container, s *wire.Status) {
	c.over = true
	c.stopTimers()
	c.stopChecks()
	c.network.close()
	e.forward(c, s)
	e.containers = slices.DeleteFunc(e.containers, func(o *container) bool { return o == c })
	if !e.shutdown && !c.group.ending && (s.State == wire.TaskFailed || s.State == wire.TaskKilled) {
		c.group.ending = true
		for _, other := range e.containers {
			if other.group == c.group {
				e.kill(other, other.grace())
			}
		}
	}
	e.endIfIdle()
}

func (c *container) stopTimers() {
	if c.completion != nil {
		c.completion.Stop()
		c.completion = nil
	}
	if c.escalation != nil {
		c.escalation.Stop()
	}
}

// kill begins to kill a task, or shortens the time it has left: a later KILL
// may never lengthen it.
func (e *executor) kill(c *container, grace time.Duration) {
	if c.over {
		return
	}
	if c.killed {
		c.killGrace = min(c.killGrace, grace)
		if at := c.killStart.Add(grace); !c.killStart.IsZero() && at.Before(c.killAt) {
			e.escalateAt(c, at)
		}
		return
	}
	c.killed, c.killGrace = true, grace
	if c.completion != nil {
		c.completion.Stop()
		c.completion = nil
	}
	c.stopChecks()
	if e.killing && !c.byCompletion {
		e.forward(c, c.status(wire.TaskKilling, wire.NoReason, ""))
	}
	if c.launched {
		e.beginKill(c)
	}
}

func (e *executor) beginKill(c *container) {
	c.killStart = time.Now()
	e.signal(c, syscall.SIGTERM)
	e.escalateAt(c, c.killStart.Add(c.killGrace))
}

func (e *executor) escalateAt(c *container, at time.Time) {
	c.killAt = at
	if c.escalation != nil {
		c.escalation.Stop()
	}
	c.escalation = time.AfterFunc(max(0, time.Until(at)), func() { e.Post(escalate{c}) })
}

func (e *executor) escalated(c *container) {
	if !c.over && !time.Now().Before(c.killAt) {
		e.signal(c, syscall.SIGKILL)
	}
}

func (e *executor) completionReached(c *container) {
	if c.over || c.killed || c.completion == nil {
		return
	}
	c.byCompletion = true
	e.kill(c, 0)
}

// signal has the agent send a signal.
func (e *executor) signal(c *container, sig syscall.Signal) {
	go func() {
		_, err := e.call(wire.KillContainer(c.id, int(sig)), false)
		e.Post(signalled{c, sig, err})
	}()
}

// signalled looks whether a signal was sent; it must not be lost.
func (e *executor) signalled(in signalled) {
	c := in.c
	if in.err == nil || c.over || statusOf(in.err) == statusNotFound {
		return // if it has ended, that is told by wait
	}
	e.Log("send " + in.signal.String() + " to " + c.task.ID + ": " + in.err.Error())
	if in.signal == syscall.SIGKILL || away(in.err) && time.Now().Before(c.killAt) {
		time.AfterFunc(retryInterval, func() { e.Post(signalAgain{c, in.signal}) })
	}
}

// value is that of a variable in an environment.
func value(env []string, name string) string {
	for _, e := range env {
		if n, v, _ := strings.Cut(e, "="); n == name {
			return v
		}
	}
	return ""
}
