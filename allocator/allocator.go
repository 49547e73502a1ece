// Package allocator decides who is offered what. It is a pure core: inputs and
// the time go in, offers come out; it starts no goroutine, reads no clock and
// performs no I/O, and the same calls in the same order give the same result.
//
// [Allocator] is the contract between it and server/core, the only importer.
// It is not safe for concurrent use.
package allocator

import (
	"time"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	allocatorpb "clusterd/api/mesos/v1/allocator"
)

// Framework is what the allocator knows of a framework.
type Framework struct {
	// Roles that it is subscribed to, and those of them it has suppressed.
	Roles      []string
	Suppressed []string
	// Capabilities that change what it may be offered.
	Revocable             bool // REVOCABLE_RESOURCES
	GPU                   bool // GPU_RESOURCES
	Shared                bool // SHARED_RESOURCES
	ReservationRefinement bool // RESERVATION_REFINEMENT
	RegionAware           bool // REGION_AWARE
	MultiRole             bool // MULTI_ROLE
	// MinAllocatable overrides Options.MinAllocatable per role
	// (FrameworkInfo.offer_filters). A present but empty entry accepts anything.
	MinAllocatable map[string][]resources.Quantities
	// Constraints say which agents it wants offers of; nil means any.
	Constraints *Constraints
	// Active frameworks are offered resources.
	Active bool
}

// Agent is what the allocator knows of an agent.
type Agent struct {
	Hostname   string
	Attributes []*mesos.Attribute
	Domain     *mesos.DomainInfo
	// Total resources, reservations and volumes included, not allocated.
	Total resources.Resources
	// Capabilities that limit which roles may use it.
	MultiRole        bool
	HierarchicalRole bool
	// Active agents are offered; a deactivated or draining one is not.
	Active bool
	// Unavailability is set while the agent's machine is scheduled for maintenance.
	Unavailability *mesos.Unavailability
}

// Filter makes the allocator refrain from offering resources again.
type Filter struct {
	// RefuseFor is the filter's length; zero or less sets none. It lasts at
	// least one allocation interval.
	RefuseFor time.Duration
}

// Offer is one decision: these resources of this agent go to this framework in
// this role. Resources carry the role as their allocation role.
type Offer struct {
	FrameworkID string
	Role        string
	AgentID     string
	Resources   resources.Resources
}

// InverseOffer asks a framework to leave an agent that is to be maintained.
type InverseOffer struct {
	FrameworkID    string
	AgentID        string
	Unavailability *mesos.Unavailability
}

// Allocation is the outcome of one run, in the order in which it was decided.
type Allocation struct {
	Offers        []Offer
	InverseOffers []InverseOffer
}

// Quota bounds a role. A name absent from Guarantees is not guaranteed; one
// absent from Limits is not limited.
type Quota struct {
	Guarantees resources.Quantities
	Limits     resources.Quantities
}

