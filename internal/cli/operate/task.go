package operate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

func allFlag() cliv2.Flag {
	return &cliv2.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also those that have ended"}
}

func taskCommand(e console.Env) *cliv2.Command {
	return noun("task", "look at tasks, and kill them",
		listTasks(e),
		&cliv2.Command{
			Name: "show", Usage: "show what is known of a task", ArgsUsage: "TASK",
			Flags: console.Flags(console.OutputFlag()), Action: connected(e, 1, 1, showTask),
		},
		&cliv2.Command{
			Name: "watch", Usage: "show how tasks change as they do", ArgsUsage: "[TASK...]",
			Description: console.TasksHelp + "\nWithout tasks, all of them. Ends when all tasks that were named have ended, or at ^C.",
			Flags:       console.Flags(watchFlags()...), Action: connected(e, 0, -1, watchTasks),
		},
		&cliv2.Command{
			Name: "kill", Usage: "kill tasks", ArgsUsage: "[TASK...]",
			Description: console.TasksHelp + "\n" + "Kills the tasks that are named, or those that fit all of --filter. Their schedulers are told, and\n" +
				"may start others in their place: clusterd framework teardown ends those, too.",
			Flags: console.Flags(
				console.YesFlag(),
				&cliv2.StringSliceFlag{Name: "filter", Usage: "all tasks that fit `KEY=VALUE` (or !=, ~, !~, >, <), by the columns of task list -o wide"},
				&cliv2.StringFlag{Name: "grace", Usage: "`DURATION` between SIGTERM and SIGKILL, instead of the tasks' own"},
				&cliv2.BoolFlag{Name: "wait", Usage: "wait until they have ended"},
				timeoutFlag(),
			),
			Action: connected(e, 0, -1, killTasks),
		},
	)
}

func timeoutFlag() cliv2.Flag {
	return &cliv2.StringFlag{Name: "timeout", Usage: "give up waiting after this `DURATION`; exit code 124", DefaultText: "none"}
}

func listTasks(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list tasks", Flags: console.OutputFlags(allFlag()),
		Action: connected(e, 0, 0, func(x *call) error {
			rows, err := x.cluster.TaskRows(x.ctx(), x.Bool("all"))
			if err != nil {
				return err
			}
			t, rows := taskTable(rows)
			if format, err := console.Format(x.Context); err == nil && (format == "json" || format == "yaml") {
				if err := wholeTasks(x, t, rows); err != nil {
					return err
				}
			}
			return x.print(t)
		}),
	}
}

// taskTable lists tasks, the oldest change first, and gives the order back.
func taskTable(tasks []console.TaskRow) (*console.Table, []console.TaskRow) {
	tasks = slices.Clone(tasks)
	slices.SortStableFunc(tasks, func(a, b console.TaskRow) int {
		return cmp.Or(a.Changed.Compare(b.Changed), cmp.Compare(a.ID, b.ID))
	})
	t := &console.Table{
		Header: []string{"TASK", "STATE", "FRAMEWORK", "HOST", "CPUS", "MEM", "SINCE"},
		Wide:   []string{"NAME", "EXECUTOR", "ROLE", "HEALTHY", "AGENT ID", "FRAMEWORK ID"},
		Rows:   make([][]string, 0, len(tasks)),
	}
	for _, r := range tasks {
		healthy := ""
		if r.Healthy != nil {
			healthy = yesNo(*r.Healthy)
		}
		t.Add(
			r.ID, stateName(r.State), r.Framework, r.Hostname, console.Number(r.CPUs), console.Number(r.Mem), console.Age(r.Changed),
			r.Name, r.Executor, r.Role, healthy, r.AgentID, r.FrameworkID,
		)
	}
	return t, tasks
}

