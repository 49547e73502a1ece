package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
	"clusterd/internal/registryapi"
)

// Bounds beyond which something is said.
const (
	maxSkew       = 3 * time.Second
	longStaging   = 5 * time.Minute
	longKilling   = 10 * time.Minute
	longDraining  = time.Hour
	longHeld      = time.Minute
	soonExpired   = 30 * 24 * time.Hour
	manyQueued    = 1000
	maxAskedAgain = 200 // agents and frameworks that are asked one by one
	maxNamed      = 5   // objects that a finding names
)

// clusterChecks are the checks of a cluster.
var clusterChecks = []check[*picture]{
	{"quorum", "whether masters may fail", checkQuorum},
	{"versions", "whether all run the same version", checkVersions},
	{"skew", "whether the clocks agree", checkSkew},
	{"agents", "agents that are not there or not in use", checkAgents},
	{"frameworks", "frameworks that are away", checkFrameworks},
	{"starving", "frameworks that get nothing, and why", checkStarving},
	{"offers", "offers that nobody answers", checkOffers},
	{"quota", "whether the guarantees can be kept", checkQuota},
	{"tasks", "tasks that hang", checkTasks},
	{"certificate", "when the leader's certificate expires", checkCertificate},
	{"registry", "what waits to be written", checkRegistry},
	{"readers", "readers of events that were cut off", checkReaders},
}

// some names a few of many.
func some(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}

// or is the findings, or that all is well.
func or(found []Finding, format string, args ...any) []Finding {
	if len(found) == 0 {
		return good(format, args...)
	}
	return found
}

func checkQuorum(_ context.Context, p *picture) []Finding {
	var found []Finding
	voters := 0
	for _, m := range p.registry.Members {
		if m.Voter {
			voters++
		}
		if m.Health == registryapi.Unhealthy || m.Known && !m.Alive {
			found = append(found, bad(Problem, fmt.Sprintf("master %s (%s) does not answer", m.ID, m.Address), "the others carry on; fewer of them may fail", "start it again; if it is gone for good: clusterd registry remove "+m.ID)...)
		} else if !m.Voter {
			found = append(found, bad(Note, fmt.Sprintf("master %s does not vote yet", m.ID), "it catches up with the log first", "")...)
		}
	}
	for _, m := range p.registry.Others {
		found = append(found, bad(Warning, fmt.Sprintf("master %s (%s) is no member", m.ID, m.Address), "it is there, but does not count", fmt.Sprintf("clusterd registry add %s %s", m.ID, m.Address))...)
	}
	switch {
	case voters == 1:
		found = append(found, bad(Warning, "there is one master", "if it fails nobody leads until it is back", "three masters: --bootstrap_expect=3, or clusterd master --join=HOST on two more")...)
	case p.registry.Tolerates == 0:
		found = append(found, bad(Problem, fmt.Sprintf("of %d masters none may fail any more", voters), "with the next one nobody leads, and nothing is launched", "bring back the masters above")...)
	case voters%2 == 0:
		found = append(found, bad(Note, fmt.Sprintf("%d masters vote", voters), fmt.Sprintf("an even number bears no more failures than %d", voters-1), "add one, or remove one")...)
	}
	return or(found, "%d masters, %d may fail, term %d", voters, p.registry.Tolerates, p.registry.Term)
}

func checkVersions(_ context.Context, p *picture) []Finding {
	var found []Finding
	builds, versions := map[string]int{}, map[string]int{}
	for _, m := range p.registry.Members {
		if m.Build != "" {
			builds[m.Build]++
		}
	}
	for _, a := range p.agents.GetAgents() {
		versions[a.GetVersion()]++
	}
	if len(builds) > 1 {
		found = append(found, bad(Warning, "masters run "+tally(builds), "during an upgrade that is well; new kinds of changes wait until all have them", "finish the upgrade, the leader last")...)
	}
	if len(versions) > 1 {
		found = append(found, bad(Note, "agents run "+tally(versions), "during an upgrade that is well", "finish the upgrade")...)
	}
	return or(found, "masters %s; agents %s", tally(builds), tally(versions))
}

func tally(counts map[string]int) string {
	if len(counts) == 0 {
		return "unknown"
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s (%d)", v, counts[v]))
	}
	return strings.Join(parts, ", ")
}

func checkSkew(ctx context.Context, p *picture) []Finding {
	const do = "chrony or systemd-timesyncd on the hosts above"
	var mu sync.Mutex
	var off []string
	asked := p.agents.GetAgents()
	asked = asked[:min(len(asked), maxAskedAgain)]
	atOnce(len(asked), func(i int) {
		a := asked[i]
		skew, err := p.agentClock(ctx, a.GetAgentInfo().GetId().GetValue())
		if err != nil || (skew-p.skew).Abs() <= maxSkew {
			return // who does not answer is another check's
		}
		mu.Lock()
		defer mu.Unlock()
		off = append(off, fmt.Sprintf("%s by %s", a.GetAgentInfo().GetHostname(), (skew-p.skew).Round(time.Second)))
	})
	slices.Sort(off)
	var found []Finding
	if p.skew.Abs() > maxSkew {
		found = bad(Warning, fmt.Sprintf("the leader's clock and this host's differ by %s", p.skew.Round(time.Second)), "tokens and certificates may be refused", do)
	}
	if len(off) > 0 {
		found = append(found, bad(Warning, "clocks of agents differ from the leader's: "+some(off), "times of tasks cannot be compared, and tokens may be refused", do)...)
	}
	return or(found, "the leader and %s agree", console.Plural(len(asked), "agent"))
}

