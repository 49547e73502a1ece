package server

import (
	"net/http"
	"strings"
	"testing"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/link"
)

// TestProxyAgentRules: agents are told the rules of the moment, and nobody else's.
func TestProxyAgentRules(t *testing.T) {
	parse := func(text string) *authz.ACLs {
		t.Helper()
		acls, err := authz.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return acls
	}
	s := startMaster(t, func(o *Options) {
		o.Realms = accessRealms(t, []string{"carol"}, authn.MasterReadonly, authn.MasterReadwrite)
	})
	seen := make(chan []string, 1)
	a := startTunnelled(t, s, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Values(link.RulesHeader)
	}))
	header := basicHeader("carol")
	header.Set(link.RulesHeader, link.EncodeRules([]byte(`{"permissive":true}`)))
	asked := func() []string {
		t.Helper()
		if r := do(t, http.MethodGet, endpoint(s, a.path("/x")), header, nil); r.status != http.StatusOK {
			t.Fatalf("got %d %s", r.status, r.body)
		}
		return <-seen
	}
	if got := asked(); len(got) != 0 {
		t.Errorf("without rules the agent gets %q", got)
	}
	for _, text := range []string{`{"permissive": false}`, `{"view_roles":[{"principals":{"type":"ANY"},"roles":{"values":["a"]}}]}`} {
		s.SetPolicy(parse(text))
		got := asked()
		if len(got) != 1 {
			t.Fatalf("the agent gets %q", got)
		}
		if rules, err := link.DecodeRules(got[0]); err != nil || string(rules) != text {
			t.Errorf("the agent gets %q, %v, want %q", rules, err, text)
		}
	}
	var roles strings.Builder // of a kind that cannot be compressed much
	for n := range uint32(40_000) {
		roles.WriteString(`,"` + strings.ReplaceAll(link.EncodePrincipal(string(rune(n*2654435761%0xd000)), nil), "-", "x") + `"`)
	}
	s.SetPolicy(parse(`{"view_roles":[{"principals":{"type":"ANY"},"roles":{"values":["a"` + roles.String() + `]}}]}`))
	if got := asked(); len(got) != 1 || len(got[0]) > maxRulesHeader {
		t.Errorf("rules that are too long: the agent gets %.100q", got)
	} else if _, err := link.DecodeRules(got[0]); err == nil {
		t.Error("rules that are too long can be read")
	}
	s.SetPolicy(nil)
	if got := asked(); len(got) != 0 {
		t.Errorf("without rules again the agent gets %q", got)
	}
}
