package supervisor

import (
	"errors"
	"os"
	"strconv"
	"syscall"
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

// Started says whether the supervisor of a runtime directory was told what to run. Before
// that it starts nothing, and ends with the agent; after it the command may have run.
func Started(dir string) bool {
	for _, name := range [...]string{StatusFile, statusTemp} {
		var st syscall.Stat_t
		if syscall.Lstat(dir+"/"+name, &st) == nil {
			return true
		}
	}
	return false
}

// statusSize is the size of a status file: a number, filled up with newlines.
// Before there is a status it holds as many spaces.
const statusSize = 16

// ControlFD is a stream socket that the supervisor is started with: one Spec
// comes in, one reply goes out: "K" and the process id, or "E", an error number,
// a colon and a message.
const ControlFD = 3

// ProgramFD is a program that a supervisor is started with, and executes, when
// Spec.ProgramFD says so. ProgramEnv is in its environment then.
const (
	ProgramFD  = 4
	ProgramEnv = programVariable + "=4"

	programVariable = "CLUSTERD_PROGRAM_FD"
)

// ErrMalformed says that a Spec could not be decoded.
var ErrMalformed = errors.New("malformed launch specification")

// Spec says what the supervisor starts, and what it makes of itself and of the
// container's world before. Nothing in it may contain a NUL byte.
type Spec struct {
	// RuntimeDir is where PIDFile and StatusFile are written.
	RuntimeDir string
	// Path is the program; one without a slash is looked up in the PATH of
	// Env. It is not used when the program supervises itself (RunInline).
	Path string
	// Argv and Env are handed over as they are.
	Argv, Env []string
	// Dir is the working directory, as the container sees it.
	Dir string
	// Stdout and Stderr are paths of the machine that are appended to.
	Stdout, Stderr string
	// OutputIn is a directory of the machine that these lie in when what is below it is
	// somebody else's: nothing in the rest of their paths leads out of it. Empty: only a
	// symbolic link at their end is not followed.
	OutputIn string
	// StdoutRotation and StderrRotation bound those files.
	StdoutRotation, StderrRotation Rotation
	// SwitchUser says whether the command runs as UID, GID and Groups.
	SwitchUser bool
	UID, GID   uint32
	Groups     []uint32

	// Namespaces are those (CLONE_NEW*) the supervisor was started in: new ones,
	// of this container alone.
	Namespaces uint64
	// EnterFlags are namespaces (CLONE_NEW*) of the process EnterPID, of that start time,
	// that the command enters; the supervisor stays outside of mount, pid and user
	// namespaces. No mounts can be made then.
	EnterFlags uint64
	EnterPID   uint32
	EnterStart uint64
	// ProgramFD is a descriptor that the supervisor was started with and that is executed
	// instead of Path; 0: none.
	ProgramFD uint32
	// OpenFiles is the soft limit of open files that the agent was started with; 0:
	// unknown.
	OpenFiles uint64
	// RootFS becomes the root directory; empty: it stays.
	RootFS string
	// Mounts are made in this order, Devices after them, before the root changes.
	Mounts  []Mount
	Devices []Device
	// MaskedPaths are hidden, ReadonlyPaths made read-only, in the container's root.
	MaskedPaths, ReadonlyPaths []string
	// Hostname is set when it is not empty.
	Hostname string
	// UserNamespace is the path, on the machine, of a user namespace that the command
	// enters before it takes UID, GID and Groups, which are those inside then. The
	// supervisor stays outside, and the other namespaces belong to the machine's own:
	// no mount can be undone inside. Empty: none.
	UserNamespace string

	// Rlimits, Capabilities (when SetCapabilities), NoNewPrivileges and Seccomp bind
	// the command, not the supervisor.
	Rlimits         []Rlimit
	SetCapabilities bool
	Capabilities    Capabilities
	NoNewPrivileges bool
	// Seccomp is an array of struct sock_filter; empty: no filter.
	Seccomp []byte
	// OOMScoreAdj is written for the command when it is not empty.
	OOMScoreAdj string

	// TTY gives the command a terminal of its own of Rows and Columns (0: unset),
	// whose output goes to Stdout.
	TTY           bool
	Rows, Columns uint32
	// Stdin gives the command a pipe to read from; without it, and without TTY, it
	// reads /dev/null.
	Stdin bool
	// Door is the path of a Unix socket that the supervisor serves for whoever wants
	// to read along, type, or resize the terminal; empty: none.
	Door string
}

// Mount is one call of mount(2).
type Mount struct {
	// Source is a path of the machine for a bind mount, else a name.
	Source string
	// Target is an absolute path in the container's root. It is looked up in the
	// root as if that were changed already: no symbolic link leads out of it.
	Target string
	// Type is the file system's; empty for bind mounts.
	Type string
	// Data are the file system's own options.
	Data string
	// Flags are MS_*. A bind mount with MS_RDONLY (and MS_NOSUID, ...) is
	// mounted again to make them count; propagation flags (MS_PRIVATE, ...)
	// are applied afterwards by a call of their own. A bind mount with MS_SHARED is one
	// in the peer group of its source: what the container mounts there, the machine sees.
	Flags uint64
	// Make says what is made at Target when nothing is there.
	Make MakeTarget
	// Host says that Target is a path of the machine and not of the container's root:
	// a mount that only this container's mount namespace sees.
	Host bool
	// IDMap is the path, on the machine, of a user namespace: a bind mount shows ids 0,
	// 1, ... of the file system as those that 0, 1, ... in the namespace are outside of
	// it (mount_setattr(2)). Mounts below the source stay as they are. With Type
	// "overlay" it is the layers whose ids are mapped. Empty: none.
	IDMap string
	// SourceIn is a directory of the machine that the Source of a bind mount lies in, and
	// TargetIn one of the container's root that Target lies in, when what is below them
	// is somebody else's: no symbolic link in the rest of the path leads out of it.
	// Empty: nothing is asked of the path.
	SourceIn, TargetIn string
	// Content is what is in a mount of Type "file" (ours): a file in memory that nobody
	// else sees, of mode 0600 and owned by UID and GID.
	Content  string
	UID, GID uint32
}

// MakeTarget says what is made where a mount goes.
type MakeTarget uint32

// The ways to make a target.
const (
	MakeNothing MakeTarget = iota
	MakeDirectory
	MakeFile
)

// Device is a node in the container's root.
type Device struct {
	// Path is absolute, in the container's root.
	Path string
	// Mode holds the type (S_IFCHR, S_IFBLK) and the permissions.
	Mode         uint32
	Major, Minor uint32
	UID, GID     uint32
	// Link is what a symbolic link (S_IFLNK) at Path leads to. It may exist already.
	Link string
}

// Rlimit is one limit of setrlimit(2).
type Rlimit struct {
	// Resource is RLIMIT_*.
	Resource   uint32
	Soft, Hard uint64
}

// Capabilities are the sets of a process, bit n for capability n.
type Capabilities struct {
	Effective, Permitted, Inheritable, Bounding, Ambient uint64
}

// Rotation bounds a file of output. The zero value does not.
type Rotation struct {
	// MaxSize in bytes starts the next file; 0: never.
	MaxSize uint64
	// MaxFiles is how many older files are kept, as NAME.1 (the youngest) and so on.
	MaxFiles uint32
	// Compress says that older files are compressed (NAME.1.gz).
	Compress bool
}

// specVersion is the first byte of an encoded Spec. Supervisor and agent come
// from one build; the version only makes a mixed-up installation fail clearly.
//
//	1  2026-11-22  first
//	2  2026-11-22  programs that supervise themselves (RunInline)
//	3  2026-11-23  namespaces, root file systems, limits, terminals
//	4  2026-11-23  user namespaces, mapped mounts
const specVersion = 4

// Encode renders s for the control socket.
func (s *Spec) Encode() []byte {
	c := coder{b: make([]byte, 0, 2048), writes: true}
	c.b = append(c.b, 0, 0, 0, 0, specVersion)
	s.code(&c)
	n := uint32(len(c.b) - 4)
	c.b[0], c.b[1], c.b[2], c.b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return c.b
}

// DecodeSpec reads what Encode wrote, without the four bytes of its length.
func DecodeSpec(b []byte) (*Spec, error) {
	if len(b) == 0 || b[0] != specVersion {
		return nil, ErrMalformed
	}
	s, c := &Spec{}, coder{b: b[1:]}
	s.code(&c)
	if c.bad || len(c.b) != 0 {
		return nil, ErrMalformed
	}
	return s, nil
}

// code writes or reads every field, in one order.
func (s *Spec) code(c *coder) {
	c.strings(&s.RuntimeDir, &s.Path, &s.Dir, &s.Stdout, &s.Stderr, &s.OutputIn, &s.RootFS, &s.Hostname, &s.UserNamespace, &s.OOMScoreAdj, &s.Door)
	c.bools(&s.SwitchUser, &s.SetCapabilities, &s.NoNewPrivileges, &s.TTY, &s.Stdin)
	c.uint32s(&s.UID, &s.GID, &s.Rows, &s.Columns)
	c.uint32s(&s.EnterPID, &s.ProgramFD)
	c.uint64s(&s.Namespaces, &s.EnterFlags, &s.EnterStart, &s.OpenFiles)
	for _, l := range [...]*[]string{&s.Argv, &s.Env, &s.MaskedPaths, &s.ReadonlyPaths} {
		list(c, l, 4, func(e *string) { c.strings(e) })
	}
	list(c, &s.Groups, 4, func(e *uint32) { c.uint32s(e) })
	for _, r := range [...]*Rotation{&s.StdoutRotation, &s.StderrRotation} {
		c.uint64s(&r.MaxSize)
		c.uint32s(&r.MaxFiles)
		c.bools(&r.Compress)
	}
	list(c, &s.Mounts, 57, func(m *Mount) {
		c.strings(&m.Source, &m.Target, &m.Type, &m.Data, &m.IDMap, &m.SourceIn, &m.TargetIn, &m.Content)
		c.uint64s(&m.Flags)
		c.uint32s((*uint32)(&m.Make), &m.UID, &m.GID)
		c.bools(&m.Host)
	})
	list(c, &s.Devices, 28, func(d *Device) {
		c.strings(&d.Path, &d.Link)
		c.uint32s(&d.Mode, &d.Major, &d.Minor, &d.UID, &d.GID)
	})
	list(c, &s.Rlimits, 20, func(r *Rlimit) {
		c.uint32s(&r.Resource)
		c.uint64s(&r.Soft, &r.Hard)
	})
	p := &s.Capabilities
	c.uint64s(&p.Effective, &p.Permitted, &p.Inheritable, &p.Bounding, &p.Ambient)
	seccomp := string(s.Seccomp)
	c.strings(&seccomp)
	if !c.writes && seccomp != "" {
		s.Seccomp = []byte(seccomp)
	}
}

// coder appends to b, or takes from it. Bad says that b was too short. It does
// without encoding/binary, which brings reflect along.
type coder struct {
	b      []byte
	writes bool
	bad    bool
}

func (c *coder) uint32s(fields ...*uint32) {
	for _, f := range fields {
		if c.writes {
			n := *f
			c.b = append(c.b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			continue
		}
		if b := c.take(4); b != nil {
			*f = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		}
	}
}

func (c *coder) uint64s(fields ...*uint64) {
	for _, f := range fields {
		high, low := uint32(*f>>32), uint32(*f)
		c.uint32s(&high, &low)
		*f = uint64(high)<<32 | uint64(low)
	}
}

func (c *coder) bools(fields ...*bool) {
	for _, f := range fields {
		if !c.writes {
			b := c.take(1)
			*f = b != nil && b[0] == 1
			continue
		}
		var n byte
		if *f {
			n = 1
		}
		c.b = append(c.b, n)
	}
}

func (c *coder) strings(fields ...*string) {
	for _, f := range fields {
		n := uint32(len(*f))
		c.uint32s(&n)
		if c.writes {
			c.b = append(c.b, *f...)
			continue
		}
		*f = string(c.take(n))
	}
}

// take cuts n bytes off.
func (c *coder) take(n uint32) []byte {
	if uint64(n) > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// list codes the elements of l, of at least size bytes each, so that a bad number
// cannot ask for more than there is.
func list[T any](c *coder, l *[]T, size uint64, code func(*T)) {
	n := uint32(len(*l))
	c.uint32s(&n)
	if c.writes {
		for i := range *l {
			code(&(*l)[i])
		}
		return
	}
	if uint64(n)*size > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return
	}
	if n > 0 {
		*l = make([]T, n)
	}
	for i := range *l {
		code(&(*l)[i])
	}
}
