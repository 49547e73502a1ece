package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

func waitCommand(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name:      "wait",
		Usage:     "follow what clusterd run --detach has left behind, to its end",
		ArgsUsage: "FRAMEWORK|TASK",
		Description: "TASK is an id, a name, or the beginning of an id; all tasks that it fits must be of one framework.\n" +
			"The framework is taken over, the output of its tasks shown from the beginning, and when all\n" +
			"have ended removes the framework. Exit code: as clusterd run would have had. ^C leaves again.",
		Flags: console.Flags(
			&cliv2.BoolFlag{Name: "force", Usage: "also a framework that another process is connected as"},
			&cliv2.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing but the tasks' output"},
		),
		Action: func(c *cliv2.Context) error {
			if c.NArg() != 1 {
				return console.Hint(console.Usagef("wait takes one framework or task"), "clusterd run --detach prints them; clusterd framework list shows them")
			}
			return runWait(c, e)
		},
	}
}

func runWait(c *cliv2.Context, e console.Env) error {
	cl, err := console.Connect(c)
	if err != nil {
		return err
	}
	f, err := detachedFramework(c.Context, cl, c.Args().First())
	if err != nil {
		return err
	}
	info := f.GetFrameworkInfo()
	if f.GetConnected() && !c.Bool("force") {
		return console.Hint(fmt.Errorf("another process is connected as framework %s (%s)", info.GetId().GetValue(), info.GetName()), "--force takes it over; that process ends")
	}
	j := &job{name: info.GetName(), role: "*", user: info.GetUser()}
	if len(info.GetRoles()) > 0 {
		j.role = info.GetRoles()[0]
	}
	r := newRunner(e, cl, j, runOptions{
		quiet: c.Bool("quiet"), resume: true, failover: time.Duration(info.GetFailoverTimeout() * float64(time.Second)),
	})
	if err := r.remember(c.Context, info.GetId().GetValue()); err != nil {
		return err
	}
	return r.run(c.Context, proto.CloneOf(info))
}

// detachedFramework finds a framework; or that of tasks, which may be several as long as they
// are of one.
func detachedFramework(ctx context.Context, cl *console.Cluster, ref string) (*master.Response_GetFrameworks_Framework, error) {
	f, err := cl.FindFramework(ctx, ref)
	if err != nil && console.Code(err) == console.ExitNotFound {
		id, taskErr := cl.FindTaskFramework(ctx, ref)
		if taskErr != nil {
			return nil, taskErr
		}
		f, err = cl.FindFramework(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	res, err := cl.Ask(ctx, master.Call_GET_FRAMEWORKS)
	if err != nil {
		return nil, err
	}
	for _, living := range res.GetGetFrameworks().GetFrameworks() {
		if living.GetFrameworkInfo().GetId().GetValue() == f.GetFrameworkInfo().GetId().GetValue() {
			return living, nil
		}
	}
	return nil, console.Mark(console.ErrNotFound, fmt.Errorf("framework %s has ended", f.GetFrameworkInfo().GetId().GetValue()))
}

// remember takes up the tasks that the cluster knows of the framework.
func (r *runner) remember(ctx context.Context, id string) error {
	all, err := r.cluster.Tasks(ctx)
	if err != nil {
		return err
	}
	var mine []console.Task
	for _, t := range all {
		if t.GetFrameworkId().GetValue() == id {
			mine = append(mine, t)
		}
	}
	if len(mine) == 0 {
		return errors.New("the framework has no tasks any more")
	}
	for _, t := range mine {
		label := ""
		if len(mine) > 1 {
			label = t.GetName()
		}
		one := &running{
			id: t.GetTaskId().GetValue(), name: t.GetName(), label: label, agent: t.GetAgentId().GetValue(),
			executor: t.GetExecutorId().GetValue(), grace: defaultGrace, launched: true,
		}
		if g := t.GetKillPolicy().GetGracePeriod(); g != nil {
			one.grace = time.Duration(g.GetNanoseconds())
		}
		r.add(one)
		if console.Terminal(t.GetState()) {
			r.ends = append(r.ends, lastStatus(t.Task))
		}
	}
	return nil
}

// lastStatus is the newest status of a task, with the state that it has ended in.
func lastStatus(t *mesos.Task) *mesos.TaskStatus {
	out := &mesos.TaskStatus{TaskId: t.GetTaskId(), AgentId: t.GetAgentId()}
	if n := len(t.GetStatuses()); n > 0 {
		out = proto.CloneOf(t.GetStatuses()[n-1])
	}
	out.State, out.Uuid = t.State, nil
	return out
}
