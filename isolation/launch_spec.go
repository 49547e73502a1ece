package isolation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/proctree"
	"clusterd/isolation/supervisor"
)

// LaunchError says that a container's command could not be executed.
type LaunchError struct {
	// Err is what the system said, where it said anything.
	Err syscall.Errno
	// Message says what could not be done, and why.
	Message string
}

// Error returns the message.
func (e *LaunchError) Error() string { return e.Message }

// Unwrap returns the error number, which errors.Is compares with fs.ErrNotExist
// and the like.
func (e *LaunchError) Unwrap() error {
	if e.Err == 0 {
		return nil
	}
	return e.Err
}

func launchError(reply string) error {
	number, message, _ := strings.Cut(reply, ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		message = reply
	}
	return &LaunchError{Err: syscall.Errno(n), Message: message}
}

// spec makes what the supervisor is told of what the launcher was told.
func (l *launcher) spec(c *launched, info *LaunchInfo) (*supervisor.Spec, error) {
	if info.Builtin != c.builtin && info.Builtin != c.program {
		return nil, fmt.Errorf("start %q in a container made for %q: %w", info.Builtin, c.builtin+c.program, ErrNotSupported)
	}
	if err := l.checkInfo(c, info); err != nil {
		return nil, err
	}
	spec := &supervisor.Spec{
		RuntimeDir: c.dir,
		Path:       info.Path,
		Argv:       info.Argv,
		Env:        append(append([]string(nil), info.Env...), markVariable+"="+Key(c.id)),
		Dir:        info.Dir,
		Stdout:     info.Stdout,
		Stderr:     info.Stderr,
		OutputIn:   outputIn(c.id, info),
		Namespaces: uint64(c.namespaces),
		OpenFiles:  openFiles(),

		RootFS: info.RootFS, Mounts: info.Mounts, Devices: info.Devices,
		MaskedPaths: info.MaskedPaths, ReadonlyPaths: info.ReadonlyPaths,
		Hostname: info.Hostname, UserNamespace: info.UserNamespace,
		Rlimits: info.Rlimits, NoNewPrivileges: info.NoNewPrivileges, Seccomp: info.Seccomp,
	}
	info.setStreams(spec)
	if info.Capabilities != nil {
		spec.SetCapabilities, spec.Capabilities = true, *info.Capabilities
	}
	if info.OOMScoreAdj != nil {
		spec.OOMScoreAdj = strconv.Itoa(*info.OOMScoreAdj)
	}
	if c.program != BuiltinNone {
		p, err := l.programs.get(c.program)
		if err != nil {
			return nil, err
		}
		spec.ProgramFD, spec.Argv = supervisor.ProgramFD, append(append([]string(nil), p.argv...), Key(c.id))
	}
	for _, field := range append(append([]string{spec.Path, spec.Dir, spec.Stdout, spec.Stderr}, spec.Argv...), spec.Env...) {
		if strings.IndexByte(field, 0) >= 0 {
			return nil, &LaunchError{Err: syscall.EINVAL, Message: fmt.Sprintf("NUL byte in %q", field)}
		}
	}
	if err := setCredentials(spec, info); err != nil {
		return nil, err
	}
	if info.Builtin == BuiltinNone && spec.Path == "" {
		return nil, &LaunchError{Err: syscall.ENOENT, Message: "no program to execute"}
	}
	return spec, l.enter(c, spec)
}

// outputIn is the sandbox of the container at the top when the files of output lie in
// that of one nested in it: whatever runs above can put links on the way.
func outputIn(id *mesos.ContainerID, info *LaunchInfo) string {
	if id.GetParent() == nil {
		return ""
	}
	dir := filepath.Dir(info.Stdout)
	if filepath.Dir(info.Stderr) != dir {
		return ""
	}
	for ; id.GetParent() != nil; id = id.GetParent() {
		up, ok := strings.CutSuffix(dir, "/"+filepath.Join("containers", id.GetValue()))
		if !ok {
			return ""
		}
		dir = up
	}
	return dir
}

// checkInfo refuses what would not take effect, or would outside of the container.
func (l *launcher) checkInfo(c *launched, info *LaunchInfo) error {
	mounts := len(info.Mounts)+len(info.Devices)+len(info.MaskedPaths)+len(info.ReadonlyPaths) > 0 || info.RootFS != ""
	switch {
	case info.CloneFlags != c.namespaces || info.EnterFlags != c.enters:
		return fmt.Errorf("start with namespaces %#x and %#x in a container made with %#x and %#x: %w", info.CloneFlags, info.EnterFlags, c.namespaces, c.enters, ErrNotSupported)
	case mounts && c.namespaces&unix.CLONE_NEWNS == 0:
		return fmt.Errorf("mounts without a mount namespace: %w", ErrNotSupported)
	case info.Hostname != "" && c.namespaces&unix.CLONE_NEWUTS == 0:
		return fmt.Errorf("hostname without a UTS namespace: %w", ErrNotSupported)
	case info.UserNamespace != "" && c.builtin != BuiltinNone:
		return fmt.Errorf("user namespace of a program that supervises itself: %w", ErrNotSupported)
	}
	return nil
}

