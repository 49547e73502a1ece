package console

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/flags"
)

// Task is a task with what its cluster says of it.
type Task struct {
	*mesos.Task
	// Framework is the name of its framework, Hostname that of its agent; empty if they
	// are gone.
	Framework, Hostname string
	// Ended and Unreachable say which list of the master it stands in, if not among the
	// tasks that live.
	Ended, Unreachable bool
}

// Executor is the id of the executor that runs it: the task's own where the command
// executor does.
func (t *Task) Executor() string {
	return cmp.Or(t.GetExecutorId().GetValue(), t.GetTaskId().GetValue())
}

// Container is the id of the container that runs it, nil before it has one.
func (t *Task) Container() *mesos.ContainerID {
	for _, s := range slices.Backward(t.GetStatuses()) {
		if id := s.GetContainerStatus().GetContainerId(); id != nil {
			return id
		}
	}
	return nil
}

// Sandbox is where its executor's sandbox is among its agent's files.
func (t *Task) Sandbox() string {
	return "/frameworks/" + t.GetFrameworkId().GetValue() + "/executors/" + t.Executor() + "/runs/latest"
}

// Tasks are all tasks that the leader knows: those that live, the unreachable, and the
// ended.
func (cl *Cluster) Tasks(ctx context.Context) ([]Task, error) {
	get, err := cl.Ask(ctx, master.Call_GET_TASKS)
	if err != nil {
		return nil, err
	}
	frameworks, err := cl.FrameworkNames(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := cl.Hostnames(ctx)
	if err != nil {
		return nil, err
	}
	var out []Task
	add := func(tasks []*mesos.Task, ended, unreachable bool) {
		for _, t := range tasks {
			out = append(out, Task{
				Task: t, Framework: frameworks[t.GetFrameworkId().GetValue()], Hostname: hosts[t.GetAgentId().GetValue()],
				Ended: ended, Unreachable: unreachable,
			})
		}
	}
	all := get.GetGetTasks()
	add(all.GetPendingTasks(), false, false)
	add(all.GetTasks(), false, false)
	add(all.GetUnreachableTasks(), false, true)
	add(all.GetCompletedTasks(), true, false)
	add(all.GetOrphanTasks(), false, false)
	return out, nil
}

// FrameworkNames are the names of frameworks by id, of those that have ended too.
func (cl *Cluster) FrameworkNames(ctx context.Context) (map[string]string, error) {
	res, err := cl.Ask(ctx, master.Call_GET_FRAMEWORKS)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, f := range slices.Concat(res.GetGetFrameworks().GetCompletedFrameworks(), res.GetGetFrameworks().GetFrameworks()) {
		names[f.GetFrameworkInfo().GetId().GetValue()] = f.GetFrameworkInfo().GetName()
	}
	return names, nil
}

// Hostnames are the hosts of agents by id.
func (cl *Cluster) Hostnames(ctx context.Context) (map[string]string, error) {
	res, err := cl.Ask(ctx, master.Call_GET_AGENTS)
	if err != nil {
		return nil, err
	}
	hosts := map[string]string{}
	for _, a := range res.GetGetAgents().GetRecoveredAgents() {
		hosts[a.GetId().GetValue()] = a.GetHostname()
	}
	for _, a := range res.GetGetAgents().GetAgents() {
		hosts[a.GetAgentInfo().GetId().GetValue()] = a.GetAgentInfo().GetHostname()
	}
	return hosts, nil
}

// TasksHelp explains references to tasks, for commands that take several.
const TasksHelp = "TASK is an id, a name, or the beginning of an id; FRAMEWORK/TASK is one of that framework. With * at\n" +
	"its end it is all tasks whose id or name begins so, and 'FRAMEWORK/*' all of a framework. Those that\n" +
	"have ended are meant only where none lives."

// Choose finds the task of a reference. That is an id, a name, or the beginning of an id, tried
// in this order; behind FRAMEWORK/ (its name, its id or the beginning of that) if several
// frameworks have it. Of those that fit equally well the ones that live are meant. It must be
// one.
func Choose(tasks []Task, ref string) (Task, error) {
	found, err := fitting(tasks, ref)
	switch {
	case err != nil:
		return Task{}, err
	case len(found) > 1:
		return Task{}, ambiguous("tasks", ref, found, func(t Task) string {
			return t.Framework + "/" + t.GetTaskId().GetValue()
		})
	}
	return found[0], nil
}

// Everything is at the end of a reference to all tasks whose id or name begins with what is
// before it; FRAMEWORK/* are all of a framework.
const Everything = "*"

// ChooseAll finds the tasks of references of commands that take several: one task each, as
// [Choose] finds it, or with a * at the end all that fit. A task that two references mean
// counts once.
func ChooseAll(tasks []Task, refs []string) ([]Task, error) {
	return chooseAll(refs, func(int) []Task { return tasks })
}

// chooseAll is ChooseAll with tasks for each reference.
func chooseAll(refs []string, among func(i int) []Task) ([]Task, error) {
	type key struct{ framework, task string }
	var out []Task
	seen := map[key]bool{}
	for i, ref := range refs {
		tasks := among(i)
		var found []Task
		var err error
		if strings.HasSuffix(ref, Everything) {
			found, err = fitting(tasks, ref)
		} else {
			found = make([]Task, 1)
			if found[0], err = Choose(tasks, ref); err != nil && Code(err) == ExitUsage && ref != "" {
				err = Hint(err, "write more of the id, or '%s%s' for all of them", ref, Everything)
			}
		}
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			k := key{t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue()}
			if !seen[k] {
				seen[k] = true
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// ChooseFramework is the id of the framework of all tasks that a reference fits.
func ChooseFramework(tasks []Task, ref string) (string, error) {
	found, err := fitting(tasks, ref)
	if err != nil {
		return "", err
	}
	for _, t := range found[1:] {
		if t.GetFrameworkId().GetValue() != found[0].GetFrameworkId().GetValue() {
			return "", ambiguous("tasks of several frameworks", ref, found, func(t Task) string {
				return t.Framework + "/" + t.GetTaskId().GetValue()
			})
		}
	}
	return found[0].GetFrameworkId().GetValue(), nil
}

// fitting are the tasks that a reference fits equally well, one at least.
func fitting(tasks []Task, ref string) ([]Task, error) {
	want, inFramework := ref, ""
	if f, id, ok := strings.Cut(ref, "/"); ok {
		inFramework, want = f, id
	}
	begin, many := strings.CutSuffix(want, Everything)
	if want == "" || many && begin == "" && inFramework == "" {
		return nil, nothing("task", ref)
	}
	tests := []func(t Task) bool{
		func(t Task) bool { return t.GetTaskId().GetValue() == want },
		func(t Task) bool { return t.GetName() == want },
		func(t Task) bool { return strings.HasPrefix(t.GetTaskId().GetValue(), want) },
	}
	if many {
		tests = append(tests[:2], func(t Task) bool {
			return strings.HasPrefix(t.GetTaskId().GetValue(), begin) || strings.HasPrefix(t.GetName(), begin)
		})
	}
	for _, fits := range tests {
		var found, living []Task
		for _, t := range tasks {
			if inFramework != "" && t.Framework != inFramework && !strings.HasPrefix(t.GetFrameworkId().GetValue(), inFramework) || !fits(t) {
				continue
			}
			found = append(found, t)
			if !t.Ended {
				living = append(living, t)
			}
		}
		switch {
		case len(living) > 0:
			return living, nil
		case len(found) > 0:
			return found, nil
		}
	}
	var ids []string
	for _, t := range tasks[:min(len(tasks), maxCompared)] {
		ids = append(ids, t.GetTaskId().GetValue(), t.GetName())
	}
	return nil, missing("task", ref, ids, "clusterd task list --all shows those that are known")
}

// maxCompared bounds how many tasks a wrong reference is compared with.
const maxCompared = 10_000

// ambiguous says which of several may be meant.
func ambiguous[T any](what, ref string, found []T, name func(T) string) error {
	const shown = 5
	var names []string
	for _, f := range found[:min(shown, len(found))] {
		names = append(names, name(f))
	}
	count, more := fmt.Sprint(len(found)), ""
	if len(found) >= maxFound {
		count = "at least " + count
	}
	if len(found) > shown {
		more = fmt.Sprintf(" and %d more", len(found)-shown)
	}
	return Hint(Usagef("%s %s fit %q: %s%s", count, what, ref, strings.Join(names, ", "), more), "write more of the id")
}

// nothing refuses what every id begins with: it is a variable of a script that is not set, and
// what lives alone must not be killed for it.
func nothing(what, ref string) error {
	if strings.HasSuffix(ref, Everything) {
		return Hint(Usagef("%q would be every %s there is", ref, what), "is a variable not set?")
	}
	return Hint(Usagef("%q is no %s: it is empty", ref, what), "is a variable not set?")
}

// missing says that nothing fits, and what would nearly.
func missing(what, ref string, known []string, hint string) error {
	err := Mark(ErrNotFound, fmt.Errorf("no %s %q", what, ref))
	if best := flags.Nearest(ref, known); best != "" {
		return Hint(err, "did you mean %q? %s", best, hint)
	}
	return Hint(err, "%s", hint)
}

// FindAgent finds the agent that a person means: by its id, the end of it ("S3"), its
// hostname, or the beginning of its id.
func (cl *Cluster) FindAgent(ctx context.Context, ref string) (*master.Response_GetAgents_Agent, error) {
	res, err := cl.Ask(ctx, master.Call_GET_AGENTS)
	if err != nil {
		return nil, err
	}
	agents := res.GetGetAgents().GetAgents()
	for _, a := range res.GetGetAgents().GetRecoveredAgents() {
		agents = append(agents, &master.Response_GetAgents_Agent{AgentInfo: a})
	}
	return ChooseAgent(agents, ref)
}

// ChooseAgent is [Cluster.FindAgent] among agents that are known already.
func ChooseAgent(agents []*master.Response_GetAgents_Agent, ref string) (*master.Response_GetAgents_Agent, error) {
	id := func(a *master.Response_GetAgents_Agent) string { return a.GetAgentInfo().GetId().GetValue() }
	host := func(a *master.Response_GetAgents_Agent) string { return a.GetAgentInfo().GetHostname() }
	var known []string
	for _, a := range agents {
		known = append(known, id(a), host(a))
	}
	return choose("agents", ref, agents, func(a *master.Response_GetAgents_Agent) string { return host(a) + " " + id(a) },
		missing("agent", ref, known, "clusterd agent list shows them"),
		func(a *master.Response_GetAgents_Agent) bool { return id(a) == ref },
		func(a *master.Response_GetAgents_Agent) bool { return host(a) == ref },
		func(a *master.Response_GetAgents_Agent) bool { return strings.HasSuffix(id(a), "-"+ref) },
		func(a *master.Response_GetAgents_Agent) bool { return strings.HasPrefix(id(a), ref) },
	)
}

// FindFramework finds the framework that a person means: by its id, its name, the end of
// its id ("0003") or the beginning, or a part of its name. Those that have ended come last.
func (cl *Cluster) FindFramework(ctx context.Context, ref string) (*master.Response_GetFrameworks_Framework, error) {
	res, err := cl.Ask(ctx, master.Call_GET_FRAMEWORKS)
	if err != nil {
		return nil, err
	}
	get := res.GetGetFrameworks()
	f, err := chooseFramework(get.GetFrameworks(), ref)
	if Code(err) == ExitNotFound {
		if ended, again := chooseFramework(get.GetCompletedFrameworks(), ref); Code(again) != ExitNotFound {
			return ended, again
		}
	}
	return f, err
}

func chooseFramework(frameworks []*master.Response_GetFrameworks_Framework, ref string) (*master.Response_GetFrameworks_Framework, error) {
	type framework = *master.Response_GetFrameworks_Framework
	id := func(f framework) string { return f.GetFrameworkInfo().GetId().GetValue() }
	name := func(f framework) string { return f.GetFrameworkInfo().GetName() }
	var known []string
	for _, f := range frameworks {
		known = append(known, id(f), name(f))
	}
	return choose("frameworks", ref, frameworks, func(f framework) string { return name(f) + " " + id(f) },
		missing("framework", ref, known, "clusterd framework list --all shows those that are known"),
		func(f framework) bool { return id(f) == ref },
		func(f framework) bool { return name(f) == ref },
		func(f framework) bool { return strings.HasSuffix(id(f), "-"+ref) },
		func(f framework) bool { return strings.HasPrefix(id(f), ref) },
		func(f framework) bool { return strings.Contains(name(f), ref) },
	)
}

// choose returns the one that fits by the first test that any fits.
func choose[T any](what, ref string, all []T, name func(T) string, none error, tests ...func(T) bool) (T, error) {
	var zero T
	if ref == "" {
		return zero, nothing(strings.TrimSuffix(what, "s"), ref)
	}
	for _, test := range tests {
		var found []T
		for _, v := range all {
			if test(v) {
				found = append(found, v)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return zero, ambiguous(what, ref, found, name)
		}
	}
	return zero, none
}
