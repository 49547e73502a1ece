package authn

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clusterd/internal/authz"
)

// says is an authenticator that says the same to everybody.
type says struct {
	principal *authz.Principal
	err       error
}

func (s says) Authenticate(*http.Request, Realm) (*authz.Principal, error) { return s.principal, s.err }

func TestCombined(t *testing.T) {
	yes := says{principal: &authz.Principal{Value: "p"}}
	no := func(status int, kind Kind, challenges ...string) says {
		return says{err: &Failure{Status: status, Kind: kind, Challenges: challenges, Reason: "r"}}
	}
	for _, row := range []struct {
		name string
		all  Combined
		want answer
	}{
		{"first", Combined{yes, says{principal: &authz.Principal{Value: "q"}}}, answer{Principal: yes.principal}},
		{"after a 401", Combined{no(401, Missing, "A"), yes}, answer{Principal: yes.principal}},
		{"after a 403", Combined{no(403, Rejected), yes}, answer{Principal: yes.principal}},
		{"after a 503", Combined{no(503, Unavailable), yes}, answer{Principal: yes.principal}},
		{"after an error", Combined{says{err: errors.New("x")}, yes}, answer{Principal: yes.principal}},
		{"all challenges", Combined{no(401, Missing, "A"), no(401, Missing), no(401, Missing, "B")}, answer{Status: 401, Challenge: "A,B", Kind: Missing}},
		{"what was shown is wrong", Combined{no(401, Missing, "A"), no(401, Expired, "B"), no(401, Rejected, "C")}, answer{Status: 401, Challenge: "A,B,C", Kind: Expired}},
		{"403 alone", Combined{no(403, Rejected), no(403, Rejected)}, answer{Status: 403, Kind: Rejected}},
		{"401 before 403", Combined{no(403, Rejected), no(401, Missing, "A")}, answer{Status: 401, Challenge: "A", Kind: Missing}},
		{"503 before both", Combined{no(403, Rejected), no(401, Missing, "A"), no(503, Unavailable)}, answer{Status: 503, Kind: Unavailable}},
		{"401 before errors", Combined{says{err: errors.New("x")}, no(401, Missing, "A")}, answer{Status: 401, Challenge: "A", Kind: Missing}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, ask(t, row.all, request(t, ""))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	_, err := Combined{says{err: errors.New("one")}, says{err: errors.New("two")}}.Authenticate(request(t, ""), MasterReadonly)
	if err == nil || !strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "two") {
		t.Errorf("got %v, want both errors", err)
	}
}

// TestSchemesDoNotSpoilEachOther shows secrets of each scheme to all of them, in
// both orders.
func TestSchemesDoNotSpoilEachOther(t *testing.T) {
	basic := basicFor(t, `{"principal":"p","secret":"s"}`)
	tokens, err := NewExecutorTokens([]byte("k"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, all := range []Combined{
		{basic, tokens.Authenticator(), Certificate{}},
		{Certificate{}, tokens.Authenticator(), basic},
	} {
		if got := ask(t, all, request(t, showing("p", "s"))); got.Principal == nil || got.Principal.Value != "p" {
			t.Errorf("basic: got %+v", got)
		}
		if got := ask(t, all, request(t, "Bearer "+must(tokens.New("f", "e", "c")))); !got.Principal.OnlyClaims() {
			t.Errorf("bearer: got %+v", got)
		}
		got := ask(t, all, request(t, ""))
		if got.Kind != Missing || !strings.Contains(got.Challenge, basicChallenge) || !strings.Contains(got.Challenge, bearerChallenge) || strings.Contains(got.Challenge, "error") {
			t.Errorf("nothing: got %+v", got)
		}
		if got := ask(t, all, request(t, showing("p", "x"))); got.Kind != Rejected {
			t.Errorf("wrong: got %+v", got)
		}
	}
}
