package operate

import (
	"fmt"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

func frameworkCommand(e console.Env) *cliv2.Command {
	return noun("framework", "look at frameworks, and end them",
		listFrameworks(e),
		&cliv2.Command{
			Name: "show", Usage: "show what is known of a framework", ArgsUsage: "FRAMEWORK",
			Flags: console.Flags(console.OutputFlag()), Action: connected(e, 1, 1, showFramework),
		},
		&cliv2.Command{
			Name: "watch", Usage: "show how frameworks come, change and go as they do", ArgsUsage: "[FRAMEWORK...]",
			Flags: console.Flags(watchFlags()...), Action: connected(e, 0, -1, watchFrameworks),
		},
		&cliv2.Command{
			Name: "teardown", Usage: "end frameworks with all their tasks", ArgsUsage: "FRAMEWORK...",
			Description: "All tasks are killed, executors are shut down, and the scheduler may not come back under this id.\n" +
				"This cannot be undone.",
			Flags:  console.Flags(console.YesFlag(), &cliv2.BoolFlag{Name: "wait", Usage: "wait until their tasks are gone"}, timeoutFlag()),
			Action: connected(e, 1, -1, teardown),
		},
		&cliv2.Command{
			Name: "explain", Usage: "say why a framework is offered what it is, or nothing", ArgsUsage: "FRAMEWORK",
			Flags: console.Flags(console.OutputFlag()), Action: connected(e, 1, 1, explainFramework),
		},
	)
}

func listFrameworks(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list frameworks", Flags: console.OutputFlags(allFlag()),
		Action: connected(e, 0, 0, func(x *call) error {
			res, err := x.cluster.Ask(x.ctx(), master.Call_GET_FRAMEWORKS)
			if err != nil {
				return err
			}
			tasks, err := x.cluster.TaskRows(x.ctx(), false)
			if err != nil {
				return err
			}
			return x.print(frameworkTable(res.GetGetFrameworks(), tasks, x.Bool("all")))
		}),
	}
}

func frameworkTable(get *master.Response_GetFrameworks, tasks []console.TaskRow, all bool) *console.Table {
	count := map[string]int{}
	for _, t := range tasks {
		if t.State != mesos.TaskState_TASK_UNREACHABLE {
			count[t.FrameworkID]++
		}
	}
	t := &console.Table{
		Header: []string{"FRAMEWORK", "NAME", "STATE", "ROLES", "TASKS", "CPUS", "MEM", "SINCE"},
		Wide:   []string{"OFFERED CPUS", "OFFERED MEM", "USER", "HOST", "PRINCIPAL", "UI"},
	}
	items := []*master.Response_GetFrameworks_Framework{}
	add := func(f *master.Response_GetFrameworks_Framework, state string) {
		info := f.GetFrameworkInfo()
		scalar := func(rs []*mesos.Resource, name string) string { return console.Number(console.Scalar(rs, name)) }
		t.Add(
			info.GetId().GetValue(), info.GetName(), state, strings.Join(rolesOf(info), ","), fmt.Sprint(count[info.GetId().GetValue()]),
			scalar(f.GetAllocatedResources(), "cpus"), scalar(f.GetAllocatedResources(), "mem"),
			console.Age(console.Time(f.GetRegisteredTime())),
			scalar(f.GetOfferedResources(), "cpus"), scalar(f.GetOfferedResources(), "mem"),
			info.GetUser(), info.GetHostname(), info.GetPrincipal(), info.GetWebuiUrl(),
		)
		items = append(items, f)
	}
	for _, f := range get.GetFrameworks() {
		add(f, frameworkState(f))
	}
	if all {
		for _, f := range get.GetCompletedFrameworks() {
			add(f, "completed")
		}
	}
	t.Items = items
	return t
}

func rolesOf(info *mesos.FrameworkInfo) []string {
	if len(info.GetRoles()) == 0 {
		return []string{info.GetRole()}
	}
	return info.GetRoles()
}

func frameworkState(f *master.Response_GetFrameworks_Framework) string {
	switch {
	case f.GetUnregisteredTime() != nil:
		return "completed"
	case f.GetRecovered():
		return "recovered"
	case f.GetActive():
		return "active"
	case f.GetConnected():
		return "inactive"
	}
	return "disconnected"
}

