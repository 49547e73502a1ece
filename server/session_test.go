package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// page is a browser's page of a master, with its cookies.
type page struct {
	t       *testing.T
	s       *Server
	cookies map[string]string
}

func openPage(t *testing.T, s *Server) *page {
	return &page{t: t, s: s, cookies: map[string]string{}}
}

// do sends a request as a page's script does.
func (p *page) do(method, path, body string) reply {
	p.t.Helper()
	h := http.Header{"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"cors"}}
	if method != http.MethodGet {
		h.Set("Origin", "http://"+p.s.Addr().String())
		h.Set("Content-Type", "application/json")
	}
	var list []string
	for k, v := range p.cookies {
		list = append(list, k+"="+v)
	}
	if len(list) > 0 {
		h.Set("Cookie", strings.Join(list, "; "))
	}
	got := do(p.t, method, endpoint(p.s, path), h, []byte(body))
	for _, c := range (&http.Response{Header: got.header}).Cookies() {
		if c.MaxAge < 0 {
			delete(p.cookies, c.Name)
		} else {
			p.cookies[c.Name] = c.Value
		}
	}
	return got
}

func (p *page) who() (state sessionState) {
	p.t.Helper()
	got := p.do(http.MethodGet, sessionPath, "")
	if got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" {
		p.t.Fatalf("GET session: %d %s %v", got.status, got.body, got.header)
	}
	if err := json.Unmarshal([]byte(got.body), &state); err != nil {
		p.t.Fatalf("%v in %s", err, got.body)
	}
	return state
}

func (p *page) login(user, password string) int {
	p.t.Helper()
	return p.do(http.MethodPost, sessionPath, fmt.Sprintf(`{"scheme":"basic","username":%q,"password":%q}`, user, password)).status
}

func TestSession(t *testing.T) {
	s := startMaster(t, func(o *Options) {
		o.Realms = accessRealms(t, []string{"carol", "dave"}, authn.MasterReadonly, authn.MasterReadwrite)
		o.Cluster = "prod"
	})
	p := openPage(t, s)
	switch w := p.who(); {
	case w.Authenticated || w.Principal != nil || !w.Required || !w.Login || w.Failure != "":
		t.Errorf("before: got %+v", w)
	case len(w.Schemes) != 1 || w.Schemes[0] != "basic" || w.Cluster != "prod" || w.MasterID != s.MasterInfo().GetId():
		t.Errorf("before: got %+v", w)
	default:
		for name, may := range w.Actions {
			if may != mayNone {
				t.Errorf("nobody may %s: %s", name, may)
			}
		}
	}
	refused := p.do(http.MethodGet, "/state", "")
	if refused.status != http.StatusUnauthorized || refused.header.Get("WWW-Authenticate") != "" {
		t.Errorf("a page without a session: got %d, challenge %q, which has the browser ask", refused.status, refused.header.Get("WWW-Authenticate"))
	}
	for _, bad := range [][2]string{{"carol", "x"}, {"mallory", "mallory"}, {"", ""}, {"carol", ""}, {"carol:carol", ""}} {
		if status := p.login(bad[0], bad[1]); status != http.StatusUnauthorized || len(p.cookies) > 0 {
			t.Errorf("login as %v: got %d and cookies %v", bad, status, p.cookies)
		}
	}
	if status := p.login("carol", "carol"); status != http.StatusNoContent || len(p.cookies) != 1 {
		t.Fatalf("login: got %d and cookies %v", status, p.cookies)
	}
	if w := p.who(); !w.Authenticated || w.Principal == nil || w.Principal.Value != "carol" || w.Actions["KILL_TASK"] != mayAll {
		t.Errorf("after: got %+v", w)
	}
	if got := p.do(http.MethodGet, "/state", ""); got.status != http.StatusOK {
		t.Errorf("GET /state: %d %s", got.status, got.body)
	}
	const weights = `[{"role":"r","weight":2}]`
	if got := p.do(http.MethodPut, "/weights", weights); got.status != http.StatusOK {
		t.Errorf("PUT /weights: %d %s", got.status, got.body)
	}
	foreign := do(t, http.MethodPut, endpoint(s, "/weights"), http.Header{
		"Cookie": {httpapi.SessionCookie + "=" + p.cookies[httpapi.SessionCookie]}, "Origin": {"http://127.0.0.1:1"},
		"Content-Type": {"application/json"},
	}, []byte(weights))
	if foreign.status != http.StatusForbidden {
		t.Errorf("PUT /weights by a page of another port: %d %s", foreign.status, foreign.body)
	}
	if got := p.do(http.MethodDelete, sessionPath, ""); got.status != http.StatusNoContent || len(p.cookies) > 0 {
		t.Errorf("logout: %d, cookies %v", got.status, p.cookies)
	}
	if w := p.who(); w.Authenticated {
		t.Errorf("after the logout: got %+v", w)
	}
	p.cookies[httpapi.SessionCookie] = "QmFzaWMgWVRwaQ" // Basic a:b
	if w := p.who(); w.Authenticated || w.Failure != authn.Rejected {
		t.Errorf("with a bad session: got %+v", w)
	}
}

