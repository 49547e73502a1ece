package commandexecutor

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"clusterd/agent/checks"
	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
	"clusterd/isolation/supervisor"
)

const (
	// defaultGrace is the time from SIGTERM to SIGKILL when neither the KILL
	// nor the task's kill policy names one (src/launcher/executor.cpp).
	defaultGrace = 3 * time.Second
	// shutdownReserve is what a shutdown leaves of the executor's grace period
	// for killing by force and reporting: Mesos's reap interval of a second,
	// and another.
	shutdownReserve = 2 * time.Second
	// ackTimeout is how long the executor stays for the acknowledgement of the
	// last status while it is subscribed.
	ackTimeout = 60 * time.Second
	// lingerTime is how long the executor outlives its task for what the task
	// has left running.
	lingerTime = time.Second
	// queued is how many results may wait for the executor's goroutine before
	// those who bring them have to; it is far more than ever are under way.
	queued = 64
)

// executor runs one task. One goroutine, that of run, owns all of it.
type executor struct {
	options Options
	config  executorlink.Config
	base    []string // environment that the task starts from

	// supervised says that SIGTERM is the agent's order to end at once.
	supervised bool
	// command, if set, is run instead of the task's own; environment, if set, lies
	// under what the command asks for. Both come from isolators.
	command, environment *wire.Command
	// checkCommand, if set, is what commands of checks are handed to.
	checkCommand []string
	reports      reports

	inputs  chan any
	sigchld chan os.Signal
	sigterm chan os.Signal

	link *executorlink.Link

	task    *wire.Task
	killing bool // the framework knows TASK_KILLING
	pid     int
	// acknowledged says that some update of the task was acknowledged, so the
	// agent knows that the executor has it.
	acknowledged bool
	launched     bool
	killed       bool
	byHealth     bool
	byCompletion bool
	terminated   bool
	ended        time.Time
	shutdown     bool
	last         wire.Status

	killStart   time.Time
	killAt      time.Time
	escalation  *time.Timer
	completion  *time.Timer
	ackFailSafe *time.Timer
	checker     *checks.Checker
	health      *checks.Checker
	// commands are those of checks that run, by their pid.
	commands map[int]func(value int32, err error) checks.Event

	exit *int
}

// inputs beside checks.Event and those of the link.
type (
	escalate       struct{}
	completionOver struct{}
	ackOver        struct{}
)

func newExecutor(options Options, c executorlink.Config, env []string) *executor {
	e := &executor{
		options: options, config: c, base: env,
		inputs:   make(chan any, queued),
		sigchld:  make(chan os.Signal, 1),
		sigterm:  make(chan os.Signal, 1),
		commands: map[int]func(int32, error) checks.Event{},
	}
	e.link = executorlink.New(e, c)
	return e
}

// Post hands something to the executor's goroutine.
func (e *executor) Post(input any) { e.inputs <- input }

// Log writes to the executor's standard error, which is its task's.
func (e *executor) Log(text string) {
	_, _ = os.Stderr.WriteString("command executor: " + text + "\n")
}

func (e *executor) quit(code int) {
	if e.exit == nil {
		e.exit = &code
	}
}

// run returns a wait status: that of an exit code, or of a process that was
// killed.
func (e *executor) run() int {
	signal.Notify(e.sigchld, syscall.SIGCHLD)
	signal.Notify(e.sigterm, syscall.SIGTERM)
	// Taken, so that a terminal that goes away ends neither this process nor
	// (by an inherited "ignore") changes how the task is started.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	e.link.Start()
	for e.exit == nil {
		select {
		case <-e.sigchld:
			e.reap()
		case <-e.sigterm:
			if e.supervised {
				return supervisor.Killed
			}
			e.startShutdown()
		case input := <-e.inputs:
			e.handle(input)
		}
	}
	e.linger()
	killRest()
	return *e.exit << 8
}

