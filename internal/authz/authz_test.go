package authz

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func parse(t testing.TB, text string) *ACLs {
	t.Helper()
	a, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%s) = %v", text, err)
	}
	return a
}

// listNames are the lists of message ACLs (include/mesos/authorizer/acls.proto), each with
// the key of its objects.
const listNames = `
register_frameworks roles · run_tasks users · reserve_resources roles · unreserve_resources reserver_principals
create_volumes roles · destroy_volumes creator_principals · teardown_frameworks framework_principals
update_weights roles · get_endpoints paths · get_quotas roles · update_quotas roles · view_frameworks users
view_tasks users · view_executors users · access_sandboxes users · access_mesos_logs logs · view_roles roles
view_flags flags · launch_nested_containers_as_user users
launch_nested_containers_under_parent_with_user users · kill_nested_containers users
wait_nested_containers users · launch_nested_container_sessions_as_user users
launch_nested_container_sessions_under_parent_with_user users · attach_containers_input users
attach_containers_output users · view_containers users · set_log_level level · remove_nested_containers users
register_agents agents · update_maintenance_schedules machines · get_maintenance_schedules machines
start_maintenances machines · stop_maintenances machines · get_maintenance_statuses machines
drain_agents agents · deactivate_agents agents · reactivate_agents agents · mark_agents_gone agents
launch_standalone_containers users · kill_standalone_containers users · wait_standalone_containers users
remove_standalone_containers users · view_standalone_containers users
modify_resource_provider_configs resource_providers · mark_resource_providers_gone resource_providers
view_resource_providers resource_providers · prune_images images · resize_volumes roles
create_block_disks roles · destroy_block_disks roles · create_mount_disks roles · destroy_mount_disks roles
destroy_raw_disks roles`

// TestEveryListHasItsAction holds the actions against the contract, both ways.
func TestEveryListHasItsAction(t *testing.T) {
	want := make(map[string]string)
	for entry := range strings.SplitSeq(strings.ReplaceAll(strings.TrimSpace(listNames), "\n", " · "), " · ") {
		name, objects, ok := strings.Cut(entry, " ")
		if !ok {
			t.Fatalf("bad entry %q", entry)
		}
		want[name] = objects
	}
	if len(want) != 54 || len(Actions()) != len(want) {
		t.Errorf("there are %d actions for %d lists, want 54 of both", len(Actions()), len(want))
	}
	for _, a := range Actions() {
		if want[a.String()] != lists[a].objects {
			t.Errorf("action %d: list %s with objects %q, want %q", a, a, lists[a].objects, want[a.String()])
		}
		delete(want, a.String())
	}
	for name := range want {
		t.Errorf("list %s has no action", name)
	}
}

// object returns an object for an action, and another.
func object(a Action) (string, string) {
	if lists[a].kind == ofPath {
		return "/containers", "/monitor/statistics"
	}
	return "one", "two"
}

// TestEveryAction asks every action for what a rule allows, what a rule denies, and what no
// rule speaks of, and makes sure that no other action is touched.
func TestEveryAction(t *testing.T) {
	p, q := &Principal{Value: "p"}, &Principal{Value: "q"}
	for _, action := range Actions() {
		one, two := object(action)
		values := fmt.Sprintf(`"values":[%q]`, one)
		if lists[action].kind == ofAny {
			values, two = `"type":"ANY"`, one
		}
		file := func(permissive bool, principals, objects string) string {
			return fmt.Sprintf(`{"permissive":%v,%q:[{"principals":{%s},%q:{%s}}]}`, permissive, action, principals, lists[action].objects, objects)
		}
		someone, nobody := `"values":["p"]`, `"type":"NONE"`
		tests := []struct {
			name   string
			file   string
			p      *Principal
			object string
			want   bool
		}{
			{"allowed by its rule", file(false, someone, values), p, one, true},
			{"denied by its rule", file(true, nobody, values), p, one, false},
			{"denied to everybody", file(true, `"type":"ANY"`, `"type":"NONE"`), p, one, false},
			{"denied to who has no principal", file(true, nobody, values), nil, one, false},
			{"denied as nothing permits it", `{"permissive":false}`, p, one, false},
			{"denied to another principal", file(false, someone, values), q, one, false},
			{"denied without a principal", file(false, someone, values), nil, one, false},
			{"allowed to another principal", file(true, someone, `"type":"NONE"`), q, one, true},
			{"denied to the principal", file(true, someone, `"type":"NONE"`), p, one, false},
			{"denied to claims", `{}`, &Principal{Claims: map[string]string{"cid": "c"}}, one, false},
			{"allowed by default", `{}`, q, one, true},
			{"another object", file(false, someone, values), p, two, lists[action].kind == ofAny},
		}
		for _, tt := range tests {
			t.Run(action.String()+"/"+tt.name, func(t *testing.T) {
				acls := parse(t, tt.file)
				if got := acls.Approver(tt.p, action).Allows(tt.object); got != tt.want {
					t.Errorf("%s: %q on %q = %v, want %v", tt.file, tt.p, tt.object, got, tt.want)
				}
				if tt.p.OnlyClaims() {
					return
				}
				for _, other := range Actions() {
					if other != action && acls.Approver(tt.p, other).Everything() != acls.permissive {
						t.Errorf("%s: it touches %s", tt.file, other)
					}
				}
			})
		}
	}
}

