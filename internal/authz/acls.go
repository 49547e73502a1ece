// Package authz decides who may do what: Mesos's local authorizer
// (src/authorizer/local) as a pure function.
//
// The main type is [ACLs], a parsed set of rules; it is immutable and safe for
// concurrent use, and nil permits everything. An [Approver] answers for one
// principal and one action, a [Viewer] says what one principal sees. Imported by
// the fronts of master and agent, and by server/core.
package authz

// ACLs are the rules of `--acls`. Nil permits everything to everybody but to those who have
// only claims; Parse makes others.
type ACLs struct {
	permissive bool
	actions    [len(lists)]answers
	source     []byte
}

// Source is what Parse made these rules of; nil for none. It must not be changed.
func (a *ACLs) Source() []byte {
	if a == nil {
		return nil
	}
	return a.source
}

// of are the rules that judge a principal.
func (a *ACLs) of(p *Principal) *ACLs {
	if a == nil && p != nil {
		return p.Rules
	}
	return a
}

// entityType is what the contract calls ACL.Entity.Type; the zero value is its default.
type entityType int

const (
	some entityType = iota
	anyone
	none
)

// entity is one side of a rule: the principals or the objects.
type entity struct {
	typ    entityType
	values []string
}

// rule is one entry of a list.
type rule struct{ principals, objects entity }

// answers are the verdicts of one action, worked out for everybody who could ask.
type answers struct {
	// named holds those for the principals that rules name.
	named map[string]*verdicts
	// others is for all other principals, and unset for requests without one, which only
	// rules for ANY or NONE principals speak of.
	others, unset *verdicts
}

// newACLs works the rules out.
func newACLs(permissive bool, rules map[Action][]rule) *ACLs {
	a := &ACLs{permissive: permissive}
	for _, action := range Actions() {
		a.actions[action] = work(action, permissive, rules[action])
	}
	return a
}

// work works the rules of one action out: for each principal that they name the list of
// those that match it, then the verdicts of that list. Principals that the same rules match
// share them.
func work(action Action, permissive bool, rules []rule) answers {
	shared := make(map[string]*verdicts)
	role := lists[action].kind == ofRole
	find := func(matching []int) *verdicts {
		key := make([]byte, 0, 4*len(matching))
		for _, i := range matching {
			key = append(key, byte(i), byte(i>>8), byte(i>>16), byte(i>>24))
		}
		if v := shared[string(key)]; v != nil {
			return v
		}
		v := newVerdicts(role, permissive, rules, matching)
		shared[string(key)] = v
		return v
	}

	var everybodys []int
	named := make(map[string][]int)
	for i, r := range rules {
		if r.principals.typ != some {
			everybodys = append(everybodys, i)
		} else {
			for _, p := range r.principals.values {
				named[p] = append(named[p], i)
			}
		}
	}
	all := find(everybodys)
	ans := answers{others: all, unset: all, named: make(map[string]*verdicts, len(named))}
	for p, own := range named {
		ans.named[p] = find(merge(own, everybodys))
	}
	return ans
}

// merge merges two rising lists into one without duplicates.
func merge(a, b []int) []int {
	out := make([]int, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		var next int
		if len(b) == 0 || len(a) > 0 && a[0] < b[0] {
			next, a = a[0], a[1:]
		} else {
			next, b = b[0], b[1:]
		}
		if len(out) == 0 || out[len(out)-1] != next {
			out = append(out, next)
		}
	}
	return out
}

// Approver returns who answers for a principal and an action. Principals without a value
// are refused everything (what their claims permit, AllowsContainer knows), as are actions
// that nobody knows. (In Mesos that holds only where there are rules: without --acls a token
// of an executor opens the whole agent.)
func (a *ACLs) Approver(p *Principal, action Action) Approver {
	a = a.of(p)
	switch {
	case p != nil && p.Value == "": // without rules, too: a task is no operator
		return Approver{v: refused}
	case a == nil:
		return Approver{}
	case action <= 0 || int(action) >= len(lists):
		return Approver{v: refused}
	case p == nil:
		return Approver{v: a.actions[action].unset}
	}
	ans := &a.actions[action]
	if v := ans.named[p.Value]; v != nil {
		return Approver{v: v}
	}
	return Approver{v: ans.others}
}
