package authn

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"clusterd/internal/authz"
	"clusterd/internal/reload"
)

// Names of authenticators, as in --http_authenticators.
const (
	NameBasic       = "basic"
	NameJWT         = "jwt"
	NameCertificate = "certificate"
	NameOIDC        = "oidc"
)

// ErrConfig says that settings of authentication do not fit together.
var ErrConfig = errors.New("invalid settings of authentication")

// Config are the settings of all realms of a node. A field that is empty is
// switched off.
type Config struct {
	// Realms are those that ask, each with the names of its authenticators, which are
	// tried in order: "basic", "jwt" (tokens of users, and on an agent of executors),
	// "certificate", "oidc". See [Names].
	//
	// On an agent with ExecutorKeyFile two realms differ. [AgentExecutor] takes the
	// tokens of executors and nothing else, whatever its names: no other principal is
	// an executor's. [AgentReadwrite] and [AgentResourceProvider] take them beside
	// what their names say: executors call there for nested containers, and in Mesos
	// an operator who forgets it breaks the default executor.
	Realms map[Realm][]string
	// CredentialsFile is --credentials of a master, --http_credentials of an agent.
	CredentialsFile string
	// ExecutorKeyFile is --jwt_secret_key of an agent.
	ExecutorKeyFile string
	// ExecutorTokenLifetime is how long tokens of executors are good; zero: as long as
	// their containers, see [ExecutorTokens].
	ExecutorTokenLifetime time.Duration
	// User has tokens of users taken.
	User UserTokens
	// OIDC has tokens of an OpenID provider taken.
	OIDC OIDC
	// OIDCClient has people log in there with a browser.
	OIDCClient OIDCClient
	// OnFailure, if set, is told of each request that is not let in. It must not block.
	OnFailure func(Realm, Kind)
}

// Source is something to be reloaded, with a name for the log.
type Source struct {
	Name string
	reload.Source
}

// Set is what [New] makes.
type Set struct {
	// Realms are for the router.
	Realms Realms
	// ExecutorTokens are for the agent; nil without a key.
	ExecutorTokens *ExecutorTokens
	// Login is for people with a browser; nil without an OIDCClient.
	Login *OIDCLogin
	// Sources are files to be given to a [reload.Watcher]: credentials and keys of
	// users. What they hold counts from the next request on.
	Sources []Source
	// Warnings are to be logged once.
	Warnings []string
}