// enter says whose namespaces the container enters: those of its parent's command, which
// has entered all that there are.
func (l *launcher) enter(c *launched, spec *supervisor.Spec) error {
	if c.enters == 0 {
		return nil
	}
	parent, err := l.Status(c.id.GetParent())
	if err != nil {
		return err
	}
	if parent.Supervisor == 0 || parent.PID == 0 {
		return fmt.Errorf("enter container %s: it does not run", Key(c.id.GetParent()))
	}
	p, ok := proctree.Read(parent.PID)
	if !ok {
		return fmt.Errorf("enter container %s: it has ended", Key(c.id.GetParent()))
	}
	spec.EnterFlags, spec.EnterPID, spec.EnterStart = uint64(c.enters), uint32(parent.PID), p.Start
	return nil
}

// openFiles is the soft limit of open files that this process was started with. Go
// raises it, puts it back in what it starts, and tells nobody: so it is read in a child.
var openFiles = sync.OnceValue(func() uint64 {
	out, err := exec.CommandContext(context.Background(), "/bin/sh", "-c", "ulimit -S -n").Output()
	if err != nil {
		return 0
	}
	text := strings.TrimSpace(string(out))
	if text == "unlimited" {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
})

// setCredentials says who the command runs as: the user that somebody named, the image's,
// or the agent's own.
func setCredentials(spec *supervisor.Spec, info *LaunchInfo) error {
	if err := setUser(spec, info.User); err != nil {
		return err
	}
	if info.User == "" && info.Credentials != nil {
		spec.SwitchUser, spec.UID, spec.GID = true, info.Credentials.UID, info.Credentials.GID
		spec.Groups = slices.Clone(info.Credentials.Groups)
	}
	if len(info.Groups) == 0 {
		return nil
	}
	if !spec.SwitchUser {
		spec.SwitchUser, spec.UID, spec.GID = true, uint32(os.Geteuid()), uint32(os.Getegid())
		own, err := os.Getgroups()
		if err != nil {
			return err
		}
		for _, g := range own {
			spec.Groups = append(spec.Groups, uint32(g))
		}
	}
	spec.Groups = append(spec.Groups, info.Groups...)
	return nil
}

// setUser looks a user up. Only the files are read (the binary is static), so
// users of a directory service must be numbers or be listed locally.
func setUser(spec *supervisor.Spec, name string) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return &LaunchError{Message: fmt.Sprintf("no user %q on this machine", name)}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return &LaunchError{Message: fmt.Sprintf("user %q: %v", name, err)}
	}
	if int(uid) == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		return &LaunchError{Err: syscall.EPERM, Message: fmt.Sprintf("run as user %q: the agent does not run as root", name)}
	}
	spec.SwitchUser, spec.UID, spec.GID = true, uint32(uid), uint32(gid)
	groups, err := u.GroupIds()
	if err != nil {
		return &LaunchError{Message: fmt.Sprintf("groups of user %q: %v", name, err)}
	}
	for _, g := range groups {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return &LaunchError{Message: fmt.Sprintf("groups of user %q: %v", name, err)}
		}
		spec.Groups = append(spec.Groups, uint32(n))
	}
	return nil
}

// writeLaunchInfo leaves what is started for humans. It holds the names of the
// environment only: values may be secrets.
func (l *launcher) writeLaunchInfo(c *launched, spec *supervisor.Spec, info *LaunchInfo) {
	var b strings.Builder
	fmt.Fprintf(&b, "program: %s\nargv: %q\nuser: %s\ndirectory: %s\nstdout: %s\nstderr: %s\nenvironment:", programName(info), spec.Argv, info.User, spec.Dir, spec.Stdout, spec.Stderr)
	names := make([]string, 0, len(spec.Env))
	for _, e := range spec.Env {
		name, _, _ := strings.Cut(e, "=")
		names = append(names, name)
	}
	sort.Strings(names)
	for _, n := range names {
		b.WriteString(" " + n)
	}
	b.WriteString("\n")
	if err := os.WriteFile(filepath.Join(c.dir, launchInfoFile), []byte(b.String()), 0o600); err != nil {
		l.log.Warn().Err(err).Str("container_id", Key(c.id)).Msg("write launch info")
	}
}

func programName(info *LaunchInfo) string {
	if info.Builtin != BuiltinNone {
		return "clusterd " + string(info.Builtin)
	}
	return info.Path
}
