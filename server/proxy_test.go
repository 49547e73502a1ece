package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
)

// tunnelled is a scripted agent that opens connections when it is asked for, and serves a
// handler on them.
type tunnelled struct {
	*agent
	mute  atomic.Bool // it does not open any
	dials atomic.Int64
}

type oneListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *oneListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// startTunnelled registers an agent that serves h.
func startTunnelled(t testing.TB, s *Server, h http.Handler) *tunnelled {
	t.Helper()
	a := &tunnelled{agent: startAgent(t, s, agentInfo())}
	l := &oneListener{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	wg.Go(func() {
		for {
			m, err := a.conn.Receive()
			if err != nil {
				return
			}
			open := m.GetOpenTunnel()
			if open == nil || a.mute.Load() {
				continue
			}
			a.dials.Add(1)
			wg.Go(func() {
				nc, err := link.DialTunnel(context.Background(), a.conn, open.GetToken(), link.DialOptions{})
				if err != nil {
					return
				}
				select {
				case l.conns <- nc:
				case <-l.done:
					_ = nc.Close()
				}
			})
		}
	})
	t.Cleanup(func() {
		a.conn.CloseNow()
		_ = srv.Close()
		wg.Wait()
	})
	return a
}

func (a *tunnelled) path(rest string) string { return agentPath + "/" + a.id.GetValue() + rest }

// A request arrives at its agent as it was sent, and its answer comes back.
func TestProxyAgent(t *testing.T) {
	s := startMaster(t)
	type got struct {
		method, uri, host, body string
		header                  http.Header
	}
	seen := make(chan got, 1)
	a := startTunnelled(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- got{r.Method, r.RequestURI, r.Host, string(b), r.Header}
		w.Header().Set("Set-Cookie", "evil=1")
		w.Header().Set("X-Thing", "1")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "answer")
	}))
	for path, want := range map[string]string{
		"/files/browse?path=%2Fa%20b&x=1;2": "/files/browse?path=%2Fa%20b&x=1;2",
		"/a%2Fb/c%20d":                      "/a%2Fb/c%20d",
		"":                                  "/",
		"/":                                 "/",
		"/slave(1)/state":                   "/slave(1)/state",
	} {
		r := do(t, http.MethodGet, endpoint(s, a.path(path)), http.Header{
			"Cookie": {"clusterd_session=x"}, link.PrincipalHeader: {link.EncodePrincipal("root", nil)}, link.ClientHeader: {"1.1.1.1:1"},
			"X-Forwarded-For": {"9.9.9.9"},
		}, nil)
		g := <-seen
		if g.method != http.MethodGet || g.uri != want || g.host != s.Addr().String() {
			t.Errorf("%q: the agent got %s %s for %s", path, g.method, g.uri, g.host)
		}
		if g.header.Get("Cookie") != "" || len(g.header.Values(link.PrincipalHeader)) != 0 {
			t.Errorf("%q: the agent got a cookie, or a principal that the client has made up: %v", path, g.header)
		}
		if c := g.header.Get(link.ClientHeader); !strings.HasPrefix(c, "127.0.0.1:") || g.header.Get("X-Forwarded-For") == "" {
			t.Errorf("%q: the agent got as client %q", path, c)
		}
		if r.status != http.StatusTeapot || r.body != "answer" || r.header.Get("X-Thing") != "1" {
			t.Errorf("%q: got %d %q %v", path, r.status, r.body, r.header)
		}
		if r.header.Get("Set-Cookie") != "" || !strings.Contains(r.header.Get("Content-Security-Policy"), "sandbox") || r.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%q: an answer of an agent may act on our pages: %v", path, r.header)
		}
	}
	r := do(t, http.MethodPost, endpoint(s, "/master"+a.path("/api/v1")), http.Header{"Content-Type": {"application/json"}}, []byte(`{"type":"GET_STATE"}`))
	if g := <-seen; g.method != http.MethodPost || g.body != `{"type":"GET_STATE"}` || r.status != http.StatusTeapot {
		t.Errorf("the agent got %+v, the client %d", g, r.status)
	}
	if n := a.dials.Load(); n != 1 {
		t.Errorf("one connection was enough, the agent was asked for %d", n)
	}
	for _, path := range []string{"/../x", "/a/..%2f..%2fetc", "/%2e%2e/x"} {
		if r := get(t, s, a.path(path)); r.status != http.StatusNotFound {
			t.Errorf("%s: got %d", path, r.status)
		}
	}
	if r := do(t, http.MethodGet, endpoint(s, a.path("/x.js")), http.Header{"Sec-Fetch-Dest": {"script"}, "Sec-Fetch-Site": {"same-origin"}}, nil); r.status != http.StatusForbidden {
		t.Errorf("an agent's answer as a script: got %d", r.status)
	}
}

