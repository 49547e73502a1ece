package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"clusterd/internal/authz"
)

const (
	bearerChallenge = `Bearer realm="mesos-master-readonly"`
	userSecret      = "a secret that users' tokens are signed with"
)

// invalid is the challenge that says what is wrong with a token.
func invalid(description string) string {
	return bearerChallenge + `, error="invalid_token", error_description="` + description + `"`
}

// signed makes a token; method HS256 by hand, so that headers and payload may be
// anything.
func signed(key, header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// tokenOf makes a token by the library.
func tokenOf(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims, kid string) string {
	t.Helper()
	j := jwt.NewWithClaims(method, claims)
	if kid != "" {
		j.Header["kid"] = kid
	}
	s, err := j.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

func TestExecutorTokens(t *testing.T) {
	const key = "secret key"
	tokens, err := NewExecutorTokens([]byte(key), 0)
	if err != nil {
		t.Fatal(err)
	}
	a := tokens.Authenticator()
	good, err := tokens.New("f1", "e1", "c1")
	if err != nil {
		t.Fatal(err)
	}
	const hs256 = `{"alg":"HS256","typ":"JWT"}`
	if want := signed(key, hs256, `{"cid":"c1","eid":"e1","fid":"f1"}`); good != want {
		t.Errorf("token is %s, want %s: Mesos's claims and nothing else", good, want)
	}
	claims := func(c map[string]string) answer { return answer{Principal: &authz.Principal{Claims: c}} }
	refused := func(k Kind, challenge string) answer { return answer{Status: 401, Kind: k, Challenge: challenge} }
	body := strings.Split(good, ".")
	for _, row := range []struct {
		name, header string
		want         answer
	}{
		{"own", "Bearer " + good, claims(map[string]string{"fid": "f1", "eid": "e1", "cid": "c1"})},
		{"own, scheme in small letters", "bearer " + good, claims(map[string]string{"fid": "f1", "eid": "e1", "cid": "c1"})},
		{
			"made elsewhere", "Bearer " + signed(key, hs256, `{"cid_prefix":"p","n":17,"l":[1, "x"],"exp":99999999999}`),
			claims(map[string]string{"cid_prefix": "p", "n": "17", "l": `[1,"x"]`, "exp": "99999999999"}),
		},
		{"nothing", "", refused(Missing, bearerChallenge)},
		{"another scheme", showing("a", "b"), refused(Missing, invalid("Scheme 'Basic' unsupported"))},
		{"scheme alone", "Bearer", refused(Malformed, invalid("Malformed 'Authorization' header"))},
		{"three words", "Bearer a b", refused(Malformed, invalid("Malformed 'Authorization' header"))},
		{"scheme with quotes", `Be"arer abc`, refused(Malformed, invalid("Malformed 'Authorization' header"))},
		{"no token", "Bearer abc", refused(Malformed, invalid("Invalid JWT: Token is malformed"))},
		{"long", "Bearer " + strings.Repeat("a", maxToken+1), refused(Malformed, invalid("Invalid JWT: Token is too long"))},
		{"another key", "Bearer " + signed("other", hs256, `{"fid":"f1"}`), refused(Rejected, invalid("Invalid JWT: Token signature does not match"))},
		{"no signature", "Bearer " + body[0] + "." + body[1] + ".", refused(Rejected, invalid("Invalid JWT: Token signature does not match"))},
		{"alg none", "Bearer " + signed(key, `{"alg":"none"}`, `{"fid":"f1"}`), refused(Rejected, invalid("Invalid JWT: Token 'alg' is not permitted"))},
		{"alg none, unsigned", "Bearer " + tokenOf(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"fid": "f1"}, ""), refused(Rejected, invalid("Invalid JWT: Token 'alg' is not permitted"))},
		{"alg NONE", "Bearer " + signed(key, `{"alg":"NONE"}`, `{"fid":"f1"}`), refused(Rejected, invalid("Invalid JWT: Token 'alg' is not permitted"))},
		{"alg missing", "Bearer " + signed(key, `{}`, `{"fid":"f1"}`), refused(Rejected, invalid("Invalid JWT: Token 'alg' is not permitted"))},
		{"alg HS512", "Bearer " + tokenOf(t, jwt.SigningMethodHS512, []byte(key), jwt.MapClaims{"fid": "f1"}, ""), refused(Rejected, invalid("Invalid JWT: Token 'alg' is not permitted"))},
		{"crit", "Bearer " + signed(key, `{"alg":"HS256","crit":["b64"]}`, `{"fid":"f1"}`), refused(Rejected, invalid("Invalid JWT: No key for the token"))},
		{"no claims", "Bearer " + signed(key, hs256, `{}`), refused(Rejected, invalid("JWT claims missing"))},
		{"payload that is no object", "Bearer " + signed(key, hs256, `[]`), refused(Malformed, invalid("Invalid JWT: Token is malformed"))},
		{"expired", "Bearer " + signed(key, hs256, `{"fid":"f1","exp":1}`), refused(Expired, invalid("Invalid JWT: Token has expired"))},
		{"expiry that is no number", "Bearer " + signed(key, hs256, `{"fid":"f1","exp":"never"}`), refused(Rejected, invalid("Invalid JWT: Token claims are not accepted"))},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, ask(t, a, request(t, row.header))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestExecutorTokensExpire(t *testing.T) {
	tokens, err := NewExecutorTokens([]byte("k"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tokens.now = func() time.Time { return now }
	token, err := tokens.New("f", "e", "c")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		after time.Duration
		want  Kind
	}{{0, ""}, {time.Hour - 2*time.Second, ""}, {time.Hour + time.Second, Expired}} {
		tokens.now = func() time.Time { return now.Add(row.after) }
		if got := ask(t, tokens.Authenticator(), request(t, "Bearer "+token)); got.Kind != row.want {
			t.Errorf("after %s: got %+v, want kind %q", row.after, got, row.want)
		}
	}
}

func TestExecutorKeys(t *testing.T) {
	for _, bad := range []struct {
		key      string
		lifetime time.Duration
	}{{"", 0}, {"k", -1}} {
		if _, err := NewExecutorTokens([]byte(bad.key), bad.lifetime); !errors.Is(err, ErrKey) {
			t.Errorf("key %q, lifetime %s: got %v", bad.key, bad.lifetime, err)
		}
	}
	for _, none := range []*ExecutorTokens{nil, {}} {
		if token, err := none.New("f", "e", "c"); !errors.Is(err, ErrKey) {
			t.Errorf("without a key: got token %q, error %v", token, err)
		}
	}
	path := file(t, "key", "short\n")
	tokens, warnings, err := OpenExecutorTokens(path, 0)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "6 bytes") || strings.Contains(warnings[0], "short\n") {
		t.Errorf("got warnings %q, error %v", warnings, err)
	}
	// All bytes of the file are the key, as in Mesos.
	if got := ask(t, tokens.Authenticator(), request(t, "Bearer "+signed("short\n", `{"alg":"HS256"}`, `{"fid":"f"}`))); got.Principal == nil {
		t.Errorf("got %+v", got)
	}
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, warnings, err = OpenExecutorTokens(path, 0); err != nil || len(warnings) != 2 {
		t.Errorf("got warnings %q, error %v", warnings, err)
	}
	if _, _, err := OpenExecutorTokens(file(t, "key", ""), 0); !errors.Is(err, ErrKey) {
		t.Errorf("empty file: got %v", err)
	}
}

// keyPair is a private key, its public one in PEM, and how it signs.
type keyPair struct {
	private crypto.Signer
	method  jwt.SigningMethod
	pem     string
}

// pairs are the same for all tests, because RSA takes its time.
var pairs = sync.OnceValue(func() map[string]keyPair {
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	out := map[string]keyPair{}
	for name, p := range map[string]keyPair{
		"RSA": {private: rsaKey, method: jwt.SigningMethodRS256}, "PSS": {private: rsaKey, method: jwt.SigningMethodPS256},
		"ECDSA": {private: ec, method: jwt.SigningMethodES256}, "Ed25519": {private: ed, method: jwt.SigningMethodEdDSA},
	} {
		p.pem = publicPEM(p.private)
		out[name] = p
	}
	return out
})

func publicPEM(key crypto.Signer) string {
	der := must(x509.MarshalPKIXPublicKey(key.Public()))
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// users is an authenticator of the tokens of users.
func users(t testing.TB, keys string, s UserTokens) Authenticator {
	t.Helper()
	parsed, err := parseUserKeys([]byte(keys))
	if err != nil {
		t.Fatal(err)
	}
	return &Bearer{verifiers: []verifier{newUserVerifier(s, func() []userKey { return parsed })}}
}

func TestUserTokens(t *testing.T) {
	all := pairs()
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			a := users(t, p.pem, UserTokens{})
			claims := jwt.MapClaims{"sub": "alice", "exp": in(time.Hour), "groups": []string{"x", "y"}}
			want := answer{Principal: &authz.Principal{Value: "alice", Claims: map[string]string{
				"exp": string(must(json.Marshal(claims["exp"]))), "groups": `["x","y"]`,
			}}}
			if diff := cmp.Diff(want, ask(t, a, request(t, "Bearer "+tokenOf(t, p.method, p.private, claims, "")))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			// Tokens of every other key, and tokens signed by HMAC with what is public.
			for other, q := range all {
				if q.pem == p.pem {
					continue
				}
				if got := ask(t, a, request(t, "Bearer "+tokenOf(t, q.method, q.private, claims, ""))); got.Kind != Rejected {
					t.Errorf("token signed with %s: got %+v", other, got)
				}
			}
			for _, public := range []string{p.pem, strings.TrimSpace(p.pem)} {
				for _, m := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
					if got := ask(t, a, request(t, "Bearer "+tokenOf(t, m, []byte(public), claims, ""))); got.Kind != Rejected {
						t.Errorf("token signed by %s with the public key: got %+v", m.Alg(), got)
					}
				}
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestClaimsOfUserTokens(t *testing.T) {
	token := func(claims jwt.MapClaims) string {
		return tokenOf(t, jwt.SigningMethodHS256, []byte(userSecret), claims, "")
	}
	strict := UserTokens{PrincipalClaim: "name", Audience: "clusterd", Issuer: "https://issuer"}
	good := func(change func(jwt.MapClaims)) string {
		c := jwt.MapClaims{"sub": "s", "name": "n", "aud": []string{"x", "clusterd"}, "iss": "https://issuer", "exp": in(time.Hour)}
		change(c)
		return token(c)
	}
	for _, row := range []struct {
		name     string
		settings UserTokens
		token    string
		want     string // principal
		kind     Kind
	}{
		{"good", UserTokens{}, token(jwt.MapClaims{"sub": "s", "exp": in(time.Hour)}), "s", ""},
		{"HS512", UserTokens{}, tokenOf(t, jwt.SigningMethodHS512, []byte(userSecret), jwt.MapClaims{"sub": "s", "exp": in(time.Hour)}, ""), "s", ""},
		{"no expiry", UserTokens{}, token(jwt.MapClaims{"sub": "s"}), "", Rejected},
		{"expired", UserTokens{}, token(jwt.MapClaims{"sub": "s", "exp": in(-time.Minute)}), "", Expired},
		{"expired within the leeway", UserTokens{}, token(jwt.MapClaims{"sub": "s", "exp": in(-2 * time.Second)}), "s", ""},
		{"not yet", UserTokens{}, token(jwt.MapClaims{"sub": "s", "exp": in(time.Hour), "nbf": in(time.Minute)}), "", Rejected},
		{"nobody", UserTokens{}, token(jwt.MapClaims{"exp": in(time.Hour)}), "", Rejected},
		{"empty", UserTokens{}, token(jwt.MapClaims{"sub": "", "exp": in(time.Hour)}), "", Rejected},
		{"number", UserTokens{}, token(jwt.MapClaims{"sub": 17, "exp": in(time.Hour)}), "", Rejected},
		{"control", UserTokens{}, token(jwt.MapClaims{"sub": "a\nb", "exp": in(time.Hour)}), "", Rejected},
		{"any audience", UserTokens{}, token(jwt.MapClaims{"sub": "s", "aud": "x", "exp": in(time.Hour)}), "s", ""},
		{"strict", strict, good(func(jwt.MapClaims) {}), "n", ""},
		{"strict, another audience", strict, good(func(c jwt.MapClaims) { c["aud"] = "x" }), "", Rejected},
		{"strict, no audience", strict, good(func(c jwt.MapClaims) { delete(c, "aud") }), "", Rejected},
		{"strict, another issuer", strict, good(func(c jwt.MapClaims) { c["iss"] = "https://issuer/" }), "", Rejected},
		{"strict, no issuer", strict, good(func(c jwt.MapClaims) { delete(c, "iss") }), "", Rejected},
		{"strict, no name", strict, good(func(c jwt.MapClaims) { delete(c, "name") }), "", Rejected},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := ask(t, users(t, userSecret+"\n", row.settings), request(t, "Bearer "+row.token))
			if got.Kind != row.kind || (row.want != "" && (got.Principal == nil || got.Principal.Value != row.want)) {
				t.Errorf("got %+v, want principal %q, kind %q", got, row.want, row.kind)
			}
		})
	}
}

func TestUserKeys(t *testing.T) {
	all := pairs()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("no weak RSA keys here: %v", err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := must(x509.MarshalPKIXPublicKey(all["RSA"].private.Public()))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(all["ECDSA"].private))}))
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(all["RSA"].private.Public().(*rsa.PublicKey))}))
	for _, row := range []struct {
		name, in string
		keys     int
		err      string
	}{
		{"secret", userSecret, 1, ""},
		{"RSA", all["RSA"].pem, 1, ""},
		{"RSA, PKCS 1", pkcs1, 1, ""},
		{"two", all["RSA"].pem + all["ECDSA"].pem, 2, ""},
		{"empty", "", 0, "HMAC secret of 0 bytes"},
		{"short secret", "hunter2\n", 0, "HMAC secret of 7 bytes"},
		{"private key", private, 0, "a private key"},
		{"public and private key", all["ECDSA"].pem + private, 0, "a private key"},
		{"weak RSA", publicPEM(weak), 0, "1024 bits"},
		{"odd curve", publicPEM(p224), 0, "curve P-224"},
		{"DER", string(der), 0, "DER"},
		{"DER, PKCS 1", string(x509.MarshalPKCS1PublicKey(all["RSA"].private.Public().(*rsa.PublicKey))), 0, "DER"},
		{"set of keys", `{"keys":[{"kty":"RSA","n":"0000000000000000000000000000000000"}]}`, 0, "JSON"},
		{"SSH", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC user@host", 0, "SSH"},
		{"cut off", all["RSA"].pem[:100], 0, "PEM that cannot be read"},
		{"second cut off", all["RSA"].pem + all["ECDSA"].pem[:60], 0, "after 1 keys"},
		{"other PEM", "-----BEGIN X-----\nAAAA\n-----END X-----\n", 0, `PEM of type "X"`},
		{"garbage in PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 0, "PUBLIC KEY"},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys, err := parseUserKeys([]byte(row.in))
			if row.err == "" && (err != nil || len(keys) != row.keys) {
				t.Errorf("got %d keys, error %v, want %d", len(keys), err, row.keys)
			}
			if row.err != "" && (!errors.Is(err, ErrKey) || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("got %v, want an error with %q", err, row.err)
			}
		})
	}
}

