package authn

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"clusterd/internal/authz"
)

// Basic is HTTP basic authentication (RFC 7617). A password may have colons, which
// Mesos cannot bear.
type Basic struct {
	credentials func() *Credentials
	hashes      *hashes
}

// NewBasic returns an authenticator that asks for one of the present credentials.
func NewBasic(credentials func() *Credentials) *Basic {
	return &Basic{credentials: credentials, hashes: newHashes()}
}

// Authenticate implements [Authenticator].
func (b *Basic) Authenticate(r *http.Request, realm Realm) (*authz.Principal, error) {
	refuse := func(kind Kind, reason string) (*authz.Principal, error) {
		f := &Failure{Status: http.StatusUnauthorized, Kind: kind, Reason: "basic: " + reason}
		if kind == Unavailable {
			f.Status = http.StatusServiceUnavailable
		} else {
			f.Challenges = []string{fmt.Sprintf("Basic realm=%q", string(realm))}
		}
		return nil, f
	}
	show := authorization(r.Header)
	switch {
	case show.absent:
		return refuse(Missing, "no header Authorization")
	case show.scheme == "":
		return refuse(Malformed, "header Authorization cannot be read")
	case !strings.EqualFold(show.scheme, "Basic"):
		return refuse(Missing, "another scheme")
	}
	decoded, err := base64.StdEncoding.DecodeString(show.credentials)
	if err != nil {
		return refuse(Malformed, "not base64")
	}
	principal, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return refuse(Malformed, "no colon")
	}
	switch known, err := b.check(principal, []byte(password)); {
	case err != nil:
		return refuse(Unavailable, err.Error())
	case !known:
		return refuse(Rejected, fmt.Sprintf("principal %.64q is unknown, or shows another secret", principal))
	}
	return &authz.Principal{Value: principal}, nil
}

// check compares a secret. However it fails, it does the same work: where there is
// one hash among the credentials, each failure costs one, so that the time tells
// nobody which principals there are.
func (b *Basic) check(principal string, password []byte) (bool, error) {
	c := b.credentials()
	s, known := c.secrets[principal]
	if s.hash != nil {
		return b.hashes.same(principal, password, s.hash)
	}
	if s.is(password) && known {
		return true, nil
	}
	if c.decoy == nil {
		return false, nil
	}
	_, err := b.hashes.same(principal, password, c.decoy)
	return false, err
}