func TestNilPermitsEverything(t *testing.T) {
	var acls *ACLs
	p := &Principal{Value: "p"}
	for _, action := range Actions() {
		a := acls.Approver(p, action)
		if !a.Allows("x") || !a.Everything() || !a.AllowsAny() || !acls.AllowsContainer(p, action, Container{}) {
			t.Errorf("%s is refused without ACLs", action)
		}
	}
	if v := acls.Viewer(p); v != nil || v.Key() != "" || !v.SeesTask("root") || !v.SeesFlags() {
		t.Errorf("Viewer = %+v, want nil, which sees everything", v)
	}
	if parse(t, `{}`).Approver(nil, Action(0)).Allows("") || parse(t, `{}`).Approver(nil, Action(999)).AllowsAny() {
		t.Error("an unknown action is permitted")
	}
}

// TestScenarios are those of src/tests/authorization_tests.cpp that say more than one rule
// does: order, hierarchies, and both sides at once.
func TestScenarios(t *testing.T) {
	tests := []struct {
		name      string
		file      string
		principal string // "" for none
		action    Action
		object    string
		want      bool
	}{
		{"guest runs as guest", guests, "guest", RunTasks, "guest", true},
		{"guest does not run as root", guests, "guest", RunTasks, "root", false},
		{"others run as guest", guests, "other", RunTasks, "guest", true},
		{"root runs nothing", guests, "other", RunTasks, "root", false},
		{"below", tree, "p", RegisterFrameworks, "eng/web", true},
		{"far below", tree, "p", RegisterFrameworks, "eng/web/shop", true},
		{"not the role itself", tree, "p", RegisterFrameworks, "eng", false},
		{"not a neighbour", tree, "p", RegisterFrameworks, "engine/web", false},
		{"an exception before", tree, "p", RegisterFrameworks, "eng/secret", false},
		{"below an exception", tree, "p", RegisterFrameworks, "eng/secret/x", true},
		{"hierarchies are for roles only", tree, "p", RunTasks, "eng/web", false},
		{"but the value itself matches", tree, "p", RunTasks, "eng/%", true},
		{"anybody is anyone with or without a name", `{"permissive":false,"view_flags":[{"principals":{"type":"ANY"},"flags":{"type":"ANY"}}]}`, "", ViewFlags, "", true},
		{"nobody", `{"view_flags":[{"principals":{"type":"NONE"},"flags":{"type":"ANY"}}]}`, "", ViewFlags, "", false},
		{"names are for those who have one", `{"view_flags":[{"principals":{"values":["p"]},"flags":{"type":"NONE"}}]}`, "", ViewFlags, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p *Principal
			if tt.principal != "" {
				p = &Principal{Value: tt.principal}
			}
			if got := parse(t, tt.file).Approver(p, tt.action).Allows(tt.object); got != tt.want {
				t.Errorf("%s: %s by %q on %q = %v, want %v", tt.file, tt.action, tt.principal, tt.object, got, tt.want)
			}
		})
	}
}

const (
	guests = `{"run_tasks":[
	{"principals":{"values":["guest"]},"users":{"values":["guest"]}},
	{"principals":{"values":["guest"]},"users":{"type":"NONE"}},
	{"principals":{"type":"NONE"},"users":{"values":["root"]}}]}`
	tree = `{"permissive":false,
	"register_frameworks":[
	{"principals":{"type":"NONE"},"roles":{"values":["eng/secret"]}},
	{"principals":{"values":["p"]},"roles":{"values":["eng/%"]}}],
	"run_tasks":[{"principals":{"values":["p"]},"users":{"values":["eng/%"]}}]}`
)

