package server

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
)

// openIDProvider is one where everybody is alice.
type openIDProvider struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey

	mu sync.Mutex
	// mu guards what follows.
	codes  map[string]url.Values          // what was asked for, by code
	claims func(jwt.MapClaims)            // changes those of the next tokens
	answer func(http.ResponseWriter) bool // instead of a token
	post   bool                           // clients show their secret in the form only
}

func newOpenIDProvider(t *testing.T) *openIDProvider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &openIDProvider{t: t, key: key, codes: map[string]url.Values{}}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *openIDProvider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b64 := base64.RawURLEncoding.EncodeToString
	write := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		doc := map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/authorize?tenant=x", "token_endpoint": p.URL + "/token",
		}
		if p.post {
			doc["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
		}
		write(doc)
	case "/keys":
		write(map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "kid": "k", "n": b64(p.key.N.Bytes()), "e": b64(big.NewInt(int64(p.key.E)).Bytes()),
		}}})
	case "/authorize":
		q := r.URL.Query()
		code := rand.Text()
		p.codes[code] = q
		back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.URL}}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	case "/token":
		if p.answer != nil && p.answer(w) {
			return
		}
		p.token(w, r, write)
	default:
		http.NotFound(w, r)
	}
}

// token gives a token for a code, once, to who can show that it has asked for the code.
func (p *openIDProvider) token(w http.ResponseWriter, r *http.Request, write func(any)) {
	refuse := func(why string) {
		w.WriteHeader(http.StatusBadRequest)
		write(map[string]string{"error": "invalid_grant", "error_description": why})
	}
	if err := r.ParseForm(); err != nil {
		refuse(err.Error())
		return
	}
	asked, ok := p.codes[r.PostForm.Get("code")]
	delete(p.codes, r.PostForm.Get("code"))
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	id, secret, basic := r.BasicAuth()
	if p.post {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	switch {
	case !ok:
		refuse("unknown code")
	case r.PostForm.Get("grant_type") != "authorization_code" || r.PostForm.Get("redirect_uri") != asked.Get("redirect_uri"):
		refuse("another request")
	case asked.Get("code_challenge_method") != "S256" || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge"):
		refuse("wrong verifier")
	case basic == p.post || id != "clusterd" || secret != "hunter2":
		refuse("wrong client")
	default:
		claims := jwt.MapClaims{
			"iss": p.URL, "aud": "clusterd", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "nonce": asked.Get("nonce"),
		}
		if p.claims != nil {
			p.claims(claims)
		}
		token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
		token.Header["kid"] = "k"
		text, err := token.SignedString(p.key)
		if err != nil {
			refuse(err.Error())
			return
		}
		write(map[string]string{"id_token": text, "access_token": "x", "token_type": "Bearer"})
	}
}

func (p *openIDProvider) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// master is one whose readers and operators log in there.
func (p *openIDProvider) master(t *testing.T, client authn.OIDCClient) *Server {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	client.ID, client.SecretFile = "clusterd", write("secret", []byte("hunter2\n"))
	names := []string{"oidc"}
	set, err := authn.New(authn.Config{
		Realms: map[authn.Realm][]string{authn.MasterReadonly: names, authn.MasterReadwrite: names},
		OIDC: authn.OIDC{
			Issuer: p.URL, Audience: "clusterd",
			CAFile: write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})),
		},
		OIDCClient: client,
	})
	if err != nil {
		t.Fatal(err)
	}
	return startMaster(t, func(o *Options) { o.Realms, o.Login = set.Realms, set.Login })
}

// logIn follows the browser through a login and returns where it ends.
func (p *page) logIn(at *openIDProvider, to string) string {
	p.t.Helper()
	begun := p.do(http.MethodGet, sessionPath+"/oidc?to="+url.QueryEscape(to), "")
	if begun.status != http.StatusFound {
		p.t.Fatalf("begin: %d %s", begun.status, begun.body)
	}
	target := begun.header.Get("Location")
	if !strings.HasPrefix(target, at.URL+"/authorize?") || !strings.Contains(target, "tenant=x") {
		return strings.ReplaceAll(target, "../../../../#", "/#")
	}
	return p.comeBack(at, target)
}

func (p *page) comeBack(at *openIDProvider, target string) string {
	p.t.Helper()
	client := at.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = res.Body.Close()
	return p.callback(strings.TrimPrefix(res.Header.Get("Location"), "http://"+p.s.Addr().String()))
}

func (p *page) callback(path string) string {
	p.t.Helper()
	got := p.do(http.MethodGet, path, "")
	if got.status != http.StatusFound {
		p.t.Fatalf("%s: %d %s", path, got.status, got.body)
	}
	// As a browser finds it; another site's stays what it is.
	at, err := url.Parse(path)
	if err != nil {
		p.t.Fatal(err)
	}
	to, err := at.Parse(got.header.Get("Location"))
	if err != nil {
		p.t.Fatal(err)
	}
	return to.String()
}

