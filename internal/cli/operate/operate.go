// Package operate are the commands by which a cluster is looked at and run: a noun each
// (task, framework, agent, role, ...) with its verbs (list, show, watch, kill, drain, ...),
// and short forms of those used most. [Commands] has them all; each noun has a file.
//
// Commands run in one goroutine. internal/cli imports it.
package operate

import (
	"context"
	"fmt"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// Commands returns all nouns, and the short forms.
func Commands(e console.Env) []*cliv2.Command {
	return []*cliv2.Command{
		taskCommand(e), frameworkCommand(e), agentCommand(e), roleCommand(e), quotaCommand(e), weightCommand(e),
		offerCommand(e), reservationCommand(e), volumeCommand(e), maintenanceCommand(e), registryCommand(e),
		containerCommand(e), fileCommand(e), flagCommand(e), metricCommand(e), eventCommand(e), contextCommand(e),
		short(listTasks(e), "ps"), short(listAgents(e), "agents"), short(listFrameworks(e), "frameworks"),
	}
}

// noun makes a command of its verbs.
func noun(name, usage string, verbs ...*cliv2.Command) *cliv2.Command {
	return console.Group(&cliv2.Command{Name: name, Usage: usage, Subcommands: verbs})
}

// short is a verb as a command of its own.
func short(verb *cliv2.Command, name string) *cliv2.Command {
	v := *verb
	v.Name, v.Aliases = name, nil
	return &v
}

// call is what runs a verb: the flags, the arguments and the cluster.
type call struct {
	console.Env
	*cliv2.Context
	cluster *console.Cluster
	args    []string
}

// connected runs a verb with between least and most arguments (most < 0: any number) and a
// connection.
func connected(e console.Env, least, most int, run func(x *call) error) cliv2.ActionFunc {
	return func(c *cliv2.Context) error {
		args, err := console.Args(c, least, most)
		if err != nil {
			return err
		}
		cl, err := console.Connect(c)
		if err != nil {
			return err
		}
		return run(&call{Env: e, Context: c, cluster: cl, args: args})
	}
}

// print writes a table as the flags say.
func (x *call) print(t *console.Table) error { return t.Print(x.Env, x.Context) }

// say tells what was done.
func (x *call) say(format string, args ...any) { fmt.Fprintf(x.Out, format+"\n", args...) }

// confirm asks whether to do it.
func (x *call) confirm(format string, args ...any) error {
	return console.Confirm(x.Env, x.Context, fmt.Sprintf(format, args...))
}

// use writes what is used of what there is.
func use(used, total []*mesos.Resource, name string) string {
	return console.Number(console.Scalar(used, name)) + "/" + console.Number(console.Scalar(total, name))
}

// texts writes resources as --resources does.
func texts(rs []*mesos.Resource) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		own := proto.CloneOf(r)
		own.AllocationInfo = nil // says nothing new of a task or an agent
		parts[i] = resources.Text(own)
	}
	return strings.Join(parts, "; ")
}

// scalars writes the amounts of resources.
func scalars(rs []*mesos.Resource) string {
	var parts []string
	for _, name := range []string{"cpus", "mem", "disk", "gpus"} {
		if v := console.Scalar(rs, name); v > 0 {
			parts = append(parts, name+":"+console.Number(v))
		}
	}
	return strings.Join(parts, ";")
}

// duration reads a duration as Go or as Mesos writes them.
func duration(flag, text string) (time.Duration, error) { return console.ParseDuration(flag, text) }

func labels(l *mesos.Labels) string {
	var parts []string
	for _, label := range l.GetLabels() {
		parts = append(parts, label.GetKey()+"="+label.GetValue())
	}
	return strings.Join(parts, ", ")
}

// ctx ends with ^C.
func (x *call) ctx() context.Context { return x.Context.Context }

// needed is the value of a flag that must be given.
func (x *call) needed(flag string) (string, error) {
	v := x.String(flag)
	if v == "" {
		return "", console.Hint(console.Usagef("--%s is needed", flag), "%s --help says what for", x.Command.HelpName)
	}
	return v, nil
}
