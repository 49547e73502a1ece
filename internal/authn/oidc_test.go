package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log" //nolint:depguard // http.Server wants one.
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// provider is an OpenID provider.
type provider struct {
	*httptest.Server
	ca string // file of its authority

	mu sync.Mutex
	// mu guards what follows.
	keys   map[string]crypto.PublicKey
	issuer string                    // what it calls itself
	jwks   string                    // where it says that its keys are
	broken func(http.ResponseWriter) // instead of what is asked for
	asked  map[string]int            // by path
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{keys: map[string]crypto.PublicKey{}, asked: map[string]int{}}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.Config.ErrorLog = log.New(t.Output(), "", 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	p.issuer, p.jwks = p.URL, p.URL+"/keys"
	p.ca = file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
	return p
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path]++
	if p.broken != nil {
		p.broken(w)
		return
	}
	var out any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		out = map[string]any{
			"issuer": p.issuer, "jwks_uri": p.jwks,
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
		}
	case "/keys":
		list := []any{map[string]string{"kty": "OKP", "crv": "X448", "x": "AAAA"}}
		for kid, k := range p.keys {
			switch k := k.(type) {
			case *rsa.PublicKey:
				list = append(list, map[string]string{"kty": "RSA", "kid": kid, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())})
			case *ecdsa.PublicKey:
				point, err := k.Bytes()
				if err != nil {
					panic(err)
				}
				list = append(list, map[string]string{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])})
			}
		}
		out = map[string]any{"keys": list}
	default:
		http.NotFound(w, r)
		return
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		panic(err)
	}
}

// change changes the provider, under its lock.
func (p *provider) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// times says how often a path was asked for.
func (p *provider) times(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

// client is a node that takes the provider's tokens, with a clock of its own.
type oidcClient struct {
	*oidcVerifier
	mu  sync.Mutex
	now time.Time
}

func (p *provider) client(t *testing.T, s OIDC) *oidcClient {
	t.Helper()
	if s.Issuer == "" {
		s.Issuer = p.URL
	}
	s.CAFile, s.Audience = p.ca, "clusterd"
	o, err := newOIDC(s)
	if err != nil {
		t.Fatal(err)
	}
	c := &oidcClient{oidcVerifier: o, now: time.Now()}
	clock := func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.now
	}
	o.now, o.documents.now = clock, clock
	return c
}

func (c *oidcClient) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *oidcClient) ask(t *testing.T, token string) answer {
	t.Helper()
	return ask(t, &Bearer{verifiers: []verifier{c}}, request(t, "Bearer "+token))
}

// token is a good token of the provider but for what change changes.
func (p *provider) token(t *testing.T, k keyPair, kid string, change func(jwt.MapClaims)) string {
	t.Helper()
	claims := jwt.MapClaims{"iss": p.URL, "aud": "clusterd", "sub": "alice", "exp": in(24 * time.Hour), "groups": []int{1}}
	if change != nil {
		change(claims)
	}
	return tokenOf(t, k.method, k.private, claims, kid)
}

