package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/recordio"
	"clusterd/internal/httpapi"
	"clusterd/isolation"
)

// DefaultHTTPHeartbeatInterval is that of heartbeats to who reads along with a container
// (DEFAULT_HTTP_HEARTBEAT_INTERVAL in src/slave/constants.hpp).
const DefaultHTTPHeartbeatInterval = 30 * time.Second

// callStream is a request's stream of calls, of which the first has been read.
type callStream struct {
	records *recordio.Reader
	media   httpapi.Media
}

func (s *callStream) next() (*agentv1.Call, error) {
	rec, err := s.records.Next()
	if err != nil {
		return nil, err
	}
	c := &agentv1.Call{}
	return c, httpapi.UnmarshalAgentCall(rec, s.media, c)
}

// launchSession answers LAUNCH_NESTED_CONTAINER_SESSION: the container's output, as long as
// the client reads; without the client the container ends.
func (a *Agent) launchSession(w http.ResponseWriter, r *http.Request, v *core.View, n *newContainer, media httpapi.AgentMedia) error {
	status, err := a.launchFor(r, v, n)
	if err != nil {
		return err
	}
	if status != http.StatusOK { // it is somebody else's
		httpapi.WriteStatus(w, status)
		return nil
	}
	defer a.destroyNow(n.id)
	att, err := a.runner.Attach(a.ctx, n.id)
	if err != nil {
		return attachError(n.id, err)
	}
	return a.streamOutput(w, r, att, media)
}

// attachOutput answers ATTACH_CONTAINER_OUTPUT.
func (a *Agent) attachOutput(w http.ResponseWriter, r *http.Request, id *mesos.ContainerID, media httpapi.AgentMedia) error {
	att, err := a.runner.Attach(a.ctx, id)
	if err != nil {
		return attachError(id, err)
	}
	return a.streamOutput(w, r, att, media)
}

func attachError(id *mesos.ContainerID, err error) error {
	if errors.Is(err, isolation.ErrUnknownContainer) {
		return httpapi.NotFound("Container %s cannot be found", containerText(id))
	}
	return httpapi.Errorf(http.StatusInternalServerError, "%v", err)
}

// outputWriter writes ProcessIO messages as records.
type outputWriter struct {
	media httpapi.Media
	rc    *http.ResponseController

	mu sync.Mutex // mu guards what follows: output and heartbeats.
	w  http.ResponseWriter
	b  []byte
}

func (o *outputWriter) write(m *agentv1.ProcessIO) error {
	body, err := httpapi.Marshal(o.media, m)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = recordio.Append(o.b[:0], body)
	_ = o.rc.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
	if _, err := o.w.Write(o.b); err != nil {
		return err
	}
	return o.rc.Flush()
}

// streamOutput streams what a container prints until it or the client ends, and lets go of it.
// Whatever was negotiated, the answer is a stream of records.
func (a *Agent) streamOutput(w http.ResponseWriter, r *http.Request, att isolation.Attachment, media httpapi.AgentMedia) error {
	httpapi.Stream(r)
	ctx, cancel := context.WithCancel(r.Context())
	var wg sync.WaitGroup
	defer func() {
		cancel()
		_ = att.Close()
		wg.Wait()
	}()
	// Either ends the Read below.
	defer context.AfterFunc(ctx, func() { _ = att.Close() })()
	defer context.AfterFunc(a.ctx, func() { _ = att.Close() })()

	o := &outputWriter{media: media.Accept, w: w, rc: http.NewResponseController(w)}
	w.Header().Set("Content-Type", media.Accept.String())
	if media.Accept == httpapi.RecordIO {
		o.media = media.MessageAccept
		w.Header().Set("Message-Content-Type", o.media.String())
	}
	w.WriteHeader(http.StatusOK)
	if err := o.rc.Flush(); err != nil {
		return nil // the client has gone
	}
	wg.Go(func() { o.heartbeats(ctx, a.opts.HTTPHeartbeatInterval) })
	for {
		stream, data, err := att.Read()
		if len(data) > 0 {
			typ := agentv1.ProcessIO_Data_STDOUT
			if stream == isolation.Stderr {
				typ = agentv1.ProcessIO_Data_STDERR
			}
			if werr := o.write(&agentv1.ProcessIO{
				Type: agentv1.ProcessIO_DATA.Enum(), Data: &agentv1.ProcessIO_Data{Type: typ.Enum(), Data: data},
			}); werr != nil {
				return nil // the client has gone
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil && a.ctx.Err() == nil {
				a.log.Warn().Err(err).Msg("the output of a container is cut off")
				panic(http.ErrAbortHandler) // so that the client does not take it for the end
			}
			return nil
		}
	}
}

func (o *outputWriter) heartbeats(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := o.write(&agentv1.ProcessIO{
			Type: agentv1.ProcessIO_CONTROL.Enum(),
			Control: &agentv1.ProcessIO_Control{
				Type: agentv1.ProcessIO_Control_HEARTBEAT.Enum(),
				Heartbeat: &agentv1.ProcessIO_Control_Heartbeat{
					Interval: &mesos.DurationInfo{Nanoseconds: new(int64(interval))},
				},
			},
		}); err != nil {
			return
		}
	}
}

