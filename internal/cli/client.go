package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"clusterd/api/client/operator"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// getState asks the leader for everything.
func getState(ctx context.Context, c *cliv2.Context) (*master.Response_GetState, error) {
	opts, err := clientOptions(c)
	if err != nil {
		return nil, err
	}
	opts.CallTimeout = 10 * time.Second
	m, err := operator.NewMaster(masters(c), operator.Options{Options: opts})
	if err != nil {
		return nil, err
	}
	res, err := m.Get(ctx, master.Call_GET_STATE)
	if err != nil {
		return nil, explain(err, c)
	}
	return res.GetGetState(), nil
}

// table is a console.Table with the one message or value that JSON shows.
type table struct {
	header []string
	wide   []string // further columns of -o wide
	rows   [][]string
	msg    proto.Message
	value  any // what -o json shows if it is no message
}

func (t *table) print(e env, c *cliv2.Context) error {
	items := t.value
	if t.msg != nil {
		items = t.msg
	}
	out := &console.Table{Header: t.header, Wide: t.wide, Rows: t.rows, Items: items}
	return out.Print(e, c)
}

// plain prints it as a table, whatever the flags say.
func (t *table) plain(e env) error {
	return (&console.Table{Header: t.header, Wide: t.wide, Rows: t.rows}).Write(e.Out)
}

func writeIndented(w io.Writer, b []byte) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(json.RawMessage(b))
}

func scalar(rs []*mesos.Resource, name string) float64 { return console.Scalar(rs, name) }

func number(v float64) string { return console.Number(v) }

func age(t time.Time) string { return console.Age(t) }

func fromTimeInfo(t *mesos.TimeInfo) time.Time { return console.Time(t) }

