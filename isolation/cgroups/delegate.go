package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// base is the directory of cgroup v2 that the root is made in: the cgroup that was
// delegated to the agent, or where the hierarchy is mounted (see DESIGN.md).
//
// systemd marks what it delegates (Delegate=yes) with an extended attribute, and leaves
// everything below alone. When the agent is in that very cgroup it cannot be divided: at
// the next start systemd would have to put a process into a cgroup that hands controllers
// on, which the kernel refuses. With DelegateSubgroup= the process goes below it.
func (s system) base(m mount) (string, error) {
	own, err := s.own("")
	if err != nil {
		return "", err
	}
	if m.root != "/" {
		if !below(own, m.root) {
			return m.point, nil
		}
		own = "/" + strings.TrimPrefix(own[len(m.root):], "/")
	}
	for up := own; up != "/" && up != "." && !strings.HasPrefix(up, "/.."); up = path.Dir(up) {
		dir := filepath.Join(m.point, up)
		for _, name := range [...]string{"trusted.delegate", "user.delegate"} {
			if v, ok := s.xattr(dir, name); ok && v == "1" {
				if up == own && s.writable(m.point) {
					return m.point, nil
				}
				return dir, nil
			}
		}
	}
	return m.point, nil
}

// own is the agent's own cgroup in the hierarchy of a subsystem, "" for v2.
func (s system) own(subsystem string) (string, error) {
	b, err := os.ReadFile(s.self)
	if err != nil {
		return "", fmt.Errorf("read the agent's own cgroup: %w", err)
	}
	return ownIn(b, subsystem), nil
}

// ownIn finds the path of a subsystem in the text of /proc/PID/cgroup.
func ownIn(text []byte, subsystem string) string {
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if subsystem == "" && f[0] == "0" && f[1] == "" {
			return f[2]
		}
		for name := range strings.SplitSeq(f[1], ",") {
			if subsystem != "" && name == subsystem {
				return f[2]
			}
		}
	}
	return "/"
}

// enableRoot turns a controller on for the containers' cgroups: in the base, in the
// root, and in what is between.
func (t *Tree) enableRoot(p *place, controller string) error {
	dir := p.base
	for name := range strings.SplitSeq("/"+t.root, "/") {
		dir = filepath.Join(dir, name)
		err := enable(dir, controller)
		// The kernel does not hand controllers on from a cgroup that has processes,
		// but for the root of all. In what is ours these are the agent and what it was
		// started with: they move to a leaf of their own.
		if errors.Is(err, unix.EBUSY) && dir == p.base && Exists(filepath.Join(dir, "cgroup.type")) {
			if err = p.evacuate(); err == nil {
				err = enable(dir, controller)
			}
		}
		if err != nil {
			return fmt.Errorf("turn on cgroup controller %s: %w", controller, err)
		}
	}
	return nil
}

func enable(dir, controller string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	if has(file, controller) {
		return nil
	}
	return Write(file, "+"+controller)
}

// evacuate moves the processes of the base into the agent's leaf.
func (p *place) evacuate() error {
	leaf, err := p.agentLeaf()
	if err != nil {
		return err
	}
	for range 10 {
		pids, err := pidsOf(filepath.Join(p.base, "cgroup.procs"), nil)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := Write(filepath.Join(leaf, "cgroup.procs"), strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return fmt.Errorf("cgroup %s gets new processes all the time", p.base)
}

// agentLeaf makes the cgroup of the agent itself.
func (p *place) agentLeaf() (string, error) {
	names := []string{slaveDir}
	if p.mount.unified {
		names = []string{agentDir, leafDir}
	}
	dir := p.dir
	for _, name := range names {
		dir = filepath.Join(dir, name)
		if err := p.mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return dir, nil
}

// AssignAgent puts the agent's own process, and all that it starts from now on, into a
// cgroup of these subsystems beside the containers (--agent_subsystems): <root>/slave on
// v1 as in Mesos, <root>/agent/leaf on v2.
func (t *Tree) AssignAgent(subsystems ...string) error {
	if err := t.Use(subsystems...); err != nil {
		return err
	}
	for _, s := range subsystems {
		p, err := t.place(s)
		if err != nil {
			return err
		}
		leaf, err := p.agentLeaf()
		if err != nil {
			return fmt.Errorf("make the agent's cgroup: %w", err)
		}
		if err := Write(filepath.Join(leaf, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
			return fmt.Errorf("move the agent to its cgroup: %w", err)
		}
	}
	return nil
}

// AgentDir is the agent's own cgroup of a subsystem, if AssignAgent has made one.
func (t *Tree) AgentDir(subsystem string) (string, bool) {
	p, err := t.place(subsystem)
	if err != nil {
		return "", false
	}
	dir := filepath.Join(p.dir, slaveDir)
	if p.mount.unified {
		dir = filepath.Join(p.dir, agentDir)
	}
	return dir, Exists(dir)
}
