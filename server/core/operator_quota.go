package core

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/quota"
	"clusterd/internal/authz"
)

// quotaKey is the turn of changes of quotas.
const quotaKey = "quota"

// updateQuota sets the quotas of roles, all of them or none (src/master/quota_handler.cpp,
// update). Quotas of nested roles, which Mesos refuses, are taken.
func (c *Core) updateQuota(in Operate) {
	call := in.Call.GetUpdateQuota()
	c.inTurn(quotaKey, func(done func()) {
		if err := c.validateQuotas(call.GetQuotaConfigs(), call.GetForce()); err != nil {
			c.refuseCall(in, err)
			done()
			return
		}
		if !c.permitsQuotas(in.Principal, call.GetQuotaConfigs()) {
			c.forbid(in)
			done()
			return
		}
		c.commitQuotas(in, normalQuotas(call.GetQuotaConfigs()), done)
	})
}

// validateQuotas checks in Mesos's order, in which its texts can be relied on.
func (c *Core) validateQuotas(configs []*quota.QuotaConfig, force bool) error {
	for _, q := range configs {
		if !c.allowedRole(q.GetRole()) {
			return invalidf("Invalid QuotaConfig: '%s' is not on the roles whitelist", q.GetRole())
		}
		if err := validateQuota(q); err != nil {
			return within("Invalid QuotaConfig: ", err)
		}
	}
	if !force {
		use := c.consumption()
		for _, q := range configs {
			limits := resources.LimitsFromProto(q.GetLimits())
			if consumed := use[q.GetRole()]; !limits.LimitsContain(consumed) {
				return invalidf("Invalid QuotaConfig: Role '%s' is already consuming '%s'; "+
					"this is more than the requested limits '%s' (use 'force' flag to bypass this check)",
					q.GetRole(), consumed, limits)
			}
		}
	}
	tree := c.quotasWith(configs)
	if err := tree.validate(); err != nil {
		return within("Invalid QuotaConfig: ", err)
	}
	if force {
		return nil
	}
	if total, capacity := tree.total(), c.capacity(); !capacity.Contains(total) {
		return invalidf("Invalid QuotaConfig: total quota guarantees '%s' exceed cluster capacity '%s' "+
			"(use 'force' flag to bypass this check)", total, capacity)
	}
	return nil
}

// commitQuotas lets the registry have quotas, applies them and answers.
func (c *Core) commitQuotas(in Operate, configs []*quota.QuotaConfig, done func()) {
	c.propose(quotaKey, func() {
		for _, q := range configs {
			role := q.GetRole()
			if len(q.Guarantees) == 0 && len(q.Limits) == 0 {
				c.quotas.Delete(role)
				c.alloc.UpdateQuota(role, nil)
			} else {
				c.quotas.Set(role, q)
				c.alloc.UpdateQuota(role, quotaOf(q))
			}
			c.log(Info, "quota_updated", "role", role,
				"guarantees", resources.QuantitiesFromProto(q.Guarantees).String(),
				"limits", resources.LimitsFromProto(q.Limits).String())
		}
		c.publish.changed = true
		c.announce(&Event{Type: QuotasUpdated, Quotas: configs})
		c.rescindForQuotas(configs)
		c.answer(in.Request, 200, "")
		done()
	}, command(clusterdv1.Command_UPDATE_QUOTA, &clusterdv1.UpdateQuota{Configs: configs}))
}

// normalQuotas rounds to thousandths, as everything that is compared with a quota
// is, and leaves out guarantees of nothing. A limit of zero is one.
func normalQuotas(configs []*quota.QuotaConfig) []*quota.QuotaConfig {
	out := make([]*quota.QuotaConfig, len(configs))
	for i, q := range configs {
		out[i] = &quota.QuotaConfig{
			Role:       q.Role,
			Guarantees: resources.QuantitiesFromProto(q.GetGuarantees()).Proto(),
			Limits:     resources.LimitsFromProto(q.GetLimits()).Proto(),
		}
	}
	return out
}

