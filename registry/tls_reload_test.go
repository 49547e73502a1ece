package registry

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clusterd/internal/tlsconf"
	"clusterd/registry/state"
)

// node is a master's certificate in files, as an operator keeps it.
type node struct {
	tlsconf.Options
	id *tlsconf.Identity
}

func (n *node) write(t *testing.T, signer *tlsconf.Authority, hosts []string, trusted ...*tlsconf.Authority) {
	t.Helper()
	p, err := signer.Issue(tlsconf.Request{Name: "master", Hosts: hosts, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	var pool []byte
	for _, a := range trusted {
		pool = append(pool, a.PEM()...)
	}
	for path, data := range map[string][]byte{n.KeyFile: p.Key, n.CertFile: p.Cert, n.CAFile: pool} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *node) reload(t *testing.T) {
	t.Helper()
	if changed, err := n.id.Reload(); !changed || err != nil {
		t.Fatal(changed, err)
	}
}

func (n *node) options(o *Options) { o.TLS, o.ClientTLS = n.id.Peer(), n.id.Client }

func newNode(t *testing.T, hosts []string, signer *tlsconf.Authority, trusted ...*tlsconf.Authority) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{Options: tlsconf.Options{
		CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: filepath.Join(dir, "ca.pem"),
	}}
	n.write(t, signer, hosts, trusted...)
	var err error
	if n.id, _, err = tlsconf.Open(n.Options); err != nil {
		t.Fatal(err)
	}
	return n
}

func newTLSAuthority(t *testing.T, name string) *tlsconf.Authority {
	t.Helper()
	a, err := tlsconf.NewAuthority(name, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var loopback = []string{"127.0.0.1", "localhost"}

// A cluster changes its authority while it runs: both are trusted, then certificates
// are replaced, then the old one is trusted no more. After each step a member comes
// back, so that connections are made anew, both ways.
func TestTLSAuthorityChanges(t *testing.T) {
	t.Parallel() // it waits more than it works
	a, b := newTLSAuthority(t, "old"), newTLSAuthority(t, "new")
	nodes := map[string]*node{}
	c := newCluster(t, 3, func(o *Options) {
		if nodes[o.ServerID] == nil {
			nodes[o.ServerID] = newNode(t, loopback, a, a)
		}
		nodes[o.ServerID].options(o)
	})
	c.admit("first")
	for i, step := range []struct {
		what    string
		signer  *tlsconf.Authority
		trusted []*tlsconf.Authority
	}{
		{"both are trusted", a, []*tlsconf.Authority{a, b}},
		{"certificates of the new one", b, []*tlsconf.Authority{a, b}},
		{"the old one is trusted no more", b, []*tlsconf.Authority{b}},
	} {
		for _, n := range nodes {
			n.write(t, step.signer, loopback, step.trusted...)
			n.reload(t)
		}
		name := c.names[i]
		addr := c.get(name).Self().Addr
		c.crash(name)
		id := "agent" + name
		c.admit(id)
		back := c.start(name, addr)
		poll(t, func() bool { return back.State().Agent(id) != nil })
		t.Log(step.what)
	}
	// One who has slept through it stays outside until it has read its files.
	name := c.names[0]
	addr := c.get(name).Self().Addr
	c.crash(name)
	nodes[name] = newNode(t, loopback, a, a)
	c.admit("last")
	late := c.start(name, addr)
	applyT(t, c.leader(late), state.AdmitAgent(agentInfo("very last")))
	if late.State().Agent("last") != nil {
		t.Error("it is trusted still")
	}
	nodes[name].write(t, b, loopback, b)
	nodes[name].reload(t)
	poll(t, func() bool { return late.State().Agent("very last") != nil })
}

// Who has a certificate of the right authority that is not a node's stays outside, as
// does a node of the authority before.
func TestTLSOthersStayOutside(t *testing.T) {
	a, b := newTLSAuthority(t, "ours"), newTLSAuthority(t, "before")
	for name, row := range map[string]struct {
		other *node
		want  string // at the leader
	}{
		"an operator":               {newNode(t, nil, a, a), "doesn't contain any IP SANs"},
		"the authority before":      {newNode(t, loopback, b, a, b), "unknown authority"},
		"a node of another address": {newNode(t, []string{"10.1.2.3"}, a, a), "not 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := single(t.TempDir())
			newNode(t, loopback, a, a).options(&opts)
			leader, llog := logged(t, opts)
			leadT(t, leader)
			opts = single(t.TempDir())
			opts.BootstrapExpect = 0
			row.other.options(&opts)
			other, olog := logged(t, opts)
			if err := leader.AddMember(t.Context(), other.Self()); err != nil {
				t.Fatal(err)
			}
			end := time.Now().Add(time.Minute)
			for !strings.Contains(llog.String(), row.want) && !strings.Contains(olog.String(), row.want) {
				if time.Now().After(end) {
					t.Fatalf("the leader says:\n%s\nthe other:\n%s\nwant %q", llog, olog, row.want)
				}
				pause(t.Context(), 5*time.Millisecond)
			}
			if !other.Pristine() {
				t.Error("it took part")
			}
		})
	}

	// An operator who calls does not come further than the handshake.
	opts := single(t.TempDir())
	opts.BootstrapExpect = 0
	newNode(t, loopback, a, a).options(&opts)
	r, log := logged(t, opts)
	conf := newNode(t, nil, a, a).id.Client()
	conf.ServerName = "127.0.0.1"
	conn, err := tls.Dial("tcp", r.Self().Addr, conf)
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		t.Errorf("an operator calls: got %v", err)
	}
	poll(t, func() bool { return strings.Contains(log.String(), "incompatible key usage") })
}
