// Package executor is a client of the v1 executor API: what an executor needs to
// subscribe with its agent, to receive tasks and to report on them. It keeps
// what the agent has not acknowledged yet and comes back with it when the agent
// was restarted.
//
//	config, err := executor.FromEnvironment()
//	...
//	c, err := executor.New(config, executor.Options{})
//	for event, err := range c.Subscribe(ctx) {
//		if err != nil {
//			return err // the agent is gone for good: see Subscribe
//		}
//		switch event.GetType() {
//		case executor.LAUNCH:
//			err := c.Update(ctx, &mesos.TaskStatus{TaskId: ..., State: mesos.TaskState_TASK_RUNNING.Enum()})
//			...
//		case executor.SHUTDOWN:
//			...
//		}
//	}
//
// A [Client] may be used by several goroutines; one of them subscribes. Imported
// by authors of executors and by the executors that come with the agent.
package executor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/executor"
)

// Path is where agents serve the executor API, below their own name.
const Path = "/api/v1/executor"

// Call is a message to the agent.
type Call = pb.Call

// Event is a message from the agent.
type Event = pb.Event

// The types of events, under shorter names.
const (
	SUBSCRIBED   = pb.Event_SUBSCRIBED
	LAUNCH       = pb.Event_LAUNCH
	LAUNCH_GROUP = pb.Event_LAUNCH_GROUP //nolint:revive,staticcheck // Mesos's name
	KILL         = pb.Event_KILL
	ACKNOWLEDGED = pb.Event_ACKNOWLEDGED
	MESSAGE      = pb.Event_MESSAGE
	ERROR        = pb.Event_ERROR
	SHUTDOWN     = pb.Event_SHUTDOWN
	HEARTBEAT    = pb.Event_HEARTBEAT
)

// ErrNotSubscribed is returned by Call while there is no subscription.
var ErrNotSubscribed = errors.New("not subscribed with the agent")

// ErrSubscribed is returned by a second Subscribe while the first one runs.
var ErrSubscribed = errors.New("already subscribed")

// ErrAgentLost ends Subscribe when the agent did not come back in time, or when the
// executor is not to wait for it.
var ErrAgentLost = errors.New("the agent is lost")

// Options adjust a [Client]. The zero value is useful.
type Options struct {
	// HTTP says how to speak to the agent. Its Token and HTTPClient are set from
	// the Config where they are empty.
	HTTP client.Options
	// HeartbeatInterval is how often HEARTBEAT is sent to the agent, so that
	// nothing between takes the connection for idle; the default is 30 minutes
	// (DEFAULT_EXECUTOR_HEARTBEAT_INTERVAL, src/executor/executor.cpp).
	HeartbeatInterval time.Duration
	// FirstTimeout is how long the first subscription may take to come about; the
	// default is 10 s, or the recovery timeout if the framework checkpoints.
	FirstTimeout time.Duration
	// OnDisconnect is called, if given, each time a subscription is lost or could not
	// be made and another attempt follows.
	OnDisconnect func(error)
}

// Client is an executor's connection to its agent. Use [New].
type Client struct {
	config Config
	opts   Options
	http   *client.Client

	// sending makes updates go out one after the other, in the order of Update.
	sending sync.Mutex

	// mu guards the fields below. It is taken after sending.
	mu      sync.Mutex
	running bool
	// stream is the current subscription, nil before SUBSCRIBED came.
	stream *client.Stream
	// tasks and updates are what the agent has not acknowledged, oldest first.
	tasks   []*mesos.TaskInfo
	updates []*pb.Call_Update
}

// New returns a Client. It sends nothing yet.
func New(config Config, opts Options) (*Client, error) {
	if config.URL == nil || config.FrameworkID == "" || config.ExecutorID == "" {
		return nil, errors.New("config: want the agent's URL and the ids of framework and executor")
	}
	config.RecoveryTimeout = cmp.Or(config.RecoveryTimeout, defaultRecoveryTimeout)
	config.SubscriptionBackoffMax = cmp.Or(config.SubscriptionBackoffMax, defaultBackoffMax)
	opts.HeartbeatInterval = cmp.Or(opts.HeartbeatInterval, 30*time.Minute)
	if config.Checkpoint {
		opts.FirstTimeout = cmp.Or(opts.FirstTimeout, config.RecoveryTimeout)
	}
	opts.FirstTimeout = cmp.Or(opts.FirstTimeout, 10*time.Second)
	opts.HTTP.Token = cmp.Or(opts.HTTP.Token, config.Token)
	if config.DomainSocket != "" && opts.HTTP.HTTPClient == nil {
		path, err := socketPath(config.DomainSocket)
		if err != nil {
			return nil, err
		}
		opts.HTTP.HTTPClient = client.NewHTTPClient(func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		})
	}
	if config.URL.Scheme == "https" && opts.HTTP.HTTPClient == nil && opts.HTTP.TLS == nil {
		var err error
		if opts.HTTP.TLS, err = config.TLS.Config(); err != nil {
			return nil, fmt.Errorf("TLS of the agent: %w", err)
		}
	}
	return &Client{config: config, opts: opts, http: client.New(opts.HTTP)}, nil
}

