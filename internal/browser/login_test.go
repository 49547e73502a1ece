package browser

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/security"
	"github.com/golang-jwt/jwt/v5"

	"clusterd/internal/testcluster"
)

const userKey = "0123456789abcdef0123456789abcdef"

// guarded starts a cluster that asks everybody who they are, with a task of ops'.
func guarded(t *testing.T, p *provider) (base string, w ids) {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp("", "cs") //nolint:usetesting // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	credentials := file("credentials", `{"credentials":[{"principal":"ops","secret":"ops-secret"},{"principal":"guest","secret":"guest-secret"}]}`)
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
	acls := "--acls=file://" + file("acls", guestRules)
	c, err := testcluster.New(testcluster.Options{Dir: dir, MasterFlags: append(webuiFlags(),
		"--cluster=guarded", "--authenticate_http_readonly", "--authenticate_http_readwrite",
		"--credentials="+credentials, acls,
		"--http_authenticators=basic,jwt,oidc", "--user_jwt_key="+file("key", userKey),
		"--oidc_issuer="+p.URL, "--oidc_ca="+ca, "--oidc_audience=clusterd", "--oidc_client_id=clusterd",
		"--oidc_client_secret="+file("secret", "hunter2\n"),
	)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.DumpLogs(t.Output())
		}
	})
	for _, p := range []*testcluster.Process{c.Master, c.Agents[0]} {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	base = "http://" + c.Master.Addr
	return base, guardedTask(t, base, file("ops", `{"principal":"ops","secret":"ops-secret"}`))
}

func guardedTask(t *testing.T, base, credential string) ids {
	t.Helper()
	bin, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "run", "--master="+base, "--credential="+credential, "--quiet", "--name=secret-work", "--", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var w ids
	if err := testcluster.Poll(func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/state", nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth("ops", "ops-secret")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil {
			w, err = running(string(body), "secret-work")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestLogin logs in and out by password, by token and by an OpenID provider, and looks at
// the cluster as somebody who may do nothing.
func TestLogin(t *testing.T) {
	p := newProvider(t)
	base, w := guarded(t, p)
	page := "#/tasks/" + w.framework + "/" + w.task

	t.Run("password", func(t *testing.T) {
		b := open(t, base, page)
		b.sees("Log in to see this cluster", "guarded")
		b.allow("status of 401")
		b.fill("Name", "ops")
		b.fill("Password", "wrong")
		b.press("Log in")
		b.sees("The name or the password is wrong")
		b.fill("Password", "ops-secret")
		b.press("Log in")
		b.sees("secret-work", "running")
		b.wait("there is a button to kill the task", control("Kill"))
		if got := eval[string](b, "document.cookie"); got != "" {
			t.Errorf("scripts can read the cookie %q", got)
		}
		b.goTo("#/agents/" + w.agent)
		b.choose("Actions", "Deactivate…")
		b.press("Deactivate")
		b.sees("Deactivated.")
		b.choose("Actions", "Reactivate…")
		b.press("Reactivate")
		b.seesNot("Deactivated.")
		b.press("Session of ops")
		b.press("Log out")
		b.sees("Log in to see this cluster")
		b.seesNot("secret-work")
	})
	t.Run("guest", func(t *testing.T) { guest(t, base, w) })
	t.Run("token", func(t *testing.T) {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "bot", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(userKey))
		if err != nil {
			t.Fatal(err)
		}
		b := open(t, base, "#/tasks")
		b.press("Token")
		b.allow("status of 401")
		b.fill("Token", token+"x")
		b.press("Log in")
		b.sees("The token is not accepted")
		b.fill("Token", token)
		b.press("Log in")
		b.sees("secret-work")
		b.wait("the session is bot's", control("Session of bot"))
	})
	t.Run("oidc", func(t *testing.T) {
		b := blank(t, base)
		b.hosts = append(b.hosts, p.URL+"/")
		call(b, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
		b.goTo(page)
		b.press("Log in by single sign-on")
		b.sees("secret-work", "running")
		b.wait("the session is alice's", control("Session of alice"))
		if got := eval[string](b, "location.hash"); got != page {
			t.Errorf("the login leads to %s, not back to %s", got, page)
		}
	})
}

// provider is an OpenID provider where everybody is alice.
type provider struct {
	*httptest.Server
	key *rsa.PrivateKey

	mu    sync.Mutex
	codes map[string]url.Values // what was asked for, by code
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key, codes: map[string]url.Values{}}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b64 := base64.RawURLEncoding.EncodeToString
	write := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		write(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token"})
	case "/keys":
		write(map[string]any{"keys": []any{map[string]string{"kty": "RSA", "kid": "k", "n": b64(p.key.N.Bytes()), "e": b64(big.NewInt(int64(p.key.E)).Bytes())}}})
	case "/authorize":
		q, code := r.URL.Query(), rand.Text()
		p.codes[code] = q
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	case "/token":
		token, err := p.token(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			write(map[string]string{"error": "invalid_grant", "error_description": err.Error()})
			return
		}
		write(map[string]string{"id_token": token, "access_token": "x", "token_type": "Bearer"})
	default:
		http.NotFound(w, r)
	}
}

// token gives a token for a code, once, to who can show that it has asked for the code.
func (p *provider) token(r *http.Request) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", err
	}
	code := r.PostForm.Get("code")
	asked, ok := p.codes[code]
	delete(p.codes, code)
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if id, secret, _ := r.BasicAuth(); !ok || id != "clusterd" || secret != "hunter2" {
		return "", fmt.Errorf("no code of the client %s", id)
	}
	if strings.TrimRight(asked.Get("code_challenge"), "=") != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return "", fmt.Errorf("the verifier is another")
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": p.URL, "aud": "clusterd", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "nonce": asked.Get("nonce"),
	})
	token.Header["kid"] = "k"
	return token.SignedString(p.key)
}