// wholeTasks gives a table the tasks with all that is known of them. Rows that --filter leaves
// out, and tasks that have gone since, it has no more.
func wholeTasks(x *call, t *console.Table, rows []console.TaskRow) error {
	fit, err := t.Fitting(x.StringSlice("filter"))
	if err != nil {
		return err
	}
	places, frameworks := make(map[taskKey][]int, len(fit)), map[string]bool{} // an id may be used again
	for _, i := range fit {
		k := taskKey{rows[i].FrameworkID, rows[i].ID}
		places[k] = append(places[k], i)
		frameworks[rows[i].FrameworkID] = true
	}
	items := []json.RawMessage{}
	if len(fit) == 0 {
		t.Rows, t.Items = nil, items
		return nil
	}
	whole := make([]json.RawMessage, len(rows))
	one := "" // where all are of one framework, only its tasks are read
	if len(frameworks) == 1 {
		one = rows[fit[0]].FrameworkID
	}
	err = x.cluster.EachTask(x.ctx(), one, x.Bool("all"), func(framework, id string, task json.RawMessage) {
		k := taskKey{framework, id}
		if at := places[k]; len(at) > 0 {
			whole[at[0]], places[k] = task, at[1:]
		}
	})
	var kept [][]string
	for _, i := range fit {
		if whole[i] != nil {
			kept, items = append(kept, t.Rows[i]), append(items, whole[i])
		}
	}
	t.Rows, t.Items = kept, items
	return err
}

// ofAgent and ofFramework are the tasks of one.
func ofAgent(rows []console.TaskRow, id string) []console.TaskRow {
	return slices.DeleteFunc(slices.Clone(rows), func(r console.TaskRow) bool { return r.AgentID != id })
}

func ofFramework(rows []console.TaskRow, id string) []console.TaskRow {
	return slices.DeleteFunc(slices.Clone(rows), func(r console.TaskRow) bool { return r.FrameworkID != id })
}

// stateName is a state of a task without what all have in common.
func stateName(s mesos.TaskState) string { return strings.TrimPrefix(s.String(), "TASK_") }

func roleOf(rs []*mesos.Resource) string {
	for _, r := range rs {
		if role := r.GetAllocationInfo().GetRole(); role != "" {
			return role
		}
	}
	return ""
}

func healthy(statuses []*mesos.TaskStatus) string {
	for _, s := range slices.Backward(statuses) {
		if s.Healthy != nil {
			if s.GetHealthy() {
				return "yes"
			}
			return "no"
		}
	}
	return ""
}

func showTask(x *call) error {
	task, err := x.cluster.FindTask(x.ctx(), x.args[0])
	if err != nil {
		return err
	}
	d := &console.Detail{Item: task.Task, Name: task.GetTaskId().GetValue()}
	d.Line("task", task.GetTaskId().GetValue())
	d.Line("name", task.GetName())
	d.Line("state", stateName(task.GetState()))
	if task.Unreachable {
		d.Line("", "its agent cannot be reached: the state may be another")
	}
	d.Linef("framework", "%s %s", cmp.Or(task.Framework, "?"), task.GetFrameworkId().GetValue())
	d.Linef("agent", "%s %s", cmp.Or(task.Hostname, "?"), task.GetAgentId().GetValue())
	d.Line("executor", task.Executor())
	d.Line("container", ContainerName(task.Container()))
	d.Line("user", task.GetUser())
	d.Line("role", roleOf(task.GetResources()))
	d.Line("resources", texts(task.GetResources()))
	for _, name := range slices.Sorted(mapsKeys(task.GetLimits())) {
		d.Linef("limit "+name, "%v", task.GetLimits()[name].GetValue())
	}
	d.Line("healthy", healthy(task.GetStatuses()))
	d.Line("labels", labels(task.GetLabels()))
	for _, n := range networks(task.GetStatuses()) {
		d.Line("address", n)
	}
	d.Line("sandbox", task.Sandbox())
	history := &console.Table{Header: []string{"TIME", "STATE", "MESSAGE"}, Wide: []string{"SOURCE", "REASON", "HEALTHY"}}
	for _, s := range task.GetStatuses() {
		history.Add(console.Stamp(statusTime(s)), stateName(s.GetState()), s.GetMessage(),
			strings.TrimPrefix(s.GetSource().String(), "SOURCE_"), reason(s), healthy([]*mesos.TaskStatus{s}))
	}
	d.Part("HISTORY", history)
	return d.Print(x.Env, x.Context)
}

