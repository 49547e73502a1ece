package server

import (
	"net/http"
	"strings"
	"testing"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
)

// TestSessionOnEveryMaster: who logs in at one master is logged in at all of them, and what
// pages read comes through any, before and after another leads.
func TestSessionOnEveryMaster(t *testing.T) {
	t.Parallel() // it waits more than it works
	realms := accessRealms(t, []string{"carol"}, authn.MasterReadonly, authn.MasterReadwrite)
	masters := startGroup(t, 2, func(o *Options) { o.Realms = realms })
	leader, follower := masters[0], masters[1]
	f := openPage(t, follower)
	if status := f.login("carol", "carol"); status != http.StatusNoContent {
		t.Fatalf("login at a follower: %d", status)
	}
	for _, path := range []string{"/state", "/api/clusterd/v1/summary", "/api/clusterd/v1/totals", "/api/clusterd/v1/offers", "/api/clusterd/v1/history", sessionPath} {
		got := f.do(http.MethodGet, leaderPath+path, "")
		if got.status != http.StatusOK || path == sessionPath && !strings.Contains(got.body, `"carol"`) {
			t.Errorf("%s through a follower: %d %.200s", path, got.status, got.body)
		}
		stranger := openPage(t, follower).do(http.MethodGet, leaderPath+path, "")
		if path != sessionPath && stranger.status != http.StatusUnauthorized {
			t.Errorf("%s through a follower without a session: %d", path, stranger.status)
		}
	}
	if got := f.do(http.MethodPut, leaderPath+"/weights", `[{"role":"r","weight":2}]`); got.status != http.StatusOK {
		t.Errorf("PUT /weights through a follower: %d %s", got.status, got.body)
	}
	foreign := do(t, http.MethodPut, endpoint(follower, leaderPath+"/weights"), http.Header{
		"Cookie": {httpapi.SessionCookie + "=" + f.cookies[httpapi.SessionCookie]}, "Origin": {"http://" + leader.Addr().String()},
		"Content-Type": {"application/json"},
	}, []byte(`[]`))
	if foreign.status != http.StatusForbidden {
		t.Errorf("PUT /weights by a page of another port: %d", foreign.status)
	}
	// Cookies are the same on the other master, which is another port of the same host.
	l := openPage(t, leader)
	l.cookies = f.cookies
	if w := l.who(); w.Principal == nil || w.Principal.Value != "carol" {
		t.Errorf("at the leader: %+v", w)
	}
}
