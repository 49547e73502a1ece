package tlsconf

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTestAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := NewAuthority("test "+rand.Text(), time.Now().Add(200*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// put writes the files of a node into a folder.
func put(t testing.TB, dir string, a *Authority, r Request) Options {
	t.Helper()
	if r.NotAfter.IsZero() {
		r.NotAfter = time.Now().Add(100 * 24 * time.Hour)
	}
	p, err := a.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		CertFile: filepath.Join(dir, "node.pem"), KeyFile: filepath.Join(dir, "node-key.pem"), CAFile: filepath.Join(dir, "ca.pem"),
		HandshakeTimeout: 30 * time.Second,
	}
	write(t, o.CertFile, p.Cert)
	write(t, o.KeyFile, p.Key)
	write(t, o.CAFile, a.PEM())
	return o
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, o Options) *Identity {
	t.Helper()
	id, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var localhost = []string{"localhost", "127.0.0.1"}

// node opens the identity of a node of an authority, in a folder of its own.
func node(t testing.TB, a *Authority, change func(*Options)) *Identity {
	t.Helper()
	o := put(t, t.TempDir(), a, Request{Name: "node", Hosts: localhost})
	if change != nil {
		change(&o)
	}
	return open(t, o)
}

// serve runs an HTTP server as master and agent do, and returns its address.
func serve(t testing.TB, id *Identity) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		version := "clear"
		if r.TLS != nil {
			version = tls.VersionName(r.TLS.Version)
		}
		io.WriteString(w, who+" "+r.Proto+" "+version)
	})}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(id.Listen(l)) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

// get asks a server and returns its answer.
func get(t testing.TB, url string, conf *tls.Config) (string, error) {
	t.Helper()
	return ask(url, &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true})
}

