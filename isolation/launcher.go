package isolation

import (
	"context"
	"syscall"

	mesos "clusterd/api/mesos/v1"
)

// LaunchInfo says what a Launcher starts.
type LaunchInfo struct {
	// Builtin, if set, is run; else Path with Argv.
	Builtin Builtin
	// Path is the program; one without a slash is looked up in the PATH of
	// Env.
	Path string
	// Argv is the whole argument vector, argv[0] included.
	Argv []string
	// Env is the exact environment, each "NAME=value".
	Env []string
	// Dir is the working directory.
	Dir string
	// Stdout and Stderr are files that output is appended to. A symbolic link
	// is not followed.
	Stdout, Stderr string
	// User is the operating system user; empty means the agent's own.
	User string
	// StdoutRotation and StderrRotation bound the files of output.
	StdoutRotation, StderrRotation Rotation
	// TTY gives the command a terminal of this size, Stdin a pipe to read from.
	// With either, and with Door, the container can be attached to while it runs.
	TTY   *mesos.TTYInfo
	Stdin bool
	Door  bool
	// Preparation is what isolators add, put together. Its Env, TaskEnv and Command
	// are in the fields above already.
	Preparation
}

// ForkInfo says what the process above a container needs from its birth on.
type ForkInfo struct {
	// Builtin is that of the LaunchInfo to come: such a program may be the process
	// above the container itself, unless Supervised says that it must not.
	Builtin    Builtin
	Supervised bool
	// CloneFlags, EnterFlags, UIDMaps, GIDMaps and Cgroup are those of a Preparation.
	CloneFlags, EnterFlags uintptr
	UIDMaps, GIDMaps       []IDMap
	Cgroup                 string
	// Birthplace, if set, starts it. It can have no namespaces of its own then, nor a cgroup.
	Birthplace Birthplace
}

// ExitStatus says how a container's command ended.
type ExitStatus struct {
	// Known is false when nobody saw the end.
	Known bool
	// Status is the wait status, as wait(2) gives it.
	Status int
}

// LauncherStatus describes the processes of a container.
type LauncherStatus struct {
	// Supervisor is the process above the container, 0 when it is gone.
	Supervisor int
	// PID is the container's command, 0 before Start.
	PID int
	// RuntimeDir is the container's runtime directory.
	RuntimeDir string
}

// Launcher starts the processes of containers, watches them and destroys them.
// It keeps what it must know after a restart of the agent in the container's
// runtime directory.
type Launcher interface {
	// Name is the name that --launcher knows it by.
	Name() string

	// Recover takes up every container that has a runtime directory, running
	// or ended, and returns their ids in order. Call it once, first.
	Recover(ctx context.Context) ([]*mesos.ContainerID, error)

	// Fork starts the process above the container, which waits, and returns
	// its id: the time to isolate it, and with it all that it will start.
	Fork(ctx context.Context, id *mesos.ContainerID, info *ForkInfo) (pid int, err error)

	// Start lets a forked container run its command. An error before exec
	// (no such file, ...) comes back, and the container has ended then. It
	// says nothing when the command was executed.
	Start(ctx context.Context, id *mesos.ContainerID, info *LaunchInfo) error

	// Wait waits until no process of the container is left.
	Wait(ctx context.Context, id *mesos.ContainerID) (ExitStatus, error)

	// Destroy kills all processes of the container, and of those nested in it, and
	// waits until none is left. It may be called at any time after Fork, any number of times.
	Destroy(ctx context.Context, id *mesos.ContainerID) error

	// Kill sends a signal to the container's command. It is no error when that has ended.
	Kill(id *mesos.ContainerID, signal syscall.Signal) error

	// Status describes the container's processes.
	Status(id *mesos.ContainerID) (LauncherStatus, error)

	// Cleanup lets go of what the machine holds for an ended container, and for those
	// nested in it, but for their exit statuses. It may be called again.
	Cleanup(ctx context.Context, id *mesos.ContainerID) error

	// Remove forgets an ended container, and those nested in it, and deletes its runtime
	// directory.
	Remove(id *mesos.ContainerID) error

	// Close stops watching; the containers go on.
	Close() error
}
