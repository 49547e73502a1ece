package commandexecutor

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"clusterd/agent/commandexecutor/wire"
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
	// heartbeatInterval is that of HEARTBEAT calls.
	heartbeatInterval = 30 * time.Minute
	// queued is how many results may wait for the executor's goroutine before
	// those who bring them have to; it is far more than ever are under way.
	queued = 64
)

// update is a status update that the agent has not acknowledged.
type update struct {
	uuid     string
	status   []byte
	terminal bool
	// sent says that the agent got it, in a call or in a SUBSCRIBE.
	sent bool
}

// executor runs one task. One goroutine, that of run, owns all of it.
type executor struct {
	options Options
	config  config
	base    []string // environment that the task starts from

	// supervised says that SIGTERM is the agent's order to end at once.
	supervised bool

	inputs  chan any
	sigchld chan os.Signal
	sigterm chan os.Signal

	link link

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
	unacked      []*update
	last         wire.Status

	killStart   time.Time
	killAt      time.Time
	escalation  *time.Timer
	completion  *time.Timer
	ackFailSafe *time.Timer
	checker     *checker
	health      *checker

	exit *int
}

// inputs beside checkEvent, connected, record, disconnected and called.
type (
	escalate       struct{}
	completionOver struct{}
	ackOver        struct{}
	heartbeatDue   struct{}
)

func newExecutor(options Options, c config, env []string) *executor {
	e := &executor{
		options: options, config: c, base: env,
		inputs:  make(chan any, queued),
		sigchld: make(chan os.Signal, 1),
		sigterm: make(chan os.Signal, 1),
	}
	e.link.init(e)
	return e
}

// post hands something to the executor's goroutine.
func (e *executor) post(input any) { e.inputs <- input }

func (e *executor) log(text string) {
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
	time.AfterFunc(heartbeatInterval, func() { e.post(heartbeatDue{}) })
	e.link.connect()
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
	case record:
		if in.attempt == e.link.attempt {
			e.received(in.event)
		}
	case checkEvent:
		in.checker.handle(in)
	case escalate:
		e.escalated()
	case completionOver:
		e.completionReached()
	case ackOver:
		e.log("the agent does not acknowledge the last status update")
		e.quit(1)
	case heartbeatDue:
		e.link.heartbeat()
		time.AfterFunc(heartbeatInterval, func() { e.post(heartbeatDue{}) })
	default:
		e.link.handle(input)
	}
}

// received handles an event of the agent.
func (e *executor) received(ev *wire.Event) {
	switch ev.Type {
	case wire.EventSubscribed:
		e.killing = ev.TaskKilling
		e.link.subscribed()
		e.armFailSafe()
	case wire.EventLaunch:
		if ev.Task == nil {
			e.log("LAUNCH without a task")
			return
		}
		e.launch(ev.Task)
	case wire.EventLaunchGroup:
		e.log("LAUNCH_GROUP is not for the command executor: shutting down")
		e.startShutdown()
	case wire.EventKill:
		grace := e.killPolicyGrace()
		if ev.Grace != nil {
			grace = max(0, time.Duration(*ev.Grace))
		}
		e.kill(grace)
	case wire.EventAcknowledged:
		e.acknowledge(string(ev.UUID))
	case wire.EventShutdown:
		e.startShutdown()
	case wire.EventError:
		e.log("the agent reports an error: " + ev.Message)
	case wire.EventMessage, wire.EventHeartbeat, wire.EventUnknown:
	}
}

func (e *executor) acknowledge(uuid string) {
	for i, u := range e.unacked {
		if u.uuid != uuid {
			continue
		}
		e.acknowledged = true
		e.unacked = append(e.unacked[:i:i], e.unacked[i+1:]...)
		if u.terminal && u.uuid == string(e.last.UUID) {
			e.quit(0)
		}
		return
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
		e.completion = time.AfterFunc(time.Duration(task.MaxCompletion), func() { e.post(completionOver{}) })
	}
	command := task.Command
	if command == nil {
		command = &wire.Command{}
	}
	env := environment(e.base, command, wire.Variable{Name: "MESOS_ALLOCATION_ROLE", Value: task.Role})
	pid, err := startProcess(command, env, 0, 1, 2)
	e.launched = true
	if err != nil {
		// Mesos reports RUNNING here, and then a failure with exit status 1.
		e.log(err.Error())
		e.finished(wire.TaskFailed, wire.NoReason, "Failed to "+err.Error())
		return
	}
	e.pid = pid
	if task.Check != nil {
		e.checker = e.newTaskCheck(task.Check)
	}
	if task.HealthCheck != nil {
		e.health = e.newHealthCheck(task.HealthCheck)
	}
	e.forward(e.status(wire.TaskRunning, wire.NoReason, ""))
	// Its end may have been reported before its beginning was known.
	e.reap()
}

