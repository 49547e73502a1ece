package tlsconf

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	// AuthorityFile is the name of an authority's certificate in its folder.
	AuthorityFile = "ca.pem"
	// AuthorityValidity is how long an authority is good.
	AuthorityValidity = 10 * 365 * 24 * time.Hour
	// backdate is how much earlier than now a certificate begins, for clocks that differ.
	backdate = 5 * time.Minute
)

// ErrExists says that a file is there already.
var ErrExists = errors.New("is there already")

// ErrName says that a name cannot be that of a node.
var ErrName = errors.New("bad name")

// Pair is a certificate and its key, in PEM.
type Pair struct {
	Cert, Key []byte
}

// Request says what a certificate is to be made for.
type Request struct {
	// Name is the common name: of a node, or of who is a principal by it.
	Name string
	// Hosts are the names and addresses under which a node is dialled; empty: the
	// certificate is that of a client alone.
	Hosts []string
	// NotAfter is its end, cut to that of the authority; NotBefore its beginning, by
	// default five minutes ago.
	NotBefore, NotAfter time.Time
	// Key, if set, is the key to certify instead of a new one.
	Key crypto.Signer
}

// Authority signs certificates of nodes and clients. It holds a key that whoever has
// it can pass for any node with.
type Authority struct {
	cert    *x509.Certificate
	certPEM []byte
	key     crypto.Signer
	keyPEM  []byte
}

// NewAuthority makes an authority with an ECDSA key on P-256.
func NewAuthority(name string, notAfter time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-backdate), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	return newAuthority(der, key)
}

func newAuthority(der []byte, key crypto.Signer) (*Authority, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, certPEM: encodeCert(der), key: key, keyPEM: keyPEM}, nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n.Add(n, big.NewInt(1))
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// LoadAuthority reads an authority's certificate and its key.
func LoadAuthority(certFile, keyFile string) (*Authority, error) {
	cert, err := loadPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok || !cert.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of an authority", certFile)
	}
	return newAuthority(cert.Leaf.Raw, key)
}

// loadPair reads a certificate and its key.
func loadPair(certFile, keyFile string) (tls.Certificate, error) {
	o := &Options{CertFile: certFile, KeyFile: keyFile, names: map[string]string{"tls_cert": "certificate", "tls_key": "key"}}
	certPEM, err := readFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return o.pair(certPEM, keyPEM)
}

// Certificate is the authority's own. It is not to be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// PEM is the authority's certificate, for those who are to trust it.
func (a *Authority) PEM() []byte { return a.certPEM }

// Issue makes a certificate and its key.
func (a *Authority) Issue(r Request) (*Pair, error) {
	key := r.Key
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	if r.NotBefore.IsZero() {
		r.NotBefore = time.Now().Add(-backdate)
	}
	if r.NotAfter.After(a.cert.NotAfter) {
		r.NotAfter = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: r.Name},
		NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(r.Hosts) > 0 {
		// A node calls others too: the leader, other masters.
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", r.Name, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &Pair{Cert: encodeCert(der), Key: keyPEM}, nil
}

// Store is a folder with an authority and certificates: NAME.pem, and the key
// NAME-key.pem that only the owner may read.
type Store struct {
	// Dir is the folder.
	Dir string
	// CAFile is the authority's certificate, with its key beside it; empty: ca.pem in Dir.
	CAFile string
}

// CertFile is where the certificate under a name lies.
func (s Store) CertFile(name string) string { return filepath.Join(s.Dir, name+".pem") }

// KeyFile is where its key lies.
func (s Store) KeyFile(name string) string { return KeyFileOf(s.CertFile(name)) }

// KeyFileOf is where the key of a certificate's file lies: beside it.
func KeyFileOf(certFile string) string {
	ext := filepath.Ext(certFile)
	return strings.TrimSuffix(certFile, ext) + "-key" + ext
}

// AuthorityFile is where the authority's certificate lies.
func (s Store) AuthorityFile() string {
	if s.CAFile != "" {
		return s.CAFile
	}
	return filepath.Join(s.Dir, AuthorityFile)
}

// Authority reads the authority.
func (s Store) Authority() (*Authority, error) {
	return LoadAuthority(s.AuthorityFile(), KeyFileOf(s.AuthorityFile()))
}

// Init reads the authority, or makes one where there is none.
func (s Store) Init(name string, notAfter time.Time) (a *Authority, made bool, err error) {
	a, err = s.Authority()
	if err == nil || !errors.Is(err, fs.ErrNotExist) || s.CAFile != "" {
		return a, false, err
	}
	cert, key := s.AuthorityFile(), KeyFileOf(s.AuthorityFile())
	for _, f := range []string{cert, key} {
		if _, err := os.Lstat(f); err == nil {
			return nil, false, fmt.Errorf("%s %w, without its other half: it is not overwritten", f, ErrExists)
		}
	}
	if a, err = NewAuthority(name, notAfter); err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, false, err
	}
	return a, true, writePair(cert, key, &Pair{Cert: a.certPEM, Key: a.keyPEM}, false)
}

