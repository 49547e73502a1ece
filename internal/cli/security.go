package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/logs"
	"clusterd/internal/metrics"
	"clusterd/internal/reload"
	"clusterd/internal/tlsconf"
)

// security is what a daemon knows of whom it deals with: who they are, what they may do,
// and what it shows them of itself. What is read from files follows them.
type security struct {
	authn.Set
	acls *authz.ACLs
	tls  *tlsconf.Identity

	rules   *reload.File[*authz.ACLs] // nil: acls are not from a file
	watcher *reload.Watcher
	audit   *logs.Audit
	log     zerolog.Logger
}

// openSecurity reads what the flags and the environment say, and every file they name.
func openSecurity(v *flags.Values, environ []string, log zerolog.Logger, counts *metrics.Registry, realms map[authn.Realm][]string, c authn.Config) (*security, error) {
	s := &security{watcher: reload.NewWatcher(log, 0), log: log}
	if err := s.openTLS(v, environ, log); err != nil {
		return nil, err
	}
	if err := s.openRules(v); err != nil {
		return nil, err
	}
	c.Realms = realms
	c.User = authn.UserTokens{KeyFile: v.Path("user_jwt_key"), PrincipalClaim: v.String("user_jwt_principal_claim"), Audience: v.String("user_jwt_audience")}
	if v.Has("oidc_issuer") {
		c.OIDC = authn.OIDC{
			Issuer: v.String("oidc_issuer"), Audience: v.String("oidc_audience"), CAFile: v.Path("oidc_ca"),
			PrincipalClaim: v.String("oidc_principal_claim"),
		}
	}
	set, err := authn.New(c)
	if err != nil {
		return nil, err
	}
	s.Set = *set
	for _, source := range set.Sources {
		s.watcher.Add(source.Name, source, nil)
	}
	for _, w := range set.Warnings {
		log.Warn().Msg(w)
	}
	if len(realms) > 0 && !v.Has("gossip_key") {
		log.Warn().Msg("gossip is not encrypted (--gossip_key): who reaches its port can pose as a master")
	}
	if s.audit, err = logs.OpenAudit(logs.AuditOptions{Path: v.Path("audit_log"), Log: log}); err != nil {
		return nil, fmt.Errorf("--audit_log: %w", err)
	}
	s.audit.Publish(counts)
	return s, nil
}

// close brings what is left to the disk.
func (s *security) close() {
	if err := s.audit.Close(); err != nil {
		s.log.Error().Err(err).Msg("the audit log is not complete")
	}
}

func (s *security) openTLS(v *flags.Values, environ []string, log zerolog.Logger) error {
	o := tlsconf.Options{CertFile: v.Path("tls_cert"), KeyFile: v.Path("tls_key"), CAFile: v.Path("tls_ca")}
	if v.Given("tls_require_client_cert") {
		o.RequireClientCert = new(v.Bool("tls_require_client_cert"))
	}
	if v.Given("tls_min_version") {
		var err error
		if o.MinVersion, err = tlsconf.ParseVersion(v.String("tls_min_version")); err != nil {
			return fmt.Errorf("--tls_min_version: %w", err)
		}
	}
	o, warnings, err := tlsconf.FromEnvironment(environ, o)
	if err != nil {
		return err
	}
	o.OnRefused = func(from net.Addr, err error) {
		log.Debug().Err(err).Str("component", "tls").Stringer("from", from).Msg("caller refused")
	}
	var more []string
	if s.tls, more, err = tlsconf.Open(o); err != nil {
		return err
	}
	if s.tls != nil {
		s.watcher.Add("certificate", s.tls, s.remind)
	}
	for _, w := range append(warnings, more...) {
		log.Warn().Msg(w)
	}
	return nil
}

// remind warns of a certificate that ends soon, or has ended.
func (s *security) remind() {
	for _, w := range s.tls.Warnings(time.Now()) {
		s.log.Warn().Msg(w)
	}
}

// remindDaily warns as long as ctx lasts: a node may run longer than its certificate.
func (s *security) remindDaily(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.remind()
		case <-ctx.Done():
			return
		}
	}
}

