package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/internal/tlsconf"
)

// digger is a master that asks an agent for connections.
type digger struct {
	t     *testing.T
	m     *scriptedMaster
	conns chan net.Conn
	http  *http.Transport
	mu    sync.Mutex
	n     int
}

// newDigger makes one that speaks TLS if it has an identity.
func newDigger(t *testing.T, id *tlsconf.Identity) *digger {
	t.Helper()
	d := &digger{t: t, conns: make(chan net.Conn, 1000)}
	d.m = newScriptedMasterOn(t, func(next http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != link.TunnelPath {
				next.ServeHTTP(w, r)
				return
			}
			if token, _, err := link.TunnelToken(r); err != nil || token == "wrong" {
				http.Error(w, "no", http.StatusNotFound)
				return
			}
			if nc, err := link.AcceptTunnel(w, patience); err == nil {
				d.conns <- nc
			}
		}))
		s.Listener = id.Listen(s.Listener)
		s.Start()
		return s
	})
	d.http = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dig(ctx, "token") }}
	t.Cleanup(d.http.CloseIdleConnections)
	return d
}

func (d *digger) ask(token string) {
	d.t.Helper()
	d.m.send(&clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_OpenTunnel{OpenTunnel: &clusterdv1.OpenTunnel{Token: &token}}})
}

func (d *digger) dig(ctx context.Context, token string) (net.Conn, error) {
	d.mu.Lock()
	d.n++
	d.mu.Unlock()
	d.ask(token)
	select {
	case nc := <-d.conns:
		return nc, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(patience):
		return nil, fmt.Errorf("no connection came")
	}
}

// do sends a request by a tunnel.
func (d *digger) do(method, path, body string, header http.Header) (int, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header = header
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if body != "" {
		req.Header.Set("Content-Type", jsonType)
	}
	resp, err := d.http.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func principalHeader(who string) http.Header {
	return http.Header{link.PrincipalHeader: {link.EncodePrincipal(who, nil)}, link.ClientHeader: {"10.1.2.3:4"}, "X-Forwarded-For": {"10.1.2.3"}}
}

// TestTunnel: by a tunnel the agent believes the master who calls, and by nothing else; what
// is for executors is not to be had.
func TestTunnel(t *testing.T) {
	d := newDigger(t, nil)
	h := newMachine(t, d.m)
	var mu sync.Mutex
	audited := map[string]string{}
	tokens, executors := executorTokens(t, t.TempDir())
	a := h.start(func(o *Options) {
		o.Realms = realms(t, "carol", "dave")
		o.ExecutorTokens, o.Realms[authn.AgentExecutor] = tokens, executors[authn.AgentExecutor]
		o.OnAudit = func(r *http.Request, x httpapi.Audited) {
			mu.Lock()
			defer mu.Unlock()
			audited[x.Principal.String()+" "+x.Action] = httpapi.ClientOf(r)
		}
	})
	d.m.waitRegistered(1)
	t.Cleanup(func() { h.leave(a) })
	if status, out := d.do("GET", "/state", "", principalHeader("carol")); status != http.StatusOK || !strings.Contains(out, `"id"`) {
		t.Errorf("carol, whom the master knows: got %d %.100s", status, out)
	}
	// Of somebody whom no file of the agent names.
	if status, out := d.do("POST", "/api/v1", `{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":1,"duration":{"nanoseconds":1000000000}}}`, principalHeader("someone")); status != http.StatusOK {
		t.Errorf("someone: got %d %s", status, out)
	}
	mu.Lock()
	if audited["someone SET_LOGGING_LEVEL"] != "10.1.2.3:4" {
		t.Errorf("audited: %v", audited)
	}
	mu.Unlock()
	acls, err := authz.Parse([]byte(`{"set_log_level":[{"principals":{"values":["carol"]},"level":{"type":"ANY"}}],"permissive":false}`))
	if err != nil {
		t.Fatal(err)
	}
	a.SetPolicy(acls)
	for who, want := range map[string]int{"carol": 200, "someone": 403} {
		if status, _ := d.do("POST", "/api/v1", `{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":1,"duration":{"nanoseconds":1}}}`, principalHeader(who)); status != want {
			t.Errorf("%s: got %d, want %d", who, status, want)
		}
	}
	a.SetPolicy(nil)
	// A master that asks nobody: the agent does.
	basic := http.Header{}
	r, _ := http.NewRequest(http.MethodGet, "/", http.NoBody)
	r.SetBasicAuth("carol", "carol")
	basic.Set("Authorization", r.Header.Get("Authorization"))
	for name, c := range map[string]struct {
		h    http.Header
		want int
	}{
		"nobody": {nil, 401}, "carol": {basic, 200}, "an empty word": {http.Header{link.PrincipalHeader: {""}}, 400},
		"a word that cannot be read": {http.Header{link.PrincipalHeader: {"%%"}}, 400},
		"nobody's word":              {http.Header{link.PrincipalHeader: {link.EncodePrincipal("", map[string]string{"cid": "x"})}}, 400},
		"two words":                  {http.Header{link.PrincipalHeader: {link.EncodePrincipal("carol", nil), link.EncodePrincipal("dave", nil)}}, 400},
	} {
		if status, out := d.do("GET", "/state", "", c.h); status != c.want {
			t.Errorf("%s: got %d %.100s, want %d", name, status, out, c.want)
		}
	}
	for _, path := range []string{"/api/v1/executor", "/slave(1)/api/v1/executor", "/api/v1/executor/x", "/api/v1/resource_provider"} {
		if status, out := d.do("POST", path, "{}", principalHeader("carol")); status != http.StatusForbidden {
			t.Errorf("%s: got %d %s", path, status, out)
		}
	}
	for _, header := range []http.Header{principalHeader("carol"), {link.PrincipalHeader: {link.EncodePrincipal("carol", nil)}}} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.Addr()+"/state", http.NoBody)
		req.Header = header
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("by the port, who says that he is carol: got %d", resp.StatusCode)
		}
	}
}

