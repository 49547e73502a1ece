package supervisor

import (
	"os"
	"syscall"

	"clusterd/isolation/proctree"
)

// What is said at the door: frames of a byte that says what they are, three bytes of
// length (big endian) and so much.
//
// Who comes says first which he is: one that reads along (FrameReader), who hears
// where in the files of output what comes next lies, and later what is printed; or one
// that types (FrameWriter). Either hears what there is to type into.
//
// A reader that does not keep up is sent away: what it has missed is in the files, at
// the place after what it got, and it may come again.
const (
	FrameReader = 'R'
	FrameWriter = 'W'

	// FrameInput is what is typed, FrameInputEnd its end, FrameSize the size of the
	// terminal: rows and columns of four bytes each.
	FrameInput    = 'i'
	FrameInputEnd = 'x'
	FrameSize     = 's'

	// FrameInputs ends the answer to who has come: one byte of HasStdin and HasTerminal.
	FrameInputs = 'h'
	// FrameStdout and FrameStderr are output.
	FrameStdout = 'o'
	FrameStderr = 'e'
	// FramePlace says where what comes next lies: FrameStdout or FrameStderr, and the
	// inode and the offset of eight bytes each.
	FramePlace = 'p'
	// FrameEnd says that the container is over and that this is all.
	FrameEnd = 'z'
)

// What FrameInputs says there is.
const (
	HasStdin    = 1
	HasTerminal = 2
)

const (
	// FrameMax is the most that a frame may hold.
	FrameMax = 64 << 10
	// FrameHead is the size of what is before it.
	FrameHead = 4

	// maxVisitors is how many may be at the door at once.
	maxVisitors = 32
	// sendBuffer is how far a reader may be behind; the kernel keeps it.
	sendBuffer = 1 << 20
)

// AppendFrame appends a frame to b.
func AppendFrame(b []byte, kind byte, payload ...byte) []byte {
	n := len(payload)
	b = append(b, kind, byte(n>>16), byte(n>>8), byte(n))
	return append(b, payload...)
}

// CutFrame takes the first frame off b. It says no when there is no whole one; a frame
// that is larger than allowed has a length below zero.
func CutFrame(b []byte) (kind byte, payload, rest []byte, ok bool) {
	if len(b) < FrameHead {
		return 0, nil, b, false
	}
	n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	if len(b) < FrameHead+n {
		return 0, nil, b, false
	}
	return b[0], b[FrameHead : FrameHead+n], b[FrameHead+n:], true
}

// door is the socket at which visitors attach to the container.
type door struct {
	pump     *pump
	fd       int
	owner    uint32 // whose visitors are let in
	visitors []*visitor
	frame    []byte
}

// visitor is one connection.
type visitor struct {
	fd   int
	kind byte // FrameReader or FrameWriter; 0 before it has said so
	in   []byte
	// over says that nothing more comes.
	over bool
}

// listen opens the door. The path may be longer than a socket's: only its last part
// is given to the kernel.
func (p *pump) listen(path string) error {
	dir, name := splitName(path)
	here, err := syscall.Open(".", oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(here)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err = syscall.Chdir(dir); err == nil {
		// Nobody can come in before listen(2), and then the mode is right.
		if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}); err == nil {
			err = syscall.Chmod(name, 0o600)
		}
		if back := syscall.Fchdir(here); err == nil {
			err = back
		}
	}
	if err == nil {
		err = syscall.Listen(fd, maxVisitors)
	}
	if err != nil {
		syscall.Close(fd)
		return err
	}
	p.door = &door{pump: p, fd: fd, owner: agentUser(), frame: make([]byte, 0, FrameHead+copySize)}
	return nil
}

// agentUser is whom the agent runs as, seen from our user namespace: the one who made
// our end of the control socket.
func agentUser() uint32 {
	if cred, err := syscall.GetsockoptUcred(ControlFD, syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
		return cred.Uid
	}
	return uint32(os.Geteuid())
}

// interests adds the listening socket and a place for each visitor.
func (d *door) interests(fds []pollFD) []pollFD {
	if d == nil {
		return fds
	}
	fds = append(fds, pollFD{fd: int32(d.fd), events: pollIn})
	for _, v := range d.visitors {
		f := pollFD{fd: int32(v.fd), events: pollIn}
		// Somebody's input is not read yet: his next waits in his socket.
		if v.over || len(d.pump.typed) > 0 && v.kind == FrameWriter {
			f.fd = -1
		}
		fds = append(fds, f)
	}
	return fds
}

// serve does what the sockets are ready for.
func (d *door) serve(fds []pollFD) {
	if d == nil {
		return
	}
	for i, v := range d.visitors {
		if fds[1+i].revents != 0 && v.fd >= 0 {
			v.read()
		}
		if !d.obey(v) || v.over && len(v.in) == 0 {
			v.close()
		}
	}
	d.forget()
	if fds[0].revents != 0 {
		d.accept()
	}
}

// forget drops the visitors that have left.
func (d *door) forget() {
	stay := d.visitors[:0]
	for _, v := range d.visitors {
		if v.fd >= 0 {
			stay = append(stay, v)
		}
	}
	d.visitors = stay
}

