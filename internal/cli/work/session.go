package work

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/term"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/agent"
	"clusterd/api/recordio"
	"clusterd/internal/cli/console"
)

const (
	recordIO = "application/recordio"
	protobuf = "application/x-protobuf"
	// beat is how often an input stream says that it lives: proxies on the way cut off what
	// is silent.
	beat = 30 * time.Second
)

// lastWords is how long the output may go on when the input has failed: a command that ends
// reads no more.
const lastWords = 2 * time.Second

// Keys that leave a container alone: ctrl-p ctrl-q, as with Mesos and Docker.
const (
	ctrlP = 'p' & 0x1f
	ctrlQ = 'q' & 0x1f
)

// errDetached says that the user has typed them.
var errDetached = errors.New("detached")

// errNoInput says that a container has nothing to type into.
var errNoInput = errors.New("the container takes no input")

// session is a connection to what a container reads and prints.
type session struct {
	console.Env
	cluster   *console.Cluster
	agent     string
	container *mesos.ContainerID
	// terminal: what is typed goes there key by key, and its size follows this one's.
	terminal bool
	// input: what comes in here is typed there. Without it the container reads an end of
	// file, if endInput is set.
	input, endInput bool
	// begun is called once the output flows.
	begun func()
	// lenient: go on with the output where there is no input.
	lenient bool
	say     func(format string, args ...any)
}

// run sends the call that is answered by output, and copies both ways until the container
// has ended, the user has detached (errDetached), or the connection is lost.
func (s *session) run(ctx context.Context, call *agent.Call) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	res, err := s.open(ctx, call)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if s.begun != nil {
		s.begun()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	if s.terminal && s.input {
		restore, err := makeRaw(s.In)
		if err != nil {
			return err
		}
		defer restore()
	}
	if s.input || s.endInput {
		wg.Go(func() {
			err := s.send(ctx)
			switch {
			case err == nil || ctx.Err() != nil:
			case errors.Is(err, errDetached):
				cancel(err)
			case s.lenient:
				s.say("%v", err)
			case s.input && client.Sleep(ctx, lastWords) == nil:
				cancel(err)
			default: // it has ended, or wants no input
			}
		})
	}
	err = s.receive(res.Body)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// open sends a call whose answer are records.
func (s *session) open(ctx context.Context, call *agent.Call) (*http.Response, error) {
	body, err := proto.Marshal(call)
	if err != nil {
		return nil, err
	}
	r, err := s.cluster.Request(ctx, http.MethodPost, "/api/v1", strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", protobuf)
	r.Header.Set("Accept", recordIO)
	r.Header.Set("Message-Accept", protobuf)
	return s.cluster.AgentDo(s.agent, r)
}

// receive copies the output.
func (s *session) receive(body io.Reader) error {
	records := recordio.NewReader(body, 0)
	for {
		b, err := records.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the connection to the container is lost: %w", err)
		}
		m := &agent.ProcessIO{}
		if err := proto.Unmarshal(b, m); err != nil {
			return fmt.Errorf("output of the container: %w", err)
		}
		if m.GetType() != agent.ProcessIO_DATA {
			continue
		}
		to := s.Out
		if m.GetData().GetType() == agent.ProcessIO_Data_STDERR {
			to = s.Err
		}
		if _, err := to.Write(m.GetData().GetData()); err != nil {
			return &writeError{err}
		}
	}
}

// send types what comes in into the container, until that ends.
func (s *session) send(ctx context.Context) error {
	pr, pw := io.Pipe()
	defer func() { _ = pr.Close() }() // ends the writer
	r, err := s.cluster.Request(ctx, http.MethodPost, "/api/v1", pr)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", recordIO)
	r.Header.Set("Message-Content-Type", protobuf)
	r.Header.Set("Accept", protobuf)
	// A request that is given up waits for its body to be read.
	defer context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &inputWriter{w: pw}
	typed := make(chan error, 1)
	go func() { // it may hang in a read of the terminal, which only the end of the process ends
		err := s.typing(ctx, out)
		if err == nil {
			_ = pw.Close() // an answer follows
		} else {
			_ = pw.CloseWithError(err) // so that nobody takes it for the end of the input
		}
		typed <- err
	}()
	res, err := s.cluster.AgentDo(s.agent, r)
	select {
	case t := <-typed:
		if errors.Is(t, errDetached) {
			return errDetached
		}
	default:
	}
	if err == nil {
		_ = res.Body.Close() // it is empty
		return nil
	}
	if client.StatusCode(err) == http.StatusInternalServerError && strings.Contains(err.Error(), "cannot be attached") {
		return errNoInput
	}
	return fmt.Errorf("input: %w", err)
}

// inputWriter writes the messages of an input stream.
type inputWriter struct {
	mu sync.Mutex // mu guards w: input, sizes and heartbeats.
	w  io.Writer
}

func (i *inputWriter) call(in *agent.Call_AttachContainerInput) error {
	b, err := proto.Marshal(&agent.Call{Type: agent.Call_ATTACH_CONTAINER_INPUT.Enum(), AttachContainerInput: in})
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	_, err = i.w.Write(recordio.Append(nil, b))
	return err
}

func (i *inputWriter) io(m *agent.ProcessIO) error {
	return i.call(&agent.Call_AttachContainerInput{Type: agent.Call_AttachContainerInput_PROCESS_IO.Enum(), ProcessIo: m})
}

// data types; without any it is the end of the input.
func (i *inputWriter) data(b []byte) error {
	return i.io(&agent.ProcessIO{Type: agent.ProcessIO_DATA.Enum(), Data: &agent.ProcessIO_Data{
		Type: agent.ProcessIO_Data_STDIN.Enum(), Data: append([]byte{}, b...),
	}})
}

func (i *inputWriter) control(c *agent.ProcessIO_Control) error {
	return i.io(&agent.ProcessIO{Type: agent.ProcessIO_CONTROL.Enum(), Control: c})
}

// typing writes all messages of an input stream.
func (s *session) typing(ctx context.Context, out *inputWriter) error {
	if err := out.call(&agent.Call_AttachContainerInput{
		Type: agent.Call_AttachContainerInput_CONTAINER_ID.Enum(), ContainerId: s.container,
	}); err != nil {
		return err
	}
	if !s.input {
		return out.data(nil)
	}
	if s.terminal {
		stop := s.resizing(out)
		defer stop()
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		t := time.NewTicker(beat)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ctx.Done():
				return
			case <-t.C:
				if out.control(&agent.ProcessIO_Control{
					Type:      agent.ProcessIO_Control_HEARTBEAT.Enum(),
					Heartbeat: &agent.ProcessIO_Control_Heartbeat{Interval: &mesos.DurationInfo{Nanoseconds: new(int64(beat))}},
				}) != nil {
					return
				}
			}
		}
	}()
	keys := detacher{on: s.terminal}
	buf := make([]byte, 32<<10)
	for {
		n, err := s.In.Read(buf)
		if n > 0 {
			typed, left := keys.filter(buf[:n])
			if len(typed) > 0 {
				if err := out.data(typed); err != nil {
					return err
				}
			}
			if left {
				return errDetached
			}
		}
		if errors.Is(err, io.EOF) {
			return out.data(nil)
		}
		if err != nil {
			return err
		}
	}
}

