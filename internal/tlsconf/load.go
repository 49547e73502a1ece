package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds what is read of a file; bundles of authorities have some 200 KB.
const maxFile = 8 << 20

// load reads all files and builds what is made of them.
func (i *Identity) load() (*state, error) {
	o := &i.opts
	certPEM, err := readFile(o.CertFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name("tls_cert"), err)
	}
	keyPEM, err := readFile(o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name("tls_key"), err)
	}
	s := &state{}
	if s.cert, err = o.pair(certPEM, keyPEM); err != nil {
		return nil, err
	}
	s.leaf = s.cert.Leaf
	authorities, raw, err := o.authorities()
	if err != nil {
		return nil, err
	}
	s.raw = string(certPEM) + "\x00" + string(keyPEM) + "\x00" + raw
	s.pool = poolOf(authorities)
	s.http, s.peer = o.server(s), o.peerServer(s)
	return s, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, more than a file of certificates has", path, info.Size())
	}
	return os.ReadFile(path)
}

// pair joins a certificate with its key.
func (o *Options) pair(certPEM, keyPEM []byte) (tls.Certificate, error) {
	if _, err := parseCertificates(certPEM); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %s: %w", o.name("tls_cert"), o.CertFile, err)
	}
	if err := checkKey(keyPEM); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %s: %w", o.name("tls_key"), o.KeyFile, err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err == nil {
		return cert, nil
	}
	// Go has no error of its own for it; both have been found readable.
	if strings.Contains(err.Error(), "private key") {
		return cert, fmt.Errorf("%s and %s: %w (%s, %s)", o.name("tls_cert"), o.name("tls_key"), ErrMismatch, o.CertFile, o.KeyFile)
	}
	return cert, fmt.Errorf("%s and %s: %w", o.CertFile, o.KeyFile, err)
}

// checkKey looks for a key that can be read.
func checkKey(data []byte) error {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return errors.New("no private key (PEM) in it")
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return fmt.Errorf("%w: openssl pkey -in FILE -out FILE takes it off", ErrEncryptedKey)
		}
		if block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return nil
		}
		data = rest
	}
}

// parseCertificates reads all certificates of a PEM file, which may hold other
// things too.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			if len(all) == 0 {
				return nil, ErrNoCertificate
			}
			return all, nil
		}
		if block.Type == "CERTIFICATE" || block.Type == "TRUSTED CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
			}
			all = append(all, c)
		}
		data = rest
	}
}

// authorities reads CAFile and CADir.
func (o *Options) authorities() (all []*x509.Certificate, raw string, err error) {
	if o.CAFile != "" {
		data, err := readFile(o.CAFile)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", o.name("tls_ca"), err)
		}
		if all, err = parseCertificates(data); err != nil {
			return nil, "", fmt.Errorf("%s: %s: %w", o.name("tls_ca"), o.CAFile, err)
		}
		raw = string(data)
	}
	if o.CADir == "" {
		return all, raw, nil
	}
	// OpenSSL wants names that are hashes in it; here every file counts that holds a
	// certificate, under whatever name.
	entries, err := os.ReadDir(o.CADir)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", o.name("tls_ca_dir"), err)
	}
	found := false
	for _, e := range entries {
		data, err := readFile(filepath.Join(o.CADir, e.Name()))
		if err != nil || !bytes.Contains(data, []byte("-----BEGIN")) {
			continue // a folder, a dead link, something else
		}
		more, err := parseCertificates(data)
		if errors.Is(err, ErrNoCertificate) {
			continue // a key, or a list of revoked certificates
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s: %s: %w", o.name("tls_ca_dir"), filepath.Join(o.CADir, e.Name()), err)
		}
		found = true
		all = append(all, more...)
		raw += "\x00" + string(data)
	}
	if !found {
		return nil, "", fmt.Errorf("%s: %s: %w", o.name("tls_ca_dir"), o.CADir, ErrNoCertificate)
	}
	return all, raw, nil
}

// poolOf is nil, the system's, for none.
func poolOf(all []*x509.Certificate) *x509.CertPool {
	if len(all) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool
}

// server is the configuration of an HTTP front.
func (o *Options) server(s *state) *tls.Config {
	c := o.base()
	c.Certificates = []tls.Certificate{s.cert}
	c.NextProtos = []string{"h2", "http/1.1"}
	if !fitForHTTP2(o.CipherSuites) && o.MinVersion < tls.VersionTLS13 {
		c.NextProtos = []string{"http/1.1"} // HTTP/2 forbids what is left of TLS 1.2
	}
	// A ticket would outlive the trust in whoever got it, over a reload.
	c.SessionTicketsDisabled = true
	if s.pool != nil {
		c.ClientCAs = s.pool
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if o.requires() {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		c.VerifyConnection = o.checkDepth
	}
	return c
}

// peerServer is the configuration of a master that others call by Raft.
func (o *Options) peerServer(s *state) *tls.Config {
	c := o.base()
	c.Certificates = []tls.Certificate{s.cert}
	c.SessionTicketsDisabled = true
	if s.pool == nil {
		return c
	}
	c.ClientCAs = s.pool // named in the request, so that the right one is shown
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		between := x509.NewCertPool()
		for _, cert := range cs.PeerCertificates[1:] {
			between.AddCert(cert)
		}
		chains, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots: s.pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
		}
		cs.VerifiedChains = chains
		return o.checkDepth(cs)
	}
	return c
}

// fitForHTTP2 says whether HTTP/2 may be spoken over any of the suites (RFC 9113,
// appendix A forbids the others).
func fitForHTTP2(suites []uint16) bool {
	if suites == nil {
		return true
	}
	for _, s := range suites {
		for _, known := range knownSuites {
			if known.id == s && known.has("ECDHE") && known.has("AEAD") {
				return true
			}
		}
	}
	return false
}
