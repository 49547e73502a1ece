package allocator

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// Constraints are the offer constraints of a framework, compiled. They do not
// change, and may be used by several frameworks. Nil stands for none.
type Constraints struct {
	roles map[string][]group
}

// group is a list of constraints that must all hold; of the groups of a role one
// must.
type group []constraint

// constraint is something that must hold for an agent.
type constraint struct {
	selector  scheduler.AttributeConstraint_Selector_PseudoattributeType // UNKNOWN: attribute
	attribute string
	predicate predicate
	// not turns the predicate round, for an attribute that is not there as well.
	not  bool
	text string         // for equals
	re   *regexp.Regexp // for matches
}

type predicate int

const (
	exists predicate = iota
	equals
	matches
)

// Bounds on what one framework may send, which Mesos has not. A constraint is judged
// once an agent (see verdicts); a comparison then costs some 50 ns, a regular
// expression 0.5 to 1.5 us, so that all that is allowed costs a fraction of a
// millisecond an agent. To parse the worst of patterns takes 10 us a byte.
const (
	maxConstraints  = 10_000
	maxRegexps      = 200
	maxRegexpsBytes = 64 * 1024
)

// constraintError is what is wrong with offer constraints, in Mesos's words.
type constraintError string

// Error implements error.
func (e constraintError) Error() string { return string(e) }

func constraintErrorf(format string, args ...any) error {
	return constraintError(fmt.Sprintf(format, args...))
}

// CompileConstraints checks and compiles offer constraints (Mesos,
// src/master/allocator/mesos/offer_constraints_filter.cpp). It returns nil when
// there are none. The roles are not compared with those of any framework.
func CompileConstraints(c *scheduler.OfferConstraints, limits RegexpLimits) (*Constraints, error) {
	if len(c.GetRoleConstraints()) == 0 {
		return nil, nil //nolint:nilnil // nil are the constraints that constrain nothing
	}
	out := &Constraints{roles: make(map[string][]group, len(c.GetRoleConstraints()))}
	com := compiler{limits: limits, compiled: make(map[string]*regexp.Regexp)}
	for _, role := range slices.Sorted(maps.Keys(c.GetRoleConstraints())) {
		groups := c.GetRoleConstraints()[role].GetGroups()
		if len(groups) == 0 {
			return nil, constraintErrorf("'OfferConstraints::role_constraints' has an empty "+
				"'RoleConstraints::groups' for role %s", role)
		}
		for _, g := range groups {
			if len(g.GetAttributeConstraints()) == 0 {
				return nil, constraintErrorf("'OfferConstraints::RoleConstraints::groups' for role %s"+
					"contains an empty RoleConstraints::Group", role)
			}
			compiled := make(group, 0, len(g.GetAttributeConstraints()))
			for _, a := range g.GetAttributeConstraints() {
				one, err := com.constraint(a)
				if err != nil {
					return nil, constraintErrorf("A role %s has an invalid 'AttributeConstraint': %s", role, err)
				}
				compiled = append(compiled, one)
			}
			out.roles[role] = append(out.roles[role], compiled)
		}
	}
	return out, nil
}

// compiler compiles the constraints of one framework.
type compiler struct {
	limits   RegexpLimits
	count    int                       // of constraints
	bytes    int                       // of patterns
	compiled map[string]*regexp.Regexp // by pattern
}