// Subscribe subscribes and yields the agent's events as they come. When the
// subscription is lost and the framework checkpoints, it subscribes again, with
// all that is not acknowledged, for as long as the recovery timeout; otherwise
// the executor has no agent any more.
//
// The sequence ends without an error when the subscription is lost after the agent's SHUTDOWN
// and every update is acknowledged, or when the loop's body breaks. It ends with an error when ctx is done (its
// cause) or the agent is lost or refuses the executor (ErrAgentLost): before that a
// SHUTDOWN event is yielded that no agent sent, as Mesos's library does, so that an executor
// needs only one way to end.
func (c *Client) Subscribe(ctx context.Context) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		if !c.start() {
			yield(nil, ErrSubscribed)
			return
		}
		defer c.stop()
		s := &session{Client: c, yield: yield}
		deadline := time.Now().Add(c.opts.FirstTimeout)
		for first := true; ; first = false {
			if !first {
				// Uniform as in Mesos, but a quarter: the agent waits for its
				// executors no longer than this maximum, whole.
				if client.Sleep(ctx, mathrand.N(c.config.SubscriptionBackoffMax/4+1)) != nil {
					break
				}
			}
			err := s.run(ctx)
			if s.broken || s.shutdown && s.Unacknowledged() == 0 {
				return
			}
			if ctx.Err() != nil {
				break
			}
			if s.subscribed {
				deadline = time.Now()
				if c.config.Checkpoint {
					deadline = deadline.Add(c.config.RecoveryTimeout)
				}
			}
			if refused(err) || !time.Now().Before(deadline) {
				s.lost(err)
				return
			}
			if c.opts.OnDisconnect != nil {
				c.opts.OnDisconnect(err)
			}
		}
		yield(nil, context.Cause(ctx))
	}
}

// refused tells whether the agent will not take the executor. A 404 comes from an
// agent that has just started.
func refused(err error) bool {
	return client.Permanent(err) && client.StatusCode(err) != http.StatusNotFound
}

func (c *Client) start() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return false
	}
	c.running = true
	return true
}

func (c *Client) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
}

// session is one run of Subscribe, over all its subscriptions.
type session struct {
	*Client

	yield func(*Event, error) bool
	// subscribed is whether the last subscription came about.
	subscribed bool
	// shutdown is whether the agent sent SHUTDOWN.
	shutdown bool
	// broken is whether the loop's body broke.
	broken bool
}

// lost ends the sequence because there is no agent any more.
func (s *session) lost(err error) {
	if s.shutdown {
		return // the executor is on its way out
	}
	if s.yield(&Event{Type: SHUTDOWN.Enum()}, nil) {
		s.yield(nil, fmt.Errorf("%w: %w", ErrAgentLost, err))
	}
}

// run is one subscription from beginning to end. It returns why it ended.
func (s *session) run(ctx context.Context) error {
	s.subscribed = false
	call := s.subscribeCall()
	stream, err := s.http.Stream(ctx, s.config.URL, nil, call)
	if err != nil {
		return err
	}
	defer stream.Close()
	defer s.disconnected(stream)
	var wg sync.WaitGroup
	defer wg.Wait()
	beating, endBeating := context.WithCancel(ctx)
	defer endBeating()
	for {
		event := &Event{}
		if err := stream.Next(event); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the agent closed the stream: %w", err)
			}
			return err
		}
		switch event.GetType() {
		case SUBSCRIBED:
			s.subscribed = true
			s.connected(ctx, stream, call.GetSubscribe())
			wg.Go(func() { s.beat(beating) })
		case SHUTDOWN:
			s.shutdown = true
		default:
			s.note(event)
		}
		if !s.yield(event, nil) {
			s.broken = true
			return nil
		}
	}
}

// beat sends heartbeats until ctx is done. Failures do not matter: the stream
// shows whether the agent is there.
func (c *Client) beat(ctx context.Context) {
	for client.Sleep(ctx, c.opts.HeartbeatInterval) == nil {
		_ = c.Call(ctx, &Call{Type: pb.Call_HEARTBEAT.Enum()})
	}
}

// subscribeCall makes the call with all that is not acknowledged.
func (c *Client) subscribeCall() *Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.address(&Call{
		Type: pb.Call_SUBSCRIBE.Enum(),
		Subscribe: &pb.Call_Subscribe{
			UnacknowledgedTasks:   slices.Clone(c.tasks),
			UnacknowledgedUpdates: slices.Clone(c.updates),
		},
	})
}

// address fills in the ids that every call has.
func (c *Client) address(call *Call) *Call {
	call.FrameworkId = &mesos.FrameworkID{Value: &c.config.FrameworkID}
	call.ExecutorId = &mesos.ExecutorID{Value: &c.config.ExecutorID}
	return call
}

