package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/isolation"
)

// The terminal is a websocket that stands for the input and the output of a container.
//
//	GET /api/clusterd/v1/terminal?container_id=C[.C2]&cmd=C&arg=A&arg=B&tty=1&rows=R&cols=C&user=U&term=T
//
// With cmd it launches that in the container, as LAUNCH_NESTED_CONTAINER_SESSION does; the
// command ends with the connection. Without it attaches, with input=0 to the output alone.
//
//	binary, both ways:  0 stdin | 1 stdout | 2 stderr, then bytes
//	text, to the agent: {"resize":{"rows":R,"columns":C}}  {"eof":true}
//	text, from it, the last one:
//	                    {"exit":{"status":S}}, with "signal" if one ended it: S is 128 more then
//	                    {"error":"why"}

const (
	// maxFrame is the most output in one message: clients of libraries with small limits can
	// read it.
	maxFrame = 16 << 10
	// maxInputFrame is the longest message that is taken.
	maxInputFrame = 1 << 20
	// exitTimeout is how long the exit status may be awaited when the output has ended.
	exitTimeout = 10 * time.Second
)

// terminalPing is how often something is sent, so that what is between us keeps the
// connection, and so that it is noticed when nobody is at its other end. (Changed by tests.)
var terminalPing = 30 * time.Second

// control is a text message.
type control struct {
	Resize *struct {
		Rows    uint32 `json:"rows"`
		Columns uint32 `json:"columns"`
	} `json:"resize,omitempty"`
	EOF   bool        `json:"eof,omitempty"`
	Exit  *exitStatus `json:"exit,omitempty"`
	Error string      `json:"error,omitempty"`
}

// exitStatus is how a command has ended, as a shell tells it.
type exitStatus struct {
	Status  int    `json:"status"`
	Signal  int    `json:"signal,omitempty"`
	Message string `json:"message,omitempty"`
}

// wanted is what a request for a terminal asks for.
type wanted struct {
	door
	command *mesos.CommandInfo // nil: attach
	tty     *mesos.TTYInfo
	input   bool
}

func (a *Agent) terminal(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	d, err := a.openDoor(r)
	if err != nil {
		return err
	}
	t, err := parseTerminal(r)
	if err != nil {
		return err
	}
	t.door = *d
	if err := a.authorizeTerminal(r, t); err != nil {
		return err
	}
	if err := a.requireRunning(r, t.id); err != nil {
		return err
	}
	if t.command != nil && ofEngine(t.v, t.id) {
		return httpapi.Errorf(http.StatusNotImplemented, "Container %s is run by a Docker engine, which has no sessions here", containerText(t.id))
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		e := httpapi.Errorf(http.StatusUpgradeRequired, "Expecting 'Upgrade: websocket'")
		e.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
		return e
	}
	// Origins are checked here too: an agent may be asked without a master.
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		a.log.Debug().Err(err).Str("remote", r.RemoteAddr).Msg("websocket refused")
		return nil // it has been answered
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxInputFrame)
	a.throughDoor(func() { a.serveTerminal(ws, r, t) })
	return nil
}

func parseTerminal(r *http.Request) (*wanted, error) {
	q := r.URL.Query()
	t := &wanted{input: true}
	flag := func(name string, def bool) (bool, error) {
		if !q.Has(name) {
			return def, nil
		}
		b, err := strconv.ParseBool(q.Get(name))
		if err != nil {
			return false, httpapi.BadRequest("'%s' is neither true nor false: '%.100s'", name, q.Get(name))
		}
		return b, nil
	}
	number := func(name string, def uint32) (uint32, error) {
		if !q.Has(name) {
			return def, nil
		}
		n, err := strconv.ParseUint(q.Get(name), 10, 16)
		if err != nil {
			return 0, httpapi.BadRequest("'%s' is no number: '%.100s'", name, q.Get(name))
		}
		return uint32(n), nil
	}
	var err error
	if t.input, err = flag("input", true); err != nil {
		return nil, err
	}
	tty, err := flag("tty", false)
	if err != nil {
		return nil, err
	}
	rows, err := number("rows", 24)
	if err != nil {
		return nil, err
	}
	columns, err := number("cols", 80)
	if err != nil {
		return nil, err
	}
	if !q.Has("cmd") {
		return t, nil
	}
	if q.Get("cmd") == "" {
		return nil, httpapi.BadRequest("'cmd' is empty")
	}
	t.command = &mesos.CommandInfo{
		Shell: new(false), Value: strp(q.Get("cmd")), Arguments: append([]string{q.Get("cmd")}, q["arg"]...),
	}
	if user := q.Get("user"); user != "" {
		t.command.User = &user
	}
	if tty {
		t.tty = &mesos.TTYInfo{WindowSize: &mesos.TTYInfo_WindowSize{Rows: &rows, Columns: &columns}}
		term := q.Get("term")
		if term == "" {
			term = "xterm-256color"
		}
		t.command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: strp("TERM"), Value: &term}}}
	}
	return t, nil
}