// accept lets in who waits outside.
func (d *door) accept() {
	if d == nil {
		return
	}
	for {
		fd, _, err := syscall.Accept4(d.fd, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
		if err == syscall.EINTR || err == syscall.ECONNABORTED {
			continue
		}
		if err != nil {
			return
		}
		if len(d.visitors) >= maxVisitors || !d.welcome(fd) {
			syscall.Close(fd)
			continue
		}
		if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUFFORCE, sendBuffer) != nil {
			_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
		}
		v := &visitor{fd: fd}
		d.visitors = append(d.visitors, v)
		v.read()
		if !d.obey(v) {
			v.close()
			d.forget()
		}
	}
}

// welcome says whether somebody may come in: the agent's user may, but no process of
// the container itself.
func (d *door) welcome(fd int) bool {
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil || cred.Uid != d.owner {
		return false
	}
	self := os.Getpid()
	if cred.Pid == 0 || int(cred.Pid) == self { // not of our pid namespace
		return true
	}
	if self == 1 {
		return false
	}
	table, err := proctree.ReadTable()
	if err != nil {
		return true // there is no /proc in the container: the user has to do
	}
	for _, p := range table.Below(self) {
		if p.PID == int(cred.Pid) {
			return false
		}
	}
	return true
}

// read takes what a visitor has sent.
func (v *visitor) read() {
	for len(v.in) < FrameHead+FrameMax {
		var b [4096]byte
		n, err := syscall.Read(v.fd, b[:])
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			return
		}
		if err != nil || n <= 0 {
			v.over = true
			return
		}
		v.in = append(v.in, b[:n]...)
	}
}

// obey does what a visitor asks for, as far as that is possible now. It says no when
// the visitor does not keep to the rules, or has left in the middle of a word.
func (d *door) obey(v *visitor) bool {
	for v.fd >= 0 && (len(d.pump.typed) == 0 || v.kind == 0) {
		if len(v.in) >= FrameHead && int(v.in[1])<<16|int(v.in[2])<<8|int(v.in[3]) > FrameMax {
			return false
		}
		kind, payload, rest, ok := CutFrame(v.in)
		if !ok {
			return !v.over
		}
		if !d.frameOf(v, kind, payload) {
			return false
		}
		v.in = rest
		if len(rest) == 0 {
			v.in = nil
		}
	}
	return true
}

func (d *door) frameOf(v *visitor, kind byte, payload []byte) bool {
	p := d.pump
	switch {
	case v.kind == 0 && (kind == FrameReader || kind == FrameWriter):
		v.kind = kind
		for i := range p.sources {
			if log := p.sources[i].log; log != nil && kind == FrameReader {
				d.send(v, d.place(i, log))
			}
		}
		var has byte
		if p.input >= 0 {
			has |= HasStdin
		}
		if p.tty != nil {
			has |= HasTerminal
		}
		d.send(v, AppendFrame(d.frame[:0], FrameInputs, has))
	case v.kind != FrameWriter:
		return false
	case kind == FrameInput:
		p.typed = append([]byte(nil), payload...)
		p.feed()
	case kind == FrameInputEnd:
		p.endInput()
	case kind == FrameSize && len(payload) == 8:
		if p.tty != nil {
			p.tty.resize(number(payload[:4]), number(payload[4:]))
		}
	default:
		return false
	}
	return true
}

func number(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

var streamFrames = [2]byte{FrameStdout, FrameStderr}

// data tells the readers what was printed.
func (d *door) data(stream int, b []byte) {
	if d == nil || len(d.visitors) == 0 {
		return
	}
	d.tell(AppendFrame(d.frame[:0], streamFrames[stream], b...))
}

// moved tells the readers where the next data lies.
func (d *door) moved(stream int, log *logFile) {
	if d == nil || len(d.visitors) == 0 {
		return
	}
	d.tell(d.place(stream, log))
}

func (d *door) place(stream int, log *logFile) []byte {
	payload := make([]byte, 0, 17)
	payload = append(payload, streamFrames[stream])
	for _, n := range [...]uint64{log.inode, log.size} {
		for shift := 56; shift >= 0; shift -= 8 {
			payload = append(payload, byte(n>>shift))
		}
	}
	return AppendFrame(d.frame[:0], FramePlace, payload...)
}

func (d *door) tell(frame []byte) {
	for _, v := range d.visitors {
		if v.kind == FrameReader {
			d.send(v, frame)
		}
	}
}

// send never waits: who has no room for it leaves.
func (d *door) send(v *visitor, frame []byte) {
	for v.fd >= 0 && len(frame) > 0 {
		n, err := syscall.SendmsgN(v.fd, frame, nil, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			v.close()
			return
		}
		frame = frame[n:]
	}
}

func (v *visitor) close() {
	if v.fd >= 0 {
		syscall.Close(v.fd)
		v.fd = -1
	}
}

// end says to all readers that this was all.
func (d *door) end() {
	if d != nil {
		d.tell(AppendFrame(d.frame[:0], FrameEnd))
	}
}

func (d *door) close() {
	if d == nil {
		return
	}
	for _, v := range d.visitors {
		v.close()
	}
	syscall.Close(d.fd)
}
