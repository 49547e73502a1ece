package authz

// Principal is who an authenticated request comes from. Nil means that no
// authentication took place. One with claims but without a value is an executor or
// a resource provider, which may do only what its claims say.
type Principal struct {
	Value  string
	Claims map[string]string
	// Rules judge where who is asked has none of its own: those of the node that has
	// authenticated the principal and passes its request on. Nil: it said nothing of any.
	Rules *ACLs
}

// String names the principal in logs: its value, or its claims' presence.
func (p *Principal) String() string {
	switch {
	case p == nil:
		return ""
	case p.Value == "" && len(p.Claims) > 0:
		return "(claims)"
	default:
		return p.Value
	}
}

// OnlyClaims says whether this is a principal that has claims and no value.
func (p *Principal) OnlyClaims() bool { return p != nil && p.Value == "" && len(p.Claims) > 0 }
