package authn

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"clusterd/internal/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is one with a header Authorization; empty: without.
func request(t testing.TB, authorization string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/state", http.NoBody)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

// answer is what an authenticator says to a request.
type answer struct {
	Principal *authz.Principal
	Status    int
	Challenge string
	Kind      Kind
}

// ask has a request authenticated. The challenge is all of them, as the client
// sees them.
func ask(t testing.TB, a Authenticator, r *http.Request) answer {
	t.Helper()
	p, err := a.Authenticate(r, MasterReadonly)
	if err == nil {
		if p == nil {
			t.Fatal("no error, and no principal")
		}
		return answer{Principal: p}
	}
	if p != nil {
		t.Fatalf("principal %v with error %v", p, err)
	}
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		t.Fatalf("error %v is no failure", err)
	}
	if len(f.Challenges) > 1 {
		t.Errorf("challenges %q are not in one header", f.Challenges)
	}
	if f.Reason == "" {
		t.Error("failure has no reason")
	}
	out := answer{Status: f.Status, Kind: f.Kind}
	if len(f.Challenges) == 1 {
		out.Challenge = f.Challenges[0]
	}
	return out
}

// file writes a file that only its owner may read.
func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
