package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
)

// byHeader authenticates whom a header names.
type byHeader struct{}

func (byHeader) Authenticate(r *http.Request, _ authn.Realm) (*authz.Principal, error) {
	if who := r.Header.Get("Who"); who != "" {
		return &authz.Principal{Value: who}, nil
	}
	return nil, &authn.Failure{Status: http.StatusUnauthorized, Kind: authn.Missing, Reason: "nobody"}
}

// What a known principal tries to change at an endpoint that it may not use is in the audit
// log; what it reads is not, nor what anybody tries.
func TestAuditOfRefusedEndpoint(t *testing.T) {
	acls, err := authz.Parse([]byte(`{"get_endpoints": [{"principals": {"values": ["guest"]}, "paths": {"type": "NONE"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	rt := NewRouter("master")
	rt.Guards = Guards{Realms: authn.Realms{authn.MasterReadwrite: byHeader{}}, Policy: func() *authz.ACLs { return acls }}
	rt.Handle("/debug/x", Access{Realm: authn.MasterReadwrite, Endpoint: true}, func(w http.ResponseWriter, _ *http.Request) error {
		WriteStatus(w, http.StatusOK)
		return nil
	})
	var got []string
	rt.OnAudit = func(_ *http.Request, a Audited) {
		got = append(got, a.Principal.String()+" "+a.Action+" "+a.Err.Error())
	}
	for _, tc := range []struct {
		who, method string
		status      int
	}{
		{"", http.MethodPost, 401},
		{"guest", http.MethodGet, 403},
		{"guest", http.MethodPost, 403},
		{"ops", http.MethodPost, 200},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tc.method, "/master/debug/x", nil)
		r.Header.Set("Who", tc.who)
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("%s by %q: got %d, want %d", tc.method, tc.who, w.Code, tc.status)
		}
	}
	if diff := cmp.Diff([]string{"guest POST /debug/x 403: 403 Forbidden."}, got); diff != "" {
		t.Error(diff)
	}
}
