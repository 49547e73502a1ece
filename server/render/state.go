package render

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// Body is an answer in pieces, to be sent one after the other: joining the pieces
// of a large one would cost as much as writing them did.
type Body [][]byte

// Len is the length of the whole.
func (b Body) Len() int {
	n := 0
	for _, p := range b {
		n += len(p)
	}
	return n
}

// Bytes joins the pieces.
func (b Body) Bytes() []byte {
	if len(b) == 1 {
		return b[0]
	}
	return slices.Concat(b...)
}

// State writes /state.
func State(v *core.View, m *Master) Body {
	var body Body
	o := open(nil)
	o.out = &body
	o.master(v, m)
	o.agents(v, nil)
	o.recovered(v, "")
	o.frameworks(v, "")
	o.key("orphan_tasks")
	o.buf = append(o.buf, '[', ']')
	o.key("unregistered_frameworks")
	o.buf = append(o.buf, '[', ']')
	return append(body, o.close())
}

// Frameworks writes /frameworks; an id selects one.
func Frameworks(v *core.View, id string) Body {
	var body Body
	o := open(nil)
	o.out = &body
	o.frameworks(v, id)
	o.key("unregistered_frameworks")
	o.buf = append(o.buf, '[', ']')
	return append(body, o.close())
}

// master writes what comes before the lists in /state.
func (o *object) master(v *core.View, m *Master) {
	b := m.Version
	o.str("version", b.GetVersion())
	if b.GitSha != nil {
		o.str("git_sha", *b.GitSha)
	}
	if b.GitBranch != nil {
		o.str("git_branch", *b.GitBranch)
	}
	if b.GitTag != nil {
		o.str("git_tag", *b.GitTag)
	}
	o.str("build_date", b.GetBuildDate())
	o.double("build_time", b.GetBuildTime())
	o.str("build_user", b.GetBuildUser())
	o.time("start_time", m.Start)
	if !m.Elected.IsZero() {
		o.time("elected_time", m.Elected)
	}
	o.str("id", m.Info.GetId())
	o.str("pid", m.Info.GetPid())
	o.str("hostname", m.Info.GetHostname())
	o.key("capabilities")
	o.buf = append(o.buf, '[')
	for i, c := range m.Info.GetCapabilities() {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, c.GetType().String())
	}
	o.buf = append(o.buf, ']')
	o.double("activated_slaves", float64(v.Counts.AgentsActive))
	o.double("deactivated_slaves", float64(v.Counts.AgentsInactive))
	o.double("unreachable_slaves", float64(v.Counts.AgentsUnreachable))
	o.domain(m.Info.GetDomain())
	if l := m.Leader; l != nil {
		o.str("leader", l.GetPid())
		o.key("leader_info")
		in := open(o.buf)
		in.str("id", l.GetId())
		in.str("pid", l.GetPid())
		in.integer("port", int64(l.GetPort()))
		in.str("hostname", l.GetHostname())
		in.domain(l.GetDomain())
		o.buf = in.close()
	}
	if m.Cluster != "" {
		o.str("cluster", m.Cluster)
	}
	if m.LogDir != "" {
		o.str("log_dir", m.LogDir)
	}
	o.flags(m.Flags)
}

// agents writes the member "slaves"; more adds members to each.
func (o *object) agents(v *core.View, more func(*object, *core.Agent)) {
	all := make([]*core.Agent, 0, v.Agents.Len())
	for a := range v.Agents.Values() {
		all = append(all, a)
	}
	writeList(o, "slaves", all, func(dst []byte, a *core.Agent) []byte {
		in := open(dst)
		in.agent(a)
		if more != nil {
			more(&in, a)
		}
		return in.close()
	})
}

// recovered writes the member "recovered_slaves"; an id selects one.
func (o *object) recovered(v *core.View, id string) {
	o.key("recovered_slaves")
	o.buf = append(o.buf, '[')
	first := true
	for key, info := range v.RecoveredAgents.All() {
		if id != "" && key != id {
			continue
		}
		if !first {
			o.buf = append(o.buf, ',')
		}
		first = false
		in := open(o.buf)
		in.agentInfo(key, info)
		o.buf = in.close()
	}
	o.buf = append(o.buf, ']')
}

