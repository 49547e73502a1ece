// Package checks checks tasks for the executors that come with clusterd: whether they are
// healthy, and what their general checks say (src/checks of Mesos).
//
// [Checker] is the main type; [Health] judges the results of a health check. Both belong to the
// one goroutine of their executor; timers and probes over the network run elsewhere and report
// over Options.Post. agent/commandexecutor and agent/defaultexecutor import this package, whose
// imports are few because their programs have to start quickly.
package checks

import (
	"strconv"
	"syscall"
	"time"

	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
)

// ErrTransient is the result of a check that could not be made, for reasons that say nothing
// about the task: it is not told to anybody.
const ErrTransient = executorlink.TextError("the check could not be made")

// Options is what a Checker needs of its executor.
type Options struct {
	// Post hands an Event to the executor's goroutine, which gives it to Event.Handle. Any
	// goroutine calls it.
	Post func(Event)
	// Start starts the command of a check. Made with done from its outcome, an Event is to be
	// posted or handled when the command has ended; stop ends it before, after which no Event
	// counts any more.
	Start func(command *wire.Command, done func(value int32, err error) Event) (stop func(), err error)
	// Dial is how probes connect; nil: in this process's own network.
	Dial Dial
	// TLS, if set, makes probes of https possible.
	TLS TLS
	// Result takes the outcome of each check, in the executor's goroutine.
	Result func(value int32, err error)
}

// Checker runs one check of a task again and again: after a delay, then an
// interval after each result (src/checks/checker_process.cpp).
type Checker struct {
	check   *wire.Check
	options Options

	// stopped is for good, suspended for a while.
	stopped, suspended bool
	// round tells the probe under way from earlier ones that come late.
	round int
	timer *time.Timer
	// cancel ends what is under way.
	cancel func()
}

// Event is what timers and probes report.
type Event struct {
	checker *Checker
	round   int
	kind    eventKind
	value   int32
	err     error
}

// Handle takes the event, in the executor's goroutine.
func (ev Event) Handle() { ev.checker.handle(ev) }

type eventKind int

const (
	due eventKind = iota
	timeout
	done
)

// New begins to check. Check must be of a known type.
func New(check *wire.Check, options Options) *Checker {
	c := &Checker{check: check, options: options}
	c.schedule(executorlink.Seconds(check.Delay))
	return c
}

// Known says whether a check is of a type that there is.
func Known(check *wire.Check) bool {
	return check.Type >= wire.CheckCommand && check.Type <= wire.CheckTCP
}

func (c *Checker) schedule(d time.Duration) {
	c.round++
	c.after(d, due)
}

func (c *Checker) after(d time.Duration, kind eventKind) {
	ev := Event{checker: c, round: c.round, kind: kind}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() { c.options.Post(ev) })
}

func (c *Checker) handle(ev Event) {
	if c.stopped || c.suspended || ev.round != c.round {
		return
	}
	switch ev.kind {
	case due:
		c.perform()
	case timeout:
		c.stopProbe()
		c.finish(0, executorlink.TextError(c.what()+" timed out after "+executorlink.Seconds(c.check.Timeout).String()))
	case done:
		c.finish(ev.value, ev.err)
	}
}

func (c *Checker) what() string {
	switch c.check.Type {
	case wire.CheckHTTP:
		return "HTTP request"
	case wire.CheckTCP:
		return "TCP connection"
	case wire.CheckCommand, wire.CheckUnknown:
	}
	return "Command"
}

func (c *Checker) perform() {
	// Zero means for ever.
	limit := executorlink.Seconds(c.check.Timeout)
	if limit > 0 {
		c.after(limit, timeout)
	}
	ev := Event{checker: c, round: c.round, kind: done}
	result := func(value int32, err error) Event {
		ev.value, ev.err = value, err
		return ev
	}
	switch c.check.Type {
	case wire.CheckCommand:
		stop, err := c.options.Start(c.check.Command, result)
		if err != nil {
			c.finish(0, err)
			return
		}
		c.cancel = stop
	case wire.CheckHTTP, wire.CheckTCP:
		p := newProbe(c.check, c.options.Dial, c.options.TLS, limit)
		c.cancel = p.cancel
		go func() { c.options.Post(result(p.run())) }()
	case wire.CheckUnknown:
	}
}

