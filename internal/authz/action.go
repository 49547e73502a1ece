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
