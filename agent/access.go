package agent

import (
	"net/http"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"clusterd/agent/core"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// access is what one request may do, by the rules of the moment.
type access struct {
	acls *authz.ACLs
	who  *authz.Principal
}

func (a *Agent) access(r *http.Request) access {
	return access{a.policy.Load(), httpapi.PrincipalOf(r)}
}

// may says whether an action is permitted on an object.
func (x access) may(action authz.Action, object string) bool {
	return x.acls.Approver(x.who, action).Allows(object)
}

// need is the error of who may not.
func (x access) need(action authz.Action, object string) error {
	if !x.may(action, object) {
		return httpapi.StatusError(http.StatusForbidden)
	}
	return nil
}

// resource says whether a resource may be seen: all roles that it is reserved to,
// and the one that it is allocated to (approved<VIEW_ROLE> in src/common/http.hpp).
func resource(v *authz.Viewer, r *mesos.Resource) bool {
	if old := r.GetRole(); old != "" && old != "*" && !v.SeesRole(old) {
		return false
	}
	for _, x := range r.GetReservations() {
		if !v.SeesRole(x.GetRole()) {
			return false
		}
	}
	return r.GetAllocationInfo() == nil || v.SeesRole(r.GetAllocationInfo().GetRole())
}

// reserved are the reservations to the roles that are seen.
func reserved(v *authz.Viewer, rs resources.Resources) []resources.RoleResources {
	return slices.DeleteFunc(rs.Reservations(), func(r resources.RoleResources) bool { return !v.SeesRole(r.Role) })
}

// visible is what of a view is seen: frameworks, in them executors, in them tasks. What
// the agent has and allots stays as it is.
func visible(all *core.View, by *authz.Viewer) *core.View {
	if by == nil {
		return all
	}
	v := *all
	v.Frameworks, v.Completed = visibleFrameworks(all.Frameworks, by), visibleFrameworks(all.Completed, by)
	v.Operations = nil
	for _, o := range all.Operations {
		if visibleOperation(o, by) {
			v.Operations = append(v.Operations, o)
		}
	}
	return &v
}

func visibleFrameworks(all []*core.FrameworkView, by *authz.Viewer) (out []*core.FrameworkView) {
	for _, fw := range all {
		if !by.SeesFramework(fw.Info.GetUser()) {
			continue
		}
		seen := *fw
		seen.Executors, seen.CompletedExecutors = visibleExecutors(fw, fw.Executors, by), visibleExecutors(fw, fw.CompletedExecutors, by)
		out = append(out, &seen)
	}
	return out
}

func visibleExecutors(fw *core.FrameworkView, all []*core.ExecutorView, by *authz.Viewer) (out []*core.ExecutorView) {
	for _, e := range all {
		if !by.SeesExecutor(core.Owner(fw.Info, e.Info)) {
			continue
		}
		seen := *e
		task := func(t *mesos.Task) bool { return by.SeesTask(authz.UserOf(fw.Info.GetUser(), t.User)) }
		seen.Queued = only(e.Queued, func(t *mesos.TaskInfo) bool {
			return by.SeesTask(authz.UserOf(fw.Info.GetUser(), userOf(t.GetCommand()), userOf(t.GetExecutor().GetCommand())))
		})
		seen.Launched, seen.Terminated, seen.Completed = only(e.Launched, task), only(e.Terminated, task), only(e.Completed, task)
		out = append(out, &seen)
	}
	return out
}

func only[T any](all []T, keep func(T) bool) (out []T) {
	for _, x := range all {
		if keep(x) {
			out = append(out, x)
		}
	}
	return out
}

func userOf(c *mesos.CommandInfo) *string {
	if c == nil {
		return nil
	}
	return c.User
}

// visibleOperation says whether all resources that an operation names are seen. (Mesos
// looks at those that it consumes alone, and shows the role that others are reserved to.)
func visibleOperation(o *mesos.Operation, by *authz.Viewer) bool {
	ok := true
	eachResource(o, func(r *mesos.Resource) { ok = ok && resource(by, r) })
	return ok
}

// eachResource calls f for every resource in a message.
func eachResource(m proto.Message, f func(*mesos.Resource)) {
	if r, ok := m.(*mesos.Resource); ok {
		f(r)
		return
	}
	m.ProtoReflect().Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case d.Message() == nil || d.IsMap():
		case d.IsList():
			for i := range v.List().Len() {
				eachResource(v.List().Get(i).Message().Interface(), f)
			}
		default:
			eachResource(v.Message().Interface(), f)
		}
		return true
	})
}

// visibleInfo is the agent's description without what is reserved to roles that are not
// seen (Mesos shows it, MESOS-9006).
func visibleInfo(info *mesos.AgentInfo, by *authz.Viewer) *mesos.AgentInfo {
	if by == nil {
		return info
	}
	out := proto.CloneOf(info)
	out.Resources = slices.DeleteFunc(out.Resources, func(r *mesos.Resource) bool { return !resource(by, r) })
	return out
}

// containerOf finds the executor whose container an id, or the root above it, names; nil
// if there is none.
func containerOf(v *core.View, id *mesos.ContainerID) (*core.FrameworkView, *core.ExecutorView) {
	root := rootOf(id).GetValue()
	for _, fw := range v.Frameworks {
		for _, e := range fw.Executors {
			if e.ContainerID.GetValue() == root {
				return fw, e
			}
		}
	}
	return nil, nil
}

func rootOf(id *mesos.ContainerID) *mesos.ContainerID {
	for id.GetParent() != nil {
		id = id.GetParent()
	}
	return id
}

// containerText is how Mesos writes the id of a container: the root's first.
func containerText(id *mesos.ContainerID) string {
	if id.GetParent() == nil {
		return id.GetValue()
	}
	return containerText(id.GetParent()) + "." + id.GetValue()
}

// onContainer is the error of who may not do something to a container.
func (x access) onContainer(action authz.Action, c authz.Container) error {
	if !x.acls.AllowsContainer(x.who, action, c) {
		return httpapi.StatusError(http.StatusForbidden)
	}
	return nil
}
