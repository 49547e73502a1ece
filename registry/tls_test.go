package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// authority signs certificates of masters.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "masters"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// config is that of a master at 127.0.0.1, who asks others for the same.
func (a *authority) config(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13,
		RootCAs: a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	c := newCluster(t, 3, func(o *Options) { o.TLS = a.config(t) })
	l := c.admit("a1")
	for _, r := range c.running() {
		poll(t, func() bool { return r.State().Agent("a1") != nil })
	}
	c.crash(string(l.r.id))
	c.admit("a2")
}

// Who has no certificate of the right authority, or no TLS at all, stays outside,
// and both sides say why.
func TestTLSStrangers(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	for name, row := range map[string]struct {
		leader, other *tls.Config
		leaderSays    string
		otherSays     string
	}{
		"other authority":  {a.config(t), b.config(t), "certificate", "tls: bad certificate"},
		"leader plain":     {nil, a.config(t), "hung up at the handshake", "does not speak TLS, this master does"},
		"other plain":      {a.config(t), nil, "hung up at the handshake", "it speaks TLS, this master does not"},
		"no client's cert": {&tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS13, Certificates: a.config(t).Certificates[:0]}, a.config(t), "certificate required", "didn't provide a certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := single(t.TempDir())
			opts.TLS = row.leader
			if row.leader != nil && len(row.leader.Certificates) == 0 {
				opts.HeartbeatTimeout = 100 * time.Millisecond // it cannot call itself either
			}
			leader, llog := logged(t, opts)
			leadT(t, leader)
			opts = single(t.TempDir())
			opts.BootstrapExpect = 0
			opts.TLS = row.other
			other, olog := logged(t, opts)
			if err := leader.AddMember(t.Context(), other.Self()); err != nil {
				t.Fatal(err)
			}
			end := time.Now().Add(time.Minute)
			for !strings.Contains(llog.String(), row.leaderSays) || !strings.Contains(olog.String(), row.otherSays) {
				if time.Now().After(end) {
					t.Fatalf("the leader says:\n%s\nand not %q; or the other says:\n%s\nand not %q", llog, row.leaderSays, olog, row.otherSays)
				}
				pause(t.Context(), 5*time.Millisecond)
			}
			if !other.Pristine() {
				t.Error("it took part")
			}
		})
	}
}