// Names splits a list of authenticators, as in --http_authenticators.
func Names(list string) []string {
	var out []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// New makes the authenticators of a node. It reads files, and calls nobody.
func New(c Config) (*Set, error) {
	b := &builder{config: c, set: &Set{Realms: Realms{}}}
	if err := b.open(); err != nil {
		return nil, fmt.Errorf("set up authentication: %w", err)
	}
	for _, realm := range slices.Sorted(maps.Keys(c.Realms)) {
		a, err := b.realm(realm, c.Realms[realm])
		if err != nil {
			return nil, fmt.Errorf("set up authentication of %s: %w", realm, err)
		}
		if c.OnFailure != nil {
			a = counted{a, c.OnFailure}
		}
		b.set.Realms[realm] = a
	}
	b.warn()
	return b.set, nil
}

// builder makes a set.
type builder struct {
	config Config
	set    *Set
	basic  *Basic
	users  verifier
	oidc   *oidcVerifier
	used   map[string]bool // names of authenticators that a realm has
}

// open reads the files.
func (b *builder) open() error {
	b.used = map[string]bool{}
	if path := b.config.CredentialsFile; path != "" {
		file, err := reload.Open(path, ParseCredentials)
		if err != nil {
			return err
		}
		b.basic = NewBasic(file.Get)
		b.source("credentials", file)
		b.secret(path)
	}
	if path := b.config.ExecutorKeyFile; path != "" {
		tokens, warnings, err := OpenExecutorTokens(path, b.config.ExecutorTokenLifetime)
		if err != nil {
			return err
		}
		b.set.ExecutorTokens = tokens
		b.set.Warnings = append(b.set.Warnings, warnings...)
	}
	if path := b.config.User.KeyFile; path != "" {
		file, err := reload.Open(path, b.parseUserKeys)
		if err != nil {
			return err
		}
		b.users = newUserVerifier(b.config.User, file.Get)
		b.source("user_jwt_key", file)
		if _, ok := file.Get()[0].key.([]byte); ok {
			b.secret(path)
		}
	}
	if (b.config.OIDC != OIDC{}) {
		o, err := newOIDC(b.config.OIDC)
		if err != nil {
			return err
		}
		b.oidc = o
	}
	login, err := newOIDCLogin(b.oidc, b.config.OIDCClient)
	if err != nil {
		return err
	}
	if b.set.Login = login; login != nil && b.config.OIDCClient.SecretFile != "" {
		b.secret(b.config.OIDCClient.SecretFile)
	}
	return nil
}

// parseUserKeys sees to it that tokens of executors and of users are never signed
// by the same secret: one would pass for the other.
func (b *builder) parseUserKeys(data []byte) ([]userKey, error) {
	keys, err := parseUserKeys(data)
	if err != nil || b.set.ExecutorTokens == nil {
		return keys, err
	}
	for _, k := range keys {
		secret, ok := k.key.([]byte)
		if ok && bytes.Equal(bytes.TrimSpace(secret), bytes.TrimSpace(b.set.ExecutorTokens.key)) {
			return nil, fmt.Errorf("%w: tokens of executors and of users need different secrets", ErrConfig)
		}
	}
	return keys, nil
}

func (b *builder) source(name string, s reload.Source) {
	b.set.Sources = append(b.set.Sources, Source{name, s})
}

// secret warns of a file of secrets that everybody may read.
func (b *builder) secret(path string) {
	if w := tooOpen(path); w != "" {
		b.set.Warnings = append(b.set.Warnings, w)
	}
}

// realm makes the authenticator of one realm.
func (b *builder) realm(realm Realm, names []string) (Authenticator, error) {
	tokens := b.set.ExecutorTokens
	if realm == AgentExecutor {
		if tokens == nil {
			return nil, fmt.Errorf("%w: executors have no tokens without a key (--jwt_secret_key)", ErrConfig)
		}
		return tokens.Authenticator(), nil
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: no authenticator is named", ErrConfig)
	}
	var all Combined
	bearer := &Bearer{}
	// All tokens come in the same header, so that one authenticator looks at all of
	// them, and gives one challenge. It stands where the first of its names does.
	take := func(v verifier) {
		if len(bearer.verifiers) == 0 {
			all = append(all, bearer)
		}
		bearer.verifiers = append(bearer.verifiers, v)
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("%w: %q is named twice", ErrConfig, name)
		}
		b.used[name] = true
		switch name {
		case NameBasic:
			if b.basic == nil {
				return nil, fmt.Errorf("%w: %q needs credentials (--credentials, on an agent --http_credentials)", ErrConfig, name)
			}
			all = append(all, b.basic)
		case NameCertificate:
			all = append(all, Certificate{})
		case NameOIDC:
			if b.oidc == nil {
				return nil, fmt.Errorf("%w: %q needs a provider (--oidc_issuer, --oidc_audience)", ErrConfig, name)
			}
			take(b.oidc)
		case NameJWT:
			if b.users == nil && tokens == nil {
				return nil, fmt.Errorf("%w: %q needs a key (--user_jwt_key, on an agent also --jwt_secret_key)", ErrConfig, name)
			}
			if b.users != nil {
				take(b.users)
			}
			if tokens != nil {
				take(tokens)
			}
		default:
			return nil, fmt.Errorf("%w: no authenticator %q; known are %s, %s, %s, %s",
				ErrConfig, name, NameBasic, NameJWT, NameCertificate, NameOIDC)
		}
	}
	if forExecutors := realm == AgentReadwrite || realm == AgentResourceProvider; forExecutors && tokens != nil && !slices.Contains(names, NameJWT) {
		take(tokens)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

// warn tells of what is set and does nothing, or does harm.
func (b *builder) warn() {
	say := func(text string) { b.set.Warnings = append(b.set.Warnings, text) }
	for _, s := range []struct {
		set        bool
		name, what string
	}{
		{b.users != nil, NameJWT, "a key of user tokens"},
		{b.oidc != nil, NameOIDC, "an OpenID provider"},
	} {
		if s.set && !b.used[s.name] {
			say(fmt.Sprintf("%s is set, but no realm that asks has the authenticator %q", s.what, s.name))
		}
	}
	if _, asks := b.config.Realms[AgentReadwrite]; asks && b.set.ExecutorTokens == nil {
		say("read-write endpoints ask who calls, and executors have no tokens: they cannot launch nested containers; " +
			"set --jwt_secret_key and --authenticate_http_executors")
	}
}

// counted tells of requests that are not let in.
type counted struct {
	Authenticator
	onFailure func(Realm, Kind)
}

// Authenticate implements [Authenticator].
func (c counted) Authenticate(r *http.Request, realm Realm) (*authz.Principal, error) {
	p, err := c.Authenticator.Authenticate(r, realm)
	if err != nil {
		kind := Unavailable
		if f, ok := errors.AsType[*Failure](err); ok {
			kind = f.Kind
		}
		c.onFailure(realm, kind)
	}
	return p, err
}
