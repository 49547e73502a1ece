package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
	"clusterd/isolation/supervisor"
)

// controller is what one isolator does to the cgroups of one container. Its methods are
// called for containers that have cgroups of their own, and one at a time for each. Embed
// nothing for what does not matter.
type controller interface {
	// prepare comes when the directories are there.
	prepare(c *container, config *isolation.ContainerConfig) (*isolation.Preparation, error)
	// recover takes up a container of an earlier run.
	recover(c *container, state *isolation.ContainerState) error
	isolate(c *container) error
	update(c *container, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error
	usage(c *container, stats *mesos.ResourceStatistics) error
	status(c *container, status *mesos.ContainerStatus) error
	// reached says which limit a container has reached, which may have ended.
	reached(c *container) (isolation.Limitation, bool)
	cleanup(c *container)
	// close ends what runs on its own.
	close() error
}

// nothing does nothing, for controllers to embed.
type nothing struct{}

func (nothing) prepare(*container, *isolation.ContainerConfig) (*isolation.Preparation, error) {
	return nil, nil
}
func (nothing) recover(*container, *isolation.ContainerState) error { return nil }
func (nothing) isolate(*container) error                            { return nil }

func (nothing) update(*container, []*mesos.Resource, map[string]*mesos.Value_Scalar) error {
	return nil
}
func (nothing) usage(*container, *mesos.ResourceStatistics) error { return nil }
func (nothing) status(*container, *mesos.ContainerStatus) error   { return nil }
func (nothing) reached(*container) (isolation.Limitation, bool)   { return isolation.Limitation{}, false }
func (nothing) cleanup(*container)                                {}
func (nothing) close() error                                      { return nil }

// attached is what subsystems need in which containers only have their own cgroups:
// cpuset, hugetlb and net_prio, as in Mesos.
type attached struct{ nothing }

func newAttached(*Set) (controller, error) { return attached{}, nil }

// container is one that an isolator knows.
type container struct {
	id *mesos.ContainerID
	// own says that the container has cgroups of its own. Those of others are their
	// parents'.
	own bool
	// dirs are the directories of the isolator's subsystems, in their order; empty for
	// one that the container lacks, since it is older than the flag.
	dirs []string
	// limits gets at most one limitation.
	limits chan isolation.Limitation

	mu sync.Mutex
	// state is the controller's. Guarded by mu.
	state any
	// gone says that Cleanup has come. Guarded by mu.
	gone bool
	// said says that a limitation was reported. Guarded by mu.
	said bool
}

// reportLocked reports a limitation, once.
func (c *container) reportLocked(l isolation.Limitation) {
	if !c.said {
		c.said = true
		c.limits <- l
	}
}

// isolator is the frame of one isolator.
type isolator struct {
	isolation.BaseIsolator
	name       string
	subsystems []string
	tree       *cgroups.Tree
	ctl        controller
	log        zerolog.Logger
	// first says that this isolator prepares before the others of the set.
	first bool

	mu sync.Mutex
	// containers is guarded by mu.
	containers map[string]*container
}

var _ isolation.Isolator = (*isolator)(nil)

// Name is the name that --isolation knows the isolator by.
func (i *isolator) Name() string { return i.name }

// shares says whether a container uses its parent's cgroups.
func shares(config *isolation.ContainerConfig) bool {
	if config.ID.GetParent() == nil {
		return false
	}
	info := config.ContainerInfo.GetLinuxInfo()
	return config.Class == isolation.ClassDebug || info == nil || info.ShareCgroups == nil || info.GetShareCgroups()
}

func (i *isolator) get(id *mesos.ContainerID) (*container, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c, ok := i.containers[isolation.Key(id)]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return c, nil
}

// owner is the container whose cgroups a container uses; nil when the isolator knows
// none.
func (i *isolator) owner(c *container) *container {
	i.mu.Lock()
	defer i.mu.Unlock()
	for !c.own {
		parent, ok := i.containers[isolation.Key(c.id.GetParent())]
		if !ok {
			return nil
		}
		c = parent
	}
	return c
}

func (i *isolator) add(config *isolation.ContainerConfig) (*container, error) {
	c := &container{id: config.ID, own: !shares(config), limits: make(chan isolation.Limitation, 1)}
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.containers[isolation.Key(c.id)]; ok {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(c.id), isolation.ErrContainerExists)
	}
	i.containers[isolation.Key(c.id)] = c
	return c, nil
}

