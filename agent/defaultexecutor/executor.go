package defaultexecutor

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
	// nor the task's kill policy names one.
	defaultGrace = 3 * time.Second
	// shutdownReserve is what a shutdown leaves of the executor's grace period
	// for killing by force and reporting.
	shutdownReserve = 2 * time.Second
	// ackTimeout is how long the executor stays for acknowledgements when nothing runs any
	// more and the agent is there.
	ackTimeout = 60 * time.Second
	// retryInterval is how long it is waited until a call is made again that did not reach an
	// agent, or one that recovers.
	retryInterval = time.Second
	// queued is how many results may wait for the executor's goroutine before
	// those who bring them have to.
	queued = 256
)

// group are the tasks that were launched together.
type group struct {
	// ending says that it is being killed, because of one of its tasks.
	ending bool
}

// executor runs the tasks of a pod. One goroutine, that of run, owns all of it.
type executor struct {
	options Options
	config  executorlink.Config
	// mark is the key of the executor's container, which is found in the environment of all
	// that runs in it.
	mark string

	// supervised says that SIGTERM is the agent's order to end at once.
	supervised bool

	inputs  chan any
	sigterm chan os.Signal

	link *executorlink.Link
	// id is the encoded ContainerID of the executor's container.
	id []byte
	// killing and partitionAware are what the framework knows.
	killing, partitionAware bool
	// ip is that of the executor's container.
	ip string

	containers []*container
	// began says that there was a task.
	began       bool
	shutdown    bool
	ackFailSafe *time.Timer

	exit *int
}

// ackOver is an input, beside checks.Event and those of the link and of containers.
type ackOver struct{}

func newExecutor(options Options, c executorlink.Config, env []string) *executor {
	e := &executor{
		options: options, config: c,
		inputs:  make(chan any, queued),
		sigterm: make(chan os.Signal, 1),
		mark:    value(env, markVariable),
		ip:      containerIP(c.Agent, env),
	}
	e.link = executorlink.New(e, c)
	return e
}

// Post hands something to the executor's goroutine.
func (e *executor) Post(input any) { e.inputs <- input }

// Log writes to the executor's standard error.
func (e *executor) Log(text string) {
	_, _ = os.Stderr.WriteString("default executor: " + text + "\n")
}

func (e *executor) quit(code int) {
	if e.exit == nil {
		e.exit = &code
	}
}

// run returns a wait status: that of an exit code, or of a process that was
// killed.
func (e *executor) run() int {
	signal.Notify(e.sigterm, syscall.SIGTERM)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	e.link.Start()
	for e.exit == nil {
		select {
		case <-e.sigterm:
			if e.supervised {
				return supervisor.Killed
			}
			e.startShutdown()
		case input := <-e.inputs:
			e.handle(input)
		}
	}
	return *e.exit << 8
}

func (e *executor) handle(input any) {
	switch in := input.(type) {
	case checks.Event:
		in.Handle()
	case launched:
		e.launched(in)
	case relaunch:
		if !in.c.launched && !in.c.launching && !in.c.over && e.link.Up() {
			e.launch(in.c)
		}
	case waited:
		e.waited(in)
	case waitAgain:
		if e.link.Up() {
			e.wait(in.c)
		}
	case signalled:
		e.signalled(in)
	case signalAgain:
		if !in.c.over {
			e.signal(in.c, in.signal)
		}
	case escalate:
		e.escalated(in.c)
	case completionOver:
		e.completionReached(in.c)
	case ackOver:
		if e.ackFailSafe != nil {
			e.Log("the agent does not acknowledge the last status updates")
			e.quit(1)
		}
	default:
		e.link.Handle(input)
	}
}

// UnackedTasks are those of which the agent has acknowledged nothing.
func (e *executor) UnackedTasks() (tasks [][]byte) {
	for _, c := range e.containers {
		if !c.acknowledged {
			tasks = append(tasks, c.task.Raw)
		}
	}
	return tasks
}

// HasTasks says whether there are, or were, tasks.
func (e *executor) HasTasks() bool { return e.began }