// linger leaves what is left of an ended task the second that it has in Mesos,
// where the executor waits that long before it ends: children of the task that
// got SIGTERM as well may need longer than the task itself.
func (e *executor) linger() {
	if !e.terminated {
		return
	}
	over := time.NewTimer(time.Until(e.ended.Add(lingerTime)))
	defer over.Stop()
	for childrenLeft() {
		select {
		case <-e.sigchld:
		case <-over.C:
			return
		case <-e.sigterm:
			if e.supervised {
				return
			}
		}
	}
}

func (e *executor) handle(input any) {
	switch in := input.(type) {
	case checks.Event:
		in.Handle()
	case escalate:
		e.escalated()
	case completionOver:
		e.completionReached()
	case report:
		e.reported(string(in))
	case reportsEnd:
		e.reportsOver()
	case ackOver:
		e.Log("the agent does not acknowledge the last status update")
		e.quit(1)
	default:
		e.link.Handle(input)
	}
}

// UnackedTasks are the task until the agent has acknowledged something of it.
func (e *executor) UnackedTasks() [][]byte {
	if e.task == nil || e.acknowledged {
		return nil
	}
	return [][]byte{e.task.Raw}
}

// HasTasks says whether there is, or was, a task.
func (e *executor) HasTasks() bool { return e.launched }

// Connected hears that the agent is there, or has gone.
func (e *executor) Connected(bool) { e.armFailSafe() }

// GiveUp ends the executor, which kills the task first.
func (e *executor) GiveUp() {
	e.startShutdown()
	if !e.launched {
		code := 1
		e.exit = &code
	}
}

// Received handles an event of the agent.
func (e *executor) Received(ev *wire.Event) {
	switch ev.Type {
	case wire.EventSubscribed:
		e.killing = ev.TaskKilling
	case wire.EventLaunch:
		if ev.Task == nil {
			e.Log("LAUNCH without a task")
			return
		}
		e.launch(ev.Task)
	case wire.EventLaunchGroup:
		e.Log("LAUNCH_GROUP is not for the command executor: shutting down")
		e.startShutdown()
	case wire.EventKill:
		grace := e.killPolicyGrace()
		if ev.Grace != nil {
			grace = max(0, time.Duration(*ev.Grace))
		}
		e.kill(grace)
	case wire.EventAcknowledged:
		e.acknowledge(ev.UUID)
	case wire.EventShutdown:
		e.startShutdown()
	case wire.EventError:
		e.Log("the agent reports an error: " + ev.Message)
	case wire.EventMessage, wire.EventHeartbeat, wire.EventUnknown:
	}
}

func (e *executor) acknowledge(uuid []byte) {
	if !e.link.Acknowledge(uuid) {
		return
	}
	e.acknowledged = true
	if e.last.State.Terminal() && string(e.last.UUID) == string(uuid) {
		e.quit(0)
	}
}

// launch starts the task.
func (e *executor) launch(task *wire.Task) {
	if e.task != nil {
		if e.task.ID == task.ID {
			return // the agent has sent it twice
		}
		e.forward(&wire.Status{
			TaskID: task.ID, State: wire.TaskFailed, Reason: wire.NoReason,
			Message: `Attempted to run multiple tasks using a "command" executor`,
		})
		return
	}
	e.task = task
	e.forward(e.status(wire.TaskStarting, wire.NoReason, ""))
	if task.MaxCompletion > 0 {
		e.completion = time.AfterFunc(time.Duration(task.MaxCompletion), func() { e.Post(completionOver{}) })
	}
	command := task.Command
	if e.command != nil {
		command = e.command
	}
	if command == nil {
		command = &wire.Command{}
	}
	base := e.base
	if e.environment != nil {
		base = environment(base, e.environment)
	}
	env := environment(base, command, wire.Variable{Name: "MESOS_ALLOCATION_ROLE", Value: task.Role})
	std := taskFiles()
	var err error
	started := func() {}
	if asked(env) {
		started, err = e.readReports(&std)
	}
	pid := 0
	if err == nil {
		pid, err = startProcess(command, env, std)
		started()
	}
	e.launched = true
	if err != nil {
		// Mesos reports RUNNING here, and then a failure with exit status 1.
		e.Log(err.Error())
		e.finished(wire.TaskFailed, wire.NoReason, "Failed to "+err.Error())
		return
	}
	e.pid = pid
	if !e.reports.open {
		e.running()
	}
	// Its end may have been reported before its beginning was known.
	e.reap()
}

