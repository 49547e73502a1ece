package authn

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// ErrCredentials says that a file of credentials is not one.
var ErrCredentials = errors.New("invalid credentials")

// maxCost is the highest cost of a bcrypt hash that is taken: a comparison takes
// about a second.
const maxCost = 14

// Credential is a principal and its secret. It prints without the secret.
type Credential struct {
	Principal string `json:"principal"`
	Secret    []byte `json:"-"`
}

// Apply shows the credential in a request.
func (c *Credential) Apply(r *http.Request) {
	if c != nil {
		r.SetBasicAuth(c.Principal, string(c.Secret))
	}
}

// Header returns headers that show the credential; none for nil.
func (c *Credential) Header() http.Header {
	r := http.Request{Header: http.Header{}}
	c.Apply(&r)
	return r.Header
}

// Format writes the principal alone, whatever the verb.
func (c Credential) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "credential of %q", c.Principal)
}

// Credentials are the secrets of principals. They are immutable, and hold no
// secret in clear.
type Credentials struct {
	secrets map[string]secret
	// decoy is a hash of nothing, nil if no secret is a hash. Who has no hash is
	// compared with it, so that to refuse takes as long.
	decoy []byte
}

// secret is what a principal must know: the digest of a plain secret, or a bcrypt
// hash.
type secret struct {
	digest [sha256.Size]byte
	hash   []byte
}

// is compares a plain secret in constant time.
func (s *secret) is(given []byte) bool {
	d := sha256.Sum256(given)
	return subtle.ConstantTimeCompare(s.digest[:], d[:]) == 1
}

// Len returns the number of principals.
func (c *Credentials) Len() int { return len(c.secrets) }

// Format writes how many there are, whatever the verb.
func (c *Credentials) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "credentials of %d principals", len(c.secrets))
}

// ParseCredentials parses a file of credentials:
//
//	{"credentials": [{"principal": "p", "secret": "s"}, ...]}
//
// or one {"principal": "p", "secret": "s"}. A secret is plain, or a bcrypt hash
// ($2a$, $2b$ or $2y$). Unlike Mesos, which takes the last of two that say
// different things, every doubt is an error.
func ParseCredentials(data []byte) (*Credentials, error) {
	list, err := decodeCredentials(data)
	if err != nil {
		return nil, err
	}
	c := &Credentials{secrets: make(map[string]secret, len(list))}
	cost := 0
	for _, one := range list {
		if _, twice := c.secrets[one.Principal]; twice {
			return nil, fmt.Errorf("%w: principal %q is there twice", ErrCredentials, one.Principal)
		}
		s := secret{digest: sha256.Sum256(one.Secret)}
		if isHash(one.Secret) {
			n, err := bcrypt.Cost(one.Secret)
			if err != nil {
				return nil, fmt.Errorf("%w: secret of %q looks like a bcrypt hash and is none", ErrCredentials, one.Principal)
			}
			if n > maxCost {
				return nil, fmt.Errorf("%w: bcrypt hash of %q has a cost of %d, and more than %d takes too long", ErrCredentials, one.Principal, n, maxCost)
			}
			s, cost = secret{hash: one.Secret}, max(cost, n)
		}
		c.secrets[one.Principal] = s
	}
	if cost > 0 {
		c.decoy = decoyHash(cost)
	}
	return c, nil
}

// ParseCredential parses the credential that a node or a client shows.
func ParseCredential(data []byte) (*Credential, error) {
	list, err := decodeCredentials(data)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf(`%w: want one {"principal": ..., "secret": ...}, got %d`, ErrCredentials, len(list))
	}
	if isHash(list[0].Secret) {
		return nil, fmt.Errorf("%w: secret of %q is a bcrypt hash: who shows a secret needs the secret itself", ErrCredentials, list[0].Principal)
	}
	return &list[0], nil
}

// LoadCredential reads the file of the credential that a node or a client shows
// (--credential). The warning, if not empty, is to be logged.
func LoadCredential(path string) (c *Credential, warning string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	if c, err = ParseCredential(data); err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return c, tooOpen(path), nil
}

// tooOpen is a warning if everybody may use a file (src/credentials/credentials.hpp).
func tooOpen(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o007 == 0 {
		return ""
	}
	return fmt.Sprintf("%s holds secrets and is open to every user (mode %04o): take that away with chmod o=", path, info.Mode().Perm())
}

var hashForm = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// isHash says whether a secret is a bcrypt hash, or would be one.
func isHash(secret []byte) bool {
	return hashForm.Match(secret) || bytes.HasPrefix(secret, []byte("$2a$")) ||
		bytes.HasPrefix(secret, []byte("$2b$")) || bytes.HasPrefix(secret, []byte("$2y$"))
}

