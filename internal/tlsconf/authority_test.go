package tlsconf

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var far = time.Now().Add(90 * 24 * time.Hour)

func TestStore(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "tls")}
	a, made, err := s.Init("mine", time.Now().Add(AuthorityValidity))
	if err != nil || !made {
		t.Fatal(made, err)
	}
	info, err := os.Stat(filepath.Join(s.Dir, "ca-key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key of the authority: got %v, %v", info.Mode(), err)
	}
	if c := a.Certificate(); !c.IsCA || c.Subject.CommonName != "mine" || c.NotAfter.Before(time.Now().Add(9*365*24*time.Hour)) {
		t.Errorf("got %v, %v", c.Subject, c.NotAfter)
	}
	p, err := a.Issue(Request{Name: "m1", Hosts: []string{"m1.example.com", "m1", "10.0.0.1", "fd00::1"}, NotAfter: far})
	if err != nil {
		t.Fatal(err)
	}
	if s.Exists("m1") {
		t.Error("it is there already")
	}
	if err := s.Save("m1", p, false); err != nil {
		t.Fatal(err)
	}
	if info, err = os.Stat(s.KeyFile("m1")); err != nil || info.Mode().Perm() != 0o600 || filepath.Base(s.KeyFile("m1")) != "m1-key.pem" {
		t.Errorf("key: got %v, %v", info.Mode(), err)
	}
	certs, err := ReadCertificates(s.CertFile("m1"))
	if err != nil {
		t.Fatal(err)
	}
	c := certs[0]
	if !slices.Equal(c.DNSNames, []string{"m1.example.com", "m1"}) || len(c.IPAddresses) != 2 || !c.IPAddresses[1].Equal(net.ParseIP("fd00::1")) || c.Subject.CommonName != "m1" {
		t.Errorf("got %v, %v, %v", c.Subject, c.DNSNames, c.IPAddresses)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: poolOf([]*x509.Certificate{a.Certificate()}), DNSName: "m1", KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Error(err)
		}
	}

	// It is the same one the second time, and a client's certificate is no server's.
	again, made, err := s.Init("another", far)
	if err != nil || made || !again.Certificate().Equal(a.Certificate()) {
		t.Errorf("again: got %v, %v", made, err)
	}
	if p, err = again.Issue(Request{Name: "operator", NotAfter: far}); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(p.Cert)
	if c, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	roots := poolOf([]*x509.Certificate{a.Certificate()})
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
		t.Error("an operator's certificate is good for a server")
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}

	// Nothing is overwritten.
	was, _ := os.ReadFile(s.CertFile("m1"))
	if err := s.Save("m1", p, false); !errors.Is(err, ErrExists) {
		t.Errorf("got %v", err)
	}
	if now, _ := os.ReadFile(s.CertFile("m1")); !bytes.Equal(was, now) {
		t.Error("it is overwritten")
	}
	if err := s.Save("m1", p, true); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, ".*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// An authority of which one half is gone is not replaced by another: whoever
// trusted it would trust nobody.
func TestHalfAnAuthority(t *testing.T) {
	for _, gone := range []string{"ca.pem", "ca-key.pem"} {
		s := Store{Dir: t.TempDir()}
		if _, _, err := s.Init("mine", far); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(s.Dir, gone))
		if _, _, err := s.Init("mine", far); !errors.Is(err, ErrExists) {
			t.Errorf("without %s: got %v", gone, err)
		}
	}
	if _, _, err := (Store{Dir: t.TempDir(), CAFile: "/none/ca.pem"}).Init("mine", far); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	s := Store{Dir: t.TempDir()}
	put(t, s.Dir, newTestAuthority(t), Request{Name: "node", Hosts: localhost})
	if _, err := LoadAuthority(s.CertFile("node"), s.KeyFile("node")); err == nil || !strings.Contains(err.Error(), "not the certificate of an authority") {
		t.Errorf("got %v", err)
	}
}

