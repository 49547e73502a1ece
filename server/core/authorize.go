package core

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/quota"
	"clusterd/api/mesosjson"
	"clusterd/internal/authz"
)

// need is a permission that something needs: of an action on an object, or without one
// where Mesos asks without (src/master/authorization.cpp, ActionObject).
type need struct {
	action   authz.Action
	object   *string
	resource *mesos.Resource // that the object is of; nil if it is of none
}

// permits says whether a principal may do something to an object, by the present rules.
func (c *Core) permits(p *authz.Principal, action authz.Action, object string) bool {
	return c.cfg.Policy.Approver(p, action).Allows(object)
}

// refusedOf returns the first of some permissions that a principal does not have; nil if
// it has all.
func (c *Core) refusedOf(p *authz.Principal, needs []need) *need {
	for i, n := range needs {
		a := c.cfg.Policy.Approver(p, n.action)
		if n.object == nil && !a.AllowsAny() || n.object != nil && !a.Allows(*n.object) {
			return &needs[i]
		}
	}
	return nil
}

// forbid answers a call that its principal may not make.
func (c *Core) forbid(in Operate) { c.answer(in.Request, 403, "") }

// principalOf is who a framework acts as: what it registered with, which is who it
// authenticated as if it did.
func principalOf(info *mesos.FrameworkInfo) *authz.Principal {
	if info.GetPrincipal() == "" {
		return nil
	}
	return &authz.Principal{Value: info.GetPrincipal()}
}

// authorizeFramework says whether a framework may have its roles. The principal is that of
// the framework as it is known (Mesos: checkSubscribeAuthorization, updateFramework).
func (c *Core) authorizeFramework(p *authz.Principal, info *mesos.FrameworkInfo) error {
	roles := frameworkRoles(info)
	if c.cfg.Policy.Approver(p, authz.RegisterFrameworks).AllowsAll(roles) {
		return nil
	}
	return invalidf("Not authorized to register framework %s with roles { %s }", info.GetId().GetValue(), strings.Join(roles, ", "))
}

// authorizeTask says whether a framework may run a task as the user that it is for. Mesos
// asks for one user, the task's own before its executor's; here both must be permitted where
// both are named, or who may not run as root could do so by its executor.
func (c *Core) authorizeTask(fw *framework, t *mesos.TaskInfo) error {
	approver := c.cfg.Policy.Approver(principalOf(fw.info), authz.RunTasks)
	if approver.Everything() {
		return nil
	}
	var own, executors *string
	if t.Command != nil {
		own = t.Command.User
	}
	if t.GetExecutor().GetCommand() != nil {
		executors = t.Executor.Command.User
	}
	user := authz.UserOf(fw.info.GetUser(), own, executors)
	if approver.Allows(user) {
		if executors == nil || approver.Allows(*executors) {
			return nil
		}
		user = *executors
	}
	return invalidf("launch task %s of framework %s under user '%s'", t.GetTaskId().GetValue(), fw.id, user)
}

// authorizeLaunch is authorizeTask for one task.
func (c *Core) authorizeLaunch(fw *framework, t *mesos.TaskInfo) error {
	if err := c.authorizeTask(fw, t); err != nil {
		return within(fmt.Sprintf("Principal '%s' not authorized to ", fw.info.GetPrincipal()), err)
	}
	return nil
}

// authorizeGroup says whether a framework may run all tasks of a group.
func (c *Core) authorizeGroup(fw *framework, tasks []*mesos.TaskInfo) error {
	for _, t := range tasks {
		if err := c.authorizeTask(fw, t); err != nil {
			return within(fmt.Sprintf("Task '%s' is not authorized to ", t.GetTaskId().GetValue()), err)
		}
	}
	return nil
}

