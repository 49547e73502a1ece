package core

import (
	"math"
	"slices"
	"strconv"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// hasCapability reports whether a framework has announced a capability.
func hasCapability(info *mesos.FrameworkInfo, c mesos.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(info.GetCapabilities(), func(have *mesos.FrameworkInfo_Capability) bool {
		return have.GetType() == c
	})
}

// frameworkRoles lists the roles that a framework subscribes to, sorted.
func frameworkRoles(info *mesos.FrameworkInfo) []string {
	if !hasCapability(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		return []string{info.GetRole()}
	}
	roles := slices.Clone(info.GetRoles())
	slices.Sort(roles)
	return slices.Compact(roles)
}

// validateFrameworkInfo checks what can be known from the message alone (Mesos:
// src/master/validation.cpp, framework::validate).
func validateFrameworkInfo(info *mesos.FrameworkInfo) error {
	if err := validateRoles(info); err != nil {
		return err
	}
	if id := info.GetId().GetValue(); id != "" {
		if err := validateID(id); err != nil {
			return err
		}
	}
	for _, role := range sortedKeys(info.GetOfferFilters()) {
		if err := validateOfferFilters(info.OfferFilters[role]); err != nil {
			return err
		}
	}
	// A Duration of Mesos holds 292 years of nanoseconds.
	if t := info.GetFailoverTimeout(); math.IsNaN(t) || math.Abs(t)*1e9 > math.MaxInt64 {
		return invalidf("The framework failover_timeout (%s) is invalid", strconv.FormatFloat(t, 'g', -1, 64))
	}
	return nil
}

func validateRoles(info *mesos.FrameworkInfo) error {
	if !hasCapability(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		if len(info.GetRoles()) > 0 {
			return invalidf("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable")
		}
		return within("'FrameworkInfo.role' is not a valid role: ", resources.ValidateRole(info.GetRole()))
	}
	if info.Role != nil {
		return invalidf("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable")
	}
	seen := map[string]int{}
	var twice []string
	for _, role := range info.GetRoles() {
		if seen[role]++; seen[role] == 2 {
			twice = append(twice, role)
		}
	}
	if len(twice) > 0 {
		slices.Sort(twice)
		return invalidf("'FrameworkInfo.roles' contains duplicate items: %s", setText(twice))
	}
	for _, role := range info.GetRoles() {
		if err := resources.ValidateRole(role); err != nil {
			return within("'FrameworkInfo.roles' contains invalid role: ", err)
		}
	}
	return nil
}

func validateOfferFilters(f *mesos.OfferFilters) error {
	for _, q := range f.GetMinAllocatableResources().GetQuantities() {
		if len(q.GetQuantities()) == 0 {
			return invalidf("Resource quantities must contain at least one quantity")
		}
		for _, name := range sortedKeys(q.Quantities) {
			if err := validateScalarInput(q.Quantities[name].GetValue()); err != nil {
				return invalidf("Invalid resource quantity for '%s': %s", name, err)
			}
		}
	}
	return nil
}

func validateScalarInput(v float64) error {
	switch {
	case math.IsInf(v, 0):
		return invalidf("Infinite values not supported")
	case math.IsNaN(v):
		return invalidf("NaN not supported")
	case v != 0 && math.Abs(v) < 0x1p-1022:
		return invalidf("Subnormal values not supported")
	case v < 0:
		return invalidf("Negative values not supported")
	}
	return nil
}

// validateFramework checks a framework that subscribes, or changes itself, with
// what this master knows and allows (Mesos: Master::validateFramework).
func (c *Core) validateFramework(info *mesos.FrameworkInfo) error {
	if err := validateFrameworkInfo(info); err != nil {
		return err
	}
	var unknown []string
	for _, role := range frameworkRoles(info) {
		if !c.allowedRole(role) {
			unknown = append(unknown, role)
		}
	}
	if len(unknown) > 0 {
		return invalidf("Roles %s are not present in the master's --roles", setText(unknown))
	}
	if info.GetUser() == "root" && !c.cfg.RootSubmissions {
		return invalidf("User 'root' is not allowed to run frameworks without --root_submissions set")
	}
	if _, removed := c.removed[info.GetId().GetValue()]; removed {
		return invalidf("Framework has been removed")
	}
	return nil
}

// allowedRole reports whether --roles lets a role be used; it always allows the
// default role.
func (c *Core) allowedRole(role string) bool {
	return len(c.cfg.Roles) == 0 || role == "*" || slices.Contains(c.cfg.Roles, role)
}

// wishes are what a framework says besides its FrameworkInfo when it subscribes or
// changes itself.
type wishes struct {
	suppressed  []string // sorted
	constraints *scheduler.OfferConstraints
	compiled    *allocator.Constraints
}

// readWishes checks and compiles them.
func (c *Core) readWishes(roles, suppressed []string, constraints *scheduler.OfferConstraints) (wishes, error) {
	var unknown []string
	for _, role := range suppressed {
		if !slices.Contains(roles, role) && !slices.Contains(unknown, role) {
			unknown = append(unknown, role)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return wishes{}, invalidf("Suppressed roles %s are not contained in the set of roles", setText(unknown))
	}
	for _, role := range sortedKeys(constraints.GetRoleConstraints()) {
		if !slices.Contains(roles, role) {
			return wishes{}, invalidf("Offer constraints specify `role_constraints` for a role '%s'"+
				"not contained in the set of roles", role)
		}
	}
	compiled, err := allocator.CompileConstraints(constraints, c.cfg.ConstraintRegexps)
	if err != nil {
		return wishes{}, within("Offer constraints are not valid: ", err)
	}
	return wishes{suppressed: roleSet(suppressed), constraints: constraints, compiled: compiled}, nil
}

// validateUpdate checks that members that cannot change do not change.
func validateUpdate(old, info *mesos.FrameworkInfo) error {
	if (old.Principal == nil) != (info.Principal == nil) || old.GetPrincipal() != info.GetPrincipal() {
		return invalidf("Changing framework's principal is not allowed.")
	}
	if old.GetUser() != info.GetUser() {
		return invalidf("Updating 'FrameworkInfo.user' is unsupported; attempted to update from '%s' to '%s'",
			old.GetUser(), info.GetUser())
	}
	if old.GetCheckpoint() != info.GetCheckpoint() {
		return invalidf("Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '%t' to '%t'",
			old.GetCheckpoint(), info.GetCheckpoint())
	}
	return nil
}

// preserveImmutable silently undoes changes of members that a resubscription
// cannot change.
func preserveImmutable(old, info *mesos.FrameworkInfo) {
	if info.GetUser() != old.GetUser() {
		info.User = old.User
	}
	if info.GetCheckpoint() != old.GetCheckpoint() {
		info.Checkpoint = old.Checkpoint
	}
}
