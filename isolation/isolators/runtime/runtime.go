// Package runtime has docker/runtime, the isolator that runs containers as their
// images say: environment, entry point, arguments, working directory and user
// (src/slave/containerizer/mesos/isolators/docker/runtime.cpp of Mesos).
//
// Isolator is the main type; it is safe for concurrent use. isolation/setup imports it.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
	"clusterd/isolation/mounts"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNoCommand says that neither the framework nor the image names a program.
	ErrNoCommand = errors.New("no command")
	// ErrNoUser says that an image wants to run as a user that it does not have.
	ErrNoUser = errors.New("no such user in the image")
)

// Options are what the flags say about it.
type Options struct {
	// Ignore (--docker_ignore_runtime) lets images have no say.
	Ignore bool
}

// Isolator is docker/runtime.
//
// Beyond Mesos, which only warns of it, the image's USER counts: when neither the
// framework nor the operator has named a user (an empty user, or --no-switch_user),
// and by the image's own /etc/passwd. Where a framework names one it is that, looked
// up on the machine as for any other container.
type Isolator struct {
	known.Containers[struct{}]
	ignore bool
}

var _ isolation.Isolator = (*Isolator)(nil)

// New makes the isolator.
func New(o Options) *Isolator { return &Isolator{ignore: o.Ignore} }

// Name is "docker/runtime".
func (*Isolator) Name() string { return "docker/runtime" }

// Recover remembers who is there.
func (i *Isolator) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	for _, s := range states {
		if err := i.Add(s.Config.ID, struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// Prepare adds what the image says. Of a command task that is for the task: its
// executor is ours, and only its working directory and user are the image's.
func (i *Isolator) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	p, err := i.prepare(config)
	if err != nil {
		return nil, err
	}
	return p, i.Add(config.ID, struct{}{})
}

func (i *Isolator) prepare(config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	image := config.Image
	if i.ignore || image == nil {
		return nil, nil
	}
	if config.Class == isolation.ClassDebug {
		// The image is its parent's. As in Mesos it runs as the user that its command names,
		// else as its parent does (MesosContainerizerProcess::launch), which may be whom the
		// image names.
		p := &isolation.Preparation{}
		return p, asImagesUser(config, p)
	}
	p := &isolation.Preparation{WorkingDirectory: image.WorkingDir}
	if dir := image.WorkingDir; dir != "" && !strings.HasPrefix(dir, "/") {
		p.WorkingDirectory = "/" + dir
	}
	env := environment(image.Env)
	own := config.Command
	switch config.Builtin {
	case isolation.BuiltinCommandExecutor, isolation.BuiltinCommandExecutorTLS:
		p.TaskEnv, own = env, config.TaskCommand
	case isolation.BuiltinDefaultExecutor:
		p.Env, own = env, nil
	case isolation.BuiltinNone:
		p.Env = env
	}
	if own != nil {
		command, err := merge(own, image)
		if err != nil {
			return nil, err
		}
		p.Command = command
	}
	return p, asImagesUser(config, p)
}

// asImagesUser lets a container for which nobody has named a user run as the image's.
func asImagesUser(config *isolation.ContainerConfig, p *isolation.Preparation) error {
	image := config.Image
	if config.User != "" || image.User == "" {
		return nil
	}
	if image.Credentials == nil {
		return fmt.Errorf("%w: %q", ErrNoUser, image.User)
	}
	p.Credentials = image.Credentials
	return giveSandbox(config, image.Credentials)
}

// giveSandbox gives the sandbox, which was made for nobody in particular, to the user that
// the image names, who could not even enter it. What is in a nested container's sandbox's
// way belongs to tasks: the path is followed beneath the sandbox at the top.
func giveSandbox(config *isolation.ContainerConfig, user *isolation.Credentials) error {
	if config.Sandbox == "" || user.UID == 0 && user.GID == 0 {
		return nil
	}
	root, rest := filepath.Clean(config.Sandbox), "."
	for id := config.ID; id.GetParent() != nil; id = id.GetParent() {
		part := filepath.Join("containers", id.GetValue())
		up, ok := strings.CutSuffix(root, "/"+part)
		if !ok {
			return fmt.Errorf("%w: sandbox %s is not in its parent's", mounts.ErrEscapes, config.Sandbox)
		}
		root, rest = up, filepath.Join(part, rest)
	}
	dir, err := mounts.OpenBeneath(root, rest)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	defer dir.Close()
	if err := unix.Fchownat(int(dir.Fd()), "", int(user.UID), int(user.GID), unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("sandbox: %w", &fs.PathError{Op: "chown", Path: config.Sandbox, Err: err})
	}
	return nil
}

// environment reads NAME=value; what is not of that form is passed over.
func environment(variables []string) map[string]string {
	env := make(map[string]string, len(variables))
	for _, v := range variables {
		if name, value, ok := strings.Cut(v, "="); ok && name != "" {
			env[name] = value
		}
	}
	return env
}

// merge puts a command and an image's ENTRYPOINT and CMD together. Nil means that the
// command stays as it is:
//
//	shell  value  |  runs
//	yes    no     |  nothing: an error
//	yes    yes    |  /bin/sh -c value
//	no     yes    |  value, with the command's own arguments
//	no     no     |  ENTRYPOINT, then the command's arguments, or CMD if it has none;
//	              |  without an ENTRYPOINT the first of CMD, then the command's
//	              |  arguments, or the rest of CMD; an error when there is neither
func merge(own *mesos.CommandInfo, image *isolation.ImageConfig) (*mesos.CommandInfo, error) {
	switch {
	case own.GetShell() && own.Value == nil:
		return nil, fmt.Errorf("%w: a shell was asked for, with nothing to run", ErrNoCommand)
	case own.GetShell(), own.Value != nil:
		return nil, nil
	}
	first, rest := image.Entrypoint, image.Cmd
	if len(first) == 0 {
		if len(rest) == 0 {
			return nil, fmt.Errorf("%w: the image has neither an entry point nor a command", ErrNoCommand)
		}
		first, rest = rest[:1], rest[1:]
	}
	if len(own.GetArguments()) > 0 {
		rest = own.GetArguments()
	}
	merged := proto.CloneOf(own)
	merged.Value = new(first[0])
	merged.Arguments = slices.Concat(first, rest)
	return merged, nil
}
