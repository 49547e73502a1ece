package agent

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"clusterd/agent/core"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/httpapi"
	"clusterd/internal/version"
)

// object writes a JSON object, member by member.
type object struct {
	b     []byte
	comma bool
}

func (o *object) name(n string) {
	if o.comma {
		o.b = append(o.b, ',')
	}
	o.comma = true
	o.b = httpapi.AppendString(o.b, n)
	o.b = append(o.b, ':')
}

func (o *object) begin(c byte) { o.b, o.comma = append(o.b, c), false }
func (o *object) end(c byte)   { o.b, o.comma = append(o.b, c), true }

func (o *object) next() {
	if o.comma {
		o.b = append(o.b, ',')
	}
	o.comma = true
}

func (o *object) str(n, v string) {
	o.name(n)
	o.b = httpapi.AppendString(o.b, v)
}

func (o *object) num(n string, v float64) {
	o.name(n)
	o.b = httpapi.AppendDouble(o.b, v)
}

func (o *object) boolean(n string, v bool) {
	o.name(n)
	if v {
		o.b = append(o.b, "true"...)
	} else {
		o.b = append(o.b, "false"...)
	}
}

// message writes a protobuf message; one that cannot be written is an empty
// object, which only an invalid message of an executor's can be.
func (o *object) message(m proto.Message) {
	b, err := mesosjson.Append(o.b, m)
	if err != nil {
		o.b = append(o.b, "{}"...)
		return
	}
	o.b = b
}

func messages[M proto.Message](o *object, n string, ms []M) {
	list(o, n, ms, func(m M) { o.message(m) })
}

func list[T any](o *object, n string, vs []T, each func(T)) {
	o.name(n)
	o.begin('[')
	for _, v := range vs {
		o.next()
		each(v)
	}
	o.end(']')
}

// usual are the scalars that every resource object shows, in Mesos's order.
var usual = []string{"disk", "mem", "gpus", "cpus"}

// resources writes the short form of resources (json(Resources) in
// src/common/http.cpp).
func (o *object) resources(r resources.Resources) {
	o.begin('{')
	plain, revocable := r.NonRevocable(), r.Revocable()
	for _, n := range usual {
		o.num(n, resources.FromMilli(plain.Scalar(n)))
	}
	for _, set := range []struct {
		r      resources.Resources
		suffix string
	}{{plain, ""}, {revocable, "_revocable"}} {
		names := set.r.Names()
		slices.Sort(names)
		for _, n := range names {
			if set.suffix == "" && slices.Contains(usual, n) && set.r.Get(n).At(0).Type() == mesos.Value_SCALAR {
				continue
			}
			o.name(n + set.suffix)
			text := set.r.Get(n)
			switch text.At(0).Type() {
			case mesos.Value_SCALAR:
				o.b = httpapi.AppendDouble(o.b, resources.FromMilli(text.Scalar(n)))
			case mesos.Value_RANGES:
				o.b = httpapi.AppendString(o.b, rangesText(text.Ranges(n)))
			default:
				o.b = httpapi.AppendString(o.b, "{"+strings.Join(text.Set(n), ", ")+"}")
			}
		}
	}
	o.end('}')
}

func rangesText(rs []resources.Range) string {
	b := []byte{'['}
	for i, r := range rs {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendUint(b, r.Begin, 10)
		b = append(b, '-')
		b = strconv.AppendUint(b, r.End, 10)
	}
	return string(append(b, ']'))
}

func protoRanges(r *mesos.Value_Ranges) string {
	var rs []resources.Range
	for _, x := range r.GetRange() {
		rs = append(rs, resources.Range{Begin: x.GetBegin(), End: x.GetEnd()})
	}
	return rangesText(rs)
}

// byRole writes an object of resources for each role.
func (o *object) byRole(rs []resources.RoleResources, each func(resources.Resources)) {
	o.begin('{')
	for _, r := range rs {
		o.name(r.Role)
		each(r.Resources)
	}
	o.end('}')
}

// full writes resources in the form that has both the old and the new fields of
// reservations (convertResourceFormat with ENDPOINT).
func (o *object) full(r resources.Resources) {
	o.begin('[')
	for _, m := range r.Proto() {
		resources.ToEndpoint(m)
		o.next()
		o.message(m)
	}
	o.end(']')
}

func (o *object) labels(l *mesos.Labels) {
	messages(o, "labels", l.GetLabels())
}

