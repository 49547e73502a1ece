package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/supervisor"
)

// doorFile is the socket, in a container's runtime directory, at which the process
// above it lets the agent read along, type, and resize the terminal. Containers that
// have neither a terminal nor an input have none.
const doorFile = "door"

// setStreams says what a container reads and writes.
func (c *ContainerConfig) setStreams(info *LaunchInfo) {
	info.TTY, info.Stdin = c.ContainerInfo.GetTtyInfo(), c.Stdin
	info.Door = info.TTY != nil || info.Stdin
	info.StdoutRotation, info.StderrRotation = c.StdoutRotation, c.StderrRotation
}

// setStreams tells the process above the container the same. Its runtime directory is
// set already.
func (i *LaunchInfo) setStreams(spec *supervisor.Spec) {
	spec.StdoutRotation, spec.StderrRotation = i.StdoutRotation, i.StderrRotation
	spec.Stdin = i.Stdin
	if i.TTY != nil {
		spec.TTY = true
		spec.Rows, spec.Columns = i.TTY.GetWindowSize().GetRows(), i.TTY.GetWindowSize().GetColumns()
	}
	if i.Door {
		spec.Door = filepath.Join(spec.RuntimeDir, doorFile)
	}
}

// attach opens a door into a container that runs.
//
// There are two ways to read. A container with a terminal or an input has a door, and
// the process above it tells who stands there what it prints, at once. Any other one
// writes its files itself, and they are followed. A reader at the door who does not
// keep up is sent away, and then reads the files as well, from the place where he
// stood, and comes back to the door when he has caught up: so nothing is lost to a slow
// reader, he holds nobody up, and costs no memory.
func (m *Mesos) attach(ctx context.Context, id *mesos.ContainerID) (Attachment, error) {
	c, err := m.get(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.launched:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.base.Done():
		return nil, ErrClosed
	}
	c.mu.Lock()
	config := c.config
	c.mu.Unlock()
	// Who looks into a container by another that was made for it wants to see all of that, also
	// when it is over by now.
	whole := config.Class == ClassDebug
	select {
	case <-c.ended:
		if !whole {
			return nil, fmt.Errorf("container %s has ended: %w", Key(id), ErrNotAttachable)
		}
	case <-m.base.Done():
		return nil, ErrClosed
	default:
	}
	status, err := m.launcher.Status(id)
	if err != nil {
		return nil, err
	}
	// Whoever made a recovered container known need not have known where its output is.
	if written, _, err := readCheckpoint(status.RuntimeDir, id); err == nil {
		config = written
	}
	a := newAttachment(status.RuntimeDir, config, c.ended)
	a.unbind = context.AfterFunc(m.base, func() { a.end(ErrClosed) })
	if fileExists(filepath.Join(a.dir, doorFile)) {
		a.hasDoor = true
		if !whole {
			a.enter()
		}
	}
	for _, f := range a.files {
		if whole {
			f.toStart()
		} else if a.door == nil {
			f.toEnd()
		}
	}
	return a, nil
}

const (
	// Files are looked at this often, the oftener the shorter ago there was something.
	pollShortest, pollLongest = 2 * time.Millisecond, 40 * time.Millisecond
	// readSize is the most that one Read returns of a file.
	readSize = 32 << 10
)

// attachment is an Attachment to a container of ours.
type attachment struct {
	dir     string // the runtime directory
	hasDoor bool
	ended   <-chan struct{} // the container
	unbind  func() bool

	closed chan struct{}

	mu sync.Mutex
	// mu guards what follows. Only the reader changes door.
	err   error // why it is closed
	door  net.Conn
	input net.Conn
	has   byte // what there is to type into

	// reading is held by a Read, and guards what follows.
	reading sync.Mutex
	files   [2]*follower
	// in is what comes from the door, rest the part of it that is not yet understood.
	in, rest []byte
	buf      []byte
	// missing is what has to be read of the files before what comes from the door.
	missing [2]*place
	wait    time.Duration
}

// place is one in the files of a stream.
type place struct {
	inode  uint64
	offset int64
}

