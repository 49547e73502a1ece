package defaultexecutor

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"clusterd/agent/checks"
	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
)

// startChecks begins to check a task that runs.
func (e *executor) startChecks(c *container) {
	if check := c.task.Check; check != nil && checks.Known(check) {
		c.check = e.newChecker(c, check, checks.Changes(check, e.Log, func(status wire.CheckStatus) {
			if c.killed || c.over {
				return
			}
			s := c.last
			s.Reason, s.Check = wire.ReasonTaskCheckUpdated, &status
			e.forward(c, &s)
		}))
	}
	check := c.task.HealthCheck
	if check == nil || !checks.Known(check) {
		return
	}
	h := &checks.Health{Check: check, Started: time.Now(), Log: func(text string) { e.Log(c.task.ID + ": " + text) }}
	h.Report = func(healthy, kill bool) {
		if c.killed || c.over {
			return
		}
		s := c.last
		s.Reason, s.Healthy = wire.ReasonHealthStatusUpdated, &healthy
		e.forward(c, &s)
		if kill {
			c.unhealthy = true
			e.kill(c, c.grace())
		}
	}
	c.health = e.newChecker(c, check, h.Result)
}

func (e *executor) newChecker(c *container, check *wire.Check, result func(int32, error)) *checks.Checker {
	sessions := &sessions{e: e, parent: c.id}
	o := checks.Options{
		Post: func(ev checks.Event) { e.Post(ev) }, Start: sessions.start, TLS: e.options.TLS, Result: result,
	}
	if c.task.Networks {
		key := e.mark + "." + c.value
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) { return c.network.dial(ctx, key, address) }
	}
	return checks.New(check, o)
}

func (c *container) stopChecks() {
	c.check.Stop()
	c.health.Stop()
}

// sessions runs the commands of one check in containers nested in the task's, which look into
// it: they share its namespaces, root and environment (CheckerProcess::nestedCommandCheck in
// src/checks/checker_process.cpp).
type sessions struct {
	e      *executor
	parent []byte

	// mu is held while a command runs, and until its container has ended: there is one at a
	// time. It guards what follows.
	mu sync.Mutex
	// previous is the container of the last command, which is still to be removed.
	previous []byte
}

// start is the Start of checks.Options.
func (s *sessions) start(command *wire.Command, done func(int32, error) checks.Event) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		value, err := s.run(ctx, command)
		s.e.Post(done(value, err))
	}()
	return cancel, nil
}

// run runs a command. What says nothing about the task is checks.ErrTransient.
func (s *sessions) run(ctx context.Context, command *wire.Command) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return 0, checks.ErrTransient
	}
	if s.previous != nil {
		if _, err := s.e.call(wire.RemoveContainer(s.previous), false); err != nil && statusOf(err) != statusNotFound {
			return 0, checks.ErrTransient
		}
		s.previous = nil
	}
	id := wire.NestedID("check-"+executorlink.UUIDText(executorlink.NewUUID()), s.parent)
	s.previous = id
	err := s.session(ctx, id, command)
	if statusOf(err) == 0 && err != nil && ctx.Err() == nil {
		return 0, checks.ErrTransient // the agent has gone; it ends the session when it is back
	}
	body, waitErr := s.e.call(wire.WaitContainer(id), true)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			_, _ = os.Stderr.WriteString("check: " + err.Error() + "\n")
		}
		return 0, checks.ErrTransient
	case waitErr != nil:
		return 0, executorlink.TextError("Unable to get the exit code: " + waitErr.Error())
	}
	end, err := wire.DecodeEnded(body)
	if err != nil || !end.StatusKnown {
		return 0, executorlink.TextError("Unable to get the exit code")
	}
	ws := syscall.WaitStatus(end.Status)
	if ws.Signaled() && ws.Signal() == syscall.SIGKILL {
		return 0, checks.ErrTransient // probably the task has ended, or the agent
	}
	return checks.Ended(ws)
}

// session launches the command and returns when it has ended. When ctx ends the connection is
// closed, and the agent ends the command.
func (s *sessions) session(ctx context.Context, id []byte, command *wire.Command) error {
	agent := s.e.config.Agent
	conn, err := agent.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	const header = "Accept: application/recordio\r\nMessage-Accept: application/x-protobuf\r\nConnection: close\r\n"
	if _, err := conn.Write(agent.Request(agentPath, header, wire.LaunchSession(id, command))); err != nil {
		return err
	}
	resp, err := executorlink.ReadResponse(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	if resp.Status != statusOK {
		return executorlink.NewStatusError(resp)
	}
	stream := bufio.NewReader(resp.Body)
	for {
		b, err := executorlink.ReadRecord(stream)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if data, err := wire.Output(b); err == nil && len(data) > 0 {
			_, _ = os.Stderr.Write(data)
		}
	}
}
