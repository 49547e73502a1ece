package commandexecutor

import (
	"encoding/base64"
	"strings"

	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
	"clusterd/isolation/supervisor"
)

// readOverrides reads what the agent's isolators have for the task: a command to run
// instead of the task's own (nil: none), and an environment that lies between the
// executor's and what the command asks for (src/launcher/executor.cpp). It returns the
// rest of the environment.
func readOverrides(environ []string) (command, environment *wire.Command, env []string, err error) {
	env = environ[:0:0]
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		var to **wire.Command
		switch name {
		case supervisor.TaskCommandVariable:
			to = &command
		case supervisor.TaskEnvironmentVariable:
			to = &environment
		default:
			env = append(env, e)
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, nil, nil, executorlink.TextError(name + ": " + err.Error())
		}
		if *to, err = wire.DecodeCommand(raw); err != nil {
			return nil, nil, nil, executorlink.TextError(name + ": " + err.Error())
		}
	}
	return command, environment, env, nil
}