// ask is get with a transport: that of HTTP/2 does not tell why it has no connection.
func ask(url string, tr *http.Transport) (string, error) {
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: 30 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestIdentity(t *testing.T) {
	a, other := newTestAuthority(t), newTestAuthority(t)
	plain := &tls.Config{RootCAs: poolOf([]*x509.Certificate{a.Certificate()})}
	yes := new(true)
	tests := map[string]struct {
		server func(*Options)
		client func() *tls.Config
		want   string // of the answer, or of the error after a !
	}{
		"nobody":   {nil, func() *tls.Config { return plain }, "nobody HTTP/2.0 TLS 1.3"},
		"a node":   {nil, func() *tls.Config { return node(t, a, nil).Client() }, "node HTTP/2.0 TLS 1.3"},
		"TLS 1.2":  {func(o *Options) { o.MaxVersion = tls.VersionTLS12 }, func() *tls.Config { return plain }, "nobody HTTP/2.0 TLS 1.2"},
		"1.3 only": {func(o *Options) { o.MinVersion = tls.VersionTLS13 }, func() *tls.Config { return &tls.Config{RootCAs: plain.RootCAs, MaxVersion: tls.VersionTLS12} }, "!protocol version"},
		"1.1": {nil, func() *tls.Config {
			return &tls.Config{RootCAs: plain.RootCAs, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		}, "!protocol version"},
		"required":       {func(o *Options) { o.RequireClientCert = yes }, func() *tls.Config { return node(t, a, nil).Client() }, "node HTTP/2.0 TLS 1.3"},
		"required, 1.2":  {func(o *Options) { o.RequireClientCert = yes; o.MaxVersion = tls.VersionTLS12 }, func() *tls.Config { return node(t, a, nil).Client() }, "node HTTP/2.0 TLS 1.2"},
		"required, none": {func(o *Options) { o.RequireClientCert = yes }, func() *tls.Config { return plain }, "!certificate required"},
		"a stranger": {func(o *Options) { o.RequireClientCert = yes }, func() *tls.Config {
			c := node(t, other, nil).Client()
			c.RootCAs = plain.RootCAs
			return c
		}, "!certificate required"}, // it does not show what would not be taken
		"a stranger who insists": {nil, func() *tls.Config {
			c := node(t, other, nil).Client()
			cert := node(t, other, nil).current.Load().cert
			c.RootCAs, c.GetClientCertificate = plain.RootCAs, func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			return c
		}, "!unknown certificate authority"},
		"a stranger's server": {nil, func() *tls.Config { return node(t, other, nil).Client() }, "!unknown authority"},
		"a stranger's server, unchecked": {nil, func() *tls.Config {
			return node(t, other, func(o *Options) { o.VerifyServerCert = new(false) }).Client()
		}, "nobody HTTP/2.0 TLS 1.3"},
		"an ended client": {nil, func() *tls.Config {
			o := put(t, t.TempDir(), a, Request{Name: "node", Hosts: localhost, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
			return open(t, o).Client()
		}, "!expired certificate"},
		"weak ciphers of 1.2 cannot carry HTTP/2": {func(o *Options) {
			o.MaxVersion = tls.VersionTLS12
			o.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, func() *tls.Config { return plain }, "nobody HTTP/1.1 TLS 1.2"},
		"no cipher in common": {func(o *Options) {
			o.MaxVersion = tls.VersionTLS12
			o.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
		}, func() *tls.Config {
			return node(t, a, func(o *Options) { o.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256} }).Client()
		}, "!handshake failure"},
		"a curve": {func(o *Options) { o.Curves = []tls.CurveID{tls.CurveP384} }, func() *tls.Config { return plain }, "nobody HTTP/2.0 TLS 1.3"},
	}
	for name, row := range tests {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, node(t, a, row.server))
			want, fails := strings.CutPrefix(row.want, "!")
			got, err := ask("https://"+addr, &http.Transport{TLSClientConfig: row.client(), ForceAttemptHTTP2: !fails})
			if fails != (err != nil) || err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
		})
	}
}

func TestWrongHost(t *testing.T) {
	a := newTestAuthority(t)
	for _, row := range []struct {
		hosts []string
		url   string
		want  string
	}{
		{[]string{"elsewhere"}, "localhost", "valid for elsewhere, not localhost"},
		{[]string{"localhost"}, "127.0.0.1", "doesn't contain any IP SANs"},
		{[]string{"10.0.0.1"}, "127.0.0.1", "valid for 10.0.0.1, not 127.0.0.1"},
	} {
		addr := serve(t, open(t, put(t, t.TempDir(), a, Request{Name: "localhost", Hosts: row.hosts})))
		_, port, _ := net.SplitHostPort(addr)
		_, err := get(t, "https://"+row.url+":"+port, node(t, a, nil).Client())
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%v at %s: got %v, want %q", row.hosts, row.url, err, row.want)
		}
	}
}

