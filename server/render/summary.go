package render

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

// summaryStates are the states that /state-summary counts, in its order.
var summaryStates = [...]mesos.TaskState{
	mesos.TaskState_TASK_STAGING,
	mesos.TaskState_TASK_STARTING,
	mesos.TaskState_TASK_RUNNING,
	mesos.TaskState_TASK_KILLING,
	mesos.TaskState_TASK_FINISHED,
	mesos.TaskState_TASK_KILLED,
	mesos.TaskState_TASK_FAILED,
	mesos.TaskState_TASK_LOST,
	mesos.TaskState_TASK_ERROR,
	mesos.TaskState_TASK_UNREACHABLE,
}

// tally counts tasks by state and remembers the other side of each task: the
// frameworks of an agent, or the agents of a framework.
type tally struct {
	states [len(summaryStates)]int64
	peers  map[string]bool
}

func (c *tally) count(s mesos.TaskState, peer string) {
	if i := slices.Index(summaryStates[:], s); i >= 0 {
		c.states[i]++
	}
	if !c.peers[peer] {
		if c.peers == nil {
			c.peers = make(map[string]bool)
		}
		c.peers[peer] = true
	}
}

func (o *object) tally(c *tally, peers string) {
	var none tally
	if c == nil {
		c = &none
	}
	for i, s := range summaryStates {
		o.integer(stateName(s), c.states[i])
	}
	o.strings(peers, sortedKeys(c.peers))
}

// Summary writes /state-summary. Tasks of completed frameworks do not count.
func Summary(v *core.View, m *Master) Body {
	byAgent := make(map[string]*tally, v.Agents.Len())
	byFramework := make(map[string]*tally, v.Frameworks.Len())
	for f := range v.Frameworks.Values() {
		own := &tally{}
		byFramework[f.ID] = own
		count := func(t *core.Task) {
			own.count(t.State, t.AgentID)
			a := byAgent[t.AgentID]
			if a == nil {
				a = &tally{}
				byAgent[t.AgentID] = a
			}
			a.count(t.State, f.ID)
		}
		for t := range f.Tasks.Values() {
			count(t)
		}
		for t := range f.UnreachableTasks.Values() {
			count(t)
		}
		for _, t := range f.CompletedTasks {
			count(t)
		}
	}

	var body Body
	o := open(nil)
	o.out = &body
	o.str("hostname", m.Info.GetHostname())
	if m.Cluster != "" {
		o.str("cluster", m.Cluster)
	}
	o.agents(v, func(in *object, a *core.Agent) { in.tally(byAgent[a.ID], "framework_ids") })
	o.key("frameworks")
	o.buf = append(o.buf, '[')
	first := true
	for f := range v.Frameworks.Values() {
		if !first {
			o.buf = append(o.buf, ',')
		}
		first = false
		in := open(o.buf)
		in.frameworkSummary(f)
		in.tally(byFramework[f.ID], "slave_ids")
		o.buf = in.close()
	}
	o.buf = append(o.buf, ']')
	return append(body, o.close())
}

// Agents writes /slaves; an id selects one.
func Agents(v *core.View, id string) Body {
	var body Body
	o := open(nil)
	o.out = &body
	if id != "" {
		o.oneAgent(v, id)
	} else {
		o.agents(v, (*object).agentFull)
	}
	o.recovered(v, id)
	return append(body, o.close())
}

func (o *object) oneAgent(v *core.View, id string) {
	o.key("slaves")
	o.buf = append(o.buf, '[')
	if a, ok := v.Agents.Get(id); ok {
		in := open(o.buf)
		in.agent(a)
		in.agentFull(a)
		o.buf = in.close()
	}
	o.buf = append(o.buf, ']')
}

// agentFull writes what /slaves shows beyond /state: the resources unabridged,
// with the "role" that older readers look at.
func (o *object) agentFull(a *core.Agent) {
	o.key("reserved_resources_full")
	in := open(o.buf)
	for _, r := range a.Total.Reservations() {
		in.name(r.Role)
		in.buf = appendFull(in.buf, r.Resources)
	}
	o.buf = in.close()
	o.key("unreserved_resources_full")
	o.buf = appendFull(o.buf, a.Total.Unreserved())
	o.key("used_resources_full")
	o.buf = appendFull(o.buf, a.Used)
	o.key("offered_resources_full")
	o.buf = appendFull(o.buf, a.Offered)
}

func appendFull(dst []byte, r resources.Resources) []byte {
	dst = append(dst, '[')
	for i, p := range endpoint(r) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendProto(dst, p)
	}
	return append(dst, ']')
}

// endpoint is the form of resources that reads show: the reservations as a
// stack, and the same once more the old way if that can hold it.
func endpoint(r resources.Resources) []*mesos.Resource {
	list := r.Proto()
	for _, p := range list {
		resources.ToEndpoint(p)
	}
	return list
}

// TaskQuery selects tasks for /tasks; empty ids select all.
type TaskQuery struct {
	FrameworkID, TaskID string
	Limit, Offset       int // a negative one means no end
	Ascending           bool
}

// DefaultTaskLimit is how many tasks /tasks shows when nobody says.
const DefaultTaskLimit = 100

// Tasks writes /tasks: running, unreachable and completed tasks of running and
// completed frameworks, by the time of their first status.
func Tasks(v *core.View, q TaskQuery) Body {
	var list []*core.Task
	take := func(t *core.Task) {
		if q.TaskID == "" || q.TaskID == t.ID {
			list = append(list, t)
		}
	}
	each := func(f *core.Framework) {
		if q.FrameworkID != "" && q.FrameworkID != f.ID {
			return
		}
		for t := range f.Tasks.Values() {
			take(t)
		}
		for t := range f.UnreachableTasks.Values() {
			take(t)
		}
		for _, t := range f.CompletedTasks {
			take(t)
		}
	}
	for f := range v.Frameworks.Values() {
		each(f)
	}
	for _, f := range v.CompletedFrameworks {
		each(f)
	}
	sort.Stable(byFirstStatus{list, q.Ascending})

	// Mesos counts in size_t, where -1 is endless.
	from := len(list)
	if q.Offset >= 0 {
		from = min(q.Offset, len(list))
	}
	to := len(list)
	if q.Limit >= 0 && q.Limit < len(list)-from {
		to = from + q.Limit
	}
	var body Body
	o := open(nil)
	o.out = &body
	o.tasks("tasks", list[from:to])
	return append(body, o.close())
}

// byFirstStatus orders tasks by their first status; those without one come
// first when ascending, last when descending.
type byFirstStatus struct {
	tasks     []*core.Task
	ascending bool
}

func (b byFirstStatus) Len() int      { return len(b.tasks) }
func (b byFirstStatus) Swap(i, j int) { b.tasks[i], b.tasks[j] = b.tasks[j], b.tasks[i] }
func (b byFirstStatus) Less(i, j int) bool {
	c := cmp.Compare(firstTimestamp(b.tasks[i]), firstTimestamp(b.tasks[j]))
	if b.ascending {
		return c < 0
	}
	return c > 0
}

func firstTimestamp(t *core.Task) float64 {
	if len(t.Statuses) == 0 {
		return -1
	}
	return t.Statuses[0].Timestamp
}
