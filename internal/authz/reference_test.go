package authz

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestMain keeps rapid from leaving files in testdata: a failure prints its seed,
// which is enough to see it again.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// refEntity and refRule are rules as the file spells them.
type refEntity struct {
	Type   string   `json:"type,omitempty"`
	Values []string `json:"values,omitempty"`
}

func (e refEntity) typ() string {
	if e.Type == "" {
		return "SOME"
	}
	return e.Type
}

type refRule struct{ principals, objects refEntity }

// refMatches and refAllows are the two matrices of the local authorizer, cell by cell.
func refMatches(request, rule refEntity) bool {
	switch request.typ() + "/" + rule.typ() {
	case "SOME/SOME":
		return subset(request.Values, rule.Values)
	case "SOME/NONE", "SOME/ANY", "NONE/NONE", "ANY/NONE", "ANY/ANY":
		return true
	}
	return false
}

func refAllows(request, rule refEntity) bool {
	switch request.typ() + "/" + rule.typ() {
	case "SOME/SOME":
		return subset(request.Values, rule.Values)
	case "SOME/ANY", "NONE/NONE", "ANY/ANY":
		return true
	}
	return false
}

func subset(a, b []string) bool {
	for _, v := range a {
		if !slices.Contains(b, v) {
			return false
		}
	}
	return true
}

// refDecide walks the rules in order: the first that matches on both sides decides. A rule
// about roles with `x/%` counts as one rule for each such value, and one for the others.
func refDecide(permissive bool, rules []refRule, roles bool, p *Principal, object *string) bool {
	if p != nil && p.Value == "" {
		return false
	}
	subject := refEntity{Type: "ANY"}
	if p != nil {
		subject = refEntity{Values: []string{p.Value}}
	}
	request := refEntity{Type: "ANY"}
	if object != nil {
		request = refEntity{Values: []string{*object}}
	}
	for _, r := range rules {
		var plain []string
		for _, v := range r.objects.Values {
			if !roles || !strings.HasSuffix(v, "/%") {
				plain = append(plain, v)
				continue
			}
			if object != nil && strings.HasPrefix(*object, strings.TrimSuffix(v, "%")) && refMatches(subject, r.principals) {
				return refAllows(subject, r.principals)
			}
		}
		if len(plain) == 0 && r.objects.typ() == "SOME" {
			continue
		}
		objects := refEntity{Type: r.objects.Type, Values: plain}
		if refMatches(subject, r.principals) && refMatches(request, objects) {
			return refAllows(subject, r.principals) && refAllows(request, objects)
		}
	}
	return permissive
}

// document renders rules of one action as a file.
func document(t interface{ Fatal(args ...any) }, action Action, permissive bool, rules []refRule) []byte {
	list := make([]map[string]refEntity, 0, len(rules))
	for _, r := range rules {
		list = append(list, map[string]refEntity{"principals": r.principals, lists[action].objects: r.objects})
	}
	out, err := json.Marshal(map[string]any{"permissive": permissive, action.String(): list})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func drawEntity(t *rapid.T, label string, values []string, some bool) refEntity {
	types := []string{"ANY", "NONE"}
	if some {
		types = append(types, "", "SOME", "", "SOME", "", "SOME")
	}
	e := refEntity{Type: rapid.SampledFrom(types).Draw(t, label+" type")}
	if e.typ() == "SOME" {
		e.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 3).Draw(t, label)
	}
	return e
}

