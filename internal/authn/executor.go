package authn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"clusterd/internal/authz"
)

// ErrKey says that a key is not one, or too weak.
var ErrKey = errors.New("invalid key")

// minSecret is how long an HMAC secret should be (RFC 7518, 3.2): whoever has seen
// a token can guess shorter ones at leisure.
const minSecret = 32

var executorMethods = []string{"HS256"}

// ExecutorTokens makes and checks the tokens of executors, which are JSON web
// tokens with the claims fid, eid and cid, signed by a secret of the agent's
// (src/authentication/executor/jwt_secret_generator.cpp). The principal of a
// token has these claims and no value: it may do what its executor may, and
// nothing else.
//
// A token has no expiry unless a lifetime is set. An executor gets its token once,
// in its environment, and nothing can give it another, so that an expiry is the
// end of the executor, however well it runs; and a token without one outlives
// nothing: it names a container, whose ID is never used again, and an agent
// refuses calls for containers that are gone. For the same reason the key is read
// once, not reloaded: agents that start with another one no longer know the
// executors that they recover. An expiry in a token that somebody else made with
// the key is honoured.
type ExecutorTokens struct {
	key      []byte
	lifetime time.Duration
	now      func() time.Time
	parser   *jwt.Parser
}

// NewExecutorTokens returns tokens signed by a key. Their lifetime is how long they
// are good, zero: as long as their container.
func NewExecutorTokens(key []byte, lifetime time.Duration) (*ExecutorTokens, error) {
	if len(key) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrKey)
	}
	if lifetime < 0 {
		return nil, fmt.Errorf("%w: lifetime of tokens is negative", ErrKey)
	}
	t := &ExecutorTokens{key: append([]byte(nil), key...), lifetime: lifetime, now: time.Now}
	t.parser = jwt.NewParser(
		jwt.WithValidMethods(executorMethods), jwt.WithJSONNumber(), jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(func() time.Time { return t.now() }),
	)
	return t, nil
}

// OpenExecutorTokens is [NewExecutorTokens] with the key in a file
// (--jwt_secret_key). All bytes of the file count, a newline at its end too, as in
// Mesos. Warnings are to be logged.
func OpenExecutorTokens(path string, lifetime time.Duration) (t *ExecutorTokens, warnings []string, err error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	if t, err = NewExecutorTokens(key, lifetime); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if w := tooOpen(path); w != "" {
		warnings = append(warnings, w)
	}
	if len(key) < minSecret {
		warnings = append(warnings, fmt.Sprintf("%s holds a key of %d bytes, and less than %d can be guessed", path, len(key), minSecret))
	}
	return t, warnings, nil
}

// Format writes no key, whatever the verb.
func (t *ExecutorTokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("executor tokens")) }

// New makes the token of one executor's container.
func (t *ExecutorTokens) New(frameworkID, executorID, containerID string) (string, error) {
	if t == nil || len(t.key) == 0 {
		return "", fmt.Errorf("sign the token of an executor: %w: there is none", ErrKey)
	}
	claims := jwt.MapClaims{"fid": frameworkID, "eid": executorID, "cid": containerID}
	if t.lifetime > 0 {
		claims["exp"] = t.now().Add(t.lifetime).Unix()
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(t.key)
	if err != nil {
		return "", fmt.Errorf("sign the token of an executor: %w", err)
	}
	return token, nil
}

// Authenticator returns one that takes these tokens only.
func (t *ExecutorTokens) Authenticator() Authenticator { return &Bearer{verifiers: []verifier{t}} }

// verify implements verifier. As in Mesos all claims become the principal's.
func (t *ExecutorTokens) verify(_ context.Context, token string) (*authz.Principal, *refusal) {
	claims := jwt.MapClaims{}
	got, err := t.parser.ParseWithClaims(token, claims, func(j *jwt.Token) (any, error) {
		return t.key, uncritical(j)
	})
	if err != nil {
		return nil, parsed(got, err, executorMethods)
	}
	if len(claims) == 0 {
		return nil, &refusal{kind: Rejected, says: "JWT claims missing", ours: true}
	}
	return &authz.Principal{Claims: claimsOf(claims)}, nil
}