func TestOIDC(t *testing.T) {
	p, all := newProvider(t), pairs()
	p.keys["r"], p.keys["e"] = all["RSA"].private.Public(), all["ECDSA"].private.Public()
	c := p.client(t, OIDC{})
	if n := p.times("/keys") + p.times("/.well-known/openid-configuration"); n != 0 {
		t.Errorf("provider was asked %d times before there was a token", n)
	}
	with := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}
	}
	r := all["RSA"]
	public := p.keys["r"].(*rsa.PublicKey)
	good := jwt.MapClaims{"iss": p.URL, "aud": "clusterd", "sub": "alice", "exp": in(time.Hour)}
	for _, row := range []struct {
		name, token string
		want        Kind
		says        string
	}{
		{"RSA", p.token(t, r, "r", nil), "", ""},
		{"RSA-PSS", p.token(t, all["PSS"], "r", nil), "", ""},
		{"ECDSA", p.token(t, all["ECDSA"], "e", nil), "", ""},
		{"no key ID", p.token(t, r, "", nil), "", ""},
		{"several audiences", p.token(t, r, "r", with("aud", []string{"x", "clusterd"})), "", ""},
		{"another audience", p.token(t, r, "r", with("aud", "x")), Rejected, "claims are not accepted"},
		{"no audience", p.token(t, r, "r", with("aud", nil)), Rejected, "claims are not accepted"},
		{"expired", p.token(t, r, "r", with("exp", in(-time.Minute))), Expired, "has expired"},
		{"no expiry", p.token(t, r, "r", with("exp", nil)), Expired, "has expired"},
		{"not yet", p.token(t, r, "r", with("nbf", in(time.Hour))), Rejected, "claims are not accepted"},
		{"another issuer", p.token(t, r, "r", with("iss", p.URL+"/")), Rejected, "another issuer"},
		{"no issuer", p.token(t, r, "r", with("iss", nil)), Rejected, "another issuer"},
		{"nobody", p.token(t, r, "r", with("sub", "")), Rejected, "does not name a principal"},
		{"key of another", p.token(t, all["ECDSA"], "r", nil), Rejected, "signature does not match"},
		{"unknown key", tokenOf(t, r.method, must(rsa.GenerateKey(rand.Reader, 2048)), good, "r"), Rejected, "signature does not match"},
		{"HMAC with the public key", tokenOf(t, jwt.SigningMethodHS256, []byte(publicPEM(r.private)), good, "r"), Rejected, "not permitted"},
		{"HMAC with the modulus", tokenOf(t, jwt.SigningMethodHS256, public.N.Bytes(), good, "r"), Rejected, "not permitted"},
		{"not signed", tokenOf(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good, ""), Rejected, "not permitted"},
		{"no token", "abc", Malformed, "malformed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := c.ask(t, row.token)
			if got.Kind != row.want || !strings.Contains(got.Challenge, row.says) {
				t.Errorf("got %+v, want kind %q and %q", got, row.want, row.says)
			}
			if row.want == "" && (got.Principal == nil || got.Principal.Value != "alice" || got.Principal.Claims["groups"] != "[1]") {
				t.Errorf("got principal %+v", got.Principal)
			}
		})
	}
	if n := p.times("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("provider was asked %d times what it is, want once", n)
	}
	if n := p.times("/keys"); n != 1 {
		t.Errorf("provider was asked %d times for its keys, want once: no time has passed", n)
	}
}

func TestOIDCKeysRotate(t *testing.T) {
	p, old, young := newProvider(t), pairs()["RSA"], pairs()["ECDSA"]
	p.keys["old"] = old.private.Public()
	c := p.client(t, OIDC{})
	check := func(when string, want Kind, token string) {
		t.Helper()
		if got := c.ask(t, token); got.Kind != want {
			t.Errorf("%s: got %+v, want kind %q", when, got, want)
		}
	}
	first, second := p.token(t, old, "old", nil), p.token(t, young, "young", nil)
	check("at first", "", first)
	p.change(func() { p.keys["young"] = young.private.Public() })
	check("asked a moment ago", Rejected, second)
	c.pass(documentEvery)
	check("new key", "", second)
	check("old key beside the new one", "", first)
	n := p.times("/keys")
	for range 100 {
		check("unknown key", Rejected, p.token(t, pairs()["ECDSA"], "made up", nil))
	}
	if got := p.times("/keys"); got != n {
		t.Errorf("100 tokens with an unknown key had the provider asked %d times", got-n)
	}
	p.change(func() { delete(p.keys, "old") })
	c.pass(oidcFresh)
	check("withdrawn key", Rejected, first)
	check("the key that stays", "", second)
}