func statusTime(s *mesos.TaskStatus) time.Time {
	if s.GetTimestamp() == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(s.GetTimestamp() * 1e6))
}

func reason(s *mesos.TaskStatus) string {
	if s.Reason == nil {
		return ""
	}
	return strings.TrimPrefix(s.GetReason().String(), "REASON_")
}

// networks are the addresses of a task.
func networks(statuses []*mesos.TaskStatus) (out []string) {
	for _, s := range slices.Backward(statuses) {
		for _, n := range s.GetContainerStatus().GetNetworkInfos() {
			for _, ip := range n.GetIpAddresses() {
				text := ip.GetIpAddress()
				if n.GetName() != "" {
					text += " in " + n.GetName()
				}
				if !slices.Contains(out, text) {
					out = append(out, text)
				}
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// ContainerName writes a container id with those of its parents, outermost first.
func ContainerName(id *mesos.ContainerID) string {
	if id == nil {
		return ""
	}
	if id.GetParent() != nil {
		return ContainerName(id.GetParent()) + "." + id.GetValue()
	}
	return id.GetValue()
}

// taskKey names a task among those of all frameworks.
type taskKey struct{ framework, task string }

func watchTasks(x *call) error {
	w := newWatch(x, "TIME", "TASK", "STATE", "FRAMEWORK", "HOST", "MESSAGE")
	wanted := map[taskKey]bool{} // whether it lives
	named, err := x.cluster.FindTasks(x.ctx(), x.args)
	if err != nil {
		return err
	}
	for _, t := range named {
		wanted[taskKey{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}] = true
	}
	names := newNames()
	row := func(t *mesos.Task, s *mesos.TaskStatus) error {
		k := taskKey{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}
		if _, ok := wanted[k]; len(wanted) > 0 && !ok {
			return nil
		}
		if len(wanted) > 0 {
			wanted[k] = !console.Terminal(t.GetState())
		}
		if err := w.row(s, clock(statusTime(s)), k.task, stateName(t.GetState()), names.frameworks[k.framework], names.hosts[t.GetAgentId().GetValue()], s.GetMessage()); err != nil {
			return err
		}
		for _, lives := range wanted {
			if lives {
				return nil
			}
		}
		if len(wanted) > 0 {
			return errEnough
		}
		return nil
	}
	known := map[taskKey]*mesos.Task{}
	return w.run(operator.EventsOptions{}, func(ev *clusterdv1.OperatorEvent, first bool) error {
		names.learn(ev)
		switch ev.GetType() {
		case clusterdv1.OperatorEvent_SUBSCRIBED:
			get := ev.GetSubscribed().GetGetState().GetGetTasks()
			// Ended ones count only if they were asked for: by name, or since the stream was lost.
			all := slices.Concat(get.GetTasks(), get.GetUnreachableTasks())
			if len(wanted) > 0 || !first {
				all = append(all, get.GetCompletedTasks()...)
			}
			for _, t := range all {
				k := taskKey{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}
				was := known[k]
				known[k] = t
				if !first && (was == nil && console.Terminal(t.GetState()) || was != nil && was.GetState() == t.GetState()) {
					continue
				}
				if err := row(t, lastStatus(t)); err != nil {
					return err
				}
			}
		case clusterdv1.OperatorEvent_TASK_ADDED:
			t := ev.GetTaskAdded().GetTask()
			known[taskKey{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}] = t
			return row(t, lastStatus(t))
		case clusterdv1.OperatorEvent_TASK_UPDATED:
			u := ev.GetTaskUpdated()
			k := taskKey{u.GetFrameworkId().GetValue(), u.GetStatus().GetTaskId().GetValue()}
			t := known[k]
			if t == nil {
				t = &mesos.Task{FrameworkId: u.GetFrameworkId(), TaskId: u.GetStatus().GetTaskId(), AgentId: u.GetStatus().GetAgentId()}
				known[k] = t
			}
			t.State = u.GetState().Enum()
			if console.Terminal(u.GetState()) {
				delete(known, k)
			}
			return row(t, u.GetStatus())
		default:
		}
		return nil
	})
}

func lastStatus(t *mesos.Task) *mesos.TaskStatus {
	if n := len(t.GetStatuses()); n > 0 {
		return t.GetStatuses()[n-1]
	}
	return &mesos.TaskStatus{TaskId: t.GetTaskId(), State: t.State, AgentId: t.GetAgentId()}
}

func killTasks(x *call) error {
	filters := x.StringSlice("filter")
	if (len(x.args) == 0) == (len(filters) == 0) {
		return console.Hint(console.Usagef("name tasks, or give --filter"), "%s", console.UsageLine(x.Context))
	}
	policy, err := killPolicy(x)
	if err != nil {
		return err
	}
	tasks, err := chosenTasks(x, filters)
	if err != nil {
		return err
	}
	if len(tasks) == 0 {
		return console.Mark(console.ErrNotFound, errors.New("no task fits"))
	}
	if err := x.confirm("kill %s", taskNames(tasks)); err != nil {
		return err
	}
	kill := func(t console.Task) error {
		if t.Ended || console.Terminal(t.GetState()) {
			return fmt.Errorf("task %s has ended already: %s", t.GetTaskId().GetValue(), stateName(t.GetState()))
		}
		body := map[string]any{
			"framework_id": map[string]string{"value": t.GetFrameworkId().GetValue()},
			"task_id":      map[string]string{"value": t.GetTaskId().GetValue()},
		}
		if policy != nil {
			body["kill_policy"] = policy
		}
		if err := x.cluster.Post(x.ctx(), console.OwnPath+"tasks/kill", body, nil); err != nil {
			return err
		}
		return nil
	}
	err = console.Each(x.Env, tasks, func(t console.Task) string { return t.GetTaskId().GetValue() }, func(t console.Task) error {
		err := kill(t)
		if err == nil && !x.Bool("wait") {
			x.say("killing %s", t.GetTaskId().GetValue())
		}
		return err
	})
	if err != nil || !x.Bool("wait") {
		return err
	}
	return awaitEnd(x, tasks, kill)
}

// killPolicy is nil without --grace.
func killPolicy(x *call) (map[string]any, error) {
	text := x.String("grace")
	if text == "" {
		return nil, nil
	}
	d, err := duration("--grace", text)
	return map[string]any{"grace_period": map[string]int64{"nanoseconds": int64(d)}}, err
}

// chosenTasks are those that are named, or those that fit and live.
func chosenTasks(x *call, filters []string) (tasks []console.Task, err error) {
	if len(filters) == 0 {
		return x.cluster.FindTasks(x.ctx(), x.args)
	}
	rows, err := x.cluster.TaskRows(x.ctx(), false)
	if err != nil {
		return nil, err
	}
	table, rows := taskTable(rows)
	fit, err := table.Fitting(filters)
	if err != nil {
		return nil, err
	}
	for _, i := range fit {
		tasks = append(tasks, rows[i].Task())
	}
	return tasks, nil
}

// taskNames says which tasks are meant, for a question.
func taskNames(tasks []console.Task) string {
	if len(tasks) == 1 {
		return fmt.Sprintf("task %s of framework %s", tasks[0].GetTaskId().GetValue(), cmp.Or(tasks[0].Framework, tasks[0].GetFrameworkId().GetValue()))
	}
	frameworks := map[string]int{}
	for _, t := range tasks {
		frameworks[cmp.Or(t.Framework, t.GetFrameworkId().GetValue())]++
	}
	var parts []string
	for _, f := range slices.Sorted(mapsKeys(frameworks)) {
		parts = append(parts, fmt.Sprintf("%d of %s", frameworks[f], f))
	}
	return fmt.Sprintf("%d tasks (%s)", len(tasks), strings.Join(parts, ", "))
}
