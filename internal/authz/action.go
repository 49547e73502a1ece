package authz

// Action is what rules are made for. There is one for each list of the ACLs
// (include/mesos/authorizer/acls.proto), and it is named like its list.
type Action int

// The actions, in the order of the contract. What an object is, which Allows takes,
// stands in the comments.
const (
	RegisterFrameworks                               Action = iota + 1 // role
	RunTasks                                                           // user
	ReserveResources                                                   // role
	UnreserveResources                                                 // principal of the reserver
	CreateVolumes                                                      // role
	DestroyVolumes                                                     // principal of the creator
	TeardownFrameworks                                                 // principal of the framework
	UpdateWeights                                                      // role
	GetEndpoints                                                       // path
	GetQuotas                                                          // role
	UpdateQuotas                                                       // role
	ViewFrameworks                                                     // user
	ViewTasks                                                          // user
	ViewExecutors                                                      // user
	AccessSandboxes                                                    // user
	AccessMesosLogs                                                    // any
	ViewRoles                                                          // role
	ViewFlags                                                          // any
	LaunchNestedContainersAsUser                                       // user
	LaunchNestedContainersUnderParentWithUser                          // user
	KillNestedContainers                                               // user
	WaitNestedContainers                                               // user
	LaunchNestedContainerSessionsAsUser                                // user
	LaunchNestedContainerSessionsUnderParentWithUser                   // user
	AttachContainersInput                                              // user
	AttachContainersOutput                                             // user
	ViewContainers                                                     // user
	SetLogLevel                                                        // any
	RemoveNestedContainers                                             // user
	RegisterAgents                                                     // any
	UpdateMaintenanceSchedules                                         // any
	GetMaintenanceSchedules                                            // any
	StartMaintenances                                                  // any
	StopMaintenances                                                   // any
	GetMaintenanceStatuses                                             // any
	MarkAgentsGone                                                     // any
	LaunchStandaloneContainers                                         // any
	KillStandaloneContainers                                           // any
	WaitStandaloneContainers                                           // any
	RemoveStandaloneContainers                                         // any
	ModifyResourceProviderConfigs                                      // any
	ViewStandaloneContainers                                           // any
	PruneImages                                                        // any
	ResizeVolumes                                                      // role
	CreateBlockDisks                                                   // role
	DestroyBlockDisks                                                  // role
	CreateMountDisks                                                   // role
	DestroyMountDisks                                                  // role
	ViewResourceProviders                                              // any
	MarkResourceProvidersGone                                          // any
	DestroyRawDisks                                                    // role
	DrainAgents                                                        // any
	DeactivateAgents                                                   // any
	ReactivateAgents                                                   // any
)

// kind is what the objects of a list are.
type kind int

const (
	ofAny       kind = iota // only ANY and NONE may be said of them
	ofUser                  // names of users of the operating system
	ofRole                  // roles; `a/%` stands for all roles below a
	ofPrincipal             // principals
	ofPath                  // paths of endpoints
)

