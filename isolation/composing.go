package isolation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	mesos "clusterd/api/mesos/v1"
)

// Composing is the containerizer that asks others, one after the other, and remembers
// who runs which container (src/slave/containerizer/composing.cpp). The order is that in
// which they are given: --containerizers=docker,mesos asks docker first.
type Composing struct {
	all []Containerizer

	mu sync.Mutex
	// owners are those of containers at the top, by their keys. Guarded by mu.
	owners map[string]Containerizer
}

var _ Containerizer = (*Composing)(nil)

// NewComposing composes containerizers, which belong to it from then on.
func NewComposing(all ...Containerizer) *Composing {
	return &Composing{all: all, owners: map[string]Containerizer{}}
}

// Recover lets each containerizer take up what it ran. A known container belongs to the
// one that finds it; one that nobody finds is the first one's that would launch it, and
// has ended.
func (c *Composing) Recover(ctx context.Context, known []ContainerConfig) ([]*mesos.ContainerID, error) {
	var orphans []*mesos.ContainerID
	for _, one := range c.all {
		var own []ContainerConfig
		for _, config := range known {
			if c.chosen(&config) == one {
				own = append(own, config)
			}
		}
		found, err := one.Recover(ctx, own)
		if err != nil {
			return nil, err
		}
		orphans = append(orphans, found...)
		c.mu.Lock()
		for _, id := range one.Containers() {
			if id.GetParent() == nil {
				c.owners[Key(id)] = one
			}
		}
		c.mu.Unlock()
	}
	return orphans, nil
}

// Chooser says beforehand which containers a containerizer runs. One that is no Chooser
// runs whatever those before it do not.
type Chooser interface {
	Runs(config *ContainerConfig) bool
}

func (c *Composing) chosen(config *ContainerConfig) Containerizer {
	for _, one := range c.all {
		if chooser, ok := one.(Chooser); !ok || chooser.Runs(config) {
			return one
		}
	}
	return nil
}

// Launch asks one containerizer after the other until one does not say ErrNotSupported.
func (c *Composing) Launch(ctx context.Context, config *ContainerConfig) error {
	if config.ID.GetParent() != nil {
		owner, err := c.owner(config.ID)
		if err != nil {
			return err
		}
		return owner.Launch(ctx, config)
	}
	if err := ValidateID(config.ID); err != nil {
		return err
	}
	key := Key(config.ID)
	refused := fmt.Errorf("no containerizer runs such a container: %w", ErrNotSupported)
	for _, one := range c.all {
		if chooser, ok := one.(Chooser); ok && !chooser.Runs(config) {
			continue
		}
		// Destroy must find it while it is being launched.
		c.mu.Lock()
		if _, ok := c.owners[key]; ok {
			c.mu.Unlock()
			return fmt.Errorf("container %s: %w", key, ErrContainerExists)
		}
		c.owners[key] = one
		c.mu.Unlock()
		err := one.Launch(ctx, config)
		if err == nil {
			return nil
		}
		c.mu.Lock()
		delete(c.owners, key)
		c.mu.Unlock()
		if !errors.Is(err, ErrNotSupported) {
			return err
		}
		refused = err
	}
	return refused
}

// owner finds who runs a container, by the one at the top of its line.
func (c *Composing) owner(id *mesos.ContainerID) (Containerizer, error) {
	for id.GetParent() != nil {
		id = id.GetParent()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	one, ok := c.owners[Key(id)]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
	}
	return one, nil
}

// Update implements Containerizer.
func (c *Composing) Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	one, err := c.owner(id)
	if err != nil {
		return err
	}
	return one.Update(ctx, id, resources, limits)
}

// Usage implements Containerizer.
func (c *Composing) Usage(ctx context.Context, id *mesos.ContainerID) (*mesos.ResourceStatistics, error) {
	one, err := c.owner(id)
	if err != nil {
		return nil, err
	}
	return one.Usage(ctx, id)
}

// Status implements Containerizer.
func (c *Composing) Status(ctx context.Context, id *mesos.ContainerID) (*mesos.ContainerStatus, error) {
	one, err := c.owner(id)
	if err != nil {
		return nil, err
	}
	return one.Status(ctx, id)
}

// Wait implements Containerizer.
func (c *Composing) Wait(ctx context.Context, id *mesos.ContainerID) (Termination, error) {
	one, err := c.owner(id)
	if err != nil {
		return Termination{}, err
	}
	return one.Wait(ctx, id)
}

// Attach implements Containerizer.
func (c *Composing) Attach(ctx context.Context, id *mesos.ContainerID) (Attachment, error) {
	one, err := c.owner(id)
	if err != nil {
		return nil, err
	}
	return one.Attach(ctx, id)
}

// Kill implements Containerizer.
func (c *Composing) Kill(ctx context.Context, id *mesos.ContainerID, signal syscall.Signal) error {
	one, err := c.owner(id)
	if err != nil {
		return err
	}
	return one.Kill(ctx, id, signal)
}

// Destroy implements Containerizer.
func (c *Composing) Destroy(ctx context.Context, id *mesos.ContainerID) error {
	one, err := c.owner(id)
	if err != nil {
		return err
	}
	return one.Destroy(ctx, id)
}

// Remove implements Containerizer.
func (c *Composing) Remove(ctx context.Context, id *mesos.ContainerID) error {
	one, err := c.owner(id)
	if err != nil {
		return nil
	}
	if err := one.Remove(ctx, id); err != nil || id.GetParent() != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.owners, Key(id))
	return nil
}

// PruneImages lets every containerizer prune that has images.
func (c *Composing) PruneImages(ctx context.Context, excluded []*mesos.Image) error {
	var errs []error
	refused := 0
	for _, one := range c.all {
		err := one.PruneImages(ctx, excluded)
		if errors.Is(err, ErrNotSupported) {
			refused++
			continue
		}
		errs = append(errs, err)
	}
	if refused == len(c.all) {
		return ErrNotSupported
	}
	return errors.Join(errs...)
}

// Containers implements Containerizer.
func (c *Composing) Containers() []*mesos.ContainerID {
	var ids []*mesos.ContainerID
	for _, one := range c.all {
		ids = append(ids, one.Containers()...)
	}
	slices.SortFunc(ids, func(a, b *mesos.ContainerID) int { return strings.Compare(Key(a), Key(b)) })
	return ids
}

// Close closes all of them.
func (c *Composing) Close() error {
	var errs []error
	for _, one := range c.all {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}
