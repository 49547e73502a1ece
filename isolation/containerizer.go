// Package isolation runs containers on an agent's machine.
//
// Three interfaces make it up, each with a conformance suite in
// isolation/isolationtest that every implementation passes:
//
//	Containerizer  a whole way of running containers (what the agent sees)
//	Launcher       starts a container's processes and destroys all of them
//	Isolator       one aspect of a container: accounting, a limit, a mount
//
// Mesos (in mesos.go) is the Containerizer that composes a Launcher with
// Isolators, as Mesos's own "mesos" containerizer does
// (src/slave/containerizer/mesos/containerizer.cpp).
//
// A container's parent is never the agent. A small program of ours, the
// supervisor (isolation/supervisor), stands above each container: it
// survives the agent, gathers the container's orphans and leaves the exit
// status in the container's runtime directory, so that an agent that comes
// back knows how everything ended meanwhile.
//
// All methods of the exported types are safe for concurrent use. Only agent/
// imports this package.
package isolation

import (
	"context"
	"errors"
	"syscall"

	mesos "clusterd/api/mesos/v1"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnknownContainer says that no container has the given id.
	ErrUnknownContainer = errors.New("unknown container")
	// ErrContainerExists says that a container of that id was launched before.
	ErrContainerExists = errors.New("container already exists")
	// ErrNotSupported says that this containerizer cannot run such a container.
	ErrNotSupported = errors.New("not supported")
	// ErrDestroyed says that a container was destroyed while it was being
	// launched.
	ErrDestroyed = errors.New("container was destroyed while launching")
	// ErrNotAttachable says that a container has no input, or no terminal, to
	// attach to.
	ErrNotAttachable = errors.New("container cannot be attached to")
	// ErrClosed says that the containerizer was closed.
	ErrClosed = errors.New("containerizer is closed")
)

// Builtin names a program that comes with clusterd.
type Builtin string

// The programs that come with clusterd.
const (
	// BuiltinNone runs ContainerConfig.Command.
	BuiltinNone Builtin = ""
	// BuiltinCommandExecutor runs the command executor; Command is not used
	// then, except for its environment.
	BuiltinCommandExecutor Builtin = "command-executor"
	// BuiltinDefaultExecutor runs the default executor, the one of pods.
	BuiltinDefaultExecutor Builtin = "default-executor"
)

// Class says what a container is for (ContainerClass in Mesos's
// include/mesos/slave/containerizer.proto).
type Class int

// The classes of containers.
const (
	// ClassDefault is a container like any other.
	ClassDefault Class = iota
	// ClassDebug is a nested container that looks into its parent: it shares the
	// parent's namespaces, cgroups, root file system, environment and sandbox.
	ClassDebug
)

// ContainerConfig says what to run and where.
type ContainerConfig struct {
	// ID is the container's id. One with a parent is nested: it runs inside of
	// that, and ends with it.
	ID *mesos.ContainerID
	// Class of a nested container.
	Class Class
	// Sandbox is the absolute path of the container's working directory. The
	// agent has created it.
	Sandbox string
	// Builtin, if set, is run instead of Command.
	Builtin Builtin
	// Command is what to run: shell (value), or a path (value) with the full
	// argv (arguments). Its environment overrides Env. Its user is not read.
	Command *mesos.CommandInfo
	// Env is the environment the agent gives (MESOS_* and so on). Nothing
	// else is inherited from the agent's process.
	Env map[string]string
	// User is the operating system user that runs the container; empty means
	// the agent's own.
	User string
	// Stdout and Stderr are the files that the output is appended to; empty
	// means "stdout" and "stderr" in the sandbox.
	Stdout, Stderr string
	// Resources and Limits are what the container may use: requests, and per
	// resource name a limit (which may be infinite).
	Resources []*mesos.Resource
	Limits    map[string]*mesos.Value_Scalar
	// StdoutRotation and StderrRotation bound those files.
	StdoutRotation, StderrRotation Rotation
	// Stdin gives the command a pipe to read from, which Attach writes into.
	Stdin bool
	// TaskCommand is what the builtin executor's task will run: an image may have
	// something to add to it.
	TaskCommand *mesos.CommandInfo
	// ContainerInfo is what the framework asked for: images, volumes, networks,
	// a terminal.
	ContainerInfo *mesos.ContainerInfo
	// FrameworkID and ExecutorID are whom the container runs for; both may be
	// nil for a standalone container.
	FrameworkID *mesos.FrameworkID
	ExecutorID  *mesos.ExecutorID

	// RootFS and Image are filled in by the containerizer, for its isolators: the
	// root directory that was made of the container's image (that of the parent,
	// for ClassDebug), and what the image says about running it.
	RootFS string
	Image  *ImageConfig
	// Volumes, filled in too, are those of what was provisioned (Provisioned.Volumes):
	// directories of the machine that count as the container's disk.
	Volumes []string
}

// ImageConfig is what an image says about how it is to be run.
type ImageConfig struct {
	Env        []string // NAME=value
	Entrypoint []string
	Cmd        []string
	WorkingDir string
	User       string
	// Credentials are what User means by the image's own /etc/passwd and /etc/group;
	// nil when it has none.
	Credentials *Credentials
	Labels      map[string]string
}

// Provisioned is what became of an image.
type Provisioned struct {
	// RootFS is where the root directory is, once Mounts were made: in the
	// container's own mount namespace, and before all other mounts. For everybody
	// else, the agent too, it is an empty directory, so that nothing is left to be
	// unmounted whoever dies when. A RootFS that needs no mounts has none.
	RootFS string
	Mounts []Mount
	Config ImageConfig
	// Volumes are directories of the machine that hold what the container writes
	// into its root; they count as its disk.
	Volumes []string
}