// A certificate that is renewed has the same names and key, so that a node that
// reads it meanwhile never finds halves that do not fit.
func TestRenew(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	a, _, err := s.Init("mine", time.Now().Add(200*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, hosts := range map[string][]string{"m1": {"m1", "10.0.0.1"}, "operator": nil} {
		p, err := a.Issue(Request{Name: name, Hosts: hosts, NotAfter: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Save(name, p, false); err != nil {
			t.Fatal(err)
		}
	}
	files, err := s.List(a)
	if err != nil || !slices.Equal(files, []string{s.CertFile("m1"), s.CertFile("operator")}) {
		t.Errorf("got %q, %v", files, err)
	}
	id := open(t, Options{CertFile: s.CertFile("m1"), KeyFile: s.KeyFile("m1"), CAFile: s.AuthorityFile()})
	for _, newKey := range []bool{false, true} {
		for _, name := range []string{"m1", "operator"} {
			before, err := ReadCertificates(s.CertFile(name))
			if err != nil {
				t.Fatal(err)
			}
			key, _ := os.ReadFile(s.KeyFile(name))
			c, err := s.Renew(a, s.CertFile(name), far, newKey)
			if err != nil {
				t.Fatal(err)
			}
			after, err := ReadCertificates(s.CertFile(name))
			if err != nil || !after[0].Equal(c) || c.NotAfter.Before(far.Add(-time.Minute)) {
				t.Errorf("%s: got %v, %v", name, c.NotAfter, err)
			}
			if !slices.Equal(hostsOf(c), hostsOf(before[0])) || !slices.Equal(c.ExtKeyUsage, before[0].ExtKeyUsage) || c.SerialNumber.Cmp(before[0].SerialNumber) == 0 {
				t.Errorf("%s: it is another's", name)
			}
			if now, _ := os.ReadFile(s.KeyFile(name)); bytes.Equal(key, now) == newKey {
				t.Errorf("%s, new key %v: got the same %v", name, newKey, bytes.Equal(key, now))
			}
		}
		if changed, err := id.Reload(); !changed || err != nil {
			t.Errorf("got %v, %v", changed, err)
		}
	}
	// It does not outlive its authority.
	c, err := s.Renew(a, s.CertFile("m1"), time.Now().Add(AuthorityValidity), false)
	if err != nil || !c.NotAfter.Equal(a.Certificate().NotAfter) {
		t.Errorf("got %v, %v", c.NotAfter, err)
	}
	if _, err := s.Renew(newTestAuthority(t), s.CertFile("m1"), far, false); err == nil || !strings.Contains(err.Error(), "is not of the authority") {
		t.Errorf("of another: got %v", err)
	}
}

func TestParseNode(t *testing.T) {
	for text, want := range map[string]string{
		"m1": "m1 m1", "m1.example.com+10.0.0.1": "m1.example.com m1.example.com 10.0.0.1", "10.0.0.1": "10.0.0.1 10.0.0.1",
		"fd00::1+a": "fd00__1 fd00::1 a", "*.example.com": "any.example.com *.example.com", "a + b": "a a b",
	} {
		name, hosts, err := ParseNode(text)
		if got := name + " " + strings.Join(hosts, " "); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a+", "a/b", "../a", "a b", "-a", "a-key", "ca", "a:1", ".", "a\x00", "a=1"} {
		if name, _, err := ParseNode(text); !errors.Is(err, ErrName) {
			t.Errorf("%q: got %q, %v", text, name, err)
		}
	}
}

func TestResolve(t *testing.T) {
	all, unknown := Resolve(t.Context(), []string{"localhost", "127.0.0.1", "10.0.0.1", "*.example.com"})
	if !slices.Contains(all, "127.0.0.1") || len(unknown) > 0 || all[0] != "localhost" {
		t.Errorf("got %q, %q", all, unknown)
	}
	if n := len(all); n != len(slices.Compact(slices.Sorted(slices.Values(all)))) {
		t.Errorf("twice: %q", all)
	}
}

func TestReadCertificates(t *testing.T) {
	dir := t.TempDir()
	o := put(t, dir, newTestAuthority(t), Request{Name: "node", Hosts: localhost})
	if _, err := ReadCertificates(o.KeyFile); !errors.Is(err, ErrNoCertificate) || !strings.Contains(err.Error(), "holds a key") {
		t.Errorf("got %v", err)
	}
	if _, err := ReadCertificates(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