func TestAllowsAll(t *testing.T) {
	a := parse(t, tree).Approver(&Principal{Value: "p"}, RegisterFrameworks)
	if !a.AllowsAll([]string{"eng/a", "eng/b"}) || a.AllowsAll([]string{"eng/a", "eng"}) || a.AllowsAll(nil) {
		t.Error("all of the roles must be allowed, and of none what holds for any")
	}
	if !parse(t, `{}`).Approver(nil, RegisterFrameworks).AllowsAll(nil) || !(Approver{}).AllowsAll(nil) {
		t.Error("no roles at all are refused although everything is permitted")
	}
	if parse(t, `{}`).Approver(&Principal{}, RegisterFrameworks).AllowsAll(nil) {
		t.Error("who has no name is permitted something")
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name, file string
		want       []string
	}{
		{"empty", ``, []string{"unexpected EOF"}},
		{"cut", `{"permissive":`, []string{"unexpected EOF"}},
		{"cut in a list", `{"run_tasks":[`, []string{"EOF"}},
		{"no object", `[]`, []string{"want an object, got an array"}},
		{"tail", "{}\n\n{}", []string{"line 3: something follows"}},
		{"syntax", "{\n\"permissive\" true}", []string{"line 2", "invalid character"}},
		{"bytes", "{\"run_tasks\":\"\xff\"}", []string{"not UTF-8"}},
		{"depth", strings.Repeat("[", 1000), []string{"nest too deeply"}},
		{"misspelt", `{"register_framework":[]}`, []string{`unknown key "register_framework": did you mean "register_frameworks"?`}},
		{"misspelt permissive", `{"permisive":false}`, []string{`did you mean "permissive"?`}},
		{"upper case", `{"Run_Tasks":[]}`, []string{`did you mean "run_tasks"?`}},
		{"old names", `{"shutdown_frameworks":[],"set_quotas":[],"remove_quotas":[],"resize_volume":[]}`, []string{
			`"shutdown_frameworks" was renamed: write "teardown_frameworks"`,
			`"set_quotas" was renamed: write "update_quotas"`,
			`"remove_quotas" was renamed: write "update_quotas"`,
			`"resize_volume" was renamed: write "resize_volumes"`,
		}},
		{"twice", `{"run_tasks":[],"run_tasks":[]}`, []string{`"run_tasks" stands here twice`}},
		{"permissive", `{"permissive":"true"}`, []string{`permissive: want true or false, got "true"`}},
		{"null", `{"run_tasks":null}`, []string{"run_tasks: want an array of rules, got null"}},
		{"rule", `{"run_tasks":[1]}`, []string{"run_tasks[0]: want a rule"}},
		{"objects of another list", `{"run_tasks":[{"principals":{"type":"ANY"},"roles":{"type":"ANY"}}]}`, []string{
			`run_tasks[0]: unknown key "roles"`, `run_tasks[0]: "users" is missing`,
		}},
		{"no subject", `{"run_tasks":[{"users":{"type":"ANY"}}]}`, []string{`run_tasks[0]: "principals" is missing`}},
		{"type", `{"run_tasks":[{"principals":{"type":"any"},"users":{"type":2}}]}`, []string{
			`run_tasks[0].principals.type: want SOME, ANY or NONE, got "any"`, "run_tasks[0].users.type: want SOME, ANY or NONE, got 2",
		}},
		{"values beside ANY", `{"run_tasks":[{"principals":{"type":"ANY","values":["p"]},"users":{"type":"NONE","values":["u"]}}]}`, []string{
			"run_tasks[0].principals: values mean nothing", "run_tasks[0].users: values mean nothing",
		}},
		{"no values", `{"run_tasks":[{"principals":{},"users":{"values":[]}}]}`, []string{
			"run_tasks[0].principals: there are no values", "run_tasks[0].users: there are no values",
		}},
		{"values", `{"run_tasks":[{"principals":{"values":"p"},"users":{"values":["u",7]}}]}`, []string{
			"run_tasks[0].principals.values: want an array of strings", "run_tasks[0].users.values[1]: want a string, got 7",
		}},
		{"entity", `{"run_tasks":[{"principals":"p","users":{"value":["u"],"type":"ANY"}}]}`, []string{
			"run_tasks[0].principals: want an object", `run_tasks[0].users: unknown key "value"`,
		}},
		{"path", `{"get_endpoints":[{"principals":{"type":"ANY"},"paths":{"values":["/containers","/state"]}}]}`, []string{
			`get_endpoints[0].paths.values[1]: "/state" is not a path that can be guarded`,
		}},
		{"roles", `{"view_roles":[{"principals":{"type":"ANY"},"roles":{"values":["*","a/%","a%","eng/*","/%","%","a//b","a/../b","-x","a b","a/%/b","*/%"]}}]}`, []string{
			`roles.values[3]: "eng/*" is no role, because '*' cannot be a part of it`, `values[4]: "/%" is no role`, `values[5]: "%" is no role`,
			`values[6]: "a//b" is no role`, `values[7]: "a/../b"`, `values[8]: "-x"`, `values[9]: "a b"`, `values[10]: "a/%/b"`, `values[11]: "*/%"`,
		}},
		{"nobody", `{"run_tasks":[{"principals":{"values":["p",""]},"users":{"values":[""]}}]}`, []string{
			"run_tasks[0].principals: nobody has an empty name",
		}},
		{"the place", `{"register_frameworks":[{"principals":{"type":"ANY"},"roles":{"type":"ANY"}},{"principals":{"type":"ANY"},"roles":{"type":"ALL"}}]}`, []string{
			"register_frameworks[1].roles.type",
		}},
	}
	for _, a := range Actions() {
		if lists[a].kind == ofAny {
			tests = append(tests, struct {
				name, file string
				want       []string
			}{a.String(), fmt.Sprintf(`{%q:[{"principals":{"type":"ANY"},%q:{"values":["x"]}}]}`, a, lists[a].objects), []string{
				fmt.Sprintf("%s[0].%s: the type must be ANY or NONE", a, lists[a].objects),
			}})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			acls, err := Parse([]byte(tt.file))
			if acls != nil || !errors.Is(err, ErrInvalid) {
				t.Fatalf("Parse(%s) = %v, %v, want ErrInvalid", tt.file, acls, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Parse(%s) = %v, want %q in it", tt.file, err, want)
				}
			}
			if got, want := strings.Count(err.Error(), "\n")+1, len(tt.want); got != want && tt.name != "syntax" && len(tt.want) > 1 {
				t.Errorf("Parse(%s) tells %d problems, want %d:\n%v", tt.file, got, want, err)
			}
		})
	}
}

