package render

import (
	"maps"
	"slices"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// role is one row of /roles.
type role struct {
	name       string
	weight     float64
	frameworks []string
	allocated  quantities
	offered    quantities
	reserved   quantities
	// idle is reserved for the role and not in use.
	idle quantities
}

// roles collects what is known of every role: those with a framework, a
// reservation, a weight or a quota, and their ancestors; or those of the
// whitelist and their ancestors (Mesos: Master::knownRoles). What a role holds
// includes what the roles below it hold.
func roles(v *core.View, whitelist []string, who sight) []*role {
	byName := make(map[string]*role)
	add := func(name string) {
		for _, n := range append([]string{name}, resources.Ancestors(name)...) {
			if byName[n] == nil {
				byName[n] = &role{name: n, weight: 1}
			}
		}
	}
	if whitelist != nil {
		for _, name := range whitelist {
			add(name)
		}
	} else {
		addKnown(v, add)
	}
	for name, w := range v.Weights.All() {
		if r := byName[name]; r != nil {
			r.weight = w
		}
	}
	// each calls f for the role and its ancestors, as far as they are shown.
	each := func(name string, f func(*role)) {
		for _, n := range append([]string{name}, resources.Ancestors(name)...) {
			if r := byName[n]; r != nil {
				f(r)
			}
		}
	}
	for f := range v.Frameworks.Values() {
		seen := who.framework(f)
		for _, name := range tracked(f) {
			if r := byName[name]; r != nil && seen {
				r.frameworks = append(r.frameworks, f.ID)
			}
		}
		for _, a := range f.Used().Allocations() {
			each(a.Role, func(r *role) { r.allocated.addAll(a.Resources) })
		}
		for _, a := range f.Offered().Allocations() {
			each(a.Role, func(r *role) { r.offered.addAll(a.Resources) })
		}
	}
	for a := range v.Agents.Values() {
		for _, res := range a.Total.Reservations() {
			each(res.Role, func(r *role) {
				r.reserved.addAll(res.Resources)
				r.idle.addAll(res.Resources)
			})
		}
		for _, res := range a.Used.Reservations() {
			each(res.Role, func(r *role) { r.idle.subtract(res.Resources) })
		}
	}
	out := make([]*role, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if !who.role(name) {
			continue
		}
		out = append(out, byName[name])
	}
	return out
}

func addKnown(v *core.View, add func(string)) {
	for f := range v.Frameworks.Values() {
		for _, name := range tracked(f) {
			add(name)
		}
	}
	for a := range v.Agents.Values() {
		for _, r := range a.Total.Reservations() {
			add(r.Role)
		}
	}
	for name := range v.Weights.All() {
		add(name)
	}
	for name := range v.Quotas.All() {
		add(name)
	}
}

// tracked are the roles that a framework is subscribed to or still holds
// something in.
func tracked(f *core.Framework) []string {
	names := slices.Clone(f.Roles)
	for _, r := range []resources.Resources{f.Used(), f.Offered()} {
		for _, a := range r.Allocations() {
			if a.Role != "" {
				names = append(names, a.Role)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (q *quantities) subtract(r resources.Resources) {
	var less quantities
	less.addAll(r)
	for _, e := range less {
		q.add(e.name, -e.milli)
	}
}

// plus is the sum, without the names that come to nothing.
func (q quantities) plus(that quantities) quantities {
	var sum quantities
	for _, list := range []quantities{q, that} {
		for _, e := range list {
			sum.add(e.name, e.milli)
		}
	}
	return slices.DeleteFunc(sum, func(e quantity) bool { return e.milli <= 0 })
}

// Roles writes /roles.
func Roles(v *core.View, whitelist []string, viewer *authz.Viewer) Body {
	o := open(nil)
	o.key("roles")
	o.buf = append(o.buf, '[')
	for i, r := range roles(v, whitelist, sight{viewer}) {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		in := open(o.buf)
		in.role(v, r)
		o.buf = in.close()
	}
	o.buf = append(o.buf, ']')
	return Body{o.close()}
}

func (o *object) role(v *core.View, r *role) {
	o.str("name", r.name)
	o.double("weight", r.weight)
	o.key("quota")
	in := open(o.buf)
	in.str("role", r.name)
	in.key("guarantee")
	in.buf = appendScalars(in.buf, quotaOf(v, r.name).GetGuarantees())
	in.key("limit")
	in.buf = appendScalars(in.buf, quotaOf(v, r.name).GetLimits())
	in.key("consumed")
	in.buf = appendQuantities(in.buf, r.allocated.plus(r.idle))
	o.buf = in.close()
	o.key("resources")
	o.buf = appendQuantities(o.buf, r.allocated.plus(r.offered))
	o.key("allocated")
	o.buf = appendQuantities(o.buf, r.allocated)
	o.key("offered")
	o.buf = appendQuantities(o.buf, r.offered)
	o.key("reserved")
	o.buf = appendQuantities(o.buf, r.reserved)
	o.strings("frameworks", r.frameworks)
}

func appendScalars(dst []byte, m map[string]*mesos.Value_Scalar) []byte {
	o := open(dst)
	for _, name := range sortedKeys(m) {
		o.name(name)
		o.buf = appendDouble(o.buf, m[name].GetValue())
	}
	return o.close()
}

// RoleUse is what a role, with the roles below it, has its hands on; amounts by
// the name of the resource.
type RoleUse struct {
	Role string
	// Weight of the role.
	Weight float64
	// Held is allocated or offered; Consumed counts against its quota.
	Held, Consumed map[string]float64
}

// Use returns the roles that are known, sorted by name. The first has the empty
// name: it is the root of the tree, which holds what all roles hold.
func Use(v *core.View, whitelist []string) []RoleUse {
	root := RoleUse{Weight: 1, Held: map[string]float64{}, Consumed: map[string]float64{}}
	uses := []RoleUse{root}
	for _, r := range roles(v, whitelist, sight{}) {
		u := RoleUse{Role: r.name, Weight: r.weight, Held: amounts(r.allocated.plus(r.offered)), Consumed: amounts(r.allocated.plus(r.idle))}
		uses = append(uses, u)
		if len(resources.Ancestors(r.name)) > 0 {
			continue // its parent has it already
		}
		for name, n := range u.Held {
			root.Held[name] += n
		}
		for name, n := range u.Consumed {
			root.Consumed[name] += n
		}
	}
	return uses
}

func amounts(q quantities) map[string]float64 {
	m := make(map[string]float64, len(q))
	for _, e := range q {
		m[e.name] = resources.FromMilli(e.milli)
	}
	return m
}
