package browser

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/security"

	"clusterd/internal/testcluster"
)

// encrypted is a cluster that speaks nothing but TLS, with certificates as `clusterd tls init`
// makes them, and asks everybody who they are.
type encrypted struct {
	t      *testing.T
	c      *testcluster.Cluster
	dir    string
	client *http.Client
}

func startEncrypted(t *testing.T) *encrypted {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp("", "cs") //nolint:usetesting // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &encrypted{t: t, dir: dir}
	e.run("tls", "init", "--dir="+e.path("tls"), "--hosts=node+localhost+127.0.0.1", "--no_lookup")
	pem, err := os.ReadFile(e.path("tls/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	e.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for name, content := range map[string]string{
		"credentials": `{"credentials":[{"principal":"ops","secret":"ops-secret"},{"principal":"agent","secret":"agent-secret"}]}`,
		"ops":         `{"principal":"ops","secret":"ops-secret"}`,
		"agent":       `{"principal":"agent","secret":"agent-secret"}`,
	} {
		if err := os.WriteFile(e.path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	both := []string{
		"--tls_cert=" + e.path("tls/node.pem"), "--tls_key=" + e.path("tls/node-key.pem"), "--tls_ca=" + e.path("tls/ca.pem"),
		"--authenticate_http_readonly", "--authenticate_http_readwrite",
	}
	e.c, err = testcluster.New(testcluster.Options{
		Masters: 3, Dir: dir,
		MasterFlags: slices.Concat(webuiFlags(), both, []string{
			"--cluster=encrypted", "--credentials=" + e.path("credentials"), "--authenticate_http_frameworks", "--authenticate_agents",
		}),
		AgentFlags: append([]string{"--http_credentials=" + e.path("credentials"), "--credential=" + e.path("agent")}, both...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.c.Stop()
		if t.Failed() {
			e.c.DumpLogs(t.Output())
		}
	})
	for _, p := range slices.Concat(e.c.Masters, e.c.Agents) {
		if err := p.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	e.await(func() error {
		body, err := e.leads("/slaves")
		if err == nil && !strings.Contains(strings.ReplaceAll(body, " ", ""), `"active":true`) {
			return fmt.Errorf("no agent is active: %s", body)
		}
		return err
	})
	return e
}

func (e *encrypted) path(name string) string { return filepath.Join(e.dir, name) }

func (e *encrypted) await(f func() error) {
	e.t.Helper()
	if err := testcluster.Poll(f); err != nil {
		e.t.Fatal(err)
	}
}

// run is the command line, as ops.
func (e *encrypted) run(args ...string) {
	e.t.Helper()
	bin, err := testcluster.Binary()
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(e.t.Context(), 2*testcluster.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "CLUSTERD_TLS_CA="+e.path("tls/ca.pem"), "CLUSTERD_CREDENTIAL="+e.path("ops"))
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("clusterd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// get asks a master as ops.
func (e *encrypted) get(m *testcluster.Process, path string) (string, error) {
	r, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, "https://"+m.Addr+path, nil)
	if err != nil {
		return "", err
	}
	r.SetBasicAuth("ops", "ops-secret")
	res, err := e.client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, res.Status, b)
	}
	return string(b), err
}

// leads asks one master after the other until one leads.
func (e *encrypted) leads(path string) (body string, err error) {
	for _, m := range e.c.Masters {
		if body, err = e.get(m, path); err == nil {
			return body, nil
		}
	}
	return "", err
}

// follower is a master that knows that another one leads.
func (e *encrypted) follower() *testcluster.Process {
	e.t.Helper()
	var found *testcluster.Process
	e.await(func() error {
		for _, m := range e.c.Masters {
			body, err := e.get(m, "/api/clusterd/v1/registry")
			if err != nil {
				return err
			}
			if body = strings.ReplaceAll(body, " ", ""); strings.Contains(body[:min(len(body), 400)], `"leads":false`) {
				found = m
				return nil
			}
		}
		return fmt.Errorf("no master follows")
	})
	return found
}

// TestEncrypted opens pages over TLS, of a master that does not lead: what is streamed, a
// terminal (wss:) and a log, with the session in a cookie that no other connection may carry.
func TestEncrypted(t *testing.T) {
	e := startEncrypted(t)
	m := e.follower()
	var all []string
	for _, m := range e.c.Masters {
		all = append(all, m.Addr)
	}
	start := func(name, command string) ids {
		e.run("run", "--master="+strings.Join(all, ","), "--detach", "--name="+name, "--shell", "--", command)
		var w ids
		e.await(func() error {
			body, err := e.leads("/state")
			if err == nil {
				w, err = running(body, name)
			}
			return err
		})
		return w
	}
	w := start("sealed", "i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.3; done")

	b := blank(t, "https://"+m.Addr)
	call(b, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
	task := "#/tasks/" + w.framework + "/" + w.task
	b.goTo(task)
	b.fill("Name", "ops")
	b.fill("Password", "ops-secret")
	b.press("Log in")
	b.sees("sealed", "running")
	if !eval[bool](b, `isSecureContext && location.protocol === 'https:'`) {
		t.Error("the page is not secure")
	}
	cookies := call(b, network.GetCookies, network.GetCookiesParams{}).Cookies
	if len(cookies) != 1 || !cookies[0].Secure || !cookies[0].HTTPOnly || cookies[0].SameSite != network.CookieSameSiteStrict ||
		cookies[0].Name != "__Host-clusterd_session" {
		t.Errorf("got the cookies %+v, want one, secure, of this host and not for scripts", cookies)
	}

	// What happens is seen without anything being asked for anew.
	b.goTo("#/tasks")
	b.sees("sealed")
	eval[bool](b, `(window.notLoadedAnew = true)`)
	b.wait("it is live", live)
	start("second", "sleep 1000")
	b.sees("second")
	if !eval[bool](b, `window.notLoadedAnew === true`) {
		t.Error("the page was loaded anew")
	}

	b.goTo(task + "?tab=output")
	b.sees("tick")
	before := eval[string](b, lastLine)
	b.wait("the log goes on", lastLine+" !== "+quote(before))

	b.goTo(task + "?tab=terminal")
	b.press("Open terminal")
	b.sees("Connected.")
	screen := `document.querySelector('.xterm-rows')?.innerText`
	b.wait("the shell is ready", screen+`.trim().length > 0`)
	b.keys("echo he$((1+1))llo\r")
	b.wait("the shell answers", screen+`.includes('he2llo')`)
	b.keys("exit 0\r") // a page with an open terminal asks before it is left
	b.sees("Run again")
}
