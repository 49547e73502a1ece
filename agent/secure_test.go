package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/authn"
	"clusterd/internal/tlsconf"
)

// logs collects what an agent logs.
type logs struct {
	mu sync.Mutex // mu guards b.
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// says looks for an error with a text in it.
func (l *logs) says(event, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) != nil || e["level"] != "error" || e["message"] != event {
			continue
		}
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// TestMasterThatDoesNotLetIn: an agent with a wrong credential, or none, says so and goes
// on asking; when the credential is good, or the rules are changed, it is in.
func TestMasterThatDoesNotLetIn(t *testing.T) {
	for _, c := range []struct {
		name       string
		credential *authn.Credential
		status     int
	}{
		{"no credential", nil, http.StatusUnauthorized},
		{"a wrong one", &authn.Credential{Principal: "agent", Secret: []byte("wrong")}, http.StatusUnauthorized},
		{"not permitted", &authn.Credential{Principal: "agent", Secret: []byte("s3cret")}, http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			var open atomic.Bool
			var asked atomic.Int32
			var user, secret atomic.Value
			m := newScriptedMasterOn(t, func(next http.Handler) *httptest.Server {
				return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					u, p, _ := r.BasicAuth()
					user.Store(u)
					secret.Store(p)
					if !open.Load() {
						http.Error(w, "go away", c.status)
						return
					}
					next.ServeHTTP(w, r)
				}))
			})
			h := newMachine(t, m)
			out := &logs{}
			a := h.start(func(o *Options) { o.Credential, o.Log = c.credential, zerolog.New(out) })
			eventually(t, "the agent asks again and again", func() bool { return asked.Load() >= 3 })
			if !out.says("registration_scheduled", "go away") {
				t.Errorf("the log does not say why:\n%s", out.b.String())
			}
			if out.says("registration_scheduled", "s3cret") || out.says("registration_scheduled", "wrong") {
				t.Error("the log holds a secret")
			}
			if c.credential != nil && (user.Load() != c.credential.Principal || secret.Load() != string(c.credential.Secret)) {
				t.Errorf("the master got %v:%v", user.Load(), secret.Load())
			}
			open.Store(true)
			m.waitRegistered(1)
			h.leave(a)
		})
	}
}

// TestRefusedByRules: a master that takes the link and not the agent says why, and so does
// the agent.
func TestRefusedByRules(t *testing.T) {
	m := newScriptedMaster(t)
	m.set(func(m *scriptedMaster) {
		m.registered = func(*clusterdv1.Registered) *clusterdv1.Registered { return nil }
		m.refusal = &clusterdv1.Refused{Message: strp("agents of principal 'x' may not register")}
	})
	h := newMachine(t, m)
	out := &logs{}
	a := h.start(func(o *Options) { o.Log = zerolog.New(out) })
	m.waitRegistered(2)
	if !out.says("refused_by_master", "agents of principal 'x' may not register") {
		t.Errorf("the log does not say why:\n%s", out.b.String())
	}
	m.set(func(m *scriptedMaster) { m.registered = nil })
	eventually(t, "the agent is in", func() bool {
		v, err := a.View(t.Context())
		return err == nil && v.Phase == "RUNNING"
	})
	h.leave(a)
}

// identity makes a node's certificate.
func identity(t *testing.T, ca *tlsconf.Authority, name string) *tlsconf.Identity {
	t.Helper()
	dir := t.TempDir()
	p, err := ca.Issue(tlsconf.Request{Name: name, Hosts: []string{"127.0.0.1"}, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	store := tlsconf.Store{Dir: dir}
	if err := store.Save(name, p, false); err != nil {
		t.Fatal(err)
	}
	caFile := filepath.Join(dir, "authority.pem")
	if err := os.WriteFile(caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	id, _, err := tlsconf.Open(tlsconf.Options{
		CertFile: store.CertFile(name), KeyFile: store.KeyFile(name), CAFile: caFile, RequireClientCert: new(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestTLS: the link and the agent's port are TLS, with certificates of both sides;
// executors, which have none, come by the socket, before and after a restart.
func TestTLS(t *testing.T) {
	ca, err := tlsconf.NewAuthority("test", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	master, own := identity(t, ca, "master"), identity(t, ca, "agent")
	m := newScriptedMasterOn(t, func(next http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(next)
		s.Listener = master.Listen(s.Listener)
		s.Start()
		return s
	})
	keys := t.TempDir()
	h := newMachine(t, m)
	secure := func(o *Options) {
		o.TLS = own
		o.ExecutorTokens, o.Realms = executorTokens(t, keys)
	}
	a := h.start(secure)
	m.waitRegistered(1)
	m.send(runTasks(framework("F"), commandTask("t", "echo socket=$MESOS_DOMAIN_SOCKET; sleep 1000")))
	m.waitState("t", "RUNNING")
	m.send(runGroup(framework("F"), defaultExecutor("d"), true, commandTask("pod", "exit 0")))
	m.waitState("pod", "FINISHED")

	get := func(conf *tls.Config, url string) (int, error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	url := "https://" + a.Addr() + "/state"
	if status, err := get(master.Client(), url); err != nil || status != http.StatusOK {
		t.Errorf("with a certificate: %d, %v", status, err)
	}
	if status, err := get(&tls.Config{InsecureSkipVerify: true}, url); err == nil { //nolint:gosec // that it is refused is the test
		t.Errorf("without a certificate: got %d", status)
	}
	if status, err := get(nil, "http://"+a.Addr()+"/state"); err == nil && status == http.StatusOK {
		t.Error("the port answers in clear")
	}

	socket := filepath.Join(h.run, "agent.sock")
	onSocket := func(path string) int {
		t.Helper()
		tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent"+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for path, want := range map[string]int{
		"/api/v1/executor": 401, "/slave(1)/api/v1/executor": 401, "/api/v1": 400, "/state": 404, "/files/debug": 404, "/health": 404,
	} {
		if got := onSocket(path); got != want {
			t.Errorf("%s on the socket: got %d, want %d", path, got, want)
		}
	}

	h.stop(a)
	a = h.start(secure)
	m.waitRegistered(2)
	m.send(killTask("F", "t"))
	m.waitState("t", "KILLED")
	if b, err := os.ReadFile(filepath.Join(h.work, "slaves/M-S0/frameworks/F/executors/t/runs/latest/stdout")); err != nil || !strings.Contains(string(b), "socket="+socket) {
		t.Errorf("the executor's environment: %q, %v", b, err)
	}

	// Executors of a run with TLS find an agent that has it no more.
	m.send(runTasks(framework("F"), commandTask("u", "sleep 1000")))
	m.waitState("u", "RUNNING")
	h.stop(a)
	plain := newScriptedMaster(t)
	h.master = plain
	a = h.start()
	plain.waitRegistered(1)
	plain.send(killTask("F", "u"))
	plain.waitState("u", "KILLED")
	h.leave(a)
}
