package supervisor

import (
	"errors"
	"os"
	"strconv"
)

// Files in a container's runtime directory, named as Mesos names them
// (src/slave/containerizer/mesos/paths.hpp) where it has such a file.
const (
	// PIDFile holds the decimal process id of the container's command.
	PIDFile = "pid"
	// StatusFile holds the decimal wait status of the container's command.
	StatusFile = "status"
	// statusTemp becomes StatusFile. It is made, at its full size, before the
	// command starts, so that a disk that fills up meanwhile takes no exit
	// status away.
	statusTemp = "status.tmp"
)

// ReadStatus reads the wait status that a supervisor left in a runtime
// directory. It says no when there is none.
func ReadStatus(dir string) (status int, ok bool) {
	// A supervisor that has given up its rights cannot rename the file.
	for _, name := range [...]string{StatusFile, statusTemp} {
		b, err := os.ReadFile(dir + "/" + name)
		if err != nil || len(b) != statusSize || b[statusSize-1] != '\n' {
			continue
		}
		n := 0
		for n < len(b) && b[n] != '\n' {
			n++
		}
		if status, err := strconv.Atoi(string(b[:n])); err == nil {
			return status, true
		}
	}
	return 0, false
}

// statusSize is the size of a status file: a number, filled up with newlines.
// Before there is a status it holds as many spaces.
const statusSize = 16

// ControlFD is a stream socket that the supervisor is started with: one Spec
// comes in, one reply goes out: "K" and the process id, or "E", an error number,
// a colon and a message.
const ControlFD = 3

// ErrMalformed says that a Spec could not be decoded.
var ErrMalformed = errors.New("malformed launch specification")

// Spec says what the supervisor starts. Nothing in it may contain a NUL byte.
type Spec struct {
	// RuntimeDir is where PIDFile and StatusFile are written.
	RuntimeDir string
	// Path is the program; one without a slash is looked up in the PATH of
	// Env. It is not used when the program supervises itself (RunInline).
	Path string
	// Argv and Env are handed over as they are.
	Argv, Env []string
	// Dir is the working directory.
	Dir string
	// Stdout and Stderr are appended to.
	Stdout, Stderr string
	// SwitchUser says whether the command runs as UID, GID and Groups.
	SwitchUser bool
	UID, GID   uint32
	Groups     []uint32
}

// specVersion is the first byte of an encoded Spec. Supervisor and agent come
// from one build; the version only makes a mixed-up installation fail clearly.
//
//	1  2026-11-22  first
//	2  2026-11-22  programs that supervise themselves (RunInline)
const specVersion = 2

// Encode renders s for the control socket.
func (s *Spec) Encode() []byte {
	b := make([]byte, 0, 1024)
	b = append(b, 0, 0, 0, 0, specVersion)
	for _, f := range [...]string{s.RuntimeDir, s.Path, s.Dir, s.Stdout, s.Stderr} {
		b = appendString(b, f)
	}
	for _, l := range [...][]string{s.Argv, s.Env} {
		b = appendUint32(b, uint32(len(l)))
		for _, f := range l {
			b = appendString(b, f)
		}
	}
	var sw uint32
	if s.SwitchUser {
		sw = 1
	}
	b = appendUint32(b, sw)
	b = appendUint32(b, s.UID)
	b = appendUint32(b, s.GID)
	b = appendUint32(b, uint32(len(s.Groups)))
	for _, g := range s.Groups {
		b = appendUint32(b, g)
	}
	n := uint32(len(b) - 4)
	b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b
}

// DecodeSpec reads what Encode wrote, without the four bytes of its length.
func DecodeSpec(b []byte) (*Spec, error) {
	if len(b) == 0 || b[0] != specVersion {
		return nil, ErrMalformed
	}
	d := decoder{b: b[1:]}
	s := &Spec{}
	for _, f := range [...]*string{&s.RuntimeDir, &s.Path, &s.Dir, &s.Stdout, &s.Stderr} {
		*f = d.string()
	}
	for _, l := range [...]*[]string{&s.Argv, &s.Env} {
		for n := d.count(4); n > 0; n-- {
			*l = append(*l, d.string())
		}
	}
	s.SwitchUser = d.uint32() == 1
	s.UID, s.GID = d.uint32(), d.uint32()
	for n := d.count(4); n > 0; n-- {
		s.Groups = append(s.Groups, d.uint32())
	}
	if d.bad || len(d.b) != 0 {
		return nil, ErrMalformed
	}
	return s, nil
}

func appendUint32(b []byte, n uint32) []byte {
	return append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(appendUint32(b, uint32(len(s))), s...)
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint32() uint32 {
	if len(d.b) < 4 {
		d.bad, d.b = true, nil
		return 0
	}
	n := uint32(d.b[0])<<24 | uint32(d.b[1])<<16 | uint32(d.b[2])<<8 | uint32(d.b[3])
	d.b = d.b[4:]
	return n
}

// count reads a number of things of at least size bytes each, so that a bad
// number cannot ask for more than there is.
func (d *decoder) count(size int) uint32 {
	n := d.uint32()
	if uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) string() string {
	n := d.uint32()
	if uint64(n) > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}
