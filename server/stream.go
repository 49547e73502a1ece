package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/mesosjson"
	"clusterd/internal/httpapi"
)

// Reasons why a stream ends before its core wanted it to.
var (
	// errSlowReader means that a scheduler did not read and its queue filled up.
	errSlowReader = errors.New("the reader is too slow: its queue of events is full")
	// errStopping means that this master stops, or leads no more.
	errStopping = errors.New("the master stops")
)

// StreamLimits bounds what waits for one scheduler that reads slowly. What would
// pass a limit cuts the stream off; the framework is then disconnected, and
// resubscribes.
type StreamLimits struct {
	// Events queued at most. One call may cause very many at once: the answers to a
	// RECONCILE of all tasks of a large framework.
	Events int
	// Bytes queued at most, as the protobuf size of the events. A single event
	// larger than this still passes when nothing else is queued.
	Bytes int
	// WriteTimeout is how long one record may take to leave this machine.
	WriteTimeout time.Duration
}

// DefaultStreamLimits are roomy: a framework that loses this race has not read
// for a long time, or has a cluster of many thousand agents offered to it while
// it sleeps.
func DefaultStreamLimits() StreamLimits {
	return StreamLimits{Events: 1 << 18, Bytes: 64 << 20, WriteTimeout: time.Minute}
}

// outEvent is an event on its way to one or more streams; it is encoded at most
// once for each media type, by the goroutine of the first stream that needs it.
type outEvent struct {
	event *scheduler.Event
	size  int

	encoded [2]encodedEvent // by httpapi.JSON, httpapi.Protobuf
}

type encodedEvent struct {
	once   sync.Once
	record []byte
	err    error
}

func newOutEvent(ev *scheduler.Event) *outEvent {
	return &outEvent{event: ev, size: proto.Size(ev)}
}

// recordHead is room for the length and the newline before a record.
const recordHead = 20

// bytes returns the event as one RecordIO record.
func (e *outEvent) bytes(m httpapi.Media) ([]byte, error) {
	enc := &e.encoded[m]
	enc.once.Do(func() {
		buf := make([]byte, recordHead, recordHead+e.size*2+64)
		if m == httpapi.Protobuf {
			buf, enc.err = proto.MarshalOptions{}.MarshalAppend(buf, e.event)
		} else {
			buf, enc.err = mesosjson.Append(buf, e.event)
		}
		if enc.err != nil {
			enc.err = fmt.Errorf("encode %s event: %w", e.event.GetType(), enc.err)
			return
		}
		var head [recordHead]byte
		h := append(strconv.AppendInt(head[:0], int64(len(buf)-recordHead), 10), '\n')
		start := recordHead - len(h)
		copy(buf[start:], h)
		enc.record = buf[start:]
	})
	return enc.record, enc.err
}

// stream is the outbound side of one scheduler's subscription: a bounded queue
// between the goroutine that performs the core's effects, which never waits for
// it, and the goroutine of the SUBSCRIBE request, which writes.
//
//	core loop --send--> queue --run--> socket
//	                      | full
//	                      v
//	                     cut: the connection is torn, run returns errSlowReader
type stream struct {
	id     string
	media  httpapi.Media
	limits StreamLimits
	wake   chan struct{} // size 1: "look again"
	cut    bool          // noted by the goroutine that sends: it was told of the end

	// mu guards what follows.
	mu     sync.Mutex
	queue  []*outEvent // queue[head:] waits; queue[head-1] may be on its way
	head   int
	count  int   // of events not yet written, the one on its way included
	size   int   // of the same
	ending bool  // nothing is added any more; the stream ends when drained
	cause  error // set: it ends at once
	// interrupt fails the write under way, while there may be one.
	interrupt func()
}

func newStream(id string, m httpapi.Media, limits StreamLimits) *stream {
	return &stream{id: id, media: m, limits: limits, wake: make(chan struct{}, 1)}
}

// send queues an event. It never waits; when the queue is full the stream is cut
// off and send reports false.
func (s *stream) send(e *outEvent) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending || s.cause != nil {
		return s.cause == nil
	}
	if s.count > 0 && (s.count >= s.limits.Events || s.size+e.size > s.limits.Bytes) {
		s.abortLocked(errSlowReader)
		return false
	}
	if s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	}
	s.queue = append(s.queue, e)
	s.count++
	s.size += e.size
	s.wakeUp()
	return true
}

// end lets the stream end once everything queued has been written.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	s.wakeUp()
}

// abort ends the stream at once, whatever is queued.
func (s *stream) abort(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abortLocked(cause)
}

func (s *stream) abortLocked(cause error) {
	if s.cause != nil {
		return
	}
	s.cause = cause
	s.queue, s.head, s.count, s.size = nil, 0, 0, 0
	if s.interrupt != nil {
		s.interrupt()
	}
	s.wakeUp()
}

func (s *stream) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next returns the event to write, nil if there is none now; done says that none
// will follow. It takes the event before, if any, off the books, and sets the
// deadline of the write: under mu, lest it undo an interrupt.
func (s *stream) next(rc *http.ResponseController, before *outEvent) (e *outEvent, done bool, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return nil, true, s.cause
	}
	if before != nil {
		s.count--
		s.size -= before.size
	}
	if s.head == len(s.queue) {
		return nil, s.ending, nil
	}
	e = s.queue[s.head]
	s.queue[s.head] = nil
	s.head++
	if s.limits.WriteTimeout > 0 {
		_ = rc.SetWriteDeadline(time.Now().Add(s.limits.WriteTimeout))
	}
	return e, false, nil
}

// run writes the queue to w until the stream ends: nil means that all was
// written and the core ended it. Every record is one Write and one Flush, hence
// one HTTP chunk: simple clients in the wild take a chunk for a record.
func (s *stream) run(ctx context.Context, w http.ResponseWriter) error {
	rc := http.NewResponseController(w)
	s.mu.Lock()
	s.interrupt = func() { _ = rc.SetWriteDeadline(time.Now()) }
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.interrupt = nil
		s.mu.Unlock()
		_ = rc.SetWriteDeadline(time.Time{})
	}()

	var e *outEvent
	for {
		var done bool
		var cause error
		e, done, cause = s.next(rc, e)
		switch {
		case cause != nil:
			return cause
		case e != nil:
			if err := s.write(rc, w, e); err != nil {
				return err
			}
		case done:
			return nil
		default:
			select {
			case <-s.wake:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

func (s *stream) write(rc *http.ResponseController, w http.ResponseWriter, e *outEvent) error {
	record, err := e.bytes(s.media)
	if err != nil {
		return err
	}
	if _, err = w.Write(record); err == nil {
		err = rc.Flush()
	}
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return s.cause
	}
	return fmt.Errorf("write to the scheduler: %w", err)
}
