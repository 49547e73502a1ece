// Package scheduler is a client of the v1 scheduler API: what a framework needs to
// subscribe, to receive offers and updates, and to answer them. It finds the
// leading master, stays with it, and comes back with the same framework id
// when a master fails.
//
//	c, err := scheduler.New(scheduler.Options{
//		Masters:   []string{"10.0.0.1:5050", "10.0.0.2:5050"},
//		Framework: &mesos.FrameworkInfo{User: new("root"), Name: new("example"), ...},
//	})
//	for event, err := range c.Subscribe(ctx) {
//		if err != nil {
//			return err // for good: see Subscribe
//		}
//		switch event.GetType() {
//		case scheduler.OFFERS:
//			...
//		}
//	}
//
// A [Client] may be used by several goroutines; one of them subscribes. Imported
// by framework authors and by the command line.
package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
)

// Path is where masters serve the scheduler API.
const Path = "/api/v1/scheduler"

// Call is a message to the master.
type Call = pb.Call

// Event is a message from the master.
type Event = pb.Event

// The types of events, under shorter names.
const (
	SUBSCRIBED              = pb.Event_SUBSCRIBED
	OFFERS                  = pb.Event_OFFERS
	INVERSE_OFFERS          = pb.Event_INVERSE_OFFERS //nolint:revive,staticcheck // Mesos's name
	RESCIND                 = pb.Event_RESCIND
	RESCIND_INVERSE_OFFER   = pb.Event_RESCIND_INVERSE_OFFER //nolint:revive,staticcheck // Mesos's name
	UPDATE                  = pb.Event_UPDATE
	UPDATE_OPERATION_STATUS = pb.Event_UPDATE_OPERATION_STATUS //nolint:revive,staticcheck // Mesos's name
	MESSAGE                 = pb.Event_MESSAGE
	FAILURE                 = pb.Event_FAILURE
	ERROR                   = pb.Event_ERROR
	HEARTBEAT               = pb.Event_HEARTBEAT
)

// ErrNotSubscribed is returned by calls while there is no subscription. What was
// to be said is usually overtaken by the time there is one again: offers
// are gone, and updates are sent again.
var ErrNotSubscribed = errors.New("not subscribed to a master")

// ErrSubscribed is returned by a second Subscribe while the first one runs.
var ErrSubscribed = errors.New("already subscribed")

// FrameworkError is the master's ERROR event, after which it closes the stream:
// the framework may not subscribe (again) as it is.
type FrameworkError struct{ Message string }

// Error returns the master's words.
func (e *FrameworkError) Error() string { return "the master refuses the framework: " + e.Message }

// Options describe the framework and the way to the masters.
type Options struct {
	// Masters holds the addresses of one or more masters, host:port or URLs.
	Masters []string
	// Framework is what is subscribed. With an id, an earlier framework is taken
	// over; without one, the master's is used from then on, see FrameworkID.
	Framework *mesos.FrameworkInfo
	// SuppressedRoles get no offers from the beginning.
	SuppressedRoles []string
	// OfferConstraints limit the agents that are offered.
	OfferConstraints *pb.OfferConstraints
	// HTTP says how to speak to the masters.
	HTTP client.Options
	// MinBackoff and MaxBackoff bound the wait before each new attempt to
	// subscribe; the defaults are 200 ms and 15 s.
	MinBackoff, MaxBackoff time.Duration
	// OnDisconnect is called, if given, each time a subscription is lost or could not
	// be made and another attempt follows.
	OnDisconnect func(error)
}

// Client is a framework's connection to the master. Use [New].
type Client struct {
	opts    Options
	http    *client.Client
	masters *client.Masters

	// mu guards the fields below.
	mu          sync.Mutex
	running     bool
	info        *mesos.FrameworkInfo
	suppressed  []string
	constraints *pb.OfferConstraints
	// stream is the current subscription, nil before SUBSCRIBED came.
	stream *client.Stream
}

// New checks the options and returns a Client. It sends nothing yet.
func New(opts Options) (*Client, error) {
	if opts.Framework == nil {
		return nil, errors.New("no framework given")
	}
	if err := proto.CheckInitialized(opts.Framework); err != nil {
		return nil, fmt.Errorf("framework: %w", err)
	}
	hc := client.New(opts.HTTP)
	masters, err := client.NewMasters(hc, opts.Masters, Path)
	if err != nil {
		return nil, err
	}
	return &Client{
		opts: opts, http: hc, masters: masters,
		info:        proto.CloneOf(opts.Framework),
		suppressed:  slices.Clone(opts.SuppressedRoles),
		constraints: proto.CloneOf(opts.OfferConstraints),
	}, nil
}

// FrameworkID returns the framework's id, nil as long as there is none.
func (c *Client) FrameworkID() *mesos.FrameworkID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return proto.CloneOf(c.info.GetId())
}