func psCommand(e env) *cliv2.Command {
	return &cliv2.Command{
		Name:  "ps",
		Usage: "list tasks",
		Flags: clientFlags(outputFlag(), &cliv2.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also those that have ended"}),
		Action: func(c *cliv2.Context) error {
			state, err := getState(c.Context, c)
			if err != nil {
				return err
			}
			return taskTable(state, c.Bool("all")).print(e, c)
		},
	}
}

func taskTable(state *master.Response_GetState, all bool) *table {
	frameworks, hosts := map[string]string{}, map[string]string{}
	for _, f := range slices.Concat(state.GetGetFrameworks().GetFrameworks(), state.GetGetFrameworks().GetCompletedFrameworks()) {
		frameworks[f.GetFrameworkInfo().GetId().GetValue()] = f.GetFrameworkInfo().GetName()
	}
	for _, a := range state.GetGetAgents().GetAgents() {
		hosts[a.GetAgentInfo().GetId().GetValue()] = a.GetAgentInfo().GetHostname()
	}
	get := state.GetGetTasks()
	tasks := slices.Concat(get.GetTasks(), get.GetUnreachableTasks())
	if all {
		tasks = append(tasks, get.GetCompletedTasks()...)
	}
	slices.SortStableFunc(tasks, func(a, b *mesos.Task) int {
		return cmp.Or(lastChange(a).Compare(lastChange(b)), cmp.Compare(a.GetTaskId().GetValue(), b.GetTaskId().GetValue()))
	})
	t := &table{
		header: []string{"TASK", "STATE", "FRAMEWORK", "HOST", "CPUS", "MEM", "SINCE"},
		wide:   []string{"NAME", "EXECUTOR", "AGENT ID", "FRAMEWORK ID"},
		msg:    get,
	}
	for _, task := range tasks {
		id, agent := task.GetTaskId().GetValue(), task.GetAgentId().GetValue()
		t.rows = append(t.rows, []string{
			id, strings.TrimPrefix(task.GetState().String(), "TASK_"),
			cmp.Or(frameworks[task.GetFrameworkId().GetValue()], "-"), cmp.Or(hosts[agent], "-"),
			number(scalar(task.GetResources(), "cpus")), number(scalar(task.GetResources(), "mem")), age(lastChange(task)),
			task.GetName(), cmp.Or(task.GetExecutorId().GetValue(), id), agent, task.GetFrameworkId().GetValue(),
		})
	}
	return t
}

// lastChange is when a task's newest status was made.
func lastChange(t *mesos.Task) time.Time {
	if n := len(t.GetStatuses()); n > 0 {
		return time.UnixMicro(int64(t.GetStatuses()[n-1].GetTimestamp() * 1e6))
	}
	return time.Time{}
}

func agentsCommand(e env) *cliv2.Command {
	return &cliv2.Command{
		Name:  "agents",
		Usage: "list agents",
		Flags: clientFlags(outputFlag()),
		Action: func(c *cliv2.Context) error {
			state, err := getState(c.Context, c)
			if err != nil {
				return err
			}
			t := &table{
				header: []string{"AGENT", "HOST", "STATE", "CPUS", "MEM", "DISK", "SINCE"},
				wide:   []string{"ADDRESS", "VERSION"},
				msg:    state.GetGetAgents(),
			}
			for _, a := range state.GetGetAgents().GetAgents() {
				since := max(a.GetRegisteredTime().GetNanoseconds(), a.GetReregisteredTime().GetNanoseconds())
				use := func(name string) string {
					return number(scalar(a.GetAllocatedResources(), name)) + "/" + number(scalar(a.GetTotalResources(), name))
				}
				_, address, _ := strings.Cut(a.GetPid(), "@")
				t.rows = append(t.rows, []string{
					a.GetAgentInfo().GetId().GetValue(), a.GetAgentInfo().GetHostname(), agentState(a),
					use("cpus"), use("mem"), use("disk"), age(time.Unix(0, since)), address, a.GetVersion(),
				})
			}
			for _, info := range state.GetGetAgents().GetRecoveredAgents() {
				t.rows = append(t.rows, []string{
					info.GetId().GetValue(), info.GetHostname(), "recovered", "-", "-", "-", "-", "-", "-",
				})
			}
			return t.print(e, c)
		},
	}
}

func agentState(a *master.Response_GetAgents_Agent) string {
	switch {
	case a.GetDrainInfo() != nil:
		return strings.ToLower(a.GetDrainInfo().GetState().String())
	case a.GetDeactivated():
		return "deactivated"
	case a.GetActive():
		return "active"
	}
	return "disconnected"
}

func frameworksCommand(e env) *cliv2.Command {
	return &cliv2.Command{
		Name:  "frameworks",
		Usage: "list frameworks",
		Flags: clientFlags(outputFlag(), &cliv2.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also those that have ended"}),
		Action: func(c *cliv2.Context) error {
			state, err := getState(c.Context, c)
			if err != nil {
				return err
			}
			return frameworkTable(state, c.Bool("all")).print(e, c)
		},
	}
}

func frameworkTable(state *master.Response_GetState, all bool) *table {
	tasks := map[string]int{}
	for _, t := range state.GetGetTasks().GetTasks() {
		tasks[t.GetFrameworkId().GetValue()]++
	}
	t := &table{
		header: []string{"FRAMEWORK", "NAME", "STATE", "ROLES", "TASKS", "CPUS", "MEM", "SINCE"},
		wide:   []string{"USER", "HOST", "PRINCIPAL", "UI"},
		msg:    state.GetGetFrameworks(),
	}
	add := func(f *master.Response_GetFrameworks_Framework, status string) {
		info := f.GetFrameworkInfo()
		roles := info.GetRoles()
		if len(roles) == 0 {
			roles = []string{info.GetRole()}
		}
		t.rows = append(t.rows, []string{
			info.GetId().GetValue(), info.GetName(), status, strings.Join(roles, ","), fmt.Sprint(tasks[info.GetId().GetValue()]),
			number(scalar(f.GetAllocatedResources(), "cpus")), number(scalar(f.GetAllocatedResources(), "mem")),
			age(fromTimeInfo(f.GetRegisteredTime())),
			info.GetUser(), cmp.Or(info.GetHostname(), "-"), cmp.Or(info.GetPrincipal(), "-"), cmp.Or(info.GetWebuiUrl(), "-"),
		})
	}
	for _, f := range state.GetGetFrameworks().GetFrameworks() {
		switch {
		case f.GetRecovered():
			add(f, "recovered")
		case f.GetActive():
			add(f, "active")
		case f.GetConnected():
			add(f, "inactive")
		default:
			add(f, "disconnected")
		}
	}
	if all {
		for _, f := range state.GetGetFrameworks().GetCompletedFrameworks() {
			add(f, "completed")
		}
	}
	return t
}

// pollInterval is how often something is looked at that tells nobody when it changes.
const pollInterval = 100 * time.Millisecond
