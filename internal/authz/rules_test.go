package authz

import "testing"

// TestRulesOfPrincipal: rules that come with a principal judge where there are none.
func TestRulesOfPrincipal(t *testing.T) {
	parse := func(text string) *ACLs {
		t.Helper()
		acls, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(acls.Source()); got != text {
			t.Errorf("source: got %q, want %q", got, text)
		}
		return acls
	}
	open, closed := parse(`{"permissive":true}`), parse(`{"permissive":false}`)
	for _, tt := range []struct {
		name      string
		own, come *ACLs
		want      bool
	}{
		{"none", nil, nil, true},
		{"closed ones come", nil, closed, false},
		{"open ones come", nil, open, true},
		{"its own are open", open, closed, true},
		{"its own are closed", closed, open, false},
	} {
		p := &Principal{Value: "carol", Rules: tt.come}
		if got := tt.own.Approver(p, AccessSandboxes).Allows("root"); got != tt.want {
			t.Errorf("%s: sandboxes: got %v", tt.name, got)
		}
		if got := tt.own.Viewer(p).SeesRole("a"); got != tt.want {
			t.Errorf("%s: roles: got %v", tt.name, got)
		}
		root := "root"
		for _, action := range []Action{LaunchNestedContainerSessionsAsUser, AttachContainersInput, KillStandaloneContainers} {
			if got := tt.own.AllowsContainer(p, action, Container{ID: "a", Root: "a", User: &root, Command: true}); got != tt.want {
				t.Errorf("%s: action %v on a container: got %v", tt.name, action, got)
			}
		}
	}
	if got := (*ACLs)(nil).Source(); got != nil {
		t.Errorf("source of no rules: got %q", got)
	}
}
