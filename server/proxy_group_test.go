package server

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/internal/tlsconf"
	"clusterd/registry"
)

// startGroup runs masters that are one cluster, and returns the leader first.
func startGroup(t *testing.T, n int, change ...func(*Options)) []*Server {
	t.Helper()
	masters := make([]*Server, n)
	members := make([]registry.Member, n)
	for i := range masters {
		opts := DefaultOptions()
		opts.IP, opts.Port, opts.Hostname, opts.WorkDir = "127.0.0.1", 0, "localhost", t.TempDir()
		opts.BootstrapExpect = 0 // founded below
		// On a machine that is busy with other things nobody shall be taken for dead.
		opts.RaftHeartbeatTimeout = 3 * time.Second
		for _, f := range change {
			f(&opts)
		}
		s, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stopMaster(t, s) })
		masters[i], members[i] = s, s.registry.Self()
	}
	if err := masters[0].registry.Bootstrap(members); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, masters)
	return masters
}

// awaitLeader puts the one first that leads and that the others know.
func awaitLeader(t *testing.T, masters []*Server) {
	t.Helper()
	eventually(t, "one leads and the others know", func() bool {
		for i, m := range masters {
			if m.term.Load() == nil {
				continue
			}
			for _, other := range masters {
				info, ok := other.registry.Leader()
				if !ok || info.GetPort() != m.MasterInfo().GetPort() {
					return false
				}
			}
			masters[0], masters[i] = masters[i], masters[0]
			return true
		}
		return false
	})
}

// A follower serves what the leader does: reads, calls, streams, other protocols, agents.
func TestProxyFollower(t *testing.T) {
	t.Parallel() // it waits more than it works
	masters := startGroup(t, 3)
	leader, follower := masters[0], masters[1]
	a := startTunnelled(t, leader, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			upgradeHandler(w, r)
			return
		}
		fmt.Fprintf(w, "%s %s", r.RequestURI, r.Host)
	}))
	state := getJSON(t, follower, leaderPath+"/state")
	if state["id"] != leader.MasterInfo().GetId() {
		t.Errorf("the state is of %v", state["id"])
	}
	if r := get(t, follower, leaderPath+"/nothing"); r.status != http.StatusNotFound {
		t.Errorf("got %d", r.status)
	}
	for _, path := range []string{a.path("/a%2Fb?c=%20d"), leaderPath + a.path("/a%2Fb?c=%20d"), "/master" + a.path("/a%2Fb?c=%20d")} {
		if r := get(t, follower, path); r.status != http.StatusOK || r.body != "/a%2Fb?c=%20d "+follower.Addr().String() {
			t.Errorf("%s: got %d %q", path, r.status, r.body)
		}
		if _, _, status := dialUpgrade(t, follower, path, nil); status != http.StatusSwitchingProtocols {
			t.Errorf("%s: got %d", path, status)
		}
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if r := do(t, http.MethodPost, endpoint(follower, leaderPath+"/api/v1"), h, []byte(`{"type":"GET_AGENTS"}`)); r.status != http.StatusOK || !strings.Contains(r.body, a.id.GetValue()) {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if r := do(t, http.MethodPost, endpoint(follower, leaderPath+"/api/v1"), h, []byte(strings.Repeat("x", 40<<20))); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too large: got %d", r.status)
	}
	// A stream of events, through a follower, whose first comes at once.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint(follower, leaderPath+httpapi.LivePath+"?path="+a.path("/x")+"&path=/version"), http.NoBody)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	for seen := ""; !strings.Contains(seen, "event: "+a.path("/x")) || !strings.Contains(seen, "event: /version"); {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, seen)
		}
		seen += line
	}

	// Leaders change; who asks a follower is never sent elsewhere, and told to wait or answered.
	stopMaster(t, leader)
	if _, err := io.ReadAll(events); err == nil {
		t.Log("the stream ended in order")
	}
	eventually(t, "another leads", func() bool {
		r := get(t, follower, leaderPath+"/state")
		switch r.status {
		case http.StatusOK:
			return !strings.Contains(r.body, `"id":"`+leader.MasterInfo().GetId()+`"`)
		case http.StatusServiceUnavailable, http.StatusBadGateway:
			if !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
				t.Errorf("got %v %s", r.header, r.body)
			}
		default:
			t.Errorf("got %d %s", r.status, r.body)
		}
		return false
	})
}

// trusted is an authority and what it has signed.
type trusted struct {
	t   *testing.T
	ca  *tlsconf.Authority
	dir string
}

