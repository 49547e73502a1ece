package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/executor"
	"clusterd/api/mesosjson"
	"clusterd/api/recordio"
	"clusterd/internal/httpapi"
)

const (
	// An executor that does not read is cut off when this much waits for it; it
	// may subscribe again.
	maxStreamEvents = 16384
	maxStreamBytes  = 64 << 20
	// streamWriteTimeout is how long one event may take to leave this machine.
	streamWriteTimeout = time.Minute
	// executorHeartbeat is the interval of heartbeats
	// (DEFAULT_EXECUTOR_HEARTBEAT_INTERVAL in src/slave/constants.hpp).
	executorHeartbeat = 30 * time.Minute
)

var errSlowExecutor = errors.New("the executor does not read: its queue of events is full")

// reply is the core's answer to an executor's call.
type reply struct {
	open   bool // a stream is to be opened
	status int
	body   string
}

// eventStream is what waits for one subscribed executor. The zero pointer takes
// everything and does nothing, as a stream that is gone.
type eventStream struct {
	mu      sync.Mutex // guards what follows
	queue   []*executor.Event
	bytes   int
	closing bool
	err     error

	wake chan struct{} // holds a token when there is something to do
}

func newEventStream() *eventStream { return &eventStream{wake: make(chan struct{}, 1)} }

func (s *eventStream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// send queues an event and never waits.
func (s *eventStream) send(e *executor.Event) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	size := proto.Size(e)
	if len(s.queue) >= maxStreamEvents || len(s.queue) > 0 && s.bytes+size > maxStreamBytes {
		s.closing, s.err, s.queue = true, errSlowExecutor, nil
	} else {
		s.queue = append(s.queue, e)
		s.bytes += size
	}
	s.signal()
}

// close ends the stream after what is queued.
func (s *eventStream) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	s.signal()
}

// take returns what is queued, and whether the stream ends after it.
func (s *eventStream) take() (events []*executor.Event, closing bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, s.queue, s.bytes = s.queue, nil, 0
	return events, s.closing, s.err
}

// stream returns a stream by id, nil if it is gone.
func (a *Agent) stream(id core.StreamID) *eventStream {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.streams[id]
}

func (a *Agent) respond(id core.RequestID, r reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch := a.requests[id]; ch != nil {
		ch <- r // it has room for the one answer
		delete(a.requests, id)
	}
}

// ask hands a call to the core and waits for its answer.
func (a *Agent) ask(ctx context.Context, in func(core.RequestID) core.Input) (reply, error) {
	id, ch := core.RequestID(a.nextID()), make(chan reply, 1)
	a.mu.Lock()
	a.requests[id] = ch
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.requests, id)
		a.mu.Unlock()
	}()
	a.post(in(id))
	select {
	case r := <-ch:
		return r, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	case <-a.ctx.Done():
		return reply{}, httpapi.Unavailable("Agent is shutting down")
	}
}

// executorAPI serves /api/v1/executor (Http::executor in src/slave/http.cpp,
// whose order of checks it keeps; the core goes on from the framework's lookup).
func (a *Agent) executorAPI(w http.ResponseWriter, r *http.Request) error {
	if !a.recovered.Load() {
		return httpapi.Unavailable("Agent has not finished recovery")
	}
	call := &executor.Call{}
	if _, err := httpapi.DecodeCall(w, r, call); err != nil {
		return err
	}
	if err := validateExecutorCall(call); err != nil {
		return err
	}
	switch call.GetType() {
	case executor.Call_HEARTBEAT:
		// The ids in it may be dummies.
		httpapi.WriteStatus(w, http.StatusAccepted)
		return nil
	case executor.Call_SUBSCRIBE:
		media, err := httpapi.ResponseMedia(r)
		if err != nil {
			return err
		}
		return a.subscribe(w, r, call, media)
	case executor.Call_UPDATE:
		a.completeStatus(r.Context(), call.GetUpdate().GetStatus())
	default:
	}
	rep, err := a.ask(r.Context(), func(id core.RequestID) core.Input {
		return core.Call{Request: id, Call: call, Caller: callerOf(r)}
	})
	if err != nil {
		return err
	}
	return answer(w, rep)
}

// callerOf is who sends an executor's call; nil if nobody had to say.
func callerOf(r *http.Request) *core.Caller {
	p := httpapi.PrincipalOf(r)
	if p == nil {
		return nil
	}
	return &core.Caller{Name: p.String(), Claims: p.Claims}
}

func answer(w http.ResponseWriter, rep reply) error {
	if rep.status >= 300 {
		return httpapi.Errorf(rep.status, "%s", rep.body)
	}
	httpapi.WriteStatus(w, rep.status)
	return nil
}

