package authz

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// Approver answers for one principal and one action. The zero Approver permits
// everything.
type Approver struct{ v *verdicts }

// verdicts are the rules of an action that match one principal, worked out: the most
// specific entry decides. In the file the first entry decides; entries that an earlier one
// hides, and those that change nothing, are gone.
type verdicts struct {
	exact map[string]bool // by object
	below map[string]bool // by prefix, slash at the end, for roles below another
	// shortest and longest are lengths of these prefixes.
	shortest, longest int
	rest              bool // for all other objects, and when it is asked without one
	none              bool // for no objects at all: what holds where no rule matches
	// digest tells contents apart.
	digest [sha256.Size]byte
}

// refused refuses everything.
var refused = newVerdicts(false, false, nil, nil)

// newVerdicts works out the rules whose indices are given, which all match one principal.
// It follows LocalAuthorizerObjectApprover and LocalHierarchicalRoleApprover
// (src/authorizer/local/authorizer.cpp): a rule that matches permits, unless one of its
// sides is NONE.
func newVerdicts(role, permissive bool, rules []rule, matching []int) *verdicts {
	v := &verdicts{exact: make(map[string]bool), below: make(map[string]bool), rest: permissive, none: permissive}
	for _, i := range matching {
		allow := rules[i].principals.typ != none && rules[i].objects.typ != none
		if rules[i].objects.typ != some {
			v.rest = allow // it matches every object: no later rule is reached
			break
		}
		v.add(role, rules[i].objects.values, allow)
	}
	v.reduce()
	v.digest = v.sum()
	return v
}

// add adds a rule for some objects behind those that are there.
func (v *verdicts) add(role bool, objects []string, allow bool) {
	for _, object := range objects {
		if prefix, ok := strings.CutSuffix(object, "%"); ok && role && strings.HasSuffix(prefix, "/") {
			if _, hidden := nearest(strings.TrimSuffix(prefix, "/"), v.below); !hidden {
				if _, is := v.below[prefix]; !is {
					v.below[prefix] = allow
				}
			}
			continue
		}
		if _, is := v.exact[object]; is {
			continue
		}
		if _, hidden := nearest(object, v.below); !hidden {
			v.exact[object] = allow
		}
	}
}

// nearest returns what the longest of some prefixes says that an object begins with.
func nearest(object string, prefixes map[string]bool) (allow, ok bool) {
	for i := strings.LastIndexByte(object, '/'); i >= 0; i = strings.LastIndexByte(object[:i], '/') {
		if allow, ok = prefixes[object[:i+1]]; ok {
			return allow, true
		}
	}
	return false, false
}

// reduce drops the entries that say what would hold without them.
func (v *verdicts) reduce() {
	prefixes := make([]string, 0, len(v.below))
	for p := range v.below {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, func(a, b string) int { return len(a) - len(b) })
	kept := make(map[string]bool)
	without := func(object string) bool {
		if allow, ok := nearest(object, kept); ok {
			return allow
		}
		return v.rest
	}
	for _, p := range prefixes {
		if allow := v.below[p]; allow != without(p[:len(p)-1]) {
			kept[p] = allow
		}
	}
	v.below = kept
	for p := range kept {
		v.longest = max(v.longest, len(p))
		if v.shortest == 0 || len(p) < v.shortest {
			v.shortest = len(p)
		}
	}
	for object, allow := range v.exact {
		if allow == without(object) {
			delete(v.exact, object)
		}
	}
}

// sum returns the digest of the contents.
func (v *verdicts) sum() [sha256.Size]byte {
	var b strings.Builder
	for _, m := range []map[string]bool{v.exact, v.below} {
		keys := make([]string, 0, len(m))
		for k, allow := range m {
			keys = append(keys, k+"\x00"+verdict(allow))
		}
		slices.Sort(keys)
		for _, k := range keys {
			b.WriteString(k + "\x00")
		}
		b.WriteString("\x00\x00")
	}
	b.WriteString(verdict(v.rest))
	return sha256.Sum256([]byte(b.String()))
}

func verdict(allow bool) string {
	if allow {
		return "+"
	}
	return "-"
}

// Allows says whether the action is permitted on an object: the role, user,
// principal or path that the action's comment names. Actions on any object take "".
func (a Approver) Allows(object string) bool {
	v := a.v
	if v == nil {
		return true
	}
	if len(v.exact) > 0 {
		if allow, ok := v.exact[object]; ok {
			return allow
		}
	}
	if v.longest > 0 {
		// As nearest does, but only where a prefix can end.
		head := object[:min(len(object), v.longest)]
		for i := strings.LastIndexByte(head, '/'); i+1 >= v.shortest; i = strings.LastIndexByte(head[:i], '/') {
			if allow, ok := v.below[head[:i+1]]; ok {
				return allow
			}
		}
	}
	return v.rest
}

// AllowsAll says whether the action is permitted on every object of a list. On an empty one
// it is where rules are permissive, as for frameworks without roles in Mesos.
func (a Approver) AllowsAll(objects []string) bool {
	for _, o := range objects {
		if !a.Allows(o) {
			return false
		}
	}
	return len(objects) > 0 || a.v == nil || a.v.none
}

// AllowsAny says whether the action is permitted when it is not known on what: what
// Mesos asks without an object. Only rules about ANY or NONE objects count then.
func (a Approver) AllowsAny() bool { return a.v == nil || a.v.rest }

// Everything says whether the action is permitted on every object.
func (a Approver) Everything() bool {
	return a.v == nil || a.v.rest && len(a.v.exact) == 0 && len(a.v.below) == 0
}

// Nothing says whether the action is permitted on no object at all.
func (a Approver) Nothing() bool {
	return a.v != nil && !a.v.rest && len(a.v.exact) == 0 && len(a.v.below) == 0
}