// decoyHash makes a hash that no secret has: its digest is random.
func decoyHash(cost int) []byte {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	random := make([]byte, 53)
	_, _ = rand.Read(random)
	for i := range random {
		random[i] = alphabet[random[i]&63]
	}
	return fmt.Appendf(nil, "$2b$%02d$%s", cost, random)
}

// decodeCredentials reads either form. It goes token by token because the errors
// of encoding/json quote what they stumble over, which may be a secret.
func decodeCredentials(data []byte) ([]Credential, error) {
	trimmed := bytes.TrimSpace(data)
	switch {
	case len(trimmed) == 0:
		return nil, fmt.Errorf("%w: the file is empty", ErrCredentials)
	case trimmed[0] != '{' && trimmed[0] != '[':
		return nil, fmt.Errorf(`%w: not JSON; the old form of lines "principal secret" is now `+
			`{"credentials": [{"principal": "p", "secret": "s"}]}`, ErrCredentials)
	case !utf8.Valid(data):
		return nil, fmt.Errorf("%w: not UTF-8", ErrCredentials)
	}
	d := &credentialDecoder{dec: json.NewDecoder(bytes.NewReader(data))}
	if err := d.object(d.topLevel); err != nil {
		return nil, fmt.Errorf("%w: %w, at byte %d", ErrCredentials, err, d.dec.InputOffset())
	}
	if _, err := d.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more after the end, at byte %d", ErrCredentials, d.dec.InputOffset())
	}
	if d.single != (rawCredential{}) {
		if d.list != nil {
			return nil, fmt.Errorf("%w: both one credential and a list", ErrCredentials)
		}
		d.list = []rawCredential{d.single}
	}
	if d.list == nil {
		return nil, fmt.Errorf(`%w: neither "credentials" nor "principal" and "secret"`, ErrCredentials)
	}
	out := make([]Credential, 0, len(d.list))
	for i, raw := range d.list {
		if err := raw.check(); err != nil {
			return nil, fmt.Errorf("%w: number %d: %w", ErrCredentials, i+1, err)
		}
		out = append(out, Credential{Principal: raw.principal, Secret: []byte(raw.secret)})
	}
	return out, nil
}

type rawCredential struct{ principal, secret string }

func (c rawCredential) check() error {
	switch {
	case c.principal == "":
		return errors.New("no principal")
	case strings.Contains(c.principal, ":"):
		return fmt.Errorf("principal %q has a colon, which HTTP basic authentication cannot carry", c.principal)
	case strings.ContainsFunc(c.principal, unicode.IsControl):
		return fmt.Errorf("principal %q has a control character", c.principal)
	case c.secret == "":
		return fmt.Errorf("principal %q has no secret", c.principal)
	}
	return nil
}

// credentialDecoder walks through the JSON of credentials.
type credentialDecoder struct {
	dec    *json.Decoder
	single rawCredential
	list   []rawCredential // not nil once "credentials" was seen
}

var (
	errNotJSON = errors.New("not JSON")
	errForm    = errors.New(`want {"credentials": [{"principal": "p", "secret": "s"}]}, all of them strings`)
)

// object reads an object; field reads the value of each of its keys.
func (d *credentialDecoder) object(field func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.dec.More() {
		key, err := d.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %q is there twice", key)
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return d.delim('}')
}

func (d *credentialDecoder) topLevel(key string) error {
	if key != "credentials" {
		return d.credential(&d.single)(key)
	}
	if err := d.delim('['); err != nil {
		return err
	}
	d.list = []rawCredential{}
	for d.dec.More() {
		var one rawCredential
		if err := d.object(d.credential(&one)); err != nil {
			return err
		}
		d.list = append(d.list, one)
	}
	return d.delim(']')
}

func (d *credentialDecoder) credential(to *rawCredential) func(string) error {
	return func(key string) (err error) {
		switch key {
		case "principal":
			to.principal, err = d.text()
		case "secret":
			to.secret, err = d.text()
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		return err
	}
}

func (d *credentialDecoder) token() (json.Token, error) {
	t, err := d.dec.Token()
	if err != nil {
		return nil, errNotJSON
	}
	return t, nil
}

func (d *credentialDecoder) delim(want json.Delim) error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if t != want {
		return errForm
	}
	return nil
}

func (d *credentialDecoder) text() (string, error) {
	t, err := d.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", errForm
	}
	return s, nil
}