func TestManyProblems(t *testing.T) {
	_, err := Parse([]byte(`{"run_tasks":[` + strings.Repeat("1,", 499) + `1]}`))
	if err == nil || !strings.HasSuffix(err.Error(), "and 400 more problems") {
		t.Errorf("Parse = %v, want 100 problems and the number of others", err)
	}
}

// A task that has its executor's token does not become an operator where nobody has written
// rules.
func TestClaimsWithoutACLs(t *testing.T) {
	var acls *ACLs
	p := &Principal{Claims: map[string]string{"fid": "f", "eid": "e", "cid": "c"}}
	for _, action := range Actions() {
		if a := acls.Approver(p, action); a.Allows("") || a.Allows("x") || a.Everything() || a.AllowsAny() {
			t.Errorf("%s is permitted to an executor", action)
		}
	}
	if v := acls.Viewer(p); v == nil || v.Key() == "" || v.SeesTask("root") || v.SeesFlags() || v.SeesFramework("alice") {
		t.Errorf("an executor sees what is not its own: %v", v)
	}
	if !acls.AllowsContainer(p, LaunchNestedContainersAsUser, Container{ID: "n", Root: "c"}) {
		t.Error("an executor may launch nothing in its own container")
	}
	if acls.AllowsContainer(p, LaunchNestedContainersAsUser, Container{ID: "n", Root: "d"}) {
		t.Error("an executor may launch something in the container of another")
	}
}

