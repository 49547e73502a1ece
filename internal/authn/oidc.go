package authn

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"

	"clusterd/internal/authz"
)

// ErrOIDC says that the settings of an OpenID provider make no sense.
var ErrOIDC = errors.New("invalid OpenID Connect settings")

// OIDC are the settings of an OpenID provider, whose tokens (ID tokens, or access
// tokens that are JSON web tokens) are taken.
type OIDC struct {
	// Issuer (--oidc_issuer) is the https URL of the provider, exactly as it calls
	// itself.
	Issuer string
	// Audience (--oidc_audience) must be among those that a token is for. It is
	// required: without it a token that any other application got would do.
	Audience string
	// CAFile (--oidc_ca) holds the authorities that the provider's certificate is
	// checked with; empty: those of the system.
	CAFile string
	// PrincipalClaim names the principal; empty: "sub". If it is "email", the provider
	// must say that it has verified the address.
	PrincipalClaim string
}

// Times of dealing with a provider.
const (
	// oidcFresh is how long keys are used without asking again, so that keys that the
	// provider has withdrawn are dropped.
	oidcFresh = 10 * time.Minute
	// oidcTimeout bounds one question to the provider.
	oidcTimeout = 2500 * time.Millisecond
	// oidcPatience bounds all questions that one request waits for.
	oidcPatience = 2 * oidcTimeout
)

// oidcMethods are the methods that a provider may sign with: none with a secret.
var oidcMethods = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// oidcVerifier checks the tokens of an OpenID provider. Nothing is asked of the
// provider before the first token of its comes, so that it may be down when a node
// starts; and what it said last stays in use while it is down.
type oidcVerifier struct {
	issuer, audience, claim string
	client                  *http.Client
	documents               *documents
	now                     func() time.Time

	current    atomic.Pointer[oidcKeys]
	refresh    sync.Mutex // refresh is held by who asks the provider for what it is.
	unverified *jwt.Parser
}

// oidcKeys are the keys of the provider, as found at a time, and where people log in.
type oidcKeys struct {
	set oidc.KeySet
	at  time.Time
	// auth and token are URLs for [OIDCLogin], and methods how clients show who they are.
	auth, token string
	methods     []string
}

