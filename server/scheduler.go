package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
)

// streamIDHeader names a scheduler's stream: given in the answer to SUBSCRIBE,
// sent with every other call.
const streamIDHeader = "Mesos-Stream-Id"

// schedulerAPI is POST /api/v1/scheduler. The order of checks is Mesos's
// (src/master/http.cpp, Http::scheduler), on which tests of client libraries
// depend; what needs to know the framework is checked by the core.
func (s *Server) schedulerAPI(w http.ResponseWriter, r *http.Request) error {
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	call := new(scheduler.Call)
	if _, err := httpapi.DecodeCall(w, r, call); err != nil {
		return err
	}
	principal := httpapi.PrincipalOf(r)
	err = core.ValidateCall(call)
	if err == nil {
		err = core.ValidatePrincipal(call, principal)
	}
	if err == nil {
		err = checkItems(call)
	}
	if err != nil {
		return httpapi.BadRequest("Failed to validate scheduler::Call: %v", err)
	}
	media := httpapi.JSON
	if call.GetType() == scheduler.Call_SUBSCRIBE || call.GetType() == scheduler.Call_RECONCILE_OPERATIONS {
		if media, err = httpapi.ResponseMedia(r); err != nil {
			return err
		}
	}
	if err := s.rates.wait(r.Context(), call, r.Header.Get(streamIDHeader), principal); err != nil {
		return err
	}
	auditScheduler(r, call)
	if call.GetType() == scheduler.Call_SUBSCRIBE {
		return s.subscribe(t, w, r, call, principal, media)
	}
	req := &request{answer: make(chan answer, 1)}
	a, err := t.ask(r.Context(), req, core.Call{
		Request:   core.RequestID(s.request.Add(1)),
		StreamID:  r.Header.Get(streamIDHeader),
		Principal: principal,
		Call:      call,
	})
	if err != nil {
		return err
	}
	return a.write(w)
}

// MaxItems is how many tasks or operations one call may name. Each causes an
// event, and a stream's queue holds that many; a few bytes on the wire are a
// kilobyte of event.
const MaxItems = 1 << 18

// checkItems refuses a call that names more than MaxItems.
func checkItems(call *scheduler.Call) error {
	n := len(call.GetReconcile().GetTasks()) + len(call.GetReconcileOperations().GetOperations()) +
		len(call.GetAccept().GetOperations())
	for _, op := range call.GetAccept().GetOperations() {
		n += len(op.GetLaunch().GetTaskInfos()) + len(op.GetLaunchGroup().GetTaskGroup().GetTasks())
	}
	if n > MaxItems {
		return fmt.Errorf("the call names %d tasks and operations, at most %d are taken", n, MaxItems)
	}
	return nil
}

// ask hands a call to the core and waits for the answer.
func (t *term) ask(ctx context.Context, req *request, in core.Input) (answer, error) {
	if err := t.submit(ctx, envelope{in: in, request: req}); err != nil {
		return answer{}, unavailable(err)
	}
	// The answer is awaited even if the client has gone: a stream that the core
	// opens must be closed again. The core always answers, or the term ends.
	select {
	case a := <-req.answer:
		return a, nil
	case <-t.done:
		select {
		case a := <-req.answer:
			return a, nil
		default:
			return answer{}, unavailable(errStopping)
		}
	}
}

func unavailable(err error) error {
	return httpapi.Errorf(http.StatusServiceUnavailable, "Master is not able to answer: %v", err)
}

// write answers with the core's words.
func (a answer) write(w http.ResponseWriter) error {
	if a.status >= http.StatusBadRequest && a.body == "" {
		return httpapi.StatusError(a.status) // as libprocess fills it in
	}
	if a.status >= http.StatusBadRequest {
		return httpapi.Errorf(a.status, "%s", a.body)
	}
	httpapi.WriteStatus(w, a.status)
	return nil
}

// subscribe opens a scheduler's stream and writes it until either side ends it.
func (s *Server) subscribe(t *term, w http.ResponseWriter, r *http.Request, call *scheduler.Call, p *authz.Principal, m httpapi.Media) error {
	if _, has := r.Header[streamIDHeader]; has {
		return httpapi.BadRequest("Subscribe calls should not include the 'Mesos-Stream-Id' header")
	}
	id := uuid.NewString()
	st := newStream(id, m, s.opts.Streams)
	req := &request{answer: make(chan answer, 1), stream: st}
	a, err := t.ask(r.Context(), req, core.Subscribe{
		Request: core.RequestID(s.request.Add(1)), StreamID: id, Principal: p, Call: call,
	})
	if err != nil {
		return err
	}
	if !a.open {
		return a.write(w)
	}
	s.router.Report(r, nil) // not when the stream ends
	s.rates.opened(id, call.GetSubscribe().GetFrameworkInfo().GetPrincipal())
	defer s.rates.closed(id)
	httpapi.Stream(r)
	h := w.Header()
	h.Set("Content-Type", m.String())
	h.Set(streamIDHeader, id)
	w.WriteHeader(http.StatusOK)
	err = st.run(r.Context(), w)
	if err == nil {
		return nil // the core has closed it, and knows
	}
	st.abort(err) // what the core still sends goes nowhere
	level := zerolog.InfoLevel
	if errors.Is(err, errSlowReader) {
		level = zerolog.WarnLevel
	}
	s.log.WithLevel(level).Err(err).Str("stream_id", id).Str("remote", r.RemoteAddr).Msg("scheduler's stream is cut")
	// Without this the framework would stay connected for ever: nothing but the
	// end of the term may keep it from the core.
	_ = t.submit(context.WithoutCancel(r.Context()), envelope{in: core.StreamClosed{StreamID: id}})
	// The client must not take the end for an orderly one.
	panic(http.ErrAbortHandler)
}