func TestContainers(t *testing.T) {
	user, other := "alice", "bob"
	acls := parse(t, `{"permissive":false,
	"launch_nested_containers_as_user":[{"principals":{"values":["p"]},"users":{"values":["bob"]}}],
	"launch_nested_containers_under_parent_with_user":[{"principals":{"values":["p"]},"users":{"values":["alice"]}}],
	"launch_nested_container_sessions_under_parent_with_user":[{"principals":{"values":["p"]},"users":{"values":["alice"]}}],
	"kill_nested_containers":[{"principals":{"values":["p"]},"users":{"values":["alice","c1"]}}],
	"launch_standalone_containers":[{"principals":{"values":["p"]},"users":{"type":"ANY"}}]}`)
	p := &Principal{Value: "p"}
	executor := &Principal{Claims: map[string]string{"fid": "f", "eid": "e", "cid": "root"}}
	provider := &Principal{Claims: map[string]string{"cid_prefix": "org-x--"}}
	tests := []struct {
		name   string
		p      *Principal
		action Action
		c      Container
		want   bool
	}{
		{"launch as and under", p, LaunchNestedContainersAsUser, Container{User: &user, Command: true, CommandUser: &other}, true},
		{"launch under another", p, LaunchNestedContainersAsUser, Container{User: &other, Command: true, CommandUser: &other}, false},
		{"launch as another", p, LaunchNestedContainersUnderParentWithUser, Container{User: &user, Command: true, CommandUser: &user}, false},
		{"launch without a user", p, LaunchNestedContainersAsUser, Container{User: &user, Command: true}, false},
		{"launch without a command", p, LaunchNestedContainersAsUser, Container{User: &user}, true},
		{"session under but not as", p, LaunchNestedContainerSessionsAsUser, Container{User: &user, Command: true, CommandUser: &other}, false},
		{"kill", p, KillNestedContainers, Container{User: &user}, true},
		{"kill of another", p, KillNestedContainers, Container{User: &other, ID: "c1"}, false},
		{"kill by id", p, KillNestedContainers, Container{ID: "c1"}, true},
		{"kill of nobody's", p, KillNestedContainers, Container{}, false},
		{"wait", p, WaitNestedContainers, Container{User: &user}, false},
		{"standalone", p, LaunchStandaloneContainers, Container{ID: "x"}, true},
		{"own container", executor, LaunchNestedContainersAsUser, Container{ID: "n", Root: "root"}, true},
		{"own session", executor, LaunchNestedContainerSessionsAsUser, Container{ID: "n", Root: "root"}, true},
		{"own wait", executor, WaitNestedContainers, Container{ID: "n", Root: "root"}, true},
		{"own kill", executor, KillNestedContainers, Container{ID: "n", Root: "root"}, true},
		{"own remove", executor, RemoveNestedContainers, Container{ID: "n", Root: "root"}, true},
		{"own output", executor, AttachContainersOutput, Container{ID: "n", Root: "root"}, true},
		{"own input", executor, AttachContainersInput, Container{ID: "n", Root: "root"}, false},
		{"another's container", executor, KillNestedContainers, Container{ID: "n", Root: "root2"}, false},
		{"another's of that name", executor, KillNestedContainers, Container{ID: "root", Root: "root2"}, false},
		{"executor and standalone", executor, LaunchStandaloneContainers, Container{ID: "root", Root: "root"}, false},
		{"provider's", provider, KillStandaloneContainers, Container{ID: "org-x--1"}, true},
		{"provider of another's", provider, KillStandaloneContainers, Container{ID: "org-y--1"}, false},
		{"provider and nested", provider, KillNestedContainers, Container{ID: "org-x--1", Root: "org-x--1"}, false},
		{"no root", &Principal{Claims: map[string]string{"x": "y"}}, KillNestedContainers, Container{}, false},
		{"nothing at all", &Principal{}, KillNestedContainers, Container{User: &user}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := acls.AllowsContainer(tt.p, tt.action, tt.c); got != tt.want {
				t.Errorf("AllowsContainer(%+v, %s, %+v) = %v, want %v", tt.p, tt.action, tt.c, got, tt.want)
			}
		})
	}
}