// lists tells for each action its list in the file, the key of the list's objects, and
// what they are.
var lists = [...]struct {
	name, objects string
	kind          kind
}{
	RegisterFrameworks:           {"register_frameworks", "roles", ofRole},
	RunTasks:                     {"run_tasks", "users", ofUser},
	ReserveResources:             {"reserve_resources", "roles", ofRole},
	UnreserveResources:           {"unreserve_resources", "reserver_principals", ofPrincipal},
	CreateVolumes:                {"create_volumes", "roles", ofRole},
	DestroyVolumes:               {"destroy_volumes", "creator_principals", ofPrincipal},
	TeardownFrameworks:           {"teardown_frameworks", "framework_principals", ofPrincipal},
	UpdateWeights:                {"update_weights", "roles", ofRole},
	GetEndpoints:                 {"get_endpoints", "paths", ofPath},
	GetQuotas:                    {"get_quotas", "roles", ofRole},
	UpdateQuotas:                 {"update_quotas", "roles", ofRole},
	ViewFrameworks:               {"view_frameworks", "users", ofUser},
	ViewTasks:                    {"view_tasks", "users", ofUser},
	ViewExecutors:                {"view_executors", "users", ofUser},
	AccessSandboxes:              {"access_sandboxes", "users", ofUser},
	AccessMesosLogs:              {"access_mesos_logs", "logs", ofAny},
	ViewRoles:                    {"view_roles", "roles", ofRole},
	ViewFlags:                    {"view_flags", "flags", ofAny},
	LaunchNestedContainersAsUser: {"launch_nested_containers_as_user", "users", ofUser},
	LaunchNestedContainersUnderParentWithUser:        {"launch_nested_containers_under_parent_with_user", "users", ofUser},
	KillNestedContainers:                             {"kill_nested_containers", "users", ofUser},
	WaitNestedContainers:                             {"wait_nested_containers", "users", ofUser},
	LaunchNestedContainerSessionsAsUser:              {"launch_nested_container_sessions_as_user", "users", ofUser},
	LaunchNestedContainerSessionsUnderParentWithUser: {"launch_nested_container_sessions_under_parent_with_user", "users", ofUser},
	AttachContainersInput:                            {"attach_containers_input", "users", ofUser},
	AttachContainersOutput:                           {"attach_containers_output", "users", ofUser},
	ViewContainers:                                   {"view_containers", "users", ofUser},
	SetLogLevel:                                      {"set_log_level", "level", ofAny},
	RemoveNestedContainers:                           {"remove_nested_containers", "users", ofUser},
	RegisterAgents:                                   {"register_agents", "agents", ofAny},
	UpdateMaintenanceSchedules:                       {"update_maintenance_schedules", "machines", ofAny},
	GetMaintenanceSchedules:                          {"get_maintenance_schedules", "machines", ofAny},
	StartMaintenances:                                {"start_maintenances", "machines", ofAny},
	StopMaintenances:                                 {"stop_maintenances", "machines", ofAny},
	GetMaintenanceStatuses:                           {"get_maintenance_statuses", "machines", ofAny},
	MarkAgentsGone:                                   {"mark_agents_gone", "agents", ofAny},
	LaunchStandaloneContainers:                       {"launch_standalone_containers", "users", ofAny},
	KillStandaloneContainers:                         {"kill_standalone_containers", "users", ofAny},
	WaitStandaloneContainers:                         {"wait_standalone_containers", "users", ofAny},
	RemoveStandaloneContainers:                       {"remove_standalone_containers", "users", ofAny},
	ModifyResourceProviderConfigs:                    {"modify_resource_provider_configs", "resource_providers", ofAny},
	ViewStandaloneContainers:                         {"view_standalone_containers", "users", ofAny},
	PruneImages:                                      {"prune_images", "images", ofAny},
	ResizeVolumes:                                    {"resize_volumes", "roles", ofRole},
	CreateBlockDisks:                                 {"create_block_disks", "roles", ofRole},
	DestroyBlockDisks:                                {"destroy_block_disks", "roles", ofRole},
	CreateMountDisks:                                 {"create_mount_disks", "roles", ofRole},
	DestroyMountDisks:                                {"destroy_mount_disks", "roles", ofRole},
	ViewResourceProviders:                            {"view_resource_providers", "resource_providers", ofAny},
	MarkResourceProvidersGone:                        {"mark_resource_providers_gone", "resource_providers", ofAny},
	DestroyRawDisks:                                  {"destroy_raw_disks", "roles", ofRole},
	DrainAgents:                                      {"drain_agents", "agents", ofAny},
	DeactivateAgents:                                 {"deactivate_agents", "agents", ofAny},
	ReactivateAgents:                                 {"reactivate_agents", "agents", ofAny},
}

// String returns the name of the action's list in the file.
func (a Action) String() string {
	if a <= 0 || int(a) >= len(lists) {
		return "unknown"
	}
	return lists[a].name
}

// Actions returns all actions in the order of their numbers.
func Actions() []Action {
	all := make([]Action, 0, len(lists)-1)
	for a := range lists[1:] {
		all = append(all, Action(a+1))
	}
	return all
}

// endpoints are the paths that get_endpoints may name (src/common/authorization.cpp),
// and ours, of which no other list speaks.
var endpoints = map[string]bool{
	"/containers":          true,
	"/containerizer/debug": true,
	"/files/debug":         true,
	"/logging/toggle":      true,
	"/metrics/snapshot":    true,
	"/monitor/statistics":  true,

	"/debug/flight":                      true,
	"/debug/pprof":                       true,
	"/registrar(1)/registry":             true,
	"/api/clusterd/v1/registry":          true,
	"/api/clusterd/v1/registry/add":      true,
	"/api/clusterd/v1/registry/remove":   true,
	"/api/clusterd/v1/registry/transfer": true,
	"/api/clusterd/v1/registry/snapshot": true,
}

// ObjectsKey returns the key of the objects in the rules of an action: "roles", "users".
func ObjectsKey(a Action) string {
	if a <= 0 || int(a) >= len(lists) {
		return ""
	}
	return lists[a].objects
}