// Connected hears that the agent is there, or has gone.
func (e *executor) Connected(up bool) {
	e.armFailSafe()
	for _, c := range e.containers {
		if !up {
			c.check.Suspend()
			c.health.Suspend()
			continue
		}
		c.check.Resume()
		c.health.Resume()
		if !c.launched && !c.launching {
			e.launch(c)
		}
		e.wait(c)
	}
}

// GiveUp ends the executor: without an agent there is nobody who would run, end or hear of
// anything. The next agent destroys the containers of an executor that has ended.
func (e *executor) GiveUp() { e.quit(1) }

// Received handles an event of the agent.
func (e *executor) Received(ev *wire.Event) {
	switch ev.Type {
	case wire.EventSubscribed:
		e.killing, e.partitionAware = ev.TaskKilling, ev.PartitionAware
		e.id = ev.ContainerID
	case wire.EventLaunch:
		e.Log("LAUNCH is not for the default executor: shutting down")
		e.startShutdown()
	case wire.EventLaunchGroup:
		e.launchGroup(ev.Group)
	case wire.EventKill:
		c := e.find(ev.TaskID)
		if c == nil {
			e.Log("KILL of a task that does not run: " + ev.TaskID)
			return
		}
		grace := c.grace()
		if ev.Grace != nil {
			grace = max(0, time.Duration(*ev.Grace))
		}
		e.kill(c, grace)
	case wire.EventAcknowledged:
		e.acknowledge(ev)
	case wire.EventShutdown:
		e.startShutdown()
	case wire.EventError:
		e.Log("the agent reports an error: " + ev.Message)
	case wire.EventMessage, wire.EventHeartbeat, wire.EventUnknown:
	}
}

func (e *executor) find(task string) *container {
	for _, c := range e.containers {
		if c.task.ID == task {
			return c
		}
	}
	return nil
}

func (e *executor) acknowledge(ev *wire.Event) {
	if !e.link.Acknowledge(ev.UUID) {
		return
	}
	if c := e.find(ev.TaskID); c != nil {
		c.acknowledged = true
	}
	e.endIfIdle()
}

// endIfIdle ends an executor that runs nothing and has nothing to tell.
func (e *executor) endIfIdle() {
	if !e.began && !e.shutdown || len(e.containers) > 0 {
		return
	}
	if e.link.Unacked() == 0 {
		e.quit(0)
		return
	}
	e.armFailSafe()
}

// armFailSafe bounds the wait for the last acknowledgements. While the agent is
// away it is the recovery timeout that does.
func (e *executor) armFailSafe() {
	if e.ackFailSafe != nil {
		e.ackFailSafe.Stop()
		e.ackFailSafe = nil
	}
	if e.began && len(e.containers) == 0 && e.link.Up() {
		e.ackFailSafe = time.AfterFunc(ackTimeout, func() { e.Post(ackOver{}) })
	}
}

// startShutdown kills all tasks, and ends the executor after them.
func (e *executor) startShutdown() {
	if e.shutdown {
		return
	}
	e.shutdown = true
	if len(e.containers) > 0 && !e.link.Up() {
		// There is nobody who could kill them, but who finds them without an executor.
		e.quit(1)
		return
	}
	limit := max(0, e.config.ShutdownGrace-shutdownReserve)
	for _, c := range e.containers {
		e.kill(c, min(c.grace(), limit))
	}
	e.endIfIdle()
}

// status makes a status from scratch. When the task has a check, every status
// says so, also before there is a result.
func (c *container) status(state wire.State, reason wire.Reason, message string) *wire.Status {
	s := &wire.Status{TaskID: c.task.ID, State: state, Reason: reason, Message: message, ContainerID: c.id}
	if check := c.task.Check; check != nil && check.Type != wire.CheckUnknown {
		s.Check = &wire.CheckStatus{Type: check.Type}
	}
	return s
}

// forward sends a status, now or when the agent is back.
func (e *executor) forward(c *container, s *wire.Status) {
	e.link.Forward(s)
	c.last = *s
}
