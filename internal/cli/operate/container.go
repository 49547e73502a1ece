package operate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	cliv2 "github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

// askedAtOnce is how many agents are asked at a time.
const askedAtOnce = 16

func containerCommand(e console.Env) *cliv2.Command {
	agentFlag := &cliv2.StringSliceFlag{Name: "agent", Usage: "only on this `AGENT`; repeatable", DefaultText: "all"}
	return noun("container", "look at containers of agents, end them, and clean images up",
		&cliv2.Command{
			Name: "list", Aliases: []string{"ls"}, Usage: "list containers, nested and standalone ones too", Flags: console.OutputFlags(agentFlag),
			Action: connected(e, 0, 0, listContainers),
		},
		&cliv2.Command{
			Name: "show", Usage: "show a container and what it uses", ArgsUsage: "CONTAINER", Flags: console.Flags(agentFlag, console.OutputFlag()),
			Action: connected(e, 1, 1, showContainer),
		},
		&cliv2.Command{
			Name: "kill", Usage: "send containers a signal", ArgsUsage: "CONTAINER...",
			Description: "A task that runs in it fails, as its framework sees it: clusterd task kill ends tasks. Agents end\n" +
				"nested and standalone containers so, and none of executors.",
			Flags:  console.Flags(agentFlag, &cliv2.StringFlag{Name: "signal", Usage: "`SIGNAL`, by name or number", Value: "KILL"}, console.YesFlag()),
			Action: connected(e, 1, -1, killContainers),
		},
		&cliv2.Command{
			Name: "prune-images", Usage: "delete images on agents that no container uses", ArgsUsage: "AGENT...",
			Flags: console.Flags(
				&cliv2.StringSliceFlag{Name: "exclude", Usage: "keep this docker `IMAGE`; repeatable"},
				console.YesFlag(),
			),
			Action: connected(e, 1, -1, pruneImages),
		},
	)
}

// container is one with the agent that has it.
type container struct {
	*agent.Response_GetContainers_Container
	agent *agentInfo
}

func (c container) name() string { return ContainerName(c.GetContainerId()) }

// getContainers asks the agents that --agent names, or all. Those that do not answer are
// told of and left out, unless none answers.
func getContainers(x *call) ([]container, error) {
	var agents []*agentInfo
	for _, ref := range console.Commas(x.StringSlice("agent")) {
		a, err := x.cluster.FindAgent(x.ctx(), ref)
		if err != nil {
			return nil, err
		}
		agents = append(agents, a)
	}
	if len(agents) == 0 {
		res, err := x.cluster.Ask(x.ctx(), master.Call_GET_AGENTS)
		if err != nil {
			return nil, err
		}
		agents = res.GetGetAgents().GetAgents()
	}
	bar := console.Progress(x.Env, "asking agents", int64(len(agents)))
	answers, errs := make([][]container, len(agents)), make([]error, len(agents))
	limit := make(chan struct{}, askedAtOnce)
	var wg sync.WaitGroup
	for i, a := range agents {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit; bar.Add(1) }()
			res, err := x.cluster.Agent(agentID(a)).Call(console.Harmlessly(x.ctx()), &agent.Call{
				Type:          agent.Call_GET_CONTAINERS.Enum(),
				GetContainers: &agent.Call_GetContainers{ShowNested: new(true), ShowStandalone: new(true)},
			})
			errs[i] = x.cluster.Explain(err)
			for _, c := range res.GetGetContainers().GetContainers() {
				answers[i] = append(answers[i], container{c, a})
			}
		})
	}
	wg.Wait()
	bar.Done()
	failed := 0
	for i, err := range errs {
		if err == nil {
			continue
		}
		if failed++; failed == len(agents) {
			return nil, fmt.Errorf("agent %s: %w", agentName(agents[i]), err)
		}
		fmt.Fprintf(x.Err, "clusterd: warning: agent %s: %v\n", agentName(agents[i]), err)
	}
	all := slices.Concat(answers...)
	slices.SortStableFunc(all, func(a, b container) int {
		return cmp.Or(cmp.Compare(a.agent.GetAgentInfo().GetHostname(), b.agent.GetAgentInfo().GetHostname()), cmp.Compare(a.name(), b.name()))
	})
	return all, nil
}

