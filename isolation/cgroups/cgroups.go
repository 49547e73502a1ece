// Package cgroups keeps the control groups of containers, on cgroup v1, on cgroup v2
// and on both at once.
//
// Tree is the main type. It knows nothing of limits and statistics: it makes the
// directories of containers, puts processes into them, kills what is in them and
// removes them. The layout is Mesos's:
//
//	v1  <hierarchy>/<subsystem>/<root>/<id>[/mesos/<nested id>]
//	v2  <base>/<root>/<id>[/mesos/<nested id>]/leaf
//
// On v2 processes live in the leaf only: a cgroup whose controllers are handed on to
// its children may have no processes of its own. The base is where cgroup2 is mounted,
// or, when the agent runs below a cgroup that was delegated to it (a systemd unit with
// Delegate=yes and DelegateSubgroup=), that cgroup: nothing outside of it is touched then.
//
// Where a subsystem is on v1 that is used; what is not is looked for on v2. So one
// container may have directories in both (a hybrid machine).
//
// A container's core is what it is killed by: the freezer on v1, its cgroup on v2. The
// linux launcher makes it (Create). A subsystem's directory is made by its isolator
// (Extend) for containers that do not share their parent's.
//
// All methods of Tree are safe for concurrent use. isolation, isolation/setup and the
// isolators import this package; it imports none of them.
package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnavailable says that the machine does not have a subsystem.
	ErrUnavailable = errors.New("cgroup subsystem is not available")
	// ErrExists says that a container has a cgroup that nobody has made now: one of
	// that id was here before and was not cleared away.
	ErrExists = errors.New("cgroup already exists")
	// ErrInvalidID says that a container's id cannot be a directory's name, or is the
	// agent's own.
	ErrInvalidID = errors.New("container id cannot be used as a cgroup")
	// ErrNotEmpty says that processes could not be killed in time.
	ErrNotEmpty = errors.New("cgroup still has processes")
)

// DefaultDestroyTimeout is how long the killing of a container's processes may take
// (--cgroups_destroy_timeout).
const DefaultDestroyTimeout = time.Minute

// Core is the name of what every container has that is killed through its cgroup: the
// freezer on v1, the cgroup itself on v2.
const Core = "freezer"

// controllers are the names of subsystems on v2, where they are others.
var controllers = map[string]string{"blkio": "io", "cpuacct": "cpu"}

// implicit are the subsystems that every cgroup of v2 has without a controller.
var implicit = map[string]bool{"freezer": true, "devices": true, "perf_event": true}

// Tree is the part of the machine's cgroups that belongs to one agent.
type Tree struct {
	system          system
	hierarchy, root string

	mu sync.Mutex
	// what follows is guarded by mu.
	destroyTimeout time.Duration
	mounts         []mount
	places         []*place
	used           map[string]*place
	containers     map[string]*entry
	// nested are the keys of those of containers that are nested in one, by its key.
	nested map[string][]string
	// claimed is what Claim holds until Lock takes it over.
	claimed *rootLock
	// fleeting says that the root goes with the agent.
	fleeting bool
}

// place is a hierarchy that containers have directories in.
type place struct {
	index int
	mount mount
	// base is the directory that the root is made in, dir the root.
	base, dir string
	// assign says that processes go there; the others only are cleared.
	assign bool
	// cpuset says that new directories need cpus and memory nodes first. filling is held
	// while one is made and gets them: what a sibling makes below it at the same moment is
	// filled from it.
	cpuset  bool
	filling sync.Mutex
}

// Open finds out which cgroups there are. Hierarchy is where they are mounted
// (--cgroups_hierarchy), root the directory for containers (--cgroups_root). Nothing is
// changed before Use.
func Open(hierarchy, root string) (*Tree, error) { return open(machine, hierarchy, root) }

func open(s system, hierarchy, root string) (*Tree, error) {
	root = strings.Trim(filepath.Clean("/"+root), "/")
	if root == "" {
		return nil, errors.New("the root of cgroups is empty")
	}
	hierarchy = filepath.Clean(hierarchy)
	mounts, err := readMounts(s.mountinfo)
	if err != nil {
		return nil, err
	}
	if len(mounts) == 0 {
		return nil, fmt.Errorf("%w: no cgroup file system is mounted; try: mount -t cgroup2 none %s", ErrUnavailable, hierarchy)
	}
	t := &Tree{
		system: s, hierarchy: hierarchy, root: root, destroyTimeout: DefaultDestroyTimeout,
		mounts: mounts, used: make(map[string]*place), containers: make(map[string]*entry), nested: make(map[string][]string),
	}
	// What an agent with other isolators left has to be found too.
	for _, m := range mounts {
		if dir := filepath.Join(m.point, root); !m.unified && Exists(dir) {
			t.addPlace(m, m.point)
		}
	}
	return t, nil
}

// Probe says why containers cannot have cgroups here, by making one: nothing is mounted or
// may be written, or there is no freezer. It leaves none behind.
func Probe(hierarchy string) error {
	t, err := Open(hierarchy, "clusterd-probe-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		return err
	}
	err = t.Use(Core)
	for _, p := range t.places {
		if rmErr := os.Remove(p.dir); rmErr != nil && err == nil {
			err = rmErr
		}
	}
	return err
}

// SetDestroyTimeout changes how long Kill and Destroy try (--cgroups_destroy_timeout).
func (t *Tree) SetDestroyTimeout(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.destroyTimeout = d
}

