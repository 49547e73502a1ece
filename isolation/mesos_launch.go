package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// Launch implements Containerizer.
func (m *Mesos) Launch(ctx context.Context, config *ContainerConfig) error {
	if err := m.validateConfig(config); err != nil {
		return err
	}
	ctx, abort := context.WithCancel(ctx)
	defer abort()
	own := *config
	if err := m.awaitParent(ctx, own.ID); err != nil {
		return err
	}
	c, parent, err := m.register(&own, abort)
	if err != nil {
		return err
	}
	defer close(c.launched)
	err = m.launch(ctx, c, parent)
	if err == nil {
		err = m.watch(c)
	}
	if err == nil {
		return nil
	}
	c.mu.Lock()
	destroyed := c.destroyed
	c.mu.Unlock()
	if destroyed {
		err = fmt.Errorf("container %s: %w", Key(c.id), ErrDestroyed)
	}
	m.undo(c, err, destroyed)
	return err
}

// awaitParent waits while the container that another is to be nested in is being
// launched: an executor may run, and ask for containers, before the call that launches it
// has returned. What has become of the parent is for register to see.
func (m *Mesos) awaitParent(ctx context.Context, id *mesos.ContainerID) error {
	if id.GetParent() == nil {
		return nil
	}
	m.mu.Lock()
	parent, ok := m.containers[Key(id.GetParent())]
	m.mu.Unlock()
	if !ok {
		return nil
	}
	select {
	case <-parent.launched:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("container %s: wait for the launch of its parent: %w", Key(id), context.Cause(ctx))
	}
}

// register makes a container known, in its parent if it is to have one.
func (m *Mesos) register(config *ContainerConfig, abort context.CancelFunc) (c, parent *container, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := config.ID
	if _, exists := m.containers[Key(id)]; m.closed {
		return nil, nil, ErrClosed
	} else if exists {
		return nil, nil, fmt.Errorf("container %s: %w", Key(id), ErrContainerExists)
	}
	root := config
	if id.GetParent() != nil {
		var ok bool
		if parent, ok = m.containers[Key(id.GetParent())]; !ok {
			return nil, nil, fmt.Errorf("parent container %s: %w", Key(id.GetParent()), ErrUnknownContainer)
		}
		top := m.containers[rootID(id).GetValue()]
		top.mu.Lock()
		root = top.config
		top.mu.Unlock()
	}
	if parent != nil {
		running := false
		select {
		case <-parent.launched:
			select {
			case <-parent.ended:
			default:
				running = !parent.dying
			}
		default:
		}
		if !running {
			return nil, nil, fmt.Errorf("parent container %s does not run: %w", Key(parent.id), ErrUnknownContainer)
		}
	}
	c = m.newContainer(config, root.FrameworkID == nil, abort)
	m.addLocked(c)
	return c, parent, nil
}

// rootID is the container at the top of the line of parents.
func rootID(id *mesos.ContainerID) *mesos.ContainerID {
	for id.GetParent() != nil {
		id = id.GetParent()
	}
	return id
}

// launch takes the steps of a launch.
func (m *Mesos) launch(ctx context.Context, c, parent *container) error {
	config := c.config
	mounts, err := m.provision(ctx, config, parent)
	if err != nil {
		return err
	}
	all := merged{Preparation: Preparation{Mounts: mounts}}
	for _, isolator := range c.isolators {
		p, err := isolator.Prepare(ctx, config)
		if err == nil && p != nil {
			err = all.add(isolator.Name(), p)
		}
		if err != nil {
			return fmt.Errorf("prepare isolator %s: %w", isolator.Name(), err)
		}
	}
	putBelow(all.Mounts[:len(mounts)], config.RootFS, all.RootBase)
	mapImage(all.Mounts[:len(mounts)], all.UserNamespace)
	debug := config.Class == ClassDebug
	if config.RootFS != "" && all.RootFS == "" && !debug {
		return fmt.Errorf("container image: %w without filesystem/linux", ErrNotSupported)
	}
	var parentEnv []string
	if debug {
		parentEnv = m.environmentOf(parent)
		if all.WorkingDirectory == "" {
			parent.mu.Lock()
			all.WorkingDirectory = parent.dir
			parent.mu.Unlock()
		}
	}
	info, err := launchInfo(config, parentEnv, &all.Preparation)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.env, c.dir = info.Env, info.Dir
	c.mu.Unlock()
	pid, err := m.launcher.Fork(ctx, c.id, &ForkInfo{
		Builtin: config.Builtin, Supervised: all.UserNamespace != "",
		CloneFlags: all.CloneFlags, EnterFlags: all.EnterFlags, UIDMaps: all.UIDMaps, GIDMaps: all.GIDMaps, Cgroup: all.Cgroup,
		Birthplace: all.Birthplace,
	})
	if err != nil {
		return err
	}
	if err := m.checkpoint(c); err != nil {
		return err
	}
	for _, isolator := range c.isolators {
		if err := isolator.Isolate(ctx, c.id, pid); err != nil {
			return fmt.Errorf("isolator %s: %w", isolator.Name(), err)
		}
	}
	return m.launcher.Start(ctx, c.id, info)
}

