package server

import (
	"clusterd/internal/authz"
)

// How much of what an action can be done to it may be done to.
const (
	mayAll  = "all"
	maySome = "some"
	mayNone = "none"
)

// pageAction is something that pages and the command line offer to do.
type pageAction struct {
	// needs are the permissions for it: all of them.
	needs []authz.Action
	// path, if set, is the path of an endpoint that get_endpoints must permit.
	path string
	// reads says that the realm of readers lets in who does it; else that of operators.
	reads bool
}

// pageActions are all of them, by the names of Mesos's authorizer where it has one
// (include/mesos/authorizer/authorizer.proto). What is done on agents is judged by the
// agents' rules in the end; the answer here is by those of the master.
var pageActions = map[string]pageAction{
	"TEARDOWN_FRAMEWORK": {needs: []authz.Action{authz.TeardownFrameworks}},
	// Who may end the whole framework may end a part of it.
	"KILL_TASK":                   {needs: []authz.Action{authz.TeardownFrameworks}},
	"DRAIN_AGENT":                 {needs: []authz.Action{authz.DrainAgents}},
	"CANCEL_DRAIN":                {needs: []authz.Action{authz.ReactivateAgents}},
	"DEACTIVATE_AGENT":            {needs: []authz.Action{authz.DeactivateAgents}},
	"REACTIVATE_AGENT":            {needs: []authz.Action{authz.ReactivateAgents}},
	"MARK_AGENT_GONE":             {needs: []authz.Action{authz.MarkAgentsGone}},
	"UPDATE_QUOTA":                {needs: []authz.Action{authz.UpdateQuotas}},
	"UPDATE_WEIGHT":               {needs: []authz.Action{authz.UpdateWeights}},
	"RESERVE_RESOURCES":           {needs: []authz.Action{authz.ReserveResources}},
	"UNRESERVE_RESOURCES":         {needs: []authz.Action{authz.UnreserveResources}},
	"CREATE_VOLUME":               {needs: []authz.Action{authz.CreateVolumes}},
	"DESTROY_VOLUME":              {needs: []authz.Action{authz.DestroyVolumes}},
	"RESIZE_VOLUME":               {needs: []authz.Action{authz.ResizeVolumes}},
	"UPDATE_MAINTENANCE_SCHEDULE": {needs: []authz.Action{authz.UpdateMaintenanceSchedules}},
	"START_MAINTENANCE":           {needs: []authz.Action{authz.StartMaintenances}},
	"STOP_MAINTENANCE":            {needs: []authz.Action{authz.StopMaintenances}},
	"SET_LOG_LEVEL":               {needs: []authz.Action{authz.SetLogLevel}},

	"LAUNCH_NESTED_CONTAINER": {needs: []authz.Action{
		authz.LaunchNestedContainersAsUser, authz.LaunchNestedContainersUnderParentWithUser,
	}},
	"LAUNCH_NESTED_CONTAINER_SESSION": {needs: []authz.Action{
		authz.LaunchNestedContainerSessionsAsUser, authz.LaunchNestedContainerSessionsUnderParentWithUser,
		authz.AttachContainersInput, authz.AttachContainersOutput,
	}},
	"ATTACH_CONTAINER_INPUT":      {needs: []authz.Action{authz.AttachContainersInput}},
	"ATTACH_CONTAINER_OUTPUT":     {needs: []authz.Action{authz.AttachContainersOutput}},
	"KILL_NESTED_CONTAINER":       {needs: []authz.Action{authz.KillNestedContainers}},
	"REMOVE_NESTED_CONTAINER":     {needs: []authz.Action{authz.RemoveNestedContainers}},
	"LAUNCH_STANDALONE_CONTAINER": {needs: []authz.Action{authz.LaunchStandaloneContainers}},
	"KILL_STANDALONE_CONTAINER":   {needs: []authz.Action{authz.KillStandaloneContainers}},
	"PRUNE_IMAGES":                {needs: []authz.Action{authz.PruneImages}},

	"ADD_MASTER":          {path: "/api/clusterd/v1/registry/add"},
	"REMOVE_MASTER":       {path: "/api/clusterd/v1/registry/remove"},
	"TRANSFER_LEADERSHIP": {path: "/api/clusterd/v1/registry/transfer"},
	"SNAPSHOT_REGISTRY":   {path: "/api/clusterd/v1/registry/snapshot"},
	"VIEW_REGISTRY":       {path: "/api/clusterd/v1/registry"},

	"VIEW_FRAMEWORK":           {needs: []authz.Action{authz.ViewFrameworks}, reads: true},
	"VIEW_TASK":                {needs: []authz.Action{authz.ViewTasks}, reads: true},
	"VIEW_EXECUTOR":            {needs: []authz.Action{authz.ViewExecutors}, reads: true},
	"VIEW_CONTAINER":           {needs: []authz.Action{authz.ViewContainers}, reads: true},
	"VIEW_ROLE":                {needs: []authz.Action{authz.ViewRoles}, reads: true},
	"GET_QUOTA":                {needs: []authz.Action{authz.GetQuotas}, reads: true},
	"GET_MAINTENANCE_SCHEDULE": {needs: []authz.Action{authz.GetMaintenanceSchedules}, reads: true},
	"GET_MAINTENANCE_STATUS":   {needs: []authz.Action{authz.GetMaintenanceStatuses}, reads: true},
	"VIEW_FLAGS":               {needs: []authz.Action{authz.ViewFlags}, reads: true},
	"VIEW_METRICS":             {path: "/metrics/snapshot", reads: true},
	"ACCESS_SANDBOX":           {needs: []authz.Action{authz.AccessSandboxes}, reads: true},
	"ACCESS_MESOS_LOG":         {needs: []authz.Action{authz.AccessMesosLogs}, reads: true},
}

// actions say what a caller may do.
func (s *Server) actions(who caller) map[string]string {
	acls := s.policy.Load()
	out := make(map[string]string, len(pageActions))
	for name, a := range pageActions {
		in := who.writes
		if a.reads {
			in = who.reads
		}
		if out[name] = mayNone; in {
			out[name] = a.permitted(acls, who.principal)
		}
	}
	return out
}

// permitted says on how much an action is permitted. Where it needs several permissions the
// least of them counts: "some" of two may still come to none together.
func (a pageAction) permitted(acls *authz.ACLs, p *authz.Principal) string {
	if a.path != "" {
		if acls.Approver(p, authz.GetEndpoints).Allows(a.path) {
			return mayAll
		}
		return mayNone
	}
	out := mayAll
	for _, n := range a.needs {
		switch by := acls.Approver(p, n); {
		case by.Nothing():
			return mayNone
		case !by.Everything():
			out = maySome
		}
	}
	return out
}
