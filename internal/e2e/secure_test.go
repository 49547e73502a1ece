package e2e

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
	"strings"
	"testing"
	"time"

	"clusterd/internal/testcluster"
)

// secure is a cluster that asks everybody who they are, and speaks nothing but TLS.
type secure struct {
	t   *testing.T
	c   *testcluster.Cluster
	dir string
	ca  *x509.CertPool
}

// startSecure makes certificates as an operator would, and starts three masters and an agent.
func startSecure(t *testing.T) *secure {
	t.Helper()
	dir, err := os.MkdirTemp("", "cs") //nolint:usetesting // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &secure{t: t, dir: dir}
	s.mustCLI(nil, "tls", "init", "--dir="+s.path("tls"), "--hosts=node+localhost+127.0.0.1", "--no_lookup")
	pem, err := os.ReadFile(s.path("tls/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s.ca = x509.NewCertPool()
	s.ca.AppendCertsFromPEM(pem)
	s.write("credentials", `{"credentials":[{"principal":"ops","secret":"ops-secret"},{"principal":"guest","secret":"guest-secret"},
		{"principal":"agent","secret":"agent-secret"}]}`)
	s.write("ops", `{"principal":"ops","secret":"ops-secret"}`)
	s.write("guest", `{"principal":"guest","secret":"guest-secret"}`)
	s.write("agent", `{"principal":"agent","secret":"agent-secret"}`)
	s.write("acls", `{"permissive":true}`)
	s.write("executors", "0123456789abcdef0123456789abcdef")

	both := []string{
		"--tls_cert=" + s.path("tls/node.pem"), "--tls_key=" + s.path("tls/node-key.pem"), "--tls_ca=" + s.path("tls/ca.pem"),
		"--acls=file://" + s.path("acls"), "--authenticate_http_readonly", "--authenticate_http_readwrite",
	}
	s.c, err = testcluster.New(testcluster.Options{
		Masters: 3, Dir: dir,
		MasterFlags: append([]string{
			"--credentials=" + s.path("credentials"), "--authenticate_http_frameworks", "--authenticate_agents",
			"--gossip_key=MDEyMzQ1Njc4OWFiY2RlZg==",
		}, both...),
		AgentFlags: append([]string{
			"--http_credentials=" + s.path("credentials"), "--credential=" + s.path("agent"),
			"--jwt_secret_key=" + s.path("executors"), "--authenticate_http_executors", "--gossip_key=MDEyMzQ1Njc4OWFiY2RlZg==",
		}, both...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.c.Stop()
		if t.Failed() {
			s.c.DumpLogs(t.Output())
		}
	})
	for i, m := range s.c.Masters {
		m.SetFlags(fmt.Sprintf("--audit_log=%s/audit%d", dir, i), fmt.Sprintf("--log_dir=%s/log%d", dir, i))
	}
	for _, p := range append(append([]*testcluster.Process(nil), s.c.Masters...), s.c.Agents...) {
		if err := p.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	s.await("an agent", func() error {
		if state, status := s.get("ops", "/slaves"); status != 200 || !strings.Contains(state, `"active":true`) {
			return fmt.Errorf("%d %.200s", status, state)
		}
		return nil
	})
	return s
}

func (s *secure) path(name string) string { return filepath.Join(s.dir, name) }

func (s *secure) write(name, content string) {
	s.t.Helper()
	// As an editor does: at once, or a half is read.
	tmp := s.path(name) + ".new"
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *secure) await(what string, f func() error) {
	s.t.Helper()
	if err := testcluster.Poll(f); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// masters are the addresses for --master.
func (s *secure) masters() string {
	var out []string
	for _, m := range s.c.Masters {
		out = append(out, m.Addr)
	}
	return strings.Join(out, ",")
}

// cli runs clusterd as an operator who has a credential.
func (s *secure) cli(env []string, args ...string) (string, error) {
	bin, err := testcluster.Binary()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *secure) mustCLI(env []string, args ...string) string {
	s.t.Helper()
	out, err := s.cli(env, args...)
	if err != nil {
		s.t.Fatalf("clusterd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *secure) as(who string) []string {
	return []string{"CLUSTERD_MASTER=" + s.masters(), "CLUSTERD_TLS_CA=" + s.path("tls/ca.pem"), "CLUSTERD_CREDENTIAL=" + s.path(who)}
}

// get asks the masters, one after the other, until one does not know better who to ask.
func (s *secure) get(who, path string) (body string, status int) {
	hc := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.ca, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, m := range s.c.Masters {
		r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://"+m.Addr+path, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if who != "" {
			r.SetBasicAuth(who, who+"-secret")
		}
		resp, err := hc.Do(r)
		if err != nil {
			body = err.Error()
			continue
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		body, status = string(b), resp.StatusCode
		if err == nil && status != http.StatusTemporaryRedirect && status != http.StatusServiceUnavailable {
			break
		}
	}
	return body, status
}

// Everything that asks who calls, in one cluster of real processes: certificates that were
// made by clusterd, credentials of agents, frameworks, executors and operators, rules that are
// replaced while all runs, and a log of who changed what.
func TestSecureCluster(t *testing.T) {
	s := startSecure(t)

	// A task runs: the framework, the agent and the executor all show who they are.
	if out := s.mustCLI(s.as("ops"), "run", "--", "echo", "hello from a secure cluster"); !strings.Contains(out, "hello from a secure cluster") {
		t.Errorf("run says %s", out)
	}
	// Nobody gets in without a credential, or in clear.
	for _, tc := range []struct {
		who, path string
		status    int
	}{
		{"", "/state", 401},
		{"nobody", "/state", 401},
		{"guest", "/state", 200},
		{"", "/health", 200},
		{"", "/version", 200},
		{"", "/metrics/snapshot", 401},
		{"", "/registrar(1)/registry", 401},
		{"", "/files/browse?path=/master/log", 401},
		{"guest", "/files/browse?path=/master/log", 200},
	} {
		if body, status := s.get(tc.who, tc.path); status != tc.status {
			t.Errorf("%s as %q: got %d %.200s, want %d", tc.path, tc.who, status, body, tc.status)
		}
	}
	if out, err := s.cli([]string{"CLUSTERD_MASTER=" + s.masters(), "CLUSTERD_TLS_CA=" + s.path("tls/ca.pem")}, "run", "--", "true"); err == nil {
		t.Errorf("a framework without a credential runs a task: %s", out)
	}
	if resp, err := http.Get("http://" + s.c.Master.Addr + "/version"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("a master answers in clear")
		}
	}

	// Rules that are replaced hold at once; what is no rules leaves the old in place.
	s.write("acls", `{"permissive":true,"run_tasks":[{"principals":{"values":["guest"]},"users":{"type":"NONE"}}],
		"view_frameworks":[{"principals":{"values":["guest"]},"users":{"type":"NONE"}}]}`)
	s.await("the new rules", func() error {
		if out, err := s.cli(s.as("guest"), "run", "--", "true"); err == nil || !strings.Contains(out, "TASK_ERROR") {
			return fmt.Errorf("guest may still run tasks (%t): %s", err == nil, out)
		}
		return nil
	})
	s.mustCLI(s.as("ops"), "run", "--", "true")
	if body, _ := s.get("guest", "/frameworks"); strings.Contains(body, `"id"`) {
		t.Errorf("guest sees frameworks: %.300s", body)
	}
	s.write("acls", `{"permissive":false,"run_task":[]}`)
	s.await("a complaint", func() error {
		for _, m := range s.c.Masters {
			if !strings.Contains(m.Log(), "not reloaded: what was read before stays in force") {
				return fmt.Errorf("%s has not noticed", m.Addr)
			}
		}
		return nil
	})
	s.mustCLI(s.as("ops"), "run", "--", "true")

	s.certificatesFollow()
	s.audited(t)
}

// certificatesFollow replaces the nodes' certificate while they run.
func (s *secure) certificatesFollow() {
	serial := func(addr string) string {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: s.ca, MinVersion: tls.VersionTLS12})
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial(s.c.Master.Addr)
	s.mustCLI(nil, "tls", "renew", "--all", "--dir="+s.path("tls"))
	for _, p := range append(append([]*testcluster.Process(nil), s.c.Masters...), s.c.Agents...) {
		s.await("the new certificate", func() error {
			if now := serial(p.Addr); now == before {
				return fmt.Errorf("%s still shows %s", p.Addr, now)
			}
			return nil
		})
	}
	// And a leader's failover with it: raft dials anew.
	s.c.Masters[0].Kill()
	s.await("a task after a failover", func() error {
		if out, err := s.cli(s.as("ops"), "run", "--", "true"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// audited looks into the audit logs.
func (s *secure) audited(t *testing.T) {
	var all strings.Builder
	for i := range s.c.Masters {
		b, err := os.ReadFile(fmt.Sprintf("%s/audit%d", s.dir, i))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for _, want := range []string{`"action":"SUBSCRIBE"`, `"principal":"ops"`, `"principal":"guest"`, `"action":"ACCEPT"`, `"operations":"LAUNCH"`, `"result":"ok"`} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("the audit log has no %s:\n%.2000s", want, all.String())
		}
	}
	if strings.Contains(all.String(), "-secret") {
		t.Error("the audit log holds a secret")
	}
	for _, p := range append(append([]*testcluster.Process(nil), s.c.Masters...), s.c.Agents...) {
		if strings.Contains(p.Log(), "-secret") || strings.Contains(p.Log(), "0123456789abcdef0123456789abcdef") {
			t.Errorf("the log of %s holds a secret", p.Addr)
		}
	}
}