// resizing gives the terminal there the size of this one, now and whenever it changes.
func (s *session) resizing(out *inputWriter) (stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	done := make(chan struct{})
	changed <- syscall.SIGWINCH
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			size := sizeOf(s.In)
			if size == nil {
				continue
			}
			if out.control(&agent.ProcessIO_Control{
				Type: agent.ProcessIO_Control_TTY_INFO.Enum(), TtyInfo: &mesos.TTYInfo{WindowSize: size},
			}) != nil {
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
	}
}

// detacher finds the keys that leave a container alone. A ctrl-p that something else
// follows is typed with it.
type detacher struct{ on, held bool }

func (d *detacher) filter(in []byte) (typed []byte, left bool) {
	if !d.on {
		return in, false
	}
	for _, b := range in {
		switch {
		case d.held && b == ctrlQ:
			return typed, true
		case d.held:
			d.held = false
			typed = append(typed, ctrlP)
		}
		if b == ctrlP {
			d.held = true
			continue
		}
		typed = append(typed, b)
	}
	return typed, false
}

// makeRaw hands all keys of a terminal on as they are typed, until restore.
func makeRaw(in io.Reader) (restore func(), err error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}, nil
	}
	before, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(int(f.Fd()), before) }, nil // there is nobody to tell
}

func isTerminal(in any) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// sizeOf is the size of a terminal, nil if it is none.
func sizeOf(in any) *mesos.TTYInfo_WindowSize {
	f, ok := in.(*os.File)
	if !ok {
		return nil
	}
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return nil
	}
	return &mesos.TTYInfo_WindowSize{Rows: new(uint32(h)), Columns: new(uint32(w))}
}

// containerText writes a container's id with those that it is nested in.
func containerText(id *mesos.ContainerID) string {
	if id.GetParent() == nil {
		return id.GetValue()
	}
	return containerText(id.GetParent()) + "." + id.GetValue()
}

// nestedIn is a new id below a container's.
func nestedIn(parent *mesos.ContainerID) *mesos.ContainerID {
	return &mesos.ContainerID{Value: new(uuid.NewString()), Parent: parent}
}