// running says that the task runs, and begins to check it.
func (e *executor) running() {
	if e.task.Check != nil {
		e.checker = e.newTaskCheck(e.task.Check)
	}
	if e.task.HealthCheck != nil {
		e.health = e.newHealthCheck(e.task.HealthCheck)
	}
	running := e.status(wire.TaskRunning, wire.NoReason, "")
	running.Data = e.reports.data
	e.forward(running)
	if e.killed { // a KILL came while it was being started
		e.checker.Stop()
		e.health.Stop()
		if e.killing {
			e.forward(e.status(wire.TaskKilling, wire.NoReason, ""))
		}
	}
}

func (e *executor) newTaskCheck(check *wire.Check) *checks.Checker {
	if !checks.Known(check) {
		e.Log("the task's check has an unknown type")
		return nil
	}
	return e.newChecker(check, checks.Changes(check, e.Log, func(status wire.CheckStatus) {
		if e.killed || e.terminated {
			return
		}
		s := e.last
		s.Reason, s.Check = wire.ReasonTaskCheckUpdated, &status
		e.forward(&s)
	}))
}

func (e *executor) newHealthCheck(check *wire.Check) *checks.Checker {
	if !checks.Known(check) {
		e.Log("the task's health check has an unknown type")
		return nil
	}
	h := &checks.Health{Check: check, Started: time.Now(), Log: e.Log}
	h.Report = func(healthy, kill bool) {
		if e.killed || e.terminated {
			return
		}
		s := e.last
		s.Reason, s.Healthy = wire.ReasonHealthStatusUpdated, &healthy
		e.forward(&s)
		if kill {
			e.byHealth = true
			e.kill(e.killPolicyGrace())
		}
	}
	return e.newChecker(check, h.Result)
}

func (e *executor) newChecker(check *wire.Check, result func(int32, error)) *checks.Checker {
	return checks.New(check, checks.Options{
		Post: func(ev checks.Event) { e.Post(ev) }, Start: e.startCheck, Dial: e.dial, TLS: e.options.TLS, Result: result,
	})
}

// startCheck starts the command of a check. It gets the executor's environment,
// not the task's, and its output goes where the executor's does.
func (e *executor) startCheck(command *wire.Command, done func(int32, error) checks.Event) (stop func(), err error) {
	if command == nil {
		command = &wire.Command{}
	}
	env := environment(e.base, command)
	if len(e.checkCommand) > 0 {
		command = handedTo(e.checkCommand, command)
	}
	pid, err := startProcess(command, env, files{fds: [3]uintptr{0, 2, 2}})
	if err != nil {
		return nil, err
	}
	e.commands[pid] = done
	return func() {
		killTree(pid, syscall.SIGKILL)
		delete(e.commands, pid)
	}, nil
}

func (e *executor) killPolicyGrace() time.Duration {
	if e.task != nil && e.task.Grace != nil {
		return max(0, time.Duration(*e.task.Grace))
	}
	return defaultGrace
}

// kill begins to kill the task, or shortens the time it has left: a later KILL
// may never lengthen it.
func (e *executor) kill(grace time.Duration) {
	e.stopCompletion()
	if e.terminated {
		return
	}
	if !e.launched {
		e.Log("KILL before the task was launched")
		e.quit(1)
		return
	}
	if e.killed {
		at := e.killStart.Add(grace)
		if at.Before(e.killAt) {
			e.escalateAt(at)
		}
		return
	}
	if e.killing && !e.byCompletion {
		e.forward(e.status(wire.TaskKilling, wire.NoReason, ""))
	}
	e.killed = true
	e.checker.Stop()
	e.health.Stop()
	killBelow(syscall.SIGTERM)
	e.killStart = time.Now()
	e.escalateAt(e.killStart.Add(grace))
}