func newAttachment(dir string, config *ContainerConfig, ended <-chan struct{}) *attachment {
	stdout, stderr := config.outputs()
	within := outputIn(config.ID, &LaunchInfo{Stdout: stdout, Stderr: stderr})
	return &attachment{
		dir: dir, ended: ended, closed: make(chan struct{}), wait: pollShortest,
		files: [2]*follower{newFollower(stdout, within, config.StdoutRotation), newFollower(stderr, within, config.StderrRotation)},
	}
}

// outputs are the files that the container's output goes to.
func (c *ContainerConfig) outputs() (stdout, stderr string) {
	stdout, stderr = c.Stdout, c.Stderr
	if stdout == "" {
		stdout = filepath.Join(c.Sandbox, "stdout")
	}
	if stderr == "" {
		stderr = filepath.Join(c.Sandbox, "stderr")
	}
	return stdout, stderr
}

// Read implements Attachment.
func (a *attachment) Read() (Stream, []byte, error) {
	a.reading.Lock()
	defer a.reading.Unlock()
	if a.buf == nil {
		a.buf = make([]byte, readSize)
	}
	return a.read()
}

func (a *attachment) read() (Stream, []byte, error) {
	for {
		if err := a.closedError(); err != nil {
			return 0, nil, err
		}
		for i, p := range a.missing {
			if p == nil {
				continue
			}
			if n := a.files[i].readTo(a.buf, *p); n > 0 {
				return Stdout + Stream(i), a.buf[:n], nil
			}
			a.missing[i] = nil
		}
		if a.door == nil {
			return a.follow()
		}
		kind, payload, err := a.frame()
		if err != nil {
			// Either it was too slow, or the container is over.
			a.leave()
			a.enter()
			continue
		}
		switch kind {
		case supervisor.FrameStdout, supervisor.FrameStderr:
			stream := 0
			if kind == supervisor.FrameStderr {
				stream = 1
			}
			a.files[stream].offset += int64(len(payload))
			return Stdout + Stream(stream), payload, nil
		case supervisor.FramePlace:
			if stream, p, ok := readPlace(payload); ok {
				a.files[stream].jump(p)
			}
		case supervisor.FrameEnd:
			return 0, nil, io.EOF
		}
	}
}

func readPlace(b []byte) (stream int, p place, ok bool) {
	if len(b) != 17 {
		return 0, place{}, false
	}
	if b[0] == supervisor.FrameStderr {
		stream = 1
	}
	var n [2]uint64
	for i := range 16 {
		n[i/8] = n[i/8]<<8 | uint64(b[1+i])
	}
	return stream, place{n[0], int64(n[1])}, true
}

// frame reads from the door.
func (a *attachment) frame() (kind byte, payload []byte, err error) {
	for {
		kind, payload, rest, ok := supervisor.CutFrame(a.rest)
		if ok {
			a.rest = rest
			return kind, payload, nil
		}
		// The last payload belonged to the caller until here.
		n := copy(a.in, a.rest)
		if n == len(a.in) {
			a.in = append(a.in, make([]byte, readSize+supervisor.FrameHead)...)
		}
		m, err := a.door.Read(a.in[n:])
		a.rest = a.in[:n+m]
		if err != nil && m == 0 {
			return 0, nil, err
		}
	}
}

// enter goes to the door and hears where what it will be told begins. What lies between
// that and what was read is to be read of the files first.
func (a *attachment) enter() {
	conn, err := a.dial(supervisor.FrameReader)
	if err != nil {
		return // the files will do
	}
	if !a.keep(&a.door, conn) {
		return
	}
	first := true
	for _, f := range a.files {
		first = first && !f.known
	}
	a.rest = nil
	var told [2]bool
	for {
		kind, payload, err := a.frame()
		if err != nil {
			a.leave()
			return
		}
		if kind != supervisor.FramePlace {
			break // the answer is complete
		}
		stream, p, ok := readPlace(payload)
		if !ok {
			continue
		}
		told[stream] = true
		if first {
			a.files[stream].jump(p)
		} else {
			a.missing[stream] = &p
		}
	}
	if first { // standard error goes to the terminal as well
		for i, f := range a.files {
			f.none = !told[i]
		}
	}
}