func (o *object) agentInfo(id string, info *mesos.AgentInfo) {
	o.str("id", id)
	o.str("hostname", info.GetHostname())
	o.integer("port", int64(info.GetPort()))
	o.key("attributes")
	in := open(o.buf)
	for _, a := range info.GetAttributes() {
		in.name(a.GetName())
		in.buf = appendAttribute(in.buf, a)
	}
	o.buf = in.close()
	o.domain(info.GetDomain())
}

func appendAttribute(dst []byte, a *mesos.Attribute) []byte {
	switch a.GetType() {
	case mesos.Value_SCALAR:
		return appendDouble(dst, a.GetScalar().GetValue())
	case mesos.Value_RANGES:
		rs := make([]resources.Range, 0, len(a.GetRanges().GetRange()))
		for _, r := range a.GetRanges().GetRange() {
			rs = append(rs, resources.Range{Begin: r.GetBegin(), End: r.GetEnd()})
		}
		return append(appendRanges(append(dst, '"'), rs), '"')
	case mesos.Value_SET:
		return appendString(dst, "{"+strings.Join(a.GetSet().GetItem(), ", ")+"}")
	default:
		return appendString(dst, a.GetText().GetValue())
	}
}

func (o *object) agent(a *core.Agent) {
	o.agentInfo(a.ID, a.Info)
	o.str("pid", a.PID())
	o.time("registered_time", a.RegisteredAt)
	if !a.ReregisteredAt.IsZero() {
		o.time("reregistered_time", a.ReregisteredAt)
	}
	o.resources("resources", a.Total)
	o.resources("used_resources", a.Used)
	o.resources("offered_resources", a.Offered)
	o.key("reserved_resources")
	in := open(o.buf)
	unreserved := a.Total
	if reservations := a.Total.Reservations(); len(reservations) > 0 {
		unreserved = a.Total.Unreserved()
		for _, r := range reservations {
			in.name(r.Role)
			in.buf = appendResources(in.buf, r.Resources)
		}
	}
	o.buf = in.close()
	o.resources("unreserved_resources", unreserved)
	o.boolean("active", a.Active)
	o.boolean("deactivated", a.Deactivated)
	o.str("version", a.Version)
	o.key("capabilities")
	o.buf = append(o.buf, '[')
	for i, c := range a.Capabilities {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, c.String())
	}
	o.buf = append(o.buf, ']')
	if a.DrainInfo != nil {
		o.proto("drain_info", a.DrainInfo)
		if !a.DrainStart.IsZero() {
			o.time("estimated_drain_start_time_seconds", a.DrainStart)
		}
	}
}

func (o *object) resources(k string, r resources.Resources) {
	o.key(k)
	o.buf = appendResources(o.buf, r)
}

// frameworks writes the running and the completed ones; an id selects one.
func (o *object) frameworks(v *core.View, id string) {
	o.key("frameworks")
	o.buf = append(o.buf, '[')
	first := true
	each := func(f *core.Framework) {
		if id != "" && f.ID != id {
			return
		}
		if !first {
			o.buf = append(o.buf, ',')
		}
		first = false
		in := open(o.buf)
		in.out = o.out
		in.framework(f)
		o.buf = in.close()
	}
	for f := range v.Frameworks.Values() {
		each(f)
	}
	o.buf = append(o.buf, ']')
	o.key("completed_frameworks")
	o.buf = append(o.buf, '[')
	first = true
	for _, f := range v.CompletedFrameworks {
		each(f)
	}
	o.buf = append(o.buf, ']')
}