// TestAgainstReference compares random rules of all actions with the slow evaluator, for
// every principal and object that matter.
func TestAgainstReference(t *testing.T) {
	objects := map[kind][]string{
		ofRole: {"a", "a/%", "a/b", "a/b/%", "a/b/c", "a/bc", "b", "b/%", "*", "a%", "ab/c", "a/b/c/d", "a%/%"},
		ofPath: {"/containers", "/files/debug", "/metrics/snapshot"},
	}
	plain := []string{"root", "nobody", "x/%", "", "x/y"}
	objects[ofUser], objects[ofPrincipal] = plain, plain
	principals := []*Principal{
		nil,
		{Value: "p"},
		{Value: "q"},
		{Value: "r"},
		{Value: "other"},
		{Value: "p", Claims: map[string]string{"cid": "c"}},
		{Claims: map[string]string{"cid": "c"}},
		{},
	}
	rapid.Check(t, func(t *rapid.T) {
		action := rapid.SampledFrom(Actions()).Draw(t, "action")
		k := lists[action].kind
		permissive := rapid.Bool().Draw(t, "permissive")
		var rules []refRule
		for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
			r := refRule{principals: drawEntity(t, fmt.Sprint("principals ", i), []string{"p", "q", "r"}, true)}
			r.objects = drawEntity(t, fmt.Sprint("objects ", i), objects[k], k != ofAny)
			rules = append(rules, r)
		}
		file := document(t, action, permissive, rules)
		acls, err := Parse(file)
		if err != nil {
			t.Fatalf("Parse(%s) = %v", file, err)
		}
		for _, p := range principals {
			a := acls.Approver(p, action)
			all := refDecide(permissive, rules, k == ofRole, p, nil)
			if got := a.AllowsAny(); got != all {
				t.Fatalf("%s: AllowsAny for %+v = %v, want %v", file, p, got, all)
			}
			for _, o := range append([]string{"elsewhere", "a/zz", "b/zz", "", "/zz", "a/", "a%/x"}, objects[k]...) {
				want := refDecide(permissive, rules, k == ofRole, p, &o)
				if got := a.Allows(o); got != want {
					t.Fatalf("%s: Allows(%q) for %+v = %v, want %v", file, o, p, got, want)
				}
				all = all && want
			}
			if got := a.Everything(); got != all {
				t.Fatalf("%s: Everything for %+v = %v, want %v", file, p, got, all)
			}
		}
	})
}

// TestViewersWithOneKeySeeTheSame compares all pairs of viewers of random rules.
func TestViewersWithOneKeySeeTheSame(t *testing.T) {
	views := []Action{ViewFrameworks, ViewTasks, ViewExecutors, ViewContainers, ViewRoles, GetQuotas, ViewFlags}
	rapid.Check(t, func(t *rapid.T) {
		doc := map[string]any{"permissive": rapid.Bool().Draw(t, "permissive")}
		for _, action := range views {
			var rules []map[string]refEntity
			for range rapid.IntRange(0, 2).Draw(t, action.String()) {
				rules = append(rules, map[string]refEntity{
					"principals":          drawEntity(t, "principals", []string{"p", "q"}, true),
					lists[action].objects: drawEntity(t, "objects", []string{"a", "a/b", "a/%"}, lists[action].kind != ofAny),
				})
			}
			if rules != nil {
				doc[action.String()] = rules
			}
		}
		file, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		acls, err := Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		sees := func(p *Principal) (what string) {
			v := acls.Viewer(p)
			for _, o := range []string{"a", "a/b", "a/c", "a/%", "b"} {
				what += fmt.Sprint(v.SeesFramework(o), v.SeesTask(o), v.SeesExecutor(o), v.SeesRole(o), v.SeesQuota(o),
					v == nil || v.Containers.Allows(o))
			}
			return what + fmt.Sprint(v.SeesFlags())
		}
		byKey := make(map[string]string)
		for _, p := range []*Principal{nil, {Value: "p"}, {Value: "q"}, {Value: "other"}, {}} {
			key, what := acls.Viewer(p).Key(), sees(p)
			if (key == "") != !strings.Contains(what, "false") {
				t.Fatalf("%s: the key of %+v is %q, which sees %s", file, p, key, what)
			}
			if before, ok := byKey[key]; ok && before != what {
				t.Fatalf("%s: %+v sees %s, others with its key %s", file, p, what, before)
			}
			byKey[key] = what
		}
	})
}