func (e *executor) escalateAt(at time.Time) {
	e.killAt = at
	if e.escalation != nil {
		e.escalation.Stop()
	}
	e.escalation = time.AfterFunc(max(0, time.Until(at)), func() { e.Post(escalate{}) })
}

func (e *executor) escalated() {
	if e.terminated || !e.killed || time.Now().Before(e.killAt) {
		return
	}
	killBelow(syscall.SIGKILL)
}

func (e *executor) completionReached() {
	if e.terminated || e.killed || e.completion == nil {
		return
	}
	e.byCompletion = true
	e.kill(0)
}

func (e *executor) stopCompletion() {
	if e.completion != nil {
		e.completion.Stop()
		e.completion = nil
	}
}

// startShutdown kills the task, if any, and ends the executor.
func (e *executor) startShutdown() {
	e.shutdown = true
	switch {
	case !e.launched:
		e.quit(0)
	case e.terminated:
		e.endWithoutAgent()
	default:
		e.kill(max(0, e.config.ShutdownGrace-shutdownReserve))
	}
}

// reap collects whatever has ended below this process.
func (e *executor) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid == e.pid {
			e.reaped(ws)
		} else if done := e.commands[pid]; done != nil {
			delete(e.commands, pid)
			done(checks.Ended(ws)).Handle()
		}
	}
}

// reaped takes the end of the task.
func (e *executor) reaped(ws syscall.WaitStatus) {
	if e.reports.open {
		e.reports.ended = &ws
		return
	}
	state, reason := wire.TaskFailed, wire.NoReason
	message := "Command " + executorlink.Describe(ws)
	why, text, known := e.reports.cause()
	switch {
	case e.byCompletion:
		reason = wire.ReasonMaxCompletionTime
	case e.killed:
		state = wire.TaskKilled
	case known:
		reason, message = why, text
	case ws.Exited() && ws.ExitStatus() == 0:
		state = wire.TaskFinished
	}
	e.finished(state, reason, message)
}

// finished reports the last status.
func (e *executor) finished(state wire.State, reason wire.Reason, message string) {
	e.terminated, e.ended = true, time.Now()
	e.stopCompletion()
	if e.escalation != nil {
		e.escalation.Stop()
	}
	e.checker.Stop()
	e.health.Stop()
	s := e.status(state, reason, message)
	if e.killed && e.byHealth {
		s.Healthy = new(bool)
	}
	e.forward(s)
	e.armFailSafe()
	if e.shutdown {
		e.endWithoutAgent()
	}
}

// endWithoutAgent ends an executor that shuts down because there is no agent
// that could acknowledge anything.
func (e *executor) endWithoutAgent() {
	if !e.link.Up() && e.link.Lost() {
		e.quit(1)
	}
}

// armFailSafe bounds the wait for the last acknowledgement. While the agent is
// away it is the recovery timeout that does: an executor that left earlier
// would take its task's exit status with it.
func (e *executor) armFailSafe() {
	if e.ackFailSafe != nil {
		e.ackFailSafe.Stop()
		e.ackFailSafe = nil
	}
	if e.terminated && e.link.Up() {
		e.ackFailSafe = time.AfterFunc(ackTimeout, func() { e.Post(ackOver{}) })
	}
}

// status makes a status from scratch. When the task has a check, every status
// says so, also before there is a result.
func (e *executor) status(state wire.State, reason wire.Reason, message string) *wire.Status {
	s := &wire.Status{TaskID: e.task.ID, State: state, Reason: reason, Message: message, Addresses: e.reports.addresses, Container: e.task.Container}
	if c := e.task.Check; c != nil && c.Type != wire.CheckUnknown {
		s.Check = &wire.CheckStatus{Type: c.Type}
	}
	return s
}

// forward sends a status, now or when the agent is back.
func (e *executor) forward(s *wire.Status) {
	e.link.Forward(s)
	if s.TaskID == e.task.ID {
		e.last = *s
		e.last.Data = nil // it is told once
	}
}
