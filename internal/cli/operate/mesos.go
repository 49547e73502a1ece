package operate

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client/operator"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// MesosTools are Mesos's small tools, which this program is when it is called by their
// names: mesos-ps, mesos-cat, mesos-tail and mesos-resolve. Flags and output are those of
// src/cli/mesos-ps, mesos-cat, mesos-tail and resolve.cpp.
var MesosTools = map[string]func(e console.Env) *cliv2.App{
	"mesos-ps": func(e console.Env) *cliv2.App {
		return tool(e, "mesos-ps", "list the tasks that run, and what they use", connected(e, 0, 0, mesosPs),
			&cliv2.Float64Flag{Name: "timeout", Usage: "`SECONDS` to wait for agents", Value: 5},
			&cliv2.BoolFlag{Name: "verbose", Usage: "say which agents do not answer"})
	},
	"mesos-cat": func(e console.Env) *cliv2.App {
		return tool(e, "mesos-cat", "print a file of a task's sandbox", connected(e, 0, 0, func(x *call) error { return mesosCat(x, false) }), sandboxFlags()...)
	},
	"mesos-tail": func(e console.Env) *cliv2.App {
		return tool(e, "mesos-tail", "print a file of a task's sandbox, and what comes", connected(e, 0, 0, func(x *call) error { return mesosCat(x, true) }), sandboxFlags()...)
	},
	"mesos-resolve": func(e console.Env) *cliv2.App {
		app := tool(e, "mesos-resolve", "print the address of the leading master", mesosResolve(e),
			&cliv2.StringFlag{Name: "timeout", Usage: "`DURATION` to wait", Value: "5secs"},
			&cliv2.BoolFlag{Name: "verbose", Usage: "be verbose"})
		app.ArgsUsage = "MASTER"
		return app
	},
}

func tool(e console.Env, name, usage string, action cliv2.ActionFunc, own ...cliv2.Flag) *cliv2.App {
	return &cliv2.App{
		Name: name, HelpName: name, Usage: usage, HideVersion: true, Reader: e.In, Writer: e.Out, ErrWriter: e.Err,
		ExitErrHandler: func(*cliv2.Context, error) {},
		OnUsageError: func(_ *cliv2.Context, err error, _ bool) error {
			return fmt.Errorf("%w: %w", console.ErrUsage, err)
		},
		Flags: console.Flags(own...), Action: action,
	}
}

func sandboxFlags() []cliv2.Flag {
	return []cliv2.Flag{
		&cliv2.StringFlag{Name: "framework", Usage: "`ID` of the framework"},
		&cliv2.StringFlag{Name: "task", Usage: "`ID` of the task"},
		&cliv2.StringFlag{Name: "file", Usage: "`FILE` of the sandbox, such as stdout"},
	}
}

// mesosPs prints the columns of Mesos's tool, which asks every agent; those that do not
// answer in time leave theirs empty.
func mesosPs(x *call) error {
	res, err := x.cluster.Ask(x.ctx(), master.Call_GET_STATE)
	if err != nil {
		return err
	}
	state := res.GetGetState()
	users, names := map[string]string{}, map[string]string{}
	for _, f := range state.GetGetFrameworks().GetFrameworks() {
		id := f.GetFrameworkInfo().GetId().GetValue()
		users[id], names[id] = f.GetFrameworkInfo().GetUser(), f.GetFrameworkInfo().GetName()
	}
	hosts, busy := map[string]string{}, map[string]bool{}
	for _, a := range state.GetGetAgents().GetAgents() {
		hosts[agentID(a)] = a.GetAgentInfo().GetHostname()
	}
	for _, t := range state.GetGetTasks().GetTasks() {
		busy[t.GetAgentId().GetValue()] = true
	}
	usage := usageOf(x, busy)
	w := &padded{x: x, widths: []int{12, 19, 24, 24, 20, 18, 12}}
	w.line("USER", "FRAMEWORK", "TASK", "SLAVE", "MEM", "TIME", "CPU (allocated)")
	for _, t := range state.GetGetTasks().GetTasks() {
		framework := t.GetFrameworkId().GetValue()
		s := usage[[2]string{framework, cmp.Or(t.GetExecutorId().GetValue(), t.GetTaskId().GetValue())}]
		mem, spent, cpus := "", "", ""
		if s.MemLimit != nil && s.MemRSS != nil {
			mem = mesosBytes(*s.MemRSS) + "/" + mesosBytes(*s.MemLimit)
		}
		if s.User != nil && s.System != nil {
			spent = time.Unix(0, 0).UTC().Add(time.Duration((*s.User + *s.System) * 1e9)).Format("15:04:05.000000")
		}
		if s.CPUs != nil {
			cpus = fmt.Sprint(*s.CPUs)
		}
		w.line(users[framework], names[framework], t.GetName(), hosts[t.GetAgentId().GetValue()], mem, spent, cpus)
	}
	return w.err
}

