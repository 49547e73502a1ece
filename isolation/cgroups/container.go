package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	mesos "clusterd/api/mesos/v1"
)

// entry is what is known of one container.
type entry struct {
	// mu keeps what is done to the container's directories in order.
	mu sync.Mutex
	// there are the places that have a directory of it, a bit for each, and own those of
	// them that were made or adopted. Guarded by mu.
	there, own uint64
	// holders are the subsystems that need it, by name. Guarded by mu.
	holders map[string]bool
	// pid was the last to be assigned. Guarded by mu.
	pid int
}

// entry finds what is known of a container. For one that was not made by this Tree it
// looks what is there.
func (t *Tree) entry(id *mesos.ContainerID) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.containers[key(id)]
	if e == nil {
		e = &entry{holders: make(map[string]bool)}
		rel := relative(id)
		for _, p := range t.places {
			if Exists(filepath.Join(p.dir, rel)) {
				e.there |= 1 << p.index
			}
		}
		t.containers[key(id)] = e
		if parent := id.GetParent(); parent != nil {
			t.nested[key(parent)] = append(t.nested[key(parent)], key(id))
		}
	}
	return e
}

// peek is like entry, for a container that need not be known: nothing is remembered.
func (t *Tree) peek(id *mesos.ContainerID, p *place) bool {
	t.mu.Lock()
	e := t.containers[key(id)]
	t.mu.Unlock()
	if e == nil {
		return Exists(filepath.Join(p.dir, relative(id)))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.there&(1<<p.index) != 0
}

// Create makes the container's core. Call Use(Core) before, once.
func (t *Tree) Create(id *mesos.ContainerID) error { return t.Extend(id, Core) }

// Extend makes the container's own cgroup of a subsystem. ErrExists when there is one
// that an earlier container has left.
func (t *Tree) Extend(id *mesos.ContainerID, subsystem string) error {
	if !usable(id) {
		return fmt.Errorf("%w: %q", ErrInvalidID, key(id))
	}
	p, err := t.place(subsystem)
	if err != nil {
		return err
	}
	e := t.entry(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.own&(1<<p.index) == 0 {
		if err := t.make(p, id); err != nil {
			return fmt.Errorf("make cgroup of container %s: %w", key(id), err)
		}
		e.there |= 1 << p.index
		e.own |= 1 << p.index
	}
	e.holders[subsystem] = true
	if !p.mount.unified || implicit[subsystem] {
		return nil
	}
	return t.handDown(p, id, controller(subsystem))
}

// make makes the directories of a container in one place.
func (t *Tree) make(p *place, id *mesos.ContainerID) error {
	dir := filepath.Join(p.dir, relative(id))
	err := p.mkdir(dir)
	if errors.Is(err, os.ErrNotExist) {
		// Above a nested container there is "mesos" to be made, and perhaps its
		// parent's directory. Somebody may also have removed the root (MESOS-9305).
		if err = t.makeAbove(p, filepath.Dir(dir)); err == nil {
			err = p.mkdir(dir)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, dir)
	}
	if err != nil || !p.mount.unified {
		return err
	}
	if err := p.mkdir(filepath.Join(dir, leafDir)); err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	return nil
}

func (t *Tree) makeAbove(p *place, dir string) error {
	if dir == p.dir || !below(dir, p.dir) {
		if err := t.makeRoot(p); err != nil || !p.mount.unified {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		for s, o := range t.used {
			if o == p && !implicit[s] {
				if err := t.enableRoot(p, controller(s)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := p.mkdir(dir)
	if errors.Is(err, os.ErrNotExist) {
		if err = t.makeAbove(p, filepath.Dir(dir)); err == nil {
			err = p.mkdir(dir)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// handDown turns a controller of v2 on in all that is between the root and a nested
// container. In none of these there are processes.
func (t *Tree) handDown(p *place, id *mesos.ContainerID, controller string) error {
	if id.GetParent() == nil {
		return nil
	}
	if err := t.handDown(p, id.GetParent(), controller); err != nil {
		return err
	}
	dir := filepath.Join(p.dir, relative(id.GetParent()))
	for _, d := range [...]string{dir, filepath.Join(dir, nestedDir)} {
		if err := enable(d, controller); err != nil {
			return fmt.Errorf("turn on cgroup controller %s for nested containers: %w", controller, err)
		}
	}
	return nil
}

// Adopt takes up the cgroup of a container that an earlier run of the agent made, and
// says whether there is one.
func (t *Tree) Adopt(id *mesos.ContainerID, subsystem string) bool {
	p, err := t.place(subsystem)
	if err != nil || !usable(id) {
		return false
	}
	if !Exists(filepath.Join(p.dir, relative(id))) {
		return false
	}
	e := t.entry(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.there |= 1 << p.index
	e.own |= 1 << p.index
	e.holders[subsystem] = true
	return true
}

// Dir is the container's own cgroup of a subsystem, or that of its nearest ancestor that
// has one; owner says whose it is. It is not where processes are: see ProcessDir.
func (t *Tree) Dir(id *mesos.ContainerID, subsystem string) (dir string, owner *mesos.ContainerID, ok bool) {
	p, err := t.place(subsystem)
	if err != nil {
		return "", nil, false
	}
	for ; id != nil; id = id.GetParent() {
		if t.peek(id, p) {
			return filepath.Join(p.dir, relative(id)), id, true
		}
	}
	return "", nil, false
}

// Holds says whether a container has a core of its own: it has none if it was started by a
// launcher without cgroups.
func (t *Tree) Holds(id *mesos.ContainerID) bool {
	p, err := t.place(Core)
	return err == nil && t.peek(id, p)
}

// ProcessDir is the directory of cgroup v2 that the processes of a container are born in
// (CLONE_INTO_CGROUP); empty on v1, where they are assigned. It is known after Create.
func (t *Tree) ProcessDir(id *mesos.ContainerID) string {
	if t.Version(Core) != 2 {
		return ""
	}
	dir, _, ok := t.Dir(id, Core)
	if !ok {
		return ""
	}
	return filepath.Join(dir, leafDir)
}

// Assign puts a process with all its threads into the container's cgroups: for each
// subsystem in use its own one, or the nearest ancestor's. One that was born there costs
// nothing.
func (t *Tree) Assign(id *mesos.ContainerID, pid int) error {
	t.mu.Lock()
	places := append([]*place(nil), t.places...)
	t.mu.Unlock()
	for _, p := range places {
		if !p.assign {
			continue
		}
		for i := id; i != nil; i = i.GetParent() {
			if !t.peek(i, p) {
				continue
			}
			if err := p.assignTo(relative(i), pid); err != nil {
				return fmt.Errorf("assign process %d to the cgroup of container %s: %w", pid, key(i), err)
			}
			break
		}
	}
	e := t.entry(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pid = pid
	return nil
}

func (p *place) assignTo(rel string, pid int) error {
	dir := filepath.Join(p.dir, rel)
	if p.mount.unified {
		dir = filepath.Join(dir, leafDir)
		// To move a process stops all others of the machine for a moment; most were
		// born where they belong.
		b, err := Read("/proc/" + strconv.Itoa(pid) + "/cgroup")
		if err == nil && strings.HasSuffix(ownIn(b, ""), strings.TrimPrefix(dir, p.mount.point)) {
			return nil
		}
	}
	return Write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
}

// AssignOnce is Assign, if that was not done for this process yet: for isolators, which
// do not know whether the launcher does it.
func (t *Tree) AssignOnce(id *mesos.ContainerID, pid int) error {
	e := t.entry(id)
	e.mu.Lock()
	done := e.pid == pid
	e.mu.Unlock()
	if done {
		return nil
	}
	return t.Assign(id, pid)
}

// Containers lists the containers that have a cgroup in any hierarchy, in order of id.
func (t *Tree) Containers() ([]*mesos.ContainerID, error) {
	t.mu.Lock()
	places := append([]*place(nil), t.places...)
	t.mu.Unlock()
	found := make(map[string]*mesos.ContainerID)
	for _, p := range places {
		if err := containersIn(p.dir, nil, found); err != nil {
			return nil, fmt.Errorf("list the cgroups of containers: %w", err)
		}
	}
	return sorted(found), nil
}
