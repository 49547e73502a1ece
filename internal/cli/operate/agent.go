package operate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

func agentCommand(e console.Env) *cliv2.Command {
	verb := func(name, usage, description string, act func(x *call, a *agentInfo) error, question string) *cliv2.Command {
		return &cliv2.Command{
			Name: name, Usage: usage, ArgsUsage: "AGENT...", Description: description,
			Flags:  console.Flags(console.YesFlag()),
			Action: connected(e, 1, -1, func(x *call) error { return eachAgent(x, question, act) }),
		}
	}
	return noun2("agent", "start an agent, or with a verb: look at agents, drain and remove them",
		listAgents(e),
		&cliv2.Command{
			Name: "show", Usage: "show what is known of an agent", ArgsUsage: "AGENT",
			Flags: console.Flags(console.OutputFlag()), Action: connected(e, 1, 1, showAgent),
		},
		&cliv2.Command{
			Name: "watch", Usage: "show how agents come, change and go as they do", ArgsUsage: "[AGENT...]",
			Flags: console.Flags(watchFlags()...), Action: connected(e, 0, -1, watchAgents),
		},
		&cliv2.Command{
			Name: "drain", Usage: "end the tasks of agents gently and offer nothing of them", ArgsUsage: "AGENT...",
			Description: "Tasks are killed, at the latest after --grace, and their frameworks start others elsewhere. The agent\n" +
				"stays out of use until clusterd agent reactivate; cancel-drain stops while it lasts.",
			Flags: console.Flags(
				&cliv2.StringFlag{Name: "grace", Usage: "`DURATION` that tasks get at most between SIGTERM and SIGKILL", DefaultText: "their own"},
				&cliv2.BoolFlag{Name: "mark-gone", Usage: "mark them gone when they are drained: for machines that do not return"},
				&cliv2.BoolFlag{Name: "wait", Usage: "wait until they are drained, and say what for"}, timeoutFlag(), console.YesFlag(),
			),
			Action: connected(e, 1, -1, drain),
		},
		verb("cancel-drain", "stop draining: what still runs goes on, the agent is offered again", "", cancelDrain, ""),
		verb("deactivate", "offer nothing of agents any more; their tasks go on", "", deactivate, "offer nothing of %s any more"),
		verb("reactivate", "end draining or deactivation: the agent is offered again", "", reactivate, ""),
		verb("gone", "say that agents will never return", "Their tasks become TASK_GONE_BY_OPERATOR at once, though they may still run, and the agents may not\n"+
			"register again under their ids. This cannot be undone.", markGone, "mark %s gone for good"),
	)
}

// noun2 is noun for a name that is a daemon's, too: the daemon is what runs without a verb.
func noun2(name, usage string, verbs ...*cliv2.Command) *cliv2.Command {
	return &cliv2.Command{Name: name, Usage: usage, Subcommands: verbs}
}

type agentInfo = master.Response_GetAgents_Agent

func agentID(a *agentInfo) string { return a.GetAgentInfo().GetId().GetValue() }

func agentName(a *agentInfo) string {
	return fmt.Sprintf("%s (%s)", a.GetAgentInfo().GetHostname(), agentID(a))
}

func listAgents(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list agents", Flags: console.OutputFlags(),
		Action: connected(e, 0, 0, func(x *call) error {
			res, err := x.cluster.Ask(x.ctx(), master.Call_GET_AGENTS)
			if err != nil {
				return err
			}
			return x.print(agentTable(res.GetGetAgents()))
		}),
	}
}

func agentTable(get *master.Response_GetAgents) *console.Table {
	t := &console.Table{
		Header: []string{"AGENT", "HOST", "STATE", "CPUS", "MEM", "DISK", "SINCE"},
		Wide:   []string{"GPUS", "OFFERED", "ADDRESS", "VERSION", "REGION", "ZONE", "ATTRIBUTES"},
	}
	items := []*agentInfo{}
	for _, a := range get.GetAgents() {
		since := max(a.GetRegisteredTime().GetNanoseconds(), a.GetReregisteredTime().GetNanoseconds())
		_, address, _ := strings.Cut(a.GetPid(), "@")
		used := func(name string) string { return use(a.GetAllocatedResources(), a.GetTotalResources(), name) }
		fault := a.GetAgentInfo().GetDomain().GetFaultDomain()
		t.Add(
			agentID(a), a.GetAgentInfo().GetHostname(), console.AgentState(a), used("cpus"), used("mem"), used("disk"), console.Age(time.Unix(0, since)),
			used("gpus"), scalars(a.GetOfferedResources()), address, a.GetVersion(),
			fault.GetRegion().GetName(), fault.GetZone().GetName(), attributes(a.GetAgentInfo().GetAttributes()),
		)
		items = append(items, a)
	}
	for _, info := range get.GetRecoveredAgents() {
		t.Add(info.GetId().GetValue(), info.GetHostname(), "recovered", "", "", "", "", "", "", "", "", "", "", "")
		items = append(items, &agentInfo{AgentInfo: info, Active: new(false), Version: new("")})
	}
	t.Items = items
	return t
}

