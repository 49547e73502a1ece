// Package tlsconf is how a node shows itself and checks others by TLS: files of
// certificates, Mesos's environment (`LIBPROCESS_SSL_*`), certificates that are
// replaced while the node runs, and a private authority for those who have none.
//
// The main type is [Identity]; it is safe for concurrent use. Imported by
// internal/cli, server and agent.
package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultVerifyDepth is how many authorities may stand between a certificate and
	// one that is trusted, as in Mesos.
	DefaultVerifyDepth = 4
	// DefaultHandshakeTimeout bounds a handshake that a caller begins.
	DefaultHandshakeTimeout = 10 * time.Second
	// DefaultMaxHandshakes bounds the handshakes under way at once on a port.
	DefaultMaxHandshakes = 1000
	// soon is how long before its end a certificate is warned of.
	soon = 14 * 24 * time.Hour
)

var (
	// ErrContradiction says that settings of TLS exclude each other, or that one
	// lacks another.
	ErrContradiction = errors.New("settings of TLS do not fit together")
	// ErrMismatch says that a key is not that of the certificate.
	ErrMismatch = errors.New("the key is not that of the certificate")
	// ErrNoCertificate says that a file holds no certificate.
	ErrNoCertificate = errors.New("no certificate (PEM) in it")
	// ErrEncryptedKey says that a key needs a pass phrase.
	ErrEncryptedKey = errors.New("the key is encrypted with a pass phrase")
)

// Options are the settings of TLS. The zero value means in clear.
type Options struct {
	// CertFile and KeyFile (--tls_cert, --tls_key) hold this node's certificate, the
	// authorities between it and a trusted one after it, and its key, in PEM.
	CertFile, KeyFile string
	// CAFile (--tls_ca) and CADir hold the authorities that are trusted. Without
	// both, servers are checked by those of the system, and clients are not asked
	// for certificates.
	CAFile, CADir string
	// RequireClientCert (--tls_require_client_cert) refuses callers without a
	// certificate; nil: they may come without, but one that is shown must be good.
	RequireClientCert *bool
	// VerifyServerCert says whether servers are checked; nil: they are.
	VerifyServerCert *bool
	// MinVersion (--tls_min_version) and MaxVersion bound the version of TLS; zero:
	// 1.2 and 1.3.
	MinVersion, MaxVersion uint16
	// VerifyDepth is how many authorities may stand between a certificate and a
	// trusted one; zero: [DefaultVerifyDepth], negative: none.
	VerifyDepth int
	// Downgrade takes callers in clear too, for the time in which a cluster moves to
	// TLS.
	Downgrade bool
	// CipherSuites are those of TLS 1.2; nil: Go's choice. Those of TLS 1.3 are fixed.
	CipherSuites []uint16
	// Curves are those of the key exchange, most wanted first; nil: Go's choice.
	Curves []tls.CurveID

	// HandshakeTimeout bounds a handshake; zero: [DefaultHandshakeTimeout].
	HandshakeTimeout time.Duration
	// MaxHandshakes bounds those under way at once on a port; zero:
	// [DefaultMaxHandshakes].
	MaxHandshakes int
	// OnRefused, if set, is told of callers whose handshake failed.
	OnRefused func(from net.Addr, err error)

	// names says which setting a file came from, for messages.
	names map[string]string
}

// Enabled says whether TLS is asked for.
func (o *Options) Enabled() bool { return o.CertFile != "" || o.KeyFile != "" }

// name is the setting that a field came from: a flag unless the environment gave it.
func (o *Options) name(flag string) string {
	if n, ok := o.names[flag]; ok {
		return n
	}
	return "--" + flag
}

func (o *Options) requires() bool { return o.RequireClientCert != nil && *o.RequireClientCert }

func (o *Options) verifies() bool { return o.VerifyServerCert == nil || *o.VerifyServerCert }

func (o *Options) private() bool { return o.CAFile != "" || o.CADir != "" }

func (o *Options) depth() int {
	switch {
	case o.VerifyDepth == 0:
		return DefaultVerifyDepth
	case o.VerifyDepth < 0:
		return 0
	}
	return o.VerifyDepth
}

