package executorlink

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"clusterd/agent/executorlink/wire"
)

const (
	firstBackoff = 10 * time.Millisecond
	maxBackoff   = time.Second
	// heartbeatInterval is that of HEARTBEAT calls.
	heartbeatInterval = 30 * time.Minute

	executorPath = "/api/v1/executor"

	statusOK          = 200
	statusAccepted    = 202
	statusForbidden   = 403
	statusTooMany     = 429
	statusUnavailable = 503
)

// Owner is the executor that a Link serves. Its methods are called by the goroutine that
// calls the Link's, but for Post.
type Owner interface {
	// Post hands something to the executor's goroutine, which gives it to Link.Handle. Any
	// goroutine calls it.
	Post(input any)
	// Log tells the executor's user something.
	Log(text string)
	// Received takes an event of the agent.
	Received(event *wire.Event)
	// UnackedTasks are the tasks, as they came, that the agent may not know to have been sent.
	UnackedTasks() [][]byte
	// HasTasks says whether the executor was given anything that it cannot just leave.
	HasTasks() bool
	// Connected hears when the agent is there (after SUBSCRIBED was received), or has gone.
	Connected(up bool)
	// GiveUp hears that the agent does not come back: the executor is to end, with all that it
	// runs.
	GiveUp()
}

// update is a status update that the agent has not acknowledged.
type update struct {
	uuid   string
	status []byte
	// sent says that the agent got it, in a call or in a SUBSCRIBE.
	sent bool
}

// Link is the connection with the agent, as the executor's goroutine sees it:
// a subscription that streams events, and calls, one at a time and in order.
//
//	          connect            SUBSCRIBED
//	(down) ───────────▶ (trying) ───────────▶ (up)
//	   ▲   after backoff    │                  │
//	   └────────────────────┴──────────────────┘ disconnected
type Link struct {
	owner  Owner
	config Config
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

	unacked []*update
	calls   chan []byte
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
	heartbeatDue struct{}
)

// New makes the link of an executor; nothing happens before Start.
func New(owner Owner, config Config) *Link {
	return &Link{owner: owner, config: config, backoff: firstBackoff, calls: make(chan []byte)}
}

// Start begins to subscribe.
func (l *Link) Start() {
	go func() {
		c := &Caller{Agent: l.config.Agent, Path: executorPath}
		for body := range l.calls {
			_, err := c.Call(body, statusAccepted)
			l.owner.Post(called{err})
		}
	}()
	l.armHeartbeat()
	l.connect()
}

func (l *Link) armHeartbeat() {
	time.AfterFunc(heartbeatInterval, func() { l.owner.Post(heartbeatDue{}) })
}

// Up says whether the agent is there.
func (l *Link) Up() bool { return l.up }

// Lost says whether the agent was given up.
func (l *Link) Lost() bool { return l.lost }

// Unacked says how many updates the agent has not acknowledged.
func (l *Link) Unacked() int { return len(l.unacked) }

// Acknowledge drops an update that the agent has taken, and says whether there was one.
func (l *Link) Acknowledge(uuid []byte) bool {
	for i, u := range l.unacked {
		if u.uuid == string(uuid) {
			l.unacked = append(l.unacked[:i:i], l.unacked[i+1:]...)
			return true
		}
	}
	return false
}

// Forward completes a status and sends it, now or when the agent is back.
func (l *Link) Forward(s *wire.Status) {
	s.Executor = l.config.Executor
	s.UUID = NewUUID()
	s.Timestamp = float64(time.Now().UnixMicro()) / 1e6
	l.unacked = append(l.unacked, &update{uuid: string(s.UUID), status: wire.EncodeStatus(s)})
	l.send()
}

// connect begins a subscription with all that the agent may have missed.
func (l *Link) connect() {
	l.attempt++
	updates := make([][]byte, 0, len(l.unacked))
	for _, u := range l.unacked {
		updates = append(updates, u.status)
		u.sent = true
	}
	body := wire.Subscribe(l.config.Framework, l.config.Executor, l.owner.UnackedTasks(), updates)
	attempt := l.attempt
	go func() {
		err := l.subscribe(attempt, body)
		l.owner.Post(disconnected{attempt, err})
	}()
}