func attributes(as []*mesos.Attribute) string {
	var parts []string
	for _, a := range as {
		value := ""
		switch a.GetType() {
		case mesos.Value_SCALAR:
			value = console.Number(a.GetScalar().GetValue())
		case mesos.Value_TEXT:
			value = a.GetText().GetValue()
		case mesos.Value_SET:
			value = "{" + strings.Join(a.GetSet().GetItem(), ",") + "}"
		case mesos.Value_RANGES:
			var ranges []string
			for _, r := range a.GetRanges().GetRange() {
				ranges = append(ranges, fmt.Sprintf("%d-%d", r.GetBegin(), r.GetEnd()))
			}
			value = "[" + strings.Join(ranges, ",") + "]"
		}
		parts = append(parts, a.GetName()+":"+value)
	}
	return strings.Join(parts, ";")
}

func showAgent(x *call) error {
	a, err := x.cluster.FindAgent(x.ctx(), x.args[0])
	if err != nil {
		return err
	}
	d := &console.Detail{Item: a, Name: agentID(a)}
	d.Line("agent", agentID(a))
	d.Line("host", a.GetAgentInfo().GetHostname())
	d.Line("state", console.AgentState(a))
	if drain := a.GetDrainInfo(); drain != nil {
		d.Line("drain began", console.Stamp(console.Time(a.GetEstimatedDrainStartTime())))
		if drain.GetConfig().GetMarkGone() {
			d.Line("when drained", "it is marked gone")
		}
	}
	_, address, _ := strings.Cut(a.GetPid(), "@")
	d.Line("address", address)
	d.Line("version", a.GetVersion())
	fault := a.GetAgentInfo().GetDomain().GetFaultDomain()
	d.Line("region", fault.GetRegion().GetName())
	d.Line("zone", fault.GetZone().GetName())
	d.Line("attributes", attributes(a.GetAgentInfo().GetAttributes()))
	d.Line("registered", console.Stamp(console.Time(a.GetRegisteredTime())))
	d.Line("registered again", console.Stamp(console.Time(a.GetReregisteredTime())))
	d.Line("resources", texts(a.GetTotalResources()))
	d.Part("RESOURCES", agentResources(a))
	tasks, err := x.cluster.TaskRows(x.ctx(), false)
	if err != nil {
		return err
	}
	own, _ := taskTable(ofAgent(tasks, agentID(a)))
	d.Part("TASKS", own)
	return d.Print(x.Env, x.Context)
}

// agentResources tells apart what is in use, offered and free.
func agentResources(a *agentInfo) *console.Table {
	t := &console.Table{Header: []string{"RESOURCE", "TOTAL", "USED", "OFFERED", "FREE"}}
	var names []string
	for _, r := range a.GetTotalResources() {
		if r.GetType() == mesos.Value_SCALAR && !slices.Contains(names, r.GetName()) {
			names = append(names, r.GetName())
		}
	}
	for _, name := range names {
		total, used, offered := console.Scalar(a.GetTotalResources(), name), console.Scalar(a.GetAllocatedResources(), name), console.Scalar(a.GetOfferedResources(), name)
		t.Add(name, console.Number(total), console.Number(used), console.Number(offered), console.Number(total-used-offered))
	}
	return t
}

