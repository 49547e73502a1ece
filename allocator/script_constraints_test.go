package allocator

import (
	"fmt"
	"slices"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

func init() {
	scriptCommands["constraints"] = (*script).constraints
	scriptCommands["wants"] = (*script).wants
	scriptCommands["agent-info"] = (*script).agentInfo
}

// constraints sets the offer constraints of a framework, or just compiles them if
// none is named; none at all takes them away. See parseConstraints for the input.
func (s *script) constraints(c *command) string {
	limits := RegexpLimits{}
	if c.has("max_mem") {
		limits.MaxMemory = int64(c.float("max_mem"))
	}
	if c.has("max_program_size") {
		limits.MaxProgramSize = int(c.float("max_program_size"))
	}
	compiled, err := CompileConstraints(c.parseConstraints(c.lines()), limits)
	if err != nil {
		return err.Error()
	}
	if c.id == "" {
		return "fine"
	}
	f := s.a.framework(c.id).info
	f.Constraints = compiled
	s.a.UpdateFramework(c.id, f)
	return ""
}

// wants says, below constraints and a line "--", which agents a framework with them
// wants in a role. An agent is a line of attributes as in --attributes.
func (s *script) wants(c *command) string {
	lines := c.lines()
	at := slices.Index(lines, "--")
	compiled, err := CompileConstraints(c.parseConstraints(lines[:at]), RegexpLimits{})
	c.check(err)
	hostname, domain, role := c.arg("hostname"), c.domain(), c.arg("role")
	var b strings.Builder
	for _, line := range lines[at+1:] {
		answer := "no "
		if compiled.Match(role, hostname, domain, c.attributes(line)) {
			answer = "yes"
		}
		fmt.Fprintf(&b, "%s %s\n", answer, line)
	}
	return b.String()
}

// agentInfo changes what is known of an agent besides its resources.
func (s *script) agentInfo(c *command) string {
	a := s.a.agent(c.id).info
	if c.has("hostname") {
		a.Hostname = c.arg("hostname")
	}
	if c.has("region") {
		a.Domain = c.domain()
	}
	a.Active = !c.has("inactive")
	a.Attributes = c.attributes(strings.Join(c.lines(), ";"))
	s.a.UpdateAgent(c.id, a)
	return ""
}

func (c *command) domain() *mesos.DomainInfo {
	region := c.arg("region")
	if region == "" {
		return nil
	}
	d := testDomain(region)
	if c.has("zone") {
		d.FaultDomain.Zone.Name = new(c.arg("zone"))
	}
	return d
}

// attributes reads "rack:r1;size:12;ports:[1-2];tags:{a,b}": texts, scalars, ranges
// and sets.
func (c *command) attributes(text string) []*mesos.Attribute {
	var out []*mesos.Attribute
	for one := range strings.SplitSeq(text, ";") {
		if one == "" || one == "-" {
			continue
		}
		name, value, _ := strings.Cut(one, ":")
		a := &mesos.Attribute{Name: &name}
		switch {
		case strings.HasPrefix(value, "["):
			a.Type, a.Ranges = mesos.Value_RANGES.Enum(), &mesos.Value_Ranges{}
		case strings.HasPrefix(value, "{"):
			a.Type, a.Set = mesos.Value_SET.Enum(), &mesos.Value_Set{}
		case value != "" && strings.Trim(value, "0123456789.") == "":
			a.Type, a.Scalar = mesos.Value_SCALAR.Enum(), &mesos.Value_Scalar{Value: new(float64(len(value)))}
		default:
			a.Type, a.Text = mesos.Value_TEXT.Enum(), &mesos.Value_Text{Value: &value}
		}
		out = append(out, a)
	}
	return out
}

// parseConstraints reads a group a line: "ROLE: SELECTOR PREDICATE [VALUE] & ...". A
// selector is hostname, region, zone, or @ and the name of an attribute; a predicate
// exists, equals or matches, or one of them after "not". What is left out is left
// unset.
func (c *command) parseConstraints(lines []string) *scheduler.OfferConstraints {
	out := &scheduler.OfferConstraints{RoleConstraints: map[string]*scheduler.OfferConstraints_RoleConstraints{}}
	for _, line := range lines {
		role, rest, _ := strings.Cut(line, ":")
		if out.RoleConstraints[role] == nil {
			out.RoleConstraints[role] = &scheduler.OfferConstraints_RoleConstraints{}
		}
		if rest == " none" {
			continue
		}
		g := &scheduler.OfferConstraints_RoleConstraints_Group{}
		out.RoleConstraints[role].Groups = append(out.RoleConstraints[role].Groups, g)
		if rest == " empty" {
			continue
		}
		for text := range strings.SplitSeq(rest, "&") {
			g.AttributeConstraints = append(g.AttributeConstraints, c.parseConstraint(strings.TrimSpace(text)))
		}
	}
	return out
}

func (c *command) parseConstraint(text string) *scheduler.AttributeConstraint {
	words := strings.SplitN(text, " ", 2)
	sel := &scheduler.AttributeConstraint_Selector{}
	pseudo := func(p scheduler.AttributeConstraint_Selector_PseudoattributeType) {
		sel.Selector = &scheduler.AttributeConstraint_Selector_PseudoattributeType_{PseudoattributeType: p}
	}
	switch w := words[0]; {
	case w == "hostname":
		pseudo(scheduler.AttributeConstraint_Selector_HOSTNAME)
	case w == "region":
		pseudo(scheduler.AttributeConstraint_Selector_REGION)
	case w == "zone":
		pseudo(scheduler.AttributeConstraint_Selector_ZONE)
	case w == "unknown":
		pseudo(scheduler.AttributeConstraint_Selector_UNKNOWN)
	case w == "nothing":
	case strings.HasPrefix(w, "@"):
		sel.Selector = &scheduler.AttributeConstraint_Selector_AttributeName{AttributeName: w[1:]}
	default:
		c.fatalf("what is selected by %q?", w)
	}
	out := &scheduler.AttributeConstraint{Selector: sel}
	if len(words) > 1 {
		out.Predicate = c.parsePredicate(words[1])
	}
	return out
}

func (c *command) parsePredicate(text string) *scheduler.AttributeConstraint_Predicate {
	rest, not := strings.CutPrefix(text, "not ")
	word, value, _ := strings.Cut(rest, " ")
	p := &scheduler.AttributeConstraint_Predicate{}
	switch {
	case word == "exists" && not:
		p.Predicate = &scheduler.AttributeConstraint_Predicate_NotExists_{
			NotExists: &scheduler.AttributeConstraint_Predicate_NotExists{},
		}
	case word == "exists":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_Exists_{
			Exists: &scheduler.AttributeConstraint_Predicate_Exists{},
		}
	case word == "equals" && not:
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextNotEquals_{
			TextNotEquals: &scheduler.AttributeConstraint_Predicate_TextNotEquals{Value: &value},
		}
	case word == "equals":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextEquals_{
			TextEquals: &scheduler.AttributeConstraint_Predicate_TextEquals{Value: &value},
		}
	case word == "matches" && not:
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextNotMatches_{
			TextNotMatches: &scheduler.AttributeConstraint_Predicate_TextNotMatches{Regex: &value},
		}
	case word == "matches":
		p.Predicate = &scheduler.AttributeConstraint_Predicate_TextMatches_{
			TextMatches: &scheduler.AttributeConstraint_Predicate_TextMatches{Regex: &value},
		}
	default:
		c.fatalf("what predicate is %q?", text)
	}
	return p
}