func checkAgents(_ context.Context, p *picture) []Finding {
	var found []Finding
	var away, unused, draining []string
	for _, a := range p.agents.GetAgents() {
		name := a.GetAgentInfo().GetHostname()
		switch d := a.GetDrainInfo(); {
		case d != nil:
			since := time.Unix(0, a.GetEstimatedDrainStartTime().GetNanoseconds())
			if d.GetState() == mesos.DrainState_DRAINING && p.now.Sub(since) > longDraining {
				draining = append(draining, fmt.Sprintf("%s for %s", name, console.Duration(p.now.Sub(since))))
			}
		case a.GetDeactivated():
			unused = append(unused, name)
		case !a.GetActive():
			away = append(away, name)
		}
	}
	if len(p.agents.GetAgents()) == 0 {
		found = append(found, bad(Warning, "there are no agents", "nothing can run", "clusterd agent --join=HOST on the machines that shall work")...)
	}
	if len(away) > 0 {
		found = append(found, bad(Warning, "disconnected: "+some(away), "their tasks go on; after --agent_reregister_timeout they are unreachable", "look at the agents' hosts and logs")...)
	}
	if n := int(p.metrics["master/slaves_unreachable"]); n > 0 {
		found = append(found, bad(Warning, console.Plural(n, "unreachable agent"), "their frameworks have replaced, or wait for, what ran there", "look at their hosts; if they never return: clusterd agent gone AGENT")...)
	}
	if n := len(p.agents.GetRecoveredAgents()); n > 0 {
		found = append(found, bad(Note, console.Plural(n, "agent")+" not back since the leader was elected", "they have --agent_reregister_timeout to come back", "")...)
	}
	if len(draining) > 0 {
		found = append(found, bad(Warning, "draining for long: "+some(draining), "a task does not end, or its framework does not answer", "clusterd task list --filter host=HOST")...)
	}
	if len(unused) > 0 {
		found = append(found, bad(Note, "deactivated: "+some(unused), "nothing of them is offered", "clusterd agent reactivate AGENT")...)
	}
	return or(found, "%s, all in use", console.Plural(len(p.agents.GetAgents()), "agent"))
}

func checkFrameworks(_ context.Context, p *picture) []Finding {
	var found []Finding
	var away []string
	for _, f := range p.frameworks.GetFrameworks() {
		if !f.GetConnected() {
			timeout := time.Duration(f.GetFrameworkInfo().GetFailoverTimeout() * float64(time.Second))
			away = append(away, fmt.Sprintf("%s (failover_timeout %s)", f.GetFrameworkInfo().GetName(), console.Duration(timeout)))
		}
	}
	if len(away) > 0 {
		found = bad(Warning, "disconnected: "+some(away), "after its failover_timeout a framework is removed, and its tasks are killed", "start the schedulers again, or clusterd framework teardown FRAMEWORK")
	}
	if n := len(p.frameworks.GetRecoveredFrameworks()); n > 0 {
		found = append(found, bad(Note, console.Plural(n, "framework")+" not back since the leader was elected", "they have their failover_timeout to come back", "")...)
	}
	return or(found, "%s, all connected", console.Plural(len(p.frameworks.GetFrameworks()), "framework"))
}

func checkStarving(ctx context.Context, p *picture) []Finding {
	has := map[string]bool{}
	for _, t := range p.tasks.GetTasks() {
		has[t.GetFrameworkId().GetValue()] = true
	}
	for _, o := range p.offers {
		has[o.FrameworkID] = true
	}
	var idle []*master.Response_GetFrameworks_Framework
	for _, f := range p.frameworks.GetFrameworks() {
		if f.GetActive() && f.GetConnected() && !has[f.GetFrameworkInfo().GetId().GetValue()] {
			idle = append(idle, f)
		}
	}
	idle = idle[:min(len(idle), maxAskedAgain)]
	found := make([][]Finding, len(idle))
	atOnce(len(idle), func(i int) {
		id, name := idle[i].GetFrameworkInfo().GetId().GetValue(), idle[i].GetFrameworkInfo().GetName()
		e, err := p.ask(ctx, id)
		if err != nil || e.Agents.Eligible > 0 || e.willing() {
			return
		}
		found[i] = bad(Warning, fmt.Sprintf("%s is offered nothing: %s", name, e.Hint), "it runs no task", "clusterd framework explain "+id)
	})
	return or(slices.Concat(found...), "no framework waits in vain")
}

// willing tells whether the framework gets nothing because it does not want anything.
func (e *explanation) willing() bool {
	for _, r := range e.Agents.Reasons {
		if r.Reason != "SUPPRESSED" && r.Reason != "FILTERED" {
			return false
		}
	}
	return true
}

