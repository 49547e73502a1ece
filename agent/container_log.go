package agent

import (
	"context"

	"clusterd/agent/containerlogger"
	"clusterd/isolation"
)

// loggedRunner bounds what containers print, as Options.ContainerLogger says, and the
// container's own environment, or that of its task.
type loggedRunner struct {
	isolation.Containerizer
	logger *containerlogger.Logger
}

func (a *Agent) logged(runner isolation.Containerizer) isolation.Containerizer {
	if a.opts.ContainerLogger == nil {
		return runner
	}
	return &loggedRunner{Containerizer: runner, logger: a.opts.ContainerLogger}
}

// Launch implements isolation.Containerizer.
func (l *loggedRunner) Launch(ctx context.Context, config *isolation.ContainerConfig) error {
	env := config.Command.GetEnvironment()
	if config.TaskCommand != nil {
		env = config.TaskCommand.GetEnvironment()
	}
	stdout, stderr, err := l.logger.Rotations(env)
	if err != nil {
		return err
	}
	own := *config
	own.StdoutRotation, own.StderrRotation = stdout, stderr
	return l.Containerizer.Launch(ctx, &own)
}