// Provisioner makes root file systems of images.
type Provisioner interface {
	// Recover takes up the root file systems of known containers and destroys all
	// others. Call it once, first.
	Recover(ctx context.Context, known []*mesos.ContainerID) error
	// Provision makes a root file system for a container, whose end unmounts and
	// deletes it. It may be called more than once for one container, for volumes
	// that are images.
	Provision(ctx context.Context, id *mesos.ContainerID, image *mesos.Image) (*Provisioned, error)
	// Destroy removes the root file systems of a container. It is no error when
	// there are none.
	Destroy(ctx context.Context, id *mesos.ContainerID) error
	// Prune removes from the store what no container uses, but for these images.
	Prune(ctx context.Context, excluded []*mesos.Image) error
}

// Limitation says that a container reached a limit and had to be destroyed.
type Limitation struct {
	Resources []*mesos.Resource
	Reason    mesos.TaskStatus_Reason
	Message   string
}

// Termination says how a container ended.
type Termination struct {
	// StatusKnown says whether Status is known. It is not when the supervisor
	// itself was killed (for BuiltinCommandExecutor, which supervises itself:
	// while no agent watched), or the machine rebooted.
	StatusKnown bool
	// Status is the wait status of the container's command, as wait(2) gives it.
	Status int
	// Destroyed says that Destroy, or a limitation, ended the container.
	Destroyed bool
	// Reason is set when a limitation ended the container.
	Reason *mesos.TaskStatus_Reason
	// Message is for humans: how it ended.
	Message string
	// Limitations are the limits that were reached, in the order they were
	// reported.
	Limitations []Limitation
}

// Stream says which stream of a container data belongs to.
type Stream int

// The streams of a container.
const (
	Stdin Stream = iota
	Stdout
	Stderr
)

// Attachment is a door into a running container: what it prints from now on, and
// a way to type. One goroutine may read while another writes.
type Attachment interface {
	// Read waits for the next output. It returns io.EOF when the container has
	// ended and all was read. The slice is good until the next Read.
	Read() (Stream, []byte, error)
	// Write types. ErrNotAttachable when the container has no input.
	Write(p []byte) (int, error)
	// CloseWrite ends the input: the container reads an end of file. A terminal has
	// none, there ^D (4) is typed; nothing happens.
	CloseWrite() error
	// Resize sets the size of the terminal. ErrNotAttachable when there is none.
	Resize(rows, columns uint32) error
	// Close lets go of the container, which goes on; it ends a Read.
	Close() error
}

// Containerizer runs containers.
//
// The agent's part in keeping exit statuses: call Remove only when what Wait
// returned is recorded durably. Until then the runtime directory keeps it,
// over any number of restarts of the agent.
type Containerizer interface {
	// Recover takes up the containers that an earlier run of the agent left.
	// Those in known are kept, running or ended: Wait tells which. So are
	// containers nested in them (DEBUG containers are destroyed: nobody is
	// attached any more), and standalone ones, which the containerizer remembers
	// by itself. All others that are found are orphans: they are destroyed and
	// removed before Recover returns their ids. A known container of which no trace
	// is found is kept as one that ended with an unknown status. Call it
	// once, before anything else.
	Recover(ctx context.Context, known []ContainerConfig) (orphans []*mesos.ContainerID, err error)

	// Launch starts a container and returns once its command has been
	// executed (exec succeeded). On an error nothing is left behind: no
	// process, no runtime directory, and the id is unknown again.
	// Errors before exec (no such file, no such user, no such directory) come
	// back here, except under BuiltinCommandExecutor, where it is the
	// executor that runs the task.
	Launch(ctx context.Context, config *ContainerConfig) error

	// Update sets new resources and limits.
	Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error

	// Usage measures what the container uses now.
	Usage(ctx context.Context, id *mesos.ContainerID) (*mesos.ResourceStatistics, error)

	// Status describes the container. NetworkInfos is left to the agent
	// unless an isolator gives the container addresses of its own.
	Status(ctx context.Context, id *mesos.ContainerID) (*mesos.ContainerStatus, error)

	// Wait waits until no process of the container is left. It may be called
	// any number of times until Remove. How an ended container ended it tells also when
	// ctx is over.
	Wait(ctx context.Context, id *mesos.ContainerID) (Termination, error)

	// Attach opens a door into a running container.
	Attach(ctx context.Context, id *mesos.ContainerID) (Attachment, error)

	// Kill sends a signal to the container's command.
	Kill(ctx context.Context, id *mesos.ContainerID, signal syscall.Signal) error

	// Destroy kills every process of the container (SIGKILL), of the containers
	// nested in it first, and waits until none is left. Destroying an ended
	// container is no error.
	Destroy(ctx context.Context, id *mesos.ContainerID) error

	// Remove forgets an ended container, and those nested in it, and deletes its
	// runtime directory (never its sandbox). Removing an unknown container is no
	// error, removing a running one is.
	Remove(ctx context.Context, id *mesos.ContainerID) error

	// PruneImages removes what no container uses from the store of images, but for
	// these.
	PruneImages(ctx context.Context, excluded []*mesos.Image) error

	// Containers lists the containers, ended ones included until Remove, in
	// order of id.
	Containers() []*mesos.ContainerID

	// Close stops watching. Containers go on running.
	Close() error
}