// Save writes a certificate and its key under a name. What is there is overwritten
// with force alone.
func (s Store) Save(name string, p *Pair, force bool) error {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	return writePair(s.CertFile(name), s.KeyFile(name), p, force)
}

// Exists says whether there is a certificate or a key under a name.
func (s Store) Exists(name string) bool {
	_, cert := os.Lstat(s.CertFile(name))
	_, key := os.Lstat(s.KeyFile(name))
	return cert == nil || key == nil
}

// Renew signs the certificate of a file anew, with the same names, uses and key, until
// notAfter. The key stays, so that there is no moment at which the two files do not
// fit.
func (s Store) Renew(a *Authority, certFile string, notAfter time.Time, newKey bool) (*x509.Certificate, error) {
	old, err := loadPair(certFile, KeyFileOf(certFile))
	if err != nil {
		return nil, err
	}
	if err := old.Leaf.CheckSignatureFrom(a.cert); err != nil {
		return nil, fmt.Errorf("%s is not of the authority in %s: %w", certFile, s.AuthorityFile(), err)
	}
	r := Request{Name: old.Leaf.Subject.CommonName, Hosts: hostsOf(old.Leaf), NotAfter: notAfter}
	if !newKey {
		r.Key, _ = old.PrivateKey.(crypto.Signer) // of every type of key that Go reads
	}
	p, err := a.Issue(r)
	if err != nil {
		return nil, err
	}
	if newKey {
		err = writePair(certFile, KeyFileOf(certFile), p, true)
	} else {
		err = writeFile(certFile, p.Cert, 0o644, true)
	}
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(p.Cert)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// List are the files of the folder that hold certificates of the authority, but its own.
func (s Store) List(a *Authority) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.pem"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range files {
		data, err := readFile(f)
		if err != nil {
			return nil, err
		}
		certs, err := parseCertificates(data)
		if err == nil && !certs[0].IsCA && certs[0].CheckSignatureFrom(a.cert) == nil {
			all = append(all, f)
		}
	}
	return all, nil
}

// ReadCertificates reads the certificates of a file.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(data)
	if errors.Is(err, ErrNoCertificate) && checkKey(data) == nil {
		return nil, fmt.Errorf("%s: it holds a key: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

func hostsOf(c *x509.Certificate) []string {
	hosts := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// writePair writes the key first: a certificate that is there has one.
func writePair(certFile, keyFile string, p *Pair, force bool) error {
	if !force {
		for _, f := range []string{certFile, keyFile} {
			if _, err := os.Lstat(f); err == nil {
				return fmt.Errorf("%s %w", f, ErrExists)
			}
		}
	}
	if err := writeFile(keyFile, p.Key, 0o600, force); err != nil {
		return err
	}
	return writeFile(certFile, p.Cert, 0o644, force)
}

// writeFile makes a file whole, and never readable by more than mode says.
func writeFile(path string, data []byte, mode os.FileMode, force bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone if all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if force {
		return os.Rename(f.Name(), path)
	}
	err = os.Link(f.Name(), path) // which does not overwrite
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w", path, ErrExists)
	}
	return err
}

var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

// ParseNode reads what a node is called: names and addresses with a + between them, the
// first of which its files are called by.
func ParseNode(text string) (name string, hosts []string, err error) {
	for h := range strings.SplitSeq(text, "+") {
		h = strings.TrimSpace(h)
		if net.ParseIP(h) == nil && (len(h) > 253 || !hostName.MatchString(h)) {
			return "", nil, fmt.Errorf("%w: %q is no name of a host and no address", ErrName, h)
		}
		hosts = append(hosts, h)
	}
	name = strings.ReplaceAll(strings.ReplaceAll(hosts[0], "*", "any"), ":", "_")
	if name == strings.TrimSuffix(AuthorityFile, ".pem") || strings.HasSuffix(name, "-key") {
		return "", nil, fmt.Errorf("%w: a file %s.pem would not be the node's", ErrName, name)
	}
	return name, hosts, nil
}

// Resolve adds the addresses that names have to hosts, as nodes dial each other by
// address. Names that have none are returned as unknown.
func Resolve(ctx context.Context, hosts []string) (all, unknown []string) {
	all = append(all, hosts...)
	seen := map[string]bool{}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			seen[ip.String()] = true
		}
	}
	for _, h := range hosts {
		if net.ParseIP(h) != nil || strings.HasPrefix(h, "*") {
			continue
		}
		addrs, err := net.DefaultResolver.LookupIPAddr(ctx, h)
		if err != nil || len(addrs) == 0 {
			unknown = append(unknown, h)
		}
		for _, a := range addrs {
			if text := a.IP.String(); !seen[text] {
				seen[text] = true
				all = append(all, text)
			}
		}
	}
	return all, unknown
}