// Use makes subsystems ready: their hierarchy is mounted if need be, the root directory
// is there, and on v2 the controllers are on. Names are those of v1; "blkio" is "io" on
// v2. ErrUnavailable when the machine has no such subsystem.
func (t *Tree) Use(subsystems ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range subsystems {
		if err := t.useLocked(s); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) useLocked(subsystem string) error {
	if t.used[subsystem] != nil {
		return nil
	}
	p, err := t.placeForLocked(subsystem)
	if err != nil {
		return err
	}
	if err := t.makeRoot(p); err != nil {
		return err
	}
	if p.mount.unified && !implicit[subsystem] {
		if err := t.enableRoot(p, controller(subsystem)); err != nil {
			return err
		}
	}
	p.assign = true
	t.used[subsystem] = p
	return nil
}

// placeForLocked finds the hierarchy of a subsystem.
func (t *Tree) placeForLocked(subsystem string) (*place, error) {
	if m, ok := pick(t.mounts, filepath.Join(t.hierarchy, subsystem), func(m mount) bool {
		return !m.unified && slices.Contains(m.options, subsystem)
	}); ok {
		return t.addPlace(m, m.point), nil
	}
	m, unified := pick(t.mounts, t.hierarchy, func(m mount) bool { return m.unified })
	if unified {
		base, err := t.system.base(m)
		if err != nil {
			return nil, err
		}
		if implicit[subsystem] || has(filepath.Join(base, "cgroup.controllers"), controller(subsystem)) {
			return t.addPlace(m, base), nil
		}
	}
	free, err := t.system.kernelSubsystems()
	if err != nil {
		return nil, err
	}
	// Next to v2 alone nothing of v1 is mounted: the machine was set up without it.
	if (!unified || m.point != t.hierarchy) && slices.Contains(free, subsystem) {
		m, err := t.system.mountSubsystem(t.hierarchy, subsystem)
		if err != nil {
			return nil, err
		}
		t.mounts = append(t.mounts, m)
		return t.addPlace(m, m.point), nil
	}
	where := "cgroup v1"
	if unified {
		where = "cgroup v2 at " + m.point
	}
	return nil, fmt.Errorf("%w: %s (%s)", ErrUnavailable, subsystem, where)
}

func (t *Tree) addPlace(m mount, base string) *place {
	for _, p := range t.places {
		if p.mount.point == m.point {
			return p
		}
	}
	p := &place{
		index: len(t.places), mount: m, base: base, dir: filepath.Join(base, t.root),
		cpuset: slices.Contains(m.options, "cpuset"),
	}
	t.places = append(t.places, p)
	return p
}

// makeRoot makes the directory of the root, and those above it.
func (t *Tree) makeRoot(p *place) error {
	dir := p.base
	for name := range strings.SplitSeq(t.root, "/") {
		dir = filepath.Join(dir, name)
		if err := p.mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make the root of cgroups: %w", err)
		}
	}
	if !p.mount.unified {
		// Old kernels do not count what is below otherwise.
		if file := filepath.Join(dir, "memory.use_hierarchy"); slices.Contains(p.mount.options, "memory") {
			if n, err := ReadUint(file); err == nil && n == 0 {
				return Write(file, "1")
			}
		}
		return nil
	}
	if kind, err := Read(filepath.Join(dir, "cgroup.type")); err == nil && strings.TrimSpace(string(kind)) != "domain" {
		return fmt.Errorf("cgroup %s is of type %q: it lies below a threaded cgroup, which can hold no containers", dir, strings.TrimSpace(string(kind)))
	}
	return nil
}

// mkdir makes one cgroup.
func (p *place) mkdir(dir string) error {
	if !p.cpuset {
		return os.Mkdir(dir, 0o755)
	}
	p.filling.Lock()
	defer p.filling.Unlock()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	// A cpuset of v1 starts empty, and takes no process so.
	for _, file := range [...]string{"cpuset.cpus", "cpuset.mems"} {
		own, err := Read(filepath.Join(dir, file))
		if err == nil && strings.TrimSpace(string(own)) != "" {
			continue // cgroup.clone_children has done it
		}
		parent, err := Read(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := Write(filepath.Join(dir, file), strings.TrimSpace(string(parent))); err != nil {
			return err
		}
	}
	return nil
}

func controller(subsystem string) string {
	if c, ok := controllers[subsystem]; ok {
		return c
	}
	return subsystem
}

// has says whether a file of words has a word.
func has(path, word string) bool {
	b, err := Read(path)
	return err == nil && slices.Contains(strings.Fields(string(b)), word)
}

// Version says on which version of cgroups a subsystem is that Use made ready: 1 or 2,
// or 0 for another.
func (t *Tree) Version(subsystem string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch p := t.used[subsystem]; {
	case p == nil:
		return 0
	case p.mount.unified:
		return 2
	}
	return 1
}

// Root is the directory that all containers' cgroups of a subsystem are in.
func (t *Tree) Root(subsystem string) (string, error) {
	p, err := t.place(subsystem)
	if err != nil {
		return "", err
	}
	return p.dir, nil
}

func (t *Tree) place(subsystem string) (*place, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.used[subsystem]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %s was not asked for", ErrUnavailable, subsystem)
}

// Available lists those of the given subsystems that the machine has.
func (t *Tree) Available(subsystems ...string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var there []string
	free, _ := t.system.kernelSubsystems()
	m, unified := pick(t.mounts, t.hierarchy, func(m mount) bool { return m.unified })
	for _, s := range subsystems {
		ok := slices.ContainsFunc(t.mounts, func(m mount) bool { return !m.unified && slices.Contains(m.options, s) })
		if !ok && unified {
			base, err := t.system.base(m)
			ok = err == nil && (implicit[s] || has(filepath.Join(base, "cgroup.controllers"), controller(s)))
		}
		if ok || (!unified || m.point != t.hierarchy) && slices.Contains(free, s) {
			there = append(there, s)
		}
	}
	return there
}
