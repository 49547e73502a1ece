// Package authz decides who may do what: Mesos's local authorizer
// (src/authorizer/local) as a pure function.
//
// The main type is [ACLs], a parsed set of rules; it is immutable and safe for
// concurrent use, and nil permits everything. An [Approver] answers for one
// principal and one action, a [Viewer] says what one principal sees. Imported by
// the fronts of master and agent, and by server/core.
package authz

// ACLs are the rules of `--acls`. Nil permits everything.
type ACLs struct{}

// Approver answers for one principal and one action. The zero Approver permits
// everything.
type Approver struct{}

// Approver returns who answers for a principal and an action.
func (a *ACLs) Approver(p *Principal, action Action) Approver { return Approver{} }

// Allows says whether the action is permitted on an object: the role, user,
// principal or path that the action's comment names. Actions on any object take "".
func (a Approver) Allows(object string) bool { return true }

// Everything says whether the action is permitted on every object.
func (a Approver) Everything() bool { return true }

// Viewer is what one principal sees. Nil sees everything.
type Viewer struct {
	// Frameworks, Tasks, Executors and Containers are asked for the user, Roles and
	// Quotas for the role.
	Frameworks, Tasks, Executors, Containers, Roles, Quotas Approver
	// Flags says whether flags are seen.
	Flags bool

	key string
}

// Viewer returns what a principal sees: nil if that is everything.
func (a *ACLs) Viewer(p *Principal) *Viewer { return nil }

// Key tells viewers apart: those of the same ACLs with equal keys see the same. It is empty
// for nil.
func (v *Viewer) Key() string {
	if v == nil {
		return ""
	}
	return v.key
}
