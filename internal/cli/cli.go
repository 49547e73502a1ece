// Package cli is the command line of clusterd: it reads flags and the
// environment, runs the daemons and the client commands, and turns errors into
// messages and exit codes. Nothing below it reads a flag. main imports it, and
// nobody else.
package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/cli/doctor"
	"clusterd/internal/cli/operate"
	"clusterd/internal/cli/reference"
	"clusterd/internal/cli/top"
	"clusterd/internal/cli/work"
	"clusterd/internal/flags"
	"clusterd/internal/version"
)

// env is what a command works with besides its flags.
type env = console.Env

// Main runs clusterd with the arguments of the process, args[0] being its name,
// and returns its exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	if len(args) > 1 {
		if run, ok := programs[args[1]]; ok {
			return run(args[2:])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return console.Report(runAs(ctx, env{In: in, Out: out, Err: errOut}, args), errOut)
}

func newApp(e env) *cliv2.App {
	return &cliv2.App{
		Name:                 "clusterd",
		Usage:                "one pool of many machines, shared among many frameworks",
		Version:              version.String(),
		HideVersion:          true,
		EnableBashCompletion: true,
		// A comma may be part of a value.
		DisableSliceFlagSeparator: true,
		Reader:                    e.In,
		Writer:                    e.Out,
		ErrWriter:                 e.Err,
		ExitErrHandler:            func(*cliv2.Context, error) {},
		OnUsageError: func(_ *cliv2.Context, err error, _ bool) error {
			return fmt.Errorf("%w: %w", console.ErrUsage, err)
		},
		CommandNotFound: func(*cliv2.Context, string) {},
		Action: func(c *cliv2.Context) error {
			if name := c.Args().First(); name != "" {
				return unknownCommand(c.App, name)
			}
			return cliv2.ShowAppHelp(c)
		},
		Commands: commands(e),
	}
}

// commands are all commands. That of the agent is a noun as well: it has verbs, and runs an
// agent without one.
func commands(e env) []*cliv2.Command {
	nouns := operate.Commands(e)
	at := slices.IndexFunc(nouns, func(c *cliv2.Command) bool { return c.Name == "agent" })
	grouped := func(category string, commands ...*cliv2.Command) []*cliv2.Command {
		for _, c := range commands {
			c.Category = cmp.Or(c.Category, category)
		}
		return commands
	}
	all := slices.Concat(
		grouped("1. Run a cluster", masterCommand(e), agentCommand(e, nouns[at].Subcommands), devCommand(e), tlsCommand(e), simCommand(e)),
		grouped("2. Run tasks and reach into them", work.Commands(e)...),
		grouped("3. Look at a cluster and look after it", slices.Concat(top.Commands(e), slices.Delete(nouns, at, at+1), doctor.Commands(e))...),
		grouped("4. Help", append([]*cliv2.Command{versionCommand(e), linksCommand(e)}, reference.Commands(e, func() []*cliv2.Command { return commands(e) })...)...),
	)
	refuseUsage("clusterd", all)
	return all
}

func unknownCommand(app *cliv2.App, name string) error {
	err := fmt.Errorf("%w: no command %q", console.ErrUsage, name)
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Name)
	}
	if best := flags.Nearest(name, names); best != "" {
		return console.Hint(err, "did you mean %q?", best)
	}
	return console.Hint(err, "the commands are %s", strings.Join(names, ", "))
}

func versionCommand(e env) *cliv2.Command {
	return &cliv2.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(*cliv2.Context) error {
			_, err := fmt.Fprintln(e.Out, version.String())
			return err
		},
	}
}
