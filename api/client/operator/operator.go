// Package operator is a client of the v1 operator API of masters and agents:
// what dashboards, exporters and the command line need to look at a cluster and to
// change it. [Master] finds the leader by itself; [Agent] asks one agent.
//
// Both may be used by several goroutines. Imported by tools and by the command
// line.
package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"time"

	"clusterd/api/client"
	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/master"
)

// Path is where masters and agents serve the operator API.
const Path = "/api/v1"

// Options say how to reach the servers. The zero value is useful.
type Options struct {
	client.Options

	// MinBackoff and MaxBackoff bound the wait before each new attempt to
	// subscribe; the defaults are 200 ms and 15 s.
	MinBackoff, MaxBackoff time.Duration
	// OnDisconnect is called, if given, each time a subscription is lost or could not
	// be made and another attempt follows.
	OnDisconnect func(error)
}

// Master speaks to the leader of a group of masters. Use [NewMaster].
type Master struct {
	opts    Options
	masters *client.Masters
	events  *client.Masters // the same, at EventsPath
}

// NewMaster returns a client of the masters at the addresses, each host:port or
// a URL.
func NewMaster(addresses []string, opts Options) (*Master, error) {
	c := client.New(opts.Options)
	masters, err := client.NewMasters(c, addresses, Path)
	if err != nil {
		return nil, err
	}
	events, err := client.NewMasters(c, addresses, EventsPath)
	if err != nil {
		return nil, err
	}
	return &Master{opts: opts, masters: masters, events: events}, nil
}

// Call sends a call to the leader and returns its answer, nil when it has no
// body: most calls that change something are answered so. A refusal is a
// [*client.StatusError].
func (m *Master) Call(ctx context.Context, call *master.Call) (*master.Response, error) {
	response := &master.Response{}
	found, err := m.masters.Call(ctx, nil, call, response)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", call.GetType(), err)
	}
	if !found {
		return nil, nil
	}
	return response, nil
}

// Get is Call for the calls that consist of their type alone.
func (m *Master) Get(ctx context.Context, t master.Call_Type) (*master.Response, error) {
	return m.Call(ctx, &master.Call{Type: &t})
}

// Subscribe yields the leader's events, subscribing again whenever the stream is
// lost. Each SUBSCRIBED event carries a new snapshot, which replaces everything
// known before. The sequence ends with an error when ctx is done (its cause) or
// the subscription is refused for good (a [*client.StatusError]), or without one
// when the loop's body breaks.
func (m *Master) Subscribe(ctx context.Context) iter.Seq2[*master.Event, error] {
	return func(yield func(*master.Event, error) bool) {
		err := m.repeat(ctx, func(backoff *client.Backoff) (error, bool) {
			return m.session(ctx, backoff, yield)
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// repeat subscribes again and again. It returns the reason that is for good, nil if the
// loop's body broke.
func (m *Master) repeat(ctx context.Context, session func(*client.Backoff) (err error, again bool)) error {
	backoff := client.Backoff{Min: m.opts.MinBackoff, Max: m.opts.MaxBackoff}
	for {
		err, again := session(&backoff)
		if !again {
			return nil
		}
		if ctx.Err() == nil && !client.Permanent(err) {
			if m.opts.OnDisconnect != nil {
				m.opts.OnDisconnect(err)
			}
			if err = backoff.Wait(ctx); err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
}

// session is one subscription from beginning to end. It returns why it ended;
// again is false when the loop's body broke.
func (m *Master) session(ctx context.Context, backoff *client.Backoff, yield func(*master.Event, error) bool) (err error, again bool) {
	stream, err := m.masters.Stream(ctx, nil, &master.Call{Type: master.Call_SUBSCRIBE.Enum()})
	if err != nil {
		return err, true
	}
	defer stream.Close()
	stream.ExpectHeartbeats(client.DefaultHeartbeat)
	for {
		event := &master.Event{}
		if err := stream.Next(event); err != nil {
			if errors.Is(err, client.ErrStalled) {
				m.masters.Failed(stream.URL())
			}
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the master closed the stream: %w", err)
			}
			return err, true
		}
		if event.GetType() == master.Event_SUBSCRIBED {
			backoff.Reset()
			interval := time.Duration(event.GetSubscribed().GetHeartbeatIntervalSeconds() * float64(time.Second))
			stream.ExpectHeartbeats(cmp.Or(interval, client.DefaultHeartbeat))
		}
		if !yield(event, nil) {
			return nil, false
		}
	}
}

// Agent speaks to one agent. Use [NewAgent].
type Agent struct {
	client *client.Client
	url    *url.URL
}

// NewAgent returns a client of the agent at the address, host:port or a URL.
func NewAgent(address string, opts Options) (*Agent, error) {
	c := client.New(opts.Options)
	u, err := c.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	return &Agent{client: c, url: u.JoinPath(Path)}, nil
}

// Call sends a call to the agent and returns its answer, nil when it has no body. A
// refusal is a [*client.StatusError].
func (a *Agent) Call(ctx context.Context, call *agent.Call) (*agent.Response, error) {
	response := &agent.Response{}
	found, err := a.client.Call(ctx, a.url, nil, call, response)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", call.GetType(), err)
	}
	if !found {
		return nil, nil
	}
	return response, nil
}

// Get is Call for the calls that consist of their type alone.
func (a *Agent) Get(ctx context.Context, t agent.Call_Type) (*agent.Response, error) {
	return a.Call(ctx, &agent.Call{Type: &t})
}

// Stream sends a call that is answered by a stream of ProcessIO, such as
// ATTACH_CONTAINER_OUTPUT, and yields its records until it ends, ctx is done or
// the loop's body breaks.
func (a *Agent) Stream(ctx context.Context, call *agent.Call) iter.Seq2[*agent.ProcessIO, error] {
	return func(yield func(*agent.ProcessIO, error) bool) {
		stream, err := a.client.Session(ctx, a.url, call)
		if err != nil {
			yield(nil, fmt.Errorf("%s: %w", call.GetType(), err))
			return
		}
		defer stream.Close()
		for {
			record := &agent.ProcessIO{}
			err := stream.Next(record)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(record, nil) {
				return
			}
		}
	}
}