// attachInput answers ATTACH_CONTAINER_INPUT when the client has nothing more to say, or the
// container has ended (IOSwitchboardServerProcess::attachContainerInput in
// src/slave/containerizer/mesos/io/switchboard.cpp).
func (a *Agent) attachInput(w http.ResponseWriter, r *http.Request, id *mesos.ContainerID, body *callStream) error {
	key := isolation.Key(id)
	a.nested.mu.Lock()
	busy := a.nested.inputs[key]
	a.nested.inputs[key] = true
	a.nested.mu.Unlock()
	if busy {
		return httpapi.Conflict("Multiple input connections are not allowed")
	}
	defer func() {
		a.nested.mu.Lock()
		delete(a.nested.inputs, key)
		a.nested.mu.Unlock()
	}()
	att, err := a.runner.Attach(a.ctx, id)
	if err != nil {
		return attachError(id, err)
	}
	httpapi.Stream(r)
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // people think before they type
	// The deadline that is set below makes net/http end the context of all that comes later on
	// this connection: nothing shall.
	w.Header().Set("Connection", "close")
	ended := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = att.Close() }()
	wg.Go(func() {
		// The output is nothing to us, but who does not read is cut off; and it tells the end.
		defer close(ended)
		for {
			if _, _, err := att.Read(); err != nil {
				_ = rc.SetReadDeadline(time.Unix(1, 0)) // ends the Next below
				return
			}
		}
	})
	defer context.AfterFunc(a.ctx, func() { _ = att.Close() })()
	for {
		c, err := body.next()
		select {
		case <-ended:
			httpapi.WriteStatus(w, http.StatusOK)
			return nil
		default:
		}
		if errors.Is(err, io.EOF) {
			httpapi.WriteStatus(w, http.StatusOK)
			return nil
		}
		if err != nil {
			return httpapi.BadRequest("%v", err)
		}
		if err := typed(att, c.GetAttachContainerInput()); err != nil {
			return err
		}
	}
}

// typed hands one message of a client to the container.
func typed(att isolation.Attachment, in *agentv1.Call_AttachContainerInput) error {
	if why := validateInput(in); why != "" {
		return httpapi.BadRequest("%s", why)
	}
	m := in.GetProcessIo()
	if m.GetType() == agentv1.ProcessIO_CONTROL {
		if m.GetControl().GetType() == agentv1.ProcessIO_Control_TTY_INFO {
			size := m.GetControl().GetTtyInfo().GetWindowSize()
			if err := att.Resize(size.GetRows(), size.GetColumns()); err != nil {
				return httpapi.BadRequest("Unable to set the window size: %v", err)
			}
		}
		return nil
	}
	var err error
	if data := m.GetData().GetData(); len(data) == 0 {
		err = att.CloseWrite()
	} else {
		_, err = att.Write(data)
	}
	if err != nil {
		return httpapi.Errorf(http.StatusInternalServerError, "Failed writing to stdin: %v", err)
	}
	return nil
}

// validateInput says what is wrong with a message of a client; empty: nothing
// (IOSwitchboardServerProcess::validate).
func validateInput(in *agentv1.Call_AttachContainerInput) string {
	m := in.GetProcessIo()
	switch {
	case in.GetType() != agentv1.Call_AttachContainerInput_PROCESS_IO:
		return "Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: '" + in.GetType().String() + "'"
	case m == nil:
		return "Expecting 'attach_container_input.process_io' to be present"
	case m.Type == nil:
		return "Expecting 'process_io.type' to be present"
	case m.GetType() == agentv1.ProcessIO_UNKNOWN:
		return "'process_io.type' is unknown"
	case m.GetType() == agentv1.ProcessIO_CONTROL:
		return validateControl(m.GetControl())
	case m.Data == nil:
		return "Expecting 'process_io.data' to be present"
	case m.GetData().Type == nil:
		return "Expecting 'process_io.data.type' to be present"
	case m.GetData().GetType() != agentv1.ProcessIO_Data_STDIN:
		return "Expecting 'process_io.data.type' to be 'STDIN'"
	case m.GetData().Data == nil:
		return "Expecting 'process_io.data.data' to be present"
	}
	return ""
}

func validateControl(c *agentv1.ProcessIO_Control) string {
	switch {
	case c == nil:
		return "Expecting 'process_io.control' to be present"
	case c.Type == nil:
		return "Expecting 'process_io.control.type' to be present"
	case c.GetType() == agentv1.ProcessIO_Control_UNKNOWN:
		return "'process_io.control.type' is unknown"
	case c.GetType() == agentv1.ProcessIO_Control_HEARTBEAT:
		if c.Heartbeat == nil {
			return "Expecting 'process_io.control.heartbeat' to be present"
		}
	case c.TtyInfo == nil:
		return "Expecting 'process_io.control.tty_info' to be present"
	case c.GetTtyInfo().WindowSize == nil:
		return "Expecting 'tty_info.window_size' to be present"
	}
	return ""
}
