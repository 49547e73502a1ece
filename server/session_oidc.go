package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
)

const (
	oidcBegin    = sessionPath + "/oidc"
	oidcCallback = oidcBegin + "/callback"
	// flowCookie begins the names of cookies that hold logins under way, a few characters of
	// the state end them: several pages may log in at a time.
	flowCookie = "clusterd_login_"
	// flowAge is how long somebody may take to log in, in seconds.
	flowAge = 600
)

// oidcRoutes send people to their provider and take them back.
func (s *Server) oidcRoutes(rt *httpapi.Router) {
	const why = "is how to log in"
	rt.Handle(oidcBegin, httpapi.Open(why), exactly(s.beginLogin))
	rt.Handle(oidcCallback, httpapi.Open(why), exactly(s.finishLogin))
}

// beginLogin is GET session/oidc?to=/#/tasks: it sends the browser to the provider.
func (s *Server) beginLogin(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	if s.opts.Login == nil {
		return httpapi.NotFound("There is no OpenID provider to log in at (--oidc_client_id)")
	}
	flow, target, err := s.opts.Login.Begin(r.Context(), origin(r)+oidcCallback, ownPlace(r.URL.Query().Get("to")))
	if err != nil {
		return s.loginFailed(w, r, err)
	}
	text, err := json.Marshal(flow)
	if err != nil {
		return err
	}
	// Not strict: the provider sends the browser back here.
	httpapi.SetCookie(w, r, &http.Cookie{
		Name: flowName(flow.State), Value: base64.RawURLEncoding.EncodeToString(text), MaxAge: flowAge, SameSite: http.SameSiteLaxMode,
	})
	return sendTo(w, target)
}

// finishLogin is where the provider sends the browser back to.
func (s *Server) finishLogin(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	if s.opts.Login == nil {
		return httpapi.NotFound("There is no OpenID provider to log in at (--oidc_client_id)")
	}
	query := r.URL.Query()
	name := flowName(query.Get("state"))
	flow := new(authn.OIDCFlow)
	if value, ok := httpapi.Cookie(r, name); ok {
		text, err := base64.RawURLEncoding.DecodeString(value)
		if err != nil || json.Unmarshal(text, flow) != nil {
			flow = new(authn.OIDCFlow)
		}
		// It is good for one answer.
		httpapi.SetCookie(w, r, &http.Cookie{Name: name, MaxAge: -1, SameSite: http.SameSiteLaxMode})
	}
	token, err := s.opts.Login.Finish(r.Context(), flow, query)
	if err != nil {
		return s.loginFailed(w, r, err)
	}
	show := "Bearer " + token
	if err := s.admitShown(r, show); err != nil {
		return s.loginFailed(w, r, errNotTaken)
	}
	if !httpapi.SetSession(w, r, show) {
		return s.loginFailed(w, r, errTooLong)
	}
	return sendTo(w, homeTo(r, ownPlace(flow.To)))
}

var (
	errNotTaken = errors.New("the provider's token is not taken by this cluster (--http_authenticators, --oidc_audience)")
	errTooLong  = errors.New("the provider's token is too long for a browser's session")
)

// loginFailed shows on the login page what was wrong.
func (s *Server) loginFailed(w http.ResponseWriter, r *http.Request, err error) error {
	s.log.Info().Err(err).Msg("a login by the OpenID provider failed")
	return sendTo(w, homeTo(r, "/#/login?error="+url.QueryEscape(err.Error())))
}

// homeTo is a place of the web UI as a link from where a request has come to: a proxy may have
// the UI below a path that this master does not know.
func homeTo(r *http.Request, to string) string {
	return strings.Repeat("../", max(0, strings.Count(r.URL.Path, "/")-1)) + strings.TrimPrefix(to, "/")
}

func sendTo(w http.ResponseWriter, target string) error {
	w.Header().Set("Location", target)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusFound)
	return nil
}

func flowName(state string) string {
	if len(state) > 8 {
		state = state[:8]
	}
	for _, c := range state {
		if c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return flowCookie + "none"
		}
	}
	return flowCookie + state
}

// origin is how the browser calls this master, or a proxy before it.
func origin(r *http.Request) string {
	if httpapi.Encrypted(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// ownPlace is a place of the web UI: nobody can make a link by which a login here ends
// elsewhere.
func ownPlace(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") ||
		strings.ContainsFunc(to, func(c rune) bool { return c == '\\' || unicode.IsControl(c) }) {
		return "/"
	}
	return to
}
