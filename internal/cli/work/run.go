package work

import (
	"os/user"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// taskFlags describe a task that is given on the command line.
func taskFlags() []cliv2.Flag {
	return []cliv2.Flag{
		&cliv2.Float64Flag{Name: "cpus", Usage: "`CPUS` to use", Value: 0.1},
		&cliv2.Float64Flag{Name: "mem", Usage: "`MB` of memory to use", Value: 64},
		&cliv2.Float64Flag{Name: "disk", Usage: "`MB` of disk to use"},
		&cliv2.Float64Flag{Name: "gpus", Usage: "number of GPUs to use"},
		&cliv2.StringFlag{Name: "resources", Usage: "`RESOURCES` to use in Mesos's notation: cpus:1;mem:128;ports:[31000-31001]"},
		&cliv2.StringSliceFlag{Name: "limit", Usage: "go beyond cpus and mem up to `NAME=AMOUNT`, inf for no limit; repeatable, or with commas"},
		&cliv2.BoolFlag{Name: "shell", Usage: "run COMMAND by sh -c"},
		&cliv2.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set a variable: `NAME=VALUE`; repeatable"},
		&cliv2.StringSliceFlag{Name: "uri", Usage: "`URI` to fetch into the sandbox first; repeatable"},
		&cliv2.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE` to find the task by; repeatable"},
		&cliv2.DurationFlag{Name: "timeout", Usage: "have the agent end the command after this `DURATION`"},
		&cliv2.DurationFlag{Name: "grace", Usage: "`DURATION` between SIGTERM and SIGKILL", Value: defaultGrace},
	}
}

// runFlags say what is launched where, and what this process does.
func runFlags() []cliv2.Flag {
	return []cliv2.Flag{
		&cliv2.StringFlag{Name: "name", Usage: "`NAME` of the task; default: of the command"},
		&cliv2.StringFlag{Name: "role", Usage: "`ROLE` to be offered resources in", Value: "*"},
		&cliv2.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER` to run as; default: the current one"},
		&cliv2.StringFlag{Name: "group", Usage: "run a group of tasks that live together (a pod), of a JSON or YAML `FILE`: " + groupHint},
		&cliv2.StringFlag{Name: "task", Usage: "run the TaskInfo of a JSON or YAML `FILE`"},
		&cliv2.IntFlag{Name: "count", Usage: "run `N` of it; each finds its number in $CLUSTERD_TASK_INDEX", Value: 1},
		&cliv2.StringSliceFlag{Name: "constraint", Usage: "only on agents with `ATTR=VALUE`, ATTR!=VALUE, ATTR~REGEX, ATTR!~REGEX, ATTR or !ATTR; also of hostname, @zone, @region; repeatable"},
		&cliv2.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "print the tasks' ids once they run, and leave; clusterd wait follows them"},
		&cliv2.DurationFlag{Name: "kill_after", Aliases: []string{"kill-after"}, Usage: "kill the task when it has run for this `DURATION`"},
		&cliv2.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing but the command's output"},
	}
}

func runCommand(e console.Env) *cliv2.Command {
	var flags []cliv2.Flag
	for _, more := range []struct {
		category string
		flags    []cliv2.Flag
	}{{"", runFlags()}, {"Task", taskFlags()}, {"Container", containerFlags()}, {"Health", healthFlags()}} {
		for _, f := range more.flags {
			flags = append(flags, categorised(f, more.category))
		}
	}
	return &cliv2.Command{
		Name:      "run",
		Usage:     "run a command on the cluster, follow its output and pass on its exit code",
		ArgsUsage: "[--] [COMMAND [ARGUMENT...]]",
		Description: "clusterd run is a framework: it takes offers, launches the command, copies its output here\n" +
			"and ends when it ends. ^C kills the task; a second ^C leaves at once. Of several tasks the\n" +
			"lines have names before them.\n" +
			"Exit code: the command's, the worst of several; 128+n if signal n ended it; 1 if it could not run.",
		UseShortOptionHandling: true,
		Flags:                  console.Flags(flags...),
		Action:                 func(c *cliv2.Context) error { return runRun(c, e) },
	}
}

// categorised puts a flag under a heading of the help text.
func categorised(f cliv2.Flag, category string) cliv2.Flag {
	switch f := f.(type) {
	case *cliv2.StringFlag:
		f.Category = category
	case *cliv2.StringSliceFlag:
		f.Category = category
	case *cliv2.BoolFlag:
		f.Category = category
	case *cliv2.Float64Flag:
		f.Category = category
	case *cliv2.DurationFlag:
		f.Category = category
	case *cliv2.IntFlag:
		f.Category = category
	}
	return f
}

func runRun(c *cliv2.Context, e console.Env) error {
	o := runOptions{
		quiet: c.Bool("quiet"), detach: c.Bool("detach"), interactive: c.Bool("interactive"), killAfter: c.Duration("kill_after"),
		// Long enough for a restart of the master or of this connection.
		failover: time.Minute,
	}
	switch {
	case o.interactive && o.detach:
		return console.Usagef("--interactive and --detach exclude each other")
	case o.interactive && !c.Bool("tty"):
		return console.Hint(console.Usagef("--interactive needs --tty: a task has no other input"), "clusterd run -it; or clusterd exec -i TASK hands a file on")
	case o.interactive && c.Int("count") != 1:
		return console.Usagef("--interactive is for one task")
	case o.interactive && c.String("group") != "":
		return console.Hint(console.Usagef("--interactive is not for groups"), "clusterd attach TASK")
	case o.detach && o.killAfter > 0:
		return console.Hint(console.Usagef("--kill_after needs this process: it does not go with --detach"), "--timeout has the agent do it")
	case o.killAfter < 0:
		return console.Usagef("--kill_after=%s", o.killAfter)
	}
	if o.detach {
		o.failover = never
	}
	j, err := jobOf(c, console.Input(c.Context, e.In))
	if err != nil {
		return err
	}
	if o.interactive {
		t := j.units[0].tasks[0]
		if i := t.GetContainer(); i != nil {
			i.TtyInfo.WindowSize = sizeOf(e.In)
		}
		setenv(t, "TERM", termName())
	}
	if j.user == "" {
		u, err := user.Current()
		if err != nil {
			return err
		}
		j.user = u.Username
	}
	cl, err := console.Connect(c)
	if err != nil {
		return err
	}
	r := newRunner(e, cl, j, o)
	return r.run(c.Context, r.framework())
}
