package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log" //nolint:depguard // http.Server wants one.
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{cert: must(x509.ParseCertificate(der)), key: key}
}

func (a *authority) client(t *testing.T, name string, until time.Duration, uris ...string) tls.Certificate {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(until),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, u := range uris {
		template.URIs = append(template.URIs, must(url.Parse(u)))
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestCertificate has clients with and without certificates call a TLS server that
// lets both in.
func TestCertificate(t *testing.T) {
	ca := newAuthority(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := Certificate{}.Authenticate(r, MasterReadonly)
		if f, ok := errors.AsType[*Failure](err); ok {
			if len(f.Challenges) > 0 {
				t.Errorf("challenges %q", f.Challenges)
			}
			w.WriteHeader(f.Status)
			_, _ = io.WriteString(w, string(f.Kind))
			return
		}
		_, _ = io.WriteString(w, p.Value)
	}))
	s.Config.ErrorLog = log.New(t.Output(), "", 0)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	s.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	for _, row := range []struct {
		name string
		cert *tls.Certificate
		want string // status and body; empty: no connection
	}{
		{"common name", new(ca.client(t, "alice", time.Hour, "spiffe://x/y")), "200 alice"},
		{"URI", new(ca.client(t, "", time.Hour, "spiffe://x/y", "spiffe://x/z")), "200 spiffe://x/y"},
		{"nameless", new(ca.client(t, "", time.Hour)), "401 rejected"},
		{"control character", new(ca.client(t, "a\nb", time.Hour)), "401 rejected"},
		{"none", nil, "401 missing"},
		{"of another authority", new(newAuthority(t).client(t, "alice", time.Hour)), ""},
		{"expired", new(ca.client(t, "alice", -time.Minute)), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			transport := s.Client().Transport.(*http.Transport).Clone()
			defer transport.CloseIdleConnections()
			if row.cert != nil {
				// Shown whatever authorities the server names.
				transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return row.cert, nil }
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := transport.RoundTrip(req)
			if err != nil {
				if row.want != "" {
					t.Fatal(err)
				}
				return
			}
			defer func() { _ = res.Body.Close() }()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got := res.Status[:3] + " " + string(body); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// TestCertificateMustBeVerified says that one that the server did not verify does
// not count, nor a request in clear.
func TestCertificateMustBeVerified(t *testing.T) {
	r := request(t, "")
	if got := ask(t, Certificate{}, r); got.Kind != Missing {
		t.Errorf("in clear: got %+v", got)
	}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "mallory"}}}}
	if got := ask(t, Certificate{}, r); got.Kind != Missing || strings.Contains(got.Challenge, "mallory") {
		t.Errorf("not verified: got %+v", got)
	}
}
