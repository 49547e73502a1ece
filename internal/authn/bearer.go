package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"clusterd/internal/authz"
)

// maxToken is how long a token may be.
const maxToken = 16 << 10

// leeway is how far clocks may be apart of those who make tokens for users, and us.
const leeway = 10 * time.Second

// verifier checks tokens of one origin.
type verifier interface {
	// verify returns whom a token stands for, or why it does not.
	verify(ctx context.Context, token string) (*authz.Principal, *refusal)
}

// refusal is why a token is refused.
type refusal struct {
	kind Kind
	// says is shown to the client, in quotes.
	says string
	// reason is for the log, if there is more to say.
	reason string
	// ours says that the token does come from the verifier's origin, so that no other
	// verifier needs to be heard.
	ours bool
}

// weight orders refusals: the heaviest is told.
func (r *refusal) weight() int {
	switch {
	case r.ours:
		return 2
	case r.kind == Unavailable:
		return 1
	default:
		return 0
	}
}

// Bearer is authentication with a JSON web token (RFC 6750), which may come from
// several origins. Its challenges are those of Mesos
// (3rdparty/libprocess/src/jwt_authenticator.cpp).
type Bearer struct{ verifiers []verifier }

// Authenticate implements [Authenticator].
func (b *Bearer) Authenticate(r *http.Request, realm Realm) (*authz.Principal, error) {
	refuse := func(kind Kind, description, reason string) (*authz.Principal, error) {
		challenge := fmt.Sprintf("Bearer realm=%q", string(realm))
		if description != "" {
			challenge += fmt.Sprintf(`, error="invalid_token", error_description="%s"`, description)
		}
		if reason == "" {
			reason = description
		}
		return nil, &Failure{
			Status: http.StatusUnauthorized, Challenges: []string{challenge},
			Kind: kind, Reason: "bearer: " + reason,
		}
	}
	show := authorization(r.Header)
	switch {
	case show.absent:
		return refuse(Missing, "", "no header Authorization")
	case show.scheme == "":
		return refuse(Malformed, "Malformed 'Authorization' header", "")
	case !strings.EqualFold(show.scheme, "Bearer"):
		return refuse(Missing, "Scheme '"+show.scheme+"' unsupported", "another scheme")
	case len(show.credentials) > maxToken:
		return refuse(Malformed, "Invalid JWT: Token is too long", "")
	}
	worst := &refusal{kind: Rejected, says: "Invalid JWT: Token is not taken here"}
	for i, v := range b.verifiers {
		p, no := v.verify(r.Context(), show.credentials)
		if no == nil {
			return p, nil
		}
		if i == 0 || no.weight() > worst.weight() {
			worst = no
		}
		if no.ours {
			break
		}
	}
	if worst.kind == Unavailable {
		return nil, &Failure{Status: http.StatusServiceUnavailable, Kind: Unavailable, Reason: "bearer: " + worst.reason}
	}
	return refuse(worst.kind, worst.says, worst.reason)
}

// parsed is what is wrong with a token that was parsed with the permitted methods.
func parsed(token *jwt.Token, err error, methods []string) *refusal {
	no := func(kind Kind, says string) *refusal {
		// What the library says is left out: it quotes the token.
		return &refusal{kind: kind, says: "Invalid JWT: " + says}
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return no(Malformed, "Token is malformed")
	case token == nil || token.Method == nil || !slices.Contains(methods, token.Method.Alg()):
		return no(Rejected, "Token 'alg' is not permitted")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return no(Rejected, "No key for the token")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return no(Rejected, "Token signature does not match")
	}
	// The signature was good.
	out := no(Rejected, "Token claims are not accepted")
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		out = no(Expired, "Token has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		out = no(Rejected, "Token is not valid yet")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		out = no(Rejected, "Token is for another audience")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		out = no(Rejected, "Token has another issuer")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		out = no(Rejected, "Token lacks a claim that is required")
	}
	out.ours = true
	return out
}

// errCritical says that a token has extensions that must be understood.
var errCritical = errors.New("token 'crit' field is unsupported")

// uncritical refuses tokens with extensions (RFC 7515, 4.1.11): we know none.
func uncritical(t *jwt.Token) error {
	if _, ok := t.Header["crit"]; ok {
		return errCritical
	}
	return nil
}

// claimsOf are the claims of a token as strings: those that are no strings are
// JSON, as in Mesos.
func claimsOf(all map[string]any) map[string]string {
	out := make(map[string]string, len(all))
	for name, value := range all {
		if s, ok := value.(string); ok {
			out[name] = s
			continue
		}
		if b, err := json.Marshal(value); err == nil {
			out[name] = string(b)
		}
	}
	return out
}

// principalOf makes a user's principal: its value is that of one claim, the others
// stay claims.
func principalOf(all map[string]any, claim string) (*authz.Principal, *refusal) {
	no := func(says string) (*authz.Principal, *refusal) {
		return nil, &refusal{kind: Rejected, says: "Invalid JWT: " + says, ours: true}
	}
	value, ok := all[claim].(string)
	switch {
	case !ok || value == "":
		return no("Token does not name a principal")
	case len(value) > 1024 || strings.ContainsFunc(value, unicode.IsControl):
		return no("Token names a principal that cannot be one")
	}
	claims := claimsOf(all)
	delete(claims, claim)
	return &authz.Principal{Value: value, Claims: claims}, nil
}