// frameworkSummary writes what /state-summary shows of a framework; /state
// shows more after it. An HTTP framework has no "pid".
func (o *object) frameworkSummary(f *core.Framework) {
	o.str("id", f.ID)
	o.str("name", f.Info.GetName())
	o.resources("used_resources", f.Used())
	o.resources("offered_resources", f.Offered())
	o.key("capabilities")
	o.buf = append(o.buf, '[')
	for i, c := range f.Info.GetCapabilities() {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendString(o.buf, c.GetType().String())
	}
	o.buf = append(o.buf, ']')
	o.str("hostname", f.Info.GetHostname())
	o.str("webui_url", f.Info.GetWebuiUrl())
	o.boolean("active", f.Active)
	o.boolean("connected", f.Connected)
	o.boolean("recovered", f.Recovered)
}

func multiRole(f *core.Framework) bool {
	for _, c := range f.Info.GetCapabilities() {
		if c.GetType() == mesos.FrameworkInfo_Capability_MULTI_ROLE {
			return true
		}
	}
	return false
}

func (o *object) framework(f *core.Framework) {
	o.frameworkSummary(f)
	o.str("user", f.Info.GetUser())
	o.double("failover_timeout", f.Info.GetFailoverTimeout())
	o.boolean("checkpoint", f.Info.GetCheckpoint())
	o.time("registered_time", f.RegisteredAt)
	o.time("unregistered_time", f.Unregistered)
	if f.Info.Principal != nil {
		o.str("principal", *f.Info.Principal)
	}
	o.resources("resources", f.Used().Add(f.Offered()))
	if !f.ReregisteredAt.IsZero() && !f.ReregisteredAt.Equal(f.RegisteredAt) {
		o.time("reregistered_time", f.ReregisteredAt)
	}
	if multiRole(f) {
		o.strings("roles", f.Info.GetRoles())
	} else {
		o.str("role", f.Info.GetRole())
	}
	tasks := make([]*core.Task, 0, f.Tasks.Len())
	for t := range f.Tasks.Values() {
		tasks = append(tasks, t)
	}
	o.tasks("tasks", tasks)
	tasks = tasks[:0]
	for t := range f.UnreachableTasks.Values() {
		tasks = append(tasks, t)
	}
	o.tasks("unreachable_tasks", tasks)
	o.tasks("completed_tasks", f.CompletedTasks)
	o.offers(f)
	o.executors(f)
	if f.Info.Labels != nil {
		o.labels(f.Info.Labels)
	}
	o.key("offer_constraints")
	if f.Constraints == nil {
		o.buf = append(o.buf, '{', '}')
	} else {
		o.buf = appendProto(o.buf, f.Constraints)
	}
}

func (o *object) offers(f *core.Framework) {
	o.key("offers")
	o.buf = append(o.buf, '[')
	for i, of := range f.Offers {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		in := open(o.buf)
		in.str("id", of.ID)
		in.str("framework_id", of.FrameworkID)
		in.key("allocation_info")
		info := open(in.buf)
		info.str("role", of.Role)
		in.buf = info.close()
		in.str("slave_id", of.AgentID)
		in.resources("resources", of.Resources)
		o.buf = in.close()
	}
	o.buf = append(o.buf, ']')
}

func (o *object) executors(f *core.Framework) {
	o.key("executors")
	o.buf = append(o.buf, '[')
	first := true
	for e := range f.Executors.Values() {
		if !first {
			o.buf = append(o.buf, ',')
		}
		first = false
		in := open(o.buf)
		in.executor(e)
		o.buf = in.close()
	}
	o.buf = append(o.buf, ']')
}

func (o *object) executor(e *core.Executor) {
	o.str("executor_id", e.Info.GetExecutorId().GetValue())
	o.str("name", e.Info.GetName())
	o.str("framework_id", e.FrameworkID)
	o.command(e.Info.GetCommand())
	o.resources("resources", e.Resources)
	if !e.Resources.Empty() {
		o.str("role", e.Resources.At(0).Role())
	}
	if e.Info.Labels != nil {
		o.labels(e.Info.Labels)
	}
	if e.Info.Type != nil {
		o.raw("type", e.Info.GetType().String())
	}
	o.str("slave_id", e.AgentID)
}

