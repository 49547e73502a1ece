package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
)

// Mesos is the containerizer of that name in Mesos: a launcher and isolators,
// composed (src/slave/containerizer/mesos/containerizer.cpp).
type Mesos struct {
	launcher  Launcher
	isolators []Isolator
	// provisioner makes root file systems of images; nil: there are none.
	provisioner Provisioner
	// count is told what happened once more; nil: nobody wants to know.
	count func(name string)
	log   zerolog.Logger
	// base ends with Close: what the containerizer does on its own runs under
	// it.
	base   context.Context //nolint:containedctx // the lifecycle owner
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// containers, nested and closed are guarded by mu.
	containers map[string]*container
	// nested are those of them that are nested in one, by its key.
	nested map[string][]*container
	closed bool
}

var _ Containerizer = (*Mesos)(nil)

// container is one container from Launch or Recover until Remove.
type container struct {
	id *mesos.ContainerID
	// isolators are those that are called for it.
	isolators []Isolator
	// dying says that no container can be nested in it any more. It is guarded by
	// Mesos.mu.
	dying bool
	// launched is closed when Launch has succeeded or failed.
	launched chan struct{}
	// abort cancels a launch under way.
	abort context.CancelFunc
	// ended is closed when nothing is left and isolators have cleaned up;
	// termination is set before.
	ended       chan struct{}
	termination Termination

	mu sync.Mutex
	// what follows is guarded by mu.
	config      *ContainerConfig
	destroyed   bool
	limitations []Limitation
	// env and dir are the environment and the working directory of its command; env is
	// nil when the container was recovered.
	env []string
	dir string
}

// NewMesos composes a containerizer. Isolators prepare in the given order and
// clean up in the reverse one.
func NewMesos(launcher Launcher, isolators []Isolator, log zerolog.Logger) *Mesos {
	ctx, cancel := context.WithCancel(context.Background())
	return &Mesos{
		launcher: launcher, isolators: isolators, log: log,
		base: ctx, cancel: cancel, containers: make(map[string]*container), nested: make(map[string][]*container),
	}
}

// SetProvisioner makes containers with images possible. Call it before Recover. One
// that is an io.Closer is closed with the containerizer.
func (m *Mesos) SetProvisioner(p Provisioner) { m.provisioner = p }

// newContainer makes what is remembered of a container. Standalone says whether no
// framework owns it, or the one it is nested in.
func (m *Mesos) newContainer(config *ContainerConfig, standalone bool, abort context.CancelFunc) *container {
	return &container{
		id: config.ID, config: config, abort: abort, isolators: m.isolatorsFor(config.ID, standalone),
		launched: make(chan struct{}), ended: make(chan struct{}),
	}
}

// isolatorsFor are the isolators that are called for a container.
func (m *Mesos) isolatorsFor(id *mesos.ContainerID, standalone bool) []Isolator {
	return slices.DeleteFunc(slices.Clone(m.isolators), func(i Isolator) bool {
		return id.GetParent() != nil && !i.SupportsNesting() || standalone && !i.SupportsStandalone()
	})
}

// watch follows a container that runs, or has run.
func (m *Mesos) watch(c *container) error {
	watched, stop := context.WithCancel(m.base)
	var watchers sync.WaitGroup
	for _, isolator := range c.isolators {
		limits, err := isolator.Watch(c.id)
		if err != nil {
			stop()
			watchers.Wait()
			return fmt.Errorf("watch isolator %s: %w", isolator.Name(), err)
		}
		if limits == nil {
			continue
		}
		watchers.Go(func() {
			select {
			case limitation := <-limits:
				m.limited(c, limitation)
			case <-watched.Done():
			}
		})
	}
	m.wg.Go(func() {
		defer watchers.Wait()
		defer stop()
		status, err := m.launcher.Wait(m.base, c.id)
		if err != nil {
			if m.base.Err() == nil && !errors.Is(err, ErrUnknownContainer) {
				m.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("wait for container")
			}
			return
		}
		m.endNested(m.base, c)
		m.postMortem(c)
		// A limitation that was delivered may be on its way yet.
		stop()
		watchers.Wait()
		m.cleanup(m.base, c.id, c.isolators)
		c.mu.Lock()
		c.termination = terminationOf(status, c.destroyed, c.limitations)
		c.mu.Unlock()
		close(c.ended)
	})
	return nil
}

