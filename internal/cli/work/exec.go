package work

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/agent"
	"clusterd/internal/cli/console"
)

// aside bounds the calls after a session.
const aside = 10 * time.Second

func execCommand(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name:      "exec",
		Usage:     "run a command in the container of a task that runs",
		ArgsUsage: "TASK [--] COMMAND [ARGUMENT...]",
		Description: "The command sees what the task sees: its files, processes and network. It ends when this\n" +
			"process does, however that ends. TASK is an id, the beginning of one, or a name.\n" +
			"Exit code: the command's; 128+n if signal n ended it.",
		UseShortOptionHandling: true,
		Flags: console.Flags(
			&cliv2.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "hand standard input on to the command"},
			&cliv2.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command a terminal"},
			&cliv2.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER` to run as; default: the task's"},
			&cliv2.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set a variable: `NAME=VALUE`; repeatable"},
			&cliv2.BoolFlag{Name: "shell", Usage: "run COMMAND by sh -c"},
		),
		Action: func(c *cliv2.Context) error {
			args := c.Args().Slice()
			if len(args) > 1 && args[1] != "--" && strings.HasPrefix(args[1], "-") {
				return console.Hint(console.Usagef("%s comes after the task", args[1]), "flags come before it: clusterd exec -it TASK -- sh")
			}
			if len(args) > 2 && args[1] == "--" { // TASK -- COMMAND
				args = slices.Concat(args[:1], args[2:])
			}
			if len(args) < 2 {
				return console.Hint(console.Usagef("exec takes a task and a command"), "clusterd exec -it TASK -- sh")
			}
			return runExec(c, e, args[0], args[1:])
		},
	}
}

func runExec(c *cliv2.Context, e console.Env, ref string, args []string) error {
	cl, err := console.Connect(c)
	if err != nil {
		return err
	}
	task, err := livingTask(c.Context, cl, ref)
	if err != nil {
		return err
	}
	if c.Bool("tty") && c.Bool("interactive") && !isTerminal(e.In) {
		return console.Hint(console.Usagef("standard input is no terminal"), "-i without -t hands it on as it is")
	}
	holder := &mesos.TaskInfo{Command: &mesos.CommandInfo{Shell: new(false), Value: &args[0], Arguments: args}}
	if c.Bool("shell") {
		holder.Command = &mesos.CommandInfo{Shell: new(true), Value: new(joined(args))}
	}
	if err := environmentOf(c.StringSlice("env"), holder); err != nil {
		return err
	}
	if u := c.String("user"); u != "" {
		holder.Command.User = &u
	}
	launch := &agent.Call_LaunchNestedContainerSession{
		ContainerId: nestedIn(task.Container()), Command: holder.Command,
		Container: &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum()},
	}
	if c.Bool("tty") {
		launch.Container.TtyInfo = &mesos.TTYInfo{WindowSize: sizeOf(e.In)}
		if t := sizeOf(e.In); t != nil {
			setenv(holder, "TERM", termName())
		}
	}
	s := &session{
		Env: e, cluster: cl, agent: task.GetAgentId().GetValue(), container: launch.GetContainerId(),
		terminal: c.Bool("tty"), input: c.Bool("interactive"), endInput: !c.Bool("tty"), say: sayer(e),
	}
	err = s.run(c.Context, &agent.Call{
		Type: agent.Call_LAUNCH_NESTED_CONTAINER_SESSION.Enum(), LaunchNestedContainerSession: launch,
	})
	switch {
	case c.Context.Err() != nil:
		return console.ExitError(interrupted)
	case errors.Is(err, errDetached):
		s.say("detached; the command ends with its session")
		return nil
	case err != nil:
		return cl.Explain(err)
	}
	return s.status(c.Context)
}

// status is how the command ended, as this process's exit code. What the agent keeps of it
// is removed.
func (s *session) status(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aside)
	defer cancel()
	a := s.cluster.Agent(s.agent)
	res, err := a.Call(ctx, &agent.Call{
		Type: agent.Call_WAIT_NESTED_CONTAINER.Enum(), WaitNestedContainer: &agent.Call_WaitNestedContainer{ContainerId: s.container},
	})
	if err != nil {
		return s.cluster.Explain(fmt.Errorf("the command has ended, its exit code is not known: %w", err))
	}
	_, _ = a.Call(ctx, &agent.Call{ // else it is removed with the task's container
		Type: agent.Call_REMOVE_NESTED_CONTAINER.Enum(), RemoveNestedContainer: &agent.Call_RemoveNestedContainer{ContainerId: s.container},
	})
	end := res.GetWaitNestedContainer()
	if end.ExitStatus == nil {
		return errors.New("the command has ended, its exit code is not known: " + end.GetMessage())
	}
	if m := end.GetMessage(); m != "" {
		s.say("%s", m)
	}
	if code := ofStatus(end.GetExitStatus()); code != 0 {
		return console.ExitError(code)
	}
	return nil
}

func attachCommand(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name:      "attach",
		Usage:     "see what a task prints from now on, and type into its terminal",
		ArgsUsage: "TASK",
		Description: "ctrl-p ctrl-q leaves the task alone. When the task ends, its exit code is the one of\n" +
			"this process. Only tasks that were run with a terminal (clusterd run --tty) take input.",
		Flags: console.Flags(
			&cliv2.BoolFlag{Name: "no_stdin", Aliases: []string{"no-stdin"}, Usage: "only look"},
		),
		Action: func(c *cliv2.Context) error {
			if c.NArg() != 1 {
				return console.Hint(console.Usagef("attach takes one task"), "flags come before the task: clusterd attach --no-stdin TASK")
			}
			return runAttach(c, e)
		},
	}
}

func runAttach(c *cliv2.Context, e console.Env) error {
	cl, err := console.Connect(c)
	if err != nil {
		return err
	}
	task, err := livingTask(c.Context, cl, c.Args().First())
	if err != nil {
		return err
	}
	tty := task.Task.GetContainer().GetTtyInfo() != nil
	s := &session{
		Env: e, cluster: cl, agent: task.GetAgentId().GetValue(), container: task.Container(),
		terminal: tty, input: !c.Bool("no_stdin") && tty, lenient: true, say: sayer(e),
	}
	if !tty && !c.Bool("no_stdin") {
		s.say("%s has no terminal: this is what it prints", task.GetTaskId().GetValue())
	}
	if s.input {
		s.begun = func() { s.say("attached to %s; ctrl-p ctrl-q leaves it alone", task.GetTaskId().GetValue()) }
	}
	err = s.run(c.Context, attachCall(s.container))
	switch {
	case c.Context.Err() != nil:
		return nil //nolint:nilerr // ^C is how one stops to look
	case errors.Is(err, errDetached):
		s.say("detached from %s", task.GetTaskId().GetValue())
		return nil
	case err != nil:
		return cl.Explain(err)
	}
	return endOf(c.Context, cl, task)
}

func attachCall(id *mesos.ContainerID) *agent.Call {
	return &agent.Call{
		Type:                  agent.Call_ATTACH_CONTAINER_OUTPUT.Enum(),
		AttachContainerOutput: &agent.Call_AttachContainerOutput{ContainerId: id},
	}
}

// livingTask finds a task that runs, and has a container.
func livingTask(ctx context.Context, cl *console.Cluster, ref string) (*console.Task, error) {
	task, err := cl.FindTask(ctx, ref)
	if err != nil {
		return nil, err
	}
	id := task.GetTaskId().GetValue()
	switch {
	case task.Ended || console.Terminal(task.GetState()):
		return nil, console.Hint(fmt.Errorf("task %s has ended: %s", id, task.GetState()), "clusterd logs %s shows what it printed", id)
	case task.Unreachable:
		return nil, fmt.Errorf("the agent of task %s does not answer the master", id)
	case task.Container() == nil:
		return nil, fmt.Errorf("task %s is %s: it has no container yet", id, task.GetState())
	}
	return &task, nil
}

// endOf is how a task ended that was seen to end: the exit code of this process.
func endOf(ctx context.Context, cl *console.Cluster, task *console.Task) error {
	deadline := time.Now().Add(aside)
	for {
		found, err := cl.FindTask(ctx, task.GetFrameworkId().GetValue()+"/"+task.GetTaskId().GetValue())
		if err == nil && console.Terminal(found.GetState()) {
			statuses := found.GetStatuses()
			if len(statuses) == 0 {
				return nil
			}
			if code, _ := codeOf(statuses[len(statuses)-1]); code != 0 {
				return console.ExitError(code)
			}
			return nil
		}
		if time.Now().After(deadline) || client.Sleep(ctx, 100*time.Millisecond) != nil {
			return nil //nolint:nilerr // it ended; how, the cluster has not been told
		}
	}
}