func TestViewer(t *testing.T) {
	acls := parse(t, `{
	"view_frameworks":[{"principals":{"values":["p","q"]},"users":{"values":["alice"]}},{"principals":{"values":["p","q"]},"users":{"type":"NONE"}}],
	"view_roles":[{"principals":{"values":["r"]},"roles":{"type":"NONE"}},{"principals":{"values":["s"]},"roles":{"type":"ANY"}}],
	"run_tasks":[{"principals":{"type":"NONE"},"users":{"type":"ANY"}}]}`)
	viewer := func(who string) *Viewer { return acls.Viewer(&Principal{Value: who}) }
	for _, who := range []string{"s", "other"} {
		if v := viewer(who); v != nil {
			t.Errorf("%s sees not everything: %+v", who, v)
		}
	}
	if v := acls.Viewer(nil); v != nil {
		t.Errorf("those without a principal see not everything: %+v", v)
	}
	p := viewer("p")
	if !p.SeesFramework("alice") || p.SeesFramework("bob") || !p.SeesTask("bob") || !p.SeesExecutor("bob") || !p.SeesRole("x") || !p.SeesQuota("x") || !p.SeesFlags() {
		t.Error("p sees other things than alice's frameworks, tasks, executors, roles, quotas, and flags")
	}
	if p.Key() != viewer("q").Key() || p.Key() == viewer("r").Key() || p.Key() == "" {
		t.Errorf("keys: p %q, q %q, r %q; want p's and q's equal and r's another", p.Key(), viewer("q").Key(), viewer("r").Key())
	}
	if v := acls.Viewer(&Principal{Claims: map[string]string{"cid": "c"}}); v.SeesFramework("alice") || v.SeesFlags() || v.SeesRole("*") {
		t.Error("an executor sees what is not its own")
	}
	a, b := "a", "b"
	if got := UserOf("f", nil, &a, &b) + UserOf("f", nil, nil); got != "af" {
		t.Errorf("UserOf = %q, want %q", got, "af")
	}
}

func TestPrincipal(t *testing.T) {
	var none *Principal
	if none.String() != "" || none.OnlyClaims() || (&Principal{Value: "v", Claims: map[string]string{"a": "b"}}).OnlyClaims() {
		t.Error("no principal and one with a value have not only claims")
	}
}

// FuzzParse makes sure that no file upsets the parser, and that what it takes answers.
func FuzzParse(f *testing.F) {
	for _, s := range []string{guests, tree, `{}`, `{"permissive":false}`, `{"run_tasks":[{"principals":{"type":"ANY"},"users":{"values":["/%","a/%"]}}]}`, `{"view_roles":[{"principals":{"type":"ANY"},"roles":{"values":["a/b/%","*"]}}]}`, `[1`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		acls, err := Parse(data)
		if (err == nil) != (acls != nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("Parse(%q) = %v, %v", data, acls, err)
		}
		if err != nil {
			return
		}
		for _, a := range Actions() {
			for _, p := range []*Principal{nil, {}, {Value: "guest"}} {
				ap := acls.Approver(p, a)
				if all := ap.Allows("root") && ap.Allows("eng/web") && ap.AllowsAny(); ap.Everything() && !all {
					t.Fatalf("%s: everything is allowed, but not all", data)
				}
			}
		}
		acls.Viewer(nil)
	})
}

func BenchmarkAllows(b *testing.B) {
	var values strings.Builder
	for i := range 500 {
		fmt.Fprintf(&values, `%q,%q,`, fmt.Sprint("role", i), fmt.Sprint("tree", i, "/%"))
	}
	acls := parse(b, `{"permissive":false,"view_roles":[{"principals":{"type":"NONE"},"roles":{"values":["x/%"]}},{"principals":{"values":["p"]},"roles":{"values":[`+values.String()+`"last"]}}]}`)
	p := &Principal{Value: "p"}
	ap := acls.Approver(p, ViewRoles)
	for _, object := range []string{"role77", "tree77/a/b/c/d", "unknown", "a/b/c/d/e"} {
		b.Run(strings.ReplaceAll(object, "/", "."), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ap.Allows(object)
			}
		})
	}
	b.Run("Everything", func(b *testing.B) {
		for b.Loop() {
			ap.Everything()
		}
	})
	b.Run("Approver", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			acls.Approver(p, ViewRoles)
		}
	})
	b.Run("Viewer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			acls.Viewer(p)
		}
	})
}

// BenchmarkParse reads a large file: 1,000 rules that name 10 principals each.
func BenchmarkParse(b *testing.B) {
	var rules []string
	for i := range 1000 {
		var names []string
		for j := range 10 {
			names = append(names, fmt.Sprintf("%q", fmt.Sprint("p", i, "-", j)))
		}
		rules = append(rules, fmt.Sprintf(`{"principals":{"values":[%s]},"users":{"values":["u%d"]}}`, strings.Join(names, ","), i))
	}
	file := []byte(`{"run_tasks":[` + strings.Join(rules, ",") + `]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(file); err != nil {
			b.Fatal(err)
		}
	}
}