// TestTunnelDebug: whoever comes by a master is not of this machine, though the master may be.
func TestTunnelDebug(t *testing.T) {
	d := newDigger(t, nil)
	h := newMachine(t, d.m)
	a := h.start()
	d.m.waitRegistered(1)
	t.Cleanup(func() { h.leave(a) })
	if status, _, _ := request(t, a, "GET", "/debug/pprof", "", ""); status != http.StatusOK {
		t.Errorf("the machine itself: got %d", status)
	}
	if status, _ := d.do("GET", "/debug/pprof", "", nil); status != http.StatusForbidden {
		t.Errorf("by a tunnel: got %d", status)
	}
}

// TestTunnelTLS: the certificate of the master, which is on the tunnel, is not that of who
// calls.
func TestTunnelTLS(t *testing.T) {
	ca, err := tlsconf.NewAuthority("test", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	d := newDigger(t, identity(t, ca, "master"))
	h := newMachine(t, d.m)
	a := h.start(func(o *Options) {
		o.TLS = identity(t, ca, "agent")
		o.Realms = authn.Realms{authn.AgentReadonly: authn.Certificate{}, authn.AgentReadwrite: authn.Certificate{}}
	})
	d.m.waitRegistered(1)
	t.Cleanup(func() { h.leave(a) })
	if status, _ := d.do("GET", "/state", "", nil); status != http.StatusUnauthorized {
		t.Errorf("nobody: got %d", status)
	}
	if status, _ := d.do("GET", "/state", "", principalHeader("carol")); status != http.StatusOK {
		t.Errorf("carol: got %d", status)
	}
}

// TestTunnelsEnd: tunnels end with their link and with the agent, those under way too; a
// master that does not want one any more is no harm; and there is a bound.
func TestTunnelsEnd(t *testing.T) {
	d := newDigger(t, nil)
	h := newMachine(t, d.m)
	a := h.start()
	d.m.waitRegistered(1)
	count := func() int {
		a.tunnels.mu.Lock()
		defer a.tunnels.mu.Unlock()
		return a.tunnels.busy
	}
	d.ask("wrong")
	nc, err := d.dig(t.Context(), "token")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(nc, "GET /api/clusterd/v1/live?path=/version HTTP/1.1\r\nHost: a\r\n\r\n")
	if b := make([]byte, 12); true {
		if _, err := io.ReadFull(nc, b); err != nil || !bytes.Equal(b, []byte("HTTP/1.1 200")) {
			t.Fatalf("got %q %v", b, err)
		}
	}
	if n := count(); n == 0 {
		t.Error("no tunnel is counted")
	}
	d.m.cut("this master leads no more")
	if _, err := io.ReadAll(nc); err != nil {
		t.Logf("it ended with %v", err)
	}
	eventually(t, "all have ended", func() bool { return count() == 0 })
	d.m.waitRegistered(2)

	for range maxTunnels + 10 {
		d.ask("token")
	}
	open := make([]net.Conn, 0, maxTunnels)
	for range maxTunnels {
		select {
		case nc := <-d.conns:
			open = append(open, nc)
		case <-time.After(patience):
			t.Fatalf("only %d connections came", len(open))
		}
	}
	if n := count(); n != maxTunnels {
		t.Errorf("%d are counted", n)
	}
	for _, nc := range open {
		_ = nc.Close()
	}
	eventually(t, "all have ended", func() bool { return count() == 0 })
	if status, _ := d.do("GET", "/version", "", nil); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
	h.leave(a)
}
