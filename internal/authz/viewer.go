package authz

import (
	"crypto/sha256"
	"encoding/hex"
)

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
func (a *ACLs) Viewer(p *Principal) *Viewer {
	a = a.of(p)
	if a == nil && (p == nil || p.Value != "") {
		return nil
	}
	v := &Viewer{
		Frameworks: a.Approver(p, ViewFrameworks),
		Tasks:      a.Approver(p, ViewTasks),
		Executors:  a.Approver(p, ViewExecutors),
		Containers: a.Approver(p, ViewContainers),
		Roles:      a.Approver(p, ViewRoles),
		Quotas:     a.Approver(p, GetQuotas),
		Flags:      a.Approver(p, ViewFlags).Allows(""),
	}
	everything := v.Flags
	parts := make([]byte, 0, 6*sha256.Size+1)
	for _, ap := range []Approver{v.Frameworks, v.Tasks, v.Executors, v.Containers, v.Roles, v.Quotas} {
		everything = everything && ap.Everything()
		parts = append(parts, ap.v.digest[:]...)
	}
	if everything {
		return nil
	}
	sum := sha256.Sum256(append(parts, verdict(v.Flags)...))
	v.key = hex.EncodeToString(sum[:16])
	return v
}

// Key tells viewers apart: those with equal keys see the same, also when they come from
// different ACLs. It is empty for nil.
func (v *Viewer) Key() string {
	if v == nil {
		return ""
	}
	return v.key
}

// UserOf returns the user that a task or an executor runs as: the first that is set, else
// the framework's. Of a task the command's user comes before its executor's.
func UserOf(framework string, own ...*string) string {
	for _, u := range own {
		if u != nil {
			return *u
		}
	}
	return framework
}

// SeesFramework says whether a framework of a user is seen.
func (v *Viewer) SeesFramework(user string) bool { return v == nil || v.Frameworks.Allows(user) }

// SeesTask says whether a task is seen, of which UserOf told the user. That its framework is
// seen is asked apart.
func (v *Viewer) SeesTask(user string) bool { return v == nil || v.Tasks.Allows(user) }

// SeesExecutor says whether an executor is seen, of which UserOf told the user. That its
// framework is seen is asked apart.
func (v *Viewer) SeesExecutor(user string) bool { return v == nil || v.Executors.Allows(user) }

// SeesRole says whether a role is seen.
func (v *Viewer) SeesRole(role string) bool { return v == nil || v.Roles.Allows(role) }

// SeesQuota says whether the quota of a role is seen.
func (v *Viewer) SeesQuota(role string) bool { return v == nil || v.Quotas.Allows(role) }

// SeesFlags says whether flags are seen.
func (v *Viewer) SeesFlags() bool { return v == nil || v.Flags }