// subscribe runs one subscription until it ends, in a goroutine of its own.
func (l *Link) subscribe(attempt int, body []byte) error {
	conn, err := l.config.Agent.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	l.owner.Post(dialed{attempt, conn})
	_ = conn.SetDeadline(time.Now().Add(callTimeout))
	if _, err := conn.Write(l.config.Agent.Request(executorPath, AcceptProtobuf, body)); err != nil {
		return err
	}
	resp, err := ReadResponse(bufio.NewReaderSize(conn, 4096))
	if err != nil {
		return err
	}
	if resp.Status != statusOK {
		return NewStatusError(resp)
	}
	_ = conn.SetDeadline(time.Time{})
	stream := bufio.NewReaderSize(resp.Body, 4096)
	for {
		b, err := ReadRecord(stream)
		if err != nil {
			return err
		}
		ev, err := wire.DecodeEvent(b)
		if err != nil {
			return err
		}
		l.owner.Post(record{attempt, ev})
	}
}

// Handle takes what was posted; what is not the link's it ignores.
func (l *Link) Handle(input any) {
	switch in := input.(type) {
	case dialed:
		if in.attempt == l.attempt {
			l.conn = in.conn
		}
	case record:
		if in.attempt == l.attempt {
			l.received(in.event)
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
			l.owner.Log("the agent did not come back within " + l.config.RecoveryTimeout.String() + ": shutting down")
			l.giveUp()
		}
	case called:
		l.called(in.err)
	case retryCall:
		l.busy = false
		l.send()
	case heartbeatDue:
		l.wantsBeat = true
		l.send()
		l.armHeartbeat()
	}
}

func (l *Link) received(ev *wire.Event) {
	l.owner.Received(ev)
	if ev.Type == wire.EventSubscribed {
		l.subscribed()
	}
}

// subscribed makes the link usable.
func (l *Link) subscribed() {
	l.up = true
	l.backoff = firstBackoff
	l.retryBackoff = firstBackoff
	if l.recovery != nil {
		l.recovery.Stop()
		l.recovery = nil
	}
	l.send()
	l.owner.Connected(true)
}

// disconnected decides whether to try again (src/executor/executor.cpp): an
// executor of a framework that checkpoints waits for the agent, any other ends
// with it. An agent that answers 503 is there, and recovering.
func (l *Link) disconnected(err error) {
	wasUp := l.up
	l.up = false
	l.conn = nil
	l.owner.Connected(false)
	var status *StatusError
	isStatus := errors.As(err, &status)
	if isStatus && status.Status != statusUnavailable && !l.owner.HasTasks() {
		l.owner.Log("subscribe: " + err.Error())
		l.giveUp()
		return
	}
	if l.lost { // the tasks are being killed already
		return
	}
	if !l.config.Checkpoint && !isStatus {
		if err != nil {
			l.owner.Log("disconnected from the agent: " + err.Error() + ": shutting down")
		}
		l.giveUp()
		return
	}
	if l.recovery == nil {
		l.recovery = time.AfterFunc(l.config.RecoveryTimeout, func() { l.owner.Post(recoveryOver{}) })
	}
	if wasUp {
		l.backoff = firstBackoff
	}
	attempt := l.attempt
	delay := l.backoff/2 + rand.N(l.backoff/2)
	time.AfterFunc(delay, func() { l.owner.Post(reconnect{attempt}) })
	l.backoff = max(firstBackoff, min(l.backoff*2, maxBackoff, l.config.BackoffMax/2))
}

// giveUp ends the executor.
func (l *Link) giveUp() {
	l.lost = true
	l.owner.GiveUp()
}

// send sends the next update that the agent has not got.
func (l *Link) send() {
	if !l.up || l.busy {
		return
	}
	if l.wantsBeat {
		l.wantsBeat = false
		l.call(nil, wire.Heartbeat(l.config.Framework, l.config.Executor))
		return
	}
	for _, u := range l.unacked {
		if !u.sent {
			u.sent = true
			l.call(u, wire.Update(l.config.Framework, l.config.Executor, u.status))
			return
		}
	}
}

func (l *Link) call(u *update, body []byte) {
	l.busy, l.calling = true, u
	l.calls <- body
}

// called takes the outcome of a call. An update that did not arrive is sent
// again, or goes with the next SUBSCRIBE.
func (l *Link) called(err error) {
	u := l.calling
	l.calling = nil
	var status *StatusError
	switch {
	case err == nil:
		l.retryBackoff = firstBackoff
	case errors.As(err, &status) && status.Status >= 400 && status.Status < 500 &&
		status.Status != statusForbidden && status.Status != statusTooMany:
		// It will not be taken the next time either.
		l.owner.Log("status update: " + err.Error())
	default:
		if u != nil {
			u.sent = false
		}
		// Busy until then, so that a failing agent is not overrun.
		l.retryBackoff = max(firstBackoff, min(l.retryBackoff*2, maxBackoff))
		time.AfterFunc(l.retryBackoff, func() { l.owner.Post(retryCall{}) })
		return
	}
	l.busy = false
	l.send()
}