// setQuota gives a role without a quota one that is guarantee and limit (deprecated
// in Mesos 1.9; src/master/quota_handler.cpp, _set).
func (c *Core) setQuota(in Operate) {
	request := in.Call.GetSetQuota().GetQuotaRequest()
	c.inTurn(quotaKey, func(done func()) {
		config, err := c.validateQuotaRequest(request)
		switch {
		case err != nil:
			c.refuseCall(in, err)
			done()
			return
		case !c.permits(in.Principal, authz.UpdateQuotas, request.GetRole()):
			c.forbid(in)
			done()
			return
		}
		configs := []*quota.QuotaConfig{config}
		if total, capacity := c.quotasWith(configs).total(), c.capacity(); !request.GetForce() && !capacity.Contains(total) {
			c.answer(in.Request, 409, fmt.Sprintf("Quota guarantees overcommit the cluster (use 'force' to bypass this check): "+
				"Total quota guarantees '%s' exceed cluster capacity '%s'", total, capacity))
			done()
			return
		}
		c.commitQuotas(in, normalQuotas(configs), done)
	})
}

func (c *Core) validateQuotaRequest(r *quota.QuotaRequest) (*quota.QuotaConfig, error) {
	const prefix = "Failed to validate set quota request: "
	if err := resources.ValidateAll(r.GetGuarantee()); err != nil {
		return nil, within("Failed to validate set quota request: QuotaInfo with invalid resource: ", err)
	}
	if err := validateQuotaInfo(r); err != nil {
		return nil, within(prefix, err)
	}
	role := r.GetRole()
	if !c.allowedRole(role) {
		return nil, invalidf(prefix+"Unknown role '%s'", role)
	}
	if _, has := c.quotas.Get(role); has {
		return nil, invalidf(prefix+"Cannot set quota for role '%s' which already has quota", role)
	}
	config := &quota.QuotaConfig{Role: &role, Guarantees: map[string]*mesos.Value_Scalar{}}
	for _, g := range r.GetGuarantee() {
		config.Guarantees[g.GetName()] = g.GetScalar()
	}
	config.Limits = config.Guarantees
	if err := validateQuota(config); err != nil { // Mesos stores whatever this is
		return nil, within(prefix, err)
	}
	tree := c.quotasWith([]*quota.QuotaConfig{config})
	if err := tree.validate(); err != nil {
		return nil, within(prefix, err)
	}
	return config, nil
}

// validateQuotaInfo follows src/master/quota.cpp, validation::quotaInfo.
func validateQuotaInfo(r *quota.QuotaRequest) error {
	if r.Role == nil {
		return invalidf("QuotaInfo must specify a role")
	}
	if err := resources.ValidateRole(r.GetRole()); err != nil {
		return within("QuotaInfo with invalid role: ", err)
	}
	if len(r.GetGuarantee()) == 0 {
		return invalidf("QuotaInfo with empty 'guarantee'")
	}
	names := map[string]bool{}
	for _, g := range r.GetGuarantee() {
		resources.ToPostRefinement(g)
		switch {
		case len(g.GetReservations()) > 0:
			return invalidf("QuotaInfo must not contain any ReservationInfo")
		case g.Disk != nil:
			return invalidf("QuotaInfo must not contain DiskInfo")
		case g.Revocable != nil:
			return invalidf("QuotaInfo must not contain RevocableInfo")
		case g.GetType() != mesos.Value_SCALAR:
			return invalidf("QuotaInfo must not include non-scalar resources")
		case names[g.GetName()]:
			return invalidf("QuotaInfo contains duplicate resource name '%s'", g.GetName())
		}
		names[g.GetName()] = true
	}
	return nil
}

// RemoveQuotaFailed begins what REMOVE_QUOTA is refused with.
const RemoveQuotaFailed = "Failed to remove quota: "

// removeQuota ends the quota of a role (deprecated in Mesos 1.9). Where the role has
// none Mesos dies of the call (std::out_of_range in QuotaHandler::_remove).
func (c *Core) removeQuota(in Operate) {
	role := in.Call.GetRemoveQuota().GetRole()
	c.inTurn(quotaKey, func(done func()) {
		none := []*quota.QuotaConfig{{Role: &role}}
		err := error(nil)
		if _, has := c.quotas.Get(role); !has {
			err = invalidf("Role '%s' has no quota set", role)
		} else {
			err = c.quotasWith(none).validate()
		}
		if err != nil {
			c.refuseCall(in, within(RemoveQuotaFailed, err))
			done()
			return
		}
		if !c.permitsQuotas(in.Principal, none) {
			c.forbid(in)
			done()
			return
		}
		c.commitQuotas(in, none, done)
	})
}

const (
	// exabyteMB bounds mem and disk in quotas, in megabytes.
	exabyteMB = 1 << 40
	// trillion bounds everything else.
	trillion = 1e12
)