// Certificates and authorities are replaced while a server and a client run.
func TestReload(t *testing.T) {
	a, b := newTestAuthority(t), newTestAuthority(t)
	dir := t.TempDir()
	yes := new(true)
	o := put(t, dir, a, Request{Name: "first", Hosts: localhost})
	o.RequireClientCert = yes
	server := open(t, o)
	addr := serve(t, server)
	client := node(t, a, nil)
	check := func(what string, id *Identity, good bool) {
		t.Helper()
		if got, err := get(t, "https://"+addr, id.Client()); (err == nil) != good {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	reload := func(what string, changed bool, want error) {
		t.Helper()
		got, err := server.Reload()
		if got != changed || !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: got %v, %v, want %v, %v", what, got, err, changed, want)
		}
	}
	check("before", client, true)
	reload("nothing has changed", false, nil)

	// A second authority is trusted beside the first one.
	write(t, o.CAFile, append(append([]byte(nil), a.PEM()...), b.PEM()...))
	reload("two authorities", true, nil)
	dirB := t.TempDir()
	ob := put(t, dirB, b, Request{Name: "second", Hosts: localhost})
	write(t, ob.CAFile, append(append([]byte(nil), a.PEM()...), b.PEM()...))
	second := open(t, ob)
	check("of the first", client, true)
	check("of the second", second, true)

	// The server's own certificate changes: half of it is not taken.
	p, err := b.Issue(Request{Name: "third", Hosts: localhost, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	write(t, o.CertFile, p.Cert)
	reload("certificate without its key", false, ErrMismatch)
	check("with the old certificate", second, true)
	if cn := server.Certificate().Subject.CommonName; cn != "first" {
		t.Errorf("got %q, want first", cn)
	}
	write(t, o.KeyFile, p.Key)
	reload("certificate and key", true, nil)
	check("the first does not know the authority", client, false)
	check("the second does", second, true)

	// The first authority is trusted no more, and with it all that it has signed.
	write(t, o.CAFile, b.PEM())
	reload("without the first", true, nil)
	write(t, client.opts.CAFile, b.PEM())
	if changed, err := client.Reload(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	check("revoked", client, false)
	check("the second", second, true)

	// What is bad leaves everything as it was.
	write(t, o.CAFile, []byte("nothing"))
	reload("bad authorities", false, ErrNoCertificate)
	check("the second", second, true)
	ended, err := b.Issue(Request{Name: "ended", Hosts: localhost, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	write(t, o.CAFile, b.PEM())
	write(t, o.CertFile, ended.Cert)
	write(t, o.KeyFile, ended.Key)
	if _, err := server.Reload(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("got %v", err)
	}
	check("the second", second, true)
	os.Remove(o.KeyFile)
	reload("no key", false, os.ErrNotExist)
	check("the second", second, true)
}

// A session from before a reload does not outlive the trust.
func TestNoResumption(t *testing.T) {
	a := newTestAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		addr := serve(t, node(t, a, nil))
		conf := node(t, a, nil).Client()
		conf.ServerName, conf.MaxVersion = "localhost", version
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		for range 2 {
			c, err := tls.Dial("tcp", addr, conf)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(c); err != nil {
				t.Fatal(err)
			}
			if c.ConnectionState().DidResume {
				t.Errorf("%s: resumed", tls.VersionName(version))
			}
			c.Close()
		}
	}
}

// Among masters, who calls must be a node: an operator's certificate does not do.
func TestPeer(t *testing.T) {
	a, other := newTestAuthority(t), newTestAuthority(t)
	server := node(t, a, nil)
	operator := open(t, put(t, t.TempDir(), a, Request{Name: "operator"}))
	stranger := node(t, other, nil)
	for name, row := range map[string]struct {
		conf func() *tls.Config
		want string
	}{
		"a node":      {func() *tls.Config { return node(t, a, nil).Client() }, ""},
		"an operator": {operator.Client, "bad certificate"},
		"a stranger": {func() *tls.Config {
			c, cert := stranger.Client(), stranger.current.Load().cert // which it insists on
			c.RootCAs = server.current.Load().pool
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			return c
		}, "bad certificate"},
		"nobody": {func() *tls.Config { return &tls.Config{RootCAs: server.current.Load().pool} }, "remote error: tls: "},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" "+tls.VersionName(version), func(t *testing.T) {
				l, err := tls.Listen("tcp", "127.0.0.1:0", server.Peer())
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				done := make(chan struct{})
				go func() {
					defer close(done)
					if c, err := l.Accept(); err == nil {
						defer c.Close()
						io.WriteString(c, "hello")
					}
				}()
				conf := row.conf()
				conf.ServerName, conf.MaxVersion = "127.0.0.1", version
				var got []byte
				c, err := tls.Dial("tcp", l.Addr().String(), conf)
				if err == nil {
					got, err = io.ReadAll(c)
					c.Close()
				}
				if row.want == "" && (err != nil || string(got) != "hello") || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
					t.Errorf("got %q, %v, want %q", got, err, row.want)
				}
				l.Close()
				<-done
			})
		}
	}
}

// Authorities between a certificate and a trusted one are counted as OpenSSL does.
func TestVerifyDepth(t *testing.T) {
	o := &Options{VerifyDepth: 1}
	chain := func(n int) tls.ConnectionState {
		return tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{make([]*x509.Certificate, n)}}
	}
	for _, row := range []struct {
		depth, length int
		good          bool
	}{{1, 1, true}, {1, 2, true}, {1, 3, true}, {1, 4, false}, {-1, 2, true}, {-1, 3, false}, {0, 6, true}, {0, 7, false}} {
		o.VerifyDepth = row.depth
		if err := o.checkDepth(chain(row.length)); (err == nil) != row.good {
			t.Errorf("depth %d, chain of %d: got %v", row.depth, row.length, err)
		}
	}
	o.VerifyDepth = 1
	if err := o.checkDepth(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{make([]*x509.Certificate, 9), make([]*x509.Certificate, 2)}}); err != nil {
		t.Errorf("one of two chains is short: got %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	a := newTestAuthority(t)
	dir := t.TempDir()
	good := put(t, dir, a, Request{Name: "node", Hosts: localhost})
	other := put(t, t.TempDir(), a, Request{Name: "other", Hosts: localhost})
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		write(t, path, []byte(content))
		return path
	}
	empty := t.TempDir()
	for name, row := range map[string]struct {
		change func(*Options)
		want   error
		text   string
	}{
		"key alone":           {func(o *Options) { o.CertFile = "" }, ErrContradiction, "--tls_key is given, --tls_cert is not"},
		"certificate alone":   {func(o *Options) { o.KeyFile = "" }, ErrContradiction, "--tls_cert is given, --tls_key is not"},
		"authority alone":     {func(o *Options) { o.KeyFile, o.CertFile = "", "" }, ErrContradiction, "neither is given"},
		"required, of whom":   {func(o *Options) { o.CAFile, o.RequireClientCert = "", new(true) }, ErrContradiction, "--tls_require_client_cert needs --tls_ca"},
		"no certificate":      {func(o *Options) { o.CertFile = filepath.Join(dir, "none") }, os.ErrNotExist, "--tls_cert: "},
		"no key":              {func(o *Options) { o.KeyFile = filepath.Join(dir, "none") }, os.ErrNotExist, "--tls_key: "},
		"no authority":        {func(o *Options) { o.CAFile = filepath.Join(dir, "none") }, os.ErrNotExist, "--tls_ca: "},
		"mismatch":            {func(o *Options) { o.KeyFile = other.KeyFile }, ErrMismatch, "node-key.pem"},
		"key for certificate": {func(o *Options) { o.CertFile = o.KeyFile }, ErrNoCertificate, "--tls_cert"},
		"certificate for key": {func(o *Options) { o.KeyFile = o.CertFile }, nil, "no private key (PEM) in it"},
		"encrypted, old":      {func(o *Options) { o.KeyFile = file("old", encryptedOld) }, ErrEncryptedKey, "openssl pkey"},
		"encrypted, new":      {func(o *Options) { o.KeyFile = file("new", encryptedNew) }, ErrEncryptedKey, "openssl pkey"},
		"broken certificate": {func(o *Options) {
			o.CertFile = file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		}, nil, "certificate 1: "},
		"broken authority":     {func(o *Options) { o.CAFile = file("text", "hello") }, ErrNoCertificate, "--tls_ca"},
		"no directory":         {func(o *Options) { o.CADir = filepath.Join(dir, "none") }, os.ErrNotExist, "--tls_ca_dir"},
		"empty directory":      {func(o *Options) { o.CADir = empty }, ErrNoCertificate, "--tls_ca_dir"},
		"no version":           {func(o *Options) { o.MinVersion, o.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 }, ErrContradiction, "leaves none"},
		"a version of old":     {func(o *Options) { o.MinVersion = tls.VersionTLS11 }, ErrContradiction, "TLS 1.1 is not supported"},
		"an unlikely big file": {func(o *Options) { o.CAFile = sparse(t, dir) }, nil, "more than a file of certificates has"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			row.change(&o)
			id, _, err := Open(o)
			if err == nil || id != nil || row.want != nil && !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("got %v, %v, want %v, %q", id, err, row.want, row.text)
			}
		})
	}
	if id, warnings, err := Open(good); id == nil || err != nil || len(warnings) > 0 {
		t.Errorf("good: got %v, %v, %v", id, warnings, err)
	}
	if id, _, err := Open(Options{}); id != nil || err != nil {
		t.Errorf("in clear: got %v, %v", id, err)
	}
}