// limited destroys a container that reached a limit.
func (m *Mesos) limited(c *container, limitation Limitation) {
	m.log.Info().Str("container_id", Key(c.id)).Str("limitation", limitation.Message).Msg("container reached a limit")
	c.mu.Lock()
	c.limitations = append(c.limitations, limitation)
	c.destroyed = true
	c.mu.Unlock()
	m.endNested(m.base, c)
	if err := m.launcher.Destroy(m.base, c.id); err != nil && m.base.Err() == nil {
		m.counted(CountDestroyErrors)
		m.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("destroy container")
	}
}

// endNested destroys the containers nested in one that ends, and lets none come after
// them. They have been cleaned up when it returns, unless ctx is over before.
func (m *Mesos) endNested(ctx context.Context, c *container) {
	var wg sync.WaitGroup
	for _, child := range m.children(c) {
		wg.Go(func() {
			if err := m.Destroy(ctx, child.id); err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnknownContainer) {
				m.log.Error().Err(err).Str("container_id", Key(child.id)).Msg("destroy nested container")
			}
		})
	}
	wg.Wait()
}

// children closes a container to new children and lists those that it has.
func (m *Mesos) children(c *container) []*container {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.dying = true
	return slices.Clone(m.nested[Key(c.id)])
}

// addLocked makes a container known.
func (m *Mesos) addLocked(c *container) {
	m.containers[Key(c.id)] = c
	if parent := c.id.GetParent(); parent != nil {
		m.nested[Key(parent)] = append(m.nested[Key(parent)], c)
	}
}

// forgetLocked is the end of that.
func (m *Mesos) forgetLocked(c *container) {
	delete(m.containers, Key(c.id))
	if c.id.GetParent() == nil {
		return
	}
	parent := Key(c.id.GetParent())
	left := slices.DeleteFunc(m.nested[parent], func(n *container) bool { return n == c })
	if m.nested[parent] = left; len(left) == 0 {
		delete(m.nested, parent)
	}
}

// postMortem asks which limit has ended a container: its processes may be gone before
// the report of that comes.
func (m *Mesos) postMortem(c *container) {
	for _, isolator := range c.isolators {
		i, ok := isolator.(PostMortem)
		if !ok {
			continue
		}
		if limitation, ok := i.Reached(m.base, c.id); ok {
			m.log.Info().Str("container_id", Key(c.id)).Str("limitation", limitation.Message).Msg("container ended at a limit")
			c.mu.Lock()
			c.limitations = append(c.limitations, limitation)
			c.destroyed = true
			c.mu.Unlock()
		}
	}
}

// cleanup lets the isolators forget a container, last one first, and takes away what is
// left of it but for its exit status.
func (m *Mesos) cleanup(ctx context.Context, id *mesos.ContainerID, isolators []Isolator) {
	for _, isolator := range slices.Backward(isolators) {
		if err := isolator.Cleanup(ctx, id); err != nil {
			m.log.Error().Err(err).Str("container_id", Key(id)).Str("isolator", isolator.Name()).Msg("clean up container")
		}
	}
	if err := m.launcher.Cleanup(ctx, id); err != nil {
		m.log.Error().Err(err).Str("container_id", Key(id)).Msg("clean up container")
	}
	if m.provisioner == nil {
		return
	}
	if err := m.provisioner.Destroy(ctx, id); err != nil {
		m.counted(CountRemoveErrors)
		m.log.Error().Err(err).Str("container_id", Key(id)).Msg("destroy root file system")
	}
}