func (o *object) command(c *mesos.CommandInfo) {
	o.key("command")
	in := open(o.buf)
	if c != nil && c.Shell != nil {
		in.boolean("shell", *c.Shell)
	}
	if c != nil && c.Value != nil {
		in.str("value", *c.Value)
	}
	in.strings("argv", c.GetArguments())
	if c.GetEnvironment() != nil {
		in.proto("environment", c.Environment)
	}
	in.key("uris")
	in.buf = append(in.buf, '[')
	for i, u := range c.GetUris() {
		if i > 0 {
			in.buf = append(in.buf, ',')
		}
		uri := open(in.buf)
		uri.str("value", u.GetValue())
		uri.boolean("executable", u.GetExecutable())
		in.buf = uri.close()
	}
	in.buf = append(in.buf, ']')
	o.buf = in.close()
}

// parallelFrom is the length from which a list is written by several goroutines,
// in pieces.
const parallelFrom = 1024

// tasks writes a list of tasks.
func (o *object) tasks(k string, tasks []*core.Task) { writeList(o, k, tasks, appendTask) }

// writeList writes a member that is a list.
func writeList[T any](o *object, k string, elems []T, write func([]byte, T) []byte) {
	o.key(k)
	o.buf = append(o.buf, '[')
	if len(elems) < parallelFrom || o.out == nil {
		o.buf = append(writeRun(o.buf, elems, write), ']')
		return
	}
	workers := runtime.GOMAXPROCS(0)
	each := (len(elems) + workers - 1) / workers
	pieces := make([][]byte, workers)
	work := func(w int) {
		run := elems[min(w*each, len(elems)):min((w+1)*each, len(elems))]
		// The first few tell how much room all will need.
		few := min(16, len(run))
		head := writeRun(nil, run[:few], write)
		if few == len(run) {
			pieces[w] = head
			return
		}
		dst := make([]byte, 0, len(run)*(len(head)/few+few)*17/16+4096)
		pieces[w] = writeRun(dst, run, write)
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { work(w) })
	}
	work(0)
	wg.Wait()
	*o.out = append(*o.out, o.buf)
	for w, p := range pieces {
		if w > 0 && len(p) > 0 {
			*o.out = append(*o.out, comma)
		}
		*o.out = append(*o.out, p)
	}
	o.buf = append(make([]byte, 0, 4096), ']')
}

var comma = []byte{','}

func writeRun[T any](dst []byte, elems []T, write func([]byte, T) []byte) []byte {
	for i, e := range elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = write(dst, e)
	}
	return dst
}

// appendTask writes a task. It and appendStatus are most of the work of /state:
// they go without the conveniences of object.
func appendTask(dst []byte, t *core.Task) []byte {
	dst = appendString(append(dst, `{"id":`...), t.ID)
	dst = appendString(append(dst, `,"name":`...), t.Name)
	dst = appendString(append(dst, `,"framework_id":`...), t.FrameworkID)
	dst = appendString(append(dst, `,"executor_id":`...), t.ExecutorID)
	dst = appendString(append(dst, `,"slave_id":`...), t.AgentID)
	dst = append(append(append(dst, `,"state":"`...), stateName(t.State)...), `","resources":`...)
	dst = appendResources(dst, t.Resources)
	if t.Extra != nil && len(t.Extra.Limits) > 0 {
		dst = appendLimits(append(dst, `,"limits":`...), t.Extra.Limits)
	}
	dst = appendString(append(dst, `,"role":`...), t.Role())
	dst = append(dst, `,"statuses":[`...)
	for i := range t.Statuses {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendStatus(dst, &t.Statuses[i])
	}
	o := object{buf: append(dst, ']'), comma: true}
	if t.User != "" {
		o.str("user", t.User)
	}
	if e := t.Extra; e != nil {
		if e.Labels != nil {
			o.labels(e.Labels)
		}
		if e.Discovery != nil {
			o.proto("discovery", e.Discovery)
		}
		if e.Container != nil {
			o.proto("container", e.Container)
		}
		if e.HealthCheck != nil {
			o.proto("health_check", e.HealthCheck)
		}
	}
	return o.close()
}