func TestOIDCProviderDown(t *testing.T) {
	down := map[string]func(http.ResponseWriter){
		"error":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"no JSON": func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>maintenance</html>")) },
		"redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://127.0.0.1:1/")
			w.WriteHeader(http.StatusFound)
		},
		"too long": func(w http.ResponseWriter) { _, _ = w.Write([]byte("{}" + strings.Repeat(" ", maxDocument))) },
		"error in JSON": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"error":"x"}`))
		},
		"hangs up": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	unavailable := answer{Status: http.StatusServiceUnavailable, Kind: Unavailable}
	for name, how := range down {
		t.Run(name, func(t *testing.T) {
			p, k := newProvider(t), pairs()["ECDSA"]
			p.keys["k"] = k.private.Public()
			p.broken = how
			c := p.client(t, OIDC{})
			token := p.token(t, k, "k", nil)
			for range 10 {
				if diff := cmp.Diff(unavailable, c.ask(t, token)); diff != "" {
					t.Fatalf("down from the start: -want +got:\n%s", diff)
				}
			}
			if n := p.times("/.well-known/openid-configuration"); n != 1 {
				t.Errorf("provider was asked %d times, want once: no time has passed", n)
			}
			p.change(func() { p.broken = nil })
			c.pass(documentEvery)
			if got := c.ask(t, token); got.Principal == nil {
				t.Fatalf("up: got %+v", got)
			}
			p.change(func() { p.broken = how })
			for range 5 {
				c.pass(oidcFresh)
				if got := c.ask(t, token); got.Principal == nil {
					t.Fatalf("down for long: got %+v", got)
				}
			}
			// Its key may be a new one that we cannot get.
			if diff := cmp.Diff(unavailable, c.ask(t, p.token(t, k, "other", nil))); diff != "" {
				t.Errorf("unknown key: -want +got:\n%s", diff)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		p, k := newProvider(t), pairs()["ECDSA"]
		c := p.client(t, OIDC{})
		p.Close()
		if diff := cmp.Diff(unavailable, c.ask(t, p.token(t, k, "k", nil))); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		p, k := newProvider(t), pairs()["ECDSA"]
		c := p.client(t, OIDC{})
		release := make(chan struct{})
		p.broken = func(http.ResponseWriter) { <-release }
		c.client.Timeout = 50 * time.Millisecond
		token := p.token(t, k, "k", nil)
		var wg sync.WaitGroup
		for range 10 { // all of them wait for one question
			wg.Go(func() {
				if diff := cmp.Diff(unavailable, c.ask(t, token)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
		wg.Wait()
		close(release)
	})
}

func TestOIDCSettings(t *testing.T) {
	p, k := newProvider(t), pairs()["ECDSA"]
	p.keys["k"] = k.private.Public()
	t.Run("calls itself otherwise", func(t *testing.T) {
		p.change(func() { p.issuer = p.URL + "/x" })
		defer p.change(func() { p.issuer = p.URL })
		if got := p.client(t, OIDC{}).ask(t, p.token(t, k, "k", nil)); got.Kind != Unavailable {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("calls itself otherwise of late", func(t *testing.T) {
		c, token := p.client(t, OIDC{}), p.token(t, k, "k", nil)
		for _, issuer := range []string{p.URL, p.URL + "/x"} {
			p.change(func() { p.issuer = issuer })
			if got := c.ask(t, token); got.Principal == nil {
				t.Errorf("as %s: got %+v", issuer, got)
			}
			c.pass(oidcFresh)
		}
		p.change(func() { p.issuer = p.URL })
	})
	t.Run("keys in clear", func(t *testing.T) {
		asked := p.times("/keys")
		p.change(func() { p.jwks = "http" + strings.TrimPrefix(p.URL, "https") + "/keys" })
		defer p.change(func() { p.jwks = p.URL + "/keys" })
		if got := p.client(t, OIDC{}).ask(t, p.token(t, k, "k", nil)); got.Kind != Unavailable {
			t.Errorf("got %+v", got)
		}
		if n := p.times("/keys"); n != asked {
			t.Errorf("keys were asked for %d times", n-asked)
		}
	})
	t.Run("authority is another", func(t *testing.T) {
		c := p.client(t, OIDC{})
		c.documents.next.(*http.Transport).TLSClientConfig.RootCAs = nil
		if got := c.ask(t, p.token(t, k, "k", nil)); got.Kind != Unavailable {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("address", func(t *testing.T) {
		c := p.client(t, OIDC{PrincipalClaim: "email"})
		for _, row := range []struct {
			verified any
			want     bool
		}{{true, true}, {false, false}, {nil, false}, {"true", false}} {
			token := p.token(t, k, "k", func(c jwt.MapClaims) { c["email"], c["email_verified"] = "a@b", row.verified })
			got := c.ask(t, token)
			if row.want != (got.Principal != nil) {
				t.Errorf("verified: %v: got %+v", row.verified, got)
			}
		}
	})
	for _, bad := range []OIDC{
		{Issuer: "http://issuer", Audience: "a"},
		{Issuer: "issuer", Audience: "a"},
		{Issuer: "https://", Audience: "a"},
		{Issuer: "https://user:hunter2@issuer", Audience: "a"},
		{Issuer: "https://issuer?x=y", Audience: "a"},
		{Issuer: "https://issuer"},
		{Audience: "a"},
		{Issuer: "https://issuer", Audience: "a", CAFile: file(t, "ca", "x")},
	} {
		if _, err := newOIDC(bad); !errors.Is(err, ErrOIDC) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
}

func TestDocumentsAreFew(t *testing.T) {
	d := &documents{now: time.Now}
	for i := range 100 {
		d.document((&url.URL{Scheme: "https", Host: "h", Path: string(rune('a' + i))}).String())
	}
	if len(d.all) > maxDocuments {
		t.Errorf("remembers %d documents", len(d.all))
	}
	r := request(t, "")
	for _, u := range []string{"http://h/x", "file:///etc/passwd"} {
		r.URL = must(url.Parse(u))
		res, err := d.RoundTrip(r)
		if !errors.Is(err, errNotHTTPS) {
			t.Errorf("%s: got %v", u, err)
		}
		if res != nil {
			_ = res.Body.Close()
		}
	}
}
