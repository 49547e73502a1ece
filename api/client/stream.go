package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/recordio"
)

// MissedHeartbeats is how many heartbeats may fail to come before a stream is
// given up, as Mesos advises scheduler authors.
const MissedHeartbeats = 5

// DefaultHeartbeat is the interval of heartbeats until the server has said
// another one (DEFAULT_HEARTBEAT_INTERVAL, src/master/constants.hpp).
const DefaultHeartbeat = 15 * time.Second

// StreamIDHeader carries the id of a scheduler's stream, given by the master
// with the subscription and sent along with every later call.
const StreamIDHeader = "Mesos-Stream-Id"

// Stream is the answer to a subscription: events until one side ends it.
type Stream struct {
	url    *url.URL
	id     string
	format Format
	ctx    context.Context // the lifetime of the request
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	reader *recordio.Reader
	// silence is how long Next waits, zero for ever.
	silence time.Duration
}

func newStream(ctx context.Context, cancel context.CancelCauseFunc, u *url.URL, res *http.Response, opts Options) *Stream {
	return &Stream{
		url:    u,
		id:     res.Header.Get(StreamIDHeader),
		format: opts.Format,
		ctx:    ctx,
		cancel: cancel,
		body:   res.Body,
		reader: recordio.NewReader(res.Body, opts.MaxRecord),
	}
}

// URL returns the address that answered.
func (s *Stream) URL() *url.URL { return s.url }

// ID returns the Mesos-Stream-Id, empty when the server gave none.
func (s *Stream) ID() string { return s.id }

// ExpectHeartbeats makes Next give the stream up with [ErrStalled] after five
// intervals without any event. An interval of zero or less means no watch.
func (s *Stream) ExpectHeartbeats(interval time.Duration) {
	s.silence = max(0, MissedHeartbeats*interval)
}

// Next waits for the next event and decodes it into m. When the server ends the
// stream the error is io.EOF.
func (s *Stream) Next(m proto.Message) error {
	if s.silence > 0 {
		watch := time.AfterFunc(s.silence, func() { s.cancel(ErrStalled) })
		defer watch.Stop()
	}
	record, err := s.reader.Next()
	if err != nil {
		if cause := context.Cause(s.ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("read events from %s: %w", s.url.Host, err)
	}
	if err := s.format.Unmarshal(record, m); err != nil {
		return fmt.Errorf("decode an event from %s: %w", s.url.Host, err)
	}
	return nil
}

// Abort makes a Next that waits, and all that follow, fail with reason. It may
// be called from any goroutine.
func (s *Stream) Abort(reason error) { s.cancel(reason) }

// Close ends the stream.
func (s *Stream) Close() {
	s.cancel(context.Canceled)
	s.body.Close()
}