// openRules reads --acls: rules in a file are read again when it changes.
func (s *security) openRules(v *flags.Values) (err error) {
	switch path := v.File("acls"); {
	case path != "":
		if s.rules, err = reload.Open(path, authz.Parse); err != nil {
			return fmt.Errorf("--acls: %w: %w", flags.ErrInvalidValue, err)
		}
		s.acls = s.rules.Get()
	case v.Has("acls"):
		if s.acls, err = authz.Parse([]byte(v.String("acls"))); err != nil {
			return fmt.Errorf("--acls: %w: %w", flags.ErrInvalidValue, err)
		}
	}
	return nil
}

// protected is a daemon whose rules and log file may change while it runs.
type protected interface {
	SetPolicy(acls *authz.ACLs)
	SetLogFile(path string) error
}

// watch has a daemon follow the files until ctx ends. SIGHUP has them read at once, and logs
// begun anew where they were moved away.
func (s *security) watch(ctx context.Context, journal *logs.Logs, d protected) {
	if s.rules != nil {
		s.watcher.Add("acls", s.rules, func() { d.SetPolicy(s.rules.Get()) })
	}
	journal.OnRotate(func(path string) { _ = d.SetLogFile(path) }) // it must not log
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-hangup:
				s.watcher.Poke()
				if err := errors.Join(journal.Reopen(), s.audit.Reopen()); err != nil {
					s.log.Error().Err(err).Msg("a log could not be opened again")
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	go s.watcher.Run(ctx)
	go s.remindDaily(ctx)
}

// masterSecurity is that of a master.
func masterSecurity(v *flags.Values, environ []string, log zerolog.Logger, counts *metrics.Registry) (*security, error) {
	names := v.List("http_authenticators")
	frameworks := names
	if v.Has("http_framework_authenticators") {
		frameworks = v.List("http_framework_authenticators")
	}
	realms := make(map[authn.Realm][]string)
	if v.Bool("authenticate_http_readonly") {
		realms[authn.MasterReadonly] = names
	}
	if v.Bool("authenticate_http_readwrite") {
		realms[authn.MasterReadwrite] = names
	}
	if v.Bool("authenticate_http_frameworks") || v.Bool("authenticate_frameworks") {
		realms[authn.MasterScheduler] = frameworks
	}
	if v.Bool("authenticate_agents") {
		realms[authn.MasterAgent] = agentAuthenticators(v.List("authenticators"))
	}
	return openSecurity(v, environ, log, counts, realms, authn.Config{CredentialsFile: v.Path("credentials"), OIDCClient: authn.OIDCClient{
		ID: v.String("oidc_client_id"), SecretFile: v.Path("oidc_client_secret"), RedirectURL: v.String("oidc_redirect_url"), Scopes: v.List("oidc_scopes"),
	}})
}

// agentAuthenticators takes Mesos's name for what agents do with a credential.
func agentAuthenticators(names []string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		if name == "crammd5" {
			name = authn.NameBasic
		}
		out = append(out, name)
	}
	return out
}

// agentSecurity is that of an agent.
func agentSecurity(v *flags.Values, environ []string, log zerolog.Logger, counts *metrics.Registry) (*security, error) {
	names := v.List("http_authenticators")
	realms := make(map[authn.Realm][]string)
	if v.Bool("authenticate_http_readonly") {
		realms[authn.AgentReadonly] = names
	}
	if v.Bool("authenticate_http_readwrite") {
		realms[authn.AgentReadwrite] = names
		realms[authn.AgentResourceProvider] = names
	}
	if v.Bool("authenticate_http_executors") {
		realms[authn.AgentExecutor] = nil // their tokens
	}
	return openSecurity(v, environ, log, counts, realms, authn.Config{
		CredentialsFile: v.Path("http_credentials"), ExecutorKeyFile: v.Path("jwt_secret_key"),
	})
}

// agentCredential is whom an agent is to its masters, nil without --credential.
func agentCredential(v *flags.Values, log zerolog.Logger) (*authn.Credential, error) {
	path := v.Path("credential")
	if path == "" {
		return nil, nil
	}
	c, warning, err := authn.LoadCredential(path)
	if err != nil {
		return nil, fmt.Errorf("--credential: %w", err)
	}
	if warning != "" {
		log.Warn().Msg(warning)
	}
	return c, nil
}