// TestTokensOfSeveralOrigins has one authenticator for tokens of users and of
// executors: each passes for what it is, and the challenge tells what matters.
func TestTokensOfSeveralOrigins(t *testing.T) {
	tokens, err := NewExecutorTokens([]byte("executors"), 0)
	if err != nil {
		t.Fatal(err)
	}
	keys := must(parseUserKeys([]byte(userSecret)))
	both := &Bearer{verifiers: []verifier{newUserVerifier(UserTokens{}, func() []userKey { return keys }), tokens}}
	executor := must(tokens.New("f", "e", "c"))
	if got := ask(t, both, request(t, "Bearer "+executor)); !got.Principal.OnlyClaims() {
		t.Errorf("executor: got %+v", got)
	}
	user := func(d time.Duration) string {
		return tokenOf(t, jwt.SigningMethodHS256, []byte(userSecret), jwt.MapClaims{"sub": "s", "exp": in(d), "fid": "f"}, "")
	}
	if got := ask(t, both, request(t, "Bearer "+user(time.Hour))); got.Principal == nil || got.Principal.Value != "s" {
		t.Errorf("user: got %+v", got)
	}
	if got, want := ask(t, both, request(t, "Bearer "+user(-time.Hour))), invalid("Invalid JWT: Token has expired"); got.Challenge != want {
		t.Errorf("expired: got %q, want %q", got.Challenge, want)
	}
	reversed := &Bearer{verifiers: []verifier{tokens, both.verifiers[0]}}
	if got, want := ask(t, reversed, request(t, "Bearer "+user(-time.Hour))), invalid("Invalid JWT: Token has expired"); got.Challenge != want {
		t.Errorf("expired, asked last: got %q, want %q", got.Challenge, want)
	}
	// Neither takes the other's.
	if got := ask(t, tokens.Authenticator(), request(t, "Bearer "+user(time.Hour))); got.Kind != Rejected {
		t.Errorf("user as an executor: got %+v", got)
	}
	if got := ask(t, users(t, userSecret, UserTokens{}), request(t, "Bearer "+executor)); got.Kind != Rejected {
		t.Errorf("executor as a user: got %+v", got)
	}
}

