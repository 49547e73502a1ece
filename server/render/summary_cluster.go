package render

import (
	"slices"
	"strconv"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// ClusterOptions are what [Cluster] shows besides the view.
type ClusterOptions struct {
	// Token is where the event stream goes on from.
	Token string
	// Build is clusterd's own version.
	Build string
	// Bare leaves out tasks that have ended and those of completed frameworks.
	Bare bool
}

// taskStates are the names of states by their numbers.
var taskStates = func() (names []string) {
	for i := range len(mesos.TaskState_name) {
		names = append(names, mesos.TaskState(i).String()) //nolint:gosec // there are few
	}
	return names
}()

// stateCounts are numbers of tasks by state.
type stateCounts [len(summaryIndex)]int32

func (c *stateCounts) count(s mesos.TaskState) {
	if s >= 0 && int(s) < len(c) {
		c[s]++
	}
}

// Cluster writes the summary of the whole cluster that pages begin with: light objects for
// agents and frameworks, and columns for tasks, of which there are the most. The events
// after its token make up for its age.
func Cluster(v *core.View, m *Master, o ClusterOptions, viewer *authz.Viewer) Body {
	c := newClusterSummary(v, o, sight{viewer})
	var p plan
	p.text("{")
	p.do(1, func(to *sink) {
		obj := object{buf: to.buf}
		obj.str("token", o.Token)
		obj.time("taken", v.Taken)
		obj.clusterHead(m, o)
		obj.key("states")
		obj.buf = append(obj.buf, '[')
		for i, name := range taskStates {
			if i > 0 {
				obj.buf = append(obj.buf, ',')
			}
			obj.buf = appendString(obj.buf, name)
		}
		obj.buf = append(obj.buf, ']')
		to.buf = obj.buf
	})
	p.text(",")
	p.do(blockWeight, func(to *sink) {
		obj := object{buf: to.buf}
		obj.totals(v, m, c.who)
		to.buf = obj.buf
	})
	p.text(`,"agents":[`)
	list(&p, c.agents, c.appendAgent)
	p.text(`],"frameworks":[`)
	list(&p, c.frameworks, c.appendFramework)
	p.text(`],"tasks":`)
	c.tasks.write(&p)
	p.text("}")
	return p.write()
}

// Totals writes the sums of the cluster, which are small: what the event stream does not
// tell of, offered resources above all.
func Totals(v *core.View, m *Master, viewer *authz.Viewer) Body {
	o := open(nil)
	o.time("taken", v.Taken)
	o.totals(v, m, sight{viewer})
	return Body{o.close()}
}

// summaryAgent is an agent of the summary: one that is registered, or what else is known.
type summaryAgent struct {
	*core.Agent // nil: it is not registered
	id, state   string
	info        *mesos.AgentInfo // of one that is expected back
	since       float64          // it has been so, in seconds; 0: not known
	tasks       stateCounts
}

type summaryFramework struct {
	*core.Framework
	completed bool
	tasks     stateCounts
}

// clusterSummary is what a summary is written of.
type clusterSummary struct {
	who        sight
	agents     []*summaryAgent
	byID       map[string]int
	frameworks []*summaryFramework
	tasks      *taskTable
}

func newClusterSummary(v *core.View, o ClusterOptions, who sight) *clusterSummary {
	c := &clusterSummary{who: who, byID: make(map[string]int, v.Agents.Len()), tasks: newTaskTable(mostTasks(v, o))}
	for a := range v.Agents.Values() {
		c.addAgent(&summaryAgent{Agent: a, id: a.ID, state: AgentState(a)})
	}
	for id, info := range v.RecoveredAgents.All() {
		c.addAgent(&summaryAgent{id: id, state: "RECOVERED", info: info})
	}
	for id, since := range v.Unreachable.All() {
		c.addAgent(&summaryAgent{id: id, state: "UNREACHABLE", since: Seconds(since)})
	}
	add := func(f *core.Framework, completed bool) {
		if !who.framework(f) {
			return
		}
		sf := &summaryFramework{Framework: f, completed: completed}
		c.frameworks = append(c.frameworks, sf)
		if completed && o.Bare {
			return
		}
		for t := range f.Tasks.Values() {
			c.addTask(v, sf, t)
		}
		for t := range f.UnreachableTasks.Values() {
			c.addTask(v, sf, t)
		}
		if o.Bare {
			return
		}
		for _, t := range f.CompletedTasks {
			c.addTask(v, sf, t)
		}
	}
	for f := range v.Frameworks.Values() {
		add(f, false)
	}
	for _, f := range v.CompletedFrameworks {
		add(f, true)
	}
	return c
}

// mostTasks is how many tasks there may be to show.
func mostTasks(v *core.View, o ClusterOptions) (n int) {
	for f := range v.Frameworks.Values() {
		n += f.Tasks.Len() + f.UnreachableTasks.Len()
		if !o.Bare {
			n += len(f.CompletedTasks)
		}
	}
	return n
}

func (c *clusterSummary) addAgent(a *summaryAgent) int {
	at := len(c.agents)
	c.byID[a.id] = at
	c.agents = append(c.agents, a)
	return at
}

// addTask adds a task that is seen. Its agent may have been removed since.
func (c *clusterSummary) addTask(v *core.View, f *summaryFramework, t *core.Task) {
	if c.who.who != nil && !c.who.task(f.Framework, t) {
		return
	}
	at, ok := c.byID[t.AgentID]
	if !ok {
		gone := &summaryAgent{id: t.AgentID, state: "REMOVED"}
		if since, is := v.Gone.Get(t.AgentID); is {
			gone.state, gone.since = "GONE", Seconds(since)
		}
		at = c.addAgent(gone)
	}
	c.agents[at].tasks.count(t.State)
	f.tasks.count(t.State)
	c.tasks.add(t, len(c.frameworks)-1, at)
}

// AgentState is the state of a registered agent in one word.
func AgentState(a *core.Agent) string {
	switch s := a.DrainInfo.GetState(); {
	case s == mesos.DrainState_DRAINED, s == mesos.DrainState_DRAINING:
		return s.String()
	case a.Deactivated:
		return "DEACTIVATED"
	case !a.Connected:
		return "DISCONNECTED"
	default:
		return "ACTIVE"
	}
}

func (c *clusterSummary) appendAgent(dst []byte, a *summaryAgent) []byte {
	o := open(dst)
	o.str("id", a.id)
	o.raw("state", a.state)
	if a.since != 0 {
		o.double("since", a.since)
	}
	switch {
	case a.Agent != nil:
		o.summaryInfo(a.Info)
		o.str("ip", a.IP)
		o.str("pid", a.PID())
		o.str("version", a.Version)
		o.boolean("active", a.Active)
		o.boolean("connected", a.Connected)
		o.boolean("deactivated", a.Deactivated)
		o.drain(a.Agent)
		o.known("registered", Seconds(a.RegisteredAt))
		o.known("reregistered", Seconds(a.ReregisteredAt))
		o.amounts("total", a.Total)
		o.amounts("allocated", a.Used)
		o.amounts("offered", a.Offered)
		o.amounts("reserved", c.who.resources(a.Total.AnyReserved()))
	case a.info != nil:
		o.summaryInfo(a.info)
		if total, err := resources.FromProto(a.info.GetResources()); err == nil {
			o.amounts("total", total)
		}
	}
	o.counts("tasks", &a.tasks)
	return o.close()
}

// summaryInfo writes what an agent says of itself.
func (o *object) summaryInfo(info *mesos.AgentInfo) {
	o.str("hostname", info.GetHostname())
	o.integer("port", int64(info.GetPort()))
	if len(info.GetAttributes()) > 0 {
		o.key("attributes")
		in := open(o.buf)
		for _, a := range info.GetAttributes() {
			in.name(a.GetName())
			in.buf = appendAttribute(in.buf, a)
		}
		o.buf = in.close()
	}
	if fd := info.GetDomain().GetFaultDomain(); fd != nil {
		o.str("region", fd.GetRegion().GetName())
		o.str("zone", fd.GetZone().GetName())
	}
}

func (o *object) drain(a *core.Agent) {
	if a.DrainInfo == nil {
		return
	}
	o.key("drain")
	in := open(o.buf)
	in.raw("state", a.DrainInfo.GetState().String())
	in.boolean("mark_gone", a.DrainInfo.GetConfig().GetMarkGone())
	if g := a.DrainInfo.GetConfig().GetMaxGracePeriod(); g != nil {
		in.double("max_grace", float64(g.GetNanoseconds())/1e9)
	}
	in.known("started", Seconds(a.DrainStart))
	o.buf = in.close()
}

func (c *clusterSummary) appendFramework(dst []byte, f *summaryFramework) []byte {
	o := open(dst)
	o.str("id", f.ID)
	o.str("name", f.Info.GetName())
	o.str("user", f.Info.GetUser())
	o.str("principal", f.Info.GetPrincipal())
	o.str("hostname", f.Info.GetHostname())
	o.str("webui_url", f.Info.GetWebuiUrl())
	o.strings("roles", f.Roles)
	o.strings("suppressed", f.Suppressed)
	o.key("capabilities")
	o.buf = append(o.buf, '[')
	for i, c := range f.Info.GetCapabilities() {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, c.GetType().String())
	}
	o.buf = append(o.buf, ']')
	o.boolean("active", f.Active && !f.completed)
	o.boolean("connected", f.Connected && !f.completed)
	o.boolean("recovered", f.Recovered)
	o.boolean("completed", f.completed)
	o.boolean("checkpoint", f.Info.GetCheckpoint())
	o.double("failover_timeout", f.Info.GetFailoverTimeout())
	o.known("registered", Seconds(f.RegisteredAt))
	o.known("reregistered", Seconds(f.ReregisteredAt))
	o.known("unregistered", Seconds(f.Unregistered))
	o.amounts("allocated", f.Used())
	o.amounts("offered", f.Offered())
	o.integer("offers", int64(len(f.Offers)))
	o.counts("tasks", &f.tasks)
	return o.close()
}