// Update implements Containerizer.
func (m *Mesos) Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	c, err := m.get(id)
	if err != nil {
		return err
	}
	select {
	case <-c.launched:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, isolator := range c.isolators {
		if err := isolator.Update(ctx, id, resources, limits); err != nil {
			return fmt.Errorf("update isolator %s: %w", isolator.Name(), err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	config := *c.config
	config.Resources, config.Limits = resources, limits
	c.config = &config
	return nil
}

// Usage implements Containerizer.
func (m *Mesos) Usage(ctx context.Context, id *mesos.ContainerID) (*mesos.ResourceStatistics, error) {
	c, err := m.get(id)
	if err != nil {
		return nil, err
	}
	stats := &mesos.ResourceStatistics{Timestamp: new(float64(time.Now().UnixMicro()) / 1e6)}
	for _, isolator := range c.isolators {
		if err := isolator.Usage(ctx, id, stats); err != nil {
			return nil, fmt.Errorf("usage by isolator %s: %w", isolator.Name(), err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	addAllocation(stats, c.config)
	return stats, nil
}

// Status implements Containerizer.
func (m *Mesos) Status(ctx context.Context, id *mesos.ContainerID) (*mesos.ContainerStatus, error) {
	c, err := m.get(id)
	if err != nil {
		return nil, err
	}
	status := &mesos.ContainerStatus{ContainerId: id}
	if s, err := m.launcher.Status(id); err == nil && s.PID != 0 {
		status.ExecutorPid = new(uint32(s.PID))
	}
	for _, isolator := range c.isolators {
		if err := isolator.Status(ctx, id, status); err != nil {
			return nil, fmt.Errorf("status by isolator %s: %w", isolator.Name(), err)
		}
	}
	return status, nil
}

// Wait implements Containerizer.
func (m *Mesos) Wait(ctx context.Context, id *mesos.ContainerID) (Termination, error) {
	c, err := m.get(id)
	if err != nil {
		return Termination{}, err
	}
	select {
	case <-c.ended:
		return c.termination, nil
	default:
	}
	select {
	case <-c.ended:
		return c.termination, nil
	case <-ctx.Done():
		return Termination{}, ctx.Err()
	case <-m.base.Done():
		return Termination{}, ErrClosed
	}
}

// Destroy implements Containerizer.
func (m *Mesos) Destroy(ctx context.Context, id *mesos.ContainerID) error {
	c, err := m.get(id)
	if err != nil {
		return err
	}
	select {
	case <-c.ended:
		return nil
	default:
	}
	c.mu.Lock()
	c.destroyed = true
	c.mu.Unlock()
	c.abort()
	select {
	case <-c.launched:
	case <-ctx.Done():
		return ctx.Err()
	}
	m.endNested(ctx, c)
	if err := m.launcher.Destroy(ctx, id); err != nil && !errors.Is(err, ErrUnknownContainer) {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-m.base.Done():
		return ErrClosed
	}
}

// Attach implements Containerizer.
func (m *Mesos) Attach(ctx context.Context, id *mesos.ContainerID) (Attachment, error) {
	return m.attach(ctx, id)
}

// Kill implements Containerizer.
func (m *Mesos) Kill(ctx context.Context, id *mesos.ContainerID, signal syscall.Signal) error {
	c, err := m.get(id)
	if err != nil {
		return err
	}
	select {
	case <-c.launched:
	case <-ctx.Done():
		return ctx.Err()
	}
	err = m.launcher.Kill(id, signal)
	if errors.Is(err, ErrUnknownContainer) { // its launch has failed meanwhile
		return nil
	}
	return err
}

// PruneImages implements Containerizer.
func (m *Mesos) PruneImages(ctx context.Context, excluded []*mesos.Image) error {
	if m.provisioner == nil {
		return fmt.Errorf("prune images: %w without --image_providers", ErrNotSupported)
	}
	return m.provisioner.Prune(ctx, excluded)
}

// Remove implements Containerizer.
func (m *Mesos) Remove(ctx context.Context, id *mesos.ContainerID) error {
	c, err := m.get(id)
	if err != nil {
		return nil
	}
	select {
	case <-c.ended:
	default:
		return fmt.Errorf("remove container %s: still running", Key(id))
	}
	for _, child := range m.children(c) {
		if err := m.Remove(ctx, child.id); err != nil {
			return err
		}
	}
	if err := m.launcher.Remove(id); err != nil && !errors.Is(err, ErrUnknownContainer) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(c)
	return nil
}

// Containers implements Containerizer.
func (m *Mesos) Containers() []*mesos.ContainerID {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]*mesos.ContainerID, 0, len(m.containers))
	for _, c := range m.containers {
		ids = append(ids, c.id)
	}
	slices.SortFunc(ids, func(a, b *mesos.ContainerID) int { return strings.Compare(Key(a), Key(b)) })
	return ids
}

// Close implements Containerizer.
func (m *Mesos) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	errs := []error{m.launcher.Close()}
	m.wg.Wait()
	for _, isolator := range m.isolators {
		if c, ok := isolator.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	if c, ok := m.provisioner.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (m *Mesos) get(id *mesos.ContainerID) (*container, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.containers[Key(id)]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
	}
	return c, nil
}