// subscribe serves an executor's stream until either side ends it.
func (a *Agent) subscribe(w http.ResponseWriter, r *http.Request, call *executor.Call, media httpapi.Media) error {
	id := core.StreamID(a.nextID())
	s := newEventStream()
	a.mu.Lock()
	a.streams[id] = s
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.streams, id)
		a.mu.Unlock()
		a.post(core.StreamClosed{Stream: id})
	}()
	rep, err := a.ask(r.Context(), func(req core.RequestID) core.Input {
		return core.Subscribe{Request: req, Stream: id, Call: call, Caller: callerOf(r)}
	})
	if err != nil {
		return err
	}
	if !rep.open {
		return answer(w, rep)
	}
	httpapi.Stream(r)
	w.Header().Set("Content-Type", media.String())
	w.WriteHeader(http.StatusOK)
	if err := a.serveStream(w, r, s, media); err != nil && a.ctx.Err() == nil && r.Context().Err() == nil {
		a.log.Warn().Err(err).Str("framework_id", call.GetFrameworkId().GetValue()).
			Str("executor_id", call.GetExecutorId().GetValue()).Msg("executor's stream ended")
	}
	return nil
}

func (a *Agent) serveStream(w http.ResponseWriter, r *http.Request, s *eventStream, media httpapi.Media) error {
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return err
	}
	heartbeat := time.NewTicker(executorHeartbeat)
	defer heartbeat.Stop()
	var buf []byte
	write := func(e *executor.Event) error {
		var err error
		if buf, err = appendRecord(buf[:0], media, e); err != nil {
			return err
		}
		_ = rc.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
		if _, err := w.Write(buf); err != nil {
			return err
		}
		return rc.Flush() // one record is one chunk
	}
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-a.ctx.Done():
			return nil
		case <-heartbeat.C:
			if err := write(&executor.Event{Type: executor.Event_HEARTBEAT.Enum()}); err != nil {
				return err
			}
		case <-s.wake:
			events, closing, err := s.take()
			for _, e := range events {
				if err := write(e); err != nil {
					return err
				}
			}
			if closing || err != nil {
				return err
			}
		}
	}
}

func appendRecord(dst []byte, media httpapi.Media, e *executor.Event) ([]byte, error) {
	var body []byte
	var err error
	if media == httpapi.Protobuf {
		body, err = proto.Marshal(e)
	} else {
		body, err = mesosjson.Marshal(e)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s event: %w", e.GetType(), err)
	}
	return recordio.Append(dst, body), nil
}

// validateExecutorCall is validateExecutorCall of src/common/validation.cpp.
func validateExecutorCall(c *executor.Call) error {
	bad := func(format string, args ...any) error {
		return httpapi.BadRequest("Failed to validate Executor::Call: "+format, args...)
	}
	if c.Type == nil {
		return bad("Expecting 'type' to be present")
	}
	switch c.GetType() {
	case executor.Call_SUBSCRIBE:
		if c.Subscribe == nil {
			return bad("Expecting 'subscribe' to be present")
		}
	case executor.Call_UPDATE:
		return validateUpdate(c, bad)
	case executor.Call_MESSAGE:
		if c.Message == nil {
			return bad("Expecting 'message' to be present")
		}
	default:
	}
	return nil
}

func validateUpdate(c *executor.Call, bad func(string, ...any) error) error {
	if c.Update == nil {
		return bad("Expecting 'update' to be present")
	}
	st := c.GetUpdate().GetStatus()
	id, fw := c.GetExecutorId().GetValue(), c.GetFrameworkId().GetValue()
	if st.Uuid == nil {
		return bad("Expecting 'uuid' to be present")
	}
	if len(st.GetUuid()) != 16 {
		return bad("Not a valid UUID: expecting 16 bytes, got %d", len(st.GetUuid()))
	}
	if st.ExecutorId != nil && st.GetExecutorId().GetValue() != id {
		return bad("ExecutorID in Call: %s does not match ExecutorID in TaskStatus: %s", id, st.GetExecutorId().GetValue())
	}
	if st.GetSource() != mesos.TaskStatus_SOURCE_EXECUTOR {
		return bad("Received Call from executor %s of framework %s with invalid source, expecting 'SOURCE_EXECUTOR'", id, fw)
	}
	switch st.GetState() {
	case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_UNREACHABLE, mesos.TaskState_TASK_UNKNOWN:
		// Mesos refuses the first; no master takes the others from an agent.
		return bad("Received %s from executor %s of framework %s which is not allowed", st.GetState(), id, fw)
	default:
	}
	return validateCheckStatus(st.GetCheckStatus(), bad)
}

// validateCheckStatus is validateCheckStatusInfo of src/common/validation.cpp.
func validateCheckStatus(s *mesos.CheckStatusInfo, bad func(string, ...any) error) error {
	switch {
	case s == nil:
		return nil
	case s.Type == nil:
		return bad("CheckStatusInfo must specify 'type'")
	case s.GetType() == mesos.CheckInfo_COMMAND && s.Command == nil:
		return bad("Expecting 'command' to be set for COMMAND check's status")
	case s.GetType() == mesos.CheckInfo_HTTP && s.Http == nil:
		return bad("Expecting 'http' to be set for HTTP check's status")
	case s.GetType() == mesos.CheckInfo_TCP && s.Tcp == nil:
		return bad("Expecting 'tcp' to be set for TCP check's status")
	case s.GetType() == mesos.CheckInfo_UNKNOWN:
		return bad("'UNKNOWN' is not a valid check's status type")
	}
	return nil
}
