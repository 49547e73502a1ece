// Package known has what isolators share that have something to remember of each
// container and nothing to measure: Containers is a table of them, with the
// answers to all calls of isolation.Isolator that need no more than to know the
// container.
//
// Containers is safe for concurrent use. The packages of isolation/isolators import it.
package known

import (
	"context"
	"fmt"
	"sync"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Containers holds a T for each container. Isolators embed it. The zero value is ready.
type Containers[T any] struct {
	isolation.BaseIsolator

	mu sync.Mutex
	// all is guarded by mu, what is in it is not.
	all map[string]T
}

// Add remembers a container, once: then it is isolation.ErrContainerExists.
func (c *Containers[T]) Add(id *mesos.ContainerID, what T) error {
	key := isolation.Key(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.all[key]; ok {
		return fmt.Errorf("container %s: %w", key, isolation.ErrContainerExists)
	}
	if c.all == nil {
		c.all = make(map[string]T)
	}
	c.all[key] = what
	return nil
}

// Get returns what was remembered of a container, or isolation.ErrUnknownContainer.
func (c *Containers[T]) Get(id *mesos.ContainerID) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what, ok := c.all[isolation.Key(id)]
	if !ok {
		return what, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return what, nil
}

// Forget removes a container and returns what was remembered of it, if anything was.
func (c *Containers[T]) Forget(id *mesos.ContainerID) (what T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what, ok = c.all[isolation.Key(id)]
	delete(c.all, isolation.Key(id))
	return what, ok
}

// Any says whether a container but this one satisfies f, which must be quick.
func (c *Containers[T]) Any(but *mesos.ContainerID, f func(T) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, what := range c.all {
		if key != isolation.Key(but) && f(what) {
			return true
		}
	}
	return false
}

// Isolate has nothing to do.
func (c *Containers[T]) Isolate(_ context.Context, id *mesos.ContainerID, _ int) error {
	_, err := c.Get(id)
	return err
}

// Watch never reports anything.
func (c *Containers[T]) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	_, err := c.Get(id)
	return nil, err
}

// Update has nothing to do.
func (c *Containers[T]) Update(_ context.Context, id *mesos.ContainerID, _ []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	_, err := c.Get(id)
	return err
}

// Usage adds nothing.
func (c *Containers[T]) Usage(_ context.Context, id *mesos.ContainerID, _ *mesos.ResourceStatistics) error {
	_, err := c.Get(id)
	return err
}

// Status adds nothing.
func (c *Containers[T]) Status(_ context.Context, id *mesos.ContainerID, _ *mesos.ContainerStatus) error {
	_, err := c.Get(id)
	return err
}

// Cleanup forgets the container.
func (c *Containers[T]) Cleanup(_ context.Context, id *mesos.ContainerID) error {
	c.Forget(id)
	return nil
}

// Root is the container at the top of id's line of parents.
func Root(id *mesos.ContainerID) *mesos.ContainerID {
	for id.GetParent() != nil {
		id = id.GetParent()
	}
	return id
}
