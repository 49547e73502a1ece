package server

import (
	"net/http"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// The agents that offer constraints exclude are named, by role; frameworks without any exclude
// none.
func TestOfferConstraintsDebug(t *testing.T) {
	s := startMaster(t)
	id := startAgent(t, s, agentInfo()).id.GetValue()
	plain := subscribe(t, s, goldenInfo())
	picky := subscribe(t, s, goldenInfo())
	want := func(rack string) {
		r := picky.call(&scheduler.Call{
			Type: scheduler.Call_UPDATE_FRAMEWORK.Enum(), FrameworkId: picky.id,
			UpdateFramework: &scheduler.Call_UpdateFramework{
				FrameworkInfo:   withID(goldenInfo(), picky.id),
				SuppressedRoles: []string{"golden"},
				OfferConstraints: &scheduler.OfferConstraints{RoleConstraints: map[string]*scheduler.OfferConstraints_RoleConstraints{
					"golden": {Groups: []*scheduler.OfferConstraints_RoleConstraints_Group{{AttributeConstraints: []*scheduler.AttributeConstraint{{
						Selector: &scheduler.AttributeConstraint_Selector{Selector: &scheduler.AttributeConstraint_Selector_AttributeName{AttributeName: "rack"}},
						Predicate: &scheduler.AttributeConstraint_Predicate{Predicate: &scheduler.AttributeConstraint_Predicate_TextEquals_{
							TextEquals: &scheduler.AttributeConstraint_Predicate_TextEquals{Value: &rack},
						}},
					}}}}},
				}},
			},
		}, "application/json")
		if r.status != http.StatusOK {
			t.Fatalf("UPDATE_FRAMEWORK: %d %s", r.status, r.body)
		}
	}
	show := func() string {
		return get(t, s, "/hierarchical-allocator(1)/offer_constraints_debug").body
	}
	no := `"` + plain.id.GetValue() + `":{"suppressed_roles":[],"excluded_by_attribute_constraints":{"golden":[]}}`
	is := `"` + picky.id.GetValue() + `":{"suppressed_roles":["golden"],"excluded_by_attribute_constraints":{"golden":[`
	want("r2")
	mustContain(t, show(), no, is+`"`+id+`"]}}`)
	want("r1")
	mustContain(t, show(), no, is+`]}}`)
}

func withID(info *mesos.FrameworkInfo, id *mesos.FrameworkID) *mesos.FrameworkInfo {
	info = proto.CloneOf(info)
	info.Id = id
	return info
}