// validateQuota follows src/master/quota.cpp, quota::validate.
func validateQuota(q *quota.QuotaConfig) error {
	if err := resources.ValidateRole(q.GetRole()); err != nil {
		return within("Invalid 'QuotaConfig.role': ", err)
	}
	if err := validateTooLarge(q.GetGuarantees()); err != nil {
		return within("Invalid 'QuotaConfig.guarantees': ", err)
	}
	if err := validateTooLarge(q.GetLimits()); err != nil {
		return within("Invalid 'QuotaConfig.limits': ", err)
	}
	for _, amounts := range []struct {
		what string
		m    map[string]*mesos.Value_Scalar
	}{{"guarantee", q.GetGuarantees()}, {"limit", q.GetLimits()}} {
		for _, name := range sortedKeys(amounts.m) {
			v := amounts.m[name].GetValue()
			if err := validateScalarInput(v); err != nil {
				return invalidf("Invalid %s configuration {'%s': %s}: %s", amounts.what, name, scalarText(v), err)
			}
		}
	}
	guarantees := resources.QuantitiesFromProto(q.GetGuarantees())
	if limits := resources.LimitsFromProto(q.GetLimits()); !limits.LimitsContain(guarantees) {
		return invalidf("'QuotaConfig.guarantees' %s is not contained within the 'QuotaConfig.limits' %s",
			scalarsText(q.GetGuarantees()), scalarsText(q.GetLimits()))
	}
	return nil
}

func validateTooLarge(m map[string]*mesos.Value_Scalar) error {
	for _, name := range sortedKeys(m) {
		v := m[name].GetValue()
		if name == "mem" || name == "disk" {
			if v > exabyteMB {
				return invalidf("{'%s': %s} is invalid: values greater than 1 exabyte (%d) are not supported",
					name, scalarText(v), int64(exabyteMB))
			}
		} else if v > trillion {
			return invalidf("{'%s': %s} is invalid: values greater than 1 trillion (%d) are not supported",
				name, scalarText(v), int64(trillion))
		}
	}
	return nil
}

// scalarText writes a scalar as Mesos does: 15 digits.
func scalarText(v float64) string { return strconv.FormatFloat(v, 'g', 15, 64) }