// TestSessionOfOpenCluster: where nobody is asked there is nothing to log in to, and all
// may do everything.
func TestSessionOfOpenCluster(t *testing.T) {
	p := openPage(t, startMaster(t))
	w := p.who()
	if w.Required || w.Login || w.Authenticated || len(w.Schemes) != 0 {
		t.Errorf("got %+v", w)
	}
	for name, may := range w.Actions {
		if may != mayAll {
			t.Errorf("%s: %s", name, may)
		}
	}
	if status := p.login("carol", "carol"); status != http.StatusConflict {
		t.Errorf("login: got %d", status)
	}
	for _, bad := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodPut, sessionPath, "{}", http.StatusMethodNotAllowed},
		{http.MethodPost, sessionPath, "", http.StatusBadRequest},
		{http.MethodPost, sessionPath, `{"scheme":"digest"}`, http.StatusBadRequest},
		{http.MethodPost, sessionPath, `{"scheme":1,"password":"hunter2"}`, http.StatusBadRequest},
		{http.MethodGet, sessionPath + "/x", "", http.StatusNotFound},
	} {
		got := p.do(bad.method, bad.path, bad.body)
		if got.status != bad.status || strings.Contains(got.body, "hunter2") {
			t.Errorf("%s %s %s: got %d %s, want %d", bad.method, bad.path, bad.body, got.status, got.body, bad.status)
		}
	}
}

// TestSessionForOperatorsOnly: reading is open, acting asks.
func TestSessionForOperatorsOnly(t *testing.T) {
	s := startMaster(t, func(o *Options) { o.Realms = accessRealms(t, []string{"carol"}, authn.MasterReadwrite) })
	p := openPage(t, s)
	if w := p.who(); w.Required || !w.Login || w.Actions["VIEW_TASK"] != mayAll || w.Actions["KILL_TASK"] != mayNone {
		t.Errorf("got %+v", w)
	}
	if p.login("carol", "carol"); p.who().Actions["KILL_TASK"] != mayAll {
		t.Errorf("logged in: got %+v", p.who())
	}
}

// TestSessionActions: each action follows its list of the rules, and no other.
func TestSessionActions(t *testing.T) {
	s := startMaster(t, func(o *Options) {
		o.Realms = accessRealms(t, []string{"carol"}, authn.MasterReadonly, authn.MasterReadwrite)
	})
	p := openPage(t, s)
	p.login("carol", "carol")
	rules := func(text string) *authz.ACLs {
		t.Helper()
		acls, err := authz.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return acls
	}
	s.SetPolicy(rules(`{"permissive":false}`))
	for name, may := range p.who().Actions {
		if may != mayNone {
			t.Errorf("without rights: %s is %s", name, may)
		}
	}
	for name, a := range pageActions {
		var lists []string
		for _, n := range a.needs {
			lists = append(lists, fmt.Sprintf(`%q:[{"principals":{"values":["carol"]},%q:{"type":"ANY"}}]`, n, authz.ObjectsKey(n)))
		}
		if a.path != "" {
			lists = append(lists, fmt.Sprintf(`"get_endpoints":[{"principals":{"values":["carol"]},"paths":{"values":[%q]}}]`, a.path))
		}
		s.SetPolicy(rules(`{"permissive":false,` + strings.Join(lists, ",") + `}`))
		got := p.who().Actions
		if got[name] != mayAll {
			t.Errorf("%s with its rights: %s", name, got[name])
		}
		for other, may := range got {
			if may != mayNone && !sharesNeed(a, pageActions[other]) {
				t.Errorf("the rights of %s: %s is %s", name, other, may)
			}
		}
	}
	s.SetPolicy(rules(`{"permissive":false,"update_quotas":[{"principals":{"values":["carol"]},"roles":{"values":["web/%"]}}]}`))
	if got := p.who().Actions["UPDATE_QUOTA"]; got != maySome {
		t.Errorf("quotas of some roles: %s", got)
	}
	s.SetPolicy(rules(`{"update_quotas":[{"principals":{"values":["carol"]},"roles":{"values":["web"]}},{"principals":{"type":"ANY"},"roles":{"type":"NONE"}}]}`))
	if got := p.who().Actions["UPDATE_QUOTA"]; got != maySome {
		t.Errorf("quotas of one role: %s", got)
	}
}

func sharesNeed(a, b pageAction) bool {
	for _, n := range a.needs {
		if slices.Contains(b.needs, n) {
			return true
		}
	}
	return a.path != "" && a.path == b.path
}
