package supervisor

import (
	"errors"
	"syscall"
)

const (
	// copySize is how much is copied at once.
	copySize = 32 << 10
	// drainMax bounds what is read of a stream when the container is over: more than
	// any pipe holds, while somebody outside who has got hold of it may go on writing.
	drainMax = 4 << 20
)

// pump copies what a container prints into its files and to whoever is at the door, and
// what they type into the container. One goroutine does it all (run), so that every
// reader gets everything in the order in which it is in the files.
type pump struct {
	sources [2]source
	tty     *terminal
	// input is the command's standard input, -1 when there is none (any more).
	input int
	// typed waits for the command to read it. While there is something nobody's next
	// frame is taken, so this is never more than one frame.
	typed []byte
	door  *door
	wake  int // eventfd

	buf     []byte
	running bool
	// ending is closed when no process is left, done when all is delivered.
	ending chan struct{}
	done   chan struct{}
}

// source is standard output or standard error.
type source struct {
	fd  int // -1: none, or at an end
	log *logFile
}

func newPump() (*pump, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return nil, errno
	}
	return &pump{
		sources: [2]source{{fd: -1}, {fd: -1}}, input: -1, wake: int(fd),
		ending: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// add makes log the file of a stream, and fd what it is read from.
func (p *pump) add(stream, fd int, log *logFile) {
	p.sources[stream] = source{fd: fd, log: log}
	log.wake = p.wakeUp
	log.wrote = func(b []byte) { p.door.data(stream, b) }
	log.moved = func() { p.door.moved(stream, log) }
}

// attach makes the terminal what is read and typed into.
func (p *pump) attach(t *terminal) {
	p.tty = t
	p.sources[0].fd, p.input = t.master, t.master
}

func (p *pump) start() {
	p.running = true
	p.buf = make([]byte, copySize)
	go p.run()
}

func (p *pump) wakeUp() {
	one := [8]byte{1}
	_, _ = syscall.Write(p.wake, one[:])
}

// drain returns when everything is delivered, and what was opened is closed.
func (p *pump) drain() {
	if !p.running {
		return
	}
	close(p.ending)
	p.wakeUp()
	<-p.done
}

// run is the pump's goroutine.
func (p *pump) run() {
	defer close(p.done)
	defer p.close()
	var fds []pollFD
	for {
		fds = p.interests(fds[:0])
		if err := poll(fds); err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		if fds[0].revents != 0 {
			var b [8]byte
			_, _ = syscall.Read(p.wake, b[:])
		}
		for _, s := range p.sources {
			if s.log != nil {
				s.log.compressed()
			}
		}
		select {
		case <-p.ending:
			p.finish()
			return
		default:
		}
		for i := range p.sources {
			if fds[1+i].revents&(pollIn|pollHup|pollErr) != 0 {
				p.copy(i)
			}
		}
		if len(p.typed) > 0 {
			p.feed()
		}
		p.door.serve(fds[fixedFDs:])
	}
}

// fixedFDs are those before the door's: wake, two sources, input.
const fixedFDs = 4

// interests says what is waited for.
func (p *pump) interests(fds []pollFD) []pollFD {
	fds = append(fds, pollFD{fd: int32(p.wake), events: pollIn})
	for _, s := range p.sources {
		fds = append(fds, pollFD{fd: int32(s.fd), events: pollIn})
	}
	input := pollFD{fd: -1}
	if len(p.typed) > 0 {
		input = pollFD{fd: int32(p.input), events: pollOut}
	}
	fds = append(fds, input)
	return p.door.interests(fds)
}

// copy moves one piece of output on, and says how much that was.
func (p *pump) copy(stream int) int {
	s := &p.sources[stream]
	n, err := syscall.Read(s.fd, p.buf)
	switch {
	case err == syscall.EINTR || err == syscall.EAGAIN:
		return 0
	case err != nil || n <= 0:
		p.closeSource(s)
		return 0
	}
	s.log.write(p.buf[:n])
	return n
}

func (p *pump) closeSource(s *source) {
	if s.fd >= 0 && (p.tty == nil || s.fd != p.tty.master) {
		syscall.Close(s.fd)
	}
	s.fd = -1
}

// feed hands to the command what was typed.
func (p *pump) feed() {
	for len(p.typed) > 0 && p.input >= 0 {
		n, err := syscall.Write(p.input, p.typed)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return
		case err != nil: // nobody reads it any more
			p.endInput()
			p.typed = nil
		default:
			p.typed = p.typed[n:]
		}
	}
	p.typed = nil
}

// endInput lets the command read an end of file. A terminal goes on: its end of file
// is a character that is typed.
func (p *pump) endInput() {
	if p.tty == nil && p.input >= 0 {
		syscall.Close(p.input)
		p.input = -1
	}
}

// finish delivers what the container has left in its pipes.
func (p *pump) finish() {
	p.door.accept()
	for i := range p.sources {
		for n := 0; p.sources[i].fd >= 0 && n < drainMax; {
			m := p.copy(i)
			if m == 0 {
				break
			}
			n += m
		}
	}
	p.door.end()
}

// close closes everything.
func (p *pump) close() {
	for i := range p.sources {
		s := &p.sources[i]
		p.closeSource(s)
		if s.log != nil {
			s.log.close()
		}
	}
	p.endInput()
	if p.tty != nil {
		p.tty.close()
	}
	p.door.close()
	syscall.Close(p.wake)
}