// scalarsText writes a map of scalars as Mesos does, but sorted.
func scalarsText(m map[string]*mesos.Value_Scalar) string {
	var parts []string
	for _, name := range sortedKeys(m) {
		parts = append(parts, name+": "+scalarText(m[name].GetValue()))
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// quotaTree has the quotas of all roles.
type quotaTree map[string]*quota.QuotaConfig

// quotasWith returns the quotas as they are with changes applied.
func (c *Core) quotasWith(changes []*quota.QuotaConfig) quotaTree {
	t := quotaTree{}
	c.quotas.Scan(func(role string, q *quota.QuotaConfig) bool {
		t[role] = q
		return true
	})
	for _, q := range changes {
		t[q.GetRole()] = q
	}
	return t
}

// validate checks that every role's guarantees hold those of its children, and
// every role's limits lie within those of its ancestors. A role without a quota
// guarantees nothing, and so can its children (Mesos: QuotaTree).
func (t quotaTree) validate() error {
	children := map[string]resources.Quantities{}
	for _, role := range sortedKeys(t) {
		limits := resources.LimitsFromProto(t[role].GetLimits())
		for i, above := range resources.Ancestors(role) {
			if i == 0 {
				children[above] = children[above].Add(resources.QuantitiesFromProto(t[role].GetGuarantees()))
			}
			bound := resources.LimitsFromProto(t[above].GetLimits())
			// Where the role itself has no limit, its ancestor's binds it.
			if !bound.LimitsContain(limits) {
				return invalidf("Invalid quota configuration. Role '%s' with limits (%s) "+
					"exceeds the limits (%s) of its parent role '%s'", role, limits, bound, above)
			}
		}
	}
	for _, role := range sortedKeys(children) {
		own := resources.QuantitiesFromProto(t[role].GetGuarantees())
		if !own.Contains(children[role]) {
			return invalidf("Invalid quota configuration. Parent role '%s' with guarantees (%s) "+
				"does not contain the sum of its children's guarantees (%s)", role, own, children[role])
		}
	}
	return nil
}

// total sums the guarantees of the top-level roles, in which all others lie.
func (t quotaTree) total() resources.Quantities {
	var sum resources.Quantities
	for _, role := range sortedKeys(t) {
		if !strings.Contains(role, "/") {
			sum = sum.Add(resources.QuantitiesFromProto(t[role].GetGuarantees()))
		}
	}
	return sum
}

// capacity is what the cluster has for guarantees: that of all admitted agents,
// even if they are disconnected, so that it does not shrink while one restarts.
// Mesos leaves out those that have not come back since a failover.
func (c *Core) capacity() resources.Quantities {
	var sum resources.Quantities
	c.agents.Scan(func(_ string, ag *agent) bool {
		sum = sum.Add(ag.total.NonRevocable().Quantities())
		return true
	})
	c.recovered.Scan(func(_ string, a RecoveredAgent) bool {
		if total, err := resources.FromProto(a.Info.GetResources()); err == nil {
			sum = sum.Add(total.NonRevocable().Quantities())
		}
		return true
	})
	return sum
}

// countsTowardsQuota says whether a resource that a role holds counts for its quota
// because it holds it; what is reserved counts anyway.
func countsTowardsQuota(it resources.Item) bool { return !it.Reserved() && !it.Revocable() }

// consumption is what each role has of its quota, with all below it: what tasks and
// executors hold, and all reservations. Offers do not count (Mesos:
// Master::RoleResourceBreakdown::consumedQuota).
func (c *Core) consumption() map[string]resources.Quantities {
	use := map[string]resources.Quantities{}
	add := func(role string, q resources.Quantities) {
		use[role] = use[role].Add(q)
		for _, above := range resources.Ancestors(role) {
			use[above] = use[above].Add(q)
		}
	}
	c.agents.Scan(func(_ string, ag *agent) bool {
		for _, e := range ag.used.Filter(countsTowardsQuota).Allocations() {
			add(e.Role, e.Resources.Quantities())
		}
		for _, e := range ag.total.Reservations() {
			add(e.Role, e.Resources.Quantities())
		}
		return true
	})
	return use
}

// rescindForQuotas takes offers back after quotas have changed: those that pass a
// role's new limits, and those of others that a role's new guarantees need. The
// newest go first. Like Mesos it takes nothing to be free, so that it may take back
// more than it must (src/master/quota_handler.cpp, _update).
func (c *Core) rescindForQuotas(configs []*quota.QuotaConfig) {
	var offers []countedOffer
	c.frameworks.Scan(func(_ string, fw *framework) bool {
		for _, o := range fw.offers.Values() {
			offers = append(offers, countedOffer{o, o.Resources.Filter(countsTowardsQuota).Quantities()})
		}
		return true
	})
	if len(offers) == 0 {
		return
	}
	slices.SortFunc(offers, func(a, b countedOffer) int { return cmp.Compare(b.seq, a.seq) })
	use := c.consumption()
	for _, q := range configs {
		if len(q.Guarantees) == 0 && len(q.Limits) == 0 {
			continue
		}
		if c.rescindForQuota(q, use[q.GetRole()], offers) {
			offers = slices.DeleteFunc(offers, func(o countedOffer) bool { return c.offers[o.ID] != o.offer })
		}
	}
}

// countedOffer is an offer with what it adds to the use of a quota.
type countedOffer struct {
	*offer
	counted resources.Quantities
}

// rescindForQuota says whether it has rescinded any.
func (c *Core) rescindForQuota(q *quota.QuotaConfig, held resources.Quantities, offers []countedOffer) (some bool) {
	role := q.GetRole()
	own := func(o countedOffer) bool { return o.Role == role || resources.IsStrictSubrole(o.Role, role) }
	for _, o := range offers {
		if own(o) {
			held = held.Add(o.counted)
		}
	}
	if limits := resources.LimitsFromProto(q.GetLimits()); !limits.LimitsContain(held) {
		for _, o := range offers {
			if own(o) && passes(o.counted, held, limits) {
				held = held.Sub(o.counted)
				c.rescind(o.offer)
				some = true
			}
		}
	}
	lacking := resources.QuantitiesFromProto(q.GetGuarantees()).Sub(held)
	if lacking.Empty() {
		return some
	}
	for _, o := range offers {
		if !own(o) && touches(o.counted, lacking) {
			lacking = lacking.Sub(o.counted)
			c.rescind(o.offer)
			some = true
		}
	}
	return some
}

// passes says whether r has a part in held passing limits.
func passes(r, held, limits resources.Quantities) bool {
	for i := range limits.Len() {
		l := limits.At(i)
		if held.Get(l.Name) > l.Milli && r.Get(l.Name) > 0 {
			return true
		}
	}
	return false
}

// touches says whether there is anything of what is wanted in r.
func touches(r, wanted resources.Quantities) bool {
	for i := range wanted.Len() {
		if r.Get(wanted.At(i).Name) > 0 {
			return true
		}
	}
	return false
}