// dial connects to the door and says who comes. The path may be longer than a socket's.
func (a *attachment) dial(kind byte) (net.Conn, error) {
	dir, err := os.Open(a.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).Dial("unix", filepath.Join(fdPath(dir), doorFile))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(supervisor.AppendFrame(nil, kind)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// keep remembers a connection, unless the attachment was closed meanwhile.
func (a *attachment) keep(where *net.Conn, conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		conn.Close()
		return false
	}
	*where = conn
	return true
}

// leave goes away from the door.
func (a *attachment) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.door != nil {
		a.door.Close()
		a.door = nil
	}
	a.rest = nil
}

// follow reads the files until the container has ended.
func (a *attachment) follow() (Stream, []byte, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		over := false
		select {
		case <-a.closed:
			return 0, nil, a.closedError()
		case <-a.ended:
			over = true // so what is there now is all
		case <-timer.C:
		}
		for i, f := range a.files {
			if n := f.read(a.buf); n > 0 {
				a.wait = pollShortest
				return Stdout + Stream(i), a.buf[:n], nil
			}
		}
		if over {
			return 0, nil, io.EOF
		}
		if a.hasDoor {
			// All that was missed is read: the door tells more, and sooner.
			if a.enter(); a.door != nil {
				return a.read()
			}
		}
		timer.Reset(a.wait)
		a.wait = min(2*a.wait, pollLongest)
	}
}

func (a *attachment) closedError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// inputs goes to the door to type.
func (a *attachment) inputs() (net.Conn, byte, error) {
	if !a.hasDoor {
		return nil, 0, ErrNotAttachable
	}
	a.mu.Lock()
	conn, has, err := a.input, a.has, a.err
	a.mu.Unlock()
	if conn != nil || err != nil {
		return conn, has, err
	}
	conn, err = a.dial(supervisor.FrameWriter)
	if err != nil {
		return nil, 0, fmt.Errorf("type into the container: %w", err)
	}
	if !a.keep(&a.input, conn) {
		return nil, 0, a.closedError()
	}
	var answer [supervisor.FrameHead + 1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		conn.Close()
		a.input = nil
		return nil, 0, fmt.Errorf("type into the container: %w", errors.Join(a.err, err))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.has = answer[supervisor.FrameHead]
	return conn, a.has, nil
}

// Write implements Attachment.
func (a *attachment) Write(p []byte) (int, error) {
	conn, has, err := a.inputs()
	if err != nil {
		return 0, err
	}
	if has&supervisor.HasStdin == 0 {
		return 0, ErrNotAttachable
	}
	for n := 0; n < len(p); {
		m := min(len(p)-n, readSize)
		if _, err := conn.Write(supervisor.AppendFrame(nil, supervisor.FrameInput, p[n:n+m]...)); err != nil {
			return n, fmt.Errorf("type into the container: %w", err)
		}
		n += m
	}
	return len(p), nil
}

// CloseWrite implements Attachment.
func (a *attachment) CloseWrite() error {
	return a.say(supervisor.HasStdin|supervisor.HasTerminal, supervisor.FrameInputEnd)
}

// Resize implements Attachment.
func (a *attachment) Resize(rows, columns uint32) error {
	return a.say(supervisor.HasTerminal, supervisor.FrameSize,
		byte(rows>>24), byte(rows>>16), byte(rows>>8), byte(rows),
		byte(columns>>24), byte(columns>>16), byte(columns>>8), byte(columns))
}

// say sends a frame to a container that has one of these.
func (a *attachment) say(to, kind byte, payload ...byte) error {
	conn, has, err := a.inputs()
	if err != nil {
		return err
	}
	if has&to == 0 {
		return ErrNotAttachable
	}
	if _, err := conn.Write(supervisor.AppendFrame(nil, kind, payload...)); err != nil {
		return fmt.Errorf("type into the container: %w", err)
	}
	return nil
}

// Close implements Attachment.
func (a *attachment) Close() error {
	a.unbind()
	a.end(os.ErrClosed)
	a.reading.Lock() // until a Read has seen it
	defer a.reading.Unlock()
	for _, f := range a.files {
		f.close()
	}
	return nil
}

// end closes the attachment, for a reason that a Read returns.
func (a *attachment) end(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return
	}
	a.err = why
	close(a.closed)
	for _, c := range [...]net.Conn{a.door, a.input} {
		if c != nil {
			c.Close() // which ends what uses it
		}
	}
}