func checkOffers(_ context.Context, p *picture) []Finding {
	held := map[string]int{}
	for _, o := range p.offers {
		if !o.Inverse && o.Since > 0 && p.now.Sub(time.UnixMicro(int64(o.Since*1e6))) > longHeld {
			held[o.Framework]++
		}
	}
	if len(held) > 0 {
		return bad(Warning, "held for more than "+console.Duration(longHeld)+": "+tally(held), "what a framework holds nobody else is offered", "masters: --offer_timeout; clusterd offer list --sort-by held")
	}
	return good("%s outstanding, none held for long", console.Plural(len(p.offers), "offer"))
}

func checkQuota(ctx context.Context, p *picture) []Finding {
	res, err := p.cluster.Ask(ctx, master.Call_GET_QUOTA)
	if err != nil {
		return bad(Note, "quotas are not looked at: "+err.Error(), "", console.HintOf(err))
	}
	total, wanted := map[string]float64{}, map[string]float64{}
	for _, a := range p.agents.GetAgents() {
		for _, r := range a.GetTotalResources() {
			total[r.GetName()] += r.GetScalar().GetValue()
		}
	}
	configs := res.GetGetQuota().GetStatus().GetConfigs()
	for _, q := range configs {
		if strings.Contains(q.GetRole(), "/") {
			continue // its parent's guarantee is for it, too
		}
		for name, v := range q.GetGuarantees() {
			wanted[name] += v.GetValue()
		}
	}
	var over []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if wanted[name] > total[name] {
			over = append(over, fmt.Sprintf("%s %s of %s", name, console.Number(wanted[name]), console.Number(total[name])))
		}
	}
	if len(over) > 0 {
		return bad(Problem, "more is guaranteed than there is: "+strings.Join(over, ", "), "not all guarantees can be kept, and who has none gets nothing", "clusterd quota list; add agents or lower guarantees")
	}
	return good("%s, within what there is", console.Plural(len(configs), "quota"))
}

func checkTasks(_ context.Context, p *picture) []Finding {
	bounds := map[mesos.TaskState]time.Duration{mesos.TaskState_TASK_STAGING: longStaging, mesos.TaskState_TASK_KILLING: longKilling}
	hang := map[mesos.TaskState][]string{}
	for _, t := range p.tasks.GetTasks() {
		bound, ok := bounds[t.GetState()]
		if since := console.Changed(t); ok && !since.IsZero() && p.now.Sub(since) > bound {
			hang[t.GetState()] = append(hang[t.GetState()], t.GetTaskId().GetValue())
		}
	}
	var found []Finding
	if ids := hang[mesos.TaskState_TASK_STAGING]; len(ids) > 0 {
		found = append(found, bad(Warning, "staging for long: "+some(ids), "a fetch hangs, an image is large, or the agent does not answer", "clusterd task show TASK, and the log of its agent")...)
	}
	if ids := hang[mesos.TaskState_TASK_KILLING]; len(ids) > 0 {
		found = append(found, bad(Warning, "killed, but not ended: "+some(ids), "the task does not heed SIGTERM, or a process of it hangs in the kernel", "clusterd task show TASK, and the log of its agent")...)
	}
	if n := len(p.tasks.GetUnreachableTasks()); n > 0 {
		found = append(found, bad(Warning, console.Plural(n, "unreachable task"), "they are on agents that are unreachable", "see the check agents")...)
	}
	return or(found, "%s, none hangs", console.Plural(len(p.tasks.GetTasks()), "task"))
}

func checkCertificate(_ context.Context, p *picture) []Finding {
	switch left := p.expires.Sub(p.now); {
	case p.expires.IsZero():
		return bad(Note, "the cluster is spoken to without TLS", "who can read the network reads credentials", "clusterd tls, and docs/security.md")
	case left <= 0:
		return bad(Problem, "the leader's certificate has expired", "nobody who checks it comes in", "clusterd tls, then put the new files in place; they are read again by themselves")
	case left < soonExpired:
		return bad(Warning, "the leader's certificate expires in "+console.Duration(left), "then nobody who checks it comes in", "clusterd tls, then put the new files in place; they are read again by themselves")
	default:
		return good("the leader's certificate is good for %s", console.Duration(left))
	}
}

func checkRegistry(_ context.Context, p *picture) []Finding {
	r := &p.registry
	if r.Queued > manyQueued {
		return bad(Warning, fmt.Sprintf("%d changes wait to be written", r.Queued), "agents and frameworks that come wait with them", "clusterd doctor host on the leader: how fast is its disk?")
	}
	return good("index %d, snapshot at %d, %d waiting", r.CommitIndex, r.SnapshotIndex, r.Queued)
}

func checkReaders(_ context.Context, p *picture) []Finding {
	if n := int(p.metrics["master/operator_event_stream_subscribers_dropped"]); n > 0 {
		return bad(Note, console.Plural(n, "reader")+" of events cut off since the leader started", "who reads too slowly begins anew", "masters: --max_operator_event_stream_subscribers, --max_event_history")
	}
	return good("none was cut off")
}
