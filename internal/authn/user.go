package authn

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"clusterd/internal/authz"
)

// UserTokens are the settings of tokens of users, which some other service makes.
type UserTokens struct {
	// KeyFile (--user_jwt_key) holds an HMAC secret, or public keys in PEM: of several
	// any may have signed, so that keys can be replaced while tokens are about.
	KeyFile string
	// PrincipalClaim (--user_jwt_principal_claim) names the principal; empty: "sub".
	PrincipalClaim string
	// Audience, if not empty, must be among those that a token is for.
	Audience string
	// Issuer, if not empty, must have issued a token.
	Issuer string
}

// userKey is a key that checks tokens, and the methods that it may be used with:
// those of its type alone. A token that claims to be signed by HMAC with what is a
// public key finds no key.
type userKey struct {
	key     any
	methods []string
}

// parseUserKeys parses a file of keys. A newline at the end of an HMAC secret does
// not belong to it: the service that signs has seldom got one.
func parseUserKeys(data []byte) ([]userKey, error) {
	bad := func(format string, args ...any) ([]userKey, error) {
		return nil, fmt.Errorf("%w: %s", ErrKey, fmt.Sprintf(format, args...))
	}
	trimmed := bytes.TrimSpace(data)
	switch {
	case bytes.Contains(data, []byte("-----BEGIN")):
		return parsePEM(data)
	case bytes.HasPrefix(trimmed, []byte("{")) || bytes.HasPrefix(trimmed, []byte("[")):
		return bad("JSON is neither an HMAC secret nor PEM; for a set of keys use OpenID Connect")
	case bytes.HasPrefix(trimmed, []byte("ssh-")) || bytes.HasPrefix(trimmed, []byte("ecdsa-")):
		return bad("a key of SSH; wanted is PEM")
	}
	if _, err := x509.ParsePKIXPublicKey(data); err == nil {
		return bad("a public key in DER; wanted is PEM")
	}
	if _, err := x509.ParsePKCS1PublicKey(data); err == nil {
		return bad("a public key in DER; wanted is PEM")
	}
	if _, err := x509.ParseCertificate(data); err == nil {
		return bad("a certificate in DER; wanted is PEM")
	}
	secret := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(secret) < minSecret {
		return bad("an HMAC secret of %d bytes; at least %d are needed, for shorter ones can be guessed", len(secret), minSecret)
	}
	return []userKey{{bytes.Clone(secret), []string{"HS256", "HS384", "HS512"}}}, nil
}

// parsePEM parses public keys and certificates.
func parsePEM(data []byte) ([]userKey, error) {
	var keys []userKey
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		k, err := publicKey(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: PEM that cannot be read", ErrKey)
	}
	if bytes.Contains(data, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("%w: PEM that cannot be read, after %d keys", ErrKey, len(keys))
	}
	return keys, nil
}

func publicKey(block *pem.Block) (userKey, error) {
	var key any
	var err error
	switch {
	case block.Type == "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return userKey{}, fmt.Errorf("%w: a private key; wanted is the public one, and the private one should not be here", ErrKey)
	default:
		return userKey{}, fmt.Errorf("%w: PEM of type %.64q", ErrKey, block.Type)
	}
	if err != nil {
		return userKey{}, fmt.Errorf("%w: %s: %w", ErrKey, block.Type, err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return userKey{}, fmt.Errorf("%w: RSA key of %d bits; at least 2048 are needed", ErrKey, k.N.BitLen())
		}
		return userKey{k, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}}, nil
	case *ecdsa.PublicKey:
		method, ok := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[k.Curve.Params().Name]
		if !ok {
			return userKey{}, fmt.Errorf("%w: ECDSA on curve %s; P-256, P-384 and P-521 are known", ErrKey, k.Curve.Params().Name)
		}
		return userKey{k, []string{method}}, nil
	case ed25519.PublicKey:
		return userKey{k, []string{"EdDSA"}}, nil
	default:
		return userKey{}, fmt.Errorf("%w: a key of type %T; RSA, ECDSA and Ed25519 are known", ErrKey, key)
	}
}

// userVerifier checks the tokens of users.
type userVerifier struct {
	keys   func() []userKey
	claim  string
	parser *jwt.Parser
}

var userMethods = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// newUserVerifier returns a verifier with the present keys. An expiry is required:
// nothing else ends such a token.
func newUserVerifier(s UserTokens, keys func() []userKey) *userVerifier {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(userMethods), jwt.WithJSONNumber(), jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(), jwt.WithLeeway(leeway),
	}
	if s.Audience != "" {
		options = append(options, jwt.WithAudience(s.Audience))
	}
	if s.Issuer != "" {
		options = append(options, jwt.WithIssuer(s.Issuer))
	}
	return &userVerifier{keys: keys, claim: orSub(s.PrincipalClaim), parser: jwt.NewParser(options...)}
}

func orSub(claim string) string {
	if claim == "" {
		return "sub"
	}
	return claim
}

// verify implements verifier.
func (u *userVerifier) verify(_ context.Context, token string) (*authz.Principal, *refusal) {
	claims := jwt.MapClaims{}
	got, err := u.parser.ParseWithClaims(token, claims, func(j *jwt.Token) (any, error) {
		if err := uncritical(j); err != nil {
			return nil, err
		}
		var set jwt.VerificationKeySet
		for _, k := range u.keys() {
			if slices.Contains(k.methods, j.Method.Alg()) {
				set.Keys = append(set.Keys, k.key)
			}
		}
		return set, nil
	})
	if err != nil {
		return nil, parsed(got, err, userMethods)
	}
	return principalOf(claims, u.claim)
}
