package work

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/cli/console"
)

// operators of constraints, those that begin like another one first.
var operators = []string{"!=", "!~", "=", "~"}

// constraint is one --constraint: what must hold of an agent. The master is told as
// well, so that it offers no others; but its predicates let every attribute pass that
// is no text, and so the offers are looked at here again.
type constraint struct {
	name     string // of the attribute
	pseudo   scheduler.AttributeConstraint_Selector_PseudoattributeType
	operator string // empty: it is there; "!": it is not
	value    string
	re       *regexp.Regexp
}

// pseudoattributes are what is known of every agent. A bare hostname does as well: it
// is what people write, and hardly ever an attribute.
var pseudoattributes = map[string]scheduler.AttributeConstraint_Selector_PseudoattributeType{
	"hostname":  scheduler.AttributeConstraint_Selector_HOSTNAME,
	"@hostname": scheduler.AttributeConstraint_Selector_HOSTNAME,
	"@region":   scheduler.AttributeConstraint_Selector_REGION,
	"@zone":     scheduler.AttributeConstraint_Selector_ZONE,
}

// parseConstraint reads attr=value, attr!=value, attr~regex, attr!~regex, attr or !attr.
func parseConstraint(text string) (*constraint, error) {
	c := &constraint{name: text}
	at := len(text)
	for _, op := range operators {
		// The leftmost operator counts; of two at one place the longer one.
		if i := strings.Index(text, op); i >= 0 && i < at {
			at, c.operator = i, op
			c.name, c.value = text[:i], text[i+len(op):]
		}
	}
	if c.operator == "" {
		if rest, ok := strings.CutPrefix(text, "!"); ok {
			c.operator, c.name = "!", rest
		}
	}
	if c.name == "" || strings.ContainsAny(c.name, "!~= ") {
		return nil, console.Hint(fmt.Errorf("%w: --constraint %q", console.ErrUsage, text),
			"attr=value, attr!=value, attr~regex, attr!~regex, attr (it is there) or !attr; hostname, @zone and @region are known of each agent")
	}
	c.pseudo = pseudoattributes[c.name]
	if strings.HasPrefix(c.name, "@") && c.pseudo == scheduler.AttributeConstraint_Selector_UNKNOWN {
		return nil, fmt.Errorf("%w: --constraint %q: there is @hostname, @region and @zone", console.ErrUsage, text)
	}
	if strings.HasSuffix(c.operator, "~") {
		// All of the text is meant, as the master does it.
		re, err := regexp.Compile(`^(?:` + c.value + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%w: --constraint %q: %w", console.ErrUsage, text, err)
		}
		c.re = re
	}
	return c, nil
}

func (c *constraint) String() string {
	if c.operator == "!" {
		return "!" + c.name
	}
	return c.name + c.operator + c.value
}

// proto is the constraint as the master is told it.
func (c *constraint) proto() *scheduler.AttributeConstraint {
	selector := &scheduler.AttributeConstraint_Selector{}
	if c.pseudo != scheduler.AttributeConstraint_Selector_UNKNOWN {
		selector.Selector = &scheduler.AttributeConstraint_Selector_PseudoattributeType_{PseudoattributeType: c.pseudo}
	} else {
		selector.Selector = &scheduler.AttributeConstraint_Selector_AttributeName{AttributeName: c.name}
	}
	p := &scheduler.AttributeConstraint_Predicate{}
	switch c.operator {
	case "":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_Exists_{Exists: &scheduler.AttributeConstraint_Predicate_Exists{}}
	case "!":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_NotExists_{NotExists: &scheduler.AttributeConstraint_Predicate_NotExists{}}
	case "=":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextEquals_{TextEquals: &scheduler.AttributeConstraint_Predicate_TextEquals{Value: &c.value}}
	case "!=":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextNotEquals_{TextNotEquals: &scheduler.AttributeConstraint_Predicate_TextNotEquals{Value: &c.value}}
	case "~":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextMatches_{TextMatches: &scheduler.AttributeConstraint_Predicate_TextMatches{Regex: &c.value}}
	case "!~":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextNotMatches_{TextNotMatches: &scheduler.AttributeConstraint_Predicate_TextNotMatches{Regex: &c.value}}
	}
	return &scheduler.AttributeConstraint{Selector: selector, Predicate: p}
}

// offerConstraints are all constraints for a role; nil: there are none.
func offerConstraints(role string, all []*constraint) *scheduler.OfferConstraints {
	if len(all) == 0 {
		return nil
	}
	group := &scheduler.OfferConstraints_RoleConstraints_Group{}
	for _, c := range all {
		group.AttributeConstraints = append(group.AttributeConstraints, c.proto())
	}
	return &scheduler.OfferConstraints{RoleConstraints: map[string]*scheduler.OfferConstraints_RoleConstraints{
		role: {Groups: []*scheduler.OfferConstraints_RoleConstraints_Group{group}},
	}}
}

// holds reports whether an offer's agent is one that is wanted.
func (c *constraint) holds(o *mesos.Offer) bool {
	is := c.attribute(o)
	switch c.operator {
	case "":
		return is != nil
	case "!":
		return is == nil
	case "=", "~":
		return is != nil && is(c)
	}
	return is == nil || !is(c)
}

// attribute is what tells whether the agent's attribute is the one that is wanted; nil:
// it has none of the name.
func (c *constraint) attribute(o *mesos.Offer) func(*constraint) bool {
	text := func(s string) func(*constraint) bool {
		return func(c *constraint) bool {
			if c.re != nil {
				return c.re.MatchString(s)
			}
			return s == c.value
		}
	}
	domain := o.GetDomain().GetFaultDomain()
	switch c.pseudo {
	case scheduler.AttributeConstraint_Selector_HOSTNAME:
		return text(o.GetHostname())
	case scheduler.AttributeConstraint_Selector_REGION:
		if domain == nil {
			return nil
		}
		return text(domain.GetRegion().GetName())
	case scheduler.AttributeConstraint_Selector_ZONE:
		if domain == nil {
			return nil
		}
		return text(domain.GetZone().GetName())
	default:
	}
	for _, a := range o.GetAttributes() {
		if a.GetName() != c.name {
			continue
		}
		switch a.GetType() {
		case mesos.Value_SCALAR:
			return scalarIs(a.GetScalar().GetValue())
		case mesos.Value_RANGES:
			return rangesHave(a.GetRanges())
		default:
			return text(a.GetText().GetValue())
		}
	}
	return nil
}

func scalarIs(v float64) func(*constraint) bool {
	return func(c *constraint) bool {
		if c.re != nil {
			return c.re.MatchString(strconv.FormatFloat(v, 'f', -1, 64))
		}
		want, err := strconv.ParseFloat(c.value, 64)
		return err == nil && want == v
	}
}

func rangesHave(r *mesos.Value_Ranges) func(*constraint) bool {
	return func(c *constraint) bool {
		want, err := strconv.ParseUint(c.value, 10, 64)
		if err != nil || c.re != nil {
			return false
		}
		for _, r := range r.GetRange() {
			if want >= r.GetBegin() && want <= r.GetEnd() {
				return true
			}
		}
		return false
	}
}
