package isolation

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	mesos "clusterd/api/mesos/v1"
)

// launchInfo says what to execute. The environment is, lowest first: what the
// agent gives, what isolators add, what the command asks for.
func launchInfo(config *ContainerConfig, parentEnv []string, p *Preparation) (*LaunchInfo, error) {
	env, err := environment(config, parentEnv, p)
	if err != nil {
		return nil, err
	}
	info := &LaunchInfo{
		Builtin:     config.Builtin,
		Env:         env,
		Dir:         config.Sandbox,
		Stdout:      config.Stdout,
		Stderr:      config.Stderr,
		User:        config.User,
		Preparation: *p,
	}
	if p.WorkingDirectory != "" {
		info.Dir = p.WorkingDirectory
	}
	config.setStreams(info)
	if info.Stdout == "" {
		info.Stdout = filepath.Join(config.Sandbox, "stdout")
	}
	if info.Stderr == "" {
		info.Stderr = filepath.Join(config.Sandbox, "stderr")
	}
	if config.Builtin != BuiltinNone {
		return info, nil
	}
	command := config.Command
	if p.Command != nil {
		command = p.Command
	}
	if command.GetValue() == "" {
		return nil, &LaunchError{Err: syscall.EINVAL, Message: "the command has no value"}
	}
	if command.GetShell() {
		info.Path, info.Argv = "/bin/sh", []string{"sh", "-c", command.GetValue()}
		return info, nil
	}
	info.Path, info.Argv = command.GetValue(), command.GetArguments()
	if len(info.Argv) == 0 { // Linux itself puts an empty argv[0] here
		info.Argv = []string{command.GetValue()}
	}
	return info, nil
}

// environment puts an environment together. Secrets are what an isolator makes of them.
func environment(config *ContainerConfig, parentEnv []string, p *Preparation) ([]string, error) {
	env := make(map[string]string, len(config.Env)+len(parentEnv)+len(p.Env)+8)
	for _, e := range parentEnv {
		name, value, _ := strings.Cut(e, "=")
		if name != markVariable {
			env[name] = value
		}
	}
	maps.Copy(env, config.Env)
	maps.Copy(env, p.Env)
	command := config.Command
	if p.Command != nil && config.Builtin == BuiltinNone {
		command = p.Command
	}
	for _, v := range command.GetEnvironment().GetVariables() {
		if v.GetType() != mesos.Environment_Variable_SECRET {
			env[v.GetName()] = v.GetValue()
			continue
		}
		if _, ok := p.Env[v.GetName()]; !ok {
			return nil, fmt.Errorf("environment variable %q of type SECRET: %w without environment_secret", v.GetName(), ErrNotSupported)
		}
	}
	if config.Builtin != BuiltinNone {
		variables, err := taskVariables(p.Command, p.TaskEnv)
		if err != nil {
			return nil, err
		}
		maps.Copy(env, variables)
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list, nil
}

// terminationOf puts together how a container ended.
func terminationOf(status ExitStatus, destroyed bool, limitations []Limitation) Termination {
	t := Termination{StatusKnown: status.Known, Status: status.Status, Destroyed: destroyed, Limitations: limitations}
	switch {
	case len(limitations) > 0:
		t.Reason = limitations[0].Reason.Enum()
		messages := make([]string, 0, len(limitations))
		for _, l := range limitations {
			messages = append(messages, l.Message)
		}
		t.Message = strings.Join(messages, "; ")
	case destroyed:
		t.Message = "Container was destroyed"
	case !status.Known:
		t.Message = "Exit status is unknown: what watches over the container was killed with it"
	default:
		t.Message = describeStatus(syscall.WaitStatus(status.Status))
	}
	return t
}

func describeStatus(ws syscall.WaitStatus) string {
	switch {
	case ws.Exited():
		return fmt.Sprintf("Exited with status %d", ws.ExitStatus())
	case ws.Signaled():
		core := ""
		if ws.CoreDump() {
			core = " (core dumped)"
		}
		return fmt.Sprintf("Terminated with signal %v%s", ws.Signal(), core)
	}
	return fmt.Sprintf("Ended with wait status %d", int(ws))
}
