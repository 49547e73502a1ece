package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/tlsconf"
)

// identity is that of a node at 127.0.0.1.
func identity(t *testing.T, a *tlsconf.Authority, change func(*tlsconf.Options)) (*tlsconf.Identity, tlsconf.Options) {
	t.Helper()
	dir := t.TempDir()
	o := tlsconf.Options{
		CertFile: filepath.Join(dir, "node.pem"), KeyFile: filepath.Join(dir, "node-key.pem"), CAFile: filepath.Join(dir, "ca.pem"),
		RequireClientCert: new(true), HandshakeTimeout: 30 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	issue(t, a, o)
	id, _, err := tlsconf.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return id, o
}

func issue(t *testing.T, a *tlsconf.Authority, o tlsconf.Options) {
	t.Helper()
	p, err := a.Issue(tlsconf.Request{Name: "node", Hosts: []string{"localhost", "127.0.0.1"}, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{o.CertFile: p.Cert, o.KeyFile: p.Key, o.CAFile: a.PEM()} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newAuthority(t *testing.T, name string) *tlsconf.Authority {
	t.Helper()
	a, err := tlsconf.NewAuthority(name, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tlsMaster serves links as a master does, in clear for a nil identity, and echoes
// what agents say in the reasons that it closes them with.
func tlsMaster(t *testing.T, id *tlsconf.Identity, leader func() string) string {
	t.Helper()
	s := NewServer(Options{}, func(c *MasterConn, r *http.Request) {
		who := "nobody"
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		if _, err := c.Receive(); err == nil {
			c.Close("hello " + who)
		}
	})
	mux := http.NewServeMux()
	mux.HandleFunc(Path, func(w http.ResponseWriter, r *http.Request) {
		if leader != nil && leader() != r.Host {
			w.Header().Set("Location", "//"+leader()+Path) // scheme-less, as Mesos does
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		s.ServeHTTP(w, r)
	})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	hs := &http.Server{Handler: mux, Protocols: protocols}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); hs.Serve(id.Listen(l)) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.Stop(ctx, "the test ends")
		hs.Close()
		<-done
	})
	return l.Addr().String()
}

// talk opens a link, says something and returns what the master closes it with.
func talk(t *testing.T, addrs []string, o DialOptions) (string, error) {
	t.Helper()
	c, err := Dial(t.Context(), addrs, o)
	if err != nil {
		return "", err
	}
	defer func() { c.CloseNow(); <-c.Done() }()
	if err := c.Send(&clusterdv1.AgentMessage{}); err != nil {
		return "", err
	}
	if _, err = c.Receive(); errors.Is(err, ErrPeerClosed) {
		return err.Error(), nil
	}
	return "", err
}

// Agent and master show each other their certificates, in both versions of TLS, and a
// redirect to the leader stays in TLS.
func TestMutualTLS(t *testing.T) {
	a := newAuthority(t, "ours")
	agent, _ := identity(t, a, nil)
	stranger, _ := identity(t, newAuthority(t, "another's"), nil)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		id, _ := identity(t, a, func(o *tlsconf.Options) { o.MinVersion, o.MaxVersion = version, version })
		var leader string
		follower := tlsMaster(t, id, func() string { return leader })
		leader = tlsMaster(t, id, nil)
		for name, addr := range map[string]string{"leader": leader, "by a redirect": follower, "URL": "https://" + leader} {
			if got, err := talk(t, []string{addr}, DialOptions{TLS: agent.Client()}); !strings.Contains(got, "hello node") {
				t.Errorf("%s, %s: got %q, %v", tls.VersionName(version), name, got, err)
			}
		}
		for name, row := range map[string]struct {
			addr string
			conf *tls.Config
			want string
		}{
			"a stranger":     {leader, stranger.Client(), "unknown authority"},
			"no certificate": {leader, &tls.Config{RootCAs: agent.Client().RootCAs}, "remote error: tls: "},
			"in clear":       {"http://" + leader, nil, "This port speaks TLS"},
			"another host":   {"10.1.2.3:5050", agent.Client(), "not 10.1.2.3"},
		} {
			_, err := talk(t, []string{row.addr}, DialOptions{TLS: row.conf, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, leader) // whoever answers there
			}})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s, %s: got %v, want %q", tls.VersionName(version), name, err, row.want)
			}
		}
	}
}

// The authority of a cluster changes while a master runs: links that stand go on,
// new ones are of the new authority alone.
func TestTLSReload(t *testing.T) {
	a, b := newAuthority(t, "old"), newAuthority(t, "new")
	id, files := identity(t, a, nil)
	old, _ := identity(t, a, nil)
	fresh, _ := identity(t, b, nil)
	addr := tlsMaster(t, id, nil)
	standing, err := Dial(t.Context(), []string{addr}, DialOptions{TLS: old.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { standing.CloseNow(); <-standing.Done() }()
	if _, err := talk(t, []string{addr}, DialOptions{TLS: fresh.Client()}); err == nil {
		t.Error("the new authority is known before it is given")
	}
	issue(t, b, files)
	if changed, err := id.Reload(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if got, err := talk(t, []string{addr}, DialOptions{TLS: fresh.Client()}); !strings.Contains(got, "hello node") {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := talk(t, []string{addr}, DialOptions{TLS: old.Client()}); err == nil {
		t.Error("the old authority is trusted still")
	}
	if err := standing.Send(&clusterdv1.AgentMessage{}); err != nil {
		t.Fatal(err)
	}
	if _, err := standing.Receive(); !errors.Is(err, ErrPeerClosed) || !strings.Contains(err.Error(), "hello node") {
		t.Errorf("a link that stood: got %v", err)
	}
}

// While a cluster moves to TLS, whoever speaks it already reaches whoever does not
// yet, and nobody goes into the clear for another reason.
func TestDowngrade(t *testing.T) {
	a := newAuthority(t, "ours")
	agent, _ := identity(t, a, nil)
	inClear := tlsMaster(t, nil, nil)
	both, _ := identity(t, a, func(o *tlsconf.Options) { o.Downgrade = true })
	stranger, _ := identity(t, newAuthority(t, "another's"), func(o *tlsconf.Options) { o.Downgrade = true })
	bothAddr, strange := tlsMaster(t, both, nil), tlsMaster(t, stranger, nil)
	for name, row := range map[string]struct {
		addr string
		o    DialOptions
		want string
	}{
		"TLS to clear":              {inClear, DialOptions{TLS: agent.Client(), Downgrade: true}, "hello nobody"},
		"TLS to both":               {bothAddr, DialOptions{TLS: agent.Client(), Downgrade: true}, "hello node"},
		"clear to both":             {bothAddr, DialOptions{}, "hello nobody"},
		"TLS to clear, not allowed": {inClear, DialOptions{TLS: agent.Client()}, "!does not look like a TLS handshake"},
		"https to clear":            {"https://" + inClear, DialOptions{TLS: agent.Client(), Downgrade: true}, "!does not look like a TLS handshake"},
		"TLS to a stranger":         {strange, DialOptions{TLS: agent.Client(), Downgrade: true}, "!unknown authority"},
	} {
		got, err := talk(t, []string{row.addr}, row.o)
		want, fails := strings.CutPrefix(row.want, "!")
		if fails && (err == nil || !strings.Contains(err.Error(), want)) || !fails && !strings.Contains(got, want) {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, row.want)
		}
	}
}