// renderState is /state, as somebody sees it (Http::state in src/slave/http.cpp).
func (a *Agent) renderState(all *core.View, by *authz.Viewer) []byte {
	v := visible(all, by)
	o := &object{}
	o.begin('{')
	build := version.Info()
	o.str("version", build.GetVersion())
	if build.GitSha != nil {
		o.str("git_sha", build.GetGitSha())
	}
	if build.GitBranch != nil {
		o.str("git_branch", build.GetGitBranch())
	}
	o.str("build_date", build.GetBuildDate())
	o.num("build_time", build.GetBuildTime())
	o.str("build_user", build.GetBuildUser())
	o.num("start_time", float64(a.started.UnixMicro())/1e6)
	o.str("id", v.Info.GetId().GetValue())
	o.str("pid", "slave(1)@"+a.endpoint())
	o.str("hostname", v.Info.GetHostname())
	list(o, "capabilities", capabilities, func(c mesos.AgentInfo_Capability_Type) {
		o.b = httpapi.AppendString(o.b, c.String())
	})
	if v.Info.GetDomain() != nil {
		o.name("domain")
		o.message(v.Info.GetDomain())
	}
	o.stateResources(all, by)
	o.name("resource_providers")
	o.b = append(o.b, "[]"...)
	o.attributes(v.Info.GetAttributes())
	if v.Master != nil {
		o.str("master_hostname", v.Master.GetHostname())
	}
	if v.DrainConfig != nil {
		o.name("drain_config")
		o.message(v.DrainConfig)
		o.num("estimated_drain_start_time_seconds", float64(v.DrainStart.UnixMicro())/1e6)
	}
	if by == nil || by.Flags {
		o.flags(a.opts.Flags)
	}
	list(o, "frameworks", v.Frameworks, o.framework)
	list(o, "completed_frameworks", v.Completed, o.framework)
	o.end('}')
	return o.b
}

// flags shows where the log is, and all flags.
func (o *object) flags(all []flags.Pair) {
	for _, name := range []string{"log_dir", "external_log_file"} {
		for _, f := range all {
			if f.Name == name && f.Value != "" {
				o.str(name, f.Value)
			}
		}
	}
	o.name("flags")
	o.b = httpapi.AppendFlags(o.b, all)
}

func (o *object) stateResources(v *core.View, by *authz.Viewer) {
	o.name("resources")
	o.resources(v.Total)
	o.name("reserved_resources")
	o.byRole(reserved(by, v.Total), o.resources)
	o.name("unreserved_resources")
	o.resources(v.Total.Unreserved())
	o.name("reserved_resources_full")
	o.byRole(reserved(by, v.Total), o.full)
	o.name("unreserved_resources_full")
	o.full(v.Total.Unreserved())
	used := allocated(v)
	o.name("reserved_resources_allocated")
	o.byRole(reserved(by, used), o.resources)
	o.name("unreserved_resources_allocated")
	o.resources(used.Unreserved())
}

func allocated(v *core.View) resources.Resources {
	var used resources.Resources
	for _, fw := range v.Frameworks {
		for _, e := range fw.Executors {
			if e.State != "TERMINATED" {
				used = used.Add(e.Allocated)
			}
		}
	}
	return used.Unallocate()
}

func (o *object) attributes(as []*mesos.Attribute) {
	o.name("attributes")
	o.begin('{')
	for _, a := range as {
		switch a.GetType() {
		case mesos.Value_SCALAR:
			o.num(a.GetName(), a.GetScalar().GetValue())
		case mesos.Value_RANGES:
			o.str(a.GetName(), protoRanges(a.GetRanges()))
		case mesos.Value_SET:
			o.str(a.GetName(), "{"+strings.Join(a.GetSet().GetItem(), ", ")+"}")
		default:
			o.str(a.GetName(), a.GetText().GetValue())
		}
	}
	o.end('}')
}

func (o *object) framework(f *core.FrameworkView) {
	info := f.Info
	o.begin('{')
	o.str("id", info.GetId().GetValue())
	o.str("name", info.GetName())
	o.str("user", info.GetUser())
	o.num("failover_timeout", info.GetFailoverTimeout())
	o.boolean("checkpoint", info.GetCheckpoint())
	o.str("hostname", info.GetHostname())
	if info.Principal != nil {
		o.str("principal", info.GetPrincipal())
	}
	multi := slices.ContainsFunc(info.GetCapabilities(), func(c *mesos.FrameworkInfo_Capability) bool {
		return c.GetType() == mesos.FrameworkInfo_Capability_MULTI_ROLE
	})
	if multi {
		list(o, "roles", info.GetRoles(), func(r string) { o.b = httpapi.AppendString(o.b, r) })
	} else {
		o.str("role", info.GetRole())
	}
	list(o, "executors", f.Executors, o.executor)
	list(o, "completed_executors", f.CompletedExecutors, o.executor)
	o.end('}')
}

