package commandexecutor

import (
	"syscall"
	"time"

	"clusterd/agent/commandexecutor/wire"
)

// checker runs one check of a task again and again: after a delay, then an
// interval after each result (src/checks/checker_process.cpp). It belongs to
// the executor's goroutine; what runs elsewhere (timers, probes over the
// network) reports to it over the executor's channel.
type checker struct {
	name   string
	check  *wire.Check
	e      *executor
	result func(value int32, err error)

	paused bool
	// round tells the probe under way from earlier ones that come late.
	round int
	timer *time.Timer
	// pid is that of a command under way.
	pid int
	// cancel ends a probe over the network.
	cancel func()
}

// checkEvent is what timers and probes report.
type checkEvent struct {
	checker *checker
	round   int
	kind    checkEventKind
	value   int32
	err     error
}

type checkEventKind int

const (
	checkDue checkEventKind = iota
	checkTimeout
	checkDone
)

func newChecker(e *executor, name string, check *wire.Check, result func(int32, error)) *checker {
	c := &checker{name: name, check: check, e: e, result: result}
	c.schedule(seconds(check.Delay))
	return c
}

func (c *checker) schedule(d time.Duration) {
	c.round++
	c.after(d, checkDue)
}

func (c *checker) after(d time.Duration, kind checkEventKind) {
	ev := checkEvent{checker: c, round: c.round, kind: kind}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() { c.e.post(ev) })
}

// handle takes what a timer or probe reported.
func (c *checker) handle(ev checkEvent) {
	if c.paused || ev.round != c.round {
		return
	}
	switch ev.kind {
	case checkDue:
		c.perform()
	case checkTimeout:
		c.stopProbe()
		c.finish(0, textError(c.what()+" timed out after "+seconds(c.check.Timeout).String()))
	case checkDone:
		c.finish(ev.value, ev.err)
	}
}

func (c *checker) what() string {
	switch c.check.Type {
	case wire.CheckHTTP:
		return "HTTP request"
	case wire.CheckTCP:
		return "TCP connection"
	case wire.CheckCommand, wire.CheckUnknown:
	}
	return "Command"
}

func (c *checker) perform() {
	// Zero means for ever.
	timeout := seconds(c.check.Timeout)
	if timeout > 0 {
		c.after(timeout, checkTimeout)
	}
	switch c.check.Type {
	case wire.CheckCommand:
		pid, err := c.e.startCheck(c.check.Command)
		if err != nil {
			c.finish(0, err)
			return
		}
		c.pid = pid
	case wire.CheckHTTP, wire.CheckTCP:
		p := newProbe(c.check, c.e.options.DialTLS, timeout)
		c.cancel = p.cancel
		ev := checkEvent{checker: c, round: c.round, kind: checkDone}
		go func() {
			ev.value, ev.err = p.run()
			c.e.post(ev)
		}()
	case wire.CheckUnknown:
	}
}

// reaped takes the end of a command, if it is this checker's.
func (c *checker) reaped(pid int, ws syscall.WaitStatus) bool {
	if c == nil || c.pid == 0 || c.pid != pid {
		return false
	}
	c.pid = 0
	if c.paused {
		return true
	}
	if ws.Exited() {
		c.finish(int32(ws.ExitStatus()), nil)
	} else {
		c.finish(0, textError("Command "+describe(ws)))
	}
	return true
}

func (c *checker) finish(value int32, err error) {
	c.cancel = nil
	c.result(value, err)
	if !c.paused { // the result may have ended the task
		c.schedule(seconds(c.check.Interval))
	}
}

// stopProbe ends what is under way.
func (c *checker) stopProbe() {
	if c.cancel != nil {
		c.cancel()
		c.cancel = nil
	}
	if c.pid != 0 {
		killTree(c.pid, syscall.SIGKILL)
		c.pid = 0
	}
}

// pause stops checking for good: no later result counts.
func (c *checker) pause() {
	if c == nil || c.paused {
		return
	}
	c.paused = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.stopProbe()
}

// textError is an error that needs no package to make.
type textError string

func (e textError) Error() string { return string(e) }

// health interprets the results of a health check
// (src/checks/health_checker.cpp).
type health struct {
	check       *wire.Check
	started     time.Time
	failures    uint32
	initialized bool
	// report says what changed: whether the task is healthy, and whether it
	// has failed so often that it must be killed.
	report func(healthy, kill bool)
	log    func(string)
}

func (h *health) result(value int32, err error) {
	switch {
	case err != nil:
	case h.check.Type == wire.CheckCommand && value != 0:
		// The exit code is taken for a wait status there, which says a
		// signal for any that is not 0; here it says what happened.
		err = textError("Command " + describe(syscall.WaitStatus(value<<8)))
	case h.check.Type == wire.CheckHTTP && (value < 200 || value >= 400):
		err = textError("Unexpected HTTP response code: " + itoa(int(value)))
	case h.check.Type == wire.CheckTCP && value == 0:
		err = textError("TCP connection failed")
	}
	if err == nil {
		if !h.initialized || h.failures > 0 {
			h.initialized = true
			h.failures = 0
			h.report(true, false)
		}
		return
	}
	grace := seconds(h.check.GracePeriod)
	if !h.initialized && grace > 0 && time.Since(h.started) <= grace {
		return
	}
	h.failures++
	h.log("health check failed " + itoa(int(h.failures)) + " times in a row: " + err.Error())
	h.report(false, h.failures >= h.check.Failures)
}