// authorizeOperation says whether a framework may do an operation that is valid.
func (c *Core) authorizeOperation(fw *framework, op *mesos.Offer_Operation) error {
	if c.cfg.Policy == nil {
		return nil
	}
	if n := c.refusedOf(principalOf(fw.info), operationNeeds(op)); n != nil {
		return invalidf("Principal '%s' not authorized to perform action %s", fw.info.GetPrincipal(), n)
	}
	return nil
}

// operationNeeds lists the permissions that a valid operation needs, other than a launch.
func operationNeeds(op *mesos.Offer_Operation) []need {
	switch op.GetType() {
	case mesos.Offer_Operation_RESERVE:
		return reserveNeeds(op.GetReserve())
	case mesos.Offer_Operation_UNRESERVE:
		var needs []need
		for _, r := range op.GetUnreserve().GetResources() {
			needs = append(needs, unreserveNeed(r, len(r.GetReservations())-1))
		}
		return needs
	case mesos.Offer_Operation_CREATE:
		return orAny(authz.CreateVolumes, roleNeeds(authz.CreateVolumes, op.GetCreate().GetVolumes()...))
	case mesos.Offer_Operation_DESTROY:
		var needs []need
		for _, v := range op.GetDestroy().GetVolumes() {
			if p := v.GetDisk().GetPersistence(); p != nil {
				needs = append(needs, need{authz.DestroyVolumes, new(p.GetPrincipal()), v})
			}
		}
		return orAny(authz.DestroyVolumes, needs)
	case mesos.Offer_Operation_GROW_VOLUME:
		return roleNeeds(authz.ResizeVolumes, op.GetGrowVolume().GetVolume())
	case mesos.Offer_Operation_SHRINK_VOLUME:
		return roleNeeds(authz.ResizeVolumes, op.GetShrinkVolume().GetVolume())
	case mesos.Offer_Operation_CREATE_DISK:
		action := authz.CreateBlockDisks
		if op.GetCreateDisk().GetTargetType() == mesos.Resource_DiskInfo_Source_MOUNT {
			action = authz.CreateMountDisks
		}
		return roleNeeds(action, op.GetCreateDisk().GetSource())
	case mesos.Offer_Operation_DESTROY_DISK:
		source := op.GetDestroyDisk().GetSource()
		action := authz.DestroyRawDisks
		switch source.GetDisk().GetSource().GetType() {
		case mesos.Resource_DiskInfo_Source_MOUNT:
			action = authz.DestroyMountDisks
		case mesos.Resource_DiskInfo_Source_BLOCK:
			action = authz.DestroyBlockDisks
		default:
		}
		return roleNeeds(action, source)
	default:
		return nil
	}
}

// roleNeeds lists the permissions of an action for the role of each resource.
func roleNeeds(action authz.Action, rs ...*mesos.Resource) []need {
	var needs []need
	seen := map[string]bool{}
	for _, r := range rs {
		if role := reservationRole(r); !seen[role] {
			seen[role] = true
			needs = append(needs, need{action, &role, r})
		}
	}
	return needs
}

// orAny asks without an object where there is none.
func orAny(action authz.Action, needs []need) []need {
	if len(needs) == 0 {
		return []need{{action: action}}
	}
	return needs
}

// unreserveNeed is what taking one reservation of a resource away needs: the permission
// for who made it.
func unreserveNeed(r *mesos.Resource, i int) need {
	if i < 0 || i >= len(r.GetReservations()) || r.Reservations[i].Principal == nil {
		return need{action: authz.UnreserveResources}
	}
	return need{authz.UnreserveResources, r.Reservations[i].Principal, r}
}

// reserveNeeds lists what a RESERVE needs. One with a source takes reservations away down
// to what both stacks have in common, and then makes others. The stacks of all resources of
// a side are the same.
func reserveNeeds(op *mesos.Offer_Operation_Reserve) []need {
	if len(op.GetSource()) == 0 {
		return roleNeeds(authz.ReserveResources, op.GetResources()...)
	}
	had, wanted := op.Source[0].Reservations, op.GetResources()[0].Reservations
	common := 0
	for common < min(len(had), len(wanted)) && proto.Equal(had[common], wanted[common]) {
		common++
	}
	var needs []need
	for i := len(had) - 1; i >= common; i-- {
		for _, r := range op.Source {
			needs = append(needs, unreserveNeed(r, i))
		}
	}
	for i := common; i < len(wanted); i++ {
		needs = append(needs, need{authz.ReserveResources, new(wanted[i].GetRole()), op.Resources[0]})
	}
	return needs
}