func (a *Agent) authorizeTerminal(r *http.Request, t *wanted) error {
	if t.command != nil {
		httpapi.Audit(r, "LAUNCH_NESTED_CONTAINER_SESSION", "container_id", containerText(t.id), "command", strings.Join(t.command.GetArguments(), " "))
		if err := a.authorizeDoor(r, &t.door, authz.LaunchNestedContainerSessionsAsUser, t.command); err != nil {
			return err
		}
	} else {
		if t.input {
			httpapi.Audit(r, "ATTACH_CONTAINER_INPUT", "container_id", containerText(t.id))
		}
		if err := a.authorizeDoor(r, &t.door, authz.AttachContainersOutput, nil); err != nil {
			return err
		}
	}
	if t.input {
		return a.authorizeDoor(r, &t.door, authz.AttachContainersInput, nil)
	}
	return nil
}

// terminalConn is an open terminal.
type terminalConn struct {
	ws    *websocket.Conn
	att   isolation.Attachment
	input bool
}

// serveTerminal goes on until the container, its client or the agent ends.
func (a *Agent) serveTerminal(ws *websocket.Conn, r *http.Request, t *wanted) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	id := t.id
	var err error
	if t.command != nil {
		var end func()
		id, end, err = a.beginSession(r, t)
		if err == nil {
			defer end()
		}
	} else if t.input {
		var release func()
		if release, err = a.takeInput(id); err == nil {
			defer release()
		}
	}
	var att isolation.Attachment
	if err == nil {
		if att, err = a.runner.Attach(a.ctx, id); err != nil {
			err = attachError(id, err)
		}
	}
	a.doors.rt.Report(r, err)
	c := &terminalConn{ws: ws, att: att, input: t.input}
	if err != nil {
		c.last(ctx, control{Error: err.Error()})
		return
	}
	defer func() { _ = att.Close() }()
	defer context.AfterFunc(a.ctx, func() { _ = att.Close() })()
	go c.ping(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer func() { _ = att.Close() }() // ends the Read of the output
		c.readInput(ctx)
	}()
	err = c.writeOutput(ctx)
	switch {
	case errors.Is(err, io.EOF):
		c.last(ctx, a.exitOf(ctx, id))
	case a.ctx.Err() != nil:
		c.last(ctx, control{Error: "The agent is shutting down"})
	default:
		select {
		case <-read: // the client has gone
		default:
			c.last(ctx, control{Error: fmt.Sprintf("The output of the container was cut off: %v", err)})
		}
	}
	cancel()
	_ = ws.CloseNow()
	<-read
}

// beginSession launches the command of a terminal. The function ends it and leaves nothing of
// it behind: nobody else knows of it.
func (a *Agent) beginSession(r *http.Request, t *wanted) (*mesos.ContainerID, func(), error) {
	n := &newContainer{id: newSessionID(t.id), class: isolation.ClassDebug, command: t.command}
	if t.tty != nil {
		n.container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), TtyInfo: t.tty}
	}
	status, err := a.launchFor(r, t.v, n)
	if err == nil && status != http.StatusOK {
		return nil, nil, httpapi.Conflict("Container %s exists already", containerText(n.id))
	}
	if err != nil {
		a.forgetSession(t, n.id)
		return nil, nil, err
	}
	return n.id, func() {
		a.destroyNow(n.id)
		if a.ctx.Err() != nil {
			return // the next run destroys what nobody is attached to any more
		}
		if err := a.runner.Remove(context.WithoutCancel(r.Context()), n.id); err != nil {
			a.log.Warn().Err(err).Str("container_id", containerText(n.id)).Msg("cannot remove what is left of a terminal")
			return
		}
		a.forgetSession(t, n.id)
	}, nil
}