func TestOIDCLogin(t *testing.T) {
	for name, post := range map[string]bool{"basic": false, "post": true} {
		t.Run(name, func(t *testing.T) {
			p := newOpenIDProvider(t)
			p.post = post
			pg := openPage(t, p.master(t, authn.OIDCClient{}))
			if w := pg.who(); strings.Join(w.Schemes, " ") != "token oidc" || w.Authenticated {
				t.Errorf("before: got %+v", w)
			}
			if to := pg.logIn(p, "/#/tasks?q=x"); to != "/#/tasks?q=x" {
				t.Errorf("the login ends at %s", to)
			}
			if len(pg.cookies) != 1 || pg.cookies[httpapi.SessionCookie] == "" {
				t.Errorf("cookies: %v", pg.cookies)
			}
			if w := pg.who(); w.Principal == nil || w.Principal.Value != "alice" {
				t.Errorf("after: got %+v", w)
			}
			if got := pg.do(http.MethodGet, "/state", ""); got.status != http.StatusOK {
				t.Errorf("/state: %d", got.status)
			}
		})
	}
}

// TestOIDCLoginGoesWrong: whatever is wrong, nobody is logged in, and the login page says
// what it is without a secret.
func TestOIDCLoginGoesWrong(t *testing.T) {
	p := newOpenIDProvider(t)
	s := p.master(t, authn.OIDCClient{})
	failed := func(pg *page, to, what string) {
		t.Helper()
		says, _ := url.QueryUnescape(to)
		if !strings.HasPrefix(to, "/#/login?error=") || !strings.Contains(says, what) || strings.Contains(says, "hunter2") {
			t.Errorf("got %q, want %q on the login page", says, what)
		}
		if pg.cookies[httpapi.SessionCookie] != "" {
			t.Errorf("%s: there is a session", what)
		}
	}
	for what, change := range map[string]func(jwt.MapClaims){
		"the token is of another login":     func(c jwt.MapClaims) { c["nonce"] = "x" },
		"made for another client":           func(c jwt.MapClaims) { c["azp"] = "x" },
		"Token claims are not accepted":     func(c jwt.MapClaims) { c["aud"] = "x" },
		"Token has expired":                 func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"Token has another issuer":          func(c jwt.MapClaims) { c["iss"] = "https://x" },
		"the provider's ID token is too lo": func(c jwt.MapClaims) { c["groups"] = strings.Repeat("x", 20<<10) },
	} {
		p.change(func() { p.claims = change })
		pg := openPage(t, s)
		failed(pg, pg.logIn(p, "/"), what)
	}
	p.change(func() { p.claims = nil })
	for what, answer := range map[string]string{
		"the provider has sent no ID token": `{}`, `"server_error" "sorry"`: `{"error":"server_error","error_description":"sorry"}`,
	} {
		p.change(func() {
			p.answer = func(w http.ResponseWriter) bool { _, _ = w.Write([]byte(answer)); return true }
		})
		pg := openPage(t, s)
		failed(pg, pg.logIn(p, "/"), what)
	}
	p.change(func() { p.answer = nil })

	// Answers that this browser did not ask for.
	pg := openPage(t, s)
	failed(pg, pg.callback(oidcCallback+"?code=x&state=ABCDEFGHIJ"), "not begun in this browser")
	failed(pg, pg.callback(oidcCallback+"?code=x"), "not begun in this browser")
	begin := func() (*page, string) {
		pg := openPage(t, s)
		target, err := url.Parse(pg.do(http.MethodGet, oidcBegin, "").header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		return pg, target.Query().Get("state")
	}
	pg, state := begin()
	failed(pg, pg.callback(oidcCallback+"?code=x&state="+state[:8]+"x"), "not begun in this browser")
	pg, state = begin()
	failed(pg, pg.callback(oidcCallback+"?code=x&iss=https://evil&state="+state), "another provider")
	pg, state = begin()
	failed(pg, pg.callback(oidcCallback+"?error=access_denied&error_description=no&state="+state), `"access_denied" "no"`)
	pg, state = begin()
	failed(pg, pg.callback(oidcCallback+"?state="+state), "sent no code")
	pg, state = begin()
	failed(pg, pg.callback(oidcCallback+"?code=made-up&state="+state), "unknown code")
	failed(pg, pg.callback(oidcCallback+"?code=made-up&state="+state), "not begun in this browser") // good once
	pg, state = begin()
	other, _ := begin() // another tab: both go on
	maps.Copy(pg.cookies, other.cookies)
	if len(pg.cookies) != 2 {
		t.Errorf("two logins have %d cookies", len(pg.cookies))
	}
	failed(pg, pg.callback(oidcCallback+"?code=made-up&state="+state), "unknown code")
}

// TestOIDCLoginEndsHere: a link cannot have a login end elsewhere.
func TestOIDCLoginEndsHere(t *testing.T) {
	for to, want := range map[string]string{
		"": "/", "/": "/", "/#/agents/x": "/#/agents/x", "https://evil": "/", "//evil": "/", "/\\evil": "/", "evil": "/", "javascript:x": "/",
		"/\t/evil": "/", "http:/x": "/", "/x?y#z": "/x?y#z",
	} {
		if got := ownPlace(to); got != want {
			t.Errorf("%q ends at %q, want %q", to, got, want)
		}
	}
	p := newOpenIDProvider(t)
	pg := openPage(t, p.master(t, authn.OIDCClient{}))
	if to := pg.logIn(p, "//evil"); to != "/" {
		t.Errorf("ends at %s", to)
	}
}

func TestOIDCLoginProviderDown(t *testing.T) {
	p := newOpenIDProvider(t)
	s := p.master(t, authn.OIDCClient{RedirectURL: "https://clusterd.example/cb", Scopes: []string{"groups"}})
	begun := openPage(t, s).do(http.MethodGet, oidcBegin, "").header.Get("Location")
	target, err := url.Parse(begun)
	if err != nil || target.Query().Get("redirect_uri") != "https://clusterd.example/cb" || target.Query().Get("scope") != "openid groups" {
		t.Errorf("got %s, %v", begun, err)
	}
	p2 := newOpenIDProvider(t)
	down := p2.master(t, authn.OIDCClient{})
	p2.Close()
	to, _ := url.QueryUnescape(openPage(t, down).logIn(p2, "/"))
	if !strings.Contains(to, "cannot be asked at present") {
		t.Errorf("got %s", to)
	}
	none := startMaster(t)
	for _, path := range []string{oidcBegin, oidcCallback} {
		if got := get(t, none, path); got.status != http.StatusNotFound {
			t.Errorf("%s without a provider: got %d", path, got.status)
		}
	}
}

// TestOIDCLoginBehindProxy: where a proxy ends TLS, and has the UI below a path, the provider is
// told an address that browsers reach, and what is set goes by TLS only.
func TestOIDCLoginBehindProxy(t *testing.T) {
	p := newOpenIDProvider(t)
	s := p.master(t, authn.OIDCClient{})
	get := func(path, cookie string) reply {
		h := http.Header{"X-Forwarded-Proto": {"https"}}
		if cookie != "" {
			h.Set("Cookie", cookie)
		}
		return do(t, http.MethodGet, endpoint(s, path), h, nil)
	}
	begun := get(oidcBegin+"?to="+url.QueryEscape("/#/tasks"), "")
	target, err := url.Parse(begun.header.Get("Location"))
	if err != nil || begun.status != http.StatusFound {
		t.Fatalf("%d %s: %v", begun.status, begun.body, err)
	}
	if back := target.Query().Get("redirect_uri"); back != "https://"+s.Addr().String()+oidcCallback {
		t.Errorf("the provider sends back to %s", back)
	}
	flow := (&http.Response{Header: begun.header}).Cookies()
	if len(flow) != 1 || !strings.HasPrefix(flow[0].Name, httpapi.HostPrefix+flowCookie) || !flow[0].Secure {
		t.Fatalf("cookies: %v", flow)
	}
	client := p.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	back := strings.TrimPrefix(res.Header.Get("Location"), "https://"+s.Addr().String())
	ended := get(back, flow[0].Name+"="+flow[0].Value)
	below, err := url.Parse("https://front/tools/clusterd" + back)
	if err != nil {
		t.Fatal(err)
	}
	to, err := below.Parse(ended.header.Get("Location"))
	if err != nil || to.String() != "https://front/tools/clusterd/#/tasks" {
		t.Errorf("%d: the login ends at %v, %v", ended.status, to, err)
	}
	session := false
	for _, c := range (&http.Response{Header: ended.header}).Cookies() {
		session = session || c.Name == httpapi.HostPrefix+httpapi.SessionCookie && c.Secure
	}
	if !session {
		t.Errorf("there is no session: %v", ended.header)
	}
	// The flow's cookie of somebody who answers in clear does not count.
	forged := get(back, strings.TrimPrefix(flow[0].Name, httpapi.HostPrefix)+"="+flow[0].Value)
	if !strings.Contains(forged.header.Get("Location"), "login?error=") {
		t.Errorf("got %d %v", forged.status, forged.header)
	}
}
