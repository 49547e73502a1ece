package authn

import (
	"errors"
	"net/http"
	"strings"

	"clusterd/internal/authz"
)

// Combined asks authenticators in order; the first that knows who it is decides
// (src/authentication/http/combined_authenticator.cpp). If none does, the answer
// is a 401 with all challenges in one header, if there was a 401, else the 403.
// Unlike with Mesos, one that cannot tell at present (503) outweighs both: a client
// must not throw away a secret that is good.
type Combined []Authenticator

// Authenticate implements [Authenticator].
func (c Combined) Authenticate(r *http.Request, realm Realm) (*authz.Principal, error) {
	var failures []*Failure
	var others []error
	for _, a := range c {
		p, err := a.Authenticate(r, realm)
		if err == nil {
			return p, nil
		}
		if f, ok := errors.AsType[*Failure](err); ok {
			failures = append(failures, f)
		} else {
			others = append(others, err)
		}
	}
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusUnauthorized, http.StatusForbidden} {
		if f := merge(failures, status); f != nil {
			return nil, f
		}
	}
	return nil, errors.Join(others...)
}

// merge makes one failure of those with a status; nil if there is none.
func merge(failures []*Failure, status int) *Failure {
	var out *Failure
	var challenges []string
	for _, f := range failures {
		if f.Status != status {
			continue
		}
		if out == nil {
			out = &Failure{Status: status, Kind: f.Kind, Reason: f.Reason}
		} else {
			// What is wrong with that which was shown says more than what was not shown.
			if out.Kind == Missing {
				out.Kind = f.Kind
			}
			out.Reason += "; " + f.Reason
		}
		challenges = append(challenges, f.Challenges...)
	}
	if len(challenges) > 0 {
		out.Challenges = []string{strings.Join(challenges, ",")}
	}
	return out
}
