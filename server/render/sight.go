package render

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// sight is what the one who asks may see. It hides what Mesos hides
// (src/master/readonly_handler.cpp), and also the traces that Mesos leaves of it:
// the ids of hidden frameworks in /roles, /state-summary, operations and answers to
// inverse offers, and those of hidden executors in offers.
//
// What belongs to a framework or a task, its role among it, is seen with it; what
// belongs to an agent, and the lists of roles, weights and quotas, by role.
type sight struct{ who *authz.Viewer }

// all says that nothing is hidden.
func (s sight) all() bool { return s.who == nil }

func (s sight) flags() bool { return s.who == nil || s.who.Flags }

func (s sight) framework(f *core.Framework) bool {
	return s.who == nil || s.who.Frameworks.Allows(f.Info.GetUser())
}

// task and executor are seen by the user that they run as.
func (s sight) task(f *core.Framework, t *core.Task) bool {
	user := t.User
	if user == "" {
		user = f.Info.GetUser()
	}
	return s.who.Tasks.Allows(user)
}

func (s sight) executor(f *core.Framework, e *core.Executor) bool {
	if s.who == nil {
		return true
	}
	user := f.Info.GetUser()
	if c := e.Info.GetCommand(); c != nil && c.User != nil {
		user = c.GetUser()
	}
	return s.who.Executors.Allows(user)
}

func (s sight) role(name string) bool { return s.who == nil || s.who.Roles.Allows(name) }

func (s sight) quota(role string) bool { return s.who == nil || s.who.Quotas.Allows(role) }

// tasks are those of a list that are seen; the list itself if that is all of them.
func (s sight) tasks(f *core.Framework, list []*core.Task) []*core.Task {
	if s.who == nil || s.who.Tasks.Everything() {
		return list
	}
	var seen []*core.Task
	for _, t := range list {
		if s.task(f, t) {
			seen = append(seen, t)
		}
	}
	return seen
}

// frameworkID says whether a framework that is known by its id only is seen. One that
// is forgotten is hidden from all who do not see everything.
func (s sight) frameworkID(v *core.View, id string) bool {
	if s.who == nil || s.who.Frameworks.Everything() || id == "" {
		return true
	}
	if f, ok := v.Frameworks.Get(id); ok {
		return s.framework(f)
	}
	for _, f := range v.CompletedFrameworks {
		if f.ID == id {
			return s.framework(f)
		}
	}
	return false
}

// item says whether a resource is seen: all roles that it is reserved for, one below
// the other, and the one that it is allocated to.
func (s sight) item(it *resources.Item) bool {
	for _, r := range it.Reservations() {
		if !s.role(r.Role) {
			return false
		}
	}
	return it.Role() == "" || s.role(it.Role())
}

// resources are those that are seen.
func (s sight) resources(r resources.Resources) resources.Resources {
	if s.allRoles() {
		return r
	}
	return r.Filter(func(it resources.Item) bool { return s.item(&it) })
}

func (s sight) allRoles() bool { return s.who == nil || s.who.Roles.Everything() }

// agentInfo is the info with the resources that are seen.
func (s sight) agentInfo(info *mesos.AgentInfo) *mesos.AgentInfo {
	if s.allRoles() || len(info.GetResources()) == 0 {
		return info
	}
	info = proto.CloneOf(info)
	info.Resources = slices.DeleteFunc(info.Resources, func(r *mesos.Resource) bool { return !s.resource(r) })
	return info
}

// resource is item for a resource as it came, which may tell its role the old way.
func (s sight) resource(r *mesos.Resource) bool {
	if r.Role != nil && r.GetRole() != "*" && !s.role(r.GetRole()) {
		return false
	}
	for _, e := range r.Reservations {
		if !s.role(e.GetRole()) {
			return false
		}
	}
	return r.AllocationInfo == nil || s.role(r.AllocationInfo.GetRole())
}

// operation is seen with all resources that it is about, those that it makes among
// them (Mesos looks at what it consumes only), and with its framework.
func (s sight) operation(v *core.View, o *core.Operation) bool {
	if s.who == nil {
		return true
	}
	for i := range o.Consumed.Len() {
		if it := o.Consumed.At(i); !s.item(&it) {
			return false
		}
	}
	return s.frameworkID(v, o.FrameworkID) && s.message(o.Proto())
}

// message says whether all resources within a message are seen.
func (s sight) message(m proto.Message) bool {
	seen := true
	_ = protorange.Range(m.ProtoReflect(), func(p protopath.Values) error {
		if sub, ok := p.Index(-1).Value.Interface().(protoreflect.Message); ok {
			if r, ok := sub.Interface().(*mesos.Resource); ok && !s.resource(r) {
				seen = false
				return protorange.Terminate
			}
		}
		return nil
	})
	return seen
}