func showFramework(x *call) error {
	f, err := x.cluster.FindFramework(x.ctx(), x.args[0])
	if err != nil {
		return err
	}
	info, id := f.GetFrameworkInfo(), f.GetFrameworkInfo().GetId().GetValue()
	d := &console.Detail{Item: f, Name: id}
	d.Line("framework", id)
	d.Line("name", info.GetName())
	d.Line("state", frameworkState(f))
	d.Line("roles", strings.Join(rolesOf(info), ", "))
	d.Line("user", info.GetUser())
	d.Line("host", info.GetHostname())
	d.Line("principal", info.GetPrincipal())
	d.Line("ui", info.GetWebuiUrl())
	d.Line("registered", console.Stamp(console.Time(f.GetRegisteredTime())))
	d.Line("registered again", console.Stamp(console.Time(f.GetReregisteredTime())))
	d.Line("ended", console.Stamp(console.Time(f.GetUnregisteredTime())))
	d.Linef("failover timeout", "%s", time.Duration(info.GetFailoverTimeout()*float64(time.Second)))
	var capabilities []string
	for _, c := range info.GetCapabilities() {
		capabilities = append(capabilities, c.GetType().String())
	}
	d.Line("capabilities", strings.Join(capabilities, ", "))
	d.Line("labels", labels(info.GetLabels()))
	d.Line("allocated", scalars(f.GetAllocatedResources()))
	d.Line("offered", scalars(f.GetOfferedResources()))
	tasks, err := x.cluster.TaskRows(x.ctx(), true)
	if err != nil {
		return err
	}
	own, _ := taskTable(ofFramework(tasks, id))
	d.Part("TASKS", own)
	return d.Print(x.Env, x.Context)
}

func watchFrameworks(x *call) error {
	w := newWatch(x, "TIME", "EVENT", "NAME", "FRAMEWORK", "STATE")
	wanted := map[string]bool{}
	for _, ref := range x.args {
		f, err := x.cluster.FindFramework(x.ctx(), ref)
		if err != nil {
			return err
		}
		wanted[f.GetFrameworkInfo().GetId().GetValue()] = true
	}
	row := func(event any, what string, info *mesos.FrameworkInfo, state string) error {
		if len(wanted) > 0 && !wanted[info.GetId().GetValue()] {
			return nil
		}
		return w.row(event, clock(zero), what, info.GetName(), info.GetId().GetValue(), state)
	}
	types := []clusterdv1.OperatorEvent_Type{
		clusterdv1.OperatorEvent_FRAMEWORK_ADDED, clusterdv1.OperatorEvent_FRAMEWORK_UPDATED, clusterdv1.OperatorEvent_FRAMEWORK_REMOVED,
	}
	return w.run(operator.EventsOptions{Types: types}, func(ev *clusterdv1.OperatorEvent, _ bool) error {
		switch ev.GetType() {
		case clusterdv1.OperatorEvent_SUBSCRIBED:
			for _, f := range ev.GetSubscribed().GetGetState().GetGetFrameworks().GetFrameworks() {
				if err := row(f, "here", f.GetFrameworkInfo(), frameworkState(f)); err != nil {
					return err
				}
			}
		case clusterdv1.OperatorEvent_FRAMEWORK_ADDED:
			f := ev.GetFrameworkAdded().GetFramework()
			return row(ev, "added", f.GetFrameworkInfo(), frameworkState(f))
		case clusterdv1.OperatorEvent_FRAMEWORK_UPDATED:
			f := ev.GetFrameworkUpdated().GetFramework()
			return row(ev, "updated", f.GetFrameworkInfo(), frameworkState(f))
		case clusterdv1.OperatorEvent_FRAMEWORK_REMOVED:
			return row(ev, "removed", ev.GetFrameworkRemoved().GetFrameworkInfo(), "completed")
		default:
		}
		return nil
	})
}

