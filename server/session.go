package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

// sessionPath is where pages find out who they act for.
const sessionPath = "/api/clusterd/v1/session"

// sessionRoutes are how people log in with a browser. Any master answers them: a session is
// in the browser alone, see [httpapi.SessionCookie].
func (s *Server) sessionRoutes(rt *httpapi.Router) {
	rt.Handle(sessionPath, httpapi.Open("says to who asks who they are, and what they may do"), s.session)
	s.oidcRoutes(rt)
	s.summaryRoutes(rt)
	s.killRoute(rt)
	s.historyRoute(rt)
	s.explainRoute(rt)
}

func (s *Server) session(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	if rest := httpapi.Rest(r); rest != "" {
		return httpapi.StatusError(http.StatusNotFound)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return s.whoAmI(w, r)
	case http.MethodPost:
		return s.login(w, r)
	case http.MethodDelete:
		httpapi.EndSession(w, r)
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		return httpapi.MethodNotAllowed(r.Method, http.MethodGet, http.MethodPost, http.MethodDelete)
	}
}

// sessionState is what GET answers.
type sessionState struct {
	Principal *sessionPrincipal `json:"principal"`
	// Authenticated: what the request shows is good. Else Failure says what is wrong with it, in
	// the words of [authn.Kind], if it shows anything.
	Authenticated bool       `json:"authenticated"`
	Failure       authn.Kind `json:"failure,omitempty"`
	// Required: nothing is to be read without. Login: there is something that needs it.
	Required bool     `json:"required"`
	Login    bool     `json:"login"`
	Schemes  []string `json:"schemes"`
	// Actions say what may be done: to "all", "some" or "none" of what it can be done to.
	Actions  map[string]string `json:"actions"`
	Cluster  string            `json:"cluster"`
	MasterID string            `json:"master_id"`
}

type sessionPrincipal struct {
	Value  string            `json:"value"`
	Claims map[string]string `json:"claims"`
}

// whoAmI tells a page whom it acts for. It is never a 401: a page asks it to find out.
func (s *Server) whoAmI(w http.ResponseWriter, r *http.Request) error {
	r, err := httpapi.WithSession(r)
	if err != nil {
		return err
	}
	who := s.identify(r)
	state := sessionState{
		Required: s.opts.Realms[authn.MasterReadonly] != nil,
		Login:    s.asks(),
		Schemes:  s.schemes(),
		Actions:  s.actions(who),
		Cluster:  s.opts.Cluster,
		MasterID: s.MasterInfo().GetId(),
	}
	if who.err != nil {
		state.Failure = authn.Unavailable
		if f, ok := errors.AsType[*authn.Failure](who.err); ok {
			state.Failure = f.Kind
		}
	}
	if p := who.principal; p != nil {
		state.Authenticated = true
		state.Principal = &sessionPrincipal{Value: p.Value, Claims: p.Claims}
		if p.Claims == nil {
			state.Principal.Claims = map[string]string{}
		}
	}
	body, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, r, body)
}

// asks says whether this master asks readers or operators who they are.
func (s *Server) asks() bool {
	return s.opts.Realms[authn.MasterReadonly] != nil || s.opts.Realms[authn.MasterReadwrite] != nil
}

// schemes are the ways to log in.
func (s *Server) schemes() []string {
	var all []authn.Authenticator
	for _, realm := range []authn.Realm{authn.MasterReadonly, authn.MasterReadwrite} {
		if by := s.opts.Realms[realm]; by != nil {
			all = append(all, by)
		}
	}
	out := authn.Schemes(all...)
	if s.opts.Login != nil {
		out = append(out, authn.SchemeOIDC)
	}
	if out == nil {
		out = []string{}
	}
	return out
}

// caller is who sends a request, realm by realm.
type caller struct {
	// principal is who it is in any realm that asks; nil: nobody, or nobody is asked.
	principal *authz.Principal
	// reads and writes say whether the realms of readers and of operators let it in.
	reads, writes bool
	// err is what is wrong with what it shows; nil if that is nothing.
	err error
}

// identify finds out who sends a request, also where nobody has to say it. A request
// that shows nothing is not asked for anything: that would count as a failure.
func (s *Server) identify(r *http.Request) (c caller) {
	shows := r.Header.Get("Authorization") != "" || r.TLS != nil && len(r.TLS.VerifiedChains) > 0
	for _, realm := range []struct {
		name authn.Realm
		in   *bool
	}{{authn.MasterReadonly, &c.reads}, {authn.MasterReadwrite, &c.writes}} {
		by := s.opts.Realms[realm.name]
		if by == nil {
			*realm.in = true
			continue
		}
		if !shows {
			continue
		}
		p, err := by.Authenticate(r, realm.name)
		if err != nil {
			if r.Header.Get("Authorization") != "" {
				c.err = err
			}
			continue
		}
		*realm.in, c.principal = true, p
	}
	if c.principal != nil {
		c.err = nil
	}
	return c
}

// login is POST: it checks a credential, and has the browser show it from now on.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	if err := requireBody(r, httpapi.JSON.String()); err != nil {
		return err
	}
	body, err := httpapi.ReadBody(w, r, 64<<10)
	if err != nil {
		return err
	}
	var call struct {
		Scheme   string `json:"scheme"`
		Username string `json:"username"`
		Password string `json:"password"`
		Token    string `json:"token"`
	}
	if json.Unmarshal(body, &call) != nil { // what it says of the body may be a secret
		return httpapi.BadRequest("Failed to parse the login: it is no JSON object of strings")
	}
	var show string
	switch call.Scheme {
	case authn.SchemeBasic:
		if call.Username == "" || strings.Contains(call.Username, ":") {
			return httpapi.StatusError(http.StatusUnauthorized)
		}
		show = "Basic " + base64.StdEncoding.EncodeToString([]byte(call.Username+":"+call.Password))
	case authn.SchemeToken:
		token := strings.TrimSpace(call.Token)
		if token == "" || strings.ContainsAny(token, " \t\r\n") {
			return httpapi.StatusError(http.StatusUnauthorized)
		}
		show = "Bearer " + token
	default:
		return httpapi.BadRequest("There is no scheme %q to log in by; there are %s and %s", call.Scheme, authn.SchemeBasic, authn.SchemeToken)
	}
	if err := s.admitShown(r, show); err != nil {
		return err
	}
	if !httpapi.SetSession(w, r, show) {
		return httpapi.BadRequest("The credential is too long for a browser's session")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// admitShown checks what a login shows. Nothing but what was shown counts, least of all the
// certificate of whoever forwards the request.
func (s *Server) admitShown(r *http.Request, show string) error {
	if !s.asks() {
		return httpapi.Conflict("This cluster asks nobody who they are: there is nothing to log in to")
	}
	try := r.WithContext(r.Context())
	try.Header, try.TLS = http.Header{"Authorization": {show}}, nil
	c := s.identify(try)
	if c.principal != nil {
		return nil
	}
	if f, ok := errors.AsType[*authn.Failure](c.err); ok && f.Status != http.StatusServiceUnavailable {
		return httpapi.StatusError(http.StatusUnauthorized) // without a challenge: the page asks
	}
	return httpapi.Unavailable("It cannot be told at present whether the credential is good")
}
