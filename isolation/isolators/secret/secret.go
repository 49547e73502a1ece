// Package secret resolves secrets, and has the isolator environment_secret, which
// puts them into the environment of containers.
//
// Resolve and Environment are what there is; both are safe for concurrent use.
// isolation/setup and the isolator of secret volumes import it.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/known"
)

// ErrSecret says that a secret cannot be resolved.
var ErrSecret = errors.New("secret cannot be resolved")

// Resolve returns what a secret of type VALUE holds. References into a store cannot
// be resolved, as in Mesos without a module (src/secret/resolver.cpp).
func Resolve(s *mesos.Secret) ([]byte, error) {
	switch {
	case s == nil:
		return nil, fmt.Errorf("%w: it is not set", ErrSecret)
	case s.GetType() == mesos.Secret_REFERENCE && s.Reference == nil:
		return nil, fmt.Errorf("%w: of type REFERENCE, without a reference", ErrSecret)
	case s.Reference != nil && s.Value != nil:
		return nil, fmt.Errorf("%w: it has both a value and a reference", ErrSecret)
	case s.GetType() == mesos.Secret_REFERENCE || s.Reference != nil:
		return nil, fmt.Errorf("%w: %q is a reference, and the default secret resolver cannot resolve references", ErrSecret, s.GetReference().GetName())
	case s.Value == nil:
		return nil, fmt.Errorf("%w: it has no value", ErrSecret)
	}
	return s.GetValue().GetData(), nil
}

// Environment is environment_secret: it resolves the variables of type SECRET
// (src/slave/containerizer/mesos/isolators/environment_secret.cpp).
type Environment struct {
	known.Containers[struct{}]
}

var _ isolation.Isolator = (*Environment)(nil)

// NewEnvironment makes the isolator.
func NewEnvironment() *Environment { return &Environment{} }

// Name is "environment_secret".
func (e *Environment) Name() string { return "environment_secret" }

// Recover remembers the containers.
func (e *Environment) Recover(_ context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	for _, s := range states {
		if err := e.Add(s.Config.ID, struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// Prepare adds the secrets to the environment of the container, and to that of the
// task of a builtin executor.
func (e *Environment) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	env, err := resolve(config.Command)
	if err != nil {
		return nil, err
	}
	task, err := resolve(config.TaskCommand)
	if err != nil {
		return nil, err
	}
	if err := e.Add(config.ID, struct{}{}); err != nil {
		return nil, err
	}
	for name, value := range env {
		if _, ok := task[name]; !ok {
			if task == nil {
				task = make(map[string]string)
			}
			task[name] = value
		}
	}
	if len(task) == 0 {
		return nil, nil
	}
	return &isolation.Preparation{Env: env, TaskEnv: task}, nil
}

func resolve(command *mesos.CommandInfo) (map[string]string, error) {
	var env map[string]string
	for _, v := range command.GetEnvironment().GetVariables() {
		if v.GetType() != mesos.Environment_Variable_SECRET {
			continue
		}
		data, err := Resolve(v.GetSecret())
		if err == nil && bytes.IndexByte(data, 0) >= 0 {
			err = fmt.Errorf("%w: a NUL byte cannot be in an environment", ErrSecret)
		}
		if err != nil {
			return nil, fmt.Errorf("environment variable %q: %w", v.GetName(), err)
		}
		if env == nil {
			env = make(map[string]string)
		}
		env[v.GetName()] = string(data)
	}
	return env, nil
}
