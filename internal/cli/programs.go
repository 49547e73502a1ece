package cli

import (
	"os"

	"clusterd/agent/commandexecutor"
	"clusterd/agent/commandexecutor/tlsprobe"
	"clusterd/agent/defaultexecutor"
	"clusterd/isolation"
	"clusterd/isolation/docker"
	"clusterd/isolation/supervisor"
)

// programs are the modes that the agent starts beside and in containers when the
// small programs are not embedded. They come before everything else in Main:
// one runs for each container.
var programs = map[string]func(args []string) int{
	"supervisor": func([]string) int { return supervisor.Main(os.Args) },
	string(isolation.BuiltinCommandExecutor): func([]string) int {
		return commandexecutor.Main(commandexecutor.Options{})
	},
	string(isolation.BuiltinCommandExecutorTLS): func([]string) int {
		return commandexecutor.Main(commandexecutor.Options{TLS: tlsprobe.Client})
	},
	string(isolation.BuiltinDefaultExecutor): func([]string) int {
		return defaultexecutor.Main(defaultexecutor.Options{TLS: tlsprobe.Client})
	},
	docker.RunMode:  docker.RunMain,
	docker.ExecMode: docker.ExecMain,
	docker.HoldMode: docker.HoldMain,
}
