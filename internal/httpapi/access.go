package httpapi

import (
	"context"
	"errors"
	"net/http"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
)

// Access is what a route demands of who calls it. Either Realm or Open is set.
type Access struct {
	// Realm of the route: who calls must authenticate, if the realm asks for it.
	Realm authn.Realm
	// Reading is the realm of requests that only read, by their method; empty: that of all.
	Reading authn.Realm
	// Open says why the route is open to everybody.
	Open string
	// Endpoint demands the permission `get_endpoints` for the path of the route.
	Endpoint bool
}

// Open is the access of a route that needs no authentication, for a reason.
func Open(why string) Access { return Access{Open: why} }

// In is the access of a route in a realm.
func In(realm authn.Realm) Access { return Access{Realm: realm} }

// Guards are what a router asks before it lets a request in. The zero value asks
// nothing.
type Guards struct {
	// Realms authenticate.
	Realms authn.Realms
	// Policy is the present rules; nil: everything is permitted.
	Policy func() *authz.ACLs
	// Sessions has the cookie of a session stand for the Authorization header.
	Sessions bool
}

// ACLs are the present rules.
func (g *Guards) ACLs() *authz.ACLs {
	if g.Policy == nil {
		return nil
	}
	return g.Policy()
}

// admit authenticates a request and checks that its principal may use the route.
// It returns the request with its principal.
func (g *Guards) admit(r *http.Request, route string, a Access) (*http.Request, error) {
	r, who, err := g.authenticate(r, a)
	if err != nil {
		return r, err
	}
	req := &request{principal: who}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, req))
	if a.Endpoint && !g.ACLs().Approver(req.principal, authz.GetEndpoints).Allows("/"+route) {
		return r, StatusError(http.StatusForbidden)
	}
	return r, nil
}

// refused is the answer to who was not let in.
func refused(r *http.Request, err error) error {
	f, ok := errors.AsType[*authn.Failure](err)
	if !ok {
		return err
	}
	e := StatusError(f.Status)
	if len(f.Challenges) > 0 && !byScript(r) {
		e.Header = http.Header{"Www-Authenticate": f.Challenges}
	}
	return e
}

// request is what the router knows of a request.
type request struct {
	principal *authz.Principal
	audit     *Audited
	stream    bool // see Stream
}

type requestKey struct{}

func of(r *http.Request) *request {
	req, _ := r.Context().Value(requestKey{}).(*request)
	return req
}

// PrincipalOf is who sends a request, nil if nobody was asked to authenticate.
func PrincipalOf(r *http.Request) *authz.Principal {
	if req := of(r); req != nil {
		return req.principal
	}
	return nil
}

// Audited is a request that changes something, for the audit log.
type Audited struct {
	Principal *authz.Principal
	// Action is the call, in Mesos's words: "DRAIN_AGENT".
	Action string
	// Fields say what it was done to: alternating names and values.
	Fields []string
	// Err is why it failed, nil if it did not.
	Err error
}

// Audit notes that a request changes something. The router reports it when it is
// answered.
func Audit(r *http.Request, action string, fields ...string) {
	if req := of(r); req != nil {
		req.audit = &Audited{Action: action, Fields: fields}
	}
}

// Report tells of an audited request what came of it, once. The router does so when a
// handler returns; one that goes on for long does it itself.
func (rt *Router) Report(r *http.Request, err error) {
	req := of(r)
	if req == nil || req.audit == nil || rt.OnAudit == nil {
		return
	}
	a := req.audit
	req.audit = nil
	a.Principal, a.Err = req.principal, err
	rt.OnAudit(r, *a)
}
