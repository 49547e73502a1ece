package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// errNoAuthority says that a client's certificate cannot be checked.
var errNoAuthority = errors.New("no authority is given to check certificates of clients by")

// VerifyClient checks a client's certificate, that of those between it and an authority
// after it, as a handshake does: for one that another node has seen.
func (i *Identity) VerifyClient(certs []*x509.Certificate) ([][]*x509.Certificate, error) {
	if i == nil || i.current.Load().pool == nil || len(certs) == 0 {
		return nil, errNoAuthority
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{
		Roots: i.current.Load().pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	return chains, i.opts.checkDepth(tls.ConnectionState{VerifiedChains: chains})
}

// ForServers says whether a certificate is good for a server.
func ForServers(c *x509.Certificate) bool { return usable(c, x509.ExtKeyUsageServerAuth) }
