// Package operate are the commands by which a cluster is looked at and run: a noun each
// (task, framework, agent, role, ...) with its verbs (list, show, watch, kill, drain, ...).
// [Commands] has them all; each noun has a file.
//
// Commands run in one goroutine. internal/cli imports it.
package operate

import (
	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// Commands returns all nouns.
func Commands(e console.Env) []*cliv2.Command {
	return []*cliv2.Command{
		registryCommand(e),
	}
}