// Whoever cannot be reached is told apart.
func TestProxyAgentFails(t *testing.T) {
	s := startMaster(t)
	message := func(r reply) string {
		var e struct {
			Error struct {
				Status  int    `json:"status"`
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Error.Status != r.status {
			t.Errorf("%d %q: %v", r.status, r.body, err)
		}
		return e.Error.Message
	}
	if r := get(t, s, agentPath+"/nobody/state"); r.status != http.StatusNotFound || !strings.Contains(message(r), "nobody") {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if r := get(t, s, agentPath); r.status != http.StatusNotFound {
		t.Errorf("got %d %s", r.status, r.body)
	}
	a := startTunnelled(t, s, http.NotFoundHandler())
	a.mute.Store(true)
	if r := get(t, s, a.path("/state")); r.status != http.StatusGatewayTimeout || !strings.Contains(message(r), "in time") {
		t.Errorf("got %d %s", r.status, r.body)
	}
	a.conn.CloseNow()
	eventually(t, "the agent is disconnected", func() bool {
		r := get(t, s, a.path("/state"))
		return r.status == http.StatusBadGateway && strings.Contains(message(r), "localhost is disconnected")
	})
	// Nobody can offer himself as an agent's connection.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint(s, link.TunnelPath), http.NoBody)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", link.TunnelProtocol)
	req.Header.Set(link.TunnelTokenHeader, "guessed")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a guessed token: got %d", resp.StatusCode)
	}
}

// Answers stream, as slowly as the client reads, and end with the client, the agent or the
// leadership; a truncated one does not look whole.
func TestProxyAgentStreams(t *testing.T) {
	s := startMaster(t)
	const size = 64 << 20
	chunk := make([]byte, 64<<10)
	_, _ = rand.Read(chunk)
	var written atomic.Int64
	gone := make(chan struct{}, 1)
	die := make(chan struct{})
	a := startTunnelled(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			for range size / len(chunk) {
				n, err := w.Write(chunk)
				if err != nil {
					return
				}
				written.Add(int64(n))
			}
		case "/endless":
			_, _ = io.WriteString(w, "first\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			gone <- struct{}{}
		case "/dies":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-die
			panic(http.ErrAbortHandler)
		}
	}))
	open := func(ctx context.Context, path string) *http.Response {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint(s, a.path(path)), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}

	resp := open(t.Context(), "/large")
	if _, err := io.ReadFull(resp.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	eventually(t, "the agent waits for the reader", func() bool {
		now := written.Load()
		still := now == last
		last = now
		time.Sleep(50 * time.Millisecond)
		return still
	})
	if last >= size {
		t.Errorf("the agent wrote all of %d bytes, of which one MiB was read", last)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || n != size-1<<20 {
		t.Errorf("got %d bytes and %v", n, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	resp = open(ctx, "/endless")
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "first\n" {
		t.Errorf("what was flushed did not come: %q %v", line, err)
	}
	cancel()
	<-gone
	resp.Body.Close()

	resp = open(t.Context(), "/dies")
	close(die)
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a truncated answer came as %q", b)
	}
	resp.Body.Close()

	// The term's end ends what goes on, and no connection is left.
	resp = open(t.Context(), "/endless")
	stopMaster(t, s)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	<-gone
	resp.Body.Close()
}

// Bodies are not held up: what a client sends arrives while it goes on, and a refusal comes
// before its end.
func TestProxyAgentBody(t *testing.T) {
	s := startMaster(t)
	lines := make(chan string)
	a := startTunnelled(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.Header().Set("Connection", "close")
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			lines <- in.Text()
		}
	}))
	send := func(path string) (*io.PipeWriter, chan reply) {
		pr, pw := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint(s, a.path(path)), pr)
		if err != nil {
			t.Fatal(err)
		}
		out := make(chan reply, 1)
		go func() {
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				out <- reply{body: err.Error()}
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			out <- reply{resp.StatusCode, resp.Header, string(b)}
		}()
		return pw, out
	}
	pw, out := send("/echo")
	for i := range 3 {
		fmt.Fprintf(pw, "line %d\n", i)
		if got := <-lines; got != fmt.Sprintf("line %d", i) {
			t.Errorf("got %q", got)
		}
	}
	_ = pw.Close()
	if r := <-out; r.status != http.StatusOK {
		t.Errorf("got %d %s", r.status, r.body)
	}
	pw, out = send("/refuse")
	if r := <-out; r.status != http.StatusForbidden || r.body != "no\n" {
		t.Errorf("got %d %q", r.status, r.body)
	}
	_ = pw.Close()
}