// newOIDC returns a verifier. It asks the provider for nothing.
func newOIDC(s OIDC) (*oidcVerifier, error) {
	bad := func(format string, args ...any) (*oidcVerifier, error) {
		return nil, fmt.Errorf("%w: %s", ErrOIDC, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(s.Issuer)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return bad("issuer must be an https URL without user, query and fragment")
	case s.Audience == "":
		return bad("an audience is required")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		data, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, err
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(data) {
			return bad("%s holds no certificate", s.CAFile)
		}
	}
	// Connections are not kept: minutes lie between two questions.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true}
	d := &documents{next: transport, now: time.Now}
	return &oidcVerifier{
		issuer: s.Issuer, audience: s.Audience, claim: orSub(s.PrincipalClaim),
		client: &http.Client{Transport: d, Timeout: oidcTimeout}, documents: d, now: time.Now,
		unverified: jwt.NewParser(jwt.WithJSONNumber()),
	}, nil
}

// verify implements verifier.
func (o *oidcVerifier) verify(ctx context.Context, token string) (*authz.Principal, *refusal) {
	no := func(kind Kind, says string) *refusal {
		return &refusal{kind: kind, says: "Invalid JWT: " + says}
	}
	// Tokens of others must not have the provider asked.
	claims := jwt.MapClaims{}
	if _, _, err := o.unverified.ParseUnverified(token, claims); err != nil {
		return nil, no(Malformed, "Token is malformed")
	}
	if iss, err := claims.GetIssuer(); err != nil || iss != o.issuer {
		return nil, no(Rejected, "Token has another issuer")
	}
	// Who asks the provider does so for all who wait: that this client goes away must
	// not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), oidcPatience)
	defer cancel()
	set, err := o.keys(ctx)
	if err != nil {
		return nil, &refusal{kind: Unavailable, reason: fmt.Sprintf("OpenID provider: %.300v", err)}
	}
	signature := &observedKeys{set: set}
	config := &oidc.Config{ClientID: o.audience, SupportedSigningAlgs: oidcMethods, Now: func() time.Time {
		return o.now().Add(-leeway)
	}}
	idToken, err := oidc.NewVerifier(o.issuer, signature, config).Verify(ctx, token)
	if err != nil {
		return nil, o.refused(err, signature)
	}
	var raw json.RawMessage
	if err := idToken.Claims(&raw); err != nil {
		return nil, no(Malformed, "Token is malformed")
	}
	return o.principal(raw)
}

// refused tells apart why a token is refused.
func (o *oidcVerifier) refused(err error, signature *observedKeys) *refusal {
	no := func(kind Kind, says string, ours bool) *refusal {
		return &refusal{kind: kind, says: "Invalid JWT: " + says, ours: ours}
	}
	_, expired := errors.AsType[*oidc.TokenExpiredError](err)
	switch {
	case !signature.asked:
		return no(Rejected, "Token 'alg' is not permitted", false)
	case signature.err != nil && o.documents.failing():
		// The key may be one that the provider has and we could not get.
		return &refusal{kind: Unavailable, reason: fmt.Sprintf("OpenID provider: %.300v", signature.err)}
	case signature.err != nil:
		return no(Rejected, "Token signature does not match", false)
	case expired:
		return no(Expired, "Token has expired", true)
	default:
		return no(Rejected, "Token claims are not accepted", true)
	}
}

// principal makes the principal of a token's payload.
func (o *oidcVerifier) principal(payload []byte) (*authz.Principal, *refusal) {
	var claims map[string]any
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil {
		return nil, &refusal{kind: Malformed, says: "Invalid JWT: Token is malformed", ours: true}
	}
	if verified, _ := claims["email_verified"].(bool); o.claim == "email" && !verified {
		return nil, &refusal{kind: Rejected, says: "Invalid JWT: Token has an address that is not verified", ours: true}
	}
	return principalOf(claims, o.claim)
}

// keys returns the provider's keys, if need be after having asked what it is. Only
// one request asks; the others meanwhile use what there is, or wait for it.
func (o *oidcVerifier) keys(ctx context.Context) (oidc.KeySet, error) {
	had := o.current.Load()
	if had != nil {
		if o.now().Sub(had.at) < oidcFresh || !o.refresh.TryLock() {
			return had.set, nil
		}
	} else {
		o.refresh.Lock()
	}
	defer o.refresh.Unlock()
	if now := o.current.Load(); now != had {
		return now.set, nil
	}
	ctx = oidc.ClientContext(ctx, o.client)
	provider, err := oidc.NewProvider(ctx, o.issuer)
	var at struct {
		URL     string   `json:"jwks_uri"`
		Auth    string   `json:"authorization_endpoint"`
		Token   string   `json:"token_endpoint"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err == nil {
		err = provider.Claims(&at)
	}
	if err == nil && !strings.HasPrefix(at.URL, "https://") {
		err = fmt.Errorf("jwks_uri %.200q is %w", at.URL, errNotHTTPS)
	}
	switch {
	case err == nil:
		// A new set holds no keys: it asks for them when the first token comes.
		o.current.Store(&oidcKeys{
			set: oidc.NewRemoteKeySet(ctx, at.URL), at: o.now(), auth: at.Auth, token: at.Token, methods: at.Methods,
		})
	case had != nil:
		still := *had
		still.at = o.now()
		o.current.Store(&still)
	default:
		return nil, err
	}
	return o.current.Load().set, nil
}

// observedKeys tells what came of checking a signature.
type observedKeys struct {
	set   oidc.KeySet
	asked bool
	err   error
}

// VerifySignature implements [oidc.KeySet].
func (k *observedKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.set.VerifySignature(ctx, token)
	k.asked, k.err = true, err
	return payload, err
}