func watchAgents(x *call) error {
	w := newWatch(x, "TIME", "EVENT", "HOST", "AGENT", "STATE")
	wanted := map[string]bool{}
	for _, ref := range x.args {
		a, err := x.cluster.FindAgent(x.ctx(), ref)
		if err != nil {
			return err
		}
		wanted[agentID(a)] = true
	}
	hosts := map[string]string{}
	row := func(event any, what, id, state string) error {
		if len(wanted) > 0 && !wanted[id] {
			return nil
		}
		return w.row(event, clock(zero), what, hosts[id], id, state)
	}
	types := []clusterdv1.OperatorEvent_Type{
		clusterdv1.OperatorEvent_AGENT_ADDED, clusterdv1.OperatorEvent_AGENT_UPDATED, clusterdv1.OperatorEvent_AGENT_REMOVED,
	}
	return w.run(operator.EventsOptions{Types: types}, func(ev *clusterdv1.OperatorEvent, _ bool) error {
		see := func(what string, a *agentInfo) error {
			hosts[agentID(a)] = a.GetAgentInfo().GetHostname()
			return row(ev, what, agentID(a), console.AgentState(a))
		}
		switch ev.GetType() {
		case clusterdv1.OperatorEvent_SUBSCRIBED:
			for _, a := range ev.GetSubscribed().GetGetState().GetGetAgents().GetAgents() {
				hosts[agentID(a)] = a.GetAgentInfo().GetHostname()
				if err := row(a, "here", agentID(a), console.AgentState(a)); err != nil {
					return err
				}
			}
		case clusterdv1.OperatorEvent_AGENT_ADDED:
			return see("added", ev.GetAgentAdded().GetAgent())
		case clusterdv1.OperatorEvent_AGENT_UPDATED:
			return see("updated", ev.GetAgentUpdated().GetAgent())
		case clusterdv1.OperatorEvent_AGENT_REMOVED:
			return row(ev, "removed", ev.GetAgentRemoved().GetAgentId().GetValue(), "")
		default:
		}
		return nil
	})
}

// eachAgent finds the agents that are named, asks, and acts on each.
func eachAgent(x *call, question string, act func(x *call, a *agentInfo) error) error {
	agents, err := findAgents(x)
	if err != nil {
		return err
	}
	if question != "" {
		if err := x.confirm(question, describeAgents(x, agents)); err != nil {
			return err
		}
	}
	return console.Each(x.Env, agents, agentName, func(a *agentInfo) error { return act(x, a) })
}

func findAgents(x *call) ([]*agentInfo, error) {
	var agents []*agentInfo
	for _, ref := range x.args {
		a, err := x.cluster.FindAgent(x.ctx(), ref)
		if err != nil {
			return nil, err
		}
		agents = append(agents, a)
	}
	return agents, nil
}

// describeAgents says which agents are meant and what runs there.
func describeAgents(x *call, agents []*agentInfo) string {
	running := map[string]int{}
	if tasks, err := x.cluster.TaskRows(x.ctx(), false); err == nil {
		for _, t := range tasks {
			running[t.AgentID]++
		}
	}
	var parts []string
	for _, a := range agents {
		parts = append(parts, fmt.Sprintf("agent %s with %s", agentName(a), console.Plural(running[agentID(a)], "running task")))
	}
	return strings.Join(parts, ", ")
}

func deactivate(x *call, a *agentInfo) error {
	_, err := x.cluster.Call(x.ctx(), &master.Call{
		Type: master.Call_DEACTIVATE_AGENT.Enum(), DeactivateAgent: &master.Call_DeactivateAgent{AgentId: console.AgentID(agentID(a))},
	})
	return x.done(err, "deactivated %s", agentName(a))
}

func reactivate(x *call, a *agentInfo) error {
	_, err := x.cluster.Call(x.ctx(), &master.Call{
		Type: master.Call_REACTIVATE_AGENT.Enum(), ReactivateAgent: &master.Call_ReactivateAgent{AgentId: console.AgentID(agentID(a))},
	})
	return x.done(err, "reactivated %s", agentName(a))
}

func markGone(x *call, a *agentInfo) error {
	_, err := x.cluster.Call(x.ctx(), &master.Call{
		Type: master.Call_MARK_AGENT_GONE.Enum(), MarkAgentGone: &master.Call_MarkAgentGone{AgentId: console.AgentID(agentID(a))},
	})
	return x.done(err, "marked %s gone", agentName(a))
}

func cancelDrain(x *call, a *agentInfo) error {
	body := map[string]any{"agent_id": map[string]string{"value": agentID(a)}}
	return x.done(x.cluster.Post(x.ctx(), console.OwnPath+"agents/cancel_drain", body, nil), "%s drains no more", agentName(a))
}

// done says what was done unless it failed.
func (x *call) done(err error, format string, args ...any) error {
	if err == nil {
		x.say(format, args...)
	}
	return err
}