// Ended is the outcome of a command that has ended: its exit code.
func Ended(ws syscall.WaitStatus) (value int32, err error) {
	if ws.Exited() {
		return int32(ws.ExitStatus()), nil
	}
	return 0, executorlink.TextError("Command " + executorlink.Describe(ws))
}

func (c *Checker) finish(value int32, err error) {
	c.cancel = nil
	if err != ErrTransient { //nolint:errorlint // it comes as it is
		c.options.Result(value, err)
	}
	if !c.stopped { // the result may have ended the task
		c.schedule(executorlink.Seconds(c.check.Interval))
	}
}

// stopProbe ends what is under way.
func (c *Checker) stopProbe() {
	if c.cancel != nil {
		c.cancel()
		c.cancel = nil
	}
}

// Stop stops checking for good: no later result counts. Nil has nothing to stop.
func (c *Checker) Stop() {
	if c == nil || c.stopped {
		return
	}
	c.stopped = true
	c.halt()
}

// Suspend stops checking until Resume, which checks at once. The executors of pods do so while
// their agent is away.
func (c *Checker) Suspend() {
	if c == nil || c.stopped || c.suspended {
		return
	}
	c.suspended = true
	c.halt()
}

// Resume goes on after Suspend.
func (c *Checker) Resume() {
	if c == nil || c.stopped || !c.suspended {
		return
	}
	c.suspended = false
	c.schedule(0)
}

func (c *Checker) halt() {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.round++
	c.stopProbe()
}

// Changes is the Options.Result of a general check: it reports what is not as it was before.
func Changes(check *wire.Check, log func(string), report func(wire.CheckStatus)) func(value int32, err error) {
	previous := wire.CheckStatus{Type: check.Type}
	return func(value int32, err error) {
		status := wire.CheckStatus{Type: check.Type, Has: err == nil, Value: value}
		if err != nil {
			status.Value = 0
			log("check failed: " + err.Error())
		}
		if status == previous {
			return
		}
		previous = status
		report(status)
	}
}

// Health judges the results of a health check (src/checks/health_checker.cpp).
type Health struct {
	Check *wire.Check
	// Started is when the task did.
	Started time.Time
	// Report says what changed: whether the task is healthy, and whether it
	// has failed so often that it must be killed.
	Report func(healthy, kill bool)
	Log    func(string)

	failures    uint32
	initialized bool
}

// Result is the Options.Result of the check.
func (h *Health) Result(value int32, err error) {
	switch {
	case err != nil:
	case h.Check.Type == wire.CheckCommand && value != 0:
		// The exit code is taken for a wait status there, which says a
		// signal for any that is not 0; here it says what happened.
		err = executorlink.TextError("Command " + executorlink.Describe(syscall.WaitStatus(value<<8)))
	case h.Check.Type == wire.CheckHTTP && (value < 200 || value >= 400):
		err = executorlink.TextError("Unexpected HTTP response code: " + strconv.Itoa(int(value)))
	case h.Check.Type == wire.CheckTCP && value == 0:
		err = executorlink.TextError("TCP connection failed")
	}
	if err == nil {
		if !h.initialized || h.failures > 0 {
			h.initialized = true
			h.failures = 0
			h.Report(true, false)
		}
		return
	}
	grace := executorlink.Seconds(h.Check.GracePeriod)
	if !h.initialized && grace > 0 && time.Since(h.Started) <= grace {
		return
	}
	h.failures++
	h.Log("health check failed " + strconv.Itoa(int(h.failures)) + " times in a row: " + err.Error())
	h.Report(false, h.failures >= h.Check.Failures)
}
