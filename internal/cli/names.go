package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
	"clusterd/internal/cli/operate"
	"clusterd/internal/cli/work"
)

// daemonNames are names of Mesos's programs that stand for a command of ours.
var daemonNames = map[string]string{"mesos-master": "master", "mesos-agent": "agent", "mesos-slave": "agent"}

// linkNames are all names of Mesos's programs that this one may be linked under.
func linkNames() []string {
	names := slices.Collect(maps.Keys(daemonNames))
	names = slices.AppendSeq(names, maps.Keys(operate.MesosTools))
	names = append(names, "mesos-execute", "mesos-local")
	slices.Sort(names)
	return names
}

// runAs runs what the program is called: one of Mesos's programs where it is linked under
// the name of one, else clusterd.
func runAs(ctx context.Context, e env, args []string) error {
	name := filepath.Base(args[0])
	if command, ok := daemonNames[name]; ok {
		args = slices.Concat([]string{"clusterd", command}, args[1:])
	}
	switch tool := operate.MesosTools[name]; {
	case tool != nil:
		return tool(e).RunContext(ctx, args)
	case name == "mesos-execute":
		return work.ExecuteApp(e).RunContext(ctx, args)
	case name == "mesos-local":
		local, err := localArgs(args[1:], os.Environ())
		if err != nil {
			return err
		}
		args = append([]string{"clusterd", "dev"}, local...)
	}
	app := newApp(e)
	return app.RunContext(ctx, console.Interspersed(app.Commands, args))
}

// linksCommand makes links under the names of Mesos's programs.
func linksCommand(e env) *cliv2.Command {
	return &cliv2.Command{
		Name: "links", Usage: "make links to this program under the names of Mesos's programs", ArgsUsage: "DIRECTORY",
		Description: "Called by one of these names it is that program, with its flags: " + strings.Join(linkNames(), ", ") + ".",
		Flags: []cliv2.Flag{
			&cliv2.BoolFlag{Name: "force", Usage: "replace what is there under these names"},
		},
		Action: func(c *cliv2.Context) error {
			args, err := console.Args(c, 1, 1)
			if err != nil {
				return err
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return console.Each(e, linkNames(), func(n string) string { return n }, func(name string) error {
				return link(e, program, filepath.Join(args[0], name), c.Bool("force"))
			})
		},
	}
}

func link(e env, program, path string, force bool) error {
	if to, err := os.Readlink(path); err == nil && to == program {
		return nil
	}
	if force {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Symlink(program, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return console.Hint(err, "--force replaces it")
		}
		return err
	}
	_, err := fmt.Fprintf(e.Out, "%s -> %s\n", path, program)
	return err
}
