package authn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
)

// ErrLogin says that a login by an OpenID provider came to nothing. Its text may be shown to
// who tried; it holds no secret.
var ErrLogin = errors.New("the login failed")

// OIDCClient are the settings of the login of people by the provider of [OIDC]: what it knows
// this cluster as. Without an ID there is no login.
type OIDCClient struct {
	// ID (--oidc_client_id) at the provider. Tokens are for it, so that it must be among what
	// --oidc_audience takes; mostly both are the same.
	ID string
	// SecretFile (--oidc_client_secret) holds the client's secret; empty: it is a public client,
	// which PKCE is enough for.
	SecretFile string
	// RedirectURL (--oidc_redirect_url) is where the provider sends people back to, as it is
	// registered there; empty: the address that they came to.
	RedirectURL string
	// Scopes (--oidc_scopes) are asked for besides "openid"; none: "profile" and "email".
	Scopes []string
}

// OIDCLogin is the login of people with a browser: the authorization code flow with PKCE
// (RFC 6749, RFC 7636, OpenID Connect Core 3.1). What belongs to one login is with the
// browser, see [OIDCFlow]: any master may end what another began.
type OIDCLogin struct {
	verifier *oidcVerifier
	client   OIDCClient
	secret   string
	// tokens is for the one question that is no document.
	tokens *http.Client
}

// OIDCFlow is one login under way.
type OIDCFlow struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Redirect string `json:"r"`
	// To is where to go afterwards.
	To string `json:"t"`
}

// newOIDCLogin returns the login; nil without a client.
func newOIDCLogin(o *oidcVerifier, c OIDCClient) (*OIDCLogin, error) {
	bad := func(text string) (*OIDCLogin, error) { return nil, fmt.Errorf("%w: %s", ErrOIDC, text) }
	if c.ID == "" {
		if c.SecretFile != "" || c.RedirectURL != "" || len(c.Scopes) > 0 {
			return bad("there is no client id (--oidc_client_id) for what else is set of the client")
		}
		return nil, nil
	}
	if o == nil {
		return bad("a client id without a provider (--oidc_issuer)")
	}
	if c.RedirectURL != "" {
		if u, err := url.Parse(c.RedirectURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
			return bad("the redirect URL is not one of http or https")
		}
	}
	l := &OIDCLogin{verifier: o, client: c}
	if c.SecretFile != "" {
		data, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, err
		}
		if l.secret = strings.TrimRight(string(data), "\r\n"); l.secret == "" {
			return bad(c.SecretFile + " holds no secret")
		}
	}
	l.tokens = &http.Client{
		Transport: o.documents.next, Timeout: oidcTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return l, nil
}

// Begin begins a login that comes back to redirect, unless the settings name another
// address. The browser is to be sent to the target, and the flow is to be kept for Finish.
func (l *OIDCLogin) Begin(ctx context.Context, redirect, to string) (flow *OIDCFlow, target string, err error) {
	at, err := l.endpoints(ctx)
	if err != nil {
		return nil, "", err
	}
	u, err := url.Parse(at.auth)
	if err != nil || u.Scheme != "https" {
		return nil, "", fmt.Errorf("%w: the provider's authorization_endpoint is %w", ErrLogin, errNotHTTPS)
	}
	if l.client.RedirectURL != "" {
		redirect = l.client.RedirectURL
	}
	flow = &OIDCFlow{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(), Redirect: redirect, To: to}
	challenge := sha256.Sum256([]byte(flow.Verifier))
	scopes := l.client.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email"}
	}
	q := u.Query()
	for k, v := range map[string]string{
		"response_type": "code", "client_id": l.client.ID, "redirect_uri": redirect, "state": flow.State, "nonce": flow.Nonce,
		"scope":          strings.Join(append([]string{"openid"}, scopes...), " "),
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	return flow, u.String(), nil
}