// actionNames are the names of actions in Mesos's texts (authorizer.proto).
var actionNames = map[authz.Action]string{
	authz.ReserveResources:   "RESERVE_RESOURCES",
	authz.UnreserveResources: "UNRESERVE_RESOURCES",
	authz.CreateVolumes:      "CREATE_VOLUME",
	authz.DestroyVolumes:     "DESTROY_VOLUME",
	authz.ResizeVolumes:      "RESIZE_VOLUME",
	authz.CreateBlockDisks:   "CREATE_BLOCK_DISK",
	authz.CreateMountDisks:   "CREATE_MOUNT_DISK",
	authz.DestroyBlockDisks:  "DESTROY_BLOCK_DISK",
	authz.DestroyMountDisks:  "DESTROY_MOUNT_DISK",
	authz.DestroyRawDisks:    "DESTROY_RAW_DISK",
}

// String tells a permission in Mesos's words.
func (n *need) String() string {
	name := actionNames[n.action]
	if n.object == nil {
		return name + " on ANY object"
	}
	value, err := json.Marshal(*n.object)
	if err != nil {
		return name + " on object " + *n.object // which cannot be, of a string
	}
	resource, err := mesosjson.Marshal(n.resource)
	if err != nil {
		return fmt.Sprintf("%s on object {\"value\":%s}", name, value)
	}
	return fmt.Sprintf("%s on object {\"value\":%s,\"resource\":%s}", name, value, resource)
}

// authorizeAgent says whether the agent of a registration may join: it needs the permission
// to register, and one for each role that resources are statically reserved for (Mesos:
// ActionObject::agentRegistration, which also wants one for the role * if there are any).
func (c *Core) authorizeAgent(reg *registration) error {
	if c.cfg.Policy == nil {
		return nil
	}
	info := reg.msg.GetAgentInfo()
	needs := []need{{action: authz.RegisterAgents}}
	for _, r := range info.GetResources() {
		if role := staticRole(r); role != "*" {
			needs = append(needs, need{action: authz.ReserveResources, object: &role})
		}
	}
	if c.refusedOf(reg.principal, needs) == nil {
		return nil
	}
	what, who := "register", "without a principal"
	if reg.id() != "" {
		what = "reregister"
	}
	if reg.principal != nil {
		who = fmt.Sprintf("with principal '%s'", reg.principal)
	}
	total, err := readTotal(info.GetResources())
	if err != nil {
		return err
	}
	return invalidf("Not authorized to %s agent providing resources '%s' %s", what, total, who)
}

// staticRole is the role that an agent reserves a resource for, in either format; * if for
// none.
func staticRole(r *mesos.Resource) string {
	if len(r.GetReservations()) == 0 && r.GetRole() != "" {
		return r.GetRole()
	}
	return reservationRole(r)
}

// permitsWeights says whether a principal may set weights, and whether it may at all if
// there are none.
func (c *Core) permitsWeights(p *authz.Principal, infos []*mesos.WeightInfo) bool {
	var needs []need
	for _, w := range infos {
		needs = append(needs, need{action: authz.UpdateWeights, object: w.Role})
	}
	return c.refusedOf(p, orAny(authz.UpdateWeights, needs)) == nil
}

// permitsQuotas says whether a principal may change all of some quotas.
func (c *Core) permitsQuotas(p *authz.Principal, configs []*quota.QuotaConfig) bool {
	for _, q := range configs {
		if !c.permits(p, authz.UpdateQuotas, q.GetRole()) {
			return false
		}
	}
	return true
}
