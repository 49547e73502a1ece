package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
)

// Vouched is what another node says of a request that it passes on, and that is believed
// because of the connection that it came by.
type Vouched struct {
	// Realms are those that may be reached in this way; the routes of others answer 403.
	Realms []authn.Realm
	// Known says that the other node has authenticated the caller, as Principal. If it has
	// not, the request must do so itself, as any other.
	Known     bool
	Principal *authz.Principal
}

type vouchedKey struct{}

// Vouch has a request taken as another node says.
func Vouch(r *http.Request, v Vouched) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), vouchedKey{}, &v))
}

// IsVouched says whether a request was passed on by another node that vouches for it.
func IsVouched(r *http.Request) bool { return vouchedOf(r) != nil }

func vouchedOf(r *http.Request) *Vouched {
	v, _ := r.Context().Value(vouchedKey{}).(*Vouched)
	return v
}

type clientKey struct{}

// WithClient notes for the audit log whose request another node says that it passes on.
func WithClient(r *http.Request, addr string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), clientKey{}, addr))
}

// ClientOf is the address of WithClient, empty for a request that came by itself.
func ClientOf(r *http.Request) string {
	addr, _ := r.Context().Value(clientKey{}).(string)
	return addr
}

// realm is the one that a request belongs to.
func (a *Access) realm(r *http.Request) authn.Realm {
	if a.Reading != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Upgrade") == "" {
		return a.Reading
	}
	return a.Realm
}

// authenticate finds out who sends a request.
func (g *Guards) authenticate(r *http.Request, a Access) (*http.Request, *authz.Principal, error) {
	if a.Open != "" {
		return r, nil, nil
	}
	realm := a.realm(r)
	if v := vouchedOf(r); v != nil {
		if !slices.Contains(v.Realms, realm) {
			return r, nil, Forbidden("Endpoint '%s' is not for requests that are passed on", r.URL.Path)
		}
		if v.Known {
			return r, v.Principal, nil
		}
	}
	by := g.Realms[realm]
	if by == nil {
		return r, nil, nil
	}
	if g.Sessions {
		var err error
		if r, err = WithSession(r); err != nil {
			return r, nil, err
		}
	}
	who, err := by.Authenticate(r, realm)
	if err != nil {
		return r, nil, refused(r, err)
	}
	return r, who, nil
}

// Inner is a request for another path of this same server, on behalf of whoever sent r:
// target is a path as it is in a URL, with its query. It shares headers and connection with
// r, but nothing that was noted of it.
func Inner(r *http.Request, target string) (*http.Request, error) {
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return nil, BadRequest("'%s' is no path", target)
	}
	in := r.Clone(context.WithValue(r.Context(), requestKey{}, (*request)(nil)))
	in.URL.Path, in.URL.RawPath, in.URL.RawQuery, in.URL.ForceQuery = u.Path, u.RawPath, u.RawQuery, u.ForceQuery
	in.RequestURI = u.RequestURI()
	in.Pattern = ""
	return in, nil
}