func listContainers(x *call) error {
	all, err := getContainers(x)
	if err != nil {
		return err
	}
	names, err := x.cluster.FrameworkNames(x.ctx())
	if err != nil {
		return err
	}
	t := &console.Table{
		Header: []string{"CONTAINER", "HOST", "FRAMEWORK", "EXECUTOR", "CPUS", "MEM"},
		Wide:   []string{"MEM LIMIT", "PROCESSES", "PID", "ADDRESS", "AGENT ID", "FRAMEWORK ID"},
	}
	items := []*agent.Response_GetContainers_Container{}
	for _, c := range all {
		stats := c.GetResourceStatistics()
		cpus, mem, limit, processes, pid := "", "", "", "", ""
		if stats != nil {
			if stats.GetCpusLimit() > 0 {
				cpus = console.Number(stats.GetCpusLimit())
			}
			mem, limit = console.Bytes(cmp.Or(stats.GetMemTotalBytes(), stats.GetMemRssBytes())), memLimit(stats)
			if stats.Processes != nil { // else nobody counts them: no cgroups, or --no-cgroups_cpu_enable_pids_and_tids_count
				processes = fmt.Sprint(stats.GetProcesses())
			}
		}
		if p := c.GetContainerStatus().GetExecutorPid(); p > 0 {
			pid = fmt.Sprint(p)
		}
		t.Add(c.name(), c.agent.GetAgentInfo().GetHostname(), names[c.GetFrameworkId().GetValue()], c.GetExecutorId().GetValue(), cpus, mem,
			limit, processes, pid, strings.Join(networks([]*mesos.TaskStatus{{ContainerStatus: c.GetContainerStatus()}}), " "),
			agentID(c.agent), c.GetFrameworkId().GetValue())
		items = append(items, c.Response_GetContainers_Container)
	}
	t.Items = items
	return x.print(t)
}

// memLimit is empty without a limit.
func memLimit(s *mesos.ResourceStatistics) string {
	if s.GetMemLimitBytes() == 0 {
		return ""
	}
	return console.Bytes(s.GetMemLimitBytes())
}

// findContainer finds the container that a person means: by its id, alone or with those of
// its parents, or by the beginning of one.
func findContainer(all []container, ref string) (container, error) {
	for _, fits := range []func(c container) bool{
		func(c container) bool { return c.name() == ref || c.GetContainerId().GetValue() == ref },
		func(c container) bool { return strings.HasPrefix(c.name(), ref) },
		func(c container) bool { return strings.HasPrefix(c.GetContainerId().GetValue(), ref) },
	} {
		var found []container
		for _, c := range all {
			if fits(c) {
				found = append(found, c)
			}
		}
		// The beginning of a container's name is that of all in it.
		found = slices.DeleteFunc(found, func(c container) bool {
			return slices.ContainsFunc(found, func(parent container) bool { return strings.HasPrefix(c.name(), parent.name()+".") })
		})
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return container{}, console.Hint(console.Usagef("%d containers fit %q", len(found), ref), "write more of the id")
		}
	}
	return container{}, console.Hint(console.Mark(console.ErrNotFound, fmt.Errorf("no container %q", ref)), "clusterd container list shows them")
}