// Recover takes up the cgroups of known containers. Orphans are noted for Cleanup.
func (i *isolator) Recover(ctx context.Context, states []isolation.ContainerState, orphans []*mesos.ContainerID) error {
	for at := range states {
		c, err := i.add(states[at].Config)
		if err != nil {
			return err
		}
		if !c.own {
			continue
		}
		c.dirs = make([]string, len(i.subsystems))
		all := true
		for n, s := range i.subsystems {
			if i.tree.Adopt(c.id, s) {
				c.dirs[n], _, _ = i.tree.Dir(c.id, s)
			} else {
				all = false
			}
		}
		if !all {
			// It has ended, and its cgroup is gone, or it is older than the flag that
			// asks for this isolator.
			if states[at].PID != 0 {
				i.log.Warn().Str("container_id", isolation.Key(c.id)).Msg("recovered container has no cgroup")
			}
			c.dirs = nil
			continue
		}
		c.mu.Lock()
		err = i.ctl.recover(c, &states[at])
		c.mu.Unlock()
		if err != nil {
			return fmt.Errorf("recover container %s: %w", isolation.Key(c.id), err)
		}
	}
	for _, id := range orphans {
		for _, s := range i.subsystems {
			i.tree.Adopt(id, s)
		}
	}
	if i.first {
		return i.destroyUnknown(ctx, states, orphans)
	}
	return nil
}

// destroyUnknown removes the cgroups of containers that nobody knows. The linux launcher
// finds these by itself, as orphans; others do not look there.
func (i *isolator) destroyUnknown(ctx context.Context, states []isolation.ContainerState, orphans []*mesos.ContainerID) error {
	found, err := i.tree.Containers()
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, s := range states {
		known[isolation.Key(s.Config.ID)] = true
	}
	for _, id := range orphans {
		known[isolation.Key(id)] = true
	}
	var errs []error
	// Nested ones come after their parents, and go with them.
	for _, id := range found {
		if known[isolation.Key(id)] || id.GetParent() != nil && known[isolation.Key(id.GetParent())] {
			continue
		}
		i.log.Info().Str("container_id", isolation.Key(id)).Msg("destroy the cgroups of an unknown container")
		errs = append(errs, i.tree.Destroy(ctx, id))
	}
	return errors.Join(errs...)
}

// Prepare makes the container's cgroups and sets its limits.
func (i *isolator) Prepare(ctx context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	c, err := i.add(config)
	if err != nil {
		return nil, err
	}
	var p *isolation.Preparation
	if c.own {
		c.mu.Lock()
		p, err = i.prepareLocked(c, config)
		c.mu.Unlock()
		if err != nil {
			return nil, errors.Join(err, i.Cleanup(ctx, c.id))
		}
	}
	return i.addMounts(c, config, p), nil
}

func (i *isolator) prepareLocked(c *container, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	for _, s := range i.subsystems {
		if err := i.tree.Extend(c.id, s); err != nil {
			return nil, err
		}
		dir, _, _ := i.tree.Dir(c.id, s)
		c.dirs = append(c.dirs, dir)
	}
	p, err := i.ctl.prepare(c, config)
	if err != nil {
		return nil, err
	}
	return p, i.ctl.update(c, config.Resources, config.Limits)
}