// Subscribe subscribes, and whenever the subscription is lost subscribes again,
// and yields the events as they come. Each SUBSCRIBED event marks a new
// subscription: offers from before it are void, and the framework should
// reconcile its tasks. Events wait for the loop's body; a framework that
// takes too long over them is cut off by the master in the end, and returns.
//
// The sequence ends with an error when ctx is done (its cause), when the master
// sent ERROR (a [*FrameworkError], after the event itself) or refused the
// subscription for good (a [*client.StatusError]), or without one when the
// loop's body breaks.
func (c *Client) Subscribe(ctx context.Context) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		if !c.start() {
			yield(nil, ErrSubscribed)
			return
		}
		defer c.stop()
		backoff := client.Backoff{Min: c.opts.MinBackoff, Max: c.opts.MaxBackoff}
		for {
			err, again := c.session(ctx, &backoff, yield)
			if !again {
				return
			}
			if ctx.Err() == nil && !final(err) {
				if c.opts.OnDisconnect != nil {
					c.opts.OnDisconnect(err)
				}
				if err = backoff.Wait(ctx); err == nil {
					continue
				}
			}
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			yield(nil, err)
			return
		}
	}
}

// Run is Subscribe with a function for the loop's body. It returns the error
// of the sequence, or of handle, which ends the loop.
func (c *Client) Run(ctx context.Context, handle func(*Event) error) error {
	for event, err := range c.Subscribe(ctx) {
		if err != nil {
			return err
		}
		if err := handle(event); err != nil {
			return err
		}
	}
	return nil
}

// final tells whether there is no point in subscribing again.
func final(err error) bool {
	_, refused := errors.AsType[*FrameworkError](err)
	return refused || client.Permanent(err)
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

// session is one subscription from beginning to end. It returns why it ended;
// again is false when the loop's body broke.
func (c *Client) session(ctx context.Context, backoff *client.Backoff, yield func(*Event, error) bool) (err error, again bool) {
	stream, err := c.masters.Stream(ctx, nil, c.subscribeCall())
	if err != nil {
		return err, true
	}
	defer stream.Close()
	defer c.setStream(nil)
	stream.ExpectHeartbeats(client.DefaultHeartbeat)
	for {
		event := &Event{}
		if err := stream.Next(event); err != nil {
			// Whoever is asked next knows whether the same master leads again, and a
			// master that is gone would have to be waited for.
			c.masters.Failed(stream.URL())
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the master closed the stream: %w", err)
			}
			return err, true
		}
		if event.GetType() == SUBSCRIBED {
			backoff.Reset()
			c.subscribed(event.GetSubscribed(), stream)
		}
		if !yield(event, nil) {
			return nil, false
		}
		if event.GetType() == ERROR {
			return &FrameworkError{Message: event.GetError().GetMessage()}, true
		}
	}
}

// subscribeCall makes the call for the framework as it is now.
func (c *Client) subscribeCall() *Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := proto.CloneOf(c.info)
	return &Call{
		Type:        pb.Call_SUBSCRIBE.Enum(),
		FrameworkId: info.Id,
		Subscribe: &pb.Call_Subscribe{
			FrameworkInfo:    info,
			SuppressedRoles:  slices.Clone(c.suppressed),
			OfferConstraints: proto.CloneOf(c.constraints),
		},
	}
}

// subscribed takes note of a new subscription.
func (c *Client) subscribed(s *pb.Event_Subscribed, stream *client.Stream) {
	interval := time.Duration(s.GetHeartbeatIntervalSeconds() * float64(time.Second))
	stream.ExpectHeartbeats(cmp.Or(interval, client.DefaultHeartbeat))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.info.Id = proto.CloneOf(s.GetFrameworkId())
	c.stream = stream
}

func (c *Client) setStream(s *client.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = s
}

// Call sends a call other than SUBSCRIBE to the master that the framework is
// subscribed to. The framework's id is filled in. The master's refusal is a
// [*client.StatusError]; no error means that the master has taken the call, not yet
// that it could be carried out. A call is sent once: when its answer is lost,
// it is unknown whether it was taken.
func (c *Client) Call(ctx context.Context, call *Call) error {
	if call.FrameworkId == nil {
		call = proto.CloneOf(call)
	}
	return c.call(ctx, call)
}

// call is Call with a message that is ours to fill in.
func (c *Client) call(ctx context.Context, call *Call) error {
	c.mu.Lock()
	stream, id := c.stream, c.info.GetId()
	c.mu.Unlock()
	if stream == nil {
		return fmt.Errorf("%s: %w", call.GetType(), ErrNotSubscribed)
	}
	if call.FrameworkId == nil {
		call.FrameworkId = id
	}
	header := http.Header{}
	if stream.ID() != "" {
		header.Set(client.StreamIDHeader, stream.ID())
	}
	_, err := c.http.Call(ctx, stream.URL(), header, call, nil)
	if err == nil {
		return nil
	}
	late := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
	err = fmt.Errorf("%s: %w", call.GetType(), err)
	switch code := client.StatusCode(err); {
	case code == http.StatusTemporaryRedirect, code == http.StatusServiceUnavailable:
		stream.Abort(err) // it leads no more; its stream may not have told yet
	case late:
		stream.Abort(err) // frozen or cut off: heartbeats would take longer to show it
	}
	return err
}