func showContainer(x *call) error {
	all, err := getContainers(x)
	if err != nil {
		return err
	}
	c, err := findContainer(all, x.args[0])
	if err != nil {
		return err
	}
	d := &console.Detail{Item: c.Response_GetContainers_Container, Name: c.name()}
	d.Line("container", c.name())
	d.Line("agent", agentName(c.agent))
	d.Line("framework", c.GetFrameworkId().GetValue())
	d.Line("executor", c.GetExecutorId().GetValue())
	if pid := c.GetContainerStatus().GetExecutorPid(); pid > 0 {
		d.Linef("pid", "%d", pid)
	}
	for _, n := range networks([]*mesos.TaskStatus{{ContainerStatus: c.GetContainerStatus()}}) {
		d.Line("address", n)
	}
	if s := c.GetResourceStatistics(); s != nil {
		if s.GetCpusLimit() > 0 {
			d.Line("cpus", console.Number(s.GetCpusLimit()))
		}
		d.Linef("cpu time", "%.1f s user, %.1f s system", s.GetCpusUserTimeSecs(), s.GetCpusSystemTimeSecs())
		if s.GetCpusNrThrottled() > 0 {
			d.Linef("throttled", "%d times, %.1f s", s.GetCpusNrThrottled(), s.GetCpusThrottledTimeSecs())
		}
		d.Linef("memory", "%s of %s", console.Bytes(cmp.Or(s.GetMemTotalBytes(), s.GetMemRssBytes())), cmp.Or(memLimit(s), "no limit"))
		if s.GetProcesses() > 0 {
			d.Linef("processes", "%d, %d threads", s.GetProcesses(), s.GetThreads())
		}
		if s.DiskUsedBytes != nil {
			d.Linef("disk", "%s of %s", console.Bytes(s.GetDiskUsedBytes()), console.Bytes(s.GetDiskLimitBytes()))
		}
	}
	return d.Print(x.Env, x.Context)
}

// signal reads a signal: 9, KILL or SIGKILL.
func signal(text string) (int32, error) {
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return int32(n), nil
	}
	var n int
	if _, err := fmt.Sscanf(text, "%d", &n); err == nil && n > 0 && n < 65 && fmt.Sprint(n) == text {
		return int32(syscall.Signal(n)), nil
	}
	return 0, console.Usagef("--signal: no signal %q", text)
}

func killContainers(x *call) error {
	number, err := signal(x.String("signal"))
	if err != nil {
		return err
	}
	all, err := getContainers(x)
	if err != nil {
		return err
	}
	var found []container
	var names []string
	for _, ref := range x.args {
		c, err := findContainer(all, ref)
		if err != nil {
			return err
		}
		found = append(found, c)
		names = append(names, c.name()+" on "+c.agent.GetAgentInfo().GetHostname())
	}
	if err := x.confirm("send signal %s to container %s", x.String("signal"), strings.Join(names, ", ")); err != nil {
		return err
	}
	return console.Each(x.Env, found, container.name, func(c container) error {
		_, err := x.cluster.Agent(agentID(c.agent)).Call(x.ctx(), &agent.Call{
			Type:          agent.Call_KILL_CONTAINER.Enum(),
			KillContainer: &agent.Call_KillContainer{ContainerId: c.GetContainerId(), Signal: &number},
		})
		return x.done(x.cluster.Explain(err), "sent %s to %s", x.String("signal"), c.name())
	})
}

func pruneImages(x *call) error {
	agents, err := findAgents(x)
	if err != nil {
		return err
	}
	var keep []*mesos.Image
	for _, name := range x.StringSlice("exclude") {
		keep = append(keep, &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: &name}})
	}
	if err := x.confirm("delete images that are not in use on %s", describeAgents(x, agents)); err != nil {
		return err
	}
	return console.Each(x.Env, agents, agentName, func(a *agentInfo) error {
		_, err := x.cluster.Agent(agentID(a)).Call(x.ctx(), &agent.Call{
			Type: agent.Call_PRUNE_IMAGES.Enum(), PruneImages: &agent.Call_PruneImages{ExcludedImages: keep},
		})
		return x.done(x.cluster.Explain(err), "pruned images on %s", agentName(a))
	})
}