// Allocator is a hierarchical fair-share allocator.
//
// Resources are in one of three states for it: free, offered, allocated to a
// task or executor. It counts the last two together against a framework
// (Mesos, src/master/allocator/mesos/hierarchical.cpp). Unknown ids are a broken
// invariant of the caller and panic, except where a method says otherwise.
type Allocator interface {
	// AddFramework adds a framework, with what it uses already, by agent id.
	// Agents in used that are not known yet are counted when AddAgent names them.
	AddFramework(id string, f Framework, used map[string]resources.Resources)
	// UpdateFramework replaces what is known of a framework. Filters of roles
	// that it left are dropped; allocations stay until they are recovered.
	UpdateFramework(id string, f Framework)
	// RemoveFramework forgets a framework and takes back all that it held.
	RemoveFramework(id string)
	// ActivateFramework lets offers flow to it again.
	ActivateFramework(id string)
	// DeactivateFramework stops its offers and drops its filters; what it holds
	// stays its own until RecoverResources.
	DeactivateFramework(id string)

	// AddAgent adds an agent with what is in use on it, by framework id.
	AddAgent(id string, a Agent, used map[string]resources.Resources)
	// UpdateAgent replaces what is known of an agent. If its total or its
	// attributes change, all filters on it are dropped.
	UpdateAgent(id string, a Agent)
	// RemoveAgent forgets an agent and all that was held on it.
	RemoveAgent(id string)
	// ActivateAgent and DeactivateAgent switch its offers on and off.
	ActivateAgent(id string)
	DeactivateAgent(id string)
	// SetWhitelist limits offers to agents with these hostnames; nil lifts it.
	SetWhitelist(hostnames []string)

	// RequestResources notes what a framework says it needs (REQUEST), in place of
	// what it said before; no requests mean no particular need. On agents that
	// satisfy none of them whole, the framework comes after all others.
	RequestResources(frameworkID string, requests []*mesos.Request)
	// SuppressOffers stops offers for the roles (none: all) of a framework.
	SuppressOffers(frameworkID string, roles []string)
	// ReviveOffers undoes suppression and drops all filters for the roles
	// (none: all) of a framework.
	ReviveOffers(frameworkID string, roles []string)

	// UpdateAllocation tells of a speculative operation: within what frameworkID
	// holds on the agent, consumed has turned into converted, and so has the
	// agent's total. Both carry their allocation role.
	UpdateAllocation(frameworkID, agentID string, consumed, converted resources.Resources)
	// UpdateAvailable does the same to free resources of the agent, on behalf of
	// an operator; it reports false, and changes nothing, when not enough is free.
	UpdateAvailable(agentID string, consumed, converted resources.Resources) bool
	// RecoverResources returns resources, offered or allocated, to the free ones.
	// A filter, if any, is set for the framework, the resources' role and the
	// agent. Unknown frameworks and agents are tolerated (they may be gone).
	RecoverResources(now time.Time, frameworkID, agentID string, r resources.Resources, filter *Filter)

	// UpdateQuota sets the quota of a role, at any level of the tree; nil removes it.
	UpdateQuota(role string, q *Quota)
	// UpdateWeights sets weights, greater than 0, of roles.
	UpdateWeights(weights map[string]float64)
	// UpdateUnavailability sets or, by nil, clears an agent's maintenance. Answers
	// to inverse offers and refusals of them are forgotten, and inverse offers that
	// are outstanding count as rescinded: frameworks are asked anew. So they are
	// when UpdateAgent brings another unavailability.
	UpdateUnavailability(agentID string, u *mesos.Unavailability)
	// UpdateInverseOffer takes a framework's answer to an inverse offer. The
	// framework is asked again when the filter ends; without one, at once.
	UpdateInverseOffer(now time.Time, frameworkID, agentID string, accepted bool, filter *Filter)
	// RescindInverseOffer says that an inverse offer is gone without an answer: it
	// timed out, or was taken back; it may be made again at once. After
	// DeactivateFramework, DeactivateAgent and UpdateUnavailability it need not be
	// called. What is not outstanding, or not known, is ignored.
	RescindInverseOffer(frameworkID, agentID string)
	// InverseOfferStatuses returns the last answers of frameworks to the inverse
	// offers for an agent's present unavailability, by framework id. It is nil for
	// agents that are not known or not to be maintained.
	InverseOfferStatuses(agentID string) []*allocatorpb.InverseOfferStatus

	// StartRecovery says that agents are still expected to come back, with use
	// that is not known yet: until FinishRecovery, roles bound by a quota are
	// offered nothing that counts towards it.
	StartRecovery()
	FinishRecovery()

	// Allocate decides for what has changed since the last run.
	Allocate(now time.Time) Allocation
	// AllocateAll decides for every agent: the safety net of the period
	// --allocation_interval.
	AllocateAll(now time.Time) Allocation
	// NextDeadline is when Allocate should run next if nothing else happens: the
	// earliest expiry of a filter. False if there is none.
	NextDeadline() (time.Time, bool)

	// Explain says why a framework is offered nothing of some agents; those that are not
	// known are left out. It changes nothing that is decided later. It reports false if
	// the framework is not known.
	Explain(frameworkID string, agentIDs []string) (Explanation, bool)
}