// usageStatistics are those of /monitor/statistics that mesos-ps shows.
type usageStatistics struct {
	MemRSS   *float64 `json:"mem_rss_bytes"`
	MemLimit *float64 `json:"mem_limit_bytes"`
	User     *float64 `json:"cpus_user_time_secs"`
	System   *float64 `json:"cpus_system_time_secs"`
	CPUs     *float64 `json:"cpus_limit"`
}

// usageOf asks agents what their executors use, by framework and executor.
func usageOf(x *call, agents map[string]bool) map[[2]string]usageStatistics {
	ctx, cancel := context.WithTimeout(x.ctx(), time.Duration(x.Float64("timeout")*float64(time.Second)))
	defer cancel()
	out := map[[2]string]usageStatistics{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	limit := make(chan struct{}, askedAtOnce)
	for id := range agents {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			var answer []struct {
				Framework  string          `json:"framework_id"`
				Executor   string          `json:"executor_id"`
				Statistics usageStatistics `json:"statistics"`
			}
			err := x.cluster.AgentGet(ctx, id, "/monitor/statistics", &answer)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && x.Bool("verbose") {
				fmt.Fprintf(x.Err, "agent %s: %v\n", id, err)
			}
			for _, e := range answer {
				out[[2]string{e.Framework, e.Executor}] = e.Statistics
			}
		})
	}
	wg.Wait()
	return out
}

// padded writes columns of fixed widths; what is longer is cut.
type padded struct {
	x      *call
	widths []int
	err    error
}

func (w *padded) line(cells ...string) {
	var b strings.Builder
	for i, cell := range cells {
		text := []rune(console.Plain(cell))
		if cell == "" {
			text = nil
		}
		if len(text) >= w.widths[i] && i < len(cells)-1 {
			text = append(text[:w.widths[i]-4:w.widths[i]-4], []rune("... ")...)
		}
		fmt.Fprintf(&b, "%-*s", w.widths[i], string(text))
	}
	if _, err := fmt.Fprintln(w.x.Out, strings.TrimRight(b.String(), " ")); err != nil {
		w.err = err
	}
}

// mesosBytes writes an amount as mesos-ps does.
func mesosBytes(n float64) string {
	units := []string{"B", "KB", "MB", "GB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// mesosCat prints a file from its beginning; mesos-tail goes on as it grows.
func mesosCat(x *call, follow bool) error {
	for _, flag := range []string{"framework", "task", "file"} {
		if x.String(flag) == "" {
			return console.Usagef("Missing --%s", flag)
		}
	}
	tasks, err := x.cluster.Tasks(x.ctx())
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.GetFrameworkId().GetValue() != x.String("framework") || t.GetTaskId().GetValue() != x.String("task") {
			continue
		}
		files, path := x.cluster.AgentFiles(t.GetAgentId().GetValue()), t.Sandbox()+"/"+strings.TrimPrefix(x.String("file"), "/")
		offset, err := operator.CopyFile(x.ctx(), files, x.Out, path, 0)
		if err != nil || !follow {
			return x.cluster.Explain(err)
		}
		for data, err := range operator.Follow(x.ctx(), files, path, offset, pollInterval) {
			if err != nil {
				if x.ctx().Err() != nil {
					return nil // ^C is how one stops to follow
				}
				return x.cluster.Explain(err)
			}
			if _, err := x.Out.Write(data); err != nil {
				return err
			}
		}
		return nil
	}
	return console.Mark(console.ErrNotFound, fmt.Errorf("no task %q of framework %q", x.String("task"), x.String("framework")))
}

// mesosResolve prints ip:port of the leader. A master that is given as zk:// is not found:
// there is no ZooKeeper.
func mesosResolve(e console.Env) cliv2.ActionFunc {
	return func(c *cliv2.Context) error {
		args, err := console.Args(c, 1, 1)
		if err != nil {
			return console.Usagef("There must be only one argument: <master>")
		}
		if strings.HasPrefix(args[0], "zk://") {
			return console.Hint(console.Usagef("%s: masters are not found by ZooKeeper here", args[0]), "give host:port of any master")
		}
		wait, err := duration("--timeout", c.String("timeout"))
		if err != nil {
			return err
		}
		if err := c.Set("master", args[0]); err != nil {
			return err
		}
		cl, err := console.Connect(c)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(c.Context, wait, fmt.Errorf("%w: no leader of %q within %s", console.ErrTimeout, args[0], wait))
		defer cancel()
		res, err := cl.Ask(ctx, master.Call_GET_MASTER)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		info := res.GetGetMaster().GetMasterInfo()
		host := cmp.Or(info.GetAddress().GetIp(), info.GetHostname())
		_, err = fmt.Fprintln(e.Out, net.JoinHostPort(host, fmt.Sprint(cmp.Or(info.GetAddress().GetPort(), int32(info.GetPort())))))
		return err
	}
}