// provision makes a container's root file system, if it has an image, and returns the
// mounts that belong to it.
func (m *Mesos) provision(ctx context.Context, config *ContainerConfig, parent *container) ([]Mount, error) {
	image := config.ContainerInfo.GetMesos().GetImage()
	if config.Class == ClassDebug {
		if image != nil {
			return nil, fmt.Errorf("image of a DEBUG container: %w", ErrNotSupported)
		}
		parent.mu.Lock()
		config.RootFS, config.Image = parent.config.RootFS, parent.config.Image
		parent.mu.Unlock()
		return nil, nil
	}
	if image == nil {
		return nil, nil
	}
	if m.provisioner == nil {
		return nil, fmt.Errorf("container image: %w without --image_providers", ErrNotSupported)
	}
	p, err := m.provisioner.Provision(ctx, config.ID, image)
	if err != nil {
		return nil, fmt.Errorf("provision image: %w", err)
	}
	config.RootFS, config.Image, config.Volumes = p.RootFS, &p.Config, p.Volumes
	return p.Mounts, nil
}

// environmentOf is the environment that a container's command was started with.
func (m *Mesos) environmentOf(c *container) []string {
	c.mu.Lock()
	env, builtin := c.env, c.config.Builtin
	c.mu.Unlock()
	status, err := m.launcher.Status(c.id)
	if env != nil || err != nil || builtin != BuiltinNone {
		return env // that of a program of ours is not what it was executed with
	}
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(status.PID), "environ"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(strings.Split(string(b), "\x00"), func(e string) bool { return e == "" })
}

// undo leaves nothing of a failed launch. It works even when the caller has
// gone: the context of the launch may be over.
func (m *Mesos) undo(c *container, cause error, destroyed bool) {
	m.endNested(m.base, c)
	if !errors.Is(cause, ErrContainerExists) {
		ctx, cancel := context.WithTimeout(m.base, time.Minute)
		defer cancel()
		err := m.launcher.Destroy(ctx, c.id)
		if err == nil {
			m.cleanup(ctx, c.id, c.isolators)
			err = m.launcher.Remove(c.id)
		} else if errors.Is(err, ErrUnknownContainer) { // Fork was not reached
			m.cleanup(ctx, c.id, c.isolators)
			err = nil
		}
		if err != nil {
			m.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("undo a failed launch")
		}
	}
	m.mu.Lock()
	m.forgetLocked(c)
	m.mu.Unlock()
	c.termination = Termination{Destroyed: destroyed, Message: cause.Error()}
	close(c.ended)
}

// validateConfig refuses what would be ignored.
func (m *Mesos) validateConfig(config *ContainerConfig) error {
	if err := ValidateID(config.ID); err != nil {
		return err
	}
	if config.Class == ClassDebug && config.ID.GetParent() == nil {
		return fmt.Errorf("DEBUG container %s without a parent: %w", Key(config.ID), ErrNotSupported)
	}
	if !filepath.IsAbs(config.Sandbox) {
		return fmt.Errorf("container %s: sandbox %q is not an absolute path", Key(config.ID), config.Sandbox)
	}
	// As filesystem/posix does (src/slave/containerizer/mesos/isolators/filesystem/
	// posix.cpp): better no container than one without its data.
	volumes := slices.ContainsFunc(m.isolators, func(i Isolator) bool { return volumeIsolators[i.Name()] })
	if len(config.ContainerInfo.GetVolumes()) > 0 && !volumes {
		return fmt.Errorf("volumes in ContainerInfo: %w without filesystem/linux", ErrNotSupported)
	}
	// A missing ContainerInfo has the first type of the enumeration: DOCKER.
	if config.ContainerInfo != nil && config.ContainerInfo.GetType() == mesos.ContainerInfo_DOCKER {
		return fmt.Errorf("container of type DOCKER: %w", ErrNotSupported)
	}
	return nil
}

// volumeIsolators are those that look after ContainerInfo.volumes, and refuse what they
// cannot give.
var volumeIsolators = map[string]bool{"filesystem/linux": true, "filesystem/shared": true, "volume/sandbox_path": true}