// upgradeHandler echoes what it is sent, in another protocol.
func upgradeHandler(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "echo" {
		http.Error(w, "expecting echo", http.StatusUpgradeRequired)
		return
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(nc, rw)
}

// dialUpgrade opens a connection in the protocol echo.
func dialUpgrade(t testing.TB, s *Server, path string, header http.Header) (net.Conn, *bufio.Reader, int) {
	t.Helper()
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	req := httptest.NewRequest(http.MethodGet, endpoint(s, path), http.NoBody)
	maps.Copy(req.Header, header)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	if err := req.Write(nc); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return nc, br, resp.StatusCode
}

// Other protocols go through, to agents by way of the leader too, and end with the agent.
func TestProxyUpgrade(t *testing.T) {
	s := startMaster(t)
	a := startTunnelled(t, s, http.HandlerFunc(upgradeHandler))
	for _, path := range []string{a.path("/x"), leaderPath + a.path("/x")} {
		nc, br, status := dialUpgrade(t, s, path, nil)
		if status != http.StatusSwitchingProtocols {
			t.Fatalf("%s: got %d", path, status)
		}
		fmt.Fprint(nc, "hello\n")
		if line, err := br.ReadString('\n'); err != nil || line != "hello\n" {
			t.Errorf("%s: got %q %v", path, line, err)
		}
		_ = nc.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
			t.Errorf("%s: the end did not come back: %q %v", path, rest, err)
		}
	}
	_, br, _ := dialUpgrade(t, s, a.path("/x"), nil)
	a.conn.CloseNow()
	if _, err := br.ReadByte(); err == nil {
		t.Error("the connection outlives the agent's link")
	}
	if _, _, status := dialUpgrade(t, s, a.path("/x"), http.Header{"Origin": {"http://evil.example"}}); status != http.StatusForbidden {
		t.Errorf("a page of another site: got %d", status)
	}
}

// Many requests to one agent run at once; too many are refused and do not wait.
func TestProxyAgentMany(t *testing.T) {
	s := startMaster(t)
	inside, release := make(chan struct{}, 2*maxAgentRequests), make(chan struct{})
	a := startTunnelled(t, s, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-release
	}))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	status := make(chan int, 2*maxAgentRequests)
	request := func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint(s, a.path("/slow")), http.NoBody)
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}
	for range maxAgentRequests {
		go request()
	}
	for range maxAgentRequests {
		<-inside
	}
	go request()
	if got := <-status; got != http.StatusServiceUnavailable {
		t.Errorf("one too many: got %d", got)
	}
	close(release)
	for range maxAgentRequests {
		if got := <-status; got != http.StatusOK {
			t.Errorf("got %d", got)
		}
	}
	eventually(t, "most connections are closed", func() bool {
		tn := s.term.Load().tunnels
		tn.mu.Lock()
		defer tn.mu.Unlock()
		return len(tn.agents[a.id.GetValue()].open) <= keptPerAgent && len(tn.waiting) == 0
	})
	// Clients have their answers a moment before.
	eventually(t, "no request is counted that is over", func() bool { return s.term.Load().tunnels.proxied.Load() == 0 })
}

