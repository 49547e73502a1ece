package commandexecutor

import (
	"encoding/base64"
	"strings"

	"clusterd/agent/executorlink"
	"clusterd/agent/executorlink/wire"
	"clusterd/isolation/supervisor"
)

// overrides are what the agent's isolators have for the task: a command to run
// instead of the task's own (nil: none), an environment that lies between the
// executor's and what the command asks for (src/launcher/executor.cpp), and what
// commands of checks are handed to.
type overrides struct {
	command, environment *wire.Command
	checkCommand         []string
}

// readOverrides reads them, and returns the rest of the environment.
func readOverrides(environ []string) (o overrides, env []string, err error) {
	env = environ[:0:0]
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		var to **wire.Command
		switch name {
		case supervisor.TaskCommandVariable:
			to = &o.command
		case supervisor.TaskEnvironmentVariable:
			to = &o.environment
		case supervisor.CheckCommandVariable:
			o.checkCommand = strings.Split(value, "\n")
			continue
		default:
			env = append(env, e)
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return o, nil, executorlink.TextError(name + ": " + err.Error())
		}
		if *to, err = wire.DecodeCommand(raw); err != nil {
			return o, nil, executorlink.TextError(name + ": " + err.Error())
		}
	}
	return o, env, nil
}