func (o *object) executor(e *core.ExecutorView) {
	o.begin('{')
	o.str("id", e.Info.GetExecutorId().GetValue())
	o.str("name", e.Info.GetName())
	o.str("source", e.Info.GetSource())
	o.str("container", e.ContainerID.GetValue())
	o.str("directory", e.Directory)
	o.name("resources")
	o.resources(e.Allocated)
	if rs := e.Info.GetResources(); len(rs) > 0 {
		o.str("role", rs[0].GetAllocationInfo().GetRole())
	}
	if e.Info.Labels != nil {
		o.labels(e.Info.GetLabels())
	}
	if e.Info.Type != nil {
		o.str("type", e.Info.GetType().String())
	}
	list(o, "tasks", e.Launched, o.task)
	list(o, "queued_tasks", e.Queued, o.queuedTask)
	list(o, "completed_tasks", slices.Concat(e.Completed, e.Terminated), o.task)
	o.end('}')
}

func (o *object) task(t *mesos.Task) {
	o.begin('{')
	o.str("id", t.GetTaskId().GetValue())
	o.str("name", t.GetName())
	o.str("framework_id", t.GetFrameworkId().GetValue())
	o.str("executor_id", t.GetExecutorId().GetValue())
	o.str("slave_id", t.GetAgentId().GetValue())
	o.str("state", t.GetState().String())
	o.name("resources")
	rs, _ := resources.FromProto(t.GetResources())
	o.resources(rs)
	if len(t.GetLimits()) > 0 {
		o.name("limits")
		o.begin('{')
		for _, n := range []string{"cpus", "mem"} {
			if l, ok := t.GetLimits()[n]; ok {
				o.num(n, l.GetValue())
			}
		}
		o.end('}')
	}
	if r := t.GetResources(); len(r) > 0 {
		o.str("role", r[0].GetAllocationInfo().GetRole())
	}
	list(o, "statuses", t.GetStatuses(), o.status)
	if t.User != nil {
		o.str("user", t.GetUser())
	}
	if t.Labels != nil {
		o.labels(t.GetLabels())
	}
	for _, m := range []struct {
		name string
		m    proto.Message
		set  bool
	}{
		{"discovery", t.Discovery, t.Discovery != nil},
		{"container", t.Container, t.Container != nil},
		{"health_check", t.HealthCheck, t.HealthCheck != nil},
	} {
		if m.set {
			o.name(m.name)
			o.message(m.m)
		}
	}
	o.end('}')
}

func (o *object) status(s *mesos.TaskStatus) {
	o.begin('{')
	o.str("state", s.GetState().String())
	o.num("timestamp", s.GetTimestamp())
	if s.Labels != nil {
		o.labels(s.GetLabels())
	}
	if cs := s.GetContainerStatus(); cs != nil {
		o.name("container_status")
		// The executor's pid is left out here.
		o.message(&mesos.ContainerStatus{
			ContainerId: cs.GetContainerId(), NetworkInfos: cs.GetNetworkInfos(), CgroupInfo: cs.GetCgroupInfo(),
		})
	}
	if s.Healthy != nil {
		o.boolean("healthy", s.GetHealthy())
	}
	o.end('}')
}

func (o *object) queuedTask(t *mesos.TaskInfo) {
	o.begin('{')
	o.str("id", t.GetTaskId().GetValue())
	o.str("name", t.GetName())
	o.str("slave_id", t.GetAgentId().GetValue())
	o.name("resources")
	rs, _ := resources.FromProto(t.GetResources())
	o.resources(rs)
	if r := t.GetResources(); len(r) > 0 {
		o.str("role", r[0].GetAllocationInfo().GetRole())
	}
	if t.Command != nil {
		o.name("command")
		o.command(t.GetCommand())
	}
	if t.Executor != nil {
		o.str("executor_id", t.GetExecutor().GetExecutorId().GetValue())
	}
	if t.Discovery != nil {
		o.name("discovery")
		o.message(t.GetDiscovery())
	}
	o.end('}')
}

func (o *object) command(c *mesos.CommandInfo) {
	o.begin('{')
	if c.Shell != nil {
		o.boolean("shell", c.GetShell())
	}
	if c.Value != nil {
		o.str("value", c.GetValue())
	}
	list(o, "argv", c.GetArguments(), func(s string) { o.b = httpapi.AppendString(o.b, s) })
	if c.Environment != nil {
		o.name("environment")
		o.message(c.GetEnvironment())
	}
	list(o, "uris", c.GetUris(), func(u *mesos.CommandInfo_URI) {
		o.begin('{')
		o.str("value", u.GetValue())
		o.boolean("executable", u.GetExecutable())
		o.end('}')
	})
	o.end('}')
}
