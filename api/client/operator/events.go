package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
	"time"

	"clusterd/api/client"
	clusterdv1 "clusterd/api/clusterd/v1"
)

// EventsPath is where masters serve their own event stream, which Mesos has not.
const EventsPath = "/api/clusterd/v1/events"

// EventsOptions say what to listen to. The zero value is everything.
type EventsOptions struct {
	// Types that are wanted; none: all. SUBSCRIBED always comes.
	Types []clusterdv1.OperatorEvent_Type
	// Resume is the token of the event to go on after; empty: from now.
	Resume string
	// Bare asks for no state at the beginning.
	Bare bool
}

// Events yields the leader's events, those that Mesos does not tell among them. A stream
// that is lost is resumed after the last event that came. Where that is not possible there
// is a SUBSCRIBED event that says so: it has the state, unless that is not wanted, which
// replaces everything known before. Heartbeats are left out. The sequence ends like that of
// [Master.Subscribe].
func (m *Master) Events(ctx context.Context, opts EventsOptions) iter.Seq2[*clusterdv1.OperatorEvent, error] {
	return func(yield func(*clusterdv1.OperatorEvent, error) bool) {
		token := opts.Resume
		err := m.repeat(ctx, func(backoff *client.Backoff) (error, bool) {
			return m.listen(ctx, opts, &token, backoff, yield)
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// listen is session for Events. It moves the token on.
func (m *Master) listen(ctx context.Context, opts EventsOptions, token *string, backoff *client.Backoff,
	yield func(*clusterdv1.OperatorEvent, error) bool,
) (err error, again bool) {
	stream, err := m.events.Watch(ctx, opts.query(*token))
	if err != nil {
		return err, true
	}
	defer stream.Close()
	stream.ExpectHeartbeats(client.DefaultHeartbeat)
	for {
		event := &clusterdv1.OperatorEvent{}
		if err := stream.Next(event); err != nil {
			if errors.Is(err, client.ErrStalled) {
				m.events.Failed(stream.URL())
			}
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the master closed the stream: %w", err)
			}
			return err, true
		}
		*token = event.GetToken()
		switch event.GetType() {
		case clusterdv1.OperatorEvent_HEARTBEAT:
			continue
		case clusterdv1.OperatorEvent_SUBSCRIBED:
			backoff.Reset()
			interval := time.Duration(event.GetSubscribed().GetHeartbeatIntervalSeconds() * float64(time.Second))
			stream.ExpectHeartbeats(cmp.Or(interval, client.DefaultHeartbeat))
		default:
		}
		if !yield(event, nil) {
			return nil, false
		}
	}
}

func (o *EventsOptions) query(token string) url.Values {
	query := url.Values{}
	if token != "" {
		query.Set("resume", token)
	}
	if o.Bare {
		query.Set("snapshot", "false")
	}
	if len(o.Types) > 0 {
		names := make([]string, len(o.Types))
		for i, t := range o.Types {
			names[i] = t.String()
		}
		query.Set("types", strings.Join(names, ","))
	}
	return query
}