// Places of the scalars in what [scalars] returns, as in always.
const (
	atDisk = iota
	atMem
	atGPUs
	atCPUs
)

// scalars sums what a list of resources has of the four usual ones, what may be revoked
// included.
func scalars(r resources.Resources) (sums [len(always)]int64) {
	for i := range r.Len() {
		it := r.At(i)
		if it.Type() == mesos.Value_SCALAR {
			if k := slices.Index(always[:], it.Name()); k >= 0 {
				sums[k] += it.Milli()
			}
		}
	}
	return sums
}

// amounts writes the four usual scalars.
func (o *object) amounts(k string, r resources.Resources) {
	o.key(k)
	o.buf = appendAmounts(o.buf, scalars(r))
}

func appendAmounts(dst []byte, sums [len(always)]int64) []byte {
	dst = appendAmount(append(dst, `{"cpus":`...), sums[atCPUs])
	dst = appendAmount(append(dst, `,"mem":`...), sums[atMem])
	dst = appendAmount(append(dst, `,"disk":`...), sums[atDisk])
	return append(appendAmount(append(dst, `,"gpus":`...), sums[atGPUs]), '}')
}

// appendAmount writes thousandths, without a fraction if there is none.
func appendAmount(dst []byte, milli int64) []byte {
	if milli%1000 == 0 {
		return strconv.AppendInt(dst, milli/1000, 10)
	}
	return appendMilli(dst, milli)
}

// appendMillis writes seconds to the millisecond; null for what is not known.
func appendMillis(dst []byte, seconds float64) []byte {
	if at := millis(seconds); at.ok {
		return appendAmount(dst, at.millis)
	}
	return append(dst, "null"...)
}

// known writes seconds that are known.
func (o *object) known(k string, seconds float64) {
	if seconds != 0 {
		o.double(k, seconds)
	}
}

// counts writes the states that tasks are in.
func (o *object) counts(k string, c *stateCounts) {
	o.key(k)
	in := open(o.buf)
	for s, n := range c {
		if n > 0 {
			in.integer(stateName(mesos.TaskState(s)), int64(n)) //nolint:gosec // an index of few
		}
	}
	o.buf = in.close()
}