// Finish ends a login with what the browser brings back, and returns the token that it
// shows from now on.
func (l *OIDCLogin) Finish(ctx context.Context, flow *OIDCFlow, query url.Values) (token string, err error) {
	fail := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%w: "+format, append([]any{ErrLogin}, args...)...)
	}
	if flow == nil || flow.State == "" || subtle.ConstantTimeCompare([]byte(flow.State), []byte(query.Get("state"))) != 1 {
		return fail("it was not begun in this browser, or it took too long")
	}
	if iss := query.Get("iss"); iss != "" && iss != l.verifier.issuer { // RFC 9207
		return fail("the answer comes from another provider")
	}
	if e := query.Get("error"); e != "" {
		return fail("the provider says %.100q %.300q", e, query.Get("error_description"))
	}
	if query.Get("code") == "" {
		return fail("the provider has sent no code")
	}
	at, err := l.endpoints(ctx)
	if err != nil {
		return "", err
	}
	if token, err = l.exchange(ctx, at, flow, query.Get("code")); err != nil {
		return "", err
	}
	p, no := l.verifier.verify(ctx, token)
	switch {
	case no != nil && no.kind == Unavailable:
		return fail("%s", no.reason)
	case no != nil:
		return fail("the provider's token is not taken here: %s", no.says)
	case subtle.ConstantTimeCompare([]byte(p.Claims["nonce"]), []byte(flow.Nonce)) != 1:
		return fail("the token is of another login")
	case p.Claims["azp"] != "" && p.Claims["azp"] != l.client.ID:
		return fail("the token was made for another client")
	}
	return token, nil
}

// brief is what an error says, as far as people read.
func brief(err error) string {
	text := err.Error()
	return text[:min(len(text), 300)]
}

// endpoints finds where the provider is to be asked.
func (l *OIDCLogin) endpoints(ctx context.Context) (*oidcKeys, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), oidcPatience)
	defer cancel()
	if _, err := l.verifier.keys(ctx); err != nil {
		return nil, fmt.Errorf("%w: the OpenID provider cannot be asked at present: %s", ErrLogin, brief(err))
	}
	at := l.verifier.current.Load()
	if at.auth == "" || at.token == "" {
		return nil, fmt.Errorf("%w: the OpenID provider does not say where to log in", ErrLogin)
	}
	return at, nil
}

// exchange gets a token for a code.
func (l *OIDCLogin) exchange(ctx context.Context, at *oidcKeys, flow *OIDCFlow, code string) (string, error) {
	fail := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%w: "+format, append([]any{ErrLogin}, args...)...)
	}
	if !strings.HasPrefix(at.token, "https://") {
		return fail("the provider's token_endpoint is %w", errNotHTTPS)
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {flow.Redirect},
		"code_verifier": {flow.Verifier},
	}
	// Basic is what providers must take; some take only the other.
	post := len(at.methods) > 0 && !slices.Contains(at.methods, "client_secret_basic") && slices.Contains(at.methods, "client_secret_post")
	if l.secret == "" || post {
		form.Set("client_id", l.client.ID)
	}
	if l.secret != "" && post {
		form.Set("client_secret", l.secret)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.token, strings.NewReader(form.Encode()))
	if err != nil {
		return fail("the provider's token_endpoint cannot be asked")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if l.secret != "" && !post {
		r.SetBasicAuth(url.QueryEscape(l.client.ID), url.QueryEscape(l.secret))
	}
	res, err := l.tokens.Do(r)
	if err != nil {
		return fail("the OpenID provider cannot be asked at present: %.300v", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxDocument))
	if err != nil {
		return fail("the OpenID provider cannot be asked at present: %.300v", err)
	}
	var answer struct {
		IDToken string `json:"id_token"`
		Error   string `json:"error"`
		Says    string `json:"error_description"`
	}
	decoded := json.Unmarshal(body, &answer)
	switch {
	case answer.Error != "":
		return fail("the provider says %.100q %.300q", answer.Error, answer.Says)
	case res.StatusCode != http.StatusOK:
		return fail("the provider answers %s", res.Status)
	case decoded != nil || answer.IDToken == "":
		return fail("the provider has sent no ID token")
	case len(answer.IDToken) > maxToken:
		return fail("the provider's ID token is too long")
	}
	return answer.IDToken, nil
}
