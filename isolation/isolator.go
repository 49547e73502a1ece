package isolation

import (
	"context"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/supervisor"
)

// What a launch is made of; the supervisor does it, so it says what each means.
type (
	// Mount is made in the container's own mount namespace.
	Mount = supervisor.Mount
	// Device is a node that is made in the container's /dev.
	Device = supervisor.Device
	// Rlimit is a limit of setrlimit(2).
	Rlimit = supervisor.Rlimit
	// Capabilities are the five sets of Linux capabilities, a bit for each.
	Capabilities = supervisor.Capabilities
	// Rotation bounds the size of a file of output.
	Rotation = supervisor.Rotation
)

// IDMap maps ids of a user namespace to ids of the machine, as a line of
// /proc/PID/uid_map does.
type IDMap struct {
	// Container, Host and Size are the first id inside, the first id outside and how many.
	Container, Host, Size uint32
}

// Credentials are a user by numbers: the names of a container's image are not those
// of the machine.
type Credentials struct {
	UID, GID uint32
	// Groups are the supplementary ones.
	Groups []uint32
}

// Preparation is what an isolator adds to a launch (ContainerLaunchInfo in Mesos's
// include/mesos/slave/containerizer.proto). Lists of several isolators are put one
// after the other in the isolators' order; of what there can be one only, two that
// differ fail the launch.
type Preparation struct {
	// Env is added to the container's environment: over what the agent gives,
	// under what the command asks for.
	Env map[string]string
	// TaskEnv is like Env, for the task of a builtin executor alone.
	TaskEnv map[string]string
	// CloneFlags are namespaces (CLONE_NEW*) that the container gets of its own.
	CloneFlags uintptr
	// EnterFlags are namespaces (CLONE_NEW*) of the parent's that a nested container
	// enters. What is in neither set is the agent's own.
	EnterFlags uintptr
	// UIDMaps and GIDMaps are those of a user namespace that the process above the
	// container is born in. No isolator asks for that: see UserNamespace.
	UIDMaps, GIDMaps []IDMap
	// UserNamespace is the path of a user namespace that the command enters, and no
	// other process of ours; one only.
	UserNamespace string
	// Cgroup is a directory of cgroup v2 that the processes are born in; one only.
	Cgroup string
	// Birthplace starts the process above the container somewhere else; one only.
	Birthplace Birthplace
	// RootFS is the container's root directory; empty: the machine's. One only.
	RootFS string
	// RootBase is a directory of the machine that lies below all layers of RootFS, if it
	// has layers: what is mounted on need not be made in each root then. One only.
	RootBase string
	// Mounts are made in this order, before the root is changed; their targets
	// are paths as the container will see them.
	Mounts []Mount
	// Devices are made in the root file system's /dev.
	Devices []Device
	// MaskedPaths are hidden from the container, ReadonlyPaths cannot be written.
	MaskedPaths, ReadonlyPaths []string
	// Hostname of a UTS namespace of its own; one only.
	Hostname string
	// WorkingDirectory, as the container sees it, instead of the sandbox. The last one
	// counts: what an image says goes over where the sandbox is.
	WorkingDirectory string
	// Command replaces the container's command; for a builtin executor, that of
	// its task. One only.
	Command *mesos.CommandInfo
	// Credentials are those that the command runs with when neither the framework
	// nor the operator named a user (ContainerConfig.User is empty); one only.
	Credentials *Credentials
	// Groups are further groups of the command.
	Groups []uint32
	// Rlimits, Capabilities, NoNewPrivileges and Seccomp (the program, an array
	// of struct sock_filter in the machine's byte order) bind the command.
	Rlimits         []Rlimit
	Capabilities    *Capabilities
	NoNewPrivileges bool
	Seccomp         []byte
	// OOMScoreAdj is written for the command when not nil; one only.
	OOMScoreAdj *int
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
// again. Parents come before their nested containers in all, after them in
// Cleanup. All methods are safe for concurrent use. Embed BaseIsolator for what does
// not matter.
type Isolator interface {
	// Name is the name that --isolation knows it by.
	Name() string

	// SupportsNesting and SupportsStandalone say whether the isolator is called for
	// nested containers, and for containers that no framework owns.
	SupportsNesting() bool
	SupportsStandalone() bool

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

// PostMortem is implemented by isolators that can tell of a limit also when it has ended
// the container already, as the kernel does with one that is out of memory. An isolator
// that does something on its own implements io.Closer besides.
type PostMortem interface {
	// Reached comes when no process is left, before Cleanup. It returns a limitation
	// that the channel of Watch has not delivered.
	Reached(ctx context.Context, id *mesos.ContainerID) (Limitation, bool)
}

// BaseIsolator does nothing in every method but Name, for isolators to embed: it
// supports nested and standalone containers.
type BaseIsolator struct{}

// SupportsNesting says yes.
func (BaseIsolator) SupportsNesting() bool { return true }

// SupportsStandalone says yes.
func (BaseIsolator) SupportsStandalone() bool { return true }

// Recover remembers nothing.
func (BaseIsolator) Recover(context.Context, []ContainerState, []*mesos.ContainerID) error {
	return nil
}

// Prepare adds nothing.
func (BaseIsolator) Prepare(context.Context, *ContainerConfig) (*Preparation, error) {
	return nil, nil
}

// Isolate does nothing.
func (BaseIsolator) Isolate(context.Context, *mesos.ContainerID, int) error { return nil }

// Watch never reports anything.
func (BaseIsolator) Watch(*mesos.ContainerID) (<-chan Limitation, error) { return nil, nil }

// Update does nothing.
func (BaseIsolator) Update(context.Context, *mesos.ContainerID, []*mesos.Resource, map[string]*mesos.Value_Scalar) error {
	return nil
}

// Usage adds nothing.
func (BaseIsolator) Usage(context.Context, *mesos.ContainerID, *mesos.ResourceStatistics) error {
	return nil
}

// Status adds nothing.
func (BaseIsolator) Status(context.Context, *mesos.ContainerID, *mesos.ContainerStatus) error {
	return nil
}

// Cleanup does nothing.
func (BaseIsolator) Cleanup(context.Context, *mesos.ContainerID) error { return nil }