func (e *executor) newTaskCheck(check *wire.Check) *checker {
	if check.Type < wire.CheckCommand || check.Type > wire.CheckTCP {
		e.log("the task's check has an unknown type")
		return nil
	}
	previous := wire.CheckStatus{Type: check.Type}
	return newChecker(e, "check", check, func(value int32, err error) {
		status := wire.CheckStatus{Type: check.Type, Has: err == nil, Value: value}
		if err != nil {
			status.Value = 0
			e.log("check failed: " + err.Error())
		}
		if status == previous {
			return
		}
		previous = status
		if e.killed || e.terminated {
			return
		}
		s := e.last
		s.Reason, s.Check = wire.ReasonTaskCheckUpdated, &status
		e.forward(&s)
	})
}

func (e *executor) newHealthCheck(check *wire.Check) *checker {
	if check.Type < wire.CheckCommand || check.Type > wire.CheckTCP {
		e.log("the task's health check has an unknown type")
		return nil
	}
	h := &health{check: check, started: time.Now(), log: e.log}
	h.report = func(healthy, kill bool) {
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
	return newChecker(e, "health check", check, h.result)
}

// startCheck starts the command of a check. It gets the executor's environment,
// not the task's, and its output goes where the executor's does.
func (e *executor) startCheck(command *wire.Command) (int, error) {
	if command == nil {
		command = &wire.Command{}
	}
	return startProcess(command, environment(e.base, command), 0, 2, 2)
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
		e.log("KILL before the task was launched")
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
	e.checker.pause()
	e.health.pause()
	killBelow(syscall.SIGTERM)
	e.killStart = time.Now()
	e.escalateAt(e.killStart.Add(grace))
}

func (e *executor) escalateAt(at time.Time) {
	e.killAt = at
	if e.escalation != nil {
		e.escalation.Stop()
	}
	e.escalation = time.AfterFunc(max(0, time.Until(at)), func() { e.post(escalate{}) })
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
		e.kill(max(0, e.config.shutdownGrace-shutdownReserve))
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
		switch {
		case pid == e.pid:
			e.reaped(ws)
		case e.checker.reaped(pid, ws):
		case e.health.reaped(pid, ws):
		}
	}
}

// reaped takes the end of the task.
func (e *executor) reaped(ws syscall.WaitStatus) {
	state, reason := wire.TaskFailed, wire.NoReason
	switch {
	case e.byCompletion:
		reason = wire.ReasonMaxCompletionTime
	case e.killed:
		state = wire.TaskKilled
	case ws.Exited() && ws.ExitStatus() == 0:
		state = wire.TaskFinished
	}
	e.finished(state, reason, "Command "+describe(ws))
}

// finished reports the last status.
func (e *executor) finished(state wire.State, reason wire.Reason, message string) {
	e.terminated, e.ended = true, time.Now()
	e.stopCompletion()
	if e.escalation != nil {
		e.escalation.Stop()
	}
	e.checker.pause()
	e.health.pause()
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
	if !e.link.up && e.link.lost {
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
	if e.terminated && e.link.up {
		e.ackFailSafe = time.AfterFunc(ackTimeout, func() { e.post(ackOver{}) })
	}
}

// status makes a status from scratch. When the task has a check, every status
// says so, also before there is a result.
func (e *executor) status(state wire.State, reason wire.Reason, message string) *wire.Status {
	s := &wire.Status{TaskID: e.task.ID, State: state, Reason: reason, Message: message}
	if c := e.task.Check; c != nil && c.Type != wire.CheckUnknown {
		s.Check = &wire.CheckStatus{Type: c.Type}
	}
	return s
}

// forward completes a status and sends it, now or when the agent is back.
func (e *executor) forward(s *wire.Status) {
	s.Executor = e.config.executor
	s.UUID = newUUID()
	s.Timestamp = float64(time.Now().UnixMicro()) / 1e6
	if s.TaskID == e.task.ID {
		e.last = *s
	}
	e.unacked = append(e.unacked, &update{
		uuid: string(s.UUID), status: wire.EncodeStatus(s),
		terminal: s.State.Terminal(),
	})
	e.link.send()
}

// newUUID makes a random UUID. The kernel is asked directly: crypto/rand brings
// self-tests that this short-lived program would run for every task.
func newUUID() []byte {
	b := make([]byte, 16)
	for n := 0; n < len(b); {
		m, err := unix.Getrandom(b[n:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic("getrandom: " + err.Error())
		}
		n += max(m, 0)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b
}
