package authn

import (
	"net/http"
	"strings"
	"unicode"

	"clusterd/internal/authz"
)

// Certificate takes the principal from the client's certificate: its common name,
// or, if it has none, its first URI (`spiffe://...`). Only certificates count that
// the server has verified against its authorities, see internal/tlsconf. There is
// no challenge for it in HTTP: who shows no certificate gets a 401 that asks for
// nothing.
type Certificate struct{}

// Authenticate implements [Authenticator].
func (Certificate) Authenticate(r *http.Request, _ Realm) (*authz.Principal, error) {
	refuse := func(kind Kind, reason string) (*authz.Principal, error) {
		return nil, &Failure{Status: http.StatusUnauthorized, Kind: kind, Reason: "certificate: " + reason}
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return refuse(Missing, "no verified certificate")
	}
	leaf := r.TLS.VerifiedChains[0][0]
	name := leaf.Subject.CommonName
	if name == "" && len(leaf.URIs) > 0 {
		name = leaf.URIs[0].String()
	}
	if name == "" {
		return refuse(Rejected, "names nobody: it has neither a common name nor a URI")
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return refuse(Rejected, "its name has a control character")
	}
	return &authz.Principal{Value: name}, nil
}
