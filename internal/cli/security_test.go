package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/metrics"
	"clusterd/internal/tlsconf"
)

// secured is what TestSecurity gives the flags: files that are there.
type secured struct{ dir string }

func (s secured) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSecurity reads the flags of authentication, authorisation and TLS, alone and together.
func TestSecurity(t *testing.T) {
	f := secured{t.TempDir()}
	credentials := f.file(t, "credentials", `{"credentials":[{"principal":"p","secret":"s"}]}`)
	credential := f.file(t, "credential", `{"principal":"p","secret":"s"}`)
	key := f.file(t, "key", "0123456789abcdef0123456789abcdef")
	rules := f.file(t, "acls", `{"permissive":false}`)
	ca, err := tlsconf.NewAuthority("ca", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(tlsconf.Request{Name: "n", Hosts: []string{"127.0.0.1"}, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	cert, certKey, authority := f.file(t, "cert.pem", string(pair.Cert)), f.file(t, "key.pem", string(pair.Key)), f.file(t, "ca.pem", string(ca.PEM()))
	tlsArgs := []string{"--tls_cert=" + cert, "--tls_key=" + certKey, "--tls_ca=" + authority}

	for _, tc := range []struct {
		name  string
		agent bool
		args  []string
		env   []string
		fails string
		holds func(s *security) bool
	}{
		{name: "nothing", holds: func(s *security) bool { return len(s.Realms) == 0 && s.acls == nil && s.tls == nil }},
		{name: "all realms of a master", args: []string{
			"--credentials=" + credentials, "--authenticate_http_readonly", "--authenticate_http_readwrite",
			"--authenticate_http_frameworks", "--authenticate_agents",
		}, holds: func(s *security) bool {
			return asks(s, authn.MasterReadonly, authn.MasterReadwrite, authn.MasterScheduler, authn.MasterAgent)
		}},
		{name: "the old name asks frameworks too", args: []string{"--credentials=" + credentials, "--authenticate"}, holds: func(s *security) bool {
			return asks(s, authn.MasterScheduler)
		}},
		{name: "no credentials", args: []string{"--authenticate_agents"}, fails: "needs credentials"},
		{name: "unknown authenticator", args: []string{"--credentials=" + credentials, "--authenticate_agents", "--authenticators=kerberos"}, fails: `no authenticator "kerberos"`},
		{name: "frameworks by token", args: []string{"--user_jwt_key=" + key, "--http_framework_authenticators=jwt", "--authenticate_http_frameworks"}, holds: func(s *security) bool {
			return asks(s, authn.MasterScheduler)
		}},
		{name: "a provider", args: []string{"--oidc_issuer=https://id.example.com", "--oidc_audience=clusterd", "--http_authenticators=oidc", "--authenticate_http_readonly"}, holds: func(s *security) bool {
			return asks(s, authn.MasterReadonly)
		}},
		{name: "people by a provider", args: []string{
			"--oidc_issuer=https://id.example.com", "--oidc_audience=clusterd", "--http_authenticators=oidc", "--authenticate_http_readonly",
			"--oidc_client_id=clusterd", "--oidc_client_secret=" + key, "--oidc_redirect_url=https://cluster.example.com/api/clusterd/v1/session/oidc/callback", "--oidc_scopes=groups",
		}, holds: func(s *security) bool { return s.Login != nil }},
		{name: "a client of no provider", args: []string{"--oidc_client_id=clusterd"}, fails: "issuer"},
		{name: "a provider for anybody", args: []string{"--oidc_issuer=https://id.example.com"}, fails: "udience"},
		{name: "rules", args: []string{"--acls=file://" + rules}, holds: func(s *security) bool {
			return !s.acls.Approver(nil, authz.ViewFlags).Allows("") && s.rules != nil
		}},
		{name: "rules as they are", args: []string{`--acls={"permissive":false}`}, holds: func(s *security) bool {
			return !s.acls.Approver(nil, authz.ViewFlags).Allows("") && s.rules == nil
		}},
		{name: "misspelt rules", args: []string{`--acls={"view_flag":[]}`}, fails: "view_flags"},
		{name: "TLS", args: tlsArgs, holds: func(s *security) bool { return s.tls.Scheme() == "https" }},
		{
			name: "TLS by Mesos's environment", env: []string{"LIBPROCESS_SSL_ENABLED=1", "LIBPROCESS_SSL_CERT_FILE=" + cert, "LIBPROCESS_SSL_KEY_FILE=" + certKey},
			holds: func(s *security) bool { return s.tls.Scheme() == "https" },
		},
		{name: "half of TLS", args: tlsArgs[:1], fails: "tls_key"},
		{name: "TLS 1.3 only, certificates required", args: append(tlsArgs, "--tls_min_version=1.3", "--tls_require_client_cert"), holds: func(s *security) bool {
			c := s.tls.Server()
			return c.MinVersion == 0x0304 && c.ClientAuth == 4
		}},
		{name: "executors of an agent", agent: true, args: []string{"--jwt_secret_key=" + key, "--authenticate_http_executors"}, holds: func(s *security) bool {
			return asks(s, authn.AgentExecutor) && s.ExecutorTokens != nil
		}},
		{name: "executors without a key", agent: true, args: []string{"--authenticate_http_executors"}, fails: "jwt_secret_key"},
		{name: "realms of an agent", agent: true, args: []string{"--http_credentials=" + credentials, "--authenticate_http_readonly", "--authenticate_http_readwrite"}, holds: func(s *security) bool {
			return asks(s, authn.AgentReadonly, authn.AgentReadwrite, authn.AgentResourceProvider)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, open, args := flags.Master(), masterSecurity, []string{"--work_dir=/w"}
			if tc.agent {
				set, open, args = flags.Agent(), agentSecurity, append(args, "--master=m:1")
			}
			v, err := set.Parse(append(args, tc.args...), nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := open(v, tc.env, zerolog.Nop(), metrics.NewRegistry())
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Fatalf("got %v, want an error with %q", err, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			if !tc.holds(s) {
				t.Errorf("got %+v", s)
			}
		})
	}
	v, err := flags.Agent().Parse([]string{"--work_dir=/w", "--master=m:1", "--credential=" + credential}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := agentCredential(v, zerolog.Nop()); err != nil || c.Principal != "p" {
		t.Errorf("got %v, %v", c, err)
	}
}

// asks says whether exactly these realms ask who calls.
func asks(s *security, realms ...authn.Realm) bool {
	for _, r := range realms {
		if s.Realms[r] == nil {
			return false
		}
	}
	return len(s.Realms) == len(realms)
}