func (o *Options) setDefaults() {
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	if o.MaxVersion == 0 {
		o.MaxVersion = tls.VersionTLS13
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.MaxHandshakes <= 0 {
		o.MaxHandshakes = DefaultMaxHandshakes
	}
}

func (o *Options) validate() error {
	switch {
	case o.CertFile == "":
		return fmt.Errorf("%w: %s is given, %s is not", ErrContradiction, o.name("tls_key"), o.name("tls_cert"))
	case o.KeyFile == "":
		return fmt.Errorf("%w: %s is given, %s is not", ErrContradiction, o.name("tls_cert"), o.name("tls_key"))
	}
	if o.requires() && !o.private() {
		// Go would take whatever any public authority has signed.
		return fmt.Errorf("%w: %s needs %s, to know whose certificates are good", ErrContradiction, o.name("tls_require_client_cert"), o.name("tls_ca"))
	}
	return o.validateVersions()
}

func (o *Options) validateVersions() error {
	for _, v := range []uint16{o.MinVersion, o.MaxVersion} {
		if v != tls.VersionTLS12 && v != tls.VersionTLS13 {
			return fmt.Errorf("%w: %s is not supported: there are 1.2 and 1.3", ErrContradiction, tls.VersionName(v))
		}
	}
	if o.MinVersion > o.MaxVersion {
		return fmt.Errorf("%w: at least %s and at most %s leaves none", ErrContradiction, tls.VersionName(o.MinVersion), tls.VersionName(o.MaxVersion))
	}
	return nil
}

// ParseVersion reads a value of --tls_min_version: 1.2 or 1.3, empty for the default.
func ParseVersion(text string) (uint16, error) {
	switch text {
	case "":
		return 0, nil
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("version of TLS %q: there are 1.2 and 1.3", text)
}

// Identity is a node's certificate and the authorities that it trusts. A nil
// Identity is that of a node that speaks in clear.
type Identity struct {
	opts    Options
	current atomic.Pointer[state]

	mu sync.Mutex // mu orders reloads.
}

// state is what the files held when they were last read and found good.
type state struct {
	raw  string // all bytes, to see that nothing has changed
	cert tls.Certificate
	leaf *x509.Certificate
	pool *x509.CertPool // nil: the system's
	http *tls.Config    // of a server
	peer *tls.Config    // of a server among its like
}

// Open reads the files. It returns nil if TLS is not asked for. The warnings are
// sentences for the operator; they are not empty where something works but should
// not stay so.
func Open(o Options) (id *Identity, warnings []string, err error) {
	if !o.Enabled() {
		if o.private() || o.requires() {
			return nil, nil, fmt.Errorf("%w: %s and %s are needed for TLS, and neither is given", ErrContradiction, o.name("tls_cert"), o.name("tls_key"))
		}
		return nil, nil, nil
	}
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	i := &Identity{opts: o}
	s, err := i.load()
	if err != nil {
		return nil, nil, err
	}
	i.current.Store(s)
	return i, append(o.warnings(), i.Warnings(time.Now())...), nil
}

// warnings are those that lie in the settings alone.
func (o *Options) warnings() []string {
	var w []string
	if o.Downgrade {
		w = append(w, "callers in clear are taken too ("+o.name("tls_downgrade")+"): whoever is on the way can read and change what they say")
		if o.requires() {
			w = append(w, o.name("tls_require_client_cert")+" does not bind callers in clear, which are taken too")
		}
	}
	if !o.verifies() {
		w = append(w, "certificates of servers are not checked ("+o.name("tls_verify_server_cert")+"): whoever is on the way can pass for one")
	}
	if !o.private() {
		w = append(w, "no authority is given ("+o.name("tls_ca")+"): masters and agents are checked by those of the system, and who calls is not checked at all")
	}
	return w
}

// Warnings are what an operator should know of the certificate now: that it has
// ended, or will soon.
func (i *Identity) Warnings(now time.Time) []string {
	if i == nil {
		return nil
	}
	leaf := i.current.Load().leaf
	file := i.opts.CertFile
	var w []string
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		w = append(w, fmt.Sprintf("the certificate in %s has ended at %s: others will refuse this node", file, leaf.NotAfter.Format(time.RFC3339)))
	case left < soon:
		w = append(w, fmt.Sprintf("the certificate in %s ends at %s, in %s", file, leaf.NotAfter.Format(time.RFC3339), left.Round(time.Minute)))
	case now.Before(leaf.NotBefore):
		w = append(w, fmt.Sprintf("the certificate in %s is not good before %s: is the clock right?", file, leaf.NotBefore.Format(time.RFC3339)))
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		w = append(w, fmt.Sprintf("the certificate in %s names no host and no address (SAN); its common name is not looked at", file))
	}
	if !usable(leaf, x509.ExtKeyUsageServerAuth) {
		w = append(w, fmt.Sprintf("the certificate in %s is not made for servers (extended key usage): clients will refuse it", file))
	}
	if !usable(leaf, x509.ExtKeyUsageClientAuth) {
		w = append(w, fmt.Sprintf("the certificate in %s is not made for clients (extended key usage): where client certificates are asked for, this node is refused", file))
	}
	return w
}

func usable(c *x509.Certificate, usage x509.ExtKeyUsage) bool {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range c.ExtKeyUsage {
		if u == usage || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}

// Certificate is the node's own certificate, nil for a nil Identity. It is not to
// be changed.
func (i *Identity) Certificate() *x509.Certificate {
	if i == nil {
		return nil
	}
	return i.current.Load().leaf
}

// Downgrade says whether callers in clear are taken too, and whether a server may be
// spoken to in clear that does not speak TLS.
func (i *Identity) Downgrade() bool { return i != nil && i.opts.Downgrade }

// Scheme is that of this node's URLs, https or http.
func (i *Identity) Scheme() string {
	if i == nil {
		return "http"
	}
	return "https"
}

// Reload reads the files again and says whether anything has changed. What is bad is
// an error, and the old stays in force. A certificate that has ended does not
// replace one that has not.
func (i *Identity) Reload() (changed bool, err error) {
	if i == nil {
		return false, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s, err := i.load()
	if err != nil {
		return false, err
	}
	old := i.current.Load()
	if s.raw == old.raw {
		return false, nil
	}
	now := time.Now()
	if s.leaf.NotAfter.Before(now) && !old.leaf.NotAfter.Before(now) {
		return false, fmt.Errorf("the certificate in %s has ended at %s", i.opts.CertFile, s.leaf.NotAfter.Format(time.RFC3339))
	}
	i.current.Store(s)
	return true, nil
}

// Server is the configuration of a node that is called, for HTTP. It follows
// reloads; connections that stand are not touched by one.
func (i *Identity) Server() *tls.Config {
	if i == nil {
		return nil
	}
	return i.follow(func(s *state) *tls.Config { return s.http })
}

// Peer is the configuration of a master that is called by another, for Raft: where
// authorities are given, the caller must show a certificate that is good for a
// server, so that an operator's does not do. It follows reloads.
func (i *Identity) Peer() *tls.Config {
	if i == nil {
		return nil
	}
	return i.follow(func(s *state) *tls.Config { return s.peer })
}

func (i *Identity) follow(pick func(*state) *tls.Config) *tls.Config {
	c := pick(i.current.Load()).Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return pick(i.current.Load()), nil }
	return c
}

// Client is the configuration of a node that calls. Its certificate follows
// reloads, the authorities that it trusts are those of now: take one for each
// connection (Go does not tell a check of ours which address was dialled).
func (i *Identity) Client() *tls.Config {
	if i == nil {
		return nil
	}
	c := i.opts.base()
	s := i.current.Load()
	c.RootCAs = s.pool
	c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return offer(r, &i.current.Load().cert), nil
	}
	i.opts.check(c)
	return c
}

// offer is the certificate that a server is shown: one that it would not take is
// worse than none, where it insists on none.
func offer(r *tls.CertificateRequestInfo, cert *tls.Certificate) *tls.Certificate {
	if r.SupportsCertificate(cert) != nil {
		return &tls.Certificate{}
	}
	return cert
}

// base is what all configurations have in common.
func (o *Options) base() *tls.Config {
	return &tls.Config{
		MinVersion: o.MinVersion, MaxVersion: o.MaxVersion,
		CipherSuites: o.CipherSuites, CurvePreferences: o.Curves,
	}
}

// check sets how a client checks servers.
func (o *Options) check(c *tls.Config) {
	if !o.verifies() {
		c.InsecureSkipVerify = true
		return
	}
	c.VerifyConnection = o.checkDepth
}

// checkDepth refuses chains that are too long, as OpenSSL counts: neither the
// certificate itself nor the trusted one.
func (o *Options) checkDepth(c tls.ConnectionState) error {
	if len(c.VerifiedChains) == 0 {
		return nil // none was asked for
	}
	for _, chain := range c.VerifiedChains {
		if len(chain)-2 <= o.depth() {
			return nil
		}
	}
	return fmt.Errorf("more than %d authorities stand between the certificate and a trusted one", o.depth())
}

// ClientConfig is the configuration of a program that only calls, and not for long:
// the files are read once, and a certificate is not needed.
func ClientConfig(o Options) (*tls.Config, error) {
	o.setDefaults()
	if err := o.validateVersions(); err != nil {
		return nil, err
	}
	c := o.base()
	authorities, _, err := o.authorities()
	if err != nil {
		return nil, err
	}
	c.RootCAs = poolOf(authorities)
	o.check(c)
	if !o.Enabled() {
		return c, nil
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	certPEM, err := readFile(o.CertFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name("tls_cert"), err)
	}
	keyPEM, err := readFile(o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name("tls_key"), err)
	}
	cert, err := o.pair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) { return offer(r, &cert), nil }
	return c, nil
}