// The agent is told who sends a request, and nothing that it could use elsewhere; where this
// master asks nobody, it may ask itself.
func TestProxyAgentPrincipal(t *testing.T) {
	for name, realms := range map[string]authn.Realms{
		"asked":     accessRealms(t, []string{"carol"}, authn.MasterReadonly, authn.MasterReadwrite),
		"not asked": nil,
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var audited []string
			s := startMaster(t, func(o *Options) {
				o.Realms = realms
				o.OnAudit = func(_ *http.Request, a httpapi.Audited) {
					mu.Lock()
					defer mu.Unlock()
					audited = append(audited, fmt.Sprintf("%s %s %v %v", a.Principal, a.Action, a.Fields, a.Err))
				}
			})
			seen := make(chan http.Header, 1)
			a := startTunnelled(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen <- r.Header
				if r.URL.Path == "/refused" {
					w.WriteHeader(http.StatusForbidden)
				}
			}))
			h := basicHeader("carol")
			if r := do(t, http.MethodGet, endpoint(s, a.path("/x")), h, nil); r.status != http.StatusOK {
				t.Fatalf("got %d", r.status)
			}
			got := <-seen
			who, _, _ := link.DecodePrincipal(got.Get(link.PrincipalHeader))
			if asked := realms != nil; asked != (who == "carol") || asked != (got.Get("Authorization") == "") {
				t.Errorf("the agent got %v", got)
			}
			call := func(path, body string) {
				h := h.Clone()
				h.Set("Content-Type", "application/json")
				do(t, http.MethodPost, endpoint(s, a.path(path)), h, []byte(body))
				<-seen
			}
			call("/api/v1", `{"type":"GET_STATE"}`)
			call("/api/v1", `{"type":"KILL_NESTED_CONTAINER","kill_nested_container":{"container_id":{"value":"a"}}}`)
			call("/refused", `{}`)
			mu.Lock()
			defer mu.Unlock()
			text := strings.Join(audited, "\n")
			if len(audited) != 2 || !strings.Contains(text, "KILL_NESTED_CONTAINER [agent_id "+a.id.GetValue()+" agent_path /api/v1] <nil>") ||
				!strings.Contains(text, "POST [agent_id "+a.id.GetValue()+" agent_path /refused] 403") {
				t.Errorf("audited:\n%s", text)
			}
			if realms == nil {
				return
			}
			for _, path := range []string{"/x", "/api/v1"} {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					if r := do(t, method, endpoint(s, a.path(path)), nil, nil); r.status != http.StatusUnauthorized {
						t.Errorf("%s %s of nobody: got %d", method, path, r.status)
					}
				}
			}
		})
	}
}

// The leader serves its own paths below the proxy as it does without.
func TestProxyLeaderItself(t *testing.T) {
	s := startMaster(t, func(o *Options) { o.Realms = accessRealms(t, []string{"carol"}, authn.MasterReadonly) })
	for path, want := range map[string]int{
		"/state": http.StatusOK, "/version": http.StatusOK, "/nothing": http.StatusNotFound,
		"/a/../state": http.StatusNotFound, leaderPath + "/state": http.StatusNotFound,
		"/redirect": http.StatusServiceUnavailable, "/tasks?limit=1": http.StatusOK,
	} {
		r := do(t, http.MethodGet, endpoint(s, leaderPath+path), basicHeader("carol"), nil)
		if r.status != want {
			t.Errorf("%s: got %d %s, want %d", path, r.status, r.body, want)
		}
	}
	if r := get(t, s, leaderPath+"/state"); r.status != http.StatusUnauthorized || r.header.Get("WWW-Authenticate") == "" {
		t.Errorf("of nobody: got %d", r.status)
	}
	if r := get(t, s, strings.ReplaceAll(leaderPath, "/proxy", "%2Fproxy")+"/state"); r.status != http.StatusNotFound {
		t.Errorf("another spelling: got %d", r.status)
	}
}

// Without a leader, and when the way leads in a circle, everybody is told to come again.
func TestProxyLeaderless(t *testing.T) {
	opts := DefaultOptions()
	opts.IP, opts.Hostname, opts.InMemory, opts.Port = "127.0.0.1", "localhost", true, 0
	opts.BootstrapExpect = 0 // waits to be joined to a cluster
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopMaster(t, s) })
	for _, h := range []http.Header{{}, {proxyHeader: {"1.2.3.4:5"}}} {
		for _, path := range []string{leaderPath + "/state", agentPath + "/x/state"} {
			r := do(t, http.MethodGet, endpoint(s, path), h, nil)
			if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || !json.Valid([]byte(r.body)) ||
				!strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
				t.Errorf("%s: got %d %q %v", path, r.status, r.body, r.header)
			}
		}
	}
}

// A secret that this master can check does not go to agents, though it asks nobody who reads.
func TestProxyAgentKeepsSecrets(t *testing.T) {
	s := startMaster(t, func(o *Options) { o.Realms = accessRealms(t, []string{"carol"}, authn.MasterReadwrite) })
	seen := make(chan http.Header, 1)
	a := startTunnelled(t, s, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	for who, want := range map[string]string{"carol": "carol", "mallory": "", "": ""} {
		if r := do(t, http.MethodGet, endpoint(s, a.path("/x")), basicHeader(who), nil); r.status != http.StatusOK {
			t.Fatalf("%q: got %d", who, r.status)
		}
		got := <-seen
		if name, _, _ := link.DecodePrincipal(got.Get(link.PrincipalHeader)); name != want || got.Get("Authorization") != "" {
			t.Errorf("%q: the agent got %v", who, got)
		}
	}
}
