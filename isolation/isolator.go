package isolation

import (
	"context"

	mesos "clusterd/api/mesos/v1"
)

// Preparation is what an isolator adds to a launch.
type Preparation struct {
	// Env is added to the container's environment: over what the agent gives,
	// under what the command asks for.
	Env map[string]string
	// CloneFlags are namespaces (CLONE_NEW*) the container needs.
	CloneFlags uintptr
}

// ContainerState is what a recovered container looked like.
type ContainerState struct {
	// Config is as the agent remembers it.
	Config *ContainerConfig
	// PID is the process above the container, 0 when it has ended.
	PID int
}

// Isolator looks after one aspect of containers. In the life of a container
// the calls come in this order:
//
//	Prepare, Isolate, (Watch, Update, Usage, Status)*, Cleanup
//
// or Recover in the place of the first two. Cleanup may come after any of them
// and also for a container that the isolator has never seen; it may be called
// again. All methods are safe for concurrent use.
type Isolator interface {
	// Name is the name that --isolation knows it by.
	Name() string

	// Recover takes up containers that live, and hears of orphans that are
	// about to be destroyed: Cleanup is called for them then.
	Recover(ctx context.Context, states []ContainerState, orphans []*mesos.ContainerID) error

	// Prepare comes before any process exists. A nil Preparation adds nothing.
	Prepare(ctx context.Context, config *ContainerConfig) (*Preparation, error)

	// Isolate comes when the process above the container exists and nothing of
	// the container runs yet.
	Isolate(ctx context.Context, id *mesos.ContainerID, pid int) error

	// Watch returns a channel that gets at most one Limitation, when the
	// container reaches a limit and must be destroyed. Nil means never.
	Watch(id *mesos.ContainerID) (<-chan Limitation, error)

	// Update sets new resources and limits.
	Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error

	// Usage adds what it measures to stats.
	Usage(ctx context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error

	// Status adds what it knows to status.
	Status(ctx context.Context, id *mesos.ContainerID, status *mesos.ContainerStatus) error

	// Cleanup comes when no process is left, or none was started.
	Cleanup(ctx context.Context, id *mesos.ContainerID) error
}