func FuzzTokens(f *testing.F) {
	f.Add(`{"alg":"HS256"}`, `{"sub":"s","exp":9999999999}`)
	f.Add(`{"alg":"HS256","crit":[]}`, `{"sub":{},"exp":1e300,"aud":[1]}`)
	f.Add(`{"alg":"none"}`, `{"exp":-1,"nbf":null,"iat":"x"}`)
	tokens, err := NewExecutorTokens([]byte(userSecret), 0)
	if err != nil {
		f.Fatal(err)
	}
	keys := must(parseUserKeys([]byte(userSecret)))
	verifiers := []verifier{newUserVerifier(UserTokens{Audience: "a"}, func() []userKey { return keys }), tokens}
	f.Fuzz(func(t *testing.T, header, payload string) {
		// Rightly signed, so that what is fuzzed is all that comes after.
		token := signed(userSecret, header, payload)
		for _, v := range verifiers {
			p, no := v.verify(t.Context(), token)
			if (p == nil) == (no == nil) {
				t.Fatalf("got %v and %v", p, no)
			}
			if no != nil && strings.ContainsAny(no.says, "\"\\\r\n") {
				t.Errorf("refusal says %q", no.says)
			}
			if p != nil {
				var h struct{ Alg string }
				if json.Unmarshal([]byte(header), &h) != nil || !strings.HasPrefix(h.Alg, "HS") {
					t.Errorf("header %s is taken", header)
				}
			}
		}
	})
}