// connected takes note of a new subscription and sends the updates that were made
// while it came about, and that it did not carry therefore.
func (c *Client) connected(ctx context.Context, stream *client.Stream, sent *pb.Call_Subscribe) {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	c.stream = stream
	pending := slices.DeleteFunc(slices.Clone(c.updates), func(u *pb.Call_Update) bool {
		return slices.Contains(sent.UnacknowledgedUpdates, u)
	})
	c.mu.Unlock()
	for _, u := range pending {
		if c.send(ctx, u) != nil {
			return
		}
	}
}

// disconnected takes note that the subscription is over.
func (c *Client) disconnected(stream *client.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream == stream {
		c.stream = nil
	}
}

// note keeps track of what is acknowledged and what is not.
func (c *Client) note(event *Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch event.GetType() {
	case LAUNCH:
		c.tasks = append(c.tasks, event.GetLaunch().GetTask())
	case LAUNCH_GROUP:
		c.tasks = append(c.tasks, event.GetLaunchGroup().GetTaskGroup().GetTasks()...)
	case ACKNOWLEDGED:
		ack := event.GetAcknowledged()
		c.updates = slices.DeleteFunc(c.updates, func(u *pb.Call_Update) bool {
			return bytes.Equal(u.GetStatus().GetUuid(), ack.GetUuid())
		})
		// The agent has a state of the task now, and need not be told of it again.
		c.tasks = slices.DeleteFunc(c.tasks, func(t *mesos.TaskInfo) bool {
			return t.GetTaskId().GetValue() == ack.GetTaskId().GetValue()
		})
	default:
	}
}

// Unacknowledged returns how many updates the agent has not acknowledged: an
// executor should not exit before there are none.
func (c *Client) Unacknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.updates)
}

// Update reports the state of a task. It fills in what the status lacks of
// uuid, timestamp, source, executor_id and agent_id, and keeps the update until the
// agent has acknowledged it: without a subscription, or when the agent cannot be reached,
// it goes with the next subscription, in order. An error means that the status is not
// valid or that the agent refused it, and that it is not kept.
func (c *Client) Update(ctx context.Context, status *mesos.TaskStatus) error {
	status = c.complete(status)
	if err := proto.CheckInitialized(status); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if status.GetState() == mesos.TaskState_TASK_STAGING {
		return errors.New("update: TASK_STAGING is the agent's to report") // it would end the executor
	}
	update := &pb.Call_Update{Status: status}
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	c.updates = append(c.updates, update)
	subscribed := c.stream != nil
	c.mu.Unlock()
	if !subscribed {
		return nil
	}
	return c.send(ctx, update)
}

// complete returns a copy of status with everything that agents want to see.
func (c *Client) complete(status *mesos.TaskStatus) *mesos.TaskStatus {
	status = proto.CloneOf(status)
	if len(status.Uuid) == 0 {
		var id [16]byte
		rand.Read(id[:])
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		status.Uuid = id[:]
	}
	if status.Timestamp == nil {
		status.Timestamp = new(float64(time.Now().UnixMicro()) / 1e6)
	}
	status.Source = mesos.TaskStatus_SOURCE_EXECUTOR.Enum()
	status.ExecutorId = &mesos.ExecutorID{Value: &c.config.ExecutorID}
	if status.AgentId == nil && c.config.AgentID != "" {
		status.AgentId = &mesos.AgentID{Value: &c.config.AgentID}
	}
	return status
}

// send posts one update; the caller holds sending. What the agent refuses is
// forgotten; any other failure ends the subscription, since an update that comes
// later must not overtake this one.
func (c *Client) send(ctx context.Context, update *pb.Call_Update) error {
	c.mu.Lock()
	stream := c.stream
	c.mu.Unlock()
	if stream == nil {
		return nil
	}
	call := c.address(&Call{Type: pb.Call_UPDATE.Enum(), Update: update})
	_, err := c.http.Call(ctx, c.config.URL, nil, call, nil)
	if err == nil {
		return nil
	}
	if refused(err) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.updates = slices.DeleteFunc(c.updates, func(u *pb.Call_Update) bool { return u == update })
		return fmt.Errorf("update: %w", err)
	}
	c.disconnected(stream)
	stream.Abort(fmt.Errorf("update: %w", err))
	return nil
}

// Message sends data to the scheduler; it may be lost on the way.
func (c *Client) Message(ctx context.Context, data []byte) error {
	return c.Call(ctx, &Call{Type: pb.Call_MESSAGE.Enum(), Message: &pb.Call_Message{Data: data}})
}

// Call sends a call other than SUBSCRIBE and UPDATE, once. The ids of framework
// and executor are set in it. A refusal is a [*client.StatusError].
func (c *Client) Call(ctx context.Context, call *Call) error {
	c.mu.Lock()
	subscribed := c.stream != nil
	c.mu.Unlock()
	if !subscribed {
		return fmt.Errorf("%s: %w", call.GetType(), ErrNotSubscribed)
	}
	if _, err := c.http.Call(ctx, c.config.URL, nil, c.address(call), nil); err != nil {
		return fmt.Errorf("%s: %w", call.GetType(), err)
	}
	return nil
}
