package commandexecutor

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"clusterd/agent/commandexecutor/wire"
)

const (
	firstBackoff = 10 * time.Millisecond
	maxBackoff   = time.Second
)

// link is the connection with the agent, as the executor's goroutine sees it:
// a subscription that streams events, and calls, one at a time and in order.
//
//	          connect            SUBSCRIBED
//	(down) ───────────▶ (trying) ───────────▶ (up)
//	   ▲   after backoff    │                  │
//	   └────────────────────┴──────────────────┘ disconnected
type link struct {
	e *executor
	// attempt numbers the subscriptions; what comes of earlier ones is stale.
	attempt int
	conn    net.Conn
	// up says that the agent has said SUBSCRIBED.
	up bool
	// lost says that the executor gave up waiting for the agent.
	lost    bool
	backoff time.Duration
	// recovery runs while the agent is away.
	recovery *time.Timer

	calls chan []byte
	// calling is the update being sent; busy says that some call is under way.
	calling      *update
	busy         bool
	wantsBeat    bool
	retryBackoff time.Duration
}

// What the link's goroutines report.
type (
	dialed struct {
		attempt int
		conn    net.Conn
	}
	record struct {
		attempt int
		event   *wire.Event
	}
	disconnected struct {
		attempt int
		err     error
	}
	reconnect    struct{ attempt int }
	recoveryOver struct{}
	called       struct{ err error }
	retryCall    struct{}
)

func (l *link) init(e *executor) {
	l.e = e
	l.backoff = firstBackoff
	l.calls = make(chan []byte)
	go func() {
		c := &caller{agent: e.config.agent}
		for body := range l.calls {
			e.post(called{c.call(body)})
		}
	}()
}

// connect begins a subscription with all that the agent may have missed.
func (l *link) connect() {
	l.attempt++
	e := l.e
	var tasks, updates [][]byte
	if e.task != nil && !e.acknowledged {
		tasks = append(tasks, e.task.Raw)
	}
	for _, u := range e.unacked {
		updates = append(updates, u.status)
		u.sent = true
	}
	body := wire.Subscribe(e.config.framework, e.config.executor, tasks, updates)
	attempt := l.attempt
	go func() {
		err := subscribe(e, attempt, body)
		e.post(disconnected{attempt, err})
	}()
}

// subscribe runs one subscription until it ends.
func subscribe(e *executor, attempt int, body []byte) error {
	conn, err := e.config.agent.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	e.post(dialed{attempt, conn})
	_ = conn.SetDeadline(time.Now().Add(callTimeout))
	if _, err := conn.Write(e.config.agent.request(body)); err != nil {
		return err
	}
	resp, err := readResponse(bufio.NewReaderSize(conn, 4096))
	if err != nil {
		return err
	}
	if resp.status != 200 {
		return newStatusError(resp)
	}
	_ = conn.SetDeadline(time.Time{})
	stream := bufio.NewReaderSize(resp.body, 4096)
	for {
		b, err := readRecord(stream)
		if err != nil {
			return err
		}
		ev, err := wire.DecodeEvent(b)
		if err != nil {
			return err
		}
		e.post(record{attempt, ev})
	}
}

func (l *link) handle(input any) {
	switch in := input.(type) {
	case dialed:
		if in.attempt == l.attempt {
			l.conn = in.conn
		}
	case disconnected:
		if in.attempt == l.attempt {
			l.disconnected(in.err)
		}
	case reconnect:
		if in.attempt == l.attempt && !l.up {
			l.connect()
		}
	case recoveryOver:
		if l.recovery != nil {
			l.e.log("the agent did not come back within " + l.e.config.recoveryTimeout.String() + ": shutting down")
			l.giveUp()
		}
	case called:
		l.called(in.err)
	case retryCall:
		l.busy = false
		l.send()
	}
}

// subscribed makes the link usable.
func (l *link) subscribed() {
	l.up = true
	l.backoff = firstBackoff
	l.retryBackoff = firstBackoff
	if l.recovery != nil {
		l.recovery.Stop()
		l.recovery = nil
	}
	l.send()
}

// disconnected decides whether to try again (src/executor/executor.cpp): an
// executor of a framework that checkpoints waits for the agent, any other ends
// with it. An agent that answers 503 is there, and recovering.
func (l *link) disconnected(err error) {
	wasUp := l.up
	l.up = false
	l.conn = nil
	e := l.e
	e.armFailSafe()
	var status *statusError
	isStatus := errors.As(err, &status)
	if isStatus && status.status != 503 && !e.launched {
		e.log("subscribe: " + err.Error())
		l.giveUp()
		return
	}
	if l.lost { // the task is being killed already
		return
	}
	if !e.config.checkpoint && !isStatus {
		if err != nil {
			e.log("disconnected from the agent: " + err.Error() + ": shutting down")
		}
		l.giveUp()
		return
	}
	if l.recovery == nil {
		l.recovery = time.AfterFunc(e.config.recoveryTimeout, func() { e.post(recoveryOver{}) })
	}
	if wasUp {
		l.backoff = firstBackoff
	}
	attempt := l.attempt
	delay := l.backoff/2 + rand.N(l.backoff/2)
	time.AfterFunc(delay, func() { e.post(reconnect{attempt}) })
	l.backoff = max(firstBackoff, min(l.backoff*2, maxBackoff, e.config.backoffMax/2))
}

// giveUp ends the executor, which kills the task first.
func (l *link) giveUp() {
	l.lost = true
	l.e.startShutdown()
	if !l.e.launched {
		code := 1
		l.e.exit = &code
	}
}

// send sends the next update that the agent has not got.
func (l *link) send() {
	if !l.up || l.busy {
		return
	}
	if l.wantsBeat {
		l.wantsBeat = false
		l.call(nil, wire.Heartbeat(l.e.config.framework, l.e.config.executor))
		return
	}
	for _, u := range l.e.unacked {
		if !u.sent {
			u.sent = true
			l.call(u, wire.Update(l.e.config.framework, l.e.config.executor, u.status))
			return
		}
	}
}

func (l *link) call(u *update, body []byte) {
	l.busy, l.calling = true, u
	l.calls <- body
}

// called takes the outcome of a call. An update that did not arrive is sent
// again, or goes with the next SUBSCRIBE.
func (l *link) called(err error) {
	u := l.calling
	l.calling = nil
	var status *statusError
	switch {
	case err == nil:
		l.retryBackoff = firstBackoff
	case errors.As(err, &status) && status.status >= 400 && status.status < 500 && status.status != 403 && status.status != 429:
		// It will not be taken the next time either.
		l.e.log("status update: " + err.Error())
	default:
		if u != nil {
			u.sent = false
		}
		// Busy until then, so that a failing agent is not overrun.
		l.retryBackoff = max(firstBackoff, min(l.retryBackoff*2, maxBackoff))
		time.AfterFunc(l.retryBackoff, func() { l.e.post(retryCall{}) })
		return
	}
	l.busy = false
	l.send()
}

func (l *link) heartbeat() {
	l.wantsBeat = true
	l.send()
}
