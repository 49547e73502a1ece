package operate

import (
	"fmt"
	"slices"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/cli/console"
	"clusterd/internal/flags"
)

func eventCommand(e console.Env) *cliv2.Command {
	return noun("event", "listen to what happens in the cluster",
		&cliv2.Command{
			Name: "watch", Usage: "show events as they come",
			Description: "-o json writes each event in one line, as the event stream has it (docs/events.md); its token, given to\n" +
				"--resume, goes on right after it, as long as the same master leads and remembers. After a failover the\n" +
				"stream goes on by itself; a SUBSCRIBED event says whether something was missed.",
			Flags: console.Flags(append(watchFlags(),
				&cliv2.StringSliceFlag{Name: "type", Usage: "only events of this `TYPE`, such as task_updated; repeatable or with commas"},
				&cliv2.StringFlag{Name: "task", Usage: "only about tasks whose id begins with `TASK`"},
				&cliv2.StringFlag{Name: "framework", Usage: "only about this `FRAMEWORK`"},
				&cliv2.StringFlag{Name: "agent", Usage: "only about this `AGENT`"},
				&cliv2.StringFlag{Name: "resume", Aliases: []string{"since"}, Usage: "begin after the event with this `TOKEN`"},
				&cliv2.BoolFlag{Name: "snapshot", Usage: "with -o json, begin with the whole state"},
			)...),
			Action: connected(e, 0, 0, watchEvents),
		},
	)
}

// eventTypes reads --type.
func eventTypes(texts []string) ([]clusterdv1.OperatorEvent_Type, error) {
	var out []clusterdv1.OperatorEvent_Type
	var known []string
	for name := range clusterdv1.OperatorEvent_Type_value {
		known = append(known, strings.ToLower(name))
	}
	slices.Sort(known)
	for _, text := range console.Commas(texts) {
		n, ok := clusterdv1.OperatorEvent_Type_value[strings.ToUpper(text)]
		if !ok {
			err := console.Usagef("--type: no event %q", text)
			if best := flags.Nearest(strings.ToLower(text), known); best != "" {
				return nil, console.Hint(err, "did you mean %q?", best)
			}
			return nil, console.Hint(err, "there are %s", strings.Join(known, ", "))
		}
		out = append(out, clusterdv1.OperatorEvent_Type(n))
	}
	return out, nil
}

func watchEvents(x *call) error {
	types, err := eventTypes(x.StringSlice("type"))
	if err != nil {
		return err
	}
	framework, agent := "", ""
	if ref := x.String("framework"); ref != "" {
		f, err := x.cluster.FindFramework(x.ctx(), ref)
		if err != nil {
			return err
		}
		framework = f.GetFrameworkInfo().GetId().GetValue()
	}
	if ref := x.String("agent"); ref != "" {
		a, err := x.cluster.FindAgent(x.ctx(), ref)
		if err != nil {
			return err
		}
		agent = agentID(a)
	}
	w := newWatch(x, "TIME", "EVENT", "ABOUT", "WHAT")
	w.widths[2] = 40
	options := operator.EventsOptions{Types: types, Resume: x.String("resume"), Bare: !x.Bool("snapshot")}
	return w.run(options, func(ev *clusterdv1.OperatorEvent, first bool) error {
		s := summarize(ev)
		if ev.GetType() == clusterdv1.OperatorEvent_SUBSCRIBED {
			if first && x.String("resume") == "" && !w.json {
				return nil // nothing has happened
			}
		} else if x.String("task") != "" && (s.task == "" || !strings.HasPrefix(s.task, x.String("task"))) ||
			framework != "" && s.framework != framework || agent != "" && s.agent != agent {
			return nil
		}
		return w.row(ev, clock(zero), strings.ToLower(ev.GetType().String()), s.about, s.what)
	})
}

// summary is an event for people.
type summary struct{ task, framework, agent, about, what string }

func summarize(ev *clusterdv1.OperatorEvent) summary {
	var s summary
	switch ev.GetType() {
	case clusterdv1.OperatorEvent_SUBSCRIBED:
		s.what = "from now on"
		if sub := ev.GetSubscribed(); sub.GetResumed() {
			s.what = "nothing was missed"
		} else if sub.GetReason() != "" {
			s.what = "something may have been missed: " + sub.GetReason()
		}
	case clusterdv1.OperatorEvent_TASK_ADDED:
		t := ev.GetTaskAdded().GetTask()
		s.task, s.framework, s.agent = t.GetTaskId().GetValue(), t.GetFrameworkId().GetValue(), t.GetAgentId().GetValue()
		s.about, s.what = s.task, stateName(t.GetState())+" on "+s.agent
	case clusterdv1.OperatorEvent_TASK_UPDATED:
		u := ev.GetTaskUpdated()
		s.task, s.framework, s.agent = u.GetStatus().GetTaskId().GetValue(), u.GetFrameworkId().GetValue(), u.GetStatus().GetAgentId().GetValue()
		s.about, s.what = s.task, strings.TrimSpace(stateName(u.GetState())+" "+u.GetStatus().GetMessage())
	case clusterdv1.OperatorEvent_AGENT_ADDED:
		s.agent = agentID(ev.GetAgentAdded().GetAgent())
		s.about, s.what = s.agent, ev.GetAgentAdded().GetAgent().GetAgentInfo().GetHostname()+" "+console.AgentState(ev.GetAgentAdded().GetAgent())
	case clusterdv1.OperatorEvent_AGENT_UPDATED:
		s.agent = agentID(ev.GetAgentUpdated().GetAgent())
		s.about, s.what = s.agent, ev.GetAgentUpdated().GetAgent().GetAgentInfo().GetHostname()+" "+console.AgentState(ev.GetAgentUpdated().GetAgent())
	case clusterdv1.OperatorEvent_AGENT_REMOVED:
		s.agent = ev.GetAgentRemoved().GetAgentId().GetValue()
		s.about = s.agent
	case clusterdv1.OperatorEvent_FRAMEWORK_ADDED:
		f := ev.GetFrameworkAdded().GetFramework()
		s.framework = f.GetFrameworkInfo().GetId().GetValue()
		s.about, s.what = s.framework, f.GetFrameworkInfo().GetName()
	case clusterdv1.OperatorEvent_FRAMEWORK_UPDATED:
		f := ev.GetFrameworkUpdated().GetFramework()
		s.framework = f.GetFrameworkInfo().GetId().GetValue()
		s.about, s.what = s.framework, f.GetFrameworkInfo().GetName()+" "+frameworkState(f)
	case clusterdv1.OperatorEvent_FRAMEWORK_REMOVED:
		s.framework = ev.GetFrameworkRemoved().GetFrameworkInfo().GetId().GetValue()
		s.about, s.what = s.framework, ev.GetFrameworkRemoved().GetFrameworkInfo().GetName()
	case clusterdv1.OperatorEvent_QUOTAS_UPDATED:
		for _, q := range ev.GetQuotasUpdated().GetQuotas() {
			s.about = strings.TrimSpace(s.about + " " + q.GetRole())
		}
	case clusterdv1.OperatorEvent_WEIGHTS_UPDATED:
		for _, v := range ev.GetWeightsUpdated().GetWeights() {
			s.about = strings.TrimSpace(fmt.Sprintf("%s %s=%v", s.about, v.GetRole(), v.GetWeight()))
		}
	case clusterdv1.OperatorEvent_MAINTENANCE_UPDATED:
		s.what = console.Plural(len(ev.GetMaintenanceUpdated().GetMachines()), "machine") + " scheduled"
	default:
		s.what = ev.String()
	}
	return s
}