func sparse(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "big")
	write(t, path, nil)
	if err := os.Truncate(path, maxFile+1); err != nil {
		t.Fatal(err)
	}
	return path
}

const encryptedOld = `-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: DES-EDE3-CBC,0011223344556677

AAAA
-----END RSA PRIVATE KEY-----
`

const encryptedNew = `-----BEGIN ENCRYPTED PRIVATE KEY-----
AAAA
-----END ENCRYPTED PRIVATE KEY-----
`

func TestWarnings(t *testing.T) {
	a, err := NewAuthority("test", time.Now().Add(1000*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	long := now.Add(100 * 24 * time.Hour)
	for name, row := range map[string]struct {
		request Request
		change  func(*Options)
		want    []string
	}{
		"good":        {Request{Hosts: localhost, NotAfter: long}, nil, nil},
		"ended":       {Request{Hosts: localhost, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}, nil, []string{"has ended at"}},
		"ends soon":   {Request{Hosts: localhost, NotAfter: now.Add(24 * time.Hour)}, nil, []string{"ends at"}},
		"not yet":     {Request{Hosts: localhost, NotBefore: now.Add(time.Hour), NotAfter: long}, nil, []string{"is the clock right"}},
		"no names":    {Request{Name: "client", NotAfter: long}, nil, []string{"names no host", "not made for servers"}},
		"downgrade":   {Request{Hosts: localhost, NotAfter: long}, func(o *Options) { o.Downgrade, o.RequireClientCert = true, new(true) }, []string{"in clear", "does not bind"}},
		"unchecked":   {Request{Hosts: localhost, NotAfter: long}, func(o *Options) { o.VerifyServerCert = new(false) }, []string{"not checked"}},
		"of everyone": {Request{Hosts: localhost, NotAfter: long}, func(o *Options) { o.CAFile = "" }, []string{"no authority is given"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := put(t, t.TempDir(), a, row.request)
			if row.change != nil {
				row.change(&o)
			}
			_, got, err := Open(o)
			if err != nil || len(got) != len(row.want) {
				t.Fatalf("got %q, %v, want %q", got, err, row.want)
			}
			for i, w := range row.want {
				if !strings.Contains(got[i], w) {
					t.Errorf("got %q, want %q", got[i], w)
				}
			}
		})
	}
}

// A folder of authorities may hold other files, and names of any kind.
func TestAuthorityFolder(t *testing.T) {
	a := newTestAuthority(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "1a2b3c4d.0"), a.PEM())
	write(t, filepath.Join(dir, "README"), []byte("hello"))
	write(t, filepath.Join(dir, "key.pem"), []byte(encryptedNew))
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	change := func(o *Options) { o.CAFile, o.CADir = "", dir }
	addr := serve(t, node(t, a, change))
	if got, err := get(t, "https://"+addr, node(t, a, change).Client()); got != "node HTTP/2.0 TLS 1.3" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A nil Identity is that of a node in clear.
func TestInClear(t *testing.T) {
	var id *Identity
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if id.Listen(l) != l || id.Server() != nil || id.Client() != nil || id.Peer() != nil || id.Certificate() != nil || id.Warnings(time.Now()) != nil {
		t.Error("it is not as if there were none")
	}
	if changed, err := id.Reload(); changed || err != nil {
		t.Error(changed, err)
	}
	if id.Scheme() != "http" || id.Downgrade() {
		t.Error(id.Scheme(), id.Downgrade())
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]uint16{"": 0, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		if got, err := ParseVersion(text); got != want || err != nil {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	if _, err := ParseVersion("1.1"); err == nil {
		t.Error("1.1 is taken")
	}
}