// addMounts shows a container with a root file system its own cgroups, where programs
// look for their limits. Nobody may write there.
func (i *isolator) addMounts(c *container, config *isolation.ContainerConfig, p *isolation.Preparation) *isolation.Preparation {
	owner := i.owner(c)
	if config.RootFS == "" || config.Class == isolation.ClassDebug || owner == nil || len(owner.dirs) == 0 {
		return p
	}
	if p == nil {
		p = &isolation.Preparation{}
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	const target = "/sys/fs/cgroup"
	if i.tree.Version(i.subsystems[0]) == 2 {
		// All subsystems are one directory there. It is the one with the limits, not
		// the leaf with the processes.
		if i.first {
			p.Mounts = append(p.Mounts, isolation.Mount{Source: owner.dirs[0], Target: target, Flags: flags | unix.MS_BIND | unix.MS_RDONLY, Make: supervisor.MakeDirectory})
		}
		return p
	}
	if i.first { // where each of them finds its place; filesystem/linux makes it read-only at last
		p.Mounts = append(p.Mounts, isolation.Mount{Source: "tmpfs", Target: target, Type: "tmpfs", Data: "mode=755,size=64k", Flags: flags, Make: supervisor.MakeDirectory})
	}
	for n, s := range i.subsystems {
		p.Mounts = append(p.Mounts, isolation.Mount{
			Source: owner.dirs[n], Target: filepath.Join(target, s), Flags: flags | unix.MS_BIND | unix.MS_RDONLY, Make: supervisor.MakeDirectory,
		})
	}
	return p
}

// Isolate puts the process into the container's cgroups, or its parent's, if the launcher
// has not done it.
func (i *isolator) Isolate(_ context.Context, id *mesos.ContainerID, pid int) error {
	c, err := i.get(id)
	if err != nil {
		return err
	}
	if err := i.tree.AssignOnce(id, pid); err != nil {
		return err
	}
	if !c.has() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return i.ctl.isolate(c)
}

// has says whether there are cgroups to work with.
func (c *container) has() bool { return c.own && len(c.dirs) > 0 }

// Watch reports a limit that the container has reached.
func (i *isolator) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	c, err := i.get(id)
	if err != nil {
		return nil, err
	}
	return c.limits, nil
}

// Reached says, also when the container has ended, which limit it has reached, if any
// that was not reported yet (isolation.PostMortem).
func (i *isolator) Reached(_ context.Context, id *mesos.ContainerID) (isolation.Limitation, bool) {
	c, err := i.get(id)
	if err != nil || !c.has() {
		return isolation.Limitation{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case l := <-c.limits: // said, and not heard yet
		return l, true
	default:
	}
	if c.gone || c.said {
		return isolation.Limitation{}, false
	}
	l, ok := i.ctl.reached(c)
	c.said = ok
	return l, ok
}

// Update sets new limits. What shares its parent's cgroups has none of its own.
func (i *isolator) Update(_ context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	c, err := i.get(id)
	if err != nil || !c.has() {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return i.ctl.update(c, resources, limits)
}

// Usage measures the container; one that shares its parent's cgroups uses what the parent
// uses.
func (i *isolator) Usage(_ context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error {
	c, err := i.get(id)
	if err != nil {
		return err
	}
	owner := i.owner(c)
	if owner == nil || !owner.has() {
		return nil
	}
	owner.mu.Lock()
	defer owner.mu.Unlock()
	return i.ctl.usage(owner, stats)
}

// Status adds what the subsystem knows.
func (i *isolator) Status(_ context.Context, id *mesos.ContainerID, status *mesos.ContainerStatus) error {
	c, err := i.get(id)
	if err != nil {
		return err
	}
	owner := i.owner(c)
	if owner == nil || !owner.has() {
		return nil
	}
	owner.mu.Lock()
	defer owner.mu.Unlock()
	return i.ctl.status(owner, status)
}

// Cleanup removes the container's cgroups, as far as nobody else needs them.
func (i *isolator) Cleanup(ctx context.Context, id *mesos.ContainerID) error {
	i.mu.Lock()
	c := i.containers[isolation.Key(id)]
	delete(i.containers, isolation.Key(id))
	i.mu.Unlock()
	if c != nil && c.own {
		c.mu.Lock()
		c.gone = true
		i.ctl.cleanup(c)
		c.mu.Unlock()
	}
	if c != nil && !c.own {
		return nil
	}
	var errs []error
	for _, s := range i.subsystems {
		errs = append(errs, i.tree.Release(ctx, id, s))
	}
	return errors.Join(errs...)
}

// Close ends what the isolator does on its own.
func (i *isolator) Close() error { return i.ctl.close() }