func newTrusted(t *testing.T) *trusted {
	t.Helper()
	ca, err := tlsconf.NewAuthority("test", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return &trusted{t, ca, t.TempDir()}
}

// identity is that of a node, or of a client if it has no hosts.
func (c *trusted) identity(name string, require bool, hosts ...string) *tlsconf.Identity {
	c.t.Helper()
	p, err := c.ca.Issue(tlsconf.Request{Name: name, Hosts: hosts, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		c.t.Fatal(err)
	}
	o := tlsconf.Options{
		CertFile: filepath.Join(c.dir, name+".pem"), KeyFile: filepath.Join(c.dir, name+"-key.pem"), CAFile: filepath.Join(c.dir, "ca.pem"),
		RequireClientCert: &require, HandshakeTimeout: 30 * time.Second,
	}
	for path, data := range map[string][]byte{o.CertFile: p.Cert, o.KeyFile: p.Key, o.CAFile: c.ca.PEM()} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	id, _, err := tlsconf.Open(o)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// ask sends a request with a client's certificate, or without if there is no client.
func (c *trusted) ask(who *tlsconf.Identity, s *Server, method, path, body string, header http.Header) reply {
	c.t.Helper()
	conf := who.Client()
	if conf == nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(c.ca.PEM())
		conf = &tls.Config{RootCAs: pool}
	}
	transport := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "https://"+s.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return reply{body: err.Error()}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(b)}
}

// shown is the certificate of a client as one master tells it to another.
func shown(t *testing.T, id *tlsconf.Identity) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString(id.Certificate().Raw)
}

// Where certificates say who calls, a caller of a follower is who he is, with the leader too:
// never the follower, and nobody whom somebody else has made up.
func TestProxyCertificates(t *testing.T) {
	for _, require := range []bool{false, true} {
		t.Run(fmt.Sprintf("required=%v", require), func(t *testing.T) {
			c := newTrusted(t)
			carol := c.identity("carol", require)
			// An agent, or a node of something else, that the same authority has signed.
			stranger := c.identity("stranger", require, "10.9.9.9", "agent7")
			node := c.identity("node", require, "localhost", "127.0.0.1")
			var mu sync.Mutex
			var audited []string
			masters := startGroup(t, 2, func(o *Options) {
				o.TLS = node
				o.Realms = authn.Realms{authn.MasterReadonly: authn.Certificate{}, authn.MasterReadwrite: authn.Certificate{}}
				o.OnAudit = func(r *http.Request, a httpapi.Audited) {
					mu.Lock()
					defer mu.Unlock()
					audited = append(audited, fmt.Sprintf("%s %s %v", a.Principal, a.Action, httpapi.ClientOf(r) != ""))
				}
			})
			leader, follower := masters[0], masters[1]
			for _, s := range masters {
				if r := c.ask(carol, s, http.MethodGet, leaderPath+"/state", "", nil); r.status != http.StatusOK {
					t.Errorf("carol: got %d %.200s", r.status, r.body)
				}
				r := c.ask(nil, s, http.MethodGet, leaderPath+"/state", "", nil)
				switch {
				case require && (r.status != 0 || !strings.Contains(r.body, "certificate")):
					t.Errorf("nobody, who is not even let in: got %d %.200s", r.status, r.body)
				case !require && r.status != http.StatusUnauthorized:
					t.Errorf("nobody: got %d %.200s", r.status, r.body)
				}
			}
			if r := c.ask(carol, follower, http.MethodPut, leaderPath+"/weights", `[{"role":"a","weight":2}]`, nil); r.status != http.StatusOK {
				t.Errorf("got %d %s", r.status, r.body)
			}
			mu.Lock()
			if len(audited) != 1 || audited[0] != "carol UPDATE_WEIGHTS true" {
				t.Errorf("audited: %q", audited)
			}
			mu.Unlock()

			// What somebody says who is no master does not count: neither that another calls, nor,
			// if he says that another calls, his own certificate.
			forged := http.Header{proxyHeader: {"1.2.3.4:5"}, certHeader: {shown(t, carol)}}
			for name, s := range map[string]*Server{"leader": leader, "follower": follower} {
				if r := c.ask(stranger, s, http.MethodGet, leaderPath+"/state", "", forged); r.status == http.StatusOK {
					t.Errorf("%s: a stranger passes for carol", name)
				}
			}
			if r := c.ask(carol, leader, http.MethodGet, leaderPath+"/state", "", http.Header{proxyHeader: {"1.2.3.4:5"}}); r.status != http.StatusUnauthorized {
				t.Errorf("got %d", r.status)
			}
			// A follower passes on what it has seen, not what it is told.
			dave := c.identity("dave", require)
			if r := c.ask(carol, follower, http.MethodPut, leaderPath+"/weights", `[{"role":"b","weight":2}]`, http.Header{certHeader: {shown(t, dave)}}); r.status != http.StatusOK {
				t.Errorf("got %d %s", r.status, r.body)
			}
			mu.Lock()
			if len(audited) != 2 || !strings.HasPrefix(audited[1], "carol ") {
				t.Errorf("audited: %q", audited)
			}
			mu.Unlock()
			// A master that lies about a certificate of another authority.
			other := newTrusted(t).identity("carol", require)
			if r := c.ask(node, leader, http.MethodGet, leaderPath+"/state", "", http.Header{proxyHeader: {"1.2.3.4:5"}, certHeader: {shown(t, other)}}); r.status != http.StatusUnauthorized {
				t.Errorf("a certificate of nobody's: got %d", r.status)
			}
			if r := c.ask(node, leader, http.MethodGet, leaderPath+"/state", "", http.Header{proxyHeader: {"1.2.3.4:5"}, certHeader: {"nonsense"}}); r.status != http.StatusUnauthorized {
				t.Errorf("nonsense: got %d", r.status)
			}
		})
	}
}