func teardown(x *call) error {
	tasks, err := x.cluster.TaskRows(x.ctx(), false)
	if err != nil {
		return err
	}
	type victim struct {
		id, name string
		tasks    []console.Task
	}
	var victims []victim
	var question []string
	var doomed []console.Task
	for _, ref := range x.args {
		f, err := x.cluster.FindFramework(x.ctx(), ref)
		if err != nil {
			return err
		}
		v := victim{id: f.GetFrameworkInfo().GetId().GetValue(), name: f.GetFrameworkInfo().GetName()}
		if frameworkState(f) == "completed" {
			return fmt.Errorf("framework %s (%s) has ended already", v.name, v.id)
		}
		for _, t := range ofFramework(tasks, v.id) {
			v.tasks = append(v.tasks, t.Task())
		}
		doomed = append(doomed, v.tasks...)
		victims = append(victims, v)
		question = append(question, fmt.Sprintf("%s (%s) with %s", v.name, v.id, console.Plural(len(v.tasks), "running task")))
	}
	if err := x.confirm("tear down framework %s for good", strings.Join(question, ", ")); err != nil {
		return err
	}
	err = console.Each(x.Env, victims, func(v victim) string { return v.name }, func(v victim) error {
		_, err := x.cluster.Call(x.ctx(), &master.Call{
			Type: master.Call_TEARDOWN.Enum(), Teardown: &master.Call_Teardown{FrameworkId: console.FrameworkID(v.id)},
		})
		if err != nil {
			return err
		}
		x.say("tore down %s (%s): %s", v.name, v.id, console.Plural(len(v.tasks), "task"))
		return nil
	})
	if err != nil || !x.Bool("wait") || len(doomed) == 0 {
		return err
	}
	return awaitEnd(x, doomed, nil)
}

// explanation is what the leader says of a framework's offers.
type explanation struct {
	FrameworkID     string   `json:"framework_id"`
	Active          bool     `json:"active"`
	Connected       bool     `json:"connected"`
	SuppressedRoles []string `json:"suppressed_roles"`
	Roles           []struct {
		Role       string  `json:"role"`
		Suppressed bool    `json:"suppressed"`
		Weight     float64 `json:"weight"`
		Share      float64 `json:"share"`
		Quota      *struct {
			Guarantee map[string]float64 `json:"guarantee"`
			Limit     map[string]float64 `json:"limit"`
			Consumed  map[string]float64 `json:"consumed"`
		} `json:"quota"`
		LimitedBy []string `json:"limited_by"`
	} `json:"roles"`
	Agents struct {
		Total    int `json:"total"`
		Eligible int `json:"eligible"`
		Reasons  []struct {
			Reason   string   `json:"reason"`
			Agents   int      `json:"agents"`
			Examples []string `json:"examples"`
			Until    float64  `json:"until"`
		} `json:"reasons"`
	} `json:"agents"`
	Hint string `json:"hint"`
}

func explainFramework(x *call) error {
	f, err := x.cluster.FindFramework(x.ctx(), x.args[0])
	if err != nil {
		return err
	}
	id := f.GetFrameworkInfo().GetId().GetValue()
	var raw rawJSON
	if err := x.cluster.Get(x.ctx(), console.OwnPath+"explain?framework_id="+id, &raw); err != nil {
		if console.Code(err) == console.ExitNotFound {
			return console.Hint(err, "masters of before this version cannot explain; clusterd offer list shows what is offered")
		}
		return err
	}
	var ex explanation
	if err := raw.into(&ex); err != nil {
		return err
	}
	d := &console.Detail{Item: raw.value(), Name: id}
	d.Linef("framework", "%s %s", f.GetFrameworkInfo().GetName(), id)
	d.Line("state", frameworkState(f))
	d.Line("offered now", scalars(f.GetOfferedResources()))
	d.Linef("agents", "%d, of which %d could be offered to it now", ex.Agents.Total, ex.Agents.Eligible)
	d.Line("in short", ex.Hint)
	roles := &console.Table{Header: []string{"ROLE", "SUPPRESSED", "WEIGHT", "SHARE", "GUARANTEE", "LIMIT", "CONSUMED", "LIMITED BY"}}
	for _, r := range ex.Roles {
		var guarantee, limit, consumed string
		if r.Quota != nil {
			guarantee, limit, consumed = amounts(r.Quota.Guarantee), amounts(r.Quota.Limit), amounts(r.Quota.Consumed)
		}
		roles.Add(r.Role, yesNo(r.Suppressed), console.Number(r.Weight), fmt.Sprintf("%.1f%%", r.Share*100), guarantee, limit, consumed, strings.Join(r.LimitedBy, ","))
	}
	d.Part("ROLES", roles)
	reasons := &console.Table{Header: []string{"AGENTS", "NOT OFFERED BECAUSE", "UNTIL", "SUCH AS"}}
	for _, r := range ex.Agents.Reasons {
		until := ""
		if r.Until > 0 {
			until = clock(time.UnixMicro(int64(r.Until * 1e6)))
		}
		reasons.Add(fmt.Sprint(r.Agents), r.Reason, until, strings.Join(r.Examples, " "))
	}
	d.Part("AGENTS", reasons)
	return d.Print(x.Env, x.Context)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