// forgetSession removes what the agent keeps of a container that is no more, or never was.
func (a *Agent) forgetSession(t *wanted, id *mesos.ContainerID) {
	a.nested.mu.Lock()
	delete(a.nested.users, isolation.Key(id))
	a.nested.mu.Unlock()
	p, err := a.placeOf(t.v, id)
	if err != nil {
		return // it went with the container around it
	}
	a.gc.unschedule(p)
	if err := p.remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn().Err(err).Str("path", p.sandbox()).Msg("cannot remove the sandbox of a terminal")
	}
}

// takeInput has nobody else type into a container.
func (a *Agent) takeInput(id *mesos.ContainerID) (release func(), err error) {
	key := isolation.Key(id)
	a.nested.mu.Lock()
	defer a.nested.mu.Unlock()
	if a.nested.inputs[key] {
		return nil, httpapi.Conflict("Multiple input connections are not allowed")
	}
	a.nested.inputs[key] = true
	return func() {
		a.nested.mu.Lock()
		defer a.nested.mu.Unlock()
		delete(a.nested.inputs, key)
	}, nil
}

// exitOf is how a container has ended whose output has.
func (a *Agent) exitOf(ctx context.Context, id *mesos.ContainerID) control {
	ctx, cancel := context.WithTimeout(ctx, exitTimeout)
	defer cancel()
	t, err := a.runner.Wait(ctx, id)
	switch {
	case err != nil:
		return control{Error: "How the command has ended is not known: " + err.Error()}
	case !t.StatusKnown:
		return control{Error: "How the command has ended is not known"}
	}
	st := syscall.WaitStatus(t.Status)
	if st.Signaled() {
		return control{Exit: &exitStatus{Status: 128 + int(st.Signal()), Signal: int(st.Signal()), Message: t.Message}}
	}
	return control{Exit: &exitStatus{Status: st.ExitStatus()}}
}

// readInput hands what the client sends to the container, until the client ends.
func (c *terminalConn) readInput(ctx context.Context) {
	for {
		typ, data, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		switch {
		case typ == websocket.MessageText:
			var m control
			if json.Unmarshal(data, &m) != nil {
				_ = c.ws.Close(websocket.StatusUnsupportedData, "no JSON")
				return
			}
			// Who has no terminal has no size, and who has no input cannot end it.
			if m.Resize != nil {
				_ = c.att.Resize(m.Resize.Rows, m.Resize.Columns)
			}
			if m.EOF && c.input {
				_ = c.att.CloseWrite()
			}
		case len(data) > 1 && data[0] == byte(isolation.Stdin) && c.input:
			// What cannot be typed is lost: the container tells by its output, or its end.
			_, _ = c.att.Write(data[1:])
		}
	}
}

// writeOutput sends what the container prints. It returns io.EOF when it has ended.
func (c *terminalConn) writeOutput(ctx context.Context) error {
	frame := make([]byte, 0, maxFrame+1)
	for {
		stream, data, err := c.att.Read()
		for len(data) > 0 {
			part := data[:min(len(data), maxFrame)]
			data = data[len(part):]
			frame = append(append(frame[:0], byte(stream)), part...)
			if werr := c.write(ctx, websocket.MessageBinary, frame); werr != nil {
				return werr
			}
		}
		if err != nil {
			return err
		}
	}
}

func (c *terminalConn) write(ctx context.Context, typ websocket.MessageType, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, streamWriteTimeout)
	defer cancel()
	return c.ws.Write(ctx, typ, data)
}

// last sends the last message, and ends the connection in order.
func (c *terminalConn) last(ctx context.Context, m control) {
	b, err := json.Marshal(m)
	if err != nil {
		b = []byte(`{"error":"?"}`) // never: it has numbers and strings
	}
	if c.write(ctx, websocket.MessageText, b) == nil {
		_ = c.ws.Close(websocket.StatusNormalClosure, "")
	}
}

// ping sends something now and then. That the client answers is not awaited: it may not be
// read at the moment, because the container does not read. But then nobody reads that the
// client has gone, so that this is who sees it.
func (c *terminalConn) ping(ctx context.Context) {
	t := time.NewTicker(terminalPing)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			short, cancel := context.WithTimeout(ctx, time.Second)
			err := c.ws.Ping(short)
			late := short.Err() != nil
			cancel()
			if err != nil && !late {
				_ = c.att.Close() // ends both directions
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
