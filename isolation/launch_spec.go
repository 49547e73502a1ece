package isolation

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"

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
func (l *PosixLauncher) spec(c *launched, info *LaunchInfo) (*supervisor.Spec, error) {
	if info.Builtin != c.builtin {
		return nil, fmt.Errorf("start %q in a container made for %q: %w", info.Builtin, c.builtin, ErrNotSupported)
	}
	if info.CloneFlags != 0 {
		return nil, fmt.Errorf("namespaces with the posix launcher: %w", ErrNotSupported)
	}
	spec := &supervisor.Spec{
		RuntimeDir: c.dir,
		Path:       info.Path,
		Argv:       info.Argv,
		Env:        append(append([]string(nil), info.Env...), markVariable+"="+Key(c.id)),
		Dir:        info.Dir,
		Stdout:     info.Stdout,
		Stderr:     info.Stderr,
	}
	info.setStreams(spec)
	for _, field := range append(append([]string{spec.Path, spec.Dir, spec.Stdout, spec.Stderr}, spec.Argv...), spec.Env...) {
		if strings.IndexByte(field, 0) >= 0 {
			return nil, &LaunchError{Err: syscall.EINVAL, Message: fmt.Sprintf("NUL byte in %q", field)}
		}
	}
	if err := setUser(spec, info.User); err != nil {
		return nil, err
	}
	if info.Builtin == BuiltinNone && spec.Path == "" {
		return nil, &LaunchError{Err: syscall.ENOENT, Message: "no program to execute"}
	}
	return spec, nil
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
func (l *PosixLauncher) writeLaunchInfo(c *launched, spec *supervisor.Spec, info *LaunchInfo) {
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
