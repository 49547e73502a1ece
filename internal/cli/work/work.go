// Package work are the commands that run tasks and reach into them: run, wait, exec,
// attach, logs, cp, port-forward, and Mesos's own mesos-execute.
//
// `clusterd run` is a framework of its own (runner); the others speak to agents by way of
// any master (console.Cluster). A session is an API call of Mesos whose answer is the
// output of a container; copies and forwarded ports go through endpoints of our own.
// [Commands] lists them all; each belongs to one goroutine, and starts others that end
// with it. internal/cli imports it.
package work

import (
	"fmt"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// Commands returns the commands of this package.
func Commands(e console.Env) []*cliv2.Command {
	return []*cliv2.Command{
		runCommand(e), waitCommand(e), execCommand(e), attachCommand(e), logsCommand(e), cpCommand(e), forwardCommand(e), executeCommand(e),
	}
}

// sayer tells the person at the keyboard something, beside the output.
func sayer(e console.Env) func(format string, args ...any) {
	return func(format string, args ...any) { fmt.Fprintf(e.Err, "clusterd: "+format+"\n", args...) }
}