func (c *compiler) constraint(a *scheduler.AttributeConstraint) (constraint, error) {
	if c.count++; c.count > maxConstraints {
		return constraint{}, constraintErrorf("Too many constraints: the maximum is %d", maxConstraints)
	}
	var out constraint
	switch s := a.GetSelector().GetSelector().(type) {
	case *scheduler.AttributeConstraint_Selector_PseudoattributeType_:
		switch s.PseudoattributeType {
		case scheduler.AttributeConstraint_Selector_HOSTNAME,
			scheduler.AttributeConstraint_Selector_REGION,
			scheduler.AttributeConstraint_Selector_ZONE:
			out.selector = s.PseudoattributeType
		default:
			return constraint{}, constraintError("Unknown pseudoattribute type")
		}
	case *scheduler.AttributeConstraint_Selector_AttributeName:
		out.attribute = s.AttributeName
	default:
		return constraint{}, constraintError("Exactly one of 'AttributeConstraint::Selector::name' or " +
			"'AttributeConstraint::Selector::pseudoattribute_type' must be set")
	}
	var err error
	switch p := a.GetPredicate().GetPredicate().(type) {
	case *scheduler.AttributeConstraint_Predicate_Exists_:
		out.predicate = exists
	case *scheduler.AttributeConstraint_Predicate_NotExists_:
		out.predicate, out.not = exists, true
	case *scheduler.AttributeConstraint_Predicate_TextEquals_:
		out.predicate, out.text = equals, p.TextEquals.GetValue()
	case *scheduler.AttributeConstraint_Predicate_TextNotEquals_:
		out.predicate, out.text, out.not = equals, p.TextNotEquals.GetValue(), true
	case *scheduler.AttributeConstraint_Predicate_TextMatches_:
		out.predicate = matches
		out.re, err = c.regexp(p.TextMatches.GetRegex())
	case *scheduler.AttributeConstraint_Predicate_TextNotMatches_:
		out.predicate, out.not = matches, true
		out.re, err = c.regexp(p.TextNotMatches.GetRegex())
	default:
		return constraint{}, constraintError("Unknown predicate type")
	}
	return out, err
}

// regexp compiles a pattern once.
func (c *compiler) regexp(pattern string) (*regexp.Regexp, error) {
	if re, ok := c.compiled[pattern]; ok {
		return re, nil
	}
	if len(c.compiled) == maxRegexps {
		return nil, constraintErrorf("Too many regular expressions: the maximum is %d", maxRegexps)
	}
	if c.bytes += len(pattern); c.bytes > maxRegexpsBytes {
		return nil, constraintErrorf("Too many regular expressions: the maximum is %d bytes of them", maxRegexpsBytes)
	}
	re, err := compileRegexp(pattern, c.limits)
	if err == nil {
		c.compiled[pattern] = re
	}
	return re, err
}

// Match reports whether the framework wants offers of the agent in the role. Most
// frameworks have no constraints, and then it is inlined to a comparison.
func (c *Constraints) Match(role, hostname string, domain *mesos.DomainInfo, attributes []*mesos.Attribute) bool {
	return c == nil || c.matches(role, hostname, domain, attributes)
}

func (c *Constraints) matches(role, hostname string, domain *mesos.DomainInfo, attributes []*mesos.Attribute) bool {
	groups, ok := c.roles[role]
	if !ok {
		return true
	}
	for _, g := range groups {
		if g.hold(hostname, domain, attributes) {
			return true
		}
	}
	return false
}

func (g group) hold(hostname string, domain *mesos.DomainInfo, attributes []*mesos.Attribute) bool {
	for i := range g {
		if !g[i].holds(hostname, domain, attributes) {
			return false
		}
	}
	return true
}

func (c *constraint) holds(hostname string, domain *mesos.DomainInfo, attributes []*mesos.Attribute) bool {
	switch c.selector {
	case scheduler.AttributeConstraint_Selector_HOSTNAME:
		return c.test(hostname)
	case scheduler.AttributeConstraint_Selector_REGION:
		if d := domain.GetFaultDomain(); d != nil {
			return c.test(d.GetRegion().GetName())
		}
	case scheduler.AttributeConstraint_Selector_ZONE:
		if d := domain.GetFaultDomain(); d != nil {
			return c.test(d.GetZone().GetName())
		}
	default:
		for _, a := range attributes {
			if a.GetName() != c.attribute {
				continue
			}
			// Of several attributes of the name the first counts. Of scalars, ranges
			// and sets the framework must judge for itself.
			if c.predicate != exists && a.GetType() != mesos.Value_TEXT {
				return true
			}
			return c.test(a.GetText().GetValue())
		}
	}
	return c.not
}

// test applies the predicate to the text of something that is there.
func (c *constraint) test(text string) bool {
	switch c.predicate {
	case equals:
		return (text == c.text) != c.not
	case matches:
		return c.re.MatchString(text) != c.not
	default:
		return !c.not
	}
}
