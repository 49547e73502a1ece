package agent

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// ids are numbers of a user and a group.
type ids struct{ uid, gid int }

// errNotMapped says that a user is nobody in a container.
var errNotMapped = errors.New("the user is not known in the container's user namespace")

// limit takes what a process in a container has not. Capabilities in a user namespace of the
// container's own are worth nothing outside: there the user is somebody else, without any.
func (r *rights) limit(pid int) error {
	theirs, err := os.Stat(procPath(pid, "ns/user"))
	if err != nil {
		return err
	}
	ours, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return err
	}
	if os.SameFile(theirs, ours) {
		r.capabilities, err = capabilitiesOf(pid)
		return err
	}
	r.capabilities = new(uint64)
	inside := ids{os.Geteuid(), os.Getegid()}
	if r.user != "" {
		u, err := user.Lookup(r.user)
		if err != nil {
			return err
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		inside = ids{uid, gid}
	}
	r.mapped = &ids{}
	if r.mapped.uid, err = mappedID(procPath(pid, "uid_map"), inside.uid); err != nil {
		return err
	}
	r.mapped.gid, err = mappedID(procPath(pid, "gid_map"), inside.gid)
	return err
}

// mappedID is what an id of a user namespace is outside of it (user_namespaces(7)).
func mappedID(file string, id int) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var inside, outside, n int
		if _, err := fmt.Sscan(line, &inside, &outside, &n); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		if id >= inside && id-inside < n {
			return outside + id - inside, nil
		}
	}
	return 0, errNotMapped
}

// capabilitiesOf are the effective capabilities of a process.
func capabilitiesOf(pid int) (*uint64, error) {
	text, err := statusOf(pid, "CapEff:")
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(text, 16, 64)
	return &n, err
}

// statusOf is a line of what the kernel says of a process.
func statusOf(pid int, name string) (string, error) {
	b, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(text), nil
		}
	}
	return "", fmt.Errorf("process %d has no %q", pid, name)
}