func appendLimits(dst []byte, limits map[string]*mesos.Value_Scalar) []byte {
	o := open(dst)
	for _, name := range sortedKeys(limits) {
		o.name(name)
		o.buf = appendDouble(o.buf, limits[name].GetValue())
	}
	return o.close()
}

func appendStatus(dst []byte, s *core.Status) []byte {
	dst = append(append(append(dst, `{"state":"`...), stateName(s.State)...), `","timestamp":`...)
	dst = appendDouble(dst, s.Timestamp)
	if s.Full != nil {
		o := object{buf: dst, comma: true}
		if l := s.Full.Labels; l != nil {
			o.labels(l)
		}
		if cs := s.Full.ContainerStatus; cs != nil {
			o.containerStatus(cs)
		}
		dst = o.buf
	} else if s.ContainerID != "" {
		dst = appendString(append(dst, `,"container_status":{"container_id":{"value":`...), s.ContainerID)
		if s.ParentContainerID != "" {
			dst = append(appendString(append(dst, `,"parent":{"value":`...), s.ParentContainerID), '}')
		}
		dst = append(dst, '}')
		if s.HasNetwork {
			dst = append(dst, `,"network_infos":[{"ip_addresses":[{"protocol":"IPv4","ip_address":`...)
			dst = append(appendString(dst, s.IP), `}]}]`...)
		}
		dst = append(dst, '}')
	}
	if s.HasHealth {
		dst = strconv.AppendBool(append(dst, `,"healthy":`...), s.Healthy)
	}
	return append(dst, '}')
}

// containerStatus writes the members that Mesos shows of it.
func (o *object) containerStatus(cs *mesos.ContainerStatus) {
	o.key("container_status")
	in := open(o.buf)
	if cs.ContainerId != nil {
		in.proto("container_id", cs.ContainerId)
	}
	if len(cs.NetworkInfos) > 0 {
		in.key("network_infos")
		in.buf = append(in.buf, '[')
		for i, n := range cs.NetworkInfos {
			if i > 0 {
				in.buf = append(in.buf, ',')
			}
			in.buf = appendNetwork(in.buf, n)
		}
		in.buf = append(in.buf, ']')
	}
	if cs.CgroupInfo != nil {
		in.proto("cgroup_info", cs.CgroupInfo)
	}
	o.buf = in.close()
}

func appendNetwork(dst []byte, n *mesos.NetworkInfo) []byte {
	o := open(dst)
	if len(n.Groups) > 0 {
		o.strings("groups", n.Groups)
	}
	if n.Labels != nil {
		o.labels(n.Labels)
	}
	if len(n.IpAddresses) > 0 {
		o.key("ip_addresses")
		o.buf = append(o.buf, '[')
		for i, ip := range n.IpAddresses {
			if i > 0 {
				o.buf = append(o.buf, ',')
			}
			o.buf = appendProto(o.buf, ip)
		}
		o.buf = append(o.buf, ']')
	}
	if n.Name != nil {
		o.str("name", *n.Name)
	}
	if len(n.PortMappings) > 0 {
		o.key("port_mappings")
		o.buf = append(o.buf, '[')
		for i, p := range n.PortMappings {
			if i > 0 {
				o.buf = append(o.buf, ',')
			}
			o.buf = appendProto(o.buf, p)
		}
		o.buf = append(o.buf, ']')
	}
	return o.close()
}

// stateName is the enum's name without the lookups of its String method.
func stateName(s mesos.TaskState) string {
	if s >= 0 && int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return strconv.Itoa(int(s))
}

var stateNames = func() (names [32]string) {
	for n, name := range mesos.TaskState_name {
		names[n] = name
	}
	return names
}()
